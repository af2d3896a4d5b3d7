# SPDX-License-Identifier: MIT
"""What collective variables get in Python: constructors that take OpenMM's units and topologies, and their values at positions."""
from __future__ import annotations

from typing import Sequence

import numpy as np
import openmm
from openmm import app, unit

from ._core import Variables

#: What `torsionsOf` can be asked for.
KINDS = ("phi", "psi", "omega", "chi1", "chi2", "chi3", "chi4", "chi5")


def positions(
    atoms: Sequence,
    reference,
    weights: Sequence[float] | None = None,
    frameAtoms: Sequence | None = None,
    names: Sequence[str] | None = None,
    atomWeights: Sequence | None = None,
    frameAtomWeights: Sequence | None = None,
) -> Variables:
    """x, y and z of atoms or centroids after optimal superposition on a reference: three variables for each of them.

    The superposition is the rotation and translation that brings the frame's sites onto `reference` with the least weighted sum of squared
    distances, so the variables do not change when the molecule moves or turns as a whole. They are measured in the axes and from the
    origin of `reference`.

    Parameters
    ----------
    atoms : sequence of int or of list of int
        The sites whose positions are the variables: 0-based indices of atoms, or lists of them for centroids.
    reference : array [P, 3] or Quantity
        Where the P sites of the frame belong, in nm; at least three points that are not on a line.
    weights : sequence [P] of float, optional
        Weights of the frame's sites in the superposition, on any scale (masses, for example). Equal ones by default.
    frameAtoms : sequence of int or of list of int, optional
        The sites that are superposed, `atoms` by default.
    names : sequence of str, optional
        One for each site, "position1", "position2", ... by default; ".x", ".y" and ".z" are added.
    atomWeights, frameAtomWeights : sequence, optional
        Weights within the centroids of `atoms` and `frameAtoms`: for each site None (equal ones) or one float an atom.

    Returns
    -------
    Variables
        3 * len(atoms) variables of kind 'position', all with the same `frame`.

    Raises
    ------
    ValueError
        For fewer than three sites or points on one line, shapes that do not fit, sites that overlap, or weights that are not positive.

    Examples
    --------
    >>> import openmmspacetime as st
    >>> v = st.Variables.positions([7, [8, 9]], [[0, 0, 0], [0.15, 0, 0], [0, 0.15, 0]], frameAtoms=[4, 5, 6], names=["N", "methyl"])
    >>> v.names
    ['N.x', 'N.y', 'N.z', 'methyl.x', 'methyl.y', 'methyl.z']
    """
    # numpy reads the numbers of a Quantity whatever its unit is.
    if unit.is_quantity(reference):
        reference = reference.value_in_unit(unit.nanometer)
    return Variables._positions(atoms, reference, weights, frameAtoms, names, atomWeights, frameAtomWeights)


