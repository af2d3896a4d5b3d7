# SPDX-License-Identifier: MIT
"""The published way to a spacetime geodesic, as a baseline: a cubic spline and Adam in PyTorch (arXiv:2505.17517, ICLR 2026).

Written from the paper's description. The curve is a cubic spline with 10 knots, the two at the ends fixed, in coordinates of
spacetime, evaluated at n = 128 points eta_0..eta_N (N = n - 1). Its energy

    E = (N/2) sum_i max(0, (eta_{i+1} - eta_i) . (mu_{i+1} - mu_i)),    mu = grad psi(eta),

is minimised with Adam at a learning rate of 0.1 for 10,000 steps. All points go through the network in one call. As published, only the
posterior mean comes from the network: the second moment of unlifted variables is its divergence, so the gradient is a second backward pass.

The network is the one of the package, read from its .safetensors file and compared with it before anything is timed.

    python baseline.py --model model.safetensors --from=-2.58,2.79 --to=1.09,-0.88 --min-kappa 54.598 --out curve.json
"""
import argparse
import copy
import dataclasses
import json
import math
import os
import struct
import sys
import time

import numpy as np
import torch
from scipy.interpolate import CubicSpline

import openmmspacetime as st

KNOTS, POINTS, STEPS, LEARNING_RATE = 10, 128, 10_000, 0.1
#: Largest relative error of mu with which a network counts as the same.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
#: Excess of log kappa (or log-SNR) over its bound that inner knots start with: softplus cannot be zero.
START_EXCESS = 0.1


# ---- the network

