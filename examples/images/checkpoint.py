#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a trained model of pictures is worth: its losses, a sheet of samples, each beside the nearest picture that it was trained on, and how near that is.

    python emoji.py --out output-emoji
    python checkpoint.py --model emoji.safetensors --pictures output-emoji/emoji.npy --out emoji        training.json, losses.png, samples.png
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import openmmspacetime as st

OUTPUTS = ("training.json", "losses.png", "samples.png")
SCALE = 3  # pixels of the sheet a pixel of a picture
PAIRS_PER_ROW = 6


def nearest(pictures: np.ndarray, trained: np.ndarray, others: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance [K] of each picture from the nearest of `trained`, and which one that is; with `others` none is its own neighbour."""
    a, b = pictures.reshape(len(pictures), -1), trained.reshape(len(trained), -1)
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    if others:
        square[np.arange(len(a)), np.arange(len(a))] = np.inf
    return np.sqrt(np.maximum(square.min(1), 0)), square.argmin(1)


def plotLosses(record: dict, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    losses = np.array([[np.nan if x is None else x for x in row] for row in record["losses"]], float)
    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(losses[:, 0], losses[:, 1], color="0.7", label=f"training, {record['pictures']} pictures")
    axes.plot(losses[:, 0], losses[:, 2], color="C0", label=f"averaged weights, {record['pictures_held_out']} pictures held out")
    axes.set(xlabel="step", ylabel="EDM loss", yscale="log")
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.yaxis.set_minor_formatter("{x:.2f}")
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)


def sheet(samples: np.ndarray, neighbours: np.ndarray) -> Image.Image:
    """Pairs of pictures: a sample on the left, its neighbour on the right."""
    size = samples.shape[1] * SCALE
    gap, between = 4, 16
    width, height = 2 * size + gap + between, size + between
    rows = -(-len(samples) // PAIRS_PER_ROW)
    result = Image.new("RGB", (PAIRS_PER_ROW * width + between, rows * height + between), (225, 225, 225))
    for k, pair in enumerate(zip(samples, neighbours)):
        for i, picture in enumerate(pair):
            pixels = np.clip(np.rint(255 * picture), 0, 255).astype(np.uint8)
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).resize((size, size), Image.Resampling.NEAREST)
            result.paste(image, (between + k % PAIRS_PER_ROW * width + i * (size + gap), between + k // PAIRS_PER_ROW * height))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("emoji.safetensors"), help="(default: %(default)s)")
    parser.add_argument("--pictures", type=Path, default=Path("output-emoji/emoji.npy"), help="what it was trained on (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("emoji"), help="folder to write into (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=42, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=64, help="of the sampler (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    present = [name for name in OUTPUTS if (args.out / name).exists()]
    if present and not args.overwrite:
        sys.exit(f"checkpoint.py: {args.out / present[0]} exists. Replace it with --overwrite, or choose another folder with --out.")
    try:
        model = st.ImageModel.load(str(args.model))
        trained = st.readImages(args.pictures, size=model.imageShape[:2], channels=model.imageShape[2]).pixels
    except (ValueError, RuntimeError) as error:
        sys.exit(f"checkpoint.py: {error}")
    record = model.training
    known = np.concatenate([trained, trained[:, :, ::-1]]) if record["flips"] else trained

    def progress(done: float) -> None:
        if sys.stderr.isatty():
            print(f"\rsampling {100 * done:3.0f} %", end="", file=sys.stderr, flush=True)

    samples = st.sampleReverseSde(model, args.samples, steps=args.steps, seed=args.seed, covariance=False, progress=progress)
    samples = np.clip(samples.reshape(-1, *model.imageShape), 0, 1)
    distances, which = nearest(samples, known)
    apart, _ = nearest(trained, trained, others=True)
    figures = {"samples": args.samples, "sampler": f"reverse SDE, {args.steps} steps, seed {args.seed}", "median_distance_to_nearest_training_picture": float(np.median(distances)),
               "least_distance_to_nearest_training_picture": float(distances.min()), "median_distance_between_nearest_training_pictures": float(np.median(apart))}
    args.out.mkdir(parents=True, exist_ok=True)
    shape = {"height": model.imageShape[0], "width": model.imageShape[1], "channels": model.imageShape[2]}
    content = {"model": {"image": shape, "unet": model.unet, "parameters": model.numParameters, "log_snr_range": list(model.logSnrRange)}, "training": record, "samples": figures}
    text = json.dumps(content, indent=1)
    (args.out / "training.json").write_text(text + "\n")
    plotLosses(record, args.out / "losses.png")
    sheet(samples, known[which]).save(args.out / "samples.png", optimize=True)
    first, last = record["losses"][0], record["losses"][-1]
    print(f"{args.model}: {model.numParameters} weights, {record['steps']} steps in {record['seconds']:.0f} s; loss {first[1]:.3f} to {last[1]:.3f}, held out {first[2]:.3f} to {last[2]:.3f}")
    print(f"samples lie {figures['median_distance_to_nearest_training_picture']:.2f} (median; at least {distances.min():.2f}) from the nearest picture of the training set,")
    print(f"whose own pictures lie {figures['median_distance_between_nearest_training_pictures']:.2f} (median) from their nearest neighbour (Euclid, pixels 0 to 1)")


if __name__ == "__main__":
    main()
