# SPDX-License-Identifier: MIT
"""What was installed: its version, its requirements, its files and nobody else's, its run paths, its types."""
import ast
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

import openmmspacetime as st
from openmmspacetime import _core, openmm_wrapper, program

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = pathlib.Path(st.__file__).parent


@pytest.fixture(scope="module")
def distribution():
    return importlib.metadata.distribution("openmm-spacetime")


@pytest.fixture(scope="module")
def requirements(distribution):
    """{extra or "": {name: bounds}} of the installed metadata."""
    found = {}
    for text in distribution.requires:
        requirement = Requirement(text)
        extra = re.search(r"extra == ['\"](\w+)['\"]", text)
        found.setdefault(extra.group(1) if extra else "", {})[requirement.name.lower()] = str(requirement.specifier)
    return found


def testVersionIsTheSameEverywhere(distribution):
    printed = subprocess.run([program.path(), "--version"], capture_output=True, text=True).stdout.strip()
    assert st.__version__ == printed == distribution.version
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?(\.dev\d+)?(\+[\w.]+)?", printed)


def testSimulationNeedsOnlyOpenMMAndNumpy(requirements):
    assert set(requirements[""]) == {"openmm", "numpy"}
    assert set(requirements) >= {"", "train", "analysis", "cuda12", "cuda13", "cluster", "test", "dev"}
    assert set(requirements["train"]) == {"torch"}
    # One series of OpenMM everywhere.
    assert requirements["cuda12"]["openmm-cuda-12"] == requirements["cuda13"]["openmm-cuda-13"] == requirements[""]["openmm"]


def testRequirementsFileAgrees(requirements):
    wanted = {name: bounds for extra in requirements.values() for name, bounds in extra.items() if bounds}
    lines = [line for line in (ROOT/"requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    ours = {r.name.lower(): str(r.specifier) for r in map(Requirement, lines)}
    assert len(set(ours) & set(wanted)) >= 10
    assert {name: ours[name] for name in set(ours) & set(wanted)} == {name: wanted[name] for name in set(ours) & set(wanted)}


def testImportsNothingOptional():
    code = ("import sys, openmmspacetime; "
            "print(sorted({'torch', 'matplotlib', 'scipy', 'mdtraj', 'pymbar', 'PIL', 'dask', 'pandas', 'sklearn'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def testOwnsOnlyItsFiles(distribution):
    ours = {os.path.normpath(f) for f in distribution.files}
    theirs = {os.path.normpath(f) for f in importlib.metadata.distribution("openmm").files}
    assert ours and theirs and not ours & theirs
    assert all("pacetime" in f.rsplit("site-packages", 1)[-1] for f in ours)
    assert [f for f in ours if f.startswith("..")] == ["../../../bin/spacetime"]
    assert {"openmmspacetime/py.typed", "openmmspacetime/_core.pyi", "openmmspacetime/openmm_wrapper.pyi", "OpenMM.libs/lib/libOpenMMSpacetime.so"} <= ours


def testRunPathsAreRelative(distribution):
    libraries = [p for p in (pathlib.Path(f.locate()) for f in distribution.files) if p.is_file() and p.read_bytes()[:4] == b"\x7fELF"]
    assert len(libraries) >= 6
    for library in libraries:
        dynamic = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
        paths = [p for found in re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", dynamic) for p in found.split(":")]
        assert all(p.startswith("$ORIGIN") for p in paths), (library, paths)
        assert paths or library.name.startswith("_core")


def testConsoleScript(distribution):
    script = next(e for e in distribution.entry_points if e.group == "console_scripts" and e.name == "spacetime")
    assert script.load() is program.main
    assert os.access(program.path(), os.X_OK)


def declared(stub):
    """{class or "": names} that a stub declares."""
    found = {"": set()}
    for node in ast.parse((PACKAGE/stub).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {n.name for n in node.body if isinstance(n, ast.FunctionDef)} | {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
        found[""].add(getattr(node, "name", None) or getattr(getattr(node, "target", None), "id", None))
    return found


def testStubsAreComplete():
    core = declared("_core.pyi")
    assert {n for n in vars(_core) if not n.startswith("__")} <= core[""]
    assert {"measure", "positions", "torsionsOf", "torsions", "__iter__"} <= core["Variables"]
    # Written by hand, so it may fall behind python/bindings/openmm.i.
    wrapper = declared("openmm_wrapper.pyi")
    for cls in (openmm_wrapper.SpacetimeForce, openmm_wrapper.PathSampler):
        real = {n for n in vars(cls) if not n.startswith("__") and n != "thisown"}
        assert real == wrapper[cls.__name__] - {"__init__"}
