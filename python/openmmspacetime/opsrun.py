# SPDX-License-Identifier: MIT
"""Unbiased transition path sampling with OpenPathSampling, from a folder that openmmspacetime.exportToOpenPathSampling() has written.

This file is copied into that folder as run_ops.py and runs on its own, in an environment with openpathsampling 1.7, openmm and mdtraj (openpathsampling needs numpy below 2,
so that it is not the one of openmmspacetime):

    python -m venv ops && ops/bin/pip install 'openpathsampling>=1.7,<1.8' 'numpy<2' 'openmm>=8.6.1,<8.7' six
    ops/bin/python FOLDER/run_ops.py --trials 200 --seed 1

Two-way shooting of paths of flexible length: a frame of the current path gets new velocities from the Boltzmann distribution, and dynamics run forward and backward in time
from it until a state is reached. A trial that joins A and B is accepted with the probability min(1, old length/new length), lengths without the ends.

The first path is a driven one, which no unbiased dynamics has made. It only supplies shooting points, until the first trial is accepted; what is written and counted starts
there. Each accepted path is kept as DCD or XTC, with its variables and the number of trials that it was the current path for (its weight) in paths.npz, and figures in
summary.json. Ctrl-C ends the run early and keeps what there is.
"""
import argparse
import contextlib
import json
import os
import pathlib
import sys
import time
import warnings

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent


@contextlib.contextmanager
def quietly():
    """Without what libraries print, also from C."""
    sys.stdout.flush()
    own, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(own, 1)
        os.close(own)
        os.close(nothing)


def loadOps():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import openpathsampling as ops
        from openpathsampling.engines import openmm as engines
    return ops, engines


class Variables:
    """The variables of states.json, with mdtraj."""

    def __init__(self, description, topology):
        import mdtraj

        self.md, self.items, self.topology = mdtraj, description["variables"], topology
        self.isPeriodic = description["periodicBox"]
        self.periods = np.array([v["period"] for v in self.items])

    def ofFrames(self, xyz, boxes):
        """Values [frames, n] for positions [frames, N, 3] and boxes [frames, 3, 3]."""
        trajectory = self.md.Trajectory(xyz, self.topology)
        if self.isPeriodic:
            trajectory.unitcell_vectors = boxes
        compute = {"torsion": self.md.compute_dihedrals, "angle": self.md.compute_angles, "distance": self.md.compute_distances}
        return np.stack([xyz[:, v["atoms"][0], v["axis"]] if v["kind"] == "coordinate" else
                         compute[v["kind"]](trajectory, [v["atoms"]], periodic=self.isPeriodic)[:, 0] for v in self.items], axis=1).astype(float)

    def ofSnapshots(self, snapshots):
        return self.ofFrames(np.array([s.xyz for s in snapshots]), np.array([boxOf(s) for s in snapshots]) if self.isPeriodic else None)


def boxOf(snapshot):
    vectors = snapshot.box_vectors
    return np.array(getattr(vectors, "_value", vectors), dtype=float)


def nearness(snapshot, variables, centers, radii, cache):
    """1 on the rim of a state that is a union of discs, less inside."""
    key = snapshot.xyz.tobytes()  # a frame and its reversed self are one
    if key not in cache:
        if len(cache) > 10000:
            cache.clear()
        cache[key] = variables.ofSnapshots([snapshot])[0]
    d = cache[key]-centers
    turn = np.where(variables.periods > 0, variables.periods, 1.0)
    d = np.where(variables.periods > 0, d-turn*np.round(d/turn), d)
    return float((np.linalg.norm(d, axis=1)/radii).min())


def write(path, save):
    """A file is there whole or not at all."""
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        save(temporary)
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()


