# SPDX-License-Identifier: MIT
"""Many copies of a molecule in one System, so that a GPU has enough to do."""
from __future__ import annotations

import copy
import operator
import re
from typing import NoReturn, Any, List, Optional, Sequence, Tuple

import numpy as np
import openmm
from openmm import app, unit

from .force import SpacetimeForce

__all__ = ["replicate"]

#: 1/(4 pi epsilon0) in kJ/mol nm/e^2, the very number of OpenMM's NonbondedForce.
ONE_4PI_EPS0 = 138.93545764438198

# Forces that are sums of terms: what a term is called in their methods, and which of its parameters are particles.
_TERMS = {
    "HarmonicBondForce": ("Bond", slice(0, 2)),
    "HarmonicAngleForce": ("Angle", slice(0, 3)),
    "PeriodicTorsionForce": ("Torsion", slice(0, 4)),
    "RBTorsionForce": ("Torsion", slice(0, 4)),
    "CMAPTorsionForce": ("Torsion", slice(1, 9)),
    "CustomBondForce": ("Bond", slice(0, 2)),
    "CustomAngleForce": ("Angle", slice(0, 3)),
    "CustomTorsionForce": ("Torsion", slice(0, 4)),
    "CustomCompoundBondForce": ("Bond", slice(0, 1)),
    "CustomExternalForce": ("Particle", slice(0, 1)),
}

_REASONS = {
    "CustomGBForce": "its Born radii are sums over all particles, so the copies would screen one another",
    "GBSAOBCForce": "its Born radii are sums over all particles, so the copies would screen one another",
    "CustomCVForce": "a function of sums over all copies is not the sum of the functions of each",
    "AndersenThermostat": "take an integrator that is a thermostat, LangevinMiddleIntegrator say",
}

# What CustomCompoundBondForce gives a meaning of its own.
_RESERVED = re.compile(r"\b([xyzp][12]|distance|angle|dihedral|point\w+|vector\w+)\b")


