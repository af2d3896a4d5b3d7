# SPDX-License-Identifier: MIT
"""The notebooks run from top to bottom in their quick mode, are stored without outputs, and link to what is there."""
import pathlib
import re

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))
#: Figures of each, and what its text must say.
EXPECTED = {
    "alanine_dipeptide": (5, r"the geodesic climbs to 39\.\d kJ/mol; the lowest pass is at 38\.8[\s\S]*hits 4 of 4[\s\S]*straight line \(null\) +4 +100/"),
    "gaussian_mixture": (4, r"over that of the segment: 1\.00000\d\d\n[\s\S]*ratio\n( +\S+ +\S+ +\S+ +1\.00\d\n){7}"),
    "images": (3, r"geodesic \d+\.\d ± \d+\.\d, straight line \d+\.\d[\s\S]*6 of 6 geodesics converged"),
}


def testAllAreTested():
    assert {path.stem for path in NOTEBOOKS} == set(EXPECTED)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def testNotebook(path, tmp_path, monkeypatch):
    if path.stem == "images":
        pytest.importorskip("sklearn")
        pytest.importorskip("PIL")
    elif path.stem == "alanine_dipeptide":
        pytest.importorskip("py3Dmol")
        pytest.importorskip("pymbar")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (not cell.outputs and cell.execution_count is None), f"{path.name}: store it without outputs (Clear All Outputs)"
        assert not cell.metadata, f"{path.name}: a cell has metadata: {cell.metadata}"
    for link in re.findall(r"\]\(((?!http)[^)#]+)", "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"

    # Outputs go elsewhere than into the source tree.
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "alanine_dipeptide").symlink_to(EXAMPLES / "alanine_dipeptide")
    monkeypatch.setenv("QUICK", "1")
    # Threads of LibTorch that wait for each other cost more than they bring here.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    figures, text = EXPECTED[path.stem]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == figures
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert re.search(text, said), said
    assert not [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    if path.stem == "alanine_dipeptide":
        assert any("addModelsAsFrames" in output.get("data", {}).get("text/html", "") for output in outputs)
