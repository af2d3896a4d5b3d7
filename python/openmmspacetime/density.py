# SPDX-License-Identifier: MIT
"""Probability-density geodesics: shortest paths in the metric p(x)^(-2 tau) I at one noise level (arXiv:2504.06675).

They need nothing but scores s = grad log p. A path g of constant Euclidean speed is a geodesic where

    g'' + tau |g'|^2 P s(g) = 0,    P = I - g' g'^T/|g'|^2

so that it bends towards high density. With tau = 1 and p = exp(-F/kT) the density distance is the integral of exp(F/kT): the geodesic of a molecule
is its path of highest flux, MaxFlux (Huo and Straub, J. Chem. Phys. 107, 5000, 1997).
"""
from __future__ import annotations

import dataclasses
import math
import os
import warnings
from pathlib import Path
from typing import Any, Callable, Sequence, Union

import numpy as np

from . import _core
from .ensemble import replace
from .flow import _rows
from .freeenergy import tiltedCurve
from .geodesics import _kelvin, _raw
from .surface import GAS_CONSTANT, FreeEnergySurface

__all__ = ["DensityPath", "SequenceAnalysis", "analyzeSequence", "densityGeodesic", "densityGeodesics", "densityProfile", "extrapolate", "lerp", "slerp"]

#: What the functions of this module take for a density.
Density = Union[_core.DensityField, _core.PosteriorModel]


def _field(density: Density, logSnr: float | None, draws: int, seed: int) -> _core.DensityField:
    """A field as it is, or that of a model at a log-SNR."""
    if isinstance(density, _core.PosteriorModel):
        if logSnr is None:
            raise ValueError("expected a logSnr with a model: it says how much noise its density is seen through (docs/density.md says how to choose it)")
        return _core.ModelDensity(density, float(logSnr), draws, seed)
    if isinstance(density, FreeEnergySurface):
        raise ValueError("expected a density, got a FreeEnergySurface: surface.density(temperature) is its Boltzmann density")
    if not isinstance(density, _core.DensityField):
        raise TypeError(f"expected a PosteriorModel, ModelDensity, GuidedDensity or CallableDensity, got {type(density).__name__}")
    if logSnr is not None or draws:
        raise ValueError("logSnr and draws belong to a model; a density field has its own")
    return density


def _modelDensity(field: _core.DensityField) -> _core.ModelDensity | None:
    """The model's density that says what the coordinates of a field mean, if there is one."""
    if isinstance(field, _core.ModelDensity):
        return field
    for part in getattr(field, "fields", ()):
        if (found := _modelDensity(part)) is not None:
            return found
    return None


def _point(field: _core.DensityField, point, what: str) -> np.ndarray:
    """Coordinates [D] of a point in raw units or as Quantities."""
    model = _modelDensity(field)
    if model is not None:
        return model.coordinates(_raw(point, model.variables, what)[None])[0]
    x = _rows(point, field.dimension, what)
    if len(x) != 1:
        raise ValueError(f"{what}: expected one point of {field.dimension} coordinates, got {len(x)}")
    return x[0]


def _nodes(field: _core.DensityField, path, what: str) -> np.ndarray:
    """Coordinates [K, D] of a path: that of an object which has one, or raw values."""
    raw = _rows(getattr(path, "path", path), field.dimension, what)
    model = _modelDensity(field)
    return raw if model is None else model.coordinates(raw)


