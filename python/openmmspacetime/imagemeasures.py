# SPDX-License-Identifier: MIT
"""How alike two pictures are, how evenly a sequence of pictures moves, and an embedding of a matrix of distances."""
from __future__ import annotations

import numpy as np

__all__ = ["classicalScaling", "euclideanDistances", "psnr", "ssim", "ssimDistances", "stepEvenness"]

_C1, _C2 = 0.01**2, 0.03**2  # of Wang et al. for values in [0, 1]


def _pair(a, b, what: str) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.asarray(p, dtype=float) for p in (a, b))
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise ValueError(f"{what}: expected two pictures [H, W] or [H, W, C] of one shape, got {a.shape} and {b.shape}")
    return (a[..., None], b[..., None]) if a.ndim == 2 else (a, b)


def ssim(a, b, window: int = 7, sigma: float = 1.5) -> float:
    """Structural similarity of two pictures of values in [0, 1] (Wang et al., IEEE Trans. Image Process. 13, 600, 2004).

    Parameters
    ----------
    a, b : array [H, W] or [H, W, C]
    window : int
        Odd side of the Gaussian window in pixels; 11 in the publication, 7 leaves something of small pictures. Only windows that lie inside the picture count.
    sigma : float
        Of the window, in pixels.

    Returns
    -------
    float
        1 for equal pictures; the mean over windows and channels.

    Raises
    ------
    ValueError
        For pictures of different shapes or smaller than the window.
    """
    from scipy.ndimage import correlate1d

    a, b = _pair(a, b, "ssim")
    if window < 3 or window % 2 == 0 or window > min(a.shape[:2]):
        raise ValueError(f"ssim: expected an odd window from 3 to {min(a.shape[:2])} pixels, the smaller side of the pictures, got {window}")
    r = window // 2
    weights = np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2)
    weights /= weights.sum()

    def mean(x: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(x, weights, axis=0), weights, axis=1)[r:x.shape[0] - r, r:x.shape[1] - r]

    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    return float(np.mean((2 * ma * mb + _C1) * (2 * vab + _C2) / ((ma**2 + mb**2 + _C1) * (va + vb + _C2))))


def psnr(a, b) -> float:
    """Peak signal-to-noise ratio in dB of two pictures of values in [0, 1]: -10 log10 of the mean square difference; infinite for equal ones."""
    a, b = _pair(a, b, "psnr")
    error = float(np.mean((a - b) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def euclideanDistances(pictures) -> np.ndarray:
    """Distances [K, K] of pictures [K, ...] over their pixel values."""
    from scipy.spatial.distance import pdist, squareform

    pictures = np.asarray(pictures, dtype=float)
    return squareform(pdist(pictures.reshape(len(pictures), -1)))


def ssimDistances(pictures, window: int = 7, sigma: float = 1.5) -> np.ndarray:
    """1 - ssim of all pairs [K, K] of pictures [K, H, W, C]."""
    K = len(pictures)
    distances = np.zeros((K, K))
    for i in range(K):
        for j in range(i):
            distances[i, j] = distances[j, i] = 1 - ssim(pictures[i], pictures[j], window, sigma)
    return distances


def stepEvenness(frames) -> float:
    """The largest distance of neighbouring frames over the mean one: 1 for a sequence that moves evenly, NaN for one that stands still.

    A sequence that jumps, as between two modes, has one large step.
    """
    frames = np.asarray(frames, dtype=float)
    if len(frames) < 2:
        raise ValueError(f"stepEvenness: expected at least two frames, got {len(frames)}")
    steps = np.linalg.norm(np.diff(frames.reshape(len(frames), -1), axis=0), axis=1)
    return float(steps.max() / steps.mean()) if steps.max() > 0 else float("nan")


def classicalScaling(distances, dimensions: int = 2) -> tuple[np.ndarray, float]:
    """Points whose Euclidean distances come closest to a matrix of distances (classical multidimensional scaling, Torgerson 1952).

    Parameters
    ----------
    distances : array [K, K]
        Symmetric.
    dimensions : int

    Returns
    -------
    points : array [K, dimensions]
        Centred, along principal axes; each axis's sign is such that its largest entry is positive.
    share : float
        Part of the matrix's positive eigenvalues that these dimensions hold.
    """
    d = np.asarray(distances, dtype=float)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or not np.isfinite(d).all():
        raise ValueError(f"classicalScaling: expected a square matrix of finite distances, got shape {d.shape}")
    centre = np.eye(len(d)) - 1 / len(d)
    values, vectors = np.linalg.eigh(-0.5 * centre @ (0.5 * (d**2 + d.T**2)) @ centre)
    values, vectors = values[::-1], vectors[:, ::-1]
    points = vectors[:, :dimensions] * np.sqrt(np.maximum(values[:dimensions], 0))
    for axis in points.T:
        if axis[np.abs(axis).argmax()] < 0:
            axis *= -1
    positive = values[values > 0].sum()
    return points, float(np.maximum(values[:dimensions], 0).sum() / positive) if positive > 0 else 1.0
