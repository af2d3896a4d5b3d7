# SPDX-License-Identifier: MIT
"""Replica exchange between states on a transition curve of alanine dipeptide, spaced in three ways, the same number of repeats each, interleaved:

- length: equal Fisher-Rao distances (equal steps of s);
- angle: equal steps of (phi, psi), by the mean position along the curve;
- equalised: what exchangeStates makes of the samples, predicted acceptances alike.

Prints how much the acceptances of neighbours differ, predicted and measured, and how often the first of these beats the second. Replicas start from driven paths. The
largest difference is that of the measured mean from the predicted; the rms before exchange is that of each run of independent replicas.

    python exchangebench.py [--repeats 20] [--states 16] [--iterations 100] [--independent 50] [--steps 100]
"""
import argparse
import pathlib
import tempfile
import time

import numpy as np
import openmm
from openmm import app, unit

import openmmspacetime as st

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "alanine_dipeptide"
A, B = (-2.58, 2.79), (1.09, -0.88)
VARIABLES = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])


def statesAt(curve, s, x, logWeights):
    kT = st.exchange.KB * 300
    eta = np.array([curve.evaluate(v) for v in s])
    states = [{"spacetime_s": float(v), "spacetime_kT": kT, "temperature": 300.0} for v in s]
    return st.ExchangeStates(states, np.asarray(s), eta, np.full(len(s), 300.0), st.predictAcceptance(curve, s, samples=x, logWeights=logWeights), True, VARIABLES.names)


def alanine():
    """Weighted samples of (phi, psi) [K, 2] and log weights [K], and the exact posterior of their surface."""
    with np.load(EXAMPLE / "data" / "alanine_vacuum_300K.npz") as data:
        x, logWeights = data["x"].astype(float), data["log_weights"].astype(float)
    return x, logWeights, st.FreeEnergySurface.fromSamples(x, logWeights, temperature=300).model(VARIABLES, 300, bins=90)


def equalSteps(points, count):
    """s of `count` points at equal distances along the polyline `points` [N, n], whose rows are at equal steps of s."""
    travelled = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(np.unwrap(points, axis=0), axis=0), axis=1))])
    s = np.interp(np.linspace(0, travelled[-1], count), travelled, np.linspace(0, 1, len(points)))
    s[[0, -1]] = 0, 1
    return s


def meansAlong(curve, model):
    """Mean positions [1001, 2] at equal steps of s."""
    return VARIABLES.meanPosition(model.moments(np.array([curve.evaluate(v) for v in np.linspace(0, 1, 1001)])).mu)


def makeSimulation(curve):
    """Alanine dipeptide in vacuum on Reference, with a SpacetimeForce along the curve."""
    pdb = app.PDBFile(str(EXAMPLE / "alanine_dipeptide.pdb"))
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    force = st.SpacetimeForce(curve, VARIABLES, 300 * unit.kelvin)
    system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 2 * unit.femtoseconds)
    simulation = app.Simulation(pdb.topology, system, integrator, openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions(pdb.positions)
    return simulation, force, pdb.positions


def main():
    parser = argparse.ArgumentParser()
    for name, value in dict(repeats=20, states=16, iterations=100, independent=50, steps=100).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()

    x, logWeights, model = alanine()
    curve = st.geodesic(model, A, B, preset="transition")
    spacings = {
        "length": np.linspace(0, 1, args.states),
        "angle": equalSteps(meansAlong(curve, model), args.states),
        "equalised": st.exchangeStates(curve, numStates=args.states, samples=x, logWeights=logWeights).s,
    }
    print(f"curve of Fisher-Rao length {curve.length:.1f}; {st.exchangeStates(curve, samples=x, logWeights=logWeights)!r} would do for 0.3")
    simulation, force, positions = makeSimulation(curve)

    ratios = {name: [] for name in spacings}
    measured, before, trips = {name: [] for name in spacings}, {name: [] for name in spacings}, {name: [] for name in spacings}
    states = {name: statesAt(curve, s, x, logWeights) for name, s in spacings.items()}
    begin = time.perf_counter()
    for repeat in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            simulation.context.setPositions(positions)
            paths = st.PathSampler(simulation, force, numPaths=4, steps=4000, frameStride=20, seed=repeat, progress=False).run(folder, overwrite=True)
            for name in spacings:
                sampler = st.ReplicaExchange(states[name], simulation, force, args.steps, starts=paths, seed=repeat, equilibrationSteps=5 * args.steps)
                sampler.simulate(args.independent, exchange=False)
                sampler.simulate(args.iterations)
                report = sampler.report()
                ratios[name].append(report.exchanged.max() / max(report.exchanged.min(), 1e-6))
                measured[name].append(report.exchanged)
                before[name].append(report.independent - report.predicted)
                trips[name].append(report.roundTrips.sum())
        print(f"repeat {repeat}: max/min of the measured acceptances " + ", ".join(f"{name} {ratios[name][-1]:.2f}" for name in spacings), flush=True)
    print(f"\n{args.states} states, {args.repeats} repeats of {args.iterations} iterations of {args.steps} steps (after {args.independent} without exchange), "
          f"{time.perf_counter() - begin:.0f} s")
    print(f"{'':>10} {'predicted':>13} {'':>8} {'measured, mean of all':>22} {'':>8} {'per repeat':>22} {'largest':>10} {'rms':>6} {'':>8}")
    print(f"{'spacing':>10} {'min-max':>13} {'max/min':>8} {'min-max':>22} {'max/min':>8} {'max/min (quartiles)':>22} {'difference':>10} {'before':>6} {'trips':>8}")
    for name in spacings:
        p, mean = states[name].predicted, np.mean(measured[name], axis=0)
        low, middle, high = np.percentile(ratios[name], [25, 50, 75])
        print(f"{name:>10} {p.min():7.3f}-{p.max():.3f} {p.max() / p.min():8.2f} {mean.min():16.3f}-{mean.max():.3f} {mean.max() / mean.min():8.2f} {middle:9.2f} ({low:.2f}-{high:.2f})"
              f" {np.abs(mean - p).max():10.3f} {np.sqrt(np.mean(np.square(before[name]))):6.3f} {np.mean(trips[name]):8.1f}")
    print(f"length has the smaller max/min than angle in {sum(a < b for a, b in zip(ratios['length'], ratios['angle']))} of {args.repeats} repeats")


if __name__ == "__main__":
    main()
