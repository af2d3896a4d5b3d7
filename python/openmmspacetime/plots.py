# SPDX-License-Identifier: MIT
"""Figures of driven paths over two torsions: the surface with paths and curves, profiles along s, and work distributions.

Every function returns a matplotlib Figure made without pyplot, so nothing is shown and no global state is touched.
"""
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .surface import FreeEnergySurface, wrap

__all__ = ["alongCurve", "freeEnergyHistogram", "freeEnergyProfile", "freeEnergySurface", "overlapMatrix", "standardFigures", "swapMatrix", "workDistributions"]

#: Line colours of the rows (Okabe and Ito's set, readable with colour-blind eyes), in the order of the table.
COLOURS = ("#0072B2", "#D55E00", "#4D4D4D", "#009E73", "#CC79A7", "#E69F00")
_ENERGY_MAP = LinearSegmentedColormap.from_list("energy", ["#315b8a", "#6f9dbd", "#b5cfd6", "#e6e6dc", "#f6f3ea", "#fdfcfa"])
_STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.frameon": False,
    "legend.fontsize": 8.5, "savefig.dpi": 160, "figure.dpi": 160, "mathtext.default": "regular",
}
_SYMBOLS = {"phi": "φ", "psi": "ψ", "omega": "ω", "theta": "θ", "chi1": "χ1"}


def _label(name: str) -> str:
    return f"{_SYMBOLS.get(name, name)} (degrees)"


def _onTorus(path: np.ndarray) -> list[np.ndarray]:
    """Copies of `path` [N, 2] (rad), unwrapped, that together show all of it inside [-pi, pi]^2 when clipped.

    Whole turns are added rather than lines cut, so a line that leaves on the right comes back on the left without a gap.
    """
    path = np.asarray(path, dtype=float)
    unwrapped = np.vstack([path[:1], path[:1] + np.cumsum(wrap(np.diff(path, axis=0)), axis=0)])
    low = np.floor((unwrapped.min(axis=0) + np.pi) / (2 * np.pi)).astype(int)
    high = np.floor((unwrapped.max(axis=0) + np.pi) / (2 * np.pi)).astype(int)
    return [unwrapped - 2 * np.pi * np.array([i, j]) for i in range(low[0], high[0] + 1) for j in range(low[1], high[1] + 1)]


def _drawSurface(axis: Any, surface: FreeEnergySurface, highest: float) -> Any:
    x, y = (np.linspace(-np.pi, np.pi, 241) for _ in range(2))
    F = surface(np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1))
    levels = np.arange(0, highest + 2.5, 5.0)
    filled = axis.contourf(np.degrees(x), np.degrees(y), np.clip(F, 0, None).T, levels=levels, cmap=_ENERGY_MAP, extend="max")
    axis.contour(np.degrees(x), np.degrees(y), F.T, levels=levels[2::2], colors="#20303f", linewidths=0.35, alpha=0.45)
    axis.set(xlim=(-180, 180), ylim=(-180, 180), aspect="equal", xticks=range(-180, 181, 90), yticks=range(-180, 181, 90))
    axis.spines[["top", "right"]].set_visible(True)
    return filled


def _freeSide(point: np.ndarray, path: Optional[np.ndarray]) -> tuple[float, float]:
    """Offset in points of a label that stays inside the axes and away from where `path` [N, 2] leaves `point`."""
    p = wrap(point)
    sides = [(0.0, 13.0, p[1] < 2.4), (0.0, -13.0, p[1] > -2.4), (25.0, 0.0, p[0] < 2.0), (-25.0, 0.0, p[0] > -2.0)]
    inside = [(x, y) for x, y, fits in sides if fits]
    if path is None:
        return inside[0]
    away = wrap(np.asarray(path) - p)
    near = away[(np.linalg.norm(away, axis=1) > 0.1) & (np.linalg.norm(away, axis=1) < 0.8)]
    direction = near.mean(axis=0) if len(near) else np.zeros(2)
    return min(inside, key=lambda o: float(np.dot(direction, o)) / np.hypot(*o))


def _mark(axis: Any, point: np.ndarray, text: str, offset: tuple[float, float]) -> None:
    p = np.degrees(wrap(point))
    axis.plot(*p, "o", ms=5.5, mfc="white", mec="black", mew=1.1, zorder=6)
    axis.annotate(text, p, xytext=offset, textcoords="offset points", fontsize=8.5, fontweight="bold", color="black", zorder=7,
                  ha="center", va="center", bbox=dict(boxstyle="round,pad=0.15", fc="white", ec="none", alpha=0.8))


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
    columns = min(n, 2)
    window = max(20, max(len(np.asarray(e[0].variables)) for e in ensembles.values()) // 200)
    rows = -(-n // columns)
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.9 * columns + 1.0, 3.75 * rows + 0.35), layout="constrained")
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
                _mark(axis, np.asarray(point), label, _freeSide(np.asarray(point), None if means is None else means.get(name)))
            axis.set_title(name, color=colour, fontweight="bold")
        for axis in axes[-1]:
            axis.set_xlabel(_label(surface.names[0]))
        for axis in axes[:, 0]:
            axis.set_ylabel(_label(surface.names[1]))
        for axis in axes.flat[n:]:
            axis.set_visible(False)
        bar = figure.colorbar(filled, ax=axes, shrink=0.7, aspect=28, pad=0.02)
        bar.set_label("free energy (kJ/mol)")
        bar.set_ticks(np.arange(0, highest + 1, 10))
        handles = [Line2D([], [], color="#333333", lw=2.0, label="mean of the posterior along the curve"),
                   Line2D([], [], color="#333333", lw=0.7, alpha=0.7, label=f"{pathsShown} driven paths (running mean of {window} steps)")]
        if means is None:
            handles = handles[1:]
        if saddle is not None:
            handles.append(Line2D([], [], ls="none", marker="x", color="black", ms=6, mew=1.5, label="lowest pass"))
        figure.legend(handles=handles, loc="outside lower center", ncol=len(handles))
    return figure


def _smoothed(x: np.ndarray, window: int) -> np.ndarray:
    """Running mean over `window` rows of angles [steps, 2], thinned to one row per window/2."""
    if len(x) < 2 * window:
        return x
    unwrapped = np.unwrap(x, axis=0)
    sums = np.vstack([np.zeros(x.shape[1]), np.cumsum(unwrapped, axis=0)])
    means = (sums[window:] - sums[:-window]) / window
    return means[:: max(1, window // 2)]


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
            if withF:
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
        for k, (name, ensemble) in enumerate(ensembles.items()):
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
    """The figures that a report gets by default, as (figure, title, caption): what the data allow of surface, profiles and work."""
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
    dFs = {row["dF"] for row in report.rows}
    dF = dFs.pop() if len(dFs) == 1 else None
    figure = workDistributions(ensembles, dF if dF is not None and np.isfinite(dF) else None)
    out.append((figure, "Work", "Each dot is the work of one path; diamonds are means with standard errors."
                + (" The dashed line is the free-energy difference: the distance of a mean from it is the dissipated work."
                   if dF is not None and np.isfinite(dF) else "")))
    return out


# ---- free energies of states

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


_MATRIX_MAP = LinearSegmentedColormap.from_list("matrix", ["#fdfcfa", "#cfdde6", "#6f9dbd", "#1d4a7a"])
_ERROR_MAP = LinearSegmentedColormap.from_list("error", ["#fdfcfa", "#f3d9b8", "#d9822b", "#7a3a06"])
