# SPDX-License-Identifier: MIT
"""Driver and SpacetimeReporter in a loop of one's own."""
import csv
import io

import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st

T0 = 300.0
KT = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole/unit.kelvin)*T0
S = np.linspace(0, 1, 5)
ETA = np.stack([np.full(5, -50.0), -20+100*S**2], axis=1)


def make(particles=1, names=("x",)):
    topology = app.Topology()
    chain = topology.addChain()
    system = openmm.System()
    for _ in range(particles):
        topology.addAtom("C", app.Element.getBySymbol("C"), topology.addResidue("X", chain))
        system.addParticle(12.0)
    force = st.SpacetimeForce(s=S, eta=ETA, temperature=T0)
    for name in names:
        force.addCoordinate(0, 0, shift=0.1, scale=0.5, name=name)
    for k in range(particles if particles > 1 else 0):
        force.addWalker(k, 0.2*k, 1.0)
    system.addForce(force)
    simulation = app.Simulation(topology, system, openmm.LangevinMiddleIntegrator(T0, 10.0, 0.004), openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions(np.zeros((particles, 3))+[[0.05*k, 0, 0] for k in range(particles)])
    return simulation, force


def read(file, separator=","):
    return list(csv.DictReader(io.StringIO(file) if isinstance(file, str) else open(file, newline=""), delimiter=separator))


def testWorkIsExact():
    """The driver's work is the sum over its moves, and a move there and back at fixed positions costs nothing."""
    simulation, force = make()
    driver = st.Driver(force, simulation.context)
    expected, before = 0.0, force.getEta(0)
    for s in np.linspace(0, 1, 41)[1:]:
        T = force.getStatistic(simulation.context)
        step = -KT*(force.getEta(s)-before)@T
        assert driver.move(s).value_in_unit(unit.kilojoule_per_mole) == pytest.approx(step, abs=1e-9)
        expected, before = expected+step, force.getEta(s)
        simulation.step(5)
    assert driver.work.value_in_unit(unit.kilojoule_per_mole) == pytest.approx(expected, abs=1e-8)
    assert abs(expected) > 1 and driver.moves == 40 and driver.s == 1
    assert repr(driver).startswith("Driver(s = 1, 40 moves, work ")
    assert (driver.move(0.3)+driver.move(1.0))._value == pytest.approx(0, abs=1e-9)


def testWorkOfWalkers():
    simulation, force = make(3)
    driver = st.Driver(force, simulation.context)
    T = force.getStatistic(simulation.context)
    at = lambda s: np.array([force.getEta(min(1, 0.2*k+s)) for k in range(3)])
    assert driver.move(0.9)._value == pytest.approx(-KT*np.sum((at(0.9)-at(0))*T))


def testWorkIsThatOfPathSampler(tmp_path):
    """The same moves as PathSampler's, on its own trajectory: the same work."""
    simulation, force = make()
    paths = st.PathSampler(simulation, force, numPaths=1, steps=50, equilibrationSteps=0, frameStride=1, progress=False).run(tmp_path/"paths")
    path = paths[0]
    # The first move is made at the start; then the driver follows along the recorded variables.
    driver = st.Driver(force, simulation.context)
    positions = [0.0, *path.variables[:-1, 0]]
    for x, s in zip(positions, path.s):
        simulation.context.setPositions([[x, 0, 0]])
        driver.move(s)
    assert driver.work._value == pytest.approx(path.work, abs=1e-4)


def testColumns(tmp_path):
    simulation, force = make(names=("x",))
    driver = st.Driver(force, simulation.context)
    file = tmp_path/"curve.csv"
    simulation.reporters.append(st.SpacetimeReporter(file, 10, force, driver=driver))
    seen = []
    for k in range(1, 5):
        driver.move(0.25*k)
        simulation.step(10)
        context = simulation.context
        seen.append((10*k, 0.04*k, 0.25*k, force.getVariableValues(context)[0], force.getBiasEnergy(context)._value, driver.work._value))
    # Flushed after each report: read while it is still open.
    rows = read(file)
    assert list(rows[0]) == ["step", "time_ps", "s", "x", "bias_energy_kJ_mol", "work_kJ_mol"]
    np.testing.assert_allclose([[float(v) for v in row.values()] for row in rows], seen, rtol=1e-12)
    simulation.step(7)
    assert len(read(file)) == 4


def testAppend(tmp_path):
    """What is appended goes on below one header."""
    file = tmp_path/"curve.csv"
    for _ in range(2):
        simulation, force = make()
        reporter = st.SpacetimeReporter(file, 5, force, append=True, separator=";")
        simulation.reporters.append(reporter)
        simulation.step(10)
        reporter.close()
    assert file.read_text().count("step") == 1
    assert [row["step"] for row in read(file, ";")] == ["5", "10", "5", "10"]
    with pytest.raises(ValueError, match="has the columns step, time_ps, s, x, bias_energy_kJ_mol, but this reporter writes .*work_kJ_mol"):
        st.SpacetimeReporter(file, 5, force, append=True, separator=";", driver=st.Driver(force, simulation.context))
    assert file.read_text().count("step") == 1
    simulation, force = make()
    simulation.reporters.append(st.SpacetimeReporter(str(file), 5, force))
    simulation.step(5)
    assert len(read(file)) == 1


def testStream():
    simulation, force = make(names=("",))
    stream = io.StringIO()
    simulation.reporters.append(st.SpacetimeReporter(stream, 3, force))
    simulation.step(3)
    simulation.reporters[0] = st.SpacetimeReporter(stream, 3, force, append=True)
    simulation.step(3)
    rows = read(stream.getvalue())
    assert list(rows[0]) == ["step", "time_ps", "s", "coordinate0", "bias_energy_kJ_mol"] and [row["step"] for row in rows] == ["3", "6"]
    simulation.reporters[0].close()
    assert not stream.closed


def testWalkers(tmp_path):
    """One row per walker, each at its own s; the bias energies add up to the force's."""
    simulation, force = make(3)
    simulation.context.setParameter("spacetime_s", 0.7)
    simulation.reporters.append(st.SpacetimeReporter(tmp_path/"w.csv", 2, force))
    simulation.step(2)
    rows = read(tmp_path/"w.csv")
    assert [row["walker"] for row in rows] == ["0", "1", "2"]
    np.testing.assert_allclose([float(row["s"]) for row in rows], [0.7, 0.9, 1.0])
    np.testing.assert_allclose([float(row["x"]) for row in rows], force.getVariableValues(simulation.context)[:, 0])
    assert sum(float(row["bias_energy_kJ_mol"]) for row in rows) == pytest.approx(force.getBiasEnergy(simulation.context)._value)


def testErrors(tmp_path):
    simulation, force = make()
    for interval in 0, 1.5:
        with pytest.raises(ValueError, match="reportInterval must be a whole number"):
            st.SpacetimeReporter(tmp_path/"a.csv", interval, force)
    _, other = make()
    with pytest.raises(ValueError, match="drives another force"):
        st.SpacetimeReporter(tmp_path/"a.csv", 1, other, driver=st.Driver(force, simulation.context))
    assert not (tmp_path/"a.csv").exists()
    with pytest.raises(openmm.OpenMMException, match="Context"):
        st.Driver(other, simulation.context)
    with pytest.raises(ValueError, match=r"s must be in \[0, 1\], but it is 1.5"):
        st.Driver(force, simulation.context).move(1.5)
    simulation.reporters.append(st.SpacetimeReporter(tmp_path/"b.csv", 1, other))
    with pytest.raises(openmm.OpenMMException, match="Context"):
        simulation.step(1)
