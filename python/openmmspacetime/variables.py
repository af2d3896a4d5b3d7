# SPDX-License-Identifier: MIT
"""What collective variables get in Python: a constructor that takes OpenMM's units."""
from __future__ import annotations

from typing import Sequence

from openmm import unit

from ._core import Variables


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


Variables.positions = staticmethod(positions)
