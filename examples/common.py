# SPDX-License-Identifier: MIT
"""What the studies in this folder share: the lines they print while they run, and an output folder that nobody loses results in."""
from __future__ import annotations

import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Sequence


class Progress:
    """Numbered steps with elapsed wall and CPU time; a moving line at a terminal, one line in ten seconds elsewhere."""

    def __init__(self, total: int):
        self.total, self.number, self.start = total, 0, time.time()
        self.live = sys.stdout.isatty()
        self.last = 0.0

    def step(self, title: str) -> None:
        self.number += 1
        self._clear()
        print(f"\n[{self.number}/{self.total}] {title}  ({self.time()})", flush=True)
        self.last = time.time()

    def time(self) -> str:
        """Wall time, and CPU time of this process and of those that it has waited for."""
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return f"{time.time() - self.start:.0f} s, CPU {own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime:.0f} s"

    def show(self, text: str) -> None:
        now = time.time()
        if now - self.last < (0.2 if self.live else 10.0):
            return
        self.last = now
        if self.live:
            print(f"\r      {text}\x1b[K", end="", flush=True)
        else:
            print(f"      {text}", flush=True)

    def steps(self, done: int, total: int) -> None:
        """For samplers that count time steps."""
        self.show(f"{done:,} of {total:,} steps, {time.time() - self.start:.0f} s")

    def say(self, text: str) -> None:
        self._clear()
        print("\n".join("      " + line for line in text.split("\n")), flush=True)

    def _clear(self) -> None:
        if self.live:
            print("\r\x1b[K", end="")


def prepareOutput(out: Path, outputs: Sequence[str], overwrite: bool) -> None:
    """Make the folder; refuse to touch earlier results unless `overwrite`, and then remove only the `outputs` that the script writes."""
    present = [name for name in outputs if (out / name).exists()]
    if present and not overwrite:
        sys.exit(f"run.py: {out}/ already holds results ({', '.join(present[:3])}{', ...' if len(present) > 3 else ''}). "
                 "Choose another folder with --out, or replace them with --overwrite.")
    for name in present:
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    out.mkdir(parents=True, exist_ok=True)
