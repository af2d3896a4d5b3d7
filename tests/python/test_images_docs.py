# SPDX-License-Identifier: MIT
"""The snippets of docs/images.md run as they stand, one after the other; training is cut short, and what follows runs on a closed-form model of the digits."""
import pathlib
import re

import numpy as np
import pytest

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Digits:
    """What the snippets need of a trained model: sixteen digits as a mixture of Gaussians, which knows no shape of its own."""

    def __init__(self, pixels, module):
        self.model = st.GaussianMixtureModel(pixels[:16].reshape(16, -1), np.full(16, 0.01), np.full(16, 1 / 16))
        self.module = module

    def __getattr__(self, name):
        found = getattr(self.module, name)
        if name not in ("interpolate", "extrapolatePictures", "editDistances"):
            return found
        return lambda model, *given, **options: found(model, *given, shape=(8, 8, 1), **options)


def testSnippets(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "images.md").read_text(), re.S)
    assert len(code) == 5 and "steps=1500" in code[0]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code[0].replace("steps=1500", "steps=4, batch=8, channels=8"), names)
    assert names["model"].imageShape == (8, 8, 1) and (tmp_path / "digits.safetensors").exists()
    digits = Digits(names["pixels"], st)
    names.update(st=digits, model=digits.model)
    for snippet in code[1:]:
        exec(snippet, names)
    lengths = [p.length for p in names["paths"]]
    assert min(lengths) == lengths[0] == pytest.approx(names["path"].length)
    assert {"strip.png", "spacetime.gif", "report.html", "distances.png", "embedding.png"} <= {f.name for f in tmp_path.iterdir()}
    assert names["distances"].distance.shape == (6, 6)
