# SPDX-License-Identifier: MIT
"""Hand-off to OpenPathSampling and back: what is written, and that unbiased shooting from a driven path works.

OpenPathSampling lives in an environment of its own: SPACETIME_OPS_PYTHON, or .venv/ops, which `make test` makes. Without it these runs are skipped; where the variable is set
they are not.
"""
import json
import os
import pathlib
import subprocess
import sys

import mdtraj
import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/"examples"/"alanine_dipeptide"))
C5, C7EQ, C7AX = (-2.63, 2.76), (-1.34, 0.99), (1.07, -0.69)


@pytest.fixture(scope="session")
def opsPython():
    python = os.environ.get("SPACETIME_OPS_PYTHON")
    place = pathlib.Path(python) if python else ROOT/".venv"/"ops"/"bin"/"python"
    if not place.exists():
        if python:
            pytest.fail(f"SPACETIME_OPS_PYTHON={python} does not exist")
        pytest.skip(f"THE OPENPATHSAMPLING HAND-OFF IS NOT TESTED: there is no {place}; `make test` makes it where it is not offline")
    return str(place)


@pytest.fixture(scope="module")
def alanine(tmp_path_factory, alanineSamples, torsions):
    """Simulation, force, states, and two short driven paths of alanine dipeptide."""
    import metadynamics as md

    model = st.EmpiricalModel(alanineSamples[0], torsions, logWeights=alanineSamples[1])
    curve = st.geodesic(model, C5, C7AX, logSnr=4.0)
    topology, system, positions = md.createSystem()
    force = st.SpacetimeForce(curve, torsions, 300)
    system.addForce(force)
    simulation = md.createSimulation(topology, system, positions, 1)
    simulation.minimizeEnergy()
    a, b = st.StateRegion([C5, C7EQ], 0.75, name="A"), st.StateRegion(C7AX, 0.75, name="B")
    paths = st.PathSampler(simulation, force, numPaths=2, steps=4000, frameStride=10, seed=1, equilibrate=2000).run(tmp_path_factory.mktemp("ala")/"p")
    return simulation, force, a, b, paths


def run(python, script, *arguments):
    result = subprocess.run([python, str(script), *map(str, arguments)], capture_output=True, text=True, timeout=300)
    return result.returncode, result.stdout, result.stderr


def testExport(alanine, tmp_path):
    simulation, force, a, b, paths = alanine
    script = st.exportToOpenPathSampling(tmp_path/"ops", simulation, paths, a, b, force, stepsPerFrame=5)
    assert script.name == "run_ops.py" and {p.name for p in (tmp_path/"ops").iterdir()} == {"system.xml", "integrator.xml", "topology.pdb", "initial.dcd", "states.json", "run_ops.py"}
    # The plugin is not needed there: the force is gone, everything else is not.
    text = (tmp_path/"ops"/"system.xml").read_text()
    assert "Spacetime" not in text and openmm.XmlSerializer.deserialize(text).getNumForces() == simulation.system.getNumForces()-1
    assert any(st.SpacetimeForce.isinstance(f) for f in simulation.system.getForces())
    # The driven frames from A to B, the ends in the states and nothing else.
    initial = mdtraj.load(str(tmp_path/"ops"/"initial.dcd"), top=str(tmp_path/"ops"/"topology.pdb"))
    c = mdtraj.compute_dihedrals(initial, [[4, 6, 8, 14], [6, 8, 14, 16]])
    inA, inB = (state.bound(np.full(2, 2*np.pi)).contains(c) for state in (a, b))
    assert inA[0] and inB[-1] and not inA[1:].any() and not inB[:-1].any()
    content = json.loads((tmp_path/"ops"/"states.json").read_text())
    assert content["variables"][0]["atoms"] == [4, 6, 8, 14] and content["states"]["A"]["radii"] == [0.75, 0.75] and content["stepsPerFrame"] == 5
    with pytest.raises(FileExistsError, match="overwrite=True"):
        st.exportToOpenPathSampling(tmp_path/"ops", simulation, paths, a, b, force)
    st.exportToOpenPathSampling(tmp_path/"ops", simulation, paths[1], a, b, force, overwrite=True)
    assert json.loads((tmp_path/"ops"/"states.json").read_text())["initial"]["path"] == 1
    with pytest.raises(FileNotFoundError, match="has run_ops.py run there"):
        st.importFromOpenPathSampling(tmp_path/"ops")


