# SPDX-License-Identifier: MIT
"""Free energies with errors, against families whose psi and mu are known to rounding: tilted distributions on a grid, and Gaussians."""
import json
import logging
import subprocess
import sys

import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st
from openmmspacetime.surface import GAS_CONSTANT

KT = GAS_CONSTANT*300
N = 72
AXIS = -np.pi+2*np.pi*(np.arange(N)+0.5)/N
GRID = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), axis=-1).reshape(-1, 2)
V = st.Variables.torsions([(0, 1, 2, 3), (1, 2, 3, 4)], names=["phi", "psi"])
#: Free energy over kT of the unbiased ensemble.
F = 1.5*np.cos(GRID[:, 0])+np.cos(2*GRID[:, 0]-GRID[:, 1])+0.7*np.sin(GRID[:, 1])
MODEL = st.EmpiricalModel(GRID, V, -F, grid=True)
CURVE = st.geodesic(MODEL, [-2, 1], [1, -1], logSnr=2.5)
S = np.linspace(0, 1, 10)
ETA = np.array([CURVE.evaluate(s) for s in S])
MOMENTS = MODEL.moments(ETA)
PSI = MOMENTS.psi-MOMENTS.psi[0]
T = V.statistic(GRID)


def weights(eta):
    u = T@eta-F
    p = np.exp(u-u.max())
    return p/p.sum()


P = np.array([weights(eta) for eta in ETA])


def draw(count, seed=1, P=P, eta=ETA, s=S, **options):
    """Independent samples of each state."""
    rng = np.random.default_rng(seed)
    index = np.concatenate([rng.choice(len(GRID), count, p=p) for p in P])
    return st.StateSamples(s, eta, 300, np.repeat(np.arange(len(s)), count), T[index], GRID[index], names=V.names, periods=[2*np.pi]*2, **options)


@pytest.fixture(scope="module")
def samples():
    return draw(400)


@pytest.fixture(scope="module")
def solved(samples):
    return st.mbar(samples)


# A Gaussian family: q normal, tilted to a variance of 0.2 and means from -1.2 to 1.2, as chains whose correlation in time is known.
GAUSS = np.stack([np.full(6, -2.0), np.linspace(-6, 6, 6)], axis=1)
VARIANCE = 0.2
GAUSS_PSI = 0.5*VARIANCE*(GAUSS[:, 1]**2-36)


def chains(times, rho, seed, runs=1):
    rng = np.random.default_rng(seed)
    z, x = rng.normal(size=(runs, 6)), np.empty((runs, times, 6))
    for t in range(times):
        x[:, t] = VARIANCE*GAUSS[:, 1]+np.sqrt(VARIANCE)*z
        z = rho*z+np.sqrt(1-rho**2)*rng.normal(size=z.shape)
    x = x.ravel()
    return st.StateSamples(np.linspace(0, 1, 6), GAUSS, 300, np.tile(np.arange(6), runs*times), np.stack([x*x, x], axis=1), x[:, None], np.repeat(np.arange(runs), 6*times),
                           np.tile(np.repeat(np.arange(times), 6), runs), ["x"])


@pytest.mark.parametrize("method", [st.mbar, st.thermodynamicIntegration])
def testPsiIsQuadrature(method):
    """Within 3 errors, and errors are what repeats scatter by."""
    z, errors = [], []
    for seed in range(40):
        result = method(draw(250, 1000+seed))
        z.append((result.psi-PSI)[1:]/result.psiError[1:])
        errors.append(result.psiError)
    z = np.array(z)
    assert np.all(np.abs(z[0]) < 3)
    assert np.all(np.abs(z.mean(axis=0)) < 0.5)
    # 40 repeats know a standard deviation to 11 %; errors may be a little too large, as g is at least 1.
    assert np.all((np.sqrt(np.mean(z**2, axis=0)) > 0.65) & (np.sqrt(np.mean(z**2, axis=0)) < 1.3))


