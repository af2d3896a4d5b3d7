# SPDX-License-Identifier: MIT
r"""Free energies with errors from what the samplers leave: MBAR, thermodynamic integration and the Bennett acceptance ratio.

The states of a curve are tilted distributions of one ensemble q at one temperature, p_k proportional to q(c) exp(eta_k·T(c)) (arXiv:2505.17517). Their reduced
potentials differ by -eta_k·T only, the potential energy cancels, and T of every sample is all that is needed:

.. math:: u_k = \mathrm{const} - \eta_k \cdot T(c), \qquad \psi_k = \log \int q\, e^{\eta_k \cdot T}, \qquad F_k = -kT\, \psi_k.

- :func:`mbar`: Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008), solved by pymbar.
- :func:`thermodynamicIntegration`: :math:`\psi_b - \psi_a = \int \mu \cdot d\eta` with mu = E[T], the gradient of psi.
- :func:`bar`: Bennett, J. Comput. Phys. 22, 245 (1976), with the work of driven paths: Shirts et al., Phys. Rev. Lett. 91, 140601 (2003).

**Errors.** To first order the error of every estimate here is a sum over the samples, each with an influence on it. That sum is taken iteration by iteration (over
all replicas, which are not independent of each other), and its variance is that of a series correlated in time: as pymbar.timeseries does it for one series, the
autocorrelation is summed up to its first zero. So nothing is thrown away by subsampling, and what is slow for one estimate does not make the error of another
larger.
"""
from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike

from .estimates import Estimate, _aligned, _plusMinus, _pymbar
from .report import _plain
from .statesamples import StateSamples, _means, _standardErrors

__all__ = ["FreeEnergies", "FreeEnergyHistogram", "mbar", "thermodynamicIntegration"]

#: Neighbours whose overlap is below this are told: Klimovich, Shirts and Mobley, J. Comput. Aided Mol. Des. 29, 397 (2015).
OVERLAP = 0.03
#: Below this no sample of one state is ever likely in another.
DISCONNECTED = 1e-7
#: Effective samples of the bin that free energies are measured from.
SUPPORT = 10


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
        self._influence = influence
        self._W: Any = weights
        self._seriesOfPsi = samples._series(influence)
        self.psiError = _standardErrors(self._seriesOfPsi)
        self.overlap: Any = None if weights is None else (weights.T@weights)*samples.counts
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

    def weights(self, eta: Optional[ArrayLike] = None) -> np.ndarray:
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

    def effectiveSamples(self, eta: Optional[ArrayLike] = None) -> float:
        """1/sum of the squared weights: how many samples carry the ensemble of `eta`, or the unbiased one."""
        return float(1/np.square(self.weights(eta)).sum())

    def _influenceOf(self, h: np.ndarray) -> np.ndarray:
        """Influence [N, M] of the samples on log sums whose weights are h [N, M]: their own part, without what their state has on average, and that of psi."""
        C = self._W.T@h
        return h-C[self.samples.state]+self._influence@(self.samples.counts[:, None]*C)

    def expectation(self, values: ArrayLike, eta: Optional[ArrayLike] = None) -> Estimate:
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
                ranges: Optional[Sequence[Tuple[float, float]]] = None, periods: Optional[ArrayLike] = None, eta: Optional[ArrayLike] = None,
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
        return FreeEnergyHistogram(edges, F.reshape(bins), error.reshape(bins), counts.reshape(bins), names, periods, tuple(int(k) for k in np.unravel_index(lowest, bins)))

    def profileOf(self, values: ArrayLike, bins: int = 50, range: Optional[Tuple[float, float]] = None, period: float = 0.0, eta: Optional[ArrayLike] = None,
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

    def __str__(self) -> str:
        return self.table

    def asDict(self) -> Dict[str, Any]:
        """Plain lists and numbers, for JSON; nan becomes None."""
        F, error = self.profile()
        dF = self.freeEnergyDifference()
        content = {"method": self.method, "temperature": self.samples.temperature, "s": self.s, "psi": self.psi, "psiError": self.psiError, "freeEnergy": F,
                   "freeEnergyError": error, "counts": self.samples.counts, "chains": self.samples.numChains, "dF": dF.value, "dFError": dF.error, "truncation": self.truncation}
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

    the trapezoidal rule with the first term of Euler and Maclaurin's correction. It uses each state's own samples only and needs no overlap, but steps that are not
    too long: its error grows with their fourth power, so that a 15th of what steps twice as long change is its order of magnitude (`truncation`).

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
