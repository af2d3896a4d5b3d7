# SPDX-License-Identifier: MIT
"""Are errors of free energies what repeats scatter by? Three ways to claim them, on a family that is known exactly.

Six tilted normal distributions, sampled by chains of which the correlation in time is known (statistical inefficiency g = (1 + rho)/(1 - rho)). Claimed by

- series: the package's, the autocorrelation of what each iteration contributes;
- subsampled: pymbar's covariance of the samples that are left when one in g (as estimated) is kept;
- bootstrap: MBAR of those, drawn again 30 times.

Printed: true error over claimed error (rms over repeats), for dF of the ends and for F of bins of the unbiased ensemble relative to the lowest; 1 is right, more is a claim that is too
small; and the rms error itself, since subsampling throws samples away.

    python errorbench.py [--repeats 100]
"""
import argparse
import time

import numpy as np
from scipy.stats import norm

import openmmspacetime as st

K, VARIANCE = 6, 0.2
ETA = np.stack([np.full(K, -2.0), np.linspace(-6, 6, K)], axis=1)
EDGES = np.linspace(-1.5, 1.5, 11)


def chains(times, rho, seed):
    rng = np.random.default_rng(seed)
    z, x = rng.normal(size=K), np.empty((times, K))
    for t in range(times):
        x[t] = VARIANCE*ETA[:, 1]+np.sqrt(VARIANCE)*z
        z = rho*z+np.sqrt(1-rho**2)*rng.normal(size=K)
    x = x.ravel()
    return st.StateSamples(np.linspace(0, 1, K), ETA, 300, np.tile(np.arange(K), times), np.stack([x*x, x], axis=1), x[:, None], time=np.repeat(np.arange(times), K), names=["x"])


def estimate(samples):
    """dF of the ends and F of the bins, kJ/mol, and the claimed errors of both."""
    solved = st.mbar(samples)
    h = solved.surface(variables=["x"], bins=len(EDGES)-1, ranges=[(EDGES[0], EDGES[-1])])
    middle = (len(EDGES)-1)//2
    return solved, np.append(solved.freeEnergyDifference().value, h.freeEnergy-h.freeEnergy[middle])


def ways(samples, rng):
    """Estimates [bins + 1] and claimed errors of each way."""
    solved, full = estimate(samples)
    middle, kT = (len(EDGES)-1)//2, samples.kT

    def claimed(solved, errors):
        """Errors by `errors` of influences on dF and on each bin relative to the middle one."""
        w, x = solved.weights(), solved.samples.variables[:, 0]
        cell = np.digitize(x, EDGES)-1
        h = np.stack([np.where(cell == b, w, 0)/max(w[cell == b].sum(), 1e-300) for b in range(len(EDGES)-1)], axis=1)
        influence = solved._influenceOf(h-h[:, [middle]])
        return kT*errors(solved.samples, np.column_stack([solved._influence[:, -1], influence]))

    yield "series", full, claimed(solved, lambda s, y: s._errors(y))
    few = samples.subsampled()
    solved, thin = estimate(few)
    yield "subsampled", thin, claimed(solved, lambda s, y: np.sqrt(np.square(y).sum(axis=0)))
    again = []
    for _ in range(30):
        which = np.concatenate([rng.choice(np.flatnonzero(few.state == k), few.counts[k]) for k in range(K)])
        again.append(estimate(st.StateSamples(few.s, few.eta, 300, few.state[which], few.T[which], few.variables[which], names=["x"]))[1])
    yield "bootstrap", thin, np.nanstd(again, axis=0, ddof=1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=100)
    args = parser.parse_args()
    begin = time.process_time()
    p = np.diff(norm.cdf(EDGES))
    exact = np.append(0.0, -st.surface.GAS_CONSTANT*300*np.log(p/p[(len(EDGES)-1)//2]))
    print(f"{'g':>5} {'times':>6} {'way':>11} {'dF: true/claimed':>17} {'rms (kJ/mol)':>13} {'bins: true/claimed':>19} {'rms (kJ/mol)':>13}")
    for rho, times in ((0.0, 200), (0.8, 600), (0.9, 1000), (0.9, 300)):
        found = {}
        for seed in range(args.repeats):
            for way, value, error in ways(chains(times, rho, seed), np.random.default_rng(seed)):
                found.setdefault(way, []).append((value-exact, error))
        for way, pairs in found.items():
            off, error = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
            z = off/np.where(error > 0, error, np.nan)
            rms = lambda x: np.sqrt(np.nanmean(np.square(x)))
            print(f"{(1+rho)/(1-rho):5.0f} {times:6} {way:>11} {rms(z[:, 0]):17.2f} {rms(off[:, 0]):13.2f} {rms(z[:, 1:]):19.2f} {rms(off[:, 1:]):13.2f}", flush=True)
    print(f"{args.repeats} repeats; CPU {time.process_time()-begin:.0f} s")


if __name__ == "__main__":
    main()
