# SPDX-License-Identifier: MIT
"""The snippets of docs/exchange.md run as they stand, one after the other, with alanine dipeptide."""
import csv
import pathlib
import re

import numpy as np
import openmm
from openmm import app, unit

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]


def testSnippets(tmp_path, monkeypatch, alanineSamples, torsions):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "exchange.md").read_text(), re.S)
    assert len(code) == 4
    assert len([line for line in code[3].splitlines() if line]) <= 10
    samples, logWeights = alanineSamples
    model = st.EmpiricalModel(samples, torsions, logWeights=logWeights)
    curve = st.geodesic(model, [-2.58, 2.79], [1.05, -0.75], logSnr=4.0)
    pdb = app.PDBFile(str(ROOT / "examples" / "alanine_dipeptide" / "alanine_dipeptide.pdb"))
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    force = st.SpacetimeForce(curve, torsions, 300 * unit.kelvin)
    system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 2 * unit.femtoseconds)
    simulation = app.Simulation(pdb.topology, system, integrator, openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions(pdb.positions)
    names = dict(samples=samples, logWeights=logWeights, model=model, curve=curve, force=force, simulation=simulation)
    monkeypatch.chdir(tmp_path)
    for snippet in code:
        exec(snippet, names)
    states, sampler = names["states"], names["sampler"]
    assert states.predicted.min() >= 0.3 and states.predicted.max() < 1.3 * states.predicted.min()
    assert sampler.report().iterations == 40 and names["again"].currentIteration == 70
    # Started from the driven paths, the last replica is near C7ax already.
    first = sampler.history["variables"][0, -1]
    assert np.linalg.norm((first - [1.05, -0.75] + np.pi) % (2 * np.pi) - np.pi) < 1.2
    with open(tmp_path / "curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and float(rows[-1]["work_kJ_mol"]) == names["driver"].work._value and {"phi", "psi"} <= set(rows[0])
