# SPDX-License-Identifier: MIT
"""Geodesics between two states, and training of the models they live on."""
from __future__ import annotations

import dataclasses
import math
import os
import warnings
from typing import Callable, Sequence

import numpy as np
from openmm import unit

from . import _core
from .surface import GAS_CONSTANT


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


@dataclasses.dataclass
class Region:
    """A region of spacetime that a curve stays out of: KL(p(.|center) || p(.|z)) >= nats for every point z of the curve.

    Parameters
    ----------
    center : sequence [n]
        Its centre in raw units (rad, nm) or as Quantities.
    nats : float
        How far the curve stays away. Distributions narrower than the centre's are at a large KL wherever they sit on its flank;
        wide ones that cover it are at a small one.
    logSnr : float
        log-SNR at which the centre is seen; for torsions kappa = exp(logSnr).
    """

    center: Sequence
    nats: float
    logSnr: float = 4.0


#: What `preset='transition'` stands for: a low-variance, barrier-aware curve for driving molecules.
TRANSITION = {"maxVariance": 0.05, "minKappa": 25.0, "barrierWeight": 0.05}


def _options(variables: _core.Variables, given: dict) -> _core.GeodesicOptions:
    """The solver's options from the keyword arguments that `geodesics` documents."""
    preset = given.pop("preset", None)
    if preset is not None:
        if preset != "transition":
            raise ValueError(f"expected preset 'transition', got {preset!r}")
        given = {**TRANSITION, **{name: value for name, value in given.items() if value is not None}}
    options = _core.GeodesicOptions()
    for region in given.pop("avoid", None) or ():
        eta = variables.naturalParameter(_raw(region.center, variables, "avoid"), region.logSnr)
        options.avoid(eta, float(region.nats))
    highest, temperature = given.pop("maxFreeEnergy", None), given.pop("temperature", None)
    if highest is not None:
        kelvin = _kelvin(temperature)
        if kelvin == 0:
            raise ValueError("maxFreeEnergy is an energy: give the temperature as well")
        if unit.is_quantity(highest):
            highest = highest.value_in_unit(unit.kilojoules_per_mole)
        options.maxFreeEnergy = highest / (GAS_CONSTANT * kelvin)
    start = given.pop("start", None)
    if start is not None:
        options.start = start.eta if isinstance(start, _core.Curve) else start
    for name, value in given.items():
        if value is not None:
            if not hasattr(options, name):
                raise TypeError(f"geodesics() got an unexpected keyword argument '{name}'")
            setattr(options, name, value)
    return options


def geodesics(
    model: _core.PosteriorModel,
    a: Sequence,
    b: Sequence,
    logSnr: float | tuple[float, float] = 4.0,
    points: int = 129,
    minLogSnr: float | None = None,
    minKappa: float | None = None,
    maxVariance: float | None = None,
    avoid: Sequence[Region] | None = None,
    barrierWeight: float | None = None,
    maxFreeEnergy=None,
    penaltyLogSnr: float | None = None,
    penaltyWeight: float | None = None,
    route: str | None = None,
    preset: str | None = None,
    starts: int | None = None,
    seed: int | None = None,
    start: _core.Curve | np.ndarray | None = None,
    threads: int = 1,
    temperature=None,
    tolerance: float = 1e-6,
    maxIterations: int = 200,
    progress: Callable[[float], bool | None] | None = None,
) -> list[_core.GeodesicResult]:
    """All windings of the shortest curve between two states, best first.

    The Fisher-Rao energy (N/2) sum_i D eta_i . D mu_i of a discretised curve is minimised over its nodes (arXiv:2505.17517
    for the length; the solver is a Newton method on all nodes at once, with an interior point for the constraints, which hold
    at the nodes and at the middle of every segment).

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
        Lower bounds along the curve. Without a bound on kappa or on the variance the curve may pass through kappa = 0.
    maxVariance : float
        Upper bound on tr Cov[c|z] of the lifted, scaled variables. It keeps the posterior, and the molecule that is driven, in one piece.
    avoid : sequence of Region
        Regions to stay out of. Where one is in the way, five starts are tried: from the free curve, and from narrow curves past it on either side.
    barrierWeight : float
        w of the conformal metric exp(2 w psi*) ds_FR^2 that is minimised, psi* = eta . mu - psi = KL(p(.|z) || q) in nats, the information
        cost of localising there. Above 0 the curve goes round free-energy barriers, which Fisher-Rao length does not see; its nodes are
        then respaced to equal Fisher-Rao length. 0 unless a preset says otherwise.
    maxFreeEnergy : float or Quantity
        kJ/mol; bound on kT psi*(mu) above the start, asked of the converged curve as a polish. Needs `temperature`.
    penaltyLogSnr, penaltyWeight : float
        The low-variance penalty of arXiv:2505.17517: weight times the mean of softplus_10(penaltyLogSnr - l) is added to the energy.
        l is the log-SNR, and log(|eta|/sqrt(n)) for torsions. No penalty by default; penaltyLogSnr is 3.
    route : {'shortest', 'lowest'}
        Which solution comes first: the shortest in that metric, or the one whose highest free energy is lowest.
    preset : {'transition'}, optional
        maxVariance 0.05, minKappa 25, barrierWeight 0.05: a low-variance curve for driving molecules over the lowest pass.
    starts : int, optional
        Starts of every winding; distinct minima are all returned. One, or five where a region is in the way.
    seed : int, optional
        Of the directions in which starts are drawn.
    start : Curve or array [N+1, m], optional
        A curve to start from in place of all others (a warm start); only its winding is solved.
    threads : int
        Windings solved at the same time; 0 for all cores. The result does not depend on it.
    temperature : float or Quantity, optional
        K, recorded in the curve.
    progress : callable(fraction), optional
        Return False to stop; the best curve so far is returned.

    Returns
    -------
    list of GeodesicResult

    Raises
    ------
    ValueError
        For end points outside the model's range, below a bound or beyond a constraint, for a constraint that no curve was found to meet,
        and for malformed input.
    """
    variables = model.variables
    options = _options(variables, dict(
        points=points, minLogSnr=minLogSnr, minKappa=minKappa, maxVariance=maxVariance, avoid=avoid, barrierWeight=barrierWeight, maxFreeEnergy=maxFreeEnergy,
        penaltyLogSnr=penaltyLogSnr, penaltyWeight=penaltyWeight, route=route, preset=preset, starts=starts, seed=seed, start=start, threads=threads,
        temperature=temperature, tolerance=tolerance, maxIterations=maxIterations))
    ends = np.broadcast_to(np.asarray(logSnr, dtype=float), (2,))
    etaA = variables.naturalParameter(_raw(a, variables, "a"), ends[0])
    etaB = variables.naturalParameter(_raw(b, variables, "b"), ends[1])
    results = _core.geodesicResults(model, etaA, etaB, options, progress)
    kelvin = _kelvin(temperature)
    for result in results:
        result.curve.temperature = kelvin
    for problem in _problems(model, results[0], options):
        warnings.warn(problem, stacklevel=2)
    return results


