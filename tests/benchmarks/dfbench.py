# SPDX-License-Identifier: MIT
"""How well replica exchange and MBAR know the free-energy difference of the biased ends, by where the states stand on the curve: alanine dipeptide in vacuum, C5 to C7ax.

- length: equal Fisher-Rao distances (equal steps of s);
- angle: the centres of the bias at equal angles, as the windows of umbrella sampling are placed;
- mean: the mean positions of the states at equal angles.

All on the same curve, with the same number of states and steps, the repeats interleaved and started from the same driven paths. The error of a spacing is the rms over its
repeats of dF minus the reference: a long exchange of many states; the spread of the repeats about their own mean needs no reference and is printed beside. Intervals are those of a
bootstrap over repeats (pairs of them, as they share starts). "theory" is what MBAR's covariance would be for independent samples, by quadrature over the surface, per sqrt(sample).

    python dfbench.py [--curve transition|kappa|straight] [--states 12] [--repeats 20] [--iterations 120] [--steps 100] [--json FILE]
"""
import argparse
import json
import math
import tempfile
import time
import warnings

import numpy as np
from exchangebench import A, B, VARIABLES, alanine, equalSteps, makeSimulation, meansAlong, statesAt

import openmmspacetime as st

KT = st.exchange.KB * 300


def makeCurve(name, model):
    if name == "transition":
        return st.geodesic(model, A, B, preset="transition")
    if name == "kappa":
        return st.geodesic(model, A, B, minKappa=math.exp(4), route="lowest")
    return st.straightLine(VARIABLES, A, B, logSnr=4).respaced(model, 129)


def centresAlong(curve):
    """Centres of the bias [1001, 2] at equal steps of s."""
    pairs = np.array([curve.evaluate(v) for v in np.linspace(0, 1, 1001)]).reshape(-1, 2, 2)
    return np.arctan2(pairs[:, :, 1], pairs[:, :, 0])


def theory(model, eta):
    """Standard error of MBAR's psi_B - psi_A for one independent sample of each state [K, m], exact: sums over the grid."""
    x, logWeights = model
    u = VARIABLES.statistic(x) @ eta.T + logWeights[:, None]
    p = np.exp(u - u.max(axis=0))
    p /= p.sum(axis=0)
    C = (p / np.maximum(p.sum(axis=1), 1e-300)[:, None]).T @ p
    G = np.linalg.pinv(np.eye(len(eta)) - C, rcond=1e-13)
    V = G @ (C - C @ C) @ G.T
    return math.sqrt(V[0, 0] + V[-1, -1] - 2 * V[0, -1])


