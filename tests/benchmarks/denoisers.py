# SPDX-License-Identifier: MIT
"""Denoising networks of several kinds, trained alike and judged alike on alanine dipeptide: why `st.train` trains the kind it does.

Every network learns the exact posterior mean of the same samples at the same spread of spacetime points, in posterior standard deviations:

    plain         mu = MLP(features)
    EDM           mu = mu0 + S0^(1/2) MLP(features): preconditioned by the posterior of featureless data, as Karras et al. 2022 do by a Gaussian's
    conservative  mu = mu0 + grad MLP(features): the gradient of a scalar, J symmetric by construction
    mixture       openmmspacetime.train: gradient of a convex scalar, J a covariance by construction
    units         the same kind of network in PyTorch, trained on mu alone

All but st.train's are PyTorch modules, called from Python. Printed: the error of mu over the tube of points that geodesics use
(median and 90 %, posterior standard deviations), the share of those points where J is not positive, and by how much the exact length of the curve that
the solver finds on the network exceeds the optimum, at every bound on log kappa. At last two of them as TorchScript against the published method on the
very same networks.

    python denoisers.py [--seconds 60] [--only networks|torchscript] [--full-baseline]
"""
import argparse
import copy
import json
import math
import pathlib
import sys
import tempfile
import time
import warnings

import numpy as np
import torch

import openmmspacetime as st
from bench import A, B, EXAMPLE, VARIABLES, gridModel

BOUNDS = {"free": {}, "e^1": dict(minLogSnr=1), "e^2": dict(minLogSnr=2), "e^3": dict(minLogSnr=3), "e^4": dict(minLogSnr=4)}
LOW, HIGH, HARMONICS, WIDTH, UNITS, KAPPA = 1.0, 5.5, 5, 96, 128, 20.0


def vonMises(kappa):
    """A/kappa and (A' - A/kappa)/kappa^2 of I1/I0 = A."""
    safe = kappa.clamp_min(1e-3)
    A = torch.special.i1e(kappa) / torch.special.i0e(kappa)
    ratio = torch.where(kappa < 1e-3, 0.5, A / safe)
    return ratio, torch.where(kappa < 0.1, -0.125, (1 - 2 * ratio - A * A) / (safe * safe))


class Denoiser(torch.nn.Module):
    """forward(x [N, 2V], logsnr [N]) -> E[(cos, sin)] [N, 2V] under a variance-preserving schedule."""

    def __init__(self, kind: str, centers=None):
        super().__init__()
        self.kind = kind
        if kind == "units":
            self.tilt = torch.nn.Parameter(torch.stack([centers.cos(), centers.sin()], -1))  # of UNITS von Mises distributions, in units of KAPPA
            self.weight = torch.nn.Parameter(torch.zeros(len(centers)))
            return
        inputs, outputs = len(VARIABLES) * (1 + 2 * HARMONICS), 1 if kind == "conservative" else 2 * len(VARIABLES)
        self.layers = torch.nn.Sequential(torch.nn.Linear(inputs, WIDTH), torch.nn.Tanh(), torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh(),
                                          torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh(), torch.nn.Linear(WIDTH, outputs))

    def features(self, eta):
        pairs = eta.view(-1, len(VARIABLES), 2)
        norm2 = 1 + pairs.square().sum(-1, keepdim=True)
        unit = pairs * norm2.rsqrt()
        waves, re, im = [norm2.log() / 6 - 1], unit[..., :1], unit[..., 1:]
        a, b = re, im
        for _ in range(HARMONICS):
            waves += [a, b]
            a, b = a * re - b * im, a * im + b * re
        return torch.cat(waves, -1).flatten(1)

    def mean(self, eta):
        if self.kind == "units":
            t, tilt = eta.view(-1, 1, len(VARIABLES), 2) + KAPPA * self.tilt, KAPPA * self.tilt
            kappa, own = ((x.square().sum(-1) + 1e-12).sqrt() for x in (t, tilt))
            i0 = torch.special.i0e(kappa)
            z = self.weight + (i0.log() + kappa).sum(-1) - (torch.special.i0e(own).log() + own).sum(-1)
            return (torch.softmax(z, 1).unsqueeze(-1) * ((torch.special.i1e(kappa) / (kappa * i0)).unsqueeze(-1) * t).flatten(2)).sum(1)
        pairs = eta.view(-1, len(VARIABLES), 2)
        kappa = (pairs.square().sum(-1) + 1e-12).sqrt()
        ratio, anisotropy = vonMises(kappa)
        flat = (ratio.unsqueeze(-1) * pairs).flatten(1)
        if self.kind == "plain":
            return self.layers(self.features(eta))
        if self.kind == "EDM":
            # The root of the covariance of featureless data: its radial and tangential standard deviations.
            F, e = self.layers(self.features(eta)).view_as(pairs), pairs / kappa.clamp_min(1e-6).unsqueeze(-1)
            tangential, radial = ratio.sqrt(), (ratio + anisotropy * kappa * kappa).clamp_min(1e-12).sqrt()
            along = (F * e).sum(-1, keepdim=True) * e
            return flat + (radial.unsqueeze(-1) * along + tangential.unsqueeze(-1) * (F - along)).flatten(1)
        with torch.enable_grad():
            leaf = eta if eta.requires_grad else eta.detach().requires_grad_()
            gradient, = torch.autograd.grad(self.layers(self.features(leaf)).sum(), leaf, create_graph=True)
        return flat + gradient

    def forward(self, x, logsnr):
        return self.mean((logsnr.exp() * logsnr.neg().exp().add(1).sqrt()).unsqueeze(1) * x)  # eta = e^l x/alpha


