# SPDX-License-Identifier: MIT
"""The Python face of the core: shapes, units, errors, and a geodesic with a closed form."""
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from openmm import unit

import openmmspacetime as st

A, B = (-2.58, 2.79), (1.09, -0.88)


@pytest.fixture(scope="module")
def alanine(alanineSamples, torsions):
    x, w = alanineSamples
    return st.EmpiricalModel(x, torsions, logWeights=w)


def testGaussianDistance():
    model = st.GaussianMixtureModel(np.zeros((1, 2)), np.ones(1), np.ones(1))
    a, b, l = np.array([-0.4, 0.1]), np.array([0.3, 0.2]), 3.0
    curve = st.geodesic(model, a, b, logSnr=l)
    v = 1 / (1 + math.exp(l))
    y = math.sqrt(4 * v)
    exact = 2 * math.acosh(1 + np.sum((v * math.exp(l) * (a - b)) ** 2) / (2 * y * y))
    assert curve.lengthExtrapolated == pytest.approx(exact, abs=1e-6)
    assert curve.speedGap < 1e-6


def testMomentsShapesAndDefinition(alanineSamples, torsions):
    x, w = alanineSamples
    model = st.EmpiricalModel(x[:2000], torsions, logWeights=w[:2000])
    eta = np.array([torsions.naturalParameter(A, 2.0), torsions.naturalParameter(B, 1.0)])
    m = model.moments(eta)
    assert m.mu.shape == (2, 4) and m.J.shape == (2, 4, 4) and m.psi.shape == (2,) and m.nEff.shape == (2,)
    T = torsions.statistic(x[:2000])
    p = np.exp(T @ eta[1] + w[:2000] - np.max(T @ eta[1] + w[:2000]))
    p /= p.sum()
    mean = p @ T
    np.testing.assert_allclose(m.mu[1], mean, atol=1e-12)
    np.testing.assert_allclose(m.J[1], ((T - mean) * p[:, None]).T @ (T - mean), atol=1e-12)
    np.testing.assert_allclose(torsions.center(eta), [A, B], atol=1e-12)


def testTransitionGeodesicOfAlanine(alanine):
    results = st.geodesics(alanine, A, B, preset="transition", temperature=300 * unit.kelvin)
    assert len(results) == 4 and all(r.converged for r in results)
    best = results[0]
    kappa = np.linalg.norm(best.curve.eta.reshape(-1, 2, 2), axis=2)
    assert kappa.min() >= 25 * (1 - 1e-9)
    bounds = {c.name: c for c in best.constraints}
    assert bounds["tr Cov"].bound == 0.05 and bounds["tr Cov"].extreme == pytest.approx(0.05, rel=5e-3), "the bound is active and holds between the nodes"
    assert best.curve.solution["converged"] and len(best.curve.solution["constraints"]) == 3
    assert best.measure.speedGap < 1e-2
    assert best.curve.temperature == 300
    # The lowest pass from C5 to C7ax lies near phi = 0, psi = -0.7: both torsions take the long way round.
    assert [abs(w) for w in best.windings] == [1, 1]
    assert best.maxFreeEnergy < min(r.maxFreeEnergy for r in results[1:]) - 1
    finer = st.geodesics(alanine, A, B, preset="transition", points=257)[0]
    assert finer.measure.lengthExtrapolated == pytest.approx(best.measure.lengthExtrapolated, rel=1e-3)


def testUnitsOfEndPoints(alanine):
    degrees = [math.degrees(v) * unit.degree for v in A]
    a = st.geodesic(alanine, degrees, B, minLogSnr=4, points=17)
    b = st.geodesic(alanine, A, B, minLogSnr=4, points=17)
    np.testing.assert_allclose(a.eta, b.eta, rtol=1e-9, atol=1e-9)


def testEndPointOutsideTheRange(torsions):
    x = np.random.default_rng(1).normal(0, 0.2, (2000, 2))
    model = st.EmpiricalModel(x, torsions)
    with pytest.raises(ValueError, match="outside the range of the samples"):
        st.geodesic(model, (0, 0), (2.5, 2.5))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(logSnr=math.nan), "finite log-SNR"),
        (dict(points=3), "at least 5 points"),
        (dict(minKappa=100), "below the bound"),
        (dict(minKappa=-1), "finite bounds"),
        (dict(preset="fast"), "expected preset"),
        (dict(route="scenic"), "expected route"),
        (dict(temperature=-3), "positive temperature"),
    ],
)
def testBadOptions(alanine, change, message):
    with pytest.raises(ValueError, match=message):
        st.geodesic(alanine, A, B, **change)


