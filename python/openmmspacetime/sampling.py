# SPDX-License-Identifier: MIT
"""Many driven paths along a curve, written to a directory, and that directory read back."""
from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Sequence as SequenceABC
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Union

import numpy as np
import openmm
from openmm import app, unit

from . import openmm_wrapper
from .force import SpacetimeForce

__all__ = ["PathSampler", "PathEnsemble", "PathRecord"]

FORMAT, VERSION = "spacetime-paths", 1
# Steps between two looks at signals, and between two pieces of trajectory that are written out.
CHUNK = 2000


@dataclass
class PathRecord:
    """One driven path.

    Attributes
    ----------
    index, seed : int
        Position in the ensemble, and the seed of its random numbers.
    s : ndarray [steps]
        Curve parameter during each step.
    variables : ndarray [steps, n]
        Raw values (rad, nm) after each step.
    work : float
        W = -kT sum_i (eta_{i+1} - eta_i)·T(X_i), kJ/mol.
    workProfile : ndarray [moves]
        Work spent up to each move of the bias, kJ/mol.
    potentialEnergy : ndarray [n_e]
        Potential energy without the bias, kJ/mol.
    energySteps : ndarray [n_e]
        Rows of `s` and `variables` that the energies belong to.
    frameSteps : ndarray [n_f]
        Rows of `s` and `variables` that the frames of the trajectory belong to.
    finalVariables : ndarray [n]
        Raw values after the equilibration at the end.
    gradientEvaluations, energyEvaluations : int
        Force evaluations, and further evaluations of the energy alone, equilibration included.
    seconds : float
        Wall time.
    trajectory : str
        Path of the DCD file.
    """

    index: int
    seed: int
    s: np.ndarray = field(repr=False)
    variables: np.ndarray = field(repr=False)
    work: float
    workProfile: np.ndarray = field(repr=False)
    potentialEnergy: np.ndarray = field(repr=False)
    energySteps: np.ndarray = field(repr=False)
    frameSteps: np.ndarray = field(repr=False)
    finalVariables: np.ndarray
    gradientEvaluations: int
    energyEvaluations: int
    seconds: float
    trajectory: str


class PathEnsemble(SequenceABC):
    """The paths in a directory, read when they are asked for: a sequence of :class:`PathRecord`.

    Attributes
    ----------
    directory : str
    s : ndarray [N+1]
        Nodes of the curve.
    eta : ndarray [N+1, m]
        Natural parameters at the nodes.
    names : list of str
        Names of the variables.
    variables : list of dict
        The variables: name, kind, atoms, axis, period, shift, scale.
    temperature : float
        In K.
    steps : int
        Steps along the curve of each path.
    settings : dict
        What the sampler was told.
    """

    def __init__(self, directory: Union[str, os.PathLike]) -> None:
        self.directory = os.fspath(directory)
        path = Path(directory)/"ensemble.json"
        if not path.exists():
            raise FileNotFoundError(f"PathEnsemble: {path} does not exist; expected a directory written by PathSampler.run()")
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise ValueError(f"PathEnsemble: {path} has format {content.get('format')!r}, version {content.get('version')!r}; "
                             f"expected {FORMAT!r}, version {VERSION}")
        self.s, self.eta = np.array(content["s"]), np.array(content["eta"])
        self.variables: List[Dict[str, Any]] = content["variables"]
        self.names: List[str] = [v["name"] for v in self.variables]
        self.temperature: float = content["temperature_K"]
        self.settings: Dict[str, Any] = content["settings"]
        self.steps: int = self.settings["steps"]
        self._files = sorted(Path(directory).glob("path-*.npz"))
        self._records: Dict[int, PathRecord] = {}

    @classmethod
    def load(cls, directory: Union[str, os.PathLike]) -> PathEnsemble:
        """Read a directory that :meth:`PathSampler.run` has written.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no ensemble, or it was written by another version.
        """
        return cls(directory)

    @property
    def topology(self) -> str:
        """Path of the PDB file that goes with the trajectories."""
        return str(Path(self.directory)/"topology.pdb")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        if i not in self._records:
            with np.load(self._files[i]) as data:
                scalars = {name: data[name].item() for name in ("index", "seed", "work", "gradientEvaluations", "energyEvaluations", "seconds")}
                arrays = {name: data[name] for name in ("s", "variables", "workProfile", "potentialEnergy", "energySteps", "frameSteps", "finalVariables")}
            self._records[i] = PathRecord(**scalars, **arrays, trajectory=str(self._files[i].with_suffix(".dcd")))
        return self._records[i]

    def __repr__(self) -> str:
        return f"PathEnsemble({self.directory!r}: {len(self)} paths of {self.steps} steps, {', '.join(self.names)})"


