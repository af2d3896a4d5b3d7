# SPDX-License-Identifier: MIT
"""Constraints, starts, batches and distances through the Python package and the program."""
import json
import subprocess

import numpy as np
import pytest

import openmmspacetime as st
from openmmspacetime import program

A, B = (-2.58, 2.79), (1.09, -0.88)
REGION = st.Region(center=(-0.8, -0.1), nats=30)


@pytest.fixture(scope="module")
def surface(alanineSamples):
    x, w = alanineSamples
    return st.FreeEnergySurface.fromSamples(x, w, temperature=300)


@pytest.fixture(scope="module")
def grid(surface, torsions):
    return surface.model(torsions, 300, bins=90)


def spacetime(*words):
    return subprocess.run([program.path(), *map(str, words)], capture_output=True, text=True)


def testBarrierAwareCurveTakesTheLowestPass(grid, surface):
    """The conformal length ranks the windings rightly where plain length prefers one over 65 kJ/mol, and crosses at the saddle."""
    saddle = surface.saddle(A, B)[1]
    path = st.minimumFreeEnergyPath(surface, A, B)
    assert path.saddle[1] == pytest.approx(saddle, abs=0.05)
    results = st.geodesics(grid, A, B, preset="transition")
    assert all(r.converged for r in results)
    highest = [st.highestFreeEnergy(r.curve, grid, surface)[0] for r in results]
    assert highest[0] < saddle + 1 and highest[0] > saddle - 0.2
    assert highest[0] == min(highest)
    plain = st.geodesics(grid, A, B, minLogSnr=4)
    assert st.highestFreeEnergy(plain[0].curve, grid, surface)[0] > saddle + 20, "plain length climbs a mountain: the null of this test"
    assert list(plain[0].windings) != list(results[0].windings)


def testRegionIsAvoidedAndCostsLength(grid):
    free = st.geodesics(grid, A, B)[0]
    avoiding = st.geodesics(grid, A, B, avoid=[REGION])
    best = avoiding[0]
    assert best.converged and best.measure.length > free.measure.length * 1.05
    (value,) = best.constraints
    assert value.extreme == pytest.approx(30, rel=1e-2), "the region is in the way, so the constraint is active"
    center = grid.variables.naturalParameter((-0.8, -0.1), 4.0)
    s = np.linspace(0, 1, 1001)
    kl = st.klDivergence(grid, np.tile(center, (len(s), 1)), np.array([best.curve.evaluate(v) for v in s]))
    assert kl.min() > 30 * 0.99
    kl = st.klDivergence(grid, np.tile(center, (len(s), 1)), np.array([free.curve.evaluate(v) for v in s]))
    assert kl.min() < 20, "without the constraint the curve passes through the region"


def testWarmStartNeedsFewerEvaluations(grid):
    near = st.geodesics(grid, A, B, preset="transition")[0]
    cold = st.geodesics(grid, A, B, preset="transition", maxVariance=0.051)[0]
    warm = st.geodesics(grid, A, B, preset="transition", maxVariance=0.051, start=near.curve)
    assert len(warm) == 1 and warm[0].converged and list(warm[0].windings) == list(cold.windings)
    assert warm[0].evaluations < 0.8 * cold.evaluations
    assert warm[0].measure.length == pytest.approx(cold.measure.length, rel=1e-4)


def testBatchAgreesWithSingleCallsAndSurvivesBadPairs(grid):
    random = np.random.default_rng(3)
    a, b = random.uniform(-3, 3, (2, 6, 2))
    b[4] = a[4]
    batch = st.geodesicsOfPairs(grid, a, b, points=33, threads=2)
    assert [bool(pair.results) for pair in batch] == [True, True, True, True, False, True]
    assert "same point" in batch[4].error
    one = st.geodesics(grid, a[2], b[2], points=33)[0]
    assert np.array_equal(one.curve.eta, batch[2].results[0].curve.eta)
    d = st.distance(grid, a, b, points=33)
    assert d[4] == 0 and np.all(d[[0, 1, 2, 3, 5]] > 0)
    x = np.random.default_rng(1).normal(size=(500, 1))
    with pytest.warns(UserWarning, match="pair 1"):
        d = st.distance(st.EmpiricalModel(x, st.Variables.numbers(["x"])), [[0.0], [0.0]], [[0.5], [99.0]])
    assert d[0] > 0 and np.isnan(d[1])


def testFurtherStartsFindASecondMinimum(grid):
    a, b = (0.91559434, 2.8079974), (-0.29725841, -0.92817386)
    one = st.geodesics(grid, a, b, points=65)
    more = st.geodesics(grid, a, b, points=65, starts=3)
    assert len(more) > 1 and all(r.converged for r in more)
    assert more[0].measure.length < 0.9 * one[0].measure.length
    assert one[0].measure.length == pytest.approx(more[1].measure.length, rel=1e-3)