def testBadSamples(torsions):
    x = np.zeros((10, 2))
    with pytest.raises(ValueError, match="expected 2 values a sample, got 3"):
        st.EmpiricalModel(np.zeros((10, 3)), torsions)
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="sample 3"):
        st.EmpiricalModel(x, torsions)
    with pytest.raises(ValueError, match="log weights"):
        st.EmpiricalModel(np.zeros((10, 2)), torsions, logWeights=np.zeros(9))
    with pytest.raises(ValueError, match="expected 2 values"):
        st.straightLine(torsions, (0, 0, 0), A)
    with pytest.raises(ValueError, match="same atom twice"):
        st.Variables.torsions([(1, 2, 3, 1)])


#: Where four sites of a frame belong, in nm.
REFERENCE = np.array([[0, 0, 0], [0.15, 0, 0], [0, 0.2, 0], [0.1, 0.1, 0.3]])


def testSitesInPython():
    d = st.Variable.distance("d", [[0, 1, 2], 17], weights=[[12, 1, 1], None])
    assert d.atoms == [[0, 1, 2], 17] and d.weights == [[12.0, 1.0, 1.0], None] and d.frame is None
    assert st.Variable.angle("a", [np.int64(1), (2, 3), np.array([4, 5])]).atoms == [1, [2, 3], [4, 5]]
    assert st.Variable.distance("d", [[0, 1, 2], 17], weights=[[2, 2, 2], None]).weights is None
    assert st.Variable.torsion("phi", (4, 6, 8, 14)).atoms == [4, 6, 8, 14]
    assert st.Variable.torsion("phi").atoms == []
    c = st.Variable.coordinate("c", [3, 4], 2, weights=[1, 3])
    assert (c.atoms, c.weights, c.axis) == ([[3, 4]], [[1.0, 3.0]], 2)
    with pytest.raises(ValueError, match="'d', weights of sites .*: expected 2, got 1"):
        st.Variable.distance("d", [[0, 1, 2], 17], weights=[[12, 1, 1]])
    with pytest.raises(TypeError):
        st.Variable.distance("d", [0, "CA"])
    with pytest.raises(TypeError):
        st.Variable.distance("d", [0, 1.5])


def testManyVariablesInPython():
    d = st.Variables.distances([(0, 5), ([0, 1], [2, 3])], weights=[None, [None, [16, 1]]])
    assert d.names == ["distance1", "distance2"] and d[0].weights is None and d[1].weights == [None, [16.0, 1.0]]
    a = st.Variables.angles([(0, [1, 2], 3)], names=["bend"])
    assert (a[0].kind, a[0].unit, a[0].atoms) == ("angle", "rad", [0, [1, 2], 3])
    t = st.Variables.torsions(np.array([[4, 6, 8, 14]]), names=["phi"])
    both = t + d + a
    assert both.names == ["phi", "distance1", "distance2", "bend"] and both.numStatistics == 1 + 2 + 3
    assert [v.kind for v in both] == ["torsion", "distance", "distance", "angle"]
    assert t.names == ["phi"], "the terms are left as they were"
    assert both == st.Variables.fromJson(both.toJson()) and both != t + d
    with pytest.raises(ValueError, match="variable 1 \\('phi'\\) repeats a name"):
        t + t
    with pytest.raises(TypeError):
        t + [st.Variable.number("n")]
    with pytest.raises(ValueError, match="names: expected 1, got 2"):
        st.Variables.angles([(0, 1, 2)], names=["a", "b"])
    with pytest.raises(ValueError, match="weights of variables: expected 1, got 2"):
        st.Variables.distances([(0, 1)], weights=[None, None])
    with pytest.raises(ValueError, match="overlapping"):
        st.Variables.distances([(0, [1, 0])])
    with pytest.raises(ValueError, match="2 atoms or centroids, got 3"):
        st.Variables.distances([(0, 1, 2)])


