# SPDX-License-Identifier: MIT
"""The bias of SpacetimeForce from OpenMM's own parts, for collective variables that SpacetimeForce does not know."""
from __future__ import annotations

import copy
import math
import operator
import re
import warnings
from typing import Any, Iterable, NamedTuple, Optional

import numpy as np
import openmm
from openmm import unit

from .force import SpacetimeForce

__all__ = ["asCustomCVForce"]

ACCURACY = 1e-6
POINTS = 129, 8193  # where doubling begins and ends

# Per kind: how many sites; what it is in a force on particles (None for a coordinate, whose axis says it) and on centroids; that force's name for a term.
_KINDS = {
    "torsion": (4, "theta", "dihedral(g1,g2,g3,g4)", openmm.CustomTorsionForce, "addTorsion"),
    "angle": (3, "theta", "angle(g1,g2,g3)", openmm.CustomAngleForce, "addAngle"),
    "distance": (2, "r", "distance(g1,g2)", openmm.CustomBondForce, "addBond"),
    "coordinate": (1, None, None, openmm.CustomExternalForce, "addParticle"),
}


class _Item(NamedTuple):
    """A collective variable: the force whose energy it is, and how it enters the statistic."""

    name: str
    force: openmm.Force
    period: float
    shift: float
    scale: float


def asCustomCVForce(curve: Any, variables: Iterable[Any], temperature: Any = None, *, parameterName: str = "spacetime_s",
                    points: Optional[int] = None) -> openmm.CustomCVForce:
    r"""The bias of :class:`SpacetimeForce` as a CustomCVForce, whose collective variables may be any OpenMM Forces.

    :math:`-kT\, \eta(s) \cdot T(c)` with the same Context parameters, ``spacetime_s`` (clamped to [0, 1]) and ``spacetime_kT``, and with derivatives of the
    energy with respect to both. Where SpacetimeForce knows the variables it is cheaper and exact; this is for those it does not know, such as RMSDForce, RGForce
    or whatever a custom force can express.

    Each eta_i(s) is SpacetimeForce's own interpolant, tabulated on equally spaced points, with a natural cubic spline between them.

    Parameters
    ----------
    curve : object with ``s`` and ``eta``, or path
        What :class:`SpacetimeForce` takes.
    variables : iterable
        In the order of eta's components. Each is either what SpacetimeForce takes, of kind 'torsion', 'angle', 'distance' or 'coordinate', whose sites may be
        centroids; or a tuple ``(name, force[, period[, shift, scale]])``, where the energy of `force` in kJ/mol is the raw value of the variable. It enters
        as (raw - shift)/scale, or, if it has a period, as cos and sin of 2 pi raw/period. Forces are copied.
    temperature : float or Quantity, optional
        In kelvin. When left out, the curve's.
    parameterName : str, optional
        Name of the Context parameter that holds s.
    points : int, optional
        Number of points of the tables, at least 2. When left out, the smallest of 129, 257, ..., 8193 at which eta_i is off by less than 1e-6 of its largest
        absolute value, or else 8193, with a warning: where the second derivative of a curve jumps at a node, the error falls only as 1/points^2.

    Returns
    -------
    CustomCVForce
        Its collective variable i is the raw value of variable i, and its tabulated function ``eta<i>`` is component i. Periodic boundary conditions are off:
        call ``setUsesPeriodicBoundaryConditions`` of the forces it holds where they are wanted.

    Raises
    ------
    ValueError
        eta does not have as many components as the variables have statistics; a variable is of a kind that is not supported, names no atoms or is not such a
        tuple; a period, shift or scale is impossible; there is no temperature; or a name or number of points cannot be used.

    Examples
    --------
    >>> import numpy as np, openmm
    >>> import openmmspacetime as st
    >>> class Curve:
    ...     s, eta = [0, 1], [[-50, 10], [-50, 40]]
    >>> force = st.asCustomCVForce(Curve, [("Rg", openmm.RGForce([0, 1, 2]), 0, 0.1, 0.05)], temperature=300)
    >>> force.getCollectiveVariable(0).getName()
    'Rg'
    """
    curve = SpacetimeForce(curve, (), temperature)
    items = [_item(v) for v in variables]
    statistics = sum(2 if item.period > 0 else 1 for item in items)+any(item.period == 0 for item in items)
    components = curve.getCurve()[1].shape[1]
    if components != statistics:
        raise ValueError(f"asCustomCVForce: expected eta to have {statistics} components, as many as T has for the variables "
                         f"({', '.join(item.name for item in items) or 'none'}), but the curve's has {components}")
    kT = curve.KT()
    if not re.fullmatch(r"[A-Za-z_]\w*", parameterName) or parameterName in (kT, "u") or re.fullmatch(r"(v|d|eta)\d+", parameterName):
        raise ValueError(f"asCustomCVForce: expected the name of a variable other than {kT}, u, v<i>, d<i> and eta<i>, but parameterName is {parameterName!r}")
    unlifted = [i for i, item in enumerate(items) if item.period == 0]
    statistic = ["("+"+".join(f"d{i}^2" for i in unlifted)+")"] if unlifted else []
    definitions = []
    for i, item in enumerate(items):
        statistic += [f"d{i}"] if item.period == 0 else [f"cos(d{i})", f"sin(d{i})"]
        definitions.append(f"d{i}=(v{i}-({item.shift!r}))/{item.scale!r}" if item.period == 0 else f"d{i}={2*math.pi/item.period!r}*v{i}")
    terms = "+".join(f"eta{i}(u)*{t}" for i, t in enumerate(statistic))
    # In this order of arguments the derivative at the ends is that of the curve, not 0: where they are equal, max takes its first and min its second.
    force = openmm.CustomCVForce("; ".join([f"-{kT}*({terms})", *definitions, f"u=max(min(1,{parameterName}),0)"]))
    force.setName("SpacetimeCVForce")
    for i, item in enumerate(items):
        force.addCollectiveVariable(f"v{i}", item.force)
    for i, column in enumerate(_table(curve, points).T):
        force.addTabulatedFunction(f"eta{i}", openmm.Continuous1DFunction(column, 0, 1))
    force.addGlobalParameter(parameterName, 0.0)
    force.addGlobalParameter(kT, (curve.getTemperature()*unit.MOLAR_GAS_CONSTANT_R).value_in_unit(unit.kilojoule_per_mole))
    for name in (parameterName, kT):
        force.addEnergyParameterDerivative(name)
    return force


