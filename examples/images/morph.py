# SPDX-License-Identifier: MIT
"""What latent.py and edm2.py share: two pictures, a denoiser of what an encoder makes of them, and the strip between them."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Callable, Sequence

import numpy as np

import openmmspacetime as st
from openmmspacetime import imageplots

OUTPUTS = ("strip.png", "spacetime.gif", "table.txt", "frames.npz")


def addArguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="a", required=True, help="a picture")
    parser.add_argument("--to", dest="b", required=True, help="another one")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into: " + ", ".join(OUTPUTS))
    parser.add_argument("--log-snr", type=float, default=3.0, help="noise level of the geodesic's ends: lower ones change more on the way (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--steps", type=int, default=24, help="of Heun's method in encoding and decoding (default: %(default)s)")
    parser.add_argument("--probes", type=int, default=8, help="for the error bars of lengths (default: %(default)s)")
    parser.add_argument("--measure", action="store_true", help="length, energy and log-density of every sequence: thousands of evaluations more")
    parser.add_argument("--batch", type=int, default=8, help="pictures that go through the network together (default: %(default)s)")
    parser.add_argument("--device", help="of PyTorch (default: cuda where there is one)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--overwrite", action="store_true")


def chooseDevice(given: str | None) -> str:
    import torch

    return given or ("cuda" if torch.cuda.is_available() else "cpu")


def readEnds(options: argparse.Namespace, size: Sequence[int]) -> np.ndarray:
    """The two pictures [2, H, W, 3], scaled to the size that the network takes."""
    return np.stack([st.readImage(path, tuple(size), channels=3, resize=True) for path in (options.a, options.b)])


def morph(
    model: st.PosteriorModel,
    encode: Callable[[np.ndarray], np.ndarray],
    decode: Callable[[np.ndarray], np.ndarray],
    pictures: np.ndarray,
    methods: Sequence[str] = ("spacetime", "latent", "lerp"),
    progress: Callable[[str], None] = lambda text: None,
    **options,
) -> tuple[list[st.Interpolation], dict[str, np.ndarray]]:
    """Sequences between two pictures [2, H, W, C] in the latent space of an autoencoder: interpolations of latents, and their frames as pictures.

    `encode` makes latents [K, h, w, c] of pictures [K, H, W, C] in [0, 1], `decode` pictures of latents; `model` is a denoiser of the latents' values, row by
    row, the channels of a place together. Options are those of openmmspacetime.interpolate.
    """
    latents = encode(pictures)
    if latents.ndim != 4 or latents[0].size != len(model.variables):
        raise ValueError(f"morph: expected latents of {len(model.variables)} values from the encoder, got an array of shape {latents.shape}")
    found, frames = [], {}
    for method in methods:
        progress(f"{method} ...")
        one = st.interpolate(model, latents[0], latents[1], method, shape=latents.shape[1:], **options)
        found.append(one)
        frames[method] = decode(one.frames)
    return found, frames


def lengths(model, found: st.Interpolation, options: argparse.Namespace) -> str:
    """The geodesic's length beside that of the straight line between its ends, by the same probes."""
    if found.curve is None:
        return "The pictures are identical: length 0."
    eta = np.array(found.curve.eta)
    line = np.linspace(0, 1, len(eta))[:, None] * (eta[-1] - eta[0]) + eta[0]
    own, straight = (st.measureWithProbes(model, e, probes=options.probes, seed=options.seed + 1) for e in (eta, line))
    return (f"Fisher-Rao length at log-SNR {options.log_snr:g}: {own.length:.1f} ± {own.lengthError:.1f}, straight line {straight.length:.1f} ± {straight.lengthError:.1f}; lowest log-SNR "
            f"on the way {found.logSnr.min():.1f}; {found.evaluations:,} evaluations, {found.seconds:.0f} s" + ("" if found.converged else "; NOT CONVERGED"))


def run(model, encode, decode, pictures: np.ndarray, options: argparse.Namespace, title: str) -> None:
    """morph() for a program: writes the strip, an animation, the table and the frames."""
    present = [name for name in OUTPUTS if (options.out / name).exists()]
    if present and not options.overwrite:
        sys.exit(f"{options.out / present[0]} exists: replace it with --overwrite, or choose another folder with --out")
    options.out.mkdir(parents=True, exist_ok=True)
    found, frames = morph(model, encode, decode, pictures, progress=lambda text: print(text, flush=True), logSnr=options.log_snr, numFrames=options.frames, steps=options.steps,
                          probes=options.probes, seed=options.seed, measure=options.measure)
    table = st.interpolationReport(title, {"pair": found}, {"denoiser": title, "seed": options.seed}).table if options.measure else lengths(model, found[0], options)
    imageplots.savePicture(imageplots.strip(frames, title=title), options.out / "strip.png", overwrite=True)
    imageplots.saveGif(frames["spacetime"], options.out / "spacetime.gif", overwrite=True)
    (options.out / "table.txt").write_text(table + "\n")
    np.savez_compressed(options.out / "frames.npz", **{name: values.astype(np.float32) for name, values in frames.items()})
    print(table)
    print(f"written: {options.out / 'strip.png'}")
