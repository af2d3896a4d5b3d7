# SPDX-License-Identifier: MIT
"""A trained network against the exact posterior it learned from, over the region that transition curves use."""
import json
import pathlib
import subprocess
import time

import numpy as np
import pytest

import openmmspacetime as st
from openmmspacetime import program

DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
A, B = (-2.58, 2.79), (1.09, -0.88)


@pytest.fixture(scope="module")
def exact(alanineSamples):
    x, w = alanineSamples
    return st.EmpiricalModel(x, st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"]), logWeights=w)


@pytest.fixture(scope="module")
def modelFile(tmp_path_factory, alanineSamples, exact):
    x, w = alanineSamples
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    reports = []
    st.train(x, exact.variables, logWeights=w, temperature=300, out=path, steps=300, points=10000, components=64, progress=lambda *r: reports.append(r))
    assert len(reports) > 5 and reports[-1][0] == 300 and reports[-1][3] < reports[0][3]
    with pytest.raises(ValueError, match="exists"):
        st.train(x, exact.variables, out=path, steps=10)
    return path


@pytest.fixture(scope="module")
def network(modelFile):
    return st.NetworkModel.load(str(modelFile))


def region(exact, seed):
    """Points scattered round the curves of all four windings, kappa 25 to 150, each torsion its own."""
    rng = np.random.default_rng(seed)
    eta = []
    for windings in ((0, 0), (1, 0), (0, -1), (1, -1)):
        line = st.straightLine(exact.variables, A, B, logSnr=4, points=60, windings=windings)
        angles = exact.variables.center(line.eta) + rng.normal(0, 0.25, (60, 2))
        kappa = np.exp(rng.uniform(np.log(25), np.log(150), (60, 2)))
        eta.append(np.stack([kappa[:, 0] * np.cos(angles[:, 0]), kappa[:, 0] * np.sin(angles[:, 0]), kappa[:, 1] * np.cos(angles[:, 1]), kappa[:, 1] * np.sin(angles[:, 1])], axis=1))
    return np.concatenate(eta)


@pytest.mark.parametrize("seed", [1, 2])
def testPosteriorMeanWhereCurvesGo(exact, network, seed):
    eta = region(exact, seed)
    errors = st.compare(network, exact, eta)
    assert errors.points > 150
    assert errors.medianError <= 0.1
    assert errors.error90 <= 0.5
    assert errors.asymmetry < 1e-6


def testTheErrorIsWhatItSays(exact, network):
    """medianError is |H^-1/2 (mu - mu_exact)|/sqrt(m), computed here independently where the exact posterior is well sampled."""
    eta = region(exact, 3)
    e, n = exact.moments(eta), network.moments(eta)
    keep = e.nEff > 200
    errors = [np.sqrt(d @ np.linalg.solve(H, d) / len(d)) for d, H in zip((n.mu - e.mu)[keep], e.J[keep])]
    assert st.compare(network, exact, eta[keep]).medianError == pytest.approx(np.median(errors), rel=0.15)


def testTheCurveOfTheNetworkIsNearlyAsShort(exact, network):
    """On the way round the torus that stays where there are samples; mountains without any are for no network to know."""
    own, best = (next(r for r in st.geodesics(model, A, B, minLogSnr=4) if list(r.windings) == [1, -1]) for model in (network, exact))
    assert own.converged and best.converged
    judged = own.curve.measure(exact)
    assert best.measure.length <= judged.length * (1 + 1e-6)
    assert judged.length < 1.02 * best.measure.length


def testTheTransitionPresetFindsTheSamePass(exact, network):
    own, best = (st.geodesics(model, A, B, preset="transition")[0] for model in (network, exact))
    assert own.windings == best.windings
    assert own.curve.measure(exact).freeEnergy.max() == pytest.approx(best.maxFreeEnergy, abs=1.5)


def testTheFileHoldsANetworkNotTheSamples(modelFile, network, alanineSamples):
    assert modelFile.stat().st_size < 0.2 * alanineSamples[0].astype("f4").nbytes
    metadata = json.loads(network.metadata)
    assert metadata["temperature_K"] == 300 and metadata["training"]["steps"] == 300
    r = subprocess.run([program.path(), "info", modelFile], capture_output=True, text=True)
    assert r.returncode == 0 and "median_error" in r.stdout


def testProgramOnAModel(tmp_path, modelFile):
    words = ["--model", modelFile, "--from", "-2.58,2.79", "--to", "1.09,-0.88", "--preset", "transition", "--out", tmp_path / "c.json", "--json"]
    r = subprocess.run([program.path(), "geodesic", *map(str, words)], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    result = json.loads(r.stdout)
    assert result["max_free_energy_kJ_mol"] > 20  # the model knows its temperature
    r = subprocess.run([program.path(), "geodesic", *map(str, words[:-3]), str(tmp_path / "d.json"), "--log-snr", "9"], capture_output=True, text=True)
    assert r.returncode == 2 and len(r.stderr.strip().splitlines()) == 1, "log-SNR 9 is outside the trained range"


def testCorruptAndNewerFiles(tmp_path, modelFile):
    data = modelFile.read_bytes()
    bad = tmp_path / "bad.safetensors"
    for content in (b"", data[:7], data[:200], data[:-5], b"\xff" * 8 + data[8:]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match="bad.safetensors"):
            st.NetworkModel.load(str(bad))
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for key, value in header["__metadata__"].items():
        if value in ("1", 1):
            header["__metadata__"][key] = "2"
    text = json.dumps(header).encode()
    bad.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(ValueError, match="upgrade|version"):
        st.NetworkModel.load(str(bad))


def testInterruptedTrainingKeepsWhatWasLearned(tmp_path, exact, alanineSamples):
    x, w = alanineSamples
    path = tmp_path / "m.safetensors"
    model = st.train(x[::20], exact.variables, logWeights=w[::20], out=path, steps=5000, points=500, components=32, progress=lambda step, *_: step < 200)
    assert path.exists() and json.loads(model.metadata)["training"]["stopped"]


@pytest.fixture(scope="module")
def trialanine():
    """Six backbone torsions of capped trialanine: variables, frames to train on and later ones to be judged on (tests/data/trialanine.py)."""
    with np.load(DATA / "trialanine_500K.npz") as data:
        x, atoms = data["x"].astype(float), data["atoms"].tolist()
    return st.Variables.torsions(atoms), x[:10_400], x[10_400:]


def testAPeptideOfSixTorsions(trialanine, tmp_path):
    """Denoises frames it never saw better than the exact posterior of the frames it did see, which knows nothing between them."""
    variables, seen, unseen = trialanine
    model = st.train(seen, variables, temperature=500, out=tmp_path / "m.safetensors", steps=200, points=3000)
    empirical = st.EmpiricalModel(seen, variables)
    random = np.random.default_rng(1)
    for logSnr, atMost in ((1, 1.02), (2, 1.0), (3, 0.9), (4, 0.6)):
        T = variables.statistic(unseen[random.integers(len(unseen), size=1000)])
        eta = np.exp(logSnr) * T + np.exp(logSnr / 2) * random.normal(size=T.shape)
        error, reference = (np.mean(np.sum((m.moments(eta).mu - T) ** 2, axis=1)) for m in (model, empirical))
        assert error <= atMost * reference, f"log-SNR {logSnr}: {error} against {reference}"
    assert np.linalg.eigvalsh(model.moments(eta).J).min() > 0
    beta, alpha = np.tile([-1.2, 2.6], 3), np.tile([-1.2, -0.6], 3)
    for bounds in ({}, {"minLogSnr": 3.5}):
        results = st.geodesics(model, beta, alpha, points=65, route="shortest", **bounds)
        assert results[0].converged and results[0].measure.speedGap < 1e-2
        assert results[0].measure.length < st.straightLine(variables, beta, alpha, logSnr=4, points=65).measure(model).length


def testMeasureAgainstAReference(tmp_path, modelFile, network, exact, alanineSamples):
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=alanineSamples[0], log_weights=alanineSamples[1])
    curve = tmp_path / "curve.json"
    st.geodesic(network, A, B, minLogSnr=4).save(str(curve))
    words = [program.path(), "measure", "--model", modelFile, "--curve", curve, "--reference", samples]
    r = subprocess.run([*map(str, words), "--json"], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    figures = json.loads(r.stdout)["consistency"]
    expected = st.compare(network, exact, st.Curve.load(str(curve)).eta)
    assert figures["median_error"] == pytest.approx(expected.medianError, rel=1e-6) and figures["asymmetry"] == 0 and figures["min_n_eff"] > 1
    r = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert "posterior standard deviations of the reference" in r.stdout
    np.save(tmp_path / "three.npy", np.zeros((5, 3)))
    words[-1] = tmp_path / "three.npy"
    r = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert r.returncode == 2 and "3 columns" in r.stderr


def testTrainingThatWasKilledGoesOn(tmp_path, alanineSamples):
    """kill -9 in the middle, then --resume: the same network as without it."""
    x, w = alanineSamples
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=x[::20], log_weights=w[::20])
    words = ["train", samples, "--variables", "torsion,torsion", "--steps", "1500", "--points", "1000", "--components", "16", "--threads", "1"]
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert subprocess.run([program.path(), *map(str, words), "--out", whole], capture_output=True).returncode == 0
    checkpoint = tmp_path / "parts.safetensors.checkpoint"
    run = subprocess.Popen([program.path(), *map(str, words), "--out", parts], stdout=subprocess.DEVNULL)
    while run.poll() is None and not checkpoint.exists():
        time.sleep(0.02)
    run.kill()
    run.wait()
    if not parts.exists():  # it was fast enough to finish before the first checkpoint otherwise
        r = subprocess.run([program.path(), *map(str, words), "--out", parts, "--resume", "--json"], capture_output=True, text=True)
        assert r.returncode == 0 and json.loads(r.stdout)["resumed"], r.stderr
    assert not checkpoint.exists()
    a, b = (st.NetworkModel.load(str(p)) for p in (whole, parts))
    eta = region(st.EmpiricalModel(x[::20], a.variables, logWeights=w[::20]), 1)[:50]
    assert np.array_equal(a.moments(eta).mu, b.moments(eta).mu)


def testBadTrainingInput(tmp_path, exact):
    x = np.zeros((100, 2))
    x[50, 0] = np.nan
    with pytest.raises(ValueError, match="sample 50"):
        st.train(x, exact.variables, out=tmp_path / "m.safetensors")
    x[50, 0] = 0.1
    weights = np.zeros(100)
    for samples, logWeights, expected in ((x, None, "same value"), (np.random.default_rng(1).normal(size=(100, 2)), np.where(np.arange(100) == 3, 20, weights), "effective samples"),
                                          (np.random.default_rng(1).normal(size=(100, 2)), np.full(100, -np.inf), "every weight is zero")):
        with pytest.raises(ValueError, match=expected):
            st.train(samples, exact.variables, logWeights=logWeights, out=tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="resume goes with"):
        st.train(x, exact.variables, resume=True)
    assert not (tmp_path / "m.safetensors").exists()


def testFlowsOfANetwork(network, alanineSamples):
    """Encoded and decoded again; its samples lie where the data are."""
    x, w = alanineSamples
    rng = np.random.default_rng(5)
    points = x[rng.choice(len(x), 50, p=np.exp(w - w.max()) / np.exp(w - w.max()).sum())]
    for logSnr in (1.0, -4.0):
        back = st.decode(network, st.encode(network, points, logSnr), logSnr)
        assert np.abs(np.angle(np.exp(1j * (back - points)))).max() < 1e-4
    samples = st.sampleReverseSde(network, 1000, steps=64)
    exact = np.exp(w - w.max()) @ np.cos(x - (-1.4, 1.2)) / np.exp(w - w.max()).sum()
    np.testing.assert_allclose(np.cos(samples - (-1.4, 1.2)).mean(axis=0), exact, atol=0.1)
