# SPDX-License-Identifier: MIT
"""The README's script runs as it stands, given what it says it needs."""
import pathlib
import re

import numpy as np
import openmm
from openmm import app, unit

ROOT = pathlib.Path(__file__).resolve().parents[2]


def testReadmeSnippet(tmp_path, monkeypatch, alanineSamples):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 10
    pdb = app.PDBFile(str(ROOT / "examples" / "alanine_dipeptide" / "alanine_dipeptide.pdb"))
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 2 * unit.femtoseconds)
    samples, logWeights = alanineSamples
    names = dict(
        samples=samples, logWeights=logWeights, system=system, app=app, topology=pdb.topology, positions=pdb.positions,
        integrator=integrator, platform=openmm.Platform.getPlatform("Reference"),
    )
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    paths = names["paths"]
    assert len(paths) == 2
    for path in paths:
        # Driven by the bias at kappa = e^4 the molecule ends within a radian of C7ax.
        end = (path.variables[-1] - [1.09, -0.88] + np.pi) % (2 * np.pi) - np.pi
        assert np.linalg.norm(end) < 1
    assert (tmp_path / "paths" / "path-0001.dcd").exists()
