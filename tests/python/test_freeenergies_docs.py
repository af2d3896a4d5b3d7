# SPDX-License-Identifier: MIT
"""The snippets of docs/freeenergies.md run as they stand, one after the other, with alanine dipeptide."""
import pathlib
import re

import numpy as np
import openmm
from openmm import app, unit

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]


def testSnippets(tmp_path, monkeypatch, alanineSamples, torsions):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "freeenergies.md").read_text(), re.S)
    assert len(code) == 5
    samples, logWeights = alanineSamples
    model = st.FreeEnergySurface.fromSamples(samples, logWeights, temperature=300).model(torsions, 300)
    # Within the basin of C5 and C7eq, where a few picoseconds are enough.
    curve = st.geodesic(model, [-2.58, 2.79], [-1.34, 0.95], logSnr=3.0, minKappa=10)
    pdb = app.PDBFile(str(ROOT / "examples" / "alanine_dipeptide" / "alanine_dipeptide.pdb"))
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    force = st.SpacetimeForce(curve, torsions, 300 * unit.kelvin)
    system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 2 * unit.femtoseconds)
    simulation = app.Simulation(pdb.topology, system, integrator, openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions(pdb.positions)
    names = dict(samples=samples, logWeights=logWeights, model=model, curve=curve, force=force, simulation=simulation, positions=pdb.positions)
    monkeypatch.chdir(tmp_path)
    for snippet in code:
        exec(snippet, names)
    exact = -names["stateSamples"].kT * float(np.diff(model.moments(curve.eta[[0, -1]]).psi)[0])
    for e in (names["solved"].freeEnergyDifference(), names["work"].freeEnergyDifference):
        # The surface of the shipped samples is known to a few tenths of a kJ/mol.
        assert abs(e.value - exact) < 4 * e.error + 1.0 and e.error < 2
    assert abs(names["fromStages"].freeEnergyDifference().value - exact) < 4
    assert np.isfinite(names["surface"].freeEnergy).sum() > 20 and names["w"].sum() > 0.999
    assert len(names["validation"].s) == len(names["states"])
    for name in ("profile", "overlap", "swaps", "surface"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10000
