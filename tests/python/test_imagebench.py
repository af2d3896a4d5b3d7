# SPDX-License-Identifier: MIT
"""The published way to geodesics of pictures, as tests/benchmarks/imagebench.py writes it: on the same denoiser as the plugin, and downhill."""
import sys
from pathlib import Path

import numpy as np
import pytest

import openmmspacetime as st

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import imagebench  # noqa: E402
from torchunet import TorchUnet  # noqa: E402


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A few steps of training: weights that are no longer those of the start."""
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    rng = np.random.default_rng(1)
    pictures = np.clip(0.5 + 0.3 * rng.normal(size=(40, 1, 1, 3)) + 0.05 * rng.normal(size=(40, 8, 8, 3)), 0, 1)
    st.trainImages(pictures, path, steps=40, batch=16, channels=8, multipliers=(1, 2), patch=2, threads=1)
    return str(path)


def testTheNetworkWrittenAnewIsTheSame(file):
    model, unet = st.ImageModel.load(file), TorchUnet(file)
    rng = np.random.default_rng(2)
    l = rng.uniform(-5, 8, 6)
    y = rng.normal(size=(6, 192)) * (0.5 + np.exp(-0.5 * l))[:, None]
    eta = np.concatenate([-0.5 * np.exp(l)[:, None], np.exp(l)[:, None] * y], axis=1)
    with torch.no_grad():
        assert unet(torch.tensor(y).float(), torch.tensor(l).float()).numpy() == pytest.approx(model.denoised(eta), abs=1e-5)
    assert unet.evaluations == 6


def testEnergyOfThePublishedWay(file):
    """Its mean over probes is the energy that measureWithProbes gives; its steps lower it."""
    model, unet = st.ImageModel.load(file), TorchUnet(file)
    rng = np.random.default_rng(3)
    etaA, etaB = (np.append(-0.5 * np.exp(l), np.exp(l) * (grey + 0.3 * rng.normal(size=192))) for l, grey in ((2.0, -0.6), (0.0, 0.6)))
    curve = imagebench.PublishedCurve(unet, etaA, etaB, knots=4, seed=1)
    # Ends of different noise levels, or E|c|^2 and its estimate would not count.
    samples = np.array([float(curve.energy(9).detach()) for _ in range(40)])
    assert samples.std() > 0
    exact = st.measureWithProbes(model, curve.eta(8), probes=64, seed=5)
    assert abs(samples.mean() - exact.energy) < 4 * np.hypot(samples.std() / np.sqrt(len(samples)), exact.energyError)
    assert np.allclose(curve.eta(8)[[0, -1]], [etaA, etaB])
    after = st.measureWithProbes(model, curve.optimise(0.01, [(25, 9)]).eta(8), probes=64, seed=5)
    assert after.energy < exact.energy - 5 * np.hypot(exact.energyError, after.energyError)
