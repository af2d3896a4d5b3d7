# SPDX-License-Identifier: MIT
"""The Diffusion Edit Distance between the pictures of a set (arXiv:2505.17517), beside distances of pixels."""
from __future__ import annotations

import dataclasses
import math
import time
import warnings
from typing import Callable, Sequence

import numpy as np

from . import _core
from .imagemeasures import classicalScaling, euclideanDistances, ssimDistances
from .images import PictureSpace
from .matrixfree import matrixFreeGeodesics

__all__ = ["EditDistances", "editDistances"]


@dataclasses.dataclass(repr=False)
class EditDistances:
    """Distances between all pairs of a set of pictures.

    Attributes
    ----------
    pictures : array [K, H, W, C]
    names : list of str
    logSnr : float
        Noise level of both ends: the distance depends on it.
    distance, error : array [K, K]
        Fisher-Rao length of the geodesics and its standard error over probes; NaN where there is none. Symmetric: every pair is solved once.
    converged : array [K, K] of bool
    euclid, ssim : array [K, K]
        Euclidean distance over pixel values, and 1 - ssim.
    evaluations, seconds
        What the matrix cost.
    """

    pictures: np.ndarray
    names: list[str]
    logSnr: float
    distance: np.ndarray
    error: np.ndarray
    converged: np.ndarray
    euclid: np.ndarray
    ssim: np.ndarray
    evaluations: int
    seconds: float

    def matrices(self) -> dict[str, np.ndarray]:
        """The three kinds of distance by name: DiffED, Euclid, 1 - SSIM."""
        return {"DiffED": self.distance, "Euclid": self.euclid, "1 - SSIM": self.ssim}

    def nearest(self, kind: str = "DiffED") -> np.ndarray:
        """Index [K] of every picture's nearest neighbour by one of `matrices`."""
        d = np.where(np.isfinite(self.matrices()[kind]), self.matrices()[kind], math.inf).copy()
        np.fill_diagonal(d, math.inf)
        return d.argmin(axis=1)

    def rankCorrelations(self) -> dict[tuple[str, str], float]:
        """Spearman's correlation of every two kinds of distance over all pairs of pictures."""
        from scipy.stats import spearmanr

        upper = np.triu_indices(len(self.names), 1)
        known = np.isfinite(self.distance[upper])
        kinds = list(self.matrices().items())
        return {(p, q): float(spearmanr(dp[upper][known], dq[upper][known]).statistic) for i, (p, dp) in enumerate(kinds) for q, dq in kinds[:i]}

    def agreement(self, labels: Sequence) -> dict[str, float]:
        """Share of the pictures whose nearest neighbour has the same label, by each kind of distance."""
        labels = np.asarray(labels)
        return {kind: float(np.mean(labels[self.nearest(kind)] == labels)) for kind in self.matrices()}

    def embedding(self, kind: str = "DiffED") -> tuple[np.ndarray, float]:
        """Points [K, 2] by `classicalScaling`, and the share of the matrix that they show."""
        return classicalScaling(self.matrices()[kind])

    def __str__(self) -> str:
        upper = np.triu_indices(len(self.names), 1)
        d, e = self.distance[upper], self.error[upper]
        lines = [f"Diffusion Edit Distance of {len(self.names)} pictures, ends at log-SNR {self.logSnr:g}: {np.nanmin(d):.1f} to {np.nanmax(d):.1f}, mean {np.nanmean(d):.1f}, "
                 f"standard error over probes {np.nanmean(e):.2g}; {int(self.converged[upper].sum())} of {len(d)} geodesics converged",
                 "rank correlations: " + ", ".join(f"{p} with {q} {r:.2f}" for (p, q), r in self.rankCorrelations().items())]
        width = max(len(n) for n in (*self.names, "nearest by"))
        lines.append(f"{'nearest by':<{width}}  " + "  ".join(f"{kind:<{width}}" for kind in self.matrices()))
        for k, name in enumerate(self.names):
            lines.append((f"{name:<{width}}  " + "  ".join(f"{self.names[self.nearest(kind)[k]]:<{width}}" for kind in self.matrices())).rstrip())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<EditDistances: {len(self.names)} pictures at log-SNR {self.logSnr:g}>"


def editDistances(
    model: _core.PosteriorModel,
    pictures,
    logSnr: float = 3.0,
    names: Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
    encoded: bool = True,
    points: int = 9,
    steps: int = 24,
    dataLogSnr: float | None = None,
    window: int = 7,
    progress: Callable[[float], bool | None] | None = None,
    **options,
) -> EditDistances:
    """Fisher-Rao lengths of the geodesics between all pairs of a set of pictures.

    Parameters
    ----------
    model : PosteriorModel
    pictures : sequence of arrays [H, W, C], Pillow images or files
        At least two.
    logSnr : float
        Noise level of the ends. At a high one the distance resolves details; at a low one it sees what kind of picture it is.
    names : sequence of str, optional
    shape, steps, dataLogSnr
        As in `PictureSpace`.
    encoded : bool
        Ends are encoded by the probability-flow ODE; otherwise they are the clean pictures, taken for points at that log-SNR.
    points : int
        Nodes of every geodesic.
    window : int
        Of SSIM.
    progress : callable(fraction), optional
        Return False to stop: pairs that were not solved are as good as the solver had them, and counted as not converged.
    **options
        Of `matrixFreeGeodesic`.

    Returns
    -------
    EditDistances

    Raises
    ------
    ValueError
        For fewer than two pictures, and for pictures that `interpolate` refuses.

    Warns
    -----
    UserWarning
        Where geodesics failed or did not converge.
    """
    space = PictureSpace(model, shape, steps, dataLogSnr)
    values = space.pictures(pictures)
    K = len(values)
    if K < 2:
        raise ValueError(f"editDistances: expected at least two pictures, got {K}")
    names = [str(k) for k in range(K)] if names is None else [str(n) for n in names]
    if len(names) != K:
        raise ValueError(f"editDistances: expected a name for each of the {K} pictures, got {len(names)}")
    started, before = time.perf_counter(), model.evaluations
    y = space.encode(values, logSnr) if encoded else space.clean(values)
    eta = space.eta(y, logSnr)
    first, second = np.triu_indices(K, 1)
    solved = matrixFreeGeodesics(model, eta[first], eta[second], progress, points=points, **options)
    distance, error, converged = np.zeros((K, K)), np.zeros((K, K)), np.ones((K, K), bool)
    for i, j, pair in zip(first, second, solved):
        failed = bool(pair.error)
        distance[i, j] = distance[j, i] = math.nan if failed else pair.length
        error[i, j] = error[j, i] = math.nan if failed else pair.lengthError
        converged[i, j] = converged[j, i] = not failed and pair.converged
    failures = [f"{names[i]} and {names[j]}: {pair.error}" for i, j, pair in zip(first, second, solved) if pair.error]
    if failures:
        warnings.warn(f"editDistances: no distance for {len(failures)} of {len(solved)} pairs; {failures[0]}", stacklevel=2)
    loose = sum(not pair.converged for pair in solved) - len(failures)
    if loose:
        warnings.warn(f"editDistances: {loose} of {len(solved)} geodesics did not converge, their lengths are too long", stacklevel=2)
    return EditDistances(values, names, float(logSnr), distance, error, converged, euclideanDistances(values), ssimDistances(values, min(window, (min(space.shape[:2]) - 1) // 2 * 2 + 1)),
                         model.evaluations - before, time.perf_counter() - started)
