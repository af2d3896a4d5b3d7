# SPDX-License-Identifier: MIT
"""Figures of speed, each beside its alternative in the same run: `make bench`.

1. The geodesic solver on the alanine surface (an exact posterior on a 90 x 90 grid; the trained network; the samples), under every kind
   of constraint, beside the published method (baseline.py: Adam on a spline, double backward) timed in the same run.
2. A thousand pairs.
3. Lengths against the optimum found by a second method (verify.py), at every bound on the log-SNR.

    python bench.py [--model FILE] [--only solver|pairs|optimum] [--full-baseline]
"""
import argparse
import json
import pathlib
import sys
import time
import warnings

import numpy as np

import openmmspacetime as st

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "alanine_dipeptide"
A, B = (-2.58, 2.79), (1.09, -0.88)
VARIABLES = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])


def gridModel():
    """Exact posterior of the alanine surface on a 90 x 90 grid of torsions, and the surface."""
    with np.load(EXAMPLE / "data" / "alanine_vacuum_300K.npz") as data:
        surface = st.FreeEnergySurface.fromSamples(data["x"].astype(float), data["log_weights"].astype(float), temperature=300)
        samples = st.EmpiricalModel(data["x"], VARIABLES, logWeights=data["log_weights"])
    return surface.model(VARIABLES, 300, bins=90), samples, surface


def fastest(solve, repeats=5):
    """Solutions of the fastest of `repeats` calls, and its wall time: what else the machine does only adds."""
    runs = []
    for _ in range(repeats):
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = solve()
        runs.append((time.perf_counter() - begin, results))
    seconds, results = min(runs, key=lambda run: run[0])
    return results, seconds


def solverTable(network, fullBaseline):
    grid, samples, surface = gridModel()
    height = surface.saddle(A, B)[1]
    region = dict(center=(-0.8, -0.1), logSnr=4)
    problems = {
        "free": {},
        "kappa >= e^4": dict(minLogSnr=4),
        "preset transition": dict(preset="transition"),
        "tr Cov <= .05, kappa >= 25": dict(maxVariance=0.05, minKappa=25),
        "penalty of the paper, weight 100": dict(penaltyWeight=100),
        "avoid (-0.8, -0.1), 20 nats": dict(avoid=[st.Region(nats=20, **region)]),
        "avoid (-0.8, -0.1), 50 nats": dict(avoid=[st.Region(nats=50, **region)]),
        "avoid (-0.8, -0.1), 100 nats": dict(avoid=[st.Region(nats=100, **region)]),
    }
    print(f"alanine dipeptide, 129 points, one thread; lengths extrapolated, exact length under the 90 x 90 grid; lowest pass {height:.1f} kJ/mol")
    print(f"{'model':8s} {'problem':34s} {'length':>8s} {'exact':>8s} {'gap':>8s} {'evals':>7s} {'best, s':>8s} {'all, s':>7s} {'found':>5s} {'highest F':>9s}  extremes of the constraints")
    ours = {}
    for name, model in {"grid": grid, "network": network, "samples": samples}.items():
        if model is None:
            continue
        for problem, options in problems.items():
            if name != "grid" and problem not in ("free", "kappa >= e^4", "preset transition"):
                continue
            try:
                results, seconds = fastest(lambda: st.geodesics(model, A, B, threads=1, **options), 5 if name == "grid" else 1)
            except ValueError as error:
                print(f"{name:8s} {problem:34s} {error}")
                continue
            best = results[0]
            exact = best.curve.measure(grid).lengthExtrapolated
            ours[name, problem] = (exact, best.seconds, seconds)
            F = st.highestFreeEnergy(best.curve, model, surface)[0]
            values = "; ".join(f"{c.name} {c.extreme:.4g}" for c in best.constraints)
            print(f"{name:8s} {problem:34s} {best.measure.lengthExtrapolated:8.4f} {exact:8.4f} {best.measure.speedGap:8.1e} {best.evaluations:7d} {best.seconds:8.4f} {seconds:7.3f} "
                  f"{len(results):5d} {F:9.2f}  {values}{'' if best.converged else '  NOT CONVERGED'}", flush=True)
    if network is not None:
        baselineTable(grid, ours, fullBaseline)


