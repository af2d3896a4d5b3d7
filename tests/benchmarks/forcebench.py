# SPDX-License-Identifier: MIT
"""What a SpacetimeForce costs a simulation, beside OpenMM's own ways to the same bias, each pair of runs interleaved: `make bench`.

1. The bias alone on the Reference platform, on the atoms of alanine dipeptide held still, and added to the molecule in vacuum: microseconds a step.
2. The same in 8,000 atoms of water: share of a step, on the CPU platform, and on CUDA where there is a GPU.
3. Walkers: paths of many copies in one Context on a GPU beside one core. Says so where there is no GPU.

    python forcebench.py [--pairs 20] [--steps 4000]
"""
import argparse
import pathlib
import time

import numpy as np
import openmm
from openmm import app, unit

import openmmspacetime as st

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "alanine_dipeptide"
A, B = (-2.58, 2.79), (1.09, -0.88)
VARIABLES = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])
KT = 8.31446261815324e-3 * 300


def transitionCurve():
    with np.load(EXAMPLE / "data" / "alanine_vacuum_300K.npz") as data:
        surface = st.FreeEnergySurface.fromSamples(data["x"].astype(float), data["log_weights"].astype(float), temperature=300)
    return st.geodesic(surface.model(VARIABLES, 300, bins=90), A, B, preset="transition")


def torsionForce(curve):
    """The bias at s = 0, where all alternatives are timed, from CustomTorsionForce: the cheapest of OpenMM's own, but it cannot move."""
    force = openmm.CustomTorsionForce("-k*cos(theta-phi0)")
    force.addPerTorsionParameter("k")
    force.addPerTorsionParameter("phi0")
    for i, variable in enumerate(VARIABLES):
        c, s = curve.eta[0, 2 * i : 2 * i + 2]
        force.addTorsion(*variable.atoms, [KT * np.hypot(c, s), np.arctan2(s, c)])
    return force


def pythonForce(curve):
    """The same bias from a function in Python, on the atoms that it needs."""
    atoms = sorted({a for v in VARIABLES for a in v.atoms})
    quads = [[atoms.index(a) for a in v.atoms] for v in VARIABLES]
    eta = curve.eta[0].reshape(-1, 2)

    def compute(state):
        x = state.getPositions(asNumpy=True)._value
        energy, forces = 0.0, np.zeros_like(x)
        for (i, j, k, l), (c, s) in zip(quads, eta):
            b1, b2, b3 = x[j] - x[i], x[k] - x[j], x[l] - x[k]
            n1, n2 = np.cross(b1, b2), np.cross(b2, b3)
            n11, n22, b22 = n1 @ n1, n2 @ n2, b2 @ b2
            length = np.sqrt(b22)
            phi = np.arctan2(b1 @ n2 * length, n1 @ n2)
            energy -= KT * (c * np.cos(phi) + s * np.sin(phi))
            f = KT * (s * np.cos(phi) - c * np.sin(phi))
            f1, f4 = -f * length / n11 * n1, f * length / n22 * n2
            shared = f4 * (b3 @ b2 / b22) - f1 * (b1 @ b2 / b22)
            forces[i] += f1
            forces[j] += shared - f1
            forces[k] -= shared + f4
            forces[l] += f4
        return energy, forces

    return openmm.PythonForce(compute, {}, atoms)


ALTERNATIVES = {"SpacetimeForce": lambda curve: st.SpacetimeForce(curve, VARIABLES, 300), "CustomTorsionForce (s fixed)": torsionForce,
                "CustomCVForce": lambda curve: st.asCustomCVForce(curve, VARIABLES, 300), "PythonForce (s fixed)": pythonForce}


def simulation(topology, positions, createSystem, bias, platform, integrator=None):
    system = createSystem()
    if bias is not None:
        bias.setForceGroup(1)
        system.addForce(bias)
    if integrator is None:
        integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 2 * unit.femtoseconds)
        integrator.setRandomNumberSeed(1)
    result = app.Simulation(topology, system, integrator, openmm.Platform.getPlatform(platform))
    result.context.setPositions(positions)
    if not isinstance(integrator, openmm.VerletIntegrator):
        result.minimizeEnergy(maxIterations=50)
    return result


def inTurns(pairs, *measures):
    """Seconds by each of `measures`, which take turns `pairs` times, [measures, pairs]: what else the machine does falls on all alike."""
    for measure in measures:
        measure()
    order = range(len(measures))
    result = np.empty((len(measures), pairs))
    for i in range(pairs):
        for k in order if i % 2 else reversed(order):
            result[k, i] = measures[k]()
    return result


def added(without, having):
    """Median of the differences of pairs, and its standard error from their median absolute deviation."""
    d = having - without
    return np.median(d), 1.4826 * 1.2533 * np.median(np.abs(d - np.median(d))) / np.sqrt(len(d))


def costOfSteps(plain, runs, steps, pairs, clock):
    """The step of `plain`, and what each of `runs` adds to it."""
    def measure(run):
        def seconds():
            begin = clock()
            run.step(steps)
            run.context.getState(energy=True)  # waits for a GPU
            return (clock() - begin) / steps
        return seconds

    table = {}
    for name, run in runs.items():
        without, having = inTurns(pairs, measure(plain), measure(run))
        table[name] = added(without, having)
    return np.median(without), table


