# SPDX-License-Identifier: MIT
"""Well-tempered metadynamics on the two torsions of alanine dipeptide, one independent walker per process.

The walkers supply what a model of the denoising distributions is made from: torsions that cover the whole surface,
barriers included, with weights that undo the bias.  Run as a script to make the samples that this example ships:

    python metadynamics.py --steps 8000000 --seed 1 --out data/alanine_vacuum_300K.npz
"""
from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import openmm
from openmm import app, unit

from openmmspacetime.surface import FreeEnergySurface

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


@dataclass
class Walker:
    """What one walker leaves behind.

    Attributes
    ----------
    x : array [K, 2]
        phi, psi in rad, every SAMPLE_EVERY steps.
    bias : array [GRID - 1, GRID - 1]
        Final bias in kJ/mol; [i, j] belongs to phi_i, psi_j = -pi + 2 pi i/(GRID - 1).
    seconds : float
        Wall time.
    """

    x: np.ndarray
    bias: np.ndarray
    seconds: float


def runWalker(seed: int, steps: int, counter=None) -> Walker:
    """One walker of well-tempered metadynamics (Barducci, Bussi and Parrinello 2008). The same seed gives the same result."""
    start = time.time()
    topology, system, positions = createSystem()
    variables = []
    for atoms in TORSIONS.values():
        torsion = openmm.CustomTorsionForce("theta")
        torsion.addTorsion(*atoms)
        variables.append(app.BiasVariable(torsion, -np.pi, np.pi, WIDTH, periodic=True, gridWidth=GRID))
    meta = app.Metadynamics(system, variables, TEMPERATURE, BIAS_FACTOR, HEIGHT, DEPOSIT_EVERY)
    simulation = createSimulation(topology, system, positions, seed)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    samples = np.empty((steps // SAMPLE_EVERY, len(variables)))
    for i in range(len(samples)):
        meta.step(simulation, SAMPLE_EVERY)
        samples[i] = meta.getCollectiveVariables(simulation)
        if counter is not None:
            counter.value = (i + 1) * SAMPLE_EVERY
    factor = BIAS_FACTOR / (BIAS_FACTOR - 1)  # getFreeEnergy() is -factor times the bias
    grid = -meta.getFreeEnergy().value_in_unit(unit.kilojoules_per_mole) / factor
    return Walker(samples, grid.T[:-1, :-1].copy(), time.time() - start)


@dataclass
class Sampling:
    """Weighted samples of the two torsions, and how well they are known.

    Attributes
    ----------
    x : array [K, 2]
        phi, psi in rad, one walker after the other.
    logWeights : array [K]
        Their weights add up to 1; every walker has the same share.
    surface : FreeEnergySurface
        From all samples, with the error that the walkers' difference gives.
    fromBias : FreeEnergySurface
        The mean of the walkers' bias potentials, scaled: an estimate that uses no samples.
    steps : int
        MD steps of all walkers together.
    seconds : float
        Wall time of the slowest walker.
    """

    x: np.ndarray
    logWeights: np.ndarray
    surface: FreeEnergySurface
    fromBias: FreeEnergySurface
    steps: int
    seconds: float

    def thinned(self, most: int = 50_000) -> tuple[np.ndarray, np.ndarray]:
        """At most `most` samples, evenly chosen: (x [k, 2], logWeights [k])."""
        keep = np.linspace(0, len(self.x) - 1, min(most, len(self.x))).astype(int)
        w = self.logWeights[keep]
        return self.x[keep], w - np.logaddexp.reduce(w)

    def quality(self, below: float = 50.0) -> dict[str, float]:
        """Errors in kJ/mol over the region where F is under `below`.

        Returns
        -------
        dict
            `walkers`: root mean square error from the walkers' difference; `bias`: root mean square difference between F from
            the samples and F from the bias, a constant apart; `area`: share of the torus that the region covers.
        """
        inside = (self.surface.values < below) & self.surface.sampled
        grid = np.stack(np.meshgrid(*self.surface.axes, indexing="ij"), axis=-1)
        difference = (self.fromBias(grid) - self.surface.values)[inside]
        return {"walkers": errorBelow(self.surface, below), "bias": float(difference.std()),
                "area": float(inside.mean())}


def surfaceFromWalkers(parts: list[tuple[np.ndarray, np.ndarray]]) -> FreeEnergySurface:
    """The surface of all samples; its `error` is the standard error of the mean of the walkers' own surfaces.

    Parameters
    ----------
    parts : list of (x [K, 2], logWeights [K])
        One entry a walker.
    """
    surface = FreeEnergySurface.fromSamples(np.concatenate([x for x, _ in parts]), np.concatenate([w for _, w in parts]), TEMPERATURE,
                                            names=list(TORSIONS))
    low = (surface.values < 50.0) & surface.sampled
    own = [FreeEnergySurface.fromSamples(x, w, TEMPERATURE).values for x, w in parts]
    surface.error = np.std([F - F[low].mean() for F in own], axis=0, ddof=1) / np.sqrt(len(parts)) if len(parts) > 1 else None
    return surface


def errorBelow(surface: FreeEnergySurface, below: float = 50.0) -> float:
    """Root mean square error of `surface` in kJ/mol where F is under `below`; NaN when it is not known."""
    if surface.error is None:
        return float("nan")
    return float(np.sqrt(np.mean(surface.error[(surface.values < below) & surface.sampled] ** 2)))


def combine(walkers: list[Walker]) -> Sampling:
    """Weights from each walker's final bias, w = exp(V(c)/kT), and the surface from all of them together."""
    parts = []
    for walker in walkers:
        x = walker.x[int(DISCARD * len(walker.x)):]
        logW = FreeEnergySurface(walker.bias)(x) / KT
        parts.append((x, logW - np.logaddexp.reduce(logW) - np.log(len(walkers))))
    fromBias = FreeEnergySurface.fromBias(np.mean([w.bias for w in walkers], axis=0), BIAS_FACTOR, list(TORSIONS))
    return Sampling(np.concatenate([x for x, _ in parts]), np.concatenate([w for _, w in parts]), surfaceFromWalkers(parts), fromBias,
                    sum(len(w.x) for w in walkers) * SAMPLE_EVERY, max(w.seconds for w in walkers))


def _runInWorker(arguments: tuple[int, int, int]) -> Walker:
    index, seed, steps = arguments
    return runWalker(seed, steps, _counters[index])


def _startWorker(counters) -> None:
    global _counters
    _counters = counters
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled once, by the parent


def sample(steps: int, seed: int, walkers: int = 2, processes: int = 2,
           progress: Optional[Callable[[int, int], None]] = None) -> Sampling:
    """Run independent walkers side by side.

    Parameters
    ----------
    steps : int
        MD steps of each walker.
    seed : int
        Walker i uses seed + i. The result depends on `steps`, `seed` and `walkers`, not on `processes`.
    walkers, processes : int
    progress : callable (done, total), optional
        Called about twice a second.

    Returns
    -------
    Sampling
    """
    context = multiprocessing.get_context("spawn")
    counters = [context.Value("q", 0, lock=False) for _ in range(walkers)]
    with context.Pool(min(processes, walkers), _startWorker, (counters,)) as pool:
        job = pool.map_async(_runInWorker, [(i, seed + i, steps) for i in range(walkers)], chunksize=1)
        while not job.ready():
            job.wait(0.5)
            if progress is not None:
                progress(sum(c.value for c in counters), steps * walkers)
        return combine(job.get())


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
