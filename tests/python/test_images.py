# SPDX-License-Identifier: MIT
"""Sequences of pictures and distances between them on closed-form models, and measures of pictures against their definitions."""
import json
import math

import numpy as np
import pytest

import openmmspacetime as st
from openmmspacetime.imagemeasures import classicalScaling, euclideanDistances, psnr, ssim, ssimDistances, stepEvenness
from openmmspacetime.images import METHODS, PictureSpace, logDensities

PIL = pytest.importorskip("PIL.Image")

SHAPE = (4, 5, 1)
D = 20


@pytest.fixture(scope="module")
def gaussian():
    """One Gaussian: every quantity has a closed form."""
    rng = np.random.default_rng(1)
    return st.GaussianMixtureModel(0.5 + 0.2 * rng.normal(size=(1, D)), [0.04], np.ones(1))


MEANS = np.random.default_rng(2).uniform(0.1, 0.9, size=(3, D))


@pytest.fixture(scope="module")
def mixture():
    return st.GaussianMixtureModel(MEANS, np.full(3, 0.01), np.full(3, 1 / 3))


def pictures(count, seed=3):
    """Near the means of the mixture."""
    noise = np.random.default_rng(seed).normal(size=(count, D))
    return np.clip(MEANS[np.arange(count) % 3] + 0.1 * noise, 0, 1).reshape(count, *SHAPE)


# ---- measures


