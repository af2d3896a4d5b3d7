# SPDX-License-Identifier: MIT
"""What the studies in examples/ share, and the script for a molecule of one's own, which runs here in small."""
import ast
import os
import pathlib
import subprocess
import sys

import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/"examples"))

import studies  # noqa: E402

OWN = ROOT/"examples"/"own_molecule"


def energyAndForces(system, x):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def testFastImplicitSolventIsTheForceFieldsOwn():
    topology, x = studies.peptide(2)
    slow = app.ForceField("amber14-all.xml", "implicit/obc2.xml").createSystem(topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds)
    fast = studies.createSystem(topology, implicit=True)
    assert any(isinstance(f, openmm.CustomGBForce) for f in slow.getForces()) and not any(isinstance(f, openmm.CustomGBForce) for f in fast.getForces())
    random = np.random.default_rng(1)
    for _ in range(3):
        frame = x+random.normal(scale=0.003, size=x.shape)
        (u, f), (v, g) = (energyAndForces(system, frame) for system in (slow, fast))
        assert v == pytest.approx(u, abs=1e-3) and np.abs(f-g).max() < 1e-3
    # Without the solvent the energy is another.
    assert abs(energyAndForces(studies.createSystem(topology), x)[0]-energyAndForces(fast, x)[0]) > 30


def testPeptides():
    for residues in (1, 2, 3):
        topology, x = studies.peptide(residues)
        assert [r.name for r in topology.residues()] == ["ACE"]+["ALA"]*residues+["NME"] and len(x) == 12+10*residues
        # L-amino acids: seen along the bond from H to CA, CO, R and N turn clockwise.
        at = {(a.residue.index, a.name): x[a.index] for a in topology.atoms()}
        for r in range(1, residues+1):
            n, ca, c, cb = (at[r, name] for name in ("N", "CA", "C", "CB"))
            assert np.cross(n-ca, c-ca)@(cb-ca) > 0
        bonds = [np.linalg.norm(x[a.index]-x[b.index]) for a, b in topology.bonds()]
        assert min(bonds) > 0.09 and max(bonds) < 0.16


def testSettled():
    topology, x = studies.peptide(2)
    variables = st.Variables.torsionsOf(topology)
    target = [-1.34, 0.95, 1.05, -0.6]
    settled = studies.settle(topology, False, x, variables, target)
    assert np.abs(variables.measure(settled)-target).max() < 0.15
    assert np.abs(variables.measure(x)-target).max() > 1


def testClimbAndStraightLines(alanineSamples, torsions):
    x, logWeights = alanineSamples
    model = st.EmpiricalModel(x[::5], torsions, logWeights=logWeights[::5])
    a, b = np.array([-1.35, 1.0]), np.array([1.07, -0.7])
    lines = studies.straightLines(torsions, a, b, lambda line: studies.climb(model, line))
    assert len(lines) == 4 and lines[0][0] < lines[1][0] < lines[3][0]
    # Over the pass at phi = 0, 39 kJ/mol high on the surface and a little less where it is smoothed; the other ways are far higher.
    assert 30 < lines[0][0] < 50 < lines[3][0]
    centers = np.arctan2(lines[0][1].eta[:, 1], lines[0][1].eta[:, 0])
    assert np.abs(centers).min() < 0.05 and np.abs(np.diff(centers)).max() < 0.1


def testOwnMoleculeIsShort():
    source = (OWN/"run.py").read_text()
    head = ast.parse(source).body[0]
    assert ast.get_docstring(ast.parse(source))
    lines = [line for i, line in enumerate(source.splitlines(), 1) if line.strip() and not line.strip().startswith("#") and not head.lineno <= i <= head.end_lineno]
    assert len(lines) < 30, len(lines)
    assert max(map(len, source.splitlines())) <= 180


def testOwnMoleculeStructures():
    start, end = (app.PDBFile(str(OWN/name)) for name in ("start.pdb", "end.pdb"))
    assert [a.name for a in start.topology.atoms()] == [a.name for a in end.topology.atoms()] and [r.name for r in start.topology.residues()] == ["ACE", "VAL", "NME"]
    variables = st.Variables.torsionsOf(start.topology, "phi psi chi1")
    assert variables.names == ["phi2", "psi2", "chi1_2"]
    for pdb, phi in ((start, -1.4), (end, 1.1)):
        assert variables.measure(pdb.positions)[0] == pytest.approx(phi, abs=0.1)


def testOwnMoleculeRuns(tmp_path):
    run = subprocess.run([sys.executable, OWN/"run.py", OWN/"start.pdb", OWN/"end.pdb", tmp_path, "--quick"], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert run.returncode == 0, run.stderr
    assert "round trips" in run.stdout and "N_eff" in run.stdout and "geodesic" in run.stdout and "straight line (null)" in run.stdout
    assert (tmp_path/"report.html").stat().st_size > 10_000
    for name in ("geodesic", "straight line (null)"):
        paths = st.PathEnsemble.load(tmp_path/name)
        assert len(paths) == 3 and not paths.failures
        # Driven by a stiff bias, the molecule arrives.
        assert sum(path.hit for path in paths) >= 2


@pytest.fixture(scope="module")
def wells():
    """Samples of two torsions around one place, as temperatureExchange returns them."""
    random = np.random.default_rng(4)
    x = random.normal([-1.3, 1.0], 0.3, (4000, 2))
    variables = st.Variables.torsions([(0, 1, 2, 3), (1, 2, 3, 4)], names=["phi", "psi"])
    return st.WeightedSamples(x=x, logWeights=np.full(4000, -np.log(4000)), copy=np.arange(4000) % 2, variables=variables, temperature=300.0, steps=0, seconds=0.0)


def testBasin(wells):
    assert np.abs(wells.basin([-1.0, 1.3])-[-1.3, 1.0]).max() < 0.06
    assert np.abs(wells.basin([-1.0+2*np.pi, 1.3*unit.radian])-[-1.3, 1.0]).max() < 0.06
    with pytest.raises(ValueError, match="the structure at phi 1.10, psi -0.70 lies outside what was sampled: the next basin, at phi -1.*away .phi by 2.*Sample longer or hotter"):
        wells.basin([1.1, -0.7])
    few = st.WeightedSamples(x=wells.x[:100], logWeights=np.full(100, -np.log(100)), copy=np.zeros(100, int), variables=wells.variables, temperature=300.0, steps=0, seconds=0.0)
    with pytest.raises(ValueError, match="effective samples .at least 30 are needed"):
        few.basin([-1.3, 1.0], logSnr=5.0)
    for bad in ([0.0], [np.nan, 0.0]):
        with pytest.raises(ValueError, match="expected 2 finite values"):
            wells.basin(bad)


def testErrorsFromCopies(wells):
    mean = wells.error(lambda x, w: np.exp(w)@x[:, 0])
    assert 0 < mean < 0.02 and wells.nEff == pytest.approx(4000) and len(wells.parts()) == 2
    one = st.WeightedSamples(x=wells.x, logWeights=wells.logWeights, copy=np.zeros(4000, int), variables=wells.variables, temperature=300.0, steps=0, seconds=0.0)
    assert np.isnan(one.error(lambda x, w: np.exp(w)@x[:, 0])) and one.surface.error is None
    assert np.isfinite(wells.surface.error).all()
