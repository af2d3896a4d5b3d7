# SPDX-License-Identifier: MIT
"""Figures of evidence: free energies, overlaps and swaps, densities of paths, committors. They are all in `openmmspacetime.plots`."""
from __future__ import annotations

from typing import Any, Mapping, Optional

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from .plotstyle import (
    _ENERGY_MAP,
    _STYLE,
    COLOURS,
    _label,
    _onTorus,
    _smoothed,
)
from .surface import FreeEnergySurface, wrap

__all__ = ["committorHistogram", "freeEnergyHistogram", "freeEnergyProfile", "overlapMatrix", "pathDensity", "swapMatrix"]

_MATRIX_MAP = LinearSegmentedColormap.from_list("matrix", ["#fdfcfa", "#cfdde6", "#6f9dbd", "#1d4a7a"])
_ERROR_MAP = LinearSegmentedColormap.from_list("error", ["#fdfcfa", "#f3d9b8", "#d9822b", "#7a3a06"])
_DENSITY_MAP = LinearSegmentedColormap.from_list("density", ["#ffffff", "#d3e3ec", "#8fb8cf", "#4a86ad", "#1f4e79", "#0b2239"])


def freeEnergyProfile(estimates: Mapping[str, Any], model: Any = None) -> Figure:
    """Free energy along the curve by several methods, and below it what tells them apart: their differences from the first.

    Parameters
    ----------
    estimates : mapping from names to FreeEnergies
        Of :func:`mbar`, :func:`thermodynamicIntegration`. The first has a band of two standard errors, the others bars of two.
    model : PosteriorModel, optional
        Drawn as a line, -kT (psi(s) - psi(0)) at the states of the first.

    Returns
    -------
    Figure
    """
    if not estimates:
        raise ValueError("freeEnergyProfile: expected a mapping from names to FreeEnergies, got nothing")
    first = next(iter(estimates.values()))
    F0, error0 = first.profile()
    with rc_context(_STYLE):
        figure = Figure(figsize=(6.6, 4.9), layout="constrained")
        axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1.0))
        for k, (name, e) in enumerate(estimates.items()):
            F, error = e.profile()
            colour = COLOURS[k % len(COLOURS)]
            # Side by side where they share s, so that no bar hides another.
            shift = (k - (len(estimates) - 1) / 2) * 0.005
            if k == 0:
                axis.fill_between(e.s, F - 2 * error, F + 2 * error, color=colour, alpha=0.22, lw=0)
                axis.plot(e.s, F, "-o", ms=3.4, lw=1.5, color=colour, label=name)
                below.fill_between(e.s, -2 * error, 2 * error, color=colour, alpha=0.22, lw=0)
                below.axhline(0, color=colour, lw=1.5)
            else:
                axis.errorbar(e.s + shift, F, yerr=2 * error, fmt="s", ms=3.2, lw=0.9, capsize=2, color=colour, label=name)
                below.errorbar(e.s + shift, F - np.interp(e.s, first.s, F0), yerr=2 * error, fmt="s", ms=3.2, lw=0.9, capsize=2, color=colour)
        if model is not None:
            psi = np.asarray(model.moments(first.samples.eta).psi)
            G = -first.samples.kT * (psi - psi[0])
            axis.plot(first.s, G, color="black", lw=1.1, ls=(0, (4, 2)), label="model")
            below.plot(first.s, G - F0, color="black", lw=1.1, ls=(0, (4, 2)))
        axis.set_ylabel("free energy of the state\n(kJ/mol)")
        below.set_ylabel(f"difference from\n{next(iter(estimates))} (kJ/mol)")
        below.set_xlabel("s: share of the Fisher–Rao length")
        below.set_xlim(-0.01, 1.01)
        for a in (axis, below):
            a.grid(axis="y", color="#e3e6e9", lw=0.6)
            a.set_axisbelow(True)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncol=len(estimates) + (model is not None))
        axis.set_title("band and bars: two standard errors", fontsize=8.5, loc="left", color="#444444")
    return figure


