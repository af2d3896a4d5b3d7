# SPDX-License-Identifier: MIT
r"""Replica exchange and expanded ensembles between states on a curve, on top of the samplers of openmm.app.

State i is the denoising distribution p(c|eta_i), proportional to q(c) exp(eta_i·T(c)). A swap of the configurations of the states i and j has the log-ratio

.. math:: \log r = (\eta_j - \eta_i) \cdot (T_i - T_j),

so with :math:`a = (\eta_j - \eta_i) \cdot T` it is a_i - a_j, where a_i is drawn from state i and a_j from state j. As p_j is proportional to p_i exp(a), half of the
mean of min(1, exp(a_i - a_j)) comes from each side of a_i = a_j, whatever q is:

.. math:: \langle \min(1, r) \rangle = P(a_i > a_j) + P(a_i \ge a_j),

twice the probability that the two already stand in the other's order. No exponential is left, so that a weighted sum over samples or bins is exact and stable. In a
Gaussian family a_i - a_j is normal with mean -d^2 and variance 2 d^2, d being the Fisher-Rao distance of the states: the mean is minus the Jeffreys divergence
:math:`\Delta\eta \cdot \Delta\mu = d^2`, and each side has the variance :math:`\Delta\eta \cdot J \Delta\eta = d^2`. Hence the acceptance
:math:`2 \Phi(-d/\sqrt{2}) = \mathrm{erfc}(d/2)`: equal for equal distances, and s is the Fisher-Rao arc length. So states at equal steps of s are the place to start.
"""
from __future__ import annotations

import hashlib
import json
import math
import os
import random
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import openmm
from openmm import app, unit
from openmm.app.internal.multistatesampler import MultistateSampler

from . import _core, report
from .force import SpacetimeForce, _value
from .sampling import PathEnsemble

__all__ = ["ExchangeReport", "ExchangeStates", "ExpandedEnsemble", "ReplicaExchange", "exchangeStates", "predictAcceptance"]

KB = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole/unit.kelvin)
NORMAL = NormalDist()
#: Acceptances above this on all pairs mean that most of the states are wasted.
OVERLAP = 0.95


def _acceptanceOf(distance: float) -> float:
    """erfc(d/2), the acceptance in a Gaussian family."""
    return math.erfc(distance/2)


def _distanceOf(acceptance: float) -> float:
    """The inverse of `_acceptanceOf`."""
    return -math.sqrt(2)*NORMAL.inv_cdf(min(max(acceptance, 1e-300), 1)/2)


class ExchangeStates(list):
    """States along a curve, as the samplers of openmm.app take them: a list of dicts.

    Attributes
    ----------
    s : ndarray [n]
    eta : ndarray [n, m]
        Natural parameters.
    temperatures : ndarray [n] or None
        In K; None where the curve has none and none were given.
    predicted : ndarray [n-1]
        Acceptance of swaps between neighbours; nan where nothing predicts it: no model and no length, or different temperatures.
    exact : bool
        Whether `predicted` comes from samples: then it is off only where the samples are, and not by a Gaussian formula.
    names : list of str
        Names of the curve's variables, empty where it has none.
    """

    def __init__(self, states: Sequence[dict], s: np.ndarray, eta: np.ndarray, temperatures: Optional[np.ndarray], predicted: np.ndarray, exact: bool = False,
                 names: Sequence[str] = ()) -> None:
        super().__init__(states)
        self.s, self.eta, self.temperatures, self.predicted, self.exact, self.names = s, eta, temperatures, predicted, exact, list(names)

    def __repr__(self) -> str:
        known = self.predicted[np.isfinite(self.predicted)]
        text = f"; predicted acceptance {known.min():.2f} to {known.max():.2f}" if len(known) else ""
        return f"ExchangeStates({len(self)} states, s {np.array2string(self.s, precision=3, max_line_width=1000)}{text})"


def _samplesOf(samples: Any, logWeights: Any) -> Tuple[np.ndarray, np.ndarray]:
    if hasattr(samples, "logWeights"):
        samples, logWeights = samples.x, samples.logWeights
    x = np.asarray(samples, dtype=float)
    w = np.zeros(len(x)) if logWeights is None else np.asarray(logWeights, dtype=float)
    if x.ndim != 2 or w.shape != x.shape[:1]:
        raise ValueError(f"predictAcceptance: expected samples [K, n] and logWeights [K], got arrays of shape {x.shape} and {w.shape}")
    return x, w


def _predictor(curve: Any, eta: Callable[[float], np.ndarray], model: Any, samples: Any, logWeights: Any) -> Optional[Callable[[float, float], float]]:
    """Acceptance of a swap between the points s and t of the curve, None where nothing is known of it."""
    if samples is not None:
        variables = getattr(model, "variables", None) or getattr(curve, "variables", None)
        if variables is None:
            raise ValueError("predictAcceptance: samples need variables, but neither the curve nor a model has them; pass a Curve or a model")
        x, logW = _samplesOf(samples, logWeights)
        T = variables.statistic(x)
        weights: Dict[float, np.ndarray] = {}

        def weightsAt(s: float) -> np.ndarray:
            if s not in weights:
                u = logW + T@eta(s)
                w = np.exp(u-u.max())
                weights[s] = w/w.sum()
                few = 1/(weights[s]**2).sum()
                if few < _core.MIN_N_EFF:
                    warnings.warn(f"only {few:.0f} effective samples lie around s = {s:g}, at least {_core.MIN_N_EFF:.0f} are needed to predict acceptances", stacklevel=4)
            return weights[s]

        def ofSamples(s: float, t: float) -> float:
            p, q = weightsAt(s), weightsAt(t)
            here = (p > 1e-14) | (q > 1e-14)
            a = T[here]@(eta(t)-eta(s))
            order = np.argsort(a)
            a, p, q = a[order], p[here][order], q[here][order]
            below = np.concatenate([[0], np.cumsum(p)])/p.sum()
            atLeast, more = 1-below[np.searchsorted(a, a, "left")], 1-below[np.searchsorted(a, a, "right")]
            return float(q@(atLeast+more)/q.sum())

        return ofSamples
    if model is not None:
        moments: Dict[float, Tuple[np.ndarray, np.ndarray]] = {}

        def momentsAt(s: float) -> Tuple[np.ndarray, np.ndarray]:
            if s not in moments:
                m = model.moments(eta(s)[None])
                moments[s] = m.mu[0], m.J[0]
            return moments[s]

        def ofMoments(s: float, t: float) -> float:
            (mu, J), (nu, K), step = momentsAt(s), momentsAt(t), eta(t)-eta(s)
            # With the variances of both sides: the distance d above is the same to third order, this is better where they differ.
            variance = step@(J+K)@step
            return 2*NORMAL.cdf(-max(0.0, step@(nu-mu))/math.sqrt(variance)) if variance > 0 else 1.0

        return ofMoments
    length = getattr(curve, "length", 0)
    return (lambda s, t: _acceptanceOf(length*(t-s))) if length > 0 else None


