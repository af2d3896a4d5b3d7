# SPDX-License-Identifier: MIT
"""spacetime sample: the paths of the Python package, without Python."""
import json
import os
import signal
import subprocess
import time

import mdtraj
import numpy as np
import openmm
import pandas
import pytest

import openmmspacetime as st
from openmmspacetime import program
from test_sampling import makeChain


def spacetime(*words, **arguments):
    return subprocess.run([program.path(), "sample", *map(str, words)], capture_output=True, text=True, timeout=120, **arguments)


@pytest.fixture
def chain(tmp_path):
    """The chain's simulation and force; system.xml with the force, plain.xml without it, curve.json, state.xml, integrator.xml in a folder."""
    simulation, force = makeChain()
    (tmp_path/"system.xml").write_text(openmm.XmlSerializer.serialize(simulation.system))
    plain = openmm.XmlSerializer.clone(simulation.system)
    plain.removeForce(plain.getNumForces()-1)
    (tmp_path/"plain.xml").write_text(openmm.XmlSerializer.serialize(plain))
    (tmp_path/"state.xml").write_text(openmm.XmlSerializer.serialize(simulation.context.getState(positions=True, velocities=True)))
    (tmp_path/"integrator.xml").write_text(openmm.XmlSerializer.serialize(simulation.integrator))
    s, eta = force.getCurve()
    curve = st.Curve(st.Variables.torsions([(0, 1, 2, 3)], names=["phi"]), s, eta)
    curve.temperature = 300
    curve.save(str(tmp_path/"curve.json"))
    files = ["--state", tmp_path/"state.xml", "--integrator", tmp_path/"integrator.xml", "--platform", "Reference"]
    return simulation, force, tmp_path, files


