# SPDX-License-Identifier: MIT
"""Minimum free-energy paths on surfaces with known passes, and the figures of driven curves on a surface; no molecular dynamics."""
import math

import numpy as np
import pytest
from openmm import unit

pytest.importorskip("scipy")
import openmmspacetime as st
from openmmspacetime.surface import GAS_CONSTANT, wrap

KT = GAS_CONSTANT * 300.0
A, B = (-2.58, 2.79), (1.09, -0.88)  # C5 and C7ax of alanine dipeptide


def gridded(function, n=72):
    x = -np.pi + 2 * np.pi * np.arange(n) / n
    return function(np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1))


def muellerBrown(c):
    """Müller and Brown, Theor. Chim. Acta 53, 75 (1979)."""
    x, y = c[..., 0], c[..., 1]
    rows = [(-200, -1, 0, -10, 1, 0), (-100, -1, 0, -10, 0, 0.5), (-170, -6.5, 11, -6.5, -0.5, 1.5), (15, 0.7, 0.6, 0.7, -1, 1)]
    return sum(h * np.exp(a * (x - x0) ** 2 + b * (x - x0) * (y - y0) + d * (y - y0) ** 2) for h, a, b, d, x0, y0 in rows)


def ring(c):
    """A valley along psi = sin phi with minima at cos phi = -0.15, a pass of 4 at phi = pi and one of 16 at phi = 0."""
    return 20 * (1 - np.cos(c[..., 1] - np.sin(c[..., 0]))) + 10 * np.cos(2 * c[..., 0]) + 6 * np.cos(c[..., 0])


WELL = math.acos(-0.15)
RING_A, RING_B = (-WELL, -math.sin(WELL)), (WELL, math.sin(WELL))


@pytest.fixture(scope="module")
def alanine(alanineSamples):
    return st.FreeEnergySurface.fromSamples(*alanineSamples, temperature=300.0)


@pytest.fixture(scope="module")
def ringSurface():
    return st.FreeEnergySurface(gridded(ring), description="ring")


@pytest.fixture(scope="module")
def muellerBrownPath():
    return st.minimumFreeEnergyPath(muellerBrown, (-0.558, 1.442), (0.623, 0.028), tolerance=0.01)


class TestDerivatives:
    def testOfTheSplineAgreeWithDifferences(self, alanine):
        c, h = np.random.default_rng(1).uniform(-7, 7, (300, 2)), 1e-5
        e = h * np.eye(2)
        gradient = np.stack([(alanine(c + e[j]) - alanine(c - e[j])) / (2 * h) for j in range(2)], axis=-1)
        np.testing.assert_allclose(alanine.gradient(c), gradient, atol=1e-5)
        hessian = np.stack([(alanine.gradient(c + e[j]) - alanine.gradient(c - e[j])) / (2 * h) for j in range(2)], axis=-1)
        np.testing.assert_allclose(alanine.hessian(c), hessian, atol=0.05)

    def testOfAnyShape(self, ringSurface):
        assert ringSurface.gradient(np.zeros((3, 4, 2))).shape == (3, 4, 2)
        assert ringSurface.hessian(np.zeros(2)).shape == (2, 2)
        with pytest.raises(ValueError, match=r"\[\.\.\., 2\]"):
            ringSurface.hessian(np.zeros(3))