def testPositions():
    v = st.Variables.positions([0, 1, 2, [3, 4]], REFERENCE, atomWeights=[None, None, None, [12, 1]])
    assert v.names[:4] == ["position1.x", "position1.y", "position1.z", "position2.x"] and len(v) == 12
    assert [u.axis for u in v] == [0, 1, 2] * 4
    assert v[9].atoms == [[3, 4]] and v[9].weights == [[12.0, 1.0]] and v[9].kind == "position" and v[9].unit == "nm"
    frame = v[0].frame
    assert frame.atoms == [0, 1, 2, [3, 4]] and frame.atomWeights == [None, None, None, [12.0, 1.0]] and frame.weights is None
    np.testing.assert_array_equal(frame.reference, REFERENCE)
    assert v[11].frame is frame

    w = st.Variables.positions([7], 10 * REFERENCE * unit.angstrom, weights=[1, 2, 3, 4], frameAtoms=[10, 11, 12, [13, 14]], names=["N"], frameAtomWeights=[None] * 3 + [[1, 2]])
    np.testing.assert_allclose(w[0].frame.reference, REFERENCE, rtol=1e-15)
    np.testing.assert_array_equal(w[0].frame.weights, [1, 2, 3, 4])
    assert w.names == ["N.x", "N.y", "N.z"] and w[2].atoms == [7]
    assert w[0].frame.atoms == [10, 11, 12, [13, 14]] and w[0].frame.atomWeights == [None, None, None, [1.0, 2.0]]

    both = v + st.Variables.distances([(0, 5)]) + w
    again = st.Variables.fromJson(both.toJson())
    frames = [item.get("frame") for item in json.loads(again.toJson())]
    assert frames[1:13] == [0] * 11 + [None] and frames[14:] == [1, 1]
    assert frames[0]["reference"] == REFERENCE.tolist() and frames[13]["weights"] == [1, 2, 3, 4]
    assert again == both and again[11].frame is again[0].frame and again[13].frame is not again[0].frame
    assert v != st.Variables.positions([0, 1, 2, [3, 4]], 1.01 * REFERENCE, atomWeights=[None, None, None, [12, 1]])
    # Sets made apart on equal frames share one once they are together.
    x, y = (st.Variables.positions([i], REFERENCE, frameAtoms=[0, 1, 2, 3], names=[str(i)]) for i in (8, 9))
    assert x[0].frame is not y[0].frame and (x + y)[0].frame is (x + y)[5].frame


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(atoms=[0, 1]), "variable 0 .'position1.x'., frame: expected at least 3 sites, which fix a rotation, got 2"),
        (dict(atoms=[0, 1, 2, [3, 2]]), "frame has overlapping sites: atom 2 is in site 2 and in site 3"),
        (dict(reference=REFERENCE[:3]), "x, y, z of 4 sites as the reference, got 3 numbers for each of 3"),
        (dict(reference=REFERENCE[:, :2]), "got 2 numbers for each of 4"),
        (dict(reference=REFERENCE[0]), "reference: expected an array of 2 dimensions, got 1"),
        (dict(reference=REFERENCE * np.array([1, np.nan, 1])), "site 0: expected a finite reference"),
        (dict(reference=np.outer([0, 1, 2, 5], [1, 1, 0])), "three points not on a line"),
        (dict(weights=[1, 1, 1]), "each of 4 sites, got 3"),
        (dict(weights=[1, 1, 0, 1]), "got 0 as weight 2"),
        (dict(names=["a"]), "names: expected 4, got 1"),
        (dict(atomWeights=[None]), "weights of sites .*: expected 4, got 1"),
    ],
)
def testBadPositions(change, message):
    with pytest.raises(ValueError, match=message):
        st.Variables.positions(**{"atoms": [0, 1, 2, 3], "reference": REFERENCE, **change})


def testCurveFile(tmp_path, alanine):
    curve = st.geodesic(alanine, A, B, minLogSnr=4, points=33, temperature=300)
    path = tmp_path / "curve.json"
    curve.save(str(path))
    with pytest.raises(ValueError, match="exists"):
        curve.save(str(path))
    again = st.Curve.load(str(path))
    np.testing.assert_array_equal(again.eta, curve.eta)
    assert again.length == curve.length and again.variables == curve.variables
    h = 1e-6
    np.testing.assert_allclose(again.derivative(0.37), (again.evaluate(0.37 + h) - again.evaluate(0.37 - h)) / (2 * h), rtol=1e-5, atol=1e-4)
    content = json.loads(path.read_text())
    content["version"] = 9
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="upgrade"):
        st.Curve.load(str(path))
    path.write_text("{")
    with pytest.raises(ValueError, match="not a curve file"):
        st.Curve.load(str(path))


def testEqualSpacingOfTheNullLine(alanine, torsions):
    line = st.straightLine(torsions, A, B, logSnr=4, windings=(1, -1))
    even = line.respaced(alanine)
    assert line.measure(alanine).speedGap > 10 * even.measure(alanine).speedGap
    assert even.measure(alanine).length == pytest.approx(line.measure(alanine).length, rel=1e-2)


def testSimulatingAndSolvingNeedNoTorch():
    """LibTorch is opened for training only: not at import, nor by a geodesic, nor by a network's evaluation."""
    code = """
import numpy as np, openmmspacetime as st
st.geodesic(st.GaussianMixtureModel(np.zeros((1, 1)), np.ones(1), np.ones(1)), [-1.0], [1.0])
assert "torch" not in open("/proc/self/maps").read(), "LibTorch was loaded"
import sys
assert "torch" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
