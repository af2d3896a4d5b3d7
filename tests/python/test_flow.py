# SPDX-License-Identifier: MIT
"""Probability-flow ODE, likelihoods, reverse SDE and pullback metric from Python and from the program, and the mixture example."""
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from openmm import unit

import openmmspacetime as st
from openmmspacetime import program

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "gaussian_mixture"
MEANS, VARIANCE, WEIGHTS = np.array([-2.5, 0.5, 2.5]), 0.5625, np.array([0.275, 0.45, 0.275])


@pytest.fixture(scope="module")
def wells():
    return st.GaussianMixtureModel(MEANS[:, None], np.full(3, VARIANCE), WEIGHTS)


@pytest.fixture(scope="module")
def surface():
    """Two torsions on an exhaustive grid, with two modes in each."""
    a = np.linspace(-np.pi, np.pi, 60, endpoint=False)
    raw = np.array([(x, y) for x in a for y in a])
    return st.EmpiricalModel(raw, st.Variables.torsions([(0, 1, 2, 3), (1, 2, 3, 4)]), logWeights=2 * np.cos(2 * raw[:, 0]) + np.sin(2 * raw[:, 1]), grid=True)


def logMixture(y, logSnr):
    v = VARIANCE + math.exp(-logSnr)
    return np.log((WEIGHTS * np.exp(-0.5 * (y - MEANS) ** 2 / v) / np.sqrt(2 * np.pi * v)).sum(axis=1))


@pytest.mark.parametrize("schedule", ["vp", "ve", "cosine", "flow"])
def testGaussianClosedForm(schedule):
    """y scales as sqrt(s^2 + sigma^2); x = alpha y."""
    g = st.GaussianMixtureModel([[0.4, 0.4]], [1.5], [1.0])
    x = np.array([[0.1, -2.0], [3.0, 0.4]])
    l, clean = -3.0, g.dataLogSnr
    assert clean == pytest.approx(math.log(1e6 / 1.5))
    alpha = {"vp": (1 + math.exp(3)) ** -0.5, "cosine": (1 + math.exp(3)) ** -0.5, "ve": 1.0, "flow": 1 / (1 + math.exp(1.5))}[schedule]
    exact = alpha * (0.4 + (x - 0.4) * math.sqrt((1.5 + math.exp(-l)) / (1.5 + math.exp(-clean))))
    latent = st.encode(g, x, l, schedule=schedule)
    np.testing.assert_allclose(latent, exact, rtol=1e-8)
    np.testing.assert_allclose(st.decode(g, latent, l, schedule=schedule), x, atol=1e-8)
    assert st.encode(g, x[0], l, schedule=schedule).shape == (2,)
    np.testing.assert_allclose(st.latentParameter(g, latent[0], l, schedule=schedule), [-0.5 * math.exp(l), *(math.exp(l) * latent[0] / alpha)], rtol=1e-12)
    np.testing.assert_allclose(st.pullbackMetric(g, latent, l, schedule=schedule), np.broadcast_to(np.eye(2) * 1.5 / (1.5 + math.exp(-l)) / alpha**2, (2, 2, 2)), rtol=2e-6,
                               atol=1e-12)


def testRoundTrips(wells, surface):
    x = np.concatenate([np.linspace(-4.5, 4.5, 60)])[:, None]
    for logSnr in (1.0, -8.0):
        np.testing.assert_allclose(st.decode(wells, st.encode(wells, x, logSnr), logSnr), x, atol=1e-4)
        heun = dict(solver="heun", steps=1024)
        np.testing.assert_allclose(st.decode(wells, st.encode(wells, x[10:50], logSnr, **heun), logSnr, **heun), x[10:50], atol=1e-4)
    angles = np.random.default_rng(2).uniform(-np.pi, np.pi, (60, 2))
    latent = st.encode(surface, angles, -4.0, schedule="ve")
    assert latent.shape == (60, 4)
    back = st.decode(surface, latent, -4.0, schedule="ve")
    assert np.abs(np.angle(np.exp(1j * (back - angles)))).max() < 1e-4
    degrees = st.encode(surface, np.degrees(angles[:3]) * unit.degrees, -4.0, schedule="ve")
    np.testing.assert_allclose(degrees, latent[:3], atol=1e-9)


def dense(model, x, count):
    """The points around which the samples are densest where the flow starts."""
    logSnr = model.dataLogSnr
    eta = np.array([model.variables.naturalParameter(p, logSnr) for p in x])
    return x[np.argsort(-model.moments(eta).nEff)[:count]]


