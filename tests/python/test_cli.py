# SPDX-License-Identifier: MIT
"""The program as a user meets it: exit codes, one-line errors, JSON, files that are never lost."""
import json
import subprocess

import numpy as np
import pytest

import openmmspacetime as st
from openmmspacetime import program

FROM_TO = ["--from", "-2.58,2.79", "--to", "1.09,-0.88"]


def spacetime(*words, cwd=None):
    return subprocess.run([program.path(), *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture(scope="module")
def samples(tmp_path_factory, alanineSamples):
    x, w = alanineSamples
    path = tmp_path_factory.mktemp("samples") / "samples.npz"
    np.savez(path, x=x[::5], log_weights=w[::5])
    return path


def testGeodesicMeasureInfo(tmp_path, samples):
    model = ["--samples", samples, "--variables", "phi:torsion,psi:torsion"]
    out = tmp_path / "curve.json"
    r = spacetime("geodesic", *model, *FROM_TO, "--preset", "transition", "--temperature", "300", "--out", out, "--json")
    assert r.returncode == 0, r.stderr
    best = json.loads(r.stdout)
    assert best["converged"] and best["speed_gap"] < 1e-2 and best["residual"] < 1e-6
    assert len(best["others"]) == 3 and (tmp_path / "curve.w1.json").exists()
    assert best["max_free_energy_kJ_mol"] < min(o["max_free_energy_kJ_mol"] for o in best["others"])
    r = spacetime("measure", *model, "--curve", out, "--json")
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout)["length"] == pytest.approx(best["length"], rel=1e-9)
    r = spacetime("info", out, "--json")
    assert json.loads(r.stdout)["temperature_K"] == 300
    r = spacetime("info", samples)
    assert r.returncode == 0 and "effective_samples" in r.stdout
    before = out.read_bytes()
    r = spacetime("geodesic", *model, *FROM_TO, "--out", out)
    assert r.returncode == 2 and "--overwrite" in r.stderr and out.read_bytes() == before


def testInfoOfCentroidsAndPositions(tmp_path):
    """A reader sees atoms, axes and sizes; programs get the reference as well."""
    reference = np.random.default_rng(1).normal(0, 1, (20, 3))
    variables = (st.Variables.positions([3], reference, frameAtoms=range(20), names=["p"])
                 + st.Variables.distances([([0, 1, 2], 17), (range(30, 60), 4)], weights=[[[12, 1, 1], None], None]))
    variables = st.Variables([*variables][:4] + [variables[4].scaled(0.5, 0.1)])
    path = tmp_path / "samples.npz"
    np.savez(path, x=np.random.default_rng(2).normal(0, 1, (50, 5)), variables=variables.toJson())
    r = spacetime("info", path)
    assert r.returncode == 0, r.stderr
    lines = [line.strip() for line in r.stdout.splitlines()]
    start = lines.index("variables")
    assert lines[start + 1 : start + 6] == [
        "p.x: position x of 3, 20 sites superposed, nm",
        "p.y: position y of 3, 20 sites superposed, nm",
        "p.z: position z of 3, 20 sites superposed, nm",
        "distance1: distance of (0 1 2; weighted), 17, nm",
        "distance2: distance of (30 31 32 ... 59; 30 atoms), 4, nm, shift 0.5, scale 0.1",
    ]
    assert "reference" not in r.stdout and not any(str(number) in r.stdout for number in reference.flat)
    r = spacetime("info", path, "--json")
    assert json.loads(r.stdout)["variables"][0]["frame"]["reference"] == reference.tolist()


def testMixtureClosedForm(tmp_path):
    (tmp_path / "g.json").write_text('{"means":[[0.0]],"variances":[1.0],"weights":[1.0]}')
    r = spacetime("geodesic", "--mixture", tmp_path / "g.json", "--from", "-.3", "--to", "0.2", "--log-snr", "3,2.5", "--out", tmp_path / "c.json", "--json")
    assert r.returncode == 0, r.stderr
    v = 1 / (1 + np.exp([3, 2.5]))
    m, y = v * np.exp([3, 2.5]) * [-0.3, 0.2], np.sqrt(2 * v)
    exact = np.sqrt(2) * np.arccosh(1 + ((m[0] - m[1]) ** 2 + (y[0] - y[1]) ** 2) / (2 * y[0] * y[1]))
    assert json.loads(r.stdout)["length_extrapolated"] == pytest.approx(exact, abs=1e-6)
    # The same points given noisy (x = alpha c under VP), one log-SNR for both, find the same curve.
    alpha = 1 / np.sqrt(1 + np.exp(-3.0))
    lengths = []
    for words in (["--from", "-0.3", "--to", "0.2"], ["--noisy", "--from", -0.3 * alpha, "--to", 0.2 * alpha]):
        r = spacetime("geodesic", "--mixture", tmp_path / "g.json", *words, "--log-snr", "3", "--out", tmp_path / "d.json", "--overwrite", "--json")
        lengths.append(json.loads(r.stdout)["length"])
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-9)


