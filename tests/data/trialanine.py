# SPDX-License-Identifier: MIT
"""How trialanine_500K.npz was made: six backbone torsions of capped trialanine in implicit solvent (amber14, OBC2) at 500 K, 4 ns.

    python trialanine.py [--steps 2000000] [--out trialanine_500K.npz]
"""
import argparse
import io
import pathlib

import numpy as np
import openmm
from openmm import app, unit

DIPEPTIDE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "alanine_dipeptide" / "alanine_dipeptide.pdb"
RESIDUES, TEMPERATURE = 3, 500


def peptide(residues):
    """PDB text of ACE-ALA_n-NME: the residue of alanine dipeptide, carried on by the rigid motion of one peptide plane onto the next."""
    pdb = app.PDBFile(str(DIPEPTIDE))
    atoms = [(a.residue.name, a.name, a.element.symbol) for a in pdb.topology.atoms()]
    x = np.array(pdb.positions.value_in_unit(unit.angstrom))
    at = {(residue, name): i for i, (residue, name, _) in enumerate(atoms)}

    def plane(*names):
        a, b, c = (x[at[n]] for n in names)
        first = (c - b) / np.linalg.norm(c - b)
        second = a - b - (a - b) @ first * first
        second /= np.linalg.norm(second)
        return np.stack([first, second, np.cross(first, second)], 1), b

    (before, start), (after, end) = plane(("ACE", "C"), ("ALA", "N"), ("ALA", "CA")), plane(("ALA", "C"), ("NME", "N"), ("NME", "C" if ("NME", "C") in at else "CH3"))
    rotation = after @ before.T
    lines = []

    def add(name, number, positions):
        for (residue, atom, element), p in zip(atoms, positions):
            if residue == name:
                lines.append(f"ATOM  {len(lines) + 1:5d} {atom:^4s} {name} A{number:4d}    {p[0]:8.3f}{p[1]:8.3f}{p[2]:8.3f}  1.00  0.00          {element:>2s}")

    add("ACE", 1, x)
    for k in range(residues):
        add("ALA", k + 2, x)
        if k + 1 < residues:
            x = (x - start) @ rotation.T + end
    add("NME", residues + 2, x)
    return "\n".join(lines) + "\nEND\n"


def backbone(topology):
    """Atoms of phi and psi of every residue between the caps."""
    at = {(a.residue.index, a.name): a.index for a in topology.atoms()}
    count = topology.getNumResidues() - 2
    return [[at[r + o, n] for o, n in quadruple] for r in range(1, count + 1)
            for quadruple in (((-1, "C"), (0, "N"), (0, "CA"), (0, "C")), ((0, "N"), (0, "CA"), (0, "C"), (1, "N")))]


def torsion(x, a, b, c, d):
    u, v, w = x[a] - x[b], x[c] - x[b], x[d] - x[c]
    v /= np.linalg.norm(v)
    u, w = u - u @ v * v, w - w @ v * v
    return np.arctan2(np.cross(v, u) @ w, u @ w)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000_000, help="of 2 fs; a frame every 50")
    parser.add_argument("--keep", type=int, default=13_000, help="frames kept, evenly")
    parser.add_argument("--out", default="trialanine_500K.npz")
    arguments = parser.parse_args()
    pdb = app.PDBFile(io.StringIO(peptide(RESIDUES)))
    system = app.ForceField("amber14-all.xml", "implicit/obc2.xml").createSystem(pdb.topology, constraints=app.HBonds)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE * unit.kelvin, 1 / unit.picosecond, 2 * unit.femtoseconds)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(pdb.topology, system, integrator, openmm.Platform.getPlatform("CPU"), {"Threads": "1"})
    simulation.context.setPositions(pdb.positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(TEMPERATURE * unit.kelvin, 1)
    torsions, frames = backbone(pdb.topology), []
    for k in range(arguments.steps // 50):
        simulation.step(50)
        x = simulation.context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        frames.append([torsion(x, *t) for t in torsions])
        if k % 1000 == 0:
            print(f"{k} of {arguments.steps // 50} frames", flush=True)
    frames = frames[len(frames) // 40:]  # equilibration
    chosen = np.linspace(0, len(frames) - 1, min(arguments.keep, len(frames))).astype(int)
    np.savez_compressed(arguments.out, x=np.round(np.array(frames)[chosen], 3).astype("f4"), atoms=np.array(torsions))


if __name__ == "__main__":
    main()
