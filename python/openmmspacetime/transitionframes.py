# SPDX-License-Identifier: MIT
"""Frames of driven paths from which unbiased trajectories are started."""
from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
import openmm
from openmm import unit

from . import ensemble
from .sampling import PathEnsemble
from .states import State, _bindStates, _crossing, _label, _periodsOf

__all__ = ["TransitionFrames", "transitionStateCandidates"]


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


def _collect(paths: PathEnsemble, chosen: Sequence[Tuple[int, int]], height: np.ndarray, source: str) -> TransitionFrames:
    """The frames (position in the ensemble, frame)."""
    records = [paths[i] for i, _ in chosen]
    loaded = [paths.frame(i, f) for i, f in chosen]
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
    states = None if stateA is None or stateB is None else _bindStates(what, stateA, stateB, _periodsOf(paths))
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
    return _collect(paths, chosen, np.array(heights), "highest potential energy of the frames of each path" if surface is None else "highest free energy of the frames of each path")


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
