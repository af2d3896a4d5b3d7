# SPDX-License-Identifier: MIT
"""Pictures by way of an autoencoder: the path of examples/images/latent.py and edm2.py, with a small latent model trained here on 8 x 8 digits."""
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import openmmspacetime as st

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "images"
sys.path.insert(0, str(EXAMPLES))
import edm2  # noqa: E402
import latent  # noqa: E402
import morph  # noqa: E402

SHAPE = (2, 2, 4)  # of the latents
RANGE = (-5.0, 8.0)


class Autoencoder:
    """The first principal components of the digits, as latents of unit variance."""

    def __init__(self, pictures):
        flat = pictures.reshape(len(pictures), -1)
        self.mean = flat.mean(axis=0)
        self.basis = np.linalg.svd(flat - self.mean, full_matrices=False)[2][: np.prod(SHAPE)]
        self.scale = ((flat - self.mean) @ self.basis.T).std()

    def encode(self, pictures):
        return ((pictures.reshape(len(pictures), -1) - self.mean) @ self.basis.T / self.scale).reshape(-1, *SHAPE)

    def decode(self, latents):
        return (latents.reshape(len(latents), -1) @ self.basis * self.scale + self.mean).reshape(-1, 8, 8, 1)


class Denoiser(torch.nn.Module):
    """Noise of the variance-preserving schedule, from latents [n, C, H, W] and log-SNR [n]. What a Gaussian of unit variance would give is built in."""

    def __init__(self, size, width=96):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(size + 3, width), torch.nn.SiLU(), torch.nn.Linear(width, width), torch.nn.SiLU(), torch.nn.Linear(width, size))

    def forward(self, x, logSnr):
        flat, l = x.flatten(1), logSnr[:, None] / 8
        out = self.layers(torch.cat([flat, l, torch.sin(4 * l), torch.cos(4 * l)], 1))
        return ((-logSnr).sigmoid().sqrt()[:, None] * flat + logSnr.sigmoid().sqrt()[:, None] * out).view_as(x)


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    return load_digits().images[..., None] / 16.0


@pytest.fixture(scope="module")
def autoencoder(digits):
    return Autoencoder(digits)


@pytest.fixture(scope="module")
def model(digits, autoencoder):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    c = torch.tensor(autoencoder.encode(digits), dtype=torch.float32).permute(0, 3, 1, 2).contiguous()
    network = Denoiser(int(np.prod(SHAPE)))
    adam = torch.optim.Adam(network.parameters(), 2e-3)
    for step in range(1200):
        adam.param_groups[0]["lr"] = 2e-3 * (1 - step / 1200)
        clean = c[torch.randint(len(c), (256,))]
        l = RANGE[0] + (RANGE[1] - RANGE[0]) * torch.rand(256)
        alpha, sigma = (s.sigmoid().sqrt()[:, None, None, None] for s in (l, -l))
        eps = torch.randn_like(clean)
        loss = (network(alpha * clean + sigma * eps, l) - eps).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.set_num_threads(threads)
    return st.torchModel(network.eval(), SHAPE, "vp", "eps", RANGE, dataVariance=float(c.var()), batch=64)


def testGeodesicOfLatents(digits, autoencoder, model):
    pictures = digits[[3, 8]]  # a three and an eight
    options = dict(logSnr=1.0, numFrames=9, steps=24, probes=16, seed=1)
    found, frames = morph.morph(model, autoencoder.encode, autoencoder.decode, pictures, ("spacetime", "lerp"), **options)
    assert {name: f.shape for name, f in frames.items()} == {"spacetime": (9, 8, 8, 1), "lerp": (9, 8, 8, 1)}
    # The ends are the pictures as the autoencoder knows them, but for the error of the ODE there and back.
    known = autoencoder.decode(autoencoder.encode(pictures))
    lost = np.sqrt(np.mean((known - pictures) ** 2))
    assert 0.02 < lost < 0.2
    for frame, picture in zip(frames["spacetime"][[0, -1]], pictures):
        assert np.sqrt(np.mean((frame - picture) ** 2)) < lost + 0.02
    # Shorter than the straight line between the same ends, beyond the error bars of the same probes.
    ends = np.array(found[0].curve.eta)[[0, -1]]
    line = st.measureWithProbes(model, np.linspace(0, 1, 33)[:, None] * (ends[1] - ends[0]) + ends[0], probes=16, seed=7)
    own = st.measureWithProbes(model, np.array([found[0].curve.evaluate(s) for s in np.linspace(0, 1, 33)]), probes=16, seed=7)
    assert own.length + 3 * own.lengthError < line.length - 3 * line.lengthError
    assert own.energy + 3 * own.energyError < line.energy - 3 * line.energyError
    # In between it leaves the noise level of its ends.
    assert found[0].logSnr.min() < 0.9 and found[0].logSnr[0] == pytest.approx(1.0)


