# SPDX-License-Identifier: MIT
r"""Free energies with errors from what the samplers leave: MBAR, thermodynamic integration and the Bennett acceptance ratio.

The states of a curve are tilted distributions of one ensemble q at one temperature, p_k proportional to q(c) exp(eta_k·T(c)) (arXiv:2505.17517). Their reduced
potentials differ by -eta_k·T only, the potential energy cancels, and T of every sample is all that is needed:

.. math:: u_k = \mathrm{const} - \eta_k \cdot T(c), \qquad \psi_k = \log \int q\, e^{\eta_k \cdot T}, \qquad F_k = -kT\, \psi_k.

- :func:`mbar`: Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008), solved by pymbar.
- :func:`thermodynamicIntegration`: :math:`\psi_b - \psi_a = \int \mu \cdot d\eta` with mu = E[T], the gradient of psi.
- :func:`bar`: Bennett, J. Comput. Phys. 22, 245 (1976), with the work of driven paths: Shirts et al., Phys. Rev. Lett. 91, 140601 (2003).

**Errors.** To first order the error of every estimate here is a sum over the samples, each with an influence on it. That sum is taken iteration by iteration (over all replicas, which
are not independent of each other), and its variance is that of a series correlated in time: as pymbar.timeseries does it for one series, the autocorrelation is summed
up to its first zero. So nothing is thrown away by subsampling, and what is slow for one estimate does not make the error of another larger.
"""
from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from . import _core
from .analysis import _number
from .ensemble import PathEnsemble
from .surface import GAS_CONSTANT

__all__ = ["Estimate", "FreeEnergies", "FreeEnergyComparison", "FreeEnergyHistogram", "ModelValidation", "StateSamples", "WorkFreeEnergy", "bar", "compareFreeEnergies", "mbar",
           "thermodynamicIntegration", "validateModel"]

#: Neighbours whose overlap is below this are told: Klimovich, Shirts and Mobley, J. Comput. Aided Mol. Des. 29, 397 (2015).
OVERLAP = 0.03
#: Below this no sample of one state is ever likely in another.
DISCONNECTED = 1e-7
#: Effective samples of the bin that free energies are measured from.
SUPPORT = 10
#: A bias that rests for fewer steps than this leaves samples of no state's equilibrium.
STAGE = 20


def _pymbar() -> Any:
    """pymbar, imported without its advertisements: one for JAX, which it does without, and one for its timeseries module."""
    logger = logging.getLogger("pymbar")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import pymbar
        import pymbar.other_estimators
    except ImportError as e:
        raise ImportError("openmmspacetime's estimators need pymbar 4: pip install pymbar") from e
    finally:
        logger.setLevel(before)
    return pymbar


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return _plusMinus(self.value, self.error)


def _plusMinus(value: float, error: float = math.nan) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{round(value, 2)+0.0:.2f}"+(f" +- {error:.2f}" if math.isfinite(error) else "")  # + 0.0 makes -0 a 0


