# SPDX-License-Identifier: MIT
"""Unbiased path sampling by OpenPathSampling, started from driven paths, and its paths read back.

A driven path tells where molecules cross, not how: its speed is the driver's, and its frames are drawn from biased distributions. Transition path sampling (Dellago, Bolhuis,
Csajka and Chandler, J. Chem. Phys. 108, 1964, 1998) samples the paths of the unbiased dynamics, but needs one path to start from. OpenPathSampling (Swenson, Prinz, Noe,
Chodera and Bolhuis, J. Chem. Theory Comput. 15, 813, 2019) does it; as it needs numpy below 2 it runs in an environment of its own, and what passes between the two are files.
"""
from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Optional, Union

import numpy as np
import openmm
from openmm import app, unit

from . import ensemble
from .committors import _prepare
from .force import SpacetimeForce
from .sampling import PathEnsemble, PathRecord
from .states import StateRegion, _crossing, _label
from .transitionframes import TransitionFrames

__all__ = ["UnbiasedPath", "UnbiasedPaths", "exportToOpenPathSampling", "importFromOpenPathSampling"]

FORMAT, VERSION = "spacetime-ops", 1
#: Kinds of variables that run_ops.py can compute, and what it reads; see opsrun.Variables.
KINDS = ("torsion", "angle", "distance", "coordinate")
WRITTEN = ("system.xml", "integrator.xml", "topology.pdb", "initial.dcd", "states.json", "run_ops.py", "summary.json", "paths.npz", "accepted-*.dcd", "accepted-*.xtc", ".tmp-*")


