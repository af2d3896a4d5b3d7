# SPDX-License-Identifier: MIT
"""The probability-flow ODE, likelihoods, the reverse SDE, and the metric that the ODE's decoder pulls back to latent space.

A noisy point is x = alpha c + sigma eps at the log-SNR l = log(alpha^2/sigma^2); its coordinates are the scaled variables (raw - shift)/scale,
and the (cos, sin) pairs of lifted ones: D = unlifted + 2 lifted. In y = x/alpha every schedule has the noise sigma_y = exp(-l/2), and with
chat = E[c|z] the probability-flow ODE (Song et al. 2021, arXiv:2011.13456) is

    dy/dsigma_y = (y - chat)/sigma_y

Any PosteriorModel will do: chat and Cov[c|z] are its moments. `schedule` ('vp', 've', 'cosine' or 'flow') says only what x = alpha y is.
"""
from __future__ import annotations

import math
import warnings
from typing import Callable, Sequence

import numpy as np
from openmm import unit

from . import _core

__all__ = ["decode", "decodeCurve", "decoderJacobian", "encode", "latentParameter", "logLikelihood", "probabilityFlow", "pullbackGeodesic",
           "pullbackMetric", "sampleReverseSde"]


def _options(solver: str, steps: int, tolerance: float, dataLogSnr: float | None) -> _core.FlowOptions:
    return _core.FlowOptions(solver, steps, tolerance, math.nan if dataLogSnr is None else dataLogSnr)


def _rows(values, columns: int, what: str) -> np.ndarray:
    """One point [columns] or points [K, columns] as [K, columns] floats; Quantities in rad and nm."""
    if unit.is_quantity(values):
        values = values.value_in_unit_system(unit.md_unit_system)
    try:
        points = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: expected numbers: {error}") from None
    if points.ndim not in (1, 2) or points.shape[-1] != columns:
        raise ValueError(f"{what}: expected an array [{columns}] or [K, {columns}], got one of shape {points.shape}")
    return np.atleast_2d(points)


def _dimension(model: _core.PosteriorModel) -> int:
    return sum(2 if variable.lifted else 1 for variable in model.variables)


def _like(given, points: np.ndarray) -> np.ndarray:
    """Without the first axis where one point was given."""
    return points[0] if np.ndim(given._value if unit.is_quantity(given) else given) == 1 else points


def _warnFew(minNEff: float) -> None:
    if minNEff < _core.MIN_N_EFF:
        warnings.warn(
            f"only {minNEff:.0f} effective samples lie around some of the clean points, at least {_core.MIN_N_EFF:.0f} are needed to trust them: "
            "lower dataLogSnr, sample there or give the model a bandwidth",
            stacklevel=3,
        )


def encode(model: _core.PosteriorModel, x, logSnr: float, schedule: str = "vp", solver: str = "adaptive", steps: int = 256, tolerance: float = 1e-10,
           dataLogSnr: float | None = None, progress: Callable[[float], bool | None] | None = None) -> np.ndarray:
    """Latent points of clean data: the probability-flow ODE from the data's log-SNR down to `logSnr`.

    Parameters
    ----------
    model : PosteriorModel
    x : array [K, n] or [n]
        Clean data in raw units (rad, nm), or a Quantity.
    logSnr : float
        log-SNR of the latent points, below that of data.
    schedule : str
        'vp', 've', 'cosine' or 'flow': which x = alpha y comes out.
    solver : str
        'adaptive': DOP853 of order 8 in log sigma, every point with steps of its own. 'heun': the method of Karras et al. 2022
        (arXiv:2206.00364), of order 2, with `steps` steps equal in log sigma.
    steps : int
        Of Heun's method.
    tolerance : float
        Of the adaptive solver: error of a step over sqrt(data variance + sigma_y^2).
    dataLogSnr : float, optional
        Where data count as clean. By default noise of a thousandth of the data's standard deviation for closed forms (the narrowest
        component's for mixtures), the highest trained log-SNR for networks, and for samples the highest at which half of them (by weight)
        have 30 effective samples around them. Data are taken for noisy points there, an error of sigma_y^2/2 times their score.
    progress : callable, optional
        Gets the share done; returning False stops with a RuntimeError.

    Returns
    -------
    array [K, D] or [D]

    Raises
    ------
    ValueError
        For numbers that are not finite, wrong shapes, a log-SNR that is not below the data's or that the model was not trained on, data
        outside the range of a network, and where the adaptive solver gets stuck.

    Warns
    -----
    UserWarning
        Where fewer than 30 effective samples lie around a point.
    """
    alpha = _core.scheduleAlpha(schedule, logSnr)
    result = _core.encode(model, _rows(x, len(model.variables), "x"), logSnr, _options(solver, steps, tolerance, dataLogSnr), progress)
    _warnFew(result.minNEff)
    return _like(x, alpha * result.y)


