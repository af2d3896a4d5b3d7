# SPDX-License-Identifier: MIT
"""SpacetimeForce as a user of OpenMM meets it. Forces and derivatives against finite differences are tested in C++."""
import copy
import json
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import openmm
import pytest
from openmm import unit

import openmmspacetime as st
from openmmspacetime import _plugin, openmm_wrapper

KT = 8.31446261815324e-3*300
NODES = np.linspace(0, 1, 5)


def torsionEta(nodes=NODES, kappa=40.0):
    """Two torsions whose centres move along the curve."""
    phi, psi = -1+2*nodes, 2.5+nodes
    return kappa*np.stack([np.cos(phi), np.sin(phi), np.cos(psi), np.sin(psi)], axis=1)


def variable(name, kind, atoms, axis=0, period=0.0, shift=0.0, scale=1.0):
    return SimpleNamespace(name=name, kind=kind, atoms=atoms, axis=axis, period=period, shift=shift, scale=scale)


TORSIONS = [variable("phi", "torsion", (0, 1, 2, 3), period=2*np.pi), variable("psi", "torsion", [1, 2, 3, 4], period=2*np.pi)]
POSITIONS = np.array([[0, 0, 0], [0.15, 0.02, 0], [0.2, 0.15, 0.03], [0.33, 0.17, 0.13], [0.36, 0.3, 0.2]])


def makeForce(**arguments):
    return st.SpacetimeForce(SimpleNamespace(s=NODES, eta=torsionEta()), TORSIONS, 300*unit.kelvin, **arguments)


def makeSystem(force=None, count=5):
    system = openmm.System()
    for _ in range(count):
        system.addParticle(12.0)
    if force is not None:
        system.addForce(force)
    return system


def makeContext(system, platform="Reference"):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    if system.getNumParticles() <= len(POSITIONS):
        context.setPositions(POSITIONS[:system.getNumParticles()])
    return context


def dihedral(p):
    """From the definition: angle between the outer bonds seen along the middle one."""
    axis = (p[2]-p[1])/np.linalg.norm(p[2]-p[1])
    u, v = p[0]-p[1], p[3]-p[2]
    u, v = u-axis*(u@axis), v-axis*(v@axis)
    return np.arctan2(axis@np.cross(u, v), u@v)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def testEnergyStatisticAndDerivative(platform):
    force = makeForce()
    context = makeContext(makeSystem(force), platform)
    context.setParameter("spacetime_s", 0.25)
    angles = np.array([dihedral(POSITIONS[:4]), dihedral(POSITIONS[1:])])
    T = np.array([np.cos(angles[0]), np.sin(angles[0]), np.cos(angles[1]), np.sin(angles[1])])
    np.testing.assert_allclose(force.getVariableValues(context), angles, atol=1e-12)
    np.testing.assert_allclose(force.getStatistic(context), T, atol=1e-12)
    expected = -KT*40*(np.cos(angles[0]+0.5)+np.cos(angles[1]-2.75))
    energy = force.getBiasEnergy(context)
    assert energy.unit == unit.kilojoule_per_mole
    assert energy._value == pytest.approx(expected, rel=1e-12)
    state = context.getState(energy=True, parameterDerivatives=True)
    assert state.getPotentialEnergy()._value == pytest.approx(expected, rel=1e-12)
    derivatives = state.getEnergyParameterDerivatives()
    assert derivatives["spacetime_s"] == pytest.approx(-KT*force.getEtaDerivative(0.25)@T, rel=1e-12)
    assert derivatives["spacetime_kT"] == pytest.approx(expected/KT, rel=1e-12)


def testForcesAgreeBetweenPlatforms():
    """One library serves the Reference and the CPU platform."""
    forces = []
    for platform in ("Reference", "CPU"):
        context = makeContext(makeSystem(makeForce()), platform)
        forces.append(context.getState(forces=True).getForces(asNumpy=True)._value)
    assert np.abs(forces[0]).max() > 10
    np.testing.assert_allclose(forces[1], forces[0], rtol=1e-5, atol=1e-3)


