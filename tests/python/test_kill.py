# SPDX-License-Identifier: MIT
"""A run that is killed again and again ends with the files of one that was left alone. tests/benchmarks/killtest.py --kills 50 is the full measure."""
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).resolve().parents[1]/"benchmarks"/"killtest.py"


def testKilledRunsResume(tmp_path):
    result = subprocess.run([sys.executable, str(SCRIPT), "--kills", "8", "--dir", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout+result.stderr
    assert "8 kills" in result.stdout and "different: none" in result.stdout
