# SPDX-License-Identifier: MIT
"""A free-energy surface over two torsions: interpolation, minima and the saddle between them."""
from __future__ import annotations

import heapq
import os
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional, Sequence, Union

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from . import _core

#: Gas constant in kJ/mol/K.
GAS_CONSTANT = 8.31446261815324e-3


def wrap(angle: np.ndarray) -> np.ndarray:
    """`angle` (rad, any shape) moved by whole turns into [-pi, pi)."""
    return (np.asarray(angle, dtype=float) + np.pi) % (2 * np.pi) - np.pi


def stationaryPoint(gradient: Callable[[np.ndarray], np.ndarray], hessian: Callable[[np.ndarray], np.ndarray], c: np.ndarray,
                    reach: float, order: int, stride: float = 0.1, tolerance: float = 1e-7) -> Optional[np.ndarray]:
    """Newton's method to a stationary point: up along the `order` softest eigenvectors of the Hessian, down along all others.

    Parameters
    ----------
    gradient, hessian : callables
        From a point [n] to [n] and [n, n].
    c : array [n]
        First guess.
    reach : float
        The point must lie within this distance of `c`.
    order : int
        0 for a minimum, 1 for a saddle.
    stride : float
        Longest step.
    tolerance : float
        Length of the last step.

    Returns
    -------
    array [n], or None when no stationary point of that order was found within `reach`.
    """
    x = np.array(c, dtype=float)
    sign = np.where(np.arange(len(x)) < order, -1.0, 1.0)
    for _ in range(60):
        w, v = np.linalg.eigh(hessian(x))
        step = -v @ ((v.T @ gradient(x)) / (sign * np.maximum(np.abs(w), 1e-3)))
        step *= min(1.0, stride / max(float(np.linalg.norm(step)), 1e-300))
        x = x + step
        if not np.linalg.norm(x - c) <= reach:
            return None
        if np.linalg.norm(step) < tolerance:
            w = np.linalg.eigvalsh(hessian(x))
            return x if np.all(w * sign > 0) else None
    return None


