# SPDX-License-Identifier: MIT
"""Committors of overdamped particles against quadrature, the choice of frames, and that a second set has nothing to do with the first."""
import json

import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st

TEMPERATURE = 300.0
KT = 8.31446261815324e-3*TEMPERATURE
HEIGHT = 3*KT  # of the barrier


def doubleWell(tilt=0.0, s=(0, 1), eta=((-50.0, -50.0), (-50.0, 50.0)), platform="Reference", step=0.0005):
    """A Brownian particle of 1 Da with wells at x = -0.5 and 0.5 nm, and x as its variable; U/kT = 3 (4 x^2 - 1)^2 + tilt x."""
    system = openmm.System()
    system.addParticle(1.0)
    well = openmm.CustomExternalForce(f"{HEIGHT!r}*(4*x^2-1)^2+{tilt*KT!r}*x+200*(y^2+z^2)")
    well.addParticle(0)
    system.addForce(well)
    force = st.SpacetimeForce(s=s, eta=eta, temperature=TEMPERATURE)
    force.addCoordinate(0, 0, name="x")
    system.addForce(force)
    topology = app.Topology()
    topology.addAtom("C", app.Element.getBySymbol("C"), topology.addResidue("X", topology.addChain()))
    simulation = app.Simulation(topology, system, openmm.BrownianIntegrator(TEMPERATURE, 10.0, step), openmm.Platform.getPlatform(platform))
    simulation.context.setPositions([[-0.5, 0, 0]])
    return simulation, force


A, B = st.StateRegion([-0.5], 0.1), st.StateRegion([0.5], 0.1)


def exact(x, tilt=0.0, a=-0.4, b=0.4):
    """p(x) = int_a^x exp(U/kT) / int_a^b exp(U/kT) of overdamped motion in one dimension."""
    def integral(low, high):
        g = np.linspace(low, high, 4001)
        return np.trapezoid(np.exp(3*(4*g*g-1)**2+tilt*g), g)

    return np.array([integral(a, v)/integral(a, b) for v in np.atleast_1d(x)])


def at(x):
    """Frames [K, 1, 3] at these x."""
    return np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=-1)[:, None]


def testAgainstQuadrature():
    simulation, force = doubleWell(tilt=2.0)
    x = np.array([-0.2, -0.1, 0.0, 0.05, 0.12, 0.2])
    result = st.committor(simulation, at(x), A, B, force, shots=150, seed=4)
    p = exact(x, 2.0)
    assert p.min() < 0.1 and p.max() > 0.8
    binomial = np.sqrt(p*(1-p)/150)
    assert np.abs((result.p-p)/binomial).max() < 3
    assert np.sum(((result.p-p)/binomial)**2) < 6+3*np.sqrt(12)
    assert np.all(result.nA+result.nB+result.nUndecided == 150) and result.undecided == 0
    np.testing.assert_allclose(result.variables[:, 0], x, atol=1e-12)
    # The bias that is in the System would have changed this beyond doubt: its wells pull by more than the barrier does.
    assert force.getBiasEnergy(simulation.context)._value != 0
    low, high = result.interval().T
    assert np.mean((low <= p) & (p <= high)) > 0.8 and np.all(result.error > 0)


def testSymmetricBarrierIsOneHalf():
    simulation, force = doubleWell()
    result = st.committor(simulation, at(np.zeros(24)), A, B, force, shots=40, seed=2)
    assert abs(result.mean-0.5) < 3*0.5/np.sqrt(24*40)
    assert result.meanBinomialError == pytest.approx(0.5/np.sqrt(24*40), rel=0.1)
    # One committor for all frames: the spread is binomial, chi-square with 23 degrees of freedom.
    assert 0.35 < result.varianceRatio < 2.0
    assert result.shareNear > 0.6
    mixed = st.committor(simulation, at(np.array([-0.15]*6+[0.15]*6)), A, B, force, shots=40, seed=2)
    assert mixed.varianceRatio > 10 and mixed.shareNear == 0 and abs(mixed.mean-0.5) < 0.1
    assert 200 < np.mean(result.steps) < 5000