def exportToOpenPathSampling(directory: Union[str, os.PathLike], simulation: app.Simulation, paths: Union[PathEnsemble, PathRecord], stateA: StateRegion,
                             stateB: StateRegion, force: SpacetimeForce, stepsPerFrame: int = 10, maxFrames: int = 2000, overwrite: bool = False,
                             transitionFrames: Optional[TransitionFrames] = None, window: int = 50) -> Path:
    """Write what unbiased two-way shooting in OpenPathSampling needs, and the script that runs it.

    The directory gets system.xml (the System without any SpacetimeForce), integrator.xml, topology.pdb, initial.dcd (the frames of a driven path from the last in A to
    the first in B), states.json and run_ops.py. Run in an environment of its own, for example::

        python -m venv ops && ops/bin/pip install 'openpathsampling>=1.7,<1.8' 'numpy<2' 'openmm>=8.6.1,<8.7' six
        ops/bin/python DIRECTORY/run_ops.py --trials 200 --seed 1

    and read back with :func:`importFromOpenPathSampling`.

    Parameters
    ----------
    directory : path
        Made where missing.
    simulation : openmm.app.Simulation
        Its System must hold `force`, and its integrator is the dynamics.
    paths : PathEnsemble or PathRecord
        Of an ensemble the first path is taken that leads from A to B.
    stateA, stateB : StateRegion
        Functions cannot be handed over.
    force : SpacetimeForce
        Its variables say what the states are. Torsions, angles, distances and coordinates of single atoms can be handed over.
    stepsPerFrame : int
        Time steps between two frames of the unbiased paths. States are looked at every so often.
    maxFrames : int
        Longer trials are rejected.
    overwrite : bool
        Replace an earlier export, and the paths that were made from it.
    transitionFrames : TransitionFrames, optional
        Frames of `paths` near p = 1/2, as :func:`transitionStates` finds them: the path of the first of them is taken, and of it only `window` frames around that one, and the
        ends. Far fewer trials then fail before the first genuine path is there: a driven path waits mostly where nothing that is shot gets anywhere.
    window : int

    Returns
    -------
    Path
        The script.

    Raises
    ------
    ValueError
        The states overlap or are functions; a variable cannot be handed over; no path leads from A to B, or there are no frames along it.
    FileExistsError
        The directory is not empty, and `overwrite` was not given.
    """
    what, directory = "exportToOpenPathSampling", Path(directory)
    template, states = _prepare(what, simulation, force, stateA, stateB, stepsPerFrame=(stepsPerFrame, 1), maxFrames=(maxFrames, 3), window=(window, 1))
    regions = [state for state in states if isinstance(state, StateRegion)]
    if len(regions) < len(states):
        raise ValueError(f"{what}: expected both states to be StateRegions; functions cannot be handed over")
    variables = []
    for i in range(force.getNumVariables()):
        v = force._describeVariable(i)
        if v["kind"] not in KINDS or any(not isinstance(atom, int) for atom in v["atoms"]):
            raise ValueError(f"{what}: the variable '{v['name']}' is a {v['kind']}"+(" of centroids" if v["kind"] in KINDS else "")
                             + f"; expected one of {', '.join(KINDS)} of single atoms, which is what mdtraj computes on the other side")
        variables.append({name: v[name] for name in ("name", "kind", "atoms", "axis", "period")})
    records = [paths] if isinstance(paths, PathRecord) else paths
    center = None
    if transitionFrames is not None:
        center = int(transitionFrames.frame[0])
        records = [record for record in records if record.index == transitionFrames.path[0]]
        if not records:
            raise ValueError(f"{what}: the first of the transition frames is of path {transitionFrames.path[0]}, which is not among the paths given")
    record, frames = _initialPath(what, records, states, center, window)
    if directory.exists() and any(directory.iterdir()):
        if not overwrite:
            raise FileExistsError(f"{what}: {directory} is not empty; pass overwrite=True to replace an earlier export, or choose another directory")
        for pattern in WRITTEN:
            for old in directory.glob(pattern):
                old.unlink()
    directory.mkdir(parents=True, exist_ok=True)
    system = openmm.XmlSerializer.deserialize(template["system"])
    for i in reversed(range(system.getNumForces())):
        if SpacetimeForce.isinstance(system.getForce(i)):
            system.removeForce(i)
    pdb = io.StringIO()
    topology = simulation.topology
    app.PDBFile.writeFile(topology, simulation.context.getState(positions=True).getPositions(), pdb, keepIds=True)
    texts = {"system.xml": openmm.XmlSerializer.serialize(system), "integrator.xml": template["integrator"], "topology.pdb": pdb.getvalue(),
             "run_ops.py": Path(__file__).with_name("opsrun.py").read_text(encoding="utf-8"),
             "states.json": json.dumps({"format": FORMAT, "version": VERSION, "variables": variables, "temperature_K": template["temperature"], "platform": template["platform"],
                                        "states": {name: {"centers": state.centers.tolist(), "radii": state.radii.tolist()} for name, state in zip("AB", regions)},
                                        "periodicBox": bool(system.usesPeriodicBoundaryConditions()), "stepsPerFrame": int(stepsPerFrame), "maxFrames": int(maxFrames),
                                        "initial": {"path": record.index, "frames": [int(frames[0]), int(frames[-1])]}}, indent=1)}
    for name, text in texts.items():
        ensemble.replace(directory/name, lambda file: file.write(text.encode()))
    loaded = [ensemble.readFrame(record.trajectory, str(directory/"topology.pdb"), int(frame)) for frame in frames]
    place = ensemble.temporary(directory/"initial.dcd")
    try:
        with open(place, "wb+") as file:
            dcd = app.DCDFile(file, topology, simulation.integrator.getStepSize())
            for positions, box in loaded:
                dcd.writeModel(positions*unit.nanometer, periodicBoxVectors=None if box is None else box*unit.nanometer)
        ensemble.publish(place, directory/"initial.dcd")
    finally:
        place.unlink(missing_ok=True)
    return directory/"run_ops.py"


