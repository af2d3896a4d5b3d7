# SPDX-License-Identifier: MIT
"""Probability-density geodesics from Python: fields, paths, sequences, files and figures."""
import json
import pickle
import re
import signal
import warnings

import numpy as np
import pytest
from openmm import unit

import openmmspacetime as st
from openmmspacetime import plots
from openmmspacetime.surface import GAS_CONSTANT

MEANS, VARIANCES, WEIGHTS = np.array([[-1.0, 0.4], [1.2, -0.2], [0.3, 1.1]]), np.array([0.05, 0.1, 0.2]), np.array([0.5, 0.3, 0.2])
A, B = np.array([-1.0, 0.5]), np.array([1.0, 1.0])


def halfPlane(**options):
    """p = y: at tau = 1 the metric is that of Poincare's half-plane, whose geodesics are circles about points of y = 0."""
    return st.CallableDensity(lambda x: np.stack([np.zeros(len(x)), 1 / x[:, 1]], axis=1), 2, logDensity=lambda x: np.log(x[:, 1]),
                              rangeProblem=lambda x: "" if x[1] > 0 else f"lies at y = {x[1]:.3g}, below the half-plane", **options)


def mixture(means=MEANS):
    return st.GaussianMixtureModel(means, VARIANCES, WEIGHTS)


@pytest.fixture(scope="module")
def surface(alanineSamples):
    return st.FreeEnergySurface.fromSamples(*alanineSamples, temperature=300)


def circle(a, b):
    """Centre on y = 0 and radius of the circle through two points of the half-plane."""
    c = (b @ b - a @ a) / (2 * (b[0] - a[0]))
    return np.array([c, 0.0]), np.hypot(a[0] - c, a[1])


def testHalfPlane():
    field = halfPlane()
    path = st.densityGeodesic(field, A, B, tolerance=1e-6)
    center, radius = circle(A, B)
    assert path.converged and path.residual < 1e-6 and path.outside == "" and path.variables is None and path.logSnr is None
    assert np.max(np.abs(np.linalg.norm(path.path - center, axis=1) - radius)) < 1e-4 * radius
    exact = np.arccosh(1 + (A - B) @ (A - B) / (2 * A[1] * B[1]))
    assert path.distance == pytest.approx(A[1] * exact, rel=1e-5)
    assert path.logDensity == pytest.approx(np.log(path.path[:, 1] / A[1]), abs=1e-4)
    assert path.evaluations > 0 and path.spacing < 1e-3
    # The straight line is longer in the metric, and its own profile says so.
    line = st.densityProfile(field, st.lerp(A, B, 33))
    slope = (B[1] - A[1]) / (B[0] - A[0])
    assert line.distance == pytest.approx(A[1] * np.hypot(1, slope) / slope * np.log(B[1] / A[1]), rel=1e-4) and line.distance > 1.02 * path.distance
    assert line.length == pytest.approx(np.linalg.norm(B - A)) and not line.converged
    assert np.max(np.abs(path.path - st.densityGeodesic(field, A, B, start=st.lerp(A, B, 5), tolerance=1e-6).path)) < 1e-4


def testExtrapolationContinuesGeodesics():
    field = halfPlane()
    path = st.densityGeodesic(field, A, B, tolerance=1e-6)
    center, radius = circle(A, B)
    onward = st.extrapolate(field, path, length=0.8)
    assert onward.path[0] == pytest.approx(B) and onward.length == pytest.approx(0.8, rel=1e-3) and onward.maxSpeedError < 1e-6
    assert np.max(np.abs(np.linalg.norm(onward.path - center, axis=1) - radius)) < 1e-4
    assert onward.path[-1, 0] > B[0]
    # From A along the tangent there the geodesic comes to B.
    tangent = np.array([A[1], center[0] - A[0]])
    arc = radius * np.ptp(np.arctan2(*(np.array([A, B]) - center).T))
    shot = st.extrapolate(field, A, direction=5 * tangent, length=arc)
    assert shot.path[-1] == pytest.approx(B, abs=1e-6)
    # Straight up there is nothing to bend the path.
    up = st.extrapolate(field, A, toward=A + [0, 2.0])
    assert up.path[-1] == pytest.approx(A + [0, 2.0], abs=1e-9)


