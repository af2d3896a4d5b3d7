# SPDX-License-Identifier: MIT
"""The snippets of docs/sampling.md run as they stand, one after the other."""
import pathlib
import re

import mdtraj
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def testSnippets(tmp_path, monkeypatch, capsys, alanineSamples, torsions):
    snippets = re.findall(r"```python\n(.*?)```", (ROOT/"docs"/"sampling.md").read_text(encoding="utf-8"), re.S)
    assert len(snippets) == 5
    samples, logWeights = alanineSamples
    model = st.EmpiricalModel(samples, torsions, logWeights=logWeights)
    curve = st.geodesic(model, (-2.58, 2.79), (1.09, -0.88), preset="transition", temperature=300)
    surface = st.FreeEnergySurface.fromSamples(samples, logWeights, temperature=300)
    pdb = app.PDBFile(str(ROOT/"examples"/"alanine_dipeptide"/"alanine_dipeptide.pdb"))
    names = dict(curve=curve, surface=surface, app=app, topology=pdb.topology, positions=pdb.positions, platform=openmm.Platform.getPlatformByName("Reference"),
                 system=app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds),
                 integrator=openmm.LangevinMiddleIntegrator(300*unit.kelvin, 1/unit.picosecond, 2*unit.femtoseconds))
    monkeypatch.chdir(tmp_path)
    for snippet in snippets:
        exec(snippet, names)
    out = capsys.readouterr().out
    paths = names["paths"]
    assert len(paths) == 4 and f"4 paths of {paths.steps} steps, forward" in out and "every 10 steps" in out and "hits 4 of 4" in out
    assert paths.steps == pytest.approx(200*curve.length, abs=1)
    assert names["back"].direction == "backward" and names["pulled"].settings["pullSteps"] == 10000
    # The frame that was picked is the one that the index describes.
    phi = mdtraj.compute_phi(names["frame"])[1][0, 0]
    assert phi == pytest.approx(names["top"]["phi"], abs=1e-3)
    assert len(st.PathEnsemble.load("dask")) == 4
