# SPDX-License-Identifier: MIT
"""Driven paths of alanine dipeptide in implicit solvent (OBC2) at 300 K, from its lowest minimum with phi < 0 to its lowest with phi > 0.

    python run.py              everything from scratch; --resume goes on with what an interrupted run left, or makes the tables again

The molecule of ../alanine_dipeptide, amber14 with implicit/obc2.xml. Minima, pass and curves all come from the surface that the run finds.
"""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import studies

import openmmspacetime as st

LOG_SNR = 4.0
ROWS = {"exact": "geodesic, exact posterior", "network": "geodesic, network", "straight": "straight line, uniform (null)", "respaced": "straight line, equal Fisher-Rao"}


def sample(file: Path, topology: app.Topology, x: np.ndarray, variables: st.Variables, steps: int, seed: int, processes: int, progress: studies.Progress) -> list:
    """Samples and weights of each walker of metadynamics, kept in `file`."""
    if not file.exists():
        simulation = studies.createSimulation(topology, studies.createSystem(topology, implicit=True), x, seed)
        samples = st.metadynamics(simulation, variables, steps, biasFactor=10, depositEvery=100, sampleEvery=20, walkers=2, seed=seed, processes=processes, progress=progress.steps)
        quality = samples.quality(35.0)
        progress.say(f"{samples.steps * 2e-6:.1f} ns; rms difference of F from the samples to F from the bias, below 35 kJ/mol: {quality['bias']:.2f} kJ/mol")
        samples.save(file)
    with np.load(file) as data:
        return [(data["x"][data["copy"] == i].astype(float), data["log_weights"][data["copy"] == i].astype(float)) for i in range(2)]


def main() -> int:
    arguments = studies.parse("Driven paths of alanine dipeptide in implicit solvent.")
    out, seed, processes, quick = arguments.out, arguments.seed, arguments.processes, arguments.quick
    steps, trainSteps, numPaths, pathSteps = (100_000, 100, 4, 500) if quick else (1_000_000, 400, 50, 5000)
    progress = studies.Progress(5)
    topology, extended = studies.peptide(1)
    variables = st.Variables.torsionsOf(topology, "phi psi")

    progress.step(f"Well-tempered metadynamics, two independent walkers of {steps:,} steps")
    parts = sample(out / "samples.npz", topology, extended, variables, steps, seed, processes, progress)
    surface = st.weightedsamples.surfaceOf(parts, studies.TEMPERATURE, variables.names)
    x, logWeights = np.concatenate([x for x, _ in parts])[::2], np.concatenate([w for _, w in parts])[::2]
    minima = surface.minima(below=25.0)
    a, b = (next(c for c, _ in minima if side * c[0] > 0) for side in (-1, 1))
    where, height = surface.saddle(a, b)
    progress.say(f"F below 35 kJ/mol: error {st.weightedsamples.errorBelow(surface, 35.0):.2f} kJ/mol from the two walkers")
    for c, F in minima:
        progress.say(f"minimum phi {c[0]:5.2f} psi {c[1]:5.2f}: {F:5.1f} kJ/mol" + ("  A" if c is a else "  B" if c is b else ""))
    progress.say(f"lowest pass phi {where[0]:.2f} psi {where[1]:.2f}: {height:.1f} kJ/mol")

    progress.step(f"Training a network, {trainSteps} steps")
    exact = st.EmpiricalModel(x, variables, logWeights=logWeights)
    if (out / "model.safetensors").exists():
        network = st.NetworkModel.load(str(out / "model.safetensors"))
    else:
        network = st.train(x, variables, logWeights=logWeights, temperature=studies.TEMPERATURE, out=out / "model.safetensors", steps=trainSteps, seed=seed,
                           points=1000 if quick else None, threads=processes, progress=lambda step, steps, loss, error: progress.show(f"step {step} of {steps}, error {error:.2f}"))

    progress.step("Curves")
    curves = {key: st.geodesic(model, a, b, logSnr=LOG_SNR, preset="transition", temperature=studies.TEMPERATURE, threads=processes) for key, model in (("exact", exact), ("network", network))}

    def highest(line: st.Curve) -> float:
        return float(surface(variables.meanPosition(exact.moments(line.eta).mu)).max())

    ways = studies.straightLines(variables, a, b, highest, logSnr=LOG_SNR)
    curves["straight"] = ways[0][1]
    curves["respaced"] = curves["straight"].respaced(exact, points=129)
    progress.say("straight lines: of the four ways round the torus the one with the lowest highest F, the strongest null: " + ", ".join(f"{h:.0f}" for h, _ in ways) + " kJ/mol")
    facts, means, smooth = {}, {}, st.FreeEnergySurface.fromSamples(x, logWeights, temperature=studies.TEMPERATURE, bandwidth=0.15)
    for key, curve in curves.items():
        curve.temperature = studies.TEMPERATURE
        curve.save(str(out / f"{key}.json"), overwrite=True)
        moments = exact.moments(curve.eta)
        means[key] = np.asarray(variables.meanPosition(moments.mu))
        own = [studies.freeEnergyDifference(st.EmpiricalModel(x, variables, logWeights=w), curve) for x, w in parts]
        facts[key] = {"length": curve.measure(exact).length, "climb": studies.climb(exact, curve), "highestFreeEnergy": surface.highestAlong(means[key]), "nEff": float(moments.nEff.min()),
                      "dFExact": studies.freeEnergyDifference(exact, curve), "dFExactError": abs(own[0] - own[1]) / 2,
                      "stiffness": float(st.stiffness(curve, exact, smooth, studies.TEMPERATURE).min())}
        progress.say(f"{ROWS[key]:32s} length {facts[key]['length']:5.1f}, highest F of the mean {facts[key]['highestFreeEnergy']:.1f} kJ/mol, softest direction {facts[key]['stiffness']:.0f} rad^-2, "
                     f"N_eff >= {facts[key]['nEff']:.0f}")

    progress.step(f"Driving: {numPaths} paths a row and direction, {pathSteps:,} steps each")
    starts = {direction: studies.settle(topology, True, extended, variables, state) for direction, state in (("forward", a), ("backward", b))}
    ensembles = {key: studies.drive(out / "paths" / key, curve, variables, topology, True, starts, numPaths, pathSteps, seed * 10_000 + 1000 * k, processes, surface=surface, progress=progress)
                 for k, (key, curve) in enumerate(curves.items())}

    progress.step("Analysis")
    reference = studies.unbiasedEnergy(topology, studies.createSystem(topology, implicit=True), starts["forward"], seed, 5000 if quick else 50_000)
    report = studies.report(ensembles, ROWS, facts, a, b, reference, "Alanine dipeptide in implicit solvent (OBC2) at 300 K", surface, {"metadynamics": 2 * steps})
    report.settings.update({"samples": f"2 walkers x {steps:,} steps, seeds {seed} and {seed + 1}", "surface": f"error {st.weightedsamples.errorBelow(surface, 35.0):.2f} kJ/mol below 35 kJ/mol, pass {height:.1f} kJ/mol",
                            "training": f"{trainSteps} steps", "seed": seed, "mode": "quick" if quick else "full",
                            "versions": f"openmmspacetime {st.__version__}, OpenMM {openmm.version.short_version}, Reference platform", "time": progress.time()})
    studies.publish(report, out, curves, ROWS, means, referenceEnergy=reference)
    print("\n" + (out / "table.txt").read_text())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nStopped. --resume goes on with what is in the output folder.")
