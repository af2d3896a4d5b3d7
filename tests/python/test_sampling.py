# SPDX-License-Identifier: MIT
"""PathSampler and PathEnsemble: what is sampled, what is recorded, and that a path depends on its seed alone."""
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st

TEMPERATURE = 300.0
KT = 8.31446261815324e-3*TEMPERATURE


def makeTopology(count):
    topology = app.Topology()
    chain = topology.addChain()
    for _ in range(count):
        topology.addAtom("C", app.Element.getBySymbol("C"), topology.addResidue("X", chain))
    return topology


def makeSimulation(system, positions, friction=10.0, step=0.01):
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, friction, step)
    simulation = app.Simulation(makeTopology(system.getNumParticles()), system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(positions)
    return simulation


SURFACE = "3*cos(2*pi*x)+2*sin(2*pi*(x+2*y))+2*cos(2*pi*y)"


def makeSurface(s, eta):
    """A particle of 1 Da on a surface of period 1 nm in x and y, with both as lifted variables."""
    system = openmm.System()
    system.addParticle(1.0)
    surface = openmm.CustomExternalForce(SURFACE+"+50*z^2; pi=3.14159265358979")
    surface.addParticle(0)
    system.addForce(surface)
    force = st.SpacetimeForce(s=s, eta=eta, temperature=TEMPERATURE)
    force.addCoordinate(0, 0, period=1.0, name="x")
    force.addCoordinate(0, 1, period=1.0, name="y")
    system.addForce(force)
    return makeSimulation(system, [[0.2, 0.3, 0.0]]), force


def makeChain(steps=400, force=None):
    """Four beads with a torsion that is driven from -1 to 1 rad."""
    system = openmm.System()
    for _ in range(4):
        system.addParticle(15.0)
    bonds, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    for i in range(3):
        bonds.addBond(i, i+1, 0.15, 1e4)
    for i in range(2):
        angles.addAngle(i, i+1, i+2, 1.9, 300.0)
    system.addForce(bonds)
    system.addForce(angles)
    s = np.linspace(0, 1, 9)
    phi = -1+2*s
    force = st.SpacetimeForce(s=s, eta=40*np.stack([np.cos(phi), np.sin(phi)], axis=1), temperature=TEMPERATURE)
    force.addTorsion(0, 1, 2, 3, "phi")
    system.addForce(force)
    positions = [[0.0, 0.14, 0.0], [0.0, 0.0, 0.0], [0.15, 0.0, 0.0], [0.2, 0.08, -0.11]]
    return makeSimulation(system, positions, friction=5.0, step=0.004), force


def density(eta, n=128):
    """The tilted Boltzmann distribution on an n x n grid."""
    g = 2*np.pi*(np.arange(n)/n-0.5+0.5/n)
    x, y = np.meshgrid(g, g, indexing="ij")
    u = 3*np.cos(x)+2*np.sin(x+2*y)+2*np.cos(y)
    T = np.stack([np.cos(x), np.sin(x), np.cos(y), np.sin(y)])
    p = np.exp(-u/KT+np.tensordot(eta, T, 1))
    return p/p.sum(), T


def testTiltedDistributionAgainstQuadrature(tmp_path):
    eta = np.array([0.9, -1.2, 0.5, 1.4])
    simulation, force = makeSurface([0, 1], [eta, eta])
    paths = st.PathSampler(simulation, force, numPaths=16, steps=20000, stepsPerMove=20000, equilibrationSteps=500, seed=3).run(tmp_path/"paths")
    assert all(r.work == 0 for r in paths)
    p, T = density(eta)
    mu = (T*p).sum(axis=(1, 2))
    theta = np.stack([2*np.pi*r.variables for r in paths])
    means = np.stack([f(theta[:, :, i]).mean(axis=1) for i in range(2) for f in (np.cos, np.sin)], axis=1)
    error = means.std(axis=0, ddof=1)/np.sqrt(len(paths))
    # Sharp enough to tell a bias that is off by 10 % or has the wrong kT.
    wrong = (T*density(1.1*eta)[0]).sum(axis=(1, 2))
    assert np.abs((wrong-mu)/error).max() > 6
    assert np.abs((means.mean(axis=0)-mu)/error).max() < 4

    # Chi-square of an 8 x 8 histogram of frames 1 ps apart, which is far beyond the correlation time of the well.
    thinned = theta[:, ::100].reshape(-1, 2)
    counts = np.histogram2d(*thinned.T, bins=8, range=[[-np.pi, np.pi]]*2)[0].ravel()
    expected = len(thinned)*p.reshape(8, 16, 8, 16).sum(axis=(1, 3)).ravel()
    keep = expected > 5
    chi2 = ((counts-expected)[keep]**2/expected[keep]).sum()
    degrees = keep.sum()-1
    assert chi2 < degrees+5*np.sqrt(2*degrees)
    untilted = len(thinned)*density(0*eta)[0].reshape(8, 16, 8, 16).sum(axis=(1, 3)).ravel()
    assert ((counts-untilted)[keep]**2/untilted[keep]).sum() > degrees+50*np.sqrt(2*degrees)


def testWorkFitsTheRecord(tmp_path):
    simulation, force = makeChain()
    path = st.PathSampler(simulation, force, numPaths=1, steps=400, stepsPerMove=4, equilibrationSteps=100, energyStride=30, frameStride=50).run(tmp_path/"p")[0]
    np.testing.assert_allclose(path.s, np.repeat(np.arange(1, 101)/100, 4), rtol=1e-14)
    assert path.variables.shape == (400, 1) and path.workProfile.shape == (100,)
    phi = path.variables[:, 0]
    T = np.stack([np.cos(phi), np.sin(phi)], axis=1)
    eta = np.array([force.getEta(s) for s in np.arange(1, 101)/100])
    # Move j happens at the positions that step 4 j leaves behind.
    increments = -KT*np.einsum("ij,ij->i", np.diff(eta, axis=0), T[3:-4:4])
    np.testing.assert_allclose(np.diff(path.workProfile), increments, atol=1e-10)
    assert path.work == path.workProfile[-1]
    assert path.energySteps.tolist() == list(range(29, 400, 30))+[399]
    assert path.potentialEnergy.shape == path.energySteps.shape
    assert path.gradientEvaluations == 600 and path.energyEvaluations == len(path.energySteps)
    assert abs(phi[-1]-1) < 1 and path.finalVariables.shape == (1,)

    # The trajectory holds what was recorded, and without the bias the energies are those of bonds and angles.
    trajectory = mdtraj.load(path.trajectory, top=str(tmp_path/"p"/"topology.pdb"))
    assert path.frameSteps.tolist() == list(range(49, 400, 50))
    np.testing.assert_allclose(mdtraj.compute_dihedrals(trajectory, [[0, 1, 2, 3]])[:, 0], phi[path.frameSteps], atol=1e-4)
    context = simulation.context
    context.setParameter("spacetime_s", 0.7)
    context.setPositions(trajectory.xyz[-1])
    state = context.getState(energy=True)
    assert path.potentialEnergy[-1] == pytest.approx((state.getPotentialEnergy()-force.getBiasEnergy(context))._value, abs=0.01)


def sameFiles(a, b, index):
    a, b = Path(a)/f"path-{index:04d}.npz", Path(b)/f"path-{index:04d}.npz"
    with np.load(a) as x, np.load(b) as y:
        return all(np.array_equal(x[name], y[name]) for name in x.files if name != "seconds")


def testPathDependsOnItsSeedAlone(tmp_path):
    simulation, force = makeChain()
    before = simulation.context.getState(positions=True, velocities=True, parameters=True)
    few = st.PathSampler(simulation, force, numPaths=2, steps=200, frameStride=20, seed=5).run(tmp_path/"few")
    # Runs the same paths and more in two processes, after something else has used the process's random numbers.
    simulation.step(137)
    simulation.context.setState(before)
    many = st.PathSampler(simulation, force, numPaths=4, steps=200, frameStride=20, seed=5, processes=2).run(tmp_path/"many")
    for i in range(2):
        assert sameFiles(tmp_path/"few", tmp_path/"many", i)
        a, b = Path(few[i].trajectory).read_bytes(), Path(many[i].trajectory).read_bytes()
        # The header holds the time of writing.
        assert a[276:] == b[276:] and len(a) > 10*4*12
    assert len({r.work for r in many}) == 4
    other = st.PathSampler(simulation, force, numPaths=1, steps=200, seed=6).run(tmp_path/"other")
    assert other[0].work not in {r.work for r in many}

    # The simulation itself was left alone.
    after = simulation.context.getState(positions=True, velocities=True, parameters=True)
    assert np.array_equal(before.getPositions(asNumpy=True)._value, after.getPositions(asNumpy=True)._value)
    assert np.array_equal(before.getVelocities(asNumpy=True)._value, after.getVelocities(asNumpy=True)._value)
    assert dict(before.getParameters()) == dict(after.getParameters())


def testEnsembleOnDisk(tmp_path):
    simulation, force = makeChain()
    calls = []
    paths = st.PathSampler(simulation, force, numPaths=3, steps=100, seed=9, progress=lambda *x: calls.append(x)).run(tmp_path/"new"/"paths")
    assert calls == [(1, 3), (2, 3), (3, 3)]
    loaded = st.PathEnsemble.load(tmp_path/"new"/"paths")
    assert len(loaded) == len(paths) == 3
    assert loaded.directory == str(tmp_path/"new"/"paths")
    assert loaded.names == ["phi"] and loaded.temperature == TEMPERATURE and loaded.steps == 100
    np.testing.assert_array_equal(loaded.s, force.getCurve()[0])
    np.testing.assert_array_equal(loaded.eta, force.getCurve()[1])
    assert loaded[-1].index == 2 and [r.index for r in loaded[:2]] == [0, 1]
    with pytest.raises(IndexError):
        loaded[3]
    assert loaded.variables[0]["atoms"] == [0, 1, 2, 3]
    with open(tmp_path/"new"/"paths"/"index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["path"]) for row in rows] == [0, 1, 2]
    for row, record in zip(rows, loaded):
        assert float(row["work_kJ_mol"]) == record.work
        assert int(row["seed"]) == record.seed
        assert int(row["gradient_evaluations"]) == 2100
        assert float(row["final_phi"]) == record.finalVariables[0]
    assert {p.name for p in (tmp_path/"new"/"paths").iterdir()} == {"ensemble.json", "index.csv", "topology.pdb"} | {f"path-000{i}.{e}" for i in range(3) for e in ("dcd", "npz")}


def testDirectoriesAreNotOverwrittenUnasked(tmp_path):
    simulation, force = makeChain()
    (tmp_path/"notes.txt").write_text("mine")
    sampler = st.PathSampler(simulation, force, numPaths=2, steps=50, equilibrationSteps=0)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        sampler.run(tmp_path)
    first = sampler.run(tmp_path, overwrite=True)[0].work
    with pytest.raises(FileExistsError):
        sampler.run(tmp_path)
    fewer = st.PathSampler(simulation, force, numPaths=1, steps=50, equilibrationSteps=0).run(tmp_path, overwrite=True)
    assert len(fewer) == 1 and fewer[0].work == first
    assert (tmp_path/"notes.txt").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="ensemble.json"):
        st.PathEnsemble.load(tmp_path/"nowhere")


def testInterruptedRunKeepsWhatIsCompleteAndResumes(tmp_path):
    simulation, force = makeChain()
    whole = st.PathSampler(simulation, force, numPaths=4, steps=60).run(tmp_path/"whole")

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        st.PathSampler(simulation, force, numPaths=4, steps=60, progress=stop).run(tmp_path/"cut")
    assert len(st.PathEnsemble.load(tmp_path/"cut")) == 2
    assert len((tmp_path/"cut"/"index.csv").read_text().splitlines()) == 3
    with pytest.raises(ValueError, match="settings"):
        st.PathSampler(simulation, force, numPaths=4, steps=80).run(tmp_path/"cut", resume=True)
    resumed = st.PathSampler(simulation, force, numPaths=4, steps=60).run(tmp_path/"cut", resume=True)
    assert [r.work for r in resumed] == [r.work for r in whole]


def testStartStates(tmp_path):
    simulation, force = makeChain()
    context = simulation.context
    starts = [context.getState(positions=True)]
    simulation.step(200)
    starts.append(context.getState(positions=True).getPositions(asNumpy=True))
    phi = force.getVariableValues(context)[0]
    paths = st.PathSampler(simulation, force, numPaths=3, steps=10, equilibrationSteps=0, startStates=starts).run(tmp_path/"p")
    context.setState(starts[0])
    assert abs(paths[0].variables[0, 0]-force.getVariableValues(context)[0]) < 0.1
    assert abs(paths[1].variables[0, 0]-phi) < 0.1
    # Same start, other velocities.
    assert abs(paths[2].variables[0, 0]-paths[0].variables[0, 0]) < 0.2 and paths[2].work != paths[0].work


def testErrors(tmp_path):
    simulation, force = makeChain()
    for arguments, message in [(dict(steps=10, stepsPerMove=3), "10 is not a multiple of 3"), (dict(numPaths=0), "numPaths"), (dict(steps=1.5), "steps"),
                               (dict(frameStride=-1), "frameStride"), (dict(processes=0), "processes"), (dict(startStates=[]), "startStates")]:
        with pytest.raises(ValueError, match=message):
            st.PathSampler(simulation, force, **arguments)
    stranger = st.SpacetimeForce(s=[0, 1], eta=[[1, 2], [3, 4]], temperature=300)
    stranger.addTorsion(0, 1, 2, 3)
    with pytest.raises(openmm.OpenMMException, match="not part of the Context.*reinitialize"):
        st.PathSampler(simulation, stranger)
    simulation.integrator.setTemperature(310)
    with pytest.raises(ValueError, match="310 K.*300 K"):
        st.PathSampler(simulation, force, numPaths=1, steps=10).run(tmp_path/"hot")
    simulation.integrator.setTemperature(300)
    simulation.integrator.setStepSize(1e9)
    with pytest.raises(openmm.OpenMMException, match="not a finite number after step"):
        st.PathSampler(simulation, force, numPaths=1, steps=10).run(tmp_path/"fast")
    assert not list((tmp_path/"fast").glob("path-*"))


def testScriptWithoutMainGuardIsToldSo(tmp_path):
    script = tmp_path/"script.py"
    script.write_text(f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
                      "from test_sampling import makeChain\nimport openmmspacetime as st\nsimulation, force = makeChain()\n"
                      f"st.PathSampler(simulation, force, numPaths=2, steps=10, processes=2).run({str(tmp_path/'paths')!r}, resume=True)\n")
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert 'if __name__ == "__main__":' in result.stderr
