# SPDX-License-Identifier: MIT
"""The view of a path in 3D: the page that it makes holds the frames, superposed, without water, and what steps through them."""
import json
import pathlib
import re
import sys

import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st

PDB = pathlib.Path(__file__).resolve().parents[2] / "examples" / "alanine_dipeptide" / "alanine_dipeptide.pdb"


@pytest.fixture(scope="module")
def alanine():
    """Topology and positions [22, 3] in nm."""
    pdb = app.PDBFile(str(PDB))
    return pdb.topology, np.array(pdb.positions.value_in_unit(unit.nanometer))


def models(view):
    """Coordinates [F, N, 3] in nm of the frames in the page."""
    text = json.loads(re.search(r'addModelsAsFrames\(("(?:[^"\\]|\\.)*")', view.write_html()).group(1))
    return np.array([[[float(line[30 + 8 * k:38 + 8 * k]) / 10 for k in range(3)] for line in model.splitlines() if line[:6].strip() in ("ATOM", "HETATM")]
                     for model in text.split("ENDMDL")[:-1]])


def labels(view):
    return json.loads(re.search(r"labels = (\[.*\]);", view.write_html()).group(1))


def turned(x, seed):
    """x [N, 3], rotated and moved."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return x @ (q * np.linalg.det(q)) + rng.normal(size=3)


def testFramesAreSuperposed(alanine):
    pytest.importorskip("py3Dmol")
    topology, x = alanine
    frames = np.array([x, turned(x, 1), turned(x, 2), x * [1, 1, -1]])
    view = st.viewPath(frames, topology)
    shown = models(view)
    # 1e-4 nm is the PDB format's last digit. A mirror image is no rotation and stays one.
    assert shown.shape == (4, 22, 3)
    np.testing.assert_allclose(shown[1:3], shown[[0, 0]], atol=1.1e-4)
    assert np.abs(shown[3] - shown[0]).max() > 0.05
    np.testing.assert_allclose(models(st.viewPath(frames, topology, superpose=False)), frames, atol=6e-5)
    three = models(st.viewPath(frames, topology, superpose=[4, 6, 8]))
    np.testing.assert_allclose(three[3][[4, 6, 8]], three[0][[4, 6, 8]], atol=1.1e-4)
    assert labels(view) == [f"frame {k} of 4" for k in (1, 2, 3, 4)]
    html = view.write_html()
    assert 'max="3"' in html and "UNIQUEID" not in html and f'id="controls_{view.uniqueid}"' in html
    # Bonds to caps are named: 3Dmol.js would leave them out. C of ACE and N of ALA.
    assert re.search(r"CONECT    5 [ \d]*    7\b", html)


def testPathOfASampler(alanine, torsions, tmp_path):
    pytest.importorskip("py3Dmol")
    topology, x = alanine
    curve = st.straightLine(torsions, (-2.6, 2.75), (-1.4, 1.0), logSnr=3)
    force = st.SpacetimeForce(curve, torsions, 300 * unit.kelvin)
    system = app.ForceField("amber14-all.xml").createSystem(topology, constraints=app.HBonds)
    system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions(x)
    paths = st.PathSampler(simulation, force, numPaths=1, steps=60, frameStride=5, equilibrationSteps=20, equilibrate=True, seed=1).run(tmp_path / "paths")
    assert len(paths[0].frameSteps) == 12
    view = st.viewPath(paths[0], superpose=False, maxFrames=5)
    chosen = [0, 3, 6, 8, 11]
    np.testing.assert_allclose(models(view), [paths.frame(0, k)[0] for k in chosen], atol=6e-5)
    assert labels(view) == [f"s = {paths[0].s[paths[0].frameSteps[k]]:.2f}" for k in chosen]
    mdtraj = pytest.importorskip("mdtraj")
    loaded = mdtraj.load(paths[0].trajectory, top=paths.topology)
    for same in (st.viewPath(loaded, superpose=False), st.viewPath(paths[0].trajectory, topology, superpose=False), st.viewPath(paths[0].trajectory, paths.topology, superpose=False),
                 st.viewPath(loaded.xyz * unit.nanometer, loaded.topology, superpose=False)):
        np.testing.assert_allclose(models(same)[chosen], models(view), atol=1.1e-4)


def testWaterIsLeftOut(alanine):
    pytest.importorskip("py3Dmol")
    topology, x = alanine
    modeller = app.Modeller(topology, x * unit.nanometer)
    modeller.addSolvent(app.ForceField("amber14-all.xml", "amber14/tip3p.xml"), numAdded=30, ionicStrength=0.5 * unit.molar)
    frames = np.array([modeller.positions.value_in_unit(unit.nanometer)])
    assert frames.shape[1] > 100
    np.testing.assert_allclose(models(st.viewPath(frames, modeller.topology, superpose=False))[0], frames[0, :22], atol=6e-5)
    assert models(st.viewPath(frames, modeller.topology, solvent=True)).shape[1] == frames.shape[1]


def testBadInput(alanine, monkeypatch):
    pytest.importorskip("py3Dmol")
    topology, x = alanine
    for call, message in ((lambda: st.viewPath([x]), "give a topology"), (lambda: st.viewPath(x, topology), r"\[frames, atoms, 3\]"), (lambda: st.viewPath([x[:20]], topology), "20 atoms, the topology has 22"),
                          (lambda: st.viewPath([x, x * np.nan], topology), "frame 1 has positions that are no numbers"), (lambda: st.viewPath([x], topology, labels=["a", "b"]), "1 frames, got 2"),
                          (lambda: st.viewPath([x], topology, superpose=[0, 22, 3]), "indices of atoms from 0 to 21"), (lambda: st.viewPath([x], topology, seconds=0), "above 0"),
                          (lambda: st.viewPath([x], 7), "got int")):
        with pytest.raises(ValueError, match=message):
            call()
    for call in (lambda: st.viewPath("nowhere.dcd", topology), lambda: st.viewPath([x], "nowhere.pdb")):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            call()
    monkeypatch.setitem(sys.modules, "py3Dmol", None)
    with pytest.raises(ImportError, match="pip install py3Dmol"):
        st.viewPath([x], topology)
