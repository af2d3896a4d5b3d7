# SPDX-License-Identifier: MIT
"""Sequences of pictures between two pictures: geodesics of spacetime (arXiv:2505.17517), of the density (arXiv:2504.06675), and the usual baselines.

Everything works on any PosteriorModel whose variables are pixels, row by row, the channels of a pixel together. A clean picture becomes a noisy point by
the probability-flow ODE, and a noisy point a picture by the same ODE in the other direction (`encode`, `decode`; Heun's method).
"""
from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from . import _core
from .density import densityGeodesic, densityProfile, extrapolate, slerp
from .ensemble import replace
from .flow import encode, latentParameter
from .imagemeasures import stepEvenness
from .matrixfree import matrixFreeGeodesic, measureWithProbes
from .pictures import readImage
from .report import Column, Report

__all__ = ["METHODS", "Interpolation", "PictureSpace", "extrapolatePictures", "interpolate", "interpolationReport"]

#: Pixel values so far beyond [0, 1] belong to no picture.
OVERSHOOT = 0.5
#: What `interpolate` offers.
METHODS = ("spacetime", "lerp", "slerp", "latent", "density")


class PictureSpace:
    """Pictures of one shape as points of a model's spacetime.

    Noisy points are y = x/alpha = c + noise, whatever the schedule, with c the model's scaled variables.

    Parameters
    ----------
    model : PosteriorModel
    shape : (height, width, channels), optional
        Of the pictures; that of the model where it knows one.
    steps : int
        Of Heun's method between the data's log-SNR and `referenceLogSnr`; other stretches take their share, by length in log-SNR.
    dataLogSnr : float, optional
        Where pictures count as clean; by default as in `encode`.

    Raises
    ------
    ValueError
        Where the shape is unknown or has another number of values than the model has variables.
    """

    referenceLogSnr = -4.0

    def __init__(self, model: _core.PosteriorModel, shape: Sequence[int] | None = None, steps: int = 24, dataLogSnr: float | None = None):
        own = getattr(model, "imageShape", None)
        shape = own if shape is None else shape
        if shape is None:
            raise ValueError("PictureSpace: this model knows no shape of its pictures: give shape=(height, width, channels)")
        self.shape = tuple(int(n) for n in shape)
        if len(self.shape) == 2:
            self.shape += (1,)
        self.model, self.variables = model, model.variables
        self.size = len(self.variables)
        if len(self.shape) != 3 or math.prod(self.shape) != self.size or (own is not None and self.shape != tuple(own)):
            raise ValueError(f"PictureSpace: pictures of {_text(self.shape)} are {math.prod(self.shape)} values, the model is one of {self.size}"
                             + (f" ({_text(tuple(own))})" if own is not None else "") + ": use a model that was trained on pictures of this size")
        if steps < 1:
            raise ValueError(f"PictureSpace: expected at least 1 step of Heun's method, got {steps}")
        self.steps = int(steps)
        self.dataLogSnr = float(model.dataLogSnr if dataLogSnr is None else dataLogSnr)

    def picture(self, picture, what: str = "picture", resize: bool = False) -> np.ndarray:
        """Values [H, W, C] in [0, 1] of an array (of such values, or of bytes), of a Pillow image or of a file.

        Files and Pillow images are converted to the channels expected; to the size only with `resize`.

        Raises
        ------
        ValueError
            Saying which size is expected, or which pixel is not a number in [0, 1].
        """
        height, width, channels = self.shape
        if isinstance(picture, (str, os.PathLike)):
            return readImage(picture, (height, width), channels, resize)
        if hasattr(picture, "getbands"):
            picture = _fromPillow(picture, self.shape, resize)
        values = np.asarray(picture)
        if values.dtype == np.uint8:
            values = values / 255
        try:
            values = values.astype(float)
        except (TypeError, ValueError):
            raise ValueError(f"{what}: expected a picture of {_text(self.shape)} (an array, a Pillow image or a file), got {type(picture).__name__}") from None
        if values.shape == self.shape[:2]:
            values = values[..., None] if channels == 1 else np.repeat(values[..., None], channels, axis=2)
        if values.shape == (self.size,):
            values = values.reshape(self.shape)
        if values.shape != self.shape:
            raise ValueError(f"{what}: expected a picture of {_text(self.shape)}, got an array of shape {values.shape}; readImage(..., resize=True) converts files")
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise ValueError(f"{what}: {len(bad)} value(s) are not a number, the first at row {bad[0][0]}, column {bad[0][1]}, channel {bad[0][2]}")
        return values

    def pictures(self, pictures, what: str = "pictures", resize: bool = False) -> np.ndarray:
        """[K, H, W, C] of a sequence of what `picture` takes."""
        if len(pictures) == 0:
            raise ValueError(f"{what}: expected at least one picture, got none")
        return np.stack([self.picture(p, f"{what}[{k}]", resize) for k, p in enumerate(pictures)])

    def clean(self, pictures: np.ndarray) -> np.ndarray:
        """Scaled variables c [K, D] of pictures [K, H, W, C]."""
        zero, one = _core.rawCoordinates(self.variables, np.stack([np.zeros(self.size), np.ones(self.size)]))
        return (pictures.reshape(len(pictures), -1) - zero) / (one - zero)

    def view(self, y: np.ndarray) -> np.ndarray:
        """Values [K, H, W, C] that scaled variables [K, D] stand for, not clipped."""
        return _core.rawCoordinates(self.variables, np.ascontiguousarray(y)).reshape(-1, *self.shape)

    def noisyView(self, y: np.ndarray, logSnr) -> np.ndarray:
        """How noisy points [K, D] look: x = alpha y of the variance-preserving schedule, which fades the picture as noise comes in."""
        alpha = np.array([_core.scheduleAlpha("vp", float(l)) for l in np.broadcast_to(logSnr, len(y))])
        return self.view(alpha[:, None] * y)

    def _steps(self, fromLogSnr: float, toLogSnr: float) -> int:
        return max(1, math.ceil(self.steps * abs(toLogSnr - fromLogSnr) / (self.dataLogSnr - self.referenceLogSnr)))

    def encode(self, pictures: np.ndarray, logSnr: float) -> np.ndarray:
        """Noisy points y [K, D] of pictures [K, H, W, C]."""
        return encode(self.model, pictures.reshape(len(pictures), -1), logSnr, schedule="ve", solver="heun", steps=self._steps(self.dataLogSnr, logSnr), dataLogSnr=self.dataLogSnr)

    def decode(self, y: np.ndarray, logSnr) -> np.ndarray:
        """Pictures [K, H, W, C] of noisy points y [K, D] at one log-SNR or at one each, not clipped. Points of different levels go through the ODE together."""
        y = np.array(y, dtype=float)
        levels = np.minimum(np.broadcast_to(np.asarray(logSnr, dtype=float), len(y)), self.dataLogSnr)
        stops = np.append(np.unique(levels), self.dataLogSnr)
        for level, following in zip(stops, stops[1:]):
            if following > level:
                on = levels <= level
                y[on] = _core.transport(self.model, y[on], level, following, _core.FlowOptions("heun", self._steps(level, following), 1e-10, math.nan), None).y
        return self.view(y)

    def eta(self, y: np.ndarray, logSnr: float) -> np.ndarray:
        """Natural parameters [K, m] of noisy points y [K, D]."""
        return latentParameter(self.model, y, logSnr, schedule="ve")

    @staticmethod
    def ofEta(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Noisy points y [K, D] and their log-SNR [K]."""
        precision = -2 * eta[:, :1]
        return eta[:, 1:] / precision, np.log(precision[:, 0])


def _text(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape[:2]) + (f", {shape[2]} channel" + ("s" if shape[2] != 1 else "") if len(shape) > 2 else "")


def _fromPillow(image, shape: tuple[int, ...], resize: bool) -> np.ndarray:
    from PIL import Image

    if "A" in image.getbands() or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("L" if shape[2] == 1 else "RGB")
    if resize and image.size != (shape[1], shape[0]):
        image = image.resize((shape[1], shape[0]), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, -1)


@dataclasses.dataclass(repr=False)
class Interpolation:
    """A sequence of pictures between two, and what the model says of it.

    Attributes
    ----------
    method : str
    frames : array [F, H, W, C]
        Clean pictures, not clipped to [0, 1].
    logSnr : array [F]
        Noise level of the point that each was decoded from; NaN for pictures that were not decoded.
    noisy, denoised : array [F, H, W, C] or None
        Those points as they look, and the means E[c|z] of their posterior. None for pictures that were not decoded.
    endLogSnr : float
        Where lengths are measured.
    length, lengthError, energy, energyError : float
        Fisher-Rao length and energy of the frames, with standard errors over probes: of geodesics as they are, of other sequences as curves at endLogSnr, to
        which their frames are encoded.
    negativeEdges : int
        Segments on which the model contradicts itself, Delta eta . Delta mu < 0, so that they have no length: that of the sequence is not to be trusted.
    logDensity : array [F]
        Log-density of the frames in nats relative to the first one, at densityLogSnr.
    densityLogSnr : float
    evenness : float
        Longest step between neighbouring frames over the mean one, over pixels: 1 is even.
    converged : bool
        Whether the solver's residual fell below its tolerance. True for methods that solve nothing.
    evaluations, seconds
        What the frames cost, without the measures.
    curve : Curve or None
        The geodesic of spacetime, with the frames' points as its nodes.
    path : DensityPath or None
        The geodesic of the density.
    """

    method: str
    frames: np.ndarray
    logSnr: np.ndarray
    noisy: np.ndarray | None
    denoised: np.ndarray | None
    endLogSnr: float
    length: float = math.nan
    lengthError: float = math.nan
    energy: float = math.nan
    energyError: float = math.nan
    negativeEdges: int = 0
    logDensity: np.ndarray | None = None
    densityLogSnr: float = math.nan
    evenness: float = math.nan
    converged: bool = True
    evaluations: int = 0
    seconds: float = 0.0
    curve: Any = None
    path: object = None

    def __repr__(self) -> str:
        return f"<Interpolation: {self.method}, {len(self.frames)} frames, length {self.length:.4g} ± {self.lengthError:.2g} at log-SNR {self.endLogSnr:g}>"

    @property
    def overshoot(self) -> float:
        """How far pixel values of the frames lie beyond [0, 1]: a few hundredths for pictures; more where a curve has left the data."""
        return float(max(0.0, -self.frames.min(), self.frames.max() - 1))

    def save(self, path: str | os.PathLike, overwrite: bool = False) -> None:
        """Write everything but `curve` and `path` as .npz. ValueError where the file exists and `overwrite` is False."""
        if os.path.exists(path) and not overwrite:
            raise ValueError(f"'{path}' exists: choose another name or pass overwrite=True")
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("curve", "path")}
        replace(Path(path), lambda file: np.savez_compressed(file, **{name: value for name, value in values.items() if value is not None}))

    @staticmethod
    def load(path: str | os.PathLike) -> Interpolation:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return Interpolation(**{"noisy": None, "denoised": None} | {name: stored[name] if stored[name].ndim else stored[name].item() for name in stored.files})

    def figures(self) -> dict[str, float]:
        """The numbers of a row of `interpolationReport`."""
        inner = math.nan if self.logDensity is None else self.logDensity
        return {"length": self.length, "lengthError": self.lengthError, "energy": self.energy, "energyError": self.energyError, "negativeEdges": self.negativeEdges, "endLogSnr": self.endLogSnr,
                "lowestLogDensity": float(np.min(inner)), "middleLogDensity": float(np.atleast_1d(inner)[np.size(inner) // 2]), "densityLogSnr": self.densityLogSnr,
                "evenness": self.evenness, "converged": self.converged, "evaluations": self.evaluations, "seconds": self.seconds}


def interpolate(
    model: _core.PosteriorModel,
    a,
    b,
    method: str = "spacetime",
    logSnr: float = 3.0,
    numFrames: int = 17,
    latentLogSnr: float | None = None,
    tau: float = 1e-3,
    densityLogSnr: float = 2.0,
    shape: Sequence[int] | None = None,
    steps: int = 24,
    probes: int = 8,
    seed: int = 1,
    measure: bool = True,
    dataLogSnr: float | None = None,
    progress: Callable[[float], bool | None] | None = None,
    **options,
) -> Interpolation:
    """A sequence of pictures from one to another.

    Parameters
    ----------
    model : PosteriorModel
    a, b : arrays [H, W, C] of values in [0, 1] or of bytes, Pillow images or files
    method : {'spacetime', 'lerp', 'slerp', 'latent', 'density'}
        'spacetime': both are encoded by the probability-flow ODE to `logSnr`, joined by the geodesic of arXiv:2505.17517, and its points at equal Fisher-Rao
        distances are decoded, each from its own noise level. 'lerp': every pixel linearly. 'slerp': the great circle about the grey picture. 'latent': encoded
        to `latentLogSnr`, great circle there, decoded. 'density': encoded to `densityLogSnr`, the density geodesic of arXiv:2504.06675 there, decoded.
    logSnr : float
        Noise level of the geodesic's ends, and of the lengths of every method.
    numFrames : int
        At least 5.
    latentLogSnr : float, optional
        Of 'latent'; by default the lowest that the model knows, but at least -6.
    tau : float
        Exponent of the density's metric; small, because log-densities of pictures differ by thousands of nats.
    densityLogSnr : float
        Noise level of the density, for 'density' and for the log-densities of every method.
    shape, steps, dataLogSnr
        As in `PictureSpace`.
    probes : int
        Of Hutchinson's estimator in the final length and energy.
    seed : int
        Of probes.
    measure : bool
        False leaves lengths, energies and log-densities out, which cost more than simple frames.
    progress : callable(fraction), optional
        Of the solver; return False to stop it, the best curve so far is taken.
    **options
        Of `matrixFreeGeodesic` with 'spacetime', of `densityGeodesic` with 'density'.

    Returns
    -------
    Interpolation

    Raises
    ------
    ValueError
        For an unknown method, pictures of another size than the model's, and values that are not numbers.

    Warns
    -----
    UserWarning
        Where a geodesic did not converge.
    """
    if method not in METHODS:
        raise ValueError(f"interpolate: expected a method of {', '.join(METHODS)}, got {method!r}")
    if numFrames < 5:
        raise ValueError(f"interpolate: expected at least 5 frames, got {numFrames}")
    if options and method not in ("spacetime", "density"):
        raise TypeError(f"interpolate: the method {method!r} takes no further options, got {', '.join(options)}")
    space = PictureSpace(model, shape, steps, dataLogSnr)
    ends = np.stack([space.picture(a, "a"), space.picture(b, "b")])
    started, before = time.perf_counter(), model.evaluations
    if np.array_equal(ends[0], ends[1]):
        result = _still(space, ends[0], method, logSnr, numFrames)
    else:
        make = {"spacetime": _spacetime, "lerp": _lerp, "slerp": _slerp, "latent": _latent, "density": _density}[method]
        levels = {"latent": max(model.minLogSnr, -6.0) if latentLogSnr is None and method == "latent" else latentLogSnr, "density": densityLogSnr}
        result = make(space, ends, logSnr, numFrames, levels.get(method), dict(options, tau=tau) if method == "density" else dict(options, seed=seed), progress)
    result.seconds, result.evaluations = time.perf_counter() - started, model.evaluations - before
    result.densityLogSnr = float(densityLogSnr)
    if result.overshoot > OVERSHOOT:
        warnings.warn(f"interpolate: frames of the method {method!r} have pixels {result.overshoot:.1f} beyond [0, 1]: the curve goes far off noisy data, where points "
                      "decode to no pictures and a trained denoiser is not to be trusted. Raise the log-SNR of the ends", stacklevel=2)
    if measure:
        _measure(space, result, probes, seed)
    return result


def _still(space: PictureSpace, picture: np.ndarray, method: str, logSnr: float, numFrames: int) -> Interpolation:
    frames = np.repeat(picture[None], numFrames, axis=0)
    return Interpolation(method, frames, np.full(numFrames, math.nan), None, None, logSnr, length=0.0, lengthError=0.0, energy=0.0, energyError=0.0, logDensity=np.zeros(numFrames))


def _decoded(space: PictureSpace, method: str, y: np.ndarray, levels: np.ndarray, endLogSnr: float) -> Interpolation:
    """Frames of noisy points [F, D] at log-SNRs [F]."""
    eta = np.array([space.eta(point, float(level)) for point, level in zip(y, levels)])
    return Interpolation(method, space.decode(y, levels), levels, space.noisyView(y, levels), space.view(space.model.denoised(eta)), endLogSnr)


def _lerp(space, ends, logSnr, numFrames, level, options, progress) -> Interpolation:
    t = np.linspace(0, 1, numFrames)[:, None, None, None]
    return Interpolation("lerp", (1 - t) * ends[0] + t * ends[1], np.full(numFrames, math.nan), None, None, logSnr)


def _slerp(space, ends, logSnr, numFrames, level, options, progress) -> Interpolation:
    c = space.clean(ends)
    return Interpolation("slerp", space.view(slerp(c[0], c[1], numFrames)), np.full(numFrames, math.nan), None, None, logSnr)


def _latent(space, ends, logSnr, numFrames, level, options, progress) -> Interpolation:
    y = space.encode(ends, level)
    return _decoded(space, "latent", slerp(y[0], y[1], numFrames), np.full(numFrames, float(level)), logSnr)


def _density(space, ends, logSnr, numFrames, level, options, progress) -> Interpolation:
    raw = space.view(space.encode(ends, level)).reshape(2, -1)
    options = {"points": numFrames, "start": "slerp", "tolerance": 1e-2, **options}
    path = densityGeodesic(space.model, raw[0], raw[1], level, progress=progress, **options)
    coordinates = np.array(path.coordinates)
    if len(coordinates) != numFrames:
        coordinates = coordinates[np.round(np.linspace(0, len(coordinates) - 1, numFrames)).astype(int)]
    result = _decoded(space, "density", coordinates, np.full(numFrames, float(level)), logSnr)
    result.converged, result.path = path.converged, path
    return result


def _spacetime(space, ends, logSnr, numFrames, level, options, progress) -> Interpolation:
    etaA, etaB = space.eta(space.encode(ends, logSnr), logSnr)
    solved = matrixFreeGeodesic(space.model, etaA, etaB, progress=progress, **{"points": numFrames, **options})
    eta = equallySpaced(solved.curve, solved.measure.d, numFrames)
    y, levels = space.ofEta(eta)
    result = _decoded(space, "spacetime", y, levels, logSnr)
    result.converged, result.curve = solved.converged, _core.Curve(space.variables, np.linspace(0, 1, numFrames), eta)
    return result


def equallySpaced(curve: _core.Curve, segments: np.ndarray, count: int) -> np.ndarray:
    """Points eta [count, m] of a curve at equal Fisher-Rao distances, given the lengths [N] of the segments between its nodes."""
    along = np.append(0.0, np.cumsum(segments))
    s = np.interp(np.linspace(0, along[-1], count), along, curve.s)
    return np.array([curve.evaluate(float(v)) for v in s])


def _measure(space: PictureSpace, result: Interpolation, probes: int, seed: int) -> None:
    """Length, energy, log-densities and evenness of the frames."""
    result.evenness = stepEvenness(result.frames)
    if result.logDensity is not None:  # identical ends
        return
    if result.curve is not None:
        eta = np.array(result.curve.eta)
    else:
        eta = space.eta(space.encode(result.frames, result.endLogSnr), result.endLogSnr)
    measured = measureWithProbes(space.model, eta, probes=probes, seed=seed)
    result.length, result.lengthError, result.energy, result.energyError = measured.length, measured.lengthError, measured.energy, measured.energyError
    result.negativeEdges = measured.negativeEdges
    result.logDensity = logDensities(space, result.frames, result.densityLogSnr)


def logDensities(space: PictureSpace, frames: np.ndarray, logSnr: float, tolerance: float = 1.0) -> np.ndarray:
    """Log-density [F] in nats of frames relative to the first one, at a noise level: the line integral of the score, to `tolerance` between two frames."""
    return densityProfile(space.model, frames.reshape(len(frames), -1), logSnr=logSnr, tolerance=tolerance).logDensity


def extrapolatePictures(model: _core.PosteriorModel, a, b, beyond: float = 0.5, logSnr: float = 2.0, tau: float = 1e-3, numFrames: int = 17,
                        shape: Sequence[int] | None = None, steps: int = 24, dataLogSnr: float | None = None, **options) -> Interpolation:
    """What comes after the second of two pictures: the density geodesic between them, continued beyond it (arXiv:2504.06675).

    Parameters
    ----------
    a, b : pictures, as in `interpolate`
    beyond : float
        How far, as a share of the distance from a to b.
    logSnr : float
        Noise level of the density.
    numFrames : int
        In all, at equal distances.
    tau, shape, steps, dataLogSnr
        As in `interpolate`.
    **options
        Of `densityGeodesic`.

    Returns
    -------
    Interpolation
        From a through b to the end. It has no lengths.

    Raises
    ------
    ValueError
        For identical pictures, a share that is not positive, and as `interpolate`.
    """
    if not beyond > 0:
        raise ValueError(f"extrapolatePictures: expected a share above 0, got {beyond}")
    space = PictureSpace(model, shape, steps, dataLogSnr)
    ends = np.stack([space.picture(a, "a"), space.picture(b, "b")])
    if np.array_equal(ends[0], ends[1]):
        raise ValueError("extrapolatePictures: the two pictures are identical and give no direction")
    started, before = time.perf_counter(), model.evaluations
    raw = space.view(space.encode(ends, logSnr)).reshape(2, -1)
    between = max(5, round(numFrames / (1 + beyond)))
    field = _core.ModelDensity(model, float(logSnr))
    path = densityGeodesic(field, raw[0], raw[1], **{"points": between, "tau": tau, "start": "slerp", "tolerance": 1e-2, **options})
    extra = max(2, numFrames - between + 1)
    further = extrapolate(field, path, length=beyond * path.length, tau=tau, points=extra, steps=1, sphere=options.get("sphere", False))
    y = np.concatenate([path.coordinates, further.coordinates[1:]])
    result = _decoded(space, "extrapolation", y, np.full(len(y), float(logSnr)), math.nan)
    result.path, result.converged, result.densityLogSnr = path, path.converged, float(logSnr)
    result.evenness = stepEvenness(result.frames)
    result.seconds, result.evaluations = time.perf_counter() - started, model.evaluations - before
    return result


def interpolationReport(title: str, pairs: Mapping[str, Sequence[Interpolation]], settings: Mapping[str, object] | None = None) -> Report:
    """One table of several methods on several pairs of pictures; figures are added with Report.addFigure."""
    first = next(iter(pairs.values()))[0]
    report = Report(title, columns=[
        Column("length", f"at log-SNR {first.endLogSnr:g}", "", "{length:.2f} ± {lengthError:.2f}"),
        Column("energy", "", "", "{energy:.0f} ± {energyError:.0f}"),
        Column("log p", "lowest", "nats", "{lowestLogDensity:.0f}"),
        Column("log p", "middle", "nats", "{middleLogDensity:.0f}"),
        Column("evenness", "", "", "{evenness:.2f}"),
        Column("denoiser", "calls", "", "{evaluations:,}"),
        Column("time", "", "s", "{seconds:.1f}"),
    ])
    for pair, found in pairs.items():
        for one in found:
            report.addRow(f"{pair}: {one.method}", [], {"pair": pair, "method": one.method, **one.figures()})
            if not one.converged:
                report.warnings.append(f"{pair}: the {one.method} geodesic did not converge.")
            if one.overshoot > OVERSHOOT:
                report.warnings.append(f"{pair}, {one.method}: pixel values lie up to {one.overshoot:.1f} beyond [0, 1]: the curve goes far off noisy data, where points decode to no pictures.")
            if one.negativeEdges:
                report.warnings.append(f"{pair}, {one.method}: the model is inconsistent on {one.negativeEdges} of {len(one.frames) - 1} segments, whose Delta eta . Delta mu is negative: "
                                       "the length is not to be trusted. Train it longer.")
    frames = len(first.frames)
    report.notes += [
        f"Fisher-Rao length and energy (± one standard error over probes) of {frames} frames: of a spacetime geodesic between its ends at log-SNR {first.endLogSnr:g}; "
        "of every other row as a curve at that log-SNR, to which its frames are encoded by the probability-flow ODE (no trace of a covariance enters there, and no probes).",
        f"Log-densities, of the lowest frame and of that in the middle, are relative to the first frame, seen through noise of log-SNR {first.densityLogSnr:g}. Blurred pictures are denser than sharp ones: high is not good by itself.",
        "Evenness: the longest step between neighbouring frames over the mean one, over pixels. Calls and seconds are those of the frames, without these measures.",
    ]
    report.settings.update(settings or {})
    return report
