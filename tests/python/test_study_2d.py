# SPDX-License-Identifier: MIT
"""The study of the published two-dimensional experiment: its surface, its dynamics, and a quick run of all of it."""
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import openmm
import pytest
from conftest import ROOT

import openmmspacetime as st

STUDY = ROOT / "examples" / "published_2d"


@pytest.fixture(scope="module")
def ex():
    spec = importlib.util.spec_from_file_location("published_2d_experiment", STUDY / "experiment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def surface(ex):
    return ex.readSurface()


def test_shipped_surface_is_that_of_the_shipped_samples(ex, surface):
    made = ex.makeSurface()
    assert np.abs(surface.values - made.values).max() < 2e-4  # it is shipped with four decimals
    assert made.description == surface.description


def test_force_is_the_surface(ex, surface):
    """Energy and gradient of the System are those of the spline, over the seam and several turns away."""
    context = openmm.Context(ex.createSystem(surface), openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    points = np.random.default_rng(1).uniform(-7, 7, (100, 2))
    points[:4] = [[np.pi, 0.3], [-np.pi, 0.3], [0.2, np.pi - 1e-9], [-np.pi, -np.pi]]
    for c in points:
        context.setPositions([[*c, 0.7]])
        state = context.getState(energy=True, forces=True)
        assert state.getPotentialEnergy()._value == pytest.approx(float(surface(c)), abs=1e-8)
        assert state.getForces(asNumpy=True)._value[0] == pytest.approx([*-surface.gradient(c), 0.0], abs=1e-6)


def test_step_is_the_published_update(ex, surface):
    """x <- x - 0.5 ds grad(U + bias) + sqrt(ds) xi at kT = 1 kJ/mol: mean and covariance of many single steps from one steep point."""
    ds, number = 1.6e-3, 4000
    curve = st.straightLine(ex.LIFTED, ex.START, ex.END, logSnr=ex.LOG_SNR, points=9, windings=ex.WINDINGS)
    simulation, force = ex.createSimulation(surface, curve, ds, seed=3)
    start = np.array([-2.75, 2.40])
    step = np.empty((number, 2))
    for i in range(number):
        simulation.context.setPositions([[*start, 0.0]])
        simulation.step(1)
        step[i] = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value[0, :2] - start
    # The bias at s = 0 is -sum kappa cos(c - c0).
    drift = -0.5 * ds * (surface.gradient(start) + np.exp(ex.LOG_SNR) * np.sin(start - ex.START))
    assert np.abs(drift).min() > 8 * np.sqrt(ds / number)  # it is seen, in both directions
    assert np.abs(step.mean(axis=0) - drift).max() < 4 * np.sqrt(ds / number)
    assert np.abs(np.cov(step.T) / ds - np.eye(2)).max() < 4 * np.sqrt(2 / number)


def test_starts_and_free_energy_difference_are_those_of_the_tilted_surface(ex, surface):
    """Against sums over a grid of another size."""
    curve = st.straightLine(ex.LIFTED, ex.START, ex.END, logSnr=ex.LOG_SNR, points=9, windings=ex.WINDINGS)
    axis = -np.pi + 2 * np.pi * np.arange(250) / 250
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = [np.exp(-surface(grid) + np.exp(ex.LOG_SNR) * (np.cos(grid - c) - 1).sum(axis=1)) for c in (ex.START, ex.END)]
    assert ex.freeEnergyDifference(ex.exactModel(surface, ex.LIFTED, 120), curve) == pytest.approx(-np.log(weights[1].sum() / weights[0].sum()), abs=1e-3)
    starts = np.array(ex.drawStarts(surface, curve.eta[0], ex.LIFTED, 4000, seed=1))[:, 0]
    w = weights[0] / weights[0].sum()
    away = (grid - ex.START + np.pi) % (2 * np.pi) - np.pi
    mean = w @ away
    cov = (w[:, None] * (away - mean)).T @ (away - mean)
    found = (starts[:, :2] - ex.START + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(found.mean(axis=0) - mean).max() < 4 * np.sqrt(cov.max() / 4000)
    assert np.cov(found.T) == pytest.approx(cov, abs=5 * cov.max() * np.sqrt(2 / 4000))
    assert np.all(starts[:, 2] == 0)


def test_quick_study(tmp_path):
    """All rows, with the goal's: every path arrives, at most 0.8 kJ/mol over the pass, with 2,048 gradients a path; the null beside it climbs higher."""
    out = tmp_path / "study"
    command = [sys.executable, str(STUDY / "run.py"), "--quick", "--processes", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    own = [row for row in report["rows"] if not row.get("published")]
    assert len(own) == 17 and len(report["rows"]) == 24
    table = (out / "table.txt").read_text()
    for name in rows:
        assert name in table  # none cut off
    heading = table.splitlines()[0].split("  ")
    assert [h.strip() for h in heading if h.strip()] == ["hits", "MaxEnergy", "above pass", "gradients", "once", "outside", "<W> - dF", "wall"]
    goal, null = rows["barrier-aware, 1920 x 1"], rows["null, uniform, 1920 x 1"]
    assert goal["hitRate"] == 1 and goal["gradientEvaluations"] == 2048 and goal["abovePass"] <= 0.8
    assert goal["abovePass"] + 4 * goal["maxEnergyError"] < null["abovePass"] - 4 * null["maxEnergyError"] and null["hitRate"] == 1
    assert goal["dissipated"] < null["dissipated"] / 2
    # A path that arrives has been as high as the pass, but for what a step can jump.
    for row in own:
        if row["hitRate"] == 1:
            assert min(row["maxEnergies"]) > report["saddle"]["freeEnergy"] - 0.5
    assert rows["published: spacetime geodesic"]["abovePass"] == pytest.approx(37.36 - 36.42)
    assert all((out / name).stat().st_size > 10_000 for name in ("surface.png", "maxenergy.png", "report.html"))
    assert not (out / "paths").exists()
    again = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert again.returncode == 1 and "already holds results" in again.stderr
