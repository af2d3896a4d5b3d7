# SPDX-License-Identifier: MIT
"""A capped peptide of two alanines, four torsions: from temperature exchange to driven paths, in vacuum at 300 K.

    python run.py              everything from scratch; --resume goes on with what an interrupted run left, or makes the tables again

The transition is that of the first alanine from C7eq to C7ax, while the second stays in C7eq. Nothing but samples of the four torsions tells the network where to go.
"""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable

import numpy as np
import openmm
from openmm import app

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import studies

import openmmspacetime as st

#: phi2, psi2, phi3, psi3 (rad) near which the two states are; the peaks of the samples' density there are taken.
STATES = {"A": (-1.34, 0.95, -1.34, 0.85), "B": (1.05, -0.60, -1.34, 0.92)}
TEMPERATURES = np.geomspace(300, 600, 5)
LOG_SNR = 4.0
ROWS = {"tight": "geodesic, pooled, tr Cov <= 0.06", "second": "geodesic, pooled, tr Cov <= 0.1", "first": "geodesic, not pooled, tr Cov <= 0.1", "straight": "straight line, uniform (null)"}
#: Bounds of the geodesics on tr Cov. The ends have 0.052; the preset's 0.05 is for two torsions.
VARIANCE = {"tight": 0.06, "second": 0.1, "first": 0.1}

#: Added to the seed of the paths.
SEEDS = {"first": 0, "straight": 1, "second": 2, "tight": 3}