def testPathsThatLeaveTheRange():
    field = halfPlane()
    with pytest.warns(UserWarning, match=r"ends at length .* of 40.*below the half-plane"):
        path = st.extrapolate(field, A, direction=[1, 0.2], length=40)
    assert path.length < 5 and "below the half-plane" in path.outside and np.all(path.path[:, 1] > 0)
    strip = st.CallableDensity(lambda x: np.zeros_like(x), 2, rangeProblem=lambda x: "lies in the unknown middle" if abs(x[0]) < 0.1 else None)
    with pytest.warns(UserWarning, match="leaves the range in which its density is known: .*lies in the unknown middle"):
        st.densityGeodesic(strip, [-1, 0], [1, 0])


def testSurfaceDensity(surface):
    field = surface.density(300 * unit.kelvin)
    beta = 1 / (GAS_CONSTANT * 300)
    x = np.random.default_rng(1).uniform(-4, 4, (50, 2))
    e = 1e-5 * np.eye(2)
    numeric = np.stack([-beta * (surface(x + d) - surface(x - d)) / 2e-5 for d in e], axis=1)
    assert field.score(x) == pytest.approx(numeric, rel=1e-5, abs=1e-5)
    assert field.logDensity(x) == pytest.approx(-beta * surface(x)) and field.periods == pytest.approx([2 * np.pi] * 2) and field.hasLogDensity
    with pytest.raises(ValueError, match="temperature"):
        surface.density(None)
    sampled = np.ones((12, 12), dtype=bool)
    sampled[3, 0] = False
    partly = st.FreeEnergySurface(np.zeros((12, 12)), sampled=sampled).density(300)
    for turn in (0, 2 * np.pi):
        assert "lies where no sample supports the surface" in partly.rangeProblem([-np.pi / 2 + 0.2, np.pi - 0.2 + turn])
        assert partly.rangeProblem([-np.pi / 2 + 0.3, np.pi + turn]) == ""


def testMaxFlux(surface, torsions):
    """At tau = 1 the density distance on a surface is the integral of exp(F/kT): the path crosses the lowest pass."""
    a, b = surface.nearestMinimum((-2.6, 2.8)), surface.nearestMinimum((1.05, -0.75))
    field = surface.density(300)
    paths = st.densityGeodesics(field, a, b)
    best = paths[0]
    assert best.converged and [p.logDistance for p in paths] == sorted(p.logDistance for p in paths) and len({tuple(p.windings) for p in paths}) == len(paths) == 4
    lowest = st.minimumFreeEnergyPath(surface, a, b)
    assert surface(best.path).max() == pytest.approx(lowest.saddle[1], abs=0.5)
    assert best.freeEnergy(300) == pytest.approx(surface(best.path) - surface(a), abs=0.05)
    # It is the shortest of what there is.
    assert best.logDistance < st.densityProfile(field, lowest).logDistance + 1e-3 and best.logDistance < st.densityProfile(field, st.lerp(a, b)).logDistance - 1
    # By quadrature of its own definition.
    fine = st.densityProfile(field, best).path
    F = surface(0.5 * (fine[1:] + fine[:-1])) - surface(a)
    assert best.logDistance == pytest.approx(np.log(np.sum(np.exp(F / (GAS_CONSTANT * 300)) * np.linalg.norm(np.diff(fine, axis=0), axis=1))), abs=0.02)
    # Both kinds of path become curves in the same way.
    curve = best.curve(torsions, logSnr=4, temperature=300)
    assert curve.temperature == 300 and len(curve.s) == len(best.path)
    assert np.max(np.abs(np.exp(1j * torsions.center(curve.eta)) - np.exp(1j * best.path))) < 1e-9
    assert np.hypot(*curve.eta[:, :2].T) == pytest.approx(np.exp(4))
    with pytest.raises(ValueError, match="DensityPath.curve: expected variables"):
        best.curve()


