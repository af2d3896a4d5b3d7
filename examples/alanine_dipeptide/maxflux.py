# SPDX-License-Identifier: MIT
"""Alanine dipeptide: the MaxFlux path at 300 K beside the minimum free-energy path and the spacetime geodesic, and the molecule driven along each.

    python maxflux.py --out maxflux            about seven minutes on two cores; interrupted, the same command goes on
    python maxflux.py --out maxflux --quick    the same with few paths, in half a minute: shows that it works, measures nothing

MaxFlux is the shortest path in the metric exp(2 F/kT): a probability-density geodesic at tau = 1 of p = exp(-F/kT). Everything comes from the shipped samples.
"""
from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

import metadynamics as md
import openmmspacetime as st
from run import C5, C7AX, LOG_SNR, POINTS, Progress, unbiasedEnergy, walkersOf, waysRound
from study import EQUAL, NULL, QUICK, Size, checkSettings, drive, folderOf, makeParser, parse, ratios, run, shippedSamples, torsions

GEODESIC, MAXFLUX, LOWEST = "spacetime geodesic", "MaxFlux, equal F-R", "MFEP, equal F-R"
#: Noise levels at which the samples' MaxFlux path is sought; the surface itself knows of none.
LEVELS = (4.0, 5.0, 6.0)
#: Starts of every winding: between C7eq and C7ax the pass has two bottoms, a hundredth of kT apart.
STARTS = 8


def table(paths: dict[str, Any], surface: Any) -> tuple[str, dict[str, Any]]:
    """What the surface says of every path: its length, its highest point, and its resistance ∫ exp(F/kT) |dx|, which MaxFlux makes least."""
    density = surface.density(md.TEMPERATURE)
    profiles = {name: st.densityProfile(density, path) for name, path in paths.items()}
    least = min(p.logDistance for p in profiles.values())
    lines = [f"{'path':34s} {'length (rad)':>12} {'highest F':>10} {'ln resistance':>14} {'flux':>7}"]
    figures = {}
    for name, p in profiles.items():
        figures[name] = {"length": p.length, "highestF": surface.highestAlong(p.path), "logResistance": p.logDistance, "flux": float(np.exp(least - p.logDistance))}
        lines.append(f"{name:34s} {p.length:12.3f} {figures[name]['highestF']:10.2f} {p.logDistance:14.3f} {figures[name]['flux']:7.3f}")
    lines.append("F in kJ/mol. Resistance: integral of exp(F/kT) along the path, in rad and relative to the start. Flux: the least resistance over the path's own.")
    return "\n".join(lines), figures