class PathSampler:
    r"""Runs paths along the curve of a SpacetimeForce and writes them to a directory.

    Each path is annealed Langevin dynamics (arXiv:2505.17517, Algorithm 1): it starts at s = 0, and every `stepsPerMove` steps s grows by the same amount until
    it is 1. Moving the bias at fixed positions costs the work

    .. math:: W = -kT \sum_i (\eta_{i+1} - \eta_i) \cdot T(c(X_i)).

    A path depends on `seed` and its index alone: not on `processes`, nor on how many others are run. The simulation that is passed in serves as a template
    (System, Integrator, platform, starting state) and is left as it is.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Its System must hold `force`.
    force : SpacetimeForce
    numPaths : int
    steps : int
        Time steps along the curve; a multiple of `stepsPerMove`.
    stepsPerMove : int
        Time steps between two moves of the bias.
    equilibrationSteps : int
        Further time steps at s = 0 before and at s = 1 after the path.
    frameStride : int
        Positions are written every so many steps, and the last ones always; 0 for the last ones only.
    energyStride : int
        The potential energy without the bias is recorded every so many steps and at the end; 0 for never.
    seed : int
    startStates : sequence, optional
        openmm.State objects or positions; path i starts from number i modulo their number. The simulation's current state when left out. Velocities are
        always drawn anew from the Boltzmann distribution.
    processes : int
        Number of processes to run paths in.
    progress : callable or bool, optional
        Called as progress(done, total) with numbers of paths. When left out a line of text is shown on stderr if that is a terminal; False for none.

    Raises
    ------
    ValueError
        A number is out of range.
    openmm.OpenMMException
        The force is not part of the simulation's Context.
    """

    def __init__(self, simulation: app.Simulation, force: SpacetimeForce, numPaths: int = 20, steps: int = 16000, stepsPerMove: int = 1, equilibrationSteps: int = 1000,
                 frameStride: int = 0, energyStride: int = 0, seed: int = 1, startStates: Optional[Sequence[Any]] = None, processes: int = 1,
                 progress: Union[None, bool, Callable[[int, int], Any]] = None) -> None:
        for name, value, least in (("numPaths", numPaths, 1), ("steps", steps, 1), ("stepsPerMove", stepsPerMove, 1), ("equilibrationSteps", equilibrationSteps, 0),
                                   ("frameStride", frameStride, 0), ("energyStride", energyStride, 0), ("seed", seed, 0), ("processes", processes, 1)):
            if int(value) != value or value < least:
                raise ValueError(f"PathSampler: {name} must be a whole number, {least} or more, but it is {value}")
        if steps % stepsPerMove != 0:
            raise ValueError(f"PathSampler: steps must be a multiple of stepsPerMove, but {steps} is not a multiple of {stepsPerMove}")
        if startStates is not None and len(startStates) == 0:
            raise ValueError("PathSampler: startStates is empty")
        # Raises the explanation of what to do if the force was added too late.
        force.getVariableValues(simulation.context)
        self.simulation, self.force = simulation, force
        self.numPaths, self.processes, self.seed = int(numPaths), int(processes), int(seed)
        self.startStates, self.progress = startStates, progress
        self.settings = {"steps": int(steps), "stepsPerMove": int(stepsPerMove), "equilibrationSteps": int(equilibrationSteps), "frameStride": int(frameStride),
                         "energyStride": int(energyStride), "seed": self.seed}

    def run(self, directory: Union[str, os.PathLike], overwrite: bool = False, resume: bool = False) -> PathEnsemble:
        """Run all paths.

        The directory receives path-0000.dcd and path-0000.npz per path, index.csv with one row per path, ensemble.json, and topology.pdb. A path's files appear
        when it is complete; when the run is interrupted, what is complete stays and can be loaded.

        Parameters
        ----------
        directory : path
            Made where missing.
        overwrite : bool
            Remove the paths of an earlier run that the directory holds.
        resume : bool
            Keep the complete paths of an earlier run with the same settings, and run only those that are missing. The result is the same as that of one run.

        Returns
        -------
        PathEnsemble

        Raises
        ------
        FileExistsError
            The directory is not empty, and neither `overwrite` nor `resume` was given.
        ValueError
            The run to resume had another System, curve, starting state or settings.
        openmm.OpenMMException
            A path failed, for example because a number was no longer finite.
        """
        directory = Path(directory)
        occupied = directory.exists() and any(directory.iterdir())
        if occupied and not (overwrite or resume):
            raise FileExistsError(f"PathSampler: {directory} is not empty; pass overwrite=True to replace the paths in it, resume=True to go on with them, "
                                  "or choose another directory")
        if occupied and not resume:
            for pattern in ("path-*.npz", "path-*.dcd", ".path-*", "index.csv", "ensemble.json", "topology.pdb"):
                for old in directory.glob(pattern):
                    old.unlink()
        directory.mkdir(parents=True, exist_ok=True)
        job = self._job(directory)
        self._writeHead(directory, job)
        missing = [index for index in range(self.numPaths) if not (directory/f"path-{index:04d}.npz").exists()]
        done = self.numPaths-len(missing)
        report = _Progress(self.progress, self.numPaths)
        try:
            with closing(self._runAll(job, missing)) as paths:
                for _ in paths:
                    done += 1
                    report(done)
        finally:
            report.finish()
            _writeIndex(directory, self.force.getVariableNames())
        return PathEnsemble.load(directory)

    def _runAll(self, job: _Job, indices: Sequence[int]) -> Iterator[int]:
        if self.processes == 1 or len(indices) < 2:
            worker = _Worker(job)
            for index in indices:
                worker.run(index)
                yield index
            return
        hint = ("PathSampler: the worker processes could not start. With processes > 1 a script is imported again by each worker, so what it does must stand under\n"
                "    if __name__ == \"__main__\":\nand it must be a file: neither standard input nor -c will do. Or use processes=1")
        # Spawned, not forked: threads and GPU contexts do not survive a fork.
        pool = ProcessPoolExecutor(min(self.processes, len(indices)), mp_context=get_context("spawn"), initializer=_startWorker, initargs=(job,))
        try:
            for future in as_completed([pool.submit(_runInWorker, index) for index in indices]):
                yield future.result()
        except BrokenProcessPool as e:
            raise RuntimeError(hint) from e
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _job(self, directory: Path) -> _Job:
        simulation, context = self.simulation, self.simulation.context
        system, integrator = context.getSystem(), context.getIntegrator()
        forceIndex = next((i for i in range(system.getNumForces()) if int(system.getForce(i).this) == int(self.force.this)), None)
        if forceIndex is None:
            raise ValueError("PathSampler: expected a SpacetimeForce that was added to the simulation's System with addForce()")
        temperature = self.force.getTemperature().value_in_unit(unit.kelvin)
        if hasattr(integrator, "getTemperature"):
            bath = integrator.getTemperature()
            bath = bath.value_in_unit(unit.kelvin) if unit.is_quantity(bath) else bath
            if abs(bath-temperature) > 1e-6*temperature:
                raise ValueError(f"PathSampler: the integrator runs at {bath:g} K, but the force was made for {temperature:g} K; the tilted distribution is sampled only "
                                 "when they agree")
        template = context.getState(positions=True, velocities=True, parameters=True)
        platform = context.getPlatform()
        starts = []
        for start in self.startStates if self.startStates is not None else [template]:
            starts.append(openmm.XmlSerializer.serialize(start) if isinstance(start, openmm.State) else
                          np.array(start.value_in_unit(unit.nanometer) if unit.is_quantity(start) else start, dtype=float))
        return _Job(system=openmm.XmlSerializer.serialize(system), integrator=openmm.XmlSerializer.serialize(integrator), template=openmm.XmlSerializer.serialize(template),
                    starts=starts, forceIndex=forceIndex, platform=platform.getName(),
                    properties={name: platform.getPropertyValue(context, name) for name in platform.getPropertyNames()},
                    topology=simulation.topology, temperature=temperature, directory=str(directory), settings=dict(self.settings))

    def _writeHead(self, directory: Path, job: _Job) -> None:
        force, context = self.force, self.simulation.context
        variables = [force._describeVariable(i) for i in range(force.getNumVariables())]
        s, eta = force.getCurve()
        content = {"format": FORMAT, "version": VERSION, "variables": variables, "temperature_K": force.getTemperature().value_in_unit(unit.kelvin),
                   "platform": context.getPlatform().getName(), "openmm": openmm.version.short_version, "settings": self.settings,
                   "s": s.tolist(), "eta": eta.tolist()}
        # Told apart by what decides the paths; the directory and the names of platform properties do not.
        digest = hashlib.sha256("".join([job.system, job.integrator, job.template]+[x if isinstance(x, str) else x.tobytes().hex() for x in job.starts]).encode())
        content["digest"] = digest.hexdigest()
        head = directory/"ensemble.json"
        if head.exists():
            if json.loads(head.read_text(encoding="utf-8")) != json.loads(json.dumps(content)):
                raise ValueError(f"PathSampler: {directory} was written with another System, Integrator, curve, starting state or settings, so its paths cannot be continued")
            return
        _replace(head, lambda file: file.write(json.dumps(content, indent=1).encode()))
        positions = context.getState(positions=True).getPositions()
        with open(directory/"topology.pdb", "w", encoding="utf-8") as file:
            app.PDBFile.writeFile(self.simulation.topology, positions, file, keepIds=True)


