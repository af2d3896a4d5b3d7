# SPDX-License-Identifier: MIT
r"""Committors: from a frame, how many unbiased trajectories reach B before A?

The committor of a configuration X is the probability that dynamics started from it, with velocities drawn from the Boltzmann distribution, enter the state B before the
state A (Du, Pande, Grosberg, Tanaka and Shakhnovich, J. Chem. Phys. 108, 334, 1998). A transition state has 1/2. With n trajectories of which n_B reach B

.. math:: p = n_B / (n_A + n_B),

with binomial errors. Frames that are chosen because a few trajectories gave p near 1/2 owe some of that to chance, and come out farther from 1/2 when they are shot again.
So :func:`transitionStates` chooses with a first set of trajectories and reports from a second one, with random numbers of its own.
"""
from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import tempfile
import warnings
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import openmm
from openmm import app

from . import ensemble, openmm_wrapper
from .committorresults import _COUNTS, CommittorResult, TransitionStates
from .force import SpacetimeForce
from .sampling import OwnContext, PathEnsemble, _Progress, runTasks, seedEverything, templateOf
from .states import State, StateRegion, _bindStates, _crossing, _label, _periodsOf
from .transitionframes import _FRAME_COLUMNS, TransitionFrames, _asFrames, _checkPaths, _collect

__all__ = ["committor", "transitionStates"]

#: More trajectories than this share that reach neither state make p uncertain in a way that no error bar shows.
UNDECIDED = 0.05
#: Steps between two looks at whether a state was reached at any of them. Trajectories run on for as long as that, and shots from a frame share random numbers on the
#: Reference platform: another number gives other trajectories.
BLOCK = 50
# Random numbers of the trajectories that select, and of those that report: never the same, whatever the seed.
_REPORT, _SELECT = 0, 1


class _Worker(OwnContext):
    """Shoots unbiased trajectories."""

    def __init__(self, job: _Job) -> None:
        super().__init__(job)
        # The sampler's loop runs the dynamics and records the variables at every step; all it does to s in a trajectory is one move, of a bias that is off.
        self.sampler = openmm_wrapper.PathSampler(self.force, job.maxSteps)
        self.sampler.setStepsPerMove(job.maxSteps)
        self.sampler.setMaxStartDistance(math.inf)

    def run(self, task: int) -> Tuple[int, int]:
        """Time steps done, for the progress; everything else is in a file."""
        self.done = 0
        result = self.job.perform(self, task)
        ensemble.replace(self.job.file(task), lambda file: file.write(json.dumps(result).encode()))
        return task, self.done

    def place(self, positions: np.ndarray, box: Optional[np.ndarray]) -> None:
        context = self.context
        if box is not None:
            context.setPeriodicBoxVectors(*box)
        context.setPositions(positions)
        # Trajectories hold single precision, which leaves bonds a little off their constraints.
        context.applyConstraints(self.integrator.getConstraintTolerance())
        context.computeVirtualSites()

    def values(self) -> np.ndarray:
        return self.force.getVariableValues(self.context).reshape(1, -1)

    def shoot(self, positions: np.ndarray, box: Optional[np.ndarray], shots: int, *key: int) -> Dict[str, Any]:
        """`shots` trajectories from a configuration. All random numbers come from the seed and `key`."""
        job, context = self.job, self.context
        first, *seeds = (int(x) for x in np.random.SeedSequence([job.seed, *key]).generate_state(1+shots) % 0x7FFFFFFE+1)
        seedEverything(context, first)
        context.setState(self.template)
        context.setTime(0)
        context.setStepCount(0)
        self._removeBias(positions, box)
        variables = self.values()
        start = int(_label(job.what, job.states, variables)[0])
        count: Dict[Optional[int], int] = {-1: 0, 1: 0, 0: 0, None: 0}
        lengths = []
        for seed in seeds:
            where: Optional[int] = start
            step = 0
            if start == 0:
                self.place(positions, box)
                context.setVelocitiesToTemperature(job.temperature, seed)
                where, step = self._follow(variables.shape[1])
            count[where] += 1
            if where in (-1, 1):
                lengths.append(step)
        return {"nA": count[-1], "nB": count[1], "nUndecided": count[0]+count[None], "nBroken": count[None], "steps": float(np.mean(lengths)) if lengths else None,
                "variables": variables[0].tolist()}

    def _follow(self, numVariables: int) -> Tuple[Optional[int], int]:
        """Run dynamics until a state is reached: -1 for A, 1 for B, 0 for neither, None where it broke down; and after how many steps."""
        sampler, step, more = self.sampler, 0, True
        try:
            sampler.begin(self.context)
            while more:
                more = sampler.advance(BLOCK)
                values = np.frombuffer(sampler.getVariables()).reshape(-1, numVariables)
                label = _label(self.job.what, self.job.states, values[step:])
                if label.any():
                    first = int(np.argmax(label != 0))
                    return int(label[first]), step+first+1
                step = len(values)
            return 0, step
        except openmm.OpenMMException:
            return None, step
        finally:
            self.done += sampler.getNumStepsDone()

    def _removeBias(self, positions: np.ndarray, box: Optional[np.ndarray]) -> None:
        """Turn the bias off by way of its kT, and see that it is off: no energy, and forces that do not know where on the curve it is."""
        context = self.context
        context.setParameter("spacetime_kT", 0.0)
        self.place(positions, box)
        name = self.force.getParameterName()
        before, forces = context.getParameter(name), []
        for s in (0.0, 1.0):
            context.setParameter(name, s)
            forces.append(context.getState(forces=True).getForces(asNumpy=True)._value)
        context.setParameter(name, before)
        if self.force.getBiasEnergy(context)._value != 0 or not np.array_equal(*forces):
            raise RuntimeError(f"{self.job.what}: the bias could not be switched off: with spacetime_kT = 0 its energy is {self.force.getBiasEnergy(context)}, "
                               f"and forces at the ends of the curve differ by up to {np.abs(forces[0]-forces[1]).max():g} kJ/mol/nm")