def _etaOf(curve: Any) -> Callable[[float], np.ndarray]:
    # The force's own interpolation, so that a state is what the force makes of its s.
    force = SpacetimeForce(s=curve.s, eta=curve.eta, temperature=1)
    return lambda s: force.getEta(float(s))


def predictAcceptance(curve: Any, s: Sequence[float], model: Optional[_core.PosteriorModel] = None, samples: Any = None, logWeights: Any = None) -> np.ndarray:
    r"""Mean acceptance of swaps between neighbouring points of a curve.

    Parameters
    ----------
    curve : Curve, or object with ``s`` and ``eta``
    s : array [n]
        Points, in rising order.
    model : PosteriorModel, optional
        Takes the difference of a = (eta_j - eta_i)·T on both sides for normal, with the model's moments:
        erfc(D/sqrt(2 v)), D = (eta_j - eta_i)·(mu_j - mu_i) and v = (eta_j - eta_i)·(J_i + J_j)(eta_j - eta_i). Exact for Gaussian families, an
        estimate where a posterior has several modes.
    samples : Samples or array [K, n], optional
        Of the data, weighted by `logWeights` [K] or their own: bins of a grid, the samples of an EmpiricalModel, or what
        :func:`sampleReverseSde` draws from any model. They are weighted with exp(eta·T), and the acceptance is the sum over all pairs: no Monte Carlo, no Gaussian.

    Without both the curve's length L counts: erfc(L (s_j - s_i)/2).

    Returns
    -------
    array [n-1]
        nan where the curve knows no length either.

    Warns
    -----
    UserWarning
        Fewer than 30 effective samples lie around a state.
    """
    pair = _predictor(curve, _etaOf(curve), model, samples, logWeights)
    return np.array([np.nan if pair is None else pair(a, b) for a, b in zip(s[:-1], s[1:])])


def _place(pair: Callable[[float, float], float], n: int) -> Tuple[np.ndarray, np.ndarray]:
    """n points of which neighbours have equal acceptances: equal steps of s, then moved to equal steps of what the acceptances say the distance is."""
    s = np.linspace(0, 1, n)
    best: Optional[Tuple[float, np.ndarray, np.ndarray]] = None
    for _ in range(12):
        a = np.array([pair(x, y) for x, y in zip(s[:-1], s[1:])])
        ratio = a.max()/max(a.min(), 1e-300)
        if best is None or ratio < best[0]:
            best = ratio, s, a
        if ratio < 1.03:
            break
        d = np.concatenate([[0], np.cumsum([max(_distanceOf(x), 1e-9) for x in a])])
        s = np.interp(np.linspace(0, d[-1], n), d, s)
        s[0], s[-1] = 0, 1
    assert best is not None
    return best[1], best[2]


