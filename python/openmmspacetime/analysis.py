# SPDX-License-Identifier: MIT
"""Figures of merit of driven paths: did they arrive, how high did they climb, what did they dissipate, what did they cost."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Union

import numpy as np
from numpy.typing import ArrayLike

from .report import Column, Report
from .surface import GAS_CONSTANT, FreeEnergySurface

__all__ = ["PathStatistics", "Report", "analyze", "analyzePath"]

TWENTY_DEGREES = np.deg2rad(20.0)
#: Below this smallest kappa (rad^-2) a curve counts as unconstrained: its tilted wells are as wide as a basin.
WEAK_KAPPA = 5.0


@dataclass
class PathStatistics:
    """What one path is judged by.

    Attributes
    ----------
    distance : float
        Distance of the last frame from the target in rad (raw units; periodic variables the short way round).
    outside : float
        Share of the steps spent outside the discs around start and target.
    maxFreeEnergy : float
        Highest F(c) over every step, kJ/mol; NaN without a surface.
    maxFreeEnergyStep : int
        The step at which it was reached; -1 without a surface.
    maxPotentialEnergy : float
        Highest recorded potential energy without the bias, kJ/mol; NaN when none was recorded.
    work : float
        Work of moving the bias, W = -kT sum_i (eta_{i+1} - eta_i)·T(X_i), kJ/mol.
    gradientEvaluations : int
    seconds : float
    """

    distance: float
    outside: float
    maxFreeEnergy: float
    maxFreeEnergyStep: int
    maxPotentialEnergy: float
    work: float
    gradientEvaluations: int
    seconds: float


def _number(value: Any) -> float:
    """A float in OpenMM's unit system (kJ/mol, K, rad, nm) from a float or a Quantity."""
    if hasattr(value, "value_in_unit_system"):
        from openmm import unit

        value = value.value_in_unit_system(unit.md_unit_system)
    return float(value)


def _difference(a: np.ndarray, b: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """a - b [..., n], the short way round where `periods` [n] is positive."""
    d = np.asarray(a, dtype=float) - b
    turn = np.where(periods > 0, periods, 1.0)
    return np.where(periods > 0, d - turn * np.round(d / turn), d)


def analyzePath(record: Any, start: np.ndarray, target: np.ndarray, surface: Optional[FreeEnergySurface] = None,
                radius: float = 0.75, periods: Optional[np.ndarray] = None) -> PathStatistics:
    """Figures of merit of one path.

    Parameters
    ----------
    record : PathRecord
        Anything with `variables` [steps, n], `potentialEnergy` [k], `work`, `gradientEvaluations` and `seconds`.
    start, target : array [n]
        Centres of the two states, raw units.
    surface : FreeEnergySurface, optional
        For two torsions.
    radius : float
        Radius of the discs around the states, raw units.
    periods : array [n], optional
        Length of one turn of every variable, 0 when it is not periodic; 2 pi for all by default.

    Returns
    -------
    PathStatistics
    """
    x = np.asarray(record.variables, dtype=float)
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"analyze: expected record.variables of shape [steps, n] with at least one step, got {x.shape}")
    periods = np.full(x.shape[1], 2 * np.pi) if periods is None else np.asarray(periods, dtype=float)
    fromStart = np.linalg.norm(_difference(x, start, periods), axis=1)
    fromTarget = np.linalg.norm(_difference(x, target, periods), axis=1)
    energy = np.asarray(record.potentialEnergy if record.potentialEnergy is not None else [], dtype=float)
    top, topStep = np.nan, -1
    if surface is not None:
        F = surface(x)
        topStep = int(np.argmax(F))
        top = float(F[topStep])
    return PathStatistics(
        distance=float(fromTarget[-1]), outside=float(np.mean((fromStart > radius) & (fromTarget > radius))),
        maxFreeEnergy=top, maxFreeEnergyStep=topStep, maxPotentialEnergy=float(energy.max()) if energy.size else np.nan,
        work=float(record.work), gradientEvaluations=int(record.gradientEvaluations), seconds=float(record.seconds))


def _endCenter(ensemble: Any, index: int) -> np.ndarray:
    """Centre of the bias at the first or last node, for ensembles whose variables are all torsions."""
    eta = np.asarray(ensemble.eta, dtype=float)
    n = len(ensemble.names)
    if eta.shape[-1] != 2 * n:
        raise ValueError("analyze: start and target can be read from the curve only when every variable is a torsion; "
                         "give start=... and target=... (raw units)")
    pairs = eta[index].reshape(n, 2)
    return np.arctan2(pairs[:, 1], pairs[:, 0])