def testAlanineComesBack(alanineSamples, torsions):
    """Weighted samples: the data begin where samples are dense enough to see their density."""
    x, w = alanineSamples
    model = st.EmpiricalModel(x[::10], torsions, logWeights=w[::10])
    assert 2 < model.dataLogSnr < 7
    points = dense(model, x[::11], 12)
    latent = st.encode(model, points, -2.0)
    assert len(points) == 12 and latent.shape == (12, 4)
    back = st.decode(model, latent, -2.0)
    assert np.abs(np.angle(np.exp(1j * (back - points)))).max() < 1e-4
    with pytest.warns(UserWarning, match="effective samples"):
        st.encode(model, points[:1], -2.0, dataLogSnr=9.0)


def testTrajectories(wells):
    x = np.array([[-1.0], [2.0]])
    path = st.probabilityFlow(wells, x, [3.0, 0.0, -3.0, 3.0], schedule="ve")
    assert path.shape == (4, 2, 1)
    np.testing.assert_array_equal(path[0], x)
    np.testing.assert_allclose(path[3], x, atol=1e-7)
    np.testing.assert_allclose(st.probabilityFlow(wells, path[0, 1], [3.0, -3.0], schedule="ve"), path[[0, 2], 1], rtol=1e-7)


def testLikelihood(wells):
    y = np.linspace(-6, 6, 30)[:, None]
    for logSnr in (5.0, -1.0):
        exact = logMixture(y, logSnr)
        np.testing.assert_allclose(st.logLikelihood(wells, y, logSnr, schedule="ve"), exact, atol=1e-9)
        np.testing.assert_allclose(st.logLikelihood(wells, y, logSnr, schedule="ve", integrate=True), exact, atol=1e-6)
    alpha = (1 + math.exp(1)) ** -0.5
    value = st.logLikelihood(wells, [alpha * 0.3], -1.0)
    assert isinstance(value, float) and value == pytest.approx(logMixture(np.array([[0.3]]), -1.0)[0] - math.log(alpha), abs=1e-9)
    with pytest.warns(UserWarning, match="not quite a Gaussian"):
        st.logLikelihood(wells, y, 1.0, integrate=True, baseLogSnr=-3.0)


def testSamples(wells):
    x = st.sampleReverseSde(wells, 4000, steps=64, seed=3)
    assert x.shape == (4000, 1)
    mean = WEIGHTS @ MEANS
    variance = VARIANCE + WEIGHTS @ (MEANS - mean) ** 2
    assert abs(x.mean() - mean) < 3 * math.sqrt(variance / len(x))
    fourth = np.mean((x - x.mean()) ** 4)
    assert abs(x.var() - variance) < 3 * math.sqrt((fourth - variance**2) / len(x))
    np.testing.assert_array_equal(st.sampleReverseSde(wells, 4000, steps=64, seed=3), x)
    assert not np.array_equal(st.sampleReverseSde(wells, 10, steps=64, seed=4), x[:10])


def testPullback():
    g = st.GaussianMixtureModel([[-1.5, 0.3], [1.2, -0.8], [0.4, 1.9]], [0.2, 0.5, 0.35], [0.3, 0.5, 0.2])
    ends = np.array([[-1.6, 0.4], [1.5, -0.6]])
    latent = st.encode(g, ends, -3.0)
    direct = st.pullbackGeodesic(g, *latent, -3.0, points=13)
    found = st.pullbackGeodesic(g, *latent, -3.0, points=13, minimize=True)
    assert direct.latent.shape == direct.decoded.shape == (13, 2)
    np.testing.assert_allclose(direct.decoded[[0, -1]], ends, atol=1e-6)
    assert direct.deviation < 1e-6 and direct.energy == pytest.approx(np.sum((ends[1] - ends[0]) ** 2), rel=1e-6)
    assert found.converged and found.energy == pytest.approx(found.segmentEnergy, rel=1e-3) and found.deviation < 1e-2
    straight = st.decodeCurve(g, np.linspace(*latent, 13), -3.0)
    assert straight.deviation > 0.01 and straight.energy > 1.05 * found.energy


