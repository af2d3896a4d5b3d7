# SPDX-License-Identifier: MIT
"""The optimum verified by a second method: scipy's L-BFGS-B over all inner nodes of a curve, beside the package's solver.

Nothing of the solver is used, only mu and J of a model. With D eta_i = eta_{i+1} - eta_i the sum that is minimised is

    S = sum_i D eta_i . D mu_i,    dS/d eta_i = -(mu_{i+1} - 2 mu_i + mu_{i-1}) - J_i^T (eta_{i+1} - 2 eta_i + eta_{i-1}),

in coordinates in which a bound is a box, on 16, 32, 64 and 128 segments one after another. The model is an exact posterior on a
90 x 90 grid over (phi, psi), made from the shipped samples of alanine dipeptide.

    python verify.py [--euclidean | --lifted] [--json]
"""
import argparse
import json
import math
import pathlib
import sys
import time
import warnings

import numpy as np
from scipy import linalg, optimize

import openmmspacetime as st
from openmmspacetime.surface import GAS_CONSTANT

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "alanine_dipeptide"
A, B = (-2.58, 2.79), (1.09, -0.88)
TEMPERATURE = 300.0
EUCLIDEAN_BOUNDS = (None, -1, 0, 1, 2, 3)
LIFTED_BOUNDS = (None, 0, 1, 2, 3)
#: Rounds of L-BFGS-B on a level end when S falls by less than this share of itself.
ROUND_TOLERANCE = 1e-10
MAX_ROUNDS = 12


def gridModel(euclidean, bins=90):
    """Exact posterior of alanine dipeptide on a bins x bins grid: EmpiricalModel with weights exp(-F/kT)."""
    with np.load(EXAMPLE / "data" / "alanine_vacuum_300K.npz") as data:
        surface = st.FreeEnergySurface.fromSamples(data["x"].astype(float), data["log_weights"].astype(float), TEMPERATURE)
    axis = -np.pi + 2 * np.pi * np.arange(bins) / bins
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    variables = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])
    return st.EmpiricalModel(x, variables.euclidean() if euclidean else variables, logWeights=-surface(x) / (GAS_CONSTANT * TEMPERATURE), grid=True)


class Coordinates:
    """z [n, m] of nodes eta [n, m], in which bounds are boxes.

    'precision' (unlifted variables): (log p, m') with p = -2 eta_l + 1/s2 and m' = (eta_x + m0/s2)/p, m0 and s2 the mean and mean
    variance of the data. 'polar' (lifted, bounded): (log kappa, phi) of every variable. 'eta' (lifted, unbounded): eta itself.
    """

    def __init__(self, model, minKappa=None, minLogSnr=None):
        variables = model.variables
        lifted = [v.lifted for v in variables]
        if any(lifted) and not all(lifted):
            raise ValueError("expected lifted variables or unlifted ones, not both at once")
        self.m = len(model.moments(np.zeros((1, variables.numStatistics))).mu[0])
        self.low = np.full(self.m, -np.inf)
        if not any(lifted):
            self.kind = "precision"
            mu = np.asarray(model.moments(np.zeros((1, self.m))).mu)[0]  # E[|c|^2], E[c] of the data
            self.m0 = mu[1:]
            self.s2 = (mu[0] - self.m0 @ self.m0) / len(self.m0)
            self.low[0] = math.log((0 if minLogSnr is None else math.exp(minLogSnr)) + 1 / self.s2)
        else:
            bounds = [x for x in (math.log(minKappa) if minKappa else None, minLogSnr) if x is not None]
            self.kind = "polar" if bounds else "eta"
            if bounds:
                self.low[0::2] = max(bounds)

    def fromEta(self, eta):
        """Angles come out continuous along the nodes."""
        z = np.array(eta, float)
        if self.kind == "precision":
            p = -2 * eta[:, :1] + 1 / self.s2
            z = np.concatenate([np.log(p), (eta[:, 1:] + self.m0 / self.s2) / p], 1)
        elif self.kind == "polar":
            z[:, 0::2] = np.log(np.hypot(eta[:, 0::2], eta[:, 1::2]))
            z[:, 1::2] = np.unwrap(np.arctan2(eta[:, 1::2], eta[:, 0::2]), axis=0)
        return z

    def toEta(self, z):
        if self.kind == "precision":
            p = np.exp(z[:, :1])
            return np.concatenate([np.minimum(0, -0.5 * (p - 1 / self.s2)), p * z[:, 1:] - self.m0 / self.s2], 1)
        if self.kind == "polar":
            eta = np.empty_like(z)
            eta[:, 0::2] = np.exp(z[:, 0::2]) * np.cos(z[:, 1::2])
            eta[:, 1::2] = np.exp(z[:, 0::2]) * np.sin(z[:, 1::2])
            return eta
        return z.copy()

    def jacobian(self, z):
        """d eta/d z [n, m, m]."""
        n = len(z)
        out = np.zeros((n, self.m, self.m))
        if self.kind == "precision":
            p = np.exp(z[:, 0])
            out[:, 0, 0] = -0.5 * p
            for r in range(1, self.m):
                out[:, r, 0] = p * z[:, r]
                out[:, r, r] = p
        elif self.kind == "polar":
            for o in range(0, self.m, 2):
                c, s = np.exp(z[:, o]) * np.cos(z[:, o + 1]), np.exp(z[:, o]) * np.sin(z[:, o + 1])
                out[:, o, o], out[:, o, o + 1], out[:, o + 1, o], out[:, o + 1, o + 1] = c, -s, s, c
        else:
            out[:] = np.eye(self.m)
        return out


