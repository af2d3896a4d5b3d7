# SPDX-License-Identifier: MIT
"""`spacetime density` as a user meets it: closed forms of mixtures, files that go round, one-line errors, Ctrl-C."""
import json
import os
import pty
import signal
import subprocess

import numpy as np
import pytest

from openmmspacetime import program

LOG_SNR = 3.0
KT = 0.00831446261815324 * 300
# Two wells and a low bridge off the straight line between them.
MIXTURE = {"means": [[-1.5, 0.0], [0.0, 1.2], [1.5, 0.0]], "variances": [0.2, 0.3, 0.2], "weights": [1.0, 0.6, 1.0]}


def density(*words, cwd=None):
    return subprocess.run([program.path(), "density", *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=120)


def figures(*words, code=0, **kwargs):
    r = density(*words, "--json", **kwargs)
    assert r.returncode == code, r.stdout + r.stderr
    return json.loads(r.stdout)


def logDensity(x, mixture=MIXTURE, logSnr=LOG_SNR):
    """log p [K] of the mixture smoothed by the noise, at x [K, D]."""
    v = np.array(mixture["variances"]) + np.exp(-logSnr)
    r2 = ((x[:, None] - np.array(mixture["means"])) ** 2).sum(-1)
    terms = np.log(np.array(mixture["weights"]) / sum(mixture["weights"])) - 0.5 * x.shape[1] * np.log(2 * np.pi * v) - 0.5 * r2 / v
    return np.logaddexp.reduce(terms, axis=1)


def fine(x, factor=20):
    """The polyline [K, D] with `factor` points a segment."""
    k = np.arange(len(x))
    t = np.linspace(0, len(x) - 1, factor * (len(x) - 1) + 1)
    return np.stack([np.interp(t, k, column) for column in x.T], axis=1)


def logDistance(x, tau=1.0, **kwargs):
    """log of the integral of (p/p_0)^-tau along the polyline."""
    x = fine(x)
    w = np.exp(-tau * (logDensity(x, **kwargs) - logDensity(x[:1], **kwargs)))
    return np.log((0.5 * (w[1:] + w[:-1]) * np.linalg.norm(np.diff(x, axis=0), axis=1)).sum())


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixture") / "m.json"
    path.write_text(json.dumps(MIXTURE))
    return ["--mixture", path, "--log-snr", LOG_SNR]


@pytest.fixture(scope="module")
def solved(tmp_path_factory, mixture):
    """The geodesic between the wells: its figures and files."""
    folder = tmp_path_factory.mktemp("solved")
    ends = ["--from", "-1.5,0", "--to", "1.5,0"]
    best = figures("geodesic", *mixture, *ends, "--temperature", 300, "--out", folder / "g.json")
    figures("geodesic", *mixture, *ends, "--out", folder / "g.npy")
    figures("geodesic", *mixture, *ends, "--out", folder / "g.csv")
    return best, folder


def testGeodesicBeatsTheStraightLine(solved):
    best, folder = solved
    x = np.load(folder / "g.npy")
    assert best["converged"] and best["residual"] < 1e-3 and x.shape == (129, 2)
    np.testing.assert_allclose(x[[0, -1]], [[-1.5, 0], [1.5, 0]], atol=1e-12)
    line = best["baselines"]["lerp"]
    # By quadrature of the mixture's own density, and far below the straight line.
    assert best["log_distance"] == pytest.approx(logDistance(x), abs=1e-3)
    assert line["log_distance"] == pytest.approx(logDistance(np.linspace(x[0], x[-1], 129)), abs=1e-3)
    assert best["log_distance"] < line["log_distance"] - 0.4 and best["length"] > line["length"] == pytest.approx(3)
    lowest = (logDensity(x) - logDensity(x[:1])).min()
    assert best["lowest_log_density"] == pytest.approx(lowest, abs=1e-3)
    assert best["barrier_kJ_mol"] == pytest.approx(-KT * lowest, abs=3e-3)
    # The neighbours of a shortest path are longer.
    bump = np.sin(np.linspace(0, np.pi, 129))[:, None] * [0, 0.05]
    assert logDistance(x) < min(logDistance(x + bump), logDistance(x - bump))


def testFilesGoRound(solved, mixture):
    best, folder = solved
    saved = json.loads((folder / "g.json").read_text())
    x = np.load(folder / "g.npy")
    assert saved["format"] == "spacetime-density-path" and saved["log_snr"] == LOG_SNR
    np.testing.assert_array_equal(saved["path"], x)
    np.testing.assert_array_equal(np.loadtxt(folder / "g.csv", delimiter=",", skiprows=1), x)
    for file in ("g.json", "g.npy", "g.csv"):
        again = figures("profile", *mixture, "--path", folder / file)
        assert again["log_distance"] == pytest.approx(best["log_distance"], abs=1e-4) and again["residual"] == pytest.approx(best["residual"], rel=1e-6), file
        np.testing.assert_array_equal(again["raw"], x)
    r = subprocess.run([program.path(), "info", folder / "g.json"], capture_output=True, text=True)
    assert r.returncode == 0 and "density path" in r.stdout and "log_distance" in r.stdout and "log_density" not in r.stdout.replace("lowest_log_density", "")
    # A solved path to start from converges at once to itself.
    again = figures("geodesic", *mixture, "--from", "-1.5,0", "--to", "1.5,0", "--start", folder / "g.json", "--out", folder / "again.json")
    assert again["log_distance"] == pytest.approx(best["log_distance"], abs=1e-4) and again["evaluations"] < best["evaluations"]


def testBouguersInvariant(tmp_path):
    """Around one Gaussian the metric depends on r alone: p^-tau times the angular momentum is conserved (Bouguer's formula)."""
    one = {"means": [[0.0, 0.0]], "variances": [0.5], "weights": [1.0]}
    (tmp_path / "one.json").write_text(json.dumps(one))
    figures("geodesic", "--mixture", tmp_path / "one.json", "--log-snr", LOG_SNR, "--tau", 0.7, "--from", "1,-0.3", "--to", "-0.2,0.9", "--points", 257,
            "--tolerance", 1e-5, "--out", tmp_path / "g.npy")
    x = np.load(tmp_path / "g.npy")
    v = np.gradient(x, axis=0)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    invariant = np.exp(-0.7 * logDensity(x, one)) * (x[:, 0] * v[:, 1] - x[:, 1] * v[:, 0])
    np.testing.assert_allclose(invariant[2:-2], invariant[128], rtol=2e-3)
    assert np.ptp(np.linalg.norm(x, axis=1)) > 0.1


def testExtrapolationGoesWhereTheLongerGeodesicGoes(tmp_path, solved, mixture):
    best, folder = solved
    x = np.load(folder / "g.npy")
    np.save(tmp_path / "half.npy", x[:65])
    out = figures("extrapolate", *mixture, "--continue", tmp_path / "half.npy", "--length", best["length"] / 2, "--points", 65, "--out", tmp_path / "e.npy")
    np.testing.assert_allclose(out["end"], [1.5, 0], atol=0.02)
    np.testing.assert_allclose(np.load(tmp_path / "e.npy"), x[64:], atol=0.02)
    # The same direction in numbers; and a straight line where the density does nothing (tau next to nothing).
    tangent = x[65] - x[63]
    other = figures("extrapolate", *mixture, "--from", ",".join(map(repr, x[64].tolist())), "--direction", ",".join(map(repr, tangent.tolist())), "--length", best["length"] / 2,
                    "--out", tmp_path / "d.json")
    np.testing.assert_allclose(other["end"], out["end"], atol=5e-3)
    np.save(tmp_path / "a.npy", [[-1.5, 0.0]])
    straight = figures("extrapolate", *mixture, "--tau", 1e-9, "--from", f"@{tmp_path / 'a.npy'}", "--toward", "0.3,1.1", "--out", tmp_path / "s.json")
    np.testing.assert_allclose(straight["end"], [0.3, 1.1], atol=1e-6)
    assert straight["length"] == pytest.approx(np.hypot(1.8, 1.1), rel=1e-9)


def testPathFilesKeepTau(tmp_path, mixture):
    words = [*mixture, "--out", tmp_path / "g.json"]
    best = figures("geodesic", *words, "--from", "-1.5,0", "--to", "1.5,0", "--tau", 0.3)
    again = figures("profile", *mixture, "--path", tmp_path / "g.json")
    assert again["tau"] == 0.3 and again["residual"] == pytest.approx(best["residual"], rel=1e-6)
    assert figures("extrapolate", *mixture, "--continue", tmp_path / "g.json", "--length", 0.1, "--out", tmp_path / "e.json")["tau"] == 0.3
    other = figures("profile", *mixture, "--path", tmp_path / "g.json", "--tau", 0.6)
    assert other["tau"] == 0.6 and other["residual"] > 0.1


def testSphere(tmp_path):
    """Around the centre of a Gaussian the density on a sphere is one number: geodesics are great circles. Elsewhere they are shorter than those."""
    (tmp_path / "one.json").write_text(json.dumps({"means": [[0.0, 0.0, 0.0]], "variances": [0.5], "weights": [1.0]}))
    a, b = np.array([1.0, 0, 0]), np.array([-0.5, np.sqrt(0.5), 0.5])
    ends = ["--log-snr", LOG_SNR, "--sphere", "--from", "1,0,0", "--to", ",".join(map(repr, b.tolist()))]
    g = figures("geodesic", "--mixture", tmp_path / "one.json", *ends, "--out", tmp_path / "g.npy")
    x = np.load(tmp_path / "g.npy")
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(x @ np.cross(a, b), 0, atol=1e-6)
    assert g["sphere"] and g["length"] == pytest.approx(np.arccos(a @ b), rel=1e-4) and g["log_distance"] == pytest.approx(np.log(g["length"]), abs=1e-4)
    (tmp_path / "two.json").write_text(json.dumps({"means": [[0.3, 0.0, 1.0], [0.0, 0.0, 0.0]], "variances": [0.2, 0.6], "weights": [1.0, 1.0]}))
    g = figures("geodesic", "--mixture", tmp_path / "two.json", *ends, "--out", tmp_path / "h.json")
    assert g["converged"] and g["log_distance"] < g["baselines"]["slerp"]["log_distance"] - 0.05
    # The equation of motion leads the same way as the relaxation, and stays on the sphere.
    nodes = np.array(json.loads((tmp_path / "h.json").read_text())["path"])
    np.save(tmp_path / "half.npy", nodes[:65])
    e = figures("extrapolate", "--mixture", tmp_path / "two.json", "--log-snr", LOG_SNR, "--sphere", "--continue", tmp_path / "half.npy", "--length", g["length"] / 2,
                "--out", tmp_path / "e.npy")
    np.testing.assert_allclose(e["end"], b, atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(np.load(tmp_path / "e.npy"), axis=1), 1, atol=1e-9)
    # A path's file says that it lies on a sphere.
    figures("extrapolate", "--mixture", tmp_path / "two.json", "--log-snr", LOG_SNR, "--continue", tmp_path / "h.json", "--length", 0.3, "--out", tmp_path / "on.npy")
    np.testing.assert_allclose(np.linalg.norm(np.load(tmp_path / "on.npy"), axis=1), 1, atol=1e-9)


def testProfileInClosedForm(tmp_path, mixture):
    t = np.linspace(0, 1, 12)[:, None]
    x = np.hstack([-2 + 4 * t, np.sin(3 * t)])
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b", comments="")
    p = figures("profile", *mixture, "--path", tmp_path / "x.csv", "--tau", 0.5, "--out", tmp_path / "p.csv")
    np.testing.assert_allclose(p["log_density"], logDensity(x) - logDensity(x[:1]), atol=2e-4)
    assert p["log_distance"] == pytest.approx(logDistance(x, 0.5), abs=2e-3)
    table = np.loadtxt(tmp_path / "p.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(table, np.column_stack([p["s"], x, p["log_density"]]))
    assert (tmp_path / "p.csv").read_text().startswith("s,x1,x2,log_density\n")
    # The noise counts: at a lower log-SNR the density is flatter.
    low = figures("profile", "--mixture", mixture[1], "--log-snr", 0.5, "--path", tmp_path / "x.csv")
    np.testing.assert_allclose(low["log_density"], logDensity(x, logSnr=0.5) - logDensity(x[:1], logSnr=0.5), atol=2e-4)
    # The same table for a reader.
    r = density("profile", *mixture, "--path", tmp_path / "x.csv", "--temperature", 300)
    rows = [line.split() for line in r.stdout.splitlines()[1:13]]
    np.testing.assert_allclose(np.array(rows, float)[:, 4], -KT * np.array(p["log_density"]), atol=2e-3)


def testTorsionsStayOnTheTorus(tmp_path):
    """Samples on a grid: the smoothed density is a sum of von Mises kernels. A path over the seam is short, whatever the angles it is given in."""
    grid = np.stack(np.meshgrid(*[np.linspace(-np.pi, np.pi, 48, endpoint=False)] * 2, indexing="ij"), -1).reshape(-1, 2)
    energy = -2 * np.cos(grid[:, 0] - np.pi) - np.cos(grid[:, 1]) + 0.8 * np.cos(grid[:, 0] + grid[:, 1])
    np.savez(tmp_path / "s.npz", x=grid, log_weights=-energy, grid=True)
    model = ["--samples", tmp_path / "s.npz", "--variables", "phi:torsion,psi:torsion", "--log-snr", 3.5]
    x = np.column_stack([np.linspace(2.4, 3.9, 15), np.linspace(-0.4, 0.8, 15)])
    np.save(tmp_path / "x.npy", (x + np.pi) % (2 * np.pi) - np.pi)
    p = figures("profile", *model, "--path", tmp_path / "x.npy")
    kernel = -energy + np.exp(3.5) * np.cos(x[:, None] - grid).sum(-1)
    exact = np.logaddexp.reduce(kernel, axis=1)
    np.testing.assert_allclose(p["log_density"], exact - exact[0], atol=2e-4)
    assert p["length"] == pytest.approx(np.linalg.norm(x[-1] - x[0]))
    # A path that ends across the seam goes on across it: straight where tau is next to nothing.
    np.save(tmp_path / "end.npy", [[2.9, 0.0], [3.05, 0.1], [3.2 - 2 * np.pi, 0.2]])
    on = figures("extrapolate", *model, "--tau", 1e-9, "--continue", tmp_path / "end.npy", "--length", 0.5, "--out", tmp_path / "on.npy")
    step = np.array(on["end"]) - [3.2, 0.2] - 0.5 * np.array([0.15, 0.1]) / np.hypot(0.15, 0.1)
    np.testing.assert_allclose(np.remainder(step + np.pi, 2 * np.pi), np.pi, atol=1e-6)
    # So does a direction to a point.
    over = figures("extrapolate", *model, "--tau", 1e-9, "--from", "2.9,0", "--toward", "-2.9,0.1", "--out", tmp_path / "over.npy")
    np.testing.assert_allclose(over["end"], [2 * np.pi - 2.9, 0.1], atol=1e-6)
    # Every way round, shortest density distance first, each in a file of its own.
    ends = ["--from", "2.4,-0.4", "--to", "-2.4,0.8"]
    best = figures("geodesic", *model, *ends, "--points", 65, "--out", tmp_path / "g.json")
    every = [best, *best["others"]]
    assert best["converged"] and best["windings"] == [0, 0] and len(every) == 4
    assert [e["log_distance"] for e in every] == sorted(e["log_distance"] for e in every)
    assert [e["file"] for e in every] == [str(tmp_path / f"g{w}.json") for w in ("", ".w1", ".w2", ".w3")]
    nodes = np.array(json.loads((tmp_path / "g.json").read_text())["path"])
    assert nodes[-1, 0] - nodes[0, 0] == pytest.approx(2 * np.pi - 4.8) and best["log_distance"] < best["baselines"]["lerp"]["log_distance"]
    for other in best["others"]:
        words = ",".join(map(str, other["windings"]))
        one = figures("geodesic", *model, *ends, "--points", 65, "--windings", words, "--out", tmp_path / f"one{words}.json")
        assert one["others"] == [] and one["log_distance"] == pytest.approx(other["log_distance"], abs=1e-2)


def testGuidedScores(tmp_path, mixture):
    ends = ["--from", "-1.5,0", "--to", "1.5,0", "--points", 33]

    def run(name, *words, log=tuple(mixture)):
        result = figures("geodesic", *log, *ends, *words, "--out", tmp_path / f"{name}.npy")
        return result, np.load(tmp_path / f"{name}.npy")

    (tmp_path / "other.json").write_text(json.dumps({"means": [[0.0, -1.0]], "variances": [0.5], "weights": [1.0]}))
    file, other = mixture[1], tmp_path / "other.json"
    alone, x = run("alone")
    zero, y = run("zero", "--guide", f"mixture={other};0")
    np.testing.assert_allclose(y, x, atol=1e-9)
    half, y = run("half", "--guide", f"mixture={file};0.25", "--guide", f"mixture={file};0.25")
    np.testing.assert_allclose(y, x, atol=1e-6)
    # A whole guide beside a whole model is the score twice, which is tau twice.
    twice, y = run("twice", "--guide", f"mixture={file};1", "--weight", "1")
    double, z = run("double", "--tau", "2")
    np.testing.assert_allclose(y, z, atol=1e-4)
    assert twice["log_distance"] == pytest.approx(double["log_distance"], abs=1e-3) and abs(y - x).max() > 0.01
    # Log-densities add with their weights.
    t = np.linspace(-1, 1, 9)[:, None]
    np.save(tmp_path / "x.npy", np.hstack([t, t**2]))
    p = figures("profile", *mixture, "--guide", f"mixture={other};0.7", "--path", tmp_path / "x.npy")
    points = np.load(tmp_path / "x.npy")
    exact = 0.3 * logDensity(points) + 0.7 * logDensity(points, json.loads(other.read_text()))
    np.testing.assert_allclose(p["log_density"], exact - exact[0], atol=2e-4)
    # Samples as a guide take the model's variables.
    np.save(tmp_path / "s.npy", np.random.default_rng(1).normal(0, 1, (5000, 2)))
    guided = figures("profile", *mixture, "--guide", f"samples={tmp_path / 's.npy'};0.5", "--path", tmp_path / "x.npy")
    wide = logDensity(points, {"means": [[0.0, 0.0]], "variances": [1.0], "weights": [1.0]})
    exact = 0.5 * (logDensity(points) + wide)
    np.testing.assert_allclose(guided["log_density"], exact - exact[0], atol=0.15)


def testSequences(tmp_path, solved, mixture):
    best, folder = solved
    a = figures("sequence", *mixture, "--frames", folder / "g.json", "--out", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["best_tau"] == a["best_tau"] == pytest.approx(1, abs=0.02)
    assert min(a["angle"]) > 175 and a["distance_ratio"] == pytest.approx(1, abs=1e-3) and a["length_ratio"] == pytest.approx(1, abs=1e-3)
    # An arc through the bridge, given unevenly: no geodesic, but better than the straight line.
    u = np.linspace(0, 1, 40) ** 1.5
    np.save(tmp_path / "arc.npy", np.column_stack([-1.5 * np.cos(np.pi * u), 1.5 * np.sin(np.pi * u)]))
    b = figures("sequence", *mixture, "--frames", tmp_path / "arc.npy", "--num-frames", 21)
    assert len(b["angle"]) == 19 and min(b["angle"]) < 170 and b["distance_ratio"] > 1.05 and b["length_ratio"] > 1.05
    assert b["geodesic"]["log_distance"] == pytest.approx(best["log_distance"], abs=1e-2)
    r = density("sequence", *mixture, "--frames", tmp_path / "arc.npy", "--num-frames", 21)
    assert r.returncode == 0 and "distance ratio" in r.stdout and f"{b['distance_ratio']:.5f}" in r.stdout
    r = subprocess.run([program.path(), "info", tmp_path / "a.json"], capture_output=True, text=True)
    assert r.returncode == 0 and "density sequence" in r.stdout and "best_tau" in r.stdout


def testStochasticScoresRepeatBySeed(tmp_path, mixture):
    words = ["geodesic", *mixture, "--from", "-1.5,0", "--to", "1.5,0", "--points", 17, "--draws", 8, "--averaged-steps", 60, "--tolerance", 0.05, "--overwrite"]
    nodes = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        r = density(*words, "--seed", seed, "--out", tmp_path / f"{name}.npy")
        assert r.returncode in (0, 1), r.stderr
        nodes[name] = np.load(tmp_path / f"{name}.npy")
    np.testing.assert_array_equal(nodes["a"], nodes["b"])
    assert 0 < abs(nodes["a"] - nodes["c"]).max() < 0.3
    # Through the bridge, as without noise.
    assert nodes["a"][8, 1] > 0.6


def testPathThatLeavesTheRange(tmp_path):
    np.savez(tmp_path / "s.npz", x=np.random.default_rng(1).normal(0, 0.3, (5000, 2)), variables='["a", "b"]')
    r = density("extrapolate", "--samples", tmp_path / "s.npz", "--log-snr", 3, "--tau", 0.01, "--from", "0,0", "--direction", "1,0.2", "--length", 6, "--out", tmp_path / "e.json")
    assert r.returncode == 1 and len(r.stderr.splitlines()) == 1 and "leaves the model's range" in r.stderr, r.stdout + r.stderr
    saved = json.loads((tmp_path / "e.json").read_text())
    assert 0.3 < saved["length"] < 3


def testNotConvergedIsExitCode1(tmp_path, mixture):
    r = density("geodesic", *mixture, "--from", "-1.5,0", "--to", "1.5,0", "--iterations", 1, "--tolerance", 1e-12, "--out", tmp_path / "g.json")
    assert r.returncode == 1 and "did not converge" in r.stderr and "not converged" in r.stdout and len(r.stderr.splitlines()) == 1
    assert json.loads((tmp_path / "g.json").read_text())["converged"] is False


def testCtrlCKeepsThePath(tmp_path, mixture):
    """Once progress is on the terminal, Ctrl-C ends the run with the path so far."""
    master, slave = pty.openpty()
    words = ["geodesic", *mixture, "--from", "-1.5,0", "--to", "1.5,0", "--draws", 200, "--averaged-steps", 1000000, "--out", tmp_path / "g.json"]
    process = subprocess.Popen([program.path(), "density", *map(str, words)], stdout=subprocess.PIPE, stderr=slave, text=True)
    os.close(slave)
    seen = b""
    while b"solving" not in seen:
        assert process.poll() is None
        seen += os.read(master, 1000)
    process.send_signal(signal.SIGINT)
    try:
        while part := os.read(master, 1000):
            seen += part
    except OSError:  # the terminal is closed: the program has ended
        pass
    process.communicate(timeout=60)
    assert process.returncode == 1 and b"was interrupted" in seen
    saved = json.loads((tmp_path / "g.json").read_text())
    assert saved["converged"] is False and len(saved["path"]) >= 5


GEODESIC = ["geodesic", "M", "--from", "-1.5,0", "--to", "1.5,0", "--out", "o.json"]
SHOT = ["extrapolate", "M", "--from", "0,0", "--out", "o.json"]


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "expected geodesic, extrapolate, profile or sequence"),
        (["fly"], "no subcommand 'fly'"),
        (["geodesic", "--mixture", "m.json", "--from", "0,0", "--to", "1,0", "--out", "o.json"], "--log-snr is needed"),
        (["geodesic", "--log-snr", "3", "--from", "0,0", "--to", "1,0", "--out", "o.json"], "give one of --model"),
        (["geodesic", "M", "--from", "0,0", "--to", "1,0"], "--out is needed"),
        (["geodesic", "M", "--to", "1,0", "--out", "o.json"], "--from is needed"),
        (["geodesic", "M", "--from", "0", "--to", "1,0", "--out", "o.json"], "--from: expected 2 numbers, one a variable, got 1"),
        (["geodesic", "M", "--from", "@x.npy", "--to", "1,0", "--out", "o.json"], "expected one point, a row of 2 numbers, got 3 rows"),
        (["geodesic", "M", "--from", "@no.npy", "--to", "1,0", "--out", "o.json"], "no such file"),
        (["geodesic", "M", "--from", "0,0", "--to", "0,0", "--out", "o.json"], "start and end points are the same, (0, 0)"),
        (["geodesic", "M", "--from", "0,0", "--to", "40,0", "--out", "o.json"], "40"),
        (["geodesic", "M", "--from", "0,0", "--to", "1,0", "--out", "o.txt"], "--out: expected a name that ends in .json or .npy or .csv"),
        ([*GEODESIC[:-1], "no/such/o.json"], "not writable"),
        ([*GEODESIC, "--tau", "0"], "tau"),
        ([*GEODESIC, "--tau", "-1"], "tau"),
        ([*GEODESIC, "--points", "4"], "at least 5"),
        ([*GEODESIC, "--tolerance", "x"], "expected a number, got 'x'"),
        ([*GEODESIC, "--start", "fast"], "expected lerp, slerp or a path file"),
        ([*GEODESIC, "--windings", "0"], "expected 2 numbers"),
        ([*GEODESIC, "--windings", "0.5,0"], "expected whole turns"),
        ([*GEODESIC, "--temperature", "-3"], "positive number of kelvin"),
        ([*GEODESIC, "--guide", "m.json;0.5"], "expected \"KIND=FILE;WEIGHT\""),
        ([*GEODESIC, "--guide", "mixture=m.json"], "expected \"KIND=FILE;WEIGHT\""),
        ([*GEODESIC, "--guide", "mixture=m.json;half"], "expected a number, got 'half'"),
        ([*GEODESIC, "--guide", "mixture=one.json;0.5"], "are not those of the model"),
        ([*GEODESIC, "--guide", "samples=torsions.npz;0.5"], "are not those of the model"),
        ([*GEODESIC, "--guide", "samples=three.npy;0.5"], "has 3 columns, but 2 variables"),
        ([*GEODESIC, "--weight", "2"], "--weight goes with --guide"),
        ([*GEODESIC, "--draws", "-1"], "--draws"),
        ([*GEODESIC, "--log-snr", "4"], "log-snr"),
        (SHOT, "one of --toward, --direction and --continue"),
        ([*SHOT, "--direction", "1,0"], "--length is needed"),
        ([*SHOT, "--direction", "0,0", "--length", "1"], "direction"),
        ([*SHOT, "--toward", "1,0", "--length", "-1"], "length"),
        ([*SHOT, "--continue", "x.npy", "--length", "1"], "leave out --from"),
        (["extrapolate", "M", "--toward", "1,0", "--out", "o.json"], "--from is needed"),
        (["profile", "M"], "--path is needed"),
        (["profile", "M", "--path", "three.npy"], "has 3 columns, but the model has 2 variables"),
        (["profile", "M", "--path", "m.json", "--out", "o.json"], "m.json"),
        (["profile", "M", "--path", "x.npy", "--out", "o.npy"], "--out: expected a name that ends in .csv or .json"),
        (["sequence", "M", "--frames", "x.npy", "--num-frames", "2"], "at least 3"),
        (["sequence", "M", "--frames", "x.npy", "--windings", "0,0"], "windings"),
        (["sequence", "M", "--frames", "still.npy", "--out", "o.json"], "coincide"),
    ],
)
def testBadInputGivesOneLineAndExitCode2(tmp_path, words, message):
    (tmp_path / "m.json").write_text(json.dumps(MIXTURE))
    (tmp_path / "one.json").write_text(json.dumps({"means": [[0.0]], "variances": [1.0], "weights": [1.0]}))
    np.save(tmp_path / "x.npy", [[-1.0, 0.0], [0.0, 0.5], [1.0, 0.0]])
    np.save(tmp_path / "three.npy", np.eye(3))
    np.savez(tmp_path / "torsions.npz", x=np.eye(2), variables='[{"name": "x1", "type": "torsion"}, {"name": "x2", "type": "torsion"}]')
    np.save(tmp_path / "still.npy", np.ones((4, 2)))
    before = set(os.listdir(tmp_path))
    words = [part for word in words for part in (["--mixture", "m.json", "--log-snr", "3"] if word == "M" else [word])]
    r = density(*words, cwd=tmp_path)
    assert r.returncode == 2, r.stdout + r.stderr
    assert message in r.stderr and len(r.stderr.strip().splitlines()) == 1, r.stderr
    assert set(os.listdir(tmp_path)) == before and r.stdout == ""


def testNothingIsOverwritten(tmp_path, mixture):
    words = ["geodesic", *mixture, "--from", "-1.5,0", "--to", "1.5,0", "--points", 9, "--tolerance", 0.1, "--out", tmp_path / "g.json"]
    (tmp_path / "g.json").write_text("mine")
    r = density(*words)
    assert r.returncode == 2 and "--overwrite" in r.stderr and (tmp_path / "g.json").read_text() == "mine"
    assert density(*words, "--overwrite").returncode == 0 and (tmp_path / "g.json").read_text() != "mine"


def testHelp():
    r = density("--help")
    assert r.returncode == 0
    for name in ("geodesic", "extrapolate", "profile", "sequence"):
        assert f"  {name} " in r.stdout
        own = density(name, "--help")
        assert own.returncode == 0 and "--log-snr" in own.stdout and "--json" in own.stdout and "--mixture" in own.stdout
    assert "density" in subprocess.run([program.path(), "--help"], capture_output=True, text=True).stdout