@dataclasses.dataclass(repr=False)
class DensityPath:
    """A path through a density, at nodes of (nearly) equal Euclidean distance.

    Euclidean lengths are in the coordinates of the density: scaled variables (raw - shift)/scale, phases in rad of periodic ones.

    Attributes
    ----------
    path : array [N, n]
        Nodes in raw units (rad, nm), unwrapped: whole turns are kept.
    coordinates : array [N, n]
        Nodes in the coordinates of the density.
    logDensity : array [N]
        log p relative to the first node, in nats: the line integral of the score along the path.
    length : float
        Euclidean length.
    logDistance : float
        Logarithm of the density distance, the integral of (p/p(start))^(-tau) over the path.
    residual : float
        Largest error of the geodesic equation at a node, over the largest sum of the sizes of its two terms. 0 on a geodesic.
    residualError : float
        Standard error of the residual where the score is stochastic, else 0.
    spacing : float
        Longest segment over the mean segment, less 1.
    tau : float
        Exponent of the metric p^(-2 tau).
    logSnr : float or None
        Noise level of the density; None where it has none.
    variables : Variables or None
        What the columns of `path` are.
    windings : list of int [n]
        Whole turns added to the short way round.
    converged : bool
        Whether the residual fell below the tolerance; of extrapolated paths whether they came to their full length. False for given paths.
    iterations, evaluations, seconds
        What the path cost: iterations on the finest level, scores, and seconds.
    maxSpeedError : float
        Of extrapolated paths: largest relative error of the speed before it was set right.
    outside : str
        Where and why the path leaves the range in which its density is known; empty where it does not.
    """

    path: np.ndarray
    coordinates: np.ndarray
    logDensity: np.ndarray
    length: float
    logDistance: float
    residual: float
    residualError: float
    spacing: float
    tau: float
    logSnr: float | None
    variables: _core.Variables | None
    windings: list[int]
    converged: bool
    iterations: int
    evaluations: int
    seconds: float
    maxSpeedError: float
    outside: str
    _solution: Any = dataclasses.field(default=None, compare=False)
    _density: _core.ModelDensity | None = dataclasses.field(default=None, compare=False)
    _text: str | None = dataclasses.field(default=None, compare=False)

    @property
    def distance(self) -> float:
        """The density distance relative to the start, exp(logDistance): infinite where it exceeds the range of floats."""
        return math.exp(self.logDistance) if self.logDistance < 709 else math.inf

    def __str__(self) -> str:
        text = f"{len(self.path)} nodes, length {self.length:.4g}, log distance {self.logDistance:.4g} at tau {self.tau:g}, log density down to {self.logDensity.min():.4g} nats"
        if np.isfinite(self.residual):
            text += f", residual {self.residual:.1e}" + (f" ± {self.residualError:.1e}" if self.residualError > 0 else "")
        return text + (f", leaves the range: {self.outside}" if self.outside else "")

    def __repr__(self) -> str:
        return f"<DensityPath: {self}>"

    def freeEnergy(self, temperature) -> np.ndarray:
        """-kT log p relative to the start, [N] in kJ/mol, at a temperature in K or as a Quantity.

        Of a model this is the free energy as the noise at its log-SNR smooths it.
        """
        return -GAS_CONSTANT * _kelvin(temperature) * self.logDensity

    def curve(self, variables: _core.Variables | None = None, logSnr: float = 4.0, temperature=None) -> _core.Curve:
        """The path as a curve of tilted distributions at constant log-SNR (kappa = e^logSnr), uniform in arc length, to drive molecules along.

        Parameters
        ----------
        variables : Variables, optional
            The n variables of the path, by default those of its model.
        logSnr : float
            How closely a molecule is held to the path; it has nothing to do with the noise level of the density.
        temperature : float or Quantity, optional
            K, recorded in the curve.

        Returns
        -------
        Curve

        Raises
        ------
        ValueError
            Where the path has no variables and none are given, for another number of variables or a log-SNR that is not finite.
        """
        variables = variables if variables is not None else self.variables
        if variables is None:
            raise ValueError("DensityPath.curve: expected variables: this path's density knows of none")
        return tiltedCurve(self.path, variables, logSnr, temperature, "DensityPath.curve")

    def save(self, file: str | os.PathLike, overwrite: bool = False) -> None:
        """Write the path as JSON, which the program reads too.

        Raises
        ------
        ValueError
            Where the file exists and `overwrite` is False, and for a path of a density without a model: the file names variables and a log-SNR.
        """
        text = self._text
        if text is not None:
            target = Path(file)
            if target.exists() and not overwrite:
                raise ValueError(f"'{target}' exists: choose another name or pass overwrite=True")
            replace(target, lambda handle: handle.write(text.encode()))
        elif self._density is None:
            raise ValueError("DensityPath.save: the file names variables and a log-SNR, which only a model's density has; numpy.save(file, path.path) keeps the nodes")
        else:
            _core.saveDensityPath(os.fspath(file), self._solution, self._density, overwrite)

    @staticmethod
    def load(file: str | os.PathLike) -> DensityPath:
        """Read a path that `save` or the program wrote. ValueError, naming the file, for a corrupt or newer one."""
        stored = _core.loadDensityPath(os.fspath(file))
        path = _path(stored.path, None)
        path.path, path.variables, path.logSnr = stored.raw, stored.variables, stored.logSnr
        path._text = Path(file).read_text(encoding="utf-8")
        return path