def testEuclideanAndFreeGeodesics(tmp_path, samples):
    """The paper's way, torsions as unwrapped numbers: a bound on log-SNR is active and holds; without one the curve is shorter."""
    words = ["geodesic", "--samples", samples, "--variables", "torsion,torsion", "--euclidean", *FROM_TO, "--points", "65", "--json"]
    lengths = {}
    for bound in ("3", None):
        out = tmp_path / f"{bound}.json"
        r = spacetime(*words, *(["--min-log-snr", bound] if bound else []), "--out", out)
        assert r.returncode == 0, r.stderr
        result = json.loads(r.stdout)
        curve = json.loads(out.read_text())
        lengths[bound] = result["length_extrapolated"]
        logSnr = [l for l in curve["log_snr"] if l is not None]
        assert len(curve["eta"][0]) == 3 and result["speed_gap"] < 1e-2
        if bound:
            assert 3 - 1e-6 <= min(logSnr) < 3.01
            # x = alpha c under VP: the ends are the clean points, shrunk.
            assert curve["x"][0] == pytest.approx([c / np.sqrt(1 + np.exp(-4.0)) for c in (-2.58, 2.79)], rel=1e-9)
    assert lengths[None] < 0.6 * lengths["3"]


def testBarrierWeight(tmp_path, samples):
    """The same bounds with and without the weight: a lower pass for a little length."""
    results = []
    for weight in ("0", "0.1"):
        r = spacetime("geodesic", "--samples", samples, "--variables", "torsion,torsion", *FROM_TO, "--points", "65", "--min-log-snr", "4", "--route", "lowest",
                      "--barrier-weight", weight, "--out", tmp_path / f"{weight}.json", "--json")
        assert r.returncode == 0, r.stderr
        results.append(json.loads(r.stdout))
    assert results[1]["max_free_energy_kT"] < results[0]["max_free_energy_kT"] - 0.2
    assert results[0]["length"] < results[1]["length"] < 1.05 * results[0]["length"]


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "COMMAND"),
        (["fly"], "no command 'fly'"),
        (["geodesic", "--out", "c.json"], "one of --model, --torchscript, --samples and --mixture"),
        (["geodesic", "--samples", "S", "--out", "c.json", *FROM_TO], "give --variables"),
        (["geodesic", "--samples", "S", "--variables", "torsion", "--out", "c.json", *FROM_TO], "2 columns"),
        (["geodesic", "--samples", "S", "--variables", "dihedral,torsion", "--out", "c.json", *FROM_TO], "'dihedral'"),
        (["geodesic", "--samples", "S", "--variables", "torsion,torsion", "--out", "c.json", "--from", "1", "--to", "1,2"], "--from: expected 2 numbers, got 1"),
        (["geodesic", "--samples", "S", "--variables", "torsion,torsion", "--out", "c.json", "--from", "a,1", "--to", "1,2"], "expected a number, got 'a'"),
        (["geodesic", "--samples", "S", "--variables", "torsion,torsion", "--out", "c.json", *FROM_TO, "--min-kappa", "60"], "below the bound"),
        (["geodesic", "--samples", "S", "--variables", "torsion,torsion", "--out", "no/such/c.json", *FROM_TO], "not writable"),
        (["geodesic", "--samples", "S", "--variables", "torsion,torsion", "--out", "c.json", *FROM_TO, "--preset", "x"], "expected transition"),
        (["geodesic", "--samples", "S", "--variables", "torsion,torsion", "--out", "c.json", *FROM_TO, "--barrier-weight", "-1"], "barrier weight of 0 or more"),
        (["geodesic", "--samples", "S", "--nonsense", "1"], "nonsense"),
        (["geodesic", "--samples", "missing.npz", "--variables", "torsion,torsion", "--out", "c.json", *FROM_TO], "no such file"),
        (["measure", "--samples", "S", "--variables", "torsion,torsion"], "--curve is needed"),
        (["info", "S.xyz"], "expected a name that ends in"),
        (["info", "broken.safetensors"], "broken.safetensors"),
        (["train", "S", "--variables", "torsion,torsion", "--out", "m.safetensors", "--steps", "0"], "at least 1"),
        (["train", "S", "--variables", "torsion,torsion", "--out", "m.safetensors", "--temperature", "-5"], "positive number of kelvin"),
        (["train", "S", "--variables", "torsion,torsion"], "--out is needed"),
    ],
)
def testBadInputGivesOneLineAndExitCode2(tmp_path, samples, words, message):
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    r = spacetime(*[samples if w == "S" else w for w in words], cwd=tmp_path)
    assert r.returncode == 2, r.stdout + r.stderr
    assert message in r.stderr
    if words:
        assert len(r.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "c.json").exists() and not (tmp_path / "m.safetensors").exists()


def testEndPointOutsideTheSamples(tmp_path):
    np.save(tmp_path / "s.npy", np.random.default_rng(1).normal(0, 0.2, (2000, 2)))
    r = spacetime("geodesic", "--samples", tmp_path / "s.npy", "--variables", "torsion,torsion", "--from", "0,0", "--to", "2.5,2.5", "--out", tmp_path / "c.json")
    assert r.returncode == 2 and "the end point at (2.5, 2.5) is outside the range" in r.stderr


def testFewEffectiveSamplesOnTheCurveIsExitCode1(tmp_path):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(-1, 0.15, (2000, 1)), rng.normal(1, 0.15, (2000, 1)), rng.normal(0, 0.3, (12, 1))])
    np.save(tmp_path / "s.npy", x)
    r = spacetime("geodesic", "--samples", tmp_path / "s.npy", "--variables", "torsion", "--from", "-1", "--to", "1", "--min-kappa", "40", "--out", tmp_path / "c.json")
    assert r.returncode == 1, r.stdout + r.stderr
    assert "effective samples" in r.stderr and (tmp_path / "c.json").exists()


def testHelpAndVersion():
    assert spacetime("--help").returncode == 0
    assert spacetime("--version").stdout.strip() == __import__("openmmspacetime").__version__
    for command in ("train", "geodesic", "sample", "distance", "measure", "encode", "decode", "info"):
        r = spacetime(command, "--help")
        assert r.returncode == 0 and "--json" in r.stdout
