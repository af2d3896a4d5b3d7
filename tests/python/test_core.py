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
