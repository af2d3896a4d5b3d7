# SPDX-License-Identifier: MIT
"""Strips, sheets and animations of pictures, and figures of their distances. Needs Pillow, and matplotlib for the figures."""
from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np

from .ensemble import replace

if TYPE_CHECKING:
    from .editdistance import EditDistances

__all__ = ["distanceMatrix", "embedding", "saveGif", "savePicture", "sheet", "strip"]

_GAP, _TEXT = 3, (27, 31, 36)


def _image(picture: np.ndarray, scale: int):
    """A Pillow image of values [H, W, C], enlarged smoothly: squares of a few pixels are harder to read than the picture that they stand for."""
    from PIL import Image

    values = np.asarray(picture, dtype=float)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3) or np.isnan(values).any():
        raise ValueError(f"expected a picture [H, W], [H, W, 1] or [H, W, 3] of numbers, got shape {np.shape(picture)}" + (" with NaN" if values.ndim == 3 else ""))
    bytes_ = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    image = Image.fromarray(np.repeat(bytes_, 3, axis=2) if bytes_.shape[2] == 1 else bytes_)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)


def _scale(shape: Sequence[int], scale: int | None, target: int = 64) -> int:
    return max(1, round(target / max(shape[:2]))) if scale is None else int(scale)


def _font(size: int):
    from PIL import ImageFont

    try:
        import matplotlib

        return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
    except (ImportError, OSError):
        return ImageFont.load_default(size)