def testUnitsDefaultsAndNumpyIntegers():
    force = st.SpacetimeForce(s=[0, 1], eta=[[1, 2, 3, 4, 5, 6]]*2, temperature=np.float32(250))
    assert force.getTemperature() == 250*unit.kelvin
    indices = np.arange(4)
    assert force.addTorsion(*indices, name="phi") == 0
    assert force.addCoordinate(np.int32(2), axis=np.int64(1), period=5*unit.angstrom) == 1
    assert force.addCoordinate(site=0, axis=2, shift=1*unit.angstrom, scale=0.2) == 2
    assert force.getVariableNames() == ["phi", "coordinate1", "coordinate2"]
    assert force.getNumStatistics() == 6
    assert force.getTorsionParameters(0) == (0, 1, 2, 3)
    particle, axis, period, shift, scale = force.getCoordinateParameters(np.int64(1))
    assert (particle, axis) == (2, 1)
    assert period.value_in_unit(unit.nanometer) == pytest.approx(0.5)
    assert force.getCoordinateParameters(2)[3].value_in_unit(unit.angstrom) == pytest.approx(1)
    assert [force.getVariableType(i) for i in range(3)] == ["torsion", "coordinate", "coordinate"]
    force.setForceGroup(4)
    assert force.getForceGroup() == 4
    assert force.getName() == "SpacetimeForce"
    s, eta = force.getCurve()
    assert eta.shape == (2, 6)
    context = makeContext(makeSystem(force))
    with pytest.raises(TypeError):
        force.addTorsion(0.5, 1, 2, 3)
    c = POSITIONS[2, 1], (POSITIONS[0, 2]-0.1)/0.2
    angle = dihedral(POSITIONS[:4])
    expected = [c[1]**2, np.cos(angle), np.sin(angle), np.cos(2*np.pi*c[0]/0.5), np.sin(2*np.pi*c[0]/0.5), c[1]]
    np.testing.assert_allclose(force.getStatistic(context), expected, atol=1e-12)


