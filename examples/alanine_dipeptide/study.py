# SPDX-License-Identifier: MIT
"""Alanine dipeptide from driven paths to evidence: dissipated work of seven curves, free energies three ways, the PMF, committors.

    python study.py --out study            about half an hour on two cores; interrupted, the same command goes on
    python study.py --out study --quick    the same with little statistics, in a minute: shows that it works, measures nothing

The molecule is driven along the curve of a trained network; the exact posterior's curve, a minimum free-energy path and straight lines (the null) stand beside it.
"""
from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import metadynamics as md
import openmmspacetime as st
from run import C5, C7AX, LOG_SNR, POINTS, Progress, unbiasedEnergy, walkersOf, waysRound

REFERENCE = md.HERE / "data" / "reference_vacuum_300K.npz"
NETWORK, EXACT, LOW, PATH, EQUAL, NULL, FREE = ROWS = (
    "geodesic, network", "geodesic, exact", "low variance", "MFEP, equal F-R", "null, equal F-R", "null, uniform", "unconstrained")


@dataclass(frozen=True)
class Size:
    """How much is done: what --quick makes small."""

    paths: int = 400
    steps: int = 2000
    equilibration: int = 1500
    training: int = 400
    states: int = 24
    iterations: int = 9000
    independent: int = 300
    frames: int = 20
    shots: int = 40
    unbiased: int = 200_000


QUICK = Size(paths=12, steps=1000, equilibration=300, training=40, states=12, iterations=60, independent=20, frames=4, shots=6, unbiased=5000)


def makeSimulation(curve: Any, variables: Any, seed: int) -> tuple[Any, Any]:
    """The molecule with a SpacetimeForce along `curve` in its System."""
    topology, system, positions = md.createSystem()
    force = st.SpacetimeForce(curve, variables, md.TEMPERATURE)
    system.addForce(force)
    return md.createSimulation(topology, system, positions, seed), force


def torsions() -> Any:
    return st.Variables.torsions(list(md.TORSIONS.values()), names=list(md.TORSIONS))


def folderOf(row: str) -> str:
    return row.replace(",", "").replace(" ", "_").replace("-", "")


def makeCurves(exact: Any, network: Any, surface: Any, a: np.ndarray, b: np.ndarray, say: Any) -> dict[str, Any]:
    """The curves of all rows, each with the dissipated work's other half: dF of its biased ends under the exact posterior."""
    variables = torsions()
    preset = dict(logSnr=LOG_SNR, points=POINTS, temperature=md.TEMPERATURE)
    curves = {NETWORK: st.geodesic(network, a, b, preset="transition", **preset), EXACT: st.geodesic(exact, a, b, preset="transition", **preset),
              LOW: st.geodesic(exact, a, b, maxVariance=0.07, minKappa=25, route="lowest", **preset)}
    lowest = st.minimumFreeEnergyPath(surface, a, b)
    curves[PATH] = lowest.curve(variables, LOG_SNR, md.TEMPERATURE).respaced(exact, points=POINTS)
    ways = waysRound(a, b, surface)
    null = st.straightLine(variables, a, b, logSnr=LOG_SNR, points=POINTS, windings=list(ways[0][1]))
    curves[EQUAL], curves[NULL] = null.respaced(exact, points=POINTS), null
    curves[FREE] = st.geodesic(exact, a, b, **preset)
    say(f"straight lines: the best of the four ways round the torus ({', '.join(f'{h:.0f}' for h, _ in ways)} kJ/mol); "
        f"critical kappa on the minimum free-energy path {st.criticalKappa(lowest.path, surface, md.TEMPERATURE):.0f}")
    for row, curve in curves.items():
        curve.temperature = md.TEMPERATURE
        mean, center = st.highestFreeEnergy(curve, exact, surface)
        figures = curve.measure(exact)
        say(f"{row:22s} length {figures.length:5.2f}  speed gap {figures.speedGap:7.1e}  highest F of the mean {mean:4.1f} kJ/mol, of the bias centre {center:4.1f}")
    return curves


