# SPDX-License-Identifier: MIT
"""What the studies beside this file share: peptides built from alanine dipeptide, Systems, structures brought to given torsions, and rows of driven paths.

A study imports it with its own folder's parent on the path; every function takes what it needs, nothing is kept here.
"""
from __future__ import annotations

import argparse
import io
import itertools
import shutil
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import numpy as np
import openmm
from openmm import app, unit

from common import Progress

import openmmspacetime as st
from openmmspacetime.surface import GAS_CONSTANT, wrap

DIPEPTIDE = Path(__file__).resolve().parent / "alanine_dipeptide" / "alanine_dipeptide.pdb"
TEMPERATURE = 300.0  # K
KT = GAS_CONSTANT * TEMPERATURE


def parse(description: str) -> argparse.Namespace:
    """The arguments of a study that goes stage by stage; its output folder is there afterwards."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path("output"), metavar="DIR", help="output folder (default: output)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="processes side by side; the results do not depend on it")
    parser.add_argument("--resume", action="store_true", help="keep what is in the output folder, and do the rest")
    parser.add_argument("--overwrite", action="store_true", help="replace the output folder")
    parser.add_argument("--quick", action="store_true", help="a small part of the sampling and few short paths, to see that it runs")
    arguments = parser.parse_args()
    if arguments.out.exists() and any(arguments.out.iterdir()):
        if arguments.overwrite:
            shutil.rmtree(arguments.out)
        elif not arguments.resume:
            parser.error(f"{arguments.out} is not empty: --resume goes on with it, --overwrite replaces it")
    arguments.out.mkdir(parents=True, exist_ok=True)
    return arguments


def peptide(residues: int) -> tuple[app.Topology, np.ndarray]:
    """ACE-ALA_n-NME, extended: the residue of alanine dipeptide, carried on by the rigid motion of one peptide plane onto the next.

    Returns
    -------
    (topology, positions [N, 3] in nm)
    """
    pdb = app.PDBFile(str(DIPEPTIDE))
    atoms = [(a.residue.name, a.name, a.element.symbol) for a in pdb.topology.atoms()]
    x = np.array(pdb.positions.value_in_unit(unit.angstrom))
    at = {(residue, name): i for i, (residue, name, _) in enumerate(atoms)}

    def plane(*names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        a, b, c = (x[at[n]] for n in names)
        first = (c - b) / np.linalg.norm(c - b)
        second = a - b - (a - b) @ first * first
        second /= np.linalg.norm(second)
        return np.stack([first, second, np.cross(first, second)], 1), b

    methyl = next(name for name in ("C", "CH3") if ("NME", name) in at)
    (before, start), (after, end) = plane(("ACE", "C"), ("ALA", "N"), ("ALA", "CA")), plane(("ALA", "C"), ("NME", "N"), ("NME", methyl))
    rotation = after @ before.T
    lines: list[str] = []

    def add(name: str, number: int) -> None:
        for (residue, atom, element), p in zip(atoms, x):
            if residue == name:
                lines.append(f"ATOM  {len(lines) + 1:5d} {atom:^4s} {name} A{number:4d}    {p[0]:8.3f}{p[1]:8.3f}{p[2]:8.3f}  1.00  0.00          {element:>2s}")

    add("ACE", 1)
    for k in range(residues):
        add("ALA", k + 2)
        if k + 1 < residues:
            x = (x - start) @ rotation.T + end
    add("NME", residues + 2)
    built = app.PDBFile(io.StringIO("\n".join(lines) + "\nEND\n"))
    return built.topology, np.array(built.positions.value_in_unit(unit.nanometer))


def createSystem(topology: app.Topology, implicit: bool = False) -> openmm.System:
    """amber14, bonds to hydrogen constrained, in vacuum or in implicit solvent (OBC2, the files' implicit/obc2.xml).

    The force field describes OBC2 as a CustomGBForce, which the Reference platform interprets term by term. OpenMM's own GBSAOBCForce is the same function, 36 times as
    fast there for alanine dipeptide, so it takes its place; tests/python/test_studies.py compares energies and forces.
    """
    files = ["amber14-all.xml"] + (["implicit/obc2.xml"] if implicit else [])
    system = app.ForceField(*files).createSystem(topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds)
    for k, force in enumerate(system.getForces()):
        if isinstance(force, openmm.CustomGBForce):
            obc, offset = openmm.GBSAOBCForce(), 0.009
            for i in range(force.getNumParticles()):
                charge, radius, scaled = force.getParticleParameters(i)  # radius is the offset one, and scaled is a multiple of it
                obc.addParticle(charge, radius + offset, scaled / radius)
            obc.setNonbondedMethod(openmm.GBSAOBCForce.NoCutoff)
            obc.setSoluteDielectric(1.0)
            obc.setSolventDielectric(78.5)
            system.removeForce(k)
            system.addForce(obc)
            break
    return system


def createSimulation(topology: app.Topology, system: openmm.System, positions: Any, seed: int, temperature: float = TEMPERATURE) -> app.Simulation:
    """A Simulation at 1/ps and 2 fs on the Reference platform, the fastest one for a few dozen atoms, with seeded velocities."""
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, 0.002)
    integrator.setRandomNumberSeed(seed)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(positions)
    simulation.context.setVelocitiesToTemperature(temperature, seed)
    return simulation


def settle(topology: app.Topology, implicit: bool, positions: np.ndarray, variables: st.Variables, target: Sequence[float], seed: int = 1) -> np.ndarray:
    """Positions [N, 3] (nm) at the torsions `target` (rad): the bias of a straight line takes the molecule there in 20 ps, and the energy is minimised under it."""
    line = st.straightLine(variables, variables.measure(positions), target, logSnr=5.0)
    force = st.SpacetimeForce(line, variables, TEMPERATURE)
    system = createSystem(topology, implicit)
    system.addForce(force)
    simulation = createSimulation(topology, system, positions, seed)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    for s in np.linspace(0, 1, 500):
        simulation.context.setParameter("spacetime_s", s)
        simulation.step(20)
    simulation.minimizeEnergy()
    return simulation.context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)


def climb(model: st.PosteriorModel, curve: Any, logSnr: float = 4.0) -> float:
    """Highest free energy above the start along the posterior mean of a curve, kJ/mol, as a model knows it.

    F is -kT psi of the denoising distributions at those means and one `logSnr`, whatever that of the curve: the free energy smoothed over exp(-logSnr/2) = 0.14 rad. It needs
    a model that knows psi.
    """
    variables = model.variables
    means = np.asarray(variables.meanPosition(model.moments(np.asarray(curve.eta)).mu))
    F = -KT * np.asarray(model.moments(np.array([variables.naturalParameter(c, logSnr) for c in means])).psi)
    return float(F.max() - F[0])


def straightLines(variables: st.Variables, a: np.ndarray, b: np.ndarray, judge: Any, torsions: Sequence[int] = (0, 1), logSnr: float = 4.0) -> list[tuple[float, Any]]:
    """Straight lines from a to b at constant kappa, the short and the long way round for each of the `torsions`: (judge(line), line), the lowest first."""
    lines = []
    for far in itertools.product((False, True), repeat=len(torsions)):
        turns = [0] * len(variables)
        for j, isFar in zip(torsions, far):
            turns[j] = int(-np.sign(wrap(b[j] - a[j]))) if isFar else 0
        line = st.straightLine(variables, a, b, logSnr=logSnr, windings=turns)
        lines.append((judge(line), line))
    return sorted(lines, key=lambda pair: pair[0])


def freeEnergyDifference(model: st.PosteriorModel, curve: Any) -> float:
    """dF of the biased ends of a curve under a model, -kT (psi_B - psi_A), kJ/mol."""
    psi = model.moments(np.asarray(curve.eta)[[0, -1]]).psi
    return -KT * float(psi[1] - psi[0])


def drive(out: Path, curve: Any, variables: st.Variables, topology: app.Topology, implicit: bool, starts: Mapping[str, np.ndarray], numPaths: int, steps: int, seed: int,
          processes: int = 1, equilibrationSteps: int = 1500, pull: int = 2500, surface: Optional[st.FreeEnergySurface] = None, progress: Optional[Progress] = None,
          directions: Sequence[str] = ("forward", "backward")) -> dict[str, st.PathEnsemble]:
    """Driven paths along a curve, from A to B and from B to A, in out/forward and out/backward; what is there already is kept.

    Parameters
    ----------
    starts : mapping
        Positions [N, 3] (nm) in A for 'forward' and in B for 'backward'. For `pull` steps the bias grows at the end of the curve where they belong.
    """
    ensembles = {}
    for k, direction in enumerate(directions):
        system = createSystem(topology, implicit)
        force = st.SpacetimeForce(curve, variables, TEMPERATURE * unit.kelvin)
        system.addForce(force)
        simulation = createSimulation(topology, system, starts[direction], seed)
        sampler = st.PathSampler(simulation, force, numPaths=numPaths, steps=steps, equilibrationSteps=equilibrationSteps, equilibrate=pull, direction=direction, energyStride=10,
                                 frameStride=max(1, steps // 100), seed=seed + 500 * k, processes=processes, surface=surface,
                                 progress=(lambda done, total: progress.show(f"{out.name}, {direction}: {done} of {total} paths")) if progress else None)
        ensembles[direction] = sampler.run(out / direction, resume=True)
    return ensembles


def unbiasedEnergy(topology: app.Topology, system: openmm.System, positions: Any, seed: int, steps: int = 50_000) -> float:
    """U(A): mean potential energy of plain dynamics started at `positions`, kJ/mol."""
    simulation = createSimulation(topology, system, positions, seed)
    simulation.step(2000)
    energies = []
    for _ in range(steps // 10):
        simulation.step(10)
        energies.append(simulation.context.getState(energy=True).getPotentialEnergy()._value)
    return float(np.mean(energies))


def plusMinus(value: float, error: float) -> str:
    return f"{value:.1f} ± {error:.1f}"


def report(ensembles: Mapping[str, Mapping[str, st.PathEnsemble]], rows: Mapping[str, str], facts: Mapping[str, Mapping[str, Any]], a: Sequence[float], b: Sequence[float],
           referenceEnergy: float, title: str, surface: Optional[st.FreeEnergySurface] = None, oneOff: Optional[Mapping[str, int]] = None) -> st.Report:
    """st.analyze of the forward paths, with dF by Bennett's acceptance ratio from forward and backward work, and what the curves are in the notes.

    Parameters
    ----------
    ensembles : mapping from a row's key to {'forward': PathEnsemble, 'backward': PathEnsemble}
    rows : mapping from keys to the names that the table shows
    facts : mapping from keys to what is known of the curve: length, climb, dFNetwork or dFExact, ...
    """
    bar = {key: st.bar(both["forward"], both["backward"]) for key, both in ensembles.items()}
    dF = {rows[key]: bar[key].freeEnergyDifference.value for key in ensembles}
    result = st.analyze({rows[key]: both["forward"] for key, both in ensembles.items()}, surface, start=a, target=b, referenceEnergy=referenceEnergy, dF=dF, oneOff=oneOff, title=title)
    for key in ensembles:
        own = facts[key]
        text = (f"{rows[key]}: dF of the biased ends {plusMinus(*bar[key].freeEnergyDifference)} kJ/mol by BAR from forward and backward work, which together dissipate "
                f"{plusMinus(*bar[key].hysteresis)}. ")
        for name, what in (("dFNetwork", "the network"), ("dFExact", "the exact posterior of the samples")):
            if own.get(name) is not None:
                text += f"dF under {what} {own[name]:.1f}" + (f" ± {own[name + 'Error']:.1f}" if own.get(name + "Error") is not None else "") + ". "
        result.notes.append(text + f"Length {own['length']:.1f}, highest F of the mean {own['climb']:.1f} kJ/mol above the start under the model.")
    result.settings["curves"] = {rows[key]: {**own, "dFBar": bar[key].freeEnergyDifference, "hysteresis": bar[key].hysteresis} for key, own in facts.items()}
    return result


def publish(result: st.Report, out: Path, curves: Mapping[str, Any], rows: Mapping[str, str], means: Optional[Mapping[str, np.ndarray]] = None,
            states: tuple[str, str] = ("A", "B"), referenceEnergy: float = 0.0) -> None:
    """Figures, table.txt, report.json and report.html into `out`."""
    from PIL import Image

    from openmmspacetime import plots

    named = {rows[key]: curve for key, curve in curves.items()}
    figures = [(torsionsAlong(named, result.ensembles), "Torsions along the curves", "Full lines: mean over the driven paths, with one standard deviation. Dashed: centre of the bias.")]
    figures += plots.standardFigures(result, named, {rows[key]: m for key, m in means.items()} if means else None, states, referenceEnergy)
    names = {"Torsions along the curves": "torsions.png", "Paths on the free-energy surface": "surface.png", "Along the curves": "profiles.png", "Work": "work.png"}
    for figure, title, caption in figures:
        figure.savefig(out / names[title], dpi=110)
        Image.open(out / names[title]).convert("RGB").quantize(96).save(out / names[title], optimize=True)  # a third of the size
        result.addFigure(out / names[title], title, caption)
    for name in ("table.txt", "report.json", "report.html"):
        result.save(out / name)


def torsionsAlong(curves: Mapping[str, Any], ensembles: Mapping[str, st.PathEnsemble], bins: int = 60) -> Any:
    """What the torsions do along the curves: mean and standard deviation over the paths, and the centre of the bias."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from openmmspacetime.plots import _STYLE, COLOURS

    names = list(next(iter(ensembles.values())).names)
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.8, 2.3 * -(-len(names) // 2) + 0.6), layout="constrained")
        axes = figure.subplots(-(-len(names) // 2), 2, sharex=True, squeeze=False)
        for j, name in enumerate(names):
            axis = axes.flat[j]
            for k, (row, ensemble) in enumerate(ensembles.items()):
                s = np.concatenate([np.asarray(path.s) for path in ensemble])
                angle = np.concatenate([np.asarray(path.variables)[:, j] for path in ensemble])
                cell = np.minimum((s * bins).astype(int), bins - 1)
                z = np.array([np.mean(np.exp(1j * angle[cell == i])) for i in range(bins)])
                middle = np.unwrap(np.angle(z))
                spread = np.sqrt(-2 * np.log(np.abs(z)))
                eta = np.asarray(curves[row].eta).reshape(len(curves[row].s), -1, 2)
                center = np.unwrap(np.arctan2(eta[:, j, 1], eta[:, j, 0]))
                center += 2 * np.pi * np.round((middle[0] - center[0]) / (2 * np.pi))
                at = (np.arange(bins) + 0.5) / bins
                axis.fill_between(at, np.degrees(middle - spread), np.degrees(middle + spread), color=COLOURS[k], alpha=0.15, lw=0)
                axis.plot(at, np.degrees(middle), color=COLOURS[k], lw=1.6, label=row if j == 0 else None)
                axis.plot(curves[row].s, np.degrees(center), color=COLOURS[k], lw=1.0, ls=(0, (4, 2)))
            low, high = axis.get_ylim()
            axis.set_ylim((low + high) / 2 - max(30, (high - low) / 2), (low + high) / 2 + max(30, (high - low) / 2))  # a torsion that stays looks as if it stays
            axis.set_ylabel(f"{name} (degrees)")
            axis.grid(axis="y", color="#e3e6e9", lw=0.6)
            axis.set_xlim(0, 1)
        for axis in axes.flat[len(names):]:
            axis.set_visible(False)
        for axis in axes[-1]:
            axis.set_xlabel("s")
        figure.legend(loc="outside upper center", ncol=2)
    return figure