def replicate(system: openmm.System, topology: app.Topology, n: int, *, intercept: Optional[Sequence[float]] = None,
              slope: Optional[Sequence[float]] = None) -> Tuple[openmm.System, app.Topology]:
    """Put `n` copies of a molecule that do not interact into one System.

    A small molecule leaves a GPU idle; a thousand copies of it fill one, for little more than the cost of one. Particle i of copy k is particle
    ``k*system.getNumParticles() + i``. The energy is the sum over the copies, and so is every derivative with respect to a Context parameter.

    Meant for molecules in vacuum. A NonbondedForce becomes a CustomBondForce over the pairs of particles that interact within a copy, with the same
    energies: exact, and linear in `n`, but quadratic in the number of particles of a copy. Likewise a CustomNonbondedForce, which becomes a
    CustomCompoundBondForce where its energy contains tabulated functions. All other forces whose terms belong to a few particles are copied term by term,
    constraints, masses, virtual sites, force groups, names, Context parameters and box vectors too. Each SpacetimeForce gets `n` walkers.

    A CMMotionRemover is left out: there would be one centre of mass of all copies, and taking out its motion would couple them. So each copy diffuses.

    Parameters
    ----------
    system : System
        One copy. It is not changed.
    topology : Topology
        Its topology.
    n : int
        Number of copies, at least 1.
    intercept, slope : array_like [n], optional
        Where the copies sit on the curve: copy k of the SpacetimeForce at s_k = intercept[k] + slope[k] s, clamped to [0, 1]. 0 and 1 when left out.

    Returns
    -------
    System, Topology
        Of n times as many particles.

    Raises
    ------
    ValueError
        `n` is below 1; the topology has another number of atoms than the System has particles; `intercept` or `slope` is not of length `n`, not finite, or
        given without there being a SpacetimeForce; a SpacetimeForce has walkers already; or the System holds a force, a virtual site or an option of a force
        that couples the copies or is not known here: cutoffs, Ewald sums, barostats, implicit solvent and parameter offsets among them.

    Examples
    --------
    >>> import numpy as np, openmm
    >>> from openmm import app
    >>> import openmmspacetime as st
    >>> topology = app.Topology()
    >>> residue = topology.addResidue("HCL", topology.addChain())
    >>> system, bonds = openmm.System(), openmm.HarmonicBondForce()
    >>> for symbol, mass in ("H", 1.008), ("Cl", 35.45):
    ...     atom, particle = topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue), system.addParticle(mass)
    >>> bond = bonds.addBond(0, 1, 0.127, 3e5)
    >>> force = system.addForce(bonds)
    >>> many, manyTopology = st.replicate(system, topology, 1000)
    >>> positions = np.array([[0, 0, 0], [0.13, 0, 0]])
    >>> context = openmm.Context(many, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    >>> context.setPositions(np.tile(positions, (1000, 1)))
    >>> round(context.getState(energy=True).getPotentialEnergy()._value, 6)
    1350.0
    """
    n = operator.index(n)
    if n < 1:
        raise ValueError(f"replicate: expected at least 1 copy, but n is {n}")
    size = system.getNumParticles()
    if topology.getNumAtoms() != size:
        raise ValueError(f"replicate: expected a topology of the System, which has {size} particles, but got one of {topology.getNumAtoms()} atoms")
    if (intercept is not None or slope is not None) and not any(SpacetimeForce.isinstance(f) for f in system.getForces()):
        raise ValueError("replicate: intercept and slope place copies on the curve of a SpacetimeForce, but the System has none; add it first")
    intercepts, slopes = _perCopy("intercept", intercept, 0.0, n), _perCopy("slope", slope, 1.0, n)
    # Forces first: they take a moment to build, and what is refused should be so at once.
    forces = [f for force in system.getForces() for f in _copies(force, size, n, intercepts, slopes)]
    result = _particles(system, n)
    for force in forces:
        result.addForce(force)
    return result, _topology(topology, n)


def _perCopy(name: str, values: Any, default: float, n: int) -> List[float]:
    if values is None:
        return [default]*n
    values = np.asarray(values, dtype=float)
    if values.shape != (n,):
        raise ValueError(f"replicate: expected {name} of shape [{n}], one number for each copy, but got {list(values.shape)}")
    if not np.all(np.isfinite(values)):
        k = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"replicate: expected finite numbers, but {name}[{k}] is {values[k]}")
    return values.tolist()


def _plain(x: Any) -> Any:
    """`x` without its unit: OpenMM takes units off each time a term is added, which costs more than the adding."""
    return x.value_in_unit_system(unit.md_unit_system) if unit.is_quantity(x) else x


def _particles(system: openmm.System, n: int) -> openmm.System:
    size = system.getNumParticles()
    result = openmm.System()
    result.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
    masses = [_plain(system.getParticleMass(i)) for i in range(size)]
    constraints = [[_plain(x) for x in system.getConstraintParameters(i)] for i in range(system.getNumConstraints())]
    sites = [(i, system.getVirtualSite(i)) for i in range(size) if system.isVirtualSite(i)]
    for k in range(n):
        offset = k*size
        for mass in masses:
            result.addParticle(mass)
        for i, j, distance in constraints:
            result.addConstraint(i+offset, j+offset, distance)
        for i, site in sites:
            result.setVirtualSite(i+offset, _virtualSite(i, site, offset))
    return result


