# SPDX-License-Identifier: MIT
"""Makes docs/figures/readme_paths.png, the picture of the README: molecules driven along a geodesic and along a straight line, on the surface. Half a minute.

    python examples/alanine_dipeptide/readme_figure.py [--out FILE]
"""
import argparse
import tempfile
from pathlib import Path

import numpy as np

import metadynamics as md
import openmmspacetime as st
from openmmspacetime import plots

parser = argparse.ArgumentParser(description="Makes the picture of the README.")
parser.add_argument("--out", type=Path, default=md.HERE.parents[1] / "docs" / "figures" / "readme_paths.png")
out = parser.parse_args().out

with np.load(md.HERE / "data" / "alanine_vacuum_300K.npz") as data:
    samples, logWeights = data["x"].astype(float), data["log_weights"].astype(float)
variables = st.Variables.torsions(list(md.TORSIONS.values()), names=list(md.TORSIONS))
surface = st.FreeEnergySurface.fromSamples(samples, logWeights, temperature=md.TEMPERATURE)
a, b = surface.nearestMinimum((-2.6, 2.75)), surface.nearestMinimum((1.07, -0.74))
model = st.EmpiricalModel(samples, variables, logWeights)
lines = [st.straightLine(variables, a, b, windings=(i, j)) for i in (0, 1) for j in (0, -1)]
curves = {"along the geodesic": st.geodesic(model, a, b, preset="transition", temperature=md.TEMPERATURE),
          "along a straight line (null)": min(lines, key=lambda line: st.highestFreeEnergy(line, model, surface)[0])}
topology, _, positions = md.createSystem()
with tempfile.TemporaryDirectory() as folder:
    paths = {}
    for k, (name, curve) in enumerate(curves.items()):
        _, system, _ = md.createSystem()
        force = st.SpacetimeForce(curve, variables, md.TEMPERATURE)
        system.addForce(force)
        simulation = md.createSimulation(topology, system, positions, seed=1)
        paths[name] = st.PathSampler(simulation, force, numPaths=12, steps=5000, seed=1).run(Path(folder) / str(k))
    means = {name: variables.meanPosition(model.moments(curve.eta).mu) for name, curve in curves.items()}
    figure = plots.freeEnergySurface(surface, paths, means, {"C5": a, "C7ax": b}, surface.saddle(a, b)[0], pathsShown=12)
figure.savefig(out, dpi=110)
print(out)
