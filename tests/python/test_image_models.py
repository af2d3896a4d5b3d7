# SPDX-License-Identifier: MIT
"""Models of pictures: against the same U-Net written in PyTorch, against a known posterior, and through the program."""
import json
import os
import math
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import openmmspacetime as spacetime
from openmmspacetime import program

torch = pytest.importorskip("torch")
F = torch.nn.functional


def bars(count, shape=(8, 8, 1), seed=7):
    random = np.random.default_rng(seed)
    pixels = 0.1 + 0.2 * random.random((count, *shape))
    for picture, place in zip(pixels, random.integers(shape[1], size=count)):
        picture[:, place] += 0.6
    return pixels


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "m.safetensors"
    return path, spacetime.trainImages(bars(64), path, steps=20, batch=8, channels=8, threads=1)


def weights(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__")
    cut = {name: data[8 + size + t["data_offsets"][0] : 8 + size + t["data_offsets"][1]] for name, t in header.items()}
    return {name: torch.from_numpy(np.frombuffer(raw, "<f4").copy().reshape(header[name]["shape"])).double() for name, raw in cut.items()}


def reference(w, unet, image, y, logSnr):
    """The denoised mean at y = x/alpha [B, D], by PyTorch in double precision from the weights' names alone."""
    height, width, channels = image
    patch, levels = unet["patch"], len(unet["multipliers"])
    sigmaData = w["sigmaData"]
    s = torch.exp(-0.5 * logSnr)[:, None]
    scale = torch.sqrt(s**2 + sigmaData**2)

    def conv(name, x):
        return F.conv2d(x, w[name + ".weight"], w[name + ".bias"], padding=w[name + ".weight"].shape[-1] // 2)

    def linear(name, x):
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    def norm(name, x):  # composed: group_norm has no forward mode
        parts = x.reshape(len(x), math.gcd(8, x.shape[1]), -1)
        parts = (parts - parts.mean(2, keepdim=True)) / torch.sqrt(parts.var(2, unbiased=False, keepdim=True) + 1e-5)
        return parts.reshape(x.shape) * w[name + ".weight"][:, None, None] + w[name + ".bias"][:, None, None]

    def block(name, x):
        a = conv(name + ".conv1", F.silu(norm(name + ".norm1", x)))
        gain, shift = linear(name + ".level", embedding)[:, :, None, None].chunk(2, 1)
        a = conv(name + ".conv2", F.silu(norm(name + ".norm2", a) * (1 + gain) + shift))
        return a + (conv(name + ".skip", x) if name + ".skip.weight" in w else x)

    angles = (-logSnr / 8)[:, None] * torch.tensor(0.8 * 15 ** (np.arange(16) / 15))
    embedding = F.silu(linear("level2", F.silu(linear("level1", torch.cat([angles.cos(), angles.sin()], 1)))))
    a = (y / scale).reshape(-1, height, width, channels)
    # Row and column of the pixel in its patch, then its channel.
    a = torch.cat([a[:, i::patch, j::patch] for i in range(patch) for j in range(patch)], 3).permute(0, 3, 1, 2)
    a = conv("in", a)
    skips = []
    for i in range(levels):
        a = F.avg_pool2d(a, 2) if i else a
        for b in range(unet["blocks"]):
            a = block(f"down{i}.{b}", a)
            skips.append(a)
    a = block("middle", a)
    for i in reversed(range(levels)):
        a = F.interpolate(a, scale_factor=2.0, mode="nearest") if i < levels - 1 else a
        for b in range(unet["blocks"]):
            a = block(f"up{i}.{b}", torch.cat([a, skips.pop()], 1))
    a = conv("out", F.silu(norm("norm", a))).permute(0, 2, 3, 1)
    parts = a.chunk(patch * patch, 3)
    out = torch.stack(parts, 3).reshape(-1, height // patch, width // patch, patch, patch, channels).permute(0, 1, 3, 2, 4, 5).reshape(len(y), -1)
    return sigmaData**2 / scale**2 * y + s * sigmaData / scale * out


@pytest.mark.parametrize("shape, options", [((8, 8, 1), dict(channels=8)), ((8, 16, 3), dict(channels=12, patch=2, multipliers=(1, 2, 1), blocks=2))])
def test_values_and_derivatives_are_those_of_the_same_net_in_pytorch(tmp_path, shape, options):
    path = tmp_path / "m.safetensors"
    model = spacetime.trainImages(bars(64, shape), path, steps=20, batch=8, threads=1, **options)
    assert model.imageShape == shape and model.numParameters == sum(t.numel() for name, t in weights(path).items() if name != "data_mean")
    w = weights(path)
    w["sigmaData"] = json.loads(model.metadata)["sigma_data"]
    D = math.prod(shape)
    random = np.random.default_rng(1)
    logSnr = np.array([-5.0, -1.0, 2.0, 6.0])
    y = random.normal(size=(4, D)) * np.exp(-0.5 * logSnr)[:, None]
    eta = np.column_stack([-0.5 * np.exp(logSnr), np.exp(logSnr)[:, None] * y])

    def mean(eta):
        return reference(w, model.unet, shape, eta[:, 1:] / (-2 * eta[:, :1]), torch.log(-2 * eta[:, 0]))

    direction = np.column_stack([0.1 * eta[:, 0] * random.normal(size=4), np.exp(0.5 * logSnr)[:, None] * random.normal(size=(4, D))])
    expected, slopes = torch.func.jvp(mean, (torch.tensor(eta),), (torch.tensor(direction),))
    means, products = model.products(eta, direction)
    np.testing.assert_allclose(means, expected, atol=2e-5)
    np.testing.assert_allclose(products, slopes, atol=2e-5 * np.abs(slopes.numpy()).max())
    if D > 64:
        return
    rows = torch.func.vmap(torch.func.jacrev(lambda e: mean(e[None])[0]))(torch.tensor(eta))  # reverse mode: the whole covariance
    np.testing.assert_allclose(model.moments(eta).J[:, 1:], rows, atol=1e-4 * np.abs(rows.numpy()).max())


def test_the_posterior_of_a_known_distribution_is_learned(tmp_path):
    """Pictures of two kinds, each with noise of its own: p(c) is a mixture of two Gaussians, whose denoised means have a closed form."""
    random = np.random.default_rng(2)
    kinds = np.zeros((2, 8, 8))
    kinds[0, :, :4] = kinds[1, 2:6] = 0.5
    spread = 0.08
    pixels = 0.25 + kinds[random.integers(2, size=2000)] + spread * random.normal(size=(2000, 8, 8))
    model = spacetime.trainImages(np.clip(pixels, 0, 1), steps=200, batch=16, channels=8, threads=1, learningRate=5e-3)
    means = (0.25 + kinds.reshape(2, 64) - 0.5) / 0.5
    exact = spacetime.GaussianMixtureModel(means, np.full(2, (spread / 0.5) ** 2), np.full(2, 0.5))
    for logSnr in (-4.0, -2.0, 0.0, 3.0):
        clean = means[random.integers(2, size=200)] + spread / 0.5 * random.normal(size=(200, 64))
        y = clean + math.exp(-0.5 * logSnr) * random.normal(size=clean.shape)
        eta = np.column_stack([np.full(200, -0.5 * math.exp(logSnr)), math.exp(logSnr) * y])
        truth = exact.denoised(eta)
        error = np.sqrt(np.mean((model.denoised(eta) - truth) ** 2))
        best = np.sqrt(np.mean((truth - clean) ** 2))  # what even the exact posterior cannot know
        print(logSnr, error, best)
        assert error < 0.5 * best


TOO_LITTLE = """
import resource, sys
import numpy as np
import openmmspacetime as spacetime
model = spacetime.loadModel(sys.argv[1])
eta = np.column_stack([np.full(200, -0.5), np.random.default_rng(0).normal(size=(200, 3072))])
direction = 0.01 * np.ones_like(eta)
expected = model.products(eta[:4], direction[:4])
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 250_000_000,) * 2)
found = model.products(eta, direction)
for a, b in zip(expected, found):
    np.testing.assert_allclose(b[:4], a, atol=1e-5)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process as Linux does")
def test_too_little_memory_makes_smaller_portions_and_says_so(tmp_path):
    path = tmp_path / "m.safetensors"
    spacetime.trainImages(bars(16, (32, 32, 3)), path, steps=1, batch=2, threads=1, channels=48)
    # What a portion takes depends on the threads.
    done = subprocess.run([sys.executable, "-c", TOO_LITTLE, str(path)], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr
    assert "not enough memory for 200 pictures at a time, going on with 100" in done.stderr


def test_bad_pictures_are_refused(tmp_path, small):
    with pytest.raises(ValueError, match=r"expected pictures \[K, H, W\] or \[K, H, W, C\], got an array of shape \(8, 8\)"):
        spacetime.trainImages(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="at least 16 pictures, got 3"):
        spacetime.trainImages(bars(3))
    pixels = bars(32)
    pixels[3, 1, 5] = np.nan
    with pytest.raises(ValueError, match="got nan in picture 3, row 1, column 5, channel 0"):
        spacetime.trainImages(pixels)
    with pytest.raises(ValueError, match="multiples of 2, got 7 x 7"):
        spacetime.trainImages(bars(32, (7, 7, 1)), multipliers=(1, 1))
    with pytest.raises(ValueError, match="exists"):
        spacetime.trainImages(bars(32), small[0])
    with pytest.raises(ValueError, match="resume goes with"):
        spacetime.trainImages(bars(32), resume=True)


def test_bytes_are_255ths(tmp_path):
    pixels = (255 * bars(32)).astype(np.uint8)
    a = spacetime.trainImages(pixels[..., 0], steps=2, batch=8, channels=8, threads=1)
    b = spacetime.trainImages(pixels / 255, steps=2, batch=8, channels=8, threads=1)
    eta = np.column_stack([[-0.5], np.zeros((1, 64))])
    np.testing.assert_array_equal(a.denoised(eta), b.denoised(eta))


def test_model_files_are_opened_as_what_they_hold(small, tmp_path):
    path, model = small
    opened = spacetime.loadModel(path)
    assert isinstance(opened, spacetime.ImageModel) and opened.imageShape == (8, 8, 1)
    assert opened.training["steps"] == 20 and len(opened.training["losses"]) == 1
    with pytest.raises(ValueError, match="a denoiser of pictures: ImageModel, or loadModel, opens it"):
        spacetime.NetworkModel.load(str(path))
    with pytest.raises(ValueError, match="cpu or cuda"):
        spacetime.loadModel(path, device="abacus")


def test_what_a_callback_raises_comes_back_and_what_was_learned_is_kept(tmp_path):
    path = tmp_path / "m.safetensors"

    def progress(step, steps, loss, heldOut):
        assert math.isfinite(loss) and math.isfinite(heldOut)
        raise KeyError("enough")

    options = dict(steps=40, batch=8, channels=8, threads=1, reportEvery=10)
    with pytest.raises(KeyError, match="enough"):
        spacetime.trainImages(bars(32), path, progress=progress, **options)
    assert spacetime.loadModel(path).training["steps"] == 10
    resumed = spacetime.trainImages(bars(32), path, resume=True, **options)
    assert resumed.training["steps"] == 40 and resumed.training["resumed"]


def run(*words, **options):
    return subprocess.run([program.path(), *map(str, words)], capture_output=True, text=True, **options)


def test_the_program_trains_and_describes(tmp_path):
    np.save(tmp_path / "bars.npy", bars(64))
    words = ["train", "--images", tmp_path / "bars.npy", "--out", tmp_path / "m.safetensors", "--batch", 8, "--unet-channels", 8, "--threads", 1]
    done = run(*words, "--steps", 20, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["steps"] == 20 and report["pictures"] == 61 and report["held_out"] == 3 and report["parameters"] > 1000
    done = run("info", tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    assert "  height                     8\n" in done.stdout and "--unet-channels 8" in done.stdout
    assert run(*words, "--steps", 20).returncode != 0  # exists
    for bad, why in ((["--channels", 2], "1 (grey) or 3 (colour)"), (["--multipliers", "1,x"], "--multipliers"), (["--components", 3], "does not go with --images"),
                     (["--image-size", 9], "9 x 9"), (["--multipliers", "1,1,1,1,1"], "multiples of 16")):
        done = run(*words, "--overwrite", *bad)
        assert done.returncode != 0 and why in done.stderr, done.stderr
    done = run("train", tmp_path / "bars.npy", "--variables", "a", "--out", tmp_path / "x.safetensors", "--flips")
    assert done.returncode != 0 and "--flips goes with --images" in done.stderr


def test_the_sheet_of_samples_shows_the_nearest_pictures(small, tmp_path):
    path, model = small
    np.save(tmp_path / "bars.npy", bars(64))
    script = Path(__file__).parents[2] / "examples" / "images" / "checkpoint.py"
    command = [sys.executable, script, "--model", path, "--pictures", tmp_path / "bars.npy", "--out", tmp_path / "sheet", "--samples", "3", "--steps", "4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "sheet" / "training.json").read_text())
    assert content["training"] == model.training and content["model"]["parameters"] == model.numParameters
    samples = np.clip(spacetime.sampleReverseSde(model, 3, steps=4, seed=1, covariance=False), 0, 1)
    distances = np.linalg.norm(samples[:, None] - bars(64).reshape(64, -1), axis=2).min(1)
    assert content["samples"]["median_distance_to_nearest_training_picture"] == pytest.approx(np.median(distances), rel=1e-5)
    for name in ("losses.png", "samples.png"):
        assert (tmp_path / "sheet" / name).stat().st_size > 500
    assert "exists" in subprocess.run(command, capture_output=True, text=True).stderr


def test_interrupting_the_program_keeps_what_was_learned(tmp_path):
    np.save(tmp_path / "bars.npy", bars(64))
    out = tmp_path / "m.safetensors"
    words = ["train", "--images", tmp_path / "bars.npy", "--out", out, "--batch", 8, "--unet-channels", 8, "--threads", 1, "--steps", 10**6]
    process = subprocess.Popen([program.path(), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0 and "interrupted: --resume goes on from here" in stdout, stderr
    assert 0 < spacetime.loadModel(out).training["steps"] < 10**6
    assert (tmp_path / "m.safetensors.checkpoint").exists()
