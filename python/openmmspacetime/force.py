# SPDX-License-Identifier: MIT
"""The OpenMM Force that biases a System along a curve in spacetime."""
from __future__ import annotations

import numbers
import operator
import os
from typing import Any, Iterable, Optional, Sequence, Tuple

import numpy as np
import openmm
from openmm import unit

from . import _core, openmm_wrapper

__all__ = ["SpacetimeForce"]


def _value(x: Any, what: Any) -> float:
    """`x` as a float in the unit `what`; plain numbers are taken to be in it already."""
    return float(x.value_in_unit(what) if unit.is_quantity(x) else x)


def _string(x: Any) -> str:
    if not isinstance(x, str):
        raise TypeError(f"SpacetimeForce: expected a str, but got {x!r}")
    return x


def _indices(particles: Sequence[int]) -> np.ndarray:
    return np.array([operator.index(p) for p in particles], dtype=np.intc)


def _weights(weights: Optional[Sequence[float]]) -> np.ndarray:
    return np.array([] if weights is None else weights, dtype=float)


def _orNone(data: bytes) -> Optional[tuple]:
    return tuple(np.frombuffer(data).tolist()) or None


#: Kinds of variables and the number of their sites.
_SITES = {"torsion": 4, "coordinate": 1, "angle": 3, "distance": 2, "position": 1}


