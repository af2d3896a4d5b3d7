#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pictures between two pictures: geodesics of spacetime and of the density beside the usual interpolations, and distances between pictures.

    python run.py --out output              scikit-learn's 8 x 8 digits, from nothing: a model is trained, then strips, distances, report.html
    python run.py --out output --quick      the same with less training and fewer pictures
    python run.py --gallery --out gallery   colour emoji from the model that ships (emoji.safetensors): strips, animations, a sequence, distances
"""
from __future__ import annotations

import argparse
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

# Threads of LibTorch that wait for work should not take it from others.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import openmmspacetime as st
from openmmspacetime import imageplots

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from common import Progress, prepareOutput  # noqa: E402

OUTPUTS = ("digits.safetensors", "digits.safetensors.checkpoint", "strips", "animations", "distances.png", "embedding.png", "distances.txt", "distances.npz", "sequence.png", "sequence.txt",
           "extrapolation.png", "overview.png", "levels.png", "report.html", "report.json", "table.txt")
SEED = 1


@dataclass
class Study:
    """What is done with one set of pictures."""

    pictures: np.ndarray             # [K, H, W, C] in [0, 1]
    pairs: list[tuple[str, int, int]]  # name, indices of the two
    compared: list[int]              # indices for the matrix of distances
    names: list[str]                 # of those
    labels: list[str]                # of those: what they are
    logSnr: float                    # ends of geodesics
    distanceLogSnr: float            # ends of the Diffusion Edit Distance
    densityLogSnr: float
    distancePoints: int              # nodes of a distance's geodesic
    beyond: list[int]                # pairs that are extrapolated
    methods: Sequence[str] = ("spacetime", "density", "latent", "slerp", "lerp")
    frames: int = 17
    shown: int = 9
    probes: int = 8
    steps: int = 16
    tau: float = 1e-3
    solver: dict = field(default_factory=dict)  # options of matrixFreeGeodesic
    sequences: dict[str, np.ndarray] = field(default_factory=dict)  # frames [F, H, W, C]
    sequenceLogSnr: float = 2.0
    animated: bool = False
    levels: Sequence[float] = ()     # end log-SNRs that the first extrapolated pair is shown at


# ---- scikit-learn's digits


def digits(quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [1797, 8, 8, 1] in [0, 1], and which digit each is."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("run.py: the digits come with scikit-learn: pip install scikit-learn")
    data = load_digits()
    return (data.images / 16.0)[..., None], data.target


def trainDigits(pixels: np.ndarray, out: Path, quick: bool, resume: bool, progress: Progress) -> st.ImageModel:
    file = out / "digits.safetensors"
    if resume and file.exists() and not Path(f"{file}.checkpoint").exists():
        progress.say(f"{file} is there")
        return st.ImageModel.load(str(file))
    return st.trainImages(pixels, file, steps=150 if quick else 600, seed=SEED, command="python examples/images/run.py" + (" --quick" if quick else ""), resume=resume,
                          progress=lambda step, steps, loss, heldOut: progress.show(f"step {step} of {steps}, loss {loss:.3f}, held out {heldOut:.3f}"))


def byDistanceFromMean(pixels: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The most typical of some pictures first."""
    return indices[np.argsort(np.linalg.norm((pixels[indices] - pixels[indices].mean(axis=0)).reshape(len(indices), -1), axis=1))]


def digitStudy(quick: bool) -> Study:
    pixels, target = digits(quick)
    typical = {d: byDistanceFromMean(pixels, np.flatnonzero(target == d)) for d in range(10)}
    chosen = [(3, 8), (0, 6), (4, 9), (2, 7)][:1 if quick else 4]
    pairs = [(f"{a} to {b}", int(typical[a][0]), int(typical[b][0])) for a, b in chosen]
    kept = (0, 1, 3) if quick else (0, 1, 2, 3, 4, 6, 7, 9)
    compared = [int(typical[d][k]) for d in kept for k in (0, 20)]
    labels = [str(target[k]) for k in compared]
    names = [f"{label}{'ab'[k % 2]}" for k, label in enumerate(labels)]
    return Study(pixels, pairs, compared, names, labels, logSnr=3.0, distanceLogSnr=3.0, densityLogSnr=2.0, distancePoints=9, beyond=[0], frames=9 if quick else 17, probes=4 if quick else 8, steps=12)