def testSsimAgainstItsDefinition():
    rng = np.random.default_rng(4)
    a, b = rng.uniform(size=(2, 9, 8, 3))
    offsets = np.arange(-3, 4)
    w = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    w /= w.sum()
    values = []
    for channel in range(3):
        for i in range(3, 6):
            for j in range(3, 5):
                p, q = (x[i - 3:i + 4, j - 3:j + 4, channel] for x in (a, b))
                mp, mq = (w * p).sum(), (w * q).sum()
                vp, vq, vpq = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum(), (w * (p - mp) * (q - mq)).sum()
                values.append((2 * mp * mq + 1e-4) * (2 * vpq + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    assert ssim(a, b) == pytest.approx(np.mean(values), rel=1e-10)
    assert ssim(a, a) == pytest.approx(1) and ssim(a[..., 0], b[..., 0]) != ssim(a, b)
    assert ssimDistances(np.stack([a, b]))[0, 1] == pytest.approx(1 - np.mean(values))
    with pytest.raises(ValueError, match="odd window from 3 to 8 pixels"):
        ssim(a, b, window=9)
    with pytest.raises(ValueError, match="one shape"):
        ssim(a, b[1:])


def testPsnrEuclidEvenness():
    a = np.zeros((2, 2, 1))
    b = np.full((2, 2, 1), 0.1)
    assert psnr(a, b) == pytest.approx(20) and psnr(a, a) == math.inf
    assert euclideanDistances([a, b])[0, 1] == pytest.approx(0.2)
    assert stepEvenness([a, a + 1, a + 2]) == pytest.approx(1)
    assert stepEvenness([a, a, a + 1]) == pytest.approx(2)
    assert math.isnan(stepEvenness([a, a]))


def testScalingGivesBackDistancesInThePlane():
    points = np.random.default_rng(5).normal(size=(6, 2))
    d = euclideanDistances(points)
    found, share = classicalScaling(d)
    assert share == pytest.approx(1) and np.allclose(euclideanDistances(found), d)


# ---- pictures of a model


def testPicturesAreConvertedOrRefused(gaussian, tmp_path):
    space = PictureSpace(gaussian, SHAPE)
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert np.allclose(space.picture(grey)[..., 0], grey / 255)
    image = PIL.fromarray(grey)
    assert np.allclose(space.picture(image)[..., 0], grey / 255)
    image.save(tmp_path / "p.png")
    assert np.allclose(space.picture(tmp_path / "p.png")[..., 0], grey / 255)
    large = PIL.fromarray(np.full((8, 10, 4), 255, np.uint8))
    assert space.picture(large, resize=True).shape == SHAPE
    with pytest.raises(ValueError, match=r"a: expected a picture of 4 x 5, 1 channel, got an array of shape \(8, 10, 1\)"):
        space.picture(large, "a")
    with pytest.raises(ValueError, match="expected a picture of 4 x 5"):
        space.picture(np.zeros((5, 4)))
    bad = np.zeros(SHAPE)
    bad[2, 3, 0] = np.nan
    with pytest.raises(ValueError, match="not a number, the first at row 2, column 3, channel 0"):
        st.interpolate(gaussian, bad, np.zeros(SHAPE), "lerp", shape=SHAPE)
    with pytest.raises(ValueError, match=r"pictures\[1\]: expected a picture"):
        st.editDistances(gaussian, [np.zeros(SHAPE), ["no", "picture"]], shape=SHAPE)


def testModelOfAnotherShapeIsNamed(gaussian):
    with pytest.raises(ValueError, match="pictures of 8 x 8, 1 channel are 64 values, the model is one of 20"):
        PictureSpace(gaussian, (8, 8))
    with pytest.raises(ValueError, match="give shape"):
        PictureSpace(gaussian)


def testEncodingIsTheClosedFormAndComesBack(gaussian):
    """Under one Gaussian the probability-flow ODE scales the distance from the mean by the marginal's standard deviation."""
    space = PictureSpace(gaussian, SHAPE, steps=200)
    given = pictures(2)
    level = 1.0
    mean = gaussian.denoised(space.eta(np.zeros((1, D)), -40.0))[0]  # nothing is known: the prior's mean
    stretch = math.sqrt((0.04 + math.exp(-level)) / (0.04 + math.exp(-space.dataLogSnr)))
    y = space.encode(given, level)
    assert np.allclose(y, mean + stretch * (given.reshape(2, -1) - mean), atol=2e-3)
    assert np.allclose(space.decode(y, level), given, atol=1e-3)
    # Points of several levels go together as they do alone.
    other = space.encode(given, -1.0)
    together = space.decode(np.stack([y[0], other[1]]), [level, -1.0])
    assert np.allclose(together[0], space.decode(y[:1], level)[0], atol=2e-3) and np.allclose(together, given, atol=2e-3)
    values, levels = space.ofEta(space.eta(y, level))
    assert np.allclose(values, y) and np.allclose(levels, level)


@pytest.mark.parametrize("method", METHODS)
def testEndsAreThePictures(mixture, method):
    a, b = pictures(2)
    found = st.interpolate(mixture, a, b, method, logSnr=2.0, latentLogSnr=-3.0, densityLogSnr=3.0, numFrames=9, shape=SHAPE, steps=400)
    assert found.frames.shape == (9, *SHAPE)
    assert np.allclose(found.frames[0], a, atol=5e-3) and np.allclose(found.frames[-1], b, atol=5e-3)
    assert found.length > 3 * found.lengthError and found.energy >= 0.499 * found.length**2 and found.evaluations >= 0
    assert found.logDensity[0] == 0 and 1 <= found.evenness < 8


def testGeodesicIsShorterThanBaselines(mixture):
    a, b = pictures(2)
    lengths = {m: st.interpolate(mixture, a, b, m, logSnr=2.0, latentLogSnr=-3.0, numFrames=9, shape=SHAPE, steps=60, probes=32) for m in METHODS}
    best = lengths.pop("spacetime")
    assert best.converged
    for method, other in lengths.items():
        assert best.length + 3 * best.lengthError < other.length - 3 * other.lengthError, method
    assert best.logSnr[4] < best.logSnr[0] - 0.3 and np.allclose(best.logSnr[[0, -1]], 2.0)
    # Equal Fisher-Rao distances of neighbouring frames.
    eta = np.array([best.curve.evaluate(s) for s in np.linspace(0, 1, 9)])
    assert st.measureWithProbes(mixture, eta, probes=16).length == pytest.approx(best.length, rel=0.05)


def testLogDensityIsThatOfTheModel(mixture):
    space = PictureSpace(mixture, SHAPE)
    frames = pictures(4)
    found = logDensities(space, frames, 2.0, tolerance=1e-3)
    exact = st.logLikelihood(mixture, frames.reshape(4, -1), 2.0, schedule="ve")
    assert np.allclose(found, exact - exact[0], atol=0.01)


@pytest.mark.parametrize("method", METHODS)
def testIdenticalEnds(mixture, method):
    a = pictures(1)[0]
    found = st.interpolate(mixture, a, a, method, numFrames=6, shape=SHAPE)
    assert np.array_equal(found.frames, np.repeat(a[None], 6, axis=0)) and found.length == found.energy == 0 and not found.logDensity.any()


def testBadCalls(mixture):
    a, b = pictures(2)
    with pytest.raises(ValueError, match="expected a method of spacetime, lerp"):
        st.interpolate(mixture, a, b, "morph", shape=SHAPE)
    with pytest.raises(ValueError, match="at least 5 frames, got 3"):
        st.interpolate(mixture, a, b, "lerp", numFrames=3, shape=SHAPE)
    with pytest.raises(TypeError, match="takes no further options, got start"):
        st.interpolate(mixture, a, b, "lerp", shape=SHAPE, start=0)
    with pytest.raises(ValueError, match="identical"):
        st.extrapolatePictures(mixture, a, a, shape=SHAPE)
    with pytest.raises(ValueError, match="share above 0"):
        st.extrapolatePictures(mixture, a, b, beyond=0, shape=SHAPE)


def testExtrapolationGoesOnThroughTheSecondPicture(gaussian):
    a, b = pictures(2)
    found = st.extrapolatePictures(gaussian, a, b, beyond=0.5, logSnr=2.0, tau=1e-4, numFrames=13, shape=SHAPE, steps=100)
    d = np.linalg.norm((found.frames - b).reshape(len(found.frames), -1), axis=1)
    assert d.argmin() == 8 and d.min() < 5e-3 and np.allclose(found.frames[0], a, atol=5e-3)
    # A weak density hardly bends: the last frame is half as far beyond b as a is before it.
    assert np.allclose(found.frames[-1] - b, 0.5 * (b - a), atol=0.02)


# ---- distances


def testEditDistances(gaussian):
    given = pictures(4)
    given = np.concatenate([given, given[:1]])
    level = 1.0
    found = st.editDistances(gaussian, given, level, shape=SHAPE, encoded=False, points=17, names="abcde", measureProbes=64)
    d = found.distance
    assert np.array_equal(d, d.T) and not np.diag(d).any() and d[0, 4] < 1e-9 and found.converged.all()
    # Closed form of a Gaussian posterior of variance v and mean m on the half-space.
    v = 1 / (1 / 0.04 + math.exp(level))
    m = given.reshape(5, -1) * math.exp(level) * v
    gap = euclideanDistances(m) ** 2
    exact = math.sqrt(2 * D) * np.arccosh(1 + gap / (2 * 2 * D * v))
    assert np.allclose(d, exact, rtol=0.02, atol=1e-9)
    assert found.nearest()[0] == 4 and found.nearest("Euclid")[4] == 0
    assert found.rankCorrelations()[("Euclid", "DiffED")] == pytest.approx(1, abs=0.02)
    assert "a           e" in str(found) and "ends at log-SNR 1" in str(found)
    with pytest.raises(ValueError, match="at least two pictures"):
        st.editDistances(gaussian, given[:1], level, shape=SHAPE)
    with pytest.raises(ValueError, match="a name for each of the 5"):
        st.editDistances(gaussian, given, level, shape=SHAPE, names="ab")


# ---- what is shown


def testReportStripGif(mixture, tmp_path):
    from openmmspacetime import imageplots

    a, b = pictures(2)
    found = [st.interpolate(mixture, a, b, m, logSnr=2.0, numFrames=7, shape=SHAPE) for m in ("spacetime", "lerp")]
    report = st.interpolationReport("Pictures", {"a to b": found})
    assert "a to b: spacetime" in report.table and "log-SNR 2" in report.table
    data = json.loads(report.toJson())
    assert data["rows"][1]["length"] == found[1].length
    strip = imageplots.strip({f.method: f.frames for f in found}, scale=4, columns=5, captions=[str(k) for k in range(5)], title="a to b")
    assert strip.height > 2 * 4 * 4 and np.asarray(strip).shape[2] == 3
    file = imageplots.savePicture(strip, tmp_path / "strip.png")
    report.addFigure(file, "Strip", "A caption.")
    gif = imageplots.saveGif(found[0].frames, tmp_path / "a.gif", scale=3)
    with PIL.open(gif) as animation:
        assert animation.n_frames == 12 and animation.size == (15, 12)
    report.addFigure(gif, "Animation")
    page = report.save(tmp_path / "report.html").read_text()
    assert "data:image/png;base64" in page and "data:image/gif;base64" in page
    with pytest.raises(ValueError, match="exists"):
        imageplots.saveGif(found[0].frames, gif)
    with pytest.raises(ValueError, match="pictures of one size"):
        imageplots.strip({"a": found[0].frames, "b": found[1].frames[:, 1:]})
    with pytest.raises(ValueError, match="with NaN"):
        imageplots.sheet(np.full((2, *SHAPE), np.nan))


def testFiguresOfDistances(gaussian):
    from openmmspacetime import imageplots

    found = st.editDistances(gaussian, pictures(4), 1.0, shape=SHAPE, points=5)
    assert len(imageplots.embedding(found, labels=[0, 0, 1, 1]).axes) == 2
    assert len(imageplots.distanceMatrix(found).axes) == 4


def testFramesBeyondThePicturesAreSaid():
    model = st.GaussianMixtureModel(np.full((1, D), 2.0), [0.5], np.ones(1))
    a, b = pictures(2)
    with pytest.warns(UserWarning, match=r"frames of the method 'slerp' have pixels .* beyond \[0, 1\]"):
        found = st.interpolate(model, a + 1.5, b + 1.5, "slerp", shape=SHAPE, measure=False)
    assert found.overshoot == pytest.approx(found.frames.max() - 1)
    report = st.interpolationReport("Pictures", {"far": [found]})
    assert any("beyond [0, 1]" in w for w in report.warnings)