def exchangeStates(curve: Any, model: Optional[_core.PosteriorModel] = None, numStates: Optional[int] = None, acceptance: float = 0.3, temperatures: Any = None,
                   samples: Any = None, logWeights: Any = None, parameterName: str = "spacetime_s") -> ExchangeStates:
    """States along a curve between which replicas or one walker are to be exchanged.

    They start at equal Fisher-Rao distances, which is equal steps of s, and in a Gaussian family the acceptance of swaps between neighbours at the distance d is
    erfc(d/2), the same everywhere. Where a model or samples are given the states move until the predicted acceptances agree.

    Parameters
    ----------
    curve : Curve, or object with ``s`` and ``eta``
    model, samples, logWeights : optional
        What predicts acceptances; see :func:`predictAcceptance`.
    numStates : int, optional
        At least 2. When left out, the fewest of which every pair of neighbours has the wanted acceptance; that needs a model, samples, or a curve that knows its length.
    acceptance : float
        The wanted one, between 0 and 1.
    temperatures : optional
        One in K or Quantity for all states, an array of one per state, or a function of s; the curve's own when left out. Nothing here predicts acceptances between
        different temperatures, which depend on the whole potential energy: those are nan, and are measured by :class:`ReplicaExchange`.
    parameterName : str
        The Context parameter that is s.

    Returns
    -------
    ExchangeStates
        Dicts with the keys ``spacetime_s`` and, where there are temperatures, ``temperature`` (K, for the integrator) and ``spacetime_kT`` (kJ/mol), so that bath and
        bias agree.

    Raises
    ------
    ValueError
        Fewer than 2 states; an acceptance that is not between 0 and 1; as many temperatures as states are not there; nothing from which to tell the number of
        states; or all acceptances are above 0.95, with the number of states that suffices.

    Warns
    -----
    UserWarning
        The acceptances could not be brought within a factor of 1.3 of each other.
    """
    if not 0 < acceptance < 1:
        raise ValueError(f"exchangeStates: expected an acceptance between 0 and 1, but got {acceptance}")
    perState = temperatures._value if unit.is_quantity(temperatures) else temperatures
    perState = not callable(perState) and np.ndim(perState) == 1
    if perState and numStates is None:
        numStates = len(temperatures)
    if numStates is not None and (numStates < 2 or int(numStates) != numStates):
        raise ValueError(f"exchangeStates: expected at least 2 states to exchange, but numStates is {numStates}")
    if perState and len(temperatures) != numStates:
        raise ValueError(f"exchangeStates: expected one temperature for each of the {numStates} states, but got {len(temperatures)}")
    eta = _etaOf(curve)
    pair = _predictor(curve, eta, model, samples, logWeights)

    def fewest(pair: Callable[[float, float], float]) -> int:
        mesh = np.linspace(0, 1, 17)
        n = max(2, math.ceil(sum(_distanceOf(pair(a, b)) for a, b in zip(mesh[:-1], mesh[1:]))/_distanceOf(acceptance))+1)
        limit = 4*n+16
        while _place(pair, n)[1].min() < acceptance:
            n += 1
            if n > limit:
                raise ValueError(f"exchangeStates: {n} states do not reach an acceptance of {acceptance:g}; the predicted acceptances do not grow with their number: give numStates")
        while n > 2 and _place(pair, n-1)[1].min() >= acceptance:
            n -= 1
        return n

    if pair is None:
        if numStates is None:
            raise ValueError("exchangeStates: nothing tells how many states are needed: the curve knows no length; pass a model, samples or numStates")
        s, predicted = np.linspace(0, 1, numStates), np.full(numStates-1, np.nan)
    else:
        s, predicted = _place(pair, numStates or fewest(pair))
        if predicted.min() > OVERLAP:
            enough = fewest(pair)
            one = pair(0.0, 1.0) > OVERLAP
            advice = ("even the two ends of the curve overlap, so that one simulation without exchange samples all of it" if one
                      else f"{enough} states suffice for an acceptance of {acceptance:g}")
            raise ValueError(f"exchangeStates: all acceptances between {len(s)} states are predicted above {OVERLAP}, the smallest is {predicted.min():.3f}: {advice}")
        if predicted.max() > 1.3*predicted.min():
            warnings.warn(f"exchangeStates: acceptances between {predicted.min():.2g} and {predicted.max():.2g} are predicted: more states bring them together", stacklevel=2)
    n = len(s)
    if temperatures is None:
        temperatures = getattr(curve, "temperature", None) or None
    T = None
    if temperatures is not None:
        T = np.array([_value(temperatures(float(x)), unit.kelvin) for x in s] if callable(temperatures) else
                     np.broadcast_to(np.asarray(temperatures.value_in_unit(unit.kelvin) if unit.is_quantity(temperatures) else
                                                [_value(x, unit.kelvin) for x in np.atleast_1d(np.array(temperatures, dtype=object))], dtype=float), n), dtype=float)
        if not np.all(T > 0):
            raise ValueError(f"exchangeStates: expected positive temperatures in K, but got {T.min():g}")
        predicted = np.where(T[1:] == T[:-1], predicted, np.nan)
    states = [{parameterName: float(s[i]), **({} if T is None else {"spacetime_kT": float(KB*T[i]), "temperature": float(T[i])})} for i in range(n)]
    variables = getattr(curve, "variables", None)
    return ExchangeStates(states, s, np.array([eta(x) for x in s]), T, predicted, samples is not None,
                          [v.name for v in variables] if variables is not None else [])