def _matrix(axis: Any, values: np.ndarray, highest: float) -> Any:
    """Numbered cells, darker for more; numbers where they can be read."""
    n = len(values)
    image = axis.imshow(np.ma.masked_invalid(values), cmap=_MATRIX_MAP, vmin=0, vmax=highest)
    if n <= 20:
        for i in range(n):
            for j in range(n):
                if np.isfinite(values[i, j]) and values[i, j] >= 0.005:
                    axis.text(j, i, f"{values[i, j]:.2f}".lstrip("0"), ha="center", va="center", fontsize=max(4.5, 8.5 - 0.2 * n),
                              color="white" if values[i, j] > 0.55 * highest else "#20303f")
    every = max(1, -(-n // 20))
    axis.set(xticks=range(0, n, every), yticks=range(0, n, every))
    axis.tick_params(length=0)
    axis.spines[["top", "right"]].set_visible(True)
    return image


def overlapMatrix(solved: Any) -> Figure:
    """MBAR's overlap: the probability that a sample of the state of the row is taken for one of the state of the column.

    Parameters
    ----------
    solved : FreeEnergies
        Of :func:`mbar`.

    Returns
    -------
    Figure
    """
    if solved.overlap is None:
        raise ValueError(f"overlapMatrix: {solved.method} knows no overlap; take mbar()")
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 4.7), layout="constrained")
        axis = figure.subplots()
        image = _matrix(axis, solved.overlap, max(0.4, float(solved.overlap.max())))
        axis.set(xlabel="state it could be from", ylabel="state of the sample")
        low = solved.neighbourOverlap
        axis.set_title(f"overlap of neighbours at least {low.min():.2f} (wanted: 0.03); 1 − second eigenvalue {solved.overlapScalar:.3f}", fontsize=8.5, loc="left", color="#444444")
        figure.colorbar(image, ax=axis, shrink=0.8, aspect=28, pad=0.02).set_label("probability")
    return figure


def swapMatrix(samples: Any, curve: Any = None, model: Any = None, data: Any = None, logWeights: Any = None) -> Figure:
    """Acceptance of swaps between all pairs of states: measured above the diagonal, predicted below it.

    Parameters
    ----------
    samples : StateSamples
        What was sampled: every pair of samples of two states counts.
    curve, model, data, logWeights : optional
        What predicts: see :func:`predictAcceptance`, whose samples are `data`. Without a curve the lower half is empty.

    Returns
    -------
    Figure
    """
    from .exchange import _etaOf, _predictor

    values, predicted = samples.acceptances(), np.full((len(samples.s),) * 2, np.nan)
    pair = None if curve is None else _predictor(curve, _etaOf(curve), model, data, logWeights)
    if pair is not None:
        for i in range(len(values)):
            for j in range(i):
                predicted[i, j] = pair(float(samples.s[j]), float(samples.s[i]))
    both = np.where(np.tri(len(values), k=-1, dtype=bool), predicted, values)
    np.fill_diagonal(both, np.nan)
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 4.7), layout="constrained")
        axis = figure.subplots()
        image = _matrix(axis, both, max(0.3, float(np.nanmax(both))))
        axis.set(xlabel="state", ylabel="state")
        worst = "" if pair is None else f"; largest difference {np.nanmax(np.abs(predicted - values)):.3f}"
        axis.set_title("above the diagonal measured" + ("" if pair is None else ", below predicted") + worst, fontsize=8.5, loc="left", color="#444444")
        figure.colorbar(image, ax=axis, shrink=0.8, aspect=28, pad=0.02).set_label("acceptance of a swap")
    return figure


def freeEnergyHistogram(histogram: Any, highest: float = 60.0, highestError: Optional[float] = None) -> Figure:
    """Free energy in bins with its standard error: two maps side by side for two quantities, a line with a band of two standard errors for one.

    Parameters
    ----------
    histogram : FreeEnergyHistogram
        Of :meth:`FreeEnergies.surface` or `profileOf`.
    highest : float
        Top of the colour scale of a surface, kJ/mol.
    highestError : float, optional
        Top of the scale of errors, kJ/mol; that of nine bins in ten when left out.

    Returns
    -------
    Figure
    """
    n = len(histogram.edges)
    if n not in (1, 2):
        raise ValueError(f"freeEnergyHistogram: expected one or two quantities, got {n}")
    # Angles are shown in degrees, all else as it is.
    angles = [abs(period - 2 * np.pi) < 1e-9 for period in histogram.periods]
    scale = [180 / np.pi if angle else 1.0 for angle in angles]
    labels = [_label(name) if angle else name for name, angle in zip(histogram.names, angles)]
    F, error = histogram.freeEnergy, histogram.error
    with rc_context(_STYLE):
        if n == 1:
            figure = Figure(figsize=(6.0, 3.4), layout="constrained")
            axis = figure.subplots()
            x = histogram.centers[0] * scale[0]
            axis.fill_between(x, F - 2 * error, F + 2 * error, color=COLOURS[0], alpha=0.25, lw=0, label="two standard errors")
            axis.plot(x, F, "-o", color=COLOURS[0], lw=1.5, ms=3)
            axis.set(xlabel=labels[0], ylabel="free energy (kJ/mol)")
            if angles[0] and np.ptp(histogram.edges[0]) > np.pi:
                axis.set_xticks(range(-180, 181, 90))
            axis.legend(loc="best")
            axis.grid(axis="y", color="#e3e6e9", lw=0.6)
            axis.set_axisbelow(True)
            return figure
        top = highestError if highestError is not None else float(np.nanpercentile(error, 90))
        figure = Figure(figsize=(8.6, 3.9), layout="constrained")
        for axis, values, limit, colours, label in zip(figure.subplots(1, 2, sharex=True, sharey=True), (F, error), (highest, max(top, 1e-9)), (_ENERGY_MAP, _ERROR_MAP),
                                                       ("free energy (kJ/mol)", "standard error (kJ/mol)")):
            image = axis.pcolormesh(histogram.edges[0] * scale[0], histogram.edges[1] * scale[1], np.ma.masked_invalid(values).T, cmap=colours, vmin=0, vmax=limit)
            axis.set_facecolor("#d5d8db")
            axis.spines[["top", "right"]].set_visible(True)
            for setTicks, angle, edges in zip((axis.set_xticks, axis.set_yticks), angles, histogram.edges):
                if angle and np.ptp(edges) > np.pi:
                    setTicks(range(-180, 181, 90))
            axis.set_xlabel(labels[0])
            figure.colorbar(image, ax=axis, shrink=0.85, aspect=26, pad=0.02, extend="max").set_label(label)
        figure.axes[0].set_ylabel(labels[1])
        figure.axes[0].set_title("grey: no samples", fontsize=8.5, loc="left", color="#444444")
    return figure


