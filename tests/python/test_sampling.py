# SPDX-License-Identifier: MIT
"""PathSampler and PathEnsemble: what is sampled, what is recorded, and that a path depends on its seed alone."""
import os
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pandas
import pytest
from openmm import app

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
    assert path.gradientEvaluations == 600 and path.energyEvaluations == len({*path.energySteps, *path.frameSteps})
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
        return all(np.array_equal(x[name], y[name], equal_nan=True) for name in x.files if name != "seconds")


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
        assert a == b and len(a) > 10*4*12
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
    rows = pandas.read_csv(tmp_path/"new"/"paths"/"paths.csv")
    assert rows["path"].tolist() == [0, 1, 2] and rows["status"].tolist() == ["done"]*3
    assert rows["work"].tolist() == [record.work for record in loaded] and rows["seed"].tolist() == [record.seed for record in loaded]
    assert rows["gradient_evaluations"].tolist() == [2100]*3
    assert rows["final_phi"].tolist() == [record.finalVariables[0] for record in loaded]
    assert rows["highest_U"].tolist() == [record.frameEnergy[0] for record in loaded] and rows["highest_F"].isna().all()
    for row, record in zip(rows["hit"], loaded):
        assert row == record.hit == (abs(record.variables[-1, 0]-1) < 0.75)
    assert {p.name for p in (tmp_path/"new"/"paths").iterdir()} == ({"ensemble.json", "index.csv", "paths.csv", "topology.pdb"}
                                                                   | {f"path-000{i}.{e}" for i in range(3) for e in ("dcd", "npz", "csv")})


def waves(x):
    """A free energy that can be told from zero."""
    return 5*np.sin(3*x[:, 0])