def _path(solution: _core.DensityPath, field: _core.DensityField | None) -> DensityPath:
    model = None if field is None else _modelDensity(field)
    x = solution.x
    same = ("logDensity", "length", "logDistance", "residual", "residualError", "spacing", "tau", "windings", "converged", "iterations", "evaluations", "seconds",
            "maxSpeedError", "outside")
    return DensityPath(path=x if model is None else model.raw(x), coordinates=x, logSnr=None if model is None else model.logSnr,
                       variables=None if model is None else model.variables, **{name: getattr(solution, name) for name in same}, _solution=solution, _density=model)


def _options(field: _core.DensityField, given: dict) -> _core.DensityGeodesicOptions:
    options = _core.DensityGeodesicOptions()
    start = given.pop("start")
    if isinstance(start, str):
        options.setStart(start)
    else:
        options.setPath(_nodes(field, start, "start"))
    windings = given.pop("windings")
    options.windings = [] if windings is None else [int(w) for w in windings]
    for name, value in given.items():
        setattr(options, name, value)
    return options


def _problems(path: DensityPath, options: _core.DensityGeodesicOptions) -> list[str]:
    """What a user must know about a path before trusting it."""
    problems = []
    if not path.converged:
        error = f" ± {path.residualError:.1e}" if path.residualError > 0 else ""
        advice = "average more steps or draws" if error else "take more points (nodes too far apart see no smooth density) or iterations, or a lower log-SNR"
        problems.append(f"the path did not converge: its residual is {path.residual:.1e}{error} after {path.iterations} iterations, expected {options.tolerance:.1e}: {advice}")
    if path.outside:
        problems.append(f"the path leaves the range in which its density is known: {path.outside}")
    return problems