@dataclass
class _Job:
    """All that a process needs; strings and arrays, so that it can be sent."""

    what: str
    system: str
    integrator: str
    template: str
    forceIndex: int
    platform: str
    properties: Dict[str, str]
    temperature: float
    directory: str
    states: Tuple[State, State]
    seed: int
    shots: int
    maxSteps: int

    #: What files of tasks begin with.
    prefix = ""

    def inputs(self) -> Sequence[Any]:
        """What else decides the outcome: arrays, or what JSON can hold."""
        raise NotImplementedError

    def makeWorker(self) -> _Worker:
        return _Worker(self)

    def file(self, task: int) -> Path:
        return Path(self.directory)/f"{self.prefix}-{task:04d}.json"

    def perform(self, worker: _Worker, task: int) -> Any:
        raise NotImplementedError

    def digest(self) -> str:
        """Of what decides the outcome: neither directory and processes, nor where the template's molecule is."""
        template = openmm.XmlSerializer.deserialize(self.template)
        numbers = [sorted(dict(template.getParameters()).items()), self.temperature, self.seed, self.shots, self.maxSteps]
        result = hashlib.sha256("".join([self.system, self.integrator, json.dumps(numbers)]).encode())
        for x in self.inputs():
            result.update(x.tobytes() if isinstance(x, np.ndarray) else json.dumps(x).encode())
        for state in self.states:
            try:
                result.update(b"".join(np.asarray(x).tobytes() for x in (state.centers, state.radii, state.periods)) if isinstance(state, StateRegion) else pickle.dumps(state))
            except (pickle.PicklingError, AttributeError) as e:
                raise ValueError(f"{self.what}: results can be kept in a directory only where the states can be pickled, as functions of a module can and lambdas cannot: {e}") from e
        return result.hexdigest()


@dataclass
class _CommittorJob(_Job):
    positions: np.ndarray
    boxes: Optional[np.ndarray]
    prefix = "frame"

    def inputs(self) -> Any:
        return self.positions, self.boxes

    def perform(self, worker: _Worker, task: int) -> Any:
        return worker.shoot(self.positions[task], None if self.boxes is None else self.boxes[task], self.shots, _REPORT, task)


