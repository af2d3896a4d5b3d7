#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Small colour pictures to train on: the emoji of Debian's fonts-noto-color-emoji (Google's Noto Color Emoji, SIL Open Font License), drawn with Pillow.

    python emoji.py --out output-emoji              emoji.npy [K, 32, 32, 3] of bytes, emoji.json with their names, emoji.png to look at: seconds
    python emoji.py --out output-emoji --size 16    smaller ones
"""
from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
from PIL import Image, ImageDraw, ImageFont

OUTPUTS = ("emoji.npy", "emoji.json", "emoji.png")
FONT = "NotoColorEmoji.ttf"
FOLDERS = ("/usr/share/fonts/truetype/noto", "/usr/share/fonts/noto", "/usr/share/fonts/google-noto-emoji", "/usr/share/fonts", "~/.local/share/fonts", "~/.fonts", "~/Library/Fonts")
STRIKE = 109  # the size in which the font holds its bitmaps
SUPERSAMPLING = 8
#: Where single code points are pictures. Flags are pairs of the letters below U+1F200 and skin tones are of another category: neither is here.
RANGES = ((0x2300, 0x23FF), (0x2600, 0x27BF), (0x2B00, 0x2BFF), (0x1F300, 0x1FAFF))
HAIR = range(0x1F9B0, 0x1F9B4)  # components of other emoji, drawn in a dashed frame


def findFont(path: Optional[str] = None) -> Path:
    """The font's file: `path`, or what fontconfig or the usual folders have. Leaves the program where there is none."""
    if path is not None:
        if not Path(path).is_file():
            sys.exit(f"emoji.py: --font {path} is no file")
        return Path(path)
    if shutil.which("fc-match"):
        found = subprocess.run(["fc-match", "-f", "%{file}", "Noto Color Emoji"], capture_output=True, text=True).stdout
        if Path(found).name == FONT:
            return Path(found)
    for folder in FOLDERS:
        file = Path(folder).expanduser() / FONT
        if file.is_file():
            return file
    sys.exit(f"emoji.py: found no {FONT}. On Debian and Ubuntu: apt-get install fonts-noto-color-emoji. Or name a file with --font.")


def loadFont(path: Optional[str] = None) -> ImageFont.FreeTypeFont:
    file = findFont(path)
    try:
        return ImageFont.truetype(str(file), STRIKE)
    except OSError as e:
        sys.exit(f"emoji.py: {file} does not open as a font with bitmaps {STRIKE} pixels high, as {FONT} of fonts-noto-color-emoji has: {e}")


