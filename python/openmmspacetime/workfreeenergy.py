# SPDX-License-Identifier: MIT
"""Free energies from the work of driven paths, and estimates of several kinds side by side."""
from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

import numpy as np

from . import _core
from .analysis import _number
from .ensemble import PathEnsemble
from .estimates import Estimate, _aligned, _plusMinus
from .estimators import OVERLAP, FreeEnergies, _gap
from .report import _plain
from .surface import GAS_CONSTANT

__all__ = ["FreeEnergyComparison", "WorkFreeEnergy", "bar", "compareFreeEnergies"]


@dataclass(repr=False)
class WorkFreeEnergy:
    """Free-energy difference of the biased ends from the work of driving forward and backward.

    Attributes
    ----------
    freeEnergyDifference : Estimate
        F of the curve's end minus that of its start, kJ/mol.
    dissipatedForward, dissipatedBackward : Estimate
        <W_F> - dF and <W_B> + dF, kJ/mol.
    hysteresis : Estimate
        <W_F> + <W_B>: the sum of both, which needs no dF.
    overlap : float
        Of the two distributions of work as MBAR has it, 1 minus the second eigenvalue: 0 for none, 1 where nothing dissipates.
    numForward, numBackward : int
        Paths.
    temperature : float
        K.
    forward, backward : ndarray
        The works, kJ/mol.
    """

    freeEnergyDifference: Estimate
    dissipatedForward: Estimate
    dissipatedBackward: Estimate
    hysteresis: Estimate
    overlap: float
    numForward: int
    numBackward: int
    temperature: float
    forward: np.ndarray
    backward: np.ndarray

    method = "BAR"

    @property
    def table(self) -> str:
        """Text: a row for each number."""
        rows = [("", "kJ/mol"), ("dF", str(self.freeEnergyDifference)), (f"dissipated forward ({self.numForward} paths)", str(self.dissipatedForward)),
                (f"dissipated backward ({self.numBackward} paths)", str(self.dissipatedBackward)), ("hysteresis", str(self.hysteresis))]
        return "\n".join(_aligned(rows)+[f"BAR: overlap of the works {self.overlap:.2f} at {self.temperature:g} K"])

    def __str__(self) -> str:
        return self.table

    def asDict(self) -> Dict[str, Any]:
        """Plain lists and numbers, for JSON; an Estimate is [value, error]."""
        return _plain({"method": self.method, **vars(self)})

    def __repr__(self) -> str:
        return f"WorkFreeEnergy(BAR, dF {self.freeEnergyDifference} kJ/mol from {self.numForward} forward and {self.numBackward} backward paths, overlap {self.overlap:.2f})"