def main() -> int:
    arguments = parse(makeParser("The MaxFlux path of alanine dipeptide, and the molecule driven along it.", "maxflux"))
    out, seed, processes = arguments.out, arguments.seed, arguments.processes
    size = QUICK if arguments.quick else Size()
    settings = {"seed": seed, "quick": arguments.quick, "paths": size.paths, "steps": size.steps, "equilibration": size.equilibration}
    checkSettings(out, settings)
    progress, variables = Progress(3), torsions()
    print("Alanine dipeptide in vacuum, amber14, 300 K: the MaxFlux path from C5 to C7ax")

    progress.step("Paths")
    samples, logWeights = shippedSamples()
    surface = md.surfaceFromWalkers(walkersOf(samples, logWeights))
    exact = st.EmpiricalModel(samples, variables, logWeights=logWeights)
    a, b = surface.nearestMinimum(C5), surface.nearestMinimum(C7AX)
    found: dict[float, Any] = {}
    starts = 2 if arguments.quick else STARTS
    for level in LEVELS[1:2] if arguments.quick else LEVELS:
        begin = time.process_time()
        found[level] = st.densityGeodesics(exact, a, b, logSnr=level, points=POINTS, starts=starts)
        best = found[level][0]
        progress.say(f"MaxFlux of the samples at log-SNR {level:g}: {time.process_time() - begin:.2f} s for {len(found[level])} windings; residual {best.residual:.1e}, "
                     f"{best.evaluations:,} scores; ln resistance of the windings {', '.join(f'{p.logDistance:.1f}' for p in found[level])}")
    exactSurface = st.densityGeodesic(surface.density(md.TEMPERATURE), a, b, points=POINTS, starts=starts)
    lowest = st.minimumFreeEnergyPath(surface, a, b)
    geodesic = st.geodesic(exact, a, b, logSnr=LOG_SNR, preset="transition", points=POINTS, temperature=md.TEMPERATURE)
    ways = waysRound(a, b, surface)
    null = st.straightLine(variables, a, b, logSnr=LOG_SNR, points=POINTS, windings=list(ways[0][1]))
    maxFlux = found[5.0][0]
    curves = {GEODESIC: geodesic, MAXFLUX: maxFlux.curve(variables, LOG_SNR, md.TEMPERATURE).respaced(exact, points=POINTS),
              LOWEST: lowest.curve(variables, LOG_SNR, md.TEMPERATURE).respaced(exact, points=POINTS), EQUAL: null.respaced(exact, points=POINTS), NULL: null}
    for curve in curves.values():
        curve.temperature = md.TEMPERATURE
    mean = np.unwrap(variables.meanPosition(exact.moments(geodesic.eta).mu), axis=0)
    straight = np.unwrap(variables.center(null.eta), axis=0)
    paths = {f"MaxFlux, log-SNR {level:g}": p[0] for level, p in found.items()}
    text, figures = table({"MaxFlux, the surface itself": exactSurface, **paths, "minimum free-energy path": lowest, "spacetime geodesic, its mean": mean, "straight line": straight}, surface)
    print("\n" + text)
    from openmmspacetime import plots  # here, because every worker process imports this file again

    shown = {"MaxFlux, 300 K": maxFlux, "minimum free-energy path": lowest, "spacetime geodesic (mean)": mean, "straight line": straight}
    figure = plots.densityPaths(surface, shown, {"C5": a, "C7ax": b})
    figure.savefig(out / "maxflux.png")

    progress.step(f"Driving: {size.paths} paths a row, {size.steps:,} steps each, the bias moved every step")
    ensembles = {row: drive(out / "paths" / folderOf(row), row, curve, size, seed * 100_000 + 1000 * k, processes, progress) for k, (row, curve) in enumerate(curves.items())}

    progress.step("Analysis")
    ends = exact.moments(np.asarray(geodesic.eta)[[0, -1]]).psi
    dF = -md.KT * float(ends[1] - ends[0])
    topology, plain, positions = md.createSystem()
    reference, _ = unbiasedEnergy(topology, plain, positions, seed, size.unbiased)
    report = st.analyze(ensembles, surface, start=a, target=b, referenceEnergy=reference, dF=dF, oneOff={"metadynamics (samples of the models)": 16_000_000},
                        title="Alanine dipeptide in vacuum: MaxFlux, minimum free-energy path, spacetime geodesic")
    report.notes.append(f"dF is that of the exact posterior of the samples, {dF:.2f} kJ/mol. MaxFlux, MFEP and straight lines are driven at constant kappa = e^{LOG_SNR:g}; "
                        "'equal F-R': nodes spaced by equal Fisher-Rao length.")
    heights = {row: st.highestFreeEnergy(curve, exact, surface) for row, curve in curves.items()}
    works = ratios(report, ensembles, dF, heights, report.saddle[1])
    report.addFigure(out / "maxflux.png", "Paths on the free-energy surface", "MaxFlux from the density at log-SNR 5, the minimum free-energy path of the string method, the mean of the "
                     "spacetime geodesic's distributions, and the straight line.")
    report.settings.update(settings)
    for name in ("report.html", "report.json", "table.txt"):
        report.save(out / name)
    (out / "paths.txt").write_text(text + "\n\nDISSIPATED WORK against the uniform straight line, kJ/mol\n" + works + "\n", encoding="utf-8")
    (out / "paths.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    maxFlux.save(out / "maxflux.json", overwrite=True)
    print("\n" + report.table + "\n\n" + works)
    print(f"\nDone in {time.time() - progress.start:.0f} s. Open {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    run(main)