def _problems(model: _core.PosteriorModel, best: _core.GeodesicResult, options: _core.GeodesicOptions) -> list[str]:
    """What a user must know about a solution before trusting it."""
    problems = []
    if not best.converged:
        worst = max(best.constraints, key=lambda c: c.violation, default=None)
        change = abs(best.lengthDoubled / best.measure.length - 1)
        why = f"relative Newton decrement {best.residual:.1e}, expected {options.tolerance:.1e}"
        if abs(best.residual) <= options.tolerance and not model.isExact:
            why = "the steps shrank to nothing, as where a denoiser is no gradient field; train it longer, or take the curve for what it is"
        if worst is not None and worst.violation > 1e-2:
            why += f"; {worst.name} is {worst.extreme:.4g}, the bound is {worst.bound:.4g}"
        if change > 1e-2:
            why += f"; the length changes by {100 * change:.1f} % with twice as many segments: take more points"
        problems.append(f"the geodesic did not converge: {why}")
    if best.measure.minNEff < _core.MIN_N_EFF:
        problems.append(f"only {best.measure.minNEff:.0f} effective samples lie on parts of the curve, at least {_core.MIN_N_EFF:.0f} are needed to trust it: "
                        "sample there or give the model a bandwidth")
    if best.measure.negativeEdges:
        problems.append(f"model inconsistent on {best.measure.negativeEdges} of {options.points - 1} segments")
    return problems


def geodesic(model: _core.PosteriorModel, a: Sequence, b: Sequence, **options) -> _core.Curve:
    """The best curve of `geodesics` (same parameters, warnings and errors)."""
    return geodesics(model, a, b, **options)[0].curve


def _ends(variables: _core.Variables, points, logSnr: float, what: str) -> np.ndarray:
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or points.shape[1] != len(variables):
        raise ValueError(f"{what}: expected an array [pairs, {len(variables)}], got shape {points.shape}")
    return np.array([variables.naturalParameter(point, logSnr) for point in points]).reshape(len(points), variables.numStatistics)


def geodesicsOfPairs(model: _core.PosteriorModel, a, b, logSnr: float | tuple[float, float] = 4.0, threads: int = 0,
                     progress: Callable[[float], bool | None] | None = None, **options) -> list[_core.BatchResult]:
    """Geodesics between many pairs of states, several at the same time.

    Parameters
    ----------
    model : PosteriorModel
    a, b : array [pairs, n]
        Raw units (rad, nm).
    logSnr : float or (float, float)
        log-SNR of the first and second ends.
    threads : int
        Pairs solved at the same time; 0 for all cores. The results do not depend on it.
    progress : callable(fraction), optional
        Return False to stop; pairs not yet solved hold the error 'interrupted'.
    **options
        As in `geodesics`.

    Returns
    -------
    list of BatchResult
        One a pair: `results` as of `geodesics`, or `error` where there are none. A bad pair does not stop the others.
    """
    ends = np.broadcast_to(np.asarray(logSnr, dtype=float), (2,))
    etaA, etaB = _ends(model.variables, a, ends[0], "a"), _ends(model.variables, b, ends[1], "b")
    return _core.geodesicBatch(model, etaA, etaB, _options(model.variables, dict(options, threads=threads)), progress)