def testIdenticalPictures(digits, autoencoder, model):
    found, frames = morph.morph(model, autoencoder.encode, autoencoder.decode, digits[[5, 5]], ("spacetime", "lerp"), logSnr=1.0, numFrames=5)
    assert [one.length for one in found] == [0, 0]
    assert np.ptp(frames["spacetime"], axis=0).max() == 0


def testAnEncoderOfAnotherModel(digits, model):
    with pytest.raises(ValueError, match="expected latents of 16 values from the encoder, got an array of shape"):
        morph.morph(model, lambda p: p, lambda p: p, digits[:2])


def gaussian(variance):
    """The perfect denoiser (x0, VP) of a Gaussian with a variance for each value [C, H, W]."""

    def network(x, logSnr):
        alpha2, sigma2 = (s.sigmoid()[:, None, None, None] for s in (logSnr, -logSnr))
        return alpha2.sqrt() * variance * x / (alpha2 * variance + sigma2)

    return network


def testTorchModelIsTheNetwork():
    """Rows become pictures and back without being mixed up; products are those of a Gaussian."""
    shape, rng = (2, 3, 2), np.random.default_rng(1)
    variance = rng.uniform(0.3, 2, shape)
    model = st.torchModel(gaussian(torch.tensor(variance, dtype=torch.float32).permute(2, 0, 1)), shape, "vp", "x0", (-4, 6), batch=3)
    l, y = rng.uniform(-2, 4, 7), rng.normal(size=(7, 12))
    eta = np.concatenate([-0.5 * np.exp(l)[:, None], np.exp(l)[:, None] * y], axis=1)
    direction = rng.normal(size=eta.shape)
    posterior = 1 / (1 / variance.reshape(-1) + np.exp(l)[:, None])
    mean = posterior * eta[:, 1:]
    product = posterior * direction[:, 1:] + 2 * direction[:, :1] * posterior * mean  # d posterior / d eta_l = 2 posterior^2
    got = model.products(eta, direction)
    assert np.allclose(got[0], mean, rtol=1e-5, atol=1e-5) and np.allclose(got[1], product, rtol=1e-5, atol=1e-5)
    assert np.allclose(model.denoised(eta), mean, rtol=1e-5, atol=1e-5)


def testTorchModelRefuses(capsys):
    variance = torch.ones(1, 2, 2)
    good = gaussian(variance)
    with pytest.raises(ValueError, match="batch of at least 1"):
        st.torchModel(good, (2, 2, 1), "vp", "x0", (-4, 6), batch=0)
    with pytest.raises(ValueError, match=r"tensor of the shape of x, \(16, 1, 2, 2\), it returned \(16, 4\)"):
        st.torchModel(lambda x, l: good(x, l).flatten(1), (2, 2, 1), "vp", "x0", (-4, 6))
    with pytest.raises(ValueError, match="jvp disagrees"):
        st.torchModel(lambda x, l: good(x.detach(), l), (2, 2, 1), "vp", "x0", (-4, 6))

    def large(x, l):
        if len(x) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 TiB")
        return good(x, l)

    model = st.torchModel(large, (2, 2, 1), "vp", "x0", (-4, 6), batch=16)
    assert "not enough memory for 16 pictures at a time, going on with 8" in capsys.readouterr().err
    eta = np.concatenate([-0.5 * np.ones((9, 1)), np.ones((9, 4))], axis=1)
    assert np.allclose(model.denoised(eta), st.torchModel(good, (2, 2, 1), "vp", "x0", (-4, 6)).denoised(eta))
    assert capsys.readouterr().err == ""


