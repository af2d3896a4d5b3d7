# SPDX-License-Identifier: MIT
"""Geodesics and lengths in thousands of dimensions: pictures, latents."""
from __future__ import annotations

import warnings
from typing import Callable, Sequence

import numpy as np

from . import _core


def _options(given: dict) -> _core.MatrixFreeOptions:
    options = _core.MatrixFreeOptions()
    start = given.pop("start", None)
    if start is not None:
        options.start = start.eta if isinstance(start, _core.Curve) else start
    for name, value in given.items():
        if value is not None:
            if not hasattr(options, name):
                raise TypeError(f"matrixFreeGeodesic() got an unexpected keyword argument '{name}'")
            setattr(options, name, value)
    return options


def matrixFreeGeodesic(
    model: _core.PosteriorModel,
    etaA: Sequence,
    etaB: Sequence,
    points: int = 17,
    tolerance: float = 1e-2,
    maxIterations: int = 100,
    probes: int = 1,
    measureProbes: int = 16,
    seed: int = 1,
    batch: int = 0,
    minLogSnr: float | None = None,
    stiffness: float | None = None,
    start: _core.Curve | np.ndarray | None = None,
    progress: Callable[[float], bool | None] | None = None,
) -> _core.MatrixFreeResult:
    """The shortest curve between two natural parameters of a model whose covariance is too large to be written down.

    The Fisher-Rao energy (N/2) sum_i D eta_i . D mu_i (arXiv:2505.17517) is minimised over the nodes of a curve on 4, 8, 16, ... segments by a
    preconditioned limited-memory quasi-Newton method. The model is asked for denoised means and their derivatives along single directions alone; tr Cov,
    part of E|c|^2, is estimated by the same random probes at every node, and exactly along the chord of the curve.

    Parameters
    ----------
    model : PosteriorModel
        Of unlifted variables only.
    etaA, etaB : array [D + 1]
        Natural parameters of the ends, (-e^l/2, e^l y) with y = x/alpha: of Variables.naturalParameter or flow's.
    points : int
        Nodes, at least 3.
    tolerance : float
        On the decrease of the energy that the next step promises, relative to the energy.
    probes : int
        Random probes a node in the solver.
    measureProbes : int
        Probes of the final length, drawn anew.
    batch : int
        Points that go to the model together; 0 chooses. The result does not depend on it.
    minLogSnr : float, optional
        Lower bound along the curve; never below the model's range.
    stiffness : float, optional
        A trained denoiser's covariance has negative eigenvalues, to -0.3 noise variances, where a true one has none, and a curve that makes use of them is as
        short as one likes. So this share of the noise's own covariance is added to the denoiser's while the curve is found, never in its length. 0 for
        exact models, 0.1 for others.
    start : Curve or array [K, D + 1], optional
        In place of half-circles of a flat prior, of several effective dimensions, the best of which is taken.
    progress : callable(fraction), optional
        Return False to stop; the curve as it stands is returned.

    Returns
    -------
    MatrixFreeResult
        Identical ends give a curve of length 0.

    Raises
    ------
    ValueError
        For end points outside the model's range, lifted variables and malformed input.
    """
    etaA, etaB = (np.asarray(eta, dtype=float) for eta in (etaA, etaB))
    for eta, name in ((etaA, "etaA"), (etaB, "etaB")):
        if eta.shape != (model.variables.numStatistics,):
            raise ValueError(f"{name}: expected {model.variables.numStatistics} natural parameters, got shape {eta.shape}")
    result, = matrixFreeGeodesics(model, etaA[None], etaB[None], progress=progress, points=points, tolerance=tolerance, maxIterations=maxIterations, probes=probes,
                                  measureProbes=measureProbes, seed=seed, batch=batch, minLogSnr=minLogSnr, stiffness=stiffness, start=start)
    if result.error:
        raise ValueError(result.error)
    if not result.converged:
        warnings.warn(f"the geodesic did not converge: the next step promises a decrease of the energy by {result.residual:.1e} of it, expected {tolerance:.1e}: "
                      "raise maxIterations or probes", stacklevel=2)
    if result.measure.negativeEdges:
        warnings.warn(f"the model is inconsistent on {result.measure.negativeEdges} of {points - 1} segments, whose D eta . D mu is negative: their lengths count as 0. "
                      "Train it longer, or raise minLogSnr", stacklevel=2)
    return result


def matrixFreeGeodesics(model: _core.PosteriorModel, etaA, etaB, progress: Callable[[float], bool | None] | None = None, **options) -> list[_core.MatrixFreeResult]:
    """Geodesics between the rows of two arrays [pairs, D + 1], all together, so that a model that is fast on many points gets many.

    Parameters are those of `matrixFreeGeodesic`. A bad pair has its reason in `error` and does not stop the others; nor is anything said of pairs
    that did not converge but by `converged`.
    """
    return _core.matrixFreeGeodesics(model, etaA, etaB, _options(options), progress)


def measureWithProbes(model: _core.PosteriorModel, eta: _core.Curve | np.ndarray, probes: int = 16, seed: int = 1, batch: int = 0,
                      progress: Callable[[float], bool | None] | None = None) -> _core.ProbeMeasure:
    """Length and energy of a curve, or of natural parameters [N + 1, D + 1], with standard errors (jackknife) over random probes.

    The same probes serve all nodes, so that their noise cancels in the differences of neighbours. Curves measured with the same seed and chord share
    probes: their differences are known better than either.

    Raises
    ------
    ValueError
        For lifted variables, fewer than two points or probes, and values that are not finite.
    """
    return _core.measureWithProbes(model, eta.eta if isinstance(eta, _core.Curve) else eta, probes, seed, batch, progress)