class TestMinimumFreeEnergyPath:
    def testMuellerBrown(self, muellerBrownPath):
        path = muellerBrownPath
        assert path.converged and path.residual < 0.01 and path.others == []
        assert path.saddle[0] == pytest.approx([-0.822, 0.624], abs=1e-3)
        assert [f for _, f in path.passes] == pytest.approx([-40.665, -72.249], abs=1e-3)
        assert path.passes[1][0] == pytest.approx([0.212, 0.293], abs=1e-3)
        np.testing.assert_allclose(path.path[[0, -1]], [(-0.558, 1.442), (0.623, 0.028)])
        np.testing.assert_allclose(path.freeEnergy, muellerBrown(path.path))
        assert path.freeEnergy.max() == pytest.approx(path.saddle[1], abs=0.1)
        steps = np.linalg.norm(np.diff(path.path, axis=0), axis=1)
        assert np.ptp(steps) < 0.05 * steps.mean()

    def testThePathFollowsTheGradient(self, muellerBrownPath):
        x = muellerBrownPath.path[3:-3]
        h, e = 1e-5, 1e-5 * np.eye(2)
        gradient = np.stack([(muellerBrown(x + e[j]) - muellerBrown(x - e[j])) / (2 * h) for j in range(2)], axis=-1)
        t = np.gradient(x, axis=0, edge_order=2)
        t /= np.linalg.norm(t, axis=1, keepdims=True)
        normal = gradient - np.sum(gradient * t, axis=1, keepdims=True) * t
        assert np.linalg.norm(normal, axis=1).max() < 2.0  # second-order tangents of 129 nodes, forces of up to 300

    @pytest.mark.parametrize("onGrid", [True, False])
    def testRoundTheSeam(self, ringSurface, onGrid):
        if onGrid:
            best = st.minimumFreeEnergyPath(ringSurface, RING_A, RING_B, points=65)
            lowest = gridded(ring).min()
        else:
            best = st.minimumFreeEnergyPath(ring, RING_A, RING_B, points=65, periods=(2 * np.pi, 2 * np.pi))
            lowest = 0.0
        assert best.converged and len(best.others) == 3
        assert best.saddle[1] + lowest == pytest.approx(4.0, abs=0.01)
        assert np.abs(wrap(best.saddle[0] - [np.pi, 0])).max() < 1e-3
        assert np.abs(np.diff(best.path, axis=0)).max() < 0.2  # unwrapped
        assert np.ptp(best.path + best.path[::-1], axis=0).max() < 1e-3  # as symmetric about the pass as the surface
        through = min(best.others, key=lambda p: p.saddle[1])
        assert through.saddle[1] + lowest == pytest.approx(16.0, abs=0.01)
        assert [p.saddle[1] for p in best.others] == sorted(p.saddle[1] for p in best.others)
        for p in (best, *best.others):
            turns = (p.path[-1] - p.path[0] - wrap(np.array(RING_B) - RING_A)) / (2 * np.pi)
            np.testing.assert_allclose(turns, p.windings, atol=1e-6)

    def testHighestPointOnAlanineIsTheLowestPass(self, alanine):
        best = st.minimumFreeEnergyPath(alanine, A, B)
        position, height = alanine.saddle(A, B)
        assert best.converged and best.residual < 0.05
        assert best.saddle[1] == pytest.approx(height, abs=0.05)
        assert np.abs(wrap(best.saddle[0] - position)).max() < 0.01
        assert best.freeEnergy.max() == pytest.approx(height, abs=0.05)
        # It leaves by the low pass of 7 kJ/mol to C7eq, not over the one of 33 kJ/mol.
        assert sorted(f for _, f in best.passes)[-2] < 10
        assert all(p.saddle[1] > height - 0.05 for p in best.others)

    def testEndsStayOrSlide(self, ringSurface):
        a = np.array(RING_A) + [0.3, -0.2]
        stays = st.minimumFreeEnergyPath(ringSurface, a, RING_B, points=65, windings=(0, 0))
        np.testing.assert_allclose(stays.path[0], a)
        assert stays.converged and len(stays.others) == 0
        assert np.linalg.norm(stays.path - RING_A, axis=1).min() < 0.05  # by way of the minimum
        slides = st.minimumFreeEnergyPath(ringSurface, a, RING_B, points=65, relaxEnds=True, windings=(0, 0))
        assert slides.path[0] == pytest.approx(RING_A, abs=1e-3)
        assert slides.saddle[1] == pytest.approx(stays.saddle[1], abs=1e-6)

    def testOneAndThreeVariables(self):
        one = st.minimumFreeEnergyPath(lambda c: 20 * (c[..., 0] ** 2 - 1) ** 2, [-1.0], [1.0], points=33)
        assert one.saddle[0] == pytest.approx([0.0], abs=1e-4) and one.saddle[1] == pytest.approx(20.0, abs=1e-4)

        def tube(c):
            return ring(c) + 30 * (c[..., 2] - 0.2 * np.cos(c[..., 0])) ** 2

        ends = [(*e, 0.2 * math.cos(e[0])) for e in (RING_A, RING_B)]
        three = st.minimumFreeEnergyPath(tube, *ends, points=49, periods=(2 * np.pi, 2 * np.pi, 0), windings=(0, 0, 0))
        assert three.converged and three.saddle[1] == pytest.approx(4.0, abs=1e-3)
        assert np.abs(wrap(three.saddle[0][:2] - [np.pi, 0])).max() < 1e-3 and three.saddle[0][2] == pytest.approx(-0.2, abs=1e-3)

    def testEndsInOneBasin(self, ringSurface):
        path = st.minimumFreeEnergyPath(ringSurface, RING_A, np.array(RING_A) + [0.2, 0.1], points=33, windings=(0, 0))
        assert path.passes == [] and path.saddle[0] == pytest.approx(path.path[-1])
        with pytest.raises(ValueError, match="same minimum"):
            st.minimumFreeEnergyPath(ringSurface, RING_A, np.array(RING_A) + [0.2, 0.1], relaxEnds=True)

    def testAsACurve(self, muellerBrownPath, ringSurface, torsions):
        path = st.minimumFreeEnergyPath(ringSurface, RING_A, RING_B, points=65, windings=(0, 0))
        curve = path.curve(torsions, logSnr=3.0, temperature=300 * unit.kelvin)
        assert curve.temperature == 300 and curve.eta.shape == (65, 4)
        np.testing.assert_allclose(wrap(torsions.center(curve.eta) - path.path), 0, atol=1e-12)
        np.testing.assert_allclose(np.hypot(*curve.eta[:, :2].T), math.exp(3.0))
        length = np.linalg.norm(np.diff(path.path, axis=0), axis=1)
        np.testing.assert_allclose(np.diff(curve.s), length / length.sum(), atol=1e-12)
        with pytest.raises(ValueError, match="expected 2 variables, got 1"):
            muellerBrownPath.curve(st.Variables.numbers(["x"]))

    def testWarnsWhereItDidNotConverge(self):
        with pytest.warns(UserWarning, match="did not converge"):
            path = st.minimumFreeEnergyPath(muellerBrown, (-0.558, 1.442), (0.623, 0.028), points=33, tolerance=1e-14, maxIterations=3)
        assert not path.converged and path.residual > 1e-14

    @pytest.mark.parametrize("change, message", [
        (dict(a=(math.nan, 0)), "a is .*finite"), (dict(a=(0, 0, 0)), "expected a to hold 2"), (dict(b=(1.0,)), "expected b to hold 2"),
        (dict(b=RING_A), "same point"), (dict(b=(RING_A[0] + 2 * np.pi, RING_A[1])), "same point"), (dict(points=4), "at least 5 points"),
        (dict(tolerance=0), "positive tolerance"), (dict(windings=(0.5, 0)), "whole turns"), (dict(periods=(0, 0)), "knows its periods"),
        (dict(F=3), "FreeEnergySurface or a callable"), (dict(F=lambda c: c), "values of shape"),
        (dict(F=lambda c: np.where(c[..., 0] > 0, np.nan, 0.0)), "F is nan at"), (dict(F=ring, periods=(1, -1)), "periods of 0"),
        (dict(F=ring, windings=(1, 0)), "not periodic"),
    ])
    def testRejects(self, ringSurface, change, message):
        with pytest.raises(ValueError, match=message):
            st.minimumFreeEnergyPath(**{**dict(F=ringSurface, a=RING_A, b=RING_B), **change})

    def testRejectsEndsWhereNothingWasSampled(self):
        sampled = np.ones((72, 72), dtype=bool)
        sampled[:9] = False
        surface = st.FreeEnergySurface(gridded(ring), sampled=sampled)
        with pytest.raises(ValueError, match="b = .* outside the sampled part"):
            st.minimumFreeEnergyPath(surface, RING_A, (-3.0, 0.0))


