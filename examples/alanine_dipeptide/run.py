# SPDX-License-Identifier: MIT
"""Driven transition paths of alanine dipeptide along spacetime geodesics, from C5 to C7ax, beside two null baselines.

    python run.py            samples, trains, solves, drives and analyses; at most six minutes on two cores
    python run.py --quick    the same from the samples that come with this example; about a minute and a quarter

Everything that is shown is computed in the run; --quick says what it takes from a file.
"""
from __future__ import annotations

import argparse
import itertools
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openmm

import metadynamics as md
import openmmspacetime as st
from openmmspacetime.surface import wrap

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import Progress, prepareOutput

C5, C7AX = (-2.6, 2.75), (1.07, -0.74)  # near these: the minima of the surface are taken
LOG_SNR = 4.0  # both ends: kappa = e^4 = 54.6 for either torsion
POINTS = 129
ROWS = ("geodesic, exact posterior", "geodesic, network", "straight line, uniform (null)", "straight line, equal Fisher-Rao")
FOLDERS = ("geodesic_exact", "geodesic_network", "straight_uniform", "straight_fisher_rao")
OUTPUTS = ("samples.npz", "model.safetensors", "curves", "paths", "surface.png", "profiles.png", "work.png", "report.html",
           "report.json", "table.txt")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Transition paths of alanine dipeptide along spacetime geodesics.")
    parser.add_argument("--quick", action="store_true", help="shipped samples, shorter training, 2,000-step paths")
    parser.add_argument("--out", type=Path, default=Path("output"), metavar="DIR", help="output folder (default: output)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run left in the output folder")
    parser.add_argument("--processes", type=int, default=2, help="processes side by side (default: 2); the results do not depend on it")
    arguments = parser.parse_args()
    if arguments.seed < 1:
        parser.error(f"--seed: expected a positive number, got {arguments.seed} (OpenMM takes 0 for 'choose at random')")
    if arguments.processes < 1:
        parser.error(f"--processes: expected at least 1, got {arguments.processes}")
    return arguments


