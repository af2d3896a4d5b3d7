# SPDX-License-Identifier: MIT
"""Exponential and logarithm maps, divergences and the metric from Python: closed forms, shapes, errors."""
import math

import numpy as np
import pytest

import openmmspacetime as st


@pytest.fixture(scope="module")
def gaussian():
    """Two dimensions, N(0.4, 1.5): posteriors are Gaussians."""
    return st.GaussianMixtureModel(np.full((1, 2), 0.4), [1.5], [1.0])


@pytest.fixture(scope="module")
def circle():
    """A torsion without a preference: posteriors are von Mises distributions."""
    return st.EmpiricalModel(np.linspace(0, 2 * math.pi, 360, endpoint=False)[:, None], st.Variables.torsions([(0, 1, 2, 3)], names=["a"]), grid=True)


def posterior(eta):
    v = 1 / (1 / 1.5 - 2 * eta[0])
    return v * (0.4 / 1.5 + eta[1:]), v


def kl(a, b):
    (ma, va), (mb, vb) = posterior(a), posterior(b)
    return 0.5 * (np.sum((ma - mb) ** 2) / vb + 2 * (va / vb - 1 - math.log(va / vb)))


def testMapsAreInverse(gaussian):
    a, b = gaussian.variables.naturalParameter((0.1, 0.3), 3), gaussian.variables.naturalParameter((0.5, 0.6), 2.3)
    velocity = st.logarithmMap(gaussian, a, b)
    assert velocity.shape == (3,)
    (ma, va), (mb, vb) = posterior(a), posterior(b)
    ya, yb = 2 * math.sqrt(va), 2 * math.sqrt(vb)
    exact = 2 * math.acosh(1 + (np.sum((ma - mb) ** 2) + (ya - yb) ** 2) / (2 * ya * yb))
    assert math.sqrt(velocity @ st.fisherInformation(gaussian, a) @ velocity) == pytest.approx(exact, rel=1e-8)
    shot = st.exponentialMap(gaussian, a, velocity, points=33)
    assert shot.eta.shape == shot.velocity.shape == (33, 3)
    assert shot.length == pytest.approx(exact, rel=1e-8) and shot.speedError < 1e-6 and math.isnan(shot.minNEff)
    np.testing.assert_allclose(shot.eta[-1], b, rtol=1e-6)
    np.testing.assert_array_equal(shot.velocity[0], velocity)
    np.testing.assert_array_equal(shot.curve.eta, shot.eta)
    np.testing.assert_allclose(shot.curve.s, np.linspace(0, 1, 33), atol=1e-15)
    assert shot.curve.measure(gaussian).length == pytest.approx(exact, rel=1e-3) and shot.curve.length == shot.length
    # The way back starts against the velocity of arrival.
    np.testing.assert_allclose(st.logarithmMap(gaussian, b, a), -shot.velocity[-1], rtol=1e-5)


def testLists(gaussian):
    a, b = [-5.0, 1.0, 2.0], [-4.0, 1.5, 2.0]
    assert st.exponentialMap(gaussian, a, st.logarithmMap(gaussian, a, b), points=2).eta[1] == pytest.approx(b, rel=1e-6)
    assert not st.logarithmMap(gaussian, a, a).any()


def testDivergences(gaussian):
    rng = np.random.default_rng(1)
    a = np.array([gaussian.variables.naturalParameter(rng.normal(size=2), l) for l in (-2, 0, 3, 5)])
    b = gaussian.variables.naturalParameter((0.7, -0.2), 2)
    forward, backward = st.klDivergence(gaussian, a, b), st.klDivergence(gaussian, b, a)
    assert forward.shape == (4,)
    np.testing.assert_allclose(forward, [kl(x, b) for x in a], rtol=1e-10)
    np.testing.assert_allclose(backward, [kl(b, x) for x in a], rtol=1e-10)
    np.testing.assert_allclose(st.klDivergence(gaussian, a, b, integrate=True), forward, rtol=1e-9)
    np.testing.assert_allclose(st.jeffreysDivergence(gaussian, a, b), forward + backward, rtol=1e-10)
    one = st.klDivergence(gaussian, a[0], b)
    assert isinstance(one, float) and one == forward[0]
    assert isinstance(st.jeffreysDivergence(gaussian, a[0], b), float)
    assert st.klDivergence(gaussian, a, a).tolist() == [0] * 4
    # By the definition of psi, and its derivatives.
    assert st.klDivergence(gaussian, a[1], b) == pytest.approx(
        st.logPartition(gaussian, b) - st.logPartition(gaussian, a[1]) - (b - a[1]) @ gaussian.moments(a[1:2]).mu[0], rel=1e-12
    )


