# SPDX-License-Identifier: MIT
r"""Committors: from a frame, how many unbiased trajectories reach B before A?

The committor of a configuration X is the probability that dynamics started from it, with velocities drawn from the Boltzmann distribution, enter the state B before the
state A (Du, Pande, Grosberg, Tanaka and Shakhnovich, J. Chem. Phys. 108, 334, 1998). A transition state has 1/2. With n trajectories of which n_B reach B

.. math:: p = n_B / (n_A + n_B),

with binomial errors. Frames that are chosen because a few trajectories gave p near 1/2 owe some of that to chance, and come out farther from 1/2 when they are shot again.
So :func:`transitionStates` chooses with a first set of trajectories and reports from a second one, with random numbers of its own.
"""
from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import tempfile
import warnings
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import openmm
from openmm import app, unit

from . import ensemble, openmm_wrapper
from .analysis import _difference, _meanError, _number
from .force import SpacetimeForce
from .sampling import PathEnsemble, _Progress, runTasks, seedEverything, templateOf

__all__ = ["CommittorResult", "StateRegion", "TransitionFrames", "TransitionStates", "committor", "transitionStateCandidates", "transitionStates"]

FORMAT, VERSION = "spacetime-committor", 1
#: More trajectories than this share that reach neither state make p uncertain in a way that no error bar shows.
UNDECIDED = 0.05
#: Steps between two looks at whether a state was reached at any of them. Trajectories run on for as long as that, and shots from a frame share random numbers on the
#: Reference platform: another number gives other trajectories.
BLOCK = 50
#: What "near 1/2" means in the share of frames.
NEAR = (0.4, 0.6)
NORMAL = NormalDist()
# Random numbers of the trajectories that select, and of those that report: never the same, whatever the seed.
_REPORT, _SELECT = 0, 1


# ---- states

class StateRegion:
    """A state: one or several discs around points, in the raw units of the variables (rad, nm), periodic variables the short way round.

    Parameters
    ----------
    center : array [n] or [k, n]
        Centre of the disc, or of each.
    radius : float or array [k]
        Radius, rad or nm or Quantity.
    variables : Variables, SpacetimeForce or PathEnsemble, optional
        Where the periods come from.
    periods : array [n], optional
        The periods themselves, 0 for variables that are not periodic. When both are left out they are those of the force that the state is used with.
    name : str
        For messages.

    Raises
    ------
    ValueError
        Shapes do not fit, a number is not finite, or a radius is not positive.

    Notes
    -----
    ``a | b`` is the union of two states. A state may also be any function from points [K, n] to bools [K]; with several processes it must be picklable.
    """

    def __init__(self, center: Any, radius: Any, variables: Any = None, periods: Any = None, name: str = "") -> None:
        plain = np.array([_number(x) for x in np.array(center, dtype=object).ravel()])
        self.centers = plain.reshape(-1, np.shape(center)[-1]) if np.ndim(center) in (1, 2) and plain.size else np.zeros((0, 0))
        radii = np.array([_number(r) for r in np.array(radius, dtype=object).ravel()])
        self.name = name
        if len(self.centers) == 0:
            raise ValueError(f"StateRegion: expected a centre [n] or centres [k, n], got shape {np.shape(center)}")
        if len(radii) not in (1, len(self.centers)):
            raise ValueError(f"StateRegion: expected one radius or one for each of the {len(self.centers)} centres, got {len(radii)}")
        self.radii = np.broadcast_to(radii, len(self.centers)).copy()
        if not (np.all(np.isfinite(self.centers)) and np.all(np.isfinite(self.radii)) and np.all(self.radii > 0)):
            raise ValueError(f"StateRegion: expected finite centres and positive radii, got {self.centers.tolist()} and {self.radii.tolist()}")
        self.periods = _periodsOf(variables) if periods is None and variables is not None else None if periods is None else np.asarray(periods, dtype=float)
        if self.periods is not None and self.periods.shape != self.centers.shape[1:]:
            raise ValueError(f"StateRegion: the centre has {self.centers.shape[1]} components, but there are {len(self.periods)} variables")

    def bound(self, periods: np.ndarray) -> StateRegion:
        """The same state; with these periods [n] if it had none."""
        return self if self.periods is not None else StateRegion(self.centers, self.radii, periods=periods, name=self.name)

    def distances(self, c: np.ndarray) -> np.ndarray:
        """Distances [..., k] of points c [..., n] from the centres."""
        c = np.asarray(c, dtype=float)
        if self.periods is None:
            raise ValueError("StateRegion: the periods of the variables are not known; pass variables= or periods=")
        if c.shape[-1:] != self.centers.shape[1:]:
            raise ValueError(f"StateRegion: expected points of {self.centers.shape[1]} variables, got shape {c.shape}")
        return np.linalg.norm(_difference(c[..., None, :], self.centers, self.periods), axis=-1)

    def contains(self, c: np.ndarray) -> np.ndarray:
        """Whether points c [..., n] are inside: bools [...]. NaN is not."""
        return np.any(self.distances(c) <= self.radii, axis=-1)

    __call__ = contains

    def __or__(self, other: StateRegion) -> StateRegion:
        if not isinstance(other, StateRegion):
            return NotImplemented
        periods = self.periods if self.periods is not None else other.periods
        return StateRegion(np.vstack([self.centers, other.centers]), np.concatenate([self.radii, other.radii]), periods=periods, name=self.name or other.name)

    def __repr__(self) -> str:
        discs = ", ".join(f"({', '.join(f'{x:.4g}' for x in c)}) within {r:.4g}" for c, r in zip(self.centers, self.radii))
        return f"StateRegion({self.name+': ' if self.name else ''}{discs})"


