# SPDX-License-Identifier: MIT
"""What committors of frames come out as, with their binomial errors."""
from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, Dict, List, Union

import numpy as np

from . import ensemble
from .analysis import _meanError
from .report import _plain
from .transitionframes import _FRAME_COLUMNS, TransitionFrames

__all__ = ["CommittorResult", "TransitionStates"]

FORMAT, VERSION = "spacetime-committor", 1
#: What "near 1/2" means in the share of frames.
NEAR = (0.4, 0.6)
NORMAL = NormalDist()


@dataclass
class CommittorResult:
    """Committors of K frames.

    Attributes
    ----------
    nA, nB, nUndecided : ndarray of int [K]
        Trajectories that reached A first, B first, and neither within `maxSteps`.
    nBroken : ndarray of int [K]
        How many of the undecided ones broke down (NaN, a constraint that cannot be met).
    steps : ndarray [K]
        Mean number of time steps of the trajectories that reached a state; NaN where none did.
    path, frame, step : ndarray of int [K]
        Where the frames come from, as in TransitionFrames; -1 where that is not known.
    s : ndarray [K]
    height : ndarray [K]
    variables : ndarray [K, n]
        Raw values of the frames.
    names : list of str
    shots, maxSteps, seed : int
        As given.
    source : str
        How the frames were chosen.
    """

    nA: np.ndarray
    nB: np.ndarray
    nUndecided: np.ndarray
    nBroken: np.ndarray = field(repr=False)
    steps: np.ndarray = field(repr=False)
    path: np.ndarray = field(repr=False)
    frame: np.ndarray = field(repr=False)
    step: np.ndarray = field(repr=False)
    s: np.ndarray = field(repr=False)
    height: np.ndarray = field(repr=False)
    variables: np.ndarray = field(repr=False)
    names: List[str]
    shots: int
    maxSteps: int
    seed: int
    source: str

    def __len__(self) -> int:
        return len(self.nA)

    @property
    def p(self) -> np.ndarray:
        """n_B/(n_A + n_B) [K]; NaN where no trajectory reached a state."""
        decided = self.nA+self.nB
        return np.where(decided > 0, self.nB/np.maximum(decided, 1), np.nan)

    def interval(self, level: float = 0.95) -> np.ndarray:
        """Wilson's interval of each p, [K, 2]: where p may be, given the counts. It is never of width zero, also where all went to one side.

        Wilson, J. Am. Stat. Assoc. 22, 209 (1927).
        """
        if not 0 < level < 1:
            raise ValueError(f"CommittorResult.interval: expected a level between 0 and 1, got {level}")
        z, n, p = NORMAL.inv_cdf((1+level)/2), np.maximum(self.nA+self.nB, 1), self.p
        center = (p+z*z/(2*n))/(1+z*z/n)
        half = z/(1+z*z/n)*np.sqrt(p*(1-p)/n+z*z/(4*n*n))
        return np.stack([np.maximum(center-half, 0), np.minimum(center+half, 1)], axis=1)

    @property
    def error(self) -> np.ndarray:
        """Standard errors [K]: half the width of Wilson's interval at 68.3 %, the binomial error that does not vanish at p = 0 and 1."""
        low, high = self.interval(math.erf(math.sqrt(0.5))).T
        return (high-low)/2

    @property
    def mean(self) -> float:
        """Mean of p over the frames."""
        return float(np.nanmean(self.p)) if np.isfinite(self.p).any() else math.nan

    @property
    def meanError(self) -> float:
        """Standard error of the mean from the scatter of the frames, which holds for the population that they were drawn from."""
        return _meanError(self.p[np.isfinite(self.p)])[1] if np.isfinite(self.p).any() else math.nan

    @property
    def meanBinomialError(self) -> float:
        """Standard error of the mean for these very frames: only the trajectories are random."""
        p, n = self.p, self.nA+self.nB
        known = n > 0
        return float(np.sqrt(np.sum(p[known]*(1-p[known])/n[known]))/known.sum()) if known.any() else math.nan

    @property
    def shareNear(self) -> float:
        """Share of the frames with p from 0.4 to 0.6."""
        p = self.p[np.isfinite(self.p)]
        return float(np.mean((p > NEAR[0]-1e-9) & (p < NEAR[1]+1e-9))) if len(p) else math.nan

    @property
    def undecided(self) -> float:
        """Share of all trajectories that reached neither state."""
        return float(self.nUndecided.sum()/(len(self)*self.shots))

    @property
    def varianceRatio(self) -> float:
        """Variance of p over the frames by the binomial one: 1 where all frames have the same committor, within sqrt(2/(K-1)); larger where they differ."""
        n = self.nA+self.nB
        known = n > 0
        if known.sum() < 2:
            return math.nan
        pool = self.nB.sum()/n.sum()
        binomial = np.mean(pool*(1-pool)/n[known])
        return float(self.p[known].var(ddof=1)/binomial) if binomial > 0 else math.nan

    @property
    def table(self) -> str:
        """One line a frame, and the summary."""
        width = max([len(x) for x in self.names]+[7])
        head = f"{'path':>5} {'frame':>6} {'s':>6} "+"".join(f"{x:>{width}} " for x in self.names)+f"{'n_A':>5} {'n_B':>5} {'none':>5}  {'p':>5}   ±     95 % interval  steps"
        rows = [head, "-"*len(head)]
        low, high = self.interval().T
        for i in range(len(self)):
            rows.append(f"{'-' if self.path[i] < 0 else self.path[i]:>5} {self.frame[i]:>6} "+(f"{self.s[i]:6.3f} " if np.isfinite(self.s[i]) else f"{'-':>6} ")
                        + "".join(f"{x:{width}.3f} " for x in self.variables[i])+f"{self.nA[i]:5} {self.nB[i]:5} {self.nUndecided[i]:5}  "
                        + (f"{self.p[i]:5.3f} {self.error[i]:5.3f}   {low[i]:5.3f} to {high[i]:5.3f} {self.steps[i]:6.0f}" if np.isfinite(self.p[i]) else "  -"))
        return "\n".join(rows+["", self.summary()])

    def summary(self) -> str:
        """A few lines of text."""
        decided = np.isfinite(self.steps)
        n = (self.nA+self.nB)[decided]
        lines = [f"{len(self)} frames ({self.source}) x {self.shots} trajectories, seed {self.seed}",
                 f"mean committor {self.mean:.3f} ± {self.meanError:.3f} from the scatter of the frames (± {self.meanBinomialError:.3f} binomial, for these frames)",
                 f"{self.shareNear:.0%} of the frames within {NEAR[0]:g} to {NEAR[1]:g}; variance of p {self.varianceRatio:.1f} times the binomial one "
                 f"(1 ± {math.sqrt(2/max(len(self)-1, 1)):.1f} where all frames have one committor)"]
        if decided.any():
            lines.append(f"{np.sum(self.steps[decided]*n)/n.sum():.0f} steps to a state on average; {self.undecided:.1%} undecided after {self.maxSteps:,} steps")
        else:
            lines.append(f"all trajectories were undecided after {self.maxSteps:,} steps")
        return "\n".join(lines)

    def asDict(self) -> Dict[str, Any]:
        """Plain numbers and lists, for JSON: what was measured, and the figures that follow from it."""
        content: Dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for name in ("shots", "maxSteps", "seed", "source", "names"):
            content[name] = getattr(self, name)
        for name in (*_COUNTS, "steps", *_FRAME_COLUMNS):
            content[name] = getattr(self, name)
        content["variables"] = self.variables
        content["p"], content["error"], content["interval95"] = self.p, self.error, self.interval()
        for name in ("mean", "meanError", "meanBinomialError", "shareNear", "varianceRatio", "undecided"):
            content[name] = getattr(self, name)
        return _plain(content)

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write a JSON file, which :meth:`load` reads."""
        ensemble.replace(Path(path), lambda file: file.write(json.dumps(self.asDict(), indent=1).encode()))

    @classmethod
    def load(cls, path: Union[str, os.PathLike]) -> CommittorResult:
        """Read what :meth:`save` has written.

        Raises
        ------
        ValueError
            It is another kind of file.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls._fromDict(content, path)

    @classmethod
    def _fromDict(cls, content: Any, path: Any) -> CommittorResult:
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise ValueError(f"CommittorResult: {path} is not a file of committors, version {VERSION}")
        K = len(content["nA"])
        arrays: Dict[str, Any] = {name: np.array(content[name], dtype=int) for name in (*_COUNTS, "path", "frame", "step")}
        arrays.update({name: np.array([math.nan if x is None else x for x in content[name]], dtype=float) for name in ("steps", "s", "height")})
        return cls(**arrays, variables=np.array(content["variables"], dtype=float).reshape(K, -1),
                   **{name: content[name] for name in ("shots", "maxSteps", "seed", "source", "names")})