def walkersOf(samples: np.ndarray, logWeights: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The samples of the two walkers: the first half and the second."""
    half = len(samples) // 2
    return [(samples[:half], logWeights[:half]), (samples[half:], logWeights[half:])]


def waysRound(a: np.ndarray, b: np.ndarray, surface: st.FreeEnergySurface) -> list[tuple[float, tuple[int, int]]]:
    """The four straight lines from a to b round the torus: (highest F on the line, extra turns of each torsion), best first."""
    short = wrap(b - a)
    lines = []
    for far in itertools.product((False, True), repeat=2):
        turns = tuple(int(-np.sign(d)) if f else 0 for d, f in zip(short, far))
        line = a + np.linspace(0, 1, 200)[:, None] * (short + 2 * np.pi * np.array(turns))
        lines.append((float(surface(line).max()), turns))
    return sorted(lines)


def unbiasedEnergy(topology: Any, system: openmm.System, positions: Any, seed: int, steps: int) -> tuple[float, float]:
    """U(A): mean potential energy of plain MD started in A, and its standard error from ten blocks, kJ/mol."""
    simulation = md.createSimulation(topology, system, positions, seed)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(md.TEMPERATURE, seed)
    simulation.step(5000)
    energies = []
    for _ in range(steps // 10):
        simulation.step(10)
        energies.append(simulation.context.getState(energy=True).getPotentialEnergy()._value)
    blocks = np.array_split(np.array(energies), 10)
    return float(np.mean(energies)), float(np.std([b.mean() for b in blocks], ddof=1) / np.sqrt(10))


def main() -> int:
    arguments = parse()
    out, seed, quick = arguments.out, arguments.seed, arguments.quick
    prepareOutput(out, OUTPUTS, arguments.overwrite)
    (out / "curves").mkdir()
    metaSteps, trainSteps, pathSteps, numPaths = (0, 300, 2000, 50) if quick else (3_500_000, 400, 5000, 100)
    equilibration = 1500
    progress = Progress(5)
    print("Alanine dipeptide in vacuum, amber14, 300 K: C5 -> C7ax")
    if quick:
        print("QUICK: shipped samples instead of metadynamics, short training, 2,000-step paths. "
              "Expect more dissipated work and wider errors than from the full run.")
    variables = st.Variables.torsions(list(md.TORSIONS.values()), names=list(md.TORSIONS))
    oneOff: dict[str, int] = {}

    # 1. Samples of the torsions, and the free-energy surface that everything is judged by.
    if quick:
        progress.step("Reading data/alanine_vacuum_300K.npz (metadynamics is skipped)")
        with np.load(md.HERE / "data" / "alanine_vacuum_300K.npz") as data:
            samples, logWeights = data["x"].astype(float), data["log_weights"].astype(float)
        surface = md.surfaceFromWalkers(walkersOf(samples, logWeights))
        progress.say(f"F below 50 kJ/mol: error {md.errorBelow(surface):.2f} kJ/mol from the two walkers behind the samples")
    else:
        progress.step("Well-tempered metadynamics, two independent walkers")
        sampling = md.sample(metaSteps, seed, processes=arguments.processes, progress=lambda done, total: progress.show(
            f"{done:,} of {total:,} steps ({done * 2e-6:.1f} ns)"))
        samples, logWeights = sampling.thinned()
        surface = sampling.surface
        quality = sampling.quality()
        oneOff["metadynamics"] = sampling.steps
        progress.say(f"{sampling.steps * 2e-6:.1f} ns; F below 50 kJ/mol: error {quality['walkers']:.2f} kJ/mol from two walkers, "
                     f"rms difference to F from the bias {quality['bias']:.2f} kJ/mol")
    md.save(out / "samples.npz", samples, logWeights)
    a, b = surface.nearestMinimum(C5), surface.nearestMinimum(C7AX)
    pass_, height = surface.saddle(a, b)
    progress.say(f"C5 ({a[0]:.2f}, {a[1]:.2f}) {float(surface(a)):.1f} kJ/mol;  C7ax ({b[0]:.2f}, {b[1]:.2f}) {float(surface(b)):.1f};  "
                 f"lowest pass ({pass_[0]:.2f}, {pass_[1]:.2f}) {height:.1f}")

    # 2. A network for the means of the denoising distributions.  The exact posterior of the samples needs no training.
    progress.step(f"Training a network, {trainSteps:,} steps, after computing the exact posterior at its training points")
    exact = st.EmpiricalModel(samples, variables, logWeights=logWeights)
    network = st.train(samples, variables, logWeights=logWeights, temperature=md.TEMPERATURE, out=str(out / "model.safetensors"),
                       steps=trainSteps, seed=seed, points=10_000 if quick else None, components=64 if quick else None, progress=lambda step, steps, loss, validation: progress.show(
                           f"step {step:,} of {steps:,}: loss {loss:.4g}, validation {validation:.4g}"))

    # 3. Curves: geodesics of both models, and the straight line in the angles, uniform and respaced.
    progress.step("Geodesics")
    curves: dict[str, Any] = {}
    for row, model in zip(ROWS[:2], (exact, network)):
        begin = time.time()
        curves[row] = st.geodesic(model, a, b, logSnr=LOG_SNR, preset="transition", points=POINTS, temperature=md.TEMPERATURE,
                                   threads=arguments.processes)
        progress.say(f"{row}: {time.time() - begin:.1f} s")
    ways = waysRound(a, b, surface)
    turns = ways[0][1]
    curves[ROWS[2]] = st.straightLine(variables, a, b, logSnr=LOG_SNR, points=POINTS, windings=list(turns))
    curves[ROWS[3]] = curves[ROWS[2]].respaced(exact, points=POINTS)
    progress.say("straight lines: of the four ways round the torus the one with the lowest highest F, the strongest null: "
                 + ", ".join(f"{h:.0f}" for h, _ in ways) + " kJ/mol")
    means = {}
    for (row, curve), folder in zip(curves.items(), FOLDERS):
        curve.temperature = md.TEMPERATURE
        curve.save(str(out / "curves" / f"{folder}.json"))
        figures = curve.measure(exact)
        moments = exact.moments(curve.eta)
        means[row] = np.asarray(variables.meanPosition(moments.mu))
        progress.say(f"{row:32s} length {figures.length:5.2f}  energy {figures.energy:6.1f}  speed gap {figures.speedGap:7.1e}  "
                     f"highest F of the mean {surface.highestAlong(means[row]):4.1f} kJ/mol  N_eff >= {moments.nEff.min():.0f}")
    # The string method's path knows the surface; the curves were found without it.
    lowest = st.minimumFreeEnergyPath(surface, a, b)
    smooth = st.FreeEnergySurface.fromSamples(samples, logWeights, temperature=md.TEMPERATURE, bandwidth=0.15)
    first = curves[ROWS[0]]
    progress.say(f"minimum free-energy path (string method): highest F {lowest.saddle[1]:.1f} kJ/mol at ({lowest.saddle[0][0]:.2f}, {lowest.saddle[0][1]:.2f}); "
                 f"the exact posterior's geodesic {st.highestFreeEnergy(first, exact, surface)[0]:.1f}")
    progress.say("softest direction of the tilted wells along the curves (10 rad^-2 and more is stiff, below 0 the molecule hops): " + ", ".join(
        f"{st.stiffness(curve, exact, smooth, md.TEMPERATURE).min():.0f}" for curve in curves.values()))
    progress.say("constraints on the first curve: " + "; ".join(
        f"{c['name']} {c['extreme']:.3g} ({'at most' if 'at_most' in c else 'at least'} {c.get('at_most', c.get('at_least')):g})" for c in first.solution["constraints"]))
    error = st.compare(network, exact, curves[ROWS[0]].eta)
    progress.say(f"network along the first curve: mean wrong by {error.medianError:.2f} posterior standard deviations (median), "
                 f"{error.error90:.2f} (90th percentile)")
    ends = np.array([curves[ROWS[0]].eta[0], curves[ROWS[0]].eta[-1]])

    def freeEnergyDifference(model: Any) -> float:
        psi = model.moments(ends).psi
        return -md.KT * float(psi[1] - psi[0])

    dF = freeEnergyDifference(exact)
    perWalker = [freeEnergyDifference(st.EmpiricalModel(x, variables, logWeights=w)) for x, w in walkersOf(samples, logWeights)]
    dFError = abs(perWalker[0] - perWalker[1]) / 2
    progress.say(f"dF of the biased ends {dF:.2f} ± {dFError:.2f} kJ/mol.  Length, energy, gap and N_eff are those under the exact posterior of the samples.")

    # 4. Annealed Langevin dynamics of the whole molecule with a SpacetimeForce in its System.
    progress.step(f"Driving: {numPaths} paths a row, {pathSteps:,} steps each, the bias moved every step")
    topology, plain, positions = md.createSystem()
    ensembles: dict[str, Any] = {}
    for k, ((row, curve), folder) in enumerate(zip(curves.items(), FOLDERS)):
        _, system, _ = md.createSystem()
        force = st.SpacetimeForce(curve, variables, md.TEMPERATURE * openmm.unit.kelvin)
        system.addForce(force)
        simulation = md.createSimulation(topology, system, positions, seed)
        sampler = st.PathSampler(simulation, force, numPaths=numPaths, steps=pathSteps, stepsPerMove=1, equilibrationSteps=equilibration,
                                 frameStride=max(1, pathSteps // 250), energyStride=1, seed=seed * 100_000 + k * 1000 + 1,
                                 processes=arguments.processes, progress=lambda done, total: progress.show(
                                     f"{row}: {done} of {total} paths"))
        begin = time.time()
        ensembles[row] = sampler.run(str(out / "paths" / folder))
        progress.say(f"{row:34s} {time.time() - begin:5.1f} s")

    # 5. What came of it.
    progress.step("Analysis")
    from openmmspacetime import plots  # here, because every worker process imports this file again

    reference, referenceError = unbiasedEnergy(topology, plain, positions, seed, 60_000 if quick else 200_000)
    report = st.analyze(ensembles, surface, start=a, target=b, referenceEnergy=reference, dF=dF, oneOff=oneOff,
                        title="Alanine dipeptide, C5 to C7ax, in vacuum at 300 K")
    report.notes.append(f"dF comes from the exact posterior of the samples; its own error, {dFError:.2f} kJ/mol from the two walkers, "
                        "is common to all rows and not part of the errors in the table.")
    report.notes.append(f"Gradients: force evaluations, {equilibration:,} steps of equilibration at either end included.")
    report.notes.append(f"Straight lines: constant kappa = e^{LOG_SNR:g}; of the four ways round the torus the one with the lowest highest F. "
                        "'equal Fisher-Rao': the same line, its nodes spaced by equal Fisher-Rao length.")
    if quick:
        report.warnings.append("Quick run: samples and surface come from data/alanine_vacuum_300K.npz, not from this run; "
                               "paths are 2,000 steps long instead of 5,000, and half as many.")
    report.settings.update({
        "mode": "quick" if quick else "full", "seed": seed, "paths": f"{numPaths} a row, {pathSteps:,} steps of 2 fs, {equilibration:,} steps of equilibration at either end",
        "samples": "shipped" if quick else f"2 walkers x {metaSteps:,} steps, seeds {seed} and {seed + 1}",
        "training": f"{trainSteps:,} steps", "ends": f"log-SNR {LOG_SNR:g} at the minima of the surface",
        "U(A)": f"{reference:.1f} ± {referenceError:.1f} kJ/mol, {60_000 if quick else 200_000:,} steps, read every 10",
        "versions": f"openmmspacetime {getattr(st, '__version__', '?')}, OpenMM {openmm.version.short_version}, numpy {np.__version__}, "
                    f"Python {platform.python_version()}", "platform": "Reference"})
    for (figure, title, caption), name in zip(
            plots.standardFigures(report, curves, means, ("C5", "C7ax"), reference), ("surface.png", "profiles.png", "work.png")):
        figure.savefig(out / name)
        report.addFigure(out / name, title, caption)
    report.settings["wall time"] = f"{time.time() - progress.start:.0f} s with {arguments.processes} processes"
    for name in ("report.html", "report.json", "table.txt"):
        report.save(out / name)
    print("\n" + report.table)
    print(f"\nDone in {time.time() - progress.start:.0f} s. Open {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nStopped. What was finished stays in the output folder; --overwrite starts again.", file=sys.stderr)
        sys.exit(130)