# Variables

def _number(x: Any) -> float:
    return float(x.value_in_unit_system(unit.md_unit_system) if unit.is_quantity(x) else x)


def _item(v: Any) -> _Item:
    if hasattr(v, "kind"):
        name, force, enters = v.name, _measure(v), (v.period, v.shift, v.scale)
    else:
        if not isinstance(v, (tuple, list)) or len(v) not in (2, 3, 5) or not isinstance(v[0], str) or not isinstance(v[1], openmm.Force):
            raise ValueError(f"asCustomCVForce: expected a variable of kind {', '.join(_KINDS)}, or a tuple (name, force), (name, force, period) or "
                             f"(name, force, period, shift, scale), but got {v!r}")
        name, force, enters = v[0], copy.deepcopy(v[1]), v[2:]
    period, shift, scale = (_number(x) for x in (*enters, *(0.0, 0.0, 1.0)[len(enters):]))
    if not (math.isfinite(period) and period >= 0 and math.isfinite(shift) and math.isfinite(scale) and scale > 0):
        raise ValueError(f"asCustomCVForce: variable '{name}' needs a period of 0 or more, a finite shift and a positive scale, but has {period}, {shift} and {scale}")
    if period > 0 and (shift != 0 or scale != 1):
        raise ValueError(f"asCustomCVForce: variable '{name}' has the period {period}, so it enters as cos and sin of 2 pi raw/period and takes neither shift nor "
                         f"scale, but has {shift} and {scale}")
    force.setName(name)
    return _Item(name, force, period, shift, scale)


