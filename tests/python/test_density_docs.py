# SPDX-License-Identifier: MIT
"""The snippets of docs/density.md run as they stand, one after the other, and what it says of them holds."""
import pathlib
import re
import shutil
import warnings

import numpy as np
import pytest

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]


def testSnippets(tmp_path, monkeypatch, capsys):
    snippets = re.findall(r"```python\n(.*?)```", (ROOT/"docs"/"density.md").read_text(encoding="utf-8"), re.S)
    assert len(snippets) == 8
    data = "examples/alanine_dipeptide/data"
    shutil.copytree(ROOT/data, tmp_path/data)
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for snippet in snippets:
            exec(snippet, names)
    printed = capsys.readouterr().out
    assert "129 nodes" in printed and "best tau" in printed
    # The mixture's straight line, and SLERP.
    numbers = [[float(v) for v in row.split()] for row in printed.splitlines() if re.fullmatch(r"[-\d. e]+", row)]
    assert numbers[0] == pytest.approx([-2.6, 1.6], abs=0.05) and numbers[-1] == pytest.approx([-4.8, -8.6, 1.16], abs=0.05)
    # MaxFlux.
    surface, maxFlux, line, valley = (names[name] for name in ("surface", "maxFlux", "line", "valley"))
    assert surface.highestAlong(maxFlux.path) == pytest.approx(38.8, abs=0.05) and names["mfep"].saddle[1] == pytest.approx(38.8, abs=0.05)
    assert valley.distance/maxFlux.distance == pytest.approx(1.01, abs=0.005) and line.distance/maxFlux.distance == pytest.approx(5.9, abs=0.05)
    assert maxFlux.freeEnergy(300).max() == pytest.approx(36.4, abs=0.1)
    assert names["analysis"].distanceRatio == pytest.approx(1.01, abs=0.005) and np.nanmedian(names["analysis"].residual) > 0.8
    assert st.DensityPath.load("path.json").logSnr == 4 and len(names["curve"].s) == 129
    # Circles about y = 0, and one more half unit of the same circle.
    c = 0.5*(1 + 1 - 1 - 0.25)/2
    for x in (names["circle"].path, names["onward"].path):
        assert np.hypot(x[:, 0]-c, x[:, 1]) == pytest.approx(np.hypot(1-c, 1), abs=2e-3)
    assert np.hypot(names["averaged"].path[:, 0]-c, names["averaged"].path[:, 1]) == pytest.approx(np.hypot(1-c, 1), abs=0.02)
    assert names["path"].path[:, 1].max() > 0.3
    great, slerp = names["great"], names["slerp"]
    assert np.linalg.norm(great.path, axis=1) == pytest.approx(8) and great.logDistance < slerp.logDistance and great.logDensity.min() > slerp.logDensity.min()
    assert names["shot"].length == pytest.approx(1, rel=1e-2)
    assert (tmp_path/"density_alanine.png").stat().st_size > 20000
