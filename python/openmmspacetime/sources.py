# SPDX-License-Identifier: MIT
r"""Where a model's samples come from: replica exchange in temperature, and well-tempered metadynamics.

A model of the denoising distributions is made from collective variables that cover the states and what lies between them, with weights that make them
Boltzmann-distributed at one temperature. Plain dynamics at 300 K does not cross barriers of 10 kT. Here are two ways to samples that do:

* :func:`temperatureExchange` for any number of variables. Hot replicas cross, exchange brings what they found down to the target temperature, and MBAR
  (Shirts and Chodera 2008) gives each sample n, of whichever temperature, its weight at the target temperature:

  .. math:: w_n \propto \frac{e^{-\beta U_n}}{\sum_k N_k e^{f_k - \beta_k U_n}}.

* :func:`metadynamics` (well-tempered: Barducci, Bussi and Parrinello 2008) for one to three torsions. It climbs to any barrier, and the final bias V gives the weights
  :math:`w \propto e^{V(c)/kT}`.

Both run several independent copies (ladders, walkers), side by side if asked to. What they differ by is the error: the effective number of samples
1/sum(w^2) says how even the weights are, not how often a barrier was crossed.
"""
from __future__ import annotations

import functools
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import openmm
from openmm import app, unit

from . import _core
from .analysis import _number
from .copies import _check, _sideBySide, _Template
from .estimates import _pymbar
from .exchange import KB, ReplicaExchange
from .force import SpacetimeForce
from .sampling import _setPositions
from .surface import FreeEnergySurface
from .weightedsamples import LOW, WeightedSamples, errorBelow

__all__ = ["MetadynamicsSamples", "TemperatureSamples", "metadynamics", "temperatureExchange"]

#: Iterations of replica exchange between two checkpoints.
BLOCK = 50
#: Fewer samples of each temperature than this say nothing.
LEAST = 20


# ---- temperature exchange