# ---- the gallery


PAIRS = {"smile to tears": ("smiling face with smiling eyes", "crying face"), "cat to dog": ("cat face", "dog face"), "blue to sparkling": ("blue heart", "sparkling heart"),
         "house to castle": ("house building", "european castle"), "apple to tangerine": ("red apple", "tangerine")}


#: Geodesics of the gallery stay above: below, they go where the network was never trained, and decode to loud colours.
MIN_LOG_SNR = 0.5
GROUPS = {
    "face": ("grinning face", "crying face"),
    "animal": ("cat face", "bear face"),
    "heart": ("heavy black heart", "sparkling heart"),
    "building": ("house building", "school"),
}


def emojiStudy(font: Optional[str]) -> Study:
    import emoji

    loaded = emoji.loadFont(font)
    compared = [name for members in GROUPS.values() for name in members]
    names = list(dict.fromkeys([*compared, *(name for pair in PAIRS.values() for name in pair)]))
    pixels = np.stack([emoji.render(name, loaded) for name in names]) / 255
    turning = np.stack([emoji.render("grinning face", loaded, angle=angle) for angle in np.linspace(0, 60, 13)]) / 255
    return Study(pixels, [(name, names.index(a), names.index(b)) for name, (a, b) in PAIRS.items()], [names.index(name) for name in compared], compared,
                 [group for group, members in GROUPS.items() for _ in members], logSnr=4.0, distanceLogSnr=4.0, densityLogSnr=1.0, distancePoints=5, beyond=[1, 4], solver={"points": 9, "tolerance": 3e-2, "minLogSnr": MIN_LOG_SNR}, animated=True, levels=(1, 2, 4, 6),
                 sequences={"a face turns by 60 degrees": turning})


# ---- both


def drawPairs(model, study: Study, out: Path, title: str, resume: bool, progress: Progress):
    """All methods on all pairs: their table, with a strip a pair. What is finished is kept in files, from which `resume` goes on."""
    (out / "strips").mkdir(exist_ok=True)
    found: dict[str, list[st.Interpolation]] = {}
    figures = []
    for name, a, b in study.pairs:
        key = name.replace(" ", "-")
        found[name] = []
        for method in study.methods:
            file = out / "strips" / f"{key}-{method}.npz"
            if resume and file.exists():
                found[name].append(st.Interpolation.load(file))
                continue
            progress.show(f"{name}: {method}")
            one = st.interpolate(model, study.pictures[a], study.pictures[b], method, **(study.solver if method == "spacetime" else {}), logSnr=study.logSnr, numFrames=study.frames, densityLogSnr=study.densityLogSnr, tau=study.tau,
                                 steps=study.steps, probes=study.probes, seed=SEED, shape=study.pictures.shape[1:])
            one.save(file, overwrite=True)
            found[name].append(one)
        curve = found[name][0]
        rows = {one.method: one.frames for one in found[name]}
        rows = {"noisy": curve.noisy, "denoised": curve.denoised, **rows} if curve.noisy is not None else rows
        strip = imageplots.strip(rows, columns=study.shown, title=name)
        path = imageplots.savePicture(strip, out / "strips" / f"{key}.png", overwrite=True)
        figures.append((path, name, "Rows 'noisy' and 'denoised' are the points of the spacetime geodesic and the means of their posteriors; 'spacetime' is decoded from the same points."))
    report = st.interpolationReport(title, found)
    # The picture of docs/images.md and README.md.
    rows = {f"{name}, {shown}": one.frames for name, members in found.items() for one in members for shown in [{"spacetime": "geodesic", "lerp": "straight"}.get(one.method)] if shown}
    imageplots.savePicture(imageplots.strip(rows, columns=study.shown, scale=2 if study.pictures.shape[1] > 16 else 7).quantize(256), out / "overview.png", overwrite=True)
    for path, name, caption in figures:
        report.addFigure(path, name, caption)
    if study.animated:
        (out / "animations").mkdir(exist_ok=True)
        for name, members in found.items():
            path = imageplots.saveGif(members[0].frames, out / "animations" / f"{name.replace(' ', '-')}.gif", overwrite=True)
            report.addFigure(path, f"{name}, animated", "The decoded spacetime geodesic.")
    return report


