# SPDX-License-Identifier: MIT
"""Geodesics of pictures beside the way that arXiv:2505.17517 publishes, on the same model, the same ends and the same measure.

The published way, written anew: a cubic spline through points (log-SNR, x) between the fixed ends, Adam on its points, the energy (N/2) sum d eta . d mu with
the divergence estimated by one Hutchinson probe of every node and step of its own, and the gradient by double backward through the denoiser: 350 steps at 16
points of the curve, then 250 at 64. Its learning rate is the best of three, found on the first pair. As in the released code negative terms d eta_j d mu_j are
dropped, coordinate by coordinate (--unrectified keeps them: Adam then finds curves on which a denoiser that is no gradient field has a negative energy).

Reported: points at which the denoiser is evaluated, these as forward passes (what a point of either way costs over a plain evaluation is measured), seconds, and
length and energy of the curves at 64 segments, by the same probes for both, with standard errors over the probes.

    python imagebench.py [--model M.safetensors --pictures DIR|FILE.npy] [--pairs 3] [--seeds 1 2] [--log-snr 3] [--nodes 17 33] [--full | --exact]

By default 8x8 digits and a small model, trained first (some minutes); --full takes the emoji and the model that ships, --exact no network but
a mixture, on which lengths can be trusted: on trained denoisers the published way finds curves with negative segments. Prints Markdown.
"""
import argparse
import pathlib
import sys
import tempfile
import time
import warnings

import numpy as np
import torch
from scipy.interpolate import CubicSpline

import openmmspacetime as st
from torchunet import TorchUnet

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGES = [(350, 16), (250, 64)]
RATES = [0.01, 0.03, 0.1]
KNOTS = 16
SEGMENTS = 64
AIM = 10


def splineMatrix(points, knots):
    """Values of the natural cubic spline at `points` places, of the values at its ends and `knots` inner knots: [points, knots + 2]."""
    return torch.tensor(CubicSpline(np.linspace(0, 1, knots + 2), np.eye(knots + 2), bc_type="natural")(np.linspace(0, 1, points)))


class PublishedCurve:
    """The curve of one pair of ends (natural parameters), optimised by double backward through `unet`."""

    def __init__(self, unet, etaA, etaB, knots=KNOTS, seed=1, rectify=False):
        self.rectify = rectify
        self.unet, self.generator = unet, torch.Generator().manual_seed(seed)
        self.ends = torch.stack([self._fromEta(eta) for eta in (etaA, etaB)])
        share = torch.linspace(0, 1, knots + 2, dtype=torch.float64)[1:-1, None]
        self.inner = ((1 - share) * self.ends[0] + share * self.ends[1]).requires_grad_(True)
        self.seconds = self.cpuSeconds = 0.0

    @staticmethod
    def _fromEta(eta):
        """(log-SNR, x) of the variance-preserving schedule, in which coordinates stay of the order of 1."""
        eta = torch.as_tensor(eta, dtype=torch.float64)
        l = torch.log(-2 * eta[0])
        return torch.cat([l[None], torch.sigmoid(l).sqrt() * eta[1:] / l.exp()])

    def nodes(self, points):
        """log-SNR [points] and natural parameters [points, D + 1]."""
        z = splineMatrix(points, len(self.inner)) @ torch.cat([self.ends[:1], self.inner, self.ends[1:]])
        l = z[:, 0].clamp(*self.unet.logSnrRange)
        y = z[:, 1:] / torch.sigmoid(l).sqrt()[:, None]
        return l, y, torch.cat([-0.5 * l.exp()[:, None], l.exp()[:, None] * y], 1)

    def energy(self, points):
        """(N/2) sum d eta . d mu, differentiable by the spline's knots; a probe of its own at every node."""
        l, y, eta = self.nodes(points)
        inputs = y.float()
        if not inputs.requires_grad:
            inputs.requires_grad_(True)
        chat = self.unet(inputs, l.float())
        probe = torch.randint(0, 2, chat.shape, generator=self.generator).float() * 2 - 1
        slope, = torch.autograd.grad((chat * probe).sum(), inputs, create_graph=True)
        trace = (slope * probe).sum(1).double() * (-l).exp()
        chat = chat.double()
        mu = torch.cat([(chat.square().sum(1) + trace)[:, None], chat], 1)
        terms = (eta[1:] - eta[:-1]) * (mu[1:] - mu[:-1])
        return 0.5 * (points - 1) * (terms.relu() if self.rectify else terms).sum()

    def optimise(self, rate, stages=STAGES, progress=None):
        wall, cpu = time.perf_counter(), time.process_time()
        adam = torch.optim.Adam([self.inner], lr=rate)
        done, total = 0, sum(steps * points for steps, points in stages)
        for steps, points in stages:
            for _ in range(steps):
                adam.zero_grad()
                self.energy(points).backward()
                adam.step()
                done += points
                if progress:
                    progress(done / total)
        self.seconds, self.cpuSeconds = time.perf_counter() - wall, time.process_time() - cpu
        return self

    def eta(self, segments=SEGMENTS):
        with torch.no_grad():
            return self.nodes(segments + 1)[2].numpy()


