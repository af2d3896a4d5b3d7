# SPDX-License-Identifier: MIT
"""What driving costs, on alanine dipeptide and the Reference platform.

1. Steps a second of PathSampler's loop at its default settings (the bias moved at every step, every step recorded) beside raw MD of the same System, and of
   the System without the force, in CPU time, interleaved.
2. Two processes beside one, wall time of the whole run.
3. Many paths of 16,000 steps: seconds of a core a path, and hits within 0.75 rad.

    python pathbench.py [--paths 500] [--steps 16000] [--processes 2] [--repeats 100] [--only loop|processes|paths]

Exit code 1 where a figure misses its aim: 95 % of raw MD, 1.8 times one process, 1 s of a core a path and every path a hit.
"""
import argparse
import os
import pathlib
import sys
import tempfile
import time

import numpy as np

import openmmspacetime as st
from openmmspacetime import openmm_wrapper

EXAMPLE = pathlib.Path(__file__).resolve().parents[2]/"examples"/"alanine_dipeptide"
sys.path.insert(0, str(EXAMPLE))
A, B = (-2.58, 2.79), (1.09, -0.88)
VARIABLES = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])


def makeSimulation():
    """Alanine dipeptide with a force along the transition geodesic of the shipped samples, C5 to C7ax."""
    import metadynamics as md

    with np.load(EXAMPLE/"data"/"alanine_vacuum_300K.npz") as data:
        model = st.EmpiricalModel(data["x"], VARIABLES, logWeights=data["log_weights"])
    curve = st.geodesic(model, A, B, preset="transition", temperature=md.TEMPERATURE)
    topology, system, positions = md.createSystem()
    force = st.SpacetimeForce(curve, VARIABLES, md.TEMPERATURE)
    system.addForce(force)
    return md.createSimulation(topology, system, positions, 1), force


def loop(simulation, force, repeats, steps=1000):
    """Steps a second of CPU time of the driven loop over those of raw MD, of the same System and of the System without the force; and of the latter, its rate.

    Short pieces, interleaved, and the median of their ratios: so all see the same machine.
    """
    import metadynamics as md

    topology, system, positions = md.createSystem()
    plain = md.createSimulation(topology, system, positions, 1).context
    context, rows = simulation.context, []
    state = context.getState(positions=True, velocities=True)
    sampler = openmm_wrapper.PathSampler(force, steps)

    def driven():
        sampler.begin(context)
        while sampler.advance(2000):
            pass

    runs = {"driven": driven, "same": lambda: context.getIntegrator().step(steps), "plain": lambda: plain.getIntegrator().step(steps)}
    for i in range(repeats+2):
        row = {}
        for name in sorted(runs, key=lambda name: (i+list(runs).index(name)) % 3):
            (plain if name == "plain" else context).setPositions(state.getPositions(asNumpy=True))
            context.setParameter(force.getParameterName(), 0.0)
            begin = time.process_time()
            runs[name]()
            row[name] = time.process_time()-begin
        if i > 1:  # the first rounds warm up
            rows.append(row)
    context.setState(state)  # the next paths start here
    context.setParameter(force.getParameterName(), 0.0)
    return [np.median([row[name]/row["driven"] for row in rows]) for name in ("same", "plain")]+[np.median([steps/row["plain"] for row in rows])]


def run(simulation, force, **arguments):
    with tempfile.TemporaryDirectory() as directory:
        begin, cpu = time.perf_counter(), sum(os.times()[:4])
        paths = st.PathSampler(simulation, force, **arguments).run(directory+"/paths", overwrite=True)
        wall, cpu = time.perf_counter()-begin, sum(os.times()[:4])-cpu
        return wall, cpu, np.mean([p.hit for p in paths]), len(paths)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paths", type=int, default=500)
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--only", choices=["loop", "processes", "paths"])
    arguments = parser.parse_args()
    simulation, force = makeSimulation()
    good = True
    if arguments.only in (None, "loop"):
        same, plain, rate = loop(simulation, force, arguments.repeats)
        good &= plain >= 0.95
        print(f"loop: {100*same:.1f} % of the steps a second of raw MD with the force, {100*plain:.1f} % of those without it ({rate:,.0f} steps/s), CPU time, "
              f"median of {arguments.repeats} rounds", flush=True)
    if arguments.only in (None, "processes"):
        numPaths = max(8, min(arguments.paths, 100))
        one, two = (run(simulation, force, numPaths=numPaths, steps=arguments.steps, processes=processes)[:2] for processes in (1, 2))
        good &= one[0] >= 1.8*two[0]
        print(f"processes: {numPaths} paths, one process {one[0]:.1f} s, two {two[0]:.1f} s: {one[0]/two[0]:.2f} times; CPU time {one[1]:.1f} s and {two[1]:.1f} s, "
              f"which would make {2*one[1]/two[1]:.2f} times on two free cores (load {os.getloadavg()[0]:.1f})", flush=True)
    if arguments.only in (None, "paths"):
        wall, cpu, hits, count = run(simulation, force, numPaths=arguments.paths, steps=arguments.steps, processes=arguments.processes)
        good &= wall*arguments.processes/count < 1.0 and hits == 1.0
        print(f"paths: {count} of {arguments.steps:,} steps (and 2,000 of equilibration), {wall:.1f} s with {arguments.processes} processes ({wall*arguments.processes/count:.2f} s "
              f"of a core a path, {cpu/count:.2f} s of CPU time), hits within 0.75 rad {100*hits:.1f} %", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