def testSchedulesOfDiffusers():
    """A U-Net at discrete times: the network asks it at the time of the log-SNR, also between two."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    products = torch.cumprod(1 - betas, 0).float()
    exact = np.log(products.double().numpy() / (1 - products.double().numpy()))
    asked = []

    class Unet(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, x, time, return_dict, **conditions):
            asked.append((time, conditions))
            return (x * time[:, None, None, None],)

    for kind, name in (("epsilon", "eps"), ("v_prediction", "v"), ("sample", "x0")):
        scheduler = types.SimpleNamespace(alphas_cumprod=products, config=types.SimpleNamespace(prediction_type=kind))
        network, prediction, levels = latent.denoiser(Unet(), scheduler, torch.zeros(1, 7, 5))
        assert prediction == name and levels == pytest.approx((max(exact[-1], -9), exact[0]), rel=1e-4)
    x = torch.ones(4, 1, 2, 2)
    network(x, torch.tensor([exact[0], exact[40], 0.5 * (exact[700] + exact[701]), exact[999]], dtype=torch.float32))
    times, conditions = asked[-1]
    assert times.numpy() == pytest.approx([0, 40, 700.5, 999], abs=0.02)
    assert conditions["encoder_hidden_states"].shape == (4, 7, 5)
    # Differentiable by log-SNR.
    at = torch.tensor([exact[700]] * 4, dtype=torch.float32) + 0.003
    slope = torch.func.jvp(network, (x, at), (torch.zeros_like(x), torch.ones(4)))[1]
    assert slope.flatten().numpy() == pytest.approx(1 / (exact[700] - exact[699]), rel=1e-2)


def testRefusalsInOneLine(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(SystemExit, match="^latent.py: needs the diffusers library: pip install diffusers transformers accelerate$"):
        latent.load(str(tmp_path), "cpu")
    monkeypatch.setitem(sys.modules, "diffusers", types.SimpleNamespace())
    with pytest.raises(SystemExit, match="^latent.py: --pipeline .* holds no diffusers pipeline"):
        latent.load(str(tmp_path), "cpu")
    with pytest.raises(SystemExit, match="^edm2.py: --repository .* is no clone"):
        edm2.load("none.pkl", str(tmp_path), "cpu")
    (tmp_path / "torch_utils").mkdir()
    (tmp_path / "torch_utils" / "persistence.py").write_text("")
    with pytest.raises(SystemExit, match="^edm2.py: --network none.pkl: no such file$"):
        edm2.load("none.pkl", str(tmp_path), "cpu")
    (tmp_path / "bad.pkl").write_bytes(b"no pickle")
    with pytest.raises(SystemExit, match="^edm2.py: --network .*bad.pkl does not open as a checkpoint of EDM2"):
        edm2.load(str(tmp_path / "bad.pkl"), str(tmp_path), "cpu")


REPOSITORY = '''
import numpy as np
import torch


class StandardRGBEncoder:
    def init(self, device):
        pass

    def encode(self, x):
        return x.to(torch.float32) / 127.5 - 1

    def decode(self, x):
        return (x.to(torch.float32) * 127.5 + 128).clip(0, 255).to(torch.uint8)


class Network(torch.nn.Module):
    """Denoises a Gaussian around a picture of its own for each class."""

    def __init__(self):
        super().__init__()
        self.img_resolution, self.img_channels, self.label_dim, self.sigma_data = 4, 3, 2, 0.5
        self.means = torch.nn.Parameter(torch.tensor([-0.3, 0.3]))

    def forward(self, x, sigma, class_labels=None, force_fp32=False):
        assert force_fp32
        sigma = sigma.reshape(-1, 1, 1, 1)
        mean = 0 if class_labels is None else (class_labels.float() @ self.means)[:, None, None, None]
        return mean + 0.25 / (0.25 + sigma**2) * (x - mean)
'''


def testEdm2Script(tmp_path, monkeypatch, capsys):
    """The script from a checkpoint to a strip, with classes that stand for the repository's."""
    repository = tmp_path / "edm2"
    for folder in ("torch_utils", "training"):
        (repository / folder).mkdir(parents=True)
    (repository / "torch_utils" / "persistence.py").write_text("")
    (repository / "training" / "encoders.py").write_text(REPOSITORY)
    monkeypatch.syspath_prepend(str(repository))
    import training.encoders as stand_in

    for name in ("training", "training.encoders"):
        monkeypatch.setitem(sys.modules, name, sys.modules[name])
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"ema": stand_in.Network()}))
    rng = np.random.default_rng(2)
    for name in "ab":
        st.writePng(tmp_path / f"{name}.png", rng.random((4, 4, 3)))
    arguments = ["edm2.py", "--network", str(tmp_path / "net.pkl"), "--repository", str(repository), "--from", str(tmp_path / "a.png"), "--to", str(tmp_path / "b.png"),
                 "--out", str(tmp_path / "out"), "--frames", "5", "--steps", "12", "--probes", "2", "--label", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", arguments)
    edm2.main()
    assert "net.pkl: 4 x 4 pixels, 48 values" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(morph.OUTPUTS)
    with np.load(tmp_path / "out" / "frames.npz") as frames:
        for k, name in ((0, "a"), (-1, "b")):
            assert np.abs(frames["spacetime"][k] - st.readImage(tmp_path / f"{name}.png")).max() < 0.03
    with pytest.raises(SystemExit, match="strip.png exists: replace it with --overwrite"):
        edm2.main()
    monkeypatch.setattr(sys, "argv", arguments[:-4] + ["--label", "2"])
    with pytest.raises(SystemExit, match="^edm2.py: --label 2: expected 0 to 1$"):
        edm2.main()


def testPipelineOfDiffusers(tmp_path):
    """A pipeline of random weights becomes a model whose products are right, attention included; where diffusers is installed."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(1)
    autoencoder = diffusers.AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=2,
                                          norm_num_groups=4, sample_size=16)
    unet = diffusers.UNet2DModel(sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 8), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                                 up_block_types=("AttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, layers_per_block=1, attention_head_dim=4)
    folder = tmp_path / "pipeline"
    pipeline = diffusers.LDMPipeline(vqvae=autoencoder, unet=unet, scheduler=diffusers.DDIMScheduler(beta_start=1e-4, beta_end=0.02))
    pipeline.save_pretrained(folder)
    for name in "ab":
        st.writePng(tmp_path / f"{name}.png", np.random.default_rng(ord(name)).random((16, 16, 3)))
    options = types.SimpleNamespace(pipeline=str(folder), prompt="", size=None, a=str(tmp_path / "a.png"), b=str(tmp_path / "b.png"), device="cpu", batch=8)
    model, coder, pictures = latent.prepare(options)
    assert len(model.variables) == 128 and model.prediction == "eps"
    assert coder.decode(coder.encode(pictures)).shape == pictures.shape == (2, 16, 16, 3)
    # The network itself at one of its times: what it predicts is what the model makes a mean of.
    products = pipeline.scheduler.alphas_cumprod.double().numpy()
    alpha, sigma = np.sqrt(products[300]), np.sqrt(1 - products[300])
    x = np.random.default_rng(3).normal(size=(8, 8, 2))
    with torch.no_grad():
        eps = unet(torch.tensor(x, dtype=torch.float32).permute(2, 0, 1)[None], 300).sample[0].permute(1, 2, 0).double().numpy()
    l = 2 * np.log(alpha / sigma)
    eta = np.append(-0.5 * np.exp(l), np.exp(l) * x.ravel() / alpha)
    assert model.denoised(eta[None])[0] == pytest.approx(((x - sigma * eps) / alpha).ravel(), abs=2e-3)
