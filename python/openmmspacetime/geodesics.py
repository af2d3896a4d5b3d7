# SPDX-License-Identifier: MIT
"""Geodesics between two states, and training of the models they live on."""
from __future__ import annotations

import math
import os
import warnings
from typing import Callable, Sequence

import numpy as np
from openmm import unit

from . import _core


def _kelvin(temperature) -> float:
    if temperature is None:
        return 0.0
    if unit.is_quantity(temperature):
        temperature = temperature.value_in_unit(unit.kelvin)
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"expected a positive temperature in kelvin, got {temperature}")
    return float(temperature)


def _raw(point, variables: _core.Variables, what: str) -> np.ndarray:
    """A point in raw units (rad, nm) as [n] floats; Quantities are converted."""
    units = {"rad": unit.radian, "nm": unit.nanometer}
    values = []
    if unit.is_quantity(point):
        point = [point[i] for i in range(len(point))]
    if len(point) != len(variables):
        raise ValueError(f"{what}: expected {len(variables)} values ({', '.join(variables.names)}), got {len(point)}")
    for value, variable in zip(point, variables):
        if unit.is_quantity(value):
            if variable.unit not in units:
                raise ValueError(f"{what}: variable '{variable.name}' has no unit, got {value}")
            value = value.value_in_unit(units[variable.unit])
        values.append(float(value))
    return np.array(values)


def geodesics(
    model: _core.PosteriorModel,
    a: Sequence,
    b: Sequence,
    logSnr: float | tuple[float, float] = 4.0,
    points: int = 129,
    minLogSnr: float | None = None,
    minKappa: float = 0.0,
    barrierWeight: float | None = None,
    route: str | None = None,
    preset: str | None = None,
    temperature=None,
    tolerance: float = 1e-6,
    maxIterations: int = 200,
) -> list[_core.GeodesicResult]:
    """All windings of the shortest curve between two states, best first.

    The Fisher-Rao energy (N/2) sum_i D eta_i . D mu_i of a discretised curve is minimised over its nodes (arXiv:2505.17517
    for the length; the solver is a Newton method on all nodes at once).

    Parameters
    ----------
    model : PosteriorModel
    a, b : sequence [n]
        The two states in raw units (rad, nm) or as Quantities.
    logSnr : float or (float, float)
        log-SNR of the ends; for torsions kappa = exp(logSnr).
    points : int
        Nodes of the curve, at least 5.
    minLogSnr, minKappa : float
        Lower bounds along the curve. Without a bound on kappa the curve may pass through kappa = 0.
    barrierWeight : float
        w of the conformal metric exp(2 w psi*) ds_FR^2 that is minimised, psi* = eta . mu - psi = KL(p(.|z) || q) in nats, the information
        cost of localising there. Above 0 the curve goes round free-energy barriers, which Fisher-Rao length does not see; its nodes are
        then respaced to equal Fisher-Rao length. 0 unless a preset says otherwise.
    route : {'shortest', 'lowest'}
        Which winding comes first: the shortest in that metric, or the one whose highest free energy is lowest. Shortest unless a preset says otherwise.
    preset : {'transition'}, optional
        A low-variance curve for driving molecules: log-SNR and log kappa stay at or above 4, barrierWeight 0.05, route lowest.
    temperature : float or Quantity, optional
        K, recorded in the curve.

    Returns
    -------
    list of GeodesicResult

    Raises
    ------
    ValueError
        For end points outside the model's range or below a bound, and for malformed input.
    """
    variables = model.variables
    if preset is not None:
        if preset != "transition":
            raise ValueError(f"expected preset 'transition', got {preset!r}")
        minLogSnr = 4.0 if minLogSnr is None else minLogSnr
        barrierWeight = 0.05 if barrierWeight is None else barrierWeight
        route = "lowest" if route is None else route
    ends = np.broadcast_to(np.asarray(logSnr, dtype=float), (2,))
    etaA = variables.naturalParameter(_raw(a, variables, "a"), ends[0])
    etaB = variables.naturalParameter(_raw(b, variables, "b"), ends[1])
    results = _core.geodesicResults(
        model, etaA, etaB, points, tolerance, maxIterations, -math.inf if minLogSnr is None else minLogSnr, minKappa, barrierWeight or 0.0,
        route or "shortest"
    )
    kelvin = _kelvin(temperature)
    for result in results:
        result.curve.temperature = kelvin
    best = results[0]
    if not best.converged:
        warnings.warn(f"the geodesic did not converge: relative Newton decrement {best.residual:.1e}, expected {tolerance:.1e}", stacklevel=2)
    if best.measure.minNEff < _core.MIN_N_EFF:
        warnings.warn(
            f"only {best.measure.minNEff:.0f} effective samples lie on parts of the curve, at least {_core.MIN_N_EFF:.0f} are needed to trust it: "
            "sample there or give the model a bandwidth",
            stacklevel=2,
        )
    if best.measure.negativeEdges:
        warnings.warn(f"model inconsistent on {best.measure.negativeEdges} of {points - 1} segments", stacklevel=2)
    return results