def testMetric(gaussian, circle):
    eta = np.array([[-3.0, 1.0, 0.5], [-0.5, 0.0, 2.0]])
    H = st.fisherInformation(gaussian, eta)
    assert H.shape == (2, 3, 3) and st.fisherInformation(gaussian, eta[0]).shape == (3, 3)
    np.testing.assert_allclose(H, gaussian.moments(eta).J)
    assert st.logPartition(gaussian, eta).shape == (2,) and isinstance(st.logPartition(gaussian, eta[0]), float)
    h = 1e-4
    second = [st.logPartition(gaussian, eta[0] + x) for x in (np.array([0, -h, 0]), np.zeros(3), np.array([0, h, 0]))]
    assert (second[0] - 2 * second[1] + second[2]) / h**2 == pytest.approx(H[0, 1, 1], rel=1e-5)
    # In (log kappa, phase) the metric of a von Mises distribution is diagonal and does not depend on the phase.
    polar = st.fisherInformation(circle, [[3.0, 0.0], [0.0, 3.0]], coordinates=True)
    np.testing.assert_allclose(polar[0], polar[1], atol=1e-10)
    assert abs(polar[0, 0, 1]) < 1e-10
    assert polar[0, 1, 1] == pytest.approx(3 * circle.moments([[3.0, 0.0]]).mu[0, 0])
    assert st.logPartition(circle, [2.0, 0.0]) == pytest.approx(math.log(np.i0(2.0)), abs=1e-12)


def testFewSamplesAreNamed(circle):
    with pytest.warns(UserWarning, match="effective samples"):
        st.exponentialMap(circle, (300, 0), (300, 0))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda g: st.exponentialMap(g, (-1, 0), (0, 0, 0)), "start point: expected 3 finite"),
        (lambda g: st.exponentialMap(g, (-1, 0, 0), (0, math.nan, 0)), "velocity of 3 finite numbers"),
        (lambda g: st.exponentialMap(g, (-1, 0, 0), "fast"), "expected"),
        (lambda g: st.exponentialMap(g, (-1, 0, 0), (0, 1, 0), points=1), "at least 2 points"),
        (lambda g: st.exponentialMap(g, (-1, 0, 0), (0, 1, 0), tolerance=0), "positive tolerance"),
        (lambda g: st.exponentialMap(g, (-1, 0, 0), (9, 0, 0)), "ends at t = .* leaves spacetime"),
        (lambda g: st.logarithmMap(g, (-1, 0, 0), (1, 0, 0)), "end point: eta_l = -e"),
        (lambda g: st.logarithmMap(g, (-1, 0, 0), (-2, 0, 0), tolerance=-1), "positive tolerance"),
        (lambda g: st.klDivergence(g, (-1, 0, 0), (1, 0, 0)), "second point: eta_l"),
        (lambda g: st.klDivergence(g, (-1, 0), (-1, 0, 0)), r"etaA: expected natural parameters \[3\] or \[N, 3\]"),
        (lambda g: st.jeffreysDivergence(g, np.zeros((2, 3)), np.zeros((3, 3))), "got 2 and 3"),
        (lambda g: st.fisherInformation(g, np.zeros((1, 1, 3))), "eta: expected natural parameters"),
        (lambda g: st.fisherInformation(g, (0, 0, 1), coordinates=True), "log-SNR is minus infinity"),
        (lambda g: st.logPartition(g, [(-1, 0, 0), (-1, 0, math.inf)]), "point 1: expected 3 finite"),
        (lambda g: st.logPartition(g, "x"), "eta: expected numbers"),
    ],
)
def testBadInput(gaussian, call, message):
    with pytest.raises(ValueError, match=message):
        call(gaussian)