@pytest.mark.parametrize("schedule", ["vp", "cosine", "ve", "flow"])
@pytest.mark.parametrize("prediction", ["x0", "eps", "score", "v", "flow", "edm"])
def testEveryPredictionGivesTheScore(schedule, prediction):
    reference, sigmaData, l = mixture(), 0.7, 2.0

    def function(x, level):
        logSnr = (-8 * level if prediction == "edm" else level)[:, None]
        alpha, sigma = {"ve": (np.ones_like(logSnr), np.exp(-logSnr / 2)), "flow": (1 / (1 + np.exp(-logSnr / 2)), 1 / (1 + np.exp(logSnr / 2)))}.get(
            schedule, (1 / np.sqrt(1 + np.exp(-logSnr)), 1 / np.sqrt(1 + np.exp(logSnr))))
        s = sigma / alpha
        y = x * np.sqrt(s**2 + sigmaData**2) if prediction == "edm" else x / alpha
        c = reference.moments(np.hstack([-np.exp(logSnr) / 2, np.exp(logSnr) * y])).mu[:, 1:]
        eps = (y - c) / s
        return {"x0": c, "eps": eps, "score": -eps / sigma, "v": alpha * eps - sigma * c, "flow": eps - c,
                "edm": (c - sigmaData**2 / (s**2 + sigmaData**2) * y) * np.sqrt(s**2 + sigmaData**2) / (s * sigmaData)}[prediction]

    model = st.CallableModel(function, reference.variables, schedule, prediction, logSnrRange=(-6, 6), sigmaData=sigmaData)
    x = np.random.default_rng(2).normal(size=(20, 2))
    # In closed form: the mixture with its variances raised by the noise.
    away, spread = MEANS - x[:, None], VARIANCES + np.exp(-l)
    share = WEIGHTS / spread * np.exp(-0.5 * (away**2).sum(2) / spread)
    exact = ((share / share.sum(1, keepdims=True) / spread)[..., None] * away).sum(1)
    field = st.ModelDensity(model, l)
    assert field.score(x) == pytest.approx(exact, rel=1e-8, abs=1e-8)
    assert st.ModelDensity(reference, l).score(x) == pytest.approx(exact, rel=1e-10, abs=1e-10)
    assert (field.hasLogDensity, st.ModelDensity(reference, l).hasLogDensity) == (False, True)
    assert field.coordinates(field.raw(x)) == pytest.approx(x) and (field.logSnr, field.draws, field.dimension) == (l, 0, 2)


def testScaledVariables(tmp_path):
    """Ends, directions and nodes are raw; lengths are those of scaled variables, and of phases where a variable has a period."""
    variables = st.Variables.fromJson(json.dumps([{"name": "d", "type": "distance", "atoms": [0, 1], "shift": 0.3, "scale": 0.05},
                                                  {"name": "x", "type": "coordinate", "atoms": [0], "axis": 0, "period": 2.0}]))
    model = st.CallableModel(lambda x, l: np.stack([0.2 * x[:, 0], 0.3 + 0 * x[:, 1], 0 * x[:, 2]], axis=1), variables, "ve", "x0", logSnrRange=(-6, 6))
    field = st.ModelDensity(model, 0.5)
    x = field.coordinates([[0.35, 0.5]])
    assert x == pytest.approx(np.array([[1.0, np.pi / 2]])) and field.raw(x) == pytest.approx(np.array([[0.35, 0.5]])) and field.periods == pytest.approx([0, 2 * np.pi])
    k = np.exp(0.5)
    assert field.score(x) == pytest.approx(np.array([[k * (0.2 - 1), -0.3 * k]]), abs=1e-9)
    paths = st.densityGeodesics(field, (2.8 * unit.angstrom, 0.9), (0.35, -0.9), points=33)
    path = paths[0]
    assert path.path[0] == pytest.approx([0.28, 0.9]) and path.path[-1, 0] == pytest.approx(0.35)
    for p in paths:  # whole turns are kept
        assert (p.path[-1, 1] - path.path[0, 1] + 1.8) / 2 == pytest.approx(round((p.path[-1, 1] - path.path[0, 1] + 1.8) / 2))
    assert sorted(round(p.path[-1, 1], 6) for p in paths) == [-0.9, 1.1]
    assert path.length == pytest.approx(np.linalg.norm(np.diff(path.coordinates, axis=0), axis=1).sum())
    shot = st.extrapolate(field, (0.3, 0.0), direction=(5 * unit.nanometer, 0), length=0.5)
    assert shot.path[-1] == pytest.approx([0.325, 0.0], abs=1e-9)
    path.save(tmp_path / "p.json")
    again = st.DensityPath.load(tmp_path / "p.json")
    assert again.coordinates == pytest.approx(path.coordinates) and again.path == pytest.approx(path.path)
    assert st.densityProfile(field, again).length == pytest.approx(path.length)