_COUNTS = ("nA", "nB", "nUndecided", "nBroken")


@dataclass
class TransitionStates:
    """Transition states that a first set of trajectories selected and a second one judged.

    Attributes
    ----------
    frames : TransitionFrames
    first : CommittorResult
        What the first set said of the selected frames. Close to 1/2 by selection: not to be quoted.
    second : CommittorResult
        What the second, independent set says of the same frames: the result.
    probes : int
        Trajectories of the first set in all, those from frames that were not selected included.
    """

    frames: TransitionFrames
    first: CommittorResult
    second: CommittorResult
    probes: int

    def summary(self) -> str:
        """A few lines of text, both sets."""
        return (f"second set, independent of the choice:\n{_indent(self.second.summary())}\n"
                f"first set, which chose the frames ({self.probes:,} trajectories with those from other frames) and is closer to 1/2 for that reason:\n{_indent(self.first.summary())}")

    @property
    def table(self) -> str:
        """One line a frame from the second set, and the summary of both."""
        rows = self.second.table[:-len(self.second.summary())].splitlines()
        for i in range(len(self.first)):
            rows[i+2] += f"   {self.first.p[i]:5.3f}"
        rows[0] += "  1st p"
        rows[1] += "-------"
        return "\n".join(rows)+"\n"+self.summary()

    def asDict(self) -> Dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return {"first": self.first.asDict(), "second": self.second.asDict(), "probes": self.probes}

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write both sets to a JSON file. The positions go to a file of their own: `frames.save`."""
        ensemble.replace(Path(path), lambda file: file.write(json.dumps(self.asDict(), indent=1).encode()))


def _indent(text: str) -> str:
    return "\n".join("  "+line for line in text.splitlines())
