# SPDX-License-Identifier: MIT
"""Figures of probability-density geodesics: paths on the map of the density, profiles along them, sequences. They are all in `openmmspacetime.plots`."""
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from .density import DensityPath, SequenceAnalysis, _modelDensity
from .geodesics import _kelvin
from .plotstyle import _ENERGY_MAP, _STYLE, COLOURS, _freeSide, _label, _mark, _onTorus
from .surface import GAS_CONSTANT, FreeEnergySurface, wrap

__all__ = ["densityPaths", "densityProfiles", "sequenceAnalysis"]


def _integrated(field: Any, x: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """log p on a grid [shape] of coordinates x [K, 2] whose score is all that is known: the function whose differences fit the scores best."""
    from scipy.sparse import diags, eye, kron, vstack
    from scipy.sparse.linalg import lsqr

    scores, points = field.score(x).reshape(*shape, 2), x.reshape(*shape, 2)
    first = (0.5 * (scores[1:] + scores[:-1]) * np.diff(points, axis=0)).sum(axis=2)
    second = (0.5 * (scores[:, 1:] + scores[:, :-1]) * np.diff(points, axis=1)).sum(axis=2)
    steps = [diags([-1.0, 1.0], [0, 1], shape=(n - 1, n)) for n in shape]
    equations = vstack([kron(steps[0], eye(shape[1])), kron(eye(shape[0]), steps[1])]).tocsr()
    return lsqr(equations, np.concatenate([first.ravel(), second.ravel()]), atol=1e-8, btol=1e-8)[0].reshape(shape)


def _freeEnergy(density: Any, x: np.ndarray, y: np.ndarray, kT: float) -> np.ndarray:
    """F [len(x), len(y)] above its lowest value on a grid of raw values: of a surface as it is, of a field -kT log p."""
    raw = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    if isinstance(density, FreeEnergySurface):
        return density(raw)
    model, points = _modelDensity(density), raw.reshape(-1, 2)
    if model is not None:
        points = model.coordinates(points)
    logDensity = density.logDensity(points).reshape(len(x), len(y)) if density.hasLogDensity else _integrated(density, points, (len(x), len(y)))
    return -kT * (logDensity - logDensity.max())


def _highest(line: np.ndarray, x: np.ndarray, y: np.ndarray, F: np.ndarray, middle: Optional[np.ndarray]) -> float:
    """The highest of the grid's values next to the nodes of a line [N, 2], which comes back on the other side of the torus about `middle`."""
    at = line if middle is None else wrap(line - middle) + middle
    i, j = (np.clip(np.round((at[:, d] - axis[0]) / (axis[1] - axis[0])).astype(int), 0, len(axis) - 1) for d, axis in enumerate((x, y)))
    return float(F[i, j].max())


def _niceTop(value: float) -> float:
    """The least number above `value` of which a twelfth is 1, 2, 2.5 or 5 times a power of ten."""
    step = max(value, 1e-3) / 12
    power = 10.0 ** np.floor(np.log10(step))
    return 12 * power * next(f for f in (1, 2, 2.5, 5, 10) if f * power >= step * (1 - 1e-9))


def densityPaths(density: Any, paths: Mapping[str, Any], states: Optional[Mapping[str, Sequence[float]]] = None, temperature=None, highest: Optional[float] = None,
                 limits: Optional[Sequence[tuple[float, float]]] = None, points: int = 161) -> Figure:
    """Paths on the map of a density of two variables, on the whole torus where both are torsions.

    Parameters
    ----------
    density : DensityField or FreeEnergySurface
        Where only the score is known the map is that function which fits the scores on the grid best.
    paths : mapping from names to DensityPath, FreeEnergyPath or arrays [N, 2] in raw units
        The first is drawn on top.
    states : mapping from labels to positions [2], optional
        In raw units; by default the ends of the first path, without labels.
    temperature : float or Quantity, optional
        K: the map is -kT log p in kJ/mol instead of -log p in nats. A surface needs none.
    highest : float, optional
        Top of the colour scale; by default some 1.4 times the highest point of the first path.
    limits : ((low, high), (low, high)), optional
        Part that is shown, raw units (rad for torsions); by default the whole torus, or the surroundings of the paths where there is none.
    points : int
        Of the map in either direction.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        For a density that has not two variables, or no paths.
    """
    if not paths:
        raise ValueError("densityPaths: expected a mapping from names to paths, got nothing")
    surface = isinstance(density, FreeEnergySurface)
    if not surface and density.dimension != 2:
        raise ValueError(f"densityPaths: expected a density of two variables, got {density.dimension}")
    model = None if surface else _modelDensity(density)
    names = list(density.names) if surface else [f"x{j + 1}" for j in range(2)] if model is None else model.variables.names
    periods = np.full(2, 2 * np.pi) if surface else density.periods if model is None else np.array([v.period for v in model.variables])
    torsions = bool(np.allclose(periods, 2 * np.pi))
    unit = np.degrees if torsions else np.asarray
    lines = {name: np.asarray(getattr(path, "path", path), dtype=float) for name, path in paths.items()}
    if limits is None and torsions:
        limits = [(-np.pi, np.pi)] * 2
    elif limits is None:
        low, high = np.min([line.min(axis=0) for line in lines.values()], axis=0), np.max([line.max(axis=0) for line in lines.values()], axis=0)
        margin = 0.25 * (high - low).max()
        limits = np.stack([low - margin, high + margin], axis=1)
    kT = 1.0 if temperature is None else GAS_CONSTANT * _kelvin(temperature)
    inNats = not surface and temperature is None
    x, y = (np.linspace(low, high, points) for low, high in limits)
    F = _freeEnergy(density, x, y, kT)
    middle = np.array([0.5 * (low + high) for low, high in limits])
    top = highest if highest is not None else _niceTop(1.4 * _highest(next(iter(lines.values())), x, y, F, middle if torsions else None))
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 5.0), layout="constrained")
        axis = figure.subplots()
        levels = np.linspace(0, top, 13)
        filled = axis.contourf(unit(x), unit(y), np.clip(F, 0, None).T, levels=levels, cmap=_ENERGY_MAP, extend="max")
        axis.contour(unit(x), unit(y), F.T, levels=levels[1:], colors="#20303f", linewidths=0.35, alpha=0.45)
        for k, (name, line) in reversed(list(enumerate(lines.items()))):
            colour, order = COLOURS[k % len(COLOURS)], 4 + 2 * (len(lines) - k)
            copies = [copy + middle for copy in _onTorus(line - middle)] if torsions else [line]
            for i, copy in enumerate(copies):
                axis.plot(*unit(copy).T, color="white", lw=3.4, solid_capstyle="round", zorder=order)
                axis.plot(*unit(copy).T, color=colour, lw=1.9, solid_capstyle="round", zorder=order + 1, label=name if i == 0 else None)
        first = next(iter(lines.values()))
        for label, point in states.items() if states else (("", first[0]), ("", first[-1])):
            p = np.asarray(point, dtype=float)
            if torsions:
                p = wrap(p - middle) + middle
            offset = _freeSide(p - middle, first - middle) if torsions else (0.0, 13.0)
            _mark(axis, unit(p), label, offset, zorder=6 + 2 * len(lines))
        axis.set(xlim=unit(limits[0]), ylim=unit(limits[1]))
        if torsions:
            axis.set(xlabel=_label(names[0]), ylabel=_label(names[1]), aspect="equal")
            for setTicks, limit in zip((axis.set_xticks, axis.set_yticks), limits):
                if limit[1] - limit[0] > np.pi:
                    setTicks([t for t in range(-720, 721, 90) if np.degrees(limit[0]) - 0.1 <= t <= np.degrees(limit[1]) + 0.1])
        else:
            axis.set(xlabel=names[0], ylabel=names[1])
        axis.spines[["top", "right"]].set_visible(True)
        figure.colorbar(filled, ax=axis, shrink=0.8, aspect=28, pad=0.02, ticks=levels[::2]).set_label("−log p (nats)" if inNats else "free energy (kJ/mol)")
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncol=len(lines) if len(lines) < 4 else 2)
    return figure