@dataclass(repr=False)
class ExchangeReport:
    """How well states exchange.

    Attributes
    ----------
    s : ndarray [n]
    temperatures : ndarray [n]
        K.
    predicted : ndarray [n-1]
        Acceptance of swaps of neighbours before anything was run; nan where nothing predicted it.
    exact : bool
        Whether that was predicted from samples, without a Gaussian formula.
    independent, independentError : ndarray [n-1]
        The same from replicas that did not exchange, over all pairs of their configurations, and its standard error.
    exchanged, exchangedError : ndarray [n-1]
        The same while replicas exchanged.
    occupancy : ndarray [n]
        Share of the iterations with exchange that was spent in each state: 1 for replica exchange.
    roundTrips : ndarray [replicas]
        Ways from the first state to the last and back that each replica has completed.
    iterations, independentIterations : int
        With and without exchange, of which the first `discarded` share was left out of the means.
    stepsPerIteration : int
    discarded : float
    """

    s: np.ndarray
    temperatures: np.ndarray
    predicted: np.ndarray
    exact: bool
    independent: np.ndarray
    independentError: np.ndarray
    exchanged: np.ndarray
    exchangedError: np.ndarray
    occupancy: np.ndarray
    roundTrips: np.ndarray
    iterations: int
    independentIterations: int
    stepsPerIteration: int
    discarded: float

    @property
    def difference(self) -> np.ndarray:
        """exchanged - independent [n-1]."""
        return self.exchanged-self.independent

    @property
    def suspicious(self) -> List[int]:
        """Pairs (i, i+1) whose acceptances with exchange, without it, and predicted from samples are not all the same: two of them differ by more than 0.05 and three standard
        errors. What replicas visit on their own is then not what they visit together, or neither is what the samples know: they are not sampled ergodically."""
        ways = [(self.independent, self.independentError), (self.exchanged, self.exchangedError)]+([(self.predicted, np.zeros(len(self.predicted)))] if self.exact else [])
        apart = np.zeros(len(self.predicted), dtype=bool)
        for k, (a, errorA) in enumerate(ways):
            for b, errorB in ways[:k]:
                apart |= np.abs(a-b) > np.maximum(0.05, 3*np.hypot(np.nan_to_num(errorA), np.nan_to_num(errorB)))
        return [int(i) for i in np.flatnonzero(apart)]

    def asDict(self) -> Dict[str, Any]:
        """Plain lists and numbers, for JSON; nan becomes None."""
        return report._plain({**vars(self), "difference": self.difference, "suspicious": self.suspicious})

    @property
    def table(self) -> str:
        """Text: a row for each pair of neighbours."""
        def number(x: float, error: float = math.nan) -> str:
            return "-" if math.isnan(x) else f"{x:.3f}"+("" if math.isnan(error) else f" +- {error:.3f}")

        marks = set(self.suspicious)
        rows = [("states", "s", "T (K)", "predicted", "independent", "exchanged", "difference")]
        for i in range(len(self.s)-1):
            same = self.temperatures[i] == self.temperatures[i+1]
            rows.append((f"{i}-{i+1}", f"{self.s[i]:.3f}-{self.s[i+1]:.3f}", f"{self.temperatures[i]:g}"+("" if same else f"-{self.temperatures[i+1]:g}"), number(self.predicted[i]),
                         number(self.independent[i], self.independentError[i]), number(self.exchanged[i], self.exchangedError[i]),
                         number(self.difference[i])+(" !" if i in marks else "")))
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
        lines.append(f"round trips: {int(self.roundTrips.sum())} by {np.count_nonzero(self.roundTrips)} of {len(self.roundTrips)} replicas in {self.iterations} iterations of "
                     f"{self.stepsPerIteration} steps; {self.independentIterations} iterations without exchange")
        if self.occupancy.min() < 1-1e-12:
            lines.append("share of iterations in each state: "+" ".join(f"{x:.3f}" for x in self.occupancy))
        if marks:
            lines.append("!: these do not agree, so the states are not sampled ergodically yet (or the samples are wrong): run longer, or start elsewhere")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table

    def __repr__(self) -> str:
        def span(x: np.ndarray) -> str:
            x = x[np.isfinite(x)]
            return f"{x.min():.2f} to {x.max():.2f}" if len(x) else "unknown"

        return (f"ExchangeReport({len(self.s)} states, {self.iterations} iterations; acceptance predicted {span(self.predicted)}, independent {span(self.independent)}, "
                f"exchanged {span(self.exchanged)}; {int(self.roundTrips.sum())} round trips)")


def _roundTrips(index: np.ndarray, last: int) -> np.ndarray:
    """Ways first -> last -> first in each column of the states visited [iterations, replicas]."""
    trips = []
    for column in index.T:
        ends = column[(column == 0) | (column == last)]
        ends = ends[np.concatenate([[True], ends[1:] != ends[:-1]])] if len(ends) else ends
        # What is left alternates: each return to the first state but the first visit closes a trip.
        trips.append(max(0, np.count_nonzero(ends == 0)-1))
    return np.array(trips)