def testGuidedDensity():
    fields = [st.ModelDensity(mixture(), 3), st.ModelDensity(mixture(MEANS[::-1]), 2)]
    guided = st.GuidedDensity(fields, [-0.5, 1.5])
    x = np.random.default_rng(3).normal(size=(10, 2))
    assert guided.score(x) == pytest.approx(-0.5 * fields[0].score(x) + 1.5 * fields[1].score(x))
    assert guided.logDensity(x) == pytest.approx(-0.5 * fields[0].logDensity(x) + 1.5 * fields[1].logDensity(x))
    assert len(guided.fields) == 2 and guided.fields[0] is fields[0]
    path = st.densityGeodesic(st.GuidedDensity([fields[0]], [1.0]), MEANS[0], MEANS[1])
    assert path.logSnr == 3 and path.variables.names == ["x1", "x2"]
    assert path.path == pytest.approx(st.densityGeodesic(fields[0], MEANS[0], MEANS[1]).path, abs=1e-9)


def testFieldsOutliveTheirNames():
    """A field keeps what it is made of."""
    guided = st.GuidedDensity((st.ModelDensity(mixture(), 3), halfPlane()), [1.0, 0.0])
    x = np.array([[0.3, 0.4]])
    expected = st.ModelDensity(mixture(), 3).score(x)
    junk = [mixture(MEANS + k) for k in range(50)]
    assert guided.score(x) == pytest.approx(expected) and len(junk) == 50


