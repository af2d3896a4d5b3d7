# SPDX-License-Identifier: MIT
"""replicate: the System of many copies against single copies, each in another conformation."""
import copy
import gzip
import pathlib

import numpy as np
import openmm
import pytest
from openmm import app

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pdb():
    return app.PDBFile(str(ROOT/"examples"/"alanine_dipeptide"/"alanine_dipeptide.pdb"))


def makeTopology(count):
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for i in range(count):
        topology.addAtom(f"C{i}", app.Element.getBySymbol("C"), residue)
    return topology


def makeSystem(*forces, count=6):
    system = openmm.System()
    for i in range(count):
        system.addParticle(10.0+i)
    for force in forces:
        system.addForce(force)
    return system


POSITIONS = np.array([[0, 0, 0], [0.15, 0.02, 0], [0.2, 0.15, 0.03], [0.33, 0.17, 0.13], [0.36, 0.3, 0.2], [0.5, 0.31, 0.1]])


def makeContext(system):
    return openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))


def evaluate(context, positions):
    context.setPositions(positions)
    context.computeVirtualSites()
    state = context.getState(energy=True, forces=True, parameterDerivatives=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value, dict(state.getEnergyParameterDerivatives())


def checkCopies(system, topology, positions, n=4, spread=0.01, parameters=None):
    """The replicated System, after its energies, forces and derivatives were found to be those of single copies in different conformations."""
    positions = np.asarray(positions)
    conformations = positions+spread*np.random.default_rng(1).standard_normal((n, *positions.shape))
    many, manyTopology = st.replicate(system, topology, n)
    assert many.getNumParticles() == manyTopology.getNumAtoms() == n*system.getNumParticles()
    single, all_ = makeContext(system), makeContext(many)
    for name, value in (parameters or {}).items():
        single.setParameter(name, value)
        all_.setParameter(name, value)
    expected = [evaluate(single, p) for p in conformations]
    energy, forces, derivatives = evaluate(all_, conformations.reshape(-1, 3))
    energies = [e for e, _, _ in expected]
    assert np.ptp(energies) > 1e-3*np.abs(energies).max()
    assert energy == pytest.approx(sum(energies), rel=1e-9)
    separate = np.concatenate([f for _, f, _ in expected])
    np.testing.assert_allclose(forces, separate, rtol=1e-8, atol=1e-8*np.abs(separate).max())
    assert derivatives.keys() == expected[0][2].keys()
    for name, value in derivatives.items():
        assert value == pytest.approx(sum(d[name] for _, _, d in expected), rel=1e-9)
    return many, manyTopology


def testAlanineDipeptide(pdb):
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    for i, force in enumerate(system.getForces()):
        force.setForceGroup(i+3)
    before = openmm.XmlSerializer.serialize(system)
    many, topology = checkCopies(system, pdb.topology, pdb.positions._value)
    assert openmm.XmlSerializer.serialize(system) == before
    assert many.getNumConstraints() == 4*system.getNumConstraints() > 0
    assert many.getConstraintParameters(many.getNumConstraints()-1)[:2] == [i+3*22 for i in system.getConstraintParameters(system.getNumConstraints()-1)[:2]]
    assert [many.getParticleMass(i) for i in range(22, 44)] == [system.getParticleMass(i) for i in range(22)]
    groups = {f.getName(): f.getForceGroup() for f in system.getForces()}
    assert groups.pop("CMMotionRemover")
    assert {f.getName(): f.getForceGroup() for f in many.getForces()} == groups
    for k, chain in enumerate(topology.chains()):
        atoms = list(chain.atoms())
        assert [a.index for a in atoms] == list(range(22*k, 22*k+22))
        assert [(a.name, a.element, a.residue.name, a.residue.id) for a in atoms] == [(a.name, a.element, a.residue.name, a.residue.id) for a in pdb.topology.atoms()]
    bonds = [(a.index, b.index) for a, b in topology.bonds()]
    single = [(a.index, b.index) for a, b in pdb.topology.bonds()]
    assert bonds == [(i+22*k, j+22*k) for k in range(4) for i, j in single]


def testCostIsLinear(pdb):
    """As many bonds in each copy, however many copies there are."""
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)

    def counts(n):
        return np.array([f.getNumBonds() for f in st.replicate(system, pdb.topology, n)[0].getForces() if hasattr(f, "getNumBonds")])

    one = counts(1)
    nonbonded = system.getForce(2)
    excluded = sum(e[2]._value == 0 and e[4]._value == 0 for e in map(nonbonded.getExceptionParameters, range(nonbonded.getNumExceptions())))
    assert one[1] == 22*21//2-excluded
    np.testing.assert_array_equal(counts(37), 37*one)


