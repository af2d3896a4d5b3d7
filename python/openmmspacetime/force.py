# SPDX-License-Identifier: MIT
"""The OpenMM Force that biases a System along a curve in spacetime."""
from __future__ import annotations

import operator
import os
from typing import Any, Iterable, Optional, Tuple

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

    Two Context parameters steer the force: ``spacetime_s``, clamped to [0, 1] (another name can be given with :meth:`setParameterName`, so that several curves
    can live in one System), and ``spacetime_kT`` in kJ/mol. ``context.getState(parameterDerivatives=True)`` returns the derivatives of the energy with
    respect to both. The energy is a pure function of positions, box and parameters.

    Parameters
    ----------
    curve : object with ``s`` and ``eta``, or path, optional
        A Curve, anything else with attributes ``s`` [N+1] and ``eta`` [N+1, m], or the path of a curve's JSON file.
    variables : iterable, optional
        The collective variables: items with attributes ``name``, ``kind`` ('torsion' or 'coordinate'), ``atoms``, ``axis``, ``period``, ``shift`` and ``scale``.
        When left out, the curve's own variables are used where they name atoms; call :meth:`addTorsion` and :meth:`addCoordinate` otherwise.
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
        for v in variables if variables is not None else ():
            self._add(v)

    def _add(self, v: Any) -> None:
        if v.kind not in ("torsion", "coordinate"):
            raise ValueError(f"SpacetimeForce: variable '{v.name}' is of kind '{v.kind}', which is not supported by SpacetimeForce yet: torsion and coordinate are")
        atoms = list(v.atoms)
        expected = 4 if v.kind == "torsion" else 1
        if len(atoms) != expected:
            raise ValueError(f"SpacetimeForce: variable '{v.name}' of kind '{v.kind}' needs {expected} atoms, but has {len(atoms)}")
        if v.kind == "torsion":
            self.addTorsion(*atoms, name=v.name)
        else:
            self.addCoordinate(atoms[0], v.axis, v.period, v.shift, v.scale, name=v.name)

    # Variables

    def addTorsion(self, particle1: int, particle2: int, particle3: int, particle4: int, name: str = "") -> int:
        """Add the torsion angle of four particles as the next variable.

        Parameters
        ----------
        particle1, particle2, particle3, particle4 : int
            0-based indices, all different.
        name : str, optional
            For error messages and records.

        Returns
        -------
        int
            The index of the variable.
        """
        particles = [operator.index(p) for p in (particle1, particle2, particle3, particle4)]
        return super().addTorsion(*particles, _string(name))

    def addCoordinate(self, particle: int, axis: int, period: Any = 0.0, shift: Any = 0.0, scale: Any = 1.0, name: str = "") -> int:
        """Add one Cartesian component of a particle as the next variable.

        Parameters
        ----------
        particle : int
            0-based index.
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
        return super().addCoordinate(operator.index(particle), operator.index(axis), _value(period, unit.nanometer), _value(shift, unit.nanometer),
                                     _value(scale, unit.nanometer), _string(name))

    def getVariableType(self, index: int) -> str:
        """'torsion' or 'coordinate'."""
        return "torsion" if super().getVariableType(operator.index(index)) == self.Torsion else "coordinate"

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
        """The four particles of a torsion."""
        return tuple(super().getTorsionParameters(operator.index(index)))

    def setTorsionParameters(self, index: int, particle1: int, particle2: int, particle3: int, particle4: int) -> None:
        """Change the particles of a torsion; see :meth:`addTorsion`. Existing Contexts cannot follow."""
        super().setTorsionParameters(*(operator.index(i) for i in (index, particle1, particle2, particle3, particle4)))

    def getCoordinateParameters(self, index: int) -> Tuple[int, int, unit.Quantity, unit.Quantity, unit.Quantity]:
        """Particle, axis, period, shift and scale of a coordinate."""
        particle, axis, period, shift, scale = super().getCoordinateParameters(operator.index(index))
        return particle, axis, period*unit.nanometer, shift*unit.nanometer, scale*unit.nanometer

    def setCoordinateParameters(self, index: int, particle: int, axis: int, period: Any = 0.0, shift: Any = 0.0, scale: Any = 1.0) -> None:
        """Change a coordinate; see :meth:`addCoordinate`. Call :meth:`updateParametersInContext` after changing period, shift or scale."""
        super().setCoordinateParameters(operator.index(index), operator.index(particle), operator.index(axis), _value(period, unit.nanometer),
                                        _value(shift, unit.nanometer), _value(scale, unit.nanometer))

    # The curve

    def getCurve(self) -> Tuple[np.ndarray, np.ndarray]:
        """The nodes: s [N+1] and eta [N+1, m]."""
        s = np.frombuffer(super().getS())
        return s, np.frombuffer(super().getEta()).reshape(len(s), -1)

    def setCurve(self, s: Any, eta: Any) -> None:
        """Replace the nodes, s [N+1] and eta [N+1, m]. Existing Contexts follow after :meth:`updateParametersInContext`."""
        super().setCurve(*_nodes(s, eta))

    def getEta(self, s: float) -> np.ndarray:
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
        """Copy the curve, and the periods, shifts and scales of coordinates, to a Context.

        Raises
        ------
        openmm.OpenMMException
            The force is not part of the Context, or the number, types or particles of its variables have changed.
        """
        super().updateParametersInContext(context)

    def getVariableValues(self, context: openmm.Context) -> np.ndarray:
        """Raw values [n] of the variables, in rad or nm; periodic ones in (-period/2, period/2].

        Raises
        ------
        openmm.OpenMMException
            The force is not part of the Context: it was added to the System after the Context had been created.
        """
        return np.frombuffer(super().getVariableValues(context))

    def getStatistic(self, context: openmm.Context) -> np.ndarray:
        """T(c) [m] at the Context's positions. Raises as :meth:`getVariableValues` does."""
        return np.frombuffer(super().getStatistic(context))

    def getBiasEnergy(self, context: openmm.Context) -> unit.Quantity:
        """-kT eta(s)·T(c) at the Context's positions and parameters. Raises as :meth:`getVariableValues` does."""
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