class FreeEnergySurface:
    """Free energy F(c) of two periodic variables, kJ/mol above its global minimum.

    F is stored on a periodic grid and interpolated with periodic bicubic splines, so it is smooth across the seam.

    Parameters
    ----------
    values : array [n1, n2]
        F in kJ/mol; ``values[i, j]`` belongs to the first variable at -pi + 2 pi i/n1 and the second at -pi + 2 pi j/n2.
        Shifted so that the lowest value of the grid is 0.
    names : sequence of two str
        Names of the variables, for plots and messages.
    error : array [n1, n2], optional
        Standard error of F in kJ/mol on the same grid.
    sampled : bool array [n1, n2], optional
        False where no sample supports the value.
    description : str
        Where the surface comes from, one line, quoted by reports.

    Raises
    ------
    ValueError
        If `values` is not two-dimensional, smaller than 8 x 8 or not finite.
    """

    def __init__(self, values: np.ndarray, names: Sequence[str] = ("phi", "psi"), error: Optional[np.ndarray] = None,
                 sampled: Optional[np.ndarray] = None, description: str = ""):
        from scipy import ndimage

        values = np.array(values, dtype=float)
        if values.ndim != 2 or min(values.shape) < 8:
            raise ValueError(f"FreeEnergySurface: expected a grid of at least 8 x 8 values, got shape {values.shape}")
        if not np.all(np.isfinite(values)):
            i, j = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(f"FreeEnergySurface: values[{i}, {j}] is {values[i, j]}; expected finite numbers")
        self.values = values - values.min()
        self.names = tuple(names)
        self.error = None if error is None else np.array(error, dtype=float)
        self.sampled = np.ones(values.shape, dtype=bool) if sampled is None else np.array(sampled, dtype=bool)
        self.description = description
        self._spline = ndimage.spline_filter(self.values, order=3, mode="grid-wrap")
        #: Grid positions in rad, one array per variable.
        self.axes = tuple(-np.pi + 2 * np.pi * np.arange(n) / n for n in values.shape)

    # ---- sources

    @classmethod
    def fromSamples(cls, samples: np.ndarray, logWeights: Optional[np.ndarray] = None, temperature: float = 300.0,
                    bins: int = 120, bandwidth: Optional[float] = None, names: Sequence[str] = ("phi", "psi"),
                    minCount: float = 1.0) -> FreeEnergySurface:
        """F from (weighted) samples, binned and smoothed with a Gaussian kernel.

        The density of the samples as they were drawn is smoothed, and so is the logarithm of their mean weight:
        F = -kT (log n_h + <log w>_h).  For samples of a biased run, whose density is nearly flat, this has far less smoothing
        bias on steep slopes than a kernel estimate of the weighted density; for unweighted samples it is that estimate.

        Parameters
        ----------
        samples : array [K, 2]
            Angles in rad.
        logWeights : array [K], optional
            Logarithms of the weights; any constant may be added.
        temperature : float
            K.
        bins : int
            Grid points per variable.
        bandwidth : float, optional
            Standard deviation of the kernel, rad; by default 0.07 (250,000/K)^(1/6), which falls with the number of samples as in Scott's rule.
        minCount : float
            Where fewer than this many samples fall under the kernel, `sampled` is False and F is held at its highest sampled value.

        Returns
        -------
        FreeEnergySurface
        """
        from scipy import ndimage

        samples = np.asarray(samples, dtype=float)
        if samples.ndim != 2 or samples.shape[1] != 2:
            raise ValueError(f"FreeEnergySurface.fromSamples: expected samples of shape [K, 2], got {samples.shape}")
        logW = np.zeros(len(samples)) if logWeights is None else np.asarray(logWeights, dtype=float)
        if logW.shape != (len(samples),):
            raise ValueError(f"FreeEnergySurface.fromSamples: expected {len(samples)} log weights, got shape {logW.shape}")
        if bandwidth is None:
            bandwidth = 0.07 * (250_000 / len(samples)) ** (1 / 6)
        step = 2 * np.pi / bins
        cell = np.floor((samples + np.pi) / step + 0.5).astype(int) % bins
        flat = cell[:, 0] * bins + cell[:, 1]
        counts = np.bincount(flat, minlength=bins * bins).astype(float)
        top = np.full(bins * bins, -np.inf)
        np.maximum.at(top, flat, logW)
        total = np.bincount(flat, weights=np.exp(logW - top[flat]), minlength=bins * bins)
        meanLog = np.where(counts > 0, np.where(counts > 0, top, 0.0) + np.log(np.maximum(total, 1e-300) / np.maximum(counts, 1)), 0.0)

        def smooth(a: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(a.reshape(bins, bins), bandwidth / step, mode="wrap", truncate=6.0)

        density = smooth(counts)
        kernelArea = 4 * np.pi * (bandwidth / step) ** 2  # 1/sum of squared kernel weights, in cells
        sampled = density * max(kernelArea, 1.0) >= minCount
        safe = np.maximum(density, 1e-12)
        F = -GAS_CONSTANT * temperature * (np.log(safe) + smooth(counts * meanLog) / safe)
        F = np.where(sampled, F, F[sampled].max())
        return cls(np.minimum(F, F[sampled].max()), names=names, sampled=sampled,
                   description=f"{len(samples):,} samples in {bins} x {bins} bins, Gaussian kernel of {bandwidth:.2g} rad")

    @classmethod
    def fromBias(cls, bias: np.ndarray, biasFactor: float, names: Sequence[str] = ("phi", "psi")) -> FreeEnergySurface:
        """F = -bias biasFactor/(biasFactor - 1) of converged well-tempered metadynamics; `bias` [n1, n2] in kJ/mol."""
        if biasFactor <= 1:
            raise ValueError(f"FreeEnergySurface.fromBias: expected a biasFactor above 1, got {biasFactor}")
        return cls(-np.asarray(bias, dtype=float) * biasFactor / (biasFactor - 1), names=names,
                   description=f"final bias of well-tempered metadynamics, bias factor {biasFactor:g}")

    # ---- values

    def __call__(self, c: np.ndarray) -> np.ndarray:
        """F in kJ/mol at `c` [..., 2] (rad, whole turns do not matter); result [...]."""
        from scipy import ndimage

        c = self._points(c)
        scale = np.array(self.values.shape) / (2 * np.pi)
        coordinates = ((c + np.pi) * scale).reshape(-1, 2).T
        out = ndimage.map_coordinates(self._spline, coordinates, order=3, mode="grid-wrap", prefilter=False)
        return out.reshape(c.shape[:-1])

    def gradient(self, c: np.ndarray) -> np.ndarray:
        """Gradient of the spline in kJ/mol/rad at `c` [..., 2] (rad); result [..., 2]. ValueError for another shape."""
        return self._derivatives(self._points(c))[0]

    def hessian(self, c: np.ndarray) -> np.ndarray:
        """Second derivatives of the spline in kJ/mol/rad^2 at `c` [..., 2] (rad); result [..., 2, 2]. ValueError for another shape."""
        return self._derivatives(self._points(c))[1]

    @staticmethod
    def _points(c: np.ndarray) -> np.ndarray:
        c = np.asarray(c, dtype=float)
        if c.shape[-1:] != (2,):
            raise ValueError(f"FreeEnergySurface: expected points of shape [..., 2], got {c.shape}")
        return c

    def _derivatives(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient [..., 2] and Hessian [..., 2, 2] at `c` [..., 2]: those of the cubic B-splines, exact to rounding."""
        shape = np.array(self.values.shape)
        scale = shape / (2 * np.pi)
        x = (c.reshape(-1, 2) + np.pi) * scale
        cell = np.floor(x)
        t = x - cell
        r = 1 - t
        # The four cubic B-splines that reach a point, and their first and second derivatives: [3, K, 2, 4].
        b = np.array([np.stack([r**3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (3 * r**3 - 6 * r**2 + 4) / 6, t**3 / 6], axis=-1),
                      np.stack([-(r**2) / 2, 1.5 * t**2 - 2 * t, 2 * r - 1.5 * r**2, t**2 / 2], axis=-1) * scale[:, None],
                      np.stack([r, 3 * t - 2, 3 * r - 2, t], axis=-1) * scale[:, None] ** 2])
        index = (cell.astype(int)[..., None] + np.arange(-1, 3)) % shape[:, None]  # [K, 2, 4]
        patch = self._spline[index[:, 0, :, None], index[:, 1, None, :]]  # [K, 4, 4]

        def contract(first: int, second: int) -> np.ndarray:
            return np.einsum("ki,kij,kj->k", b[first][:, 0], patch, b[second][:, 1])

        gradient = np.stack([contract(1, 0), contract(0, 1)], axis=-1)
        cross = contract(1, 1)
        hessian = np.stack([contract(2, 0), cross, cross, contract(0, 2)], axis=-1)
        return gradient.reshape(c.shape), hessian.reshape(c.shape + (2,))

    def _stationary(self, c: np.ndarray, reach: float, saddle: bool) -> np.ndarray:
        """Newton's method to the stationary point of the wanted kind within `reach` rad of `c`; `c` itself when there is none."""
        x = stationaryPoint(self.gradient, self.hessian, c, reach, int(saddle))
        return np.array(c, dtype=float) if x is None else x

    def minima(self, below: Optional[float] = None) -> list[tuple[np.ndarray, float]]:
        """Local minima, lowest first.

        Parameters
        ----------
        below : float, optional
            Leave out minima with F above this, kJ/mol.

        Returns
        -------
        list of (position [2] in rad, F in kJ/mol)
        """
        v = self.values
        lowest = np.ones(v.shape, dtype=bool)
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                if (i, j) != (0, 0):
                    neighbour = np.roll(v, (i, j), axis=(0, 1))
                    lowest &= (v < neighbour) if (i, j) > (0, 0) else (v <= neighbour)
        reach = 1.5 * 2 * np.pi / min(v.shape)
        found = []
        for i, j in np.argwhere(lowest & self.sampled):
            x = wrap(self._stationary(np.array([self.axes[0][i], self.axes[1][j]]), reach, saddle=False))
            found.append((x, float(self(x))))
        return sorted((m for m in found if below is None or m[1] <= below), key=lambda m: m[1])

    def nearestMinimum(self, c: ArrayLike, radius: float = 0.75) -> np.ndarray:
        """Position [2] (rad) of the lowest minimum within `radius` rad of `c`; `c` itself when there is none."""
        c = np.asarray(c, dtype=float)
        near = [m for m in self.minima() if np.linalg.norm(wrap(m[0] - c)) <= radius]
        return near[0][0] if near else wrap(c)

    def saddle(self, a: ArrayLike, b: ArrayLike, refine: int = 3) -> tuple[np.ndarray, float]:
        """The lowest pass between two points: the minimum over all paths of the highest F on the path.

        The surface is flooded from `a` on a grid `refine` times finer than the stored one until the water reaches `b`
        (Dijkstra's algorithm with max in place of sum, eight neighbours); the pass is then polished by Newton's method.

        Returns
        -------
        (position [2] in rad, F in kJ/mol)
        """
        path, top = self._flood(a, b, refine)
        c = path[top]
        if 0 < top < len(path) - 1:
            c = self._stationary(c, 2 * 2 * np.pi / (refine * min(self.values.shape)), saddle=True)
        return wrap(c), float(self(c))

    def _flood(self, a: ArrayLike, b: ArrayLike, refine: int = 3) -> tuple[np.ndarray, int]:
        """The way the water takes from `a` to `b`: cells of the finer grid [K, 2] (rad, unwrapped) and the index of the highest.

        The lowest cell of the shore is always the next, so the way lies on a minimum spanning tree: every part of it crosses the lowest
        pass between the ends of that part.
        """
        n1, n2 = (refine * n for n in self.values.shape)
        x1, x2 = (-np.pi + 2 * np.pi * np.arange(n) / n for n in (n1, n2))
        v = self(np.stack(np.meshgrid(x1, x2, indexing="ij"), axis=-1))

        def cell(c: ArrayLike) -> tuple[int, int]:
            u = (wrap(np.asarray(c, dtype=float)) + np.pi) / (2 * np.pi)
            return int(round(u[0] * n1)) % n1, int(round(u[1] * n2)) % n2

        first, last = cell(a), cell(b)
        came = {first: first}
        shore = [(v[first], first)]
        while shore:
            _, (i, j) = heapq.heappop(shore)
            if (i, j) == last:
                break
            for k in (i - 1, i, i + 1):
                for l in (j - 1, j, j + 1):
                    kl = k % n1, l % n2
                    if kl not in came:
                        came[kl] = (i, j)
                        heapq.heappush(shore, (v[kl], kl))
        cells = [last]
        while cells[-1] != first:
            cells.append(came[cells[-1]])
        cells.reverse()
        path = np.array([[x1[i], x2[j]] for i, j in cells])
        return np.unwrap(path, axis=0), int(np.argmax([v[c] for c in cells]))

    def highestAlong(self, path: np.ndarray, perSegment: int = 8) -> float:
        """Highest F in kJ/mol along a polyline `path` [N, 2] of angles (rad), each segment taken the short way round."""
        path = np.asarray(path, dtype=float)
        steps = wrap(np.diff(path, axis=0))
        u = np.arange(perSegment) / perSegment
        points = (path[:-1, None, :] + u[None, :, None] * steps[:, None, :]).reshape(-1, 2)
        return float(np.max(self(np.vstack([points, path[-1:]]))))

    # ---- density

    def density(self, temperature) -> _core.CallableDensity:
        """The Boltzmann density p = exp(-F/kT) as a field for `densityGeodesics`, whose paths at tau = 1 are those of highest flux (MaxFlux).

        Scores -grad F/kT are those of the splines, exact to rounding, with no noise between. A path leaves its range where no sample supports the surface
        (`sampled` is False).

        Parameters
        ----------
        temperature : float or Quantity
            K.

        Returns
        -------
        CallableDensity
            Over the two variables in rad, both with the period 2 pi.

        Raises
        ------
        ValueError
            For a temperature that is not positive.
        """
        from . import _core
        from .geodesics import _kelvin

        if temperature is None:
            raise ValueError("FreeEnergySurface.density: expected a temperature in kelvin, got None")
        beta = 1 / (GAS_CONSTANT * _kelvin(temperature))
        shape = np.array(self.values.shape)

        def unsampled(c: np.ndarray) -> str:
            i, j = np.round((wrap(c) + np.pi) * shape / (2 * np.pi)).astype(int) % shape
            return "" if self.sampled[i, j] else "lies where no sample supports the surface"

        return _core.CallableDensity(lambda c: -beta * self.gradient(c), 2, periods=[2 * np.pi] * 2, logDensity=lambda c: -beta * self(c), rangeProblem=unsampled)

    # ---- models

    def _grid(self, variables: _core.Variables, temperature, bins: int) -> tuple[np.ndarray, np.ndarray]:
        """Points [bins^2, 2] (rad) of an exhaustive grid and the logarithms [bins^2] of their Boltzmann weights."""
        from .geodesics import _kelvin

        if len(variables) != 2 or any(abs(variables[j].period - 2 * np.pi) > 1e-9 for j in range(2)):
            raise ValueError(f"FreeEnergySurface: expected two variables with a period of 2 pi, got {', '.join(variables.names)}")
        if not (isinstance(bins, (int, np.integer)) and bins >= 8):
            raise ValueError(f"FreeEnergySurface: expected at least 8 bins, got {bins}")
        if temperature is None:
            raise ValueError("FreeEnergySurface: expected a temperature in kelvin, got None")
        axis = -np.pi + 2 * np.pi * np.arange(bins) / bins
        x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        return x, -self(x) / (GAS_CONSTANT * _kelvin(temperature))

    def model(self, variables: _core.Variables, temperature, bins: int = 90) -> _core.EmpiricalModel:
        """The exact posterior of this surface: every point of a bins x bins grid with the weight exp(-F/kT).

        Sums over the grid are the trapezoidal rule, which is exact to rounding for smooth periodic functions as long as the grid is
        finer than the posteriors: 2 pi/bins below about exp(-log-SNR/2), which 90 bins fulfil up to log-SNR 5. Where no sample supports the
        surface (`sampled` is False) the points keep the weight of the F stored there, the highest sampled one: those regions are
        unlikely, but not forbidden, and nothing that a model says of them is knowledge.

        Parameters
        ----------
        variables : Variables
            Two variables with a period of 2 pi, in the order of the surface.
        temperature : float or Quantity
            K.
        bins : int
            Grid points per variable, at least 8.

        Returns
        -------
        EmpiricalModel

        Raises
        ------
        ValueError
            For other variables, a temperature that is not positive, or too few bins.
        """
        from . import _core

        x, logWeights = self._grid(variables, temperature, bins)
        return _core.EmpiricalModel(x, variables, logWeights, grid=True)

    def saveGrid(self, path: Union[str, os.PathLike], variables: _core.Variables, temperature, bins: int = 90, overwrite: bool = False) -> None:
        """Write the grid of `model` to an .npz file, which the program reads as ``--samples`` and Python with `readSamples`.

        The arrays are x [bins^2, 2] (rad), log_weights [bins^2], variables (JSON) and grid (true).

        Parameters
        ----------
        path : path
            Name ending in ``.npz``.
        variables, temperature, bins
            As for `model`.
        overwrite : bool
            Replace an existing file.

        Raises
        ------
        ValueError
            As for `model`, for another ending, or where the file exists and `overwrite` is False.
        """
        from .ensemble import replace

        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"FreeEnergySurface.saveGrid: expected a name that ends in .npz, got '{path.name}'")
        if path.exists() and not overwrite:
            raise ValueError(f"'{path}' exists: choose another name or pass overwrite=True")
        x, logWeights = self._grid(variables, temperature, bins)
        replace(path, lambda file: np.savez_compressed(file, x=x, log_weights=logWeights, variables=np.array(variables.toJson()), grid=np.array(True)))