def testSameSeedSameCounts(tmp_path):
    simulation, force = doubleWell()
    frames = at(np.array([-0.05, 0.0, 0.05, 0.0]))

    def run(**more):
        return st.committor(simulation, frames, A, B, force, **{"shots": 12, "seed": 7, **more})

    first = run()
    assert len({tuple(x) for x in zip(first.nB, first.steps)}) == 4  # frames 1 and 3 are the same, their trajectories are not
    for again in (run(), run(processes=2)):
        assert again.nB.tolist() == first.nB.tolist() and again.steps.tolist() == first.steps.tolist()
    other = run(seed=8)
    assert other.steps.tolist() != first.steps.tolist()
    # A frame does not depend on the ones before it.
    shifted = st.committor(simulation, frames[:2], A, B, force, shots=12, seed=7)
    assert shifted.steps.tolist() == first.steps[:2].tolist()


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """Simulation, force and 12 paths driven from one well to the other in 2 ps, a frame every 20 steps."""
    simulation, force = doubleWell()
    paths = st.PathSampler(simulation, force, numPaths=12, steps=4000, equilibrationSteps=200, frameStride=20, seed=5).run(tmp_path_factory.mktemp("paths")/"p")
    return simulation, force, paths


def surfaceAround(center):
    """F with its barrier at `center`, where it is or not."""
    return lambda c: HEIGHT*(4*(c[..., 0]-center)**2-1)**2


def testCandidatesAreTheHighestFramesOfDifferentPaths(driven):
    simulation, force, paths = driven
    frames = st.transitionStateCandidates(paths, surfaceAround(0.0), count=10, stateA=A, stateB=B)
    assert len(frames) == 10 == len(set(frames.path.tolist()))
    for k in range(10):
        record = paths[int(frames.path[k])]
        assert record.frameSteps[frames.frame[k]] == frames.step[k] and record.s[frames.step[k]] == frames.s[k]
        x = record.variables[record.frameSteps, 0]
        between = (np.abs(x) < 0.4)
        assert abs(frames.variables[k, 0]) == np.abs(x[between]).min()
        assert frames.positions[k, 0, 0] == pytest.approx(frames.variables[k, 0], abs=1e-6)
    np.testing.assert_allclose(frames.height, surfaceAround(0.0)(frames.variables))
    result = st.committor(simulation, frames, A, B, force, shots=30)
    assert abs(result.mean-0.5) < 0.1 and result.source == frames.source
    # The potential energy, with two more coordinates in it, finds worse frames.
    noisy = st.transitionStateCandidates(paths, count=10)
    assert np.abs(noisy.variables).mean() > 2*np.abs(frames.variables).mean()


def testRefinementCorrectsAWrongSurface(driven, tmp_path):
    simulation, force, paths = driven
    wrong = st.committor(simulation, st.transitionStateCandidates(paths, surfaceAround(0.2), count=10, stateA=A, stateB=B), A, B, force, shots=30, seed=3)
    assert wrong.mean > 0.75
    found = st.transitionStates(simulation, paths, A, B, force, count=10, firstShots=16, shots=40, seed=3, directory=tmp_path/"ts")
    assert len(set(found.frames.path.tolist())) == 10
    assert abs(found.second.mean-0.5) < 0.1
    np.testing.assert_allclose(found.second.variables, found.frames.variables, atol=1e-6)
    # Neither set knows of the other: what the second says is what the frames are, what the first says is nearer to 1/2.
    p = exact(found.frames.variables[:, 0])
    assert np.abs((found.second.p-p)/np.sqrt(p*(1-p)/40)).max() < 3.5
    assert np.abs(found.first.p-0.5).mean() < np.abs(found.second.p-0.5).mean()
    assert found.first.nB.tolist() != found.second.nB.tolist() and found.probes >= 160
    same = st.committor(simulation, found.frames, A, B, force, shots=40, seed=3)
    assert same.nB.tolist() == found.second.nB.tolist()
    for text in (found.table, found.summary()):
        assert "second set, independent" in text and "first set" in text
    # Everything can be read back.
    assert st.CommittorResult.load(tmp_path/"ts"/"second"/"committor.json").asDict() == found.second.asDict()
    again = st.TransitionFrames.load(tmp_path/"ts"/"frames.npz")
    assert again.positions.tolist() == found.frames.positions.tolist() and again.names == ["x"]
    assert json.loads((tmp_path/"ts"/"transitionstates.json").read_text())["second"]["mean"] == found.second.mean


