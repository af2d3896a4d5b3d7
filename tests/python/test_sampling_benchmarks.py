# SPDX-License-Identifier: MIT
"""The long measures of tests/benchmarks, made short: killtest.py --kills 50 and pathbench.py are the full ones."""
import pathlib
import re
import subprocess
import sys

BENCHMARKS = pathlib.Path(__file__).resolve().parents[1]/"benchmarks"


def run(script, *words):
    return subprocess.run([sys.executable, str(BENCHMARKS/script), *words], capture_output=True, text=True, timeout=300)


def testKilledRunsResume(tmp_path):
    """A run that is killed again and again ends with the files of one that was left alone."""
    result = run("killtest.py", "--kills", "8", "--dir", str(tmp_path))
    assert result.returncode == 0, result.stdout+result.stderr
    assert "8 kills" in result.stdout and "different: none" in result.stdout


def testAlanineArrives():
    """Times are not judged here: whoever else uses the machine would decide. That is what `make bench` is for."""
    out = run("pathbench.py", "--only", "paths", "--paths", "6").stdout
    assert re.search(r"6 of 16,000 steps .* hits within 0.75 rad 100.0 %", out), out