def decode(model: _core.PosteriorModel, latent, logSnr: float, schedule: str = "vp", solver: str = "adaptive", steps: int = 256, tolerance: float = 1e-10,
           dataLogSnr: float | None = None, progress: Callable[[float], bool | None] | None = None) -> np.ndarray:
    """Clean data of latent points: the inverse of `encode`.

    The decoder stretches where two modes part: there its errors are those of the solver times that stretch, in one dimension the ratio of
    the densities of the latent point and of the datum.

    Parameters
    ----------
    latent : array [K, D] or [D]
        Points x = alpha y at `logSnr`. The other parameters are those of `encode`.

    Returns
    -------
    array [K, n] or [n]
        In raw units (rad, nm); angles from -pi to pi.

    Raises
    ------
    ValueError
        As `encode`.
    """
    alpha = _core.scheduleAlpha(schedule, logSnr)
    result = _core.decode(model, _rows(latent, _dimension(model), "latent") / alpha, logSnr, _options(solver, steps, tolerance, dataLogSnr), progress)
    _warnFew(result.minNEff)
    return _like(latent, _core.rawCoordinates(model.variables, result.y))


def probabilityFlow(model: _core.PosteriorModel, x, logSnr: Sequence[float], schedule: str = "vp", solver: str = "adaptive", steps: int = 256,
                    tolerance: float = 1e-10) -> np.ndarray:
    """Trajectories of the probability-flow ODE.

    Parameters
    ----------
    x : array [K, D] or [D]
        Noisy points at logSnr[0].
    logSnr : sequence [T]
        Where the trajectories are wanted, in any order. The other parameters are those of `encode`; Heun's steps are those of each stretch.

    Returns
    -------
    array [T, K, D] or [T, D]

    Raises
    ------
    ValueError
        As `encode`.
    """
    levels = [float(l) for l in logSnr]
    if not levels:
        raise ValueError("logSnr: expected at least one value, got none")
    options = _options(solver, steps, tolerance, None)
    y = _rows(x, _dimension(model), "x") / _core.scheduleAlpha(schedule, levels[0])
    out = []
    for before, level in zip(levels[:1] + levels, levels):
        y = _core.transport(model, y, before, level, options, None).y
        out.append(_core.scheduleAlpha(schedule, level) * y)
    trajectories = np.array(out)
    return trajectories[:, 0] if np.ndim(x) == 1 else trajectories


def latentParameter(model: _core.PosteriorModel, x, logSnr: float, schedule: str = "vp") -> np.ndarray:
    """Natural parameters eta [K, m] or [m] of noisy points x [K, D] or [D] at a log-SNR: eta = (-e^l/2, e^l x/alpha), without the first entry for torsions alone."""
    y = _rows(x, _dimension(model), "x") / _core.scheduleAlpha(schedule, logSnr)
    return _like(x, _core.flowNaturalParameter(model.variables, y, logSnr))