State = Union[StateRegion, Callable[[np.ndarray], np.ndarray]]


def _periodsOf(variables: Any) -> np.ndarray:
    if isinstance(variables, SpacetimeForce):
        return np.array([variables._describeVariable(i)["period"] for i in range(variables.getNumVariables())])
    variables = getattr(variables, "variables", variables)
    return np.array([v["period"] if isinstance(v, dict) else v.period for v in variables], dtype=float)


def _bindStates(what: str, stateA: State, stateB: State, periods: np.ndarray) -> Tuple[State, State]:
    """Both states with periods, of which it is known as far as possible that they do not overlap."""
    states = []
    for name, state in (("stateA", stateA), ("stateB", stateB)):
        if not callable(state):
            raise ValueError(f"{what}: expected {name} to be a StateRegion or a function from points [K, n] to bools [K], got {state!r}")
        state = state.bound(periods) if isinstance(state, StateRegion) else state
        if isinstance(state, StateRegion) and state.centers.shape[1] != len(periods):
            raise ValueError(f"{what}: {name} has {state.centers.shape[1]} variables, but the force has {len(periods)}")
        states.append(state)
    a, b = states
    if isinstance(a, StateRegion) and isinstance(b, StateRegion):
        overlaps = b.distances(a.centers) <= a.radii[:, None]+b.radii
        if overlaps.any():
            i, j = np.argwhere(overlaps)[0]
            raise ValueError(f"{what}: the states overlap: the disc of radius {a.radii[i]:g} around {a.centers[i].tolist()} in A meets that of radius {b.radii[j]:g} around "
                             f"{b.centers[j].tolist()} in B; make them smaller")
    else:
        for one, other, names in ((a, b, "A's centre lies in B"), (b, a, "B's centre lies in A")):
            if isinstance(one, StateRegion) and _inside(what, other, one.centers).any():
                raise ValueError(f"{what}: the states overlap: {names}")
    return a, b


def _inside(what: str, state: State, c: np.ndarray) -> np.ndarray:
    result = np.asarray(state(c))
    if result.shape != c.shape[:1] or result.dtype != bool:
        raise ValueError(f"{what}: expected a state to turn points of shape {c.shape} into {len(c)} bools, got {result.dtype} of shape {result.shape}")
    return result


def _label(what: str, states: Tuple[State, State], c: np.ndarray) -> np.ndarray:
    """-1 in A, 1 in B, 0 elsewhere, for points c [K, n]."""
    a, b = (_inside(what, state, c) for state in states)
    if np.any(a & b):
        raise ValueError(f"{what}: the states overlap: {c[np.argmax(a & b)].tolist()} lies in both")
    return b.astype(int)-a.astype(int)


# ---- frames

