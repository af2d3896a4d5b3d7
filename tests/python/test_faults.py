# SPDX-License-Identifier: MIT
"""Full disks, folders that cannot be written, files that cannot be read, devices that are not there: one clear line, nothing half written, nothing lost."""
import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import openmm
import openmm.app
import pytest

import openmmspacetime as st
from openmmspacetime import program

# Even root cannot make a file here.
UNWRITABLE = "/sys/kernel"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples")/"samples.npz"
    np.savez(path, x=np.random.default_rng(1).vonmises(0, 2, size=(3000, 2)))
    return path


def limited(size):
    """Files end at `size` bytes, as on a disk that has no more; the signal that comes with it is ignored, so that writing fails."""
    def prepare():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return prepare


def run(*words, size=None):
    done = subprocess.run([program.path(), *map(str, words)], capture_output=True, text=True, timeout=300, preexec_fn=None if size is None else limited(size))
    return done.returncode, done.stdout, done.stderr


def complains(result, *parts):
    """Exit code 2 and one line on standard error with these parts."""
    code, _, errors = result
    lines = [line for line in errors.splitlines() if line.startswith("spacetime ")]
    assert code == 2 and len(lines) == 1, (code, errors)
    for part in parts:
        assert part in lines[0], lines[0]


def commands(samples, out):
    """What writes a file, and the file."""
    model = ["--samples", samples, "--variables", "phi:torsion,psi:torsion"]
    return {"geodesic": ["geodesic", *model, "--from", "-0.5,-0.5", "--to", "0.5,0.5", "--temperature", "300", "--out", out, "--overwrite"],
            "train": ["train", samples, *model[2:], "--steps", "3", "--components", "8", "--batch", "64", "--out", out, "--overwrite"],
            "density": ["density", "geodesic", *model, "--log-snr", "2", "--from", "-0.5,-0.5", "--to", "0.5,0.5", "--out", out, "--overwrite"],
            "encode": ["encode", *model, "--in", samples, "--log-snr", "-2", "--steps", "2", "--solver", "heun", "--out", out, "--overwrite"]}


@pytest.mark.parametrize("command,name", [("geodesic", "a.json"), ("train", "a.safetensors"), ("density", "a.json"), ("encode", "a.npy")])
def testFullDiskAndUnwritableFolders(tmp_path, samples, command, name):
    out = tmp_path/name
    words = commands(samples, out)[command]
    code, _, errors = run(*words)
    assert code in (0, 1), errors
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert name in before
    # The new files have no room: the old ones stay, and nothing lies beside them.
    complains(run(*words, size=16), f"'{out}'", "space")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    complains(run(*commands(samples, f"{UNWRITABLE}/{name}")[command]), f"{UNWRITABLE}/{name}")
    complains(run(*commands(samples, tmp_path/"no"/"such"/name)[command]), str(tmp_path/"no"/"such"))


