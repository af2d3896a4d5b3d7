# SPDX-License-Identifier: MIT
"""replicate and the walkers of SpacetimeForce: each copy is biased at its own place on the curve."""
import pathlib

import numpy as np
import openmm
import pytest
from openmm import app

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODES = np.linspace(0, 1, 5)
SIZE, COPIES = 22, 3


@pytest.fixture(scope="module")
def pdb():
    return app.PDBFile(str(ROOT/"examples"/"alanine_dipeptide"/"alanine_dipeptide.pdb"))


def makeForce(reference):
    """A torsion, a distance from a centroid, and a position in a frame that holds the same centroid: T = (|d|^2; cos, sin; d; d)."""
    eta = np.stack([-20-10*NODES, 30*np.cos(2*NODES), 30*np.sin(2*NODES), 5+NODES, 40*NODES**2-10], axis=1)
    force = st.SpacetimeForce(s=NODES, eta=eta, temperature=300)
    centroid = force.addCentroid([10, 11, 12, 13], [12, 1, 1, 1])
    frame = force.addFrame([4, 6, 8, centroid], [reference[4], reference[6], reference[8], reference[10]])
    force.addTorsion(4, 6, 8, 14, "phi")
    force.addDistance(centroid, 16, 0.3, 0.1, "d")
    force.addPosition(18, 1, frame, 0.0, 0.2, "y")
    force.setForceGroup(7)
    return force


def makeContext(system):
    return openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))


def evaluate(context, positions, s):
    context.setPositions(positions)
    context.setParameter("spacetime_s", s)
    state = context.getState(energy=True, forces=True, parameterDerivatives=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value, dict(state.getEnergyParameterDerivatives())


def walkersOf(system):
    return next(st.SpacetimeForce.cast(f) for f in system.getForces() if st.SpacetimeForce.isinstance(f))


@pytest.mark.parametrize("where", [dict(), dict(intercept=[0.5, 0.0, 0.25]), dict(slope=[0.25, 1.0, 0.5]),
                                   dict(intercept=[0.1, 1.4, -0.5], slope=[0.5, -1.0, 0.5])])
def testCopiesAtTheirOwnPlaces(pdb, where):
    reference = pdb.positions._value
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    system.addForce(makeForce(reference))
    before = openmm.XmlSerializer.serialize(system)
    many, _ = st.replicate(system, pdb.topology, COPIES, **where)
    assert openmm.XmlSerializer.serialize(system) == before
    intercept, slope = where.get("intercept", [0.0]*COPIES), where.get("slope", [1.0]*COPIES)
    force = walkersOf(many)
    assert force.getNumWalkers() == COPIES
    assert [tuple(force.getWalkerParameters(k)) for k in range(COPIES)] == [(SIZE*k, intercept[k], slope[k]) for k in range(COPIES)]
    assert (force.getNumCentroids(), force.getVariableNames(), force.getForceGroup()) == (1, ["phi", "d", "y"], 7)
    single, all_ = makeContext(system), makeContext(many)
    conformations = np.array(reference)+0.01*np.random.default_rng(4).standard_normal((COPIES, SIZE, 3))
    for s in (0.15, 0.6, 0.85):
        places = [i+m*s for i, m in zip(intercept, slope)]
        expected = [evaluate(single, p, min(max(x, 0), 1)) for p, x in zip(conformations, places)]
        energy, forces, derivatives = evaluate(all_, conformations.reshape(-1, 3), s)
        separate = np.concatenate([f for _, f, _ in expected])
        assert energy == pytest.approx(sum(e for e, _, _ in expected), rel=1e-9)
        np.testing.assert_allclose(forces, separate, rtol=1e-8, atol=1e-8*np.abs(separate).max())
        ds = [m*d["spacetime_s"] if 0 < x < 1 else 0 for m, x, (_, _, d) in zip(slope, places, expected)]
        assert derivatives["spacetime_s"] == pytest.approx(sum(ds), rel=1e-9, abs=1e-9)
        assert derivatives["spacetime_kT"] == pytest.approx(sum(d["spacetime_kT"] for _, _, d in expected), rel=1e-9)
    values = force.getVariableValues(all_)
    assert values.shape == (COPIES, 3)
    for k in range(COPIES):
        single.setPositions(conformations[k])
        one = walkersOf(system).getVariableValues(single)
        assert one.shape == (3,)
        np.testing.assert_allclose(values[k], one, rtol=1e-9, atol=1e-12)


def testEveryForceGetsWalkers(pdb):
    """Two curves, each with a parameter of its own."""
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    for name in ("first_s", "second_s"):
        force = makeForce(pdb.positions._value)
        force.setParameterName(name)
        system.addForce(force)
    many, _ = st.replicate(system, pdb.topology, 5, intercept=np.linspace(0, 1, 5), slope=np.zeros(5))
    forces = [st.SpacetimeForce.cast(f) for f in many.getForces() if st.SpacetimeForce.isinstance(f)]
    assert [f.getParameterName() for f in forces] == ["first_s", "second_s"]
    for force in forces:
        assert [tuple(force.getWalkerParameters(k)) for k in range(5)] == [(SIZE*k, 0.25*k, 0.0) for k in range(5)]


def testRefusesWalkers(pdb):
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    force = makeForce(pdb.positions._value)
    force.addWalker(0)
    system.addForce(force)
    with pytest.raises(ValueError, match="expected a SpacetimeForce without walkers, but 'SpacetimeForce' has 1 already"):
        st.replicate(system, pdb.topology, 2)
    many, topology = st.replicate(*withoutWalkers(pdb), 2)
    with pytest.raises(ValueError, match="but 'SpacetimeForce' has 2 already"):
        st.replicate(many, topology, 2)


def withoutWalkers(pdb):
    system = openmm.System()
    for _ in range(SIZE):
        system.addParticle(1.0)
    system.addForce(makeForce(pdb.positions._value))
    return system, pdb.topology