def testStochasticScore():
    """Scores with noise in them lead to the geodesic of the mean score, here by Gauss-Hermite quadrature."""
    clean, width = st.ModelDensity(mixture(), 1.0), 0.3
    node, weight = np.polynomial.hermite_e.hermegauss(9)
    shift, share = width * np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2), np.outer(weight, weight).ravel() / weight.sum() ** 2
    smooth = st.CallableDensity(lambda x: sum(w * clean.score(x + d) for w, d in zip(share, shift)), 2)
    noisy = st.CallableDensity(lambda x, draw: clean.score(x + width * np.random.default_rng(draw).normal(size=2)), 2, stochastic=True)
    options = dict(points=33, tau=1.0)
    exact = st.densityGeodesic(smooth, MEANS[0], MEANS[1], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the residual has an error of its own
        found = st.densityGeodesic(noisy, MEANS[0], MEANS[1], averagedSteps=600, **options)
        again = st.densityGeodesic(noisy, MEANS[0], MEANS[1], averagedSteps=600, **options)
    assert found.residualError > 0 and exact.residualError == 0 and np.array_equal(found.path, again.path)
    bulge = np.max(np.abs(exact.path - st.lerp(MEANS[0], MEANS[1], 33)))
    assert bulge > 0.1 and np.max(np.abs(found.path - exact.path)) < 0.15 * bulge
    # A model's own draws: noisy copies of the point, with the noise of its log-SNR.
    x, wide = MEANS + 0.4, np.exp(-0.5) * shift / width
    drawn = np.mean([st.ModelDensity(mixture(), 1.0, draws=40).score(x, draw) for draw in range(300)], axis=0)
    assert drawn == pytest.approx(sum(w * clean.score(x + d) for w, d in zip(share, wide)), abs=0.025)
    assert np.max(np.abs(drawn - clean.score(x))) > 0.1
    model = st.ModelDensity(mixture(), 1.0, draws=4)
    assert model.isStochastic and not model.hasLogDensity and np.array_equal(model.score(MEANS, 7), model.score(MEANS, 7)) and not np.array_equal(
        model.score(MEANS, 7), model.score(MEANS, 8))


def testSphere():
    """With a uniform density on the sphere geodesics are great circles."""
    a, b = np.array([2.0, 0, 0]), np.array([0.0, 1.2, 1.6])
    field = st.CallableDensity(lambda x: np.zeros_like(x), 3)
    path = st.densityGeodesic(field, a, b, sphere=True, start="slerp")
    assert path.path == pytest.approx(st.slerp(a, b), abs=1e-6) and path.length == pytest.approx(np.pi, rel=1e-3)
    tilted = st.densityGeodesic(st.CallableDensity(lambda x: np.tile([1.0, 0, 3.0], (len(x), 1)), 3), a, b, sphere=True)
    assert np.linalg.norm(tilted.path, axis=1) == pytest.approx(2) and np.max(tilted.path[:, 2] - st.slerp(a, b)[:, 2]) > 0.1 and tilted.converged
    shot = st.extrapolate(field, a, direction=[0, 0.6, 0.8], length=np.pi, sphere=True)
    assert shot.path[-1] == pytest.approx(b, abs=1e-6)
    with pytest.raises(ValueError, match="sphere|\\|x\\||radius|norm"):
        st.densityGeodesic(field, a, 2 * b, sphere=True)


def testSequences():
    field = halfPlane()
    path = st.densityGeodesic(field, A, B, tolerance=1e-6)
    own = st.analyzeSequence(field, path.path, tolerance=1e-6)
    assert np.all(own.angle > 179) and own.residual.max() < 0.02
    assert own.bestTau == pytest.approx(1, abs=2e-3) and own.bestTauResidual < 1e-3
    assert own.lengthRatio == pytest.approx(1, abs=1e-4) and own.distanceRatio == pytest.approx(1, abs=1e-4)
    straight = st.analyzeSequence(field, st.lerp(A, B, 40))
    assert np.all(np.isnan(straight.angle)) and straight.residual == pytest.approx(1) and abs(straight.bestTau) < 1e-6
    assert straight.lengthRatio < 0.999 and straight.distanceRatio > 1.01
    # One that bends the wrong way.
    t = np.linspace(0, 1, 40)[:, None]
    down = st.analyzeSequence(field, A + t * (B - A) - [0, 0.6] * t * (1 - t), numFrames=25)
    assert len(down.frames.path) == 25 and np.all(down.angle < 10) and down.bestTau < 0 and down.distanceRatio > straight.distanceRatio
    text = str(own)
    assert "best tau" in text and "(on a geodesic 180)" in text and f"{own.distanceRatio:.4f}" in text
    assert "the sequence is straight" in str(straight) and "SequenceAnalysis" in repr(own)


def testWrappedFrames(surface):
    """Frames of molecular dynamics come wrapped; they are joined the short way round."""
    field = surface.density(300)
    t = np.linspace(0, 1, 30)[:, None]
    frames = [-2.6, 2.6] + t * [0.2, 1.2]
    wrapped = (frames + np.pi) % (2 * np.pi) - np.pi
    assert np.ptp(wrapped[:, 1]) > 6
    assert st.densityProfile(field, wrapped).length == pytest.approx(np.hypot(0.2, 1.2))
    assert st.densityProfile(field, wrapped).logDensity[-1] == pytest.approx((surface(frames[0]) - surface(frames[-1])) / (GAS_CONSTANT * 300), abs=1e-3)


def testFiles(tmp_path, alanineSamples, torsions):
    model = st.EmpiricalModel(alanineSamples[0], torsions, alanineSamples[1])
    path = st.densityGeodesic(model, (-2.58 * unit.radian, 160 * unit.degree), [1.05, -0.75], logSnr=4)
    assert path.path[0] == pytest.approx([-2.58, np.radians(160)]) and path.logSnr == 4 and path.variables == torsions
    file = tmp_path / "path.json"
    path.save(file)
    stored = json.loads(file.read_text())
    assert stored["format"] == "spacetime-density-path" and stored["version"] == 1 and stored["log_snr"] == 4 and np.allclose(stored["path"], path.path)
    again = st.DensityPath.load(file)
    for name in ("path", "coordinates", "logDensity"):
        assert getattr(again, name) == pytest.approx(getattr(path, name), rel=1e-12, abs=1e-12)
    for name in ("length", "logDistance", "residual", "tau", "logSnr", "variables", "windings", "converged", "iterations", "evaluations", "outside"):
        assert getattr(again, name) == getattr(path, name), name
    with pytest.raises(ValueError, match="path.json' exists.*overwrite"):
        path.save(file)
    with pytest.raises(ValueError, match="path.json' exists.*overwrite"):
        again.save(file)
    again.save(tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text()) == stored
    path.save(file, overwrite=True)
    assert again.curve(temperature=300).eta == pytest.approx(path.curve(torsions).eta)
    # A path that was read is as good a start, and a path to measure, as one that was found.
    assert st.densityProfile(model, again, logSnr=4).logDistance == pytest.approx(path.logDistance, abs=1e-3)
    assert st.densityGeodesic(model, path.path[0], path.path[-1], logSnr=4, start=again).logDistance == pytest.approx(path.logDistance, abs=1e-3)
    for text in ("", "{}", '{"format": "spacetime-curve", "version": 1}', json.dumps({**stored, "version": 99}), json.dumps({**stored, "path": [[0, 1]]})):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match="bad.json"):
            st.DensityPath.load(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="missing.json"):
        st.DensityPath.load(tmp_path / "missing.json")
    with pytest.raises(ValueError, match="only a model's density has"):
        st.densityGeodesic(halfPlane(), A, B).save(tmp_path / "half.json")


