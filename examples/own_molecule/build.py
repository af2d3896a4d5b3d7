# SPDX-License-Identifier: MIT
"""How start.pdb and end.pdb were made: valine dipeptide, ACE-VAL-NME, in vacuum with amber14, with its backbone in C7eq and in C7ax.

    python build.py

Two hydrogens of alanine's CB give way to carbons, Modeller adds the hydrogens of valine, and a SpacetimeForce along a straight line takes the torsions where they are wanted.
"""
import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import studies  # noqa: E402

import openmmspacetime as st  # noqa: E402

#: phi, psi, chi1 in rad.
STATES = {"start.pdb": (-1.4, 1.0, 3.1), "end.pdb": (1.1, -0.7, 3.1)}


def main() -> None:
    pdb = app.PDBFile(str(studies.DIPEPTIDE))
    x = np.array(pdb.positions.value_in_unit(unit.nanometer))
    topology, chain, positions = app.Topology(), None, []
    chain = topology.addChain("A")
    for residue in pdb.topology.residues():
        isAlanine = residue.name == "ALA"
        own = topology.addResidue("VAL" if isAlanine else residue.name, chain, residue.id)
        for atom in residue.atoms():
            if atom.element.symbol != "H":
                topology.addAtom(atom.name, atom.element, own)
                positions.append(x[atom.index])
        if isAlanine:
            cb = next(x[a.index] for a in residue.atoms() if a.name == "CB")
            for name, hydrogen in (("CG1", "HB1"), ("CG2", "HB2")):
                bond = next(x[a.index] for a in residue.atoms() if a.name == hydrogen)-cb
                topology.addAtom(name, app.element.carbon, own)
                positions.append(cb+bond*0.1525/np.linalg.norm(bond))
    topology.createStandardBonds()
    model = app.Modeller(topology, np.array(positions)*unit.nanometer)
    model.addHydrogens(app.ForceField("amber14-all.xml"), platform=openmm.Platform.getPlatformByName("Reference"))
    variables = st.Variables.torsionsOf(model.topology, "phi psi chi1")
    for name, state in STATES.items():
        x = studies.settle(model.topology, False, np.array(model.positions.value_in_unit(unit.nanometer)), variables, state)
        with open(HERE/name, "w") as file:
            app.PDBFile.writeFile(model.topology, x*10, file, keepIds=True)
        print(name, ", ".join(f"{n} {v:.2f}" for n, v in zip(variables.names, variables.measure(x))))


if __name__ == "__main__":
    main()
