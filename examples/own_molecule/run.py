# SPDX-License-Identifier: MIT
"""Driven paths of your own molecule, from a structure in one state to a structure in another.

    python run.py start.pdb end.pdb output [--quick]

Both files hold the same atoms in the same order: standard residues with hydrogens. What to change for another molecule: the force field, the platform, the torsions.
"""
import sys

import numpy as np
from openmm import LangevinMiddleIntegrator, Platform, app

import openmmspacetime as st

if __name__ == "__main__":
    start, end, out = app.PDBFile(sys.argv[1]), app.PDBFile(sys.argv[2]), sys.argv[3]
    less = 16 if "--quick" in sys.argv else 1  # of everything

    def simulate(*forces):
        system = app.ForceField("amber14-all.xml").createSystem(start.topology, constraints=app.HBonds)
        for force in forces:
            system.addForce(force)
        simulation = app.Simulation(start.topology, system, LangevinMiddleIntegrator(300, 1, 0.002), Platform.getPlatform("Reference"))  # K, 1/ps, ps
        simulation.context.setPositions(start.positions)
        return simulation

    # 1. Samples: replicas at five temperatures, half of them from each structure.
    variables = st.Variables.torsionsOf(start.topology, "phi psi chi1")
    samples = st.temperatureExchange(simulate(), variables, np.geomspace(300, 600, 5), 500_000//less, stepsPerIteration=100, starts=[start.positions, end.positions],
                                     directory=out+"/exchange", resume=True)
    print(samples.summary())
    a, b = (samples.basin(variables.measure(structure.positions)) for structure in (start, end))

    # 2. A model of them, and a curve between the two basins. The variance that the preset bounds is for two torsions, and variances add up.
    model = st.train(samples.x, variables, samples.logWeights, 300, out+"/model.safetensors", steps=400//less, points=6000//less, overwrite=True)
    line = st.straightLine(variables, a, b)
    curves = {"geodesic": st.geodesic(model, a, b, preset="transition", maxVariance=max(0.05, 0.015*len(variables)), start=line), "straight line (null)": line}

    # 3. Paths along it, beside those along a straight line.
    paths = {}
    for name, curve in curves.items():
        force = st.SpacetimeForce(curve, variables, 300)
        paths[name] = st.PathSampler(simulate(force), force, numPaths=50//less, steps=5000, frameStride=50, equilibrate=True).run(f"{out}/{name}", resume=True)
    report = st.analyze(paths, title="From start.pdb to end.pdb")
    report.save(out+"/report.html")
    print(report.table)