def drawPoints(samples, weights, count, random):
    """Spacetime points eta [count, 4], more widely spread than the data's own noisy marginal: curves leave it."""
    def logSnr():
        return LOW + math.log(max(random.random(), 1e-3)) if random.random() < 0.1 else random.uniform(LOW, HIGH)

    eta = np.empty((count, 2 * len(VARIABLES)))
    for row in eta:
        if random.random() < 0.2:
            kappa, angle = math.exp(LOW + 1) * np.sqrt(random.random(2)), random.uniform(-np.pi, np.pi, 2)
        else:
            kappa = np.full(2, math.exp(logSnr())) if random.random() < 0.5 else np.exp([logSnr(), logSnr()])
            k = random.choice(len(samples), p=weights) if random.random() < 0.5 else random.integers(len(samples))
            angle = samples[k] + random.uniform(1, 6) * random.normal(size=2) / np.sqrt(kappa) if random.random() < 0.5 else random.uniform(-np.pi, np.pi, 2)
        row[0::2], row[1::2] = kappa * np.cos(angle), kappa * np.sin(angle)
    return eta


def whitening(moments, eta):
    """Inverse Cholesky factors [N, m, m] of Cov[T], with a tenth of that of featureless data."""
    H = moments.J.copy()
    for o in (0, 2):
        e = eta[:, o:o + 2]
        ratio, anisotropy = (t.numpy()[:, None, None] for t in vonMises(torch.as_tensor(np.hypot(*e.T))))
        H[:, o:o + 2, o:o + 2] += 0.1 * (ratio * np.eye(2) + anisotropy * e[:, :, None] * e[:, None, :])
    return np.linalg.inv(np.linalg.cholesky(H))


