# SPDX-License-Identifier: MIT
"""How well replica exchange and MBAR know the free-energy difference of the biased ends, by where the states stand on the curve: alanine dipeptide in vacuum, C5 to C7ax.

- length: equal Fisher-Rao distances (equal steps of s);
- angle: the centres of the bias at equal angles, as the windows of umbrella sampling are placed;
- mean: the mean positions of the states at equal angles (not run unless asked for).

All on the same curve, with the same number of states and steps, the repeats interleaved and started from the same driven paths. There are as few states as leave neighbours at
equal Fisher-Rao distances an overlap of 0.03, the least that MBAR is said to need, unless --states says otherwise: the more states, the less it matters where they are.

The error of a spacing is the rms over its repeats of dF minus a reference. That is the posterior of the shipped metadynamics surface, which owes nothing to these runs; beside it stand the
errors about MBAR of all runs together, and the spread of the repeats about their own mean, which needs no reference. Intervals of ratios are those of a bootstrap over repeats (both
spacings of a repeat together, as they share starts). "theory" is MBAR's error for as many independent samples as there are, by quadrature over the surface: the limit of long runs.

    python dfbench.py [--curve transition|kappa|variance|straight] [--states N] [--spacings length,angle] [--repeats 20] [--iterations 400] [--steps 100] [--json FILE]
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
    if name == "variance":
        return st.geodesic(model, A, B, maxVariance=0.07, minKappa=25)
    return st.straightLine(VARIABLES, A, B, logSnr=4).respaced(model, 129)


def centresAlong(curve):
    """Centres of the bias [1001, 2] at equal steps of s."""
    pairs = np.array([curve.evaluate(v) for v in np.linspace(0, 1, 1001)]).reshape(-1, 2, 2)
    return np.arctan2(pairs[:, :, 1], pairs[:, :, 0])


def quadrature(grid, eta):
    """MBAR's C = W^T W for one sample of each state [K, m], exact: sums over the points and log weights of a grid."""
    x, logWeights = grid
    u = VARIABLES.statistic(x) @ eta.T + logWeights[:, None]
    p = np.exp(u - u.max(axis=0))
    p /= p.sum(axis=0)
    return (p / np.maximum(p.sum(axis=1), 1e-300)[:, None]).T @ p


def theory(grid, eta):
    """Standard error of MBAR's psi_B - psi_A for one independent sample of each state [K, m]."""
    C = quadrature(grid, eta)
    G = np.linalg.pinv(np.eye(len(eta)) - C, rcond=1e-13)
    V = G @ (C - C @ C) @ G.T
    return math.sqrt(V[0, 0] + V[-1, -1] - 2 * V[0, -1])


def fewestStates(grid, curve):
    """The least number of states at equal Fisher-Rao distances of which neighbours overlap by 0.03."""
    n = 3
    while np.diag(quadrature(grid, np.array([curve.evaluate(s) for s in np.linspace(0, 1, n)])), 1).min() < 0.03:
        n += 1
    return n