def testBadExports(alanine, tmp_path):
    simulation, force, a, b, paths = alanine
    with pytest.raises(ValueError, match="functions cannot be handed over"):
        st.exportToOpenPathSampling(tmp_path/"f", simulation, paths, lambda c: c[:, 0] < -5, b, force)
    with pytest.raises(ValueError, match="no path has a frame in A and one in B"):
        st.exportToOpenPathSampling(tmp_path/"f", simulation, paths, a, st.StateRegion((2.5, 2.5), 0.1), force)
    with pytest.raises(ValueError, match="overlap"):
        st.exportToOpenPathSampling(tmp_path/"f", simulation, paths, a, st.StateRegion(C7EQ, 0.1), force)
    frames = st.transitionStateCandidates(paths, count=1)
    frames.frame[0] = 0
    with pytest.raises(ValueError, match="does not lie between the states"):
        st.exportToOpenPathSampling(tmp_path/"f", simulation, paths, a, b, force, transitionFrames=frames)
    with pytest.raises(ValueError, match="not among the paths"):
        st.exportToOpenPathSampling(tmp_path/"f", simulation, paths[1], a, b, force, transitionFrames=frames)
    with pytest.raises(ValueError, match="stepsPerFrame"):
        st.exportToOpenPathSampling(tmp_path/"f", simulation, paths, a, b, force, stepsPerFrame=0)
    system = openmm.System()
    for _ in range(3):
        system.addParticle(1.0)
    centroids = st.SpacetimeForce(s=[0, 1], eta=[[-50.0, -50.0], [-50.0, 50.0]], temperature=300)
    centroids.addDistance(centroids.addCentroid([0, 1]), 2, name="d")
    system.addForce(centroids)
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(3):
        topology.addAtom("C", app.Element.getBySymbol("C"), residue)
    other = app.Simulation(topology, system, openmm.LangevinMiddleIntegrator(300, 1, 0.002), openmm.Platform.getPlatform("Reference"))
    other.context.setPositions(np.eye(3))
    with pytest.raises(ValueError, match="'d' is a distance of centroids"):
        st.exportToOpenPathSampling(tmp_path/"f", other, paths, st.StateRegion([0.1], 0.1), st.StateRegion([0.9], 0.1), centroids)
    assert not (tmp_path/"f").exists()


def testAlanineThereAndBack(opsPython, alanine, tmp_path):
    simulation, force, a, b, paths = alanine
    found = st.transitionStates(simulation, paths, a, b, force, count=1, firstShots=20, shots=1)
    script = st.exportToOpenPathSampling(tmp_path/"ops", simulation, paths, a, b, force, stepsPerFrame=5, maxFrames=300, transitionFrames=found.frames)
    around = json.loads((tmp_path/"ops"/"states.json").read_text())["initial"]["frames"]
    assert around[0] < found.frames.frame[0] < around[1] and len(mdtraj.load(str(tmp_path/"ops"/"initial.dcd"), top=str(tmp_path/"ops"/"topology.pdb"))) <= 53
    code, out, err = run(opsPython, script, "--trials", 8, "--seed", 3, "--format", "xtc")
    assert code == 0, err
    found = st.importFromOpenPathSampling(tmp_path/"ops")
    assert found.trials == 8 and found.accepted == len(found)-1 and found.weights.sum() == 9 and np.all(found.weights > 0) and found.firstAccepted >= 1
    assert f"first accepted trial: number {found.firstAccepted}" in out and f"{found.accepted} accepted" in out and found.names == ["phi", "psi"]
    inA, inB = found.states
    for path, length in zip(found, found.lengths):
        c = path.variables
        assert len(c) == length >= 3 and inA.contains(c[0]) and inB.contains(c[-1])
        assert not inA.contains(c[1:]).any() and not inB.contains(c[:-1]).any()
        own = mdtraj.compute_dihedrals(mdtraj.load(path.trajectory, top=found.topology), [[4, 6, 8, 14], [6, 8, 14, 16]])
        assert np.abs((own-c+np.pi) % (2*np.pi)-np.pi).max() < 0.05  # XTC is rounded
    # No driver any more: genuine dynamics are much faster than driven ones, and jump from frame to frame as molecules do.
    assert np.mean(found.lengths)*5 < 1500
    driven, unbiased = (st.pathDensity(x, 40, stateA=a, stateB=b) for x in (paths, found))
    assert 0 < st.pathSimilarity(driven, unbiased, splits=20).overlap <= 1 if len(found) > 1 else True
    # The same seed makes the same paths; an earlier run is not overwritten by accident.
    assert run(opsPython, script, "--trials", 3, "--seed", 3)[0] == 1
    code, _, err = run(opsPython, script, "--trials", 8, "--seed", 3, "--overwrite")
    assert code == 0, err
    again = st.importFromOpenPathSampling(tmp_path/"ops")
    assert again.lengths.tolist() == found.lengths.tolist() and again.weights.tolist() == found.weights.tolist()
    assert again[0].trajectory.endswith(".dcd") and np.array_equal(again[0].variables, found[0].variables)
    assert not list((tmp_path/"ops").glob("*.xtc"))