@dataclass(repr=False)
class TemperatureSamples(WeightedSamples):
    """What :func:`temperatureExchange` leaves.

    Further attributes
    ------------------
    temperatures : ndarray [T]
        The ladder, K.
    ladderTemperature : ndarray [K]
        Where on the ladder each sample was drawn: an index into `temperatures`.
    potentialEnergy : ndarray [K]
        kJ/mol.
    acceptance : ndarray [T-1]
        Mean acceptance of swaps between neighbouring temperatures.
    roundTrips : ndarray [ladders, T]
        Ways from the lowest temperature to the highest and back that each replica has completed.
    """

    temperatures: np.ndarray
    ladderTemperature: np.ndarray
    potentialEnergy: np.ndarray
    acceptance: np.ndarray
    roundTrips: np.ndarray

    def summary(self) -> str:
        """A few lines of text: the ladder, acceptances, round trips and N_eff, of all samples and of those at the target temperature alone."""
        atTarget = np.count_nonzero(self.temperatures[self.ladderTemperature] == self.temperature)
        return "\n".join([
            f"{len(self.roundTrips)} ladder{'s' if len(self.roundTrips) > 1 else ''} of {len(self.temperatures)} temperatures, "
            + ", ".join(f"{T:.0f}" for T in self.temperatures)+f" K; {self.steps:,} steps in all",
            "acceptance of swaps between neighbours "+", ".join(f"{a:.2f}" for a in self.acceptance),
            f"round trips: {int(self.roundTrips.sum())} by {np.count_nonzero(self.roundTrips)} of {self.roundTrips.size} replicas",
            f"{len(self.x):,} samples, N_eff {self.nEff:,.0f} at {self.temperature:g} K"+(f" ({atTarget:,} of them were drawn there)" if atTarget else "")])


    def pooled(self, *exchanges: ReplicaExchange, discard: float = 0.1) -> WeightedSamples:
        r"""These samples together with those of replica exchange along curves, weighted for the same temperature by MBAR over all states.

        Temperature exchange fills the basins and leaves few samples on a barrier of 15 kT. Replicas that a curve holds there supply them, and since the state at s has the
        reduced energy :math:`\beta U - \eta(s) \cdot T`, they only need their U: where there were no samples between two basins, there are some, and their weights are right.

        Parameters
        ----------
        *exchanges : ReplicaExchange
            Of the same molecule and variables.
        discard : float
            Share of the iterations of each that is left out at the beginning.

        Returns
        -------
        WeightedSamples

        Raises
        ------
        ValueError
            No exchange; one of other variables; or too few iterations.
        """
        what = f"{type(self).__name__}.pooled"
        if not exchanges:
            raise ValueError(f"{what}: expected at least one ReplicaExchange")
        x, U, state, copy, steps = [self.x], [self.potentialEnergy], [self.ladderTemperature], [self.copy], self.steps
        T, eta = list(self.temperatures), [np.zeros(self.variables.numStatistics)]*len(self.temperatures)
        copies = int(self.copy.max())+1
        for exchange in exchanges:
            force, name = exchange.force, exchange.force.getParameterName()
            if force.getVariableNames() != self.variables.names:
                raise ValueError(f"{what}: expected an exchange of the variables {', '.join(self.variables.names)}, but got {', '.join(force.getVariableNames())}")
            history = exchange.history
            first = int(discard*len(exchange._rows))
            if len(exchange._rows)-first < LEAST:
                raise ValueError(f"{what}: expected an exchange of {LEAST} iterations or more to be kept, but got {len(exchange._rows)-first}")
            values = history["variables"][first:]
            own = np.array([force.getEta(each[name]) for each in exchange.states])
            # The energy without the bias, from the reduced energy in the first state.
            kT = KB*exchange.temperatures[0]
            x.append(values.reshape(-1, values.shape[-1]))
            U.append(kT*(history["reducedEnergy"][first:, :, 0].ravel()+self.variables.statistic(x[-1])@own[0]))
            state.append(len(T)+history["replicaStateIndex"][first:].ravel())
            # Blocks in time are as independent of each other as one run can be.
            copy.append(np.repeat(np.arange(len(values))*copies//len(values), values.shape[1]))
            T += list(exchange.temperatures)
            eta += list(own)
            steps += len(exchange._rows)*exchange.stepsPerIteration*len(exchange.states)
        x, U = np.concatenate(x), np.concatenate(U)
        reduced = (U-U.min())/(KB*np.append(T, self.temperature)[:, None])-np.vstack(eta+[np.zeros(self.variables.numStatistics)])@self.variables.statistic(x).T
        copy = np.concatenate(copy)
        order = np.argsort(copy, kind="stable")
        return WeightedSamples(x=x[order], logWeights=_mbar(reduced, np.concatenate(state))[order], copy=copy[order], variables=self.variables, temperature=self.temperature, steps=steps,
                               seconds=self.seconds)


@dataclass
class _Ladder:
    """All that a process needs to run one ladder."""

    template: _Template
    force: str
    states: List[dict]
    starts: List[Any]
    minimize: bool
    seed: int
    iterations: int
    stepsPerIteration: int
    equilibrationSteps: int
    discard: float
    directory: Optional[str]


def _runLadder(task: _Ladder, count: Callable[[int], Any]) -> Dict[str, Any]:
    def change(system: openmm.System) -> SpacetimeForce:
        return SpacetimeForce.cast(system.getForce(system.addForce(openmm.XmlSerializer.deserialize(task.force))))

    simulation, force = task.template.simulation(change, task.seed)
    context = simulation.context
    resume = task.directory is not None and (Path(task.directory)/"checkpoint.npz").exists()
    starts = []
    for start in task.starts:
        _setPositions(context, openmm.XmlSerializer.deserialize(start) if isinstance(start, str) else start)
        if task.minimize and not resume:
            # The force is there, but pushes nothing: eta is 0.
            simulation.minimizeEnergy()
        starts.append(context.getState(positions=True, parameters=True))
    sampler = ReplicaExchange(task.states, simulation, force, task.stepsPerIteration, starts=starts, seed=task.seed, equilibrationSteps=task.equilibrationSteps,
                              blockIterations=BLOCK, directory=task.directory, resume=resume)
    while sampler.currentIteration < task.iterations:
        sampler.simulate(min(BLOCK-sampler.currentIteration % BLOCK, task.iterations-sampler.currentIteration))
        count(sampler.currentIteration*task.stepsPerIteration*len(task.states))
    first = int(task.discard*task.iterations)
    report, history = sampler.report(task.discard), {name: x[first:task.iterations] for name, x in sampler.history.items()}
    # U from its reduced form in the first state, where it is least rounded.
    U = history["reducedEnergy"][:, :, 0]*KB*sampler.temperatures[0]
    return {"x": history["variables"], "U": U, "state": history["replicaStateIndex"], "acceptance": report.exchanged, "roundTrips": report.roundTrips}


def _mbar(u: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Logarithms [K] of the weights for the last of the reduced energies u [S+1, K], of samples drawn in state [K] of the S before it; they add up to 1."""
    counts = np.append(np.bincount(state, minlength=len(u)-1), 0)
    solution = _pymbar().MBAR(u[:, np.argsort(state, kind="stable")], counts, relative_tolerance=1e-10)
    occupied = np.flatnonzero(counts)
    logW = -u[-1]-np.logaddexp.reduce((np.log(counts[occupied])+solution.f_k[occupied])[:, None]-u[occupied], axis=0)
    return logW-np.logaddexp.reduce(logW)


def temperatureExchange(simulation: app.Simulation, variables: _core.Variables, temperatures: Sequence[Any] = tuple(np.geomspace(300, 600, 7)), steps: int = 500_000,
                        target: Any = None, *, stepsPerIteration: int = 250, ladders: int = 2, starts: Optional[Sequence[Any]] = None, minimize: bool = True,
                        equilibrationSteps: int = 5000, discard: float = 0.1, seed: int = 1, directory: Union[None, str, os.PathLike] = None, resume: bool = False,
                        processes: int = 1, progress: Optional[Callable[[int, int], Any]] = None) -> TemperatureSamples:
    """Samples of collective variables by replica exchange in temperature, weighted for one temperature by MBAR over all of them.

    Each ladder is a :class:`ReplicaExchange` with one replica a temperature, independent of the other ladders.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        A template (System, Integrator, platform, positions), left as it is. The Integrator must be a thermostat, as LangevinMiddleIntegrator is.
    variables : Variables
    temperatures : sequence of float or Quantity
        The ladder in K, at least two, in rising order. Neighbours should exchange with a probability of 0.2 or more, which the summary tells.
    steps : int
        Time steps of each replica, so that len(temperatures) times `ladders` times as many are run in all.
    target : float or Quantity, optional
        The temperature of the weights, not outside the ladder; the lowest when left out.
    stepsPerIteration : int
        Time steps between two attempts to exchange; a sample is taken of each replica before each.
    ladders : int
        Independent copies. Their difference is the error of whatever is estimated.
    starts : sequence, optional
        openmm.State objects or positions, the structures that replicas start from in turn, each ladder with the next one: pass those of both states. The simulation's
        positions when left out.
    minimize : bool
        Minimise the energy of the starts.
    equilibrationSteps : int
        Time steps of each replica before the first iteration.
    discard : float
        Share of the iterations that is left out at the beginning.
    seed : int
        The samples depend on it and on `ladders`, not on `processes`.
    directory : path, optional
        Where each ladder keeps its history and checkpoints. Nothing is written when left out.
    resume : bool
        Go on with the run in `directory`, where there is one, which may be continued beyond its `steps`. On platforms that repeat themselves, as Reference does, the result
        is that of a run without interruption.
    processes : int
        Ladders run side by side.
    progress : callable(done, total), optional
        Numbers of time steps.

    Returns
    -------
    TemperatureSamples

    Raises
    ------
    ValueError
        Fewer than two temperatures, or not rising; a target outside the ladder; an Integrator without a temperature, or a barostat; fewer than 20 iterations to be kept; a variable of
        atoms that are not there; positions that are not finite; or a directory with another run.
    FileExistsError
        `directory` holds a run, and `resume` was not given.

    Warns
    -----
    UserWarning
        Fewer than 30 effective samples; a pair of temperatures that hardly exchanges; or no round trip.
    """
    what = "temperatureExchange"
    T = np.array([_number(t) for t in temperatures], dtype=float)
    if T.ndim != 1 or len(T) < 2 or not np.all(np.isfinite(T)) or T.min() <= 0 or np.any(np.diff(T) <= 0):
        raise ValueError(f"{what}: expected at least two temperatures in K in rising order, but got {', '.join(f'{t:g}' for t in T.ravel()) or 'none'}")
    target = T[0] if target is None else _number(target)
    if not T[0] <= target <= T[-1]:
        raise ValueError(f"{what}: the target, {target:g} K, lies outside the ladder of {T[0]:g} to {T[-1]:g} K, where weights would be an extrapolation; add a temperature")
    _check(what, simulation, variables, {"steps": (steps, 1), "stepsPerIteration": (stepsPerIteration, 1), "ladders": (ladders, 1), "processes": (processes, 1),
                                         "equilibrationSteps": (equilibrationSteps, 0), "seed": (seed, 0)})
    if not 0 <= discard < 1:
        raise ValueError(f"{what}: expected to discard a share in [0, 1), but got {discard}")
    iterations = int(steps)//int(stepsPerIteration)
    if iterations-int(discard*iterations) < LEAST:
        raise ValueError(f"{what}: {steps} steps are {iterations} iterations of {stepsPerIteration}, of which {iterations-int(discard*iterations)} are kept; expected {LEAST} or more")
    if starts is not None and len(starts) == 0:
        raise ValueError(f"{what}: starts is empty: expected States or positions")
    system, integrator = simulation.system, simulation.context.getIntegrator()
    if not hasattr(integrator, "setTemperature") and not any(isinstance(f, openmm.AndersenThermostat) for f in system.getForces()):
        raise ValueError(f"{what}: the integrator, {type(integrator).__name__}, has no temperature; take a LangevinMiddleIntegrator")
    # A curve that goes nowhere: it measures the variables and pushes nothing.
    width = variables.numStatistics
    force = SpacetimeForce(s=[0, 1], eta=np.zeros((2, width)), variables=variables, temperature=T[0])
    states = [{"spacetime_s": 0.0, "spacetime_kT": float(KB*t), "temperature": float(t)} for t in T]
    template = _Template.of(simulation)
    given = [openmm.XmlSerializer.serialize(s) if isinstance(s, openmm.State) else np.array(s.value_in_unit(unit.nanometer) if unit.is_quantity(s) else s, dtype=float)
             for s in starts] if starts is not None else [template.state]
    for i, start in enumerate(given):
        if not isinstance(start, str) and (start.shape != (system.getNumParticles(), 3) or not np.all(np.isfinite(start))):
            raise ValueError(f"{what}: expected starts[{i}] to be finite positions of shape [{system.getNumParticles()}, 3], but got shape {list(start.shape)}")
    tasks = []
    for k in range(int(ladders)):
        folder = None if directory is None else Path(directory)/f"ladder-{k}"
        if folder is not None and (folder/"checkpoint.npz").exists() and not resume:
            raise FileExistsError(f"{what}: {directory} holds an earlier run; pass resume=True to go on with it, or choose another directory")
        own = int(np.random.SeedSequence([int(seed), k]).generate_state(1)[0] % 0x7FFFFFFE+1)
        tasks.append(_Ladder(template, openmm.XmlSerializer.serialize(force), states, given[k % len(given):]+given[:k % len(given)], bool(minimize), own, iterations,
                             int(stepsPerIteration), int(equilibrationSteps), float(discard), None if folder is None else str(folder)))
    begin = time.perf_counter()
    total = iterations*int(stepsPerIteration)*len(T)*int(ladders)
    results = _sideBySide(what, _runLadder, tasks, total, int(processes), progress)
    pooled = {name: np.concatenate([r[name].reshape((-1,)+r[name].shape[2:]) for r in results]) for name in ("x", "U", "state")}
    samples = TemperatureSamples(
        x=pooled["x"], logWeights=_mbar((pooled["U"]-pooled["U"].min())/(KB*np.append(T, target)[:, None]), pooled["state"]), copy=np.repeat(np.arange(len(results)), [r["U"].size for r in results]), variables=variables,
        temperature=float(target), steps=total, seconds=time.perf_counter()-begin, temperatures=T, ladderTemperature=pooled["state"], potentialEnergy=pooled["U"],
        acceptance=np.mean([r["acceptance"] for r in results], axis=0), roundTrips=np.array([r["roundTrips"] for r in results]))
    if samples.nEff < _core.MIN_N_EFF:
        warnings.warn(f"{what}: only {samples.nEff:.0f} effective samples at {target:g} K, at least {_core.MIN_N_EFF:.0f} are needed; run longer", stacklevel=2)
    worst = int(np.argmin(samples.acceptance))
    if samples.acceptance[worst] < 0.05:
        warnings.warn(f"{what}: {T[worst]:g} K and {T[worst+1]:g} K exchange with a probability of {samples.acceptance[worst]:.3f} only: put temperatures between them", stacklevel=2)
    elif samples.roundTrips.sum() == 0:
        warnings.warn(f"{what}: no replica went from {T[0]:g} K to {T[-1]:g} K and back, so the weights rest on how the replicas were started; run longer", stacklevel=2)
    return samples


# ---- metadynamics

@dataclass(repr=False)
class MetadynamicsSamples(WeightedSamples):
    """What :func:`metadynamics` leaves.

    Further attributes
    ------------------
    bias : ndarray [walkers, G, ...]
        Final bias of each walker in kJ/mol, one axis a torsion; index i belongs to -pi + 2 pi i/G.
    biasFactor : float
    """

    bias: np.ndarray
    biasFactor: float

    @functools.cached_property
    def fromBias(self) -> FreeEnergySurface:
        """F of two torsions from the mean of the walkers' bias potentials: an estimate that uses no samples."""
        return FreeEnergySurface.fromBias(self.bias.mean(axis=0), self.biasFactor, self.variables.names)

    def quality(self, below: float = LOW) -> Dict[str, float]:
        """Errors in kJ/mol of the surface of two torsions, over the region where F is under `below`.

        Returns
        -------
        dict
            `walkers`: root mean square error from the walkers' difference; `bias`: root mean square difference between F from
            the samples and F from the bias, a constant apart; `area`: share of the torus that the region covers.
        """
        inside = (self.surface.values < below) & self.surface.sampled
        grid = np.stack(np.meshgrid(*self.surface.axes, indexing="ij"), axis=-1)
        difference = (self.fromBias(grid)-self.surface.values)[inside]
        return {"walkers": errorBelow(self.surface, below), "bias": float(difference.std()), "area": float(inside.mean())}


@dataclass
class _Walker:
    """All that a process needs to run one walker."""

    template: _Template
    atoms: List[List[Union[int, List[int]]]]
    temperature: float
    steps: int
    height: float
    biasFactor: float
    width: float
    gridWidth: int
    depositEvery: int
    sampleEvery: int
    seed: int


def _runWalker(task: _Walker, count: Callable[[int], Any]) -> Tuple[np.ndarray, np.ndarray]:
    def change(system: openmm.System) -> app.Metadynamics:
        variables = []
        for atoms in task.atoms:
            torsion = openmm.CustomTorsionForce("theta")
            torsion.addTorsion(*atoms)
            variables.append(app.BiasVariable(torsion, -np.pi, np.pi, task.width, periodic=True, gridWidth=task.gridWidth))
        return app.Metadynamics(system, variables, task.temperature, task.biasFactor, task.height, task.depositEvery)

    simulation, meta = task.template.simulation(change, task.seed)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(task.temperature, task.seed)
    samples = np.empty((task.steps//task.sampleEvery, len(task.atoms)))
    for i in range(len(samples)):
        meta.step(simulation, task.sampleEvery)
        samples[i] = meta.getCollectiveVariables(simulation)
        count((i+1)*task.sampleEvery)
    # getFreeEnergy() is -biasFactor/(biasFactor - 1) times the bias, its axes are in reverse, and the last point of each is the first again.
    bias = -meta.getFreeEnergy().value_in_unit(unit.kilojoules_per_mole)*(task.biasFactor-1)/task.biasFactor
    return samples, bias.T[(slice(-1),)*len(task.atoms)].copy()


def metadynamics(simulation: app.Simulation, variables: _core.Variables, steps: int = 3_500_000, *, height: Any = 1.5, biasFactor: float = 12.0, width: Any = 0.35, gridWidth: int = 61,
                 depositEvery: int = 250, sampleEvery: int = 50, walkers: int = 2, discard: float = 0.15, seed: int = 1, processes: int = 1,
                 progress: Optional[Callable[[int, int], Any]] = None) -> MetadynamicsSamples:
    """Samples of one to three torsions by well-tempered metadynamics (openmm.app.Metadynamics), one after the other or side by side in independent walkers.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        A template (System, Integrator, platform, positions), left as it is. The temperature is its Integrator's. Walkers start from its positions, minimised.
    variables : Variables
        One to three torsions of single atoms.
    steps : int
        Time steps of each walker.
    height, width : float or Quantity
        Of the Gaussians, kJ/mol (at the beginning) and rad (the same for all torsions).
    biasFactor : float
        (T + dT)/T, above 1: the height of barriers over about that many kT is what the bias levels.
    gridWidth : int
        Points of the bias a torsion, the last of which is the first again.
    depositEvery, sampleEvery : int
        Time steps between two Gaussians, and between two samples.
    walkers : int
        Independent copies, all of which count equally. Their difference is the error of whatever is estimated.
    discard : float
        Share of each walker that is left out at the beginning, while its bias still changes much.
    seed : int
        Walker i uses seed + i. The result depends on `steps`, `seed` and `walkers`, not on `processes`.
    processes : int
        Walkers run side by side.
    progress : callable(done, total), optional
        Numbers of time steps.

    Returns
    -------
    MetadynamicsSamples

    Raises
    ------
    ValueError
        Other variables than one to three torsions of single atoms, of which all are there; an Integrator without a temperature, or a barostat; numbers out of range; fewer
        than 20 samples to be kept; or positions that are not finite.
    """
    what = "metadynamics"
    kinds = [v.kind for v in variables]
    if not 1 <= len(kinds) <= 3 or set(kinds) != {"torsion"} or any(isinstance(a, (list, tuple)) for v in variables for a in v.atoms):
        raise ValueError(f"{what}: expected one to three torsions of single atoms, but got {len(kinds)} variables ({', '.join(kinds)}); temperatureExchange takes any variables")
    _check(what, simulation, variables, {"steps": (steps, 1), "gridWidth": (gridWidth, 9), "depositEvery": (depositEvery, 1), "sampleEvery": (sampleEvery, 1), "walkers": (walkers, 1),
                                         "processes": (processes, 1), "seed": (seed, 0)})
    height, width = _number(height), _number(width)
    if not (height > 0 and width > 0 and biasFactor > 1):
        raise ValueError(f"{what}: expected a positive height and width and a biasFactor above 1, but got {height}, {width} and {biasFactor}")
    kept = int(steps)//int(sampleEvery)
    if not 0 <= discard < 1 or kept-int(discard*kept) < LEAST:
        raise ValueError(f"{what}: {steps} steps give {kept} samples a walker, of which a share of {discard} is left out; expected {LEAST} or more to be kept")
    integrator = simulation.context.getIntegrator()
    if not hasattr(integrator, "getTemperature"):
        raise ValueError(f"{what}: the integrator, {type(integrator).__name__}, has no temperature; take a LangevinMiddleIntegrator")
    temperature = _number(integrator.getTemperature())
    template = _Template.of(simulation)
    tasks = [_Walker(template, [list(v.atoms) for v in variables], temperature, int(steps), height, float(biasFactor), width, int(gridWidth), int(depositEvery), int(sampleEvery),
                     int(seed)+i) for i in range(int(walkers))]
    begin = time.perf_counter()
    results = _sideBySide(what, _runWalker, tasks, int(steps)*int(walkers), int(processes), progress)
    parts = [(x[int(discard*len(x)):], bias) for x, bias in results]
    logWeights = np.concatenate([_biasAt(bias, x)/(KB*temperature) for x, bias in parts])
    copy = np.repeat(np.arange(len(parts)), [len(x) for x, _ in parts])
    for i in range(len(parts)):
        logWeights[copy == i] -= np.logaddexp.reduce(logWeights[copy == i])+np.log(len(parts))
    return MetadynamicsSamples(x=np.concatenate([x for x, _ in parts]), logWeights=logWeights, copy=copy, variables=variables, temperature=temperature,
                               steps=kept*int(sampleEvery)*len(parts), seconds=time.perf_counter()-begin, bias=np.array([bias for _, bias in parts]), biasFactor=float(biasFactor))


def _biasAt(bias: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bias [K] of the torsions x [K, n] from its values on the grid, by periodic cubic splines."""
    from scipy import ndimage

    at = (x+np.pi)*np.array(bias.shape)/(2*np.pi)
    return ndimage.map_coordinates(ndimage.spline_filter(bias, order=3, mode="grid-wrap"), at.T, order=3, mode="grid-wrap", prefilter=False)
