# SPDX-License-Identifier: MIT
"""The snippets of docs/committors.md run as they stand, one after the other, with alanine dipeptide."""
import pathlib
import re
import subprocess
import sys

import matplotlib
import pytest
from openmm import unit

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/"examples"/"alanine_dipeptide"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory, alanineSamples, torsions):
    """The folder in which all snippets but the last have run, that one, and what they have left."""
    import metadynamics as md

    samples, logWeights = alanineSamples
    model = st.EmpiricalModel(samples, torsions, logWeights=logWeights)
    curve = st.geodesic(model, (-2.63, 2.76), (1.07, -0.69), logSnr=4.0)
    topology, system, positions = md.createSystem()
    force = st.SpacetimeForce(curve, torsions, 300*unit.kelvin)
    system.addForce(force)
    names = dict(force=force, simulation=md.createSimulation(topology, system, positions, 1), surface=st.FreeEnergySurface.fromSamples(samples, logWeights, 300.0))
    code = re.findall(r"```python\n(.*?)```", (ROOT/"docs"/"committors.md").read_text(encoding="utf-8"), re.S)
    assert len(code) == 4
    folder = tmp_path_factory.mktemp("snippets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for snippet in code[:3]:
            exec(snippet, names)
    return folder, code[3], names


def testSnippets(ran):
    from openmmspacetime import plots

    folder, _, names = ran
    found, result = names["found"], names["result"]
    assert len(found.second) == 3 and found.second.shots == 20 and found.first.shots == 10 and len(result) == 4
    assert (folder/"ts"/"second"/"committor.json").exists() and (folder/"committors.json").exists() and names["script"] == pathlib.Path("ops/run_ops.py")
    figure = plots.committorHistogram({"frames": result, "selected": found.second})
    assert figure.axes[0].get_title().startswith("frames\nmean ") and isinstance(figure, matplotlib.figure.Figure)
    assert sum(patch.get_height() for patch in figure.axes[0].patches if isinstance(patch, matplotlib.patches.Rectangle)) == 4


def testSnippetsWithUnbiasedPaths(opsPython, ran, monkeypatch, capsys):
    folder, snippet, names = ran
    monkeypatch.chdir(folder)
    subprocess.run([opsPython, "ops/run_ops.py", "--trials", "60", "--seed", "1"], check=True, timeout=300)
    exec(snippet, names)
    text = capsys.readouterr().out
    assert "trials since accepted" in text and "what to expect if both were the same" in text
