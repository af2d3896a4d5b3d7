# SPDX-License-Identifier: MIT
"""kill -9 at random moments, resume until finished, and compare with a run that was left alone: every file but the wall times, byte for byte.

    python killtest.py [--kills 50] [--seed 1] [--dir DIR]

Alanine dipeptide on the Reference platform. A life of the run has one process or two; the kill hits the parent alone, or everybody.
"""
import argparse
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


def child(directory, numPaths, processes):
    sampler = makeSampler(numPaths, processes)
    print("ready", flush=True)
    sampler.run(directory, resume=True)


def live(directory, numPaths, processes, seconds, everybody):
    """One life of the run; `seconds` after it began to work it is killed, if given. Returns whether it was, and how long it worked."""
    errors = directory.parent/"errors.txt"  # those who are killed have a lot to say
    with open(errors, "w") as file:
        process = subprocess.Popen([sys.executable, __file__, "--child", str(directory), "--paths", str(numPaths), "--processes", str(processes)], stdout=subprocess.PIPE,
                                   stderr=file, text=True, start_new_session=True)
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
        elif (a/name).read_bytes() != (b/name).read_bytes():
            yield name


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", type=pathlib.Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--paths", type=int, help="number of paths (4 for each kill)")
    parser.add_argument("--processes", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.paths, arguments.processes)
        return 0
    numPaths = arguments.paths or 4*arguments.kills
    rng = random.Random(arguments.seed)
    directory = arguments.dir or pathlib.Path(tempfile.mkdtemp())
    whole, cut = directory/"whole", directory/"cut"
    _, seconds = live(whole, numPaths, 1, None, True)
    print(f"left alone: {seconds:.1f} s", flush=True)
    kills = 0
    # Short enough that there is work left for all of them: about half of it is done when the last one comes.
    while kills < arguments.kills and live(cut, numPaths, rng.choice((1, 2)), rng.uniform(0, seconds/arguments.kills), rng.random() < 0.5)[0]:
        kills += 1
        if kills % 10 == 0 or kills == arguments.kills:
            print(f"killed {kills} times, {len(list(cut.glob('path-*.npz')))} paths complete", flush=True)
    live(cut, numPaths, 2, None, True)
    time.sleep(0.5)  # workers of a killed parent need a moment to notice
    different = list(differences(whole, cut))
    rows = len((whole/"paths.csv").read_text().splitlines()), len((cut/"paths.csv").read_text().splitlines())
    print(f"{kills} kills; files: {len(list(whole.iterdir()))}; different: {different or 'none'}; rows of paths.csv: {rows[0]}, {rows[1]}")
    return 0 if not different and rows[0] == rows[1] and kills == arguments.kills else 1


if __name__ == "__main__":
    sys.exit(main())
