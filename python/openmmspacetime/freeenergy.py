# SPDX-License-Identifier: MIT
"""Curves on free-energy surfaces: the minimum free-energy path, and how high and how stiff a driven curve is."""
from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Callable, Optional, Sequence, Union

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .analysis import _number
from .geodesics import _kelvin
from .surface import GAS_CONSTANT, FreeEnergySurface, stationaryPoint

__all__ = ["FreeEnergyPath", "criticalKappa", "highestFreeEnergy", "minimumFreeEnergyPath", "stiffness"]

#: Periodic variables that are tried both ways round.
MAX_WINDING_VARIABLES = 4

Surface = Union[FreeEnergySurface, Callable[[np.ndarray], np.ndarray]]


@dataclass
class FreeEnergyPath:
    """A minimum free-energy path: the gradient of F is parallel to it everywhere.

    Attributes
    ----------
    path : array [N, n]
        Nodes at equal distances along the path, raw units, unwrapped: whole turns are kept.
    freeEnergy : array [N]
        F at the nodes in kJ/mol, on the scale of the surface (above its global minimum for a `FreeEnergySurface`).
    passes : list of (position [n], F)
        Saddles crossed, in the order of the path, refined by Newton's method. Empty where F only rises or falls.
    saddle : (position [n], F)
        The highest point: the highest pass, or the higher end where no pass is higher than both ends.
    residual : float
        Largest part of the gradient that is normal to the path, kJ/mol per raw unit (rad), over the inner nodes of the pieces from minimum to
        minimum that the path is made of.
    iterations : int
        Of the string and of Newton's method, all pieces together.
    windings : array of int [n]
        Whole turns added per variable to the short way round, 0 for variables that are not periodic.
    converged : bool
        Whether the residual fell below the tolerance.
    others : list of FreeEnergyPath
        The paths of the other windings, by rising highest F.
    """

    path: np.ndarray
    freeEnergy: np.ndarray
    passes: list[tuple[np.ndarray, float]]
    saddle: tuple[np.ndarray, float]
    residual: float
    iterations: int
    windings: np.ndarray
    converged: bool
    others: list[FreeEnergyPath] = field(default_factory=list, repr=False)

    def curve(self, variables: _core.Variables, logSnr: float = 4.0, temperature=None) -> _core.Curve:
        """The path as a curve of tilted distributions at constant log-SNR (kappa = e^logSnr), uniform in arc length.

        The path is where the bias is centred. The mean of the tilted distribution lags behind on slopes of F, by grad F/(kT kappa) for torsions.

        Parameters
        ----------
        variables : Variables
            The n variables of the path, in its order and units.
        logSnr : float
        temperature : float or Quantity, optional
            K, recorded in the curve.

        Returns
        -------
        Curve

        Raises
        ------
        ValueError
            For another number of variables or a log-SNR that is not finite.
        """
        return tiltedCurve(self.path, variables, logSnr, temperature, "FreeEnergyPath.curve")