class ExactDenoiser:
    """The denoiser of a mixture of isotropic Gaussians of one variance, in PyTorch: what `TorchUnet` is of a trained one."""

    logSnrRange = (-8.0, 12.0)

    def __init__(self, means, variance):
        self.means, self.variance, self.evaluations = torch.tensor(means, dtype=torch.float32), variance, 0

    def __call__(self, y, l):
        self.evaluations += len(y)
        noise = (-l).exp()[:, None]
        weights = torch.softmax(-0.5 * (y[:, None] - self.means).square().sum(2) / (self.variance + noise), 1)
        return (self.variance * y + noise * (weights @ self.means)) / (self.variance + noise)


def digits():
    from sklearn.datasets import load_digits

    return load_digits().images[..., None] / 16.0


def trainedOnDigits(path):
    print("training a model of the digits ...", file=sys.stderr)
    return st.trainImages(digits(), path, seed=1)


def seconds(work, repeats=3):
    """CPU seconds of the fastest of a few repeats."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def costs(model, unet, etaA, etaB, points=SEGMENTS):
    """What a point of either way costs in plain evaluations of the same denoiser."""
    curve = PublishedCurve(unet, etaA, etaB)
    l, y, eta = (t.detach() for t in curve.nodes(points))
    inputs, levels, eta = y.float(), l.float(), eta.numpy()
    with torch.no_grad():
        plain = seconds(lambda: unet(inputs, levels))
    published = seconds(lambda: curve.energy(points).backward())
    direction = np.random.default_rng(1).normal(size=eta.shape)
    own, product = seconds(lambda: model.denoised(eta)), seconds(lambda: model.products(eta, direction))
    unet.evaluations = 0
    return published / plain, product / own


def showProgress(text):
    if sys.stderr.isatty():
        print(f"\r{text:70}", end="", file=sys.stderr, flush=True)


def runPublished(unet, etaA, etaB, rate, seed, stages, what, rectify):
    unet.evaluations = 0
    curve = PublishedCurve(unet, etaA, etaB, seed=seed, rectify=rectify).optimise(rate, stages, lambda f: showProgress(f"{what}: published way, rate {rate}: {100 * f:.0f} %"))
    return curve, unet.evaluations


def choosePairs(pictures, count, seed=1):
    """Pairs of pictures that lie far from each other: of random ones the most distant."""
    rng = np.random.default_rng(seed)
    flat = pictures.reshape(len(pictures), -1)
    pairs = rng.integers(len(pictures), size=(40 * count, 2))
    distances = np.linalg.norm(flat[pairs[:, 0]] - flat[pairs[:, 1]], axis=1)
    return pairs[np.argsort(-distances)[: 20 * count : 20]]


def ownCurve(model, a, b, nodes, seed):
    """The solver's result, its curve at SEGMENTS segments of equal parameter, and CPU seconds."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table says which did not converge
        result = st.matrixFreeGeodesic(model, a, b, points=nodes, seed=seed, measureProbes=2)
    cpu = time.process_time() - start
    return result, np.array([result.curve.evaluate(s) for s in np.linspace(0, 1, SEGMENTS + 1)]), cpu


