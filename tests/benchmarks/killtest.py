# SPDX-License-Identifier: MIT
"""kill -9 at random moments, resume until finished, and compare with what was left alone: every file but the wall times, byte for byte.

    python killtest.py [--kills 50] [--what sampling training writing] [--seed 1] [--dir DIR]

sampling: paths of alanine dipeptide on the Reference platform; a life of the run has one process or two, and the kill hits the parent alone, or everybody.
training: `spacetime train` on the samples that ship, which goes on from its checkpoint. writing: a process that replaces a curve, a density path, a table and a
picture over and over; after every kill each of them must be whole and hold one of its versions.
"""
import argparse
import csv
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

EXAMPLE = pathlib.Path(__file__).resolve().parents[2]/"examples"/"alanine_dipeptide"
SAMPLES = EXAMPLE/"data"/"alanine_vacuum_300K.npz"
KINDS = ["sampling", "training", "writing"]


def makeSampler(numPaths, processes):
    """Short paths of alanine dipeptide from C5, psi driven by 2 rad."""
    import openmmspacetime as st

    sys.path.insert(0, str(EXAMPLE))
    import metadynamics as md

    topology, system, positions = md.createSystem()
    psi = np.linspace(2.79, 0.79, 9)
    force = st.SpacetimeForce(s=np.linspace(0, 1, 9), eta=50*np.stack([np.cos(psi), np.sin(psi)], axis=1), temperature=md.TEMPERATURE)
    force.addTorsion(6, 8, 14, 16, name="psi")
    system.addForce(force)
    simulation = md.createSimulation(topology, system, positions, 1)
    assert simulation.context.getPlatform().getName() == "Reference"
    return st.PathSampler(simulation, force, numPaths=numPaths, steps=1500, equilibrationSteps=100, frameStride=10, energyStride=50, seed=77, processes=processes, progress=False)


def sample(directory, numPaths, processes):
    sampler = makeSampler(numPaths, processes)
    print("ready", flush=True)
    sampler.run(directory, resume=True)


def write(directory):
    """Replaces the files until it is killed; version i has 200 + i points."""
    import openmmspacetime as st
    from openmmspacetime import ensemble

    model = st.GaussianMixtureModel([[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.1], [0.5, 0.5])
    density = st.ModelDensity(model, logSnr=2.0)
    paths = [st.densityGeodesic(density, [-1, 0], [1, 0], points=17+8*i) for i in range(3)]
    directory.mkdir(exist_ok=True)
    print("ready", flush=True)
    for i in range(1000000):
        st.straightLine(model.variables, [-1, 0], [1, 0], points=200+i % 7).save(directory/"curve.json", True)
        paths[i % 3].save(directory/"path.json", overwrite=True)
        ensemble.replace(directory/"table.csv", lambda file: file.write(("a,b\n"+"".join(f"{k},{k/7!r}\n" for k in range(200+i % 7))).encode()))
        st.writePng(directory/"picture.png", np.full((200+i % 7, 64, 3), i % 7/7), overwrite=True)


def broken(directory):
    """Complaints about files that are not whole, and about any other file."""
    import openmmspacetime as st

    sizes = range(200, 207)
    readers = {"curve.json": lambda p: len(st.Curve.load(p).s) in sizes, "path.json": lambda p: len(st.DensityPath.load(p).path) in (17, 25, 33),
               "table.csv": lambda p: len(list(csv.DictReader(p.open()))) in sizes, "picture.png": lambda p: len(st.readImage(p)) in sizes}
    for name, check in readers.items():
        try:
            if (directory/name).exists() and not check(directory/name):
                yield f"{name}: no version of it"
        except (ValueError, OSError) as e:
            yield str(e)


def command(what, directory, rng, numPaths):
    if what == "training":
        import openmmspacetime.program

        train = ["train", str(SAMPLES), "--variables", "phi:torsion,psi:torsion", "--out", str(directory/"model.safetensors"), "--steps", str(200*numPaths), "--components", "32", "--points", "4096",
                 "--batch", "128", "--threads", "1", "--quiet", "--resume", "--overwrite"]
        return ["sh", "-c", 'echo ready; exec "$0" "$@"', openmmspacetime.program.path(), *train]
    return [sys.executable, __file__, "--child", str(directory), "--what", what, "--paths", str(numPaths), "--processes", str(rng.choice((1, 2)))]


def live(command, directory, seconds, everybody):
    """One life of a run; `seconds` after it began to work it is killed, if given. Returns whether it was, and how long it worked."""
    errors = directory.parent/"errors.txt"  # those who are killed have a lot to say
    with open(errors, "w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True)
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"the run could not start, exit code {process.wait()}\n{errors.read_text()}")
    begin = time.perf_counter()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL) if everybody else process.kill()
        process.wait()
        return True, seconds
    if process.returncode != 0:
        raise SystemExit(f"the run failed with exit code {process.returncode}\n{errors.read_text()}")
    return False, time.perf_counter()-begin