@pytest.mark.parametrize("format", ["dcd", "xtc"])
def testFrameIndexAndTrajectories(tmp_path, format):
    simulation, force = makeChain()
    paths = st.PathSampler(simulation, force, numPaths=2, steps=300, stepsPerMove=3, equilibrationSteps=50, frameStride=40, energyStride=7, seed=4, surface=waves,
                           format=format).run(tmp_path/"p")
    index = pandas.read_csv(tmp_path/"p"/"index.csv")
    assert index.columns.tolist() == ["path", "frame", "step", "s", "phi", "U", "U_bias", "work", "F", "state", "seed"]
    steps = [*range(39, 300, 40), 299]
    assert index["path"].tolist() == [0]*8+[1]*8 and index["frame"].tolist() == [*range(8)]*2 and index["step"].tolist() == steps*2
    for i, path in enumerate(paths):
        rows = index[index["path"] == i]
        assert (rows["seed"] == path.seed).all() and (rows["state"] == rows["s"]).all()
        np.testing.assert_array_equal(rows["s"], path.s[steps])
        np.testing.assert_array_equal(rows["phi"], path.variables[steps, 0])
        np.testing.assert_array_equal(rows["work"], [path.workProfile[k//3] for k in steps])
        np.testing.assert_array_equal(rows["F"], waves(path.variables[steps]))
        assert path.highestFreeEnergy == waves(path.variables).max()
        assert path.highestPotentialEnergy == max(path.potentialEnergy.max(), path.frameEnergy.max())
        # Energies of the frames themselves, as OpenMM has them.
        trajectory = mdtraj.load(path.trajectory, top=paths.topology)
        assert Path(path.trajectory).suffix == "."+format and trajectory.n_frames == 8
        np.testing.assert_allclose(mdtraj.compute_dihedrals(trajectory, [[0, 1, 2, 3]])[:, 0], rows["phi"], atol=1e-4 if format == "dcd" else 2e-2)
        if format == "dcd":
            for xyz, (_, row) in zip(trajectory.xyz, rows.iterrows()):
                simulation.context.setPositions(xyz)
                simulation.context.setParameter("spacetime_s", row["s"])
                bias = force.getBiasEnergy(simulation.context)._value
                assert row["U_bias"] == pytest.approx(bias, abs=1e-3)
                assert row["U"] == pytest.approx(simulation.context.getState(energy=True).getPotentialEnergy()._value-bias, abs=0.01)
    assert "every 7 steps" in paths.summary() and "2 paths of 300 steps, forward" in paths.summary()
    pandas.testing.assert_frame_equal(pandas.read_csv(tmp_path/"p"/"path-0001.csv"), index[index["path"] == 1].reset_index(drop=True))


def testBackwardPathsAndStepsPerLength(tmp_path):
    simulation, force = makeChain()
    start = simulation.context.getState(positions=True)
    # Forward first, to have states at s = 1; the two directions then bound the free-energy difference.
    forward = st.PathSampler(simulation, force, numPaths=6, stepsPerLength=100, length=12.6, stepsPerMove=4, seed=2).run(tmp_path/"f")
    assert forward.steps == 1260 and forward.direction == "forward" and forward.settings["length"] == 12.6
    ends = [mdtraj.load(path.trajectory, top=forward.topology).xyz[-1].astype(float) for path in forward]
    backward = st.PathSampler(simulation, force, numPaths=6, steps=1260, stepsPerMove=4, direction="backward", startStates=ends, seed=3).run(tmp_path/"b")
    assert backward.direction == "backward" and backward.settings["direction"] == "backward"
    path = backward[0]
    np.testing.assert_allclose(path.s, 1-np.repeat(np.arange(1, 316)/315, 4), atol=1e-14)
    assert abs(path.variables[0, 0]-1) < 1 and abs(path.variables[-1, 0]+1) < 1
    eta = np.array([force.getEta(1-j/315) for j in range(1, 316)])
    T = np.stack([np.cos(path.variables[:, 0]), np.sin(path.variables[:, 0])], axis=1)
    np.testing.assert_allclose(np.diff(path.workProfile), -KT*np.einsum("ij,ij->i", np.diff(eta, axis=0), T[3:-4:4]), atol=1e-10)
    # Second law: <W_F> >= dF >= -<W_B>.
    W = np.array([p.work for p in forward]), np.array([p.work for p in backward])
    assert W[0].mean()+W[1].mean() > -3*np.hypot(*(w.std(ddof=1)/np.sqrt(6) for w in W))
    with pytest.raises(ValueError, match="s = 1 is centred at 1 "):
        st.PathSampler(simulation, force, numPaths=1, steps=10, direction="backward", startStates=[start]).run(tmp_path/"wrong")
    with pytest.raises(ValueError, match="another System.*settings"):
        st.PathSampler(simulation, force, numPaths=6, steps=1260, stepsPerMove=4, startStates=ends, maxStartDistance=99, seed=3).run(tmp_path/"b", resume=True)
    # A curve that was measured brings its length.
    model = st.GaussianMixtureModel([[-0.1], [0.2]], [0.01, 0.02], [0.5, 0.5])
    curve = st.geodesic(model, [-0.1], [0.2], logSnr=3)
    assert st.SpacetimeForce(curve, temperature=300)._length == curve.length
    for arguments, message in [(dict(stepsPerLength=10), "pass length="), (dict(steps=10, stepsPerLength=10, length=1), "not both"),
                               (dict(stepsPerLength=-1, length=1), "positive"), (dict(direction="up"), "'forward' or 'backward'"), (dict(format="pdb"), "'dcd' or 'xtc'")]:
        with pytest.raises(ValueError, match=message):
            st.PathSampler(simulation, force, **arguments)


def testFailedPathsAreRecordedAndTheOthersGoOn(tmp_path):
    simulation, force = makeChain()
    start = simulation.context.getState(positions=True)
    # NaN from the first step on in every second path: its start has two particles in the same place.
    broken = start.getPositions(asNumpy=True)._value.copy()
    broken[3] = broken[2]
    sampler = st.PathSampler(simulation, force, numPaths=4, steps=50, equilibrationSteps=20, startStates=[start, broken], maxStartDistance=np.inf, seed=3)
    with pytest.warns(RuntimeWarning, match="2 of 4 paths failed, the first of them path 1.*retryFailed=True"):
        paths = sampler.run(tmp_path/"p")
    assert [path.index for path in paths] == [0, 2] and [f.index for f in paths.failures] == [1, 3]
    failure = paths.failures[0]
    assert "not a finite number" in failure.message and failure.s == 0 and 0 <= failure.step <= 20 and failure.seed not in {p.seed for p in paths}
    table = pandas.read_csv(tmp_path/"p"/"paths.csv")
    assert table["status"].tolist() == ["done", "failed", "done", "failed"]
    assert table["failed_step"][1] == failure.step and table["failed_s"][1] == 0 and table["message"][1] == failure.message and np.isnan(table["work"][1])
    assert set(pandas.read_csv(tmp_path/"p"/"index.csv")["path"]) == {0, 2}
    assert not list((tmp_path/"p").glob("path-0001.[!f]*")) and not list((tmp_path/"p").glob(".tmp*"))

    # They stay failed until they are asked for again; the good ones are not run twice.
    times = {p: p.stat().st_mtime_ns for p in (tmp_path/"p").glob("path-*")}
    with pytest.warns(RuntimeWarning, match="2 of 4"):
        sampler.run(tmp_path/"p", resume=True)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path/"p").glob("path-*")} == times
    with pytest.warns(RuntimeWarning, match="2 of 4"):
        sampler.run(tmp_path/"p", resume=True, retryFailed=True)
    again = {p: p.stat().st_mtime_ns for p in (tmp_path/"p").glob("path-*")}
    assert {p.name for p in again if again[p] != times[p]} == {"path-0001.failed.json", "path-0003.failed.json"}


def testFarStartsAreRefusedOrBroughtToTheCurve(tmp_path):
    simulation, force = makeChain()
    far = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value.copy()
    far[3, 2] *= -1   # the mirror image, at about +0.94 rad
    simulation.context.setPositions(far)
    phi = force.getVariableValues(simulation.context)[0]
    assert phi > 0.5
    width = 1/np.sqrt(40)
    with pytest.raises(ValueError, match=rf'variable "phi" is {phi:.3f}.*centred at -1 with a width of {width:.3f}.*{(phi+1)/width:.2f}.*widths away'):
        st.PathSampler(simulation, force, numPaths=1, steps=10).run(tmp_path/"far")
    assert not (tmp_path/"far").exists()
    good = makeChain()[0].context.getState(positions=True)
    before = simulation.context.getState(positions=True).getPositions(asNumpy=True)
    with pytest.raises(ValueError, match=r"startStates\[1\]"):
        st.PathSampler(simulation, force, numPaths=2, steps=10, startStates=[good, far]).run(tmp_path/"far")
    assert np.array_equal(before, simulation.context.getState(positions=True).getPositions(asNumpy=True))
    paths = st.PathSampler(simulation, force, numPaths=2, steps=200, equilibrationSteps=300, equilibrate=3000).run(tmp_path/"pulled")
    assert all(abs(path.variables[0, 0]+1) < 5*width for path in paths) and paths.settings["pullSteps"] == 3000
    assert paths[0].gradientEvaluations == 3000+2*300+200
    # Too short a pull fails path by path.
    with pytest.warns(RuntimeWarning, match="1 of 1 paths failed.*after the equilibration"):
        short = st.PathSampler(simulation, force, numPaths=1, steps=10, equilibrationSteps=0, equilibrate=1).run(tmp_path/"short")
    assert short.failures[0].step == 1 and len(short) == 0


@pytest.mark.parametrize("format, steps, numPaths, file", [("dcd", 4000, 2, "path-0000.dcd"), ("xtc", 4000, 2, "path-0000.xtc"), ("dcd", 200, 8, "index.csv")])
def testFullDisk(tmp_path, format, steps, numPaths, file):
    """A limit on the size of files stands for the disk: what is written beyond it is an OSError."""
    resource = pytest.importorskip("resource")
    simulation, force = makeChain()
    sampler = st.PathSampler(simulation, force, numPaths=numPaths, steps=steps, equilibrationSteps=0, frameStride=2, seed=8, format=format)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30000, hard))
    try:
        with pytest.raises(OSError, match=f"{8 if numPaths == 8 else 0} of {numPaths} paths are complete.*resume=True") as error:
            sampler.run(tmp_path/"p")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path(error.value.filename).name == file
    left = {p.name for p in (tmp_path/"p").iterdir()}
    assert file not in left and not any(name.startswith(".tmp") for name in left)
    assert left >= {"ensemble.json", "topology.pdb"} and len([name for name in left if name.startswith("path-")]) == (24 if numPaths == 8 else 0)
    resumed = sampler.run(tmp_path/"p", resume=True)
    whole = sampler.run(tmp_path/"whole")
    assert [p.work for p in resumed] == [p.work for p in whole]
    assert (tmp_path/"p"/"index.csv").read_bytes() == (tmp_path/"whole"/"index.csv").read_bytes()


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
    assert len((tmp_path/"cut"/"index.csv").read_text().splitlines()) == len((tmp_path/"cut"/"paths.csv").read_text().splitlines()) == 3
    with pytest.raises(ValueError, match="settings"):
        st.PathSampler(simulation, force, numPaths=4, steps=80).run(tmp_path/"cut", resume=True)
    resumed = st.PathSampler(simulation, force, numPaths=4, steps=60).run(tmp_path/"cut", resume=True)
    assert [r.work for r in resumed] == [r.work for r in whole]