def testCmapAndTabulatedPairs(pdb):
    """CHARMM36 has a CMAP, and Lennard-Jones energies from tables of pairs of types."""
    # ForceField("charmm36_2024.xml").createSystem(pdb.topology, constraints=app.HBonds), which takes OpenMM more than a minute.
    system = openmm.XmlSerializer.deserialize(gzip.decompress((ROOT/"tests"/"data"/"alanine_charmm36.xml.gz").read_bytes()).decode())
    assert {"CMAPTorsionForce", "CustomNonbondedForce", "CustomBondForce"} < {type(f).__name__ for f in system.getForces()}
    checkCopies(system, pdb.topology, pdb.positions._value)


def testWaterWithVirtualSite():
    topology = app.Topology()
    residue = topology.addResidue("HOH", topology.addChain("W"), "7", "B")
    atoms = [topology.addAtom(name, app.Element.getBySymbol(name[0]) if name != "M" else None, residue) for name in ("O", "H1", "H2", "M")]
    topology.addBond(atoms[0], atoms[1])
    topology.addBond(atoms[0], atoms[2])
    topology.setUnitCellDimensions((2, 3, 4))
    system = app.ForceField("tip4pew.xml").createSystem(topology, nonbondedMethod=app.NoCutoff, rigidWater=False)
    # Something for the charge on the site to feel.
    field = openmm.CustomExternalForce("strength*q*(x^2-z)")
    field.addGlobalParameter("strength", 300)
    field.addPerParticleParameter("q")
    for i, q in enumerate((0, 0.5, 0.5, -1)):
        field.addParticle(i, [q])
    system.addForce(field)
    positions = np.array([[0, 0, 0], [0.0957, 0, 0], [-0.024, 0.0927, 0], [0.01, 0.01, 0]])
    many, manyTopology = checkCopies(system, topology, positions, parameters={"strength": 200})
    assert [many.isVirtualSite(i) for i in range(8)] == [False, False, False, True]*2
    assert many.getVirtualSite(7).getParticle(0) == 4
    assert (many.getDefaultPeriodicBoxVectors()[2]-system.getDefaultPeriodicBoxVectors()[2])._value == openmm.Vec3(0, 0, 0)
    assert manyTopology.getPeriodicBoxVectors() == topology.getPeriodicBoxVectors()
    assert {(r.id, r.insertionCode) for r in manyTopology.residues()} == {("7", "B")}


def externalForce(count):
    force = openmm.CustomExternalForce("100*(x-y)^2+z*50")
    for i in range(count):
        force.addParticle(i)
    return force


@pytest.mark.parametrize("site", [
    openmm.TwoParticleAverageSite(0, 2, 0.3, 0.7), openmm.ThreeParticleAverageSite(2, 1, 3, 0.2, 0.3, 0.5), openmm.OutOfPlaneSite(0, 1, 2, 0.3, 0.4, -2.0),
    openmm.LocalCoordinatesSite([1, 2, 3, 4], [0.2, 0.3, 0.1, 0.4], [-1, 0.5, 0.25, 0.25], [0.5, -1, 0.5, 0], openmm.Vec3(0.1, 0.05, -0.02)),
])
def testVirtualSites(site):
    system = makeSystem(externalForce(6))
    system.setParticleMass(5, 0)
    system.setVirtualSite(5, site)
    checkCopies(system, makeTopology(6), POSITIONS)


def bondedForces():
    """One of each force made of terms, with what options it has."""
    bonds = openmm.HarmonicBondForce()
    bonds.addBond(4, 5, 0.17, 3000)
    angles = openmm.HarmonicAngleForce()
    angles.addAngle(0, 1, 2, 1.5, 200)
    torsions = openmm.PeriodicTorsionForce()
    torsions.addTorsion(0, 1, 2, 3, 2, 0.4, 7)
    rb = openmm.RBTorsionForce()
    rb.addTorsion(1, 2, 3, 4, 1, 2, 3, 4, 5, 6)
    cmap = openmm.CMAPTorsionForce()
    cmap.addMap(4, np.random.default_rng(3).normal(size=16)*10)
    cmap.addTorsion(0, 0, 1, 2, 3, 1, 2, 3, 4)
    customBond = openmm.CustomBondForce("k*(r-r0)^2*stiff")
    customBond.addBond(0, 3, [800, 0.3])
    customBond.addBond(1, 4, [700, 0.2])
    customAngle = openmm.CustomAngleForce("k*theta^2*stiff+r0")
    customAngle.addAngle(1, 2, 3, [30, 0])
    customTorsion = openmm.CustomTorsionForce("k*cos(theta-r0)*stiff")
    customTorsion.addTorsion(2, 3, 4, 5, [30, 1])
    compound = openmm.CustomCompoundBondForce(3, "k*table(distance(p1,p3))*stiff*x2+r0")
    compound.addTabulatedFunction("table", openmm.Continuous1DFunction([1.0, 2.0, 4.0, 3.0], 0, 1))
    compound.addBond([5, 0, 2], [400, 0])
    external = openmm.CustomExternalForce("k*periodicdistance(x,y,z,r0,0,0)^2*stiff")
    external.addParticle(3, [500, 0.1])
    for force in (customBond, customAngle, customTorsion, compound, external):
        for name in ("k", "r0"):
            getattr(force, [m for m in dir(force) if m.startswith("addPer")][0])(name)
        force.addGlobalParameter("stiff", 1.0)
        if force is not external:
            force.addEnergyParameterDerivative("stiff")
    for force in (bonds, customTorsion):
        force.setUsesPeriodicBoundaryConditions(True)
    return [bonds, angles, torsions, rb, cmap, customBond, customAngle, customTorsion, compound, external]