class TestStiffness:
    def testOfAHarmonicSurface(self):
        k, l, scale = 40.0, 2.0, 0.5
        numbers = st.Variables([st.Variable.number("x").scaled(0.3, scale), st.Variable.number("y").scaled(0.0, scale)])
        curve = st.straightLine(numbers, (-0.2, 0.1), (0.4, 0.3), logSnr=l, points=9)
        model = st.EmpiricalModel(np.random.default_rng(1).normal(0, 0.3, (5000, 2)), numbers)
        conv = st.stiffness(curve, model, lambda c: 0.5 * k * c[..., 0] ** 2 + k * c[..., 1] ** 2, 300.0)
        assert conv.shape == (9,)
        np.testing.assert_allclose(conv, k / KT + math.exp(l) / scale**2, rtol=1e-5)

    def testOfTorsionsIsTheCurvatureOfTheTiltedFreeEnergy(self, ringSurface, torsions):
        curve = st.minimumFreeEnergyPath(ringSurface, RING_A, RING_B, points=17, windings=(0, 0)).curve(torsions, logSnr=1.0)
        model = ringSurface.model(torsions, 300 * unit.kelvin)
        conv = st.stiffness(curve, model, ringSurface, 300 * unit.kelvin)
        mean = torsions.meanPosition(curve.measure(model).mu)

        def tilted(c, eta):
            return ringSurface(c) / KT - torsions.statistic(c.reshape(-1, 2)).dot(eta).reshape(c.shape[:-1])

        h = 1e-3
        e = h * np.eye(2)
        for m, eta, value in zip(mean, curve.eta, conv):
            corners = [[sum(p * q * tilted((m + p * e[i] + q * e[j])[None], eta)[0] for p in (1, -1) for q in (1, -1)) for j in range(2)] for i in range(2)]
            H = np.array(corners) / (4 * h * h)
            assert value == pytest.approx(np.linalg.eigvalsh(H)[0], abs=0.05)
        assert conv.min() < conv[0]  # softest away from the wells

    def testFallsBelowZeroOnABarrierUnderAWeakBias(self, ringSurface, torsions):
        curve = st.straightLine(torsions, (np.pi - 0.3, 0), (np.pi + 0.3, 0), logSnr=0.0, points=5)
        assert st.stiffness(curve, ringSurface.model(torsions, 300), ringSurface, 300).min() < 0
        stiff = st.straightLine(torsions, (np.pi - 0.3, 0), (np.pi + 0.3, 0), logSnr=4.0, points=5)
        assert st.stiffness(stiff, ringSurface.model(torsions, 300), ringSurface, 300).min() > 10

    def testRejects(self, ringSurface, torsions):
        model = ringSurface.model(torsions, 300)
        curve = st.straightLine(torsions, RING_A, RING_B)
        with pytest.raises(ValueError, match="temperature"):
            st.stiffness(curve, model, ringSurface, -1)
        with pytest.raises(ValueError, match="temperature"):
            st.stiffness(curve, model, ringSurface, None)
        with pytest.raises(ValueError, match="FreeEnergySurface or a callable"):
            st.stiffness(curve, model, np.zeros((9, 9)), 300)
        numbers = st.Variables.numbers(["x", "y"])
        with pytest.raises(ValueError, match="two torsions"):
            st.highestFreeEnergy(st.straightLine(numbers, (0, 0), (1, 1)), model, ringSurface)