def sameModel(a, b):
    """Whether two model files are the same but for times and names."""
    import json
    import struct

    def parts(path):
        data = path.read_bytes()
        size, = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8+size])
        model = json.loads(header["__metadata__"]["model"])
        for key in [k for k in model["training"] if "seconds" in k or k in ("command", "resumed")]:
            del model["training"][key]
        header["__metadata__"]["model"] = model
        return header, data[8+size:]

    return parts(a) == parts(b)


def differences(a, b):
    """Files that are not the same in both folders; of the records all but the wall time is compared, paths.csv holds it too."""
    names = {p.name for p in a.iterdir()} | {p.name for p in b.iterdir()}
    for name in sorted(names-{"paths.csv"}):
        if not (a/name).exists() or not (b/name).exists():
            yield name
        elif name.endswith(".npz"):
            with np.load(a/name) as x, np.load(b/name) as y:
                if x.files != y.files or any(x[key].tobytes() != y[key].tobytes() for key in x.files if key != "seconds"):
                    yield name
        elif name.endswith(".safetensors"):
            if not sameModel(a/name, b/name):
                yield name
        elif (a/name).read_bytes() != (b/name).read_bytes():
            yield name


def rows(directory):
    return len((directory/"paths.csv").read_text().splitlines()) if (directory/"paths.csv").exists() else 0


def killResumed(what, kills, rng, directory, numPaths):
    """Kills a run that resumes, lets it end, and says how it differs from one that was left alone."""
    whole, cut = directory/f"{what}-whole", directory/f"{what}-cut"
    if what == "training":
        whole.mkdir()
        cut.mkdir()
    _, seconds = live(command(what, whole, random.Random(1), numPaths), whole, None, True)
    print(f"{what}: left alone, {seconds:.1f} s", flush=True)
    done = 0
    # Short enough that there is work left for all of them: about half of it is done when the last one comes. Training writes its checkpoint every five seconds.
    longest = seconds/kills if what == "sampling" else 10.0
    while done < kills and live(command(what, cut, rng, numPaths), cut, rng.uniform(0, longest), rng.random() < 0.5)[0]:
        done += 1
        if done % 10 == 0 or done == kills:
            complete = f", {len(list(cut.glob('path-*.npz')))} paths complete" if what == "sampling" else f", checkpoint: {'yes' if any(cut.glob('*.checkpoint')) else 'no'}"
            print(f"{what}: killed {done} times{complete}", flush=True)
    live(command(what, cut, rng, numPaths), cut, None, True)
    time.sleep(0.5)  # workers of a killed parent need a moment to notice
    different = list(differences(whole, cut))
    print(f"{what}: {done} kills; files: {len(list(whole.iterdir()))}; different: {different or 'none'}"
          + (f"; rows of paths.csv: {rows(whole)}, {rows(cut)}" if what == "sampling" else ""), flush=True)
    return not different and rows(whole) == rows(cut) and done == kills


def killWriting(kills, rng, directory):
    folder, complaints = directory/"writing", []
    for _i in range(kills):
        live(command("writing", folder, rng, 0), folder, 0.1+rng.uniform(0, 0.3), True)
        complaints += list(broken(folder))
    left = len([p for p in folder.iterdir() if ".part" in p.name or p.name.startswith(".tmp")])
    print(f"writing: {kills} kills; files that were not whole: {complaints or 'none'}; temporary files left beside them: {left}", flush=True)
    return not complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--what", nargs="+", choices=KINDS, default=["sampling"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", type=pathlib.Path)
    parser.add_argument("--child", help=argparse.SUPPRESS, type=pathlib.Path)
    parser.add_argument("--paths", type=int, help="number of paths (4 for each kill)")
    parser.add_argument("--processes", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        write(arguments.child) if arguments.what == ["writing"] else sample(arguments.child, arguments.paths, arguments.processes)
        return 0
    rng = random.Random(arguments.seed)
    directory = arguments.dir or pathlib.Path(tempfile.mkdtemp())
    directory.mkdir(parents=True, exist_ok=True)
    good = [killWriting(arguments.kills, rng, directory) if what == "writing" else killResumed(what, arguments.kills, rng, directory, arguments.paths or 4*arguments.kills)
            for what in arguments.what]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
