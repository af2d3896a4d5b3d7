# SPDX-License-Identifier: MIT
"""asCustomCVForce against SpacetimeForce, and against formulas by hand where that does not know the variables."""
import copy
import json
import warnings
from types import SimpleNamespace

import numpy as np
import openmm
import pytest
from openmm import unit

import openmmspacetime as st

KT = 8.31446261815324e-3*300
NODES = np.linspace(0, 1, 7)
POSITIONS = np.array([[0, 0, 0], [0.15, 0.02, 0], [0.2, 0.15, 0.03], [0.33, 0.17, 0.13], [0.36, 0.3, 0.2], [0.5, 0.31, 0.1]])
MASSES = [12.0, 1.0, 16.0, 14.0, 12.0, 1.0]


def variable(name, kind, atoms, axis=0, period=0.0, shift=0.0, scale=1.0, **others):
    return SimpleNamespace(name=name, kind=kind, atoms=atoms, axis=axis, period=period, shift=shift, scale=scale, **others)


def smooth(s):
    """Eight components that no low polynomial follows."""
    s = np.asarray(s)[..., None]
    return np.array([-30, 20, 5, 40, 40, 12, 7, 3])*np.sin(np.arange(1, 9)*(0.3+s))+np.arange(8)


CURVE = SimpleNamespace(s=NODES, eta=smooth(NODES))
VARIABLES = [variable("phi", "torsion", (0, 1, 2, 3), period=2*np.pi), variable("x", "coordinate", [2], 0, 0.0, 0.1, 0.25), variable("turn", "coordinate", (4,), 1, 0.37),
             variable("psi", "torsion", [2, 3, 4, 5], period=2*np.pi), variable("z", "coordinate", (5,), 2)]
# T = (|d|^2; cos, sin of phi; d of x; cos, sin of turn; cos, sin of psi; d of z): nine.
ETA9 = np.concatenate([smooth(NODES), 4*np.cos(3*NODES)[:, None]], axis=1)
CURVE9 = SimpleNamespace(s=NODES, eta=ETA9)


def makeContext(force, platform="Reference"):
    system = openmm.System()
    for mass in MASSES:
        system.addParticle(mass)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform(platform))
    context.setPositions(POSITIONS)
    return context