def main():
    parser = argparse.ArgumentParser(description="Unbiased transition path sampling, two-way shooting, started from a driven path.")
    parser.add_argument("--trials", type=int, default=200, help="trial moves after the first accepted one (default: 200)")
    parser.add_argument("--max-first", type=int, default=1000, help="give up when so many trials from the driven path were rejected (default: 1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=("dcd", "xtc"), default="dcd", help="of the trajectories")
    parser.add_argument("--platform", help="OpenMM's platform (default: the one of the driven paths)")
    parser.add_argument("--overwrite", action="store_true", help="replace the paths of an earlier run")
    arguments = parser.parse_args()
    if min(arguments.trials, arguments.max_first, arguments.seed) < 1:
        parser.error("--trials, --max-first and --seed must be 1 or more")
    old = [*HERE.glob("accepted-*.*"), *HERE.glob("paths.npz"), *HERE.glob("summary.json")]
    if old and not arguments.overwrite:
        sys.exit(f"run_ops.py: {HERE} holds the paths of an earlier run ({old[0].name}, ...); pass --overwrite to replace them")
    for file in old:
        file.unlink()
    ops, engines = loadOps()
    import mdtraj
    import openmm
    from openmm import unit

    description = json.loads((HERE/"states.json").read_text())
    with quietly():
        initial = mdtraj.load(str(HERE/"initial.dcd"), top=str(HERE/"topology.pdb"))
    system = openmm.XmlSerializer.deserialize((HERE/"system.xml").read_text())
    integrator = openmm.XmlSerializer.deserialize((HERE/"integrator.xml").read_text())
    # Everything random: the integrator's noise, OpenPathSampling's choices, and velocities.
    for x in (integrator, *system.getForces()):
        if hasattr(x, "setRandomNumberSeed"):
            x.setRandomNumberSeed(arguments.seed)
    np.random.seed(arguments.seed)
    ops.default_rng().bit_generator.state = np.random.default_rng(arguments.seed).bit_generator.state

    first = engines.tools.trajectory_from_mdtraj(initial)
    engine = engines.Engine(first[0].topology, system, integrator, options={"n_steps_per_frame": description["stepsPerFrame"], "n_frames_max": description["maxFrames"]})
    engine.initialize(arguments.platform or description["platform"])
    variables = Variables(description, initial.topology)
    cache: dict = {}
    states = {}
    for name in ("A", "B"):
        discs = description["states"][name]
        function = ops.CoordinateFunctionCV(name, nearness, variables=variables, centers=np.array(discs["centers"]), radii=np.array(discs["radii"]), cache=cache)
        states[name] = ops.CVDefinedVolume(function, -1.0, 1.0).named(name)
    # Frames of a file know no engine, and states are told apart by the engine's frames.
    first = ops.Trajectory([engines.Snapshot.construct(coordinates=s.coordinates, box_vectors=s.box_vectors, velocities=s.velocities, engine=engine) for s in first])
    inside = {name: [bool(state(s)) for s in first] for name, state in states.items()}
    if not (inside["A"][0] and inside["B"][-1] and not any(inside["A"][1:]) and not any(inside["B"][:-1])):
        sys.exit("run_ops.py: initial.dcd does not lead from the last frame in A to the first one in B; export it again")
    network = ops.TPSNetwork(states["A"], states["B"])
    beta = 1/(description["temperature_K"]*unit.kelvin*unit.BOLTZMANN_CONSTANT_kB)
    massive = [i for i in range(system.getNumParticles()) if system.getParticleMass(i)._value > 0]
    modifier = ops.RandomVelocities(beta, engine, subset_mask=None if len(massive) == system.getNumParticles() else massive)
    scheme = ops.MoveScheme(network)
    scheme.append([ops.strategies.TwoWayShootingStrategy(modifier=modifier, selector=ops.UniformSelector(), engine=engine), ops.strategies.OrganizeByMoveGroupStrategy()])
    with quietly():
        sampler = ops.PathSampling(storage=None, move_scheme=scheme, sample_set=scheme.initial_conditions_from_trajectories([first]))
    sampler.output_stream = open(os.devnull, "w")
    sampler.allow_refresh = False

    begin, live = time.time(), sys.stderr.isatty()
    trials, firstAccepted, accepted, weights, lengths, perTrial, decorrelated, last = 0, None, 0, [], [], [], 0, None
    allVariables, label, interrupted = [], "trials from the driven path", False
    try:
        while (trials < arguments.max_first if firstAccepted is None else trials < firstAccepted+arguments.trials):
            sampler.run(1)
            trials += 1
            path = sampler.sample_set[0].trajectory
            isAccepted = bool(sampler.current_step.change.canonical.accepted)
            if isAccepted:
                firstAccepted = trials if firstAccepted is None else firstAccepted
                label = "trials"
                accepted += 1
                frames = mdtraj.Trajectory(np.array([s.xyz for s in path]), initial.topology)
                if description["periodicBox"]:
                    frames.unitcell_vectors = np.array([boxOf(s) for s in path])
                name = HERE/f"accepted-{accepted-1:04d}.{arguments.format}"
                write(name, lambda place: getattr(frames, f"save_{arguments.format}")(str(place)))
                allVariables.append(variables.ofSnapshots(path))
                lengths.append(len(path))
                weights.append(0)
                # Decorrelated, as OpenPathSampling has it: no frame in common with the last path that was.
                if last is None or not path.is_correlated(last):
                    decorrelated, last = decorrelated+1, path
            if firstAccepted is not None:
                weights[-1] += 1
                perTrial.append(len(path))
            if live:
                sys.stderr.write(f"\r{label} {trials-(firstAccepted or 0)}, accepted {accepted}, current path {len(path)} frames, {time.time()-begin:.0f} s   ")
                sys.stderr.flush()
    except KeyboardInterrupt:
        interrupted = True
    if live:
        sys.stderr.write("\n")
    if firstAccepted is None:
        sys.exit(f"run_ops.py: none of {trials} trials from the driven path was accepted. A shooting point has to be near a transition state: use more trials (--max-first), a "
                 f"driven path with more frames between the states, or more frames than {description['maxFrames']} per trajectory (maxFrames)")
    later = trials-firstAccepted
    summary = {"format": "spacetime-ops", "version": 1, "trials": later, "firstAccepted": firstAccepted, "accepted": accepted-1, "acceptance": (accepted-1)/later if later else None,
               "decorrelated": decorrelated, "weights": weights, "lengths": lengths, "trajectoryFormat": arguments.format, "seed": arguments.seed, "interrupted": interrupted,
               "seconds": time.time()-begin, "stepsPerFrame": description["stepsPerFrame"], "timePerFrame_ps": description["stepsPerFrame"]*integrator.getStepSize()._value,
               "versions": {"openpathsampling": ops.version.version, "openmm": openmm.version.short_version, "numpy": np.__version__}}

    def save(place):
        with open(place, "wb") as file:
            np.savez(file, variables=np.concatenate(allVariables), lengths=np.array(lengths), weights=np.array(weights))

    write(HERE/"paths.npz", save)
    # Last: where there is a summary the rest is there.
    write(HERE/"summary.json", lambda place: place.write_text(json.dumps(summary, indent=1)))
    mean, picosecond = np.mean(perTrial), summary["timePerFrame_ps"]
    print(f"first accepted trial: number {firstAccepted}; it is the first genuine unbiased path")
    print(f"{later} trials since, {accepted-1} accepted"+(f" ({(accepted-1)/later:.0%})" if later else ""))
    print(f"length of the current path {mean:.0f} ± {np.std(perTrial):.0f} frames on average over trials ({mean*picosecond:.3g} ps), {min(perTrial)} to {max(perTrial)}")
    print(f"{decorrelated} paths without a frame in common, one in {len(perTrial)/decorrelated:.1f} trials; {summary['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