def testErrorsArePymbars(samples, solved):
    """For independent samples they are the asymptotic covariance of MBAR; psi, overlap and weights are pymbar's too."""
    pymbar = st.estimates._pymbar()
    theirs = pymbar.MBAR(-ETA@samples.T.T, samples.counts)
    difference = theirs.compute_free_energy_differences()
    np.testing.assert_allclose(solved.psi, -difference["Delta_f"][0], atol=1e-6)
    np.testing.assert_allclose(solved.errors, difference["dDelta_f"], rtol=0.4, atol=1e-3)
    # Without the series in time; what a state's samples have on average is taken from all samples, so not to rounding.
    iid = np.sqrt(np.square(solved._influence).sum(axis=0))
    np.testing.assert_allclose(iid, difference["dDelta_f"][0], rtol=0.04)
    overlap = theirs.compute_overlap()
    np.testing.assert_allclose(solved.overlap, overlap["matrix"], atol=1e-6)
    assert solved.overlapScalar == pytest.approx(overlap["scalar"], abs=1e-6)
    np.testing.assert_allclose(solved.weights(ETA[3]), np.exp(theirs.Log_W_nk[:, 3]), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(np.sqrt(np.diag(solved.covariance)), solved.psiError, rtol=1e-9)
    # Ensembles that were not sampled: the unbiased one, and it within two ranges of phi, one at either end of the curve.
    phi, w = samples.variables[:, 0], solved.weights()
    bins = np.abs(phi+2) < 0.5, np.abs(phi-1) < 0.5
    u = np.stack([-samples.T@ETA[0], np.zeros(len(samples)), *(np.where(inside, 0.0, 1e5) for inside in bins)])
    error = theirs.compute_perturbed_free_energies(u)["dDelta_f"]
    first, all_, a, b = solved.weights(ETA[0]), w, *(np.where(inside, w, 0)/w[inside].sum() for inside in bins)
    ours = solved._influenceOf(np.stack([all_-first, b-a], axis=1))
    np.testing.assert_allclose(np.sqrt(np.square(ours).sum(axis=0)), [error[0, 1], error[2, 3]], rtol=0.04)


def testBootstrapAgrees(samples, solved):
    """Drawing samples of each state again and solving again scatters by the errors, of differences and of the surface alike."""
    rng, psi, F = np.random.default_rng(2), [], []
    h = solved.profileOf(samples.variables[:, 0], bins=12, range=(-np.pi, np.pi), period=2*np.pi)
    lowest = h.zero
    for _ in range(40):
        which = np.concatenate([rng.choice(np.flatnonzero(samples.state == k), samples.counts[k]) for k in range(len(S))])
        again = st.mbar(samples.select(which))
        psi.append(again.psi)
        f = again.profileOf(samples.variables[which, 0], bins=12, range=(-np.pi, np.pi), period=2*np.pi).freeEnergy
        F.append(f-f[lowest])
    np.testing.assert_allclose(np.std(psi, axis=0, ddof=1)[1:], solved.psiError[1:], rtol=0.4)
    many = h.counts > 50
    many[lowest] = False
    np.testing.assert_allclose(np.std(F, axis=0, ddof=1)[many], h.error[many], rtol=0.45)


def testCorrelatedChains():
    """Errors grow with the correlation time: g = (1 + rho)/(1 - rho), and are those of repeats."""
    exact = 0.5*VARIANCE*36*0  # both ends have the same psi
    for method in st.mbar, st.thermodynamicIntegration:
        values, errors = np.array([method(chains(600, 0.8, seed)).freeEnergyDifference() for seed in range(30)]).T
        white = np.mean([method(chains(600, 0.0, seed)).freeEnergyDifference().error for seed in range(5)])
        assert 0.75 < np.sqrt(np.mean(((values-exact)/errors)**2)) < 1.35
        # Squares of x forget faster than x, so a little less than 3.
        assert 2.2 < errors.mean()/white < 3.2
    inefficiency = chains(4000, 0.8, 1).inefficiency()
    assert np.all((inefficiency > 5.5) & (inefficiency < 13))
    thinned = chains(4000, 0.8, 1).subsampled()
    assert 6*4000/14 < len(thinned) < 6*4000/5 and thinned.inefficiency().max() < 2.5


def testIndependentRuns():
    """Chains that stay apart, each with its own mean, are told by their differences, which no single chain shows."""
    values, errors = np.array([st.mbar(chains(20, 0.99, seed, runs=40)).freeEnergyDifference() for seed in range(30)]).T
    assert 0.7 < np.sqrt(np.mean((values/errors)**2)) < 1.45


def testSurfaceIsQuadrature():
    """F of the unbiased ensemble over both torsions and over a function of them, and its errors."""
    cells = 12
    z = []
    for seed in range(1000, 1014):
        samples = draw(300, seed)
        solved = st.mbar(samples)
        surface = solved.surface(bins=cells)
        q = np.exp(-F)/np.exp(-F).sum()
        # The same bins, over the points of the grid.
        i, j = (np.minimum((x+np.pi)/(2*np.pi)*cells, cells-1).astype(int) for x in GRID.T)
        exact = -KT*np.log(np.bincount(i*cells+j, weights=q, minlength=cells**2)).reshape(cells, cells)
        lowest = surface.zero
        good = (surface.counts > 20) & (surface.error > 0)
        z.append(((surface.freeEnergy-exact+exact[lowest])/np.where(surface.error > 0, surface.error, np.inf))[good])
        assert np.all(np.isnan(surface.freeEnergy) == (surface.counts == 0)) and surface.freeEnergy[lowest] == 0 == surface.error[lowest]
    z = np.concatenate(z)
    assert len(z) > 300 and abs(z.mean()) < 0.3 and 0.6 < z.std() < 1.3
    assert surface.names == ["phi", "psi"] and surface.freeEnergy.shape == (12, 12) and "12 x 12 bins" in repr(surface)
    # One quantity of the caller's own, in a tilted ensemble: its exact distribution is that of the state.
    value = np.cos(samples.variables[:, 0])
    h = solved.profileOf(value, bins=6, range=(-1, 1), eta=ETA[4])
    p = np.histogram(np.cos(GRID[:, 0]), h.edges[0], weights=P[4])[0]
    known = h.counts > 100
    assert np.all(np.abs(h.freeEnergy+KT*np.log(p/p[h.zero]))[known] < 4*h.error[known]+1e-9)
    mean = solved.expectation(value, ETA[4])
    assert abs(mean.value-P[4]@np.cos(GRID[:, 0])) < 3.5*mean.error < 0.3
    unbiased = solved.expectation(value)
    assert abs(unbiased.value-q@np.cos(GRID[:, 0])) < 3.5*unbiased.error


def testWeights(samples, solved):
    w = solved.weights()
    assert w.sum() == pytest.approx(1) and solved.effectiveSamples() == pytest.approx(1/(w@w)) and solved.effectiveSamples() < len(samples)
    # Each state's own samples are among the most effective ones of that state.
    assert solved.effectiveSamples(ETA[5]) > 400
    with pytest.raises(ValueError, match="weights to samples|no weights"):
        st.thermodynamicIntegration(samples).weights()
    with pytest.raises(ValueError, match="4 finite natural parameters"):
        solved.weights([1.0])


def testProfileAndReport(samples, solved):
    F_, error = solved.profile()
    np.testing.assert_allclose(F_, -KT*solved.psi, atol=1e-12)
    assert error[0] == 0 and np.all(error[1:] > 0)
    dF = solved.freeEnergyDifference()
    assert dF == (pytest.approx(F_[-1]), pytest.approx(error[-1])) and str(dF) in solved.table and str(solved) == solved.table
    part, back = solved.freeEnergyDifference(2, 5), solved.freeEnergyDifference(5, 2)
    assert part.value == pytest.approx(F_[5]-F_[2]) == -back.value and part.error == pytest.approx(KT*solved.errors[2, 5]) == pytest.approx(back.error)
    content = json.loads(json.dumps(solved.asDict()))
    assert content["method"] == "MBAR" and content["dF"] == dF.value and len(content["overlap"]) == 10
    assert len(solved.table.splitlines()) == 13 and "dF of the ends" in repr(solved)
    ti = st.thermodynamicIntegration(samples)
    assert json.loads(json.dumps(ti.asDict()))["method"] == "TI" and "left out by the quadrature" in ti.table
    assert abs(solved.freeEnergyDifference().value-ti.freeEnergyDifference().value) < 3*ti.freeEnergyDifference().error


def testTruncationIsFound():
    """With few long steps the quadrature leaves something out, and the estimate of it says how much."""
    s = np.linspace(0, 1, 7)
    eta = np.array([CURVE.evaluate(x) for x in s])
    moments = MODEL.moments(eta)
    samples = draw(20000, P=np.array([weights(e) for e in eta]), eta=eta, s=s)
    ti = st.thermodynamicIntegration(samples)
    off = ti.psi[-1]-(moments.psi[-1]-moments.psi[0])
    assert abs(off) > 3*ti.psiError[-1] and abs(off)/4 < abs(ti.truncation) < 4*abs(off)
    fine = st.thermodynamicIntegration(draw(20000))
    assert abs(fine.truncation) < abs(ti.truncation)/3 and abs(fine.psi[-1]-PSI[-1]) < abs(off)/3


def testWarnsWhereStatesDoNotOverlap():
    few = draw(300, P=P[:8:7], eta=ETA[:8:7], s=S[:8:7])
    with pytest.warns(UserWarning, match="neighbours overlap by less than 0.03 at 1 of 1 pairs"):
        st.mbar(few)
    far = np.array([[200.0, 0, 200, 0], [0, 200.0, 0, 200.0], [-200, 0, -200.0, 0]])
    apart = draw(50, P=np.array([weights(e) for e in far]), eta=far, s=[0, 0.5, 1])
    with pytest.raises(ValueError, match="(share no samples|no solution|solved to).*more states"):
        st.mbar(apart)


@pytest.mark.parametrize("change, message", [
    (dict(s=S[:1], eta=ETA[:1]), "at least 2 states"), (dict(eta=ETA[:, 0]), r"eta of shape \[10, m\]"), (dict(temperature=-1), "positive temperature"),
    (dict(state=np.zeros(0, dtype=int)), "at least one sample"), (dict(state=np.zeros(100, dtype=int)), "no samples of state 1, 2"),
    (dict(state=np.full(100, 10)), "between 0 and 9"), (dict(T=np.zeros((99, 4))), r"T of shape \[100, 4\]"), (dict(T=np.full((100, 4), np.nan)), r"T\[0, 0\] is nan"),
    (dict(s=S[::-1]), "to rise"), (dict(chain=np.zeros(3, dtype=int)), "chain as whole numbers"), (dict(eta=np.repeat(ETA[:5], 2, axis=0)), "states 0 and 1 have the same eta"),
    (dict(variables=np.full((100, 2), np.inf)), r"variables\[0, 0\] is inf"), (dict(variables=np.zeros((100, 2)), names=["a"]), "one name and one period"),
])
def testBadSamples(change, message):
    index = np.arange(100)
    good = dict(s=S, eta=ETA, temperature=300, state=index//10, T=T[index], variables=GRID[index])
    assert "10 states, 100 samples (10 to 10 a state) from 1 chain, 300 K" in repr(st.StateSamples(**good))
    assert st.StateSamples(**{**good, "temperature": 300*unit.kelvin}).kT == pytest.approx(KT)
    with pytest.raises(ValueError, match="StateSamples: .*"+message):
        st.StateSamples(**{**good, **change})


def testBadSurfaces(solved, samples):
    for options, message in ((dict(variables=["chi"]), "some of the variables phi, psi"), (dict(values=np.zeros(3)), "a row for each of the 4000 samples"),
                             (dict(values=np.full(4000, np.nan)), "finite values"), (dict(ranges=[(1, 0), (0, 1)]), "to have a range"),
                             (dict(values=np.zeros(4000), ranges=[(1, 2)]), "no sample lies within"), (dict(bins=0), "at least one bin"), (dict(ranges=[(0, 1)]), "a range")):
        with pytest.raises(ValueError, match=message):
            solved.surface(**options)
    with pytest.raises(ValueError, match="one value for each sample"):
        solved.profileOf(samples.variables)


def testPlots(samples, solved):
    """Every figure draws what it is given, and says so where it cannot."""
    from openmmspacetime import plots

    ti = st.thermodynamicIntegration(samples)
    figure = plots.freeEnergyProfile({"MBAR": solved, "TI": ti}, MODEL)
    line = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), solved.profile()[0])
    np.testing.assert_allclose(figure.axes[0].get_lines()[-1].get_ydata(), -KT*PSI, atol=1e-9)
    np.testing.assert_allclose(plots.overlapMatrix(solved).axes[0].images[0].get_array(), solved.overlap)
    image = plots.swapMatrix(samples, CURVE, data=GRID, logWeights=-F).axes[0].images[0].get_array()
    acceptances = samples.acceptances()
    neighbours = st.predictAcceptance(CURVE, S, samples=GRID, logWeights=-F)
    np.testing.assert_allclose(np.diag(image, -1), neighbours, atol=1e-9)
    np.testing.assert_allclose(np.diag(image, 1), np.diag(acceptances, 1))
    np.testing.assert_allclose(np.diag(acceptances, 1), neighbours, atol=0.06)
    surface = solved.surface(bins=12)
    meshes = [axis.collections[0].get_array() for axis in plots.freeEnergyHistogram(surface).axes[:2]]
    np.testing.assert_allclose(meshes[0].filled(np.nan), surface.freeEnergy.T)
    np.testing.assert_allclose(meshes[1].filled(np.nan), surface.error.T)
    h = solved.profileOf(samples.variables[:, 1], bins=10, range=(-np.pi, np.pi), period=2*np.pi, name="psi")
    axis = plots.freeEnergyHistogram(h).axes[0]
    np.testing.assert_allclose(axis.get_lines()[0].get_ydata(), h.freeEnergy)
    assert axis.get_xlabel() == "ψ (degrees)" and json.loads(json.dumps(h.asDict()))["names"] == ["psi"]
    for bad in (lambda: plots.freeEnergyProfile({}), lambda: plots.overlapMatrix(ti)):
        with pytest.raises(ValueError, match="expected a mapping|knows no overlap"):
            bad()


