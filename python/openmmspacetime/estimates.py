# SPDX-License-Identifier: MIT
"""What every estimate has: a number with its standard error, and text and JSON made of it."""
from __future__ import annotations

import logging
import math
from typing import Any, List, NamedTuple, Sequence

__all__ = ["Estimate"]


def _pymbar() -> Any:
    """pymbar, imported without its advertisements: one for JAX, which it does without, and one for its timeseries module."""
    logger = logging.getLogger("pymbar")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import pymbar
        import pymbar.other_estimators
    except ImportError as e:
        raise ImportError("openmmspacetime's estimators need pymbar 4: pip install pymbar") from e
    finally:
        logger.setLevel(before)
    return pymbar


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return _plusMinus(self.value, self.error)


def _plusMinus(value: float, error: float = math.nan) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{round(value, 2)+0.0:.2f}"+(f" +- {error:.2f}" if math.isfinite(error) else "")  # + 0.0 makes -0 a 0


def _aligned(rows: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
