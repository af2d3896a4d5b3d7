# SPDX-License-Identifier: MIT
"""Independent copies of a simulation side by side in processes, and what each of them is made from."""
from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import wait as waitFor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
import openmm
from openmm import app

from . import openmm_wrapper
from .sampling import _dieWithParent, _setPositions

_counters: Any = None


def _startWorker(counters: Any) -> None:
    global _counters
    _counters = counters
    _dieWithParent()


def _runTask(function: Callable, index: int, task: Any) -> Any:
    def count(done: int) -> None:
        _counters[index] = done

    return function(task, count)


def _sideBySide(what: str, function: Callable, tasks: Sequence[Any], total: int, processes: int, progress: Optional[Callable[[int, int], Any]]) -> List[Any]:
    """[function(task, count) for each task], in processes; count(done) tells the number of steps done, and progress(done, total) is called with the sum."""
    if processes == 1 or len(tasks) == 1:
        results, before = [], 0
        for task in tasks:
            latest = [0]

            def count(done: int) -> None:
                latest[0] = done
                if progress is not None:
                    progress(before+done, total)

            results.append(function(task, count))
            before += latest[0]
        return results
    context = get_context("spawn")  # threads and GPU contexts do not survive a fork
    counters = context.Array("q", len(tasks), lock=False)
    pool = ProcessPoolExecutor(min(processes, len(tasks)), mp_context=context, initializer=_startWorker, initargs=(counters,))
    try:
        futures = [pool.submit(_runTask, function, i, task) for i, task in enumerate(tasks)]
        pending = set(futures)
        while pending:
            finished, pending = waitFor(pending, timeout=0.5)
            for future in finished:
                future.result()
            if progress is not None:
                progress(sum(counters), total)
        return [future.result() for future in futures]
    except BrokenProcessPool as e:
        raise RuntimeError(f"{what}: the worker processes could not start, or died. With processes > 1 a script is imported again by each worker, so what it does must stand under\n"
                           "    if __name__ == \"__main__\":\nand it must be a file. Or use processes=1") from e
    finally:
        # Workers look at nothing while they run, so on Ctrl-C and errors they are ended.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class _Template:
    """A Simulation in strings, so that it can be sent to another process."""

    system: str
    integrator: str
    state: str
    topology: app.Topology
    platform: str
    properties: Dict[str, str]

    @classmethod
    def of(cls, simulation: app.Simulation) -> _Template:
        context, serialize = simulation.context, openmm.XmlSerializer.serialize
        platform = context.getPlatform()
        return cls(serialize(context.getSystem()), serialize(context.getIntegrator()), serialize(context.getState(positions=True, velocities=True, parameters=True)),
                   simulation.topology, platform.getName(), {name: platform.getPropertyValue(context, name) for name in platform.getPropertyNames()})

    def simulation(self, change: Callable[[openmm.System], Any], seed: int) -> Tuple[app.Simulation, Any]:
        """A Simulation of the System that `change` has worked on, at the template's positions, and what `change` returned."""
        read = openmm.XmlSerializer.deserialize
        system, integrator = read(self.system), read(self.integrator)
        result = change(system)
        integrator.setRandomNumberSeed(seed)
        simulation = app.Simulation(self.topology, system, integrator, openmm.Platform.getPlatformByName(self.platform), self.properties)
        _setPositions(simulation.context, read(self.state))
        return simulation, result


def _check(what: str, simulation: app.Simulation, variables: Iterable[Any], numbers: Dict[str, Tuple[Any, int]]) -> None:
    for name, (value, least) in numbers.items():
        if int(value) != value or value < least:
            raise ValueError(f"{what}: {name} must be a whole number, {least} or more, but it is {value}")
    n = simulation.system.getNumParticles()
    for v in variables:
        atoms = [a for site in v.atoms for a in (site if isinstance(site, (list, tuple)) else [site])]
        if not atoms:
            raise ValueError(f"{what}: variable '{v.name}' names no atoms, so it cannot be measured")
        if min(atoms) < 0 or max(atoms) >= n:
            raise ValueError(f"{what}: variable '{v.name}' is made of the atoms {atoms}, but the System has {n} particles, counted from 0")
    for force in simulation.system.getForces():
        if "Barostat" in type(force).__name__:
            raise ValueError(f"{what}: the System holds a {type(force).__name__}; samples are taken at constant volume, so leave it out")
        if openmm_wrapper.SpacetimeForce._cast(force) is not None:
            raise ValueError(f"{what}: the System holds a SpacetimeForce, whose bias would tilt the samples; sample first, and add it to another System")
    positions = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    if not np.all(np.isfinite(positions)) or not positions.any():
        raise ValueError(f"{what}: the simulation's positions are {'not finite' if positions.any() else 'all zero'}; set them with simulation.context.setPositions()")