@pytest.mark.parametrize("direction, source", [("forward", "curve"), ("backward", "system")])
def testSamePathsAsPython(chain, direction, source):
    simulation, force, folder, files = chain
    far = dict(maxStartDistance=100) if direction == "backward" else {}
    arguments = dict(numPaths=3, steps=120, stepsPerMove=3, equilibrationSteps=40, frameStride=20, energyStride=7, seed=987654321)
    python = st.PathSampler(simulation, force, direction=direction, **arguments, **far).run(folder/"python")
    own = ["--system", folder/"plain.xml", "--curve", folder/"curve.json"] if source == "curve" else ["--system", folder/"system.xml"]
    words = [*own, *files, "--paths", 3, "--steps", 120, "--steps-per-move", 3, "--equilibration", 40, "--frame-stride", 20, "--energy-stride", 7, "--seed", arguments["seed"],
             "--out", folder/"program", "--topology", folder/"python"/"topology.pdb", "--json"]
    if direction == "backward":
        words += ["--backward", "--max-start-distance", 100]
    r = spacetime(*words)
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout)["complete"] == 3
    assert {p.name for p in (folder/"program").iterdir()} == {p.name for p in (folder/"python").iterdir()}
    # Frames and index: the same bytes. Records: the same numbers.
    for name in ["index.csv", *(f"path-000{i}.{suffix}" for i in range(3) for suffix in ("dcd", "csv"))]:
        assert (folder/"program"/name).read_bytes() == (folder/"python"/name).read_bytes(), name
    read = st.PathEnsemble.load(folder/"program")
    assert len(read) == 3 and read.direction == direction and read.variables == python.variables and read.settings["steps"] == 120
    np.testing.assert_array_equal(read.eta, python.eta)
    for a, b in zip(read, python):
        for name in ("index", "seed", "s", "variables", "work", "workProfile", "potentialEnergy", "energySteps", "frameSteps", "finalVariables", "frameEnergy", "frameBias",
                     "gradientEvaluations", "energyEvaluations", "highestPotentialEnergy", "hit"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert mdtraj.load(a.trajectory, top=read.topology).n_frames == 6
    a, b = (pandas.read_csv(folder/name/"paths.csv") for name in ("program", "python"))
    pandas.testing.assert_frame_equal(a.drop(columns="seconds"), b.drop(columns="seconds"))


def testResumeOverwriteAndCtrlC(chain):
    _, _, folder, files = chain
    words = ["--system", folder/"system.xml", *files, "--paths", 40, "--steps", 20000, "--seed", 3, "--quiet", "--out"]
    process = subprocess.Popen([program.path(), "sample", *map(str, words), str(folder/"cut")], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while len(list((folder/"cut").glob("path-*.npz"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and "interrupted; --resume goes on" in error
    complete = sorted((folder/"cut").glob("path-*.npz"))
    assert 2 <= len(complete) < 40 and len(st.PathEnsemble.load(folder/"cut")) == len(complete)
    assert not list((folder/"cut").glob(".tmp*"))
    times = [p.stat().st_mtime_ns for p in complete]
    # Killed this time, which leaves something behind.
    process = subprocess.Popen([program.path(), "sample", *map(str, words), str(folder/"cut"), "--resume"])
    while len(list((folder/"cut").glob("path-*.npz"))) < len(complete)+2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    r = spacetime(*words, folder/"cut")
    assert r.returncode == 2 and "--resume" in r.stderr and "--overwrite" in r.stderr
    r = spacetime(*words, folder/"cut", "--resume", "--seed=4")
    assert r.returncode == 2
    assert spacetime(*words, folder/"cut", "--resume").returncode == 0
    assert [p.stat().st_mtime_ns for p in complete] == times
    assert spacetime(*words, folder/"whole").returncode == 0
    names = {p.name for p in (folder/"whole").iterdir()}
    assert names == {p.name for p in (folder/"cut").iterdir()} and len(names) == 3*40+3
    for name in names-{"paths.csv"}:
        if not name.endswith(".npz"):
            assert (folder/"cut"/name).read_bytes() == (folder/"whole"/name).read_bytes(), name
    before = (folder/"cut"/"path-0000.dcd").read_bytes()
    r = spacetime(*[2000 if w == 20000 else w for w in words], folder/"cut", "--resume")
    assert r.returncode == 2 and "another System, Integrator" in r.stderr and (folder/"cut"/"path-0000.dcd").read_bytes() == before
    other = [2 if w == 40 else 50 if w == 20000 else w for w in words]
    assert spacetime(*other, folder/"cut", "--overwrite").returncode == 0
    assert len(list((folder/"cut").glob("path-*.npz"))) == 2


def testFailedPathsAndFarStarts(chain):
    simulation, force, folder, files = chain
    integrator = openmm.XmlSerializer.clone(simulation.integrator)
    integrator.setStepSize(1e9)
    (folder/"fast.xml").write_text(openmm.XmlSerializer.serialize(integrator))
    words = ["--system", folder/"system.xml", "--state", folder/"state.xml", "--platform", "Reference", "--paths", 2, "--steps", 20]
    r = spacetime(*words, "--integrator", folder/"fast.xml", "--out", folder/"failed")
    assert r.returncode == 1 and "2 of 2 paths failed" in r.stderr
    paths = st.PathEnsemble.load(folder/"failed")
    assert len(paths) == 0 and [f.index for f in paths.failures] == [0, 1] and "not a finite number" in paths.failures[0].message
    assert pandas.read_csv(folder/"failed"/"paths.csv")["message"][1] == paths.failures[1].message
    times = [p.stat().st_mtime_ns for p in sorted((folder/"failed").glob("*.failed.json"))]
    assert spacetime(*words, "--integrator", folder/"fast.xml", "--out", folder/"failed", "--resume").returncode == 1
    assert [p.stat().st_mtime_ns for p in sorted((folder/"failed").glob("*.failed.json"))] == times
    assert spacetime(*words, "--integrator", folder/"fast.xml", "--out", folder/"failed", "--resume", "--retry-failed").returncode == 1
    assert [p.stat().st_mtime_ns for p in sorted((folder/"failed").glob("*.failed.json"))] != times

    words += ["--integrator", folder/"integrator.xml", "--backward", "--out", folder/"far"]
    r = spacetime(*words)
    assert r.returncode == 2 and 'variable "phi"' in r.stderr and "s = 1 is centred at 1" in r.stderr and not (folder/"far").exists()
    r = spacetime(*words, "--equilibrate")
    assert r.returncode == 0, r.stderr
    assert st.PathEnsemble.load(folder/"far")[0].gradientEvaluations == 5000+2*1000+20


def testDefaultIntegratorAndStepsPerLength(chain):
    _, _, folder, _ = chain
    r = spacetime("--system", folder/"plain.xml", "--curve", folder/"curve.json", "--state", folder/"state.xml", "--platform", "Reference", "--paths", 1,
                  "--steps-per-length", 10, "--length", 12.61, "--steps-per-move", 2, "--out", folder/"p", "--json")
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout)["steps"] == 128 and st.PathEnsemble.load(folder/"p").settings["length"] == 12.61


@pytest.mark.parametrize("words, message", [
    (["--state", "state.xml"], "--out is needed"),
    (["--state", "state.xml", "--out", "p"], "--platform is needed"),
    (["--state", "state.xml", "--out", "p", "--platform", "Reference"], "--system is needed"),
    (["--system", "system.xml", "--state", "missing.xml", "--out", "p", "--platform", "Reference"], "no such file"),
    (["--system", "state.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference"], "--system: expected the XML of System in 'state.xml', found a State"),
    (["--system", "forged.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference"], "found a State"),
    (["--system", "unclosed.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference"], "not XML as OpenMM writes it"),
    (["--system", "twice.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference"], "--system: "),
    (["--system", "curve.json", "--state", "state.xml", "--out", "p", "--platform", "Reference"], "found something else"),
    (["--system", "torn.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference"], "--system: 'torn.xml' cannot be read"),
    (["--system", "plain.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference"], "holds no SpacetimeForce"),
    (["--system", "system.xml", "--curve", "curve.json", "--state", "state.xml", "--out", "p", "--platform", "Reference"], "holds a SpacetimeForce already"),
    (["--system", "system.xml", "--state", "state.xml", "--out", "p", "--platform", "Abacus"], "Abacus"),
    (["--system", "system.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference", "--steps", "10", "--steps-per-move", "3"], "10 is not a multiple of 3"),
    (["--system", "system.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference", "--steps", "10", "--steps-per-length", "3"], "not both"),
    (["--system", "system.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference", "--steps-per-length", "3"], "--length is needed"),
    (["--system", "system.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference", "--resume", "--overwrite"], "not both"),
    (["--system", "system.xml", "--state", "state.xml", "--out", "no/such/folder", "--platform", "Reference", "--properties", "Threads"], "expected NAME=VALUE"),
    (["--system", "system.xml", "--state", "state.xml", "--out", "p", "--platform", "Reference", "--integrator", "hot.xml"], "400 K"),
])
def testBadInput(chain, words, message):
    folder = chain[2]
    (folder/"hot.xml").write_text(openmm.XmlSerializer.serialize(openmm.LangevinMiddleIntegrator(400, 1, 0.002)))
    # What looks like a System and is none: OpenMM would take its bytes for one.
    state = (folder/"state.xml").read_text()
    (folder/"forged.xml").write_text(state.replace("<State", '<!-- type="System" --><State', 1))
    (folder/"unclosed.xml").write_text("<?xml version='1.0'?><")
    (folder/"twice.xml").write_text(state.replace("<State ", '<State type="System" ', 1))
    (folder/"torn.xml").write_text((folder/"system.xml").read_text()[:600])
    r = spacetime(*words, cwd=folder)
    assert r.returncode == 2 and message in r.stderr and len(r.stderr.strip().splitlines()) == 1, r.stderr
    assert not (folder/"p").exists()


def testFullDisk(chain):
    resource = pytest.importorskip("resource")
    _, _, folder, files = chain
    words = ["--system", folder/"system.xml", *files, "--paths", 2, "--steps", 4000, "--frame-stride", 2, "--out", folder/"p"]

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))

    r = spacetime(*words, preexec_fn=limit)
    assert r.returncode == 2 and "path-0000.dcd" in r.stderr and os.strerror(27) in r.stderr and "--resume" in r.stderr
    assert {p.name for p in (folder/"p").iterdir()} <= {"ensemble.json", "index.csv", "paths.csv"}
    assert spacetime(*words, "--resume").returncode == 0 and len(st.PathEnsemble.load(folder/"p")) == 2