def testProgressInterruptsAndErrors(wells):
    seen = []
    st.encode(wells, [[0.1], [1.0]], -3.0, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1)
    with pytest.raises(RuntimeError, match="stopped"):
        st.encode(wells, [[0.1]], -3.0, progress=lambda fraction: False)

    def breaks(fraction):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        st.sampleReverseSde(wells, 10, progress=breaks)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda g: st.encode(g, [[math.nan]], -3), "sample 0 .* not finite"),
        (lambda g: st.encode(g, [[1.0, 2.0]], -3), r"x: expected an array \[1\] or \[K, 1\], got one of shape \(1, 2\)"),
        (lambda g: st.encode(g, "here", -3), "x: expected numbers"),
        (lambda g: st.encode(g, [[1.0]], 40), "below that of clean data"),
        (lambda g: st.encode(g, [[1.0]], -3, dataLogSnr=-4), "below that of clean data, -4"),
        (lambda g: st.encode(g, [[1.0]], math.inf), "finite log-SNR"),
        (lambda g: st.encode(g, [[1.0]], -3, solver="euler"), "expected solver 'adaptive' or 'heun', got 'euler'"),
        (lambda g: st.encode(g, [[1.0]], -3, schedule="cubic"), "expected vp, cosine, ve .or edm. or flow"),
        (lambda g: st.encode(g, [[1.0]], -3, tolerance=-1), "positive tolerance"),
        (lambda g: st.encode(g, [[1.0]], -3, solver="heun", steps=0), "at least 1 step"),
        (lambda g: st.decode(g, [[math.inf]], -3), "point 0 holds a value that is not finite"),
        (lambda g: st.probabilityFlow(g, [[1.0]], []), "at least one value"),
        (lambda g: st.logLikelihood(g, [[1.0]], 0, integrate=True, baseLogSnr=2), "base below"),
        (lambda g: st.logLikelihood(st.GaussianMixtureModel([[-2.0], [2.0]], [0.1, 0.1], [0.5, 0.5]), [[1.0]], 3, integrate=True, baseLogSnr=1), "no Gaussian"),
        (lambda g: st.sampleReverseSde(g, 0), "at least 1 sample"),
        (lambda g: st.sampleReverseSde(g, 5, seed=-1), "seed: expected"),
        (lambda g: st.pullbackGeodesic(g, [1.0], [2.0], -3, points=2), "at least 3 points"),
    ],
)
def testBadInput(wells, call, message):
    with pytest.raises(ValueError, match=message):
        call(wells)