def logLikelihood(model: _core.PosteriorModel, x, logSnr: float, schedule: str = "vp", integrate: bool = False, baseLogSnr: float | None = None,
                  solver: str = "adaptive", steps: int = 256, tolerance: float = 1e-10,
                  progress: Callable[[float], bool | None] | None = None) -> float | np.ndarray:
    """Log-density of noisy points, log p_l(x).

    Exact models know it from their log-partition: log p_l = psi(eta) - (D/2) log(2 pi sigma_y^2) - (\\|y\\|^2 + lifted)/(2 sigma_y^2) - D log alpha.
    For others, or with `integrate`, it is the integral of d log p/d log sigma_y = -(D - e^l tr Cov[c|z]) along the probability-flow ODE, down to a
    log-SNR where the marginal is a Gaussian with the mean and the covariance that the moments there imply.

    Parameters
    ----------
    model : PosteriorModel
    x : array [K, D] or [D]
        Noisy points x = alpha y. For the density of data choose a high log-SNR: the density is that of the data with that much noise.
    logSnr : float
    schedule : str
    integrate : bool
        The ODE even for exact models.
    baseLogSnr : float, optional
        Where the marginal counts as Gaussian; by default a noise of 300 standard deviations of the data, or the least that the model was
        trained on. The error falls as the cube of the data's standard deviation over sigma_y; a warning says where it may exceed 1e-3.
    solver, steps, tolerance, progress
        As in `encode`; the tolerance is also that of the log-density of a step, in nats.

    Returns
    -------
    float or array [K]
        Nats, a density over the D coordinates (scaled variables, cos and sin of lifted ones).

    Raises
    ------
    ValueError
        As `encode`, and where the base is not below `logSnr` or its marginal is no Gaussian.
    """
    D = _dimension(model)
    alpha = _core.scheduleAlpha(schedule, logSnr)
    values, truncation = _core.logLikelihood(model, _rows(x, D, "x") / alpha, logSnr, _options(solver, steps, tolerance, None), integrate,
                                             math.nan if baseLogSnr is None else baseLogSnr, progress)
    if truncation > 1e-3:
        warnings.warn(f"the marginal at the base is not quite a Gaussian: log-densities may be wrong by {truncation:.1e} nats. Lower baseLogSnr", stacklevel=2)
    values = values - D * math.log(alpha)
    return float(values[0]) if np.ndim(x) == 1 else values


def sampleReverseSde(model: _core.PosteriorModel, count: int, steps: int = 128, seed: int = 1, startLogSnr: float | None = None,
                     dataLogSnr: float | None = None, covariance: bool = True, progress: Callable[[float], bool | None] | None = None) -> np.ndarray:
    """Samples of the data by the reverse SDE.

    With r = sigma'^2/sigma^2 a step draws y' from the Gaussian whose mean chat + r (y - chat) and covariance
    sigma'^2 (1 - r) + (1 - r)^2 Cov[c|z] are those of y' given y, exact for steps of any length (Ho et al. 2020, arXiv:2006.11239; the covariance
    as in Bao et al. 2022, arXiv:2206.07309). Steps are equal in log sigma; the last one takes what noise is left.

    Parameters
    ----------
    model : PosteriorModel
    count : int
        Samples; sample k depends on the seed and k alone.
    steps : int
    seed : int
        Not negative.
    startLogSnr : float, optional
        Where the marginal counts as Gaussian, as baseLogSnr of `logLikelihood`.
    dataLogSnr : float, optional
        As in `encode`.
    covariance : bool
        False leaves Cov[c|z] out (ancestral sampling): cheaper steps, but samples that are too narrow unless there are many of them.
        A denoiser of unlifted variables then starts from an isotropic Gaussian and is asked for means alone: the choice for pictures.
    progress : callable, optional

    Returns
    -------
    array [count, n]
        Raw units (rad, nm).

    Raises
    ------
    ValueError
        For counts, steps or seeds that are no positive numbers and log-SNRs that are in the wrong order or that the model was not trained on.
    """
    if seed < 0 or seed >= 2**32:
        raise ValueError(f"seed: expected a number from 0 to 2^32 - 1, got {seed}")
    none = math.nan
    return _core.sampleReverseSde(model, count, steps, seed, none if startLogSnr is None else startLogSnr, none if dataLogSnr is None else dataLogSnr, covariance, progress)