class SpacetimeForce(openmm_wrapper.SpacetimeForce):
    r"""Biases a System along a curve in the spacetime of a diffusion model.

    A point of spacetime, a noise level together with a noisy value of the collective variables c, stands for the distribution of clean values
    that may lie behind it. These denoising distributions are an exponential family (arXiv:2505.17517),

    .. math:: p(c|z) \propto q(c) \exp(\eta \cdot T(c)),

    so to sample one of them is to run ordinary dynamics with the bias

    .. math::

        U_\mathrm{bias}(X; s) = -kT\, \eta(s) \cdot T(c(X)), \qquad \frac{dU_\mathrm{bias}}{ds} = -kT\, \eta'(s) \cdot T(c(X))

    with no constant added. The curve :math:`\eta(s)`, :math:`0 \le s \le 1`, is given by its nodes; between them each component is a monotone cubic.

    The statistic T is, in this order: :math:`|d|^2` over the variables that are not periodic, if there are any; then per variable
    d = (raw - shift)/scale, or cos and sin of 2 pi raw/period where it is periodic. Torsions are periodic with period 2 pi. In other words, with
    :math:`\eta = (-e^\lambda/2,\, e^\lambda m)` for variables that are not periodic and :math:`(\kappa \cos\phi_0,\, \kappa \sin\phi_0)` for each that is,

    .. math:: U_\mathrm{bias} = \frac{kT}{2} e^\lambda (|d-m|^2 - |m|^2) - kT \sum_j \kappa_j \cos(\phi_j - \phi_{0,j}).

    Variables are measured on sites: particles, or weighted centroids of several (:meth:`addCentroid`). A position is a Cartesian component of a site after
    the optimal superposition of a frame (:meth:`addFrame`) on reference positions; the forces include those that the rotation passes on to the frame. Several
    walkers (:meth:`addWalker`), copies of a molecule in one System, are biased each at its own point of the curve; see :func:`openmmspacetime.replicate`.

    Two Context parameters steer the force: ``spacetime_s`` in [0, 1] (another name can be given with :meth:`setParameterName`, so that several curves
    can live in one System), and ``spacetime_kT`` in kJ/mol. ``context.getState(parameterDerivatives=True)`` returns the derivatives of the energy with
    respect to both, except where the force is inside another, like CustomCVForce: OpenMM does not pass derivatives on. An s beyond [0, 1] is an error when the
    energy is evaluated. The energy is a pure function of positions, box and parameters.

    Parameters
    ----------
    curve : object with ``s`` and ``eta``, or path, optional
        A Curve, anything else with attributes ``s`` [N+1] and ``eta`` [N+1, m], or the path of a curve's JSON file.
    variables : iterable, optional
        The collective variables: items with attributes ``name``, ``kind`` ('torsion', 'coordinate', 'angle', 'distance' or 'position'), ``atoms``, ``axis``, ``period``, ``shift``,
        ``scale``, and where there are centroids or frames ``weights`` and ``frame``, as :class:`Variables` has them. When left out, the curve's own
        variables are used where they name atoms; call :meth:`addTorsion`, :meth:`addDistance` and so on otherwise.
    temperature : float or Quantity, optional
        In kelvin. When left out, the curve's.
    s, eta : array_like, optional
        The nodes themselves, [N+1] and [N+1, m], instead of `curve`.

    Raises
    ------
    ValueError
        Shapes do not fit, a variable is of a kind that this force does not know or names no atoms, or there is no temperature.
    openmm.OpenMMException
        s does not increase strictly from 0 to 1, a number is not finite, an index or a temperature is impossible. That eta has as many components
        as the variables have statistics is checked when a Context is created.

    Examples
    --------
    >>> import numpy as np, openmm
    >>> from openmm import unit
    >>> import openmmspacetime as st
    >>> kappa, phi = 50.0, np.linspace(-1.0, 1.0, 5)
    >>> force = st.SpacetimeForce(s=np.linspace(0, 1, 5), eta=kappa*np.stack([np.cos(phi), np.sin(phi)], axis=1), temperature=300*unit.kelvin)
    >>> force.addTorsion(0, 1, 2, 3, name="phi")
    0
    >>> force.getEta(1.0).round(3)
    array([27.015, 42.074])
    """

    def __init__(self, curve: Any = None, variables: Optional[Iterable[Any]] = None, temperature: Any = None, *, s: Any = None, eta: Any = None) -> None:
        if (curve is None) == (s is None or eta is None):
            raise ValueError("SpacetimeForce: expected either a curve, or both s and eta")
        if curve is not None:
            if isinstance(curve, (str, os.PathLike)):
                curve = _core.Curve.load(os.fspath(curve))
            s, eta = curve.s, curve.eta
            if variables is None:
                variables = getattr(curve, "variables", None)
                if variables is not None and any(len(v.atoms) == 0 for v in variables):
                    variables = None
            if temperature is None:
                temperature = getattr(curve, "temperature", None) or None
        if temperature is None:
            raise ValueError("SpacetimeForce: no temperature was given, and the curve does not know one; pass temperature in K")
        s, eta = _nodes(s, eta)
        super().__init__(s, eta, _value(temperature, unit.kelvin))
        #: Fisher-Rao length of the curve where it was measured, for samplers.
        length = getattr(curve, "length", None)
        self._length = float(length) if length is not None and np.isfinite(length) else None
        known: dict = {}
        for v in variables if variables is not None else ():
            self._add(v, known)

    def _add(self, v: Any, known: dict) -> None:
        """Add `v`, and its centroids and frame where they are not among the `known` ones."""
        if v.kind not in _SITES:
            raise ValueError(f"SpacetimeForce: variable '{v.name}' is of kind '{v.kind}', which has no atoms to push: expected one of {', '.join(_SITES)}")
        if len(v.atoms) != _SITES[v.kind]:
            raise ValueError(f"SpacetimeForce: variable '{v.name}' of kind '{v.kind}' needs {_SITES[v.kind]} atoms, but has {len(v.atoms)}")
        sites = self._sites(v.atoms, getattr(v, "weights", None), known)
        if v.kind == "torsion":
            self.addTorsion(sites[0], sites[1], sites[2], sites[3], v.name)
        elif v.kind == "coordinate":
            self.addCoordinate(sites[0], v.axis, v.period, v.shift, v.scale, name=v.name)
        elif v.kind == "angle":
            self.addAngle(sites[0], sites[1], sites[2], v.shift, v.scale, v.name)
        elif v.kind == "distance":
            self.addDistance(sites[0], sites[1], v.shift, v.scale, v.name)
        else:
            self.addPosition(sites[0], v.axis, self._frame(v.frame, known), v.shift, v.scale, name=v.name)

    def _sites(self, atoms: Sequence[Any], weights: Optional[Sequence[Any]], known: dict) -> list:
        """Particles as they are, and handles of centroids for lists of particles: each centroid once."""
        result = []
        for i, site in enumerate(atoms):
            if not isinstance(site, numbers.Integral):
                own = (tuple(site), None if weights is None or weights[i] is None else tuple(weights[i]))
                if own not in known:
                    known[own] = self.addCentroid(*own)
                site = known[own]
            result.append(site)
        return result

    def _frame(self, frame: Any, known: dict) -> int:
        sites = self._sites(frame.atoms, frame.atomWeights, known)
        own = (tuple(sites), np.asarray(frame.reference).tobytes(), None if frame.weights is None else tuple(frame.weights))
        if own not in known:
            known[own] = self.addFrame(sites, frame.reference, frame.weights)
        return known[own]

    def _describeVariable(self, index: int) -> dict:
        """Everything about a variable in plain numbers (nm, rad), for files: name, kind, atoms, axis, period, shift, scale, and weights and frame where there are any."""
        kind = self.getVariableType(index)
        item: dict = {"name": self.getVariableName(index), "kind": kind, "axis": 0, "period": 0.0, "shift": 0.0, "scale": 1.0}
        plain = [x._value if unit.is_quantity(x) else x for x in getattr(self, f"get{kind.capitalize()}Parameters")(index)]
        if kind == "torsion":
            sites, item["period"] = plain, 2*np.pi
        elif kind == "coordinate":
            sites, (item["axis"], item["period"], item["shift"], item["scale"]) = plain[:1], plain[1:]
        elif kind == "position":
            sites, (item["axis"], frame, item["shift"], item["scale"]) = plain[:1], plain[1:]
            members, reference, weights = self.getFrameParameters(frame)
            item["frame"] = {**self._describeSites(members), "reference": reference._value.tolist(), **({} if weights is None else {"weights": list(weights)})}
        else:
            sites, (item["shift"], item["scale"]) = plain[:-2], plain[-2:]
        return {**item, **self._describeSites(sites)}

    def _describeSites(self, sites: Sequence[int]) -> dict:
        members: list[tuple[Any, Any]] = [(site, None) if site >= 0 else self.getCentroidParameters(site) for site in sites]
        described = {"atoms": [list(m) if isinstance(m, tuple) else m for m, _ in members]}
        if any(w is not None for _, w in members):
            described["atom_weights"] = [None if w is None else list(w) for _, w in members]
        return described

    # Variables

    def addCentroid(self, particles: Sequence[int], weights: Optional[Sequence[float]] = None) -> int:
        """Define the weighted centroid of several particles.

        Under periodic boundary conditions the particles are taken where they are, not at their nearest images: molecules that were whole stay whole.

        Parameters
        ----------
        particles : sequence of int
            0-based indices, all different.
        weights : sequence of float, optional
            One positive number per particle (masses, for example), of which only the ratios matter; equal ones by default.

        Returns
        -------
        int
            A handle, -1 for the first centroid, -2 for the second and so on, to be passed wherever the index of a particle is expected.

        Examples
        --------
        >>> import openmmspacetime as st
        >>> force = st.SpacetimeForce(s=[0, 1], eta=[[-50, 30], [-50, 60]], temperature=300)
        >>> ring = force.addCentroid([0, 1, 2, 3, 4, 5])
        >>> force.addDistance(ring, 17, name="d")
        0
        """
        return super().addCentroid(_indices(particles), _weights(weights))

    def getCentroidParameters(self, handle: int) -> Tuple[Tuple[int, ...], Optional[Tuple[float, ...]]]:
        """Particles and weights (None for equal ones) of the centroid with this handle."""
        handle = operator.index(handle)
        return tuple(np.frombuffer(super()._centroidParticles(handle), dtype=np.intc).tolist()), _orNone(super()._centroidWeights(handle))

    def addFrame(self, sites: Sequence[int], reference: Any, weights: Optional[Sequence[float]] = None) -> int:
        """Define a frame: sites that are superposed on reference positions, and in which positions are measured.

        Parameters
        ----------
        sites : sequence of int
            At least three particles or handles of centroids.
        reference : array_like or Quantity
            [P, 3] their reference positions in nm, not all on one line.
        weights : sequence of float, optional
            One positive number per site in the superposition; equal ones by default.

        Returns
        -------
        int
            The index of the frame.
        """
        reference = np.ascontiguousarray(reference.value_in_unit(unit.nanometer) if unit.is_quantity(reference) else reference, dtype=float)
        if reference.ndim != 2 or reference.shape[1] != 3:
            raise ValueError(f"SpacetimeForce: expected the reference positions of a frame of shape [P, 3], but got {list(reference.shape)}")
        return super()._addFrame(_indices(sites), reference.ravel(), _weights(weights))

    def getFrameParameters(self, frame: int) -> Tuple[Tuple[int, ...], unit.Quantity, Optional[Tuple[float, ...]]]:
        """Sites, reference positions [P, 3] and weights (None for equal ones) of a frame."""
        frame = operator.index(frame)
        return (tuple(np.frombuffer(super()._frameSites(frame), dtype=np.intc).tolist()), np.frombuffer(super()._frameReference(frame)).reshape(-1, 3)*unit.nanometer,
                _orNone(super()._frameWeights(frame)))

    def addTorsion(self, site1: int, site2: int, site3: int, site4: int, name: str = "") -> int:
        """Add the torsion angle of four sites as the next variable. It is periodic.

        Parameters
        ----------
        site1, site2, site3, site4 : int
            0-based indices of particles or handles of centroids.
        name : str, optional
            For error messages and records.

        Returns
        -------
        int
            The index of the variable.
        """
        return super().addTorsion(*(operator.index(p) for p in (site1, site2, site3, site4)), _string(name))

    def addCoordinate(self, site: int, axis: int, period: Any = 0.0, shift: Any = 0.0, scale: Any = 1.0, name: str = "") -> int:
        """Add one Cartesian component of a site as the next variable.

        Parameters
        ----------
        site : int
            0-based index of a particle or handle of a centroid.
        axis : int
            0, 1 or 2 for x, y or z.
        period : float or Quantity, optional
            Length of one turn in nm; 0 for a coordinate that is not periodic.
        shift, scale : float or Quantity, optional
            In nm. A coordinate that is not periodic enters as (raw - shift)/scale.
        name : str, optional
            For error messages and records.

        Returns
        -------
        int
            The index of the variable.
        """
        return super().addCoordinate(operator.index(site), operator.index(axis), *(_value(x, unit.nanometer) for x in (period, shift, scale)), _string(name))

    def addAngle(self, site1: int, site2: int, site3: int, shift: Any = 0.0, scale: Any = 1.0, name: str = "") -> int:
        """Add the angle of three sites, between 0 and pi, as the next variable. It enters as (raw - shift)/scale; `shift` and `scale` in rad, or Quantities.

        See :meth:`addCoordinate` for the rest.
        """
        return super().addAngle(*(operator.index(p) for p in (site1, site2, site3)), _value(shift, unit.radian), _value(scale, unit.radian), _string(name))

    def addDistance(self, site1: int, site2: int, shift: Any = 0.0, scale: Any = 1.0, name: str = "") -> int:
        """Add the distance of two sites as the next variable. It enters as (raw - shift)/scale; `shift` and `scale` in nm, or Quantities.

        See :meth:`addCoordinate` for the rest.
        """
        return super().addDistance(operator.index(site1), operator.index(site2), _value(shift, unit.nanometer), _value(scale, unit.nanometer), _string(name))

    def addPosition(self, site: int, axis: int, frame: int, shift: Any = 0.0, scale: Any = 1.0, name: str = "") -> int:
        """Add one Cartesian component of a site after the superposition of a frame as the next variable.

        Parameters
        ----------
        site : int
            0-based index of a particle or handle of a centroid, in the frame or not.
        axis : int
            0, 1 or 2 for x, y or z of the reference.
        frame : int
            What :meth:`addFrame` returned.
        shift, scale : float or Quantity, optional
            In nm. The position enters as (raw - shift)/scale.
        name : str, optional
            For error messages and records.

        Returns
        -------
        int
            The index of the variable.
        """
        return super().addPosition(*(operator.index(i) for i in (site, axis, frame)), _value(shift, unit.nanometer), _value(scale, unit.nanometer), _string(name))

    def getVariableType(self, index: int) -> str:
        """'torsion', 'coordinate', 'angle', 'distance' or 'position'."""
        return self.getVariableTypeName(super().getVariableType(operator.index(index)))

    def getVariableName(self, index: int) -> str:
        """Name of a variable."""
        return super().getVariableName(operator.index(index))

    def setVariableName(self, index: int, name: str) -> None:
        """Rename a variable."""
        super().setVariableName(operator.index(index), _string(name))

    def getVariableNames(self) -> list:
        """Names of all variables, in order."""
        return [self.getVariableName(i) for i in range(self.getNumVariables())]

    def getTorsionParameters(self, index: int) -> Tuple[int, int, int, int]:
        """The four sites of a torsion."""
        return tuple(super().getTorsionParameters(operator.index(index)))

    def setTorsionParameters(self, index: int, site1: int, site2: int, site3: int, site4: int) -> None:
        """Change the sites of a torsion; see :meth:`addTorsion`. Existing Contexts cannot follow."""
        super().setTorsionParameters(*(operator.index(i) for i in (index, site1, site2, site3, site4)))

    def getCoordinateParameters(self, index: int) -> Tuple[int, int, unit.Quantity, unit.Quantity, unit.Quantity]:
        """Site, axis, period, shift and scale of a coordinate."""
        site, axis, *lengths = super().getCoordinateParameters(operator.index(index))
        return (site, axis, *(x*unit.nanometer for x in lengths))

    def setCoordinateParameters(self, index: int, site: int, axis: int, period: Any = 0.0, shift: Any = 0.0, scale: Any = 1.0) -> None:
        """Change a coordinate; see :meth:`addCoordinate`. Call :meth:`updateParametersInContext` after changing period, shift or scale."""
        super().setCoordinateParameters(*(operator.index(i) for i in (index, site, axis)), *(_value(x, unit.nanometer) for x in (period, shift, scale)))

    def getAngleParameters(self, index: int) -> Tuple[int, int, int, unit.Quantity, unit.Quantity]:
        """The three sites, shift and scale of an angle."""
        *sites, shift, scale = super().getAngleParameters(operator.index(index))
        return (*sites, shift*unit.radian, scale*unit.radian)

    def setAngleParameters(self, index: int, site1: int, site2: int, site3: int, shift: Any = 0.0, scale: Any = 1.0) -> None:
        """Change an angle; see :meth:`addAngle`. Call :meth:`updateParametersInContext` after changing shift or scale."""
        super().setAngleParameters(*(operator.index(i) for i in (index, site1, site2, site3)), _value(shift, unit.radian), _value(scale, unit.radian))

    def getDistanceParameters(self, index: int) -> Tuple[int, int, unit.Quantity, unit.Quantity]:
        """The two sites, shift and scale of a distance."""
        site1, site2, shift, scale = super().getDistanceParameters(operator.index(index))
        return site1, site2, shift*unit.nanometer, scale*unit.nanometer

    def setDistanceParameters(self, index: int, site1: int, site2: int, shift: Any = 0.0, scale: Any = 1.0) -> None:
        """Change a distance; see :meth:`addDistance`. Call :meth:`updateParametersInContext` after changing shift or scale."""
        super().setDistanceParameters(*(operator.index(i) for i in (index, site1, site2)), _value(shift, unit.nanometer), _value(scale, unit.nanometer))

    def getPositionParameters(self, index: int) -> Tuple[int, int, int, unit.Quantity, unit.Quantity]:
        """Site, axis, frame, shift and scale of a position."""
        site, axis, frame, shift, scale = super().getPositionParameters(operator.index(index))
        return site, axis, frame, shift*unit.nanometer, scale*unit.nanometer

    def setPositionParameters(self, index: int, site: int, axis: int, frame: int, shift: Any = 0.0, scale: Any = 1.0) -> None:
        """Change a position; see :meth:`addPosition`. Call :meth:`updateParametersInContext` after changing shift or scale."""
        super().setPositionParameters(*(operator.index(i) for i in (index, site, axis, frame)), _value(shift, unit.nanometer), _value(scale, unit.nanometer))

    # Walkers

    def addWalker(self, offset: int, intercept: float = 0.0, slope: float = 1.0) -> int:
        """Add a walker: a copy of the molecule on which the variables are measured as well.

        Parameters
        ----------
        offset : int
            Added to the indices of all particles.
        intercept, slope : float, optional
            The walker sits at s_k = intercept + slope s, clamped to [0, 1], where s is the Context parameter.

        Returns
        -------
        int
            The index of the walker.
        """
        return super().addWalker(operator.index(offset), float(intercept), float(slope))

    def getWalkerParameters(self, index: int) -> Tuple[int, float, float]:
        """Offset, intercept and slope of a walker."""
        return tuple(super().getWalkerParameters(operator.index(index)))

    def setWalkerParameters(self, index: int, offset: int, intercept: float = 0.0, slope: float = 1.0) -> None:
        """Change a walker; see :meth:`addWalker`. Call :meth:`updateParametersInContext` after changing intercept or slope."""
        super().setWalkerParameters(operator.index(index), operator.index(offset), float(intercept), float(slope))

    # The curve

    def getCurve(self) -> Tuple[np.ndarray, np.ndarray]:
        """The nodes: s [N+1] and eta [N+1, m]."""
        s = np.frombuffer(super().getS())
        return s, np.frombuffer(super().getEta()).reshape(len(s), -1)

    def setCurve(self, s: Any, eta: Any) -> None:
        """Replace the nodes, s [N+1] and eta [N+1, m]. Existing Contexts follow after :meth:`updateParametersInContext`."""
        super().setCurve(*_nodes(s, eta))
        self._length = None

    def getEta(self, s: float) -> np.ndarray:  # type: ignore[override]  # the nodes, in C++; here getCurve has them
        """eta(s) [m]; s is clamped to [0, 1]."""
        return np.frombuffer(super().evaluateEta(float(s)))

    def getEtaDerivative(self, s: float) -> np.ndarray:
        """d eta/ds [m]; 0 outside [0, 1]."""
        return np.frombuffer(super().evaluateEtaDerivative(float(s)))

    # Parameters

    def getTemperature(self) -> unit.Quantity:
        """The temperature that sets the default of the Context parameter ``spacetime_kT``."""
        return super().getTemperature()*unit.kelvin

    def setTemperature(self, temperature: Any) -> None:
        """Set the temperature (K) of new Contexts; existing ones keep their value of ``spacetime_kT``."""
        super().setTemperature(_value(temperature, unit.kelvin))

    def setDefaultS(self, s: float) -> None:
        """Set the value of s in new Contexts."""
        super().setDefaultS(float(s))

    # What a Context holds

    def updateParametersInContext(self, context: openmm.Context) -> None:
        """Copy the curve, the periods, shifts and scales of the variables, and the intercepts and slopes of the walkers, to a Context.

        Raises
        ------
        openmm.OpenMMException
            The force is not part of the Context, or what its variables are measured on has changed.
        """
        super().updateParametersInContext(context)

    def getVariableValues(self, context: openmm.Context) -> np.ndarray:
        """Raw values [n] of the variables, or [walkers, n] where walkers were added, in rad or nm; periodic ones in (-period/2, period/2].

        Raises
        ------
        openmm.OpenMMException
            The force is not part of the Context: it was added to the System after the Context had been created.
        """
        return self._byWalker(super().getVariableValues(context))

    def getStatistic(self, context: openmm.Context) -> np.ndarray:
        """T(c) [m] at the Context's positions, or [walkers, m]. Raises as :meth:`getVariableValues` does."""
        return self._byWalker(super().getStatistic(context))

    def _byWalker(self, data: bytes) -> np.ndarray:
        walkers = self.getNumWalkers()
        return np.frombuffer(data).reshape((walkers, -1) if walkers else -1)

    def getBiasEnergy(self, context: openmm.Context) -> unit.Quantity:
        """-kT eta(s)·T(c), summed over the walkers, at the Context's positions and parameters. Raises as :meth:`getVariableValues` does."""
        return super().getBiasEnergy(context)*unit.kilojoule_per_mole

    # Being a Python object

    @staticmethod
    def isinstance(force: openmm.Force) -> bool:
        """Whether a Force is a SpacetimeForce, also where OpenMM hands it out as a plain Force, as ``System.getForce`` does."""
        return openmm_wrapper.SpacetimeForce._cast(force) is not None

    @staticmethod
    def cast(force: openmm.Force) -> SpacetimeForce:
        """The same force with its methods. It still belongs to the System, which must outlive it.

        Raises
        ------
        TypeError
            It is another kind of Force.
        """
        result = openmm_wrapper.SpacetimeForce._cast(force)
        if result is None:
            raise TypeError(f"SpacetimeForce.cast: expected a SpacetimeForce, but got the Force '{force.getName()}'")
        return result

    def __copy__(self) -> SpacetimeForce:
        return self._copy()

    def __deepcopy__(self, memo: Any) -> SpacetimeForce:
        return self._copy()

    def __reduce__(self):
        return openmm_wrapper.SpacetimeForce._fromXml, (self._toXml(),)

    def __repr__(self) -> str:
        return f"SpacetimeForce({', '.join(self.getVariableNames())}; {len(self.getCurve()[0])} nodes, {super().getTemperature():g} K)"


# From here on SWIG wraps every SpacetimeForce that comes out of C++ in the class above.
openmm_wrapper._openmm_wrapper.SpacetimeForce_swigregister(SpacetimeForce)


def _nodes(s: Any, eta: Any) -> Tuple[np.ndarray, np.ndarray]:
    s = np.ascontiguousarray(s, dtype=float)
    eta = np.ascontiguousarray(eta, dtype=float)
    if s.ndim != 1 or eta.ndim != 2 or len(eta) != len(s):
        raise ValueError(f"SpacetimeForce: expected s of shape [N+1] and eta of shape [N+1, m], but got {list(s.shape)} and {list(eta.shape)}")
    return s, eta