def _softness(ensemble: Any, surface: FreeEnergySurface, bins: int = 48) -> Optional[tuple[float, float, float]]:
    """Of an ensemble over two torsions: critical kappa, smallest kappa, and stiffness of the softest tilted well, all in rad^-2.

    All are taken where the paths were: F'' at the mean of their variables in equal bins of s, so no model is needed. Where the molecule hops between two wells
    that mean lies on the ridge between them, and the stiffness is negative.
    """
    from .freeenergy import smoothHessian

    eta, s = np.asarray(ensemble.eta, dtype=float), np.asarray(ensemble.s, dtype=float)
    if eta.shape[-1] != 4 or len(s) < 2:
        return None
    cell = np.concatenate([np.minimum((np.asarray(r.s) * bins).astype(int), bins - 1) for r in ensemble])
    e = np.exp(1j * np.concatenate([np.asarray(r.variables, dtype=float) for r in ensemble]))
    count = np.bincount(cell, minlength=bins)
    mean = np.stack([np.angle(np.bincount(cell, weights=z.real, minlength=bins) + 1j * np.bincount(cell, weights=z.imag, minlength=bins)) for z in e.T], axis=1)
    seen = count > 0
    bias = np.stack([np.interp((np.arange(bins) + 0.5) / bins, s, column) for column in eta.T], axis=1).reshape(bins, 2, 2)
    kappa, center = np.linalg.norm(bias, axis=2), np.arctan2(bias[..., 1], bias[..., 0])
    H = smoothHessian(surface, mean[seen]) / (GAS_CONSTANT * ensemble.temperature)
    critical = max(0.0, -float(np.linalg.eigvalsh(H)[:, 0].min()))
    H[:, [0, 1], [0, 1]] += (kappa * np.cos(mean - center))[seen]
    return critical, float(np.linalg.norm(eta.reshape(-1, 2, 2), axis=2).min()), float(np.linalg.eigvalsh(H)[:, 0].min())


def _meanError(values: ArrayLike) -> tuple[float, float]:
    """Mean and standard error of the mean; the error is NaN for fewer than two values."""
    v = np.asarray(values, dtype=float)
    return float(v.mean()), float(v.std(ddof=1) / np.sqrt(len(v))) if len(v) > 1 else np.nan


def _stride(ensemble: Sequence[Any]) -> Optional[int]:
    """Steps between two recorded potential energies."""
    steps = getattr(ensemble[0], "energySteps", None)
    return int(np.max(np.diff(steps))) if steps is not None and len(steps) > 1 else None