def testProgress():
    seen = []
    path = st.densityGeodesic(halfPlane(), A, B, progress=lambda f: seen.append(f))
    assert path.converged and seen and seen == sorted(seen) and seen[0] >= 0 and seen[-1] <= 1
    with pytest.warns(UserWarning, match="did not converge"):
        stopped = st.densityGeodesic(halfPlane(), A, B, progress=lambda f: False)
    assert not stopped.converged and np.all(np.isfinite(stopped.path))

    def fail(fraction):
        raise LookupError("no progress")

    for density in (halfPlane(), st.ModelDensity(mixture(), 2)):
        with pytest.raises(LookupError, match="no progress"):
            st.densityGeodesic(density, A, B, progress=fail)
        with pytest.raises(LookupError, match="no progress"):
            st.extrapolate(density, A, direction=[1, 0], length=0.3, progress=fail)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores the signal
    try:
        with pytest.raises(KeyboardInterrupt):
            st.densityGeodesic(halfPlane(), A, B, progress=lambda f: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, previous)


def failing(x):
    raise pickle.PicklingError("the score's own error")


@pytest.mark.parametrize("call, message", [
    (lambda: st.densityGeodesic(halfPlane(), A, A), "identical|coincide|same"),
    (lambda: st.densityGeodesic(halfPlane(), A, B, tau=0), "tau"),
    (lambda: st.densityGeodesic(halfPlane(), A, B, tau=-1), "tau"),
    (lambda: st.densityGeodesic(halfPlane(), A, B, points=3), "at least 5"),
    (lambda: st.densityGeodesic(halfPlane(), A, B, tolerance=0), "tolerance"),
    (lambda: st.densityGeodesic(halfPlane(), A, B, start="great"), "expected start 'lerp', 'slerp' or a path, got 'great'"),
    (lambda: st.densityGeodesic(halfPlane(), A, B, windings=[1]), "winding"),
    (lambda: st.densityGeodesic(halfPlane(), A, [1, -1]), "y = -1, below the half-plane"),
    (lambda: st.densityGeodesic(halfPlane(), A, [1, 1, 1]), r"b: expected an array \[2\]"),
    (lambda: st.densityGeodesic(halfPlane(), A, [A, B]), "b: expected one point of 2 coordinates, got 2"),
    (lambda: st.densityGeodesic(halfPlane(), A, [np.nan, 1]), "finite|nan"),
    (lambda: st.densityGeodesic(halfPlane(), A, "ab"), "b: expected numbers"),
    (lambda: st.densityGeodesic(mixture(), MEANS[0], MEANS[1]), "expected a logSnr with a model"),
    (lambda: st.densityGeodesic(mixture(), MEANS[0], [0.0], logSnr=2), r"b: expected 2 values \(x1, x2\), got 1"),
    (lambda: st.densityGeodesic(mixture(), MEANS[0], [40, 40], logSnr=2), "40"),
    (lambda: st.densityGeodesic(mixture(), MEANS[0], MEANS[1], logSnr=np.nan), "log-SNR|logSnr"),
    (lambda: st.densityGeodesic(mixture(), MEANS[0], MEANS[1], logSnr=2, draws=-1), "draws"),
    (lambda: st.densityGeodesic(halfPlane(), A, B, logSnr=2), "belong to a model"),
    (lambda: st.densityGeodesic(st.FreeEnergySurface(np.zeros((8, 8))), A, B), r"surface.density\(temperature\)"),
    (lambda: st.densityGeodesic(st.CallableDensity(lambda x: x[:, :1], 2), A, B), r"CallableDensity: the score: expected the shape \(\d+, 2\), got \(\d+, 1\)"),
    (lambda: st.densityGeodesic(st.CallableDensity(lambda x: "no", 2), A, B), "the score: expected numbers"),
    (lambda: st.densityGeodesic(st.CallableDensity(lambda x: np.where(np.abs(x) < 0.1, np.nan, x), 2), A, B), r"finite|nan"),
    (lambda: halfPlane().score([[1.0, np.inf]]), "finite|inf"),
    (lambda: halfPlane().score([1.0, 1.0]), "x: expected an array of 2 dimensions, got 1"),
    (lambda: st.CallableDensity(lambda x: x, 2, logDensity=lambda x: 0.0).logDensity([[1.0, 1.0]]), r"the log-density: expected the shape \(1,\), got \(\)"),
    (lambda: st.CallableDensity(lambda x: x, 2).logDensity([[1.0, 1.0]]), "log|known"),
    (lambda: st.CallableDensity(lambda x: x, 0), "dimension of at least 1, got 0"),
    (lambda: st.CallableDensity(lambda x: x, 2, periods=[1.0]), "expected 2 periods, got 1"),
    (lambda: st.CallableDensity(lambda x: x, 2, periods=[1.0, -1.0]), "period of coordinate 1"),
    (lambda: st.GuidedDensity([halfPlane(), st.CallableDensity(lambda x: x, 3)], [1, 1]), "other coordinates than the first .3 of them, expected 2"),
    (lambda: st.GuidedDensity([halfPlane()], [1, 1]), "weights"),
    (lambda: st.GuidedDensity([], []), "field"),
    (lambda: st.GuidedDensity([mixture()], [1.0]), "expected density fields, got .*GaussianMixtureModel.* at index 0"),
    (lambda: st.extrapolate(halfPlane(), A, length=1), "expected either a direction"),
    (lambda: st.extrapolate(halfPlane(), A, direction=[1, 0], toward=B, length=1), "expected either a direction"),
    (lambda: st.extrapolate(halfPlane(), A, direction=[1, 0]), "expected a length"),
    (lambda: st.extrapolate(halfPlane(), A, direction=[0, 0], length=1), "direction|zero"),
    (lambda: st.extrapolate(halfPlane(), A, direction=[1, 0], length=-1), "length"),
    (lambda: st.extrapolate(halfPlane(), [0, -1], direction=[1, 0], length=1), "y = -1, below the half-plane"),
    (lambda: st.densityProfile(halfPlane(), [A, B]), "3|three"),
    (lambda: st.densityProfile(halfPlane(), np.ones((5, 3))), r"path: expected an array \[2\] or \[K, 2\]"),
    (lambda: st.analyzeSequence(halfPlane(), [A, B]), "3|three"),
    (lambda: st.analyzeSequence(halfPlane(), [A, A, A]), "coincide|same|identical"),
    (lambda: st.lerp([0, 1], [0, 1, 2]), "expected"),
    (lambda: st.slerp([0, 0], [0, 1]), "origin|zero"),
    (lambda: plots.densityPaths(halfPlane(), {}), "got nothing"),
    (lambda: plots.densityPaths(st.CallableDensity(lambda x: x, 3), {"a": np.ones((3, 3))}), "two variables, got 3"),
    (lambda: plots.densityProfiles({}), "got nothing"),
])
def testBadInput(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def testErrorsOfTheScore():
    """What a Python score raises is raised, and a score that is not finite is told with its place."""
    for density in (st.CallableDensity(failing, 2), st.GuidedDensity([st.CallableDensity(failing, 2)], [2.0])):
        with pytest.raises(pickle.PicklingError, match="^the score's own error$"):
            st.densityGeodesic(density, A, B)
        with pytest.raises(pickle.PicklingError):
            st.extrapolate(density, A, direction=[1, 0], length=1)
    with pytest.raises(TypeError, match="expected a PosteriorModel, ModelDensity, .* got ndarray"):
        st.densityGeodesic(MEANS, A, B)
    with pytest.raises(ValueError) as error:
        st.CallableDensity(lambda x: np.where(x < 0, np.nan, x), 2).score([[1.0, 1.0], [-2.5, 1.0]])
    assert "-2.5" in str(error.value)


def testNotConverged():
    with pytest.warns(UserWarning, match=r"did not converge: its residual is .* expected 1.0e-09: take more"):
        path = st.densityGeodesic(halfPlane(), A, B, tolerance=1e-9, maxIterations=2)
    assert not path.converged and re.search(r"residual \d", str(path)) and "DensityPath" in repr(path)


def testFigures(surface, tmp_path):
    a, b = surface.nearestMinimum((-2.6, 2.8)), surface.nearestMinimum((1.05, -0.75))
    field = surface.density(300)
    path, lowest = st.densityGeodesic(field, a, b), st.minimumFreeEnergyPath(surface, a, b)
    figure = plots.densityPaths(surface, {"MaxFlux": path, "minimum free-energy path": lowest}, states={"C5": a, "C7ax": b})
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["MaxFlux", "minimum free-energy path"]
    assert figure.axes[0].get_xlim() == (-180, 180) and figure.axes[1].get_ylabel() == "free energy (kJ/mol)"
    framed = plots.densityPaths(field, {"MaxFlux": path}, limits=[(-np.pi, np.pi), (0, 2 * np.pi)])
    assert framed.axes[0].get_ylim() == (0, 360) and framed.axes[1].get_ylabel() == "−log p (nats)"
    profile = plots.densityProfiles({"MaxFlux": path, "straight line": st.densityProfile(field, st.lerp(a, b))}, temperature=300)
    assert profile.axes[0].lines[0].get_ydata() == pytest.approx(path.freeEnergy(300))
    # A map of scores alone is that of the density.
    half = halfPlane()
    scores = st.CallableDensity(lambda x: half.score(x), 2)
    x, y = np.linspace(-1, 1, 21), np.linspace(0.5, 2, 31)
    from openmmspacetime.densityplots import _freeEnergy
    assert _freeEnergy(scores, x, y, 1.0) == pytest.approx(_freeEnergy(half, x, y, 1.0), abs=5e-3)
    analysis = st.analyzeSequence(half, st.lerp(A, B, 20) - np.array([0, 0.2]) * np.sin(np.linspace(0, np.pi, 20))[:, None])
    sequence = plots.sequenceAnalysis(analysis)
    assert sequence.axes[0].lines[1].get_ydata() == pytest.approx(analysis.angle)
    for name, f in dict(figure=figure, framed=framed, profile=profile, sequence=sequence).items():
        f.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10000