def compareSequence(model, study: Study, name: str, frames: np.ndarray, report, out: Path, progress: Progress) -> str:
    """A real sequence, the same frames shuffled, and the straight line between its ends, as density geodesics."""
    shuffled = frames.copy()
    inner = np.random.default_rng(SEED).permutation(np.arange(1, len(frames) - 1))
    shuffled[1:-1] = frames[inner]
    t = np.linspace(0, 1, len(frames))[:, None, None, None]
    sequences = {"real": frames, "shuffled": shuffled, "linear": (1 - t) * frames[0] + t * frames[-1]}
    lines = [f"{name}, density at log-SNR {study.sequenceLogSnr:g}, tau {study.tau:g}"]
    lines.append(f"{'':10}  {'length over':>12}  {'distance over':>14}  {'best tau':>9}  {'unexplained':>12}  {'lowest':>9}  {'median angle':>13}")
    lines.append(f"{'sequence':10}  {'geodesic':>12}  {'geodesic':>14}  {'':>9}  {'bending':>12}  {'log p':>9}  {'(degrees)':>13}")
    for kind, sequence in sequences.items():
        progress.show(f"{name}: {kind}")
        a = st.analyzeSequence(model, sequence.reshape(len(sequence), -1), logSnr=study.sequenceLogSnr, tau=study.tau, points=len(sequence), tolerance=1e-2)
        known = a.angle[np.isfinite(a.angle)]
        lines.append(f"{kind:10}  {a.lengthRatio:12.3f}  {a.distanceRatio:14.3f}  {a.bestTau:9.2g}  {100 * a.bestTauResidual:10.0f} %  {a.frames.logDensity.min():9.0f}  "
                     f"{np.median(known) if len(known) else np.nan:13.0f}")
    path = imageplots.savePicture(imageplots.strip(sequences, columns=study.shown, title=name), out / "sequence.png", overwrite=True)
    report.addFigure(path, name, "A rendered rotation, its frames shuffled, and the straight line between its ends.")
    return "\n".join(lines)