# ---- work

def gaussianWork(dF, dissipated, nF, nB, seed):
    """Works (kT) that obey Crooks' relation exactly: normal, with variance twice what they dissipate."""
    rng = np.random.default_rng(seed)
    return rng.normal(dF+dissipated, np.sqrt(2*dissipated), nF), rng.normal(-dF+dissipated, np.sqrt(2*dissipated), nB)


def testBarOfGaussianWork():
    z = []
    for seed in range(100):
        result = st.bar(*(KT*w for w in gaussianWork(3.0, 1.5, 80, 120, seed)), temperature=300)
        z.append([(e.value-KT*x)/e.error for e, x in ((result.freeEnergyDifference, 3.0), (result.dissipatedForward, 1.5), (result.dissipatedBackward, 1.5), (result.hysteresis, 3.0))])
    z = np.array(z)
    assert np.all(np.abs(z.mean(axis=0)) < 0.3) and np.all((z.std(axis=0) > 0.8) & (z.std(axis=0) < 1.2))
    wF, wB = gaussianWork(3.0, 1.5, 20000, 20000, 1)
    result = st.bar(KT*wF, KT*wB, 300*unit.kelvin)
    pymbar = st.estimates._pymbar()
    theirs = pymbar.other_estimators.bar(wF[:500], wB[:400])
    ours = st.bar(KT*wF[:500], KT*wB[:400], 300)
    assert ours.freeEnergyDifference.value == pytest.approx(KT*theirs["Delta_f"], abs=1e-6) and ours.freeEnergyDifference.error == pytest.approx(KT*theirs["dDelta_f"], rel=0.1)
    assert ours.overlap == pytest.approx(pymbar.other_estimators.bar_overlap(wF[:500], wB[:400]), abs=1e-4)
    assert "hysteresis" in result.table and "dissipated forward (20000 paths)" in result.table and json.loads(json.dumps(result.asDict()))["numForward"] == 20000
    assert "WorkFreeEnergy(BAR, dF" in repr(result)


