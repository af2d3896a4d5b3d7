# SPDX-License-Identifier: MIT
"""Is the model right? E[T] of the molecule along a curve beside what the model says."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List

import numpy as np

from . import _core
from .estimates import _aligned, _plusMinus
from .report import _plain
from .statesamples import StateSamples, _means, _standardErrors

__all__ = ["ModelValidation", "validateModel"]


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

    def __str__(self) -> str:
        return self.table

    def asDict(self) -> Dict[str, Any]:
        """Plain lists and numbers, for JSON; nan becomes None."""
        return _plain({**vars(self), "suspicious": self.suspicious, "verdict": self.verdict})

    def __repr__(self) -> str:
        return f"ModelValidation({self.verdict})"


def validateModel(samples: StateSamples, model: _core.PosteriorModel, level: float = 0.01) -> ModelValidation:
    r"""Does the molecule do along the curve what the model says? Means of T of the samples against the model's mu.

    The difference is measured in posterior standard deviations: component by component, and in the direction where it is largest,
    :math:`\sqrt{\Delta\mu \cdot H^+ \Delta\mu}` with the covariance H = Cov[T] of the samples of the state. The statistical error of the means, with their
    correlation in time, says what is noise.

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
        raise ValueError(f"validateModel: the samples have a statistic of {m} components, "
                         f"the model's variables {', '.join(model.variables.names)} have {model.variables.numStatistics}")
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
