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