def testBarWarnsAndRefuses():
    wF, wB = (KT*w for w in gaussianWork(0.0, 40.0, 30, 30, 1))
    with pytest.warns(UserWarning, match="hardly overlap"):
        st.bar(wF, wB, 300)
    good = np.arange(5.0)
    for forward, backward, options, message in ((good, good+1, {}, "expected temperature="), (good, -good, dict(temperature=300), "the same works"),
                                                (good, good[:1], dict(temperature=300), "at least 2 backward"), (good*np.nan, good, dict(temperature=300), "finite work, but forward path 0"),
                                                (good, good+1, dict(temperature=0), "positive temperature")):
        with pytest.raises(ValueError, match="bar: .*"+message):
            st.bar(forward, backward, **options)


# ---- simulations of one particle in a double well

LINE = np.linspace(-2.2, 2.2, 1201)
X = st.Variables.numbers(["x"])
LOGQ = -(5*(LINE**2-1)**2+1.5*LINE)/KT
WELL = st.EmpiricalModel(LINE[:, None], X, logWeights=LOGQ, grid=True)
WELL_CURVE = st.geodesic(WELL, [-1.0], [1.0], logSnr=3.5)
WELL_EXACT = -KT*float(np.diff(WELL.moments(WELL_CURVE.eta[[0, -1]]).psi)[0])


