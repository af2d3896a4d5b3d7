# SPDX-License-Identifier: MIT
"""The snippets of docs/committors.md run as they stand, one after the other, with alanine dipeptide."""
import pathlib
import re
import subprocess
import sys

import matplotlib
import openmm
from openmm import app, unit
from test_opshandoff import opsPython  # noqa: F401

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/"examples"/"alanine_dipeptide"))


def prepare(tmp_path, monkeypatch, samples, logWeights, torsions):
    import metadynamics as md

    model = st.EmpiricalModel(samples, torsions, logWeights=logWeights)
    curve = st.geodesic(model, (-2.63, 2.76), (1.07, -0.69), logSnr=4.0)
    topology, system, positions = md.createSystem()
    force = st.SpacetimeForce(curve, torsions, 300*unit.kelvin)
    system.addForce(force)
    simulation = md.createSimulation(topology, system, positions, 1)
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (ROOT/"docs"/"committors.md").read_text(encoding="utf-8"), re.S)
    assert len(code) == 4
    return code, dict(force=force, simulation=simulation, surface=st.FreeEnergySurface.fromSamples(samples, logWeights, 300.0))


def testSnippets(tmp_path, monkeypatch, capsys, alanineSamples, torsions):
    from openmmspacetime import plots

    code, names = prepare(tmp_path, monkeypatch, *alanineSamples, torsions)
    for snippet in code[:3]:
        exec(snippet, names)
    found, result = names["found"], names["result"]
    assert len(found.second) == 3 and found.second.shots == 20 and found.first.shots == 10 and len(result) == 4
    assert "second set, independent" in capsys.readouterr().out
    assert (tmp_path/"ts"/"second"/"committor.json").exists() and names["script"].exists()
    figure = plots.committorHistogram({"frames": result, "selected": found.second})
    assert figure.axes[0].get_title().startswith("frames\nmean 0.") and isinstance(figure, matplotlib.figure.Figure)
    assert sum(patch.get_height() for patch in figure.axes[0].patches if hasattr(patch, "get_height")) == 4


def testSnippetsWithUnbiasedPaths(opsPython, tmp_path, monkeypatch, capsys, alanineSamples, torsions):  # noqa: F811
    code, names = prepare(tmp_path, monkeypatch, *alanineSamples, torsions)
    exec(code[0], names)
    exec(code[2], names)
    subprocess.run([opsPython, str(names["script"]), "--trials", "20", "--seed", "1"], check=True, timeout=300)
    exec(code[3], names)
    text = capsys.readouterr().out
    assert "trials since accepted" in text and "what to expect if both were the same" in text
