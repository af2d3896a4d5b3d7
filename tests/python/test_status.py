# SPDX-License-Identifier: MIT
"""python -m openmmspacetime.status, in a sound installation and in broken ones."""
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import openmm
import pytest

import openmmspacetime as st

PACKAGE = pathlib.Path(st.__file__).parent


def status(*arguments, code=0, **environment):
    result = subprocess.run([sys.executable, "-m", "openmmspacetime.status", *arguments], capture_output=True, text=True, env={**os.environ, **environment})
    assert result.returncode == code and not result.stderr, result.stdout+result.stderr
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


@pytest.fixture
def copy(tmp_path):
    """A copy of the package to break, which comes before the installed one."""
    shutil.copytree(PACKAGE, tmp_path/"openmmspacetime", ignore=shutil.ignore_patterns("__pycache__"))
    # Where its libraries look for OpenMM's.
    (tmp_path/"OpenMM.libs").symlink_to(pathlib.Path(openmm.version.openmm_library_path).parent)
    return tmp_path


def essentials(report):
    return [(p["what"], p["mend"]) for p in report["problems"] if p["essential"]]


def testSound():
    report = status("--json")
    assert report["works"] and not essentials(report)
    assert report["version"] == report["program"]["version"] == st.__version__
    assert report["openmm"] == {"version": openmm.version.short_version, "library": openmm.version.openmm_library_path}
    platforms = {p["name"]: p for p in report["platforms"]}
    assert platforms["Reference"]["works"] and platforms["CPU"]["works"]
    assert platforms["CPU"]["speed"] == openmm.Platform.getPlatform("CPU").getSpeed()
    absent = {name for name, version in report["libraries"].items() if version is None}
    assert absent == {name for m in report["missing"] if m["what"].endswith(")") for name in m["what"].rpartition("(")[2][:-1].split(", ")}


def testText(copy):
    # Without the program and without the library for torch, molecules can be simulated all the same.
    (copy/"openmmspacetime"/"bin"/"spacetime").unlink()
    library = copy/"openmmspacetime"/"lib"/"libspacetime_torch.so"
    library.unlink()
    library.write_bytes(b"")
    text = status(PYTHONPATH=str(copy))
    assert f"openmm-spacetime {st.__version__}" in text and "Simulation works." in text
    assert "Reference      1   works" in text
    assert "does not run" in text and "      pip install --force-reinstall --no-deps openmm-spacetime" in text
    assert ("libspacetime_torch.so (built against 2.11" in text) == (importlib.util.find_spec("torch") is not None)


def testOtherOpenMM(copy):
    # The package itself cannot be imported then.
    built = copy/"openmmspacetime"/"_built_against.py"
    built.write_text(built.read_text().replace(openmm.version.short_version, "8.1.2"))
    report = status("--json", code=1, PYTHONPATH=str(copy))
    (what, mend), = essentials(report)
    assert openmm.version.short_version in what and "8.1.2" in what and mend == "pip install 'openmm==8.1.*'"
    assert [p["works"] for p in report["platforms"]] == [False]*len(report["platforms"])


def testNoOpenMM(copy):
    (copy/"openmm.py").write_text("raise ImportError('libz.so.1: cannot open shared object file: No such file or directory')\n")
    report = status("--json", code=1, PYTHONPATH=str(copy))
    (what, mend), = essentials(report)
    assert what == "OpenMM cannot be imported: libz.so.1: cannot open shared object file: No such file or directory" and mend == "apt install zlib1g"
    assert report["platforms"] == [] and report["openmm"]["version"] is None
    (copy/"openmm.py").write_text("raise ImportError('no reason')\n")
    (what, mend), = essentials(status("--json", code=1, PYTHONPATH=str(copy)))
    assert what.endswith("no reason") and mend.startswith("pip install --force-reinstall 'openmm")


def testBrokenExtension(copy):
    extension, = (copy/"openmmspacetime").glob("_core*.so")
    extension.write_bytes(b"")
    (what, mend), = essentials(status("--json", code=1, PYTHONPATH=str(copy)))
    assert "cannot be imported" in what and extension.name in what and mend == "pip install --force-reinstall --no-deps openmm-spacetime"


def testCrash(copy):
    with open(copy/"openmmspacetime"/"force.py", "a") as file:
        file.write("\nimport os as _os\n_os.abort()\n")
    text = status(code=1, PYTHONPATH=str(copy))
    assert "crashed with signal 6" in text and "SIMULATION DOES NOT WORK" in text


def testPluginMissing(copy):
    # OpenMM's libraries without ours, as another environment's OpenMM would have it.
    libraries = copy/"elsewhere"/"OpenMM.libs"/"lib"
    shutil.copytree(openmm.version.openmm_library_path, libraries, symlinks=True, ignore=shutil.ignore_patterns("*pacetime*"))
    shutil.copytree(pathlib.Path(openmm.__file__).parent, copy/"openmm", ignore=shutil.ignore_patterns("__pycache__", "data"))
    version = copy/"openmm"/"version.py"
    version.write_text(version.read_text()+f"\nopenmm_library_path = {str(libraries)!r}\n")
    (what, mend), = essentials(status("--json", code=1, PYTHONPATH=str(copy)))
    assert "not the one beside this package" in what and str(libraries) in what and mend.startswith("pip install --force-reinstall --no-deps 'openmm")
    (copy/"OpenMM.libs").unlink()
    libraries.parent.rename(copy/"OpenMM.libs")
    version.write_text(version.read_text().replace("/elsewhere/", "/"))
    (what, mend), = essentials(status("--json", code=1, PYTHONPATH=str(copy)))
    assert what.endswith("has no libOpenMMSpacetime.so, plugins/libOpenMMSpacetimeReference.so") and mend == "pip install --force-reinstall --no-deps openmm-spacetime"