def makeSimulation(temperature=300.0, brownian=False):
    force = st.SpacetimeForce(s=WELL_CURVE.s, eta=WELL_CURVE.eta, temperature=temperature)
    force.addCoordinate(0, 0, name="x")
    topology = app.Topology()
    topology.addAtom("C", app.Element.getBySymbol("C"), topology.addResidue("X", topology.addChain()))
    system = openmm.System()
    system.addParticle(1.0)
    well = openmm.CustomExternalForce("5*(x^2-1)^2+1.5*x+50*(y^2+z^2)")
    well.addParticle(0)
    system.addForce(well)
    system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(temperature, 10.0, 0.02)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions([[-1.0, 0, 0]])
    return simulation, force


def drive(directory, direction, seed, paths=40, **options):
    simulation, force = makeSimulation()
    x = -1.0 if direction == "forward" else 1.0
    return st.PathSampler(simulation, force, numPaths=paths, seed=seed, direction=direction, startStates=[[[x, 0, 0]]], progress=False,
                          **{"steps": 600, "equilibrationSteps": 200, **options}).run(directory)


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paths")
    return [drive(folder/direction, direction, seed) for direction, seed in (("forward", 1), ("backward", 2))]


@pytest.fixture(scope="module")
def exchanged():
    states = st.exchangeStates(WELL_CURVE, numStates=7, temperatures=300, samples=LINE[:, None], logWeights=LOGQ, model=WELL)
    runs = []
    for seed in 1, 2:
        simulation, force = makeSimulation()
        sampler = st.ReplicaExchange(states, simulation, force, 50, starts=[[[x, 0, 0]] for x in np.linspace(-1, 1, 7)], seed=seed, equilibrationSteps=200)
        sampler.simulate(400)
        runs.append(sampler)
    return runs