@pytest.mark.parametrize("force", bondedForces(), ids=lambda f: f.getName())
def testTerms(force):
    force = copy.deepcopy(force)
    force.setName("a name")
    force.setForceGroup(9)
    system = makeSystem(force)
    system.setDefaultPeriodicBoxVectors((0.4, 0, 0), (0, 0.5, 0), (0, 0, 0.6))
    parameters = {"stiff": 1.7} if hasattr(force, "addGlobalParameter") else {}
    many, _ = checkCopies(system, makeTopology(6), POSITIONS, parameters=parameters)
    twin = many.getForce(0)
    assert (type(twin), twin.getName(), twin.getForceGroup()) == (type(force), "a name", 9)
    assert twin.usesPeriodicBoundaryConditions() == force.usesPeriodicBoundaryConditions()


def customNonbonded(energy):
    force = openmm.CustomNonbondedForce(energy)
    force.addPerParticleParameter("a")
    force.addPerParticleParameter("type")
    force.addGlobalParameter("scale", 1.0)
    force.addEnergyParameterDerivative("scale")
    for i in range(6):
        force.addParticle([1+0.2*i, i % 2])
    force.addExclusion(1, 0)
    force.addExclusion(2, 3)
    return force


def testCustomNonbonded():
    force = customNonbonded("scale*e*exp(-3*r)/r*(1+0.3*type1*type2); e=a1*a2")
    many, _ = checkCopies(makeSystem(force), makeTopology(6), POSITIONS, parameters={"scale": 2.5})
    assert isinstance(many.getForce(0), openmm.CustomBondForce)
    assert many.getForce(0).getNumBonds() == 4*13


def testCustomNonbondedWithTables():
    force = customNonbonded("scale*e*height(type1,type2)*decay(r); e=a1*a2;")
    force.addTabulatedFunction("height", openmm.Discrete2DFunction(2, 2, [1.0, 2.0, 2.0, 5.0]))
    force.addTabulatedFunction("decay", openmm.Continuous1DFunction([3.0, 2.0, 1.2, 0.5], 0, 1.5))
    checkCopies(makeSystem(force), makeTopology(6), POSITIONS, parameters={"scale": 2.5})


