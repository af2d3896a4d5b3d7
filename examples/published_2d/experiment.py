# SPDX-License-Identifier: MIT
"""The two-dimensional transition-path experiment of arXiv:2505.17517 as an OpenMM System.

One particle of 1 Da, whose x and y (nm) stand for phi and psi (rad), moves on the free-energy surface of alanine dipeptide in vacuum. Energies are
in kJ/mol, and kT = 1 kJ/mol as in the paper. Run as a script to make the surface again from the samples of examples/alanine_dipeptide:

    python experiment.py
"""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import numpy as np
import openmm
from openmm import app, unit

import openmmspacetime as st
from openmmspacetime.surface import GAS_CONSTANT, wrap

HERE = Path(__file__).resolve().parent
SURFACE = HERE / "data" / "surface.npz"
SAMPLES = HERE.parent / "alanine_dipeptide" / "data" / "alanine_vacuum_300K.npz"
SAMPLING_STEPS = 16_000_000  # all-atom MD steps of metadynamics behind the samples
SAMPLING_TEMPERATURE = 300.0  # K, of the samples
BANDWIDTH, BINS = 0.12, 120

KT = 1.0  # kJ/mol
TEMPERATURE = KT / GAS_CONSTANT  # K: 120.27
START, END, LOG_SNR = np.array([-2.55, 2.70]), np.array([0.95, -0.40]), 4.0  # the published ends
REGION = (-0.8, -0.1)  # centre of the published region to avoid, at LOG_SNR as well
TURN = 2 * np.pi

#: phi and psi lifted to (cos, sin), and as the published code has them: plain numbers, with a seam at ±pi.
LIFTED = st.Variables([st.Variable.coordinate("phi", 0, 0, TURN), st.Variable.coordinate("psi", 0, 1, TURN)])
UNWRAPPED = st.Variables([st.Variable.coordinate("phi", 0, 0), st.Variable.coordinate("psi", 0, 1)])
#: Whole turns that make the short way round on the torus the straight line between the published numbers.
WINDINGS = [int(n) for n in np.round((END - START - wrap(END - START)) / TURN)]


def readSamples() -> tuple[np.ndarray, np.ndarray]:
    """phi, psi [K, 2] (rad) of the samples behind the surface and the logarithms of their weights at 300 K [K]."""
    with np.load(SAMPLES) as data:
        return data["x"].astype(float), data["log_weights"].astype(float)


def makeSurface() -> st.FreeEnergySurface:
    """The surface from the samples, F above its lowest grid point in kJ/mol."""
    x, logWeights = readSamples()
    return st.FreeEnergySurface.fromSamples(x, logWeights, SAMPLING_TEMPERATURE, bins=BINS, bandwidth=BANDWIDTH)


def readSurface() -> st.FreeEnergySurface:
    """The shipped surface."""
    with np.load(SURFACE) as data:
        return st.FreeEnergySurface(data["values"], description=str(data["description"]))


def createSystem(surface: st.FreeEnergySurface) -> openmm.System:
    """One particle of 1 Da on the surface: U = F(x, y) with nm for rad, periodic. z is free.

    OpenMM's periodic bicubic spline through the grid is the surface's own: the two agree to rounding.
    """
    system = openmm.System()
    system.addParticle(1.0)
    values = np.pad(surface.values, ((0, 1), (0, 1)), mode="wrap")  # the edge is there twice
    force = openmm.CustomCompoundBondForce(1, "surface(x1, y1)")  # CustomExternalForce takes no tabulated functions
    force.addTabulatedFunction("surface", openmm.Continuous2DFunction(*values.shape, values.T.ravel(), -np.pi, np.pi, -np.pi, np.pi, True))
    force.addBond([0], [])
    system.addForce(force)
    return system


def createSimulation(surface: st.FreeEnergySurface, curve: st.Curve, ds: float, seed: int) -> tuple[app.Simulation, st.SpacetimeForce]:
    """A Simulation of the particle with a SpacetimeForce along `curve`, on the Reference platform, the fastest one for one particle.

    BrownianIntegrator's step is x + (dt/gamma m) F + sqrt(2 kT dt/gamma m) xi; with m = 1 Da, gamma = 1/ps, kT = 1 kJ/mol and dt = ds/2 ps it is the
    published x - 0.5 ds grad(U + bias) + sqrt(ds) xi.
    """
    system = createSystem(surface)
    force = st.SpacetimeForce(curve, curve.variables, TEMPERATURE * unit.kelvin)
    system.addForce(force)
    integrator = openmm.BrownianIntegrator(TEMPERATURE, 1.0, ds / 2)
    integrator.setRandomNumberSeed(seed)
    topology = app.Topology()
    topology.addAtom("P", None, topology.addResidue("P", topology.addChain()))
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions([[*START, 0.0]])
    return simulation, force


def exactModel(surface: st.FreeEnergySurface, variables: st.Variables, bins: int) -> st.EmpiricalModel:
    """The exact posterior at kT = 1 kJ/mol, a sum over a bins x bins grid of the surface; for unwrapped variables the grid ends at ±pi."""
    if variables is LIFTED:
        return surface.model(variables, TEMPERATURE, bins)
    axis = -np.pi + TURN * np.arange(bins) / bins
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return st.EmpiricalModel(x, variables, -surface(x) / KT, grid=True)


def freeEnergyDifference(model: st.PosteriorModel, curve: st.Curve) -> float:
    """dF = -kT (psi_B - psi_A) of the biased ends of a curve, kJ/mol."""
    psi = model.moments(np.array([curve.eta[0], curve.eta[-1]])).psi
    return -KT * float(psi[1] - psi[0])


def drawStarts(surface: st.FreeEnergySurface, eta: np.ndarray, variables: st.Variables, number: int, seed: int, fine: int = 360) -> list[np.ndarray]:
    """Independent positions [1, 3] from the tilted distribution p(c|z) of one point, so that no step is spent on equilibration.

    Cells of a grid much finer than the distribution are drawn with their weights, and a uniform point in each.
    """
    rng = np.random.default_rng(seed)
    axis = -np.pi + TURN * np.arange(fine) / fine
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    logWeights = -surface(x) / KT + variables.statistic(x) @ eta
    weights = np.exp(logWeights - logWeights.max())
    cells = rng.choice(len(x), number, p=weights / weights.sum())
    return [np.array([[*c, 0.0]]) for c in x[cells] + rng.uniform(-0.5, 0.5, (number, 2)) * TURN / fine]


def trainingSamples(surface: st.FreeEnergySurface) -> tuple[np.ndarray, np.ndarray]:
    """The samples with the logarithms of their weights at kT = 1 kJ/mol: exp(-F/kT) in place of exp(-F/kT_300)."""
    x, logWeights = readSamples()
    return x, logWeights + surface(x) * (1 / (GAS_CONSTANT * SAMPLING_TEMPERATURE) - 1 / KT)


def main(out: Optional[Path] = None) -> int:
    surface = makeSurface()
    out = SURFACE if out is None else out
    out.parent.mkdir(exist_ok=True)
    np.savez_compressed(out, values=np.round(surface.values, 4), description=surface.description)
    print(f"{out}: {surface.description}; lowest pass {surface.saddle(START, END)[1]:.2f} kJ/mol")
    return 0


if __name__ == "__main__":
    sys.exit(main())