def sameRuns(a, b, numPaths):
    assert (a/"index.csv").read_bytes() == (b/"index.csv").read_bytes()
    for i in range(numPaths):
        assert sameFiles(a, b, i)
        assert (a/f"path-{i:04d}.dcd").read_bytes() == (b/f"path-{i:04d}.dcd").read_bytes()


@pytest.mark.parametrize("kind", ["processes", "threads", "dask"])
def testExecutorsOfOthers(tmp_path, kind):
    simulation, force = makeChain()
    arguments = dict(numPaths=5, steps=100, frameStride=20, seed=12)
    st.PathSampler(simulation, force, **arguments).run(tmp_path/"own")
    if kind == "dask":
        distributed = pytest.importorskip("distributed")
        cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, local_directory=str(tmp_path/"dask"))
        client = distributed.Client(cluster)
        executor = client.get_executor()
    else:
        executor = ProcessPoolExecutor(2, mp_context=get_context("spawn")) if kind == "processes" else ThreadPoolExecutor(3)
    calls = []
    try:
        st.PathSampler(simulation, force, **arguments, executor=executor, progress=lambda *x: calls.append(x)).run(tmp_path/"theirs")
        # It is left open for more: here a run that goes on, with a new seed and a failure.
        other = st.PathSampler(simulation, force, numPaths=2, steps=40, seed=13, executor=executor).run(tmp_path/"other")
        with pytest.warns(RuntimeWarning, match="2 of 2"):
            st.PathSampler(simulation, force, numPaths=2, steps=10, equilibrationSteps=0, equilibrate=1, maxStartDistance=1e-6, executor=executor).run(tmp_path/"failed")
    finally:
        executor.shutdown()
        if kind == "dask":
            client.close()
            cluster.close()
    assert calls == [(i, 5) for i in range(1, 6)] and len(other) == 2
    sameRuns(tmp_path/"own", tmp_path/"theirs", 5)
    assert not list((tmp_path/"theirs").glob(".tmp*"))