def spacetime(*words, cwd=None):
    return subprocess.run([program.path(), *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture
def mixture(tmp_path):
    (tmp_path / "g.json").write_text(json.dumps({"means": MEANS[:, None].tolist(), "variances": [VARIANCE] * 3, "weights": WEIGHTS.tolist()}))
    return tmp_path


def testProgram(mixture, wells):
    x = np.linspace(-4, 4, 31)[:, None]
    np.save(mixture / "x.npy", x)
    r = spacetime("encode", "--mixture", "g.json", "--in", "x.npy", "--out", "latent.npy", "--log-snr", "-3", "--json", cwd=mixture)
    assert r.returncode == 0, r.stderr
    said = json.loads(r.stdout)
    assert said["points"] == 31 and said["log_snr"] == -3 and said["data_log_snr"] == pytest.approx(wells.dataLogSnr) and said["min_n_eff"] is None
    np.testing.assert_allclose(np.load(mixture / "latent.npy"), st.encode(wells, x, -3.0), rtol=1e-12)
    r = spacetime("decode", "--mixture", "g.json", "--in", "latent.npy", "--out", "back.npy", "--log-snr", "-3", cwd=mixture)
    assert r.returncode == 0 and "31 points" in r.stdout, r.stderr
    np.testing.assert_allclose(np.load(mixture / "back.npy"), x, atol=1e-6)
    # An output that exists is left alone; --overwrite replaces it, here by Heun's method under another schedule.
    before = (mixture / "latent.npy").read_bytes()
    words = ["encode", "--mixture", "g.json", "--in", "x.npy", "--out", "latent.npy", "--log-snr", "-3", "--solver", "heun", "--steps", "300", "--schedule", "ve"]
    r = spacetime(*words, cwd=mixture)
    assert r.returncode == 2 and "--overwrite" in r.stderr and (mixture / "latent.npy").read_bytes() == before
    assert spacetime(*words, "--overwrite", "--quiet", cwd=mixture).returncode == 0
    np.testing.assert_allclose(np.load(mixture / "latent.npy"), st.encode(wells, x, -3.0, schedule="ve"), atol=5e-3)
    assert not list(mixture.glob("*.part*"))


def testProgramOnTorsions(tmp_path, alanineSamples, torsions):
    x, w = alanineSamples
    np.savez(tmp_path / "samples.npz", x=x[::10], log_weights=w[::10])
    np.save(tmp_path / "x.npy", dense(st.EmpiricalModel(x[::10], torsions, logWeights=w[::10]), x[::11], 5))
    model = ["--samples", "samples.npz", "--variables", "torsion,torsion", "--log-snr", "-1"]
    r = spacetime("encode", *model, "--in", "x.npy", "--out", "latent.npy", cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    assert np.load(tmp_path / "latent.npy").shape == (5, 4)
    r = spacetime("decode", *model, "--in", "latent.npy", "--out", "back.npy", cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    assert np.abs(np.angle(np.exp(1j * (np.load(tmp_path / "back.npy") - np.load(tmp_path / "x.npy"))))).max() < 1e-4
    r = spacetime("encode", *model, "--in", "x.npy", "--out", "sharp.npy", "--data-log-snr", "9", cwd=tmp_path)
    assert r.returncode == 1 and "effective samples" in r.stderr and (tmp_path / "sharp.npy").exists()


@pytest.mark.parametrize(
    "command, words, message",
    [
        ("encode", ["--in", "x.npy", "--out", "y.npy"], "--log-snr is needed"),
        ("encode", ["--in", "x.npy", "--out", "y.npy", "--log-snr", "30"], "below that of clean data"),
        ("encode", ["--in", "x.npy", "--out", "y.npy", "--log-snr", "-3", "--data-log-snr", "-5"], "below that of clean data, -5"),
        ("encode", ["--in", "x.npy", "--out", "y.npy", "--log-snr", "nan"], "expected a number, got 'nan'"),
        ("encode", ["--in", "nan.npy", "--out", "y.npy", "--log-snr", "-3"], "sample 1 holds a value that is not finite"),
        ("decode", ["--in", "nan.npy", "--out", "y.npy", "--log-snr", "-3"], "point 1 holds a value that is not finite"),
        ("encode", ["--in", "wide.npy", "--out", "y.npy", "--log-snr", "-3"], "expected 1 columns, one a variable, got 2"),
        ("decode", ["--in", "wide.npy", "--out", "y.npy", "--log-snr", "-3"], "expected 1 columns"),
        ("encode", ["--in", "corrupt.npy", "--out", "y.npy", "--log-snr", "-3"], "not an .npy array"),
        ("encode", ["--in", "missing.npy", "--out", "y.npy", "--log-snr", "-3"], "no such file"),
        ("encode", ["--in", "x.npy", "--out", "y.txt", "--log-snr", "-3"], "ends in .npy"),
        ("encode", ["--in", "x.npy", "--out", "no/y.npy", "--log-snr", "-3"], "not writable"),
        ("encode", ["--in", "x.npy", "--out", "y.npy", "--log-snr", "-3", "--solver", "euler"], "adaptive or heun"),
        ("encode", ["--in", "x.npy", "--out", "y.npy", "--log-snr", "-3", "--steps", "0"], "at least 1"),
        ("encode", ["--in", "x.npy", "--out", "y.npy", "--log-snr", "-3", "--tolerance", "0"], "positive tolerance"),
        ("decode", ["--in", "x.npy", "--out", "y.npy", "--log-snr", "-3", "--schedule", "cubic"], "vp, cosine, ve (or edm) or flow"),
    ],
)
def testProgramRefusesBadInput(mixture, command, words, message):
    np.save(mixture / "x.npy", np.ones((3, 1)))
    np.save(mixture / "wide.npy", np.ones((3, 2)))
    np.save(mixture / "nan.npy", np.array([[1.0], [np.nan]]))
    (mixture / "corrupt.npy").write_bytes(b"\x93NUMP")
    r = spacetime(command, "--mixture", "g.json", *words, cwd=mixture)
    assert r.returncode == 2, r.stdout + r.stderr
    assert message in r.stderr and len(r.stderr.strip().splitlines()) == 1
    assert not (mixture / "y.npy").exists()


def testExample(tmp_path):
    """examples/gaussian_mixture as its README says, quick: every figure, and the values that the table claims."""
    words = [sys.executable, str(EXAMPLE / "run.py"), "--quick", "--out", str(tmp_path / "out")]
    r = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr
    out = tmp_path / "out"
    for name in ("spacetime.png", "posteriors.png", "flows.png", "pullback.png"):
        assert (out / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and (out / name).stat().st_size > 20000
    assert (out / "geodesic.gif").read_bytes()[:6] == b"GIF89a"
    results = json.loads((out / "results.json").read_text())
    # The discretisation changes lengths by less than 1e-4.
    extra = [row["trajectory"] - row["geodesic"] for row in results["probability_flow"]]
    assert len(extra) == 7 and min(extra) > 5e-4 and max(extra) > 0.02
    assert results["round_trip_error"] < 1e-4 and results["log_likelihood_error"] < 1e-5
    pullback = results["pullback"]
    for way in ("by encoding the segment", "by minimising the energy"):
        row = pullback[f"pullback geodesic, {way}"]
        assert row["energy_over_segment"] == pytest.approx(1, abs=1e-3) and row["deviation"] < 0.01
    assert pullback["spacetime geodesic"]["deviation"] > 0.1
    assert "trajectory" in (out / "table.txt").read_text()
    r = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert r.returncode != 0 and "--overwrite" in r.stderr
