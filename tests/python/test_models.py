# SPDX-License-Identifier: MIT
"""Models made of other people's denoisers: TorchScript files and Python functions."""
import json
import pathlib
import re
import subprocess
import warnings

import numpy as np
import pytest

import openmmspacetime as st
from openmmspacetime import program

torch = pytest.importorskip("torch")

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEANS = np.array([[-1.0, 0.4], [1.2, -0.2], [0.3, 1.1]])
VARIANCES = np.array([0.05, 0.1, 0.2])
WEIGHTS = np.array([0.5, 0.3, 0.2])
SCHEDULES = ["vp", "cosine", "ve", "flow"]
PREDICTIONS = ["x0", "eps", "score", "v", "flow", "edm"]
SIGMA_DATA = 0.7
FROM, TO = (-1.0, 0.4), (1.2, -0.2)


def mixture():
    return st.GaussianMixtureModel(MEANS, VARIANCES, WEIGHTS)


class MixtureDenoiser(torch.nn.Module):
    """The perfect denoiser of the mixture in any schedule and prediction."""

    def __init__(self, schedule: str = "vp", prediction: str = "x0", sigmaData: float = SIGMA_DATA):
        super().__init__()
        self.schedule, self.prediction, self.d = schedule, prediction, sigmaData
        self.means = torch.nn.Parameter(torch.tensor(MEANS))
        self.variances = torch.nn.Parameter(torch.tensor(VARIANCES))
        self.weights = torch.nn.Parameter(torch.tensor(WEIGHTS))

    def forward(self, x: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
        l = (-8 * logsnr if self.prediction == "edm" else logsnr)[:, None]
        alpha = torch.ones_like(l)
        sigma = (-0.5 * l).exp()
        if self.schedule == "vp" or self.schedule == "cosine":
            alpha, sigma = l.sigmoid().sqrt(), (-l).sigmoid().sqrt()
        elif self.schedule == "flow":
            alpha, sigma = (0.5 * l).sigmoid(), (-0.5 * l).sigmoid()
        s = sigma / alpha
        if self.prediction == "edm":
            x = alpha * x * (s**2 + self.d**2).sqrt()
        spread = alpha**2 * self.variances + sigma**2  # [N, K]
        away = x[:, None, :] - alpha[:, :, None] * self.means
        share = torch.softmax(self.weights.log() - 0.5 * away.square().sum(2) / spread - 0.5 * x.shape[1] * spread.log(), 1)
        c = (share[:, :, None] * (self.means + (alpha * self.variances / spread)[:, :, None] * away)).sum(1)
        eps = (x - alpha * c) / sigma
        if self.prediction == "eps":
            return eps
        if self.prediction == "score":
            return -eps / sigma
        if self.prediction == "v":
            return alpha * eps - sigma * c
        if self.prediction == "flow":
            return eps - c
        if self.prediction == "edm":
            return (c - self.d**2 / (s**2 + self.d**2) * x / alpha) * (s**2 + self.d**2).sqrt() / (s * self.d)
        return c


def points(model, count=30, low=-3.0, high=5.0):
    rng = np.random.default_rng(3)
    return np.array([model.variables.naturalParameter(rng.uniform(-1.2, 1.2, len(model.variables)), rng.uniform(low, high)) for _ in range(count)])


def assertSameMoments(model, reference, eta, mu, J):
    a, b = model.moments(eta), reference.moments(eta)
    assert np.max(np.linalg.norm(a.mu - b.mu, axis=1) / np.linalg.norm(b.mu, axis=1)) < mu
    assert np.max(np.linalg.norm(a.J - b.J, axis=(1, 2)) / np.linalg.norm(b.J, axis=(1, 2))) < J


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def write(module, name="m.pt", variables=("x1", "x2"), **options):
        options = {"logSnrRange": (-6, 6), "dataMean": mixture().moments(np.array([[-1e-12, 0, 0]])).mu[0, 1:], "overwrite": True, **options}
        path = str(folder / name)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # torch's own is silenced
            st.saveTorchScript(module, path, list(variables), **options)
        return path

    return write


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def testTorchScriptMixture(save, schedule, prediction):
    reference = mixture()
    path = save(MixtureDenoiser(schedule, prediction), schedule=schedule, prediction=prediction, sigmaData=SIGMA_DATA)
    model = st.TorchScriptModel.load(path)
    assert (model.schedule, model.prediction, model.logSnrRange, model.derivatives, model.precision) == (schedule, prediction, (-6, 6), "reverse", "float64")
    eta = points(reference)
    assertSameMoments(model, reference, eta, 1e-9, 1e-6)
    forward = st.TorchScriptModel.load(path, derivatives="forward")
    assert forward.derivatives == "forward"
    assertSameMoments(model, forward, eta, 1e-10, 1e-7)
    lengths = [st.geodesic(m, FROM, TO, points=33).length for m in (model, reference)]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)