@dataclass
class TransitionFrames:
    """Configurations with what is known of them; K of them, N particles, n variables.

    Attributes
    ----------
    positions : ndarray [K, N, 3]
        In nm.
    boxes : ndarray [K, 3, 3] or None
        Periodic box vectors in nm.
    path, frame, step : ndarray of int [K]
        Which path of the ensemble, which frame of its trajectory, and which row of `PathRecord.variables`.
    s : ndarray [K]
        Where on the curve.
    variables : ndarray [K, n]
        Raw values (rad, nm).
    height : ndarray [K]
        What they were chosen by, kJ/mol: free energy on the surface, or potential energy; NaN for refined ones.
    names : list of str
        Of the variables.
    source : str
        How they were chosen.
    """

    positions: np.ndarray = field(repr=False)
    boxes: Optional[np.ndarray] = field(repr=False)
    path: np.ndarray
    frame: np.ndarray
    step: np.ndarray
    s: np.ndarray
    variables: np.ndarray = field(repr=False)
    height: np.ndarray = field(repr=False)
    names: List[str]
    source: str

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: Any) -> TransitionFrames:
        """Some of them: a slice, or indices [k]."""
        i = i if isinstance(i, slice) else np.atleast_1d(i)
        return TransitionFrames(positions=self.positions[i], boxes=None if self.boxes is None else self.boxes[i], variables=self.variables[i], names=self.names, source=self.source,
                                **{name: getattr(self, name)[i] for name in _FRAME_COLUMNS})

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write an .npz file, which :meth:`load` reads."""
        arrays = {name: getattr(self, name) for name in ("positions", *_FRAME_COLUMNS, "variables")}
        if self.boxes is not None:
            arrays["boxes"] = self.boxes
        ensemble.replace(Path(path), lambda file: np.savez(file, names=np.array(self.names), source=np.array(self.source), **arrays))

    @classmethod
    def load(cls, path: Union[str, os.PathLike]) -> TransitionFrames:
        """Read what :meth:`save` has written."""
        with np.load(path) as data:
            return cls(**{name: data[name] for name in ("positions", *_FRAME_COLUMNS, "variables")}, boxes=data["boxes"] if "boxes" in data else None,
                       names=data["names"].tolist(), source=str(data["source"]))


_FRAME_COLUMNS = ("path", "frame", "step", "s", "height")


def _collect(paths: PathEnsemble, chosen: Sequence[Tuple[int, int]], height: Sequence[float], source: str) -> TransitionFrames:
    """The frames (position in the ensemble, frame)."""
    records = [paths[i] for i, _ in chosen]
    loaded = [ensemble.readFrame(r.trajectory, paths.topology, f) for r, (_, f) in zip(records, chosen)]
    steps = np.array([r.frameSteps[f] for r, (_, f) in zip(records, chosen)])
    return TransitionFrames(positions=np.array([x for x, _ in loaded]), boxes=None if loaded[0][1] is None else np.array([b for _, b in loaded]),
                            path=np.array([r.index for r in records]), frame=np.array([f for _, f in chosen]), step=steps,
                            s=np.array([r.s[k] for r, k in zip(records, steps)]), variables=np.array([r.variables[k] for r, k in zip(records, steps)]),
                            height=np.asarray(height, dtype=float), names=list(paths.names), source=source)


def _checkPaths(what: str, paths: PathEnsemble) -> None:
    if len(paths) == 0:
        raise ValueError(f"{what}: there are no paths in {paths.directory}")
    if all(len(record.frameSteps) < 2 for record in paths):
        raise ValueError(f"{what}: no frames were written along the paths in {paths.directory}; run PathSampler with frameStride, for example frameStride=10")


def transitionStateCandidates(paths: PathEnsemble, surface: Optional[Callable[[np.ndarray], Any]] = None, count: int = 20, stateA: Optional[State] = None,
                              stateB: Optional[State] = None) -> TransitionFrames:
    """Transition-state candidates without a single trajectory: of each of `count` paths the frame with the highest free energy.

    Parameters
    ----------
    paths : PathEnsemble
        With frames along the paths (``frameStride``).
    surface : FreeEnergySurface or callable, optional
        F(c) in kJ/mol of points [K, n]. Without one the potential energy decides, which is a poor guide: its thermal noise, kT sqrt(N) and more, hides a barrier of
        any size that matters.
    count : int
        As many different paths, the first ones.
    stateA, stateB : optional
        When given, only paths that go from one to the other count, and of them only the frames in between.

    Returns
    -------
    TransitionFrames

    Raises
    ------
    ValueError
        Too few paths, no frames along them, or F is not finite.
    """
    what = "transitionStateCandidates"
    _checkPaths(what, paths)
    if not count >= 1:
        raise ValueError(f"{what}: expected a count of at least 1, got {count}")
    if (stateA is None) != (stateB is None):
        raise ValueError(f"{what}: expected both states or none")
    states = None if stateA is None else _bindStates(what, stateA, stateB, _periodsOf(paths))
    chosen, heights = [], []
    for i, record in enumerate(paths):
        first, last = 0, len(record.frameSteps)
        if states is not None:
            crossing = _crossing(_label(what, states, record.variables[record.frameSteps]))
            if crossing is None or crossing[1]-crossing[0] < 2:
                continue
            first, last = crossing[0]+1, crossing[1]
        F = np.asarray(record.frameEnergy if surface is None else surface(record.variables[record.frameSteps]), dtype=float)[first:last]
        if not np.all(np.isfinite(F)):
            raise ValueError(f"{what}: the {'potential' if surface is None else 'free'} energy of path {record.index} is not finite")
        chosen.append((i, first+int(np.argmax(F))))
        heights.append(F.max())
        if len(chosen) == count:
            break
    if len(chosen) < count:
        raise ValueError(f"{what}: expected {count} paths{'' if states is None else ' that cross between the states with frames in between'}, but there are {len(chosen)} of {len(paths)}; "
                         "run more paths or lower count")
    return _collect(paths, chosen, heights, "highest potential energy of the frames of each path" if surface is None else "highest free energy of the frames of each path")


def _crossing(label: np.ndarray) -> Optional[Tuple[int, int]]:
    """Of labels [K] as _label gives them: the last row in one state before the first in the other; None where no path leads from one to the other."""
    rows = np.flatnonzero(label)
    turns = np.flatnonzero(np.diff(label[rows]))
    return (int(rows[turns[0]]), int(rows[turns[0]+1])) if len(turns) else None


def _asFrames(what: str, frames: Any, numParticles: int) -> TransitionFrames:
    if isinstance(frames, PathEnsemble):
        raise ValueError(f"{what}: expected frames, got a PathEnsemble; choose some with transitionStateCandidates or transitionStates")
    if not isinstance(frames, TransitionFrames):
        if len(frames) == 0:
            raise ValueError(f"{what}: there are no frames")
        items = [frames] if unit.is_quantity(frames) else list(frames)
        boxes = None
        if isinstance(items[0], openmm.State):
            if items[0].getPeriodicBoxVectors() is not None:
                boxes = np.array([x.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer) for x in items])
            items = [x.getPositions(asNumpy=True) for x in items]
        items = [np.array(x.value_in_unit(unit.nanometer) if unit.is_quantity(x) else x, dtype=float) for x in items]
        if any(x.shape != items[0].shape for x in items):
            raise ValueError(f"{what}: expected frames of the same number of particles, got {sorted({x.shape for x in items})}")
        positions = np.array(items)
        positions = positions[0] if unit.is_quantity(frames) and positions.ndim == 4 else positions
        K, unknown = len(positions), np.full(len(positions), np.nan)
        frames = TransitionFrames(positions=positions, boxes=boxes, path=np.full(K, -1), frame=np.arange(K), step=np.full(K, -1), s=unknown, variables=np.zeros((K, 0)),
                                  height=unknown, names=[], source="given")
    if frames.positions.ndim != 3 or frames.positions.shape[1:] != (numParticles, 3):
        raise ValueError(f"{what}: expected frames of shape [K, {numParticles}, 3], got {list(frames.positions.shape)}; do they belong to this System?")
    if len(frames) == 0:
        raise ValueError(f"{what}: there are no frames")
    bad = ~np.isfinite(frames.positions).all(axis=(1, 2))
    if bad.any():
        raise ValueError(f"{what}: positions of frame {int(np.argmax(bad))} are not finite")
    return frames


# ---- results

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
        def plain(x: np.ndarray) -> list:
            return [None if isinstance(v, float) and not math.isfinite(v) else v for v in np.asarray(x).tolist()]

        content: Dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for name in ("shots", "maxSteps", "seed", "source", "names"):
            content[name] = getattr(self, name)
        for name in (*_COUNTS, "steps", *_FRAME_COLUMNS):
            content[name] = plain(getattr(self, name))
        content["variables"] = self.variables.tolist()
        content["p"], content["error"], content["interval95"] = plain(self.p), plain(self.error), [plain(row) for row in self.interval()]
        for name in ("mean", "meanError", "meanBinomialError", "shareNear", "varianceRatio", "undecided"):
            value = getattr(self, name)
            content[name] = value if math.isfinite(value) else None
        return content

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
        arrays = {name: np.array(content[name], dtype=int) for name in (*_COUNTS, "path", "frame", "step")}
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


# ---- shooting

class _Worker:
    """Shoots unbiased trajectories in a Context of its own."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.system = openmm.XmlSerializer.deserialize(job.system)
        self.integrator = openmm.XmlSerializer.deserialize(job.integrator)
        self.force = SpacetimeForce.cast(self.system.getForce(job.forceIndex))
        self.context = openmm.Context(self.system, self.integrator, openmm.Platform.getPlatformByName(job.platform), job.properties)
        self.template = openmm.XmlSerializer.deserialize(job.template)
        # The sampler's loop runs the dynamics and records the variables at every step; all it does to s in a trajectory is one move, of a bias that is off.
        self.sampler = openmm_wrapper.PathSampler(self.force, job.maxSteps)
        self.sampler.setStepsPerMove(job.maxSteps)
        self.sampler.setMaxStartDistance(math.inf)

    def run(self, task: int) -> Tuple[int, int]:
        """Time steps done, for the progress; everything else is in a file."""
        self.done = 0
        result = self.job.perform(self, task)
        ensemble.replace(self.job.file(task), lambda file: file.write(json.dumps(result).encode()))
        return task, self.done

    def place(self, positions: np.ndarray, box: Optional[np.ndarray]) -> None:
        context = self.context
        if box is not None:
            context.setPeriodicBoxVectors(*box)
        context.setPositions(positions)
        # Trajectories hold single precision, which leaves bonds a little off their constraints.
        context.applyConstraints(self.integrator.getConstraintTolerance())
        context.computeVirtualSites()

    def values(self) -> np.ndarray:
        return self.force.getVariableValues(self.context).reshape(1, -1)

    def shoot(self, positions: np.ndarray, box: Optional[np.ndarray], shots: int, *key: int) -> Dict[str, Any]:
        """`shots` trajectories from a configuration. All random numbers come from the seed and `key`."""
        job, context = self.job, self.context
        first, *seeds = (int(x) for x in np.random.SeedSequence([job.seed, *key]).generate_state(1+shots) % 0x7FFFFFFE+1)
        seedEverything(context, first)
        context.setState(self.template)
        context.setTime(0)
        context.setStepCount(0)
        self._removeBias(positions, box)
        variables = self.values()
        start = int(_label(job.what, job.states, variables)[0])
        count, lengths = {-1: 0, 1: 0, 0: 0, None: 0}, []
        for seed in seeds:
            where, step = start, 0
            if start == 0:
                self.place(positions, box)
                context.setVelocitiesToTemperature(job.temperature, seed)
                where, step = self._follow(variables.shape[1])
            count[where] += 1
            if where in (-1, 1):
                lengths.append(step)
        return {"nA": count[-1], "nB": count[1], "nUndecided": count[0]+count[None], "nBroken": count[None], "steps": float(np.mean(lengths)) if lengths else None,
                "variables": variables[0].tolist()}

    def _follow(self, numVariables: int) -> Tuple[Optional[int], int]:
        """Run dynamics until a state is reached: -1 for A, 1 for B, 0 for neither, None where it broke down; and after how many steps."""
        sampler, step, more = self.sampler, 0, True
        try:
            sampler.begin(self.context)
            while more:
                more = sampler.advance(BLOCK)
                values = np.frombuffer(sampler.getVariables()).reshape(-1, numVariables)
                label = _label(self.job.what, self.job.states, values[step:])
                if label.any():
                    first = int(np.argmax(label != 0))
                    return int(label[first]), step+first+1
                step = len(values)
            return 0, step
        except openmm.OpenMMException:
            return None, step
        finally:
            self.done += sampler.getNumStepsDone()

    def _removeBias(self, positions: np.ndarray, box: Optional[np.ndarray]) -> None:
        """Turn the bias off by way of its kT, and see that it is off: no energy, and forces that do not know where on the curve it is."""
        context = self.context
        context.setParameter("spacetime_kT", 0.0)
        self.place(positions, box)
        name = self.force.getParameterName()
        before, forces = context.getParameter(name), []
        for s in (0.0, 1.0):
            context.setParameter(name, s)
            forces.append(context.getState(forces=True).getForces(asNumpy=True)._value)
        context.setParameter(name, before)
        if self.force.getBiasEnergy(context)._value != 0 or not np.array_equal(*forces):
            raise RuntimeError(f"{self.job.what}: the bias could not be switched off: with spacetime_kT = 0 its energy is {self.force.getBiasEnergy(context)}, "
                               f"and forces at the ends of the curve differ by up to {np.abs(forces[0]-forces[1]).max():g} kJ/mol/nm")