def bar(forward: Any, backward: Any, temperature: Any = None) -> WorkFreeEnergy:
    r"""Free-energy difference of the biased ends of a curve from independent forward and backward paths (Bennett's acceptance ratio).

    Crooks' relation p_F(W)/p_B(-W) = exp((W - dF)/kT) holds for paths that start in equilibrium, at one end each, and are driven by the same protocol, once in reverse; the
    best dF of it is Bennett's (Shirts, Bair, Hooker and Pande, Phys. Rev. Lett. 91, 140601 (2003)),

    .. math:: \sum_F f(M + (W_F - \Delta F)/kT) = \sum_B f(-M + (W_B + \Delta F)/kT), \quad f(x) = 1/(1+e^x), \; M = \log(N_F/N_B).

    Errors take the paths for independent of each other; starts that are not (all from one frame, not equilibrated) make them too small.

    Parameters
    ----------
    forward, backward : PathEnsemble, or array of work
        Complete paths of either direction. Work in kJ/mol is what moving the bias costs, in either direction, as PathRecord.work has it.
    temperature : float or Quantity, optional
        K; needed for arrays.

    Returns
    -------
    WorkFreeEnergy

    Raises
    ------
    ValueError
        The same paths on both sides, or the same seeds; fewer than 2 paths; numbers that are not finite; ensembles of another direction, curve, temperature or protocol.

    Warns
    -----
    UserWarning
        The works of the two directions hardly overlap: dF then is hardly better than either side's.
    """
    ensembles = [isinstance(x, PathEnsemble) for x in (forward, backward)]
    if any(ensembles) and not all(ensembles):
        raise ValueError("bar: expected two PathEnsembles or two arrays of work, but got one of each")
    if all(ensembles):
        for ensemble, direction in ((forward, "forward"), (backward, "backward")):
            if ensemble.direction != direction:
                raise ValueError(f"bar: expected {direction} paths, but {ensemble!r} was driven {ensemble.direction}")
        _sameProtocol(forward, backward)
        temperature = forward.temperature if temperature is None else temperature
    if temperature is None:
        raise ValueError("bar: expected temperature= (K) with arrays of work")
    temperature = _number(temperature)
    if not temperature > 0:
        raise ValueError(f"bar: expected a positive temperature in K, but got {temperature}")
    kT = GAS_CONSTANT*temperature
    works = []
    for name, x in (("forward", forward), ("backward", backward)):
        w = np.array([record.work for record in x] if isinstance(x, PathEnsemble) else x, dtype=float)
        if w.ndim != 1 or len(w) < 2:
            raise ValueError(f"bar: expected the work of at least 2 {name} paths, but got an array of shape {list(w.shape)}")
        if not np.all(np.isfinite(w)):
            raise ValueError(f"bar: expected finite work, but {name} path {int(np.argwhere(~np.isfinite(w))[0][0])} has {w[~np.isfinite(w)][0]}")
        works.append(w/kT)
    wF, wB = works
    if len(wF) == len(wB) and (np.array_equal(np.sort(wF), np.sort(wB)) or np.array_equal(np.sort(wF), np.sort(-wB))) and np.ptp(wF) > 0:
        raise ValueError("bar: forward and backward are the same works, expected those of independent paths of either direction")
    dF = _solveBar(wF, wB)
    M = math.log(len(wF)/len(wB))
    fF, fB = _fermi(M+wF-dF), _fermi(-M+wB+dF)
    slope = float((fF*(1-fF)).sum()+(fB*(1-fB)).sum())
    # Influence of each path on dF, on the means, and so on whatever is made of them.
    onF, onB = -(fF-fF.mean())/slope, (fB-fB.mean())/slope
    meanF, meanB = (wF-wF.mean())/len(wF), (wB-wB.mean())/len(wB)

    def estimate(value: float, partF: np.ndarray, partB: np.ndarray) -> Estimate:
        n = len(partF), len(partB)
        return Estimate(kT*value, kT*math.sqrt((partF@partF)*n[0]/(n[0]-1)+(partB@partB)*n[1]/(n[1]-1)))

    # Two states, W of MBAR: f and 1 - f over the numbers of paths.
    a, b = np.concatenate([fF, 1-fB]), np.concatenate([1-fF, fB])  # that a path were forward's start, or the end's
    W = np.stack([b/len(wF), a/len(wB)], axis=1)
    overlap = min(1.0, max(0.0, _gap((W.T@W)*[len(wF), len(wB)])))
    if overlap < OVERLAP or wF.min() > (-wB).max():
        warnings.warn(f"bar: forward and backward works hardly overlap ({overlap:.2g}; least forward {kT*wF.min():.1f}, largest -backward {-kT*wB.min():.1f} kJ/mol): "
                      "drive more slowly, or along a curve that dissipates less, until they do; dF is biased and its error too small until then", stacklevel=2)
    return WorkFreeEnergy(estimate(dF, onF, onB), estimate(wF.mean()-dF, meanF-onF, -onB), estimate(wB.mean()+dF, onF, meanB+onB),
                          estimate(wF.mean()+wB.mean(), meanF, meanB), overlap, len(wF), len(wB), temperature, kT*wF, kT*wB)


def _fermi(x: np.ndarray) -> np.ndarray:
    return 0.5*(1-np.tanh(x/2))


def _solveBar(wF: np.ndarray, wB: np.ndarray) -> float:
    """dF/kT of Bennett's equation, whose logarithm rises with dF throughout. (pymbar's bar() returns 0 or does not end where the works do not overlap.)"""
    from scipy.optimize import brentq
    from scipy.special import log_expit, logsumexp

    M = math.log(len(wF)/len(wB))
    both, room = np.concatenate([wF, -wB]), 10+abs(M)
    return float(brentq(lambda x: logsumexp(log_expit(x-M-wF))-logsumexp(log_expit(M-wB-x)), both.min()-room, both.max()+room, xtol=1e-10))


def _sameProtocol(forward: PathEnsemble, backward: PathEnsemble) -> None:
    if os.path.realpath(forward.directory) == os.path.realpath(backward.directory):
        raise ValueError(f"bar: forward and backward are the same paths, those in {forward.directory}; expected independent ones")
    shared = {record.seed for record in forward} & {record.seed for record in backward}
    if shared:
        raise ValueError(f"bar: {len(shared)} forward and backward paths have the same seed ({min(shared)}), hence the same random numbers; run one side with another seed")
    if forward.eta.shape != backward.eta.shape or not np.allclose(forward.s, backward.s) or not np.allclose(forward.eta, backward.eta):
        raise ValueError(f"bar: {forward!r} and {backward!r} were driven along different curves")
    if abs(forward.temperature-backward.temperature) > 1e-6*forward.temperature:
        raise ValueError(f"bar: forward paths ran at {forward.temperature:g} K, backward ones at {backward.temperature:g} K; expected one temperature")
    for name in ("steps", "stepsPerMove"):
        if forward.settings[name] != backward.settings[name]:
            raise ValueError(f"bar: expected the same protocol in reverse, but {name} is {forward.settings[name]} forward and {backward.settings[name]} backward")


