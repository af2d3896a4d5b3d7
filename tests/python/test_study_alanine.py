# SPDX-License-Identifier: MIT
"""The study of alanine dipeptide, with little statistics: everything runs, goes on where it was, and says what a reader must know."""
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

EXAMPLE = pathlib.Path(__file__).resolve().parents[2]/"examples"/"alanine_dipeptide"


def study(*arguments):
    return subprocess.run([sys.executable, str(EXAMPLE/"study.py"), *map(str, arguments)], capture_output=True, text=True, timeout=900)


def testQuickStudy(tmp_path):
    out = tmp_path/"study"
    run = study("--quick", "--out", out, "--processes", 1)
    assert run.returncode == 0, run.stderr
    table, evidence = (out/"table.txt").read_text(), (out/"evidence.txt").read_text()
    assert max(map(len, table.splitlines())) <= 120
    for row in ("geodesic, network", "geodesic, exact", "low variance", "MFEP, equal F-R", "null, equal F-R", "null, uniform", "unconstrained"):
        assert row in table and row in evidence
    report = json.loads((out/"report.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    # What holds with any statistics: bounded curves arrive, and the one without a bound is warned about.
    assert all(rows[name]["hitRate"] == 1 for name in rows if name != "unconstrained")
    assert rows["unconstrained"]["dissipated"] > 5*rows["null, uniform"]["dissipated"] and rows["unconstrained"]["smallestKappa"] < 5
    assert any("'unconstrained'" in w and "lets go" in w for w in report["warnings"])
    numbers = json.loads((out/"evidence.json").read_text())
    assert numbers["pmf"]["bins"] > 50 and 0 < numbers["pmf"]["rms"] < 6 and 0.3 < numbers["pmf"]["share"] <= 1
    assert numbers["committor"]["first"]["seed"] == numbers["committor"]["second"]["seed"]  # the seed that was given; the sets draw from streams of their own
    assert len(numbers["exchange"]) == 2 and np.all(np.array(numbers["exchange"][0]["predicted"]) > 0)
    # The MBAR of such a short run is a few kJ/mol off at most, in units of its own error.
    values, errors, names = numbers["dF"]["values"], numbers["dF"]["errors"], numbers["dF"]["names"]
    mbar, exact = names.index("MBAR (exchange)"), names.index("exact posterior")
    assert abs(values[mbar]-values[exact]) < 5*errors[mbar]+1
    for name in ("report.html", "surface.png", "profiles.png", "work.png"):
        assert (out/name).stat().st_size > 10_000

    again = study("--quick", "--out", out)  # with two processes: the results do not depend on it
    assert again.returncode == 0 and (out/"evidence.txt").read_text() == evidence

    other = study("--quick", "--out", out, "--seed", 2)
    assert other.returncode == 1 and "begun with other settings" in other.stderr


def testForeignFolderIsLeftAlone(tmp_path):
    (tmp_path/"precious.txt").write_text("mine")
    run = study("--quick", "--out", tmp_path)
    assert run.returncode == 1 and "holds no study" in run.stderr and (tmp_path/"precious.txt").read_text() == "mine"


@pytest.mark.parametrize("arguments, message", [(("--seed", 0), "--seed"), (("--processes", 0), "--processes")])
def testBadArguments(arguments, message):
    run = study(*arguments)
    assert run.returncode == 2 and message in run.stderr