def testEveryKindOfVariable(opsPython, tmp_path):
    """Torsion, angle, distance and coordinate as OpenPathSampling's side computes them, on the molecule as ours does."""
    from openmmspacetime import opsrun

    pdb = app.PDBFile(str(ROOT/"examples"/"alanine_dipeptide"/"alanine_dipeptide.pdb"))
    force = st.SpacetimeForce(s=[0, 1], eta=np.zeros((2, 6)), temperature=300)
    force.addTorsion(4, 6, 8, 14, "phi")
    force.addAngle(6, 8, 14, name="tau")
    force.addDistance(0, 18, name="ends")
    force.addCoordinate(10, 2, name="z")
    system = openmm.System()
    for _ in pdb.topology.atoms():
        system.addParticle(1.0)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(pdb.positions)
    description = {"variables": [force._describeVariable(i) for i in range(4)], "periodicBox": False}
    xyz = pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    values = opsrun.Variables(description, mdtraj.Topology.from_openmm(pdb.topology)).ofFrames(xyz[None], None)[0]
    np.testing.assert_allclose(values, force.getVariableValues(context), atol=1e-5)


def testLengthsOfUnbiasedPathsAgainstPlainDynamics(opsPython, tmp_path):
    """A barrier of 3 kT is crossed often enough to see what transition paths are like without any sampling of paths: the same lengths."""
    from openmmspacetime import openmm_wrapper

    system = openmm.System()
    system.addParticle(1.0)
    well = openmm.CustomExternalForce("7.483*(4*x^2-1)^2+200*(y^2+z^2)")
    well.addParticle(0)
    system.addForce(well)
    force = st.SpacetimeForce(s=[0, 1], eta=[[-50.0, -50.0], [-50.0, 50.0]], temperature=300)
    force.addCoordinate(0, 0, name="x")
    system.addForce(force)
    topology = app.Topology()
    topology.addAtom("C", app.Element.getBySymbol("C"), topology.addResidue("X", topology.addChain()))
    simulation = app.Simulation(topology, system, openmm.LangevinMiddleIntegrator(300, 20.0, 0.01), openmm.Platform.getPlatform("Reference"))
    context = simulation.context
    context.setPositions([[-0.5, 0, 0]])
    a, b = st.StateRegion([-0.6], 0.4), st.StateRegion([0.6], 0.4)  # near the top, so that many trials are accepted
    paths = st.PathSampler(simulation, force, numPaths=1, steps=4000, frameStride=2, seed=1).run(tmp_path/"p")
    script = st.exportToOpenPathSampling(tmp_path/"ops", simulation, paths, a, b, force, stepsPerFrame=2)
    code, _, err = run(opsPython, script, "--trials", 200, "--seed", 1)
    assert code == 0, err
    found = st.importFromOpenPathSampling(tmp_path/"ops")
    assert len(found) > 30 and 0.1 < found.acceptance < 0.7

    steps = 400000
    context.setParameter("spacetime_kT", 0)
    context.setVelocitiesToTemperature(300, 1)
    sampler = openmm_wrapper.PathSampler(force, steps)
    sampler.setStepsPerMove(steps)
    sampler.setMaxStartDistance(np.inf)
    sampler.begin(context)
    while sampler.advance(100000):
        pass
    x = np.frombuffer(sampler.getVariables())[::2]
    label = np.where(x < -0.2, -1, np.where(x > 0.2, 1, 0))
    rows = np.flatnonzero(label)
    turns = np.flatnonzero(np.diff(label[rows]))
    lengths = rows[turns+1]-rows[turns]+1
    assert len(lengths) > 100
    # As many samples as accepted paths, at most.
    measured = np.repeat(found.lengths, found.weights)
    error = measured.std()/np.sqrt(len(found))
    assert abs(measured.mean()-lengths.mean()) < 3*error
    assert 0.5 < measured.std()/lengths.std() < 2
    # The driven path that it began with was far longer.
    assert len(mdtraj.load(str(tmp_path/"ops"/"initial.dcd"), top=found.topology)) > 2*measured.mean()
