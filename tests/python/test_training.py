# SPDX-License-Identifier: MIT
"""A trained network against the exact posterior it learned from, over the region that transition curves use."""
import json
import subprocess

import numpy as np
import pytest

import openmmspacetime as st
from openmmspacetime import program

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
    st.train(x, exact.variables, logWeights=w, temperature=300, out=path, steps=2000, points=10000, width=64, progress=lambda *r: reports.append(r))
    assert len(reports) > 5 and reports[-1][0] == 2000 and reports[-1][3] < reports[0][3]
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
    assert metadata["temperature_K"] == 300 and metadata["training"]["steps"] == 2000
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
    model = st.train(x[::20], exact.variables, logWeights=w[::20], out=path, steps=5000, points=500, width=32, progress=lambda step, *_: step < 200)
    assert path.exists() and json.loads(model.metadata)["training"]["stopped"]


def testBadTrainingInput(tmp_path, exact):
    x = np.zeros((100, 2))
    x[50, 0] = np.nan
    with pytest.raises(ValueError, match="sample 50"):
        st.train(x, exact.variables, out=tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def testFlowsOfANetwork(network, alanineSamples):
    """Encoded and decoded again, from the log-SNR down to which it was trained; its samples lie where the data are."""
    x, w = alanineSamples
    metadata = json.loads(network.metadata)
    assert network.dataLogSnr == pytest.approx(metadata["log_snr_range"][1])
    rng = np.random.default_rng(5)
    points = x[rng.choice(len(x), 50, p=np.exp(w - w.max()) / np.exp(w - w.max()).sum())]
    for logSnr in (1.0, -4.0):
        back = st.decode(network, st.encode(network, points, logSnr), logSnr)
        assert np.abs(np.angle(np.exp(1j * (back - points)))).max() < 1e-4
    samples = st.sampleReverseSde(network, 1000, steps=64)
    exact = np.exp(w - w.max()) @ np.cos(x - (-1.4, 1.2)) / np.exp(w - w.max()).sum()
    np.testing.assert_allclose(np.cos(samples - (-1.4, 1.2)).mean(axis=0), exact, atol=0.1)