def testDistanceIsSymmetricAndObeysTheTriangle(grid):
    random = np.random.default_rng(5)
    x, y, z = random.uniform(-3, 3, (3, 5, 2))
    xy, yz, xz = st.distance(grid, x, y), st.distance(grid, y, z), st.distance(grid, x, z)
    np.testing.assert_allclose(st.distance(grid, y, x), xy, rtol=1e-4)
    assert np.all(xz <= (xy + yz) * (1 + 1e-4))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(maxVariance=0.01), r"start point has tr Cov = 0\.0"),
        (dict(maxVariance=-1), "positive bound on tr Cov"),
        (dict(avoid=[st.Region((-2.58, 2.79), 5)]), "start point lies inside region 1: KL = 0"),
        (dict(avoid=[st.Region((-0.8, -0.1), -5)]), "positive number of nats"),
        (dict(avoid=[st.Region((-0.8,), 5)]), "expected 2 values"),
        (dict(maxFreeEnergy=30), "give the temperature"),
        (dict(maxFreeEnergy=12, preset="transition", temperature=300), "free energy"),
        (dict(penaltyWeight=-1), "penalty"),
        (dict(starts=-1), "number of starts"),
        (dict(start=np.zeros((3, 2))), "expected a start"),
    ],
)
def testBadConstraintsAreSaidWithTheNumber(grid, options, message):
    with pytest.raises(ValueError, match=message):
        st.geodesic(grid, A, B, **options)


def testProgram(tmp_path, surface, torsions):
    samples = tmp_path / "grid.npz"
    surface.saveGrid(samples, torsions, 300)
    common = ["--samples", samples, "--from", "-2.58,2.79", "--to", "1.09,-0.88", "--json"]
    r = spacetime("geodesic", *common, "--avoid", "-0.8,-0.1;4;30", "--out", tmp_path / "avoid.json")
    assert r.returncode == 0, r.stderr
    answer = json.loads(r.stdout)
    assert answer["constraints"][0]["at_least"] == 30 and answer["constraints"][0]["violation"] < 1e-2
    assert answer["length_doubled"] == pytest.approx(answer["length"], rel=1e-2)
    saved = st.Curve.load(str(tmp_path / "avoid.json"))
    assert saved.solution["constraints"] == answer["constraints"]
    r = spacetime("measure", "--samples", samples, "--curve", tmp_path / "avoid.json", "--avoid", "-0.8,-0.1;4;60", "--max-variance", "0.05", "--json")
    assert r.returncode == 0, r.stderr
    assert [c["violation"] > 0 for c in json.loads(r.stdout)["constraints"]] == [True, True]
    r = spacetime("geodesic", *common, "--max-variance", "0.01", "--out", tmp_path / "x.json")
    assert r.returncode == 2 and "tr Cov = 0.0" in r.stderr and len(r.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x.json").exists()
    r = spacetime("geodesic", *common, "--avoid", "-0.8,-0.1,4,30", "--out", tmp_path / "x.json")
    assert r.returncode == 2 and "a,b;log_snr;nats" in r.stderr

    pairs = tmp_path / "pairs.csv"
    pairs.write_text("a1,a2,b1,b2\n-2.58,2.79,1.09,-0.88\n0.5,0.5,1,1\n")
    r = spacetime("distance", "--samples", samples, "--pairs", pairs, "--json")
    assert r.returncode == 0, r.stderr
    distances = [pair["distance"] for pair in json.loads(r.stdout)["pairs"]]
    r = spacetime("distance", "--samples", samples, "--from", "-2.58,2.79", "--to", "1.09,-0.88", "--json")
    assert json.loads(r.stdout)["pairs"][0]["distance"] == distances[0]
    out = tmp_path / "d.csv"
    r = spacetime("distance", "--samples", samples, "--pairs", pairs, "--out", out)
    assert r.returncode == 0 and out.read_text().splitlines()[0] == "distance,length,speed_gap,converged" and len(out.read_text().splitlines()) == 3
    assert spacetime("distance", "--samples", samples, "--pairs", pairs, "--out", out).returncode == 2, "nothing is overwritten unasked"
    pairs.write_text("1,2,3\n")
    r = spacetime("distance", "--samples", samples, "--pairs", pairs)
    assert r.returncode == 2 and "line 1" in r.stderr and "expected 4 numbers" in r.stderr
    pairs.write_text("1,2,3,nan\n")
    assert spacetime("distance", "--samples", samples, "--pairs", pairs).returncode == 2