@dataclass
class _SelectionJob(_Job):
    """Bisection along a path: of each the frames between the states, from A to B."""

    paths: List[Tuple[str, int, List[int]]]  # trajectory, index of the path, frames
    topology: str
    tolerance: float
    prefix = "path"

    def inputs(self) -> Any:
        return [path[1:] for path in self.paths], self.tolerance

    def perform(self, worker: _Worker, task: int) -> Any:
        trajectory, index, frames = self.paths[task]
        probes = []
        # Outside of these the committor is 0 and 1: the neighbours lie in the states.
        low, high = -1, len(frames)
        while high-low > 1:
            middle = (low+high)//2
            probe = worker.shoot(*ensemble.readFrame(trajectory, self.topology, frames[middle]), self.shots, _SELECT, index, frames[middle])
            probes.append({**probe, "frame": frames[middle]})
            decided = probe["nA"]+probe["nB"]
            if decided == 0:
                break
            p = probe["nB"]/decided
            if abs(p-0.5) <= self.tolerance:
                break
            low, high = (middle, high) if p < 0.5 else (low, middle)
        return probes


def _runJob(job: _Job, tasks: int, processes: int, executor: Any, progress: Any, simulation: app.Simulation, noun: str, directory: Optional[Path], overwrite: bool,
            resume: bool) -> List[Any]:
    """All tasks of a job, those that `directory` holds already left out: what they have written, in their order."""
    with tempfile.TemporaryDirectory() as scratch:
        if directory is not None:
            _prepareDirectory(job, directory, overwrite, resume)
        job.directory = str(Path(directory if directory is not None else scratch).resolve())
        missing = [task for task in range(tasks) if not job.file(task).exists()]
        report = _Progress(progress, tasks, tasks-len(missing), simulation.integrator.getStepSize(), noun)
        try:
            with closing(runTasks(job, missing, processes, executor)) as results:
                for _, steps in results:
                    report(_Done(steps))
        finally:
            report.finish()
        return [json.loads(job.file(task).read_text(encoding="utf-8")) for task in range(tasks)]


@dataclass
class _Done:
    steps: int
    failed: bool = False


