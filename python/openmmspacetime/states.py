# SPDX-License-Identifier: MIT
"""States of a molecule in its variables, and which part of a path leads from one to the other."""
from __future__ import annotations

from typing import Any, Callable, Optional, Tuple, Union

import numpy as np

from .analysis import _difference, _number
from .force import SpacetimeForce

__all__ = ["StateRegion"]


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


def _crossing(label: np.ndarray) -> Optional[Tuple[int, int]]:
    """Of labels [K] as _label gives them: the last row in one state before the first in the other; None where no path leads from one to the other."""
    rows = np.flatnonzero(label)
    turns = np.flatnonzero(np.diff(label[rows]))
    return (int(rows[turns[0]]), int(rows[turns[0]+1])) if len(turns) else None