def _plain(x: Any) -> Any:
    """Lists and numbers for JSON; what is not finite becomes None."""
    if isinstance(x, dict):
        return {key: _plain(value) for key, value in x.items()}
    if isinstance(x, (np.ndarray, np.generic)):
        x = x.tolist()
    if isinstance(x, (list, tuple)):
        return [_plain(y) for y in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _aligned(rows: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]


# ---- samples

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
        When each sample was taken in its chain; samples of a chain with the same time (the replicas of an iteration) count together. When left out, the samples of a state in
        a chain are in the order of time, and so are the states of a chain beside each other.
    names : sequence of str, optional
        Of the variables.
    periods : array [n], optional
        Length of one turn of each variable, 0 where it is not periodic; all 0 when left out.

    Raises
    ------
    ValueError
        Fewer than 2 states, a state without samples, two states alike, numbers that are not finite, or shapes that do not fit.
    """

    def __init__(self, s: Sequence[float], eta: np.ndarray, temperature: Any, state: Sequence[int], T: np.ndarray, variables: Optional[np.ndarray] = None,
                 chain: Optional[Sequence[int]] = None, time: Optional[Sequence[int]] = None, names: Sequence[str] = (), periods: Optional[Sequence[float]] = None) -> None:
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
            raise ValueError(f"StateSamples: expected one name and one period for each of the {self.variables.shape[1]} variables, but got {len(self.names)} and {self.periods.size}")
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
            Runs along the same curve; with other seeds and starts they are independent. Their states are put together. A run in a directory is opened by making its sampler with
            ``resume=True``.
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
                raise ValueError(f"StateSamples.fromExchange: expected states of one temperature, but they have {sampler.temperatures.min():g} to {sampler.temperatures.max():g} K: "
                                 "then the potential energy does not cancel. history['reducedEnergy'] is what pymbar takes")
            name = force.getParameterName()
            if any(name not in state for state in sampler.states):
                raise ValueError(f"StateSamples.fromExchange: expected every state to set '{name}', the force's parameter")
            exchanging = history["exchanging"]
            rows = np.sort(np.concatenate([kind[int(discard*len(kind)):] for kind in (np.flatnonzero(~exchanging), np.flatnonzero(exchanging))]))
            state = history["replicaStateIndex"][rows]
            parts.append(_Part(f"{sampler!r}", force.getCurve(), np.array([state[name] for state in sampler.states], dtype=float), float(sampler.temperatures[0]),
                               [force._describeVariable(i) for i in range(force.getNumVariables())], state.ravel(),
                               history["variables"][rows].reshape(state.size, -1), np.repeat(rows, state.shape[1]), np.zeros(state.size, dtype=int), force.getEta))
        return cls._join("StateSamples.fromExchange", parts)

    @classmethod
    def fromPaths(cls, ensembles: Any, discard: float = 0.5, stride: Optional[int] = None) -> StateSamples:
        """From staged driving: paths on which the bias rests for `stepsPerMove` steps between two moves.

        Each stage is a state. What the molecule lags behind the bias after `discard` of a stage is a bias of the result, which no error shows: compare forward with backward
        paths, or longer stages.

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
                raise ValueError(f"StateSamples.fromPaths: {ensemble!r} moves its bias every {rest} {'step' if rest == 1 else 'steps'}, so that nothing is near the equilibrium of any "
                                 f"state: drive with stepsPerMove={STAGE} or (much) more, or take the work of these paths with bar()")
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
                raise ValueError(f"{what}: {part.source} and {first.source} lie on different curves, so that s means different things; take one curve at a time. (MBAR over several "
                                 "curves is possible where they share variables: join T and eta yourself and number the states)")
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
        return StateSamples(self.s, self.eta, self.temperature, self.state[which], self.T[which], self.variables[which], self.chain[which], self.time[which], self.names, self.periods)


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
        keys = {os.path.realpath(ensemble.directory): "directory", **{(ensemble.direction, record.seed): "seed" for record in ensemble}}
        for key, kind in keys.items():
            if key in seen:
                raise ValueError(f"{what}: {ensemble!r} and {seen[key]!r} are the same paths (the same {kind}), expected independent ones: run them with another seed")
        seen.update(dict.fromkeys(keys, ensemble))


def _standardErrors(series: np.ndarray) -> np.ndarray:
    """Standard errors [M] of sums of series [chains, times, M] over all times and chains, the mean of each being 0.

    The variance of a sum is the sum of all autocovariances, taken until they first fall to zero after three lags, as pymbar.timeseries does for a single series: here chains have
    one autocorrelation and one mean, so that chains which stay apart count as what they are.
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


# ---- free energies of the states

class FreeEnergies:
    r"""Free energies of the states of a curve, F_k = -kT psi_k, from :func:`mbar` or :func:`thermodynamicIntegration`.

    Attributes
    ----------
    method : str
        'MBAR' or 'TI'.
    samples : StateSamples
    psi : ndarray [K]
        Log-partitions relative to state 0, dimensionless.
    psiError : ndarray [K]
        Standard errors of these differences.
    overlap : ndarray [K, K] or None
        MBAR: the probability that a sample of state i, were its state forgotten, is taken for one of state j. Rows sum to 1.
    truncation : float
        TI: order of magnitude of what the quadrature leaves out from the first state to the last, in units of psi; 0 for MBAR.
    """

    def __init__(self, method: str, samples: StateSamples, psi: np.ndarray, influence: np.ndarray, weights: Optional[np.ndarray] = None, truncation: float = 0.0) -> None:
        self.method, self.samples, self.psi, self.truncation = method, samples, psi, truncation
        self._influence, self._W = influence, weights
        self._seriesOfPsi = samples._series(influence)
        self.psiError = _standardErrors(self._seriesOfPsi)
        self.overlap = None if weights is None else (weights.T@weights)*samples.counts
        self._errors: Optional[np.ndarray] = None

    @property
    def s(self) -> np.ndarray:
        """[K]"""
        return self.samples.s

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of psi_j - psi_i for all pairs of states [K, K]."""
        if self._errors is None:
            K = len(self.psi)
            self._errors = np.zeros((K, K))
            for i in range(K-1):
                self._errors[i, i+1:] = self._errors[i+1:, i] = _standardErrors(self._seriesOfPsi[:, :, i+1:]-self._seriesOfPsi[:, :, i:i+1])
        return self._errors

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of psi relative to state 0 [K, K], dimensionless: what `errors` say of all differences."""
        v = self.errors**2
        return (v[0][:, None]+v[0][None, :]-v)/2

    def freeEnergyDifference(self, a: int = 0, b: int = -1) -> Estimate:
        """F_b - F_a = -kT (psi_b - psi_a) of two states, by default the last and the first, in kJ/mol with its standard error."""
        a, b = (range(len(self.psi))[i] for i in (a, b))
        error = _standardErrors((self._seriesOfPsi[:, :, b]-self._seriesOfPsi[:, :, a])[:, :, None])[0]
        return Estimate(float(-self.samples.kT*(self.psi[b]-self.psi[a])), float(self.samples.kT*error))

    def profile(self) -> Tuple[np.ndarray, np.ndarray]:
        """F along s: (F [K], its standard error [K]) in kJ/mol relative to the first state."""
        return 0.0-self.samples.kT*self.psi, self.samples.kT*self.psiError

    @property
    def neighbourOverlap(self) -> np.ndarray:
        """Overlap of neighbours [K - 1], the smaller of the two directions; MBAR only."""
        self._needsWeights("neighbourOverlap")
        return np.minimum(np.diag(self.overlap, 1), np.diag(self.overlap, -1))

    @property
    def overlapScalar(self) -> float:
        """1 minus the second eigenvalue of the overlap matrix: 0 where the states fall into two groups without overlap, 1 where all are alike; MBAR only."""
        self._needsWeights("overlapScalar")
        return _gap(self.overlap)

    def _needsWeights(self, what: str) -> None:
        if self._W is None:
            raise ValueError(f"FreeEnergies.{what}: {self.method} gives samples no weights; take mbar()")

    # ---- any ensemble

    def weights(self, eta: Optional[Sequence[float]] = None) -> np.ndarray:
        """Weights [N] of all samples, which sum to 1, in the tilted ensemble of `eta` [m]; in the unbiased one, q, when left out. MBAR only."""
        self._needsWeights("weights")
        log = self._logMixture()
        if eta is not None:
            eta = np.asarray(eta, dtype=float)
            if eta.shape != self.samples.eta.shape[1:] or not np.all(np.isfinite(eta)):
                raise ValueError(f"FreeEnergies.weights: expected {self.samples.eta.shape[1]} finite natural parameters, but got {eta}")
            log = log+self.samples.T@eta
        w = np.exp(log-log.max())
        return w/w.sum()

    def _logMixture(self) -> np.ndarray:
        """log of q over the mixture of all states that the samples were drawn from, [N]."""
        a = self.samples.T@self.samples.eta.T-self.psi+np.log(self.samples.counts)
        top = a.max(axis=1)
        return -(top+np.log(np.exp(a-top[:, None]).sum(axis=1)))

    def effectiveSamples(self, eta: Optional[Sequence[float]] = None) -> float:
        """1/sum of the squared weights: how many samples carry the ensemble of `eta`, or the unbiased one."""
        return float(1/np.square(self.weights(eta)).sum())

    def _influenceOf(self, h: np.ndarray) -> np.ndarray:
        """Influence [N, M] of the samples on log sums whose weights are h [N, M]: their own part, without what their state has on average, and that of psi."""
        C = self._W.T@h
        return h-C[self.samples.state]+self._influence@(self.samples.counts[:, None]*C)

    def expectation(self, values: Sequence[float], eta: Optional[Sequence[float]] = None) -> Estimate:
        """Mean of `values` [N], one for each sample, in the ensemble of `eta` [m] or the unbiased one, with its standard error."""
        w, v = self.weights(eta), self._values("expectation", values)[:, 0]
        mean = float(w@v)
        return Estimate(mean, float(self.samples._errors(self._influenceOf((w*(v-mean))[:, None]))[0]))

    def _values(self, what: str, values: Any) -> np.ndarray:
        v = np.asarray(values, dtype=float)
        v = v[:, None] if v.ndim == 1 else v
        if v.ndim != 2 or len(v) != len(self.samples):
            raise ValueError(f"FreeEnergies.{what}: expected a row for each of the {len(self.samples)} samples, but got an array of shape {list(np.shape(values))}")
        if not np.all(np.isfinite(v)):
            raise ValueError(f"FreeEnergies.{what}: expected finite values, but sample {int(np.argwhere(~np.isfinite(v))[0][0])} has {v[~np.isfinite(v)][0]}")
        return v

    def surface(self, variables: Optional[Sequence[Union[int, str]]] = None, values: Optional[np.ndarray] = None, bins: Union[int, Sequence[int]] = 40,
                ranges: Optional[Sequence[Tuple[float, float]]] = None, periods: Optional[Sequence[float]] = None, eta: Optional[Sequence[float]] = None,
                names: Optional[Sequence[str]] = None, minCount: int = 1) -> FreeEnergyHistogram:
        """Free energy over two (or one) of the variables, or any two quantities, with errors.

        Parameters
        ----------
        variables : two int or str, optional
            Numbers or names of variables; the first two when neither they nor `values` are given.
        values : array [N, 2] or [N], optional
            Any quantities instead, a row for each of `samples`.
        bins : int or one for each
        ranges : one pair for each, optional
            Of the quantities, in their units. What lies outside is left out. From the least to the largest value when left out, one turn (from -period/2) where periodic.
        periods : one for each, optional
            0 where not periodic. Those of the variables when left out, none for `values`.
        eta : array [m], optional
            Of the ensemble; the unbiased one when left out.
        names : one for each, optional
            Of `values`.
        minCount : int
            Bins with fewer samples are NaN.

        Returns
        -------
        FreeEnergyHistogram

        Raises
        ------
        ValueError
            Shapes that do not fit, unknown variables, or no sample within the ranges.
        """
        samples = self.samples
        self._needsWeights("surface")
        if values is None:
            variables = list(range(min(2, samples.variables.shape[1]))) if variables is None else list(variables)
            if not variables or any(v not in samples.names if isinstance(v, str) else not 0 <= v < samples.variables.shape[1] for v in variables):
                raise ValueError(f"FreeEnergies.surface: expected some of the variables {', '.join(samples.names) or '(the samples have none: give values=)'}, but got {variables}")
            columns = [samples.names.index(v) if isinstance(v, str) else int(v) for v in variables]
            x, names = samples.variables[:, columns], [samples.names[i] for i in columns] if names is None else list(names)
            periods = samples.periods[columns] if periods is None else periods
        else:
            x = self._values("surface", values)
            names = [f"x{i}" for i in range(x.shape[1])] if names is None else list(names)
        n = x.shape[1]
        periods = np.zeros(n) if periods is None else np.asarray(periods, dtype=float)
        bins = [int(b) for b in np.broadcast_to(bins, n)]
        if periods.shape != (n,) or len(names) != n or min(bins) < 1 or (ranges is not None and np.shape(ranges) != (n, 2)):
            raise ValueError(f"FreeEnergies.surface: expected a name, a period, a range (low, high) and at least one bin for each of {n} quantities")
        edges, cell, inside = [], np.zeros(len(x), dtype=int), np.ones(len(x), dtype=bool)
        for i in range(n):
            low, high = ranges[i] if ranges is not None else (-periods[i]/2, periods[i]/2) if periods[i] > 0 else (x[:, i].min(), x[:, i].max())
            if not high > low:
                raise ValueError(f"FreeEnergies.surface: expected '{names[i]}' to have a range (low, high), but got ({low:g}, {high:g})")
            edge = np.linspace(low, high, bins[i]+1)
            v = low+(x[:, i]-low) % periods[i] if periods[i] > 0 else x[:, i]
            k = np.minimum(((v-low)/(high-low)*bins[i]).astype(int), bins[i]-1)
            inside &= (v >= low) & (v <= high)
            cell = cell*bins[i]+np.where(inside, k, 0)
            edges.append(edge)
        counts = np.bincount(cell[inside], minlength=int(np.prod(bins)))
        if not inside.any():
            raise ValueError(f"FreeEnergies.surface: no sample lies within the ranges {ranges}")
        w = np.where(inside, self.weights(eta), 0.0)
        p = np.bincount(cell, weights=w, minlength=len(counts))
        known = np.flatnonzero((counts >= max(1, minCount)) & (p > 0))
        if not len(known):
            raise ValueError(f"FreeEnergies.surface: no bin has {minCount} samples; take fewer bins")
        F, error = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
        # The zero must be a bin that is known well: the least of many noisy numbers is low by chance, and all others would seem high.
        effective = p[known]**2/np.bincount(cell, weights=w*w, minlength=len(counts))[known]
        firm = known[effective >= min(SUPPORT, effective.max())]
        lowest = int(firm[np.argmax(p[firm])])
        F[known] = -samples.kT*np.log(p[known]/p[lowest])
        reference = np.where((cell == lowest) & inside, w, 0.0)/p[lowest]
        for some in np.array_split(known, -(-len(known)//64)):
            h = np.where((cell[:, None] == some) & inside[:, None], w[:, None], 0.0)/p[some]
            error[some] = samples.kT*samples._errors(self._influenceOf(h-reference[:, None]))
        error[lowest] = 0.0
        return FreeEnergyHistogram(edges, F.reshape(bins), error.reshape(bins), counts.reshape(bins), names, periods, np.unravel_index(lowest, bins))

    def profileOf(self, values: Sequence[float], bins: int = 50, range: Optional[Tuple[float, float]] = None, period: float = 0.0, eta: Optional[Sequence[float]] = None,
                  name: str = "x", minCount: int = 1) -> FreeEnergyHistogram:
        """Free energy over one quantity, `values` [N]; see :meth:`surface`."""
        values = self._values("profileOf", values)
        if values.shape[1] != 1:
            raise ValueError(f"FreeEnergies.profileOf: expected one value for each sample, but got {values.shape[1]}: surface() takes two")
        return self.surface(values=values, bins=bins, ranges=None if range is None else [range], periods=[period], eta=eta, names=[name], minCount=minCount)

    # ---- text

    @property
    def table(self) -> str:
        """Text: a row for each state."""
        F, error = self.profile()
        rows = [("state", "s", "samples", "psi", "F (kJ/mol)")+(("overlap with next",) if self._W is not None else ())]
        for k in range(len(F)):
            overlap = () if self._W is None else (f"{self.neighbourOverlap[k]:.3f}" if k+1 < len(F) else "",)
            rows.append((str(k), f"{self.s[k]:.3f}", f"{self.samples.counts[k]}", f"{self.psi[k]:.3f}", _plusMinus(F[k], error[k]), *overlap))
        dF = self.freeEnergyDifference()
        lines = _aligned(rows)+[f"{self.method}: dF of the ends {dF} kJ/mol at {self.samples.temperature:g} K"]
        if self._W is not None:
            lines.append(f"effective samples of the unbiased ensemble: {self.effectiveSamples():.0f} of {len(self.samples)}")
        elif math.isfinite(self.truncation):
            lines.append(f"left out by the quadrature: of the order of {abs(self.samples.kT*self.truncation):.2f} kJ/mol")
        return "\n".join(lines)

    __str__ = table.fget

    def asDict(self) -> Dict[str, Any]:
        """Plain lists and numbers, for JSON; nan becomes None."""
        F, error = self.profile()
        dF = self.freeEnergyDifference()
        content = {"method": self.method, "temperature": self.samples.temperature, "s": self.s, "psi": self.psi, "psiError": self.psiError, "freeEnergy": F, "freeEnergyError": error,
                   "counts": self.samples.counts, "chains": self.samples.numChains, "dF": dF.value, "dFError": dF.error, "truncation": self.truncation}
        if self._W is not None:
            content.update(overlap=self.overlap, overlapScalar=self.overlapScalar, effectiveSamples=self.effectiveSamples())
        return _plain(content)

    def __repr__(self) -> str:
        return f"FreeEnergies({self.method}, {len(self.psi)} states; dF of the ends {self.freeEnergyDifference()} kJ/mol)"


@dataclass(repr=False)
class FreeEnergyHistogram:
    """Free energy over one or two quantities in bins.

    Attributes
    ----------
    edges : list of ndarray [bins + 1]
        One for each quantity, in its units.
    freeEnergy : ndarray [bins, ...]
        kJ/mol above the bin `zero`; NaN without samples.
    error : ndarray [bins, ...]
        Standard error of the difference from that bin, kJ/mol. A bin with very few samples does not know its error well: look at `counts`.
    counts : int ndarray [bins, ...]
        Samples in each bin.
    names : list of str
    periods : ndarray
        Length of one turn, 0 where not periodic.
    zero : tuple of int
        The lowest bin with at least 10 effective samples. A bin with fewer may be negative.
    """

    edges: List[np.ndarray]
    freeEnergy: np.ndarray
    error: np.ndarray
    counts: np.ndarray
    names: List[str]
    periods: np.ndarray
    zero: Tuple[int, ...]

    @property
    def centers(self) -> List[np.ndarray]:
        """Middles of the bins, one array for each quantity."""
        return [(edge[1:]+edge[:-1])/2 for edge in self.edges]

    def asDict(self) -> Dict[str, Any]:
        """Plain lists and numbers, for JSON; nan becomes None."""
        return _plain(dict(vars(self)))

    def __repr__(self) -> str:
        known = np.isfinite(self.freeEnergy)
        return (f"FreeEnergyHistogram({' x '.join(self.names)}, {' x '.join(str(n) for n in self.freeEnergy.shape)} bins, {np.count_nonzero(known)} with samples; "
                f"{self.freeEnergy[known].min():.1f} to {self.freeEnergy[known].max():.1f} kJ/mol)")


def _gap(overlap: np.ndarray) -> float:
    return float(1-np.sort(np.linalg.eigvals(overlap).real)[-2])


def mbar(samples: StateSamples) -> FreeEnergies:
    r"""Free energies of all states from all samples, by the multistate Bennett acceptance ratio (Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008)).

    pymbar solves

    .. math:: \psi_k = \log \sum_n \frac{e^{\eta_k \cdot T_n}}{\sum_l N_l\, e^{\eta_l \cdot T_n - \psi_l}}.

    Errors allow for correlation in time; for samples that are independent they are pymbar's.

    Parameters
    ----------
    samples : StateSamples

    Returns
    -------
    FreeEnergies
        With weights of all samples in any ensemble, and free energies over any quantities.

    Raises
    ------
    ValueError
        States fall into groups that share no samples, so that nothing tells their difference.

    Warns
    -----
    UserWarning
        Neighbours overlap by less than 0.03.
    """
    pymbar = _pymbar()
    guess = -thermodynamicIntegration(samples).psi
    u = -samples.eta@samples.T.T
    logger = logging.getLogger("pymbar")
    before = logger.level
    logger.setLevel(logging.ERROR)  # what it warns of while it solves is checked below
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            solved = pymbar.MBAR(u, samples.counts, initial_f_k=guess, relative_tolerance=1e-10)
        W = np.exp(np.minimum(solved.Log_W_nk, 0.0))
        psi = -np.asarray(solved.f_k)
    except Exception as e:  # pymbar and the solvers of scipy raise many kinds
        raise ValueError(f"mbar: pymbar found no solution ({type(e).__name__}: {e}). {_advice(samples)}") from e
    finally:
        logger.setLevel(before)
    psi = psi-psi[0]
    overlap = (W.T@W)*samples.counts
    groups = _groups(overlap)
    if len(groups) > 1:
        raise ValueError(f"mbar: the states {' | '.join(_span(g) for g in groups)} share no samples, so that nothing tells their free-energy difference. {_advice(samples)}")
    if not np.allclose(W.sum(axis=0), 1, atol=1e-4):
        raise ValueError(f"mbar: the equations are solved to {np.abs(W.sum(axis=0)-1).max():.1e} only. {_advice(samples)}")
    weak = [k for k in range(len(psi)-1) if min(overlap[k, k+1], overlap[k+1, k]) < OVERLAP]
    if weak:
        k = min(weak, key=lambda k: min(overlap[k, k+1], overlap[k+1, k]))
        warnings.warn(f"mbar: neighbours overlap by less than {OVERLAP:g} at {len(weak)} of {len(psi)-1} pairs, the least ({min(overlap[k, k+1], overlap[k+1, k]):.2g}) "
                      f"between s = {samples.s[k]:.3f} and {samples.s[k+1]:.3f}: errors are not to be trusted there. More states, or exchangeStates()", stacklevel=2)
    # dpsi = (W - what their state has on average) + what the psi of the others do to it: a linear system that leaves a common constant open.
    C = W.T@W
    G = np.linalg.pinv(np.eye(len(psi))-C*samples.counts, rcond=1e-12)
    influence = (W-C[samples.state])@G.T
    return FreeEnergies("MBAR", samples, psi, influence-influence[:, :1], W)


def _groups(overlap: np.ndarray) -> List[np.ndarray]:
    """States that are connected by samples."""
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components((overlap > DISCONNECTED) | (overlap.T > DISCONNECTED), directed=False)
    return sorted((np.flatnonzero(label == k) for k in range(count)), key=lambda g: g[0])


def _span(states: np.ndarray) -> str:
    return f"{states[0]} to {states[-1]}" if len(states) > 2 and len(states) == states[-1]-states[0]+1 else ", ".join(map(str, states))


def _advice(samples: StateSamples) -> str:
    return f"Put more states between them than the {len(samples.s)} there are (exchangeStates says how many), or sample longer"


def thermodynamicIntegration(samples: StateSamples) -> FreeEnergies:
    r"""Free energies of all states from the means of T, by thermodynamic integration.

    psi has the gradient mu = E[T] and the Hessian H = Cov[T], so that along straight steps of eta between states (psi does not depend on the way)

    .. math:: \psi_b - \psi_a = \tfrac12 \Delta\eta \cdot (\mu_a + \mu_b) - \tfrac1{12} \Delta\eta \cdot (H_b - H_a) \Delta\eta,

    the trapezoidal rule with the first term of Euler and Maclaurin's correction. It uses each state's own samples only and needs no overlap, but steps that are not too long: its
    error grows with their fourth power, so that a 15th of what steps twice as long change is its order of magnitude (`truncation`).

    Parameters
    ----------
    samples : StateSamples

    Returns
    -------
    FreeEnergies
        Without weights.
    """
    mu = _means(samples)
    psi, influence = np.zeros(len(mu)), np.zeros((len(samples), len(mu)))

    def stepBetween(a: int, b: int) -> Tuple[float, List[Tuple[np.ndarray, np.ndarray]]]:
        """psi_b - psi_a, and the samples of both with their influence on it."""
        value, parts = 0.0, []
        for i, sign in ((a, 1), (b, -1)):
            own = np.flatnonzero(samples.state == i)
            y = (samples.T[own]-mu[i])@(samples.eta[b]-samples.eta[a])
            variance = float(np.mean(y*y))
            value += 0.5*float(mu[i]@(samples.eta[b]-samples.eta[a]))+sign*variance/12
            parts.append((own, (0.5*y+sign*(y*y-variance)/12)/len(own)))
        return value, parts

    for k in range(len(mu)-1):
        value, parts = stepBetween(k, k+1)
        psi[k+1:] += value
        for own, part in parts:
            influence[own, k+1:] += part[:, None]
    last = (len(mu)-1)//2*2
    coarse = sum(stepBetween(k, k+2)[0] for k in range(0, last, 2))
    return FreeEnergies("TI", samples, psi, influence, truncation=(psi[last]-coarse)/15 if last else math.nan)


# ---- work of driven paths

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

    __str__ = table.fget

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
        warnings.warn(f"bar: forward and backward works hardly overlap ({overlap:.2g}; least forward {kT*wF.min():.1f}, largest -backward {-kT*wB.min():.1f} kJ/mol): drive more slowly, "
                      "or along a curve that dissipates less, until they do; dF is biased and its error too small until then", stacklevel=2)
    return WorkFreeEnergy(estimate(dF, onF, onB), estimate(wF.mean()-dF, meanF-onF, -onB), estimate(wB.mean()+dF, onF, meanB+onB), estimate(wF.mean()+wB.mean(), meanF, meanB),
                          overlap, len(wF), len(wB), temperature, kT*wF, kT*wB)


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


# ---- side by side

@dataclass(repr=False)
class FreeEnergyComparison:
    """Free-energy differences of the ends by several methods.

    Attributes
    ----------
    names : list of str
    values, errors : ndarray [n]
        kJ/mol; an error of 0 for what has none (a model).
    z : ndarray [n, n]
        Differences over their combined errors, (value_i - value_j)/sqrt(error_i² + error_j²). MBAR and TI of the same samples are not independent, so that theirs is an underestimate
        or an overestimate; BAR of other paths is.
    """

    names: List[str]
    values: np.ndarray
    errors: np.ndarray
    z: np.ndarray

    @property
    def table(self) -> str:
        """Text: a row for each method, with its z-scores against the others."""
        rows = [("method", "dF (kJ/mol)", *(f"z against {name}" for name in self.names[:-1]))]
        for i, name in enumerate(self.names):
            rows.append((name, _plusMinus(self.values[i], self.errors[i] or math.nan), *("" if j >= i else f"{round(self.z[i, j], 1)+0.0:.1f}" for j in range(len(self.names)-1))))
        worst = np.nanmax(np.abs(self.z)) if len(self.names) > 1 else 0.0
        return "\n".join(_aligned(rows)+[f"largest |z| {worst:.1f}: {'they agree' if worst < 3 else 'they do not agree, so that at least one is not converged or wrong'}"])

    __str__ = table.fget

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
    pairs = []
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


# ---- the model

@dataclass(repr=False)
class ModelValidation:
    """E[T] of the samples of each state against the model's mu.

    Attributes
    ----------
    s : ndarray [K]
    mu, muError, muModel : ndarray [K, m]
        Means of the samples, their standard errors, and what the model says.
    deviation, deviationError : ndarray [K, m]
        muModel - mu of each component in its posterior standard deviations, and the standard error.
    largest, largestError : ndarray [K]
        The largest of any direction, sqrt(Δmu·H^+ Δmu) with H = Cov[T], without what noise alone adds to it on average, and its standard error.
    pValue : ndarray [K]
        Probability that a model that is right differs that much, by noise.
    level : float
        States with a p-value below this, divided by the number of states, count as wrong.
    counts : ndarray [K]
        Samples.
    """

    s: np.ndarray
    mu: np.ndarray
    muError: np.ndarray
    muModel: np.ndarray
    deviation: np.ndarray
    deviationError: np.ndarray
    largest: np.ndarray
    largestError: np.ndarray
    pValue: np.ndarray
    level: float
    counts: np.ndarray

    @property
    def suspicious(self) -> List[int]:
        """States where the model differs by more than noise."""
        return [int(k) for k in np.flatnonzero(self.pValue*len(self.s) < self.level)]

    @property
    def verdict(self) -> str:
        """One line."""
        wrong = self.suspicious
        if not wrong:
            k = int(np.argmax(self.largest+2*self.largestError))
            return f"model and samples agree at all {len(self.s)} states; no difference beyond {self.largest[k]+2*self.largestError[k]:.2f} posterior standard deviations"
        k = max(wrong, key=lambda k: self.largest[k])
        return (f"model and samples differ at {len(wrong)} of {len(self.s)} states, most at s = {self.s[k]:.3f}: by {self.largest[k]:.2f} +- {self.largestError[k]:.2f} "
                "posterior standard deviations")

    @property
    def table(self) -> str:
        """Text: a row for each state."""
        marks = set(self.suspicious)
        rows = [("state", "s", "samples", "difference (sd)", "largest component", "p")]
        for k in range(len(self.s)):
            j = int(np.argmax(np.abs(self.deviation[k])))
            rows.append((str(k), f"{self.s[k]:.3f}", str(self.counts[k]), _plusMinus(self.largest[k], self.largestError[k])+(" !" if k in marks else ""),
                         f"T[{j}] {_plusMinus(self.deviation[k, j], self.deviationError[k, j])}", f"{self.pValue[k]:.2g}"))
        return "\n".join(_aligned(rows)+[self.verdict])

    __str__ = table.fget

    def asDict(self) -> Dict[str, Any]:
        """Plain lists and numbers, for JSON; nan becomes None."""
        return _plain({**vars(self), "suspicious": self.suspicious, "verdict": self.verdict})

    def __repr__(self) -> str:
        return f"ModelValidation({self.verdict})"


def validateModel(samples: StateSamples, model: _core.PosteriorModel, level: float = 0.01) -> ModelValidation:
    r"""Does the molecule do along the curve what the model says? Means of T of the samples against the model's mu.

    The difference is measured in posterior standard deviations: component by component, and in the direction where it is largest,
    :math:`\sqrt{\Delta\mu \cdot H^+ \Delta\mu}` with the covariance H = Cov[T] of the samples of the state. The statistical error of the means, with their correlation in time,
    says what is noise.

    Parameters
    ----------
    samples : StateSamples
    model : PosteriorModel
        Of the same variables.
    level : float
        Probability that a model which is right is called wrong at any state.

    Returns
    -------
    ModelValidation

    Raises
    ------
    ValueError
        The model has other variables, or a state has too few samples for a covariance.
    """
    from scipy.stats import chi2

    K, m = samples.eta.shape
    if model.variables.numStatistics != m:
        raise ValueError(f"validateModel: the samples have a statistic of {m} components, the model's variables {', '.join(model.variables.names)} have {model.variables.numStatistics}")
    if samples.counts.min() < 3*m:
        raise ValueError(f"validateModel: state {int(samples.counts.argmin())} has {samples.counts.min()} samples, expected at least {3*m} for the covariance of {m} components")
    mu, muModel = _means(samples), np.asarray(model.moments(samples.eta).mu)
    muError, scale = np.empty((K, m)), np.empty((K, m))
    largest, largestError, p = np.empty(K), np.empty(K), np.empty(K)
    for k in range(K):
        x = np.where((samples.state == k)[:, None], samples.T-mu[k], 0.0)/samples.counts[k]
        H = (x.T@x)*samples.counts[k]
        w, V = np.linalg.eigh(H)
        keep = w > 1e-9*w.max()
        white = V[:, keep]/np.sqrt(w[keep])
        # Whitened, H is the unit matrix; correlation in time stretches the covariance of the mean by g along each axis.
        series = samples._series(np.hstack([x, x@white]))
        errors = _standardErrors(series)
        muError[k], scale[k] = errors[:m], np.sqrt(np.maximum(np.diag(H), 1e-300))
        own = errors[m:]
        d = white.T@(muModel[k]-mu[k])
        noise = own**2
        squared = float(d@d-noise.sum())
        largest[k] = math.sqrt(max(squared, 0.0))
        spread = math.sqrt(2*float(noise@noise)+4*float(d*d@noise))
        largestError[k] = spread/(2*largest[k]) if largest[k]**2 > spread else math.sqrt(spread)
        p[k] = float(chi2.sf(float((d*d/noise).sum()), len(d)))
    return ModelValidation(samples.s, mu, muError, muModel, (muModel-mu)/scale, muError/scale, largest, largestError, p, level, samples.counts)