def _prepareDirectory(job: _Job, directory: Path, overwrite: bool, resume: bool) -> None:
    head = directory/"run.json"
    if directory.exists() and any(directory.iterdir()) and not (overwrite or resume):
        raise FileExistsError(f"{job.what}: {directory} is not empty; pass overwrite=True to replace what is in it, resume=True to go on with it, or choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    for pattern in (".tmp-*",) if resume else (".tmp-*", f"{job.prefix}-*.json", head.name, "committor.json"):
        for old in directory.glob(pattern):
            old.unlink()
    digest = job.digest()
    if not head.exists():
        ensemble.replace(head, lambda file: file.write(json.dumps({"digest": digest}).encode()))
    elif json.loads(head.read_text(encoding="utf-8")).get("digest") != digest:
        raise ValueError(f"{job.what}: {directory} was written with another System, Integrator, starting state, frames, states or settings, so it cannot be continued")


def _prepare(what: str, simulation: app.Simulation, force: SpacetimeForce, stateA: State, stateB: State, **numbers: Any) -> Tuple[Dict[str, Any], Tuple[State, State]]:
    """The template of the simulation and the states, after everything was looked at."""
    for name, (value, least) in numbers.items():
        if int(value) != value or value < least:
            raise ValueError(f"{what}: {name} must be a whole number, {least} or more, but it is {value}")
    if force.getNumWalkers() > 1:
        raise ValueError(f"{what}: it needs one molecule, but the SpacetimeForce has {force.getNumWalkers()} walkers")
    # Raises the explanation of what to do if the force was added too late.
    force.getVariableValues(simulation.context)
    return templateOf(what, simulation, force), _bindStates(what, stateA, stateB, _periodsOf(force))


def committor(simulation: app.Simulation, frames: Any, stateA: State, stateB: State, force: SpacetimeForce, shots: int = 40, maxSteps: int = 20000, seed: int = 1,
              processes: int = 1, directory: Union[None, str, os.PathLike] = None, overwrite: bool = False, resume: bool = False,
              progress: Union[None, bool, Callable[[int, int], Any]] = None, executor: Any = None) -> CommittorResult:
    """Committors of frames: from each, unbiased trajectories with velocities from the Boltzmann distribution, until they reach one of the states.

    The force stays in the System, with its kT at zero, which is checked: it only measures the variables. A frame's outcome depends on `seed` and its number alone: not on
    `processes`, nor on the other frames. The simulation is a template and is left as it is.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Its System must hold `force`. Its integrator decides what the committor is: a property of the dynamics, friction included.
    frames : TransitionFrames, array [K, N, 3] (nm), or sequence of openmm.State or positions
    stateA, stateB : StateRegion or callable
        Callables turn points [K, n] of the force's variables (raw units) into bools [K].
    force : SpacetimeForce
    shots : int
        Trajectories per frame.
    maxSteps : int
        A trajectory that has reached neither state by then is undecided. The variables are looked at after every step.
    seed : int
        Another seed, other trajectories. Do not report with the seed that selected the frames; :func:`transitionStates` sees to that itself.
    processes : int
        Processes of this machine.
    directory : path, optional
        Where every frame's result is kept as it comes, with resume=True to go on, and the whole in committor.json. Without one nothing is kept when it is interrupted.
    overwrite, resume : bool
        What to do with a directory that is not empty.
    progress : callable or bool, optional
        Called as progress(done, total) with numbers of frames. When left out a line of text is shown on stderr if that is a terminal; False for none.
    executor : concurrent.futures.Executor, optional
        As for PathSampler; then `directory` is needed.

    Returns
    -------
    CommittorResult

    Warns
    -----
    RuntimeWarning
        More than 5 % of the trajectories were undecided.

    Raises
    ------
    ValueError
        The states overlap, frames do not belong to the System or are not finite, a number is out of range, or the directory holds another run.
    FileExistsError
        The directory is not empty, and neither `overwrite` nor `resume` was given.
    """
    template, states = _prepare("committor", simulation, force, stateA, stateB, shots=(shots, 1), maxSteps=(maxSteps, 1), seed=(seed, 0),
                                processes=(processes, 1))
    frames = _asFrames("committor", frames, simulation.system.getNumParticles())
    if executor is not None and directory is None:
        raise ValueError("committor: an executor needs a directory that all its workers see")
    job = _CommittorJob("committor", **template, directory="", states=states, seed=int(seed), shots=int(shots), maxSteps=int(maxSteps),
                        positions=frames.positions, boxes=frames.boxes)
    directory = None if directory is None else Path(directory)
    rows = _runJob(job, len(frames), int(processes), executor, progress, simulation, "frames", directory, overwrite, resume)
    result = _result(rows, frames, force.getVariableNames(), job)
    if result.undecided > UNDECIDED:
        broken = result.nBroken.sum()
        warnings.warn(f"committor: {result.undecided:.0%} of the trajectories reached neither state within {maxSteps:,} steps"
                      + (f", {broken} of them because they broke down" if broken else "")+"; raise maxSteps or make the states larger", RuntimeWarning, stacklevel=2)
    if directory is not None:
        result.save(directory/"committor.json")
    return result


def _result(rows: Sequence[Dict[str, Any]], frames: TransitionFrames, names: List[str], job: _Job) -> CommittorResult:
    return CommittorResult(**{name: np.array([row[name] for row in rows], dtype=int) for name in _COUNTS},
                           steps=np.array([math.nan if row["steps"] is None else row["steps"] for row in rows]),
                           **{name: getattr(frames, name) for name in _FRAME_COLUMNS}, variables=np.array([row["variables"] for row in rows]), names=list(names),
                           shots=job.shots, maxSteps=job.maxSteps, seed=job.seed, source=frames.source)


def transitionStates(simulation: app.Simulation, paths: PathEnsemble, stateA: State, stateB: State, force: SpacetimeForce, count: int = 20, firstShots: int = 20,
                     shots: int = 40, tolerance: float = 0.1, maxSteps: int = 20000, seed: int = 1, processes: int = 1,
                     directory: Union[None, str, os.PathLike] = None, overwrite: bool = False, resume: bool = False,
                     progress: Union[None, bool, Callable[[int, int], Any]] = None, executor: Any = None) -> TransitionStates:
    """Transition states on driven paths, with committors from trajectories that had no part in choosing them.

    On each of `count` paths the frames between the last one in A and the first one in B are bisected: from a frame `firstShots` unbiased trajectories tell whether to
    look nearer to A or to B, until p is within `tolerance` of 1/2 or there is nothing left to bisect. Of the frames looked at the one nearest to 1/2 is taken. That is
    the first set. The second set, `shots` trajectories from each frame taken, is :func:`committor`, with other random numbers, and is the result: what the first set says is
    nearer to 1/2 than the truth, because it chose.

    Parameters
    ----------
    paths : PathEnsemble
        With frames along the paths (``frameStride``); at least `count` of them must lead from one state to the other.
    count : int
        As many different paths, the first ones that cross.
    firstShots : int
        Trajectories of the first set from each frame that it looks at.
    tolerance : float
        Between 0 and 0.5.
    simulation, stateA, stateB, force, shots, maxSteps, seed, processes, directory, overwrite, resume, progress, executor
        As for :func:`committor`. The directory gets a folder for either set, the frames (frames.npz) and the result (transitionstates.json).

    Returns
    -------
    TransitionStates

    Raises
    ------
    ValueError
        As for :func:`committor`; there are no frames along the paths, or too few paths cross.
    """
    what = "transitionStates"
    template, states = _prepare(what, simulation, force, stateA, stateB, count=(count, 1), firstShots=(firstShots, 1), shots=(shots, 1), maxSteps=(maxSteps, 1),
                                seed=(seed, 0), processes=(processes, 1))
    if not 0 <= tolerance < 0.5:
        raise ValueError(f"{what}: expected a tolerance between 0 and 0.5, got {tolerance}")
    if executor is not None and directory is None:
        raise ValueError(f"{what}: an executor needs a directory that all its workers see")
    _checkPaths(what, paths)
    if list(paths.names) != force.getVariableNames():
        raise ValueError(f"{what}: the paths have the variables {', '.join(paths.names)}, but the force has {', '.join(force.getVariableNames())}")
    places, work = [], []
    for i, record in enumerate(paths):
        label = _label(what, states, record.variables[record.frameSteps])
        crossing = _crossing(label)
        if crossing is not None and crossing[1]-crossing[0] > 1:
            between = list(range(crossing[0]+1, crossing[1]))
            places.append(i)
            work.append((record.trajectory, record.index, between if label[crossing[0]] < 0 else between[::-1]))
        if len(work) == count:
            break
    if len(work) < count:
        raise ValueError(f"{what}: expected {count} paths that lead from one state to the other with frames in between, but only {len(work)} of {len(paths)} do; run more paths, "
                         "write frames more often (frameStride), or lower count")
    positions, _ = ensemble.readFrame(work[0][0], paths.topology, work[0][2][0])
    _asFrames(what, positions[None], simulation.system.getNumParticles())
    folder = None if directory is None else Path(directory)
    job = _SelectionJob(what, **template, directory="", states=states, seed=int(seed), shots=int(firstShots), maxSteps=int(maxSteps),
                        paths=work, topology=paths.topology, tolerance=float(tolerance))
    probed = _runJob(job, count, int(processes), executor, progress, simulation, "paths", None if folder is None else folder/"first", overwrite, resume)
    chosen = []
    for (_, index, _), probes in zip(work, probed):
        decided = [probe for probe in probes if probe["nA"]+probe["nB"] > 0]
        if not decided:
            raise ValueError(f"{what}: no trajectory from path {index} reached a state within {maxSteps:,} steps; raise maxSteps")
        # Of equals the last one: there the bracket was narrower.
        chosen.append(min(reversed(decided), key=lambda probe: abs(probe["nB"]/(probe["nA"]+probe["nB"])-0.5)))
    frames = _collect(paths, [(i, probe["frame"]) for i, probe in zip(places, chosen)], np.full(count, np.nan), "nearest to 1/2 by a first set of trajectories")
    first = _result(chosen, frames, force.getVariableNames(), job)
    second = committor(simulation, frames, stateA, stateB, force, shots, maxSteps, seed, processes, None if folder is None else folder/"second", overwrite, resume,
                       progress, executor)
    result = TransitionStates(frames, first, second, int(firstShots)*sum(len(probes) for probes in probed))
    if folder is not None:
        frames.save(folder/"frames.npz")
        result.save(folder/"transitionstates.json")
    return result