@dataclass(repr=False)
class FreeEnergyComparison:
    """Free-energy differences of the ends by several methods.

    Attributes
    ----------
    names : list of str
    values, errors : ndarray [n]
        kJ/mol; an error of 0 for what has none (a model).
    z : ndarray [n, n]
        Differences over their combined errors, (value_i - value_j)/sqrt(error_i² + error_j²). MBAR and TI of the same samples are not independent, so that theirs is
        an underestimate or an overestimate; BAR of other paths is.
    """

    names: List[str]
    values: np.ndarray
    errors: np.ndarray
    z: np.ndarray

    @property
    def table(self) -> str:
        """Text: a row for each method, with its z-scores against the others."""
        rows = [("", "method", "dF (kJ/mol)", *(f"z to {j+1}" for j in range(len(self.names)-1)))]
        for i, name in enumerate(self.names):
            rows.append((str(i+1), name, _plusMinus(self.values[i], self.errors[i] or math.nan), *("" if j >= i else f"{round(self.z[i, j], 1)+0.0:.1f}" for j in range(len(self.names)-1))))
        worst = np.nanmax(np.abs(self.z)) if len(self.names) > 1 else 0.0
        return "\n".join(_aligned(rows)+[f"largest |z| {worst:.1f}: {'they agree' if worst < 3 else 'they do not agree, so that at least one is not converged or wrong'}"])

    def __str__(self) -> str:
        return self.table

    def asDict(self) -> Dict[str, Any]:
        """Plain lists and numbers, for JSON; nan becomes None."""
        return _plain(dict(vars(self)))

    def __repr__(self) -> str:
        return f"FreeEnergyComparison({', '.join(f'{n} {_plusMinus(v, e or math.nan)}' for n, v, e in zip(self.names, self.values, self.errors))} kJ/mol)"


def compareFreeEnergies(estimates: Mapping[str, Any]) -> FreeEnergyComparison:
    """One table of the free-energy difference of the ends by several methods.

    Parameters
    ----------
    estimates : mapping from names to
        FreeEnergies (of :func:`mbar`, :func:`thermodynamicIntegration`), WorkFreeEnergy (of :func:`bar`), (value, error) in kJ/mol, a number, or a PosteriorModel, whose
        -kT (psi_B - psi_A) is taken at the end states of the first FreeEnergies among the others.

    Returns
    -------
    FreeEnergyComparison

    Raises
    ------
    ValueError
        Nothing to compare, a model without psi, or a model without FreeEnergies beside it.
    """
    if not isinstance(estimates, MappingABC) or not estimates:
        raise ValueError("compareFreeEnergies: expected a mapping from names to free energies, {'MBAR': mbar(samples), ...}")
    first = next((e for e in estimates.values() if isinstance(e, FreeEnergies)), None)
    pairs: list[tuple[float, float]] = []
    for name, e in estimates.items():
        if isinstance(e, FreeEnergies):
            pairs.append(e.freeEnergyDifference())
        elif isinstance(e, WorkFreeEnergy):
            pairs.append(e.freeEnergyDifference)
        elif isinstance(e, _core.PosteriorModel):
            if first is None:
                raise ValueError(f"compareFreeEnergies: the model '{name}' needs FreeEnergies beside it that say what the end states are")
            psi = e.moments(first.samples.eta[[0, -1]]).psi
            if psi is None:
                raise ValueError(f"compareFreeEnergies: the model '{name}' knows no log-partition psi")
            pairs.append((-first.samples.kT*float(psi[1]-psi[0]), 0.0))
        else:
            value, error = e if np.ndim(e) == 1 else (e, 0.0)
            pairs.append((_number(value), _number(error)))
    values, errors = np.array([float(v) for v, _ in pairs]), np.array([float(e) for _, e in pairs])
    both = np.hypot(errors[:, None], errors[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(both > 0, (values[:, None]-values[None, :])/both, np.nan)
    np.fill_diagonal(z, 0.0)
    return FreeEnergyComparison(list(estimates), values, errors, z)