def torsionsOf(topology: app.Topology, kinds: str | Sequence[str] = "phi psi", residues: Sequence | None = None) -> Variables:
    """The torsions of a protein or peptide by their names, from the names of its atoms (mdtraj's definitions).

    Parameters
    ----------
    topology : openmm.app.Topology
    kinds : str or sequence of str
        Of 'phi', 'psi', 'omega', 'chi1' to 'chi5', as one string with blanks between them or one by one.
    residues : sequence of int or str, optional
        The residues' numbers in the PDB file; all residues when left out.

    Returns
    -------
    Variables
        Residue by residue, for each in the order of `kinds` those that it has, named "phi2", "psi2", ... with the number of the residue in the PDB file; where
        that is not unique "A.phi2" with the chain.

    Raises
    ------
    ValueError
        For a kind or residue that does not exist, or where there is no such torsion at all.
    ImportError
        mdtraj is not there.

    Examples
    --------
    >>> import openmmspacetime as st
    >>> st.Variables.torsionsOf(app.PDBFile("peptide.pdb").topology, "phi psi chi1").names  # doctest: +SKIP
    ['phi2', 'psi2', 'chi12', 'phi3', 'psi3']
    """
    try:
        import mdtraj
        from mdtraj.geometry import dihedral
    except ImportError as e:
        raise ImportError("Variables.torsionsOf: mdtraj is needed to find torsions by name; install it with: pip install mdtraj, or name atoms with Variables.torsions") from e
    kinds = kinds.split() if isinstance(kinds, str) else list(kinds)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(f"Variables.torsionsOf: expected kinds out of {', '.join(KINDS)}, but got {', '.join(map(repr, unknown)) or 'none'}")
    atoms, bonds = list(topology.atoms()), {frozenset((a.index, b.index)) for a, b in topology.bonds()}
    wanted = None if residues is None else {str(r) for r in residues}
    missing = sorted((wanted or set())-{a.residue.id for a in atoms})
    if missing:
        raise ValueError(f"Variables.torsionsOf: there is no residue {', '.join(missing)}; residues go by their numbers in the PDB file, here {atoms[0].residue.id} to {atoms[-1].residue.id}")
    traj, found = mdtraj.Topology.from_openmm(topology), []
    for k, kind in enumerate(kinds):
        for torsion in getattr(dihedral, f"indices_{kind}")(traj):
            # The second atom belongs to the residue that has the torsion. Where a chain has a gap, neighbours in the file are no neighbours.
            residue = atoms[torsion[1]].residue
            bonded = not bonds or all(frozenset((int(a), int(b))) in bonds for a, b in zip(torsion, torsion[1:]))
            if bonded and (wanted is None or residue.id in wanted):
                found.append((residue.index, k, f"{kind}{'_' if kind[-1].isdigit() else ''}{residue.id}", residue.chain.id, [int(a) for a in torsion]))
    if not found:
        raise ValueError(f"Variables.torsionsOf: found no {' or '.join(kinds)} among {topology.getNumResidues()} residues; atoms must have the names of the PDB's standard residues")
    found.sort()
    names = [name for _, _, name, _, _ in found]
    return Variables.torsions([torsion for *_, torsion in found],
                              names=[name if names.count(name) == 1 else f"{chain}.{name}" for _, _, name, chain, _ in found])


def measure(variables: Variables, positions) -> np.ndarray:
    """Values of the variables at positions.

    Parameters
    ----------
    positions : array [N, 3] or [frames, N, 3], or Quantity
        nm. Periodic images are not looked for: molecules must be whole.

    Returns
    -------
    array [n] or [frames, n]
        Raw values (rad, nm).

    Raises
    ------
    ValueError
        For another shape, numbers that are not finite, or a variable of atoms that are not there.

    Examples
    --------
    >>> import openmmspacetime as st
    >>> v = st.Variables.torsions([(0, 1, 2, 3)], names=["phi"])
    >>> v.measure([[0.1, 0, 0], [0, 0, 0], [0, 0, 0.1], [0, 0.1, 0.1]]).round(4)
    array([1.5708])
    """
    from .force import SpacetimeForce

    x = np.array(positions.value_in_unit(unit.nanometer) if unit.is_quantity(positions) else positions, dtype=float)
    if x.ndim not in (2, 3) or x.shape[-1] != 3 or not np.all(np.isfinite(x)):
        raise ValueError(f"Variables.measure: expected finite positions of shape [N, 3] or [frames, N, 3] in nm, but got {'numbers that are not finite' if x.shape[-1:] == (3,) else f'shape {list(x.shape)}'}")
    system = openmm.System()
    for _ in range(x.shape[-2]):
        system.addParticle(1.0)
    # The force measures the variables anyway; a curve of eta = 0 goes nowhere.
    force = SpacetimeForce(s=[0, 1], eta=np.zeros((2, variables.numStatistics)), variables=variables, temperature=1)
    system.addForce(force)
    try:
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    except openmm.OpenMMException as e:
        raise ValueError(f"Variables.measure: {e}") from None
    values = []
    for frame in x.reshape(-1, *x.shape[-2:]):
        context.setPositions(frame)
        values.append(force.getVariableValues(context))
    return np.array(values).reshape(x.shape[:-2]+(len(variables),))


for _name, _method in (("measure", measure), ("positions", staticmethod(positions)), ("torsionsOf", staticmethod(torsionsOf))):
    setattr(Variables, _name, _method)
