# SPDX-License-Identifier: MIT
"""What all figures share: colours, fonts, and lines on a torus."""
from __future__ import annotations

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from .surface import wrap

#: Line colours of the rows (Okabe and Ito's set, readable with colour-blind eyes), in the order of the table.
COLOURS = ("#0072B2", "#D55E00", "#4D4D4D", "#009E73", "#CC79A7", "#E69F00", "#882255", "#56B4E9")
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


def _smoothed(x: np.ndarray, window: int) -> np.ndarray:
    """Running mean over `window` rows of angles [steps, 2], thinned to one row per window/2."""
    if len(x) < 2 * window:
        return x
    unwrapped = np.unwrap(x, axis=0)
    sums = np.vstack([np.zeros(x.shape[1]), np.cumsum(unwrapped, axis=0)])
    means = (sums[window:] - sums[:-window]) / window
    return means[:: max(1, window // 2)]