def testHighestFreeEnergyOfMeanAndCentre(ringSurface, torsions):
    model = ringSurface.model(torsions, 300)
    path = st.minimumFreeEnergyPath(ringSurface, RING_A, RING_B, windings=(0, 0))
    mean, center = st.highestFreeEnergy(path.curve(torsions, logSnr=4.0), model, ringSurface)
    assert center == pytest.approx(path.saddle[1], abs=0.02)
    assert mean == pytest.approx(path.saddle[1], abs=0.3)
    line = st.straightLine(torsions, RING_A, RING_B, windings=(0, 0))
    mean, center = st.highestFreeEnergy(line, model, ringSurface)
    assert center == pytest.approx(ringSurface.highestAlong(torsions.center(line.eta)))
    assert mean == pytest.approx(ringSurface.highestAlong(torsions.meanPosition(line.measure(model).mu)))
    assert center > path.saddle[1] - 1e-6


class TestGridModel:
    def testMomentsAreThoseOfTheSurface(self, alanine, torsions):
        model = alanine.model(torsions, 300.0)
        eta = np.array([torsions.naturalParameter(A, 4.0), torsions.naturalParameter(B, 2.0), torsions.naturalParameter((0.0, 0.0), -5.0)])
        moments = model.moments(eta)
        x = -np.pi + 2 * np.pi * (np.arange(403) + 0.3) / 403  # another and finer grid
        c = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)
        T, logW = torsions.statistic(c), -alanine(c) / KT
        for k, e in enumerate(eta):
            p = np.exp(T @ e + logW - np.max(T @ e + logW))
            p /= p.sum()
            mu = p @ T
            np.testing.assert_allclose(moments.mu[k], mu, atol=1e-4)
            np.testing.assert_allclose(moments.J[k], ((T - mu) * p[:, None]).T @ (T - mu), atol=1e-4)

    def testFile(self, ringSurface, torsions, tmp_path):
        path = tmp_path / "grid.npz"
        ringSurface.saveGrid(path, torsions, 300 * unit.kelvin, bins=40)
        samples = st.readSamples(str(path))
        assert samples.grid and samples.x.shape == (1600, 2) and samples.variables.names == ["phi", "psi"]
        eta = torsions.naturalParameter(RING_A, 2.0)[None]
        again = st.EmpiricalModel(samples.x, samples.variables, samples.logWeights, grid=True)
        np.testing.assert_allclose(again.moments(eta).mu, ringSurface.model(torsions, 300, bins=40).moments(eta).mu, atol=1e-12)
        with pytest.raises(ValueError, match="exists"):
            ringSurface.saveGrid(path, torsions, 300)
        ringSurface.saveGrid(path, torsions, 300, overwrite=True)
        assert [f.name for f in tmp_path.iterdir()] == ["grid.npz"]
        with pytest.raises(ValueError, match="ends in .npz"):
            ringSurface.saveGrid(tmp_path / "grid.csv", torsions, 300)

    def testGeodesicsOnIt(self, ringSurface, torsions):
        curve = st.geodesic(ringSurface.model(torsions, 300, bins=120), RING_A, RING_B, points=17, preset="transition")
        assert curve.eta.shape == (17, 4)

    @pytest.mark.parametrize("change, message", [(dict(bins=4), "at least 8 bins"), (dict(temperature=0), "positive temperature"),
                                                 (dict(temperature=None), "temperature"), (dict(variables=st.Variables.numbers(["x", "y"])), "period of 2 pi")])
    def testRejects(self, ringSurface, torsions, change, message):
        with pytest.raises(ValueError, match=message):
            ringSurface.model(**{**dict(variables=torsions, temperature=300), **change})