def compare(model, unet, pictures, pairs, seeds, logSnr, nodes, stages=STAGES, rates=RATES, probes=32, rectify=True):
    flat = pictures.reshape(len(pictures), -1)
    eta = [st.latentParameter(model, st.encode(model, flat[list(pair)], logSnr, schedule="ve", solver="heun", steps=24), logSnr, schedule="ve") for pair in pairs]
    published, own = costs(model, unet, *eta[0])
    print(f"A point of the published way costs {published:.1f} plain evaluations (forward, backward and double backward), one of this solver {own:.1f} (forward mode).\n")

    measure = lambda curve: st.measureWithProbes(model, curve, probes=probes, seed=101)
    tried = {}
    for rate in rates:
        curve, count = runPublished(unet, *eta[0], rate, seeds[0], stages, "pair 1", rectify)
        tried[rate] = (curve, count, measure(curve.eta()))
    showProgress("")
    # A curve on which the denoiser contradicts itself is no short one, whatever its length says.
    best = min(tried, key=lambda rate: (tried[rate][2].negativeEdges, tried[rate][2].length))
    print("Learning rates of Adam on the first pair: " + ", ".join(f"{rate}: length {t[2].length:.2f} ± {t[2].lengthError:.2f}, {t[2].negativeEdges} negative segments" for rate, t in tried.items()) + f". Taken: {best}.\n")

    print("| pair | seed | way | evaluations | as forward passes | CPU s | wall s | length | energy | speed gap | negative segments | converged |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    fewer, judged, worse = [], 0, 0
    for k, (a, b) in enumerate(eta):
        line = measure(np.linspace(0, 1, SEGMENTS + 1)[:, None] * (b - a) + a)
        print(f"| {k + 1} | | straight line in eta | | | | | {line.length:.2f} ± {line.lengthError:.2f} | {line.energy:.0f} ± {line.energyError:.0f} | {line.speedGap:.3f} | {line.negativeEdges} | |", flush=True)
        for seed in seeds:
            found = tried[best][:2] if k == 0 and seed == seeds[0] else runPublished(unet, a, b, best, seed, stages, f"pair {k + 1}", rectify)
            showProgress("")
            rows = [("published", found[1], published, found[0].cpuSeconds, found[0].seconds, measure(found[0].eta()), "600 steps" if stages is STAGES else "short")]
            for n in nodes:
                result, curve, cpu = ownCurve(model, a, b, n, seed)
                rows.append((f"this solver, {n} nodes", result.evaluations, own, cpu, result.seconds, measure(curve), "yes" if result.converged else f"no ({result.residual:.1e})"))
            for name, count, factor, cpuSeconds, wall, m, converged in rows:
                print(f"| {k + 1} | {seed} | {name} | {count:,} | {count * factor:,.0f} | {cpuSeconds:.1f} | {wall:.1f} | {m.length:.2f} ± {m.lengthError:.2f} | {m.energy:.0f} ± {m.energyError:.0f} | "
                      f"{m.speedGap:.3f} | {m.negativeEdges} | {converged} |", flush=True)
            fewer.append((found[1] / rows[1][1], found[1] * published / (rows[1][1] * own), rows[0][3] / max(rows[1][3], 1e-3)))
            if rows[0][5].negativeEdges == rows[1][5].negativeEdges == 0:
                judged += 1
                worse += rows[1][5].length - rows[1][5].lengthError > rows[0][5].length + rows[0][5].lengthError
    fewer = np.array(fewer)
    print(f"\n{nodes[0]} nodes, median over {len(fewer)} runs (range): {np.median(fewer[:, 0]):.0f} ({fewer[:, 0].min():.0f} to {fewer[:, 0].max():.0f}) times fewer evaluations, "
          f"{np.median(fewer[:, 1]):.0f} ({fewer[:, 1].min():.0f} to {fewer[:, 1].max():.0f}) times fewer forward passes, {np.median(fewer[:, 2]):.0f} times less CPU time.")
    if judged < len(fewer):
        print(f"Lengths are not judged in {len(fewer) - judged} of {len(fewer)} runs: there a curve has segments with d eta . d mu < 0, on which the denoiser contradicts itself; its length leaves those out.")
    if judged:
        print(f"Aim, {AIM} times fewer evaluations at an equal or lower length: {'met' if fewer[:, 0].min() >= AIM and not worse else 'MISSED'}; "
              f"the length is larger beyond both standard errors in {worse} of {judged} runs.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--pictures", help="folder or .npy file of pictures")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--log-snr", type=float, default=3.0, help="of the ends")
    parser.add_argument("--nodes", type=int, nargs="+", default=[17, 33], help="of this solver; the first is compared with the published way, whose spline has 18")
    parser.add_argument("--full", action="store_true", help="the emoji and the model that ships")
    parser.add_argument("--exact", action="store_true", help="the exact denoiser of a Gaussian of standard deviation 0.15 (of pixels from 0 to 1) about each of the digits, in place of a trained one: "
                        "neither way can make use of errors of its")
    parser.add_argument("--unrectified", action="store_true", help="negative terms count in the published way's energy")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="of Adam, to choose from")
    parser.add_argument("--short", action="store_true", help="a hundredth of the published steps: for tests of this script")
    options = parser.parse_args()
    stages = [(steps // 100, points) for steps, points in STAGES] if options.short else STAGES
    if options.exact:
        means, variance = 2 * digits().reshape(-1, 64) - 1, 0.3**2
        model = st.GaussianMixtureModel(means, np.full(len(means), variance), np.ones(len(means)))
        print(f"## Geodesics of pictures: the exact posterior of a mixture about {len(means):,} digits, D = 64, ends at log-SNR {options.log_snr:g}\n")
        compare(model, ExactDenoiser(means, variance), means, choosePairs(means, options.pairs), options.seeds, options.log_snr, options.nodes, stages, options.rates, rectify=not options.unrectified)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.model
        if options.full:
            path, pictures = path or str(ROOT/"examples"/"images"/"emoji.safetensors"), emoji(options.pictures)
        else:
            pictures = st.readImages(options.pictures).pixels if options.pictures else digits()
        if path is None:
            path = str(pathlib.Path(folder)/"digits.safetensors")
            trainedOnDigits(path)
        model, unet = st.ImageModel.load(path), TorchUnet(path)
        if pictures.shape[1:] != tuple(model.imageShape):
            sys.exit(f"{path} is a model of pictures of {tuple(model.imageShape)}, got {pictures.shape[1:]}")
        print(f"## Geodesics of pictures: {'emoji' if options.full else 'digits' if options.model is None else pathlib.Path(path).name}, D = {len(model.variables)}, "
              f"{model.numParameters:,} parameters, ends at log-SNR {options.log_snr:g}\n")
        compare(model, unet, pictures, choosePairs(pictures, options.pairs), options.seeds, options.log_snr, options.nodes, stages, options.rates, rectify=not options.unrectified)


def emoji(path):
    """The pictures of examples/images/emoji.py, rendered where no file of them is given."""
    if path:
        return st.readImages(path).pixels
    sys.path.insert(0, str(ROOT/"examples"/"images"))
    import emoji as renderer

    return renderer.renderAll(renderer.loadFont()).pictures / 255.0


if __name__ == "__main__":
    main()