def densityGeodesics(
    density: Density,
    a: Sequence,
    b: Sequence,
    logSnr: float | None = None,
    tau: float = 1.0,
    points: int = 129,
    start: str | DensityPath | np.ndarray = "lerp",
    sphere: bool = False,
    windings: Sequence[int] | None = None,
    starts: int = 1,
    seed: int = 1,
    draws: int = 0,
    tolerance: float = 1e-3,
    maxIterations: int = 500,
    averagedSteps: int = 400,
    progress: Callable[[float], bool | None] | None = None,
) -> list[DensityPath]:
    """All windings of the shortest path between two points in the metric p^(-2 tau), shortest density distance first.

    The boundary-value problem of arXiv:2504.06675, solved by relaxation of all nodes at once (a semi-implicit string with Anderson acceleration on several
    levels, nodes at equal Euclidean distances) until the geodesic equation holds to `tolerance`.

    Parameters
    ----------
    density : PosteriorModel or DensityField
        A model, whose density is seen at `logSnr`, or a field: ModelDensity, GuidedDensity, CallableDensity, `FreeEnergySurface.density`.
    a, b : sequence [n]
        Ends in raw units (rad, nm) or as Quantities.
    logSnr : float
        Noise level of a model's density. Needed with a model, and only there.
    tau : float
        Exponent above 0: 1 for a few dimensions, where p = exp(-F/kT) gives MaxFlux; about 1e-3 for latents of images, whose log-density differs by thousands of nats.
    points : int
        Nodes, at least 5.
    start : {'lerp', 'slerp'}, DensityPath or array [M, n]
        A straight line, the great circle, or a path in raw units to start from; of a path only its winding is solved.
    sphere : bool
        Hold the distance from the origin (of the coordinates) at that of the ends, as for latents in many dimensions.
    windings : sequence of int [n], optional
        Whole turns added to the short way round: solve this one only. By default the short and the long way of up to four periodic variables.
    starts : int
        Of every winding; further ones bulge to random sides, and the shortest result counts.
    seed : int
        Of the starts and the draws.
    draws : int
        Above 0 a model's scores are means over so many noisy copies of a point, as arXiv:2504.06675 estimates them.
    tolerance : float
        Of the residual.
    maxIterations : int
        On the finest level.
    averagedSteps : int
        Of a stochastic score: steps over which the path is averaged after it has settled.
    progress : callable(fraction), optional
        Return False to stop; the best path so far is returned.

    Returns
    -------
    list of DensityPath

    Raises
    ------
    ValueError
        For identical ends, tau <= 0, ends whose density is zero or unknown, scores that are not finite (saying where), and other malformed input. What a Python
        score raises is raised.

    Warns
    -----
    UserWarning
        Where the best path did not converge or leaves the range in which its density is known.
    """
    field = _field(density, logSnr, draws, seed)
    options = _options(field, dict(tau=tau, points=points, start=start, sphere=sphere, windings=windings, starts=starts, seed=seed, tolerance=tolerance,
                                   maxIterations=maxIterations, averagedSteps=averagedSteps))
    paths = [_path(p, field) for p in _core.densityGeodesics(field, _point(field, a, "a"), _point(field, b, "b"), options, progress)]
    for problem in _problems(paths[0], options):
        warnings.warn(problem, stacklevel=2)
    return paths


def densityGeodesic(density: Density, a: Sequence, b: Sequence, logSnr: float | None = None, **options) -> DensityPath:
    """The shortest path of `densityGeodesics` (same parameters, warnings and errors)."""
    return densityGeodesics(density, a, b, logSnr, **options)[0]


def extrapolate(
    density: Density,
    start: Sequence | DensityPath,
    direction: Sequence | None = None,
    toward: Sequence | None = None,
    length: float | None = None,
    logSnr: float | None = None,
    tau: float = 1.0,
    points: int = 129,
    sphere: bool = False,
    tolerance: float = 1e-10,
    steps: int = 0,
    seed: int = 1,
    draws: int = 0,
    progress: Callable[[float], bool | None] | None = None,
) -> DensityPath:
    """The geodesic that starts at a point in a direction: the initial-value problem of arXiv:2504.06675, with the Euclidean speed conserved.

    Parameters
    ----------
    density : PosteriorModel or DensityField
    start : sequence [n] or DensityPath
        A point in raw units (rad, nm) or as Quantities, or a path, which is continued beyond its last node.
    direction : sequence [n], optional
        In raw units, of any length but zero.
    toward : sequence [n], optional
        A point to set out towards instead, the short way round.
    length : float, optional
        Euclidean length of the result, in the coordinates of the density; by default the distance to `toward`.
    points : int
        Nodes at equal distances, at least 2.
    tolerance : float
        Error of an adaptive step (DOP853), relative to the length.
    steps : int
        Above 0 so many steps of RK4 between two nodes instead, as stochastic scores get them (one unless set), with one draw a step.
    progress : callable(fraction), optional
        Return False to stop; what there is so far is returned.
    logSnr, tau, sphere, seed, draws
        As in `densityGeodesics`.

    Returns
    -------
    DensityPath
        It ends where it leaves the range in which its density is known, and a warning says where.

    Raises
    ------
    ValueError
        For a start whose density is zero or unknown, and other malformed input.
    """
    field = _field(density, logSnr, draws, seed)
    continued = isinstance(start, DensityPath)
    if (direction is not None) + (toward is not None) + continued != 1:
        raise ValueError("extrapolate: expected either a direction, or a point to set out toward, or a DensityPath to continue")
    if continued:
        nodes = _nodes(field, start, "start")
        x, v = nodes[-1], _core.unitTangents(nodes)[-1]
    else:
        x = _point(field, start, "start")
        if toward is not None:
            v = _point(field, toward, "toward") - x
            turns = np.where(field.periods > 0, field.periods, np.inf)
            v = v - np.where(field.periods > 0, field.periods, 0) * np.round(v / turns)
        else:
            v, model = _point(field, direction, "direction"), _modelDensity(field)
            if model is not None:  # a difference of raw values: coordinates are linear in them
                v = v - model.coordinates(np.zeros((1, len(v))))[0]
    if length is None:
        if toward is None:
            raise ValueError("extrapolate: expected a length, in the coordinates of the density (rad for torsions)")
        length = float(np.linalg.norm(v))
    options = _core.DensityShotOptions()
    for name, value in dict(tau=tau, length=float(length), points=points, tolerance=tolerance, steps=steps, sphere=sphere).items():
        setattr(options, name, value)
    path = _path(_core.extrapolateDensity(field, x, v, options, progress), field)
    if path.outside:
        warnings.warn(f"the path ends at length {path.length:.4g} of {length:.4g}, where it leaves the range in which its density is known: {path.outside}", stacklevel=2)
    return path


