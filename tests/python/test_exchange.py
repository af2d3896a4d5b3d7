# SPDX-License-Identifier: MIT
"""States on a curve and their exchange, against quadrature over a double well that is known exactly."""
import json

import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st

KB = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole/unit.kelvin)
T0 = 300.0
KT = KB*T0
GRID = np.linspace(-2.2, 2.2, 881)
# A well and a narrower, higher one, between them a barrier of 2 kT.
WELL = "5*(x^2-1)^2+1.5*x"


def energy(x):
    return 5*(x**2-1)**2+1.5*x


LOGQ = -energy(GRID)/KT
X = st.Variables.numbers(["x"])
MODEL = st.EmpiricalModel(GRID[:, None], X, logWeights=LOGQ, grid=True)
DATA = dict(samples=GRID[:, None], logWeights=LOGQ)
CURVE = st.geodesic(MODEL, [-1.0], [1.0], logSnr=3.5)


def density(eta, temperature=T0):
    u = X.statistic(GRID[:, None])@eta-energy(GRID)/(KB*temperature)
    p = np.exp(u-u.max())
    return p/p.sum()


def quadrature(etaI, etaJ, Ti=T0, Tj=T0):
    """Mean of min(1, r), by the definition."""
    p, q, T = density(etaI, Ti), density(etaJ, Tj), X.statistic(GRID[:, None])
    a = T@(etaJ-etaI)-energy(GRID)*(1/(KB*Tj)-1/(KB*Ti))
    return float(p@np.exp(np.minimum(0, a[:, None]-a[None, :]))@q)


def makeForce(curve=CURVE, name="x"):
    force = st.SpacetimeForce(s=curve.s, eta=curve.eta, temperature=T0)
    force.addCoordinate(0, 0, name=name)
    return force