def readSafetensors(path):
    """(tensors by name, metadata by key) of a .safetensors file of 32-bit floats."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: expected tensors of type F32, '{name}' has {entry['dtype']}")
        begin, end = entry["data_offsets"]
        tensors[name] = torch.from_numpy(np.frombuffer(data[begin:end], dtype="<f4").reshape(entry["shape"]).copy())
    return tensors, metadata


class Network:
    """mu(eta) in torch of the mixture that a model file holds, for lifted variables only or unlifted variables only.

    Unit k turns a tilt eta into a distribution of its own kind with mean m_k(eta) and log-partition z_k(eta); the posterior mean is
    sum_k softmax(z)_k m_k.
    """

    def __init__(self, path, dtype=torch.float32):
        tensors, metadata = readSafetensors(path)
        meta = json.loads(metadata["model"])
        if meta["network"]["type"] != "mixture":
            raise ValueError(f"{path}: expected a network of type mixture, got {meta['network']['type']}")
        self.path, self.dtype = path, dtype
        self.reference = st.NetworkModel.load(path)
        self.variables = self.reference.variables
        lifted = [v.lifted for v in self.variables]
        if any(lifted) and not all(lifted):
            raise ValueError(f"{path}: the baseline takes lifted variables or unlifted ones, not both at once")
        self.lifted = all(lifted)
        self.logSnrRange = tuple(meta["log_snr_range"])
        logWeights, tilt, self.mean, self.precision = (tensors[name].to(dtype) for name in ("log_weights", "tilt", "mean", "precision"))
        self.constant = torch.log_softmax(logWeights, 0)
        self.low, self.high = (torch.tensor(meta["data"][key], dtype=dtype) for key in ("low", "high"))
        if self.lifted:
            self.tilt = tilt.view(len(tilt), -1, 2)
            self.constant = self.constant - self.logI0(self.tilt.norm(dim=-1)).sum(1)
        else:
            self.constant = self.constant + 0.5 * (self.precision.log() - self.precision * self.mean.square()).sum(1)

    @staticmethod
    def logI0(kappa):
        return torch.special.i0e(kappa).log() + kappa

    def posteriorMean(self, eta):
        """E[c|z], [n, 2 V] of (cos, sin) or [n, V], at eta [n, m]."""
        if self.lifted:
            t = eta.view(len(eta), 1, -1, 2) + self.tilt
            kappa = (t.square().sum(-1) + 1e-12).sqrt()
            z = self.constant + self.logI0(kappa).sum(-1)
            means = ((torch.special.i1e(kappa) / (kappa * torch.special.i0e(kappa))).unsqueeze(-1) * t).flatten(2)
        else:
            p = self.precision - 2 * eta[:, :1, None]
            means = (self.precision * self.mean + eta[:, None, 1:]) / p
            z = self.constant + 0.5 * (means.square() * p - p.log()).sum(-1)
        return (torch.softmax(z, 1).unsqueeze(-1) * means).sum(1)

    def mu(self, eta):
        """Expectation parameters [n, m] at eta [n, m], differentiable where eta is."""
        if self.lifted:
            return self.posteriorMean(eta)
        # E|c|^2 = |E c|^2 + tr Cov, where Cov = d E[c] / d eta_x: one backward pass for every component.
        with torch.enable_grad():
            x = eta if eta.requires_grad else eta.detach().requires_grad_()
            mean = self.posteriorMean(x)
            trace = sum(torch.autograd.grad(mean[:, i].sum(), x, create_graph=eta.requires_grad, retain_graph=True)[0][:, 1 + i] for i in range(mean.shape[1]))
        mu = torch.cat([(mean.square().sum(1) + trace).unsqueeze(1), mean], 1)
        return mu if eta.requires_grad else mu.detach()


def check(network, points=512, seed=1):
    """Largest relative error of mu, |mu - mu_ref| / |mu_ref| over points of the trained range; ValueError where it is too large."""
    rng = np.random.default_rng(seed)
    variables, (low, high) = network.variables, network.logSnrRange
    if network.lifted:
        raw = rng.uniform(-math.pi, math.pi, (points, len(variables)))
    else:
        edges = np.array([[v.shift + v.scale * float(e[u]) for u, v in enumerate(variables)] for e in (network.low, network.high)])
        raw = rng.uniform(edges[0], edges[1], (points, len(variables)))
    eta = np.array([variables.naturalParameter(r, l) for r, l in zip(raw, rng.uniform(low, high, points))])
    reference = np.asarray(network.reference.moments(eta).mu)
    mu = network.mu(torch.tensor(eta, dtype=network.dtype)).detach().double().numpy()
    error = float((np.linalg.norm(mu - reference, axis=1) / np.linalg.norm(reference, axis=1)).max())
    if not error <= TOLERANCE[network.dtype]:
        raise ValueError(f"{network.path}: mu in torch differs from openmmspacetime's by {error:.1e}, expected at most {TOLERANCE[network.dtype]:.0e}")
    return error


def load(path, dtype=torch.float32):
    """The network of a model file in torch, checked against openmmspacetime.NetworkModel; ValueError where they differ."""
    network = Network(str(path), dtype)
    network.error = check(network)
    return network


# ---- the curve

class Spline:
    """Natural cubic spline through `knots` knots at equal steps of s, in coordinates zeta [n, m] of spacetime.

    Lifted variables: 'polar', (log kappa, phi) each, or 'eta', plain natural parameters. Unlifted variables: (log-SNR l, x) with
    eta = (-e^l/2, (alpha/sigma^2) x) in the variance-preserving schedule. Where l or log kappa has a lower bound, the inner knots are
    bound + softplus(parameter), and points between knots are clamped to the bound.
    """

    def __init__(self, network, etaA, etaB, coordinates, low, windings, knots, points):
        self.network, self.coordinates, self.low = network, coordinates, low
        self.windings = [0] * len(network.variables) if windings is None else list(windings)
        a, b = self.fromEta(np.asarray(etaA, float)), self.fromEta(np.asarray(etaB, float))
        if coordinates == "polar":
            b[1::2] = a[1::2] + (b[1::2] - a[1::2] + np.pi) % (2 * np.pi) - np.pi + 2 * np.pi * np.array(self.windings)
        self.s = np.linspace(0, 1, knots)
        line = a + self.s[:, None] * (b - a)  # [knots, m]
        tensor = lambda x: torch.tensor(x, dtype=network.dtype)
        self.ends = tensor(line[[0, -1]])
        self.bounded = [] if low is None else list(range(0, line.shape[1], 2)) if coordinates == "polar" else [0]
        inner = line[1:-1].copy()
        for j in self.bounded:
            inner[:, j] = np.log(np.expm1(np.maximum(inner[:, j] - low, START_EXCESS)))
        self.mask = torch.zeros(line.shape[1], dtype=torch.bool)
        self.mask[self.bounded] = True
        self.parameters = tensor(inner).requires_grad_()
        self.basis = tensor(self.basisAt(np.linspace(0, 1, points)))

    def basisAt(self, s):
        """[len(s), knots]: values of the spline as a linear map of its knots."""
        return CubicSpline(self.s, np.eye(len(self.s)), bc_type="natural")(s)

    def fromEta(self, eta):
        if self.coordinates == "eta":
            return eta.copy()
        if self.coordinates == "polar":
            pairs = eta.reshape(-1, 2)
            return np.stack([np.log(np.hypot(*pairs.T)), np.arctan2(pairs[:, 1], pairs[:, 0])], -1).ravel()
        l = math.log(-2 * eta[0])
        return np.concatenate([[l], eta[1:] * math.exp(-l) / math.sqrt(1 + math.exp(-l))])

    def eta(self, basis=None):
        """Natural parameters [n, m] of the curve, differentiable by `parameters`."""
        inner = self.parameters
        if self.bounded:
            inner = torch.where(self.mask, self.low + torch.nn.functional.softplus(inner), inner)
        zeta = (self.basis if basis is None else basis) @ torch.cat([self.ends[:1], inner, self.ends[1:]])
        if self.bounded:
            zeta = torch.where(self.mask, zeta.clamp(min=self.low), zeta)
        if self.coordinates == "eta":
            return zeta
        if self.coordinates == "polar":
            kappa, phi = zeta[:, 0::2].exp(), zeta[:, 1::2]
            return torch.stack([kappa * phi.cos(), kappa * phi.sin()], -1).flatten(1)
        l = zeta[:, :1]
        return torch.cat([-0.5 * l.exp(), torch.sigmoid(l).sqrt() / torch.sigmoid(-l) * zeta[:, 1:]], -1)


def energy(network, eta):
    """E of the nodes eta [n, m]; an edge that comes out negative as a whole counts as zero."""
    mu = network.mu(eta)
    return 0.5 * (len(eta) - 1) * torch.relu(((eta[1:] - eta[:-1]) * (mu[1:] - mu[:-1])).sum(-1)).sum()


@dataclasses.dataclass
class Solution:
    """What came out: nodes `eta` [128, m], the same curve at 1,025 nodes `fine`, seconds of the optimiser alone (wall and all threads' CPU)."""
    variables: object
    eta: np.ndarray
    fine: np.ndarray
    seconds: float
    cpuSeconds: float
    steps: int
    energy: float
    startEnergy: float

    def curve(self, model):
        """openmmspacetime.Curve of the nodes; s is arc length under `model`."""
        d = np.maximum(segmentSquares(model, self.eta), 0) ** 0.5
        s = np.concatenate([[0], np.cumsum(np.maximum(d, 1e-9 * d.sum()))])
        return st.Curve(self.variables, s / s[-1], self.eta)

    def length(self, model, fine=False):
        """sum_i sqrt(max(0, D eta_i . D mu_i)) under a model of openmmspacetime, over the 128 nodes or the 1,025."""
        return float((np.maximum(segmentSquares(model, self.fine if fine else self.eta), 0) ** 0.5).sum())


def segmentSquares(model, eta):
    """D eta_i . D mu_i [N] of the nodes eta [N + 1, m]."""
    return (np.diff(eta, axis=0) * np.diff(np.asarray(model.moments(eta).mu), axis=0)).sum(1)


def prepare(network, etaA, etaB, coordinates=None, minKappa=None, minLogSnr=None, windings=None, knots=KNOTS, points=POINTS,
            learningRate=LEARNING_RATE):
    """The spline on the straight line between the ends, and a function that does one step of Adam and returns the energy before it."""
    low = None
    if network.lifted and minKappa:
        low = math.log(minKappa)
    elif not network.lifted and minLogSnr is not None:
        low = minLogSnr
    coordinates = coordinates or defaultCoordinates(network, low is not None)
    allowed = ("polar", "eta") if network.lifted else ("log-snr",)
    if coordinates not in allowed or (low is not None and coordinates == "eta"):
        raise ValueError(f"expected coordinates {' or '.join(allowed)} ('eta' only without a bound), got '{coordinates}'")
    spline = Spline(network, etaA, etaB, coordinates, low, windings, knots, points)
    optimizer = torch.optim.Adam([spline.parameters], lr=learningRate)

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = energy(network, spline.eta())
        value.backward()
        optimizer.step()
        return value.detach()

    return spline, step


def defaultCoordinates(network, bounded):
    """The coordinates that gave the shorter curve on alanine dipeptide at the same number of steps."""
    if not network.lifted:
        return "log-snr"
    return "polar" if bounded else "eta"


def solve(network, etaA, etaB, steps=STEPS, **options):
    """Minimise the energy of a curve between etaA [m] and etaB [m].

    Parameters
    ----------
    network : Network
        From `load`.
    steps : int
        Of Adam.
    coordinates : {'polar', 'eta'}, optional
        Of lifted variables.
    minKappa, minLogSnr : float, optional
        Lower bound along the curve: kappa of lifted variables, log-SNR of unlifted ones.
    windings : sequence [n] of int, optional
        Whole turns added to the short way round ('polar' only).
    knots, points, learningRate : optional
        The published values by default.

    Returns
    -------
    Solution
        The best curve met, which is never longer in energy than the last one.
    """
    spline, step = prepare(network, etaA, etaB, **options)
    best, first, kept = math.inf, None, None
    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        before = spline.parameters.detach().clone()
        value = float(step())
        first = value if first is None else first
        if value < best:
            best, kept = value, before
    seconds, cpuSeconds = time.perf_counter() - begin, time.process_time() - cpu
    if kept is None:
        raise ValueError("the energy was never finite" if steps else "expected at least one step")
    with torch.no_grad():
        spline.parameters.copy_(kept)
    # Nodes in double precision from the knots that were found, with the ends as given.
    exact = copy.copy(spline)
    exact.parameters, exact.ends = kept.double(), spline.ends.double()
    nodes = []
    for count in (len(spline.basis), 1025):
        with torch.no_grad():
            eta = exact.eta(torch.tensor(spline.basisAt(np.linspace(0, 1, count)))).numpy()
        eta[0], eta[-1] = etaA, etaB
        nodes.append(eta)
    return Solution(network.variables, nodes[0], nodes[1], seconds, cpuSeconds, steps, best, first)


def timePerStep(network, etaA, etaB, steps=150, warmUp=10, **options):
    """Seconds for one step of Adam: the mean over `steps` after `warmUp`; options as for `solve`."""
    _, step = prepare(network, etaA, etaB, **options)
    for _ in range(warmUp):
        float(step())
    begin = time.perf_counter()
    for _ in range(steps):
        float(step())
    return (time.perf_counter() - begin) / steps


# ---- the command line

def numbers(text):
    return [float(x) for x in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="FILE", help="a network of openmmspacetime (.safetensors)")
    parser.add_argument("--from", dest="a", required=True, type=numbers, metavar="A,B", help="start, raw values; write --from=-2.58,2.79")
    parser.add_argument("--to", dest="b", required=True, type=numbers, metavar="A,B", help="end")
    parser.add_argument("--log-snr", type=float, default=4.0, help="of both ends (default 4)")
    parser.add_argument("--min-kappa", type=float, metavar="K", help="lower bound on kappa of lifted variables")
    parser.add_argument("--min-log-snr", type=float, metavar="L", help="lower bound on log-SNR of unlifted variables")
    parser.add_argument("--windings", type=lambda t: [int(x) for x in t.split(",")], help="whole turns added to the short way, e.g. --windings=-1,0")
    parser.add_argument("--coordinates", choices=("polar", "eta"), help="of lifted variables")
    parser.add_argument("--steps", type=int, help=f"run in full (default {STEPS} unless --time-steps is given)")
    parser.add_argument("--time-steps", type=int, metavar="N", help="only time N steps")
    parser.add_argument("--double", action="store_true", help="64-bit floats")
    parser.add_argument("--samples", metavar="FILE.npz", help="x and log_weights: print the curve's length under their exact posterior")
    parser.add_argument("--out", metavar="FILE", help="curve file to write (.json)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()

    network = load(arguments.model, torch.float64 if arguments.double else torch.float32)
    ends = [network.variables.naturalParameter(np.array(x), arguments.log_snr) for x in (arguments.a, arguments.b)]
    options = {"coordinates": arguments.coordinates, "minKappa": arguments.min_kappa, "minLogSnr": arguments.min_log_snr, "windings": arguments.windings}
    # On a busy machine two threads wait for each other: the load tells whether the seconds mean anything.
    report = {"threads": torch.get_num_threads(), "load_average": os.getloadavg()[0], "error_of_mu": network.error}
    if arguments.time_steps:
        each = timePerStep(network, *ends, steps=arguments.time_steps, **options)
        report.update(seconds_per_step=each, seconds_for_10000=10_000 * each)
    if arguments.steps or not arguments.time_steps:
        solution = solve(network, *ends, steps=arguments.steps or STEPS, **options)
        report.update(steps=solution.steps, seconds=solution.seconds, cpu_seconds=solution.cpuSeconds, energy=solution.energy,
                      length=solution.length(network.reference), length_1025=solution.length(network.reference, fine=True))
        if arguments.samples:
            with np.load(arguments.samples) as data:
                exact = st.EmpiricalModel(data["x"], network.variables, logWeights=data["log_weights"])
            report.update(exact_length=solution.length(exact), exact_length_1025=solution.length(exact, fine=True))
        if arguments.out:
            solution.curve(network.reference).save(arguments.out, overwrite=True)
    if arguments.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name.replace('_', ' '):20s} {value:.6g}")


if __name__ == "__main__":
    sys.exit(main())