@pytest.mark.parametrize("schedule, prediction", [("vp", "x0"), ("ve", "edm"), ("flow", "flow"), ("vp", "v")])
def testCallableMixture(schedule, prediction):
    reference, module = mixture(), MixtureDenoiser(schedule, prediction)
    calls = []

    def function(x, logSnr):
        calls.append(len(x))
        assert x.dtype == np.float64 and x.shape == (len(logSnr), 2)
        return module(torch.from_numpy(x), torch.from_numpy(logSnr))  # a tensor that requires grad

    options = dict(schedule=schedule, prediction=prediction, logSnrRange=(-6, 6), sigmaData=SIGMA_DATA)
    model = st.CallableModel(function, reference.variables, **options)
    eta = points(reference)
    assertSameMoments(model, reference, eta, 1e-7, 1e-4)
    before = model.evaluations
    model.moments(eta)
    assert model.evaluations - before > 3 * len(eta)
    lengths = [st.geodesic(m, FROM, TO, points=33).length for m in (model, reference)]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)

    def jacobian(x, logSnr):
        x, logSnr = torch.from_numpy(x), torch.from_numpy(logSnr)
        one = lambda a, l: module(a[None], l[None])[0]
        return torch.func.vmap(torch.func.jacrev(one))(x, logSnr), torch.func.vmap(torch.func.jacrev(one, 1))(x, logSnr).numpy(force=True)

    assertSameMoments(st.CallableModel(function, reference.variables, jacobian=jacobian, **options), reference, eta, 1e-9, 1e-6)
    with pytest.raises(ValueError, match="jacobian disagrees"):
        st.CallableModel(function, reference.variables, jacobian=lambda x, l: (2 * jacobian(x, l)[0], jacobian(x, l)[1]), **options)


def testCallableTorsions(alanineSamples, torsions):
    """A denoiser of (cos, sin) written from the samples: the same lengths as the samples' own model, on several threads."""
    x, w = alanineSamples
    exact = st.EmpiricalModel(x[::20], torsions, logWeights=w[::20], bandwidth=0.15, grid=True)

    def function(noisy, logSnr):
        return exact.moments(noisy * (np.exp(logSnr) * np.sqrt(1 + np.exp(-logSnr)))[:, None]).mu  # eta_x = (alpha/sigma^2) x

    model = st.CallableModel(function, torsions, logSnrRange=(-4, 6))
    eta = points(model, 20)
    assertSameMoments(model, exact, eta, 1e-9, 1e-6)
    ends = (-2.58, 2.79), (1.09, -0.88)
    found = [st.geodesics(m, *ends, points=33, minKappa=20, threads=2) for m in (model, exact)]
    for a, b in zip(*found):
        assert a.windings == b.windings
        assert a.measure.length == pytest.approx(b.measure.length, rel=1e-4)


