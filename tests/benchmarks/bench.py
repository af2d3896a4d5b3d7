# SPDX-License-Identifier: MIT
"""Figures of speed, each beside its alternative in the same run: `make bench`.

1. All-atom steps per second of vacuum alanine dipeptide: plain MD, the same with a SpacetimeForce, the sampler that moves the bias
   and records the torsions at every step, and the same bias built from CustomCVForce.
2. The geodesic solver: length, energy, speed gap, evaluations and seconds, under the exact posterior and (with --model) a network.
"""
import argparse
import pathlib
import statistics
import sys
import time

import numpy as np
import openmm
from openmm import app, unit

import openmmspacetime as st

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "alanine_dipeptide"
A, B = (-2.58, 2.79), (1.09, -0.88)


def cpuTime():
    return time.process_time()


def simulation(force, pdb, platform):
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    if force is not None:
        system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 2 * unit.femtoseconds)
    integrator.setRandomNumberSeed(1)
    result = app.Simulation(pdb.topology, system, integrator, openmm.Platform.getPlatform(platform))
    result.context.setPositions(pdb.positions)
    result.minimizeEnergy(maxIterations=50)
    return result


def customForce(curve, variables):
    """The same bias from OpenMM's own parts: four tabulated functions of s times cosines and sines of the torsions."""
    cv = openmm.CustomCVForce("-kT*(a(s)*c1 + b(s)*s1 + c(s)*c2 + d(s)*s2)")
    cv.addGlobalParameter("kT", 8.31446261815324e-3 * 300)
    cv.addGlobalParameter("s", 0.5)
    for name, column in zip("abcd", curve.eta.T):
        cv.addTabulatedFunction(name, openmm.Continuous1DFunction(column, 0, 1))
    for k, variable in enumerate(variables, 1):
        for function, letter in (("cos", "c"), ("sin", "s")):
            torsion = openmm.CustomTorsionForce(f"{function}(theta)")
            torsion.addTorsion(*variable.atoms, [])
            cv.addCollectiveVariable(f"{letter}{k}", torsion)
    return cv


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a trained network (.safetensors) of (phi, psi)")
    parser.add_argument("--steps", type=int, default=5000, help="MD steps in a burst")
    parser.add_argument("--platform", default="Reference")
    arguments = parser.parse_args()
    data = np.load(EXAMPLE / "data" / "alanine_vacuum_300K.npz")
    variables = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])
    models = {"exact posterior": st.EmpiricalModel(data["x"], variables, logWeights=data["log_weights"])}
    if arguments.model:
        models["network"] = st.NetworkModel.load(arguments.model)

    print(f"{'geodesic, kappa >= e^4':24s} {'length':>9s} {'energy':>9s} {'speed gap':>10s} {'evaluations':>12s} {'seconds':>8s}  (best of four windings, solver alone)")
    curve = None
    for name, model in models.items():
        best = st.geodesics(model, A, B, preset="transition")[0]
        curve = curve or best.curve
        print(f"{name:24s} {best.measure.lengthExtrapolated:9.4f} {best.measure.energy:9.3f} {best.measure.speedGap:10.1e} {best.evaluations:12d} {best.seconds:8.3f}")

    pdb = app.PDBFile(str(EXAMPLE / "alanine_dipeptide.pdb"))
    force = st.SpacetimeForce(curve, variables, 300)
    runs = {"plain MD": simulation(None, pdb, arguments.platform), "SpacetimeForce": simulation(force, pdb, arguments.platform),
            "CustomCVForce, the same bias": simulation(customForce(curve, variables), pdb, arguments.platform)}
    speeds = {name: [] for name in runs}
    for _ in range(10):  # interleaved bursts: what else the machine does falls on all alike
        for name, run in runs.items():
            begin = cpuTime()
            run.step(arguments.steps)
            speeds[name].append(arguments.steps / (cpuTime() - begin))
    print(f"\n{'alanine dipeptide, ' + arguments.platform:32s} {'steps/s':>10s} {'relative':>9s}   (median of 10 bursts of {arguments.steps} steps, CPU time)")
    plain = statistics.median(speeds["plain MD"])
    for name, values in speeds.items():
        print(f"{name:32s} {statistics.median(values):10.0f} {statistics.median(values) / plain:9.3f}")


if __name__ == "__main__":
    sys.exit(main())
