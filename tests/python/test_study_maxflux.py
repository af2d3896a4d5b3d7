# SPDX-License-Identifier: MIT
"""The MaxFlux study, with few paths: everything runs, and what does not depend on statistics holds."""
import json
import pathlib
import subprocess
import sys

EXAMPLE = pathlib.Path(__file__).resolve().parents[2]/"examples"/"alanine_dipeptide"


def testQuickStudy(tmp_path):
    out = tmp_path/"maxflux"
    command = [sys.executable, str(EXAMPLE/"maxflux.py"), "--quick", "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    paths = json.loads((out/"paths.json").read_text())
    surface, samples = paths.pop("MaxFlux, the surface itself"), paths.pop("MaxFlux, log-SNR 5")
    # Nothing flows better than MaxFlux. It need not cross the pass at its lowest, but kT (2.5 kJ/mol) above it nothing flows.
    for name, other in paths.items():
        assert other["logResistance"] > surface["logResistance"] and other["logResistance"] > samples["logResistance"], name
    assert surface["flux"] == 1 and samples["flux"] > 0.98 and paths["straight line"]["flux"] < 0.3
    lowest = paths["minimum free-energy path"]
    assert lowest["highestF"] <= surface["highestF"] + 0.01 < lowest["highestF"] + 2.5 and surface["length"] < lowest["length"]
    rows = {row["name"]: row for row in json.loads((out/"report.json").read_text())["rows"]}
    assert all(row["hitRate"] == 1 for row in rows.values()) and "MaxFlux, equal F-R" in rows
    assert (out/"maxflux.png").stat().st_size > 20_000 and "MaxFlux" in (out/"table.txt").read_text()
    stored = json.loads((out/"maxflux.json").read_text())
    assert stored["format"] == "spacetime-density-path" and stored["converged"] and stored["residual"] < 1e-3

    again = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0 and json.loads((out/"report.json").read_text())["rows"][1]["dissipated"] == rows["MaxFlux, equal F-R"]["dissipated"]