def testWhatAFunctionRaisesIsRaised():
    variables = st.Variables.numbers(["a", "b"])
    armed = []

    def function(x, logSnr):
        if armed:
            raise ZeroDivisionError("in the function")
        return x

    model = st.CallableModel(function, variables, logSnrRange=(-2, 6))
    armed.append(True)
    with pytest.raises(ZeroDivisionError, match="in the function"):
        model.moments([[-1.0, 0, 0]])
    with pytest.raises(ZeroDivisionError, match="in the function"):
        st.geodesicsOfPairs(model, [[0, 0], [0, 1]], [[1, 1], [1, 0]], points=9, threads=2)


@pytest.mark.parametrize(
    "function, options, message",
    [
        (lambda x, l: x[:, :1], {}, r"expected the shape \(24, 2\), got \(24, 1\)"),
        (lambda x, l: np.log(x - 100), {}, "not finite"),
        (lambda x, l: "text", {}, "expected numbers"),
        (lambda x, l: x, {"schedule": "linear"}, "schedule: expected vp, cosine, ve, edm or flow, got 'linear'"),
        (lambda x, l: x, {"prediction": "noise"}, "prediction: expected x0, .*got 'noise'"),
        (lambda x, l: x, {"logSnrRange": (3, 1)}, "log-SNR range"),
        (lambda x, l: x, {"jacobian": lambda x, l: x}, "tuple"),
        (lambda x, l: x, {"jacobian": lambda x, l: (x, x)}, r"dx: expected the shape \(24, 2, 2\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def testBadFunctions(function, options, message):
    with pytest.raises(ValueError, match=message):
        st.CallableModel(function, st.Variables.numbers(["a", "b"]), **{"logSnrRange": (-2, 6), **options}).moments([[-1.0, 0, 0]])


class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))


class Narrow(Plain):
    def forward(self, x, logsnr):
        return (x * self.w)[:, :1]


class NotANumber(Plain):
    def forward(self, x, logsnr):
        return torch.log(x * self.w - 100)


class AcrossRows(Plain):
    def forward(self, x, logsnr):
        return x * self.w - x.mean(0)


class Detached(Plain):
    def forward(self, x, logsnr):
        return (x * self.w).detach()


class Distances(Plain):
    """cdist has no forward mode."""

    def forward(self, x, logsnr):
        return x * torch.cdist(x[:, None], self.w[None, None].expand(len(x), 1, 2)).tanh()[:, 0] * self.w


class Untraceable(Plain):
    def forward(self, x, logsnr):
        return {"x0": open("/dev/null") and x}


@pytest.mark.parametrize("module, message", [(Narrow, r"the shape of x, \[5, 2\], it returned \[5, 1\]"), (NotANumber, "not finite"), (AcrossRows, "rows must not depend"),
                                             (Detached, "no way of differentiating"), (Untraceable, "it returned dict")])
def testSaveRefusesModulesThatDoNotDo(tmp_path, module, message):
    with pytest.raises(ValueError, match=message):
        st.saveTorchScript(module(), tmp_path / "m.pt", ["a", "b"], logSnrRange=(-2, 6))
    assert not list(tmp_path.iterdir())


def testForwardModeWhereItIsMissing(save):
    path = save(Distances().double(), "distances.pt")
    assert st.TorchScriptModel.load(path).derivatives == "reverse"
    with pytest.raises(ValueError, match="forward mode: "):
        st.TorchScriptModel.load(path, derivatives="forward")


def testSaveKeepsAnExistingFile(tmp_path):
    (tmp_path / "m.pt").write_text("precious")
    with pytest.raises(ValueError, match="overwrite"):
        st.saveTorchScript(MixtureDenoiser(), tmp_path / "m.pt", ["a", "b"], logSnrRange=(-2, 6))
    assert (tmp_path / "m.pt").read_text() == "precious"


def jitSave(module, path, metadata=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), str(path), _extra_files={} if metadata is None else {"spacetime.json": metadata})


