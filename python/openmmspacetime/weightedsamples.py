# SPDX-License-Identifier: MIT
"""Samples of collective variables with weights for one temperature, and what they say without a model."""
from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Sequence, Tuple, Union

import numpy as np

from . import _core
from .analysis import _difference, _number
from .ensemble import replace
from .surface import FreeEnergySurface

__all__ = ["WeightedSamples"]

#: Errors of surfaces are told of the region where F is below this, kJ/mol.
LOW = 50.0


@dataclass(repr=False)
class WeightedSamples:
    """Samples of collective variables with weights for one temperature: what :class:`EmpiricalModel` and :func:`train` take.

    Attributes
    ----------
    x : ndarray [K, n]
        Raw values (rad, nm), one copy (ladder, walker) after the other.
    logWeights : ndarray [K]
        The weights add up to 1.
    copy : ndarray [K]
        Which of the independent copies each sample comes from.
    variables : Variables
    temperature : float
        The target temperature in K.
    steps : int
        Time steps of all copies and replicas together.
    seconds : float
        Wall time of the run that made them; of a resumed one, since it was resumed.
    """

    x: np.ndarray
    logWeights: np.ndarray
    copy: np.ndarray
    variables: _core.Variables
    temperature: float
    steps: int
    seconds: float

    @property
    def nEff(self) -> float:
        """Effective number of samples, 1/sum(w^2). It counts neighbours in time as independent, so it is an upper bound."""
        return float(np.exp(-np.logaddexp.reduce(2*self.logWeights)))

    def parts(self) -> List[Tuple[np.ndarray, np.ndarray]]:
        """(x [k, n], logWeights [k]) of each copy alone, the weights of each adding up to 1: whatever is estimated from them differs by its error."""
        result = []
        for i in range(int(self.copy.max())+1):
            w = self.logWeights[self.copy == i]
            result.append((self.x[self.copy == i], w-np.logaddexp.reduce(w)))
        return result

    def error(self, estimate: Callable[[np.ndarray, np.ndarray], Any]) -> Any:
        """Standard error of ``estimate(x, logWeights)``, a number or array, from the independent copies; nan where there is only one."""
        values = np.array([estimate(x, w) for x, w in self.parts()], dtype=float)
        if len(values) < 2:
            return np.full(values.shape[1:], np.nan)[()]
        return np.std(values, axis=0, ddof=1)/np.sqrt(len(values))

    def thinned(self, most: int = 50_000) -> Tuple[np.ndarray, np.ndarray]:
        """At most `most` samples, evenly chosen: (x [k, n], logWeights [k])."""
        keep = np.linspace(0, len(self.x)-1, min(most, len(self.x))).astype(int)
        w = self.logWeights[keep]
        return self.x[keep], w-np.logaddexp.reduce(w)

    def basin(self, near: Sequence[Any], logSnr: float = 4.0, maxShift: float = 1.0) -> np.ndarray:
        """The centre [n] (rad, nm) of the basin that a structure lies in: a maximum of the samples' density, uphill from `near` by mean shift.

        The kernel of the mean shift is the denoising distribution at `logSnr` (for torsions a von Mises distribution of kappa = exp(logSnr)), so what it finds is where a
        curve with ends of that log-SNR can start.

        Parameters
        ----------
        near : sequence [n]
            Raw values, for example ``variables.measure(positions)``.
        logSnr : float
        maxShift : float
            How far `near` may lie from the centre: in rad, and in units of their scale for variables that are not torsions.

        Raises
        ------
        ValueError
            Fewer than 30 effective samples lie there, or the next basin is farther than `maxShift`: the structure is outside what was sampled.
        """
        what, names = f"{type(self).__name__}.basin", self.variables.names
        begin = c = np.array([_number(x) for x in near])
        if c.shape != (len(names),) or not np.all(np.isfinite(c)):
            raise ValueError(f"{what}: expected {len(names)} finite values ({', '.join(names)}), but got {c.tolist()}")
        period, scale = np.array([v.period for v in self.variables]), np.array([v.scale for v in self.variables])

        def shift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return _difference(a, b, period)/np.where(period > 0, 1.0, scale)

        model = self._model
        for _ in range(500):
            moments = model.moments(self.variables.naturalParameter(c, logSnr)[None])
            before, c = c, np.asarray(self.variables.meanPosition(moments.mu))[0]
            if np.abs(shift(c, before)).max() < 1e-6:
                break
        moved = shift(c, begin)
        effective = model.moments(self.variables.naturalParameter(c, logSnr)[None]).nEff
        assert effective is not None  # an EmpiricalModel's
        nEff = float(effective[0])
        if nEff < _core.MIN_N_EFF or np.linalg.norm(moved) > maxShift:
            worst = int(np.argmax(np.abs(moved)))
            raise ValueError(f"{what}: the structure at "+", ".join(f"{n} {v:.2f}" for n, v in zip(names, begin))+" lies outside what was sampled: the next basin, at "
                             + ", ".join(f"{n} {v:.2f}" for n, v in zip(names, c))+f", is {np.linalg.norm(moved):.2f} away ({names[worst]} by {abs(moved[worst]):.2f}; at most {maxShift:g} "
                             f"is allowed) and holds {nEff:.0f} effective samples (at least {_core.MIN_N_EFF:.0f} are needed). Sample longer or hotter, start replicas from this structure, or relax "
                             "it first: it may not be a minimum")
        return c

    @functools.cached_property
    def _model(self) -> _core.EmpiricalModel:
        x, logWeights = self.thinned()
        return _core.EmpiricalModel(x, self.variables, logWeights)

    @functools.cached_property
    def surface(self) -> FreeEnergySurface:
        """F of two torsions from all samples, with the error that the copies' differences give. ValueError for other variables."""
        if [v.kind for v in self.variables] != ["torsion"]*2:
            raise ValueError(f"{type(self).__name__}.surface: expected two torsions, but the variables are {', '.join(self.variables.names)}")
        return surfaceOf(self.parts(), self.temperature, self.variables.names)

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write the samples as .npz, which :func:`readSamples` and the program read: ``x``, ``log_weights``, ``copy`` and ``variables``."""
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"{type(self).__name__}.save: expected a name that ends in .npz, got '{path.name}'")
        replace(path, lambda file: np.savez_compressed(file, x=self.x.astype(np.float32), log_weights=self.logWeights.astype(np.float32), copy=self.copy.astype(np.int16),
                                                       variables=np.array(self.variables.toJson())))

    def __repr__(self) -> str:
        return (f"{type(self).__name__}({len(self.x):,} samples of {', '.join(self.variables.names)} for {self.temperature:g} K, N_eff {self.nEff:,.0f}; "
                f"{int(self.copy.max())+1} copies, {self.steps:,} steps)")


def surfaceOf(parts: Sequence[Tuple[np.ndarray, np.ndarray]], temperature: float, names: Sequence[str] = ("phi", "psi")) -> FreeEnergySurface:
    """The surface of all samples; its `error` is the standard error of the mean of the copies' own surfaces.

    Parameters
    ----------
    parts : list of (x [K, 2], logWeights [K])
        One entry a copy. All copies count equally, however their weights are normalised.
    temperature : float
        K.
    names : sequence of two str
    """
    logW = [w-np.logaddexp.reduce(w) for _, w in parts]
    surface = FreeEnergySurface.fromSamples(np.concatenate([x for x, _ in parts]), np.concatenate(logW), temperature, names=names)
    low = (surface.values < LOW) & surface.sampled
    own = [FreeEnergySurface.fromSamples(x, w, temperature).values for (x, _), w in zip(parts, logW)]
    surface.error = np.std([F-F[low].mean() for F in own], axis=0, ddof=1)/np.sqrt(len(parts)) if len(parts) > 1 else None
    return surface


def errorBelow(surface: FreeEnergySurface, below: float = LOW) -> float:
    """Root mean square error of `surface` in kJ/mol where F is under `below`; NaN when it is not known."""
    if surface.error is None:
        return float("nan")
    return float(np.sqrt(np.mean(surface.error[(surface.values < below) & surface.sampled]**2)))