def pathDensity(densities: Mapping[str, Any], surface: Optional[FreeEnergySurface] = None, states: Optional[Mapping[str, Any]] = None,
                points: Optional[np.ndarray] = None, pathsShown: int = 3, highest: float = 60.0) -> Figure:
    """Share of the paths that visit each cell, one panel per set of paths.

    Parameters
    ----------
    densities : mapping from names to PathDensity
        All of the same two variables.
    surface : FreeEnergySurface, optional
        Drawn as contour lines, every 10 kJ/mol.
    states : mapping from labels to StateRegion, optional
        Drawn as circles, of the first two variables.
    points : array [K, 2], optional
        Marked with crosses, such as transition states.
    pathsShown : int
        Paths drawn per set, running means where they have many points.
    highest : float
        Contour lines end here, kJ/mol.

    Returns
    -------
    Figure
    """
    first = next(iter(densities.values()))
    torsions = bool(np.allclose(first.periods, 2 * np.pi))
    unit = np.degrees if torsions else np.asarray
    columns = min(len(densities), 2)
    rows = -(-len(densities) // columns)
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.9 * columns + 1.0, 3.75 * rows + 0.35), layout=ConstrainedLayoutEngine(h_pad=0.1))
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for k, (name, density) in enumerate(densities.items()):
            axis, colour = axes.flat[k], COLOURS[(1, 3, 4, 5)[k % 4]]
            filled = axis.pcolormesh(unit(density.edges[0]), unit(density.edges[1]), density.share.T, cmap=_DENSITY_MAP, vmin=0, vmax=1, rasterized=True)
            if surface is not None:
                x = np.linspace(-np.pi, np.pi, 241)
                F = surface(np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1))
                axis.contour(unit(x), unit(x), F.T, levels=np.arange(10, highest + 1, 10), colors="#20303f", linewidths=0.35, alpha=0.5)
            for line in density.lines[:pathsShown]:
                for copy in _onTorus(_smoothed(line, 40)) if torsions else [line]:
                    axis.plot(*unit(copy).T, color=colour, lw=0.7, alpha=0.9, solid_joinstyle="round")
            for label, state in (states or {}).items():
                _drawState(axis, state, label, unit)
            if points is not None:
                shown = wrap(np.asarray(points)) if torsions else np.asarray(points)
                axis.plot(*unit(shown).T, ls="none", marker="x", color="black", ms=4, mew=0.9, zorder=6)
            axis.set_title(f"{name}: {len(density)} paths", color=colour, fontweight="bold")
            axis.set(xlim=unit(density.edges[0][[0, -1]]), ylim=unit(density.edges[1][[0, -1]]))
            if torsions:
                axis.set(xlim=(-180, 180), ylim=(-180, 180), aspect="equal", xticks=range(-180, 181, 90), yticks=range(-180, 181, 90))
            axis.spines[["top", "right"]].set_visible(True)
        for axis in axes[-1]:
            axis.set_xlabel(_label(first.names[0]) if torsions else first.names[0])
        for axis in axes[:, 0]:
            axis.set_ylabel(_label(first.names[1]) if torsions else first.names[1])
        for axis in axes.flat[len(densities):]:
            axis.set_visible(False)
        bar = figure.colorbar(filled, ax=axes, shrink=0.7, aspect=28, pad=0.02)
        bar.set_label("share of the paths that visit a cell")
        bar.set_ticks(list(np.linspace(0, 1, 6)), labels=[f"{x:.0%}" for x in np.linspace(0, 1, 6)])
        handles = [Line2D([], [], color="#333333", lw=0.9, label=f"{pathsShown} paths")]
        if surface is not None:
            handles.append(Line2D([], [], color="#20303f", lw=0.5, alpha=0.6, label="free energy, every 10 kJ/mol"))
        if states:
            handles.append(Line2D([], [], color="black", lw=0.9, ls=(0, (3, 2)), label="states"))
        if points is not None:
            handles.append(Line2D([], [], ls="none", marker="x", color="black", ms=4, mew=0.9, label="transition states"))
        figure.legend(handles=handles, loc="outside lower center", ncol=len(handles))
    return figure