GOOD = {"format": "spacetime-model", "version": 1, "variables": ["a", "b"], "schedule": "vp", "prediction": "x0", "log_snr_range": [-2, 6]}


def testBadFiles(tmp_path):
    """Each is a ValueError in Python, and one line with exit code 2 from the program."""

    def file(name, module=MixtureDenoiser, **changes):
        jitSave(module(), tmp_path / name, json.dumps({**GOOD, **changes}))

    jitSave(MixtureDenoiser(), tmp_path / "bare.pt")
    jitSave(MixtureDenoiser(), tmp_path / "text.pt", "not json")
    (tmp_path / "corrupt.pt").write_bytes(b"\xff" * 100)
    file("good.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:3000])
    torch.save(MixtureDenoiser().state_dict(), tmp_path / "state.pt")
    file("schedule.pt", schedule="linear")
    file("prediction.pt", prediction="noise")
    file("version.pt", version=2)
    file("three.pt", variables=["a", "b", "c"])
    file("narrow.pt", Narrow)
    file("nan.pt", NotANumber)
    expected = {"missing.pt": "no such file", "bare.pt": "spacetime.json.*saveTorchScript", "text.pt": "not JSON", "corrupt.pt": "not a TorchScript file",
                "half.pt": "not a TorchScript file", "state.pt": "not a TorchScript file", "schedule.pt": "schedule: expected vp.*'linear'",
                "prediction.pt": "prediction: expected x0.*'noise'", "version.pt": "upgrade", "three.pt": r"forward\(x \[24, 3\]",
                "narrow.pt": r"the shape of x, \[24, 2\], it returned \[24, 1\]", "nan.pt": "forward returned nan at x = "}
    for name, message in expected.items():
        path = str(tmp_path / name)
        with pytest.raises(ValueError, match=message) as error:
            st.TorchScriptModel.load(path)
        assert path in str(error.value) and "\n" not in str(error.value)
    for name in ("bare.pt", "corrupt.pt", "narrow.pt", "nan.pt"):
        r = subprocess.run([program.path(), "info", str(tmp_path / name)], capture_output=True, text=True)
        assert r.returncode == 2 and re.search(expected[name], r.stderr) and len(r.stderr.strip().splitlines()) == 1, r.stderr
    with pytest.raises(ValueError, match="cpu or cuda"):
        st.TorchScriptModel.load(str(tmp_path / "good.pt"), device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no usable CUDA device"):
            st.TorchScriptModel.load(str(tmp_path / "good.pt"), device="cuda")


def testANumberThatIsNoneOnTheWay(tmp_path):
    """Fine on the points that are tried, not on the curve: the error names the point."""

    class Hole(torch.nn.Module):
        def forward(self, x: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
            return torch.where(x[:, :1].abs() > 50, torch.full_like(x, float("nan")), x)

    st.saveTorchScript(Hole(), tmp_path / "hole.pt", ["a", "b"], logSnrRange=(-2, 6))
    model = st.TorchScriptModel.load(str(tmp_path / "hole.pt"))
    with pytest.raises(ValueError, match=r"not finite at log-SNR 2, x = \(93.8"):
        model.moments([model.variables.naturalParameter([100, 0], 2)])


def testTracedModule(save):
    class Indirect(torch.nn.Module):
        """Not scriptable, but traceable."""

        def __init__(self):
            super().__init__()
            self.inner = MixtureDenoiser()

        def forward(self, x, logsnr):
            return (lambda *inputs: self.inner(*inputs))(x, logsnr)

    assertSameMoments(st.TorchScriptModel.load(save(Indirect(), "traced.pt")), mixture(), points(mixture()), 1e-9, 1e-6)


def testProgram(tmp_path, save):
    path = save(MixtureDenoiser("flow", "flow"), "flow.pt", schedule="flow", prediction="flow", temperature=300)
    r = subprocess.run([program.path(), "info", path, "--json"], capture_output=True, text=True)
    info = json.loads(r.stdout)
    assert (info["kind"], info["schedule"], info["temperature_K"], info["derivatives"]) == ("torchscript", "flow", 300, "reverse")
    out = tmp_path / "c.json"
    r = subprocess.run([program.path(), "geodesic", "--torchscript", path, "--from", "-1,0.4", "--to", "1.2,-0.2", "--points", "33", "--out", str(out), "--json"],
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    curve = json.loads(out.read_text())
    assert json.loads(r.stdout)["length"] == pytest.approx(st.geodesic(mixture(), FROM, TO, points=33).length, rel=1e-4)
    assert curve["schedule"] == "flow" and curve["temperature_K"] == 300
    r = subprocess.run([program.path(), "geodesic", "--torchscript", path, "--from", "-1,0.4", "--to", "1.2,-0.2", "--log-snr", "9", "--out", str(tmp_path / "d.json")],
                       capture_output=True, text=True)
    assert r.returncode == 2 and "log-SNR 9, expected -6 to 6" in r.stderr


def jvpOf(module):
    """Forward mode of a torch module, as a CallableModel takes it."""

    def jvp(x, logSnr, alongX, alongLogSnr):
        tensors = [torch.from_numpy(a) for a in (x, logSnr, alongX, alongLogSnr)]
        return torch.func.jvp(module, tuple(tensors[:2]), tuple(tensors[2:]))

    return jvp


def directions(eta):
    """Along eta_l alone, along eta_x alone, and along both."""
    direction = np.random.default_rng(8).normal(size=eta.shape)
    direction[: len(eta) // 3, 0] = 0
    direction[-len(eta) // 3 :, 1:] = 0
    return direction


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def testProductsAreThoseOfTheCovariance(save, schedule, prediction):
    reference, module = mixture(), MixtureDenoiser(schedule, prediction)
    script = st.TorchScriptModel.load(save(module, schedule=schedule, prediction=prediction, sigmaData=SIGMA_DATA))
    assert script.productMode == "forward"
    options = dict(schedule=schedule, prediction=prediction, logSnrRange=(-6, 6), sigmaData=SIGMA_DATA)
    function = lambda x, l: module(torch.from_numpy(x), torch.from_numpy(l))
    eta = points(reference)
    direction = directions(eta)
    exact = reference.moments(eta)
    expected = np.einsum("nij,nj->ni", exact.J, direction)[:, 1:]
    scale = np.linalg.norm(exact.J, axis=(1, 2)) * np.linalg.norm(direction, axis=1)
    for model, error in ((script, 1e-12), (st.CallableModel(function, reference.variables, jvp=jvpOf(module), **options), 1e-12),
                         (st.CallableModel(function, reference.variables, **options), 1e-7)):
        mean, product = model.products(eta, direction)
        assert np.abs(mean - exact.mu[:, 1:]).max() < 1e-10
        assert np.abs(mean - model.denoised(eta)).max() < 1e-14
        assert (np.linalg.norm(product - expected, axis=1) / scale).max() < error


class ManyPixels(torch.nn.Module):
    """The perfect denoiser (x0, VP) of two Gaussians in many dimensions; rows more than `most` do not fit into memory."""

    def __init__(self, means, variances, most: int = 1000):
        super().__init__()
        self.means = torch.nn.Parameter(torch.tensor(means))
        self.variances = torch.nn.Parameter(torch.tensor(variances))
        self.most = most

    def forward(self, x: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1.00 PiB")
        l = logsnr[:, None]
        alpha = l.sigmoid().sqrt()
        spread = alpha**2 * self.variances + (-l).sigmoid()
        away = x[:, None, :] - alpha[:, :, None] * self.means
        share = torch.softmax(-0.5 * away.square().sum(2) / spread - 0.5 * x.shape[1] * spread.log(), 1)
        return (share[:, :, None] * (self.means + (alpha * self.variances / spread)[:, :, None] * away)).sum(1)


def testProductsOfManyCoordinates(save, capfd):
    D = 3072
    rng = np.random.default_rng(9)
    means, variances = 0.02 * rng.normal(size=(2, D)), np.array([0.2, 0.21])
    reference = st.GaussianMixtureModel(means, variances, np.array([0.5, 0.5]))
    eta = np.stack([reference.variables.naturalParameter(rng.normal(size=D) * 0.4, l) for l in (-4.0, -2.0, 0.5)])
    direction = directions(eta)
    mean, product = reference.products(eta, direction)
    # In between the two, where the covariance is that of both.
    share = [np.linalg.norm(reference.denoised(eta)[0] - (v * np.exp(-4.0) * eta[0, 1:] / np.exp(-4.0) + m) / (1 + v * np.exp(-4.0))) for m, v in zip(means, variances)]
    assert min(share) > 1e-3 * np.linalg.norm(means[0])
    variables = reference.variables
    module = ManyPixels(means, variances)
    names = [v.name for v in variables]
    script = st.TorchScriptModel.load(save(module, "many.pt", names, dataMean=None))
    assert (script.productMode, script.derivatives) == ("forward", "forward")
    function = lambda x, l: module(torch.from_numpy(x), torch.from_numpy(l))
    options = dict(logSnrRange=(-6, 6))
    scale = np.abs(product).max(axis=1, keepdims=True)
    for model, error in ((script, 1e-9), (st.CallableModel(function, variables, jvp=jvpOf(module), **options), 1e-9), (st.CallableModel(function, variables, **options), 1e-5)):
        got = model.products(eta, direction)
        assert np.abs(got[0] - mean).max() < 1e-10
        assert (np.abs(got[1] - product) / scale).max() < error
        with pytest.raises(ValueError, match="3072 coordinates.*at most 256.*measureWithProbes"):
            model.moments(eta)
    with pytest.raises(ValueError, match="reverse mode makes whole Jacobians"):
        st.TorchScriptModel.load(save(module, "many.pt", names, dataMean=None), derivatives="reverse")
    with pytest.raises(ValueError, match="no jacobian for 3072 coordinates.*jvp"):
        st.CallableModel(function, variables, jacobian=lambda x, l: None, **options)
    for wrong in (lambda *a: (jvpOf(module)(*a)[0], 1.1 * jvpOf(module)(*a)[1]), lambda *a: (1.1 * jvpOf(module)(*a)[0], jvpOf(module)(*a)[1])):
        with pytest.raises(ValueError, match="jvp disagrees"):
            st.CallableModel(function, variables, jvp=wrong, **options)
    # Rows that fit into memory in small portions only: said once, and the same numbers.
    path = save(ManyPixels(means, variances, 6), "few.pt", names, dataMean=None)
    capfd.readouterr()
    few = st.TorchScriptModel.load(path)  # tries six points and three of their neighbours
    many = np.concatenate([eta] * 4)[:10]
    along = np.concatenate([direction] * 4)[:10]
    assert np.array_equal(few.products(many, along)[1], script.products(many, along)[1])
    assert np.array_equal(few.denoised(many), script.denoised(many))
    said = capfd.readouterr().err
    assert said.count("18 points together need more memory") == 1 and said.count("\n") == 1


def testProductsWithoutForwardMode(save):
    """A module without forward mode is differentiated by differences."""
    path = save(Distances().double(), "distances.pt")
    model = st.TorchScriptModel.load(path)
    assert model.productMode == "differences"
    eta = points(model, 10)
    direction = directions(eta)
    expected = np.einsum("nij,nj->ni", model.moments(eta).J, direction)[:, 1:]
    assert np.abs(model.products(eta, direction)[1] - expected).max() < 1e-6 * np.abs(expected).max()
