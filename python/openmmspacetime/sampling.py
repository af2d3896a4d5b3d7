# SPDX-License-Identifier: MIT
"""Many driven paths along a curve, written to a directory."""
from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import pickle
import sys
import threading
import time
import warnings
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Callable, Dict, Generator, List, Optional, Sequence, Tuple, Union

import numpy as np
import openmm
from openmm import app, unit

from . import ensemble, openmm_wrapper
from .ensemble import PathEnsemble, PathFailure, PathRecord
from .force import SpacetimeForce

__all__ = ["PathSampler", "PathEnsemble", "PathFailure", "PathRecord"]

# Steps between two looks at signals, and between two pieces of trajectory that are written out.
CHUNK = 2000
# Steps that equilibrate=True takes to bring the start to the curve.
PULL_STEPS = 5000
# Seconds between two renewals of the indices while a run goes on.
INDEX_INTERVAL = 60.0


class PathSampler:
    r"""Runs paths along the curve of a SpacetimeForce and writes them to a directory.

    Each path is annealed Langevin dynamics (arXiv:2505.17517, Algorithm 1): it starts at s = 0, and every `stepsPerMove` steps s grows by the same amount until
    it is 1. Moving the bias at fixed positions costs the work

    .. math:: W = -kT \sum_i (\eta_{i+1} - \eta_i) \cdot T(c(X_i)).

    With direction="backward" the path runs from s = 1 to s = 0; W is what moving the bias costs, in either direction.

    A path that breaks down (numbers that are not finite, a start that does not reach the curve) is recorded as failed, and the others go on. A path depends on
    `seed` and its index alone: not on `processes` or `executor`, nor on how many others are run. The simulation that is passed in serves as a template
    (System, Integrator, platform, starting state) and is left as it is.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Its System must hold `force`.
    force : SpacetimeForce
    numPaths : int
    steps : int, optional
        Time steps along the curve; a multiple of `stepsPerMove`. 16,000 unless `stepsPerLength` is given.
    stepsPerMove : int
        Time steps between two moves of the bias.
    equilibrationSteps : int
        Further time steps at the start of the curve before and at its end after the path.
    frameStride : int
        Positions are written every so many steps, and the last ones always; 0 for the last ones only.
    energyStride : int
        The potential energy without the bias is recorded every so many steps and at the end; 0 for never.
    seed : int
    startStates : sequence, optional
        openmm.State objects or positions; path i starts from number i modulo their number. The simulation's current state when left out. Velocities are
        always drawn anew from the Boltzmann distribution. Backward paths start at s = 1, so these are states there.
    processes : int
        Number of processes to run paths in.
    progress : callable or bool, optional
        Called as progress(done, total) with numbers of paths. When left out a line of text is shown on stderr if that is a terminal; False for none.
    stepsPerLength : float, optional
        Time steps for each unit of the curve's Fisher-Rao length, instead of `steps`; rounded up to a whole number of moves. s is length over the total, so equal
        steps in s are equal steps in length.
    length : float, optional
        Fisher-Rao length of the curve; known where the force was made from a Curve.
    direction : str
        'forward' or 'backward'.
    equilibrate : bool or int
        Bring starting states to the start of the curve before the equilibration: for this many time steps (True: 5000) the bias grows from nothing to full strength.
    maxStartDistance : float
        Farther than so many widths of the bias (1/sqrt(kappa) of torsions, e^(-l/2) of other variables) from its centre no path starts.
    format : str
        Of the trajectories, 'dcd' or 'xtc'.
    surface : FreeEnergySurface or callable, optional
        F(c) in kJ/mol of points [K, n], for the index. It must be picklable.
    executor : concurrent.futures.Executor, optional
        Runs the paths instead of processes of our own: a pool of Dask, MPI and so on, which sees the same directory. It is not shut down.

    Raises
    ------
    ValueError
        A number is out of range.
    openmm.OpenMMException
        The force is not part of the simulation's Context.
    """

    def __init__(self, simulation: app.Simulation, force: SpacetimeForce, numPaths: int = 20, steps: Optional[int] = None, stepsPerMove: int = 1,
                 equilibrationSteps: int = 1000, frameStride: int = 0, energyStride: int = 0, seed: int = 1, startStates: Optional[Sequence[Any]] = None,
                 processes: int = 1, progress: Union[None, bool, Callable[[int, int], Any]] = None, *, stepsPerLength: Optional[float] = None,
                 length: Optional[float] = None, direction: str = "forward", equilibrate: Union[bool, int] = False, maxStartDistance: float = 5.0, format: str = "dcd",
                 surface: Optional[Callable[[np.ndarray], Any]] = None, executor: Optional[Executor] = None) -> None:
        length = getattr(force, "_length", None) if length is None else float(length)
        if stepsPerLength is not None:
            if steps is not None:
                raise ValueError("PathSampler: expected steps or stepsPerLength, not both")
            if length is None:
                raise ValueError("PathSampler: the length of the curve is unknown, because the force was not made from a Curve that was measured; pass length=")
            if not (stepsPerLength > 0 and 0 < length < math.inf):
                raise ValueError(f"PathSampler: stepsPerLength and length must be positive, but they are {stepsPerLength} and {length}")
        elif steps is None:
            steps = 16000
        pullSteps = PULL_STEPS if equilibrate is True else equilibrate
        for name, value, least in (("numPaths", numPaths, 1), ("steps", 1 if steps is None else steps, 1), ("stepsPerMove", stepsPerMove, 1),
                                   ("equilibrationSteps", equilibrationSteps, 0), ("frameStride", frameStride, 0), ("energyStride", energyStride, 0), ("seed", seed, 0),
                                   ("processes", processes, 1), ("equilibrate", pullSteps, 0)):
            if int(value) != value or value < least:
                raise ValueError(f"PathSampler: {name} must be a whole number, {least} or more, but it is {value}")
        if stepsPerLength is not None and length is not None:
            steps = openmm_wrapper.PathSampler.stepsForLength(float(stepsPerLength), length, int(stepsPerMove))
        assert steps is not None  # given, or from the length
        if steps % stepsPerMove != 0:
            raise ValueError(f"PathSampler: steps must be a multiple of stepsPerMove, but {steps} is not a multiple of {stepsPerMove}")
        for name, choice, choices in (("direction", direction, ("forward", "backward")), ("format", format, ("dcd", "xtc"))):
            if choice not in choices:
                raise ValueError(f"PathSampler: {name} must be '{choices[0]}' or '{choices[1]}', but it is {choice!r}")
        if not maxStartDistance > 0:
            raise ValueError(f"PathSampler: maxStartDistance must be positive, but it is {maxStartDistance}")
        if startStates is not None and len(startStates) == 0:
            raise ValueError("PathSampler: startStates is empty")
        if force.getNumWalkers() > 1:
            raise ValueError(f"PathSampler: it drives one walker, but the SpacetimeForce has {force.getNumWalkers()}; move the Context parameter in a loop of your own")
        # Raises the explanation of what to do if the force was added too late.
        force.getVariableValues(simulation.context)
        self.simulation, self.force = simulation, force
        self.numPaths, self.processes, self.seed = int(numPaths), int(processes), int(seed)
        self.startStates, self.progress, self.surface, self.executor = startStates, progress, surface, executor
        self.settings: Dict[str, Any] = {"steps": int(steps), "stepsPerMove": int(stepsPerMove), "equilibrationSteps": int(equilibrationSteps), "frameStride": int(frameStride),
                         "energyStride": int(energyStride), "seed": self.seed, "direction": direction, "pullSteps": int(pullSteps),
                         "maxStartDistance": None if maxStartDistance == math.inf else float(maxStartDistance), "format": format, "length": length}

    def run(self, directory: Union[str, os.PathLike], overwrite: bool = False, resume: bool = False, retryFailed: bool = False) -> PathEnsemble:
        """Run all paths.

        The directory receives path-0000.dcd (or .xtc), path-0000.csv and path-0000.npz per path, index.csv with a row per frame, paths.csv with a row per path,
        ensemble.json, and topology.pdb. A path's files appear when it is complete, the .npz last. When the run is interrupted, or killed, what is complete stays
        and can be loaded and continued. A failed path leaves path-0000.failed.json.

        Parameters
        ----------
        directory : path
            Made where missing.
        overwrite : bool
            Remove the paths of an earlier run that the directory holds.
        resume : bool
            Keep the complete paths of an earlier run with the same settings, and run only those that are missing. The result is the same as that of one run.
        retryFailed : bool
            With `resume`, run the failed ones again as well.

        Returns
        -------
        PathEnsemble

        Warns
        -----
        RuntimeWarning
            Paths failed.

        Raises
        ------
        FileExistsError
            The directory is not empty, and neither `overwrite` nor `resume` was given.
        ValueError
            The run to resume had another System, curve, starting state or settings, or a starting state is too far from the start of the curve.
        OSError
            A file could not be written, for example because the disk is full. The paths that are complete stay, and resume=True goes on.
        """
        directory = Path(directory)
        occupied = directory.exists() and any(directory.iterdir())
        if occupied and not (overwrite or resume):
            raise FileExistsError(f"PathSampler: {directory} is not empty; pass overwrite=True to replace the paths in it, resume=True to go on with them, "
                                  "or choose another directory")
        job = self._job(directory)
        self._checkStarts()
        if occupied:
            # What was being written when an earlier run was killed is of no use.
            for pattern in (".tmp-*",) if resume else ensemble.PATTERNS:
                for old in directory.glob(pattern):
                    old.unlink()
        directory.mkdir(parents=True, exist_ok=True)
        self._writeHead(directory, job)
        if retryFailed:
            for old in directory.glob("path-*.failed.json"):
                old.unlink()
        missing = [index for index in range(self.numPaths) if not any(ensemble.stem(directory, index).with_suffix(suffix).exists() for suffix in (".npz", ".failed.json"))]
        report = _Progress(self.progress, self.numPaths, self.numPaths-len(missing), self.simulation.integrator.getStepSize())
        isFinished = False
        try:
            with closing(runTasks(job, missing, self.processes, self.executor)) as results:
                for result in results:
                    report(result)
                    if time.perf_counter()-report.indexed > INDEX_INTERVAL:
                        ensemble.writeIndex(directory)
                        report.indexed = time.perf_counter()
            isFinished = True
        except OSError as e:
            raise self._writeError(directory, e) from e
        finally:
            report.finish()
            try:
                ensemble.writeIndex(directory)
            except OSError as e:
                if isFinished:  # otherwise there is something else to be told
                    raise self._writeError(directory, e) from e
        paths = PathEnsemble.load(directory)
        if paths.failures:
            first = paths.failures[0]
            warnings.warn(f"PathSampler: {len(paths.failures)} of {self.numPaths} paths failed, the first of them path {first.index}: {first.message} "
                          "See PathEnsemble.failures and paths.csv; run(..., resume=True, retryFailed=True) tries them again", RuntimeWarning, stacklevel=2)
        return paths

    def _writeError(self, directory: Path, e: OSError) -> OSError:
        return OSError(e.errno, f"PathSampler: a file could not be written ({e.strerror}). {len(list(directory.glob('path-*.npz')))} of {self.numPaths} paths are complete "
                                "and stay; make room and go on with resume=True", e.filename)

    def _checkStarts(self) -> None:
        """ValueError for a starting state that is too far from the start of the curve, before anything is run."""
        if self.settings["pullSteps"] > 0:
            return
        context, sampler = self.simulation.context, _makeSampler(self.force, self.settings)
        states = [None] if self.startStates is None else list(self.startStates)[:self.numPaths]
        before = context.getState(positions=True)
        try:
            for i, state in enumerate(states):
                if state is not None:
                    _setPositions(context, state)
                try:
                    sampler.checkStart(context)
                except openmm.OpenMMException as e:
                    raise ValueError(str(e)+("" if state is None else f". This is startStates[{i}]")) from None
        finally:
            if self.startStates is not None:
                _setPositions(context, before)

    def _job(self, directory: Path) -> _Job:
        common, starts = templateOf("PathSampler", self.simulation, self.force), []
        for start in self.startStates if self.startStates is not None else ():
            starts.append(openmm.XmlSerializer.serialize(start) if isinstance(start, openmm.State) else
                          np.array(start.value_in_unit(unit.nanometer) if unit.is_quantity(start) else start, dtype=float))
        return _Job(**common, starts=starts or [common["template"]], topology=self.simulation.topology, directory=str(directory.resolve()), settings=dict(self.settings),
                    names=self.force.getVariableNames(), surface=self.surface, target=self._target())

    def _target(self) -> Optional[np.ndarray]:
        """Centre of the state at the end of the curve, where all variables are torsions; the surface's minimum there, if there is one, as in analyze()."""
        if any(self.force.getVariableType(i) != "torsion" for i in range(self.force.getNumVariables())):
            return None
        pairs = self.force.getEta(1.0 if self.settings["direction"] == "forward" else 0.0).reshape(-1, 2)
        center = np.arctan2(pairs[:, 1], pairs[:, 0])
        nearest = getattr(self.surface, "nearestMinimum", None)
        return center if nearest is None else nearest(center, ensemble.HIT_RADIUS)

    def _writeHead(self, directory: Path, job: _Job) -> None:
        force, context = self.force, self.simulation.context
        variables = [force._describeVariable(i) for i in range(force.getNumVariables())]
        s, eta = force.getCurve()
        content = {"format": ensemble.FORMAT, "version": ensemble.VERSION, "variables": variables, "temperature_K": force.getTemperature().value_in_unit(unit.kelvin),
                   "platform": context.getPlatform().getName(), "openmm": openmm.version.short_version, "settings": self.settings,
                   "s": s.tolist(), "eta": eta.tolist()}
        # Told apart by what decides the paths; the directory and the names of platform properties do not.
        digest = hashlib.sha256("".join([job.system, job.integrator, job.template]+[x if isinstance(x, str) else x.tobytes().hex() for x in job.starts]).encode())
        if self.surface is not None:
            digest.update(pickle.dumps(self.surface))
        content["digest"] = digest.hexdigest()
        head = directory/"ensemble.json"
        if head.exists():
            if json.loads(head.read_text(encoding="utf-8")) != json.loads(json.dumps(content)):
                raise ValueError(f"PathSampler: {directory} was written with another System, Integrator, curve, starting state, surface or settings, so its paths cannot be "
                                 "continued")
            return
        text = io.StringIO()
        app.PDBFile.writeFile(self.simulation.topology, context.getState(positions=True).getPositions(), text, keepIds=True)
        ensemble.replace(directory/"topology.pdb", lambda file: file.write(text.getvalue().encode()))
        ensemble.replace(head, lambda file: file.write(json.dumps(content, indent=1).encode()))