def train(kind, eta, moments, seconds, samples, seed=1):
    """A denoiser of that kind after `seconds` of Adam with a cosine schedule, and the steps it had."""
    torch.manual_seed(seed)
    network = Denoiser(kind, torch.as_tensor(samples[np.random.default_rng(seed).choice(len(samples), UNITS)], dtype=torch.float32))
    rate = 3e-2 if kind == "units" else 3e-3
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    floats = lambda a: torch.as_tensor(a, dtype=torch.float32)
    points, target, weight, L = floats(eta), floats(moments.mu), floats(moments.nEff / (moments.nEff + 20)), floats(whitening(moments, eta))
    begin, steps = time.process_time(), 0
    while (progress := (time.process_time() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * progress)) * min(1, (steps + 1) / 100)
        i = torch.randint(len(points), (256,))
        error = torch.einsum("nab,nb->na", L[i], network.mean(points[i]) - target[i])
        loss = (weight[i] * torch.log1p(error.square().mean(1))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return network, steps


def tube(seed=1):
    """Points scattered round the curves of all four windings, kappa 25 to 150."""
    random, eta = np.random.default_rng(seed), []
    for windings in ((0, 0), (1, 0), (0, -1), (1, -1)):
        line = st.straightLine(VARIABLES, A, B, logSnr=4, points=60, windings=windings)
        angles, kappa = VARIABLES.center(line.eta) + random.normal(0, 0.25, (60, 2)), np.exp(random.uniform(math.log(25), math.log(150), (60, 2)))
        eta.append(np.stack([kappa * np.cos(angles), kappa * np.sin(angles)], 2).reshape(60, 4))
    return np.concatenate(eta)


def judge(name, model, steps, seconds, samples, best):
    """One printed row; the model of samples is what the network learned, so its lengths are the exact ones."""
    e = st.compare(model, samples, tube())
    points = np.concatenate([tube(2), tube(2) * 0.1])
    negative = np.mean(np.linalg.eigvalsh(0.5 * (J := model.moments(points).J) + 0.5 * J.transpose(0, 2, 1))[:, 0] < 0)
    cells = []
    for bound, options in BOUNDS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            r = next((r for r in st.geodesics(model, A, B, threads=1, **options) if list(r.windings) == [0, 0]), None)
        cells.append("   none" if r is None else f"{100 * (r.curve.measure(samples).lengthExtrapolated / best[bound] - 1):7.2f}{' ' if r.converged else '!'}")
    print(f"{name:20s} {steps:6d} {seconds:6.0f} {e.medianError:7.3f} {e.error90:7.3f} {e.jacobianError:7.3f} {e.asymmetry:8.1e} {100 * negative:6.1f}  " + " ".join(cells), flush=True)


class Published:
    """The network as baseline.py takes it: mu(eta), differentiable."""
    lifted, variables, dtype = True, VARIABLES, torch.float32

    def __init__(self, denoiser):
        self.denoiser = denoiser

    def mu(self, eta):
        l = 0.5 * (eta.square().sum(1) / len(VARIABLES)).log()
        return self.denoiser(eta * (l.neg().exp() / l.neg().exp().add(1).sqrt()).unsqueeze(1), l)


def torchScriptTable(kind, denoiser, samples, full):
    import baseline

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "denoiser.pt"
        st.saveTorchScript(denoiser, path, VARIABLES, logSnrRange=(LOW - 3, HIGH))
        model = st.TorchScriptModel.load(str(path))
    ends, network = [VARIABLES.naturalParameter(point, 4.0) for point in (A, B)], Published(denoiser)
    record = pathlib.Path(__file__).with_name("baseline.json")
    for problem, ours, theirs in (("free", {}, {}), ("kappa >= e^4", dict(minLogSnr=4), dict(minKappa=math.exp(4)))):
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            best = st.geodesics(model, A, B, threads=1, **ours)[0]
        total, length = time.perf_counter() - begin, best.curve.measure(samples).lengthExtrapolated
        step = baseline.timePerStep(network, *ends, steps=150, **theirs)
        reached, key = json.loads(record.read_text()), f"TorchScript, {kind}, {problem}"
        if full:
            reached[key] = {"exact_length": baseline.solve(network, *ends, **theirs).length(samples, fine=True)}
            record.write_text(json.dumps(reached, indent=1) + "\n")
        print(f"TorchScript, {kind:6s} {problem:13s} ours {best.seconds:5.2f} s ({total:5.2f} s with all windings), {best.evaluations:6d} evaluations, exact length {length:8.4f}"
              f"{'' if best.converged else ' NOT CONVERGED'}; published method on this network {10_000 * step:4.0f} s (10,000 steps of {1e3 * step:.2f} ms), "
              f"{reached.get(key, {}).get('exact_length', math.nan):8.4f}: {10_000 * step / best.seconds:.0f} times", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of CPU to train each PyTorch network")
    parser.add_argument("--only", choices=("networks", "torchscript"))
    parser.add_argument("--full-baseline", action="store_true", help="run the published method in full and keep its length")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(EXAMPLE / "data" / "alanine_vacuum_300K.npz") as data:
        x, logWeights = data["x"].astype(float), data["log_weights"].astype(float)
    _, samples, _ = gridModel()
    weights = np.exp(logWeights - logWeights.max())
    eta = drawPoints(x, weights / weights.sum(), 20_000, np.random.default_rng(1))
    moments = samples.moments(eta)
    if arguments.only != "torchscript":
        best = {bound: next(r for r in st.geodesics(samples, A, B, **options) if list(r.windings) == [0, 0]).measure.lengthExtrapolated for bound, options in BOUNDS.items()}
        print(f"{'network':20s} {'steps':>6s} {'CPU s':>6s} {'median':>7s} {'90 %':>7s} {'J':>7s} {'asym.':>8s} {'< 0, %':>6s}   excess of the exact length, %, at kappa >= "
              + ", ".join(BOUNDS) + "  (! not converged)")
        begin = time.process_time()
        own = st.train(x, VARIABLES, logWeights=logWeights, seed=1)
        judge("mixture (st.train)", own, json.loads(own.metadata)["training"]["steps"], time.process_time() - begin, samples, best)
    scripted = {}
    for kind in ("units", "plain", "EDM", "conservative") if arguments.only != "torchscript" else ("units", "plain"):
        network, steps = train(kind, eta, moments, arguments.seconds, x)
        scripted[kind] = copy.deepcopy(network)
        network.double().eval()

        def denoise(x, logSnr, network=network):
            return network(torch.as_tensor(x), torch.as_tensor(logSnr)).detach().numpy()

        if arguments.only != "torchscript":
            judge(kind, st.CallableModel(denoise, VARIABLES, logSnrRange=(LOW - 3, HIGH)), steps, arguments.seconds, samples, best)
    if arguments.only != "networks":
        print()
        for kind in ("units", "plain"):
            torchScriptTable(kind, scripted[kind], samples, arguments.full_baseline)


if __name__ == "__main__":
    sys.exit(main())