def testBarOfDrivenPaths(driven):
    """The double well, driven over and back in 600 steps: dF of the biased ends is that of quadrature."""
    result = st.bar(*driven)
    dF = result.freeEnergyDifference
    assert abs(dF.value-WELL_EXACT) < 3*dF.error < 4
    assert result.dissipatedForward.value > 2*result.dissipatedForward.error and result.hysteresis.value > 4*result.hysteresis.error
    assert 0.03 < result.overlap < 0.9 and result.numForward == 40


def testSamePathsAreRefused(driven, tmp_path):
    forward, backward = driven
    with pytest.raises(ValueError, match="expected forward paths, but PathEnsemble.* backward"):
        st.bar(backward, forward)
    with pytest.raises(ValueError, match="expected backward paths"):
        st.bar(forward, forward)
    with pytest.raises(ValueError, match="one of each"):
        st.bar(forward, [1.0, 2.0])
    same = drive(tmp_path/"seed", "backward", 1, paths=3)
    with pytest.raises(ValueError, match="same seed"):
        st.bar(forward, same)
    slow = drive(tmp_path/"slow", "backward", 3, paths=2, steps=700)
    with pytest.raises(ValueError, match="steps is 600 forward and 700 backward"):
        st.bar(forward, slow)


def testFromExchange(exchanged):
    samples = st.StateSamples.fromExchange(exchanged)
    assert samples.numChains == 2 and len(samples) == 2*360*7 and np.all(samples.counts == 720) and samples.names == ["x"]
    np.testing.assert_allclose(samples.T, X.statistic(samples.variables), atol=1e-12)
    np.testing.assert_allclose(samples.eta, exchanged[0].states.eta)
    history = exchanged[0].history
    own = samples.variables[(samples.chain == 0) & (samples.state == 3), 0]
    np.testing.assert_array_equal(own, history["variables"][40:, :, 0][history["replicaStateIndex"][40:] == 3])
    for method in st.mbar, st.thermodynamicIntegration:
        result = method(samples)
        dF = result.freeEnergyDifference()
        assert abs(dF.value-WELL_EXACT) < 3*dF.error < 3
    one = st.mbar(st.StateSamples.fromExchange(exchanged[0], discard=0.5))
    assert one.samples.numChains == 1 and one.psiError[-1] > result.psiError[-1]
    # The unbiased ensemble over x.
    surface = st.mbar(samples).surface(variables=["x"], bins=10, ranges=[(-1.5, 1.5)])
    p = np.histogram(LINE, surface.edges[0], weights=np.exp(LOGQ))[0]
    exact = -KT*np.log(p/p[surface.zero])
    assert np.all(np.abs(surface.freeEnergy-exact)[surface.counts > 50] < 3.5*surface.error[surface.counts > 50]+0.1)