def analyze(ensembles: Union[Mapping[str, Any], Sequence[Any]], surface: Optional[FreeEnergySurface] = None, *,
            target: Optional[Sequence[Any]] = None, start: Optional[Sequence[Any]] = None,
            referenceEnergy: Any = None, dF: Any = None, radius: float = 0.75, periods: Optional[ArrayLike] = None,
            oneOff: Optional[Mapping[str, int]] = None, committors: Optional[Mapping[str, Any]] = None, title: str = "Driven transition paths") -> Report:
    """Compare ensembles of driven paths.

    The columns, in this order: hit rate, highest free energy along the path, highest potential energy (and how far it is above the mean of the start state), gradient
    evaluations, time spent between the states, committor, dissipated work, wall time.  A high hit rate alone proves little, because any bias that is stiff enough
    arrives; a low maximum alone proves nothing, because paths that never crossed have one.  So one of the rows should be a straight line, the null.

    With a surface over two torsions the softest tilted well of every row is given, and a warning where the bias is too weak to hold the molecule in one well: on such
    a curve works and free energies are not to be trusted.

    Parameters
    ----------
    ensembles : PathEnsemble, or mapping from row names to PathEnsemble
        The rows, in the order of the table.
    surface : FreeEnergySurface, optional
        For two torsions; without it the highest free energy is left out.
    target, start : sequence of n floats, optional
        Centres of the two states in raw units.  By default the ends of the bias, those of backward paths the other way round; with a surface, the lowest minimum within
        `radius` of that.
    referenceEnergy : float or Quantity, optional
        U(A), the mean potential energy of an unbiased run in the start state, kJ/mol.
    dF : float, Quantity, or mapping from row names to such, optional
        Free-energy difference of the biased ends, from where the paths start to where they end, -kT (psi_B - psi_A), kJ/mol.  Take it from an exact posterior or from BAR, never
        by Jarzynski's equality from the same paths.
    radius : float
        Radius of the discs for the hit rate and for the time outside the states, raw units (rad).
    periods : sequence of n floats, optional
        0 where a variable is not periodic. By default what the ensemble says of its variables, or else 2 pi.
    oneOff : mapping from labels to gradient evaluations, optional
        Costs paid once, such as the sampling that a model was made from.
    committors : mapping from row names to results of `committor`, optional
        Of frames of the row's paths: CommittorResult, or TransitionStates, of which the second set counts.
    title : str

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If there are no paths, or states cannot be found.
    """
    if not isinstance(ensembles, Mapping):
        ensembles = {"paths": ensembles}
    if not ensembles or any(len(e) == 0 for e in ensembles.values()):
        raise ValueError("analyze: expected at least one path in every ensemble")
    first = next(iter(ensembles.values()))
    # Backward paths start where the curve ends.
    ends = (-1, 0) if getattr(first, "direction", "forward") == "backward" else (0, -1)
    a = _endCenter(first, ends[0]) if start is None else np.asarray([_number(v) for v in start])
    b = _endCenter(first, ends[1]) if target is None else np.asarray([_number(v) for v in target])
    if surface is not None:
        a, b = surface.nearestMinimum(a, radius), surface.nearestMinimum(b, radius)
    if periods is None:
        known = getattr(first, "variables", None)
        periods = [v["period"] for v in known] if known else np.full(len(a), 2 * np.pi)
    periods = np.asarray(periods, dtype=float)
    reference = np.nan if referenceEnergy is None else _number(referenceEnergy)

    # What chose the frames does not judge them.
    committors = None if committors is None else {name: getattr(p, "second", p) for name, p in committors.items()}

    report = Report(title=title)
    report.ensembles, report.surface, report.committors = dict(ensembles), surface, dict(committors or {})
    report.start, report.target, report.radius = a, b, radius
    twentyIsTighter = bool(np.all(periods == 2 * np.pi))
    strides = set()
    for name, ensemble in ensembles.items():
        paths = [analyzePath(r, a, b, surface, radius, periods) for r in ensemble]
        strides.add(_stride(ensemble))
        hits = np.array([p.distance for p in paths])
        gap = np.nan
        if dF is not None:
            gap = _number(dF[name] if isinstance(dF, Mapping) else dF)
        workMean, workError = _meanError([p.work for p in paths])
        topF = np.array([p.maxFreeEnergy for p in paths])
        topU = np.array([p.maxPotentialEnergy for p in paths])
        seconds, _ = _meanError([p.seconds for p in paths])
        soft = None if surface is None else _softness(ensemble, surface)
        p = None if committors is None else committors.get(name)
        report.addRow(name, paths, {
            "paths": len(paths),
            "steps": int(len(np.asarray(ensemble[0].variables))),
            "hitRate": float(np.mean(hits <= radius)),
            "hitRate20": float(np.mean(hits <= TWENTY_DEGREES)) if twentyIsTighter else np.nan,
            "maxFreeEnergy": float(topF.mean()), "maxFreeEnergyStd": float(topF.std(ddof=1)) if len(paths) > 1 else np.nan,
            "maxPotential": float(topU.mean()) - reference, "maxPotentialStd": float(topU.std(ddof=1)) if len(paths) > 1 else np.nan,
            "maxPotentialAbsolute": float(topU.mean()),
            "work": workMean, "workError": workError,
            "dF": gap, "dissipated": workMean - gap, "dissipatedError": workError,
            "gradientEvaluations": float(np.mean([p.gradientEvaluations for p in paths])),
            "outside": float(np.mean([p.outside for p in paths])),
            "seconds": seconds,
            "committor": np.nan if p is None else float(p.mean), "committorError": np.nan if p is None else float(p.meanError),
            "criticalKappa": np.nan if soft is None else soft[0], "smallestKappa": np.nan if soft is None else soft[1],
            "softest": np.nan if soft is None else soft[2],
        })

    names = list(first.names)
    absolute = "{maxPotentialAbsolute:.0f}"
    report.columns = [
        Column("paths", "", "", "{paths:.0f}"),
        Column("hit rate", f"{radius:g} rad/20°" if twentyIsTighter else f"within {radius:g}", "%",
               "{hitRate:.0%}/{hitRate20:.0%}" if twentyIsTighter else "{hitRate:.0%}", strip="%"),
        Column("highest F", "mean ± std", "kJ/mol", "{maxFreeEnergy:.1f} ± {maxFreeEnergyStd:.1f}"),
        Column("highest U", "and - U(A)" if np.isfinite(reference) else "", "kJ/mol",
               absolute + "/{maxPotential:.0f} ± {maxPotentialStd:.0f}" if np.isfinite(reference) else absolute + " ± {maxPotentialStd:.0f}"),
        Column("gradients", "per path", "", "{gradientEvaluations:,.0f}"),
        Column("outside", "A and B", "%", "{outside:.1%}", strip="%"),
        Column("committor", "± s.e.", "", "{committor:.2f} ± {committorError:.2f}"),
        Column("<W> - dF" if dF is not None else "<W>", "± s.e.", "kJ/mol",
               "{dissipated:.1f} ± {dissipatedError:.1f}" if dF is not None else "{work:.1f} ± {workError:.1f}"),
        Column("wall", "per path", "s", "{seconds:.2f}"),
    ]
    if committors is None:
        del report.columns[6]
    if surface is None:
        del report.columns[2]

    def place(c: np.ndarray) -> str:
        return "(" + ", ".join(f"{n} {v:.2f}" for n, v in zip(names, c)) + ")"

    report.notes.append(f"A = {place(a)}, B = {place(b)} rad. Hits: last frame within {radius:g} rad of B"
                        + (", beside it within 20 degrees" if twentyIsTighter else "")
                        + f". Outside: share of the steps more than {radius:g} rad from both A and B.")
    if surface is not None:
        where, height = surface.saddle(a, b)
        report.saddle = (where, height)
        report.notes.append(f"Highest F: maximum of the free energy over every step of a path, relative to the global minimum; "
                            f"the lowest pass between A and B is {height:.1f} kJ/mol at {place(where)}. "
                            f"F from {surface.description or 'the surface given'}.")
        for row in report.rows:
            if row["maxFreeEnergy"] < height - 1.0:
                report.warnings.append(f"'{row['name']}': the mean highest F lies below the pass, so some of its paths did not cross.")
        _warnOfSoftWells(report)
    strideText = "" if strides == {None} else " at every step" if strides == {1} else \
        f" every {'/'.join(str(s) for s in sorted(s for s in strides if s is not None))} steps, so its maximum is a lower bound"
    if any(np.isfinite(row["maxPotentialAbsolute"]) for row in report.rows):
        report.notes.append("Highest U: potential energy without the bias, mean ± std over the paths" + (f", read{strideText}" if strideText else "")
                            + (f"; U(A) = {reference:.1f} kJ/mol, mean of an unbiased run started in A." if np.isfinite(reference) else "."))
    if dF is not None:
        values = sorted({round(row["dF"], 2) for row in report.rows})
        report.notes.append("Dissipated work <W> - dF ± standard error, W = -kT sum (eta_{i+1} - eta_i)·T(X_i); dF between the biased ends = "
                            + ", ".join(f"{v:.2f}" for v in values) + " kJ/mol.")
    if committors is not None:
        report.notes.append("Committor: share of unbiased trajectories from frames of the row's paths that reach B before A, each with fresh velocities; "
                            + "; ".join(f"{name}: {p.summary().splitlines()[0]}" for name, p in committors.items()) + ".")
    report.oneOff = dict(oneOff or {})
    return report