def evaluate(context, positions=None, **parameters):
    if positions is not None:
        context.setPositions(positions)
    for name, value in parameters.items():
        context.setParameter(name, value)
    state = context.getState(energy=True, forces=True, parameterDerivatives=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value, dict(state.getEnergyParameterDerivatives())


def constant(*eta):
    return SimpleNamespace(s=[0, 1], eta=[eta, eta])


def testAgainstSpacetimeForce():
    rng = np.random.default_rng(7)
    force = st.asCustomCVForce(CURVE9, VARIABLES, 300*unit.kelvin)
    ours, theirs = makeContext(st.SpacetimeForce(CURVE9, VARIABLES, 300)), makeContext(force)
    size = KT*np.abs(ETA9).max()
    for s in (*rng.random(20), 0.0, 1.0):
        positions = POSITIONS+0.2*rng.standard_normal(POSITIONS.shape)
        energy, forces, derivatives = evaluate(ours, positions, spacetime_s=s, spacetime_kT=KT*(1+s))
        energy2, forces2, derivatives2 = evaluate(theirs, positions, spacetime_s=s, spacetime_kT=KT*(1+s))
        assert abs(energy) > 1
        # 1e-6 of the largest component, times statistics of order 10 and their gradients of order 100/nm.
        assert energy2 == pytest.approx(energy, abs=1e-5*size)
        np.testing.assert_allclose(forces2, forces, rtol=1e-5, atol=1e-4*size)
        assert derivatives2["spacetime_kT"] == pytest.approx(derivatives["spacetime_kT"], abs=1e-5*size)
        # The derivative of a table is off by its error over its spacing.
        assert derivatives2["spacetime_s"] == pytest.approx(derivatives["spacetime_s"], rel=5e-3, abs=5e-3*size)
    raw = theirs.getSystem().getForce(0).getCollectiveVariableValues(theirs)
    expected = st.SpacetimeForce.cast(ours.getSystem().getForce(0)).getVariableValues(ours)
    for v, a, b in zip(VARIABLES, raw, expected):
        assert a-b == pytest.approx(v.period*round((a-b)/v.period) if v.period else 0, abs=1e-9)


def testTableAccuracy():
    """Off by less than 1e-6 of each component's size, with no more points than that takes."""
    force = st.asCustomCVForce(CURVE9, VARIABLES, 300)
    reference = st.SpacetimeForce(CURVE9, VARIABLES, 300)

    def error(columns):
        x = np.linspace(0, 1, len(columns[0]))
        from scipy.interpolate import CubicSpline
        s = np.linspace(0, 1, 30011)
        exact = np.array([reference.getEta(v) for v in s])
        return np.abs(CubicSpline(x, np.stack(columns, 1), bc_type="natural")(s)-exact).max(axis=0)/np.abs(exact).max(axis=0)

    columns = [force.getTabulatedFunction(i).getFunctionParameters()[0] for i in range(9)]
    points = len(columns[0])
    assert 129 < points < 8193
    assert error(columns).max() < 1.05e-6
    assert error([c[::2] for c in columns]).max() > 1e-6
    straight = st.asCustomCVForce(SimpleNamespace(s=[0, 1], eta=[[0, 1], [3, 1]]), VARIABLES[:1], 300)
    assert len(straight.getTabulatedFunction(0).getFunctionParameters()[0]) == 129
    given = st.asCustomCVForce(CURVE9, VARIABLES, 300, points=50)
    values = np.array(given.getTabulatedFunction(8).getFunctionParameters()[0])
    np.testing.assert_array_equal(values, [reference.getEta(s)[8] for s in np.linspace(0, 1, 50)])
    rough = np.random.default_rng(2).normal(size=(300, 2))
    with pytest.warns(UserWarning, match="with 8193 points, component [01] of eta is off by up to"):
        st.asCustomCVForce(SimpleNamespace(s=np.linspace(0, 1, 300), eta=rough), VARIABLES[:1], 300)


def testEndsAndClamp():
    """s beyond the ends is at the ends; derivatives at the ends are those of the curve."""
    curve = SimpleNamespace(s=[0, 1], eta=[[10, 0], [30, -20]])
    context = makeContext(st.asCustomCVForce(curve, VARIABLES[:1], 300))
    phi = context.getSystem().getForce(0).getCollectiveVariableValues(context)[0]
    T = np.array([np.cos(phi), np.sin(phi)])
    for s, eta, slope in ((0, [10, 0], 1), (1, [30, -20], 1), (-0.5, [10, 0], 0), (1.5, [30, -20], 0), (0.25, [15, -5], 1)):
        energy, _, derivatives = evaluate(context, spacetime_s=s)
        assert energy == pytest.approx(-KT*np.dot(eta, T), rel=1e-9)
        assert derivatives["spacetime_s"] == pytest.approx(-slope*KT*np.dot([20, -20], T), rel=1e-6, abs=1e-12)


def testTorsionAcrossItsSeam():
    """The raw torsion jumps by 2 pi at pi: energies and forces do not."""
    context = makeContext(st.asCustomCVForce(constant(30, 20), VARIABLES[:1], 300))
    reference = makeContext(st.SpacetimeForce(constant(30, 20), VARIABLES[:1], 300))
    raw = []
    for angle in np.pi+np.array([-1e-4, -1e-9, 0, 1e-9, 1e-4]):
        positions = POSITIONS.copy()
        positions[:4] = [[0.1, 0.1, 0], [0, 0, 0], [0, 0, 0.15], [0.1*np.cos(angle+np.pi/4), 0.1*np.sin(angle+np.pi/4), 0.2]]
        energy, forces, _ = evaluate(reference, positions)
        energy2, forces2, _ = evaluate(context, positions)
        assert energy2 == pytest.approx(energy, rel=1e-9)
        np.testing.assert_allclose(forces2, forces, rtol=1e-8, atol=1e-6)
        raw.append(context.getSystem().getForce(0).getCollectiveVariableValues(context)[0])
    assert np.ptp(raw) > 6


def testDistancesAndAnglesByHand():
    def bias(p):
        r = np.linalg.norm(p[3]-p[1])
        u, v = p[0]-p[2], p[4]-p[2]
        d = (r-0.2)/0.05, (np.arccos(u@v/np.linalg.norm(u)/np.linalg.norm(v))-1.5)/0.5
        return -KT*(-2*(d[0]**2+d[1]**2)+3*d[0]+5*d[1])

    context = makeContext(st.asCustomCVForce(constant(-2, 3, 5), [variable("r", "distance", [1, 3], shift=0.2, scale=0.05),
                                                                  variable("angle", "angle", (0, 2, 4), shift=1.5, scale=0.5)], 300))
    energy, forces, _ = evaluate(context)
    assert energy == pytest.approx(bias(POSITIONS), rel=1e-9)
    checkForces(forces, bias)


def checkForces(forces, bias, h=1e-5):
    for i in range(len(POSITIONS)):
        for k in range(3):
            step = np.zeros_like(POSITIONS)
            step[i, k] = h
            assert forces[i, k] == pytest.approx(-(bias(POSITIONS+step)-bias(POSITIONS-step))/(2*h), rel=1e-5, abs=1e-3)


def testCentroids():
    """Of equal weights unless others are given, not of the masses; an atom may stand beside them."""
    weights = np.array([3.0, 1.0, 2.0])
    weights /= weights.sum()

    def sites(p):
        return p[[0, 1]].mean(axis=0), weights@p[[2, 3, 4]]

    def bias(p):
        a, b = sites(p)
        u, v = a-b, p[5]-b
        angle = np.arccos(u@v/np.linalg.norm(u)/np.linalg.norm(v))
        d = np.linalg.norm(a-b), angle, b[2]
        return -KT*(-4*np.dot(d, d)+np.dot([1, 2, 3], d)+5*np.cos(2*np.pi*a[1]/0.3)+6*np.sin(2*np.pi*a[1]/0.3))

    w = [None, [3, 1, 2]]
    variables = [variable("d", "distance", [[0, 1], [2, 3, 4]], weights=w), variable("angle", "angle", [[0, 1], np.array([2, 3, 4]), 5], weights=[*w, None]),
                 variable("z", "coordinate", [(2, 3, 4)], axis=2, weights=w[1:]), variable("y", "coordinate", [(0, 1)], axis=1, period=0.3, weights=None)]
    energy, forces, _ = evaluate(makeContext(st.asCustomCVForce(constant(-4, 1, 2, 3, 5, 6), variables, 300)))
    assert energy == pytest.approx(bias(POSITIONS), rel=1e-9)
    checkForces(forces, bias)
    # One atom as a centroid is the atom, for torsions as well.
    torsions = [variable("phi", "torsion", atoms, period=2*np.pi) for atoms in ((0, 1, 2, 3), ([0], [1], [2], 3))]
    energies = [evaluate(makeContext(st.asCustomCVForce(constant(3, 5), [v], 300)))[0] for v in torsions]
    assert energies[1] == pytest.approx(energies[0], rel=1e-9)


def testForcesAsVariables():
    """RMSD and Rg by hand: one with shift and scale, one with a period."""
    reference = np.random.default_rng(5).normal(size=POSITIONS.shape)*0.2
    atoms = [0, 1, 2, 3, 5]

    def rmsd(p):
        a, b = p[atoms]-p[atoms].mean(axis=0), reference[atoms]-reference[atoms].mean(axis=0)
        u, _, v = np.linalg.svd(a.T@b)
        rotation = u@np.diag([1, 1, np.sign(np.linalg.det(u@v))])@v
        return np.sqrt(((a@rotation-b)**2).sum()/len(atoms))

    def bias(p):
        d = (rmsd(p)-0.1)/0.03
        angle = 2*np.pi*np.sqrt(((p-p.mean(axis=0))**2).sum()/len(p))/0.25
        return -KT*(-0.4*d*d+7*d+5*np.cos(angle)-8*np.sin(angle))

    forces = openmm.RMSDForce(reference, atoms), openmm.RGForce()
    curve = constant(-0.4, 7, 5, -8)
    force = st.asCustomCVForce(curve, [("rmsd", forces[0], 0, 1*unit.angstrom, 0.03), ["Rg", forces[1], 0.25*unit.nanometer]], 300)
    assert [force.getCollectiveVariable(i).getName() for i in range(2)] == ["rmsd", "Rg"]
    # Copies: the forces can be used again, also where they have become part of a System.
    assert forces[0].getName() == "RMSDForce"
    system = openmm.System()
    system.addForce(forces[1])
    st.asCustomCVForce(curve, [("rmsd", forces[0], 0, 0, 1), ("Rg", system.getForce(0), 1)], 300)
    for platform in ("Reference", "CPU"):
        energy, f, _ = evaluate(makeContext(copy.deepcopy(force), platform))
        assert energy == pytest.approx(bias(POSITIONS), rel=1e-5 if platform == "CPU" else 1e-9)
        if platform == "Reference":
            checkForces(f, bias)


def testMixedVariablesNamesAndPaths(tmp_path):
    """SpacetimeForce's variables beside forces, a parameter of another name, a curve from its file."""
    curve = {"format": "spacetime-curve", "version": 1, "temperature_K": 310.0, "s": [0, 0.5, 1], "eta": [[-3, 1, 2, 1], [-3, 3, 4, 1], [-3, 0, 9, 2]],
             "variables": [{"name": "phi", "type": "torsion", "unit": "rad", "period": 2*np.pi}, {"name": "r", "type": "distance", "unit": "nm"}]}
    path = tmp_path/"curve.json"
    path.write_text(json.dumps(curve))
    bond = openmm.CustomBondForce("size*r")
    bond.addGlobalParameter("size", 2)
    bond.addBond(0, 5)
    force = st.asCustomCVForce(path, [VARIABLES[0], ("r", bond)], parameterName="walker_s")
    context = makeContext(force)
    assert set(context.getParameters()) == {"walker_s", "spacetime_kT", "size"}
    assert context.getParameter("walker_s") == 0
    kT = 8.31446261815324e-3*310
    assert context.getParameter("spacetime_kT") == pytest.approx(kT, rel=1e-12)
    phi, r = context.getSystem().getForce(0).getCollectiveVariableValues(context)
    assert r == pytest.approx(2*np.linalg.norm(POSITIONS[5]-POSITIONS[0]))
    energy, _, derivatives = evaluate(context, walker_s=0.5)
    assert energy == pytest.approx(-kT*(-3*r*r+3*np.cos(phi)+4*np.sin(phi)+r), rel=1e-6)
    assert {"walker_s", "spacetime_kT"} <= set(derivatives)
    # What comes out is like any Force of OpenMM.
    twin = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(force))
    assert evaluate(makeContext(twin), walker_s=0.5)[0] == energy
    variables = st.Variables.torsions([(0, 1, 2, 3)], names=["phi"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert st.asCustomCVForce(constant(1, 2), variables, 300).getNumCollectiveVariables() == 1


TORSION = VARIABLES[0]
RG = openmm.RGForce()


@pytest.mark.parametrize("variables, message", [
    ([TORSION, TORSION], r"expected eta to have 4 components, as many as T has for the variables \(phi, phi\), but the curve's has 2"),
    ([VARIABLES[1], VARIABLES[4]], "expected eta to have 3 components, .* but the curve's has 2"),
    ([], r"expected eta to have 0 components, as many as T has for the variables \(none\), but the curve's has 2"),
    ([variable("n", "number", ())], "variable 'n' is of kind 'number', but expected torsion, angle, distance, coordinate"),
    ([variable("p", "position", (3,), frame=None)], "variable 'p' is of kind 'position', .*; use SpacetimeForce"),
    ([variable("phi", "torsion", ())], "variable 'phi' of kind 'torsion' needs 4 atoms or centroids, but has 0"),
    (st.Variables.torsions([()], names=["phi"]), "variable 'phi' of kind 'torsion' needs 4 atoms or centroids, but has 0"),
    ([variable("r", "distance", (1, 2, 3))], "variable 'r' of kind 'distance' needs 2 atoms or centroids, but has 3"),
    ([variable("x", "coordinate", (1,), axis=3)], "variable 'x' needs an axis of 0, 1 or 2 .*, but has 3"),
    ([("Rg",)], r"expected a variable .* or a tuple \(name, force\), .* but got \('Rg',\)"),
    ([("Rg", RG, 0, 0.1)], "or a tuple"),
    ([("Rg", "RGForce")], "or a tuple"),
    ([(RG, "Rg")], "or a tuple"),
    ([RG], "or a tuple"),
    ([("Rg", RG, -1)], "variable 'Rg' needs a period of 0 or more, .* but has -1.0, 0.0 and 1.0"),
    ([("Rg", RG, 0, 0, 0)], "variable 'Rg' needs .* a positive scale, but has 0.0, 0.0 and 0.0"),
    ([("Rg", RG, 0, np.nan, 1)], "variable 'Rg' needs .* a finite shift .*, but has 0.0, nan and 1.0"),
    ([("Rg", RG, 2, 0.5, 1)], "variable 'Rg' has the period 2.0, .* takes neither shift nor scale, but has 0.5 and 1.0"),
])
def testRefusedVariables(variables, message):
    with pytest.raises(ValueError, match=f"asCustomCVForce: .*{message}"):
        st.asCustomCVForce(constant(1, 2), variables, 300)


def testRefusedArguments():
    curve = constant(1, 2)
    with pytest.raises(ValueError, match="no temperature"):
        st.asCustomCVForce(curve, [TORSION])
    with pytest.raises(ValueError, match="at least 2 points, but points is 1"):
        st.asCustomCVForce(curve, [TORSION], 300, points=1)
    for name in ("spacetime_kT", "u", "v0", "eta12", "d3", "two words", "", "1st"):
        with pytest.raises(ValueError, match=f"parameterName is '{name}'"):
            st.asCustomCVForce(curve, [TORSION], 300, parameterName=name)
    with pytest.raises(ValueError, match="shape"):
        st.asCustomCVForce(SimpleNamespace(s=[0, 1], eta=[1, 2]), [TORSION], 300)