def solve(samplers):
    """dF of the ends in kJ/mol with its error, by MBAR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of little overlap, which is what is measured here
        return st.mbar(st.StateSamples.fromExchange(samplers)).freeEnergyDifference()


def ratioOf(a, b, seed=0):
    """rms(a)/rms(b) of paired deviations [R] with a 95 % interval by bootstrap over the repeats."""
    rng = np.random.default_rng(seed)
    rms = lambda x: np.sqrt(np.mean(np.square(x), axis=-1))
    which = rng.integers(len(a), size=(4000, len(a)))
    return rms(a) / rms(b), *np.percentile(rms(a[which]) / rms(b[which]), [2.5, 97.5])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--curve", choices=("transition", "kappa", "variance", "straight"), default="transition")
    parser.add_argument("--spacings", default="length,angle")
    for name, value in dict(states=0, repeats=20, iterations=400, steps=100).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json")
    args = parser.parse_args()

    begin = time.process_time()
    x, logWeights, model = alanine()
    grid = st.FreeEnergySurface.fromSamples(x, logWeights, temperature=300)._grid(VARIABLES, 300, 90)
    curve = makeCurve(args.curve, model)
    n = args.states or fewestStates(grid, curve)
    place = {"length": lambda: np.linspace(0, 1, n), "angle": lambda: equalSteps(centresAlong(curve), n), "mean": lambda: equalSteps(meansAlong(curve, model), n)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        states = {name: statesAt(curve, place[name](), x, logWeights) for name in args.spacings.split(",")}
    simulation, force, positions = makeSimulation(curve)
    expected = {name: KT * theory(grid, states[name].eta) / math.sqrt(0.9 * args.iterations) for name in states}
    exact = -KT * float(np.diff(model.moments(states["length"].eta[[0, -1]]).psi)[0])
    print(f"{args.curve}: Fisher-Rao length {curve.length:.1f}, {n} states; dF of the ends by the posterior of the surface {exact:.2f} kJ/mol", flush=True)

    found, measured, samplers = {name: [] for name in states}, {name: [] for name in states}, []
    for repeat in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            simulation.context.setPositions(positions)
            starts = st.PathSampler(simulation, force, numPaths=4, steps=4000, frameStride=20, seed=repeat, progress=False).run(folder, overwrite=True)
            for name in states:
                sampler = st.ReplicaExchange(states[name], simulation, force, args.steps, starts=starts, seed=repeat, equilibrationSteps=5 * args.steps)
                sampler.simulate(args.iterations)
                found[name].append(solve(sampler))
                measured[name].append(sampler.report().exchanged)
                samplers.append(sampler)
        print(f"repeat {repeat}: dF " + ", ".join(f"{name} {found[name][-1]}" for name in states) + f"; CPU {time.process_time() - begin:.0f} s", flush=True)

    together = solve(samplers)
    values = {name: np.array([e.value for e in found[name]]) for name in states}
    about = {"posterior": {name: v - exact for name, v in values.items()}, "all runs": {name: v - together.value for name, v in values.items()},
             "own mean": {name: v - v.mean() for name, v in values.items()}}
    print(f"\n{n} states, {args.repeats} repeats of {args.iterations} iterations of {args.steps} steps; MBAR of all runs together: dF {together} kJ/mol; "
          f"CPU {time.process_time() - begin:.0f} s")
    print(f"{'':>8} {'acceptance predicted':>21} {'measured':>14} {'dF':>7} {'rms error about':>16} {'about':>10} {'spread of':>10} {'error':>8} {'error in':>8}")
    print(f"{'spacing':>8} {'min':>9} {'mean':>11} {'min':>8} {'mean':>5} {'mean':>7} {'the posterior':>16} {'all runs':>10} {'repeats':>10} {'claimed':>8} {'theory':>8}")
    results = {**vars(args), "states": n, "posterior": exact, "together": together, "spacings": {}, "ratios": {}}
    for name in states:
        p, m, e = states[name].predicted, np.mean(measured[name], axis=0), np.array([d.error for d in found[name]])
        row = dict(predicted=[p.min(), p.mean()], measured=[m.min(), m.mean()], dF=values[name].mean(), posterior=np.sqrt(np.mean(about["posterior"][name]**2)),
                   allRuns=np.sqrt(np.mean(about["all runs"][name]**2)), spread=values[name].std(ddof=1), claimed=np.sqrt(np.mean(e**2)), theory=expected[name], values=values[name].tolist())
        results["spacings"][name] = row
        print(f"{name:>8} {p.min():9.4f} {p.mean():11.3f} {m.min():8.4f} {m.mean():.3f} {row['dF']:7.2f} {row['posterior']:16.2f} {row['allRuns']:10.2f} {row['spread']:10.2f} "
              f"{row['claimed']:8.2f} {row['theory']:8.2f}")
    for name in states:
        if name != "length":
            ratios = {key: ratioOf(off["length"], off[name]) for key, off in about.items()}
            results["ratios"][name] = {**ratios, "theory": expected["length"] / expected[name]}
            print(f"error ratio length/{name}: " + "; ".join(f"about {key} {r:.2f} (95 %: {low:.2f} to {high:.2f})" for key, (r, low, high) in ratios.items())
                  + f"; theory {expected['length'] / expected[name]:.2f}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1, default=float)


if __name__ == "__main__":
    main()