class _Landscape:
    """F with derivatives and periods: a FreeEnergySurface as it is, a callable by central differences of steps `h` [n]."""

    def __init__(self, F: Surface, periods: ArrayLike, h: np.ndarray, what: str):
        self.F, self.periods, self.h, self.what = F, np.asarray(periods, dtype=float), np.asarray(h, dtype=float), what
        self.surface = F if isinstance(F, FreeEnergySurface) else None  # which has derivatives of its own

    def __call__(self, c: np.ndarray) -> np.ndarray:
        value = np.asarray(self.F(c), dtype=float)
        if value.shape != c.shape[:-1]:
            raise ValueError(f"{self.what}: expected F to turn points of shape {c.shape} into values of shape {c.shape[:-1]}, got {value.shape}")
        if not np.all(np.isfinite(value)):
            at = np.argwhere(~np.isfinite(value))[0]
            raise ValueError(f"{self.what}: F is {value[tuple(at)]} at {_text(c[tuple(at)])}, expected finite values on and around the path")
        return value

    def derivatives(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient [..., n] and Hessian [..., n, n] at c [..., n]."""
        return (self.gradient(c), self.hessian(c)) if self.surface is None else self.surface._derivatives(c)

    def gradient(self, c: np.ndarray) -> np.ndarray:
        if self.surface is not None:
            return self.surface.gradient(c)
        e = np.diag(self.h)
        f = self(np.concatenate([c[..., None, :] + e, c[..., None, :] - e], axis=-2))
        n = len(e)
        return (f[..., :n] - f[..., n:]) / (2 * self.h)

    def hessian(self, c: np.ndarray) -> np.ndarray:
        if self.surface is not None:
            return self.surface.hessian(c)
        # A wider step than for the gradient: rounding errors grow with its inverse square.
        n, h = len(self.h), 10 * self.h
        e = np.diag(h)
        pairs = list(itertools.combinations(range(n), 2))
        offsets = [np.zeros(n), *e, *-e] + [a * e[i] + b * e[j] for i, j in pairs for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        f = self(c[..., None, :] + np.array(offsets))
        result = np.zeros(c.shape + (n,))
        for i in range(n):
            result[..., i, i] = (f[..., 1 + i] - 2 * f[..., 0] + f[..., 1 + n + i]) / h[i] ** 2
        for k, (i, j) in enumerate(pairs):
            q = 1 + 2 * n + 4 * k
            cross = (f[..., q] - f[..., q + 1] - f[..., q + 2] + f[..., q + 3]) / (4 * h[i] * h[j])
            result[..., i, j] = result[..., j, i] = cross
        return result


def _text(c: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in np.atleast_1d(c)) + ")"


def _arcLength(x: np.ndarray) -> np.ndarray:
    """Length of the polyline x [N, n] up to each of its nodes [N]."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(x, axis=0), axis=1))])


def tiltedCurve(path: np.ndarray, variables: _core.Variables, logSnr: float, temperature, what: str) -> _core.Curve:
    """A path [N, n] in raw units as a curve of tilted distributions at constant log-SNR, uniform in arc length; `what` is its name in errors."""
    if len(variables) != path.shape[1]:
        raise ValueError(f"{what}: expected {path.shape[1]} variables, got {len(variables)} ({', '.join(variables.names)})")
    s = _arcLength(path)
    curve = _core.Curve(variables, s / s[-1], np.array([variables.naturalParameter(c, logSnr) for c in path]))
    curve.temperature = _kelvin(temperature)
    return curve


def _distinct(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Arc length [M] and nodes [M, n] of the polyline x [N, n], nodes that meet counted once; the ends stay."""
    s = _arcLength(x)
    keep = np.append(np.diff(s) > 1e-9 * s[-1], True)  # of nodes that meet the last
    s[keep.argmax()] = 0.0
    return s[keep], np.vstack([x[:1], x[keep][1:]])


def _respaced(x: np.ndarray, points: int) -> np.ndarray:
    """`points` nodes at equal distances on the cubic spline through x [N, n]; x itself where its nodes are there already."""
    from scipy.interpolate import CubicSpline

    s, x = _distinct(x)
    return CubicSpline(s, x)(np.linspace(0, s[-1], points))


@lru_cache(maxsize=16)
def _splineDerivative(points: int) -> np.ndarray:
    """The matrix [points, points] that turns equidistant nodes into the derivatives of the cubic spline through them."""
    from scipy.interpolate import CubicSpline

    return CubicSpline(np.arange(points), np.eye(points))(np.arange(points), 1)


def _flow(gradient: np.ndarray, hessian: np.ndarray, stride: float) -> np.ndarray:
    """Steps [N, n] of steepest descent, at most `stride` long, each for a time of its own.

    The exponential Rosenbrock-Euler step -t phi(-t H) grad F, phi(z) = (e^z - 1)/z, follows the gradient flow of the quadratic model exactly and is
    stable for every t: near a minimum it is Newton's step.
    """
    w, v = np.linalg.eigh(hessian)
    norm = np.linalg.norm(gradient, axis=1)
    # Where F curves down, by at most a factor of e away from the saddle.
    time = np.minimum(stride / np.maximum(norm, 1e-12), 1 / np.maximum(-w[:, 0], 1e-12))
    z = time[:, None] * w
    phi = np.where(np.abs(z) > 1e-6, -np.expm1(-z) / np.where(np.abs(z) > 1e-6, z, 1.0), 1 - z / 2)
    step = -np.einsum("kij,kj->ki", v, time[:, None] * phi * np.einsum("kji,kj->ki", v, gradient))
    return step * np.minimum(1.0, stride / np.maximum(np.linalg.norm(step, axis=1), 1e-300))[:, None]


def _slide(land: _Landscape, c: np.ndarray, stride: float, closest: float) -> np.ndarray:
    """The line of steepest descent from c [n] to the minimum where it ends [k, n], in steps of `stride` until they are shorter than `closest`."""
    x = [np.array(c, dtype=float)[None]]
    for _ in range(5000):
        step = _flow(*land.derivatives(x[-1]), stride)
        x.append(x[-1] + step)
        if np.linalg.norm(step) < closest:
            return np.concatenate(x)
    raise ValueError(f"{land.what}: no minimum found downhill of {_text(c)}")


def _normalForce(x: np.ndarray, gradient: np.ndarray) -> float:
    """Largest part of `gradient` [N, n] normal to the spline through x [N, n], equidistant nodes of which the inner ones count."""
    t = _splineDerivative(len(x)) @ x
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    normal = gradient - np.sum(gradient * t, axis=1, keepdims=True) * t
    return float(np.linalg.norm(normal[1:-1], axis=1).max())


def _string(land: _Landscape, x: np.ndarray, tolerance: float, maxIterations: int) -> tuple[np.ndarray, float, int]:
    """The simplified string method from x [N, n] with fixed ends: (path [N, n], residual, iterations).

    Every node takes a step of steepest descent for a time of its own, then all are put back at equal distances: the curve that this leaves
    unchanged is a union of lines of steepest descent, whatever those times are.
    """
    every = 4  # iterations from one look at the residual to the next
    points, pace, waited = len(x), 1.0, 0
    best, bestResidual = x, np.inf
    for iteration in range(maxIterations + 1):
        gradient, hessian = land.derivatives(x)
        if iteration % every == 0 or iteration == maxIterations:
            residual = _normalForce(x, gradient)
            waited = 0 if residual < 0.98 * bestResidual else waited + every
            if residual < bestResidual:
                best, bestResidual = x, residual
            if bestResidual <= tolerance or iteration == maxIterations:
                break
            if waited > max(40, points // 3):  # no longer falling
                pace, waited = pace / 2, 0
                if pace < 1 / 16:
                    break
        step = _flow(gradient, hessian, pace * _arcLength(x)[-1] / (points - 1))
        step[[0, -1]] = 0
        x = _respaced(x + step, points)
    return best, bestResidual, iteration


def _polished(land: _Landscape, x: np.ndarray, tolerance: float, maxIterations: int) -> tuple[np.ndarray, float, int]:
    """Newton's method on all nodes of a string at once, from x [N, n] with fixed ends: (path [N, n], residual, iterations).

    Every inner node solves (1 - t t^T) grad F = 0 and, along t, equal distances to its neighbours; t is the tangent of the cubic spline through all nodes.
    """
    N, n = x.shape
    D = _splineDerivative(N)[1:-1]
    inner = np.arange(N - 2)

    def equations(x: np.ndarray) -> tuple[np.ndarray, ...]:
        gradient, speed = land.gradient(x[1:-1]), D @ x
        pace = np.linalg.norm(speed, axis=1, keepdims=True)
        t = speed / pace
        steps = np.linalg.norm(np.diff(x, axis=0), axis=1)
        weight = (1.0 + np.linalg.norm(gradient, axis=1, keepdims=True)) / steps.mean()
        E = gradient - np.sum(gradient * t, axis=1, keepdims=True) * t + weight * (steps[:-1] - steps[1:])[:, None] * t
        return E, gradient, t, pace, weight

    E, gradient, t, pace, weight = equations(x)
    residual = _normalForce(x, land.gradient(x))
    for iteration in range(1, maxIterations + 1):  # noqa: B007  # the last one is returned
        P = np.eye(n) - t[:, :, None] * t[:, None, :]
        turned = P / pace[:, :, None]  # d t_i/d (D x)_i
        along = np.sum(gradient * t, axis=1)
        A = -along[:, None, None] * turned - t[:, :, None] * np.einsum("ka,kab->kb", gradient, turned)[:, None, :]
        J = np.einsum("iab,ij->iajb", A, D)  # [N - 2, n, N, n]
        J[inner, :, inner + 1, :] += P @ land.hessian(x[1:-1])
        u = np.diff(x, axis=0)
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        pull = (weight * t)[:, :, None]
        J[inner, :, inner, :] -= pull * u[:-1, None, :]
        J[inner, :, inner + 1, :] += pull * (u[:-1] + u[1:])[:, None, :]
        J[inner, :, inner + 2, :] -= pull * u[1:, None, :]
        try:
            step = -np.linalg.solve(J[:, :, 1:-1, :].reshape((N - 2) * n, -1), E.ravel()).reshape(N - 2, n)
        except np.linalg.LinAlgError:
            break
        share = min(1.0, 2 * _arcLength(x)[-1] / (N - 1) / max(np.linalg.norm(step, axis=1).max(), 1e-300))
        while share > 1e-2:
            trial = np.vstack([x[0], x[1:-1] + share * step, x[-1]])
            new = equations(trial)
            if np.linalg.norm(new[0]) < (1 - 0.1 * share) * np.linalg.norm(E):
                break
            share /= 2
        else:
            break
        x, (E, gradient, t, pace, weight) = trial, new
        residual = _normalForce(x, land.gradient(x))
        if residual <= tolerance and np.linalg.norm(E) < 1.0:
            break
    return x, residual, iteration


def _count(x: np.ndarray, spacing: float) -> int:
    """Nodes for a piece of a path x [N, n]."""
    return max(25, int(np.ceil(_arcLength(x)[-1] / spacing)) + 1)


@dataclass
class _Piece:
    """A part of a path, with the figures of the string it comes from."""

    x: np.ndarray
    residual: float
    iterations: int


def _pieces(land: _Landscape, x: np.ndarray, spacing: float, tolerance: float, maxIterations: int, depth: int = 4) -> list[_Piece]:
    """Strings from minimum to minimum that together join the two minima at the ends of x [N, n].

    A minimum free-energy path may turn sharply at a minimum between two passes, which no spline through it follows; so the string is cut there.
    """
    rough, residual, iterations = _string(land, x, max(tolerance, 1.0), min(maxIterations, 200 + len(x)))
    f = land(rough)
    cuts = [(0, rough[0])]
    near = 4 * float(np.linalg.norm(rough[1] - rough[0]))
    for i in np.flatnonzero((f[1:-1] < f[:-2]) & (f[1:-1] <= f[2:])) + 1 if depth > 0 else ():
        minimum = _slide(land, rough[i], near / 16, 1e-6 * near)[-1]
        if np.linalg.norm(minimum - rough[i]) < near and min(np.linalg.norm(minimum - c) for c in (cuts[-1][1], rough[-1])) > 1e-4 * near:
            cuts.append((int(i), minimum))
    if len(cuts) == 1:
        best = _Piece(rough, residual, iterations)
        for method in (_polished, _string):
            if best.residual <= tolerance:
                break
            fine, residual, more = method(land, best.x, tolerance, 20 if method is _polished else maxIterations)
            best.iterations += more
            if residual < best.residual:
                best.x, best.residual = fine, residual
        return [best]
    cuts.append((len(rough) - 1, rough[-1]))
    parts = []
    for (i, a), (j, b) in zip(cuts, cuts[1:]):
        part = np.vstack([a, rough[i + 1: j], b])
        parts += _pieces(land, _respaced(part, _count(part, spacing)), spacing, tolerance, maxIterations, depth - 1)
    parts[0].iterations += iterations
    return parts


def _withoutLoops(pieces: list[_Piece], spacing: float) -> list[_Piece]:
    """The pieces [k] less those that lead from a minimum back to it."""
    kept: list[_Piece] = []
    for piece in pieces:
        kept.append(piece)
        for i, earlier in enumerate(kept):
            if np.linalg.norm(earlier.x[0] - piece.x[-1]) < 1e-2 * spacing:
                del kept[i:]
                break
    return kept


def _passes(land: _Landscape, pieces: list[_Piece]) -> list[tuple[np.ndarray, float]]:
    """Saddles along the pieces: local maxima of F on them, refined."""
    found: list[tuple[np.ndarray, float]] = []
    for piece in pieces:
        f, spacing = land(piece.x), float(np.linalg.norm(piece.x[1] - piece.x[0]))
        for i in np.flatnonzero((f[1:-1] > f[:-2]) & (f[1:-1] >= f[2:])) + 1:
            c = stationaryPoint(land.gradient, land.hessian, piece.x[i], 4 * spacing, 1, stride=spacing)
            c = piece.x[i] if c is None else c
            if not found or np.linalg.norm(c - found[-1][0]) > 1e-3 * spacing:
                found.append((c, float(land(c))))
    return found


def _joined(pieces: list[_Piece], points: int) -> np.ndarray:
    """`points` nodes [points, n] at equal distances along the pieces."""
    from scipy.interpolate import CubicSpline

    lengths = [_arcLength(p.x) for p in pieces]
    starts = np.concatenate([[0.0], np.cumsum([s[-1] for s in lengths])])
    at = np.linspace(0.0, starts[-1], points)
    which = np.clip(np.searchsorted(starts, at, side="right") - 1, 0, len(pieces) - 1)
    path = np.empty((points, pieces[0].x.shape[1]))
    for k, (piece, s) in enumerate(zip(pieces, lengths)):
        path[which == k] = CubicSpline(s, piece.x)(at[which == k] - starts[k])
    path[0], path[-1] = pieces[0].x[0], pieces[-1].x[-1]
    return path


def _descent(land: _Landscape, line: np.ndarray, spacing: float, tolerance: float) -> Optional[_Piece]:
    """A line of steepest descent [k, n] as a piece, None for a single point."""
    from scipy.interpolate import PchipInterpolator

    if len(line) == 1:
        return None
    s, line = _distinct(line)
    x = PchipInterpolator(s, line)(np.linspace(0, s[-1], _count(line, spacing)))
    piece = _Piece(x, _normalForce(x, land.gradient(x)), 0)
    if piece.residual > tolerance:
        fine, residual, piece.iterations = _polished(land, x, tolerance, 20)
        if residual < piece.residual:
            piece.x, piece.residual = fine, residual
    return piece


def minimumFreeEnergyPath(F: Surface, a: ArrayLike, b: ArrayLike, points: int = 129, *, periods: Optional[ArrayLike] = None,
                          relaxEnds: bool = False, windings: Optional[Sequence[int]] = None, tolerance: float = 0.05,
                          maxIterations: int = 2000) -> FreeEnergyPath:
    """The minimum free-energy path between two states: the lowest way over the surface, to which the gradient of F is parallel everywhere.

    The simplified string method of E, Ren and Vanden-Eijnden, J. Chem. Phys. 126, 164103 (2007): a chain of nodes slides downhill and is
    respaced to equal distances until it no longer moves sideways. It is cut at the minima it visits, and Newton's method refines the pieces
    and the passes. Every periodic variable (up to four of them) is tried both ways round; on a FreeEnergySurface one string starts from the
    way of the water that floods the surface from one minimum to the other, whose highest point is the lowest pass there is.

    The path depends on the metric, here Euclidean in raw units, and not on the temperature; masses and diffusion constants play no part.
    Where F is flat, such as where nothing was sampled, every curve is such a path.

    Parameters
    ----------
    F : FreeEnergySurface or callable
        A callable takes points [..., n] in raw units (rad, nm) and returns kJ/mol [...]; it must be smooth, derivatives are central differences.
    a, b : sequence of n floats or Quantities
        The two states, raw units.
    points : int
        Nodes, at least 5.
    periods : sequence of n floats, optional
        Length of one turn of every variable of a callable, 0 (and by default) when it is not periodic. A FreeEnergySurface knows its own.
    relaxEnds : bool
        Let the ends slide into the minima downhill of them. By default they stay, and the path leads from each down to its minimum first.
    windings : sequence of n ints, optional
        Try only this one: whole turns added to the short way round from a to b.
    tolerance : float
        Converged where the part of grad F normal to the path is below this on all inner nodes, kJ/mol per raw unit (rad).
    maxIterations : int
        Per piece of the string.

    Returns
    -------
    FreeEnergyPath
        The one whose highest F is lowest (at equal height, whose next pass is lowest); the other windings are in `others`.

    Raises
    ------
    ValueError
        For malformed, identical or unsampled end points, an F that is not finite or has the wrong shape, and ends that slide into the same minimum.

    Warns
    -----
    UserWarning
        When the best path did not converge.
    """
    what = "minimumFreeEnergyPath"
    a, b = (np.array([_number(v) for v in np.atleast_1d(end)]) for end in (a, b))
    surface = F if isinstance(F, FreeEnergySurface) else None
    onSurface = surface is not None
    n = 2 if onSurface else len(a)
    for name, end in (("a", a), ("b", b)):
        if end.shape != (n,):
            raise ValueError(f"{what}: expected {name} to hold {n} values{'' if onSurface else ' as a does'}, got {len(end)}")
        if not np.all(np.isfinite(end)):
            raise ValueError(f"{what}: {name} is {_text(end)}, expected finite values")
    if not onSurface and not callable(F):
        raise ValueError(f"{what}: expected F to be a FreeEnergySurface or a callable, got {type(F).__name__}")
    if onSurface and periods is not None:
        raise ValueError(f"{what}: a FreeEnergySurface knows its periods, expected none")
    periods = np.full(n, 2 * np.pi) if onSurface else np.zeros(n) if periods is None else np.asarray(periods, dtype=float)
    if periods.shape != (n,) or not np.all((periods >= 0) & np.isfinite(periods)):
        raise ValueError(f"{what}: expected {n} periods of 0 (none) or more, got {periods}")
    if points < 5:
        raise ValueError(f"{what}: expected at least 5 points, got {points}")
    if not tolerance > 0 or maxIterations < 1:
        raise ValueError(f"{what}: expected a positive tolerance and at least one iteration, got {tolerance} and {maxIterations}")
    if surface is not None:
        shape = np.array(surface.values.shape)
        for name, end in (("a", a), ("b", b)):
            if not surface.sampled[tuple(np.round((end + np.pi) / (2 * np.pi) * shape).astype(int) % shape)]:
                raise ValueError(f"{what}: {name} = {_text(end)} lies outside the sampled part of the surface")
    turn = np.where(periods > 0, periods, 1.0)
    short = np.where(periods > 0, (b - a) - turn * np.round((b - a) / turn), b - a)
    distance = float(np.linalg.norm(short))
    if distance < 1e-9 * max(1.0, np.abs(a).max()):
        raise ValueError(f"{what}: a and b are the same point, {_text(a)}")
    land = _Landscape(F, periods, 1e-4 * np.where(periods > 0, periods / (2 * np.pi), distance), what)
    land(np.array([a, b]))

    def downhill(end: np.ndarray) -> np.ndarray:
        line = _slide(land, end, distance / 400, 1e-7 * distance)
        length = float(np.linalg.norm(line[-1] - end))
        if length < 1e-5 * distance and not relaxEnds:
            return end[None]
        return _slide(land, end, length / 40, 1e-7 * distance) if 1e-5 * distance < length < distance / 10 else line

    fromA, fromB = downhill(a), downhill(a + short)
    ends = fromA[-1], fromB[-1]
    if relaxEnds and np.linalg.norm(ends[1] - ends[0]) < 1e-4 * distance:
        raise ValueError(f"{what}: a and b slide into the same minimum, {_text(ends[0])}")
    choices: dict[tuple[int, ...], Optional[np.ndarray]] = {}
    if windings is not None:
        wanted = np.asarray(windings)
        if wanted.shape != (n,) or not np.all(wanted == np.round(wanted)) or np.any(wanted[periods == 0] != 0):
            raise ValueError(f"{what}: expected {n} whole turns, 0 for variables that are not periodic, got {windings}")
        choices[tuple(int(w) for w in wanted)] = None
    else:
        # Where the short way is nearly half a turn, the long way is nearly as short.
        both = sorted(np.flatnonzero(periods > 0), key=lambda j: -abs(short[j]) / periods[j])[:MAX_WINDING_VARIABLES]
        for long in itertools.product((0, 1), repeat=len(both)):
            w = np.zeros(n, dtype=int)
            w[both] = np.where(short[both] > 0, -1, 1) * np.array(long, dtype=int)
            choices[tuple(int(v) for v in w)] = None
    if surface is not None:
        way, _ = surface._flood(*ends)
        way = way + (ends[0] - way[0])
        turns = tuple(int(v) for v in np.round((way[-1] - ends[1]) / periods))
        if windings is None or turns in choices:
            choices[turns] = way

    paths = []
    for turns, way in choices.items():
        shift = np.array(turns) * periods
        first, last = ends[0], ends[1] + shift
        length = float(np.linalg.norm(short + shift))
        spacing = length / (points - 1)
        parts: list[_Piece] = []
        if np.linalg.norm(last - first) > 1e-4 * distance:
            if way is None:
                start = first + np.linspace(0, 1, points)[:, None] * (last - first)
            else:
                start = _smoothed(np.vstack([first, way[1:-1], last]), points)
            parts = _withoutLoops(_pieces(land, start, spacing, tolerance, maxIterations), spacing)
        if not relaxEnds:
            lines = _descent(land, fromA, spacing, tolerance), _descent(land, (fromB + shift)[::-1], spacing, tolerance)
            parts = [p for p in (lines[0], *parts, lines[1]) if p is not None]
        path = _joined(parts, points)
        passes = _passes(land, parts)
        f = land(path)
        saddle = max([*passes, (path[0], float(f[0])), (path[-1], float(f[-1]))], key=lambda p: p[1])
        residual = max(p.residual for p in parts)
        paths.append(FreeEnergyPath(path, f, passes, saddle, residual, sum(p.iterations for p in parts), np.array(turns), residual <= tolerance))

    def rank(p: FreeEnergyPath) -> tuple:
        return [round(v, 2) for v in sorted((f for _, f in (*p.passes, p.saddle)), reverse=True)], not p.converged

    best, *others = sorted(paths, key=rank)
    best.others = others
    if not best.converged:
        warnings.warn(f"the minimum free-energy path did not converge: normal force {best.residual:.2g}, expected {tolerance:g}", stacklevel=2)
    return best


def _smoothed(x: np.ndarray, points: int) -> np.ndarray:
    """`points` nodes along the stairs x [K, n] of a grid."""
    from scipy.ndimage import gaussian_filter1d

    s = _arcLength(x)
    even = np.linspace(0, s[-1], 4 * points)
    y = np.stack([np.interp(even, s, column) for column in x.T], axis=1)
    y[1:-1] = gaussian_filter1d(y, 6.0, axis=0, mode="nearest")[1:-1]
    return _respaced(y[::4] if len(y) % 4 == 1 else np.vstack([y[::4], y[-1:]]), points)


def _landscapeOf(surface: Surface, variables: _core.Variables, what: str) -> _Landscape:
    """A surface over the variables of a curve."""
    n = len(variables)
    if isinstance(surface, FreeEnergySurface):
        if n != 2 or any(abs(variables[j].period - 2 * np.pi) > 1e-9 for j in range(n)):
            raise ValueError(f"{what}: expected a curve over two torsions as the surface is, got {', '.join(variables.names)}")
    elif not callable(surface):
        raise ValueError(f"{what}: expected a FreeEnergySurface or a callable, got {type(surface).__name__}")
    periods = np.array([variables[j].period for j in range(n)])
    scales = np.array([variables[j].scale for j in range(n)])
    return _Landscape(surface, periods, 1e-4 * np.where(periods > 0, periods / (2 * np.pi), scales), what)


def smoothHessian(surface: FreeEnergySurface, points: np.ndarray, width: float = 0.15) -> np.ndarray:
    """F'' averaged over Gaussians around `points` [K, 2] (rad), kJ/mol/rad^2; result [K, 2, 2].

    What a molecule feels that a bias of kappa = 1/width^2 holds there; second derivatives of a surface made from samples are mostly noise on a finer scale.
    """
    x, w = np.polynomial.hermite_e.hermegauss(7)
    offsets = width * np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = np.outer(w, w).ravel() / w.sum() ** 2
    return np.einsum("o,koij->kij", weights, surface.hessian(np.asarray(points, dtype=float)[:, None, :] + offsets))


def criticalKappa(path: Sequence, surface: FreeEnergySurface, temperature, width: float = 0.15) -> float:
    """The kappa below which tilted wells along a path split in two: the most negative curvature of F on it, over kT.

    A bias of kappa holds the molecule at a point of the surface in one well where kappa > -lambda_min(F'')/kT. With a weaker one the tilted distribution has two peaks on a
    ridge, and the molecule hops; a bound on the variance (maxVariance) promises what a bound on kappa alone does not.

    Parameters
    ----------
    path : array [N, 2]
        Positions in rad: a minimum free-energy path, or the means along a curve.
    surface : FreeEnergySurface
    temperature : float or Quantity
        K.
    width : float
        F'' is averaged over Gaussians of this standard deviation, rad; 0.15 is that of kappa = 44.

    Returns
    -------
    float
        In rad^-2; 0 where F curves up everywhere.

    Raises
    ------
    ValueError
        For a path of another shape, or a temperature or width that is not positive.
    """
    path = np.asarray(path, dtype=float)
    if path.ndim != 2 or path.shape[1] != 2 or not np.all(np.isfinite(path)):
        raise ValueError(f"criticalKappa: expected a path [N, 2] of finite angles, got an array of shape {path.shape}")
    if temperature is None or not width > 0:
        raise ValueError(f"criticalKappa: expected a temperature in kelvin and a positive width, got {temperature} and {width}")
    return max(0.0, -float(np.linalg.eigvalsh(smoothHessian(surface, path, width))[:, 0].min()) / (GAS_CONSTANT * _kelvin(temperature)))


def stiffness(curve: _core.Curve, model: _core.PosteriorModel, surface: Surface, temperature) -> np.ndarray:
    """How firmly the bias holds the molecule along a curve: the lowest eigenvalue of the Hessian of the tilted free energy in kT.

    conv = lambda_min(F''(m)/kT + diag(kappa_j cos(m_j - phi0_j))) with the mean position m and the bias centre phi0. Below 0 the tilted
    distribution has no maximum where its mean is: the molecule hops between two wells. From about 10 it is one stiff well, of width 1/sqrt(conv) at most.

    Parameters
    ----------
    curve : Curve
    model : PosteriorModel
        Gives the mean along the curve.
    surface : FreeEnergySurface or callable
        F over the variables of the curve, as in `minimumFreeEnergyPath`.
    temperature : float or Quantity
        K.

    Returns
    -------
    array [N + 1]
        One value a node, in 1/rad^2 for torsions (the inverse square of the raw unit). Variables with a period P enter with
        kappa (2 pi/P)^2 cos(2 pi (m - c0)/P), others with e^l/scale^2.

    Raises
    ------
    ValueError
        Where curve, model, surface and temperature do not fit together.
    """
    if temperature is None:
        raise ValueError("stiffness: expected a temperature in kelvin, got None")
    kT = GAS_CONSTANT * _kelvin(temperature)
    variables = curve.variables
    land = _landscapeOf(surface, variables, "stiffness")
    eta = np.asarray(curve.eta)
    mean = variables.meanPosition(curve.measure(model).mu)
    center = variables.center(eta)
    H = land.hessian(mean) / kT
    offset = 1 if any(not variables[j].lifted for j in range(len(variables))) else 0  # T starts with |d|^2 where there are unlifted variables
    for j in range(len(variables)):
        v = variables[j]
        if v.lifted:
            turn = 2 * np.pi / v.period
            H[:, j, j] += np.hypot(eta[:, offset], eta[:, offset + 1]) * turn**2 * np.cos(turn * (mean[:, j] - center[:, j]))
        else:
            H[:, j, j] += -2 * eta[:, 0] / v.scale**2
        offset += 2 if v.lifted else 1
    return np.linalg.eigvalsh(H)[:, 0]


def highestFreeEnergy(curve: _core.Curve, model: _core.PosteriorModel, surface: Surface) -> tuple[float, float]:
    """Highest F along a curve: of the mean position of the tilted distributions, and of the centre of the bias.

    Parameters
    ----------
    curve : Curve
    model : PosteriorModel
        Gives the mean along the curve.
    surface : FreeEnergySurface or callable
        F over the variables of the curve, as in `minimumFreeEnergyPath`.

    Returns
    -------
    (float, float)
        kJ/mol, on the scale of the surface; segments between nodes are followed the short way round.

    Raises
    ------
    ValueError
        Where curve, model and surface do not fit together.
    """
    variables = curve.variables
    land = _landscapeOf(surface, variables, "highestFreeEnergy")
    turn = np.where(land.periods > 0, land.periods, 1.0)

    def highest(path: np.ndarray) -> float:
        steps = np.diff(path, axis=0)
        steps = np.where(land.periods > 0, steps - turn * np.round(steps / turn), steps)
        between = path[:-1, None, :] + np.linspace(0, 1, 8, endpoint=False)[:, None] * steps[:, None, :]
        return float(land(np.vstack([between.reshape(-1, path.shape[1]), path[-1:]])).max())

    return highest(variables.meanPosition(curve.measure(model).mu)), highest(variables.center(curve.eta))