def testExceptionsOfNonbondedForce():
    """Their own parameters, also where they lack charge or well; pairs without either are left out."""
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
    for q, sigma, epsilon in ((0.3, 0.2, 0.5), (-0.4, 0.3, 0.2), (0, 0.25, 0.7), (0, 1, 0), (0.1, 1, 0), (0.5, 0.1, 0.3)):
        force.addParticle(q, sigma, epsilon)
    force.addException(0, 1, 0, 0.3, 0)
    force.addException(2, 1, 0.7, 0.2, 0.9)
    force.addException(3, 4, 0.2, 1, 0)
    force.addException(5, 0, 0, 0.3, 0.4)
    many, _ = checkCopies(makeSystem(force), makeTopology(6), POSITIONS)
    bonds = {tuple(many.getForce(0).getBondParameters(i)[:2]) for i in range(many.getForce(0).getNumBonds()//4)}
    assert bonds == {(0, 2), (0, 4), (0, 5), (1, 2), (1, 4), (1, 5), (2, 5), (3, 4), (4, 5)}


def testOneCopyAndDefaultName(pdb):
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    checkCopies(system, pdb.topology, pdb.positions._value, n=2)
    many, _ = st.replicate(system, pdb.topology, np.int64(1))
    assert many.getNumParticles() == 22


# What is refused

def changed(force, *calls):
    for name, *arguments in calls:
        getattr(force, name)(*arguments)
    return force


def nonbonded(*calls):
    force = openmm.NonbondedForce()
    for _ in range(6):
        force.addParticle(0.1, 0.3, 0.2)
    force.addException(0, 1, 0, 1, 0)
    force.addGlobalParameter("p", 0.0) if any("Offset" in c[0] for c in calls) else None
    return changed(force, *calls)


REFUSED = [
    (openmm.MonteCarloBarostat(1, 300), "MonteCarloBarostat: the box is one for all copies"),
    (openmm.MonteCarloMembraneBarostat(1, 0, 300, 0, 0), "MonteCarloMembraneBarostat: the box"),
    (openmm.GBSAOBCForce(), "GBSAOBCForce: its Born radii"),
    (openmm.CustomGBForce(), "CustomGBForce: its Born radii"),
    (openmm.CustomCVForce("1"), "CustomCVForce: a function of sums"),
    (openmm.AndersenThermostat(300, 1), "AndersenThermostat: take an integrator"),
    (openmm.RMSDForce(POSITIONS), "RMSDForce: whether it would couple"),
    (openmm.CustomCentroidBondForce(1, "x1"), "CustomCentroidBondForce: whether it would couple"),
    (nonbonded(("setNonbondedMethod", openmm.NonbondedForce.PME)), "NonbondedForce: expected the method NoCutoff"),
    (nonbonded(("setNonbondedMethod", openmm.NonbondedForce.CutoffNonPeriodic), ("setName", "water")), "NonbondedForce 'water': expected the method NoCutoff"),
    (nonbonded(("addParticleParameterOffset", "p", 0, 1, 0, 0)), "NonbondedForce: expected none of its particle parameter offsets, but there are 1"),
    (nonbonded(("addExceptionParameterOffset", "p", 0, 1, 0, 0)), "NonbondedForce: expected none of its exception parameter offsets, but there are 1"),
    (nonbonded(("addGlobalParameter", "p", 0.0)), "NonbondedForce: expected none of its global parameters, but there are 1"),
    (nonbonded(("setExceptionsUsePeriodicBoundaryConditions", True)), "NonbondedForce: its exceptions use periodic"),
    (changed(customNonbonded("r"), ("setNonbondedMethod", openmm.CustomNonbondedForce.CutoffPeriodic)), "CustomNonbondedForce: expected the method NoCutoff"),
    (changed(customNonbonded("r"), ("addInteractionGroup", [0], [1])), "CustomNonbondedForce: expected none of its interaction groups"),
    (changed(customNonbonded("r"), ("addComputedValue", "v", "a")), "CustomNonbondedForce: expected none of its computed values"),
    (changed(customNonbonded("t(r)*x1; x1=a1*a2"), ("addTabulatedFunction", "t", openmm.Continuous1DFunction([1.0, 2.0], 0, 1))),
     "CustomNonbondedForce: .* name x1, which has a meaning of its own"),
]


@pytest.mark.parametrize("force, message", REFUSED, ids=[f"{f.getName()}{i}" for i, (f, _) in enumerate(REFUSED)])
def testRefusedForces(force, message):
    with pytest.raises(ValueError, match=f"replicate: cannot copy the {message}"):
        st.replicate(makeSystem(copy.deepcopy(force)), makeTopology(6), 2)


def testRefusedVirtualSite():
    system = makeSystem()
    system.setParticleMass(5, 0)
    system.setVirtualSite(5, openmm.SymmetrySite(0, (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0), False))
    with pytest.raises(ValueError, match="particle 5 is a virtual site of a kind"):
        st.replicate(system, makeTopology(6), 2)


def testArguments():
    system, topology = makeSystem(), makeTopology(6)
    for n in (0, -3):
        with pytest.raises(ValueError, match=f"at least 1 copy, but n is {n}"):
            st.replicate(system, topology, n)
    with pytest.raises(TypeError):
        st.replicate(system, topology, 2.5)
    with pytest.raises(ValueError, match="which has 6 particles, but got one of 5 atoms"):
        st.replicate(system, makeTopology(5), 2)
    with pytest.raises(ValueError, match="SpacetimeForce, but the System has none"):
        st.replicate(system, topology, 2, intercept=[0, 1])
    force = st.SpacetimeForce(s=[0, 1], eta=[[0, 1]]*2, temperature=300)
    force.addTorsion(0, 1, 2, 3)
    system.addForce(force)
    with pytest.raises(ValueError, match=r"intercept of shape \[2\], one number for each copy, but got \[3\]"):
        st.replicate(system, topology, 2, intercept=[0, 1, 2])
    with pytest.raises(ValueError, match=r"slope of shape \[2\], one number for each copy, but got \[\]"):
        st.replicate(system, topology, 2, slope=1.0)
    with pytest.raises(ValueError, match=r"slope\[1\] is nan"):
        st.replicate(system, topology, 2, slope=[1, np.nan])
    with pytest.raises(ValueError, match=r"intercept\[0\] is inf"):
        st.replicate(system, topology, 2, intercept=[np.inf, 0])