def baselineTable(grid, ours, full):
    """The published method on the same network. Its full run is long: the lengths it reached are kept in baseline.json."""
    import baseline

    record = pathlib.Path(__file__).with_name("baseline.json")
    reached = json.loads(record.read_text()) if record.exists() else {}
    net = baseline.load(str(MODEL_FILE))
    ends = [VARIABLES.naturalParameter(point, 4.0) for point in (A, B)]
    print(f"\n{'published method, same network':34s} {'exact':>8s} {'ours':>8s} {'s a step':>9s} {'10,000 steps, s':>16s} {'ours, s':>8s} {'ratio':>7s}   (150 steps timed, default threads; "
          "exact length of one full run)")
    for problem, options in {"free": {}, "kappa >= e^4": dict(minKappa=float(np.exp(4)))}.items():
        if full:
            solution = baseline.solve(net, *ends, **options)
            reached[problem] = {"exact_length": float(solution.length(grid, fine=True)), "seconds": round(solution.seconds, 1)}
            record.write_text(json.dumps(reached, indent=1) + "\n")
        step = baseline.timePerStep(net, *ends, steps=150, **options)
        exact, seconds, _ = ours["network", problem]
        theirs = reached.get(problem, {}).get("exact_length", float("nan"))
        print(f"{problem:34s} {theirs:8.4f} {exact:8.4f} {step:9.4f} {10_000 * step:16.0f} {seconds:8.3f} {10_000 * step / seconds:7.0f}", flush=True)


def pairsTable():
    grid, _, _ = gridModel()
    random = np.random.default_rng(1)
    a, b = random.uniform(-np.pi, np.pi, (2, 1000, 2))
    begin = time.perf_counter()
    distances = st.distance(grid, a, b)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    batch = st.geodesicsOfPairs(grid, a, b, points=129)
    secondsFine = time.perf_counter() - begin
    fine = np.array([pair.results[0].measure.lengthExtrapolated for pair in batch])
    loose = sum(not pair.results[0].converged for pair in batch)
    print(f"\n1,000 pairs, exact posterior on the grid, free, all cores: distances (65 points) {seconds:.1f} s; curves of 129 points {secondsFine:.1f} s, {loose} not converged, "
          f"largest speed gap {max(pair.results[0].measure.speedGap for pair in batch):.1e}; distances differ from theirs by at most {np.max(np.abs(distances / fine - 1)):.1e} "
          f"(relative), by {np.median(np.abs(distances / fine - 1)):.1e} in the median", flush=True)


def optimumTable():
    import verify

    for euclidean in (True, False):
        print(f"\n{'Euclidean' if euclidean else 'lifted'}, 90 x 90 grid, ends at log-SNR 4: lengths against a second method")
        rows = verify.table(verify.gridModel(euclidean))
        print(f"largest excess {100 * max(row['excess'] for row in rows):.4f} %", flush=True)


def main():
    global MODEL_FILE
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a trained network (.safetensors) of (phi, psi)")
    parser.add_argument("--only", choices=("solver", "pairs", "optimum"))
    parser.add_argument("--full-baseline", action="store_true", help="run the published method in full (10,000 steps a problem) and keep its lengths")
    arguments = parser.parse_args()
    MODEL_FILE = arguments.model
    sections = {"solver": lambda: solverTable(st.NetworkModel.load(arguments.model) if arguments.model else None, arguments.full_baseline), "pairs": pairsTable,
                "optimum": optimumTable}
    for name, section in sections.items():
        if arguments.only in (None, name):
            section()


if __name__ == "__main__":
    sys.exit(main())
