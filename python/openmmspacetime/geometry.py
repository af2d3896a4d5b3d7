# SPDX-License-Identifier: MIT
"""Riemannian geometry of spacetime: exponential and logarithm maps, divergences and the metric.

The denoising distributions p(c|eta) = q(c) exp(eta . T(c) - psi(eta)) are an exponential family (arXiv:2505.17517). A point of
spacetime is its natural parameter eta [m]; `model.variables.naturalParameter(raw, logSnr)` gives that of a state in raw units (rad, nm).
mu = grad psi is the mean of T, and the Fisher-Rao metric is H = d mu/d eta = Cov[T]. For a network H is the symmetric part of d mu/d eta.
Lengths are in units of posterior standard deviations, divergences in nats.
"""
from __future__ import annotations

import warnings
from typing import Sequence

import numpy as np

from . import _core


def _points(eta, model: _core.PosteriorModel, what: str) -> np.ndarray:
    """One point [m] or points [N, m] as [N, m] floats."""
    try:
        points = np.asarray(eta, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: expected numbers: {error}") from None
    m = model.variables.numStatistics
    if points.ndim not in (1, 2) or points.shape[-1] != m or points.size == 0:
        raise ValueError(f"{what}: expected natural parameters [{m}] or [N, {m}], got an array of shape {points.shape}")
    return np.atleast_2d(points)


def _pairs(model: _core.PosteriorModel, etaA, etaB) -> tuple[np.ndarray, np.ndarray, bool]:
    """Both ends as arrays of the same length, and whether both were one point."""
    a, b = _points(etaA, model, "etaA"), _points(etaB, model, "etaB")
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise ValueError(f"expected as many points in etaA as in etaB, or one, got {len(a)} and {len(b)}")
    single = np.ndim(etaA) == 1 and np.ndim(etaB) == 1
    a, b = np.broadcast_arrays(a, b)
    return a, b, single


def exponentialMap(model: _core.PosteriorModel, eta: Sequence, velocity: Sequence, points: int = 129, tolerance: float = 1e-8) -> _core.GeodesicShot:
    """The geodesic that starts at a point with a velocity, t from 0 to 1.

    Integrates 2 H eta'' + T3[eta'] eta' = 0, T3[w] being the derivative of the metric H along w, with adaptive steps of order 8.
    The squared speed eta'^T H eta' is conserved; how well is returned.

    Parameters
    ----------
    model : PosteriorModel
    eta : array [m]
        Start, a natural parameter.
    velocity : array [m]
        d eta/dt at t = 0; the length of the geodesic is sqrt(velocity^T H velocity).
    points : int
        Points of the result at equal steps of t, at least 2.
    tolerance : float
        Error of each integration step in the metric, relative to the length.

    Returns
    -------
    GeodesicShot
        With `eta` [points, m], `velocity` [points, m], `length`, `speedError` (largest relative change of the speed), `minNEff` (fewest
        effective samples at a point) and `curve`, the same points as a Curve with s = t.

    Raises
    ------
    ValueError
        For malformed input, a start outside the model's range, and where the geodesic ends before t = 1, with the t and eta reached:
        it leaves spacetime (eta_l reaches 0, log-SNR minus infinity), or the metric becomes singular or is not positive.
    """
    shot = _core.exponentialMap(model, eta, velocity, points, tolerance)
    if shot.minNEff < _core.MIN_N_EFF:
        warnings.warn(
            f"only {shot.minNEff:.0f} effective samples lie on parts of the geodesic, at least {_core.MIN_N_EFF:.0f} are needed to trust it: "
            "sample there or give the model a bandwidth",
            stacklevel=2,
        )
    return shot


def logarithmMap(model: _core.PosteriorModel, etaA: Sequence, etaB: Sequence, points: int = 129, tolerance: float = 1e-8) -> np.ndarray:
    """The velocity at etaA that exponentialMap carries to etaB along the shortest geodesic.

    Starts from the discrete shortest curve and shoots with Newton's method.

    Parameters
    ----------
    model : PosteriorModel
    etaA, etaB : array [m]
        Natural parameters.
    points : int
        Nodes of the discrete curve, at least 5; more where the shooting does not converge.
    tolerance : float
        Distance by which the geodesic may miss etaB, in the metric there, relative to its length.

    Returns
    -------
    array [m]
        d eta/dt at t = 0, t from 0 to 1. sqrt(v^T H v) is the Fisher-Rao distance of the two points.

    Raises
    ------
    ValueError
        For malformed input, ends outside the model's range, and where the shortest curve runs along the boundary of spacetime (log-SNR
        minus infinity) and is no geodesic there: `geodesic` still gives that curve.
    """
    result = _core.logarithmMap(model, etaA, etaB, points, tolerance)
    if not result.converged:
        warnings.warn(
            f"the logarithm map did not converge: the geodesic misses the end by {result.residual:.1e} of its length, expected {tolerance:.1e}: try more points",
            stacklevel=2,
        )
    return result.velocity


def klDivergence(model: _core.PosteriorModel, etaA, etaB, integrate: bool = False) -> float | np.ndarray:
    """Kullback-Leibler divergence of two denoising distributions in nats.

    KL(p_a || p_b) = psi(b) - psi(a) - (b - a) . mu(a). A model that does not know psi takes the line integral of
    (b - a) . (mu - mu(a)) from a to b instead, by Gauss-Legendre quadrature.

    Parameters
    ----------
    model : PosteriorModel
    etaA, etaB : array [m] or [N, m]
        Natural parameters; one point is paired with every point of the other argument.
    integrate : bool
        Take the line integral in any case.

    Returns
    -------
    float or array [N]
        Never negative for exact models; a network's is given as it comes out.

    Raises
    ------
    ValueError
        For a wrong shape, numbers that are not finite, or eta_l > 0.
    """
    a, b, single = _pairs(model, etaA, etaB)
    values = _core.klDivergence(model, a, b, integrate)
    return float(values[0]) if single else values


def jeffreysDivergence(model: _core.PosteriorModel, etaA, etaB) -> float | np.ndarray:
    """KL(p_a || p_b) + KL(p_b || p_a) = (a - b) . (mu(a) - mu(b)) in nats, of points [m] or [N, m] as in `klDivergence`."""
    a, b, single = _pairs(model, etaA, etaB)
    values = _core.jeffreysDivergence(model, a, b)
    return float(values[0]) if single else values


def fisherInformation(model: _core.PosteriorModel, eta, coordinates: bool = False) -> np.ndarray:
    """The metric tensor H = Cov[T], the Hessian of psi.

    Parameters
    ----------
    model : PosteriorModel
    eta : array [m] or [N, m]
        Natural parameters.
    coordinates : bool
        Give the tensor in the coordinates (log-SNR, then per variable its raw position, or log kappa and raw phase) that are laid out like
        T, instead of in eta.

    Returns
    -------
    array [m, m] or [N, m, m]

    Raises
    ------
    ValueError
        For a wrong shape, numbers that are not finite, eta_l > 0, or a point where those coordinates are singular (eta_l = 0, kappa = 0).
    """
    tensors = np.asarray(_core.fisherInformation(model, _points(eta, model, "eta"), coordinates))
    return tensors[0] if np.ndim(eta) == 1 else tensors


def logPartition(model: _core.PosteriorModel, eta) -> float | np.ndarray:
    """psi = log E_q[exp(eta . T)], the log-partition, at eta [m] or [N, m]. ValueError for a model that does not know it."""
    values = _core.logPartition(model, _points(eta, model, "eta"))
    return float(values[0]) if np.ndim(eta) == 1 else values
