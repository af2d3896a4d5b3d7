# SPDX-License-Identifier: MIT
"""C++ programs build against the installed package: its headers, its CMake package and the libraries beside OpenMM's."""
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import openmm
import pytest
from openmm import unit

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "cpp_program"


def run(*command, **kwargs):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **kwargs)


def configure(source, build, cmakeDir):
    return run("cmake", "-S", source, "-B", build, f"-DOpenMMSpacetime_ROOT={cmakeDir}")


def build(source, folder, cmakeDir):
    for result in (configure(source, folder, cmakeDir), run("cmake", "--build", folder)):
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def cmakeDir():
    result = run(sys.executable, "-m", "openmmspacetime", "--cmake-dir")
    assert result.returncode == 0, result.stderr
    return pathlib.Path(result.stdout.strip())


@pytest.fixture(scope="module")
def butane(cmakeDir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("butane")
    build(EXAMPLE, folder, cmakeDir)
    return folder / "butane"


def testUnknownOption():
    for options in ([], ["--cmakedir"]):
        result = run(sys.executable, "-m", "openmmspacetime", *options)
        assert result.returncode == 2
        assert "usage:" in result.stderr and "--cmake-dir" in result.stderr and not result.stdout


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def testFollowsCurve(butane, platform):
    result = run(butane, platform)
    assert result.returncode == 0, result.stderr
    s, phi, energy = np.array([line.split() for line in result.stdout.splitlines()[1:]], float).T
    np.testing.assert_allclose(s, np.arange(13) / 12, atol=1e-4)
    deviation = np.radians(phi - (180 - 120 * np.arange(13) / 12))
    # The program prints at the nodes of its curve, where the bias is -kT kappa cos(phi - phi0) without interpolation.
    kappa, kT = 100, (unit.MOLAR_GAS_CONSTANT_R * 300 * unit.kelvin).value_in_unit(unit.kilojoules_per_mole)
    np.testing.assert_allclose(energy, -kT * kappa * np.cos(deviation), atol=1e-3)
    # A well of this kappa is 1/sqrt(kappa) = 0.1 rad wide, and the chain's own torsion moves its minimum by at most 0.07 rad.
    deviation = (deviation + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(deviation).max() < 0.57
    assert 0.02 < np.sqrt(np.mean(deviation**2)) < 0.25


def testSaysWhatOpenMMThrows(butane):
    result = run(butane, "NoSuchPlatform")
    assert result.returncode == 1
    assert "NoSuchPlatform" in result.stderr


def testHeadersStandAlone(cmakeDir, tmp_path):
    include = cmakeDir.parents[2] / "include"
    headers = sorted(h.relative_to(include).as_posix() for h in include.glob("openmmspacetime/*.h"))
    assert {"openmmspacetime/SpacetimeForce.h", "openmmspacetime/PathSampler.h"} <= set(headers)
    for i, header in enumerate(headers):
        (tmp_path / f"header{i}.cpp").write_text(f'#include "{header}"\n')
    (tmp_path / "CMakeLists.txt").write_text(f"""cmake_minimum_required(VERSION 3.18)
project(headers LANGUAGES CXX)
find_package(OpenMMSpacetime REQUIRED)
add_library(headers OBJECT {" ".join(f"header{i}.cpp" for i in range(len(headers)))})
target_link_libraries(headers PRIVATE OpenMMSpacetime::OpenMMSpacetime)
""")
    build(tmp_path, tmp_path / "build", cmakeDir)


def testOtherOpenMM(cmakeDir, tmp_path):
    # The same libraries, moved, beside a Python package that says it is another OpenMM.
    major, minor = (int(n) for n in openmm.version.short_version.split(".")[:2])
    other = f"{major}.{minor + 1}.0"
    (tmp_path / "OpenMM.libs").symlink_to(cmakeDir.parents[2], target_is_directory=True)
    (tmp_path / "openmm").mkdir()
    version = tmp_path / "openmm" / "version.py"
    moved = tmp_path / "OpenMM.libs" / "lib" / "cmake" / "OpenMMSpacetime"
    version.write_text(f"short_version = '{other}'\n")
    result = configure(EXAMPLE, tmp_path / "build", moved)
    words = " ".join(result.stderr.split())
    assert result.returncode != 0
    assert f"built against OpenMM {major}.{minor}." in words and f"beside it is {other}" in words
    assert f"pip install 'openmm=={major}.{minor}.*'" in words
    version.write_text(f"short_version = '{openmm.version.short_version}'\n")
    shutil.rmtree(tmp_path / "build")
    assert configure(EXAMPLE, tmp_path / "build", moved).returncode == 0
    cache = (tmp_path / "build" / "CMakeCache.txt").read_text()
    assert f"OpenMMSpacetime_DIR:PATH={moved}" in cache, os.fspath(moved)