class TestCriticalKappa:
    def testClosedForm(self):
        """F = 12 cos(phi) + 3 cos(psi): F'' averaged over a Gaussian of width w is -12 cos(phi) exp(-w^2/2)."""
        x = -np.pi + 2 * np.pi * np.arange(72) / 72
        surface = st.FreeEnergySurface(12 * np.cos(x)[:, None] + 3 * np.cos(x)[None, :])
        kT = GAS_CONSTANT * 300
        for width in (0.01, 0.3):
            assert st.criticalKappa([(0.0, 2.0), (1.0, 2.0)], surface, 300, width) == pytest.approx(12 * np.exp(-(width**2) / 2) / kT, rel=1e-3)
        assert st.criticalKappa([(0.5, 2.0)], surface, 300 * unit.kelvin, 0.01) == pytest.approx(12 * np.cos(0.5) / kT, rel=1e-3)
        assert st.criticalKappa([(np.pi, np.pi)], surface, 300) == 0

    @pytest.mark.parametrize("arguments", [([(0.0,)], 300), ([(0.0, np.nan)], 300), ([(0.0, 1.0)], None), ([(0.0, 1.0)], 300, 0.0), ([(0.0, 1.0)], -1)])
    def testBadInput(self, arguments):
        surface = st.FreeEnergySurface(np.zeros((8, 8)))
        with pytest.raises(ValueError, match="expected"):
            st.criticalKappa(arguments[0], surface, *arguments[1:])