def costOfEvaluations(plain, runs, calls, pairs):
    """The step of `plain`, and what the forces of the bias (force group 1) take in each of `runs`, less those of an empty group."""
    def measure(run, group):
        def seconds():
            begin = time.perf_counter()
            for _ in range(calls):
                run.context.getState(forces=True, groups={group})
            return (time.perf_counter() - begin) / calls
        return seconds

    table = {name: added(*inTurns(pairs, measure(run, 2), measure(run, 1))) for name, run in runs.items()}
    begin = time.perf_counter()
    plain.step(100)
    return (time.perf_counter() - begin) / 100, table


def printCosts(title, step, table):
    own = table["SpacetimeForce"]
    print(f"\n{title}: a step takes {1e6 * step:.1f} us; added by the bias (median and standard error)")
    for name, (cost, error) in table.items():
        times = f" {cost / own[0]:8.1f} times the SpacetimeForce" if own[0] > 3 * own[1] else ""  # a ratio of noise
        print(f"  {name:30s} {1e6 * cost:9.2f} +- {1e6 * error:.2f} us  {100 * cost / step:8.3f} % of a step{times}", flush=True)


def vacuumTable(curve, steps, pairs):
    pdb = app.PDBFile(str(EXAMPLE / "alanine_dipeptide.pdb"))

    def still(bias):
        def create():
            system = openmm.System()
            for _ in pdb.topology.atoms():
                system.addParticle(1e9)
            return system
        return simulation(pdb.topology, pdb.positions, create, bias, "Reference", openmm.VerletIntegrator(0.001))

    printCosts("the bias alone, Reference", *costOfSteps(still(None), {name: still(make(curve)) for name, make in ALTERNATIVES.items()}, steps, pairs, time.process_time))
    create = lambda: app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    runs = {name: simulation(pdb.topology, pdb.positions, create, make(curve), "Reference") for name, make in ALTERNATIVES.items()}
    printCosts("alanine dipeptide in vacuum, Reference", *costOfSteps(simulation(pdb.topology, pdb.positions, create, None, "Reference"), runs, steps, pairs, time.process_time))


def waterTable(curve, platform, steps, pairs):
    pdb = app.PDBFile(str(EXAMPLE / "alanine_dipeptide.pdb"))
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.addSolvent(field, numAdded=2659)
    system = openmm.XmlSerializer.serialize(field.createSystem(modeller.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9, constraints=app.HBonds))
    create = lambda: openmm.XmlSerializer.deserialize(system)
    runs = {name: simulation(modeller.topology, modeller.positions, create, make(curve), platform) for name, make in ALTERNATIVES.items()}
    plain = simulation(modeller.topology, modeller.positions, create, None, platform)
    title = f"alanine dipeptide in water, {modeller.topology.getNumAtoms()} atoms, {platform}"
    if platform == "CPU":
        # Steps vary by more than the bias costs.
        printCosts(title, *costOfEvaluations(plain, runs, steps, pairs))
    else:
        printCosts(title, *costOfSteps(plain, runs, steps, pairs, time.perf_counter))


def walkersTable(curve, platform, copies, steps):
    """Copies of the vacuum molecule that go along the curve together, each a path of its own, beside one molecule on one core."""
    pdb = app.PDBFile(str(EXAMPLE / "alanine_dipeptide.pdb"))

    def run(n, platform):
        system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
        force = st.SpacetimeForce(curve, VARIABLES, 300)
        system.addForce(force)
        system, topology = st.replicate(system, pdb.topology, n)
        force = next(st.SpacetimeForce.cast(f) for f in system.getForces() if st.SpacetimeForce.isinstance(f))
        positions = np.tile(pdb.getPositions(asNumpy=True)._value, (n, 1))
        sim = simulation(topology, positions, lambda: system, None, platform)
        sim.context.setParameter("spacetime_s", 0)
        sim.step(100)
        begin = time.perf_counter()
        for i in range(steps // 10):
            sim.context.setParameter("spacetime_s", (i + 1) / (steps // 10))
            sim.step(10)
        values = force.getVariableValues(sim.context)  # waits for a GPU
        seconds = time.perf_counter() - begin
        hits = np.mean(np.hypot(*((values - B + np.pi) % (2 * np.pi) - np.pi).T) < 0.75)
        return n * steps / seconds, hits

    core, coreHits = run(1, "Reference")
    print(f"\nwalkers: {steps} steps along the curve, s moved every 10")
    print(f"  {'1 copy, Reference, one core':34s} {core:12.0f} molecule steps/s, {100 * coreHits:.0f} % arrive")
    for n in copies:
        rate, hits = run(n, platform)
        print(f"  {f'{n} copies, {platform}':34s} {rate:12.0f} molecule steps/s, {100 * hits:.0f} % arrive, {rate / core:.1f} times one core", flush=True)


def hasGpu():
    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    if "CUDA" not in names:
        return False
    try:
        system = openmm.System()
        system.addParticle(1)
        openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("CUDA"))
        return True
    except openmm.OpenMMException:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20, help="pairs of runs, with and without the bias")
    parser.add_argument("--steps", type=int, default=8000, help="MD steps of a run; a twentieth of it evaluations in water on the CPU")
    arguments = parser.parse_args()
    curve = transitionCurve()
    vacuumTable(curve, arguments.steps, arguments.pairs)
    waterTable(curve, "CPU", max(arguments.steps // 20, 5), arguments.pairs)
    if hasGpu():
        waterTable(curve, "CUDA", arguments.steps, arguments.pairs)
        walkersTable(curve, "CUDA", (1, 100, 1000, 4000), 5000)
    else:
        print("\nno GPU: the figures in water on CUDA were not measured; walkers, on the CPU platform instead:")
        walkersTable(curve, "CPU", (1, 100), 2000)


if __name__ == "__main__":
    main()