def testFromExpandedEnsemble():
    states = st.exchangeStates(WELL_CURVE, numStates=5, temperatures=300, samples=LINE[:, None], logWeights=LOGQ, model=WELL)
    simulation, force = makeSimulation()
    walker = st.ExpandedEnsemble(states, simulation, force, 20, weights=WELL, seed=4)
    walker.simulate(3000)
    samples = st.StateSamples.fromExchange(walker)
    assert len(samples) == 2700 and samples.numChains == 1
    dF = st.mbar(samples).freeEnergyDifference()
    assert abs(dF.value-WELL_EXACT) < 3*dF.error < 9


def testFromPaths(tmp_path, driven):
    """Staged driving forward and backward: stages are states, and all three estimators agree with quadrature."""
    staged = [drive(tmp_path/direction, direction, seed, paths=12, steps=4000, stepsPerMove=200) for direction, seed in (("forward", 5), ("backward", 6))]
    samples = st.StateSamples.fromPaths(staged)
    assert samples.numChains == 24 and len(samples.s) == 21 and samples.counts.min() == 12*10
    record = staged[0][0]  # the bias moves before the first step, so its third stage is at s = 3/20
    np.testing.assert_array_equal(samples.variables[(samples.chain == 0) & (samples.state == 3)], record.variables[400:600][109::10])
    assert np.all(np.isin(record.s, samples.s) | np.isclose(record.s[:, None], samples.s).any(axis=1))
    comparison = st.compareFreeEnergies({"MBAR": st.mbar(samples), "TI": st.thermodynamicIntegration(samples), "BAR": st.bar(*driven), "model": WELL, "quadrature": WELL_EXACT})
    assert np.all(np.abs(comparison.values-WELL_EXACT) < 3.5*comparison.errors+1e-6)
    assert comparison.values[3] == pytest.approx(WELL_EXACT) and "they agree" in comparison.table and comparison.z[0, 3] == pytest.approx(-comparison.z[3, 0])
    assert len(comparison.table.splitlines()) == 7 and json.loads(json.dumps(comparison.asDict()))["names"][2] == "BAR" and "MBAR" in repr(comparison)
    wrong = st.compareFreeEnergies({"MBAR": st.mbar(samples), "other": (WELL_EXACT+20, 1.0)})
    assert "do not agree" in wrong.table
    for bad in {}, {"model": WELL}:
        with pytest.raises(ValueError, match="compareFreeEnergies"):
            st.compareFreeEnergies(bad)
    with pytest.raises(ValueError, match="moves its bias every 1 step"):
        st.StateSamples.fromPaths(driven)
    with pytest.raises(ValueError, match="the same paths"):
        st.StateSamples.fromPaths([staged[0], staged[0]])
    with pytest.raises(ValueError, match="share in"):
        st.StateSamples.fromPaths(staged, discard=1.0)
    with pytest.raises(ValueError, match="at least 2 complete paths"):
        st.StateSamples.fromPaths(drive(tmp_path/"one", "forward", 9, paths=1, stepsPerMove=200))


