# SPDX-License-Identifier: MIT
"""The snippets of docs/your_molecule.md run in order on the shipped valine dipeptide, with less of everything."""
import pathlib
import re
import shutil
import warnings

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
LESS = {"steps=500_000": "steps=20_000", "steps=400": "steps=50, points=300", "numPaths=50, steps=5000": "numPaths=2, steps=600", "simulate(300)": "simulate(40)",
        "structure.positions))": "structure.positions), logSnr=3)"}


def testSnippets(tmp_path, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", (ROOT/"docs"/"your_molecule.md").read_text(), re.S)
    assert len(code) == 6
    for name in ("start.pdb", "end.pdb"):
        shutil.copy(ROOT/"examples"/"own_molecule"/name, tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    for snippet in code:
        for much, less in LESS.items():
            snippet = snippet.replace(much, less)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(snippet, names)
    said = capsys.readouterr().out
    assert "2 ladders of 5 temperatures, 300, 357, 424, 505, 600 K" in said and "of the curve" in said and "posterior standard deviations" in said
    assert names["variables"].names == ["phi2", "psi2", "chi1_2"] and (tmp_path/"report.html").exists()
    # What the page says of the second round: there are more samples along the line than there were.
    line, variables, st = names["line"], names["variables"], names["st"]
    before, after = (st.EmpiricalModel(s.x, variables, s.logWeights).moments(line.eta).nEff.min() for s in (names["samples"], names["pooled"]))
    assert after > 2*before
    assert len(names["back"]["geodesic"]) == 2 and np.isfinite([p.work for p in names["back"]["geodesic"]]).all()


def testNumbersOfThePageAreThoseOfTheStudy():
    """The summary that the page quotes is that of the committed results."""
    import json

    settings = json.loads((ROOT/"examples"/"tetrapeptide"/"results"/"report.json").read_text())["settings"]
    page = (ROOT/"docs"/"your_molecule.md").read_text()
    assert settings["samples"] in page
    assert "17 crossings" in settings["phi2 > 0 at 300 K"] and settings["phi2 > 0 at 300 K"].startswith("14.7 ± 2.6 %")