def densityProfile(density: Density, path, tau: float = 1.0, logSnr: float | None = None, tolerance: float = 1e-4, sphere: bool = False, seed: int = 1,
                   draws: int = 0) -> DensityPath:
    """What a density says of a path as it is: relative log-density, lengths, distance and residual.

    The relative log-density is the line integral of the score (arXiv:2504.06675), so no normalisation and no divergence is needed.

    Parameters
    ----------
    density : PosteriorModel or DensityField
    path : array [N, n], DensityPath or FreeEnergyPath
        At least three nodes; arrays in raw units (rad, nm), neighbours joined the short way round. The residual is that of nodes at equal distances.
    tolerance : float
        Error of the line integral between two nodes, in nats; infinity takes the trapezoidal rule on the nodes.
    tau, logSnr, sphere, seed, draws
        As in `densityGeodesics`.

    Returns
    -------
    DensityPath

    Raises
    ------
    ValueError
        For malformed input.
    """
    field = _field(density, logSnr, draws, seed)
    return _path(_core.measureDensityPath(field, _nodes(field, path, "path"), tau, tolerance, sphere), field)


@dataclasses.dataclass(repr=False)
class SequenceAnalysis:
    """Is a sequence of points a geodesic of the density?

    Attributes
    ----------
    frames : DensityPath
        The sequence at equal distances, with its own log-density profile.
    angle : array [N - 2]
        At each inner frame the angle between the normal parts of the score and of the acceleration, in degrees: 180 on a geodesic, NaN where the sequence is
        straight or no force acts.
    residual : array [N - 2]
        Error of the geodesic equation at each inner frame, over the sizes of its two terms: 0 on a geodesic, at most 1.
    bestTau : float
        The tau at which the sequence is closest to a geodesic, by least squares; negative where it bends towards low density.
    bestTauResidual : float
        Sum of squares left at bestTau over that at tau = 0: 0 on a geodesic, 1 where no tau explains the bending.
    geodesic : DensityPath
        Between the ends of the sequence, at the tau that was asked for.
    line : DensityPath
        The straight line between its ends (the great circle on a sphere).
    lengthRatio, distanceRatio : float
        Euclidean length and density distance of the sequence over those of the geodesic; both are 1 on a geodesic.
    """

    frames: DensityPath
    angle: np.ndarray
    residual: np.ndarray
    bestTau: float
    bestTauResidual: float
    geodesic: DensityPath
    line: DensityPath
    lengthRatio: float
    distanceRatio: float

    def __str__(self) -> str:
        known = self.angle[np.isfinite(self.angle)]
        angle = f"median {np.median(known):.1f}, lowest {known.min():.1f} degrees" if len(known) else "unknown: the sequence is straight, or no force acts on it"
        rows = [
            ("frames", f"{len(self.frames.path)} at equal distances", ""),
            ("angle between force and bending", angle, "180"),
            ("residual", f"median {np.nanmedian(self.residual):.3f}, highest {np.nanmax(self.residual):.3f}", "0"),
            ("best tau", f"{self.bestTau:.4g}, leaving {100 * self.bestTauResidual:.3g} % of the bending unexplained", f"{self.frames.tau:g}, 0 %"),
            ("length over the geodesic's", f"{self.lengthRatio:.4f}", "1"),
            ("density distance over the geodesic's", f"{self.distanceRatio:.4f}", "1"),
            ("lowest log-density", f"{self.frames.logDensity.min():.4g} nats (geodesic {self.geodesic.logDensity.min():.4g}, "
                                   f"straight line {self.line.logDensity.min():.4g})", ""),
        ]
        return "\n".join(f"{name:<38}{value}" + (f"   (on a geodesic {expected})" if expected else "") for name, value, expected in rows)

    def __repr__(self) -> str:
        return f"<SequenceAnalysis: {len(self.frames.path)} frames, best tau {self.bestTau:.4g}, distance over the geodesic's {self.distanceRatio:.4g}>"