def testCurveFile(tmp_path):
    curve = {"format": "spacetime-curve", "version": 1, "temperature_K": 310.0, "s": NODES.tolist(), "eta": torsionEta().tolist(),
             "variables": [{"name": v.name, "type": "torsion", "atoms": list(v.atoms), "unit": "rad", "period": 2*np.pi} for v in TORSIONS]}
    path = tmp_path/"curve.json"
    path.write_text(json.dumps(curve))
    force = st.SpacetimeForce(path)
    assert force.getVariableNames() == ["phi", "psi"]
    assert force.getTemperature() == 310*unit.kelvin
    np.testing.assert_array_equal(force.getCurve()[1], torsionEta())
    assert st.SpacetimeForce(str(path), TORSIONS[::-1], 300).getVariableNames() == ["psi", "phi"]
    curve["version"] = 2
    path.write_text(json.dumps(curve))
    with pytest.raises(ValueError, match="version 2"):
        st.SpacetimeForce(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a curve"):
        st.SpacetimeForce(path)


def testCopiesArePerfect():
    force = makeForce()
    force.setName("bias")
    force.setForceGroup(5)
    force.setParameterName("walker_s")
    force.setDefaultS(0.3)
    force.setUsesPeriodicBoundaryConditions(True)
    for twin in (copy.copy(force), copy.deepcopy(force), pickle.loads(pickle.dumps(force))):
        assert type(twin) is st.SpacetimeForce
        assert twin._toXml() == force._toXml()
        assert (twin.getName(), twin.getForceGroup(), twin.getDefaultS(), twin.getParameterName()) == ("bias", 5, 0.3, "walker_s")
        assert twin.usesPeriodicBoundaryConditions()
        twin.addCoordinate(0, 0)
    assert force.getNumVariables() == 2
    system = makeSystem(force)
    system.setDefaultPeriodicBoxVectors((3, 0, 0), (0, 3, 0), (0, 0, 3))
    xml = openmm.XmlSerializer.serialize(system)
    energies = []
    for twin in (system, copy.deepcopy(system), pickle.loads(pickle.dumps(system)), openmm.XmlSerializer.deserialize(xml)):
        assert openmm.XmlSerializer.serialize(twin) == xml
        context = makeContext(twin)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
        assert st.SpacetimeForce.cast(twin.getForce(0)).getBiasEnergy(context)._value == pytest.approx(energies[-1], rel=1e-12)
    assert len(set(energies)) == 1


def testCastAndIsinstance():
    system = makeSystem(makeForce())
    system.addForce(openmm.HarmonicBondForce())
    assert st.SpacetimeForce.isinstance(system.getForce(0))
    assert not st.SpacetimeForce.isinstance(system.getForce(1))
    assert st.SpacetimeForce.cast(system.getForce(0)).getVariableNames() == ["phi", "psi"]
    with pytest.raises(TypeError, match="HarmonicBondForce"):
        st.SpacetimeForce.cast(system.getForce(1))


def testInsideACustomCVForce():
    cv = openmm.CustomCVForce("0.5*bias^2")
    cv.addCollectiveVariable("bias", makeForce())
    context = makeContext(makeSystem(cv))
    alone = makeContext(makeSystem(makeForce())).getState(energy=True).getPotentialEnergy()._value
    assert context.getState(energy=True).getPotentialEnergy()._value == pytest.approx(0.5*alone**2, rel=1e-12)


def testForceAddedTooLate():
    system = makeSystem()
    context = makeContext(system)
    force = makeForce()
    system.addForce(force)
    for call in (force.getVariableValues, force.getStatistic, force.getBiasEnergy, force.updateParametersInContext):
        with pytest.raises(openmm.OpenMMException, match=r"reinitialize\(preserveState=True\)"):
            call(context)
    context.reinitialize(preserveState=True)
    assert np.isfinite(force.getBiasEnergy(context)._value)


def testUpdateParameters():
    force = makeForce()
    context = makeContext(makeSystem(force))
    before = force.getBiasEnergy(context)._value
    force.setCurve(NODES, 2*torsionEta())
    assert force.getBiasEnergy(context)._value == before
    force.updateParametersInContext(context)
    assert force.getBiasEnergy(context)._value == pytest.approx(2*before, rel=1e-12)
    force.setTorsionParameters(0, 0, 1, 2, 4)
    with pytest.raises(openmm.OpenMMException, match="number, types, sites"):
        force.updateParametersInContext(context)


def testBadInputs():
    eta = torsionEta()
    for arguments, message in [
            (dict(s=NODES), "either a curve, or both s and eta"),
            (dict(curve=SimpleNamespace(s=NODES, eta=eta), s=NODES, eta=eta, temperature=300), "either a curve"),
            (dict(s=NODES, eta=eta), "no temperature"),
            (dict(s=NODES, eta=eta.ravel(), temperature=300), r"\[5\] and \[20\]"),
            (dict(s=NODES, eta=eta[:3], temperature=300), r"\[5\] and \[3, 4\]"),
            (dict(s=NODES, eta=eta, temperature=300, variables=[variable("r", "number", ())]), "'r' is of kind 'number'.*torsion, coordinate, angle, distance, position"),
            (dict(s=NODES, eta=eta, temperature=300, variables=[variable("a", "angle", (0, 1))]), "'a' of kind 'angle' needs 3 atoms, but has 2"),
            (dict(s=NODES, eta=eta, temperature=300, variables=[variable("phi", "torsion", ())]), "needs 4 atoms, but has 0")]:
        with pytest.raises(ValueError, match=message):
            st.SpacetimeForce(**arguments)
    for s, values, temperature, message in [([0, 0.5, 0.4, 1, 2], eta, 300, r"s\[2\] = 0.4"), (NODES, np.where(eta == eta[2, 1], np.nan, eta), 300, "component 1 at node 2"),
                                            (NODES, eta, -1, "temperature must be positive"), (NODES+1, eta, 300, "from 0 to 1")]:
        with pytest.raises(openmm.OpenMMException, match=message):
            st.SpacetimeForce(s=s, eta=values, temperature=temperature)
    with pytest.raises(openmm.OpenMMException, match="particle 4 of variable 1 .psi."):
        makeContext(makeSystem(makeForce(), count=4))
    force = makeForce()
    force.addCoordinate(0, 0)
    with pytest.raises(openmm.OpenMMException, match="4 components of eta, but its 3 variables have 6 statistics"):
        makeContext(makeSystem(force))


def testTwoCurvesInOneSystem():
    first, second = makeForce(), makeForce()
    second.setParameterName("other_s")
    system = makeSystem(first)
    system.addForce(second)
    context = makeContext(system)
    same = second.getBiasEnergy(context)._value
    context.setParameter("other_s", 1.0)
    assert first.getBiasEnergy(context)._value == same
    assert second.getBiasEnergy(context)._value != same


def testImportCheck(monkeypatch):
    _plugin.check()
    monkeypatch.setattr(openmm.version, "short_version", "8.7.0")
    with pytest.raises(ImportError, match=r"OpenMM 8\.7\.0 is installed.*pip install"):
        _plugin.check()
    monkeypatch.undo()
    monkeypatch.setattr(_plugin, "KERNEL", "CalcNothing")
    with pytest.raises(ImportError, match="does not know the kernel CalcNothing.*pip install"):
        _plugin.check()
    monkeypatch.setattr(_plugin, "LIBRARY", "libNothing.so")
    with pytest.raises(ImportError, match="libNothing.so does not exist.*pip install"):
        _plugin.check()


def testImportingOpenmmAloneReadsTheXml(tmp_path):
    path = tmp_path/"system.xml"
    path.write_text(openmm.XmlSerializer.serialize(makeSystem(makeForce())))
    code = f"import openmm, sys; s = openmm.XmlSerializer.deserialize(open({str(path)!r}).read()); assert s.getForce(0).getName() == 'SpacetimeForce'; " \
           "assert 'openmmspacetime' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def testImportLoadsThePluginWhereOpenmmDidNot(tmp_path):
    code = "import openmmspacetime, openmm; assert openmm.Platform.getPlatformByName('Reference').supportsKernels(['CalcSpacetimeForce'])"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "OPENMM_PLUGIN_DIR": str(tmp_path)}, check=True)


