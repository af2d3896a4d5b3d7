# SPDX-License-Identifier: MIT
"""Figures of driven paths over two torsions: the surface with paths and curves, profiles along s, and work distributions.

Every function returns a matplotlib Figure made without pyplot, so nothing is shown and no global state is touched.
"""
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .densityplots import densityPaths, densityProfiles, sequenceAnalysis
from .evidenceplots import (
    committorHistogram,
    freeEnergyHistogram,
    freeEnergyProfile,
    overlapMatrix,
    pathDensity,
    swapMatrix,
)
from .plotstyle import (
    _ENERGY_MAP,
    _STYLE,
    _SYMBOLS,
    COLOURS,
    _freeSide,
    _label,
    _mark,
    _onTorus,
    _smoothed,
)
from .surface import FreeEnergySurface, wrap

__all__ = ["alongCurve", "committorHistogram", "densityPaths", "densityProfiles", "freeEnergyHistogram", "freeEnergyProfile", "freeEnergySurface", "overlapMatrix",
           "pathDensity", "sequenceAnalysis", "standardFigures", "swapMatrix", "workDistributions"]


def _drawSurface(axis: Any, surface: FreeEnergySurface, highest: float) -> Any:
    x, y = (np.linspace(-np.pi, np.pi, 241) for _ in range(2))
    F = surface(np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1))
    levels = np.arange(0, highest + 2.5, 5.0)
    filled = axis.contourf(np.degrees(x), np.degrees(y), np.clip(F, 0, None).T, levels=levels, cmap=_ENERGY_MAP, extend="max")
    axis.contour(np.degrees(x), np.degrees(y), F.T, levels=levels[2::2], colors="#20303f", linewidths=0.35, alpha=0.45)
    axis.set(xlim=(-180, 180), ylim=(-180, 180), aspect="equal", xticks=range(-180, 181, 90), yticks=range(-180, 181, 90))
    axis.spines[["top", "right"]].set_visible(True)
    return filled