def testProgressLine(tmp_path, capsys):
    simulation, force = makeChain()
    sampler = st.PathSampler(simulation, force, numPaths=2, steps=40, progress=True)
    sampler.run(tmp_path/"p")
    line = capsys.readouterr().err.split("\r")[-1]
    paths, rate, steps, days, left = re.fullmatch(r"paths (\d)/2, (\S+) paths/s, (\S+) steps/s, (\S+) ns/day, (\d+) s to go +\n", line).groups()
    assert paths == "2" and left == "0"
    steps = float(steps.replace(",", ""))
    # 40 and twice 1000 steps a path, of 4 fs.
    assert steps == pytest.approx(2040*float(rate), rel=0.01) and float(days) == pytest.approx(steps*4e-6*86400, rel=0.01)
    # Nothing was left to do: no times from nothing.
    sampler.run(tmp_path/"p", resume=True)


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
    stranger.addWalker(0)
    stranger.addWalker(4)
    with pytest.raises(ValueError, match="drives one walker.* has 2"):
        st.PathSampler(simulation, stranger)
    simulation.integrator.setTemperature(310)
    with pytest.raises(ValueError, match="310 K.*300 K"):
        st.PathSampler(simulation, force, numPaths=1, steps=10).run(tmp_path/"hot")
    simulation.integrator.setTemperature(300)
    simulation.integrator.setStepSize(1e9)
    with pytest.warns(RuntimeWarning, match="1 of 1 paths failed.*not a finite number after step"):
        st.PathSampler(simulation, force, numPaths=1, steps=10).run(tmp_path/"fast")
    assert [p.name for p in (tmp_path/"fast").glob("path-*")] == ["path-0000.failed.json"]


def testScriptWithoutMainGuardIsToldSo(tmp_path):
    script = tmp_path/"script.py"
    script.write_text(f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
                      "from test_sampling import makeChain\nimport openmmspacetime as st\nsimulation, force = makeChain()\n"
                      f"st.PathSampler(simulation, force, numPaths=2, steps=10, processes=2).run({str(tmp_path/'paths')!r}, resume=True)\n")
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert 'if __name__ == "__main__":' in result.stderr


@pytest.mark.parametrize("format", ["dcd", "xtc"])
def testFramesByNumber(tmp_path, format):
    simulation, force = makeChain()
    paths = st.PathSampler(simulation, force, numPaths=2, steps=40, equilibrationSteps=0, frameStride=10, format=format, progress=False).run(tmp_path/"p")
    record = paths[1]
    whole = mdtraj.load(record.trajectory, top=paths.topology)
    for frame in (0, 2, -1):
        positions, box = paths.frame(1, frame)
        assert positions.dtype == float and box is None
        np.testing.assert_allclose(positions, whole.xyz[frame], atol=1e-6)
    with pytest.raises(IndexError):
        paths.frame(1, len(record.frameSteps))
    with pytest.raises(IndexError):
        paths.frame(2)
