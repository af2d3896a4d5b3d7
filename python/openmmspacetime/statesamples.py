# SPDX-License-Identifier: MIT
"""Samples of the states of a curve, from exchange, from staged driving, or from arrays, and what correlation in time makes of their errors."""
from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .analysis import _number
from .ensemble import PathEnsemble
from .estimates import _pymbar
from .surface import GAS_CONSTANT

__all__ = ["StateSamples"]


#: A bias that rests for fewer steps than this leaves samples of no state's equilibrium.
STAGE = 20


class StateSamples:
    """Samples of several states of one curve, at one temperature.

    Parameters
    ----------
    s : array [K]
        Points of the curve; numbers that rise from the first state to the last.
    eta : array [K, m]
        Natural parameters of the states.
    temperature : float or Quantity
        K.
    state : int array [N]
        The state that generated each sample, 0 to K - 1.
    T : array [N, m]
        The statistic of each sample.
    variables : array [N, n], optional
        Raw values (rad, nm), for surfaces over them.
    chain : int array [N], optional
        The independent run, or path, that each sample comes from. One run when left out. All replicas of an exchange are one run: they are not independent of each other.
    time : int array [N], optional
        When each sample was taken in its chain; samples of a chain with the same time (the replicas of an iteration) count together. When left out, the samples of a
        state in a chain are in the order of time, and so are the states of a chain beside each other.
    names : sequence of str, optional
        Of the variables.
    periods : array [n], optional
        Length of one turn of each variable, 0 where it is not periodic; all 0 when left out.

    Raises
    ------
    ValueError
        Fewer than 2 states, a state without samples, two states alike, numbers that are not finite, or shapes that do not fit.
    """

    def __init__(self, s: ArrayLike, eta: np.ndarray, temperature: Any, state: ArrayLike, T: np.ndarray, variables: Optional[np.ndarray] = None,
                 chain: Optional[ArrayLike] = None, time: Optional[ArrayLike] = None, names: Sequence[str] = (), periods: Optional[ArrayLike] = None) -> None:
        self.s, self.eta, self.T = np.asarray(s, dtype=float), np.asarray(eta, dtype=float), np.asarray(T, dtype=float)
        self.temperature = _number(temperature)
        self.state = np.asarray(state)
        K, N = len(self.s), len(self.state)
        if K < 2:
            raise ValueError(f"StateSamples: expected at least 2 states, but got {K}: a free energy is a difference")
        if self.eta.ndim != 2 or len(self.eta) != K:
            raise ValueError(f"StateSamples: expected eta of shape [{K}, m] for {K} states, but got {list(self.eta.shape)}")
        if not self.temperature > 0 or not math.isfinite(self.temperature):
            raise ValueError(f"StateSamples: expected a positive temperature in K, but got {self.temperature}")
        if self.state.ndim != 1 or N == 0 or not np.issubdtype(self.state.dtype, np.integer):
            raise ValueError(f"StateSamples: expected the states of at least one sample as whole numbers [N], but got {self.state.dtype} of shape {list(self.state.shape)}")
        if self.T.shape != (N, self.eta.shape[1]):
            raise ValueError(f"StateSamples: expected T of shape [{N}, {self.eta.shape[1]}], a row for each of the {N} samples, but got {list(self.T.shape)}")
        self.variables = np.empty((N, 0)) if variables is None else np.asarray(variables, dtype=float)
        if self.variables.ndim != 2 or len(self.variables) != N:
            raise ValueError(f"StateSamples: expected variables of shape [{N}, n], but got {list(self.variables.shape)}")
        for name, x in (("s", self.s), ("eta", self.eta), ("T", self.T), ("variables", self.variables)):
            if not np.all(np.isfinite(x)):
                at = np.argwhere(~np.isfinite(x))[0]
                raise ValueError(f"StateSamples: {name}{at.tolist()} is {x[tuple(at)]}; expected finite numbers. Leave out what broke down")
        if np.any(np.diff(self.s) <= 0):
            raise ValueError("StateSamples: expected s to rise from state to state; sort the states")
        if self.state.min() < 0 or self.state.max() >= K:
            raise ValueError(f"StateSamples: expected states between 0 and {K-1}, but got {self.state.min()} to {self.state.max()}")
        self.counts = np.bincount(self.state, minlength=K)
        if np.any(self.counts == 0):
            raise ValueError(f"StateSamples: no samples of state {', '.join(map(str, np.flatnonzero(self.counts == 0)))}: run longer, or leave those states out")
        same = np.flatnonzero(np.abs(np.diff(self.eta, axis=0)).max(axis=1) == 0)
        if len(same):
            raise ValueError(f"StateSamples: states {same[0]} and {same[0]+1} have the same eta: make one of them")
        self.chain = np.zeros(N, dtype=int) if chain is None else np.unique(self._whole("chain", chain), return_inverse=True)[1]
        self.time = self._order() if time is None else self._whole("time", time)
        self.names = list(names) if len(names) else [f"x{i}" for i in range(self.variables.shape[1])]
        self.periods = np.zeros(self.variables.shape[1]) if periods is None else np.asarray(periods, dtype=float)
        if len(self.names) != self.variables.shape[1] or self.periods.shape != (self.variables.shape[1],):
            raise ValueError(f"StateSamples: expected one name and one period for each of the {self.variables.shape[1]} variables, but got {len(self.names)} "
                             f"and {self.periods.size}")
        # Where each sample belongs in the series [chains, times]: times are counted, so that gaps (iterations left out) do not matter.
        self._slot = np.zeros(N, dtype=int)
        for c in range(self.chain.max()+1):
            own = self.chain == c
            self._slot[own] = np.unique(self.time[own], return_inverse=True)[1]

    def _whole(self, name: str, x: Any) -> np.ndarray:
        x = np.asarray(x)
        if x.shape != self.state.shape or not np.issubdtype(x.dtype, np.integer):
            raise ValueError(f"StateSamples: expected {name} as whole numbers [{len(self.state)}], but got {x.dtype} of shape {list(x.shape)}")
        return x

    def _order(self) -> np.ndarray:
        """Number of each sample among those of its state and chain."""
        group = self.chain*len(self.s)+self.state
        order = np.argsort(group, kind="stable")
        start = np.concatenate([[0], np.flatnonzero(np.diff(group[order]))+1])
        number = np.arange(len(group))-np.repeat(start, np.diff(np.append(start, len(group))))
        time = np.empty(len(group), dtype=int)
        time[order] = number
        return time

    def __len__(self) -> int:
        return len(self.state)

    def __repr__(self) -> str:
        return (f"StateSamples({len(self.s)} states, {len(self)} samples ({self.counts.min()} to {self.counts.max()} a state) from {self.numChains} "
                f"{'chain' if self.numChains == 1 else 'chains'}, {self.temperature:g} K)")

    @property
    def numChains(self) -> int:
        """Number of independent runs or paths."""
        return int(self.chain.max()+1)

    @property
    def kT(self) -> float:
        """kJ/mol."""
        return GAS_CONSTANT*self.temperature

    # ---- where they come from

    @classmethod
    def fromExchange(cls, samplers: Any, discard: float = 0.1) -> StateSamples:
        """From a ReplicaExchange or ExpandedEnsemble, or several independent runs of one.

        Parameters
        ----------
        samplers : sampler or sequence of samplers
            Runs along the same curve; with other seeds and starts they are independent. Their states are put together. A run in a directory is opened by making its
            sampler with ``resume=True``.
        discard : float
            Share of the iterations that is left out at the beginning, of those with exchange and of those without.

        Returns
        -------
        StateSamples
            One chain for each run, since the replicas of a run are not independent.

        Raises
        ------
        ValueError
            Nothing was run, states differ in temperature, or runs in curve, variables or temperature.
        """
        samplers = list(samplers) if isinstance(samplers, (list, tuple)) else [samplers]
        if not samplers:
            raise ValueError("StateSamples.fromExchange: expected at least one sampler, but got none")
        if not 0 <= discard < 1:
            raise ValueError(f"StateSamples.fromExchange: expected to discard a share in [0, 1), but got {discard}")
        parts = []
        for sampler in samplers:
            force, history = sampler.force, sampler.history
            if not len(history["exchanging"]):
                raise ValueError(f"StateSamples.fromExchange: {sampler!r} has run nothing yet; call simulate() first")
            if len(np.unique(sampler.temperatures)) > 1:
                raise ValueError(f"StateSamples.fromExchange: expected states of one temperature, but they have {sampler.temperatures.min():g} to "
                                 f"{sampler.temperatures.max():g} K: then the potential energy does not cancel. history['reducedEnergy'] is what pymbar takes")
            name = force.getParameterName()
            if any(name not in state for state in sampler.states):
                raise ValueError(f"StateSamples.fromExchange: expected every state to set '{name}', the force's parameter")
            exchanging = history["exchanging"]
            rows = np.sort(np.concatenate([kind[int(discard*len(kind)):] for kind in (np.flatnonzero(~exchanging), np.flatnonzero(exchanging))]))
            state = history["replicaStateIndex"][rows]
            parts.append(_Part(f"{sampler!r}", force.getCurve(), np.array([state[name] for state in sampler.states], dtype=float), float(sampler.temperatures[0]),
                               [force._describeVariable(i) for i in range(force.getNumVariables())], state.ravel(),
                               history["variables"][rows].reshape(state.size, -1), np.repeat(rows, state.shape[1]), np.zeros(state.size, dtype=int), force.getEta))
        for i, part in enumerate(parts):
            if any(np.array_equal(part.raw, other.raw) for other in parts[:i]):
                raise ValueError(f"StateSamples.fromExchange: two of the runs are the same, {part.source}; expected independent ones, with other seeds and starts")
        return cls._join("StateSamples.fromExchange", parts)

    @classmethod
    def fromPaths(cls, ensembles: Any, discard: float = 0.5, stride: Optional[int] = None) -> StateSamples:
        """From staged driving: paths on which the bias rests for `stepsPerMove` steps between two moves.

        Each stage is a state. What the molecule lags behind the bias after `discard` of a stage is a bias of the result, which no error shows: compare forward with
        backward paths, or longer stages.

        Parameters
        ----------
        ensembles : PathEnsemble or sequence of PathEnsemble
            Of the same curve, forward and backward for example.
        discard : float
            Share of each stage that is left out at its beginning.
        stride : int, optional
            Every so many steps become samples; about 10 for each stage of each path when left out.

        Returns
        -------
        StateSamples
            One chain for each path.

        Raises
        ------
        ValueError
            The bias moves more often than every 20 steps, fewer than 2 paths, the same paths twice, or curve, variables or temperature differ.
        """
        ensembles = list(ensembles) if isinstance(ensembles, (list, tuple)) else [ensembles]
        if not ensembles or sum(len(e) for e in ensembles) < 2:
            raise ValueError("StateSamples.fromPaths: expected at least 2 complete paths: their differences are the error")
        if not 0 <= discard < 1:
            raise ValueError(f"StateSamples.fromPaths: expected to discard a share in [0, 1), but got {discard}")
        _apart("StateSamples.fromPaths", ensembles)
        parts = []
        for ensemble in ensembles:
            rest = int(ensemble.settings["stepsPerMove"])
            if rest < STAGE:
                raise ValueError(f"StateSamples.fromPaths: {ensemble!r} moves its bias every {rest} {'step' if rest == 1 else 'steps'}, so that nothing is near the "
                                 f"equilibrium of any state: drive with stepsPerMove={STAGE} or (much) more, or take the work of these paths with bar()")
            kept = np.arange(int(math.ceil(discard*rest)), rest)
            every = max(1, len(kept)//10) if stride is None else int(stride)
            if every < 1:
                raise ValueError(f"StateSamples.fromPaths: expected a stride of at least 1, but got {stride}")
            kept = kept[::-1][::every][::-1]  # from the end of the stage, where it is nearest to equilibrium
            steps = (np.arange(0, ensemble.steps, rest)[:, None]+kept).ravel()
            force = _forceOf(ensemble)
            s, state = np.unique(np.concatenate([record.s[steps] for record in ensemble]), return_inverse=True)
            parts.append(_Part(f"{ensemble!r}", (ensemble.s, ensemble.eta), s, ensemble.temperature, ensemble.variables, state,
                               np.concatenate([record.variables[steps] for record in ensemble]), np.tile(steps, len(ensemble)), np.repeat(np.arange(len(ensemble)), len(steps)),
                               force.getEta))
        return cls._join("StateSamples.fromPaths", parts)

    @classmethod
    def _join(cls, what: str, parts: List[_Part]) -> StateSamples:
        """Parts of one curve put together: states with the same s are one."""
        first = parts[0]
        for part in parts[1:]:
            (s, eta), (s0, eta0) = part.curve, first.curve
            if np.shape(eta) != np.shape(eta0) or not np.allclose(s, s0) or not np.allclose(eta, eta0, rtol=1e-9, atol=1e-9*np.abs(eta0).max()):
                raise ValueError(f"{what}: {part.source} and {first.source} lie on different curves, so that s means different things; take one curve at a time. "
                                 "(MBAR over several curves is possible where they share variables: join T and eta yourself and number the states)")
            if abs(part.temperature-first.temperature) > 1e-6*first.temperature:
                raise ValueError(f"{what}: {part.source} ran at {part.temperature:g} K and {first.source} at {first.temperature:g} K; expected one temperature")
            if [_essence(v) for v in part.described] != [_essence(v) for v in first.described]:
                raise ValueError(f"{what}: {part.source} and {first.source} have different variables")
        s = np.unique(np.round(np.concatenate([part.s for part in parts]), 9))
        chains, offset = [], 0
        for part in parts:
            chains.append(part.chain+offset)
            offset += int(part.chain.max())+1
        raw = np.concatenate([part.raw for part in parts])
        state = np.concatenate([np.searchsorted(s, np.round(part.s, 9))[part.state] for part in parts])
        return cls(s, np.array([first.etaAt(float(min(max(x, 0.0), 1.0))) for x in s]), first.temperature, state, _variablesOf(first.described).statistic(raw), raw,
                   np.concatenate(chains), np.concatenate([part.time for part in parts]), [v["name"] for v in first.described], [v["period"] for v in first.described])

    # ---- correlation in time

    def _series(self, influence: np.ndarray) -> np.ndarray:
        """Sums of influence [N, M] over the samples of each time: [chains, times, M], 0 where a chain is shorter."""
        shape = (self.numChains, int(self._slot.max())+1)
        out = np.zeros((shape[0]*shape[1], influence.shape[1]))
        np.add.at(out, self.chain*shape[1]+self._slot, influence)
        return out.reshape(*shape, -1)

    def _errors(self, influence: np.ndarray) -> np.ndarray:
        """Standard errors [M] of the sums of influence [N, M] over all samples, whose mean is 0."""
        return _standardErrors(self._series(influence))

    def inefficiency(self) -> np.ndarray:
        """Statistical inefficiency of each state [K]: how many samples in a row count as one, of the most correlated component of T (pymbar.timeseries; Chodera et al.,
        J. Chem. Theory Comput. 3, 26 (2007)). For orientation, and for :meth:`subsampled`: the estimators here have each their own."""
        timeseries = _pymbar().timeseries
        result = np.ones(len(self.s))
        for k in range(len(self.s)):
            groups = [self.T[self._inOrder(c, k)] for c in range(self.numChains)]
            groups = [x for x in groups if len(x) > 3]
            for j in range(self.T.shape[1]):
                series = [x[:, j] for x in groups]
                if series and np.ptp(np.concatenate(series)) > 0:
                    # One long series is the same as many, but pymbar's function for many wants them as equals.
                    result[k] = max(result[k], timeseries.statistical_inefficiency_multiple(series) if len(series) > 1 else timeseries.statistical_inefficiency(series[0]))
        return result

    def acceptances(self) -> np.ndarray:
        """Mean acceptance of swaps between all pairs of states [K, K], over all pairs of their samples; 1 on the diagonal."""
        from .exchange import _pairMean

        a = self.T@self.eta.T  # [N, K]
        own = [np.flatnonzero(self.state == k) for k in range(len(self.s))]
        result = np.ones((len(self.s),)*2)
        for i, x in enumerate(own):
            for j, y in enumerate(own[:i]):
                result[i, j] = result[j, i] = _pairMean(a[x, j]-a[x, i], a[y, i]-a[y, j])[0]
        return result

    def _inOrder(self, chain: int, state: int) -> np.ndarray:
        own = np.flatnonzero((self.chain == chain) & (self.state == state))
        return own[np.argsort(self.time[own], kind="stable")]

    def subsampled(self) -> StateSamples:
        """The samples of each state of each chain that are `inefficiency` apart and count as independent: for other programs, which want such."""
        timeseries = _pymbar().timeseries
        g, kept = self.inefficiency(), []
        for c in range(self.numChains):
            for k in range(len(self.s)):
                own = self._inOrder(c, k)
                if len(own):
                    kept.append(own[np.array(timeseries.subsample_correlated_data(np.zeros(len(own)), g=g[k]), dtype=int)])
        return self.select(np.sort(np.concatenate(kept)))

    def select(self, which: np.ndarray) -> StateSamples:
        """Some of the samples, by index or mask."""
        return StateSamples(self.s, self.eta, self.temperature, self.state[which], self.T[which], self.variables[which], self.chain[which],
                            self.time[which], self.names, self.periods)


@dataclass
class _Part:
    """Samples of one run, before they are put together."""

    source: str
    curve: Tuple[np.ndarray, np.ndarray]
    s: np.ndarray
    temperature: float
    described: List[Dict[str, Any]]
    state: np.ndarray
    raw: np.ndarray
    time: np.ndarray
    chain: np.ndarray
    etaAt: Any


def _essence(v: Mapping[str, Any]) -> Tuple[Any, ...]:
    return v["name"], v["kind"], str(v["atoms"]), v["axis"], v["period"], v["shift"], v["scale"]


def _variablesOf(described: Sequence[Mapping[str, Any]]) -> _core.Variables:
    """Variables with the same statistic; which atoms they are measured on does not matter for that."""
    items = [{"name": v["name"], "type": "torsion" if v["kind"] == "torsion" else "coordinate", **{key: v[key] for key in ("period", "shift", "scale")}} for v in described]
    return _core.Variables.fromJson(json.dumps(items))


def _forceOf(ensemble: PathEnsemble) -> Any:
    """For its interpolation, so that a state is what the force made of its s."""
    from .force import SpacetimeForce

    return SpacetimeForce(s=ensemble.s, eta=ensemble.eta, temperature=ensemble.temperature)


def _apart(what: str, ensembles: Sequence[PathEnsemble]) -> None:
    """ValueError for the same paths twice."""
    seen: Dict[Any, PathEnsemble] = {}
    for ensemble in ensembles:
        keys: Dict[Any, str] = {os.path.realpath(ensemble.directory): "directory", **{(ensemble.direction, record.seed): "seed" for record in ensemble}}
        for key, kind in keys.items():
            if key in seen:
                raise ValueError(f"{what}: {ensemble!r} and {seen[key]!r} are the same paths (the same {kind}), expected independent ones: run them with another seed")
        seen.update(dict.fromkeys(keys, ensemble))


def _standardErrors(series: np.ndarray) -> np.ndarray:
    """Standard errors [M] of sums of series [chains, times, M] over all times and chains, the mean of each being 0.

    The variance of a sum is the sum of all autocovariances, taken until they first fall to zero after three lags, as pymbar.timeseries does for a single series:
    here chains have one autocorrelation and one mean, so that chains which stay apart count as what they are.
    """
    variance = np.square(series).sum(axis=(0, 1))
    total = variance.copy()
    alive = np.arange(series.shape[2])
    for lag in range(1, series.shape[1]):
        covariance = np.einsum("ctm,ctm->m", series[:, :-lag, alive], series[:, lag:, alive])
        going = (covariance > 0) | (lag <= 3)
        alive, covariance = alive[going], covariance[going]
        if not len(alive):
            break
        total[alive] += 2*covariance
    return np.sqrt(np.maximum(total, variance))


def _means(samples: StateSamples) -> np.ndarray:
    """E[T] of each state [K, m], the plain mean of its samples."""
    return np.stack([np.bincount(samples.state, weights=x, minlength=len(samples.s)) for x in samples.T.T], axis=1)/samples.counts[:, None]