def _warnOfSoftWells(report: Report) -> None:
    rows = [row for row in report.rows if np.isfinite(row["softest"])]
    if not rows:
        return
    report.notes.append(
        "Critical kappa, the most negative curvature of F where the paths were, over kT: " + ", ".join(f"{row['criticalKappa']:.0f}" for row in rows)
        + " rad^-2 in the order of the rows; smallest kappa of the curves: " + ", ".join(f"{row['smallestKappa']:.3g}" for row in rows)
        + "; stiffness of their softest tilted well, lambda_min(F''/kT + kappa cos): " + ", ".join(f"{row['softest']:.0f}" for row in rows)
        + " rad^-2 (from about 10 on the molecule follows the bias, below 0 it hops between two wells).")
    for row in rows:
        if row["smallestKappa"] < WEAK_KAPPA:
            report.warnings.append(f"'{row['name']}': the bias lets go of the molecule (smallest kappa {row['smallestKappa']:.2g}): such an unconstrained curve has no well that moves. "
                                   "Bound it: minKappa=25, maxVariance=0.05.")
        elif row["softest"] < 0:
            report.warnings.append(f"'{row['name']}': its softest tilted well has the stiffness {row['softest']:.0f} rad^-2, so the molecule hops there instead of following: "
                                   f"expect wasted work and slow exchange. Critical kappa {row['criticalKappa']:.0f}, smallest kappa {row['smallestKappa']:.0f}.")