@dataclass
class _Job:
    """All that a process needs; strings and arrays, so that it can be sent."""

    what: str
    system: str
    integrator: str
    template: str
    forceIndex: int
    platform: str
    properties: Dict[str, str]
    temperature: float
    directory: str
    states: Tuple[State, State]
    seed: int
    shots: int
    maxSteps: int

    def makeWorker(self) -> _Worker:
        return _Worker(self)

    def file(self, task: int) -> Path:
        return Path(self.directory)/f"{self.prefix}-{task:04d}.json"

    def perform(self, worker: _Worker, task: int) -> Any:
        raise NotImplementedError

    def digest(self) -> str:
        """Of what decides the outcome: neither directory and processes, nor where the template's molecule is."""
        template = openmm.XmlSerializer.deserialize(self.template)
        numbers = [sorted(dict(template.getParameters()).items()), self.temperature, self.seed, self.shots, self.maxSteps]
        result = hashlib.sha256("".join([self.system, self.integrator, json.dumps(numbers)]).encode())
        for x in self.inputs():
            result.update(x.tobytes() if isinstance(x, np.ndarray) else json.dumps(x).encode())
        for state in self.states:
            try:
                result.update(b"".join(x.tobytes() for x in (state.centers, state.radii, state.periods)) if isinstance(state, StateRegion) else pickle.dumps(state))
            except (pickle.PicklingError, AttributeError) as e:
                raise ValueError(f"{self.what}: results can be kept in a directory only where the states can be pickled, as functions of a module can and lambdas cannot: {e}") from e
        return result.hexdigest()