def _initialPath(what: str, records: Any, states: Any, center: Optional[int], window: int) -> Any:
    """The first record that leads from A to B, and its frames, in that order; with a `center` those around it and the ends."""
    crossed = False
    for record in records:
        label = _label(what, states, record.variables[record.frameSteps])
        crossing = _crossing(label)
        if crossing is not None:
            crossed = True
            first, last = crossing
            between = np.arange(first+1, last)
            if center is not None:
                if not first < center < last:
                    raise ValueError(f"{what}: frame {center} of path {record.index} does not lie between the states")
                between = between[np.abs(between-center) <= window//2]
            if len(between) > 0:
                frames = np.concatenate([[first], between, [last]])
                return record, frames if label[first] < 0 else frames[::-1]
    raise ValueError(f"{what}: "+("no frames were written between the states; run PathSampler with frameStride, for example frameStride=10" if crossed else
                                  "no path has a frame in A and one in B; are the states where the paths start and end, and were frames written along them (frameStride)?"))


@dataclass
class UnbiasedPath:
    """A path of the unbiased dynamics.

    Attributes
    ----------
    index : int
    variables : ndarray [frames, n]
        Raw values (rad, nm), from A to B.
    weight : int
        For how many trials it was the current path.
    trajectory : str
        DCD or XTC file.
    """

    index: int
    variables: np.ndarray = field(repr=False)
    weight: int
    trajectory: str


class UnbiasedPaths(SequenceABC):
    """The paths that run_ops.py has accepted: a sequence of :class:`UnbiasedPath`.

    Averages over path space take each with its weight. Paths that follow each other share what they come from, so there are fewer independent ones.

    Attributes
    ----------
    directory, topology : str
    names : list of str
        Of the variables.
    periods : ndarray [n]
        0 for variables that are not periodic.
    states : tuple of StateRegion
    weights : ndarray of int [k]
    lengths : ndarray of int [k]
        Frames, those in the states included.
    trials, accepted : int
        Trial moves after the first accepted one, and how many of them were accepted.
    firstAccepted : int
        How many trials from the driven path it took to get the first genuine path.
    decorrelated : int
        Paths without a frame in common.
    timePerFrame : float
        In ps.
    seed : int
    """

    def __init__(self, directory: Union[str, os.PathLike]) -> None:
        directory = Path(directory)
        if not (directory/"summary.json").exists():
            raise FileNotFoundError(f"importFromOpenPathSampling: {directory} has no summary.json; has run_ops.py run there?")
        summary, described = (json.loads((directory/name).read_text(encoding="utf-8")) for name in ("summary.json", "states.json"))
        for content, name in ((summary, "summary.json"), (described, "states.json")):
            if (content.get("format"), content.get("version")) != (FORMAT, VERSION):
                raise ValueError(f"importFromOpenPathSampling: {directory/name} has format {content.get('format')!r}, version {content.get('version')!r}; "
                                 f"expected {FORMAT!r}, version {VERSION}")
        self.directory, self.topology = str(directory), str(directory/"topology.pdb")
        self.names: List[str] = [v["name"] for v in described["variables"]]
        self.periods = np.array([v["period"] for v in described["variables"]], dtype=float)
        self.states = tuple(StateRegion(described["states"][name]["centers"], described["states"][name]["radii"], periods=self.periods, name=name) for name in "AB")
        self.trials, self.accepted, self.firstAccepted = summary["trials"], summary["accepted"], summary["firstAccepted"]
        self.decorrelated, self.timePerFrame, self.seed = summary["decorrelated"], summary["timePerFrame_ps"], summary["seed"]
        with np.load(directory/"paths.npz") as data:
            self.lengths, self.weights = data["lengths"], data["weights"]
            pieces = np.split(data["variables"], np.cumsum(self.lengths)[:-1])
        self._paths = [UnbiasedPath(i, c, int(w), str(directory/f"accepted-{i:04d}.{summary['trajectoryFormat']}")) for i, (c, w) in enumerate(zip(pieces, self.weights))]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, i):
        return self._paths[i]

    @property
    def acceptance(self) -> float:
        """Share of the trials after the first accepted one that were accepted."""
        return self.accepted/self.trials if self.trials else float("nan")

    def summary(self) -> str:
        """A few lines of text."""
        mean = np.average(self.lengths, weights=self.weights)
        spread = np.sqrt(np.average((self.lengths-mean)**2, weights=self.weights))
        return (f"{len(self)} unbiased paths; the first one was trial {self.firstAccepted} from the driven path\n"
                f"{self.accepted} of {self.trials} trials since accepted ({self.acceptance:.0%}); {self.decorrelated} paths without a frame in common\n"
                f"length {mean:.0f} ± {spread:.0f} frames (mean and standard deviation over trials), {mean*self.timePerFrame:.3g} ps")

    def __repr__(self) -> str:
        return f"UnbiasedPaths({self.directory!r}: {len(self)} paths, {', '.join(self.names)})"


def importFromOpenPathSampling(directory: Union[str, os.PathLike]) -> UnbiasedPaths:
    """Read the paths that run_ops.py has accepted.

    Raises
    ------
    FileNotFoundError
        run_ops.py has not run there.
    ValueError
        The files are of another version.
    """
    return UnbiasedPaths(directory)