def draw(text: str, font: ImageFont.FreeTypeFont) -> Optional[Image.Image]:
    """The picture of one character on a transparent square that it fills in the longer direction; None where the font has none in colour."""
    canvas = Image.new("RGBA", (2 * STRIKE, 2 * STRIKE), (255, 255, 255, 0))
    ImageDraw.Draw(canvas).text((STRIKE // 2, STRIKE // 2), text, font=font, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        return None
    glyph = canvas.crop(box)
    square = Image.new("RGBA", (max(glyph.size),) * 2, (255, 255, 255, 0))
    square.paste(glyph, ((square.width - glyph.width) // 2, (square.height - glyph.height) // 2))
    return square


def onWhite(square: Image.Image, size: int, angle: float = 0.0) -> np.ndarray:
    """Bytes [size, size, 3] of a drawn character on white, turned by `angle` degrees, with a margin of one pixel in 32."""
    inner = size - 2 * max(1, size // 32)
    # As colours times alpha, so that a transparent pixel's colour bleeds into no edge.
    premultiplied = square.convert("RGBa")
    if angle:
        large = premultiplied.resize((inner * SUPERSAMPLING,) * 2, Image.Resampling.LANCZOS)
        premultiplied = large.rotate(angle, Image.Resampling.BILINEAR)
    picture = Image.new("RGB", (size, size), "white")
    small = premultiplied.resize((inner, inner), Image.Resampling.LANCZOS).convert("RGBA")
    picture.paste(small, ((size - inner) // 2,) * 2, small)
    return np.asarray(picture)


@dataclass
class EmojiSet:
    pictures: np.ndarray     #: bytes [K, size, size, 3]
    codePoints: list[int]
    names: list[str]         #: Unicode's
    duplicates: list[tuple[int, int]]  #: code point left out, and the one that it nearly is

    def find(self, name: str) -> int:
        """Index of the picture with this name, in any case, or of this code point written as U+1F600."""
        for i, (code, other) in enumerate(zip(self.codePoints, self.names)):
            if name.casefold() in (other.casefold(), f"u+{code:04x}"):
                return i
        near = [n for n in self.names if name.casefold() in n.casefold()]
        raise ValueError(f"EmojiSet: no picture is called {name!r}" + (f"; there are {', '.join(near[:5])}" if near else ""))


def render(name: str, font: ImageFont.FreeTypeFont, size: int = 32, angle: float = 0.0) -> np.ndarray:
    """Bytes [size, size, 3] of the emoji of that Unicode name, turned by `angle` degrees. ValueError where there is none."""
    try:
        square = draw(unicodedata.lookup(name), font)
    except KeyError:
        square = None
    if square is None:
        raise ValueError(f"render: the font draws nothing called {name!r} in colour")
    return onWhite(square, size, angle)


def renderAll(font: ImageFont.FreeTypeFont, size: int = 32, threshold: float = 2.5) -> EmojiSet:
    """Every single-character emoji of the font, by code point. One that is nearer than `threshold` (Euclid, pixels in [0, 1]) to an earlier one is left out."""
    pictures: list[np.ndarray] = []
    codes: list[int] = []
    duplicates: list[tuple[int, int]] = []
    kept = np.empty((0x1000, size * size * 3), np.float32)
    norms = np.empty(len(kept))
    for first, last in RANGES:
        for code in range(first, last + 1):
            # Cn: newer than this Python's tables. The set depends on the font alone.
            if unicodedata.category(chr(code)) not in ("So", "Cn") or code in HAIR:
                continue
            square = draw(chr(code), font)
            if square is None:
                continue
            picture = onWhite(square, size)
            flat = picture.reshape(-1).astype(np.float32) / 255
            if codes:
                # |p - q|^2 = |p|^2 + |q|^2 - 2 p.q by one product; what is nearly a duplicate is then measured.
                earlier = kept[:len(codes)]
                squares = norms[:len(codes)] + float(flat @ flat) - 2 * (earlier @ flat)
                nearest = int(squares.argmin())
                if np.linalg.norm(earlier[nearest] - flat) < threshold:
                    duplicates.append((code, codes[nearest]))
                    continue
            kept[len(codes)], norms[len(codes)] = flat, flat @ flat
            pictures.append(picture)
            codes.append(code)
    if not pictures:
        sys.exit("emoji.py: the font draws none of the emoji in colour. Is it fonts-noto-color-emoji's?")
    return EmojiSet(np.stack(pictures), codes, [nameOf(c) for c in codes], duplicates)


def nameOf(code: int) -> str:
    return unicodedata.name(chr(code), "").lower() or f"U+{code:04X}"


def sheet(pictures: np.ndarray, columns: int = 40, margin: int = 2) -> Image.Image:
    """All pictures on one, row by row."""
    count, height, width = pictures.shape[:3]
    result = Image.new("RGB", (columns * (width + margin) + margin, -(-count // columns) * (height + margin) + margin), "white")
    for i, picture in enumerate(pictures):
        result.paste(Image.fromarray(picture), (margin + i % columns * (width + margin), margin + i // columns * (height + margin)))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output-emoji"), help="folder to write into")
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=2.5, help="leave out pictures nearer than this to an earlier one, Euclid over pixels in [0, 1] (default: %(default)s)")
    parser.add_argument("--font", help=f"the file {FONT}, where it is not found")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    if not 8 <= args.size <= 128:
        parser.error("--size: expected 8 to 128 pixels")
    present = [name for name in OUTPUTS if (args.out / name).exists()]
    if present and not args.overwrite:
        sys.exit(f"emoji.py: {args.out / present[0]} exists. Replace it with --overwrite, or choose another folder with --out.")
    emoji = renderAll(loadFont(args.font), args.size, args.threshold)
    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "emoji.npy", emoji.pictures)
    (args.out / "emoji.json").write_text(json.dumps([{"code": f"U+{c:04X}", "name": n} for c, n in zip(emoji.codePoints, emoji.names)], indent=0) + "\n")
    sheet(emoji.pictures).save(args.out / "emoji.png")
    print(f"{len(emoji.names)} pictures of {args.size} x {args.size} in {args.out}/ ({len(emoji.duplicates)} left out as nearly the same as another)")


if __name__ == "__main__":
    main()