class Problem:
    """S of the curve through fixed ends and inner nodes z [N - 1, m], with its gradient."""

    def __init__(self, model, coordinates, ends):
        self.model, self.coordinates, self.ends = model, coordinates, np.array(ends, float)
        self.evaluations = 0

    def nodes(self, z):
        return np.concatenate([self.ends[:1], self.coordinates.toEta(z), self.ends[1:]])

    def moments(self, z):
        eta = self.nodes(z)
        self.evaluations += len(eta)
        moments = self.model.moments(eta)
        return eta, np.asarray(moments.mu), np.asarray(moments.J)

    def value(self, z):
        """(S, dS/dz [N - 1, m])."""
        eta, mu, J = self.moments(z)
        dEta, dMu = np.diff(eta, axis=0), np.diff(mu, axis=0)
        g = -np.diff(dMu, axis=0) - np.einsum("iab,ia->ib", J[1:-1], np.diff(dEta, axis=0))
        return float((dEta * dMu).sum()), np.einsum("iab,ia->ib", self.coordinates.jacobian(z), g)

    def scaling(self, z):
        """[(N-1) m, (N-1) m] matrix R with z = z0 + R u, in which S is about a unit bowl.

        Coordinates without a bound are whitened by the metric's second difference operator; bounded ones only get a scale, so that
        their box stays a box.
        """
        _, _, J = self.moments(z)
        n, m = z.shape
        A = self.coordinates.jacobian(self.coordinates.fromEta(self.nodes(z)))
        w, v = np.linalg.eigh(0.5 * (J + J.transpose(0, 2, 1)))  # a network's J need not be positive: its size is what sets the scale
        G = np.einsum("iab,iac,icd->ibd", A, np.einsum("iak,ik,ibk->iab", v, np.abs(w), v), A)
        P = np.zeros((n, m, n, m))
        for i in range(n):
            P[i, :, i, :] = G[i] + 2 * G[i + 1] + G[i + 2]
            if i + 1 < n:
                P[i, :, i + 1, :] = P[i + 1, :, i, :] = -(G[i + 1] + G[i + 2])
        P = P.reshape(n * m, n * m)
        P = 0.5 * (P + P.T)
        diagonal = np.maximum(np.diag(P), 1e-12 * np.diag(P).max())
        boxed = np.tile(np.isfinite(self.coordinates.low), n)
        R = np.zeros_like(P)
        R[boxed, boxed] = diagonal[boxed] ** -0.5
        free = np.flatnonzero(~boxed)
        if len(free):
            scale = diagonal[free] ** -0.5
            block = P[np.ix_(free, free)] * scale * scale[:, None] + 1e-8 * np.eye(len(free))
            R[np.ix_(free, free)] = scale[:, None] * linalg.solve_triangular(linalg.cholesky(block), np.eye(len(free)))
        return R

    def minimise(self, z, tolerance=ROUND_TOLERANCE, maxRounds=MAX_ROUNDS):
        """Rounds of L-BFGS-B, each scaled by the metric where the last one ended; (S, z)."""
        low = np.tile(self.coordinates.low, len(z))
        z = np.maximum(z, self.coordinates.low)
        last = self.value(z)[0]
        for _ in range(maxRounds):
            R, origin = self.scaling(z), z.ravel().copy()
            scale = np.diag(R)
            bounds = [(l, None) if math.isfinite(l) else (None, None) for l in (low - origin) / scale]

            def inScaled(u):
                value, g = self.value((origin + R @ u).reshape(z.shape))
                return value / last, R.T @ g.ravel() / last

            result = optimize.minimize(inScaled, np.zeros(z.size), jac=True, method="L-BFGS-B", bounds=bounds,
                                       options={"maxcor": 40, "ftol": 1e-13, "gtol": 1e-12, "maxiter": 600, "maxfun": 800})
            value = result.fun * last
            if value < last:
                z = np.maximum((origin + R @ result.x).reshape(z.shape), self.coordinates.low)
            done = not value < last * (1 - tolerance)
            last = min(last, value)
            if done:
                break
        return last, z


