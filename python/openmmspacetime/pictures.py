# SPDX-License-Identifier: MIT
"""Files of pictures as arrays, and arrays as PNG files."""
from __future__ import annotations

import dataclasses
import os

import numpy as np

from . import _core


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Pictures of one size.

    Attributes
    ----------
    pixels : array [K, H, W, C]
        Values in [0, 1]; C is 1 (grey) or 3 (red, green, blue).
    names : list of str
        File names, in order; 'array[k]' for those of an array.
    skipped : list of str
        Files that were left out, 'name: reason'.
    """

    pixels: np.ndarray
    names: list[str]
    skipped: list[str]

    def __len__(self) -> int:
        return len(self.pixels)


def _read(path, size, channels, resize, background, skipUnreadable, single) -> ImageSet:
    height, width = (0, 0) if size is None else (int(size), int(size)) if np.ndim(size) == 0 else (int(n) for n in size)
    return ImageSet(*_core.readImages(os.fspath(path), height, width, 0 if channels is None else int(channels), bool(resize), float(background), bool(skipUnreadable), single))


def readImage(
    path: str | os.PathLike,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: bool = False,
    background: float = 1.0,
) -> np.ndarray:
    """One PNG, JPEG, BMP, GIF (its first frame), TGA or binary PNM file.

    Parameters
    ----------
    path : path
    size : int or (height, width), optional
        Expected; its own by default.
    channels : 1 or 3, optional
        Grey becomes colour and colour grey (Rec. 601 luma: 0.299 red + 0.587 green + 0.114 blue). Its own by default.
    resize : bool
        Scale a picture of another size to fit, its sides in proportion, on the background; otherwise it is refused.
    background : float
        Grey level in [0, 1] behind transparent pixels and at the sides of a picture that was scaled.

    Returns
    -------
    array [H, W, C]
        Values in [0, 1].

    Raises
    ------
    ValueError
        Naming the file that is no picture, damaged, cut off, larger than 64 megapixels, or of another size than expected.
    """
    return _read(path, size, channels, resize, background, False, True).pixels[0]


def readImages(
    path: str | os.PathLike,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: bool = False,
    background: float = 1.0,
    skipUnreadable: bool = False,
) -> ImageSet:
    """The pictures of a folder by name, of a .npy file, or of one picture file.

    Parameters
    ----------
    path : path
        A folder (files with other endings than .png, .jpg, .jpeg, .bmp, .gif, .tga, .pnm, .pgm and .ppm are passed over), a .npy file [K, H, W] or
        [K, H, W, C] of numbers in [0, 1] or of bytes, or a picture.
    size, channels, resize, background
        As for `readImage`; the default size and channels are those of the first picture.
    skipUnreadable : bool
        Leave out files of a folder that cannot be read or do not fit, and name them in `ImageSet.skipped`; otherwise the first is an error.

    Returns
    -------
    ImageSet

    Raises
    ------
    ValueError
        As `readImage` does; for a folder without a readable picture; for arrays of other shapes and values that are not numbers in [0, 1].
    """
    return _read(path, size, channels, resize, background, skipUnreadable, False)


def writePng(path: str | os.PathLike, image: np.ndarray, overwrite: bool = False) -> None:
    """Write a picture [H, W], [H, W, 1] or [H, W, 3] of values in [0, 1], which are clipped to that, as a PNG file of 8 bits.

    Raises
    ------
    ValueError
        For an existing file without `overwrite`, other shapes, and values that are not a number.
    """
    image = np.asarray(image)
    _core.writePng(os.fspath(path), image[..., None] if image.ndim == 2 else image, bool(overwrite))
