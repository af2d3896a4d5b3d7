# SPDX-License-Identifier: MIT
"""What a PathSampler leaves in a directory: names and formats of the files, and the directory read back."""
from __future__ import annotations

import csv
import io
import json
import math
import os
import socket
from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

import numpy as np
from openmm import unit
from openmm.app.internal.unitcell import computePeriodicBoxVectors

__all__ = ["PathEnsemble", "PathFailure", "PathRecord"]

FORMAT, VERSION = "spacetime-paths", 2
#: Everything that belongs to a run, and nothing else.
PATTERNS = ("path-*.npz", "path-*.dcd", "path-*.xtc", "path-*.csv", "path-*.failed.json", ".tmp-*", "index.csv", "paths.csv", "ensemble.json", "topology.pdb")
#: A path is a hit when it ends within this distance (rad) of the state at the end of the curve.
HIT_RADIUS = 0.75

_SCALARS = ("index", "seed", "work", "gradientEvaluations", "energyEvaluations", "seconds", "highestFreeEnergy", "highestPotentialEnergy", "hit")
_ARRAYS = ("s", "variables", "workProfile", "potentialEnergy", "energySteps", "frameSteps", "finalVariables", "frameEnergy", "frameBias")


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
    frameEnergy, frameBias : ndarray [n_f]
        Potential energy without the bias, and the bias, of the frames, kJ/mol.
    finalVariables : ndarray [n]
        Raw values after the equilibration at the end.
    gradientEvaluations, energyEvaluations : int
        Force evaluations, and further evaluations of the energy alone, equilibration included.
    seconds : float
        Wall time.
    highestFreeEnergy : float
        Highest free energy over every step, kJ/mol; NaN where the sampler had no surface.
    highestPotentialEnergy : float
        Highest of `potentialEnergy` and `frameEnergy`, kJ/mol.
    hit : bool or None
        Whether the last step lies within 0.75 rad of the state at the end of the curve; None unless all variables are torsions.
    trajectory : str
        Path of the DCD or XTC file.
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
    frameEnergy: np.ndarray = field(repr=False)
    frameBias: np.ndarray = field(repr=False)
    finalVariables: np.ndarray
    gradientEvaluations: int
    energyEvaluations: int
    seconds: float
    highestFreeEnergy: float
    highestPotentialEnergy: float
    hit: Optional[bool]
    trajectory: str


@dataclass
class PathFailure:
    """A path that could not be finished.

    Attributes
    ----------
    index, seed : int
    step : int
        Time steps done, those before the curve included.
    s : float
        Where on the curve it was.
    message : str
        What went wrong.
    seconds : float
        Wall time.
    """

    index: int
    seed: int
    step: int
    s: float
    message: str
    seconds: float


class PathEnsemble(SequenceABC):
    """The paths in a directory, read when they are asked for: a sequence of :class:`PathRecord`. Failed paths are not among them.

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
    direction : str
        'forward' or 'backward'.
    settings : dict
        What the sampler was told.
    failures : list of PathFailure
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
        self.direction: str = self.settings["direction"]
        self.failures = [PathFailure(**json.loads(p.read_text(encoding="utf-8"))) for p in _sorted(directory, "path-*.failed.json")]
        self._files = _sorted(directory, "path-*.npz")
        self._records: Dict[int, PathRecord] = {}

    @classmethod
    def load(cls, directory: Union[str, os.PathLike]) -> PathEnsemble:
        """Read a directory that :meth:`PathSampler.run` or ``spacetime sample`` has written.

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
                arrays = {name: data[name] for name in _ARRAYS}
                scalars = _readScalars(data)
            self._records[i] = PathRecord(**scalars, **arrays, trajectory=str(self._files[i].with_suffix("."+self.settings["format"])))
        return self._records[i]

    def frame(self, path: int, frame: int = -1) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Positions [N, 3] and box vectors [3, 3] (None without a box), in nm, of one frame of one path; by default the last.

        Raises
        ------
        IndexError
            There is no such path or frame.
        """
        record = self[path]
        return readFrame(record.trajectory, self.topology, range(len(record.frameSteps))[frame])

    def summary(self) -> str:
        """A few lines of text: how many paths, work, hits, highest free and potential energies, and over which steps they were taken."""
        rows = [_scalars(path) for path in self._files]
        lines = [f"{len(rows)} paths of {self.steps} steps, {self.direction}"+(f"; {len(self.failures)} failed" if self.failures else "")]

        def mean(name: str) -> str:
            x = np.array([row[name] for row in rows])
            return f"{x.mean():.1f} ± {x.std(ddof=1)/np.sqrt(len(x)) if len(x) > 1 else np.nan:.1f} kJ/mol"

        if rows:
            lines.append(f"work {mean('work')} (mean ± standard error)")
            hits = [row["hit"] for row in rows if row["hit"] is not None]
            if hits:
                lines.append(f"hits {sum(hits)} of {len(hits)} (last step within {HIT_RADIUS:g} rad of the state at the end)")
            if np.isfinite(rows[0]["highestFreeEnergy"]):
                lines.append(f"highest free energy {mean('highestFreeEnergy')} (every step)")
            every = self.settings["energyStride"]
            lines.append(f"highest potential energy {mean('highestPotentialEnergy')} ("
                         + ("every step)" if every == 1 else f"every {every} steps and at the frames: a lower bound)" if every else "at the frames only: a lower bound)"))
        return "\n".join(lines)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"PathEnsemble({self.directory!r}: {len(self)} paths of {self.steps} steps{failed}, {', '.join(self.names)})"


def _readDcdFrame(path: Union[str, os.PathLike], frame: int) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """One frame of a DCD file as OpenMM writes it, without a look at the others: mdtraj opens the whole file, and prints two lines each time."""
    data = np.memmap(path, dtype=np.uint8, mode="r")

    def integer(at: int) -> int:
        return int(np.frombuffer(data, "<i4", 1, at)[0])

    if integer(0) != 84 or bytes(data[4:8]) != b"CORD":
        raise ValueError(f"PathEnsemble.frame: {path} is not a DCD file")
    begin = 112+integer(92)
    count, cell = integer(begin-8), 56 if integer(48) else 0
    block = 4*count+8
    at = begin+frame*(cell+3*block)
    box = None
    if cell:
        a, cosGamma, b, cosBeta, cosAlpha, c = np.frombuffer(data, "<f8", 6, at+4)
        box = np.array(computePeriodicBoxVectors(a/10, b/10, c/10, *(math.acos(x) for x in (cosAlpha, cosBeta, cosGamma))).value_in_unit(unit.nanometer))
    return np.stack([np.frombuffer(data, "<f4", count, at+cell+4+k*block) for k in range(3)], axis=1).astype(float)/10, box


def readFrame(trajectory: str, topology: str, frame: int) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Positions [N, 3] and box [3, 3] or None (nm) of a frame of a DCD or XTC file."""
    if trajectory.endswith(".dcd"):
        return _readDcdFrame(trajectory, frame)
    import mdtraj

    loaded = mdtraj.load_frame(trajectory, frame, top=topology)
    return loaded.xyz[0].astype(float), None if loaded.unitcell_vectors is None else loaded.unitcell_vectors[0].astype(float)