def length(model, eta):
    """sum_i sqrt(max(0, D eta_i . D mu_i)) of the nodes eta [N + 1, m]."""
    squares = (np.diff(eta, axis=0) * np.diff(np.asarray(model.moments(eta).mu), axis=0)).sum(1)
    return float(np.sqrt(np.maximum(squares, 0)).sum())


def ownStarts(coordinates, a, b, windings, N):
    """Inner nodes [N - 1, m] to begin with: straight in z, and straight with a dip to the bound (unlifted: at least to log-SNR -2)."""
    za, zb = (coordinates.fromEta(np.array([e]))[0] for e in (a, b))
    if coordinates.kind == "polar":
        zb[1::2] = za[1::2] + (zb[1::2] - za[1::2] + np.pi) % (2 * np.pi) - np.pi + 2 * np.pi * np.array(windings)
    s = np.linspace(0, 1, N + 1)[1:-1, None]
    line = za + s * (zb - za)
    starts = [line]
    boxed = np.flatnonzero(np.isfinite(coordinates.low))
    if len(boxed):
        floor = coordinates.low[boxed]
        if coordinates.kind == "precision":
            floor = np.maximum(floor, math.log(math.exp(-2) + 1 / coordinates.s2))
        dip = line.copy()
        dip[:, boxed] += np.sin(np.pi * s) * (floor - line[:, boxed])
        starts.append(dip)
    return starts