def _measure(v: Any) -> openmm.Force:
    """The force whose energy is the raw value of a variable that says by its kind and atoms what it is."""
    if v.kind == "position":
        raise ValueError(f"asCustomCVForce: variable '{v.name}' is of kind 'position', measured in a superposed frame, for which OpenMM has no force; use SpacetimeForce")
    if v.kind not in _KINDS:
        raise ValueError(f"asCustomCVForce: variable '{v.name}' is of kind '{v.kind}', but expected {', '.join(_KINDS)}; for anything else pass a tuple (name, force)")
    count, energy, ofCentroids, Force, add = _KINDS[v.kind]
    sites = list(v.atoms)
    if len(sites) != count:
        raise ValueError(f"asCustomCVForce: variable '{v.name}' of kind '{v.kind}' needs {count} atoms or centroids, but has {len(sites)}")
    if v.kind == "coordinate" and v.axis not in (0, 1, 2):
        raise ValueError(f"asCustomCVForce: variable '{v.name}' needs an axis of 0, 1 or 2 for x, y or z, but has {v.axis}")
    centroids = [isinstance(site, Iterable) for site in sites]
    if not any(centroids):
        force = Force(energy or "xyz"[v.axis])
        getattr(force, add)(*(operator.index(site) for site in sites))
        return force
    force = openmm.CustomCentroidBondForce(count, ofCentroids or "xyz"[v.axis]+"1")
    weights = getattr(v, "weights", None) or [None]*count
    for site, isCentroid, w in zip(sites, centroids, weights):
        particles = [operator.index(p) for p in site] if isCentroid else [operator.index(site)]
        # Without weights OpenMM would take the masses; here they are equal.
        force.addGroup(particles, [1.0]*len(particles) if w is None else [float(x) for x in w])
    force.addBond(list(range(count)))
    return force


# Tables

def _splineMiddles(y: np.ndarray) -> np.ndarray:
    """Natural cubic splines through `y` [N, m] on equally spaced points, at a quarter, a half and three quarters between them: [N-1, 3, m]."""
    n = len(y)-1
    # (1, 4, 1) M = 6 second differences for M = h^2 y'', 0 at the ends: the sine transform makes that diagonal.
    right = np.zeros((2*n, y.shape[1]))
    right[1:n] = 6*np.diff(y, 2, axis=0)
    right[n+1:] = -right[1:n][::-1]
    M = np.fft.irfft(np.fft.rfft(right, axis=0)/(4+2*np.cos(np.pi*np.arange(n+1)/n))[:, None], 2*n, axis=0)[:n+1]
    t = np.array([0.25, 0.5, 0.75])[:, None]
    y0, y1, M0, M1 = (a[:, None] for a in (y[:-1], y[1:], M[:-1], M[1:]))
    return (1-t)*y0+t*y1+((1-t)**3-(1-t))*M0/6+(t**3-t)*M1/6


def _table(curve: SpacetimeForce, points: Optional[int]) -> np.ndarray:
    """eta [points, m] on equally spaced points, whose number is doubled until a spline through them is accurate where `points` is None."""
    if points is not None:
        points = operator.index(points)
        if points < 2:
            raise ValueError(f"asCustomCVForce: expected at least 2 points, but points is {points}")
        return np.array([curve.getEta(s) for s in np.linspace(0, 1, points)])
    points, limit = POINTS
    while True:
        fine = np.array([curve.getEta(s) for s in np.linspace(0, 1, 4*(points-1)+1)])
        between = np.stack([fine[k::4] for k in (1, 2, 3)], axis=1)
        error = np.abs(_splineMiddles(fine[::4])-between).max(axis=(0, 1))
        size = np.abs(fine).max(axis=0)
        if np.all(error <= ACCURACY*size):
            return fine[::4]
        if points == limit:
            i = int(np.argmax(error/np.where(size > 0, size, 1)))
            warnings.warn(f"asCustomCVForce: with {limit} points, component {i} of eta is off by up to {error[i]/size[i]:.1e} of its largest absolute value; "
                          "pass more points if that matters", stacklevel=3)
            return fine[::4]
        points = 2*points-1