def exchange(states, simulation, force, paths, seed, iterations, steps):
    """dF of the ends in kJ/mol with its error, and the report of the run."""
    sampler = st.ReplicaExchange(states, simulation, force, steps, starts=paths, seed=seed, equilibrationSteps=5 * steps)
    sampler.simulate(iterations)
    samples = st.StateSamples.fromExchange(sampler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of little overlap, which is what is measured here
        return st.mbar(samples).freeEnergyDifference(), sampler.report()


def ratioOf(a, b, seed=0):
    """rms(a)/rms(b) of paired deviations [R] with a 95 % interval by bootstrap over the repeats."""
    rng = np.random.default_rng(seed)
    rms = lambda x: np.sqrt(np.mean(np.square(x), axis=-1))
    which = rng.integers(len(a), size=(4000, len(a)))
    return rms(a) / rms(b), *np.percentile(rms(a[which]) / rms(b[which]), [2.5, 97.5])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--curve", choices=("transition", "kappa", "straight"), default="transition")
    for name, value in dict(states=12, repeats=20, iterations=120, steps=100, reference=600).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json")
    args = parser.parse_args()

    begin = time.process_time()
    x, logWeights, model = alanine()
    curve = makeCurve(args.curve, model)
    simulation, force, positions = makeSimulation(curve)
    spacings = {"length": np.linspace(0, 1, args.states), "angle": equalSteps(centresAlong(curve), args.states), "mean": equalSteps(meansAlong(curve, model), args.states)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        states = {name: statesAt(curve, s, x, logWeights) for name, s in spacings.items()}
    grid = st.FreeEnergySurface.fromSamples(x, logWeights, temperature=300)._grid(VARIABLES, 300, 90)
    expected = {name: theory(grid, states[name].eta) for name in states}
    exact = -KT * float(np.diff(model.moments(states["length"].eta[[0, -1]]).psi)[0])
    print(f"{args.curve}: Fisher-Rao length {curve.length:.1f}; dF of the ends by the posterior of the surface {exact:.2f} kJ/mol", flush=True)

    def paths(folder, seed):
        simulation.context.setPositions(positions)
        return st.PathSampler(simulation, force, numPaths=4, steps=4000, frameStride=20, seed=seed, progress=False).run(folder, overwrite=True)

    with tempfile.TemporaryDirectory() as folder:
        many = st.exchangeStates(curve, acceptance=0.3, samples=x, logWeights=logWeights, temperatures=300)
        reference, report = exchange(many, simulation, force, paths(folder, 1000), 1000, args.reference, args.steps)
    print(f"reference: {len(many)} states, {args.reference} iterations of {args.steps} steps: dF {reference} kJ/mol; CPU {time.process_time() - begin:.0f} s", flush=True)

    found = {name: [] for name in spacings}
    measured = {name: [] for name in spacings}
    for repeat in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            starts = paths(folder, repeat)
            for name in spacings:
                dF, report = exchange(states[name], simulation, force, starts, repeat, args.iterations, args.steps)
                found[name].append(dF)
                measured[name].append(report.exchanged)
        print(f"repeat {repeat}: dF " + ", ".join(f"{name} {found[name][-1]}" for name in spacings), flush=True)

    off = {name: np.array([e.value for e in found[name]]) - reference.value for name in spacings}
    spread = {name: off[name] - off[name].mean() for name in spacings}
    print(f"\n{args.states} states, {args.repeats} repeats of {args.iterations} iterations of {args.steps} steps; CPU {time.process_time() - begin:.0f} s")
    print(f"{'spacing':>8} {'acceptance predicted':>21} {'measured':>15} {'mean dF':>8} {'rms error':>10} {'spread':>7} {'claimed':>8} {'theory':>7}")
    results = {"curve": args.curve, "states": args.states, "repeats": args.repeats, "reference": reference, "posterior": exact, "spacings": {}}
    for name in spacings:
        p, m, e = states[name].predicted, np.mean(measured[name], axis=0), np.array([d.error for d in found[name]])
        row = dict(acceptance=[p.min(), p.mean()], measured=[m.min(), m.mean()], dF=off[name].mean() + reference.value, rms=np.sqrt(np.mean(off[name]**2)),
                   spread=spread[name].std(ddof=1), claimed=np.sqrt(np.mean(e**2)), theory=KT * expected[name])
        results["spacings"][name] = row
        print(f"{name:>8} {p.min():9.4f} mean {p.mean():.3f} {m.min():9.4f} {m.mean():.3f} {row['dF']:8.2f} {row['rms']:10.2f} {row['spread']:7.2f} {row['claimed']:8.2f} {row['theory']:7.1f}")
    for name in ("angle", "mean"):
        pairs = {"rms": ratioOf(off["length"], off[name]), "spread": ratioOf(spread["length"], spread[name])}
        results[f"length/{name}"] = {**pairs, "theory": expected["length"] / expected[name]}
        print(f"error ratio length/{name}: " + "; ".join(f"by {key} {r:.2f} (95 %: {low:.2f} to {high:.2f})" for key, (r, low, high) in pairs.items())
              + f"; theory {expected['length'] / expected[name]:.2f}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1, default=float)


if __name__ == "__main__":
    main()