def openExchange(out: Path, curve: Any, states: Any, seed: int) -> Any:
    """A replica exchange in its folder, as far as it came; started from the driven paths."""
    simulation, force = makeSimulation(curve, torsions(), seed)
    folder = out / f"exchange-{seed}"
    return st.ReplicaExchange(states, simulation, force, stepsPerIteration=50, starts=st.PathEnsemble.load(out / "paths" / folderOf(NETWORK)), seed=seed,
                              equilibrationSteps=500, blockIterations=10, directory=folder, resume=(folder / "checkpoint.npz").exists())


def shippedSamples() -> tuple[np.ndarray, np.ndarray]:
    """Torsions [K, 2] in rad, and the logarithms [K] of their weights."""
    with np.load(md.HERE / "data" / "alanine_vacuum_300K.npz") as data:
        return data["x"].astype(float), data["log_weights"].astype(float)


def exchangeStates(curve: Any, size: Size) -> Any:
    samples, logWeights = shippedSamples()
    return st.exchangeStates(curve, numStates=size.states, temperatures=md.TEMPERATURE, samples=samples, logWeights=logWeights)


def runExchange(job: tuple[str, str, int, Size]) -> None:
    """One replica exchange in a process of its own; goes on where an earlier one stopped."""
    curveFile, out, seed, size = job
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # stops at once: finished blocks stay
    curve = st.Curve.load(curveFile)
    sampler = openExchange(Path(out), curve, exchangeStates(curve, size), seed)
    if sampler.currentIteration < size.independent:
        sampler.simulate(size.independent - sampler.currentIteration, exchange=False)
    sampler.simulate(size.independent + size.iterations - sampler.currentIteration)


def exchange(out: Path, curveFile: Path, seeds: list[int], size: Size, processes: int, progress: Progress) -> None:
    """Independent replica exchanges side by side; their folders hold everything."""
    with multiprocessing.get_context("spawn").Pool(min(processes, len(seeds))) as pool:
        job = pool.map_async(runExchange, [(str(curveFile), str(out), seed, size) for seed in seeds], chunksize=1)
        blocks = (size.independent + size.iterations) // 10 * len(seeds)
        while not job.ready():
            job.wait(0.5)
            done = sum(len(list((out / f"exchange-{seed}").glob("block-*.npz"))) for seed in seeds)
            progress.show(f"{done * 10:,} of {blocks * 10:,} iterations")
        job.get()