def distance(model: _core.PosteriorModel, a, b, logSnr: float = 4.0, points: int = 65, threads: int = 0,
             progress: Callable[[float], bool | None] | None = None, **options) -> np.ndarray:
    """Fisher-Rao distances between pairs of states at a log-SNR: the Diffusion Edit Distance of arXiv:2505.17517.

    The distance depends on `logSnr`: at a high one it resolves details, at a low one it sees where a state lies in the data only.
    Every curve is a minimum; of 200 random pairs on the alanine surface 12 had a shorter one elsewhere, by up to 17 %, which `starts=3` finds
    at several times the cost.

    Parameters
    ----------
    model : PosteriorModel
    a, b : array [pairs, n]
        Raw units (rad, nm).
    logSnr : float
        log-SNR of both ends; for torsions kappa = exp(logSnr).
    points : int
        Nodes of each curve; the length is extrapolated to infinitely many.
    threads : int
        Pairs solved at the same time; 0 for all cores.
    **options
        Bounds and constraints as in `geodesics`; none by default.

    Returns
    -------
    array [pairs]
        0 for identical states. NaN where no geodesic was found; a warning says how often, and quotes the first reason.
    """
    # The step that meets this tolerance is taken, so that the length is right to far more digits.
    options.setdefault("tolerance", 1e-4)
    batch = geodesicsOfPairs(model, a, b, logSnr, threads=threads, progress=progress, points=points, **options)
    values = np.array([pair.results[0].measure.lengthExtrapolated if pair.results else 0.0 if pair.same else np.nan for pair in batch])
    failed = [i for i, pair in enumerate(batch) if not pair.results and not pair.same]
    if failed:
        warnings.warn(f"no distance for {len(failed)} of {len(batch)} pairs; pair {failed[0]}: {batch[failed[0]].error}", stacklevel=2)
    loose = [i for i, pair in enumerate(batch) if pair.results and not pair.results[0].converged]
    if loose:
        warnings.warn(f"{len(loose)} of {len(batch)} distances did not converge, the first is that of pair {loose[0]}", stacklevel=2)
    return values


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
    components: int | None = None,
    seed: int = 1,
    device: str = "cpu",
    minLogSnr: float | None = None,
    maxLogSnr: float | None = None,
    patience: int = 0,
    threads: int = 0,
    progress: Callable[[int, int, float, float], bool | None] | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> _core.NetworkModel:
    """Train a denoising network on weighted samples (in C++ with LibTorch) and return it.

    The network is a mixture of von Mises and Gaussian distributions whose posterior is closed-form: its denoiser is the gradient of a convex
    log-partition. It learns the exact posterior of the samples (mean in posterior standard deviations, covariance, log-partition) at points of
    spacetime where curves go, and the likelihood of the samples where those posteriors are poorly sampled.

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
    steps, batch : int, optional
        Optimiser steps; points and samples a step.
    points : int, optional
        Spacetime points whose exact posterior is computed once and trained on.
    components : int, optional
        Of the mixture: the width of the network (128).
    seed : int
        Same seed, same network.
    device : {'cpu', 'cuda'}
    minLogSnr, maxLogSnr : float, optional
        Trained range of log-SNR (log kappa for torsions).
    patience : int
        Stop after this many reports (every 25 steps) without a better validation loss; 0 for never. The best network is kept in any case.
    threads : int
        0 for all cores while the exact posterior is computed and one for the optimiser.
    progress : callable(step, steps, loss, error), optional
        `error` is the median error of the posterior mean at points held out, in posterior standard deviations. Return False to stop early and keep
        what was learned.
    overwrite : bool
        Replace an existing file.
    resume : bool
        Go on from `out`.checkpoint, which training writes every few seconds, as if it had never been killed.

    Raises
    ------
    ValueError
        For NaN, wrong shapes, a variable that never varies, weights that leave fewer than 30 effective samples, an existing `out` without
        `overwrite` or `resume`, or a checkpoint of other samples or options.
    RuntimeError
        Where LibTorch does not load; the message says what to install.
    """
    model = _core.EmpiricalModel(samples, variables, logWeights)
    temporary = None
    if out is None:
        import tempfile

        if resume:
            raise ValueError("resume goes with `out`: the checkpoint lies beside the model file")
        temporary = tempfile.TemporaryDirectory()
        path = os.path.join(temporary.name, "model.safetensors")
    else:
        path = os.fspath(out)
        if os.path.exists(path) and not (overwrite or resume):
            raise ValueError(f"'{path}' exists: choose another name or pass overwrite=True")
    options = _core.TrainingOptions()
    given = dict(steps=steps, batch=batch, points=points, components=components, seed=seed, device=device, minLogSnr=minLogSnr, maxLogSnr=maxLogSnr,
                 patience=patience, threads=threads, resume=resume, temperature=_kelvin(temperature))
    for name, value in given.items():
        if value is not None:
            setattr(options, name, value)
    _core.trainNetwork(model, path, options, None if progress is None else lambda *report: progress(*report) is not False)
    return _core.NetworkModel.load(path)
