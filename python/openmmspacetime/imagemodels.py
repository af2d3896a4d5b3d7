# SPDX-License-Identifier: MIT
"""Denoisers of pictures: training them, and opening any model file of this program."""
from __future__ import annotations

import os
import tempfile
from typing import Callable, Sequence, Union, cast

import numpy as np

from . import _core


def loadModel(path: str | os.PathLike, device: str = "cpu") -> _core.NetworkModel | _core.ImageModel:
    """Open a safetensors model file, whichever kind it holds.

    Parameters
    ----------
    path : path
    device : {'cpu', 'cuda'}
        Where a model of pictures is evaluated; models of collective variables are on the CPU.

    Returns
    -------
    NetworkModel or ImageModel

    Raises
    ------
    ValueError
        For files that are no model of this program, or damaged.
    RuntimeError
        For a model of pictures where LibTorch does not load; the message says what to install.
    """
    return cast(Union[_core.NetworkModel, _core.ImageModel], _core.loadModel(os.fspath(path), device))


def _fractions(pixels) -> np.ndarray:
    """Pictures as [K, H, W, C] floats in [0, 1]."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4:
        raise ValueError(f"trainImages: expected pictures [K, H, W] or [K, H, W, C], got an array of shape {pixels.shape}")
    return pixels / 255.0 if pixels.dtype == np.uint8 else pixels


def trainImages(
    pixels,
    out: str | os.PathLike | None = None,
    steps: int | None = None,
    batch: int | None = None,
    seed: int = 1,
    device: str = "cpu",
    flips: bool = False,
    heldOut: float | None = None,
    minLogSnr: float | None = None,
    maxLogSnr: float | None = None,
    learningRate: float | None = None,
    patch: int | None = None,
    channels: int | None = None,
    multipliers: Sequence[int] | None = None,
    blocks: int | None = None,
    threads: int = 0,
    reportEvery: int | None = None,
    command: str = "",
    progress: Callable[[int, int, float, float], bool | None] | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> _core.ImageModel:
    """Train a denoiser of pictures (in C++ with LibTorch) and return it.

    A U-Net learns to predict clean pictures from noisy ones, with the preconditioning and the weights of EDM (Karras et al., arXiv:2206.00364, Table 1).
    For four fifths of the pictures the logarithm of the noise is drawn from a normal distribution, as there, with mean -1 and standard deviation 1.4;
    for the others log-SNR is uniform in the trained range, because geodesics go where samplers do not.

    Parameters
    ----------
    pixels : array [K, H, W] or [K, H, W, C]
        Numbers in [0, 1], or bytes; 1 or 3 channels; at least 16 pictures.
    out : path, optional
        Model file to write, `.safetensors`; a temporary one by default.
    steps, batch : int, optional
        Optimiser steps (2000) and pictures a step (64).
    seed : int
        Same seed, device and number of threads, same network.
    device : {'cpu', 'cuda'}
    flips : bool
        Mirror every second picture, at random.
    heldOut : float, optional
        Share of the pictures that is never trained on, chosen by the seed (0.05).
    minLogSnr, maxLogSnr : float, optional
        Trained range of log-SNR (-6 to 9).
    learningRate : float, optional
        Of Adam, after a warm-up and before it falls along a cosine (0.002).
    patch : int, optional
        Squares of this many pixels a side become channels of one: the finest level then costs a quarter, for 2.
    channels : int, optional
        At the first level. All four have defaults that suit the size of the pictures.
    multipliers : sequence of int, optional
        Of the channels, one a level; each level halves the resolution.
    blocks : int, optional
        Residual blocks a level, on the way down and on the way up.
    threads : int
        0 for all cores.
    reportEvery : int, optional
        Steps between reports (50).
    command : str
        Written to the training record.
    progress : callable(step, steps, loss, heldOut), optional
        The loss since the last report and that of the averaged weights on the pictures held out (NaN where there are none). Return False to stop early
        and keep what was learned. Ctrl-C keeps it too, before it is raised.
    overwrite : bool
        Replace an existing file.
    resume : bool
        Go on from `out`.checkpoint, which training writes every half minute and when it is stopped, as if it had never been.

    Raises
    ------
    ValueError
        For wrong shapes, NaN, values outside [0, 1], fewer than 16 pictures, pictures that are all the same, sides that the levels do not divide,
        an existing `out` without `overwrite` or `resume`, or a checkpoint of other pictures or options.
    RuntimeError
        Where LibTorch does not load, with what to install, or the loss is no longer finite.
    """
    pixels = _fractions(pixels)
    temporary = None
    if out is None:
        if resume:
            raise ValueError("resume goes with `out`: the checkpoint lies beside the model file")
        temporary = tempfile.TemporaryDirectory()
        path = os.path.join(temporary.name, "model.safetensors")
    else:
        path = os.fspath(out)
        if os.path.exists(path) and not (overwrite or resume):
            raise ValueError(f"'{path}' exists: choose another name or pass overwrite=True")
    options = _core.ImageTrainingOptions(*pixels.shape[1:])
    shape = dict(patch=patch, channels=channels, multipliers=None if multipliers is None else list(multipliers), blocks=blocks)
    options.unet = options.unet | {name: value for name, value in shape.items() if value is not None}
    given = dict(steps=steps, batch=batch, seed=seed, device=device, flips=flips, heldOut=heldOut, minLogSnr=minLogSnr, maxLogSnr=maxLogSnr, learningRate=learningRate,
                 threads=threads, reportEvery=reportEvery, command=command, resume=resume)
    for name, value in given.items():
        if value is not None:
            setattr(options, name, value)
    try:
        _core.trainImages(pixels, path, options, progress)
        return _core.ImageModel.load(path, device)
    finally:
        if temporary is not None:
            temporary.cleanup()