def makeParser(description: str, folder: str) -> argparse.ArgumentParser:
    """The options that the studies of this folder share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="little statistics: shows that everything works")
    parser.add_argument("--out", type=Path, default=Path(folder), metavar="DIR", help=f"output folder (default: {folder}); what it holds is gone on with")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default: 1)")
    parser.add_argument("--processes", type=int, default=2, help="processes side by side (default: 2); the results do not depend on it")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    arguments = parser.parse_args()
    for name in ("seed", "processes"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name}: expected a positive number, got {getattr(arguments, name)}")
    return arguments


def checkSettings(out: Path, settings: dict[str, Any]) -> None:
    """Go on with a folder only where it was begun with the same settings."""
    file = out / "settings.json"
    if file.exists() and json.loads(file.read_text()) != settings:
        sys.exit(f"study.py: {out}/ was begun with other settings ({file.name} there). Choose another folder with --out, or remove it.")
    if not file.exists() and out.exists() and any(out.iterdir()):
        sys.exit(f"study.py: {out}/ is not empty and holds no study. Choose another folder with --out.")
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1))


def drive(out: Path, row: str, curve: Any, size: Size, seed: int, processes: int, progress: Progress, **more: Any) -> Any:
    """The paths of a row, those of an earlier start kept."""
    simulation, force = makeSimulation(curve, torsions(), seed)
    settings = dict(numPaths=size.paths, steps=size.steps, equilibrationSteps=size.equilibration, stepsPerMove=1, seed=seed, energyStride=1, processes=processes,
                    progress=lambda done, total: progress.show(f"{row}: {done} of {total} paths"))
    begin = time.time()
    paths = st.PathSampler(simulation, force, **{**settings, **more}).run(out, resume=True)
    progress.say(f"{row:22s} {time.time() - begin:5.0f} s")
    return paths


FIGURES = ("surface.png", "profiles.png", "work.png", "free_energy.png", "overlap.png", "swaps.png", "pmf.png", "committors.png", "density.png")
BINS = 60  # per torsion, 6 degrees


def binned(x: np.ndarray, logWeights: np.ndarray) -> np.ndarray:
    """F [BINS, BINS] of weighted samples in kJ/mol, infinite where there are none: -kT log of the weight in a bin."""
    cell = np.floor((x + np.pi) * BINS / (2 * np.pi)).astype(int) % BINS
    weight = np.bincount(cell[:, 0] * BINS + cell[:, 1], weights=np.exp(logWeights - logWeights.max()), minlength=BINS * BINS)
    with np.errstate(divide="ignore"):
        return -md.KT * np.log(weight).reshape(BINS, BINS)


def makeReference(seed: int, processes: int, progress: Progress) -> None:
    """The surface that the exchange's is held against: 48 ns of metadynamics with seeds of its own, in bins, with the error that its two walkers' difference gives."""
    progress.step("Reference: well-tempered metadynamics, two walkers of 24 ns")
    sampling = md.sample(12_000_000, seed + 100, processes=processes, progress=lambda done, total: progress.show(f"{done:,} of {total:,} steps"))
    saveReference(sampling)


def saveReference(sampling: Any) -> None:
    F = binned(sampling.x, sampling.logWeights)
    own = [binned(x, w) for x, w in walkersOf(sampling.x, sampling.logWeights)]
    seen = np.isfinite(own[0]) & np.isfinite(own[1])
    low = seen & (F - F.min() < 40.0)
    difference = np.where(seen, own[0], 0.0) - np.where(seen, own[1], 0.0)
    difference -= difference[low].mean()
    np.savez_compressed(REFERENCE, F=(F - F.min()).astype(np.float32), error=np.where(seen, np.abs(difference) / 2, np.nan).astype(np.float32))
    print(f"F below 40 kJ/mol: {np.sqrt(np.mean((difference[low] / 2) ** 2)):.2f} kJ/mol (standard error from two walkers, rms over {low.sum()} bins)")


def nearCurve(curve: Any, model: Any, bins: int, within: float = 2.0) -> np.ndarray:
    """Which bins [bins, bins] of the torus have their centre within so many posterior standard deviations of the mean of some node (Mahalanobis distance)."""
    moments = model.moments(curve.eta)
    mean = curve.variables.meanPosition(moments.mu)
    tangent = np.zeros((len(mean), 2, 4))
    for j in range(2):  # d theta = (-sin, cos)·d(cos, sin)/r
        tangent[:, j, 2 * j], tangent[:, j, 2 * j + 1] = -np.sin(mean[:, j]), np.cos(mean[:, j])
        tangent[:, j] /= np.linalg.norm(moments.mu[:, 2 * j : 2 * j + 2], axis=1)[:, None]
    precision = np.linalg.inv(np.einsum("kia,kab,kjb->kij", tangent, moments.J, tangent))
    x = -np.pi + 2 * np.pi * (np.arange(bins) + 0.5) / bins
    centers = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1)[:, :, None, :]
    d = st.surface.wrap(centers - mean)
    return np.einsum("xyki,kij,xykj->xyk", d, precision, d).min(axis=2) <= within**2


@dataclass
class PmfComparison:
    """A potential of mean force against a reference, over bins close to a curve."""

    rms: float
    largest: float
    bins: int
    share: float
    expected: float

    def text(self) -> str:
        return (f"rms difference {self.rms:.2f} kJ/mol (largest {self.largest:.2f}) over {self.bins} bins, {self.share:.0%} of those within 2 posterior sd of the curve and below "
                f"40 kJ/mol; {self.expected:.2f} is what the errors of both let expect")


def comparePmf(pmf: Any, curve: Any, model: Any, below: float = 40.0) -> PmfComparison:
    """Both on the same bins; F knows no zero, so the mean difference is taken out."""
    with np.load(REFERENCE) as data:
        reference, error = data["F"], data["error"]
    wanted = nearCurve(curve, model, len(reference)) & np.isfinite(reference) & (reference - np.nanmin(reference) < below)
    known = wanted & np.isfinite(pmf.freeEnergy)
    d = (pmf.freeEnergy - reference)[known]
    d -= d.mean()
    expected = np.sqrt(np.mean(np.nan_to_num(pmf.error[known]) ** 2 + np.nan_to_num(error[known]) ** 2))
    return PmfComparison(float(np.sqrt(np.mean(d**2))), float(np.abs(d).max()), int(known.sum()), float(known.sum() / wanted.sum()), float(expected))


def addFigures(out: Path, report: Any, curves: dict[str, Any], exact: Any, network: Any, free: Any, integrated: Any, pmf: Any, highest: Any, chosen: Any,
               stateA: Any, stateB: Any) -> None:
    from openmmspacetime import plots  # here, because every worker process imports this file again

    means = {row: np.asarray(curve.variables.meanPosition(exact.moments(curve.eta).mu)) for row, curve in curves.items()}
    samples, logWeights = shippedSamples()
    figures = [*plots.standardFigures(report, curves, means, ("C5", "C7ax"))[:3],  # its committors come below, with those of the highest F
               (plots.freeEnergyProfile({"MBAR": free, "TI": integrated}, network), "Free energy along the network's curve",
                "From the replica exchange by two estimators, and what the network itself says (dashed)."),
               (plots.overlapMatrix(free), "Overlap of the states", "MBAR connects states through samples that could be from either."),
               (plots.swapMatrix(free.samples, curves[NETWORK], data=samples, logWeights=logWeights), "Swaps between states",
                "Acceptance predicted from the samples of the model, and measured."),
               (plots.freeEnergyHistogram(pmf), "PMF from the exchange", "Free energy over both torsions where the exchange went, and its standard error."),
               (plots.committorHistogram({"highest F": highest, "chosen by a first set": chosen.second}), "Committors",
                "Shares of unbiased trajectories that reach C7ax before C5/C7eq, from frames of the network's paths."),
               (plots.pathDensity({row: st.pathDensity(report.ensembles[row], 60, stateA=stateA, stateB=stateB) for row in (NETWORK, NULL)}, report.surface,
                                  {"C5/C7eq": stateA, "C7ax": stateB}, chosen.frames.variables), "Path densities",
                "Share of the paths that visit a cell on their way from one state to the other. Crosses: the transition states of the network's paths.")]
    for (figure, title, caption), name in zip(figures, FIGURES, strict=True):
        figure.savefig(out / name)
        report.addFigure(out / name, title, caption)


def ratios(report: Any, ensembles: dict[str, Any], dF: float, heights: dict[str, tuple[float, float]], saddle: float) -> str:
    """Dissipated work of every row over that of the null, with bootstrap intervals of 95 %, and how high the curves climb."""
    rng = np.random.default_rng(1)
    works = {row: np.array([path.work for path in paths]) for row, paths in ensembles.items()}

    def resampled(w: np.ndarray) -> np.ndarray:
        return w[rng.integers(len(w), size=(4000, len(w)))].mean(axis=1) - dF

    null = resampled(works[NULL])
    lines = [f"{'':22s} {'<W> - dF':>12} {'of the null':>13} {'(95 %)':>14} {'highest F of mean':>18} {'over the pass':>14}"]
    for row, w in works.items():
        low, high = np.percentile(resampled(w) / null, [2.5, 97.5])
        lines.append(f"{row:22s} {w.mean() - dF:5.1f} ± {w.std(ddof=1) / np.sqrt(len(w)):4.1f} {(w.mean() - dF) / (works[NULL].mean() - dF):13.2f}   [{low:.2f}, {high:.2f}] "
                     f"{heights[row][0]:18.1f} {heights[row][0] - saddle:14.1f}")
    return "\n".join(lines)


def main() -> int:
    parser = makeParser("Free energies and committors of alanine dipeptide.", "study")
    parser.add_argument("--make-reference", action="store_true", help="make the reference surface that this example ships, and nothing else (10 minutes)")
    arguments = parse(parser)
    out, seed, processes = arguments.out, arguments.seed, arguments.processes
    size = QUICK if arguments.quick else Size()
    if arguments.make_reference:
        makeReference(seed, processes, Progress(1))
        return 0
    checkSettings(out, {"seed": seed, "quick": arguments.quick, **asdict(size)})
    progress, variables = Progress(6), torsions()
    print("Alanine dipeptide in vacuum, amber14, 300 K: free energies and committors")

    progress.step("Models: the exact posterior of the shipped samples, and a network trained on them")
    samples, logWeights = shippedSamples()
    surface = md.surfaceFromWalkers(walkersOf(samples, logWeights))
    if arguments.quick:
        samples, logWeights = samples[::5], logWeights[::5]
    exact = st.EmpiricalModel(samples, variables, logWeights=logWeights)
    modelFile = out / "model.safetensors"
    network = st.NetworkModel.load(str(modelFile)) if modelFile.exists() else st.train(
        samples, variables, logWeights=logWeights, temperature=md.TEMPERATURE, out=str(modelFile), steps=size.training, seed=seed, resume=True,
        points=1500 if arguments.quick else None, components=32 if arguments.quick else None,
        progress=lambda step, steps, loss, error: progress.show(f"step {step:,} of {steps:,}"))
    a, b = surface.nearestMinimum(C5), surface.nearestMinimum(C7AX)

    progress.step("Curves")
    (out / "curves").mkdir(exist_ok=True)
    files = {row: out / "curves" / f"{folderOf(row)}.json" for row in ROWS}
    if all(file.exists() for file in files.values()):
        curves = {row: st.Curve.load(str(file)) for row, file in files.items()}
    else:
        curves = makeCurves(exact, network, surface, a, b, progress.say)
        for row, curve in curves.items():
            curve.save(str(files[row]))
    error = st.compare(network, exact, curves[NETWORK].eta)
    progress.say(f"network along its curve: mean wrong by {error.medianError:.2f} posterior standard deviations (median), {error.error90:.2f} (90th percentile)")

    progress.step(f"Driving: {size.paths} paths a row, {size.steps:,} steps each, the bias moved every step")
    ensembles = {row: drive(out / "paths" / folderOf(row), row, curves[row], size, seed * 100_000 + 1000 * k, processes, progress,
                            frameStride=10 if row == NETWORK else 0) for k, row in enumerate(ROWS)}
    # Backward paths start from another row's last frames: independent of the forward paths they are compared with.
    ends = [ensembles[EXACT].frame(k)[0] for k in range(size.paths)]
    backward = {row: drive(out / "paths" / f"{folderOf(row)}_backward", f"{row}, backward", curves[row], size, seed * 100_000 + 50_000 + 1000 * k, processes, progress,
                           direction="backward", startStates=ends) for k, row in enumerate((NETWORK, NULL))}

    progress.step(f"Committors: {size.frames} frames x {size.shots} trajectories, chosen by a first set of trajectories, judged by a second")
    simulation, force = makeSimulation(curves[NETWORK], variables, seed)
    # C5 and C7eq are one basin: nothing of the height of a rare event lies between them.
    basin = [m for m, F in surface.minima(below=15.0) if m[0] < 0]
    stateA, stateB = st.StateRegion(basin, 0.75, variables, name="C5/C7eq"), st.StateRegion(b, 0.75, variables, name="C7ax")
    highest = st.committor(simulation, st.transitionStateCandidates(ensembles[NETWORK], surface, count=size.frames), stateA, stateB, force, shots=size.shots, seed=seed,
                           processes=processes, directory=out / "committor_highest_F", resume=True)
    chosen = st.transitionStates(simulation, ensembles[NETWORK], stateA, stateB, force, count=size.frames, shots=size.shots, firstShots=min(20, size.shots), seed=seed + 1,
                                 processes=processes, directory=out / "committor", resume=True)
    for name, result in (("frames of highest F", highest), ("chosen by a first set", chosen.second)):
        progress.say(f"{name}: mean committor {result.mean:.3f} ± {result.meanError:.3f}")

    progress.step(f"Replica exchange along the network's curve, two independent runs of {size.states} states")
    seeds = [10 * seed + 1, 10 * seed + 2]
    exchange(out, files[NETWORK], seeds, size, processes, progress)
    states = exchangeStates(curves[NETWORK], size)
    samplers = [openExchange(out, curves[NETWORK], states, s) for s in seeds]
    together = st.StateSamples.fromExchange(samplers)
    free = st.mbar(together)
    pmf = free.surface(bins=BINS)
    agreement = comparePmf(pmf, curves[NETWORK], exact)
    progress.say(f"PMF: {agreement.text()}")

    progress.step("Analysis")
    works = {row: st.bar(ensembles[row], backward[row]) for row in backward}
    integrated = st.thermodynamicIntegration(together)
    comparison = st.compareFreeEnergies({"MBAR (exchange)": free, "TI (exchange)": integrated, "BAR (geodesic, network)": works[NETWORK],
                                         "BAR (null, uniform)": works[NULL], "exact posterior": exact, "network": network})
    validation = {"network": st.validateModel(together, network), "exact posterior": st.validateModel(together, exact)}
    dF = float(free.freeEnergyDifference().value)
    topology, plain, positions = md.createSystem()
    reference, referenceError = unbiasedEnergy(topology, plain, positions, seed, size.unbiased)
    report = st.analyze(ensembles, surface, start=a, target=b, referenceEnergy=reference, dF=dF, oneOff={"metadynamics (samples of the models)": 16_000_000},
                        committors={NETWORK: chosen}, title="Alanine dipeptide in vacuum: driven paths, free energies, committors")
    report.notes.append(f"dF is MBAR's of the exchange, ± {free.freeEnergyDifference().error:.2f} kJ/mol, common to all rows.")
    heights = {row: st.highestFreeEnergy(curve, exact, surface) for row, curve in curves.items()}
    exchangeReports = [sampler.report() for sampler in samplers]
    evidence = "\n\n".join([
        "DISSIPATED WORK against the null (uniform straight line), equal number of bias moves; highest F of the mean along each curve, kJ/mol\n"
        + ratios(report, ensembles, dF, heights, report.saddle[1]),
        "FREE ENERGY of the biased ends, C7ax - C5\n" + comparison.table,
        "\n".join([f"BAR, {row}\n{work.table}" for row, work in works.items()]),
        "PMF over (phi, psi) from the exchange against metadynamics of 48 ns\n" + agreement.text(),
        "MODEL VALIDATION: E[T] of the exchange against mu of the model\n" + "\n".join(f"{name}: {v.verdict}" for name, v in validation.items()),
        "COMMITTORS of frames of highest F\n" + highest.summary(), "COMMITTORS of frames that a first set of trajectories chose\n" + chosen.summary(),
        *(f"EXCHANGE, seed {s}\n{r.table}" for s, r in zip(seeds, exchangeReports))])
    (out / "evidence.txt").write_text(evidence + "\n", encoding="utf-8")
    (out / "evidence.json").write_text(json.dumps({
        "dF": comparison.asDict(), "bar": {row: work.asDict() for row, work in works.items()}, "pmf": asdict(agreement),
        "validation": {name: v.asDict() for name, v in validation.items()}, "committorHighestF": highest.asDict(), "committor": chosen.asDict(),
        "exchange": [r.asDict() for r in exchangeReports]}, indent=1), encoding="utf-8")
    addFigures(out, report, curves, exact, network, free, integrated, pmf, highest, chosen, stateA, stateB)
    report.settings.update({"seed": seed, **asdict(size)})
    for name in ("report.html", "report.json", "table.txt"):
        report.save(out / name)
    print("\n" + report.table)
    print("\n" + evidence)
    print(f"Done in {time.time() - progress.start:.0f} s. Open {out / 'report.html'}")
    return 0


def run(main: Any) -> None:
    """The whole of a study as a program: its exit code, and what an interrupt means."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nStopped. What was finished stays; the same command goes on.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    run(main)