def _replace(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        write(file)
    os.replace(temporary, path)


def _writeIndex(directory: Path, names: Sequence[str]) -> None:
    def write(file: Any) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(["path", "seed", "work_kJ_mol", "gradient_evaluations", "seconds"]+[f"final_{name}" for name in names])
        for record in PathEnsemble.load(directory):
            writer.writerow([record.index, record.seed, repr(record.work), record.gradientEvaluations, f"{record.seconds:.4f}"]
                            +[repr(float(x)) for x in record.finalVariables])
        text.flush()
        text.detach()

    _replace(directory/"index.csv", write)


class _Progress:
    def __init__(self, progress: Any, total: int) -> None:
        self.callback = progress if callable(progress) else None
        self.text = progress is True or (progress is None and sys.stderr.isatty())
        self.total, self.start = total, time.perf_counter()

    def __call__(self, done: int) -> None:
        if self.callback is not None:
            self.callback(done, self.total)
        elif self.text:
            seconds = time.perf_counter()-self.start
            sys.stderr.write(f"\rpaths {done}/{self.total}, {seconds:.0f} s, {seconds/done*(self.total-done):.0f} s to go   ")
            sys.stderr.flush()

    def finish(self) -> None:
        if self.text:
            sys.stderr.write("\n")


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
    settings: Dict[str, int]


class _Worker:
    """Runs paths in a Context of its own, whether in this process or another: that is why it makes no difference."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.system = openmm.XmlSerializer.deserialize(job.system)
        self.integrator = openmm.XmlSerializer.deserialize(job.integrator)
        self.force = SpacetimeForce.cast(self.system.getForce(job.forceIndex))
        self.context = openmm.Context(self.system, self.integrator, openmm.Platform.getPlatformByName(job.platform), job.properties)
        self.template = openmm.XmlSerializer.deserialize(job.template)
        self.starts = [openmm.XmlSerializer.deserialize(start) if isinstance(start, str) else start for start in job.starts]
        settings = job.settings
        self.sampler = openmm_wrapper.PathSampler(self.force, settings["steps"])
        self.sampler.setStepsPerMove(settings["stepsPerMove"])
        self.sampler.setNumEquilibrationSteps(settings["equilibrationSteps"])
        self.sampler.setEnergyStride(settings["energyStride"])
        self.sampler.setFrameStride(settings["frameStride"])

    def run(self, index: int) -> None:
        job, context, sampler = self.job, self.context, self.sampler
        begin = time.perf_counter()
        seed, velocitySeed = (int(x) for x in np.random.SeedSequence([job.settings["seed"], index]).generate_state(2) % 0x7FFFFFFE+1)
        # Every random number comes from this path's seed. OpenMM reads seeds only when a Context is made, and on the Reference platform all Contexts of a process
        # share one stream, which this sets back.
        for force in self.system.getForces():
            if hasattr(force, "setRandomNumberSeed"):
                force.setRandomNumberSeed(seed)
        if hasattr(self.integrator, "setRandomNumberSeed"):
            self.integrator.setRandomNumberSeed(seed)
        context.reinitialize()
        context.setState(self.template)
        context.setTime(0)
        context.setStepCount(0)
        start = self.starts[index % len(self.starts)]
        if isinstance(start, openmm.State):
            context.setPeriodicBoxVectors(*start.getPeriodicBoxVectors())
            context.setPositions(start.getPositions(asNumpy=True))
        else:
            context.setPositions(start)
        context.setVelocitiesToTemperature(job.temperature, velocitySeed)
        stem = Path(job.directory)/f"path-{index:04d}"
        trajectory = stem.with_name(f".{stem.name}.dcd")
        interval = max(1, job.settings["frameStride"])
        with open(trajectory, "wb+") as file:
            dcd = app.DCDFile(file, job.topology, self.integrator.getStepSize(), firstStep=interval, interval=interval)
            frameSteps: List[np.ndarray] = []
            sampler.begin(context)
            more = True
            while more:
                # In pieces, so that Ctrl-C works and the trajectory does not pile up in memory.
                more = sampler.advance(CHUNK)
                frameSteps.append(np.frombuffer(sampler.getFrameSteps(), dtype=np.int32))
                frames = np.frombuffer(sampler.getFrames(), dtype=np.float32).reshape(-1, sampler.getNumParticles(), 3)
                for positions, box in zip(frames, np.frombuffer(sampler.getBoxVectors()).reshape(-1, 3, 3)):
                    dcd.writeModel(positions, periodicBoxVectors=[openmm.Vec3(*v) for v in box]*unit.nanometer)
                sampler.clearFrames()
        record = {"index": index, "seed": seed, "s": np.frombuffer(sampler.getS()), "variables": np.frombuffer(sampler.getVariables()).reshape(-1, sampler.getNumVariables()),
                  "work": sampler.getWork(), "workProfile": np.frombuffer(sampler.getWorkProfile()), "potentialEnergy": np.frombuffer(sampler.getPotentialEnergy()),
                  "energySteps": np.frombuffer(sampler.getEnergySteps(), dtype=np.int32), "frameSteps": np.concatenate(frameSteps),
                  "finalVariables": np.frombuffer(sampler.getFinalVariables()), "gradientEvaluations": sampler.getNumGradientEvaluations(),
                  "energyEvaluations": sampler.getNumEnergyEvaluations(), "seconds": time.perf_counter()-begin}
        os.replace(trajectory, stem.with_suffix(".dcd"))
        # Last: a path counts as done when its record is there.
        _replace(stem.with_suffix(".npz"), lambda file: np.savez(file, **record))


_worker: Optional[_Worker] = None


def _startWorker(job: _Job) -> None:
    global _worker
    _worker = _Worker(job)


def _runInWorker(index: int) -> int:
    assert _worker is not None
    _worker.run(index)
    return index