# ---- two periodic variables, against the backward Kolmogorov equation

SURFACE = "3*cos(2*pi*x)+2*sin(2*pi*(x+2*y))+2*cos(2*pi*y)"


def solveCommittor(inA, inB, n=96):
    """div(exp(-U/kT) grad p) = 0 on the torus, p = 0 in A and 1 in B, by finite volumes."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    g = (np.arange(n)+0.5)/n-0.5
    x, y = np.meshgrid(g, g, indexing="ij")
    U = 3*np.cos(2*np.pi*x)+2*np.sin(2*np.pi*(x+2*y))+2*np.cos(2*np.pi*y)
    w, index = np.exp(-U/KT), np.arange(n*n).reshape(n, n)
    rows, columns, values = [], [], []
    for axis in (0, 1):
        neighbour, own = np.roll(index, -1, axis).ravel(), index.ravel()
        flow = np.sqrt(w.ravel()*np.roll(w, -1, axis).ravel())
        for i, j in ((own, neighbour), (neighbour, own)):
            rows += [i, i]
            columns += [j, i]
            values += [flow, -flow]
    points = np.stack([x, y], axis=-1).reshape(-1, 2)
    fixed = inA(points) | inB(points)
    M = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))).tolil()
    M[fixed] = 0
    M[fixed, fixed] = 1
    return points, spsolve(M.tocsr(), np.where(fixed, inB(points), 0.0)), U.ravel()


def testTwoPeriodicVariablesAgainstKolmogorov():
    system = openmm.System()
    system.addParticle(1.0)
    surface = openmm.CustomExternalForce(SURFACE+"+200*z^2; pi=3.14159265358979")
    surface.addParticle(0)
    system.addForce(surface)
    force = st.SpacetimeForce(s=[0, 1], eta=[[30, 0, 30, 0], [-30, 0, -30, 0]], temperature=TEMPERATURE)
    force.addCoordinate(0, 0, period=1.0, name="x")
    force.addCoordinate(0, 1, period=1.0, name="y")
    system.addForce(force)
    topology = app.Topology()
    topology.addAtom("C", app.Element.getBySymbol("C"), topology.addResidue("X", topology.addChain()))
    simulation = app.Simulation(topology, system, openmm.BrownianIntegrator(TEMPERATURE, 10.0, 0.0001), openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions([[0, 0, 0]])
    # A is a union of discs, one of them across the seam; B lies elsewhere.
    inA = st.StateRegion([[-0.47, -0.41]], 0.12, force) | st.StateRegion([0.46, -0.42], 0.1, force)
    inB = st.StateRegion([0.45, 0.18], 0.12, force)
    points, p, _ = solveCommittor(inA.contains, inB.contains)
    assert p.min() > -1e-9 and p.max() < 1+1e-9
    chosen = [int(np.argmin(np.linalg.norm(points-c, axis=1))) for c in ([-0.41, -0.08], [-0.33, 0.09], [0.0, -0.41], [0.25, 0.0], [-0.24, -0.41])]
    assert np.ptp(p[chosen]) > 0.4 and np.all((p[chosen] > 0.05) & (p[chosen] < 0.95))
    frames = np.concatenate([points[chosen], np.zeros((5, 1))], axis=1)[:, None]
    frames += np.array([1.0, -2.0, 0.0])  # whole turns do not matter
    result = st.committor(simulation, frames, inA, inB, force, shots=120, seed=11, maxSteps=200000)
    assert result.undecided == 0
    assert np.abs((result.p-p[chosen])/np.sqrt(p[chosen]*(1-p[chosen])/120)).max() < 3.2


# ---- everything else

def testStateRegion():
    seam = st.StateRegion([[3.0, 3.0]], 0.5, periods=[2*np.pi, 0])
    assert seam.contains(np.array([[-3.1, 3.0], [-3.1, -3.0], [3.0, 3.6], [3.0, np.nan]])).tolist() == [True, False, False, False]
    both = seam | st.StateRegion([0.0, 0.0], 20*unit.degrees)
    assert both.contains([0.3, 0.0]) and not both.contains([0.36, 0.0]) and both.contains([-3.1, 3.0]) and len(both.centers) == 2
    assert st.StateRegion([[0.0], [1.0]], [0.1, 0.2], periods=[0]).contains([[0.15], [1.15]]).tolist() == [False, True]
    assert st.StateRegion([1*unit.angstrom], 1.0*unit.angstrom, periods=[0]).contains([0.05])
    for arguments, text in ((dict(center=[], radius=1), "centre"), (dict(center=[0.0], radius=0), "positive radii"), (dict(center=[np.nan], radius=1), "finite"),
                            (dict(center=[[0.0], [1.0]], radius=[1, 2, 3]), "one radius or one for each"), (dict(center=[0.0, 1.0], radius=1, periods=[0]), "there are 1 variables")):
        with pytest.raises(ValueError, match=text):
            st.StateRegion(**arguments)
    with pytest.raises(ValueError, match="periods"):
        st.StateRegion([0.0], 1).contains([0.0])
    with pytest.raises(ValueError, match="points of 1 variables"):
        A.bound(np.zeros(1)).contains([0.0, 1.0])


def halfLine(c):
    return c[:, 0] > 0.4


def halfPlane(c):
    return c[:, 0] < -0.4


def testFunctionsAsStates(tmp_path):
    simulation, force = doubleWell()
    discs = st.committor(simulation, at(np.zeros(2)), st.StateRegion([-5.4], 5.0), st.StateRegion([5.4], 5.0), force, shots=20)
    functions = st.committor(simulation, at(np.zeros(2)), halfPlane, halfLine, force, shots=20, directory=tmp_path/"f")
    assert functions.nB.tolist() == discs.nB.tolist() and functions.steps.tolist() == discs.steps.tolist()
    with pytest.raises(ValueError, match="pickled"):
        st.committor(simulation, at(np.zeros(1)), lambda c: c[:, 0] < -0.4, halfLine, force, shots=1, directory=tmp_path/"l")
    with pytest.raises(ValueError, match="overlap.*lies in both"):
        st.committor(simulation, at(np.zeros(1)), lambda c: c[:, 0] < 0.6, lambda c: c[:, 0] > -0.6, force, shots=1)
    with pytest.raises(ValueError, match="1 bools"):
        st.committor(simulation, at(np.zeros(1)), lambda c: 0*c, halfLine, force, shots=1)


def testInsideAStateAndUndecided():
    simulation, force = doubleWell()
    result = st.committor(simulation, at(np.array([-0.45, 0.45])), A, B, force, shots=5)
    assert result.p.tolist() == [0, 1] and result.steps.tolist() == [0, 0] and np.all(result.error > 0.05)
    with pytest.warns(RuntimeWarning, match="reached neither state within 3 steps.*raise maxSteps"):
        short = st.committor(simulation, at(np.array([0.0, 0.0])), A, B, force, shots=5, maxSteps=3)
    assert short.nUndecided.tolist() == [5, 5] and np.isnan(short.p).all() and short.undecided == 1 and np.isnan(short.mean)
    assert "undecided after 3 steps" in short.table and json.loads(json.dumps(short.asDict()))["mean"] is None


def testIntervals():
    simulation, force = doubleWell()
    result = st.committor(simulation, at(np.zeros(1)), A, B, force, shots=4)
    result.nA, result.nB = np.array([40, 20, 0]), np.array([0, 20, 40])
    # Wilson 1927; e.g. statsmodels' proportion_confint(20, 40, method="wilson").
    np.testing.assert_allclose(result.interval(), [[0, 0.087622], [0.351996, 0.648004], [0.912378, 1]], atol=1e-5)
    with pytest.raises(ValueError, match="level"):
        result.interval(95)


def testResumeGivesTheSame(tmp_path):
    simulation, force = doubleWell()
    frames = at(np.array([-0.05, 0.0, 0.05]))

    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise Stop

    def run(**more):
        return st.committor(simulation, frames, A, B, force, **{"shots": 8, "directory": tmp_path/"c", **more})

    with pytest.raises(Stop):
        run(progress=stop)
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path/"c").glob("frame-*.json")}
    assert len(kept) == 2
    with pytest.raises(FileExistsError, match="resume=True"):
        run()
    with pytest.raises(ValueError, match="cannot be continued"):
        run(resume=True, seed=2)
    simulation.step(10)  # where the simulation is has nothing to do with it
    result = run(resume=True)
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path/"c").glob("frame-*.json") if p.name in kept} == kept
    whole = st.committor(simulation, frames, A, B, force, shots=8)
    assert result.nB.tolist() == whole.nB.tolist() and result.steps.tolist() == whole.steps.tolist()
    assert st.CommittorResult.load(tmp_path/"c"/"committor.json").asDict() == whole.asDict()
    assert run(overwrite=True, seed=2).steps.tolist() != whole.steps.tolist()
    with pytest.raises(ValueError, match="not a file of committors"):
        st.CommittorResult.load(next((tmp_path/"c").glob("frame-*.json")))


def testTheBiasIsOffAndTheSimulationLeftAlone():
    simulation, force = doubleWell()
    context = simulation.context
    context.setParameter("spacetime_s", 0.25)
    before = context.getState(positions=True, parameters=True)
    st.committor(simulation, at(np.zeros(1)), A, B, force, shots=3)
    after = context.getState(positions=True, parameters=True)
    assert dict(after.getParameters()) == dict(before.getParameters()) and after.getParameters()["spacetime_kT"] == pytest.approx(KT)
    assert np.array_equal(after.getPositions(asNumpy=True)._value, before.getPositions(asNumpy=True)._value)
    # With the bias on, at s = 0 (a well of 100 kT/nm^2 around A), nothing would reach B.
    assert st.committor(simulation, at(np.zeros(1)), A, B, force, shots=40).nB[0] > 8
    # A bias that cannot be switched off is found out.
    from openmmspacetime import committor as module

    def bad(*_):
        return 1*unit.kilojoule_per_mole

    worker = st.committor.__globals__["_Worker"]
    original = st.SpacetimeForce.getBiasEnergy
    st.SpacetimeForce.getBiasEnergy = bad
    try:
        with pytest.raises(RuntimeError, match="could not be switched off"):
            st.committor(simulation, at(np.zeros(1)), A, B, force, shots=3)
    finally:
        st.SpacetimeForce.getBiasEnergy = original


def testBadInput(driven, tmp_path):
    simulation, force, paths = driven
    x = at(np.zeros(1))
    for arguments, text in (((x, A, st.StateRegion([-0.35], 0.1), force), "states overlap"), ((x, A, "B", force), "stateB to be"),
                            ((x, A, st.StateRegion([0.5, 0.0], 0.1), force), "centre has 2 components, but there are 1 variables"), ((x*np.nan, A, B, force), "frame 0 are not finite"),
                            ((np.zeros((2, 3, 3)), A, B, force), r"\[K, 1, 3\], got \[2, 3, 3\]"), (([], A, B, force), "no frames"), ((paths, A, B, force), "PathEnsemble"),
                            ((x, halfPlane, st.StateRegion([-0.5], 0.1), force), "B's centre lies in A")):
        with pytest.raises(ValueError, match=text):
            st.committor(simulation, *arguments)
    for name, value in (("shots", 0), ("maxSteps", 0), ("seed", -1), ("processes", 0), ("shots", 1.5)):
        with pytest.raises(ValueError, match=f"{name} must be a whole number"):
            st.committor(simulation, x, A, B, force, **{name: value})
    other = st.SpacetimeForce(s=[0, 1], eta=[[-50.0, -40.0], [-50.0, 40.0]], temperature=TEMPERATURE)
    other.addCoordinate(0, 0, name="x")
    with pytest.raises(openmm.OpenMMException):
        st.committor(simulation, x, A, B, other)
    with pytest.raises(ValueError, match="expected 13 paths that lead"):
        st.transitionStates(simulation, paths, A, B, force, count=13)
    with pytest.raises(ValueError, match="expected 1 paths that cross"):
        st.transitionStateCandidates(paths, surfaceAround(0.0), 1, A, st.StateRegion([3.0], 0.1))
    with pytest.raises(ValueError, match="tolerance"):
        st.transitionStates(simulation, paths, A, B, force, tolerance=0.5)
    with pytest.raises(ValueError, match="not finite"):
        st.transitionStateCandidates(paths, lambda c: c[:, 0]*np.nan, 1)
    with pytest.raises(ValueError, match="both states or none"):
        st.transitionStateCandidates(paths, count=1, stateA=A)
    bare = st.PathSampler(simulation, force, numPaths=1, steps=50, equilibrationSteps=0, seed=5).run(tmp_path/"bare")
    for call in (lambda: st.transitionStateCandidates(bare, count=1), lambda: st.transitionStates(simulation, bare, A, B, force, count=1)):
        with pytest.raises(ValueError, match="frameStride"):
            call()


def testConstraintsBoxesAndXtc(tmp_path):
    """A rigid pair in a box that is not rectangular, from single-precision files: bonds are exact again, and boxes arrive."""
    system = openmm.System()
    for _ in range(2):
        system.addParticle(10.0)
    system.addConstraint(0, 1, 0.123456789)
    well = openmm.CustomExternalForce(f"{HEIGHT!r}*(4*x^2-1)^2+50*(y^2+z^2)")
    well.addParticle(0)
    system.addForce(well)
    system.setDefaultPeriodicBoxVectors([3, 0, 0], [1, 3, 0], [-1, 0.5, 3])
    nonbonded = openmm.NonbondedForce()
    for _ in range(2):
        nonbonded.addParticle(0, 0.1, 0)
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    system.addForce(nonbonded)
    force = st.SpacetimeForce(s=[0, 1], eta=[[-50.0, -50.0], [-50.0, 50.0]], temperature=TEMPERATURE)
    force.addCoordinate(0, 0, name="x")
    system.addForce(force)
    topology = app.Topology()
    topology.setPeriodicBoxVectors([openmm.Vec3(3, 0, 0), openmm.Vec3(1, 3, 0), openmm.Vec3(-1, 0.5, 3)]*unit.nanometer)
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(2):
        topology.addAtom("C", app.Element.getBySymbol("C"), residue)
    simulation = app.Simulation(topology, system, openmm.LangevinMiddleIntegrator(TEMPERATURE, 20.0, 0.004), openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions([[-0.5, 0, 0], [-0.5, 0.123456789, 0]])
    wideA, wideB = st.StateRegion([-0.6], 0.25), st.StateRegion([0.6], 0.25)
    for kind in ("dcd", "xtc"):
        paths = st.PathSampler(simulation, force, numPaths=2, steps=3000, frameStride=50, format=kind, seed=1).run(tmp_path/kind)
        frames = st.transitionStateCandidates(paths, surfaceAround(0.0), 2, wideA, wideB)
        np.testing.assert_allclose(frames.boxes[0], [[3, 0, 0], [1, 3, 0], [-1, 0.5, 3]], atol=2e-3)
        assert abs(np.linalg.norm(np.diff(frames.positions[0], axis=0))-0.123456789) < 2e-3
        result = st.committor(simulation, frames, wideA, wideB, force, shots=10, seed=1)
        assert result.undecided == 0 and result.nBroken.sum() == 0
        # The variables are those after the constraint was met, so near those of the record.
        np.testing.assert_allclose(result.variables, frames.variables, atol=2e-3)
    # States as frames: a State's own box.
    result = st.committor(simulation, [simulation.context.getState(positions=True)], wideA, wideB, force, shots=2)
    assert result.p.tolist() == [0]
