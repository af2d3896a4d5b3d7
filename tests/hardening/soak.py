# SPDX-License-Identifier: MIT
"""An hour of sampling, reading and geometry in one process, whose memory, open files and threads must stay where they are.

    python soak.py [--minutes 60] [--most 8]

Every round samples paths of alanine dipeptide into a new folder, reads them, estimates a free energy, solves a geodesic, loads and saves files, and refuses bad
input. What the process holds is read after each; the first tenth of the time is for caches to fill. Exit code 1 where the memory grew by more than --most MB since.
"""
import argparse
import gc
import os
import pathlib
import sys
import tempfile
import threading
import time

import numpy as np

import openmmspacetime as st

EXAMPLE = pathlib.Path(__file__).resolve().parents[2]/"examples"/"alanine_dipeptide"
sys.path.insert(0, str(EXAMPLE))
import metadynamics as md  # noqa: E402


def held():
    """Resident memory in MB, open files, threads."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages*os.sysconf("SC_PAGE_SIZE")/2**20, len(os.listdir("/proc/self/fd")), threading.active_count()


def makeWork():
    """The round: a function of its number."""
    with np.load(EXAMPLE/"data"/"alanine_vacuum_300K.npz") as data:
        model = st.EmpiricalModel(data["x"][::4].astype(float), st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"]), logWeights=data["log_weights"][::4].astype(float))
    ends = [-2.58, 2.79], [1.09, -0.88]
    curve = st.geodesic(model, *ends, points=65, temperature=md.TEMPERATURE)
    topology, system, positions = md.createSystem()
    force = st.SpacetimeForce(curve=curve, temperature=md.TEMPERATURE)
    system.addForce(force)
    simulation = md.createSimulation(topology, system, positions, 1)

    def work(i):
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder)
            paths = st.PathSampler(simulation, force, numPaths=2, steps=2000, equilibrationSteps=200, frameStride=50, energyStride=50, seed=i, progress=False).run(place/"paths")
            for path in paths:
                assert np.isfinite(path.work)
            curve.save(place/"curve.json")
            assert st.Curve.load(place/"curve.json").eta.tobytes() == curve.eta.tobytes()
            st.geodesic(model, *ends, points=33)
            try:
                st.geodesic(model, [float("nan"), 0], [1, 1])
            except ValueError:
                pass
            (place/"bad.json").write_text("{")
            try:
                st.Curve.load(place/"bad.json")
            except ValueError:
                pass
        return len(paths)

    return work


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--most", type=float, default=8, help="growth that is allowed, MB")
    arguments = parser.parse_args()
    work = makeWork()
    begin, rounds, paths, start, shown = time.perf_counter(), 0, 0, None, -1
    while (minutes := (time.perf_counter()-begin)/60) < arguments.minutes or start is None:
        paths += work(rounds)
        rounds += 1
        gc.collect()
        now = held()
        if start is None and minutes >= 0.1*arguments.minutes:
            start = now
        if int(minutes*12/arguments.minutes) > shown:
            shown = int(minutes*12/arguments.minutes)
            print(f"{minutes:6.1f} min  {rounds:6} rounds  {paths:6} paths  {now[0]:8.1f} MB  {now[1]:3} files  {now[2]:3} threads", flush=True)
    growth = now[0]-start[0]
    print(f"{minutes:.1f} min, {rounds} rounds, {paths} paths: memory {start[0]:.1f} -> {now[0]:.1f} MB ({growth:+.1f}), open files {start[1]} -> {now[1]}, threads {start[2]} -> {now[2]}")
    return 0 if growth <= arguments.most and now[1:] <= start[1:] else 1


if __name__ == "__main__":
    sys.exit(main())
