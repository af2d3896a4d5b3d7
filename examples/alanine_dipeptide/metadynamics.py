# SPDX-License-Identifier: MIT
"""Well-tempered metadynamics on the two torsions of alanine dipeptide with st.metadynamics, one independent walker per process.

The walkers supply what a model of the denoising distributions is made from: torsions that cover the whole surface,
barriers included, with weights that undo the bias.  Run as a script to make the samples that this example ships:

    python metadynamics.py --steps 8000000 --seed 1 --out data/alanine_vacuum_300K.npz
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import openmm
from openmm import app, unit

import openmmspacetime as st
from openmmspacetime.weightedsamples import errorBelow, surfaceOf  # noqa: F401 (errorBelow is for run.py)

HERE = Path(__file__).resolve().parent
PDB = HERE / "alanine_dipeptide.pdb"
TORSIONS = {"phi": (4, 6, 8, 14), "psi": (6, 8, 14, 16)}  # C-N-CA-C and N-CA-C-N, 0-based
TEMPERATURE = 300.0  # K
KT = TEMPERATURE * unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin)

#: Gaussians start at HEIGHT kJ/mol and are WIDTH rad wide, one every DEPOSIT_EVERY steps; BIAS_FACTOR = (T + dT)/T.
HEIGHT, BIAS_FACTOR, WIDTH, DEPOSIT_EVERY, GRID = 1.5, 12.0, 0.35, 250, 61
SAMPLE_EVERY = 50  # steps between two recorded pairs of torsions
DISCARD = 0.15  # first share of each walker that is left out


def createSystem() -> tuple[app.Topology, openmm.System, unit.Quantity]:
    """ACE-ALA-NME in vacuum with amber14, bonds to hydrogen constrained.

    Returns
    -------
    (topology, system, positions)
    """
    pdb = app.PDBFile(str(PDB))
    system = app.ForceField("amber14-all.xml").createSystem(
        pdb.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds)
    return pdb.topology, system, pdb.positions


def createSimulation(topology: app.Topology, system: openmm.System, positions: unit.Quantity, seed: int) -> app.Simulation:
    """A Simulation at 300 K, 1/ps, 2 fs on the Reference platform, the fastest one for 22 atoms, with seeded velocities."""
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, 0.002)
    integrator.setRandomNumberSeed(seed)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(positions)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    return simulation


def surfaceFromWalkers(parts: list[tuple[np.ndarray, np.ndarray]]) -> st.FreeEnergySurface:
    """The surface of the samples of all walkers, (x [K, 2], logWeights [K]) each, with the error that their difference gives."""
    return surfaceOf(parts, TEMPERATURE, list(TORSIONS))


def sample(steps: int, seed: int, walkers: int = 2, processes: int = 2,
           progress: Optional[Callable[[int, int], None]] = None) -> st.MetadynamicsSamples:
    """Run independent walkers side by side: `steps` MD steps each, walker i with the seed `seed` + i.

    The result depends on `steps`, `seed` and `walkers`, not on `processes`. `progress(done, total)` is called about twice a second.
    """
    simulation = createSimulation(*createSystem(), seed)
    variables = st.Variables.torsions(list(TORSIONS.values()), names=list(TORSIONS))
    return st.metadynamics(simulation, variables, steps, height=HEIGHT, biasFactor=BIAS_FACTOR, width=WIDTH, gridWidth=GRID, depositEvery=DEPOSIT_EVERY,
                           sampleEvery=SAMPLE_EVERY, walkers=walkers, discard=DISCARD, seed=seed, processes=processes, progress=progress)


def save(path: Path, x: np.ndarray, logWeights: np.ndarray) -> None:
    """Write samples as .npz with `x` [K, 2], `log_weights` [K] and `variables` (JSON), all at once."""
    variables = [{"name": name, "type": "torsion", "atoms": list(atoms)} for name, atoms in TORSIONS.items()]
    temporary = path.with_name("." + path.name)
    np.savez_compressed(temporary, x=x.astype(np.float32), log_weights=logWeights.astype(np.float32), variables=json.dumps(variables))
    os.replace(temporary, path)


def main() -> int:
    parser = argparse.ArgumentParser(description="Sample alanine dipeptide by well-tempered metadynamics.")
    parser.add_argument("--steps", type=int, default=3_500_000, help="MD steps of each walker (default: 3,500,000 = 7 ns)")
    parser.add_argument("--walkers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="samples file (.npz)")
    arguments = parser.parse_args()
    start = time.time()

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done:,} of {total:,} steps, {time.time() - start:.0f} s", end="", file=sys.stderr)

    sampling = sample(arguments.steps, arguments.seed, arguments.walkers, arguments.processes, show)
    save(arguments.out, *sampling.thinned())
    print(f"\n{sampling.steps * 2e-6:.1f} ns in {sampling.seconds:.0f} s; kJ/mol where F < 50: {sampling.quality()}")
    for position, F in sampling.surface.minima(below=15.0):
        print(f"  minimum phi {position[0]:.2f} psi {position[1]:.2f}: {F:.2f} kJ/mol")
    position, F = sampling.surface.saddle((-2.61, 2.74), (1.07, -0.74))
    print(f"  pass    phi {position[0]:.2f} psi {position[1]:.2f}: {F:.2f} kJ/mol")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nStopped; nothing was written.")