def _virtualSite(i: int, site: openmm.VirtualSite, offset: int) -> openmm.VirtualSite:
    particles = [site.getParticle(j)+offset for j in range(site.getNumParticles())]
    if type(site) in (openmm.TwoParticleAverageSite, openmm.ThreeParticleAverageSite):
        return type(site)(*particles, *(site.getWeight(j) for j in range(len(particles))))
    if type(site) is openmm.OutOfPlaneSite:
        return openmm.OutOfPlaneSite(*particles, site.getWeight12(), site.getWeight13(), site.getWeightCross())
    if type(site) is openmm.LocalCoordinatesSite:
        return openmm.LocalCoordinatesSite(particles, site.getOriginWeights(), site.getXWeights(), site.getYWeights(), _plain(site.getLocalPosition()))
    raise ValueError(f"replicate: particle {i} is a virtual site of a kind that is not known here; TwoParticleAverageSite, ThreeParticleAverageSite, "
                     "OutOfPlaneSite and LocalCoordinatesSite are")


def _topology(topology: app.Topology, n: int) -> app.Topology:
    result = app.Topology()
    result.setPeriodicBoxVectors(topology.getPeriodicBoxVectors())
    for _ in range(n):
        atoms = {}
        for chain in topology.chains():
            newChain = result.addChain(chain.id)
            for residue in chain.residues():
                newResidue = result.addResidue(residue.name, newChain, residue.id, residue.insertionCode)
                for atom in residue.atoms():
                    atoms[atom.index] = result.addAtom(atom.name, atom.element, newResidue, atom.id, atom.formalCharge)
        for bond in topology.bonds():
            result.addBond(atoms[bond[0].index], atoms[bond[1].index], bond.type, bond.order)
    return result


# Forces

def _refuse(force: openmm.Force, reason: str) -> NoReturn:
    kind = type(force).__name__
    name = "" if force.getName() == kind else f" '{force.getName()}'"
    raise ValueError(f"replicate: cannot copy the {kind}{name}: {reason}")


def _copies(force: openmm.Force, size: int, n: int, intercepts: List[float], slopes: List[float]) -> List[openmm.Force]:
    """The force that acts within each of the copies, if any is left."""
    kind = type(force).__name__
    if kind in _TERMS:
        return [_terms(force, size, n)]
    if kind == "NonbondedForce":
        return [_nonbonded(force, size, n)]
    if kind == "CustomNonbondedForce":
        return [_customNonbonded(force, size, n)]
    if kind == "CMMotionRemover":
        return []
    if SpacetimeForce.isinstance(force):
        result = copy.deepcopy(SpacetimeForce.cast(force))
        if result.getNumWalkers() > 0:
            raise ValueError(f"replicate: expected a SpacetimeForce without walkers, but '{result.getName()}' has {result.getNumWalkers()} already")
        for k in range(n):
            result.addWalker(k*size, intercepts[k], slopes[k])
        return [result]
    reason = "the box is one for all copies" if "Barostat" in kind else "whether it would couple the copies is not known here"
    _refuse(force, _REASONS.get(kind, reason))


def _terms(force: openmm.Force, size: int, n: int) -> openmm.Force:
    kind, where = _TERMS[type(force).__name__]
    get = getattr(force, f"get{kind}Parameters")
    terms = [[_plain(x) for x in get(i)] for i in range(getattr(force, f"getNum{kind}s")())]
    result = copy.deepcopy(force)
    add = getattr(result, f"add{kind}")
    for offset in range(size, n*size, size):
        for term in terms:
            term = list(term)
            term[where] = [p+offset if isinstance(p, int) else [q+offset for q in p] for p in term[where]]
            add(*term)
    return result


def _like(result: openmm.Force, force: openmm.Force) -> None:
    result.setName(force.getName())
    result.setForceGroup(force.getForceGroup())