def _pairMean(x: np.ndarray, y: np.ndarray, batches: int = 10) -> Tuple[float, float]:
    """Mean of min(1, exp(x_k + y_l)) over all pairs, and its standard error from batches in a row."""
    if len(x) == 0:
        return math.nan, math.nan
    stride = -(-len(x)//2000)

    def over(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(np.minimum(0, x[:, None]+y[None, :])).mean())

    means = [over(a, b) for a, b in zip(np.array_split(x, batches), np.array_split(y, batches))] if len(x) >= 2*batches else []
    return over(x[::stride], y[::stride]), float(np.std(means, ddof=1)/math.sqrt(batches)) if means else math.nan


class _Energies(MultistateSampler):
    """The energies of a configuration in all states from one evaluation: they differ by -kT eta·T only."""

    def __init__(self, states: Sequence[dict], context: openmm.Context, force: SpacetimeForce) -> None:
        super().__init__(states, context)
        self.force, name = force, force.getParameterName()
        self.only = name in states[0] and set(states[0]) <= {name, "spacetime_kT", "temperature"}
        if self.only:
            self.eta = np.array([force.getEta(state[name]) for state in states])
            self.biasKT = np.array([state.get("spacetime_kT", context.getParameter("spacetime_kT")) for state in states])

    def computeAllEnergies(self) -> unit.Quantity:
        if not self.only:
            return super().computeAllEnergies()
        base = self.context.getState(energy=True).getPotentialEnergy()-self.force.getBiasEnergy(self.context)
        return unit.Quantity((base._value-self.biasKT*(self.eta@self.force.getStatistic(self.context))).tolist(), unit.kilojoule_per_mole)


def _checkStates(what: str, states: Sequence[dict], simulation: app.Simulation, force: SpacetimeForce) -> np.ndarray:
    """Temperatures [n] of the states, in K."""
    # Raises the explanation of what to do if the force was added too late.
    force.getVariableValues(simulation.context)
    if force.getNumWalkers():
        raise ValueError(f"{what}: the force has {force.getNumWalkers()} walkers in one System; exchange needs one molecule per replica, so take a System before replicate()")
    if len(states) < 2:
        raise ValueError(f"{what}: expected at least 2 states to exchange, but got {len(states)}")
    name, names = force.getParameterName(), force.getVariableNames()
    if isinstance(states, ExchangeStates):
        if name not in states[0]:
            raise ValueError(f"{what}: the force's parameter is '{name}', which the states do not set; pass parameterName='{name}' to exchangeStates")
        # The force calls a variable without a name after its kind and index.
        named = all(name != f"{force.getVariableType(i)}{i}" for i, name in enumerate(names))
        if states.names and named and states.names != names:
            raise ValueError(f"{what}: the states were made for a curve of the variables {', '.join(states.names)}, but the force has {', '.join(names)}")
        own = np.array([force.getEta(s) for s in states.s])
        if own.shape != states.eta.shape or not np.allclose(own, states.eta, rtol=1e-9, atol=1e-9*np.abs(own).max()):
            raise ValueError(f"{what}: the states were made for another curve than the force's: make them from the curve of this force")
    integrator, context = simulation.integrator, simulation.context
    T = []
    for i, state in enumerate(states):
        if "temperature" not in state and not hasattr(integrator, "getTemperature"):
            raise ValueError(f"{what}: state {i} names no temperature, and the integrator has none")
        T.append(_value(state["temperature"] if "temperature" in state else integrator.getTemperature(), unit.kelvin))
        kT = state.get("spacetime_kT", context.getParameter("spacetime_kT"))
        if abs(kT-KB*T[-1]) > 1e-6*kT:
            raise ValueError(f"{what}: state {i} runs at {T[-1]:g} K, but its bias at {kT/KB:g} K: set 'temperature' (K) and 'spacetime_kT' (kJ/mol, {KB*T[-1]:.6f}) together")
    return np.array(T)


def _nearestFrames(ensemble: PathEnsemble, s: Sequence[float]) -> List[Tuple[int, int]]:
    """Path and frame for each s: the nearest recorded one, of a path that was used no more than others."""
    at = [record.s[record.frameSteps] for record in ensemble]
    if not any(len(np.unique(x)) > 1 for x in at):
        raise ValueError(f"ReplicaExchange: {ensemble!r} recorded no frames along the curve; run PathSampler with frameStride > 0")
    used, result = [0]*len(at), []
    for x in s:
        gaps = [np.abs(frames-x).min() if len(frames) else math.inf for frames in at]
        path = min((k for k in range(len(at)) if len(at[k])), key=lambda k: (used[k], gaps[k]))
        used[path] += 1
        result.append((path, int(np.argmin(np.abs(at[path]-x)))))
    return result


def _framesOf(ensemble: PathEnsemble, s: Sequence[float], simulation: app.Simulation, force: SpacetimeForce) -> List[Tuple[np.ndarray, Any]]:
    """Positions [N, 3] and box vectors [3, 3] (None without), in nm, of the frames that are nearest."""
    nodes, eta = force.getCurve()
    if ensemble.eta.shape != eta.shape or not np.allclose(ensemble.s, nodes) or not np.allclose(ensemble.eta, eta):
        raise ValueError(f"ReplicaExchange: {ensemble!r} was driven along another curve than the force's, so its s means something else")
    result = [ensemble.frame(path, frame) for path, frame in _nearestFrames(ensemble, s)]
    if len(result[0][0]) != simulation.system.getNumParticles():
        raise ValueError(f"ReplicaExchange: the paths have {len(result[0][0])} particles, the System has {simulation.system.getNumParticles()}")
    return result


class _InBlocks:
    """What makes a sampler of openmm.app seeded, restartable, and a source of reports.

    OpenMM reads seeds only when a Context is made, and a State holds no random numbers. So iterations come in blocks: at the start of each the Context is reinitialized with
    seeds that come from the sampler's seed and the number of the block, and at its end everything is written down. On whatever platform, a block depends on these and
    on where the one before ended.
    """

    # Of the sampler that it is mixed into.
    simulation: app.Simulation
    states: List[Dict[str, Any]]
    temperatures: np.ndarray
    stepsPerIteration: int
    reinitializeVelocities: bool

    def _snapshot(self) -> Dict[str, Any]:
        raise NotImplementedError

    def _recall(self, checkpoint: Any) -> None:
        raise NotImplementedError

    def _prepare(self, force: SpacetimeForce, seed: int, blockIterations: int, directory: Any, resume: bool, equilibrationSteps: int) -> None:
        what, self.force = type(self).__name__, force
        for name, value, least in (("seed", seed, 0), ("blockIterations", blockIterations, 1), ("equilibrationSteps", equilibrationSteps, 0),
                                   ("stepsPerIteration", self.stepsPerIteration, 1)):
            if int(value) != value or value < least:
                raise ValueError(f"{what}: {name} must be a whole number, {least} or more, but it is {value}")
        self.seed, self.blockIterations, self.equilibrationSteps = int(seed), int(blockIterations), int(equilibrationSteps)
        self._sampler = _Energies(self.states, self.simulation.context, force)
        self._rows: List[Tuple[Any, ...]] = []
        self._directory = None if directory is None else Path(directory)
        if self._directory is not None:
            self._digest = self._identity()
            if (self._directory/"checkpoint.npz").exists() and not resume:
                raise FileExistsError(f"{what}: {self._directory} holds an earlier run; pass resume=True to go on with it, or choose another directory")
            self._directory.mkdir(parents=True, exist_ok=True)

    def _seeded(self) -> List[Any]:
        return [x for x in (*self.simulation.context.getSystem().getForces(), self.simulation.integrator) if hasattr(x, "setRandomNumberSeed")]

    def _identity(self) -> str:
        for x in self._seeded():
            x.setRandomNumberSeed(self.seed)
        self._sampler.applyState(0)
        text = [openmm.XmlSerializer.serialize(x) for x in (self.simulation.context.getSystem(), self.simulation.integrator)]
        settings = [type(self).__name__, self.seed, self.blockIterations, self.stepsPerIteration, self.equilibrationSteps, self.reinitializeVelocities, len(self.states)]
        states = [{key: _plain(value) for key, value in state.items()} for state in self.states]
        return hashlib.sha256("".join([*text, json.dumps([settings, states], sort_keys=True, default=repr)]).encode()).hexdigest()

    def _state(self) -> openmm.State:
        return self.simulation.context.getState(positions=True, velocities=True, parameters=True, integratorParameters=True)

    def _start(self, index: int, start: Tuple[Any, Any], seed: int) -> openmm.State:
        context, (positions, box) = self.simulation.context, start
        context.setTime(0)
        context.setStepCount(0)
        if box is not None:
            context.setPeriodicBoxVectors(*box)
        context.setPositions(positions)
        self._sampler.applyState(index)
        # Trajectories are in single precision, and constraints are not.
        context.applyConstraints(self.simulation.integrator.getConstraintTolerance())
        context.computeVirtualSites()
        context.setVelocitiesToTemperature(self.temperatures[index], seed)
        return self._state()

    def _starts(self, starts: Any, s: Sequence[float]) -> List[Tuple[Any, Any]]:
        if starts is None:
            starts = [self._state()]
        if isinstance(starts, PathEnsemble):
            return _framesOf(starts, s, self.simulation, self.force)
        if len(starts) == 0:
            raise ValueError(f"{type(self).__name__}: starts is empty: expected a PathEnsemble, States or positions")
        both = [(x.getPositions(asNumpy=True), x.getPeriodicBoxVectors()) if isinstance(x, openmm.State) else (x, None) for x in starts]
        return [both[i % len(both)] for i in range(len(s))]

    def _beginBlock(self) -> None:
        block = self.currentIteration//self.blockIterations
        context, conditions = self.simulation.context, self._state()
        context_, exchange = (int(x) for x in np.random.SeedSequence([self.seed, block]).generate_state(2))
        for x in self._seeded():
            x.setRandomNumberSeed(context_ % 0x7FFFFFFE+1)
        context.reinitialize()
        context.setState(conditions)
        self._rng, self._random = np.random.default_rng(exchange), random.Random(exchange)

    def _inBlocks(self, iterations: int, run: Callable[[], None]) -> None:
        for _ in range(iterations):
            if self.currentIteration % self.blockIterations == 0:
                self._beginBlock()
            run()
            if self.currentIteration % self.blockIterations == 0 and self._directory is not None:
                block = self.currentIteration//self.blockIterations-1
                _save(self._directory/f"block-{block:06d}.npz", self._columns(self._rows[-self.blockIterations:]))
                # Last: only with this does the block count.
                _save(self._directory/"checkpoint.npz", {"digest": self._digest, "iteration": self.currentIteration, **self._snapshot()})

    def restore(self) -> None:
        """Go back to the last complete block in the directory, as `resume=True` does.

        Raises
        ------
        FileNotFoundError
            No block was completed there.
        ValueError
            There is no directory, or that run had another System, Integrator, states or settings.
        """
        if self._directory is None:
            raise ValueError(f"{type(self).__name__}: to go on from a checkpoint takes the directory that the earlier run was given")
        path = self._directory/"checkpoint.npz"
        if not path.exists():
            raise FileNotFoundError(f"{type(self).__name__}: {path} does not exist: the run to resume completed no block of {self.blockIterations} iterations")
        with np.load(path) as data:
            if str(data["digest"]) != self._digest:
                raise ValueError(f"{type(self).__name__}: {self._directory} was written with another System, Integrator, states or settings, so it cannot be continued")
            self.currentIteration = int(data["iteration"])
            self._recall(data)
        self._rows = []
        for block in range(self.currentIteration//self.blockIterations):
            with np.load(self._directory/f"block-{block:06d}.npz") as data:
                self._rows += list(zip(*(data[name] for name in ("replicaStateIndex", "exchanging", "reducedEnergy", "variables"))))

    @staticmethod
    def _columns(rows: Sequence[Tuple[Any, ...]]) -> Dict[str, np.ndarray]:
        names = ("replicaStateIndex", "exchanging", "reducedEnergy", "variables")
        return {name: np.array([row[k] for row in rows]) for k, name in enumerate(names)}

    @property
    def history(self) -> Dict[str, np.ndarray]:
        """What every iteration saw before its exchange: ``replicaStateIndex`` [iterations, replicas], whether it ended with one, ``exchanging`` [iterations],
        ``reducedEnergy`` [iterations, replicas, states], energies in units of the states' kT as MBAR takes them, and raw ``variables`` [iterations, replicas, n] (rad, nm)."""
        return self._columns(self._rows)

    def report(self, discard: float = 0.1) -> ExchangeReport:
        """What came out so far, without the first `discard` share of the iterations with and of those without exchange.

        Raises
        ------
        ValueError
            Nothing was run yet, or `discard` is not in [0, 1).
        """
        if not self._rows:
            raise ValueError(f"{type(self).__name__}: nothing to report yet; call simulate() first")
        if not 0 <= discard < 1:
            raise ValueError(f"{type(self).__name__}: expected to discard a share in [0, 1), but got {discard}")
        history, n = self.history, len(self.states)
        index, exchanging = history["replicaStateIndex"], history["exchanging"]
        parts = []
        for rows in np.flatnonzero(~exchanging), np.flatnonzero(exchanging):
            rows = rows[int(discard*len(rows)):]
            order = np.argsort(index[rows], axis=1) if index.shape[1] == n else None
            u = np.take_along_axis(history["reducedEnergy"][rows], order[:, :, None], axis=1) if order is not None else np.empty((0, n, n))
            # Per pair what state i and what state i+1 contribute to the log-ratio of a swap.
            parts.append([(u[:, i, i]-u[:, i, i+1], u[:, i+1, i+1]-u[:, i+1, i]) for i in range(n-1)])
        # In equilibrium replicas are independent of each other with exchange too, so all pairs count, not only those that met: the error is smaller.
        independent, exchanged = (np.array([_pairMean(x, y) for x, y in part]) for part in parts)
        visited = index[exchanging][int(discard*exchanging.sum()):]
        return ExchangeReport(s=np.array([state.get(self.force.getParameterName(), math.nan) for state in self.states]), temperatures=self.temperatures,
                              predicted=np.array(getattr(self.states, "predicted", np.full(n-1, math.nan))),
                              exact=bool(getattr(self.states, "exact", False)), independent=independent[:, 0], independentError=independent[:, 1],
                              exchanged=exchanged[:, 0], exchangedError=exchanged[:, 1],
                              occupancy=np.array([(visited == i).any(axis=1).mean() for i in range(n)]) if len(visited) else np.ones(n),
                              roundTrips=_roundTrips(index[exchanging], n-1), iterations=int(exchanging.sum()), independentIterations=int((~exchanging).sum()),
                              stepsPerIteration=self.stepsPerIteration, discarded=discard)


def _plain(x: Any) -> Any:
    return x.value_in_unit_system(unit.md_unit_system) if unit.is_quantity(x) else x


def _save(path: Path, arrays: Dict[str, Any]) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
    os.replace(temporary, path)


def _pack(state: openmm.State) -> np.ndarray:
    return np.frombuffer(openmm.XmlSerializer.serialize(state).encode(), dtype=np.uint8)


def _unpack(data: np.ndarray) -> openmm.State:
    return openmm.XmlSerializer.deserialize(data.tobytes().decode())


class ReplicaExchange(_InBlocks, app.ReplicaExchangeSampler):
    """OpenMM's ReplicaExchangeSampler for states on a curve: started from driven paths, seeded, restartable, and reporting how well it mixes.

    It is a ReplicaExchangeSampler: its attributes, and ``reporters`` such as openmm.app.ReplicaExchangeReporter, work as they do there, and the order of things within an
    iteration is OpenMM's. Two methods are replaced. The energies of a configuration in all states come from one evaluation of the forces instead of one for each
    state. And the attempts to exchange, as many and between the same random pairs, draw from a generator of the sampler: OpenMM's draw from Python's global one, so
    that they cannot be repeated, and raise an OverflowError where an exponent exceeds 709.

    Parameters
    ----------
    states : ExchangeStates or list of dict
        As :func:`exchangeStates` makes them, or any that ReplicaExchangeSampler takes; ``temperature`` and ``spacetime_kT`` must agree.
    simulation : openmm.app.Simulation
        Its System must hold `force`. It is used for all replicas, one after the other.
    force : SpacetimeForce
    stepsPerIteration : int
        Time steps between exchanges.
    starts : PathEnsemble or sequence, optional
        Where replicas start: replica i at the recorded frame whose s is nearest to its own, from different paths as far as there are enough. Or States or
        positions, number i modulo their number. The simulation's positions when left out. Velocities are drawn anew.
    seed : int
    equilibrationSteps : int
        Time steps of each replica before the first iteration.
    blockIterations : int
        Iterations between two checkpoints.
    directory : path, optional
        Where checkpoints and the history are written. Nothing is written when left out.
    resume : bool
        Go on from the last complete block in the directory. On a platform that repeats itself, as Reference does, the result is that of a run without interruption.
    reinitializeVelocities : bool
        As in ReplicaExchangeSampler.

    Raises
    ------
    ValueError
        Fewer than 2 states; states made for another curve or other variables; bath and bias at different temperatures; a force with walkers; an ensemble without frames
        along the curve or of another curve; or what is to be resumed was another run.
    FileExistsError
        The directory holds an earlier run, and `resume` was not given.
    openmm.OpenMMException
        The force is not part of the simulation's Context.
    """

    def __init__(self, states: Sequence[dict], simulation: app.Simulation, force: SpacetimeForce, stepsPerIteration: int = 500, starts: Any = None, seed: int = 1,
                 equilibrationSteps: int = 0, blockIterations: int = 20, directory: Union[None, str, os.PathLike] = None, resume: bool = False,
                 reinitializeVelocities: bool = False) -> None:
        self.temperatures = _checkStates("ReplicaExchange", states, simulation, force)
        super().__init__(states, simulation, stepsPerIteration, reinitializeVelocities)
        self._prepare(force, seed, blockIterations, directory, resume, equilibrationSteps)
        self._exchanging = True
        self._seen: List[np.ndarray] = []
        if resume:
            self.restore()
            return
        name = force.getParameterName()
        begin = self._starts(starts, [state.get(name, 0.0) for state in states])
        seeds = np.random.SeedSequence([self.seed]).generate_state(len(states)) % 0x7FFFFFFE+1
        self.replicaConformation = [self._start(i, start, int(seeds[i])) for i, start in enumerate(begin)]

    def simulate(self, iterations: int, exchange: bool = True) -> None:
        """Run iterations of `stepsPerIteration` steps of each replica, and exchange after each.

        Parameters
        ----------
        iterations : int
        exchange : bool
            False leaves each replica in its state. What such independent replicas see says what the acceptance should be; the report compares it with that during exchange.
        """
        self._exchanging = bool(exchange)

        def one() -> None:
            if self.currentIteration == 0 and self.equilibrationSteps:
                for i in range(len(self.states)):
                    self.simulateReplica(i, self.equilibrationSteps)
            self._seen = []
            super(_InBlocks, self).simulate(1)

        self._inBlocks(iterations, one)

    def simulateReplica(self, index: int, steps: Optional[int] = None) -> None:
        """As in ReplicaExchangeSampler; notes the variables too."""
        super().simulateReplica(index, steps)
        if steps is None:
            self._seen.append(self.force.getVariableValues(self.simulation.context))

    def exchangeReplicas(self) -> None:
        """Attempt `exchangesPerIteration` swaps of random pairs."""
        u = np.array(self.replicaStateEnergy.value_in_unit(unit.kilojoule_per_mole))/(KB*self.temperatures)
        self._rows.append((np.array(self.replicaStateIndex), self._exchanging, u, np.array(self._seen)))
        if not self._exchanging:
            return
        n, count, states = len(self.states), self.exchangesPerIteration, self.replicaStateIndex
        first = self._rng.integers(n, size=(count,))
        second = (first+self._rng.integers(1, n, size=(count,))) % n
        u = u.tolist()
        logs: List[float] = np.log(1-self._rng.random(count)).tolist()
        for i, j, log in zip(first.tolist(), second.tolist(), logs):
            a, b = states[i], states[j]
            if log <= u[i][a]+u[j][b]-u[i][b]-u[j][a]:
                states[i], states[j] = b, a

    def _snapshot(self) -> Dict[str, np.ndarray]:
        return {"replicaStateIndex": np.array(self.replicaStateIndex), "previous": np.array(self._previousReplicaStateIndex),
                **{f"conformation{i}": _pack(state) for i, state in enumerate(self.replicaConformation)}}

    def _recall(self, data: Any) -> None:
        self.replicaStateIndex, self._previousReplicaStateIndex = data["replicaStateIndex"].tolist(), data["previous"].tolist()
        self.replicaConformation = [_unpack(data[f"conformation{i}"]) for i in range(len(self.states))]

    def __repr__(self) -> str:
        return f"ReplicaExchange({len(self.states)} states, {self.stepsPerIteration} steps per iteration; {self.currentIteration} iterations done)"


class ExpandedEnsemble(_InBlocks, app.ExpandedEnsembleSampler):
    """OpenMM's ExpandedEnsembleSampler for states on a curve: one walker that wanders between the states, seeded and restartable.

    Parameters as in :class:`ReplicaExchange`; `starts` is where the one walker starts, in the first state.

    Parameters
    ----------
    weights : PosteriorModel or sequence of float, optional
        A model knows the free energies of the states: with the weights -psi(eta_i) all are visited equally often if it is right and all have one temperature. OpenMM finds the
        weights while it runs where they are left out, and the first part does not count then.

    Raises
    ------
    ValueError
        As :class:`ReplicaExchange`, and for a model without psi.
    """

    def __init__(self, states: Sequence[dict], simulation: app.Simulation, force: SpacetimeForce, stepsPerIteration: int = 500, weights: Any = None, starts: Any = None,
                 seed: int = 1, equilibrationSteps: int = 0, blockIterations: int = 20, directory: Union[None, str, os.PathLike] = None, resume: bool = False,
                 reinitializeVelocities: bool = False) -> None:
        self._openedLogFile = self._openedEnergyFile = False  # OpenMM's __del__ asks for them even where __init__ stopped before
        self.temperatures = _checkStates("ExpandedEnsemble", states, simulation, force)
        if isinstance(weights, _core.PosteriorModel):
            psi = weights.moments(np.array([force.getEta(state[force.getParameterName()]) for state in states])).psi
            if psi is None:
                raise ValueError("ExpandedEnsemble: the model knows no log-partition psi; pass logPartition() of the states' eta with a minus sign as weights, or none")
            weights = -psi
        if weights is not None:
            weights = [float(w) for w in weights]
            if len(weights) != len(states):
                raise ValueError(f"ExpandedEnsemble: expected one weight for each of the {len(states)} states, but got {len(weights)}")
        adaptive = weights is None
        super().__init__(states, simulation, stepsPerIteration, reinitializeVelocities, weights)
        if not adaptive:
            # OpenMM's checkpoint asks for these even where there is nothing to adapt.
            self._weightUpdateFactor, self._histogram, self._hasMadeTransition = 0.0, [0]*len(states), False
        self._prepare(force, seed, blockIterations, directory, resume, equilibrationSteps)
        if resume:
            self.restore()
            return
        start = self._starts(starts, [states[0].get(force.getParameterName(), 0.0)])[0]
        self._start(0, start, int(np.random.SeedSequence([self.seed]).generate_state(1)[0] % 0x7FFFFFFE+1))

    def simulate(self, iterations: int) -> None:
        """Run iterations of `stepsPerIteration` steps, each with a change of state at its end."""
        def one() -> None:
            if self.currentIteration == 0 and self.equilibrationSteps:
                self.simulation.integrator.step(self.equilibrationSteps)
                self.simulation.currentStep = 0
            self.simulation.step(self.stepsPerIteration)

        self._inBlocks(iterations, one)

    def attemptStateChange(self, state: openmm.State) -> List[float]:
        """As in ExpandedEnsembleSampler, with random numbers of the sampler's own."""
        index, values = self.currentStateIndex, self.force.getVariableValues(self.simulation.context)
        theirs = random.getstate()
        random.setstate(self._random.getstate())
        try:
            reduced = super().attemptStateChange(state)
            self._random.setstate(random.getstate())
        finally:
            random.setstate(theirs)
        self._rows.append((np.array([index]), True, np.array([reduced]), values[None]))
        return reduced

    def _snapshot(self) -> Dict[str, np.ndarray]:
        checkpoint = self._createCheckpoint()
        conformation = _pack(checkpoint.pop("state"))
        return {"conformation": conformation, "sampler": np.array(json.dumps(checkpoint))}

    def _recall(self, data: Any) -> None:
        self._applyCheckpoint({**json.loads(str(data["sampler"])), "state": _unpack(data["conformation"])})
        self._sampler.applyState(self.currentStateIndex)

    def __repr__(self) -> str:
        return f"ExpandedEnsemble({len(self.states)} states, {self.stepsPerIteration} steps per iteration; {self.currentIteration} iterations done)"
