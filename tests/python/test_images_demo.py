# SPDX-License-Identifier: MIT
"""The demo with pictures, cut down: training, a pair, extrapolation, distances, report; what is finished is not done again; pictures that are missing are named."""
import importlib.util
import pathlib
import sys

import numpy as np
import pytest

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def demo(monkeypatch):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    monkeypatch.syspath_prepend(str(ROOT / "images"))
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.spec_from_file_location("imagesdemo", ROOT / "images" / "run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "imagesdemo", module)
    spec.loader.exec_module(module)
    return module


def testDigits(demo, tmp_path, capsys):
    study = demo.digitStudy(quick=True)
    study.frames, study.steps, study.probes, study.shown = 5, 4, 2, 5
    t = np.linspace(0, 1, 5)[:, None, None, None]
    study.sequences = {"a fade": (1 - t) * study.pictures[0] + t * study.pictures[1] + 0.1 * t * (1 - t) * study.pictures[2]}
    rows = study.pictures.reshape(len(study.pictures), -1)[:40]
    model = st.GaussianMixtureModel(rows, np.full(40, 0.02), np.full(40, 1 / 40))
    demo.run(model, study, tmp_path, "Digits", False, demo.Progress(4))
    written = {f.name for f in tmp_path.iterdir()}
    assert {"report.html", "report.json", "table.txt", "distances.txt", "embedding.png", "overview.png", "extrapolation.png", "sequence.txt"} <= written and written <= set(demo.OUTPUTS)
    table = (tmp_path / "table.txt").read_text()
    assert "3 to 8: spacetime" in table and "3 to 8: lerp" in table
    assert len((tmp_path / "sequence.txt").read_text().splitlines()) == 6
    made = {f: f.stat().st_mtime_ns for f in (tmp_path / "strips").glob("*.npz")}
    assert len(made) == 5
    demo.drawPairs(model, study, tmp_path, "Digits", True, demo.Progress(1))
    assert made == {f: f.stat().st_mtime_ns for f in (tmp_path / "strips").glob("*.npz")}
    with pytest.raises(SystemExit, match="already holds results"):
        demo.prepareOutput(tmp_path, demo.OUTPUTS, False)


def testEmojiAreNamedAndCentred(demo):
    import emoji

    try:
        font = emoji.loadFont()
    except SystemExit:
        pytest.skip("no NotoColorEmoji.ttf here")
    square = emoji.draw("\N{RED APPLE}", font)
    picture = emoji.onWhite(square, 32)
    assert picture.shape == (32, 32, 3) and picture[0].min() == 255 and picture[:, 0].min() == 255
    ink = (picture < 250).any(axis=2)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) >= 28 and abs(rows.mean() - 15.5) <= 1 and abs(columns.mean() - 15.5) <= 1
    red, green, blue = picture[12:20, 12:20].reshape(-1, 3).mean(axis=0)
    assert red > 1.5 * green and red > 1.5 * blue
    turned = emoji.onWhite(square, 32, 90)
    assert np.abs(turned.astype(int) - np.rot90(picture).astype(int)).mean() < 6 < np.abs(turned.astype(int) - picture).mean()
    assert emoji.draw("\N{LATIN SMALL LETTER A WITH MACRON}", font) is None
    found = emoji.EmojiSet(np.zeros((1, 2, 2, 3)), [0x1F34E], [emoji.nameOf(0x1F34E)], [])
    assert found.find("Red Apple") == found.find("U+1F34E") == 0
    with pytest.raises(ValueError, match="there are red apple"):
        found.find("apple")


def testMissingFontNamesThePackage(demo, monkeypatch, tmp_path):
    import emoji

    monkeypatch.setattr(emoji.shutil, "which", lambda name: None)
    monkeypatch.setattr(emoji, "FOLDERS", (str(tmp_path),))
    with pytest.raises(SystemExit, match="apt-get install fonts-noto-color-emoji"):
        emoji.findFont()
    with pytest.raises(SystemExit, match="is no file"):
        emoji.findFont(str(tmp_path / "x.ttf"))
    (tmp_path / "x.ttf").write_bytes(b"no font")
    with pytest.raises(SystemExit, match="does not open as a font"):
        emoji.loadFont(str(tmp_path / "x.ttf"))