@dataclass
class _CommittorJob(_Job):
    positions: np.ndarray
    boxes: Optional[np.ndarray]
    prefix = "frame"

    def inputs(self) -> Any:
        return self.positions, self.boxes

    def perform(self, worker: _Worker, task: int) -> Any:
        return worker.shoot(self.positions[task], None if self.boxes is None else self.boxes[task], self.shots, _REPORT, task)


@dataclass
class _SelectionJob(_Job):
    """Bisection along a path: of each the frames between the states, from A to B."""

    paths: List[Tuple[str, int, List[int]]]  # trajectory, index of the path, frames
    topology: str
    tolerance: float
    prefix = "path"

    def inputs(self) -> Any:
        return [path[1:] for path in self.paths], self.tolerance

    def perform(self, worker: _Worker, task: int) -> Any:
        trajectory, index, frames = self.paths[task]
        probes = []
        # Outside of these the committor is 0 and 1: the neighbours lie in the states.
        low, high = -1, len(frames)
        while high-low > 1:
            middle = (low+high)//2
            probe = worker.shoot(*ensemble.readFrame(trajectory, self.topology, frames[middle]), self.shots, _SELECT, index, frames[middle])
            probes.append({**probe, "frame": frames[middle]})
            decided = probe["nA"]+probe["nB"]
            if decided == 0:
                break
            p = probe["nB"]/decided
            if abs(p-0.5) <= self.tolerance:
                break
            low, high = (middle, high) if p < 0.5 else (low, middle)
        return probes