def _nonbonded(force: openmm.NonbondedForce, size: int, n: int) -> openmm.CustomBondForce:
    if force.getNonbondedMethod() != openmm.NonbondedForce.NoCutoff:
        _refuse(force, "expected the method NoCutoff: with a cutoff or a lattice sum the copies would meet one another")
    for count, what in ((force.getNumParticleParameterOffsets(), "particle parameter offsets"), (force.getNumExceptionParameterOffsets(), "exception parameter offsets"),
                        (force.getNumGlobalParameters(), "global parameters")):
        if count > 0:
            _refuse(force, f"expected none of its {what}, but there are {count}; build the System with the parameters they lead to")
    if force.getExceptionsUsePeriodicBoundaryConditions():
        _refuse(force, "its exceptions use periodic boundary conditions, its other pairs do not; call setExceptionsUsePeriodicBoundaryConditions(False)")
    q, sigma, epsilon = np.array([[_plain(x) for x in force.getParticleParameters(i)] for i in range(size)]).reshape(size, 3).T
    pairs = np.stack([np.outer(q, q), 0.5*(sigma[:, None]+sigma), np.sqrt(np.outer(epsilon, epsilon))], axis=-1)
    for e in range(force.getNumExceptions()):
        i, j, *parameters = (_plain(x) for x in force.getExceptionParameters(e))
        pairs[i, j] = pairs[j, i] = parameters
    i, j = np.nonzero(np.triu((pairs[..., 0] != 0) | (pairs[..., 2] != 0), 1))
    result = openmm.CustomBondForce(f"{ONE_4PI_EPS0!r}*chargeProd/r+4*epsilon*x*(x-1); x=(sigma/r)^6")
    for name in ("chargeProd", "sigma", "epsilon"):
        result.addPerBondParameter(name)
    _like(result, force)
    terms = list(zip(i.tolist(), j.tolist(), pairs[i, j].tolist()))
    for offset in range(0, n*size, size):
        for p1, p2, parameters in terms:
            result.addBond(p1+offset, p2+offset, parameters)
    return result


def _customNonbonded(force: openmm.CustomNonbondedForce, size: int, n: int) -> openmm.Force:
    if force.getNonbondedMethod() != openmm.CustomNonbondedForce.NoCutoff:
        _refuse(force, "expected the method NoCutoff: with a cutoff the copies would meet one another")
    for count, what in ((force.getNumInteractionGroups(), "interaction groups"), (force.getNumComputedValues(), "computed values")):
        if count > 0:
            _refuse(force, f"expected none of its {what}, which are not known here, but there are {count}")
    energy = force.getEnergyFunction()
    names = [force.getPerParticleParameterName(i) for i in range(force.getNumPerParticleParameters())]
    # A CustomBondForce is cheaper, but knows no tabulated functions.
    tabulated = force.getNumTabulatedFunctions() > 0
    if tabulated:
        reserved = _RESERVED.search(energy)
        if reserved:
            _refuse(force, f"its energy contains tabulated functions and the name {reserved[0]}, which has a meaning of its own in a CustomCompoundBondForce; rename it")
        result = openmm.CustomCompoundBondForce(2, energy.strip().rstrip(";")+"; r=distance(p1,p2)")
        for i in range(force.getNumTabulatedFunctions()):
            result.addTabulatedFunction(force.getTabulatedFunctionName(i), copy.deepcopy(force.getTabulatedFunction(i)))
    else:
        result = openmm.CustomBondForce(energy)
    for which in "12":
        for name in names:
            result.addPerBondParameter(name+which)
    for i in range(force.getNumGlobalParameters()):
        result.addGlobalParameter(force.getGlobalParameterName(i), force.getGlobalParameterDefaultValue(i))
    for i in range(force.getNumEnergyParameterDerivatives()):
        result.addEnergyParameterDerivative(force.getEnergyParameterDerivativeName(i))
    _like(result, force)
    parameters = [tuple(force.getParticleParameters(i)) for i in range(size)]
    excluded = {tuple(sorted(force.getExclusionParticles(e))) for e in range(force.getNumExclusions())}
    terms = [(i, j, parameters[i]+parameters[j]) for i in range(size) for j in range(i+1, size) if (i, j) not in excluded]
    for offset in range(0, n*size, size):
        for p1, p2, both in terms:
            if tabulated:
                result.addBond((p1+offset, p2+offset), both)
            else:
                result.addBond(p1+offset, p2+offset, both)
    return result