def main() -> int:
    arguments = studies.parse("Driven paths of a peptide with four torsions.")
    out, seed, processes, quick = arguments.out, arguments.seed, arguments.processes, arguments.quick
    steps, trainSteps, numPaths, pathSteps, iterations = (20_000, 100, 4, 500, 40) if quick else (600_000, 400, 60, 5000, 300)
    progress = studies.Progress(6)

    progress.step("Structures of the two states")
    topology, extended = studies.peptide(2)
    variables = st.Variables.torsionsOf(topology, "phi psi")
    if not (out / "end.pdb").exists():
        for name, state in (("start.pdb", "A"), ("end.pdb", "B")):
            x = studies.settle(topology, False, extended, variables, STATES[state])
            with open(out / name, "w") as file:
                app.PDBFile.writeFile(topology, x * 10, file, keepIds=True)
    structures = {name: np.array(app.PDBFile(str(out / f"{name}.pdb")).positions._value) for name in ("start", "end")}
    for name, x in structures.items():
        progress.say(f"{name}.pdb: " + ", ".join(f"{n} {v:.2f}" for n, v in zip(variables.names, variables.measure(x))))

    progress.step(f"Temperature exchange, two ladders of {len(TEMPERATURES)} temperatures from {TEMPERATURES[0]:.0f} to {TEMPERATURES[-1]:.0f} K, {steps:,} steps a replica")
    simulation = studies.createSimulation(topology, studies.createSystem(topology), structures["start"], seed)
    samples = st.temperatureExchange(simulation, variables, TEMPERATURES, steps, stepsPerIteration=200, ladders=2, starts=list(structures.values()), seed=seed,
                                     directory=out / "exchange", resume=True, processes=processes, progress=progress.steps)
    samples.save(out / "samples.npz")
    progress.say(samples.summary())

    def inB(x: np.ndarray, logWeights: np.ndarray) -> float:
        return float(np.exp(logWeights)[(x[:, 0] > 0) & (x[:, 0] < 2.2)].sum())

    share = inB(samples.x, samples.logWeights)
    crossings = crossed(samples.x[:, 0], samples.copy, len(TEMPERATURES))
    progress.say(f"phi2 > 0: {100 * share:.1f} ± {100 * samples.error(inB):.1f} % of the weight at 300 K (two ladders); {crossings} crossings of phi2 = 0 by all replicas")

    progress.step(f"First network, {trainSteps} training steps, and first curves")
    a, b = (samples.basin(STATES[state], LOG_SNR) for state in "AB")
    for state, c in (("A", a), ("B", b)):
        progress.say(f"{state}: " + ", ".join(f"{n} {v:.2f}" for n, v in zip(variables.names, c)))

    def train(key: str, data: st.WeightedSamples) -> st.NetworkModel:
        path = out / f"model_{key}.safetensors"
        if not path.exists():
            x, logWeights = data.thinned()
            st.train(x, variables, logWeights=logWeights, temperature=studies.TEMPERATURE, out=path, steps=trainSteps, seed=seed, points=1000 if quick else 6000, threads=processes,
                     progress=lambda step, steps, loss, error: progress.show(f"step {step} of {steps}: median error {error:.2f} posterior standard deviations"))
        return st.NetworkModel.load(str(path))

    def kept(key: str, make: Callable[[], st.Curve]) -> st.Curve:
        path = out / f"curve_{key}.json"
        if not path.exists():
            curve = make()
            curve.temperature = studies.TEMPERATURE
            curve.save(str(path))
        return st.Curve.load(str(path))

    def geodesic(key: str, model: st.NetworkModel) -> st.Curve:
        # Of the 16 ways round the torus of four torsions the solver takes that of the null.
        return st.geodesic(model, a, b, logSnr=LOG_SNR, preset="transition", maxVariance=VARIANCE[key], temperature=studies.TEMPERATURE, start=curves["straight"])

    def drive(key: str) -> dict[str, st.PathEnsemble]:
        starts = {"forward": structures["start"], "backward": structures["end"]}
        return studies.drive(out / "paths" / key, curves[key], variables, topology, False, starts, numPaths, pathSteps, seed * 10_000 + 1000 * SEEDS[key], processes,
                             progress=progress)

    networks = {"first": train("first", samples)}
    ways = studies.straightLines(variables, a, b, lambda line: studies.climb(networks["first"], line), logSnr=LOG_SNR)
    progress.say("straight lines: of four ways round the torus of phi2 and psi2 the one that climbs least, the strongest null: "
                 + ", ".join(f"{height:.0f}" for height, _ in ways) + " kJ/mol under the first network")
    curves, ensembles = {"straight": kept("straight", lambda: ways[0][1])}, {}
    curves["first"] = kept("first", lambda: geodesic("first", networks["first"]))

    progress.step(f"Driving {numPaths} paths of {pathSteps:,} steps in either direction along both")
    for key in ("first", "straight"):
        ensembles[key] = drive(key)

    # Temperature exchange leaves hardly a sample on the barrier. Replicas held along the first curves supply them, and MBAR pools all states.
    progress.step("Replica exchange along both, pooled with the samples; second network, its geodesics, and paths along them")
    exchanges = []
    for key in ("straight", "first"):
        system = studies.createSystem(topology)
        force = st.SpacetimeForce(curves[key], variables, studies.TEMPERATURE)
        system.addForce(force)
        folder = out / f"exchange_{key}"
        exchange = st.ReplicaExchange(st.exchangeStates(curves[key], numStates=16, temperatures=studies.TEMPERATURE), studies.createSimulation(topology, system, structures["start"], seed), force,
                                      stepsPerIteration=100, starts=ensembles[key]["forward"], seed=seed, equilibrationSteps=500, directory=folder, resume=(folder / "checkpoint.npz").exists())
        while exchange.currentIteration < iterations:
            exchange.simulate(20)
            progress.show(f"{ROWS[key]}: {exchange.currentIteration} of {iterations} iterations")
        report = exchange.report()
        progress.say(f"along {ROWS[key]}: acceptance {report.exchanged.min():.2f} to {report.exchanged.max():.2f}, {report.roundTrips.sum()} round trips")
        exchanges.append(exchange)
    pooled = samples.pooled(*exchanges)
    pooled.save(out / "pooled.npz")
    networks["second"] = train("second", pooled)
    for key in ("second", "tight"):
        curves[key] = kept(key, lambda: geodesic(key, networks["second"]))
        ensembles[key] = drive(key)

    progress.step("Analysis")
    facts, models = {}, {"first": st.EmpiricalModel(*data(samples, variables)), "second": st.EmpiricalModel(*data(pooled, variables))}
    for key in ROWS:
        curve, own = curves[key], "first" if key == "first" else "second"
        facts[key] = {"length": curve.measure(networks["second"]).length, "climb": studies.climb(networks["second"], curve), "dFNetwork": studies.freeEnergyDifference(networks[own], curve)}
        for name, exact in models.items():
            nEff = exact.moments(curve.eta).nEff
            facts[key][f"nEff_{name}"] = float(nEff.min())
            error = st.compare(networks[name], exact, curve.eta[nEff >= 30]).medianError if (nEff >= 30).any() else np.nan
            progress.say(f"{ROWS[key]:40s} {name:6s} samples: N_eff {nEff.min():5.1f} to {nEff.max():5.0f}, 30 or more on {100 * (nEff >= 30).mean():3.0f} % of the curve, where the network's mean "
                         f"is wrong by {error:.2f} posterior standard deviations (median)")
        progress.say(f"{'':40s} length {facts[key]['length']:.1f}, highest F of the mean {facts[key]['climb']:.1f} kJ/mol, under the second network")
    reference = studies.unbiasedEnergy(topology, studies.createSystem(topology), structures["start"], seed, 5000 if quick else 50_000)
    report = studies.report({key: ensembles[key] for key in ROWS}, ROWS, facts, a, b, reference, title="ACE-ALA-ALA-NME in vacuum at 300 K, first residue from C7eq to C7ax",
                            oneOff={"temperature exchange": samples.steps, "exchange along two curves": pooled.steps - samples.steps})
    report.notes.append("Hits: the Euclidean distance of all four torsions, each the short way round.")
    report.settings.update({"samples": samples.summary(), "phi2 > 0 at 300 K": f"{100 * share:.1f} ± {100 * samples.error(inB):.1f} %, {crossings} crossings",
                            "training": f"{trainSteps} steps", "seed": seed, "mode": "quick" if quick else "full",
                            "versions": f"openmmspacetime {st.__version__}, OpenMM {openmm.version.short_version}, Reference platform"})
    studies.publish(report, out, curves, ROWS, referenceEnergy=reference)
    print("\n" + (out / "table.txt").read_text())
    print(f"\nDone in {progress.time()}. Open {out / 'report.html'}")
    return 0


def data(samples: st.WeightedSamples, variables: st.Variables) -> tuple[np.ndarray, st.Variables, np.ndarray]:
    """What EmpiricalModel takes."""
    x, logWeights = samples.thinned()
    return x, variables, logWeights


def crossed(phi: np.ndarray, copy: np.ndarray, replicas: int) -> int:
    """How often replicas went from one side of phi = 0 to the other and stayed: seen from |phi - pi/3| < 0.5 and |phi + pi/2| < 0.7, where the states are."""
    count = 0
    for k in range(int(copy.max()) + 1):
        for own in phi[copy == k].reshape(-1, replicas).T:
            side = np.where(np.abs(own - np.pi / 3) < 0.5, 1, np.where(np.abs(own + np.pi / 2) < 0.7, -1, 0))
            side = side[side != 0]
            count += np.count_nonzero(side[1:] != side[:-1])
    return count


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nStopped. --resume goes on with what is in the output folder.")