def testMixedRunsAreRefused(exchanged):
    """Other curves, other temperatures."""
    with pytest.raises(ValueError, match="at least one sampler"):
        st.StateSamples.fromExchange([])
    with pytest.raises(ValueError, match="share in"):
        st.StateSamples.fromExchange(exchanged, discard=1.5)
    with pytest.raises(ValueError, match="two of the runs are the same"):
        st.StateSamples.fromExchange([exchanged[0], exchanged[0]])
    simulation, force = makeSimulation()
    states = st.exchangeStates(WELL_CURVE, numStates=3, temperatures=[300, 310, 300])
    fresh = st.ReplicaExchange(states, simulation, force, 5)
    with pytest.raises(ValueError, match="nothing yet"):
        st.StateSamples.fromExchange(fresh)
    fresh.simulate(2)
    with pytest.raises(ValueError, match="one temperature, but they have 300 to 310 K"):
        st.StateSamples.fromExchange(fresh)
    force2 = st.SpacetimeForce(s=[0, 1], eta=[[-10.0, 5], [-10, -5]], temperature=300)
    force2.addCoordinate(0, 0, name="x")
    simulation, _ = makeSimulation()
    simulation.system.removeForce(1)
    simulation.system.addForce(force2)
    simulation.context.reinitialize(preserveState=True)
    other = st.ReplicaExchange([{"spacetime_s": s, "temperature": 300.0} for s in (0.0, 1.0)], simulation, force2, 5)
    other.simulate(5)
    with pytest.raises(ValueError, match="different curves"):
        st.StateSamples.fromExchange([exchanged[0], other])


# ---- the model

def testValidateModel():
    """A right model passes, as often as it should; one that is off by 0.3 posterior standard deviations is found."""
    passed = [st.validateModel(draw(250, seed), MODEL, level=0.05) for seed in range(30)]
    assert sum(bool(v.suspicious) for v in passed) <= 5
    assert np.mean([v.pValue < 0.1 for v in passed]) < 0.2
    z = np.array([v.deviation/v.deviationError for v in passed])
    assert 0.8 < np.sqrt(np.mean(z**2)) < 1.15
    # What noise adds is taken off, so that about as many are below as above.
    assert 0.4 < np.mean([v.largest == 0 for v in passed]) < 0.75
    right = passed[0]
    assert "agree at all 10 states" in right.verdict and right.verdict in right.table and right.largest.max() < 0.3
    # To first order eta moved by 0.3/sd moves the mean by 0.3 sd.
    sd = np.sqrt(np.diag(MOMENTS.J[5]))
    tilted = st.EmpiricalModel(GRID, V, -F+0.3*T[:, 3]/sd[3], grid=True)
    exact = tilted.moments(ETA)
    off = np.array([np.sqrt((a-b)@np.linalg.pinv(H)@(a-b)) for a, b, H in zip(exact.mu, MOMENTS.mu, MOMENTS.J)])
    wrong = st.validateModel(draw(500, 3), tilted)
    assert 0.2 < off[5] < 0.4 and 5 in wrong.suspicious and "differ at" in wrong.verdict and "!" in wrong.table
    assert np.all(np.abs(wrong.largest-off) < 3.5*wrong.largestError)
    content = json.loads(json.dumps(wrong.asDict()))
    assert content["suspicious"] == wrong.suspicious and len(content["largest"]) == 10 and "differ at" in repr(wrong)
    with pytest.raises(ValueError, match="statistic of 4 components"):
        st.validateModel(draw(50), WELL)
    with pytest.raises(ValueError, match="expected at least 12"):
        st.validateModel(draw(5), MODEL)


def testPymbarIsSilent():
    """Its advertisements do not reach our users, and its logger is left as it was."""
    code = "import logging, openmmspacetime as st; st.estimates._pymbar(); print(logging.getLogger('pymbar').level)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == str(logging.NOTSET) and "JAX" not in result.stderr and "timeseries" not in result.stderr