def mixedVariables():
    reference = np.array([[0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0.02], [0.3, 0.1, 0.2]])
    return (st.Variables.torsions([(0, 1, 2, 3)], names=["phi"]) + st.Variables.distances([([0, 1], [4, 5])], names=["d"], weights=[[[12, 1], None]])
            + st.Variables.angles([([2, 3], 4, 0)], names=["a"]) + st.Variables.positions([4, [0, 5]], reference, weights=[1, 2, 3, 4], frameAtoms=[0, 1, 2, 3], names=["p", "q"]))


def mixedForce(variables, **arguments):
    eta = np.random.default_rng(3).uniform(-5, 5, (4, variables.numStatistics))
    return st.SpacetimeForce(s=[0, 0.2, 0.7, 1], eta=eta, variables=variables, temperature=300, **arguments)


def testVariablesOfEveryKind():
    variables = mixedVariables()
    force = mixedForce(variables)
    assert force.getVariableNames() == ["phi", "d", "a", "p.x", "p.y", "p.z", "q.x", "q.y", "q.z"]
    assert [force.getVariableType(i) for i in range(4)] == ["torsion", "distance", "angle", "position"]
    # Each centroid and frame once.
    assert force.getNumCentroids() == 4 and force.getNumFrames() == 1
    assert force.getCentroidParameters(-1) == ((0, 1), (12.0, 1.0))
    assert force.getCentroidParameters(-2) == ((4, 5), None)
    sites, reference, weights = force.getFrameParameters(0)
    assert sites == (0, 1, 2, 3) and weights == (1.0, 2.0, 3.0, 4.0) and reference[2][1].value_in_unit(unit.nanometer) == 0.14
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 1, (6, 3))
    context = makeContext(makeSystem(force, count=6))
    context.setPositions(x)
    values = force.getVariableValues(context)
    a, b = (12*x[0]+x[1])/13, (x[4]+x[5])/2
    assert values[1] == pytest.approx(np.linalg.norm(a-b), rel=1e-12)
    u, v = (x[2]+x[3])/2-x[4], x[0]-x[4]
    assert values[2] == pytest.approx(np.arccos(u@v/np.linalg.norm(u)/np.linalg.norm(v)), rel=1e-12)
    from scipy.spatial.transform import Rotation
    w, ref = np.array([1, 2, 3, 4])/10, reference._value
    rotation, _ = Rotation.align_vectors(ref-w@ref, x[:4]-w@x[:4], weights=w)
    np.testing.assert_allclose(values[3:6], rotation.apply(x[4]-w@x[:4])+w@ref, atol=1e-10)
    np.testing.assert_allclose(values[6:], rotation.apply((x[0]+x[5])/2-w@x[:4])+w@ref, atol=1e-10)
    # Through files and copies, and what PathSampler writes down about it.
    copied = copy.deepcopy(context.getSystem())
    twin = st.SpacetimeForce.cast(copied.getForce(0))
    assert twin._toXml() == force._toXml()
    described = [force._describeVariable(i) for i in range(9)]
    assert described[1] == {"name": "d", "kind": "distance", "axis": 0, "period": 0.0, "shift": 0.0, "scale": 1.0, "atoms": [[0, 1], [4, 5]], "atom_weights": [[12.0, 1.0], None]}
    assert described[4]["axis"] == 1 and described[4]["frame"]["atoms"] == [0, 1, 2, 3] and described[0]["period"] == 2*np.pi