def _sorted(directory: Union[str, os.PathLike], pattern: str) -> List[Path]:
    """In the order of the paths, also beyond 9999."""
    return sorted(Path(directory).glob(pattern), key=lambda path: (len(path.name), path.name))


def _readScalars(data: Any) -> Dict[str, Any]:
    scalars = {name: data[name].item() for name in _SCALARS}
    scalars["hit"] = None if scalars["hit"] < 0 else bool(scalars["hit"])
    return scalars


def _scalars(path: Path) -> Dict[str, Any]:
    with np.load(path) as data:
        return {**_readScalars(data), "finalVariables": data["finalVariables"]}


def stem(directory: Path, index: int) -> Path:
    """Path of a path's files without what tells them apart."""
    return directory/f"path-{index:04d}"


def temporary(path: Path) -> Path:
    """Where a file is written before it gets its name. Nobody else writes there, on whatever machine."""
    return path.with_name(f".tmp-{socket.gethostname()}-{os.getpid()}-{path.name}")


def publish(written: Path, path: Path) -> None:
    """Give a file its name once its bytes are on the disk, so that it is there whole or not at all, even after a power cut."""
    with open(written, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(written, path)


def replace(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file so that it is there whole or not at all."""
    place = temporary(path)
    try:
        with open(place, "wb") as file:
            write(file)
        publish(place, path)
    except BaseException as e:
        place.unlink(missing_ok=True)
        if isinstance(e, OSError) and e.filename in (None, str(place)):
            raise OSError(e.errno, e.strerror, str(path)) from e
        raise


def _writeCsv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    def write(file: Any) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        # float() because numpy prints its own numbers with their type.
        csv.writer(text, lineterminator="\n").writerows([repr(float(x)) if isinstance(x, (float, np.floating)) else x for x in row] for row in rows)
        text.flush()
        text.detach()

    replace(path, write)


def frameColumns(names: List[str]) -> List[str]:
    return ["path", "frame", "step", "s", *names, "U", "U_bias", "work", "F", "state", "seed"]


def writeFrameIndex(path: Path, record: Dict[str, Any], names: List[str], stepsPerMove: int, F: Optional[np.ndarray]) -> None:
    """The rows of one path in the index of frames, with a header of their own."""
    rows: List[List[Any]] = [frameColumns(names)]
    for frame, step in enumerate(record["frameSteps"].tolist()):
        s = record["s"][step]
        rows.append([record["index"], frame, step, s, *record["variables"][step], record["frameEnergy"][frame], record["frameBias"][frame],
                     record["workProfile"][step//stepsPerMove], "" if F is None else F[frame], s, record["seed"]])
    _writeCsv(path, rows)


def writeIndex(directory: Path) -> None:
    """index.csv from the rows of the complete paths, and paths.csv with a row a path."""
    paths = PathEnsemble.load(directory)

    def write(file: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(frameColumns(paths.names))
        file.write(text.getvalue().encode())
        for path in paths._files:
            with open(path.with_suffix(".csv"), "rb") as rows:
                rows.readline()
                file.write(rows.read())

    replace(directory/"index.csv", write)
    table: Dict[int, List[Any]] = {}
    for path in paths._files:
        row = _scalars(path)
        F, hit = row["highestFreeEnergy"], row["hit"]
        table[row["index"]] = [row["index"], row["seed"], "done", row["work"], "" if np.isnan(F) else F, row["highestPotentialEnergy"], "" if hit is None else int(hit),
                               row["gradientEvaluations"], f"{row['seconds']:.4f}", "", "", "", *row["finalVariables"]]
    for failure in paths.failures:
        table[failure.index] = [failure.index, failure.seed, "failed", "", "", "", "", "", f"{failure.seconds:.4f}", failure.step, failure.s, failure.message,
                                *[""]*len(paths.names)]
    header = ["path", "seed", "status", "work", "highest_F", "highest_U", "hit", "gradient_evaluations", "seconds", "failed_step", "failed_s", "message"]
    _writeCsv(directory/"paths.csv", [header+[f"final_{name}" for name in paths.names]]+[table[index] for index in sorted(table)])