def onSmallDisk(tmp_path, kilobytes, body):
    """Runs a function of this module on a disk of that size, mounted where this process alone sees it, and fails as it does."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount a file system of his own")
    disk = tmp_path/"disk"
    disk.mkdir()
    script = f"import sys, pathlib; sys.path.insert(0, sys.argv[1]); import test_faults; test_faults.{body.__name__}(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))"
    words = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=$0k none "$1" && shift && exec "$@"', str(kilobytes), disk, sys.executable, "-c", script, os.path.dirname(__file__), disk, tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout+done.stderr


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def fill(folder):
    with pytest.raises(OSError, match="No space left"), open(folder/"filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(512))


def writeOnFullDisk(disk, tmp_path):
    for command, name in ("geodesic", "a.json"), ("train", "a.safetensors"), ("density", "d.json"), ("encode", "a.npy"):
        words = commands(tmp_path/"samples.npz", disk/name)[command]
        assert run(*words)[0] in (0, 1)
        fill(disk)
        before = files(disk)
        complains(run(*words), f"'{disk/name}'", "space")
        assert files(disk) == before
        (disk/"filler").unlink()
        assert run(*words)[0] in (0, 1)  # and with room again it works
        assert sorted(files(disk)) == sorted(set(before)-{"filler"})


def oneParticle():
    """A simulation of one particle, and the force in it."""
    force = st.SpacetimeForce(s=[0, 1], eta=[[1.0, 0.0], [0.0, 1.0]], temperature=300)
    force.addCoordinate(0, 0, period=1.0, name="x")
    system = openmm.System()
    system.addParticle(1.0)
    system.addForce(force)
    topology = openmm.app.Topology()
    topology.addAtom("C", openmm.app.Element.getBySymbol("C"), topology.addResidue("X", topology.addChain()))
    simulation = openmm.app.Simulation(topology, system, openmm.LangevinMiddleIntegrator(300, 10, 0.01), openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions([[0.0, 0, 0]])
    return simulation, force


def sampleOnFullDisk(disk, tmp_path):
    simulation, force = oneParticle()
    sampler = st.PathSampler(simulation, force, numPaths=30, steps=400, equilibrationSteps=0, frameStride=2, seed=5, progress=False)
    with pytest.raises(OSError, match=r"[0-9]+ of 30 paths are complete.*resume=True") as error:
        sampler.run(disk/"paths")
    assert error.value.errno == errno.ENOSPC
    complete = {name: bytes_ for name, bytes_ in files(disk/"paths").items() if name.startswith("path-")}
    assert len(complete) > 5 and not any(name.startswith(".tmp") for name in files(disk/"paths"))
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    sampler.run(disk/"paths", resume=True)
    sampler.run(tmp_path/"whole")
    now, whole = files(disk/"paths"), files(tmp_path/"whole")
    assert all(now[name] == bytes_ for name, bytes_ in complete.items())
    assert sorted(now) == sorted(whole)
    for name in sorted(set(whole)-{"paths.csv", "ensemble.json"}):  # which hold wall times, as does "seconds" of every path
        if name.endswith(".npz"):
            with np.load(disk/"paths"/name) as x, np.load(tmp_path/"whole"/name) as y:
                assert x.files == y.files and all(x[key].tobytes() == y[key].tobytes() for key in x.files if key != "seconds"), name
        else:
            assert now[name] == whole[name], name


@pytest.mark.parametrize("body", [writeOnFullDisk, sampleOnFullDisk])
def testDiskWithoutRoom(tmp_path, samples, body):
    """A real file system that is full, in place of a limit on files."""
    (tmp_path/"samples.npz").write_bytes(samples.read_bytes())
    onSmallDisk(tmp_path, 400, body)


def testUnreadableFiles(tmp_path, samples):
    pipe, folder, missing = tmp_path/"pipe.safetensors", tmp_path/"folder.safetensors", tmp_path/"missing.safetensors"
    os.mkfifo(pipe)
    folder.mkdir()
    for path, why in (pipe, "regular file"), (folder, "regular file"), (missing, "missing.safetensors"):
        complains(run("geodesic", "--model", path, "--from", "0", "--to", "1", "--out", tmp_path/"c.json"), str(path), why)
        complains(run("info", path), str(path))
    os.mkfifo(tmp_path/"pipe.npz")
    complains(run("geodesic", "--samples", tmp_path/"pipe.npz", "--from", "0,0", "--to", "1,1", "--out", tmp_path/"c.json"), "regular file")
    os.mkfifo(tmp_path/"pipe.json")
    for load in st.Curve.load, st.GaussianMixtureModel.load:
        with pytest.raises(ValueError, match="regular file"):
            load(tmp_path/"pipe.json")
    assert not (tmp_path/"c.json").exists()


def testFilesOfOthersInAPythonScript(tmp_path):
    """Names may be paths; a file in another encoding, or with control characters, is refused in words that can be printed."""
    (tmp_path/"a.csv").write_bytes(b"caf\xe9\n1\n")
    with pytest.raises(ValueError, match="UTF-8"):
        st.readSamples(tmp_path/"a.csv")
    (tmp_path/"b.csv").write_bytes(b"x\n\x1b[2J\xff\n")
    with pytest.raises(ValueError, match=r"\\x1b\[2J\\xff"):
        st.readSamples(tmp_path/"b.csv")


HUGE = {"curve.json": b'{"format":"spacetime-curve","version":1,"s":' + b"["*500 + b"]"*500 + b"}",
        "shape.npy": b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999), }    \n",
        "header.safetensors": b"\xff\xff\xff\xff\x00\x00\x00\x00{}",
        "tensor.safetensors": b"\x4b\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{"dtype":"F64","shape":[99999,99999],"data_offsets":[0,79998400008]}}  '}


@pytest.mark.parametrize("name", HUGE)
def testSmallFilesAllocateLittle(tmp_path, name):
    """Files of less than 2 KB that claim gigabytes, opened where no more than 1 GB can be had."""
    (tmp_path/name).write_bytes(HUGE[name])
    kind = ["--samples"] if name.endswith(".npy") else ["--model"]
    words = ["measure", "--samples", tmp_path/"none.npy", "--curve", tmp_path/name] if name.endswith(".json") else ["geodesic", *kind, tmp_path/name, "--from", "0", "--to", "1", "--out", tmp_path/"c.json"]
    words = ["info", tmp_path/name] if name.endswith(".json") else words
    done = subprocess.run([program.path(), *map(str, words)], capture_output=True, text=True, timeout=60,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)))
    complains((done.returncode, done.stdout, done.stderr), str(tmp_path/name))
    assert "memory" not in done.stderr and "alloc" not in done.stderr


def testMissingGpu(tmp_path, samples):
    """Without a GPU: one line that says so, and what there is."""
    script = textwrap.dedent("""
        import sys, openmmspacetime as st, numpy as np
        try:
            st.train(np.random.default_rng(1).normal(size=(500, 1)), st.Variables.numbers(["x"]), steps=2, device="cuda", out=sys.argv[1])
        except (RuntimeError, ValueError) as e:
            print(e)
            sys.exit(5)
    """)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", script, tmp_path/"m.safetensors"], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 5 and len(done.stdout.splitlines()) == 1 and "cuda" in done.stdout.lower() and "cpu" in done.stdout.lower(), (done.stdout, done.stderr)
    assert not (tmp_path/"m.safetensors").exists()


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def testOpeningAFileNeverRunsCode(tmp_path, samples):
    """Pickles in every place where a file of numbers is expected. (TorchScript files are programs, and their documentation says so.)"""
    mark = tmp_path/"it-ran"
    bomb = np.array([Bomb(mark)], dtype=object)
    np.savez(tmp_path/"s.npz", x=bomb)
    np.save(tmp_path/"s.npy", bomb, allow_pickle=True)
    for name in "s.npz", "s.npy":
        with pytest.raises(ValueError):
            st.readSamples(tmp_path/name)
        complains(run("info", tmp_path/name), name)
    for name in "m.safetensors", "c.json", "m.json", "d.json":
        (tmp_path/name).write_bytes(pickle.dumps(Bomb(mark)))
    for load, name in ((st.NetworkModel.load, "m.safetensors"), (st.loadModel, "m.safetensors"), (st.Curve.load, "c.json"), (st.GaussianMixtureModel.load, "m.json"), (st.DensityPath.load, "d.json")):
        with pytest.raises(ValueError):
            load(tmp_path/name)
    with pytest.raises(ValueError):
        st.readImages(tmp_path/"s.npy")
    # A folder of paths: its record, and the arrays of a path.
    simulation, force = oneParticle()
    st.PathSampler(simulation, force, numPaths=1, steps=20, equilibrationSteps=0, progress=False).run(tmp_path/"paths")
    record = next((tmp_path/"paths").glob("path-*.npz"))
    with np.load(record) as data:
        arrays = dict(data)
    np.savez(record, **dict.fromkeys(arrays, bomb))
    with pytest.raises(Exception):  # noqa: B017  numpy's own words
        paths = st.PathEnsemble.load(tmp_path/"paths")
        print(paths[0].work, paths[0].variables)
    assert not mark.exists()
    assert pickle.loads(pickle.dumps(Bomb(mark))) is not None and mark.exists()