@pytest.mark.parametrize("platform", ["CPU", "OpenCL"])
def testVariablesOfEveryKindOnOtherPlatforms(platform):
    x = np.random.default_rng(5).uniform(0, 1, (6, 3))
    results = []
    for name in ("Reference", platform):
        force = mixedForce(mixedVariables())
        context = makeContext(makeSystem(force, count=6), name)
        context.setPositions(x)
        context.setParameter("spacetime_s", 0.4)
        state = context.getState(energy=True, forces=True, parameterDerivatives=True)
        results.append([state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value, state.getEnergyParameterDerivatives()["spacetime_s"],
                        force.getVariableValues(context), force.getBiasEnergy(context)._value])
    size = np.abs(results[0][1]).max()
    for a, b in zip(*results):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5*size)


def testWalkers():
    force = makeForce()
    count = len(POSITIONS)
    assert force.getNumWalkers() == 0
    assert force.addWalker(count, 0.25, 0.5) == 0
    assert force.addWalker(np.int64(0)) == 1
    assert force.getWalkerParameters(0) == (count, 0.25, 0.5)
    context = makeContext(makeSystem(force, count=2*count))
    context.setPositions(np.concatenate([POSITIONS, 1.1*POSITIONS]))
    context.setParameter("spacetime_s", 0.5)
    values, statistic = force.getVariableValues(context), force.getStatistic(context)
    assert values.shape == (2, 2) and statistic.shape == (2, 4)
    np.testing.assert_allclose(values[0], values[1], atol=1e-12)  # torsions do not scale
    expected = -KT*sum(force.getEta(0.5)@t for t in statistic)
    assert force.getBiasEnergy(context)._value == pytest.approx(expected, rel=1e-12)
    with pytest.raises(openmm.OpenMMException, match="drives one walker, but the SpacetimeForce has 2"):
        openmm_wrapper.PathSampler(force, 10).begin(context)


def testStateXmlKeepsTheParameters():
    force = makeForce()
    context = makeContext(makeSystem(force))
    context.setParameter("spacetime_s", 0.75)
    state = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(context.getState(positions=True, velocities=True, parameters=True)))
    fresh = makeContext(makeSystem(makeForce()))
    fresh.setState(state)
    assert fresh.getParameter("spacetime_s") == 0.75
    assert fresh.getState(energy=True).getPotentialEnergy() == context.getState(energy=True).getPotentialEnergy()


def testBadSites():
    force = makeForce()
    for call, error, message in [
            (lambda: force.addDistance(0, 0), openmm.OpenMMException, r"variable 2 \(distance2\).*both contain particle 0"),
            (lambda: force.addDistance(0, -1), openmm.OpenMMException, "site 2 is -1, and no centroid|site 2 is -1 and no centroid"),
            (lambda: force.addCentroid([]), openmm.OpenMMException, "at least one particle"),
            (lambda: force.addCentroid([1, 2], [1.0]), openmm.OpenMMException, "2 weights or none, but got 1"),
            (lambda: force.addCentroid([1.5]), TypeError, "integer"),
            (lambda: force.addFrame([0, 1, 2], np.zeros((3, 2))), ValueError, r"\[P, 3\], but got \[3, 2\]"),
            (lambda: force.addFrame([0, 1, 2], np.zeros((4, 3))), openmm.OpenMMException, "each of its 3 sites, but got 4"),
            (lambda: force.addFrame([0, 1, 2], np.outer([0, 1, 2], [1, 1, 1])), openmm.OpenMMException, "one line"),
            (lambda: force.addPosition(0, 0, 0), openmm.OpenMMException, "no frame 0"),
            (lambda: force.addDistance(0, 1, scale=-1*unit.angstrom), openmm.OpenMMException, "scale to be positive, but it is -0.1"),
            (lambda: force.addWalker(-1), openmm.OpenMMException, "walker 0.*-1")]:
        with pytest.raises(error, match=message):
            call()
    context = makeContext(makeSystem(force))
    context.setParameter("spacetime_s", 1.2)
    with pytest.raises(openmm.OpenMMException, match="spacetime_s must lie between 0 and 1, but it is 1.2"):
        context.getState(energy=True)