def _share(path: DensityPath) -> np.ndarray:
    """Share of the path's length up to each of its nodes."""
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path.coordinates, axis=0), axis=1))])
    return s / s[-1]


def densityProfiles(paths: Mapping[str, DensityPath], temperature=None) -> Figure:
    """Log-density relative to the start along paths.

    Parameters
    ----------
    paths : mapping from names to DensityPath
        Those of `densityProfile` too.
    temperature : float or Quantity, optional
        K: -kT log p in kJ/mol instead of log p in nats.

    Returns
    -------
    Figure
    """
    if not paths:
        raise ValueError("densityProfiles: expected a mapping from names to DensityPaths, got nothing")
    with rc_context(_STYLE):
        figure = Figure(figsize=(6.6, 3.6), layout="constrained")
        axis = figure.subplots()
        for k, (name, path) in enumerate(paths.items()):
            axis.plot(_share(path), path.logDensity if temperature is None else path.freeEnergy(temperature), color=COLOURS[k % len(COLOURS)], lw=1.8, label=name,
                      zorder=3 + len(paths) - k)
        axis.set(xlim=(0, 1), xlabel="share of the path's length", ylabel="log p relative to the start (nats)" if temperature is None else "−kT log p relative to the start (kJ/mol)")
        axis.grid(axis="y", color="#e3e6e9", lw=0.6)
        axis.set_axisbelow(True)
        figure.legend(loc="outside upper center", ncol=min(4, len(paths)))
    return figure


def sequenceAnalysis(analysis: SequenceAnalysis) -> Figure:
    """Is a sequence a geodesic? Angle between force and bending, residual and log-density along it, the last beside geodesic and straight line.

    Parameters
    ----------
    analysis : SequenceAnalysis
        Of `analyzeSequence`.

    Returns
    -------
    Figure
    """
    s = _share(analysis.frames)
    with rc_context(_STYLE):
        figure = Figure(figsize=(6.6, 6.2), layout="constrained")
        angle, residual, profile = figure.subplots(3, 1, sharex=True)
        for axis, values, expected, label, limits in ((angle, analysis.angle, 180, "angle between force\nand bending (degrees)", (-8, 190)),
                                                      (residual, analysis.residual, 0, "residual", (-0.03, 1.05))):
            axis.axhline(expected, color="black", lw=1.0, ls=(0, (4, 2)))
            axis.plot(s[1:-1], values, color=COLOURS[1], ls="none" if axis is angle else "-", lw=1.4, marker="o", ms=3.2 if len(s) <= 80 else 1.6)
            axis.set(ylim=limits, ylabel=label)
        angle.set_yticks([0, 45, 90, 135, 180])
        angle.set_title("dashed: on a geodesic", fontsize=8.5, loc="left", color="#444444")
        for k, (name, path) in reversed(list(enumerate({"geodesic": analysis.geodesic, "sequence": analysis.frames, "straight line": analysis.line}.items()))):
            profile.plot(_share(path), path.logDensity, color=COLOURS[k], lw=1.8, label=name)
        profile.set(xlim=(0, 1), xlabel="share of the length", ylabel="log p relative to\nthe start (nats)")
        for axis in (angle, residual, profile):
            axis.grid(axis="y", color="#e3e6e9", lw=0.6)
            axis.set_axisbelow(True)
        handles, labels = profile.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncol=3)
    return figure