def runTasks(job: Any, tasks: Sequence[int], processes: int = 1, executor: Optional[Executor] = None) -> Generator[Any, None, None]:
    """What `job.makeWorker().run(task)` returns for each task, as it comes: in this process, in processes of our own, or by an executor.

    The job has a `directory`, which all processes see, and `what` it is, for messages.
    """
    if executor is None and (processes == 1 or len(tasks) < 2):
        if len(tasks) > 0:
            worker = job.makeWorker()
            for task in tasks:
                yield worker.run(task)
        return
    # The job travels as a file in the directory, which everyone sees, so that tasks are a few bytes however large the System is.
    data = pickle.dumps(job)
    file = ensemble.temporary(Path(job.directory)/f"job-{hashlib.sha256(data).hexdigest()[:16]}")
    # Spawned, not forked: threads and GPU contexts do not survive a fork.
    own = None if executor is not None else ProcessPoolExecutor(min(processes, len(tasks)), mp_context=get_context("spawn"), initializer=_dieWithParent)
    pool: Any = own or executor
    futures, done = [], 0
    try:
        file.write_bytes(data)
        futures = [pool.submit(_runTask, str(file), task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
            done += 1
    except BrokenProcessPool as e:
        raise RuntimeError(f"{job.what}: a worker process died; what is complete stays, and resume=True goes on. Was it killed, or out of memory?" if done else
                           f"{job.what}: the worker processes could not start. With processes > 1 a script is imported again by each worker, so what it does must "
                           "stand under\n    if __name__ == \"__main__\":\nand it must be a file: neither standard input nor -c will do. Or use processes=1") from e
    finally:
        for future in futures:
            future.cancel()
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)
        file.unlink(missing_ok=True)


def templateOf(what: str, simulation: app.Simulation, force: SpacetimeForce) -> Dict[str, Any]:
    """What a process needs to make the Context of `simulation` again, and to find `force` in it: strings and numbers."""
    context = simulation.context
    system, integrator, platform = context.getSystem(), context.getIntegrator(), context.getPlatform()
    forceIndex = next((i for i in range(system.getNumForces()) if int(system.getForce(i).this) == int(force.this)), None)
    if forceIndex is None:
        raise ValueError(f"{what}: expected a SpacetimeForce that was added to the simulation's System with addForce()")
    temperature = force.getTemperature().value_in_unit(unit.kelvin)
    if hasattr(integrator, "getTemperature"):
        bath = integrator.getTemperature()
        bath = bath.value_in_unit(unit.kelvin) if unit.is_quantity(bath) else bath
        if abs(bath-temperature) > 1e-6*temperature:
            raise ValueError(f"{what}: the integrator runs at {bath:g} K, but the force was made for {temperature:g} K; the tilted distribution is sampled only "
                             "when they agree")
    template = context.getState(positions=True, velocities=True, parameters=True)
    return dict(system=openmm.XmlSerializer.serialize(system), integrator=openmm.XmlSerializer.serialize(integrator), template=openmm.XmlSerializer.serialize(template),
                forceIndex=forceIndex, platform=platform.getName(),
                properties={name: platform.getPropertyValue(context, name) for name in platform.getPropertyNames()}, temperature=temperature)


def seedEverything(context: openmm.Context, seed: int) -> None:
    """Make a Context anew whose random numbers all come from `seed`.

    OpenMM reads seeds only when a Context is made, and on the Reference platform all Contexts of a process share one stream, which this sets back.
    """
    for x in (*context.getSystem().getForces(), context.getIntegrator()):
        if hasattr(x, "setRandomNumberSeed"):
            x.setRandomNumberSeed(seed)
    context.reinitialize()


def _setPositions(context: openmm.Context, start: Any) -> None:
    """Positions, and the box where there is one, of a State or an array."""
    if isinstance(start, openmm.State):
        context.setPeriodicBoxVectors(*start.getPeriodicBoxVectors())
        context.setPositions(start.getPositions(asNumpy=True))
    else:
        context.setPositions(start)


def _makeSampler(force: SpacetimeForce, settings: Dict[str, Any]) -> openmm_wrapper.PathSampler:
    sampler = openmm_wrapper.PathSampler(force, settings["steps"])
    sampler.setStepsPerMove(settings["stepsPerMove"])
    sampler.setNumEquilibrationSteps(settings["equilibrationSteps"])
    sampler.setEnergyStride(settings["energyStride"])
    sampler.setFrameStride(settings["frameStride"])
    sampler.setBackward(settings["direction"] == "backward")
    sampler.setNumPullSteps(settings["pullSteps"])
    sampler.setMaxStartDistance(math.inf if settings["maxStartDistance"] is None else settings["maxStartDistance"])
    return sampler


class _Progress:
    def __init__(self, progress: Any, total: int, done: int, stepSize: Any, noun: str = "paths") -> None:
        self.noun = noun
        self.callback = progress if callable(progress) else None
        self.text = progress is True or (progress is None and sys.stderr.isatty())
        self.total, self.done, self.earlier, self.failed, self.steps = total, done, done, 0, 0
        self.start = self.indexed = time.perf_counter()
        self.nsPerStep = stepSize.value_in_unit(unit.nanosecond)

    def __call__(self, result: Any) -> None:
        self.done += 1
        self.failed += result.failed
        self.steps += result.steps
        if self.callback is not None:
            self.callback(self.done, self.total)
        elif self.text:
            seconds, own = time.perf_counter()-self.start, self.done-self.earlier
            failed = f" ({self.failed} failed)" if self.failed else ""
            sys.stderr.write(f"\r{self.noun} {self.done}/{self.total}{failed}, {own/seconds:.3g} {self.noun}/s, {self.steps/seconds:,.0f} steps/s, "
                             f"{self.steps/seconds*86400*self.nsPerStep:.3g} ns/day, {_duration(seconds/own*(self.total-self.done))} to go   ")
            sys.stderr.flush()

    def finish(self) -> None:
        if self.text:
            sys.stderr.write("\n")


def _duration(seconds: float) -> str:
    minutes = round(seconds/60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes//60} h {minutes%60:02d} min"


@dataclass
class _Job:
    """All that a process needs to run a path; strings and arrays, so that it can be sent."""

    system: str
    integrator: str
    template: str
    starts: List[Any]
    forceIndex: int
    platform: str
    properties: Dict[str, str]
    topology: app.Topology
    temperature: float
    directory: str
    settings: Dict[str, Any]
    names: List[str]
    surface: Optional[Callable[[np.ndarray], Any]]
    target: Optional[np.ndarray]
    what = "PathSampler"

    def makeWorker(self) -> _Worker:
        return _Worker(self)


@dataclass
class _Result:
    """What comes back from a path; everything else is in files."""

    index: int
    failed: bool
    steps: int


class _Trajectory:
    """A DCD or XTC file under a temporary name."""

    def __init__(self, path: Path, job: _Job, stepSize: Any, title: str) -> None:
        self.path, self.place = path, ensemble.temporary(path)
        self.title, self.isDcd, self.topology, self.numFrames = title, job.settings["format"] == "dcd", job.topology, 0
        interval = max(1, job.settings["frameStride"])
        self.place.unlink(missing_ok=True)
        self.file: Any = open(self.place, "wb+") if self.isDcd else None
        self.writer = (app.DCDFile(self.file, job.topology, stepSize, firstStep=interval, interval=interval) if self.isDcd else
                       app.XTCFile(str(self.place), job.topology, stepSize, firstStep=interval, interval=interval))

    def write(self, frames: np.ndarray, boxes: np.ndarray) -> None:
        for positions, box in zip(frames, boxes):
            vectors = [openmm.Vec3(*v) for v in box]
            self.writer.writeModel(positions, periodicBoxVectors=vectors*unit.nanometer)
            self.numFrames += 1

    def publish(self) -> None:
        if self.isDcd:
            # OpenMM puts the time of day here, and the same path would never be the same file.
            self.file.seek(180)
            self.file.write(self.title.encode("ascii").ljust(80)[:80])
            self.file.close()
        elif self.writer._getNumFrames() != self.numFrames:
            # OpenMM's writer does not look.
            raise OSError(errno.EIO, "the file is shorter than what was written", str(self.path))
        ensemble.publish(self.place, self.path)

    def discard(self) -> None:
        try:
            if self.file is not None:
                self.file.close()
        except OSError:  # the rest of a full buffer
            pass
        self.place.unlink(missing_ok=True)


class OwnContext:
    """A job's molecule in a Context of its own, whether in this process or another: that is why it makes no difference."""

    def __init__(self, job: Any) -> None:
        self.job = job
        self.system = openmm.XmlSerializer.deserialize(job.system)
        self.integrator = openmm.XmlSerializer.deserialize(job.integrator)
        self.force = SpacetimeForce.cast(self.system.getForce(job.forceIndex))
        self.context = openmm.Context(self.system, self.integrator, openmm.Platform.getPlatformByName(job.platform), job.properties)
        self.template = openmm.XmlSerializer.deserialize(job.template)


class _Worker(OwnContext):
    """Runs paths."""

    def __init__(self, job: _Job) -> None:
        super().__init__(job)
        self.starts = [openmm.XmlSerializer.deserialize(start) if isinstance(start, str) else start for start in job.starts]
        self.sampler = _makeSampler(self.force, job.settings)

    def run(self, index: int) -> _Result:
        job, sampler = self.job, self.sampler
        begin = time.perf_counter()
        seed, velocitySeed = (int(x) for x in np.random.SeedSequence([job.settings["seed"], index]).generate_state(2) % 0x7FFFFFFE+1)
        stem = ensemble.stem(Path(job.directory), index)
        trajectory = _Trajectory(stem.with_suffix("."+job.settings["format"]), job, self.integrator.getStepSize(), f"Path {index}, seed {seed}, written by openmm-spacetime")
        failure = None
        try:
            try:
                frames = self._drive(index, seed, velocitySeed, trajectory)
            except (openmm.OpenMMException, ValueError) as e:
                # ValueError comes from writers, of positions that have gone too far to be written.
                failure = PathFailure(index, seed, self.steps, self.context.getParameter(self.force.getParameterName()), str(e), time.perf_counter()-begin)
            if failure is not None:
                ensemble.replace(stem.with_suffix(".failed.json"), lambda file: file.write(json.dumps(asdict(failure), indent=1).encode()))
                return _Result(index, True, self.steps)
            variables = np.frombuffer(sampler.getVariables()).reshape(-1, sampler.getNumVariables())
            F = None if job.surface is None else np.asarray(job.surface(variables), dtype=float)
            energies = np.concatenate([np.frombuffer(sampler.getPotentialEnergy()), frames["frameEnergy"]])
            hit = -1
            if job.target is not None:
                difference = (variables[-1]-job.target+np.pi) % (2*np.pi)-np.pi
                hit = int(np.linalg.norm(difference) <= ensemble.HIT_RADIUS)
            record = {"index": index, "seed": seed, "s": np.frombuffer(sampler.getS()), "variables": variables, "work": sampler.getWork(),
                      "workProfile": np.frombuffer(sampler.getWorkProfile()), "potentialEnergy": np.frombuffer(sampler.getPotentialEnergy()),
                      "energySteps": np.frombuffer(sampler.getEnergySteps(), dtype=np.int32), "finalVariables": np.frombuffer(sampler.getFinalVariables()), **frames,
                      "gradientEvaluations": sampler.getNumGradientEvaluations(), "energyEvaluations": sampler.getNumEnergyEvaluations(),
                      "seconds": time.perf_counter()-begin, "highestFreeEnergy": np.nan if F is None else F.max(), "highestPotentialEnergy": energies.max(), "hit": hit}
            trajectory.publish()
            ensemble.writeFrameIndex(stem.with_suffix(".csv"), record, job.names, job.settings["stepsPerMove"], None if F is None else F[frames["frameSteps"]])
            # Last: a path counts as done when its record is there.
            ensemble.replace(stem.with_suffix(".npz"), lambda file: np.savez(file, **record))
            return _Result(index, False, self.steps)
        except OSError as e:
            raise e if e.filename not in (None, str(trajectory.place)) else OSError(e.errno, e.strerror, str(trajectory.path)) from e
        finally:
            trajectory.discard()

    def _drive(self, index: int, seed: int, velocitySeed: int, trajectory: _Trajectory) -> Dict[str, np.ndarray]:
        """Run the dynamics; the frames' steps and energies."""
        context, sampler = self.context, self.sampler
        self.steps = 0
        seedEverything(context, seed)
        context.setState(self.template)
        context.setTime(0)
        context.setStepCount(0)
        _setPositions(context, self.starts[index % len(self.starts)])
        context.setVelocitiesToTemperature(self.job.temperature, velocitySeed)
        pieces: Dict[str, List[np.ndarray]] = {"frameSteps": [], "frameEnergy": [], "frameBias": []}
        sampler.begin(context)
        more = True
        while more:
            # In pieces, so that Ctrl-C works and the trajectory does not pile up in memory.
            try:
                more = sampler.advance(CHUNK)
            finally:
                self.steps = sampler.getNumStepsDone()
            pieces["frameSteps"].append(np.frombuffer(sampler.getFrameSteps(), dtype=np.int32))
            pieces["frameEnergy"].append(np.frombuffer(sampler.getFrameEnergy()))
            pieces["frameBias"].append(np.frombuffer(sampler.getFrameBias()))
            trajectory.write(np.frombuffer(sampler.getFrames(), dtype=np.float32).reshape(-1, sampler.getNumParticles(), 3),
                             np.frombuffer(sampler.getBoxVectors()).reshape(-1, 3, 3))
            sampler.clearFrames()
        return {name: np.concatenate(parts) for name, parts in pieces.items()}


# One task at a time in a process: on the Reference platform all Contexts share their random numbers.
_lock = threading.Lock()
_worker: Tuple[Optional[str], Any] = (None, None)


def _runTask(jobFile: str, task: int) -> Any:
    """Run a task in whatever process this is; the Context stays for the next one."""
    global _worker
    with _lock:
        if _worker[0] != jobFile:
            _worker = (None, None)
            with open(jobFile, "rb") as file:
                _worker = (jobFile, pickle.load(file).makeWorker())
        return _worker[1].run(task)


def _dieWithParent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = parent_process()
    assert parent is not None  # this is a worker
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