def makeSimulation(force, temperature=T0, x=-1.0):
    topology = app.Topology()
    topology.addAtom("C", app.Element.getBySymbol("C"), topology.addResidue("X", topology.addChain()))
    system = openmm.System()
    system.addParticle(1.0)
    well = openmm.CustomExternalForce(WELL+"+50*(y^2+z^2)")
    well.addParticle(0)
    system.addForce(well)
    if force is not None:
        system.addForce(force)
    simulation = app.Simulation(topology, system, openmm.LangevinMiddleIntegrator(temperature, 10.0, 0.02), openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions([[x, 0, 0]])
    return simulation


def make(states, **options):
    force = makeForce()
    simulation = makeSimulation(force)
    return st.ReplicaExchange(states, simulation, force, **{"stepsPerIteration": 40, **options})


def testPredictionIsQuadrature():
    s = [0.0, 0.2, 0.5, 1.0]
    eta = [st.SpacetimeForce(s=CURVE.s, eta=CURVE.eta, temperature=1).getEta(x) for x in s]
    exact = [quadrature(a, b) for a, b in zip(eta[:-1], eta[1:])]
    np.testing.assert_allclose(st.predictAcceptance(CURVE, s, MODEL, **DATA), exact, atol=1e-9)
    np.testing.assert_allclose(st.predictAcceptance(CURVE, s, samples=GRID[:, None], logWeights=LOGQ), exact, atol=1e-9)
    # The moments alone do not know that the posteriors in between have two modes.
    np.testing.assert_allclose(st.predictAcceptance(CURVE, s, MODEL), exact, atol=0.15)


def testGaussianFamily():
    """Where the data are Gaussian erfc(d/2) is exact, for the closed form, the moments, and the samples alike."""
    x = np.linspace(-8, 8, 4001)
    curve = st.SpacetimeForce(s=[0, 1], eta=[[-2.0, -4.0], [-2.0, 4.0]], temperature=1)
    s, eta = curve.getCurve()
    line = st.Curve(X, s, eta)
    model = st.EmpiricalModel(x[:, None], X, logWeights=-x**2/2, grid=True)
    # Variance 1/(1 + 4) of x, and eta_x moves by 8.
    d = 8/np.sqrt(5)*np.array([0.25, 0.5, 0.25])
    from math import erfc
    expected = [erfc(y/2) for y in d]
    at = [0, 0.25, 0.75, 1.0]
    np.testing.assert_allclose(st.predictAcceptance(line, at, model), expected, rtol=1e-6)
    np.testing.assert_allclose(st.predictAcceptance(line, at, samples=x[:, None], logWeights=-x**2/2, model=model), expected, atol=2e-3)
    line = line.respaced(model, 33)
    np.testing.assert_allclose(st.predictAcceptance(line, at), expected, rtol=1e-4)


def testStatesAreEqualised():
    states = st.exchangeStates(CURVE, numStates=6, **DATA)
    assert len(states) == 6 and states.s[0] == 0 and states.s[-1] == 1 and np.all(np.diff(states.s) > 0)
    exact = [quadrature(a, b) for a, b in zip(states.eta[:-1], states.eta[1:])]
    np.testing.assert_allclose(states.predicted, exact, atol=1e-9)
    assert states.predicted.max() <= 1.3*states.predicted.min()
    assert list(states[2]) == ["spacetime_s"]  # the curve knows no temperature
    assert "6 states" in repr(states)


@pytest.mark.parametrize("acceptance", [0.2, 0.5, 0.7])
def testNumberOfStates(acceptance):
    states = st.exchangeStates(CURVE, acceptance=acceptance, **DATA)
    assert states.predicted.min() >= acceptance
    if len(states) > 2:
        assert st.exchangeStates(CURVE, numStates=len(states)-1, **DATA).predicted.min() < acceptance
    plain = st.exchangeStates(CURVE, acceptance=acceptance)
    # From the length alone: as many steps of equal distance as bring erfc(d/2) to what is wanted.
    np.testing.assert_allclose(plain.s, np.linspace(0, 1, len(plain)))
    assert plain.predicted.min() >= acceptance > st.predictAcceptance(CURVE, np.linspace(0, 1, len(plain)-1)).min()


def testFisherRaoSpacingBeatsCoordinateSpacing():
    """Acceptances of equal steps of arc length agree better than those of equal steps of the mean position."""
    force = makeForce()
    fine = np.linspace(0, 1, 401)
    position = np.maximum.accumulate(MODEL.moments(np.array([force.getEta(s) for s in fine])).mu[:, 1])
    for n in 9, 12, 16:
        byLength = st.predictAcceptance(CURVE, np.linspace(0, 1, n), **DATA)
        byCoordinate = st.predictAcceptance(CURVE, np.interp(np.linspace(position[0], position[-1], n), position, fine), **DATA)
        assert byLength.max()/byLength.min() < 1.3 < byCoordinate.max()/byCoordinate.min()


@pytest.fixture(scope="module")
def sampled():
    states = st.exchangeStates(CURVE, numStates=5, temperatures=T0, **DATA)
    sampler = make(states, starts=[[[x, 0, 0]] for x in MODEL.moments(states.eta).mu[:, 1]], stepsPerIteration=100, equilibrationSteps=500)
    sampler.simulate(600, exchange=False)
    sampler.simulate(1200)
    return sampler


def testMeasuredIsPredicted(sampled):
    report = sampled.report()
    assert (report.independentIterations, report.iterations, report.stepsPerIteration) == (600, 1200, 100)
    np.testing.assert_allclose(report.exchanged, report.predicted, atol=0.05)
    # Each well is left on its own only now and then, so independent replicas know their acceptance less well.
    np.testing.assert_array_less(np.abs(report.independent-report.predicted), 0.05+3*report.independentError)
    np.testing.assert_allclose(report.difference, report.exchanged-report.independent)
    assert np.all(report.occupancy == 1) and report.exact


def testMarginals(sampled):
    """What the end states and the middle one sample is the tilted distribution."""
    history = sampled.history
    x, index = history["variables"][600:, :, 0], history["replicaStateIndex"][600:]
    for i in 0, 2, 4:
        own = x[index == i]
        assert len(own) == 1200
        p = density(sampled.states.eta[i])
        cdf = np.cumsum(p)
        for at in np.interp([0.1, 0.3, 0.5, 0.7, 0.9], cdf, GRID):
            assert np.mean(own <= at) == pytest.approx(np.interp(at, GRID, cdf), abs=0.06)


def testReducedEnergiesAreOpenMMs(sampled):
    """The shortcut of one evaluation agrees with OpenMM's evaluation per state."""
    context = sampled.simulation.context
    for state in sampled.replicaConformation[:2]:
        context.setState(state)
        np.testing.assert_allclose(sampled._sampler.computeAllEnergies()._value, super(type(sampled._sampler), sampled._sampler).computeAllEnergies()._value, rtol=1e-10, atol=1e-9)


def testStatesAreOpenMMs():
    """The list goes into OpenMM's own samplers as it is."""
    states = st.exchangeStates(CURVE, numStates=4, temperatures=[300, 310, 310, 300], **DATA)
    simulation = makeSimulation(makeForce())
    sampler = app.ReplicaExchangeSampler(states, simulation, 5)
    sampler.simulate(3)
    assert sampler.currentIteration == 3
    for i, state in enumerate(states):
        sampler._sampler.applyState(i)
        assert simulation.integrator.getTemperature()._value == state["temperature"]
        assert simulation.context.getParameter("spacetime_kT") == pytest.approx(KB*state["temperature"])
        assert simulation.context.getParameter("spacetime_s") == state["spacetime_s"]


def testRoundTrips(sampled):
    report, index = sampled.report(), sampled.history["replicaStateIndex"][600:]
    for replica, trips in enumerate(report.roundTrips):
        # By the definition, walked step by step.
        count, goal = -1, 0
        for state in index[:, replica]:
            if state == goal:
                count += goal == 0
                goal = 4-goal
        assert trips == max(count, 0)
    assert report.roundTrips.sum() > 5
    assert len(set(index[:, 0])) == 5


def testReport(sampled):
    report = sampled.report()
    lines = report.table.splitlines()
    assert len(lines) >= 6 and lines[0].split()[-4:] == ["predicted", "independent", "exchanged", "difference"]
    assert f"{report.predicted[2]:.3f}" in lines[3] and "round trips:" in report.table and str(report) == report.table
    assert repr(report).startswith("ExchangeReport(5 states, 1200 iterations") and "1800 iterations done" in repr(sampled)
    content = json.loads(json.dumps(report.asDict()))
    np.testing.assert_allclose(content["exchanged"], report.exchanged)
    assert content["roundTrips"] == report.roundTrips.tolist()


def testStuckReplicasAreSuspicious():
    """Replicas that a barrier of 14 kT keeps on either side do not overlap as the samples say they should, and the report says so."""
    states = st.exchangeStates(CURVE, numStates=3, temperatures=T0, **DATA)
    force = makeForce()
    simulation = makeSimulation(force)
    wall = openmm.CustomExternalForce("30*(1-x^2)^2")
    wall.addParticle(0)
    simulation.system.addForce(wall)
    simulation.context.reinitialize(preserveState=True)
    # The middle state starts on the left: on its own it stays there.
    sampler = st.ReplicaExchange(states, simulation, force, 40, starts=[[[-1, 0, 0]], [[-1, 0, 0]], [[1, 0, 0]]])
    sampler.simulate(200, exchange=False)
    sampler.simulate(400)
    report = sampler.report()
    assert report.independent[1] < 0.05 < 0.6 < report.independent[0]
    assert report.suspicious == [0, 1] and "!: these do not agree" in report.table
    assert report.asDict()["suspicious"] == report.suspicious


def testTemperatures():
    """States of different temperatures: bath and bias go together, and swaps are measured as quadrature has them."""
    temperatures = [300.0, 420.0, 300.0]
    states = st.exchangeStates(CURVE, temperatures=temperatures*unit.kelvin, **DATA)
    assert [state["temperature"] for state in states] == temperatures
    np.testing.assert_allclose([state["spacetime_kT"] for state in states], KB*np.array(temperatures))
    assert np.all(np.isnan(states.predicted))
    sampler = make(states, stepsPerIteration=100, equilibrationSteps=500, starts=[[[x, 0, 0]] for x in (-1, 0, 1)])
    sampler.simulate(1200)
    report = sampler.report()
    # The harmonic y and z add the same to the exponent of both: sampled here, and integrated by the chi-squared distribution of their energy.
    assert report.table.splitlines()[1].split()[2] == "300-420"
    assert np.isnan(report.asDict()["predicted"][0] or np.nan)
    x, index = sampler.history["variables"][120:, :, 0], sampler.history["replicaStateIndex"][120:]
    for i, T in enumerate(temperatures):
        p = density(states.eta[i], T)
        assert x[index == i].mean() == pytest.approx(p@GRID, abs=0.12)
        assert x[index == i].std() == pytest.approx(np.sqrt(p@GRID**2-(p@GRID)**2), rel=0.15)
    rng = np.random.default_rng(1)
    exact = []
    for i in range(2):
        draws = []
        for k in (i, i+1):
            T = temperatures[k]
            here = rng.choice(GRID, 200000, p=density(states.eta[k], T))
            draws.append((here, energy(here)+KB*T*rng.chisquare(2, 200000)/2))
        u = lambda k, c: c[1]/(KB*temperatures[k])-X.statistic(c[0][:, None])@states.eta[k]
        a, b = draws
        exact.append(np.exp(np.minimum(0, u(i, a)+u(i+1, b)-u(i, b)-u(i+1, a))).mean())
    np.testing.assert_allclose(report.exchanged, exact, atol=0.05)
    curved = st.exchangeStates(CURVE, numStates=3, temperatures=lambda s: 300+400*s*(1-s), **DATA)
    np.testing.assert_allclose(curved.temperatures, 300+400*curved.s*(1-curved.s))


def run(directory, iterations, resume=False, states=None, **options):
    states = st.exchangeStates(CURVE, numStates=4, temperatures=T0, **DATA) if states is None else states
    sampler = make(states, directory=directory, resume=resume, blockIterations=5, seed=7, equilibrationSteps=20, **options)
    sampler.simulate(iterations-sampler.currentIteration)
    return sampler


def same(a, b):
    for name, values in a.history.items():
        np.testing.assert_array_equal(values, b.history[name])
    assert a.replicaStateIndex == b.replicaStateIndex
    for x, y in zip(a.replicaConformation, b.replicaConformation):
        np.testing.assert_array_equal(x.getPositions(asNumpy=True)._value, y.getPositions(asNumpy=True)._value)
        np.testing.assert_array_equal(x.getVelocities(asNumpy=True)._value, y.getVelocities(asNumpy=True)._value)


@pytest.mark.parametrize("temperatures", [T0, [300.0, 350.0, 350.0, 300.0]])
def testRestart(tmp_path, temperatures):
    """A run that was cut off, in the middle of a block, ends as one that was not; other random numbers drawn meanwhile do not matter."""
    states = st.exchangeStates(CURVE, numStates=4, temperatures=temperatures, **DATA)
    whole = run(tmp_path/"whole", 20, states=states)
    run(tmp_path/"parts", 8, states=states)
    np.random.rand(3)
    makeSimulation(None).step(10)  # Reference has one stream of random numbers per process
    resumed = run(tmp_path/"parts", 20, resume=True, states=states)
    same(whole, resumed)
    assert len(resumed.history["exchanging"]) == 20
    again = run(None, 20, states=states)
    same(whole, again)
    assert len(set(whole.history["replicaStateIndex"][:, 0])) > 1
    other = make(states, blockIterations=5, seed=8, equilibrationSteps=20)
    other.simulate(20)
    assert not np.array_equal(other.history["variables"], whole.history["variables"])
    # Back to the checkpoint by hand.
    whole.simulate(3)
    whole.restore()
    assert whole.currentIteration == 20
    same(whole, again)


def testRestartErrors(tmp_path):
    run(tmp_path/"a", 5)
    with pytest.raises(FileExistsError, match="resume=True"):
        run(tmp_path/"a", 5)
    with pytest.raises(ValueError, match="cannot be continued"):
        run(tmp_path/"a", 5, resume=True, states=st.exchangeStates(CURVE, numStates=5, temperatures=T0, **DATA))
    with pytest.raises(FileNotFoundError, match="completed no block"):
        run(tmp_path/"b", 5, resume=True)
    with pytest.raises(ValueError, match="takes the directory"):
        run(None, 5, resume=True)


def testOpenMMsReporter(tmp_path):
    sampler = make(st.exchangeStates(CURVE, numStates=4, temperatures=T0, **DATA))
    sampler.reporters.append(app.ReplicaExchangeReporter(str(tmp_path/"log"), 1, sampler, energy=True))
    sampler.simulate(6)
    reduced = np.loadtxt(tmp_path/"log"/"energy.csv", delimiter=",").reshape(6, 4, 4)
    np.testing.assert_allclose(reduced, sampler.history["reducedEnergy"], rtol=1e-6)
    log = np.loadtxt(tmp_path/"log"/"log.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(log[:, 2:], sampler.history["replicaStateIndex"])

    # It resumes from before the last exchange; restore() puts that right.
    states = sampler.states
    whole = run(None, 15, states=states)
    part = make(states, directory=tmp_path/"run", blockIterations=5, seed=7, equilibrationSteps=20)
    part.reporters.append(app.ReplicaExchangeReporter(str(tmp_path/"more"), 1, part, checkpoints=True))
    part.simulate(10)
    again = make(states, directory=tmp_path/"run", blockIterations=5, seed=7, equilibrationSteps=20, resume=True)
    again.reporters.append(app.ReplicaExchangeReporter(str(tmp_path/"more"), 1, again, checkpoints=True, resume=True))
    again.restore()
    again.simulate(5)
    same(whole, again)
    assert len(np.loadtxt(tmp_path/"more"/"log.csv", delimiter=",", skiprows=1)) == 15


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    force = makeForce()
    simulation = makeSimulation(force)
    return st.PathSampler(simulation, force, numPaths=4, steps=400, equilibrationSteps=50, frameStride=10, seed=3, progress=False).run(tmp_path_factory.mktemp("paths")/"p")


def testStartsFromPaths(paths):
    states = st.exchangeStates(CURVE, numStates=4, temperatures=T0, **DATA)
    sampler = make(states, starts=paths)
    starts = [state.getPositions(asNumpy=True)._value[0, 0] for state in sampler.replicaConformation]
    used = []
    for i, x in enumerate(starts):
        found = [(k, j) for k, record in enumerate(paths) for j in record.frameSteps if abs(record.variables[j, 0]-x) < 1e-6]
        assert len(found) == 1
        path, step = found[0]
        used.append(path)
        assert abs(paths[path].s[step]-states.s[i]) <= 10.1/400
    assert sorted(used) == [0, 1, 2, 3]
    assert all(np.abs(state.getVelocities(asNumpy=True)._value).min() > 0 for state in sampler.replicaConformation)
    sampler.simulate(2)


@pytest.mark.parametrize("box", [None, [[3.0, 0, 0], [0.5, 2.5, 0], [-0.7, 0.6, 2.8]]])
def testFramesOfTrajectories(tmp_path, box):
    """Frames of a DCD file that OpenMM wrote, with and without a box, come back as they went in."""
    topology = makeSimulation(None).topology
    topology.addAtom("C", app.Element.getBySymbol("C"), next(topology.residues()))
    vectors = None if box is None else [openmm.Vec3(*v) for v in box]*unit.nanometer
    topology.setPeriodicBoxVectors(vectors)
    positions = np.random.default_rng(2).normal(size=(5, 2, 3))
    with open(tmp_path/"t.dcd", "wb+") as file:
        dcd = app.DCDFile(file, topology, 0.002)
        for frame in positions:
            dcd.writeModel(frame*unit.nanometer, periodicBoxVectors=vectors)
    for i in 0, 3, 4:
        x, read = st.ensemble._readDcdFrame(tmp_path/"t.dcd", i)
        np.testing.assert_allclose(x, positions[i], atol=1e-6)
        if box is None:
            assert read is None
        else:
            np.testing.assert_allclose(read, box, atol=1e-6)
    (tmp_path/"t.dcd").write_bytes(b"something else entirely")
    with pytest.raises(ValueError, match="not a DCD file"):
        st.ensemble._readDcdFrame(tmp_path/"t.dcd", 0)


def testStartsErrors(paths, tmp_path):
    states = st.exchangeStates(CURVE, numStates=4, temperatures=T0, **DATA)
    force = makeForce()
    bare = st.PathSampler(makeSimulation(force), force, numPaths=2, steps=40, equilibrationSteps=0, progress=False).run(tmp_path/"bare")
    with pytest.raises(ValueError, match="no frames along the curve; run PathSampler with frameStride"):
        make(states, starts=bare)
    with pytest.raises(ValueError, match="starts is empty"):
        make(states, starts=[])
    other = st.geodesic(MODEL, [-1.0], [1.0], logSnr=3.0)
    force = makeForce(other)
    with pytest.raises(ValueError, match="another curve than the force's"):
        st.ReplicaExchange(st.exchangeStates(other, numStates=4, temperatures=T0, **DATA), makeSimulation(force), force, starts=paths)


def testExpandedEnsemble(tmp_path):
    """One walker with the model's weights visits all states equally often, and restarts exactly."""
    states = st.exchangeStates(CURVE, numStates=4, temperatures=T0, **DATA)

    def sampler(directory=None, resume=False, **options):
        force = makeForce()
        return st.ExpandedEnsemble(states, makeSimulation(force), force, 60, directory=directory, resume=resume, seed=5, **{"weights": MODEL, "equilibrationSteps": 30, **options})

    one = sampler()
    one.simulate(1500)
    report = one.report()
    np.testing.assert_allclose(report.occupancy, 0.25, atol=0.06)
    assert report.roundTrips.shape == (1,) and report.roundTrips[0] > 10
    assert "share of iterations in each state" in report.table and np.all(np.isnan(report.exchanged))
    x, index = one.history["variables"][:, 0, 0], one.history["replicaStateIndex"][:, 0]
    assert x[index == 0].mean() == pytest.approx(density(states.eta[0])@GRID, abs=0.06)

    for options in {}, {"weights": None}:
        whole, part = sampler(**options), sampler(tmp_path/str(len(options)), **options)
        whole.simulate(60)
        part.simulate(30)
        resumed = sampler(tmp_path/str(len(options)), True, **options)
        assert resumed.currentIteration == 20
        resumed.simulate(40)
        for name, values in whole.history.items():
            np.testing.assert_array_equal(values, resumed.history[name])
        assert whole.weights == resumed.weights
    with pytest.raises(ValueError, match="one weight for each of the 4 states, but got 2"):
        sampler(weights=[0, 1])


@pytest.mark.parametrize("options, message", [
    (dict(numStates=1), "at least 2 states"),
    (dict(numStates=2.5), "at least 2 states"),
    (dict(acceptance=0), "between 0 and 1"),
    (dict(numStates=3, temperatures=[300, 310]), "one temperature for each of the 3 states, but got 2"),
    (dict(numStates=3, temperatures=[300, -310, 300]), "positive temperatures"),
    (dict(numStates=400), r"all acceptances between 400 states are predicted above 0.95, .* [34] states suffice for an acceptance of 0.3"),
])
def testStateErrors(options, message):
    with pytest.raises(ValueError, match=message):
        st.exchangeStates(CURVE, **{**DATA, **options})


def testOverlappingEnds():
    """Ends that are one distribution but for a little need no states between them, and the advice says so."""
    force = makeForce()
    near = st.Curve(X, [0, 1], np.array([force.getEta(0.5), force.getEta(0.502)]))
    with pytest.raises(ValueError, match="two ends of the curve overlap"):
        st.exchangeStates(near, numStates=4, **DATA)
    with pytest.raises(ValueError, match="the curve knows no length; pass a model, samples or numStates"):
        st.exchangeStates(near)
    assert np.all(np.isnan(st.exchangeStates(near, numStates=3).predicted))
    with pytest.raises(ValueError, match="samples need variables"):
        st.exchangeStates(type("Nodes", (), dict(s=CURVE.s, eta=CURVE.eta)), **DATA)
    with pytest.raises(ValueError, match=r"samples \[K, n\] and logWeights \[K\]"):
        st.predictAcceptance(CURVE, [0, 1], samples=GRID[:, None], logWeights=LOGQ[1:])


def testFewSamplesWarn():
    with pytest.warns(UserWarning, match="effective samples"):
        st.predictAcceptance(CURVE, [0, 1], samples=GRID[::40, None], logWeights=LOGQ[::40])


def testSamplerErrors():
    states = st.exchangeStates(CURVE, numStates=4, temperatures=T0, **DATA)
    force = makeForce()
    with pytest.raises(Exception, match="Context"):
        st.ReplicaExchange(states, makeSimulation(None), force)
    with pytest.raises(ValueError, match="at least 2 states"):
        make(states[:1])
    other = st.exchangeStates(st.geodesic(MODEL, [-1.0], [1.0], logSnr=3.0), numStates=4, temperatures=T0, **DATA)
    with pytest.raises(ValueError, match="another curve than the force's"):
        make(other)
    force = makeForce(name="y")
    with pytest.raises(ValueError, match="variables x, but the force has y"):
        st.ReplicaExchange(states, makeSimulation(force), force)
    with pytest.raises(ValueError, match="state 1 runs at 400 K, but its bias at 300 K"):
        make([{"spacetime_s": 0.0, "temperature": 300.0}, {"spacetime_s": 1.0, "temperature": 400.0}])
    force = makeForce(name="")
    st.ReplicaExchange(states, makeSimulation(force), force)
    for name, value in dict(seed=-1, blockIterations=0, stepsPerIteration=0, equilibrationSteps=-1).items():
        with pytest.raises(ValueError, match=name):
            make(states, **{name: value})
    force = makeForce()
    force.addWalker(0)
    with pytest.raises(ValueError, match="1 walkers"):
        st.ReplicaExchange(states, makeSimulation(force), force)
    renamed = makeForce()
    renamed.setParameterName("other_s")
    simulation = makeSimulation(renamed)
    with pytest.raises(ValueError, match="pass parameterName='other_s'"):
        st.ReplicaExchange(states, simulation, renamed)
    st.ReplicaExchange(st.exchangeStates(CURVE, numStates=4, temperatures=T0, parameterName="other_s", **DATA), simulation, renamed, 5).simulate(2)
    with pytest.raises(ValueError, match="nothing to report"):
        make(states).report()