def geodesic(model: _core.PosteriorModel, a: Sequence, b: Sequence, **options) -> _core.Curve:
    """The best curve of `geodesics` (same parameters, warnings and errors)."""
    return geodesics(model, a, b, **options)[0].curve


def straightLine(variables: _core.Variables, a: Sequence, b: Sequence, logSnr: float = 4.0, points: int = 129, windings: Sequence[int] | None = None) -> _core.Curve:
    """The null baseline: a straight line in raw coordinates at constant log-SNR, uniform in s.

    Lifted variables go the short way round, plus whole turns where `windings` [n] asks for them.
    """
    return _core.straightLine(variables, _raw(a, variables, "a"), _raw(b, variables, "b"), logSnr, points, [0] * len(variables) if windings is None else list(windings))


def train(
    samples,
    variables: _core.Variables,
    logWeights=None,
    temperature=None,
    out: str | os.PathLike | None = None,
    steps: int | None = None,
    batch: int | None = None,
    points: int | None = None,
    seed: int = 1,
    device: str = "cpu",
    width: int | None = None,
    layers: int | None = None,
    minLogSnr: float | None = None,
    maxLogSnr: float | None = None,
    threads: int = 0,
    progress: Callable[[int, int, float, float], bool | None] | None = None,
    overwrite: bool = False,
) -> _core.NetworkModel:
    """Train a denoising network on weighted samples (in C++ with LibTorch) and return it.

    Parameters
    ----------
    samples : array [K, n]
        Raw values (rad, nm).
    variables : Variables
    logWeights : array [K], optional
    temperature : float or Quantity, optional
        K, recorded in the file.
    out : path, optional
        Model file to write, `.safetensors`; a temporary one by default.
    steps, batch, width, layers : int, optional
        Optimiser steps, points a step, network shape.
    points : int, optional
        Spacetime points whose exact posterior is computed once and trained on.
    seed : int
        Same seed, same network.
    minLogSnr, maxLogSnr : float, optional
        Trained range of log-SNR (log kappa for torsions).
    progress : callable(step, steps, loss, validation), optional
        Validation is the error of the posterior mean in posterior standard deviations. Return False to stop early and keep what was learned.

    Raises
    ------
    ValueError
        For NaN, wrong shapes, or an existing `out` without `overwrite`.
    RuntimeError
        Where LibTorch does not load; the message says what to install.
    """
    model = _core.EmpiricalModel(samples, variables, logWeights)
    temporary = None
    if out is None:
        import tempfile

        temporary = tempfile.TemporaryDirectory()
        path = os.path.join(temporary.name, "model.safetensors")
    else:
        path = os.fspath(out)
        if os.path.exists(path) and not overwrite:
            raise ValueError(f"'{path}' exists: choose another name or pass overwrite=True")
    inf = math.inf
    callback = None if progress is None else lambda *report: progress(*report) is not False
    _core.trainNetwork(
        model, path, steps or 0, batch or 0, points or 0, seed, _kelvin(temperature), device, width or 0, layers or 0,
        inf if minLogSnr is None else minLogSnr, inf if maxLogSnr is None else maxLogSnr, threads, callback,
    )
    return _core.NetworkModel.load(path)
