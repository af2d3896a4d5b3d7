# SPDX-License-Identifier: MIT
"""Samples by temperature exchange and metadynamics, against quadrature of systems that are known exactly; torsions by name, against mdtraj."""
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]
KB = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole/unit.kelvin)
X = st.Variables.fromJson('[{"name": "x", "type": "coordinate", "atoms": [0], "axis": 0}]')
TEMPERATURES = (300.0, 500.0, 850.0)
GRID = np.linspace(-2.5, 2.5, 2001)


def energy(x):
    """Two wells and a barrier of 6 kT at 300 K between them."""
    return 15*(x**2-1)**2+3*x


def boltzmann(temperature):
    p = np.exp(-energy(GRID)/(KB*temperature))
    return p/p.sum()


def particle(x=-1.0, temperature=300.0, extra=None):
    """One particle in that well along x, and in a harmonic one along y and z."""
    topology = app.Topology()
    topology.addAtom("C", app.Element.getBySymbol("C"), topology.addResidue("X", topology.addChain()))
    system = openmm.System()
    system.addParticle(1.0)
    well = openmm.CustomExternalForce("15*(x^2-1)^2+3*x+50*(y^2+z^2)")
    well.addParticle(0)
    system.addForce(well)
    if extra is not None:
        system.addForce(extra)
    simulation = app.Simulation(topology, system, openmm.LangevinMiddleIntegrator(temperature, 10.0, 0.02), openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions([[x, 0, 0]])
    return simulation


def exchange(steps=2000, **options):
    return st.temperatureExchange(particle(), X, TEMPERATURES, steps, **{"stepsPerIteration": 20, "equilibrationSteps": 100, "seed": 3, **options})


@pytest.fixture(scope="module")
def samples():
    return exchange(20_000, ladders=4, starts=[[[-1.0, 0, 0]], [[1.0, 0, 0]]])


EDGES = np.array([-2.5, -1.1, -0.9, -0.6, 0.6, 0.9, 1.1, 2.5])


def histogram(x, logWeights):
    return np.histogram(x[:, 0], EDGES, weights=np.exp(logWeights))[0]


def testWeightedHistogramIsQuadrature(samples):
    exact = np.histogram(GRID, EDGES, weights=boltzmann(300))[0]
    error = samples.error(histogram)
    assert error.max() < 0.05
    # Errors come from four ladders, so the large one is theirs to bear: pool them.
    deviation = histogram(samples.x, samples.logWeights)-exact
    assert np.abs(deviation).max() < 4*np.sqrt(np.mean(error**2)), (deviation, error)
    # Unweighted, they are something else.
    assert np.abs(np.histogram(samples.x[:, 0], EDGES)[0]/len(samples.x)-exact).max() > 0.1


def testWeightsAndEffectiveNumberAreTheExactOnes(samples):
    """MBAR's weights against those with the partition functions known by quadrature: of x, and of y and z in closed form."""
    T = np.array(TEMPERATURES)
    logZ = np.array([np.log(np.exp(-energy(GRID)/(KB*t)).sum())+np.log(t) for t in T])
    counts = np.bincount(samples.ladderTemperature)
    assert len(counts) == 3 and np.all(counts == len(samples.x)//3)
    terms = np.log(counts)[:, None]-logZ[:, None]-samples.potentialEnergy/(KB*T[:, None])
    logW = -samples.potentialEnergy/(KB*300)-np.logaddexp.reduce(terms, axis=0)
    logW -= np.logaddexp.reduce(logW)
    np.testing.assert_allclose(samples.logWeights, logW, atol=0.1)
    w = np.exp(samples.logWeights)
    assert w.sum() == pytest.approx(1) and samples.nEff == pytest.approx(1/np.sum(w**2))
    assert samples.nEff == pytest.approx(1/np.sum(np.exp(2*logW)), rel=0.05)
    # The energy that was recorded is that of the positions: of x, and something positive from y and z.
    rest = samples.potentialEnergy-energy(samples.x[:, 0])
    assert rest.min() > -1e-6 and rest[samples.ladderTemperature == 0].mean() == pytest.approx(KB*300, rel=0.1)


def testSamplesOfEachTemperatureHaveIt(samples):
    # Unweighted and at the hottest temperature, where the barrier is low: the share of the right-hand well.
    for i, t in ((1, 500.0), (2, 850.0)):
        x = samples.x[samples.ladderTemperature == i, 0]
        own = [np.mean(x[samples.copy[samples.ladderTemperature == i] == k] > 0) for k in range(4)]
        assert abs(np.mean(own)-boltzmann(t)[GRID > 0].sum()) < 5*np.std(own, ddof=1)/2+0.01


def testAcceptanceIsQuadrature(samples):
    """Of x, with y and z drawn for it: the mean of min(1, exp((beta_i - beta_j)(U_i - U_j)))."""
    random = np.random.default_rng(1)

    def draw(t):
        return energy(random.choice(GRID, 4000, p=boltzmann(t)))+random.exponential(KB*t, 4000)

    for i, (a, b) in enumerate(zip(TEMPERATURES, TEMPERATURES[1:])):
        exponent = (1/(KB*a)-1/(KB*b))*(draw(a)[:, None]-draw(b)[None, :])
        assert samples.acceptance[i] == pytest.approx(np.exp(np.minimum(0, exponent)).mean(), abs=0.03)
    assert samples.roundTrips.shape == (4, 3) and samples.roundTrips.sum() > 50
    text = samples.summary()
    assert "4 ladders of 3 temperatures, 300, 500, 850 K" in text and f"N_eff {samples.nEff:,.0f} at 300 K" in text and f"round trips: {samples.roundTrips.sum()} by 12 of 12" in text


def testTargetBetweenTemperatures():
    s = exchange(16_000, target=400*unit.kelvin, ladders=4)
    right = s.error(lambda x, w: np.exp(w)[x[:, 0] > 0].sum())
    assert np.exp(s.logWeights)[s.x[:, 0] > 0].sum() == pytest.approx(boltzmann(400)[GRID > 0].sum(), abs=4*right) and 0 < right < 0.05
    assert s.temperature == 400 and "drawn there" not in s.summary()


def testSameSeedSameSamplesAndResumeIsNoInterruption(tmp_path):
    whole = exchange(directory=tmp_path/"whole")
    assert np.array_equal(whole.x, exchange().x) and not np.array_equal(whole.x, exchange(seed=4).x)
    # Killed in the second ladder, behind its first checkpoint of 50 iterations.
    perLadder = 2000*len(TEMPERATURES)

    def kill(done, total):
        assert total == 2*perLadder
        if done > 1.6*perLadder:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exchange(directory=tmp_path/"parts", progress=kill)
    with pytest.raises(FileExistsError, match="resume=True"):
        exchange(directory=tmp_path/"parts")
    resumed = exchange(directory=tmp_path/"parts", resume=True)
    for name in ("x", "logWeights", "potentialEnergy", "ladderTemperature", "acceptance", "roundTrips"):
        assert np.array_equal(getattr(whole, name), getattr(resumed, name)), name
    # A finished run is read, and continued beyond its length.
    assert np.array_equal(exchange(directory=tmp_path/"parts", resume=True).x, whole.x)
    assert np.array_equal(exchange(3000, directory=tmp_path/"parts", resume=True).x, exchange(3000).x)
    with pytest.raises(ValueError, match="another System"):
        exchange(directory=tmp_path/"parts", resume=True, stepsPerIteration=10)


def testPooledWithExchangeAlongACurve(samples):
    """Weights of samples from three temperatures and the states of a curve against those with all partition functions by quadrature."""
    eta = [[-18.0, -36.0], [-15.0, 0.0], [-18.0, 36.0]]  # wells at -1, 0 and 1
    force = st.SpacetimeForce(s=[0, 0.5, 1], eta=eta, variables=X, temperature=300)
    simulation = particle(extra=force)
    states = [{"spacetime_s": s, "spacetime_kT": KB*300, "temperature": 300.0} for s in np.linspace(0, 1, 5)]
    sampler = st.ReplicaExchange(states, simulation, force, stepsPerIteration=20, starts=[[[x, 0, 0]] for x in np.linspace(-1, 1, 5)], seed=3)
    sampler.simulate(200)
    pooled = samples.pooled(sampler)
    assert len(pooled.x) == len(samples.x)+5*180 and pooled.steps == samples.steps+5*200*20

    def logZ(t, e):
        return np.log(np.exp(-energy(GRID)/(KB*t)+X.statistic(GRID[:, None])@e).sum())+np.log(t)

    all_ = [(t, np.zeros(2)) for t in TEMPERATURES]+[(300.0, force.getEta(s["spacetime_s"])) for s in states]
    counts = [len(samples.x)//3]*3+[180]*5
    # The energies of the samples that were there already are known; weights are compared among them.
    terms = [np.log(n)-logZ(t, e)-samples.potentialEnergy/(KB*t)+X.statistic(samples.x)@e for n, (t, e) in zip(counts, all_)]
    exact = -samples.potentialEnergy/(KB*300)-np.logaddexp.reduce(terms, axis=0)
    order = {tuple(row): i for i, row in enumerate(pooled.x)}
    own = pooled.logWeights[[order[tuple(row)] for row in samples.x]]
    difference = own-exact
    assert np.abs(difference-difference.mean()).max() < 0.15
    # What is added lies on the barrier, with the weight of the barrier: the histogram stays that of quadrature.
    def barrier(x, w):
        return np.exp(w)[np.abs(x[:, 0]) < 0.3].sum()

    share = boltzmann(300)[np.abs(GRID) < 0.3].sum()
    assert barrier(pooled.x, pooled.logWeights) == pytest.approx(share, rel=0.15)
    on = [np.abs(s.x[:, 0]) < 0.3 for s in (samples, pooled)]
    before, after = (1/np.sum((w := np.exp(s.logWeights[here])/np.exp(s.logWeights[here]).sum())**2) for s, here in zip((samples, pooled), on))
    assert after > 1.15*before
    with pytest.raises(ValueError, match="at least one ReplicaExchange"):
        samples.pooled()
    with pytest.raises(ValueError, match="20 iterations or more to be kept, but got 2"):
        samples.pooled(sampler, discard=0.99)


def testLaddersAreDifferent(samples):
    first, second = samples.parts()[:2]
    assert not np.array_equal(first[0], second[0]) and np.exp(first[1]).sum() == pytest.approx(1)


def testProcessesMakeNoDifference(tmp_path):
    """In a script, because processes import it."""
    script = tmp_path/"script.py"
    script.write_text(textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(ROOT/'tests'/'python')!r})
        import numpy as np
        import openmmspacetime as st
        import test_sources as t
        if __name__ == "__main__":
            seen = []
            two = t.exchange(processes=2, progress=lambda done, total: seen.append((done, total)))
            one = t.exchange()
            assert np.array_equal(one.x, two.x) and np.array_equal(one.logWeights, two.logWeights)
            assert seen[-1] == (one.steps, one.steps) == (12000, 12000), seen[-1]
            a, b = (st.metadynamics(t.molecule(), t.PHI, 2000, processes=n) for n in (1, 2))
            assert np.array_equal(a.x, b.x) and np.array_equal(a.bias, b.bias)
            print("same")
    """))
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT/"tests"/"python")]+sys.path)})
    assert run.stdout == "same\n", run.stderr


@pytest.mark.parametrize("options, message", [
    ({"temperatures": [300]}, "at least two temperatures in K in rising order, but got 300"),
    ({"temperatures": []}, "at least two temperatures in K in rising order, but got none"),
    ({"temperatures": [300, 500, 400]}, "rising order"),
    ({"temperatures": [300, np.nan]}, "rising order"),
    ({"temperatures": [-1, 300]}, "rising order"),
    ({"target": 299}, "299 K, lies outside the ladder of 300 to 500 K"),
    ({"target": 501}, "outside the ladder"),
    ({"steps": 399}, "399 steps are 19 iterations of 20, of which 19 are kept; expected 20"),
    ({"steps": 440, "discard": 0.5}, "of which 11 are kept"),
    ({"discard": 1.0}, r"share in \[0, 1\)"),
    ({"ladders": 0}, "ladders must be a whole number, 1 or more"),
    ({"seed": -1}, "seed must be"),
    ({"processes": 1.5}, "processes must be"),
    ({"starts": []}, "starts is empty"),
    ({"starts": [[[0, 0, 0], [1, 0, 0]]]}, r"starts\[0\] to be finite positions of shape \[1, 3\], but got shape \[2, 3\]"),
    ({"starts": [[[np.nan, 0, 0]]]}, r"starts\[0\] to be finite"),
])
def testBadInput(options, message):
    with pytest.raises(ValueError, match=message):
        st.temperatureExchange(particle(), X, **{"temperatures": [300, 500], "steps": 2000, "stepsPerIteration": 20, "discard": 0.0, **options})


def testBadSimulations():
    beyond = st.Variables.torsions([(0, 1, 2, 3)], names=["phi"])
    with pytest.raises(ValueError, match=r"variable 'phi' is made of the atoms \[0, 1, 2, 3\], but the System has 1 particles"):
        st.temperatureExchange(particle(), beyond)
    with pytest.raises(ValueError, match="variable 'c' names no atoms"):
        st.temperatureExchange(particle(), st.Variables.numbers(["c"]))
    box = particle()
    box.system.addForce(openmm.MonteCarloBarostat(1, 300))
    with pytest.raises(ValueError, match="holds a MonteCarloBarostat"):
        st.temperatureExchange(box, X)
    tilt = st.SpacetimeForce(s=[0, 1], eta=np.zeros((2, 2)), variables=X, temperature=300)
    with pytest.raises(ValueError, match="holds a SpacetimeForce, whose bias would tilt"):
        st.temperatureExchange(particle(extra=tilt), X)
    simulation = particle(x=np.nan)
    with pytest.raises(ValueError, match="positions are not finite"):
        st.temperatureExchange(simulation, X)
    source = particle()
    verlet = app.Simulation(source.topology, source.system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    verlet.context.setPositions([[-1.0, 0, 0]])
    with pytest.raises(ValueError, match="VerletIntegrator, has no temperature"):
        st.temperatureExchange(verlet, X)
    four = molecule()
    verlet = app.Simulation(four.topology, four.system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    verlet.context.setPositions(four.context.getState(positions=True).getPositions())
    with pytest.raises(ValueError, match="metadynamics: the integrator, VerletIntegrator, has no temperature"):
        st.metadynamics(verlet, PHI)


def testWarnings():
    with pytest.warns(UserWarning, match="only .* effective samples at 300 K"), pytest.warns(UserWarning, match="exchange with a probability of 0.0|no replica went"):
        st.temperatureExchange(particle(), X, [300, 300_000], 400, stepsPerIteration=20, discard=0, ladders=1, equilibrationSteps=0, seed=2)


def testSaved(samples, tmp_path):
    samples.save(tmp_path/"s.npz")
    read = st.readSamples(str(tmp_path/"s.npz"))
    np.testing.assert_allclose(read.x, samples.x, atol=1e-6)
    np.testing.assert_allclose(read.logWeights, samples.logWeights, rtol=1e-5)
    assert read.variables.names == ["x"]
    x, w = samples.thinned(100)
    assert x.shape == (100, 1) and np.exp(w).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="ends in .npz"):
        samples.save(tmp_path/"s.csv")
    with pytest.raises(ValueError, match="expected two torsions"):
        samples.surface
    assert "N_eff" in repr(samples) and "4 copies" in repr(samples)


# ---- metadynamics

PHI = st.Variables.torsions([(0, 1, 2, 3)], names=["phi"])
#: Barriers of 10 kT at 300 K between three wells of different depth.
TORSION = "11*(1+cos(3*theta))+3*cos(theta-0.5)"


def molecule():
    """Four atoms with bonds, angles and one torsion: as nothing else depends on it, the torsion's distribution is exp(-V/kT)."""
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    system = openmm.System()
    for _ in range(4):
        topology.addAtom("C", app.Element.getBySymbol("C"), residue)
        system.addParticle(12.0)
    bonds, angles, torsion = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce(), openmm.CustomTorsionForce(TORSION)
    for i in range(3):
        bonds.addBond(i, i+1, 0.15, 20_000)
    for i in range(2):
        angles.addAngle(i, i+1, i+2, 1.9, 400)
    torsion.addTorsion(0, 1, 2, 3)
    for force in (bonds, angles, torsion):
        system.addForce(force)
    simulation = app.Simulation(topology, system, openmm.LangevinMiddleIntegrator(300, 5.0, 0.004), openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions([[0.14, 0.05, 0], [0, 0, 0], [0, 0, 0.15], [-0.14, 0.03, 0.2]])
    return simulation


def testMetadynamicsIsQuadrature():
    s = st.metadynamics(molecule(), PHI, 60_000, walkers=3, depositEvery=60, sampleEvery=10, height=1.5*unit.kilojoule_per_mole, seed=5)
    phi = np.linspace(-np.pi, np.pi, 3000, endpoint=False)
    p = np.exp(-(11*(1+np.cos(3*phi))+3*np.cos(phi-0.5))/(KB*300))
    exact = np.array([p[np.abs(phi-c) < np.pi/3].sum() for c in (-np.pi/3, np.pi/3)])/p.sum()

    def wells(x, w):
        return np.array([np.exp(w)[np.abs(x[:, 0]-c) < np.pi/3].sum() for c in (-np.pi/3, np.pi/3)])

    error = s.error(wells)
    assert s.x.shape == (15_300, 1) and s.temperature == 300 and s.steps == 180_000 and error.max() < 0.1
    assert np.abs(wells(s.x, s.logWeights)-exact).max() < 5*np.sqrt(np.mean(error**2)), (wells(s.x, s.logWeights), exact, error)
    # Barriers were crossed, and the bias has the shape of the free energy.
    grid = -np.pi+2*np.pi*np.arange(60)/60
    V = 11*(1+np.cos(3*grid))+3*np.cos(grid-0.5)
    F = -s.bias.mean(axis=0)*12/11
    low = V < 15
    assert s.bias.shape == (3, 60) and np.std((F-V)[low]) < 2
    # Each walker counts equally.
    assert [np.exp(s.logWeights[s.copy == i]).sum() for i in range(3)] == pytest.approx([1/3]*3)


@pytest.mark.parametrize("options, message", [
    ({"variables": X}, "one to three torsions of single atoms, but got 1 variables"),
    ({"variables": st.Variables.torsions([(0, 1, 2, 3)]*4)}, "but got 4 variables"),
    ({"variables": st.Variables.torsions([(0, 1, 2, 9)])}, "has 4 particles"),
    ({"biasFactor": 1.0}, "biasFactor above 1"),
    ({"height": 0.0}, "positive height"),
    ({"steps": 100}, "100 steps give 2 samples a walker"),
    ({"walkers": 0}, "walkers must be"),
    ({"gridWidth": 2}, "gridWidth must be"),
])
def testBadMetadynamics(options, message):
    with pytest.raises(ValueError, match=message):
        st.metadynamics(molecule(), **{"variables": PHI, "steps": 2000, **options})


# ---- torsions by name

@pytest.fixture(scope="module")
def trialanine():
    sys.path.insert(0, str(ROOT/"examples"))
    import studies

    return studies.peptide(3)


def testTorsionsByName(trialanine):
    topology, x = trialanine
    v = st.Variables.torsionsOf(topology)
    assert v.names == ["phi2", "psi2", "phi3", "psi3", "phi4", "psi4"]
    with np.load(ROOT/"tests"/"data"/"trialanine_500K.npz") as data:
        assert [a.atoms for a in v] == data["atoms"].tolist()
    assert st.Variables.torsionsOf(topology, ["psi"], residues=[3, "4"]).names == ["psi3", "psi4"]
    assert st.Variables.torsionsOf(topology, "omega phi", residues=[2]).names == ["omega2", "phi2"]
    # Where a bond is missing there is no torsion, although the residues are neighbours in the file.
    cut = app.Topology()
    chain, atoms = cut.addChain("A"), []
    for residue in topology.residues():
        own = cut.addResidue(residue.name, chain, residue.id)
        atoms += [cut.addAtom(a.name, a.element, own) for a in residue.atoms()]
    for a, b in topology.bonds():
        if {a.residue.id, b.residue.id} != {"3", "4"}:
            cut.addBond(atoms[a.index], atoms[b.index])
    assert st.Variables.torsionsOf(cut).names == ["phi2", "psi2", "phi3", "psi4"]
    for options, message in (({"kinds": "phi chi9"}, "but got 'chi9'"), ({"kinds": ""}, "but got none"), ({"kinds": "chi1"}, "found no chi1"), ({"residues": [8]}, "no residue 8; .* 1 to 5")):
        with pytest.raises(ValueError, match=message):
            st.Variables.torsionsOf(topology, **options)


def testTwoChains(trialanine):
    topology, x = trialanine
    both = app.Modeller(topology, x*unit.nanometer)
    both.add(topology, (x+1)*unit.nanometer)
    for chain, name in zip(both.topology.chains(), "AB"):
        chain.id = name
    names = st.Variables.torsionsOf(both.topology, "phi").names
    assert names == ["A.phi2", "A.phi3", "A.phi4", "B.phi2", "B.phi3", "B.phi4"]


def testMeasure(trialanine):
    import mdtraj

    topology, x = trialanine
    random = np.random.default_rng(3)
    frames = x+random.normal(scale=0.03, size=(5, *x.shape))
    v = st.Variables.torsionsOf(topology, "phi psi omega")
    trajectory = mdtraj.Trajectory(frames, mdtraj.Topology.from_openmm(topology))
    expected = mdtraj.compute_dihedrals(trajectory, [a.atoms for a in v], periodic=False)
    np.testing.assert_allclose(v.measure(frames), expected, atol=2e-5)
    np.testing.assert_allclose(v.measure(frames[2]*10*unit.angstrom), expected[2], atol=2e-5)
    for bad, message in (([[0, 1]], "shape"), (np.full((x.shape), np.nan), "not finite"), (x[:10], "does not exist; the System has 10 particles")):
        with pytest.raises(ValueError, match=message):
            v.measure(bad)