def strip(rows: Mapping[str, np.ndarray], scale: int | None = None, columns: int | None = None, captions: Sequence[str] | None = None, title: str = ""):
    """Sequences of pictures below each other, each with its name.

    Parameters
    ----------
    rows : mapping from names to arrays [F, H, W, C]
        Values in [0, 1], clipped to that. All pictures of one size.
    scale : int, optional
        Pixels of the strip a pixel of the pictures; by default such that a picture is about 64 high.
    columns : int, optional
        Show so many of the frames, evenly, with both ends; all by default.
    captions : sequence of str, optional
        One above each column.
    title : str

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    ValueError
        For pictures of different sizes, or NaN.
    """
    from PIL import Image, ImageDraw

    if not rows:
        raise ValueError("strip: expected at least one row of pictures, got none")
    arrays = {name: np.asarray(frames, dtype=float) for name, frames in rows.items()}
    shapes = {frames.shape[1:] for frames in arrays.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise ValueError(f"strip: expected rows [F, H, W, C] of pictures of one size, got {', '.join(f'{n} {f.shape}' for n, f in arrays.items())}")
    if columns is not None:
        arrays = {name: frames[np.round(np.linspace(0, len(frames) - 1, min(columns, len(frames)))).astype(int)] for name, frames in arrays.items()}
    (height, width, _), = shapes
    scale = _scale((height, width), scale)
    tileWidth, tileHeight = width * scale + _GAP, height * scale + _GAP
    size = 15
    font, small = _font(size), _font(12)
    left = 14 + max(int(font.getlength(name)) for name in arrays)
    top = _GAP + (size + 10 if title else 0) + (18 if captions else 0)
    count = max(len(frames) for frames in arrays.values())
    page = Image.new("RGB", (left + count * tileWidth + _GAP, top + len(arrays) * tileHeight), "white")
    draw = ImageDraw.Draw(page)
    if title:
        draw.text((6, 4), title, font=font, fill=_TEXT)
    for c, caption in enumerate(captions or ()):
        draw.text((left + c * tileWidth + tileWidth // 2, top - 3), caption, font=small, fill=_TEXT, anchor="ms")
    for r, (name, frames) in enumerate(arrays.items()):
        y = top + r * tileHeight
        draw.text((left - 8, y + tileHeight // 2), name, font=font, fill=_TEXT, anchor="rm")
        for c, frame in enumerate(frames):
            page.paste(_image(frame, scale), (left + c * tileWidth, y))
    return page


def sheet(pictures: np.ndarray, columns: int = 10, scale: int | None = None):
    """All pictures [K, H, W, C] on one, row by row: a PIL.Image.Image."""
    from PIL import Image

    pictures = np.asarray(pictures)
    scale = _scale(pictures.shape[1:], scale)
    height, width = (n * scale + _GAP for n in pictures.shape[1:3])
    page = Image.new("RGB", (min(columns, len(pictures)) * width + _GAP, -(-len(pictures) // columns) * height + _GAP), "white")
    for k, picture in enumerate(pictures):
        page.paste(_image(picture, scale), (_GAP + k % columns * width, _GAP + k // columns * height))
    return page


def _bytes(path: Path, data: bytes, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ValueError(f"'{path}' exists: choose another name or pass overwrite=True")
    replace(path, lambda handle: handle.write(data))


def savePicture(image, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write what `strip` or `sheet` made as PNG. ValueError where the file exists and `overwrite` is False."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    _bytes(Path(path), buffer.getvalue(), overwrite)
    return Path(path)


def saveGif(frames: np.ndarray, path: str | os.PathLike, scale: int | None = None, seconds: float = 2.0, overwrite: bool = False) -> Path:
    """Write frames [F, H, W, C] as an animation that goes there and back for ever, `seconds` each way. ValueError where the file exists and `overwrite` is False."""
    from PIL import Image

    frames = np.asarray(frames)
    images = [_image(frame, _scale(frames.shape[1:], scale, 160)) for frame in frames]
    images += images[-2:0:-1]
    # One palette for all, or colours flicker.
    together = Image.new("RGB", (images[0].width, images[0].height * len(frames)))
    for k, image in enumerate(images[:len(frames)]):
        together.paste(image, (0, k * image.height))
    palette = together.quantize(256, method=Image.Quantize.MEDIANCUT)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    pause, step = 500, round(1000 * seconds / len(frames))
    durations = [step] * len(images)
    durations[0] = durations[len(frames) - 1] = pause
    buffer = io.BytesIO()
    images[0].save(buffer, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    _bytes(Path(path), buffer.getvalue(), overwrite)
    return Path(path)


def _place(axis, picture: np.ndarray, at, zoom: float, colour: str = "none") -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    values = np.clip(picture, 0, 1)
    image = OffsetImage(np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values, zoom=zoom, interpolation="bicubic")
    axis.add_artist(AnnotationBbox(image, at, pad=0.1, frameon=colour != "none", bboxprops=dict(edgecolor=colour, linewidth=1.2)))


def embedding(distances: EditDistances, labels: Sequence | None = None, kinds: Sequence[str] = ("DiffED", "Euclid")):
    """Maps of the pictures, one a kind of distance, on which the pictures lie as far apart as two dimensions allow (`classicalScaling`).

    Parameters
    ----------
    distances : EditDistances
    labels : sequence [K], optional
        Give the frames of the pictures their colours.
    kinds : sequence of str
        Of EditDistances.matrices.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from .plotstyle import _STYLE, COLOURS

    colours = ["none"] * len(distances.names)
    if labels is not None:
        palette = [*COLOURS, "#F0E442", "#44AA99"]
        colours = [palette[list(dict.fromkeys(labels)).index(label) % len(palette)] for label in labels]
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6 * len(kinds), 4.6), layout="constrained")
        for axis, kind in zip(np.atleast_1d(figure.subplots(1, len(kinds))), kinds):
            points, share = distances.embedding(kind)
            axis.plot(*points.T, ",", alpha=0)
            for picture, point, colour in zip(distances.pictures, points, colours):
                _place(axis, picture, point, 22 / max(picture.shape[:2]), colour)
            axis.margins(0.12)
            axis.set_aspect("equal", "datalim")
            title = f"DiffED at log-SNR {distances.logSnr:g}" if kind == "DiffED" else kind
            axis.set(title=f"{title} (two dimensions show {100 * share:.0f} %)", xticks=[], yticks=[])
            for side in ("left", "bottom"):
                axis.spines[side].set_visible(False)
    return figure


def distanceMatrix(distances: EditDistances, kinds: Sequence[str] = ("DiffED", "Euclid")):
    """The matrices of distances as colours, with the pictures along their sides. Returns a matplotlib Figure."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from .plotstyle import _STYLE

    K = len(distances.names)
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.9 * len(kinds), 4.6), layout="constrained")
        for axis, kind in zip(np.atleast_1d(figure.subplots(1, len(kinds))), kinds):
            d = np.array(distances.matrices()[kind], dtype=float)
            np.fill_diagonal(d, math.nan)
            image = axis.imshow(d, cmap="viridis", interpolation="nearest")
            figure.colorbar(image, ax=axis, shrink=0.75, label=f"{kind}" + (f", ends at log-SNR {distances.logSnr:g}" if kind == "DiffED" else ""))
            for k, picture in enumerate(distances.pictures):
                zoom = 230 / K / max(picture.shape[:2]) * 0.8
                _place(axis, picture, (k, -1.0), zoom)
                _place(axis, picture, (-1.0, k), zoom)
            axis.set(xlim=(-1.6, K - 0.5), ylim=(K - 0.5, -1.6), xticks=[], yticks=[])
            for side in ("left", "bottom"):
                axis.spines[side].set_visible(False)
    return figure