def secondMethod(model, etaA, etaB, N=128, minKappa=None, minLogSnr=None, start=None, windings=None):
    """Shortest curve of N segments between etaA [m] and etaB [m] by L-BFGS-B.

    Parameters
    ----------
    minKappa, minLogSnr : float, optional
        Lower bounds; for lifted variables minLogSnr bounds log kappa.
    start : array [N + 1, m], optional
        Nodes to begin with on the level N; otherwise coarse levels from curves of its own.
    windings : sequence [n] of int, optional
        Whole turns added to the short way round where there is a bound on kappa and no start.

    Returns
    -------
    (length, eta [N + 1, m], evaluations, seconds)
        Evaluations are model points, J included.
    """
    begin = time.perf_counter()
    coordinates = Coordinates(model, minKappa, minLogSnr)
    problem = Problem(model, coordinates, (etaA, etaB))
    if start is not None:
        if np.shape(start) != (N + 1, coordinates.m):
            raise ValueError(f"expected a start of shape {(N + 1, coordinates.m)}, got {np.shape(start)}")
        z = coordinates.fromEta(np.asarray(start, float))[1:-1]
        _, z = problem.minimise(z)
    else:
        levels = [N]
        while levels[0] >= 32:
            levels.insert(0, levels[0] // 2)
        windings = [0] * len(model.variables) if windings is None else windings
        candidates = [problem.minimise(z, 1e-5, 3) for z in ownStarts(coordinates, etaA, etaB, windings, levels[0])]
        _, z = min(candidates, key=lambda c: c[0])
        for coarse, fine in zip(levels, levels[1:]):
            # Ends in the same branch of the angles as their neighbours.
            full = np.concatenate([z[:1], z, z[-1:]])
            for k, e in ((0, etaA), (-1, etaB)):
                full[k] = coordinates.fromEta(np.array([e]))[0]
                if coordinates.kind == "polar":
                    near = z[k][1::2]
                    full[k][1::2] += 2 * np.pi * np.round((near - full[k][1::2]) / (2 * np.pi))
            at = np.linspace(0, 1, fine + 1)[1:-1]
            z = np.stack([np.interp(at, np.linspace(0, 1, coarse + 1), column) for column in full.T], 1)
            last = fine == levels[-1]
            _, z = problem.minimise(z, ROUND_TOLERANCE if last else 1e-6, MAX_ROUNDS if last else 3)
    eta = problem.nodes(z)
    return length(model, eta), eta, problem.evaluations, time.perf_counter() - begin


def checkGradient(model, etaA, etaB, **bounds):
    """Largest error of dS/dz against central differences, relative to the largest component: about 1e-7 or below."""
    coordinates = Coordinates(model, **bounds)
    problem = Problem(model, coordinates, (etaA, etaB))
    rng = np.random.default_rng(1)
    z = ownStarts(coordinates, etaA, etaB, [0] * len(model.variables), 8)[-1]
    z = z + 0.05 * (1 if coordinates.kind != "eta" else 20) * rng.uniform(0, 1, z.shape)
    _, g = problem.value(z)
    numeric = np.zeros_like(g)
    for i in np.ndindex(z.shape):
        h = 1e-5 * max(1, abs(z[i]))
        values = []
        for sign in (1, -1):
            moved = z.copy()
            moved[i] += sign * h
            values.append(problem.value(moved)[0])
        numeric[i] = (values[0] - values[1]) / (2 * h)
    return float(np.abs(numeric - g).max() / np.abs(g).max())


def windingsOf(variables, eta):
    """Whole turns that the nodes eta [N + 1, m] of lifted variables make beyond the short way round [n], each step taken the short way."""
    if not variables[0].lifted:
        return [0] * len(variables)
    short = lambda angle: (angle + np.pi) % (2 * np.pi) - np.pi
    phi = np.arctan2(eta[:, 1::2], eta[:, 0::2])
    return [int(round(w)) for w in (short(np.diff(phi, axis=0)).sum(0) - short(phi[-1] - phi[0])) / (2 * np.pi)]


def apart(model, ours, theirs):
    """Where two curves of as many nodes are farthest apart: (node share s, Fisher-Rao distance of the two nodes, both centres)."""
    step = theirs - ours
    distance = np.sqrt(np.maximum(0, (step * (np.asarray(model.moments(theirs).mu) - np.asarray(model.moments(ours).mu))).sum(1)))
    k = int(distance.argmax())
    variables = model.variables
    return {"s": k / (len(ours) - 1), "distance": float(distance[k]), "eta_ours": ours[k].tolist(), "eta_second": theirs[k].tolist(),
            "centre_ours": np.asarray(variables.center(ours[k:k + 1]))[0].tolist(), "centre_second": np.asarray(variables.center(theirs[k:k + 1]))[0].tolist()}


def table(model, a=A, b=B, logSnr=4.0, bounds=None, N=128, report=print):
    """One row a bound: the package's geodesic, the second method from its own start and from ours, the excess of ours over the shorter.

    Returns
    -------
    list of dict
        bound, windings, ours, own (second method, its own start), polished (second method, from our curve), second (the shorter),
        excess = ours/second - 1, seconds and evaluations of each, converged (ours), apart; others: every result of `geodesics` with the
        windings it is labelled with, those that its nodes make, its length and whether it converged.
    """
    variables = model.variables
    etaA, etaB = (variables.naturalParameter(np.array(x, float), logSnr) for x in (a, b))
    lifted = variables[0].lifted
    bounds = (LIFTED_BOUNDS if lifted else EUCLIDEAN_BOUNDS) if bounds is None else bounds
    for bound in (None, 0):
        error = checkGradient(model, etaA, etaB, minLogSnr=bound)
        if not error < 1e-5:
            raise RuntimeError(f"the second method's gradient differs from finite differences by {error:.1e}")
    report(f"{'log kappa' if lifted else 'log-SNR'} >= {'windings':>9s} {'ours':>10s} {'own start':>10s} {'from ours':>10s} {'excess':>9s} "
           f"{'ours, s':>8s} {'own, s':>8s} {'points':>8s} {'points 2':>9s}")
    rows = []
    for bound in bounds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = st.geodesics(model, a, b, logSnr=logSnr, points=N + 1, minLogSnr=bound)
        result = results[0]
        own = secondMethod(model, etaA, etaB, N, minLogSnr=bound, windings=result.windings)
        polished = secondMethod(model, etaA, etaB, N, minLogSnr=bound, start=result.curve.eta)
        ours = length(model, result.curve.eta)
        best = min(own, polished, key=lambda r: r[0])
        row = {"bound": bound, "windings": list(result.windings), "ours": ours, "own": own[0], "polished": polished[0], "second": best[0],
               "excess": ours / best[0] - 1, "seconds": result.seconds, "seconds_own": own[3], "seconds_polished": polished[3],
               "evaluations": result.evaluations, "evaluations_own": own[2], "converged": result.converged, "residual": result.residual,
               "others": [{"windings": list(r.windings), "made": windingsOf(variables, np.asarray(r.curve.eta)), "length": r.measure.length,
                           "converged": r.converged, "residual": r.residual, "seconds": r.seconds} for r in results],
               "apart": apart(model, np.asarray(result.curve.eta), best[1])}
        rows.append(row)
        report(f"{'none' if bound is None else bound:>12} {','.join(map(str, row['windings'])):>9s} {ours:10.5f} {own[0]:10.5f} {polished[0]:10.5f} "
               f"{100 * row['excess']:8.4f}% {result.seconds:8.2f} {own[3]:8.2f} {result.evaluations:8d} {own[2]:9d}"
               + ("" if result.converged else "   not converged"))
        for r in row["others"] if bound is not None else []:
            if r["made"] != r["windings"] or not r["converged"]:
                report(f"{'':12s} result with windings {r['windings']}: length {r['length']:.5f}, its nodes make {r['made']}, "
                       f"{'converged' if r['converged'] else 'not converged'}, {r['seconds']:.1f} s")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--euclidean", action="store_true", help="only the torsions as plain unwrapped numbers")
    only.add_argument("--lifted", action="store_true", help="only the torsions on the torus")
    parser.add_argument("--segments", type=int, default=128)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    report = (lambda *_: None) if arguments.json else (lambda line: print(line, flush=True))
    out = {}
    for name in ("euclidean", "lifted"):
        if (name == "lifted" and arguments.euclidean) or (name == "euclidean" and arguments.lifted):
            continue
        report(f"\nalanine dipeptide, {name}, ends at log-SNR 4, {arguments.segments} segments, length")
        out[name] = table(gridModel(name == "euclidean"), N=arguments.segments, report=report)
    worst = max(row["excess"] for rows in out.values() for row in rows)
    report(f"\nlargest excess of ours: {100 * worst:.4f} %")
    if arguments.json:
        print(json.dumps(out))


if __name__ == "__main__":
    sys.exit(main())
