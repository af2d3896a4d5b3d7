# SPDX-License-Identifier: MIT
"""Spacetime geodesics of a one-dimensional Gaussian mixture beside the probability-flow ODE and its pullback geometry.

    python run.py            figures, table and animation in output/, about half a minute
    python run.py --quick    the same with fewer nodes and frames, about ten seconds

The mixture is the toy of arXiv:2505.17517. All its moments are in closed form, so nothing is trained and everything shown is exact.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import openmmspacetime as st

MEANS, VARIANCE, WEIGHTS = np.array([-2.5, 0.5, 2.5]), 0.75**2, np.array([0.275, 0.45, 0.275])
# The longest geodesic would otherwise go by log-SNR minus infinity, where p(c|z) is all of the data.
LEAST_LOG_SNR = -1.0
# Clean ends of the geodesics and the log-SNR at which both are seen.
PAIRS = (((-2.5, 2.5), 5.0), ((-2.5, 0.5), 5.0), ((0.5, 2.5), 5.0), ((-3.0, -1.6), 3.0), ((1.2, 1.9), 3.0))
POSTERIOR_PAIR = 0
DATA = (-3.2, -2.2, -1.2, 0.1, 1.4, 2.3, 3.2)  # clean points whose trajectories are compared
FLOW_FROM, FLOW_TO = 6.0, -2.0  # log-SNR of the two ends of these
LATENT = -6.0  # log-SNR of the latent space of the pullback geometry
# Three wells in the plane, on an arc: the straight segment between the outer two crosses empty space.
PLANE = st.GaussianMixtureModel([[-2.5, -1.0], [0.0, 1.6], [2.5, -1.0]], [0.25, 0.25, 0.25], [0.3, 0.4, 0.3])
PLANE_ENDS, PLANE_LOG_SNR = np.array([[-2.6, -1.2], [2.6, -1.2]]), 4.0
# Okabe and Ito's colours, which colour-blind eyes tell apart.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COMPONENTS = ("#56B4E9", "#E69F00", "#009E73")
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "axes.linewidth": 0.7, "axes.spines.top": False,
    "axes.spines.right": False, "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.frameon": False, "legend.fontsize": 9.5, "savefig.dpi": 150, "figure.dpi": 150,
}
OUTPUTS = ("spacetime.png", "posteriors.png", "flows.png", "pullback.png", "geodesic.gif", "table.txt", "results.json")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Spacetime geodesics of a Gaussian mixture beside the probability-flow ODE.")
    parser.add_argument("--quick", action="store_true", help="fewer frames and nodes")
    parser.add_argument("--out", type=Path, default=Path("output"), metavar="DIR", help="output folder (default: output)")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run left in the output folder")
    return parser.parse_args()


def minus(value: float) -> str:
    """A number with a proper minus sign."""
    return f"{value:g}".replace("-", "\u2212")


def alpha(logSnr):
    """alpha of the variance-preserving schedule."""
    return np.sqrt(1 / (1 + np.exp(-np.asarray(logSnr, dtype=float))))


def levels(eta: np.ndarray) -> np.ndarray:
    """log-SNR of natural parameters [..., m]."""
    return np.log(-2 * eta[..., 0])


def drawn(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log-SNR and x = alpha y of natural parameters [N, 2]."""
    l = levels(eta)
    return l, alpha(l) * eta[:, 1] / (-2 * eta[:, 0])