def decoderJacobian(model: _core.PosteriorModel, latent, logSnr: float, schedule: str = "vp", solver: str = "adaptive", steps: int = 256,
                    tolerance: float = 1e-10, dataLogSnr: float | None = None, progress: Callable[[float], bool | None] | None = None) -> np.ndarray:
    """Jacobians dc/dx of `decode` [K, D, D] or [D, D] at latent points, by the variational equation dM/dlog sigma = (1 - e^l Cov[c|z]) M along the flow.

    c are clean coordinates (scaled variables, cos and sin of lifted ones). The parameters are those of `decode`.
    """
    alpha = _core.scheduleAlpha(schedule, logSnr)
    y = _rows(latent, _dimension(model), "latent") / alpha
    return _like(latent, np.asarray(_core.decoderJacobian(model, y, logSnr, _options(solver, steps, tolerance, dataLogSnr), progress)) / alpha)


def pullbackMetric(model: _core.PosteriorModel, latent, logSnr: float, schedule: str = "vp", **options) -> np.ndarray:
    """The metric (dc/dx)^T (dc/dx), [K, D, D] or [D, D], that the decoder pulls back from flat data space; `options` are those of `decoderJacobian`."""
    M = decoderJacobian(model, latent, logSnr, schedule, **options)
    return np.swapaxes(M, -1, -2) @ M


def pullbackGeodesic(model: _core.PosteriorModel, latentA, latentB, logSnr: float, points: int = 33, minimize: bool = False, schedule: str = "vp",
                     solver: str = "adaptive", steps: int = 256, tolerance: float = 1e-10, dataLogSnr: float | None = None,
                     progress: Callable[[float], bool | None] | None = None) -> _core.PullbackCurve:
    """Geodesic of the pullback metric between two latent points.

    The decoder maps latent space one to one onto data space, which is flat: the geodesic is the straight segment between the decoded ends,
    encoded, whatever the data are (arXiv:2505.17517). This is why spacetime has the Fisher-Rao metric instead.

    Parameters
    ----------
    latentA, latentB : array [D]
        Ends, x = alpha y at `logSnr`.
    points : int
        Nodes of the curve, at least 3.
    minimize : bool
        Do not use that data space is flat: minimise the energy of a latent curve, at first the straight one, with the decoder's Jacobians
        (Levenberg-Marquardt). A check of the above, and much more work.
    schedule, solver, steps, tolerance, dataLogSnr, progress
        As in `encode`; progress gets the share of each decoding.

    Returns
    -------
    PullbackCurve
        With `latent` [points, D] (y = x/alpha), `decoded` [points, D], `energy`, `segmentEnergy` (the least there can be) and `deviation` (from the
        straight segment, over its length).

    Raises
    ------
    ValueError
        As `decode`.
    """
    alpha, D = _core.scheduleAlpha(schedule, logSnr), _dimension(model)
    a, b = (_rows(p, D, what)[0] / alpha for p, what in ((latentA, "latentA"), (latentB, "latentB")))
    return _core.pullbackGeodesic(model, a, b, logSnr, points, minimize, _options(solver, steps, tolerance, dataLogSnr), progress)


def decodeCurve(model: _core.PosteriorModel, latent, logSnr: float, schedule: str = "vp", solver: str = "adaptive", steps: int = 256,
                tolerance: float = 1e-10, dataLogSnr: float | None = None, progress: Callable[[float], bool | None] | None = None) -> _core.PullbackCurve:
    """What a curve in latent space [points, D] decodes to, with its pullback energy and its deviation from a straight segment, as `pullbackGeodesic`."""
    y = _rows(latent, _dimension(model), "latent") / _core.scheduleAlpha(schedule, logSnr)
    return _core.decodeCurve(model, y, logSnr, _options(solver, steps, tolerance, dataLogSnr), progress)