def run(model, study: Study, out: Path, title: str, resume: bool, progress: Progress) -> None:
    progress.step(f"{len(study.pairs)} pairs of pictures, {len(study.methods)} ways from one to the other")
    report = drawPairs(model, study, out, title, resume, progress)
    progress.say(report.table)
    (out / "table.txt").write_text(report.table + "\n")

    if study.levels:
        progress.step("what the log-SNR of the ends decides")
        name, a, b = study.pairs[study.beyond[0]]
        rows = {}
        for level in study.levels:
            progress.show(f"log-SNR {level}")
            rows[f"{level}"] = st.interpolate(model, study.pictures[a], study.pictures[b], "spacetime", logSnr=level, numFrames=study.shown, steps=study.steps, seed=SEED, measure=False, **study.solver,
                                              shape=study.pictures.shape[1:]).frames
        path = imageplots.savePicture(imageplots.strip(rows, title="spacetime geodesics with ends at log-SNR"), out / "levels.png", overwrite=True)
        report.addFigure(path, f"{name}: what the log-SNR of the ends decides", "Decoded spacetime geodesics between the same pictures, encoded to other noise levels.")

    progress.step("beyond the second picture")
    rows = {}
    for k in study.beyond:
        name, a, b = study.pairs[k]
        one = st.extrapolatePictures(model, study.pictures[a], study.pictures[b], 0.5, study.densityLogSnr, study.tau, numFrames=13, steps=study.steps, shape=study.pictures.shape[1:])
        rows[name] = one.frames
    path = imageplots.savePicture(imageplots.strip(rows, title="extrapolation: the second picture is the ninth"), out / "extrapolation.png", overwrite=True)
    report.addFigure(path, "Beyond a pair", "Density geodesics from one picture to another (the ninth), continued by half their length.")

    for name, frames in study.sequences.items():
        progress.step("is a sequence of pictures a geodesic?")
        text = compareSequence(model, study, name, frames, report, out, progress)
        (out / "sequence.txt").write_text(text + "\n")
        progress.say(text)

    progress.step(f"Diffusion Edit Distance of {len(study.compared)} pictures, {len(study.compared) * (len(study.compared) - 1) // 2} geodesics")
    distances = st.editDistances(model, study.pictures[study.compared], study.distanceLogSnr, names=study.names, steps=study.steps, shape=study.pictures.shape[1:], **{**study.solver, "points": study.distancePoints, "tolerance": 5e-2},
                                 progress=lambda fraction: progress.show(f"{100 * fraction:.0f} %"))
    text = str(distances) + "\nnearest neighbour of the same kind: " + ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in distances.agreement(study.labels).items())
    (out / "distances.txt").write_text(text + "\n")
    np.savez(out / "distances.npz", distance=distances.distance, error=distances.error, euclid=distances.euclid, ssim=distances.ssim, names=study.names, logSnr=study.distanceLogSnr)
    progress.say(text)
    for figure, file, name in ((imageplots.distanceMatrix(distances), "distances.png", "Distances"), (imageplots.embedding(distances, study.labels), "embedding.png", "Maps of the pictures")):
        figure.savefig(out / file)
        report.addFigure(figure, name, f"Diffusion Edit Distance with ends at log-SNR {study.distanceLogSnr:g} and {study.distancePoints} nodes, and the Euclidean distance of pixels." if file == "distances.png" else
                         "Classical scaling of the same distances; frames of one colour are of one kind.")
    report.settings.update({"ends at log-SNR": study.logSnr, "ends of distances at log-SNR": study.distanceLogSnr, "density at log-SNR": study.densityLogSnr, "tau": study.tau, "Heun steps": study.steps, "seed": SEED, "openmm-spacetime": st.__version__,
                            "machine": f"{platform.machine()}, Python {platform.python_version()}", "time": progress.time()})
    report.save(out / "report.html")
    report.save(out / "report.json")
    progress.say(f"\n{out / 'report.html'} shows everything  ({progress.time()})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder to write into (default: %(default)s)")
    parser.add_argument("--gallery", action="store_true", help="colour emoji from the model that ships")
    parser.add_argument("--quick", action="store_true", help="less training, fewer pictures: for tests")
    parser.add_argument("--model", type=Path, default=HERE / "emoji.safetensors", help="of the gallery (default: the one that ships)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for the gallery's model")
    parser.add_argument("--font", help="the file NotoColorEmoji.ttf, where it is not found")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="replace earlier results")
    again.add_argument("--resume", action="store_true", help="go on where an earlier run was interrupted")
    args = parser.parse_args()
    if not args.resume:
        prepareOutput(args.out, OUTPUTS, args.overwrite)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.gallery:
        if not args.model.exists():
            sys.exit(f"run.py: found no {args.model}")
        progress = Progress(6)
        progress.step("colour emoji at 32 x 32")
        study = emojiStudy(args.font)
        model = st.loadModel(args.model, args.device)
        run(model, study, args.out, "Colour emoji", args.resume, progress)
    else:
        progress = Progress(4)
        study = digitStudy(args.quick)
        progress.step(f"training on {len(study.pictures)} digits of 8 x 8")
        model = trainDigits(study.pictures, args.out, args.quick, args.resume, progress)
        run(model, study, args.out, "Digits", args.resume, progress)


if __name__ == "__main__":
    main()
