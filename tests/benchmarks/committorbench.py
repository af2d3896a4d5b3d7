# SPDX-License-Identifier: MIT
"""Committors of transition states on driven paths of alanine dipeptide, and unbiased path sampling started from one of them.

1. Drives paths over the transition geodesic of the shipped samples, C5/C7eq to C7ax, 16,000 steps each.
2. Committors of 20 frames x 40 trajectories: the frames of highest free energy, and those that a first set of trajectories selects, judged by a second one.
3. Where an environment with OpenPathSampling is (--ops PYTHON, or .venv/ops): two-way shooting from a driven path, and how alike the paths are.

    python committorbench.py [--paths 24] [--trials 1000] [--seed 1] [--first-shots 20] [--ops PYTHON] [--out FOLDER]

A state is the union of discs of 0.75 rad: A around C5 and C7eq, which are one basin beside this barrier, B around C7ax. Exit code 1 where the mean committor of the
selected frames is more than 0.1 from 1/2.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import openmmspacetime as st
from openmmspacetime import plots

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT/"examples"/"alanine_dipeptide"
sys.path.insert(0, str(EXAMPLE))
VARIABLES = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])
RADIUS = 0.75


class Clock:
    def __init__(self):
        self.restart()

    def restart(self):
        self.wall, self.cpu = time.perf_counter(), sum(os.times()[:4])

    def __str__(self):
        text = f"({sum(os.times()[:4])-self.cpu:.0f} s of CPU time, {time.perf_counter()-self.wall:.0f} s)"
        self.restart()
        return text


def crossings(density):
    """psi (rad) where each counted part of a path crosses phi = 0 for the last time."""
    result = []
    for line in density.lines:
        phi = line[:, 0]
        at = np.flatnonzero((phi[:-1] < 0) & (phi[1:] >= 0) & (phi[1:]-phi[:-1] < np.pi))
        if len(at):
            i = at[-1]
            result.append(line[i, 1]-phi[i]/(phi[i+1]-phi[i])*(line[i+1, 1]-line[i, 1]))
    return np.array(result)


def main():
    parser = argparse.ArgumentParser(description="Committors and unbiased path sampling on alanine dipeptide.")
    parser.add_argument("--paths", type=int, default=24)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first-shots", type=int, default=20)
    parser.add_argument("--ops", type=pathlib.Path, default=ROOT/".venv"/"ops"/"bin"/"python", help="Python of an environment with OpenPathSampling")
    parser.add_argument("--out", type=pathlib.Path, help="keep paths, results and figures there (default: nowhere)")
    arguments = parser.parse_args()
    import metadynamics as md

    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or pathlib.Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        clock = Clock()
        with np.load(EXAMPLE/"data"/"alanine_vacuum_300K.npz") as data:
            samples, logWeights = data["x"].astype(float), data["log_weights"].astype(float)
        surface = st.FreeEnergySurface.fromSamples(samples, logWeights, md.TEMPERATURE)
        c5, c7eq, c7ax = (surface.nearestMinimum(c) for c in ((-2.6, 2.75), (-1.35, 1.0), (1.07, -0.7)))
        curve = st.geodesic(st.EmpiricalModel(samples, VARIABLES, logWeights=logWeights), c5, c7ax, preset="transition", temperature=md.TEMPERATURE)
        topology, system, positions = md.createSystem()
        force = st.SpacetimeForce(curve, VARIABLES, md.TEMPERATURE)
        system.addForce(force)
        simulation = md.createSimulation(topology, system, positions, arguments.seed)
        a, b = st.StateRegion([c5, c7eq], RADIUS, force, name="A"), st.StateRegion(c7ax, RADIUS, force, name="B")
        paths = st.PathSampler(simulation, force, numPaths=arguments.paths, frameStride=10, seed=arguments.seed, surface=surface).run(out/"paths", overwrite=True)
        print(f"{paths.summary()}\n{clock}\n")

        highest = st.committor(simulation, st.transitionStateCandidates(paths, surface, 20, a, b), a, b, force, seed=arguments.seed)
        print(f"{highest.summary()}\n{clock}\n")
        states = st.transitionStates(simulation, paths, a, b, force, firstShots=arguments.first_shots, seed=arguments.seed+1)
        print(f"{states.table}\n{clock}\n")
        states.save(out/"transitionstates.json")
        states.frames.save(out/"transitionstates.npz")
        plots.committorHistogram({"highest F": highest, "selected, first set": states.first, "selected, second set": states.second}).savefig(out/"committors.png")

        if not arguments.ops.exists():
            print(f"no {arguments.ops}: unbiased path sampling is left out")
        else:
            script = st.exportToOpenPathSampling(out/"ops", simulation, paths, a, b, force, stepsPerFrame=5, overwrite=True, transitionFrames=states.frames)
            subprocess.run([str(arguments.ops), str(script), "--trials", str(arguments.trials), "--seed", str(arguments.seed)], check=True)
            unbiased = st.importFromOpenPathSampling(out/"ops")
            print(f"{unbiased.summary()}\n{clock}")
            densities = {"driven": st.pathDensity(paths, stateA=a, stateB=b), "unbiased": st.pathDensity(unbiased, stateA=a, stateB=b)}
            print(st.pathSimilarity(*densities.values()).summary())
            for name, density in densities.items():
                psi = crossings(density)
                print(f"{name:10s} psi at the last crossing of phi = 0: {psi.mean():.2f} ± {psi.std():.2f} rad (mean and standard deviation of {len(psi)} paths)")
            plots.pathDensity(densities, surface, {"A": a, "B": b}, states.frames.variables).savefig(out/"density.png")
    return 0 if abs(states.second.mean-0.5) < 0.1 else 1


if __name__ == "__main__":
    sys.exit(main())
