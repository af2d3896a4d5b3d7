# SPDX-License-Identifier: MIT
"""What all figures share: colours, fonts, and lines on a torus."""
from __future__ import annotations

from typing import Any, Optional

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from .surface import wrap

#: Line colours of the rows (Okabe and Ito's set, readable with colour-blind eyes), in the order of the table.
COLOURS = ("#0072B2", "#D55E00", "#4D4D4D", "#009E73", "#CC79A7", "#E69F00", "#882255", "#56B4E9")
_ENERGY_MAP = LinearSegmentedColormap.from_list("energy", ["#315b8a", "#6f9dbd", "#b5cfd6", "#e6e6dc", "#f6f3ea", "#fdfcfa"])
_STYLE: dict[Any, Any] = {
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


def _smoothed(x: np.ndarray, window: int) -> np.ndarray:
    """Running mean over `window` rows of angles [steps, 2], thinned to one row per window/2."""
    if len(x) < 2 * window:
        return x
    unwrapped = np.unwrap(x, axis=0)
    sums = np.vstack([np.zeros(x.shape[1]), np.cumsum(unwrapped, axis=0)])
    means = (sums[window:] - sums[:-window]) / window
    return means[:: max(1, window // 2)]


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


def _mark(axis: Any, p: np.ndarray, text: str, offset: tuple[float, float], zorder: float = 6) -> None:
    """A ring at p, in the axes' units, and a label `offset` points from it."""
    axis.plot(*p, "o", ms=5.5, mfc="white", mec="black", mew=1.1, zorder=zorder)
    if not text:
        return
    axis.annotate(text, p, xytext=offset, textcoords="offset points", fontsize=8.5, fontweight="bold", color="black", zorder=zorder + 1,
                  ha="center", va="center", bbox=dict(boxstyle="round,pad=0.15", fc="white", ec="none", alpha=0.8))
