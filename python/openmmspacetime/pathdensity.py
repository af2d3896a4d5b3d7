# SPDX-License-Identifier: MIT
r"""Where paths go: the share of paths that visit each cell of a grid over two variables, and how alike two sets of paths are.

A path counts once for a cell, however long it stays, so that the speed at which it was driven does not matter (path densities: Bolhuis, J. Phys. Condens. Matter 15, S113,
2003). Between two recorded points the path is taken to be straight.

Two densities f and g, each over its sum, overlap by

.. math:: S = \sum_\mathrm{cells} \min(f, g),

which is 1 for equal ones and 0 for paths that share no cell. Sets of finitely many paths never reach 1, even when they come from the same ensemble. What two halves of one
set have in common tells how much is to be expected.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from .states import State, _bindStates, _crossing, _label, _periodsOf

__all__ = ["PathDensity", "PathSimilarity", "pathDensity", "pathSimilarity"]


@dataclass
class PathDensity:
    """Share of the paths that visit each cell.

    Attributes
    ----------
    share : ndarray [bins1, bins2]
        Between 0 and 1, with the paths' weights.
    edges : tuple of two ndarrays [bins + 1]
        Of the cells, raw units.
    names : tuple of two str
    visits : ndarray of bool [paths, bins1, bins2]
    weights : ndarray [paths]
        They add up to 1.
    lines : list of ndarrays [points, 2]
        The parts of the paths that were counted.
    periods : ndarray [2]
        0 for variables that are not periodic.
    """

    share: np.ndarray
    edges: Tuple[np.ndarray, np.ndarray] = field(repr=False)
    names: Tuple[str, str]
    visits: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    lines: List[np.ndarray] = field(repr=False)
    periods: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.visits)


def pathDensity(paths: Sequence[Any], bins: Any = 60, variables: Tuple[int, int] = (0, 1), stateA: Optional[State] = None, stateB: Optional[State] = None,
                ranges: Any = None) -> PathDensity:
    """Share of paths that visit each cell of a grid over two of the variables.

    Parameters
    ----------
    paths : PathEnsemble, UnbiasedPaths, or sequence of records or of arrays [steps, n]
        Records have `variables` [steps, n] and may have a `weight`.
    bins : int or pair of int, or FreeEnergySurface
        Cells per variable; of a surface, a cell around each of its grid points.
    variables : pair of int
        Which two.
    stateA, stateB : optional
        When given, only the part of a path counts from the last step in one state to the first in the other, and paths without such a part are left out. That makes driven
        paths and unbiased ones comparable: the former wait in their states for as long as their driver does.
    ranges : pair of (low, high), optional
        Of the variables; a turn of periodic ones, what the paths cover otherwise. Needed to compare sets in variables that are not periodic.

    Returns
    -------
    PathDensity

    Raises
    ------
    ValueError
        There are no paths, or none crosses; a number is out of range.
    """
    what = "pathDensity"
    if len(paths) == 0:
        raise ValueError(f"{what}: there are no paths")
    tracks = [np.asarray(getattr(path, "variables", path), dtype=float) for path in paths]
    weights = np.array([float(getattr(path, "weight", 1)) for path in paths])
    n = tracks[0].shape[-1]
    if any(x.ndim != 2 or x.shape[1] != n or len(x) == 0 or not np.isfinite(x).all() for x in tracks):
        raise ValueError(f"{what}: expected finite variables of shape [steps, n] of every path")
    i, j = variables
    if not (0 <= i < n and 0 <= j < n and i != j):
        raise ValueError(f"{what}: expected two different variables of 0 to {n-1}, got {variables}")
    periods = paths.periods if hasattr(paths, "periods") else _periodsOf(paths) if hasattr(paths, "variables") else np.full(n, 2*np.pi)
    if (stateA is None) != (stateB is None):
        raise ValueError(f"{what}: expected both states or none")
    if stateA is not None and stateB is not None:
        states = _bindStates(what, stateA, stateB, periods)
        parts = [_crossing(_label(what, states, x)) for x in tracks]
        kept = {k: part for k, part in enumerate(parts) if part is not None}
        if not kept:
            raise ValueError(f"{what}: no path leads from one state to the other")
        tracks, weights = [tracks[k][begin:end+1] for k, (begin, end) in kept.items()], weights[list(kept)]
    pair, period = [x[:, [i, j]] for x in tracks], np.asarray(periods)[[i, j]]
    shape, ranges = _grid(what, bins, ranges, period, pair)
    edges1, edges2 = (np.linspace(low, high, k+1) for (low, high), k in zip(ranges, shape))
    edges = edges1, edges2
    visits = np.stack([_visited(x, edges, period) for x in pair])
    names = getattr(paths, "names", None) or [f"variable {k}" for k in range(n)]
    weights = weights/weights.sum()
    return PathDensity(np.tensordot(weights, visits, 1), edges, (names[i], names[j]), visits, weights, pair, period)


def _grid(what: str, bins: Any, ranges: Any, period: np.ndarray, pair: List[np.ndarray]) -> Tuple[Tuple[int, int], List[Tuple[float, float]]]:
    if hasattr(bins, "axes") and ranges is None:
        shape = bins.values.shape
        return shape, [(-np.pi-np.pi/k, np.pi-np.pi/k) for k in shape]
    shape = tuple(bins.values.shape) if hasattr(bins, "axes") else tuple(np.broadcast_to(bins, 2).tolist())
    if any(int(k) != k or k < 2 for k in shape):
        raise ValueError(f"{what}: expected at least 2 bins, got {bins}")
    if ranges is None:
        low, high = np.min([x.min(axis=0) for x in pair], axis=0), np.max([x.max(axis=0) for x in pair], axis=0)
        ranges = [(-p/2, p/2) if p > 0 else (a, b) for p, a, b in zip(period, low, high)]
    ranges = [(float(a), float(b)) for a, b in ranges]
    for (a, b), p in zip(ranges, period):
        if not b > a or (p > 0 and abs(b-a-p) > 1e-9*p):
            raise ValueError(f"{what}: expected ranges (low, high), a whole turn for periodic variables, got {ranges}")
    return shape, ranges


def _visited(x: np.ndarray, edges: Tuple[np.ndarray, np.ndarray], period: np.ndarray) -> np.ndarray:
    """The cells that a polyline [points, 2] goes through: bools [bins1, bins2]. What is outside of ranges that are not periodic is left out."""
    shape = tuple(len(e)-1 for e in edges)
    width = np.array([e[1]-e[0] for e in edges])
    low = np.array([e[0] for e in edges])
    step = np.diff(x, axis=0)
    turn = np.where(period > 0, period, 1.0)
    step = np.where(period > 0, step-turn*np.round(step/turn), step)
    # Points a quarter of a cell apart: a corner that is cut by less may be missed.
    pieces = np.maximum(np.ceil(4*np.abs(step/width).max(axis=1)), 1).astype(int) if len(step) else np.zeros(0, dtype=int)
    at = np.arange(pieces.sum())-np.repeat(np.cumsum(pieces)-pieces, pieces)
    points = np.vstack([np.repeat(x[:-1], pieces, axis=0)+np.repeat(step, pieces, axis=0)*(at/np.repeat(pieces, pieces))[:, None], x[-1:]])
    cell = np.floor((points-low)/width).astype(int)
    cell = np.where(period > 0, cell % shape, cell)
    # The upper edge belongs to the last cell.
    cell = np.where((period == 0) & np.isclose(points, [e[-1] for e in edges]), np.array(shape)-1, cell)
    inside = np.all((cell >= 0) & (cell < shape), axis=1)
    result = np.zeros(shape, dtype=bool)
    result[tuple(cell[inside].T)] = True
    return result


@dataclass
class PathSimilarity:
    """How alike two sets of paths are.

    Attributes
    ----------
    overlap : float
        S of the two sets, 0 to 1.
    within : tuple of two floats
        S of two random halves of the first set, and of the second: mean over splits. Halves are smaller sets than the whole, so that this is a cautious idea of what "the
        same" looks like.
    withinSpread : tuple of two floats
        Standard deviation of S over the splits.
    expected : float
        S of two sets of the sizes at hand from one ensemble: one and the other are mixed and dealt out anew. Mean over deals.
    expectedSpread : float
    """

    overlap: float
    within: Tuple[float, float]
    withinSpread: Tuple[float, float]
    expected: float
    expectedSpread: float

    def summary(self) -> str:
        """A few lines of text."""
        return (f"overlap of the two path densities {self.overlap:.2f}\n"
                f"halves of the first set {self.within[0]:.2f} ± {self.withinSpread[0]:.2f}, of the second {self.within[1]:.2f} ± {self.withinSpread[1]:.2f}\n"
                f"sets of these sizes dealt out of both together {self.expected:.2f} ± {self.expectedSpread:.2f}: what to expect if both were the same")


def pathSimilarity(first: PathDensity, second: PathDensity, splits: int = 200, seed: int = 1) -> PathSimilarity:
    """Overlap of two path densities on one grid, beside what two sets from one ensemble would have.

    Where paths of a set are correlated, as successive ones of path sampling are, halves at random hide that: they look more alike than independent sets would.

    Parameters
    ----------
    first, second : PathDensity
    splits : int
        Random ones.
    seed : int

    Raises
    ------
    ValueError
        The grids differ, or a set has fewer than two paths.
    """
    if any(len(a) != len(b) or not np.allclose(a, b) for a, b in zip(first.edges, second.edges)):
        raise ValueError("pathSimilarity: the densities are on different grids; pass the same bins and ranges to pathDensity")
    if min(len(first), len(second)) < 2:
        raise ValueError(f"pathSimilarity: expected at least two paths in each set, got {len(first)} and {len(second)}")
    if splits < 1:
        raise ValueError(f"pathSimilarity: expected at least one split, got {splits}")
    random = np.random.default_rng(seed)

    def deal(visits: np.ndarray, weights: np.ndarray, size: int) -> List[float]:
        result = []
        cells = visits.reshape(len(visits), -1)
        cells = weights[:, None]*cells[:, cells.any(axis=0)]
        for _ in range(splits):
            order = random.permutation(len(visits))
            f = cells[order[:size]].sum(axis=0)
            result.append(_overlap(f, cells[order[size:]].sum(axis=0)))
        return result

    halves = [deal(d.visits, d.weights, len(d)//2) for d in (first, second)]
    # Weighted as many paths as they are, so that a path weighs the same wherever it is dealt.
    both = deal(np.concatenate([first.visits, second.visits]), np.concatenate([first.weights*len(first), second.weights*len(second)]), len(first))
    (mean1, std1), (mean2, std2), (mean, std) = ((float(np.mean(h)), float(np.std(h))) for h in (*halves, both))
    return PathSimilarity(_overlap(first.share, second.share), (mean1, mean2), (std1, std2), mean, std)


def _overlap(f: np.ndarray, g: np.ndarray) -> float:
    totals = f.sum(), g.sum()
    return float(np.minimum(f/totals[0], g/totals[1]).sum()) if min(totals) > 0 else 0.0