def posterior(eta: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Densities of the three components of p(c|z) [3, len(c)], each times its posterior weight, at one natural parameter [2]."""
    precision = 1 / VARIANCE - 2 * eta[0]
    mean = (MEANS / VARIANCE + eta[1]) / precision
    logW = np.log(WEIGHTS) + 0.5 * precision * mean**2 - 0.5 * MEANS**2 / VARIANCE
    w = np.exp(logW - logW.max())
    w /= w.sum()
    return w[:, None] * np.sqrt(precision / (2 * np.pi)) * np.exp(-0.5 * precision * (c - mean[:, None]) ** 2)


def posteriorWeights(eta: np.ndarray) -> np.ndarray:
    """Posterior weights of the components [N, 3] at natural parameters [N, 2]."""
    c = np.linspace(-9, 9, 6001)
    return np.array([posterior(e, c).sum(axis=1) * (c[1] - c[0]) for e in eta])


def background(axis: Any, model: Any, noisiest: float, cleanest: float) -> None:
    """The noisy marginal as a function of (log-SNR, x), each column over its own highest value."""
    l, x = np.linspace(noisiest, cleanest, 200), np.linspace(-4.6, 4.6, 241)
    density = np.array([np.exp(st.logLikelihood(model, x[:, None], level)) for level in l]).T
    axis.imshow(density / density.max(axis=0), cmap="Greys", vmin=0, vmax=1.6, extent=(noisiest, cleanest, -4.6, 4.6), origin="lower", aspect="auto", interpolation="bilinear")
    axis.set(xlim=(cleanest, noisiest), ylim=(-4.6, 4.6), xlabel="log-SNR   (clean data on the left, noise on the right)", ylabel="noisy point x")


def save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path)


def drawSpacetime(model: Any, geodesics: list, path: Path) -> None:
    with rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.8), layout="constrained")
        axis = figure.subplots()
        background(axis, model, min(levels(g.eta).min() for g in geodesics) - 0.7, 6.2)
        for k, (g, (ends, _)) in enumerate(zip(geodesics, PAIRS)):
            l, x = drawn(g.eta)
            axis.plot(l, x, color=(BLUE, ORANGE, GREEN, PURPLE, "#E69F00")[k], lw=2.4, label=f"{minus(ends[0])} to {minus(ends[1])}: length {g.lengthExtrapolated:.2f}")
            axis.plot(l[[0, -1]], x[[0, -1]], "o", ms=6, mfc="white", mec="black", mew=1.1, zorder=5)
        axis.set_title(f"The farther apart the ends, the noisier the way (log-SNR held above {minus(LEAST_LOG_SNR)})", loc="left")
        figure.legend(loc="outside lower center", ncol=3)
    save(figure, path)


def drawPosteriors(model: Any, geodesic: Any, path: Path) -> None:
    s = np.linspace(0, 1, 9)
    c = np.linspace(-5, 5, 501)
    with rc_context(STYLE):
        figure = Figure(figsize=(8.6, 5.0), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for k, value in enumerate(s):
            parts = posterior(geodesic.evaluate(value), c)
            height = parts.sum(axis=0)
            scale = 0.85 / height.max()
            low = np.zeros_like(c)
            for part, colour in zip(parts, COMPONENTS):
                left.fill_between(c, k + scale * low, k + scale * (low + part), color=colour, lw=0)
                low = low + part
            left.plot(c, k + scale * height, color="black", lw=0.9)
        left.set(xlim=(-5, 5), ylim=(-0.1, len(s)), xlabel="clean variable c", ylabel="position s on the geodesic")
        left.set_yticks(range(len(s)), [f"{v:g}" for v in s])
        left.set_title("p(c|z) along the geodesic, scaled to equal heights", loc="left")
        fine = np.linspace(0, 1, 101)
        weights = posteriorWeights(np.array([geodesic.evaluate(v) for v in fine]))
        right.stackplot(fine, weights.T, colors=COMPONENTS, labels=[f"component at {minus(m)}" for m in MEANS], lw=0)
        right.set(xlim=(0, 1), ylim=(0, 1), xlabel="position s on the geodesic", ylabel="share of the posterior")
        right.set_title("weights of the components in p(c|z)", loc="left")
        figure.legend(loc="outside lower center", ncol=3)
    save(figure, path)


def drawFlows(model: Any, flows: np.ndarray, grid: np.ndarray, geodesics: list, path: Path) -> None:
    with rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.8), layout="constrained")
        axis = figure.subplots()
        background(axis, model, min(FLOW_TO, *(levels(g.eta).min() for g in geodesics)) - 0.3, FLOW_FROM + 0.3)
        for k in range(flows.shape[1]):
            axis.plot(grid, flows[:, k, 0], color=ORANGE, lw=1.8, ls=(0, (4, 2)), label="trajectory of the probability-flow ODE" if k == 0 else None)
            axis.plot(*drawn(geodesics[k].eta), color=BLUE, lw=2.0, label="geodesic between the same ends" if k == 0 else None)
            axis.plot(grid[[0, -1]], flows[[0, -1], k, 0], "o", ms=5, mfc="white", mec="black", mew=1.0, zorder=5)
        axis.set_title("Trajectories of the sampler come close to geodesics (log-SNR held above −2), but are longer", loc="left")
        figure.legend(loc="outside lower center", ncol=2)
    save(figure, path)


def drawPullback(curves: list, geodesic: Any, path: Path) -> None:
    """`curves`: (decoded points [N, 2], colour, line style, label) of curves that begin and end alike, the pullback geodesic last."""
    x, y = np.linspace(-4.6, 4.6, 231), np.linspace(-3.4, 3.6, 181)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)

    def logDensity(c):
        return st.logLikelihood(PLANE, c, PLANE.dataLogSnr, schedule="ve")

    logq = logDensity(points)
    density = np.exp(logq).reshape(len(y), len(x))
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        left.contourf(x, y, density, levels=np.linspace(0.002, density.max(), 12), cmap="Greys", vmin=0, vmax=1.7 * density.max())
        for curve, colour, style, label in curves:
            left.plot(*curve.T, color=colour, lw=2.4, ls=style, label=label)
        right.plot(np.linspace(0, 1, len(curves[-1][0])), logDensity(curves[-1][0]), color=ORANGE, lw=2.4, ls=(0, (6, 2)))
        left.plot(*PLANE_ENDS.T, "o", ms=8, mfc="white", mec="black", mew=1.2, zorder=6)
        left.set(aspect="equal", xlim=(-4.3, 4.3), ylim=(-3.2, 3.3), xlabel="data, first coordinate", ylabel="data, second coordinate")
        left.set_title("data (grey) and decoded curves", loc="left")
        # A point of spacetime is the distribution p(c|z): its mean log-density, by a sum over the grid.
        s = np.linspace(0, 1, 61)
        mean = []
        for eta in (geodesic.evaluate(v) for v in s):
            w = logq + PLANE.variables.statistic(points) @ eta
            w = np.exp(w - w.max())
            mean.append(w @ logq / w.sum())
        right.plot(s, mean, color=BLUE, lw=2.4, ls=(0, (1, 1)), label="spacetime geodesic, mean over p(c|z)")
        right.set(xlim=(0, 1), xlabel="position s on the curve", ylabel="log-density of the data, log q(c) (nats)")
        right.set_title("is there any data on the way?", loc="left")
        figure.legend(loc="outside lower center", ncol=2)
    save(figure, path)


def animate(model: Any, geodesic: Any, frames: int, path: Path) -> None:
    c = np.linspace(-5, 5, 401)
    l, x = drawn(geodesic.eta)
    # There and back again, so that the loop has no jump.
    s = 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, frames, endpoint=False))
    with rc_context({**STYLE, "figure.dpi": 80, "savefig.dpi": 80}):
        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        background(left, model, l.min() - 0.7, 6.2)
        left.set_xlabel("log-SNR")
        left.plot(l, x, color=BLUE, lw=2.2)
        left.set_title("a point z on the geodesic", loc="left")
        dot, = left.plot([], [], "o", ms=9, mfc=ORANGE, mec="black", zorder=6)
        prior = (WEIGHTS[:, None] * np.exp(-0.5 * (c - MEANS[:, None]) ** 2 / VARIANCE)).sum(axis=0) / np.sqrt(2 * np.pi * VARIANCE)
        right.fill_between(c, prior, color="#c9ccd1", lw=0, label="data q(c)")
        line, = right.plot([], [], color=ORANGE, lw=2.2, label="posterior p(c|z)")
        right.set(xlim=(-5, 5), ylim=(0, 2.0), xlabel="clean variable c", ylabel="density (cut off at 2)")
        right.set_title("what z stands for", loc="left")
        right.legend(loc="upper center", ncol=2)

        def frame(k: int):
            eta = geodesic.evaluate(s[k])
            dot.set_data(*drawn(eta[None]))
            line.set_data(c, posterior(eta, c).sum(axis=0))
            return dot, line

        figure.canvas.draw()
        figure.set_layout_engine("none")  # once is enough
        FuncAnimation(figure, frame, frames=frames, blit=False).save(path, writer=PillowWriter(fps=15))


def main() -> int:
    arguments = parse()
    out, quick = arguments.out, arguments.quick
    present = [name for name in OUTPUTS if (out / name).exists()]
    if present and not arguments.overwrite:
        sys.exit(f"run.py: {out}/ already holds results ({', '.join(present[:3])}, ...). Choose another folder with --out, or replace them with --overwrite.")
    out.mkdir(parents=True, exist_ok=True)
    begin = time.time()
    model = st.GaussianMixtureModel(MEANS[:, None], np.full(3, VARIANCE), WEIGHTS)
    nodes = 65 if quick else 129
    results: dict[str, Any] = {}
    lines = ["Gaussian mixture: means -2.5, 0.5, 2.5; standard deviation 0.75; weights 0.275, 0.45, 0.275", ""]

    def say(text: str = "") -> None:
        print(text, flush=True)
        lines.append(text)

    # 1. Geodesics between clean points seen at one log-SNR.
    geodesics = [st.geodesic(model, [a], [b], logSnr=l, points=nodes, minLogSnr=LEAST_LOG_SNR) for (a, b), l in PAIRS]
    say(f"Geodesics, at log-SNR {LEAST_LOG_SNR:g} and above")
    say("                   ends   log-SNR of the ends   Fisher-Rao length   least log-SNR on the way")
    for g, ((a, b), l) in zip(geodesics, PAIRS):
        say(f"         {a:5.1f} to {b:5.1f}   {l:19.1f}   {g.lengthExtrapolated:17.4f}   {levels(g.eta).min():24.2f}")
    results["geodesics"] = [{"from": a, "to": b, "log_snr": l, "length": g.lengthExtrapolated, "least_log_snr": levels(g.eta).min()}
                            for g, ((a, b), l) in zip(geodesics, PAIRS)]
    drawSpacetime(model, geodesics, out / "spacetime.png")
    drawPosteriors(model, geodesics[POSTERIOR_PAIR], out / "posteriors.png")

    # 2. Trajectories of the sampler's ODE, and the geodesics between the same two noisy points.
    grid = np.linspace(FLOW_FROM, FLOW_TO, 601)
    flows = st.probabilityFlow(model, alpha(FLOW_FROM) * np.array(DATA)[:, None], grid)
    shortest, rows = [], []
    say()
    say(f"Probability-flow ODE from log-SNR {FLOW_FROM:g} to {FLOW_TO:g}: Fisher-Rao length of the trajectory and of the geodesic between its ends")
    say("         data point     trajectory     geodesic     ratio")
    for k, c in enumerate(DATA):
        eta = np.array([st.latentParameter(model, x, l) for x, l in zip(flows[:, k], grid)])
        trajectory = st.Curve(model.variables, np.linspace(0, 1, len(grid)), eta).measure(model).lengthExtrapolated
        g = st.geodesic(model, flows[0, k] / alpha(FLOW_FROM), flows[-1, k] / alpha(FLOW_TO), logSnr=(FLOW_FROM, FLOW_TO), points=nodes, minLogSnr=FLOW_TO)
        shortest.append(g)
        rows.append({"data": c, "trajectory": trajectory, "geodesic": g.lengthExtrapolated})
        say(f"         {c:10.1f}     {trajectory:10.4f}     {g.lengthExtrapolated:8.4f}     {trajectory / g.lengthExtrapolated:5.3f}")
    results["probability_flow"] = rows
    drawFlows(model, flows, grid, shortest, out / "flows.png")

    # 3. Back from latent space: what encode loses, the likelihood, samples.
    sample = st.sampleReverseSde(model, 1000 if quick else 5000, seed=1)
    error = np.abs(st.decode(model, st.encode(model, sample[:200], LATENT), LATENT) - sample[:200]).max()
    exact = st.logLikelihood(model, sample[:200], 2.0)
    likelihood = np.abs(st.logLikelihood(model, sample[:200], 2.0, integrate=True) - exact).max()
    mean, variance = float(WEIGHTS @ MEANS), float(VARIANCE + WEIGHTS @ (MEANS - WEIGHTS @ MEANS) ** 2)
    say()
    say(f"decode(encode(x)) - x, largest of 200: {error:.1e}")
    say(f"log-likelihood by the ODE, largest error of 200: {likelihood:.1e} nats")
    say(f"{len(sample)} samples of the reverse SDE: mean {sample.mean():.3f} (exact {mean:.3f}), variance {sample.var():.3f} (exact {variance:.3f})")
    results.update(round_trip_error=error, log_likelihood_error=likelihood, sample_mean=sample.mean(), sample_variance=sample.var(), mean=mean, variance=variance)

    # 4. The metric that the decoder pulls back from data space.
    latent = st.encode(PLANE, PLANE_ENDS, LATENT)
    points = 13 if quick else 21
    pullback = st.pullbackGeodesic(PLANE, *latent, LATENT, points=81)
    minimum = st.pullbackGeodesic(PLANE, *latent, LATENT, points=points, minimize=True, tolerance=1e-8)
    straight = st.decodeCurve(PLANE, np.linspace(*latent, 201), LATENT)
    curve = st.geodesic(PLANE, *PLANE_ENDS, logSnr=PLANE_LOG_SNR, points=nodes)
    along = np.array([curve.evaluate(s) for s in np.linspace(0, 1, 61)])
    decoded = np.array([st.decode(PLANE, eta[1:] / (-2 * eta[0]), float(levels(eta)), schedule="ve") for eta in along])
    a, b = decoded[0], decoded[-1]
    normal = np.array([a[1] - b[1], b[0] - a[0]]) / ((b - a) @ (b - a))
    off = np.abs((decoded - a) @ normal).max()
    say()
    say("Decoded curves between the outer wells of a mixture in the plane: energy over |a - b|^2, largest distance from the segment over |a - b|")
    for name, energy, deviation in (("pullback geodesic, by encoding the segment", pullback.energy / pullback.segmentEnergy, pullback.deviation),
                                    ("pullback geodesic, by minimising the energy", minimum.energy / minimum.segmentEnergy, minimum.deviation),
                                    ("straight latent line", straight.energy / straight.segmentEnergy, straight.deviation),
                                    ("spacetime geodesic", (len(decoded) - 1) * np.sum(np.diff(decoded, axis=0) ** 2) / np.sum((b - a) ** 2), off)):
        say(f"         {name:46s} {energy:9.5f}   {deviation:8.1e}")
        results.setdefault("pullback", {})[name] = {"energy_over_segment": energy, "deviation": deviation}
    drawPullback([(decoded, BLUE, "-", "spacetime geodesic, decoded"), (straight.decoded, GREEN, (0, (3, 1.5)), "straight latent line, decoded"),
                  (pullback.decoded, ORANGE, (0, (6, 2)), "pullback geodesic, decoded: the straight segment")], curve, out / "pullback.png")

    animate(model, geodesics[POSTERIOR_PAIR], 16 if quick else 60, out / "geodesic.gif")
    (out / "table.txt").write_text("\n".join(lines) + "\n")
    (out / "results.json").write_text(json.dumps(results, indent=1, default=float) + "\n")
    print(f"\n{out}/: {', '.join(OUTPUTS)}  ({time.time() - begin:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