def _drawState(axis: Any, state: Any, label: str, unit: Any) -> None:
    """The discs of a StateRegion in two variables, on both sides of the seam, with its name in each."""
    angle = np.linspace(0, 2 * np.pi, 73)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    periods = np.asarray(state.periods)[:2]
    # The part of the outline that lies in no other disc.
    for i, (center, radius) in enumerate(zip(state.centers[:, :2], state.radii)):
        outline = center + radius * circle
        for k in range(len(state.radii)):
            if k != i:
                d = outline - state.centers[k, :2]
                d = np.where(periods > 0, d - periods * np.round(d / np.where(periods > 0, periods, 1)), d)
                outline = np.where((np.linalg.norm(d, axis=1) < state.radii[k])[:, None], np.nan, outline)
        shifts = [(a, b) for a in ((-1, 0, 1) if periods[0] > 0 else (0,)) for b in ((-1, 0, 1) if periods[1] > 0 else (0,))]
        for a, b in shifts:
            axis.plot(*unit(outline + np.array([a, b]) * periods).T, color="black", lw=0.9, ls=(0, (3, 2)), zorder=5)
        axis.annotate(label, unit(center), fontsize=8.5, fontweight="bold", color="black", zorder=7, ha="center", va="center",
                      bbox=dict(boxstyle="round,pad=0.15", fc="white", ec="none", alpha=0.8))


def committorHistogram(results: Mapping[str, Any], bins: int = 11) -> Figure:
    """How the committors of frames are distributed, beside what trajectories from frames that all have p = 1/2 would give.

    Parameters
    ----------
    results : mapping from names to CommittorResult
    bins : int
        An odd number puts 1/2 in the middle of a bin.

    Returns
    -------
    Figure
    """
    columns = len(results)
    edges = np.linspace(0, 1, bins + 1)
    with rc_context(_STYLE):
        figure = Figure(figsize=(2.9 * columns + 0.6, 2.9), layout="constrained")
        axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
        for k, (axis, (name, result)) in enumerate(zip(axes, results.items())):
            colour = COLOURS[k % len(COLOURS)]
            p = result.p[np.isfinite(result.p)]
            axis.hist(np.minimum(p, 1 - 1e-9), bins=edges, color=colour, alpha=0.75, rwidth=0.92)
            axis.stairs(len(p) * _halfBinomial(result.shots, edges), edges, color="black", lw=1.1)
            axis.axvline(result.mean, color=colour, lw=1.4, ls=(0, (4, 2)))
            axis.set_title(f"{name}\nmean {result.mean:.2f} ± {result.meanError:.2f}", color=colour, fontweight="bold")
            axis.set(xlim=(0, 1), xlabel="committor p", xticks=[0, 0.25, 0.5, 0.75, 1])
        axes[0].set_ylabel("frames")
        axes[0].yaxis.get_major_locator().set_params(integer=True)
        figure.legend(handles=[Line2D([], [], color="black", lw=1.1, label="expected if all frames had p = 1/2"),
                               Line2D([], [], color="#555555", lw=1.4, ls=(0, (4, 2)), label="mean")], loc="outside lower center", ncol=2)
    return figure


def _halfBinomial(shots: int, edges: np.ndarray) -> np.ndarray:
    """Share of n_B/shots in each bin when n_B is binomial with p = 1/2, binned as the frames are."""
    from scipy.stats import binom

    n = np.arange(shots + 1)
    return np.histogram(np.minimum(n / shots, 1 - 1e-9), bins=edges, weights=binom.pmf(n, shots, 0.5))[0]