def analyzeSequence(
    density: Density,
    frames,
    numFrames: int | None = None,
    logSnr: float | None = None,
    tau: float = 1.0,
    points: int = 129,
    sphere: bool = False,
    starts: int = 1,
    seed: int = 1,
    draws: int = 0,
    tolerance: float = 1e-3,
    maxIterations: int = 500,
    averagedSteps: int = 400,
    progress: Callable[[float], bool | None] | None = None,
) -> SequenceAnalysis:
    """Whether a sequence of points, video frames or a driven path, is a geodesic, and how far it is from one (arXiv:2504.06675).

    Parameters
    ----------
    density : PosteriorModel or DensityField
    frames : array [K, n], DensityPath or FreeEnergyPath
        At least three frames; arrays in raw units (rad, nm), neighbours joined the short way round. Molecular dynamics jitters: average its frames first, or
        the angles are those of the jitter.
    numFrames : int, optional
        Frames at equal distances that are analysed; as many as are given by default.
    logSnr, tau, points, sphere, starts, seed, draws, tolerance, maxIterations, averagedSteps, progress
        As in `densityGeodesics`, whose path between the ends the sequence is compared with.

    Returns
    -------
    SequenceAnalysis
        `print` it for a summary.

    Raises
    ------
    ValueError
        For fewer than three frames, frames that coincide, and what `densityGeodesics` refuses.
    """
    field = _field(density, logSnr, draws, seed)
    options = _options(field, dict(tau=tau, points=points, start="lerp", sphere=sphere, windings=None, starts=starts, seed=seed, tolerance=tolerance,
                                   maxIterations=maxIterations, averagedSteps=averagedSteps))
    found = _core.analyzeSequence(field, _nodes(field, frames, "frames"), 0 if numFrames is None else int(numFrames), options, progress)
    result = SequenceAnalysis(_path(found.frames, field), found.angle, found.residual, found.bestTau, found.bestTauResidual, _path(found.geodesic, field),
                              _path(found.line, field), found.lengthRatio, found.distanceRatio)
    for problem in _problems(result.geodesic, options):
        warnings.warn(f"of the geodesic between the ends: {problem}", stacklevel=2)
    return result


def lerp(a: Sequence, b: Sequence, points: int = 129) -> np.ndarray:
    """The straight line [points, D] between two points [D]: the null baseline. Angles are taken as they are, with no winding."""
    return _core.lerp(a, b, points)


def slerp(a: Sequence, b: Sequence, points: int = 129) -> np.ndarray:
    """The great circle [points, D] between two points [D] about the origin, its radius changing linearly: the baseline for latents of images."""
    return _core.slerp(a, b, points)