def _runJob(job: _Job, tasks: int, processes: int, executor: Any, progress: Any, simulation: app.Simulation, noun: str, directory: Optional[Path], overwrite: bool,
            resume: bool) -> List[Any]:
    """All tasks of a job, those that `directory` holds already left out: what they have written, in their order."""
    with tempfile.TemporaryDirectory() as scratch:
        if directory is not None:
            _prepareDirectory(job, directory, overwrite, resume)
        job.directory = str(Path(directory if directory is not None else scratch).resolve())
        missing = [task for task in range(tasks) if not job.file(task).exists()]
        report = _Progress(progress, tasks, tasks-len(missing), simulation.integrator.getStepSize(), noun)
        try:
            with closing(runTasks(job, missing, processes, executor)) as results:
                for _, steps in results:
                    report(_Done(steps))
        finally:
            report.finish()
        return [json.loads(job.file(task).read_text(encoding="utf-8")) for task in range(tasks)]


@dataclass
class _Done:
    steps: int
    failed: bool = False


def _prepareDirectory(job: _Job, directory: Path, overwrite: bool, resume: bool) -> None:
    head = directory/"run.json"
    if directory.exists() and any(directory.iterdir()) and not (overwrite or resume):
        raise FileExistsError(f"{job.what}: {directory} is not empty; pass overwrite=True to replace what is in it, resume=True to go on with it, or choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    for pattern in (".tmp-*",) if resume else (".tmp-*", f"{job.prefix}-*.json", head.name, "committor.json"):
        for old in directory.glob(pattern):
            old.unlink()
    digest = job.digest()
    if not head.exists():
        ensemble.replace(head, lambda file: file.write(json.dumps({"digest": digest}).encode()))
    elif json.loads(head.read_text(encoding="utf-8")).get("digest") != digest:
        raise ValueError(f"{job.what}: {directory} was written with another System, Integrator, starting state, frames, states or settings, so it cannot be continued")


def _prepare(what: str, simulation: app.Simulation, force: SpacetimeForce, stateA: State, stateB: State, **numbers: Any) -> Tuple[Dict[str, Any], Tuple[State, State]]:
    """The template of the simulation and the states, after everything was looked at."""
    for name, (value, least) in numbers.items():
        if int(value) != value or value < least:
            raise ValueError(f"{what}: {name} must be a whole number, {least} or more, but it is {value}")
    if force.getNumWalkers() > 1:
        raise ValueError(f"{what}: it needs one molecule, but the SpacetimeForce has {force.getNumWalkers()} walkers")
    # Raises the explanation of what to do if the force was added too late.
    force.getVariableValues(simulation.context)
    return templateOf(what, simulation, force), _bindStates(what, stateA, stateB, _periodsOf(force))


def committor(simulation: app.Simulation, frames: Any, stateA: State, stateB: State, force: SpacetimeForce, shots: int = 40, maxSteps: int = 20000, seed: int = 1,
              processes: int = 1, directory: Union[None, str, os.PathLike] = None, overwrite: bool = False, resume: bool = False,
              progress: Union[None, bool, Callable[[int, int], Any]] = None, executor: Any = None) -> CommittorResult:
    """Committors of frames: from each, unbiased trajectories with velocities from the Boltzmann distribution, until they reach one of the states.

    The force stays in the System, with its kT at zero, which is checked: it only measures the variables. A frame's outcome depends on `seed` and its number alone: not on
    `processes`, nor on the other frames. The simulation is a template and is left as it is.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Its System must hold `force`. Its integrator decides what the committor is: a property of the dynamics, friction included.
    frames : TransitionFrames, array [K, N, 3] (nm), or sequence of openmm.State or positions
    stateA, stateB : StateRegion or callable
        Callables turn points [K, n] of the force's variables (raw units) into bools [K].
    force : SpacetimeForce
    shots : int
        Trajectories per frame.
    maxSteps : int
        A trajectory that has reached neither state by then is undecided. The variables are looked at after every step.
    seed : int
        Another seed, other trajectories. Do not report with the seed that selected the frames; :func:`transitionStates` sees to that itself.
    processes : int
        Processes of this machine.
    directory : path, optional
        Where every frame's result is kept as it comes, with resume=True to go on, and the whole in committor.json. Without one nothing is kept when it is interrupted.
    overwrite, resume : bool
        What to do with a directory that is not empty.
    progress : callable or bool, optional
        Called as progress(done, total) with numbers of frames. When left out a line of text is shown on stderr if that is a terminal; False for none.
    executor : concurrent.futures.Executor, optional
        As for PathSampler; then `directory` is needed.

    Returns
    -------
    CommittorResult

    Warns
    -----
    RuntimeWarning
        More than 5 % of the trajectories were undecided.

    Raises
    ------
    ValueError
        The states overlap, frames do not belong to the System or are not finite, a number is out of range, or the directory holds another run.
    FileExistsError
        The directory is not empty, and neither `overwrite` nor `resume` was given.
    """
    template, states = _prepare("committor", simulation, force, stateA, stateB, shots=(shots, 1), maxSteps=(maxSteps, 1), seed=(seed, 0),
                                processes=(processes, 1))
    frames = _asFrames("committor", frames, simulation.system.getNumParticles())
    if executor is not None and directory is None:
        raise ValueError("committor: an executor needs a directory that all its workers see")
    job = _CommittorJob("committor", **template, directory="", states=states, seed=int(seed), shots=int(shots), maxSteps=int(maxSteps),
                        positions=frames.positions, boxes=frames.boxes)
    directory = None if directory is None else Path(directory)
    rows = _runJob(job, len(frames), int(processes), executor, progress, simulation, "frames", directory, overwrite, resume)
    result = _result(rows, frames, force.getVariableNames(), job)
    if result.undecided > UNDECIDED:
        broken = result.nBroken.sum()
        warnings.warn(f"committor: {result.undecided:.0%} of the trajectories reached neither state within {maxSteps:,} steps"
                      + (f", {broken} of them because they broke down" if broken else "")+"; raise maxSteps or make the states larger", RuntimeWarning, stacklevel=2)
    if directory is not None:
        result.save(directory/"committor.json")
    return result


def _result(rows: Sequence[Dict[str, Any]], frames: TransitionFrames, names: List[str], job: _Job) -> CommittorResult:
    return CommittorResult(**{name: np.array([row[name] for row in rows], dtype=int) for name in _COUNTS},
                           steps=np.array([math.nan if row["steps"] is None else row["steps"] for row in rows]),
                           **{name: getattr(frames, name) for name in _FRAME_COLUMNS}, variables=np.array([row["variables"] for row in rows]), names=list(names),
                           shots=job.shots, maxSteps=job.maxSteps, seed=job.seed, source=frames.source)


def transitionStates(simulation: app.Simulation, paths: PathEnsemble, stateA: State, stateB: State, force: SpacetimeForce, count: int = 20, firstShots: int = 20,
                     shots: int = 40, tolerance: float = 0.1, maxSteps: int = 20000, seed: int = 1, processes: int = 1,
                     directory: Union[None, str, os.PathLike] = None, overwrite: bool = False, resume: bool = False,
                     progress: Union[None, bool, Callable[[int, int], Any]] = None, executor: Any = None) -> TransitionStates:
    """Transition states on driven paths, with committors from trajectories that had no part in choosing them.

    On each of `count` paths the frames between the last one in A and the first one in B are bisected: from a frame `firstShots` unbiased trajectories tell whether to
    look nearer to A or to B, until p is within `tolerance` of 1/2 or there is nothing left to bisect. Of the frames looked at the one nearest to 1/2 is taken. That is
    the first set. The second set, `shots` trajectories from each frame taken, is :func:`committor`, with other random numbers, and is the result: what the first set says is
    nearer to 1/2 than the truth, because it chose.

    Parameters
    ----------
    paths : PathEnsemble
        With frames along the paths (``frameStride``); at least `count` of them must lead from one state to the other.
    count : int
        As many different paths, the first ones that cross.
    firstShots : int
        Trajectories of the first set from each frame that it looks at.
    tolerance : float
        Between 0 and 0.5.
    simulation, stateA, stateB, force, shots, maxSteps, seed, processes, directory, overwrite, resume, progress, executor
        As for :func:`committor`. The directory gets a folder for either set, the frames (frames.npz) and the result (transitionstates.json).

    Returns
    -------
    TransitionStates

    Raises
    ------
    ValueError
        As for :func:`committor`; there are no frames along the paths, or too few paths cross.
    """
    what = "transitionStates"
    template, states = _prepare(what, simulation, force, stateA, stateB, count=(count, 1), firstShots=(firstShots, 1), shots=(shots, 1), maxSteps=(maxSteps, 1),
                                seed=(seed, 0), processes=(processes, 1))
    if not 0 <= tolerance < 0.5:
        raise ValueError(f"{what}: expected a tolerance between 0 and 0.5, got {tolerance}")
    if executor is not None and directory is None:
        raise ValueError(f"{what}: an executor needs a directory that all its workers see")
    _checkPaths(what, paths)
    if list(paths.names) != force.getVariableNames():
        raise ValueError(f"{what}: the paths have the variables {', '.join(paths.names)}, but the force has {', '.join(force.getVariableNames())}")
    places, work = [], []
    for i, record in enumerate(paths):
        label = _label(what, states, record.variables[record.frameSteps])
        crossing = _crossing(label)
        if crossing is not None and crossing[1]-crossing[0] > 1:
            between = list(range(crossing[0]+1, crossing[1]))
            places.append(i)
            work.append((record.trajectory, record.index, between if label[crossing[0]] < 0 else between[::-1]))
        if len(work) == count:
            break
    if len(work) < count:
        raise ValueError(f"{what}: expected {count} paths that lead from one state to the other with frames in between, but only {len(work)} of {len(paths)} do; run more paths, "
                         "write frames more often (frameStride), or lower count")
    positions, _ = ensemble.readFrame(work[0][0], paths.topology, work[0][2][0])
    _asFrames(what, positions[None], simulation.system.getNumParticles())
    folder = None if directory is None else Path(directory)
    job = _SelectionJob(what, **template, directory="", states=states, seed=int(seed), shots=int(firstShots), maxSteps=int(maxSteps),
                        paths=work, topology=paths.topology, tolerance=float(tolerance))
    probed = _runJob(job, count, int(processes), executor, progress, simulation, "paths", None if folder is None else folder/"first", overwrite, resume)
    chosen = []
    for (_, index, _), probes in zip(work, probed):
        decided = [probe for probe in probes if probe["nA"]+probe["nB"] > 0]
        if not decided:
            raise ValueError(f"{what}: no trajectory from path {index} reached a state within {maxSteps:,} steps; raise maxSteps")
        # Of equals the last one: there the bracket was narrower.
        chosen.append(min(reversed(decided), key=lambda probe: abs(probe["nB"]/(probe["nA"]+probe["nB"])-0.5)))
    frames = _collect(paths, [(i, probe["frame"]) for i, probe in zip(places, chosen)], np.full(count, np.nan), "nearest to 1/2 by a first set of trajectories")
    first = _result(chosen, frames, force.getVariableNames(), job)
    second = committor(simulation, frames, stateA, stateB, force, shots, maxSteps, seed, processes, None if folder is None else folder/"second", overwrite, resume,
                       progress, executor)
    result = TransitionStates(frames, first, second, int(firstShots)*sum(len(probes) for probes in probed))
    if folder is not None:
        frames.save(folder/"frames.npz")
        result.save(folder/"transitionstates.json")
    return result