def freeEnergySurface(surface: FreeEnergySurface, ensembles: Mapping[str, Any],
                      means: Optional[Mapping[str, np.ndarray]] = None, states: Optional[Mapping[str, np.ndarray]] = None,
                      saddle: Optional[np.ndarray] = None, highest: float = 60.0, pathsShown: int = 6) -> Figure:
    """The surface once per ensemble, with some of its paths and the mean of the posterior along its curve.

    Parameters
    ----------
    surface : FreeEnergySurface
    ensembles : mapping from names to PathEnsemble
    means : mapping from names to arrays [N + 1, 2], optional
        Positions of the posterior mean along each curve, rad.
    states : mapping from labels to positions [2], optional
    saddle : array [2], optional
        Marked with a cross.
    highest : float
        Top of the colour scale, kJ/mol.
    pathsShown : int
        Paths drawn per ensemble; running means, over a 200th of the path or 20 steps, keep them readable.

    Returns
    -------
    Figure
    """
    n = len(ensembles)
    columns = min(n, 2) if n <= 4 else 3
    window = max(20, max(len(np.asarray(e[0].variables)) for e in ensembles.values()) // 200)
    rows = -(-n // columns)
    with rc_context(_STYLE):
        figure = Figure(figsize=((3.9 if columns < 3 else 3.0) * columns + 1.0, (3.75 if columns < 3 else 3.0) * rows + 0.35), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for k, (name, ensemble) in enumerate(ensembles.items()):
            axis, colour = axes.flat[k], COLOURS[k % len(COLOURS)]
            filled = _drawSurface(axis, surface, highest)
            for record in list(ensemble)[:pathsShown]:
                for copy in _onTorus(_smoothed(np.asarray(record.variables, dtype=float), window)):
                    axis.plot(*np.degrees(copy).T, color=colour, lw=0.45, alpha=0.45, solid_joinstyle="round")
            if means is not None and name in means:
                for copy in _onTorus(means[name]):
                    axis.plot(*np.degrees(copy).T, color="white", lw=3.6, solid_capstyle="round", zorder=4)
                    axis.plot(*np.degrees(copy).T, color=colour, lw=2.0, solid_capstyle="round", zorder=5)
            if saddle is not None:
                axis.plot(*np.degrees(wrap(saddle)), "x", color="black", ms=7, mew=1.6, zorder=6)
            for label, point in (states or {}).items():
                _mark(axis, np.degrees(wrap(point)), label, _freeSide(np.asarray(point), None if means is None else means.get(name)))
            axis.set_title(name, color=colour, fontweight="bold")
        for k in range(max(0, n - columns), n):  # the lowest of each column
            axes.flat[k].set_xlabel(_label(surface.names[0]))
            axes.flat[k].tick_params(labelbottom=True)
        for axis in axes[:, 0]:
            axis.set_ylabel(_label(surface.names[1]))
        for axis in axes.flat[n:]:
            axis.set_visible(False)
        bar = figure.colorbar(filled, ax=axes, shrink=0.7, aspect=28, pad=0.02)
        bar.set_label("free energy (kJ/mol)")
        bar.set_ticks(list(np.arange(0, highest + 1, 10)))
        handles = [Line2D([], [], color="#333333", lw=2.0, label="mean of the posterior along the curve"),
                   Line2D([], [], color="#333333", lw=0.7, alpha=0.7, label=f"{pathsShown} driven paths (running mean of {window} steps)")]
        if means is None:
            handles = handles[1:]
        if saddle is not None:
            handles.append(Line2D([], [], ls="none", marker="x", color="black", ms=6, mew=1.5, label="lowest pass"))
        figure.legend(handles=handles, loc="outside lower center", ncol=len(handles))
    return figure


def _kappas(eta: np.ndarray) -> np.ndarray:
    """kappa of every torsion [N + 1, n] of lifted natural parameters [N + 1, 2 n]."""
    pairs = np.asarray(eta).reshape(len(eta), -1, 2)
    return np.linalg.norm(pairs, axis=2)


def _binned(s: np.ndarray, y: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, mean and standard deviation of y in equal bins of s."""
    cell = np.minimum((np.asarray(s) * bins).astype(int), bins - 1)
    count = np.maximum(np.bincount(cell, minlength=bins), 1)
    mean = np.bincount(cell, weights=y, minlength=bins) / count
    var = np.bincount(cell, weights=y * y, minlength=bins) / count - mean**2
    return (np.arange(bins) + 0.5) / bins, mean, np.sqrt(np.maximum(var, 0))


def alongCurve(curves: Mapping[str, Any], surface: Optional[FreeEnergySurface] = None,
               means: Optional[Mapping[str, np.ndarray]] = None, ensembles: Optional[Mapping[str, Any]] = None,
               names: Sequence[str] = ("phi", "psi"), referenceEnergy: float = 0.0, bins: int = 64) -> Figure:
    """Log-SNR, free energy and potential energy along s.

    Parameters
    ----------
    curves : mapping from names to objects with `s` [N + 1] and `eta` [N + 1, 2 n]
        All variables torsions; kappa = exp(log-SNR).
    surface : FreeEnergySurface, optional
    means : mapping from names to arrays [N + 1, 2], optional
        Positions of the posterior mean, rad: F there is drawn as a dashed line.
    ensembles : mapping from names to PathEnsemble, optional
        Mean F and mean potential energy of the frames are drawn as full lines.
    names : sequence of str
        Names of the torsions.
    referenceEnergy : float
        U(A), subtracted from the potential energy, kJ/mol.
    bins : int
        Bins of s for means over frames.

    Returns
    -------
    Figure
    """
    ensembles = ensembles or {}
    withF = surface is not None and bool(means or ensembles)
    withU = any(len(r.potentialEnergy) for e in ensembles.values() for r in e)
    panels = len(names) + int(withF) + int(withU)
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.8, 1.75 * panels + 0.8), layout="constrained")
        axes = np.atleast_1d(figure.subplots(panels, 1, sharex=True))
        for k, (name, curve) in enumerate(curves.items()):
            colour = COLOURS[k % len(COLOURS)]
            # The straight lines share one constant log-SNR: dashes let the lower one show through.
            kappa = _kappas(curve.eta)
            for j in range(len(names)):
                axes[j].plot(curve.s, np.log(np.maximum(kappa[:, j], 1e-12)), color=colour, lw=1.8,
                             ls="-" if k % 2 == 0 else (0, (5, 2)), label=name if j == 0 else None)
            row = len(names)
            if surface is not None and withF:
                if means and name in means:
                    axes[row].plot(curve.s, surface(means[name]), color=colour, lw=1.0, ls=(0, (2, 1.5)))
                if name in ensembles:
                    frames = [(np.asarray(r.s), surface(np.asarray(r.variables, dtype=float))) for r in ensembles[name]]
                    x, y, _ = _binned(np.concatenate([f[0] for f in frames]), np.concatenate([f[1] for f in frames]), bins)
                    axes[row].plot(x, y, color=colour, lw=1.8)
                row += 1
            if withU and name in ensembles:
                frames = [(np.asarray(r.s)[np.asarray(r.energySteps, dtype=int)], np.asarray(r.potentialEnergy)) for r in ensembles[name]]
                x, y, _ = _binned(np.concatenate([f[0] for f in frames]), np.concatenate([f[1] for f in frames]) - referenceEnergy, bins // 2)
                axes[row].plot(x, y, color=colour, lw=1.8)
        for j, variable in enumerate(names):
            low, high = axes[j].get_ylim()
            middle, half = (low + high) / 2, max(high - low, 1.0) / 2  # constant lines look constant
            axes[j].set_ylim(middle - half, middle + half)
            axes[j].ticklabel_format(axis="y", useOffset=False)
            axes[j].set_ylabel(f"log-SNR of {_SYMBOLS.get(variable, variable)}\n(= log κ)")
        row = len(names)
        if withF:
            axes[row].set_ylabel("free energy\n(kJ/mol)")
            parts = (["mean over frames (full)"] if ensembles else []) + (["at the posterior mean (dotted)"] if means else [])
            axes[row].set_title("F: " + ", ".join(parts), fontsize=8.5, loc="left", color="#444444")
            row += 1
        if withU:
            axes[row].set_ylabel("U − U(A)\n(kJ/mol)" if referenceEnergy else "U (kJ/mol)")
            axes[row].set_title("U: potential energy without the bias, mean over frames", fontsize=8.5, loc="left", color="#444444")
        axes[-1].set_xlabel("s: share of the Fisher–Rao length (uniform straight line: share of the angles)")
        axes[-1].set_xlim(0, 1)
        for axis in axes:
            axis.grid(axis="y", color="#e3e6e9", lw=0.6)
            axis.set_axisbelow(True)
        figure.legend(loc="outside upper center", ncol=2)
    return figure


def workDistributions(ensembles: Mapping[str, Any], dF: Optional[float] = None, seed: int = 0) -> Figure:
    """Work of every path, one line per ensemble, with mean and standard error.

    Parameters
    ----------
    ensembles : mapping from names to PathEnsemble
    dF : float, optional
        Free-energy difference of the biased ends, kJ/mol: the reversible work.
    seed : int
        Of the vertical jitter.

    Returns
    -------
    Figure
    """
    rng = np.random.default_rng(seed)
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.8, 0.75 * len(ensembles) + 1.3), layout="constrained")
        axis = figure.subplots()
        everything = []
        for k, ensemble in enumerate(ensembles.values()):
            work = np.array([r.work for r in ensemble], dtype=float)
            everything.append(work)
            colour, y = COLOURS[k % len(COLOURS)], -k
            axis.plot(work, y + rng.uniform(-0.17, 0.17, len(work)), "o", ms=4, mfc=colour, mec="none", alpha=0.55)
            if len(work) > 1:
                axis.errorbar(work.mean(), y + 0.33, xerr=work.std(ddof=1) / np.sqrt(len(work)), fmt="D", ms=4, color="black",
                              capsize=3, lw=1.1)
        if dF is not None:
            axis.axvline(dF, color="black", lw=1.0, ls=(0, (4, 2)), zorder=0)
            axis.annotate(f"ΔF {dF:.1f}", (dF, 0.62), ha="center", va="bottom", fontsize=8.5, annotation_clip=False)
            everything.append(np.array([dF]))
        values = np.concatenate(everything)
        pad = 0.06 * max(np.ptp(values), 1.0)
        axis.set(xlim=(values.min() - pad, values.max() + pad), ylim=(-len(ensembles) + 0.45, 0.6), xlabel="work of the bias along one path (kJ/mol)")
        axis.set_yticks([-k for k in range(len(ensembles))], list(ensembles))
        for k, tick in enumerate(axis.get_yticklabels()):
            tick.set_color(COLOURS[k % len(COLOURS)])
        handles = [Line2D([], [], ls="none", marker="o", ms=4, color="#777777", alpha=0.7, label="one path"),
                   Line2D([], [], marker="D", ms=4, color="black", lw=1.1, label="mean ± standard error")]
        if dF is not None:
            handles.append(Line2D([], [], color="black", lw=1.0, ls=(0, (4, 2)), label="free-energy difference of the biased ends"))
        figure.legend(handles=handles, loc="outside lower center", ncol=len(handles))
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.grid(axis="x", color="#e3e6e9", lw=0.6)
        axis.set_axisbelow(True)
    return figure


class _Nodes:
    """s and eta of an ensemble, where no Curve object is at hand."""

    def __init__(self, ensemble: Any):
        self.s, self.eta = np.asarray(ensemble.s), np.asarray(ensemble.eta)


def standardFigures(report: Any, curves: Optional[Mapping[str, Any]] = None, means: Optional[Mapping[str, np.ndarray]] = None,
                    stateNames: tuple[str, str] = ("A", "B"), referenceEnergy: float = 0.0) -> list[tuple[Figure, str, str]]:
    """The figures that a report gets by default, as (figure, title, caption): what the data allow of surface, profiles, work and committors."""
    ensembles, surface = report.ensembles, report.surface
    names = list(next(iter(ensembles.values())).names)
    torsions = all(np.asarray(e.eta).shape[-1] == 2 * len(names) for e in ensembles.values())
    curves = curves or {name: _Nodes(e) for name, e in ensembles.items()}
    out = []
    if surface is not None:
        figure = freeEnergySurface(surface, ensembles, means, {stateNames[0]: report.start, stateNames[1]: report.target},
                                   None if report.saddle is None else report.saddle[0])
        out.append((figure, "Paths on the free-energy surface",
                    f"Thin lines: driven paths. Thick lines: mean of the posterior along the curve. Surface: {surface.description or 'as given'}."))
    if torsions:
        figure = alongCurve(curves, surface, means, ensembles, names, referenceEnergy)
        out.append((figure, "Along the curves", "How sharply each curve holds the torsions, and what the molecule feels on the way."))
    dFs = {row["dF"] for row in report.rows if "dF" in row}
    dF = dFs.pop() if len(dFs) == 1 else None
    figure = workDistributions(ensembles, dF if dF is not None and np.isfinite(dF) else None)
    out.append((figure, "Work", "Each dot is the work of one path; diamonds are means with standard errors."
                + (" The dashed line is the free-energy difference: the distance of a mean from it is the dissipated work."
                   if dF is not None and np.isfinite(dF) else "")))
    if report.committors:
        out.append((committorHistogram(report.committors), "Committors", "Shares of unbiased trajectories from frames of the row's paths that reach B before A."))
    return out
