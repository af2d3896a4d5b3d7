# SPDX-License-Identifier: MIT
"""The wheel as a new user meets it: a fresh virtual environment with OpenMM and numpy, no torch, no compiler.

    python tests/package/check_wheel.py dist/openmm_spacetime-*.whl [--sdist dist/openmm_spacetime-*.tar.gz]

Installs the wheel from a file and OpenMM and numpy from the package index (or pip's cache), finds a first curve and drives a first path, says how many seconds
each took, uninstalls, and ends with exit code 1 at the first thing that is not as it should be.
"""
from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What the README's script does, on the samples that ship.
PATH = """
import sys
import numpy as np
import openmm
import openmmspacetime as st
from openmm import app, unit
example, out = sys.argv[1:]
data = np.load(example + "/data/alanine_vacuum_300K.npz")
variables = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])
model = st.EmpiricalModel(data["x"].astype(float), variables, logWeights=data["log_weights"].astype(float))
curve = st.geodesic(model, (-2.58, 2.79), (1.09, -0.88), preset="transition", temperature=300*unit.kelvin)
pdb = app.PDBFile(example + "/alanine_dipeptide.pdb")
system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
force = st.SpacetimeForce(curve, variables, 300*unit.kelvin)
system.addForce(force)
simulation = app.Simulation(pdb.topology, system, openmm.LangevinMiddleIntegrator(300, 1, 0.002), openmm.Platform.getPlatform("CPU"))
simulation.context.setPositions(pdb.positions)
path = st.PathSampler(simulation, force, numPaths=1, steps=2000).run(out)[0]
miss = (path.variables[-1] - [1.09, -0.88] + np.pi) % (2*np.pi) - np.pi
assert np.linalg.norm(miss) < 1, f"the path ends {miss} rad from the other state"
assert "torch" not in sys.modules
"""


def run(*command, code: int = 0, **kwargs) -> str:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900, **kwargs)
    if result.returncode != code:
        sys.exit(f"{' '.join(map(str, command))}: exit code {result.returncode}, expected {code}\n{result.stdout}{result.stderr}")
    return result.stdout


def expect(true: bool, message: str) -> None:
    if not true:
        sys.exit(message)


def files(folder: pathlib.Path) -> dict[str, str]:
    """{path: hash} of everything below a folder, compiled Python aside."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def checkSdist(sdist: pathlib.Path, wheelVersion: str) -> None:
    with tarfile.open(sdist) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
        top = archive.getnames()[0].partition("/")[0]
        version = re.search(r"^Version: (.+)$", archive.extractfile(f"{top}/PKG-INFO").read().decode(), re.M).group(1)
    expect(version == wheelVersion, f"the sdist is of version {version}, the wheel of {wheelVersion}")
    if (ROOT / ".git").exists():
        left = "\n".join(sorted(names - {"PKG-INFO"} - set(run("git", "-C", ROOT, "ls-files").splitlines())))
        expect(not left, f"the sdist has files that git does not know:\n{left}")
        lost = [n for n in run("git", "-C", ROOT, "ls-files", "plugin", "platforms", "python", "cmake", "tests").splitlines() if n not in names]
        expect(not lost, f"the sdist lacks {lost}")
    expect(sdist.stat().st_size < 6e6, f"{sdist} has {sdist.stat().st_size/1e6:.1f} MB")


def checkLibraries(site: pathlib.Path, installed: list[str]) -> None:
    """Run paths are relative, and everything is found beside OpenMM or in the system."""
    for name in installed:
        path = site / name
        with open(path, "rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        for paths in re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", run("readelf", "-d", path)):
            expect(all(p.startswith("$ORIGIN") for p in paths.split(":")), f"{name} has the run path {paths}")
        for library, place in re.findall(r"^\s*(\S+) => (.*?)(?: \(0x[0-9a-f]+\))?$", run("ldd", path), re.M):
            if place == "not found":
                expect(library.startswith(("libOpenMMCUDA", "libOpenMMHIP", "libtorch", "libc10")), f"{name} needs {library}, which is nowhere")
            else:
                real = pathlib.Path(place).resolve()
                expect(any(real.is_relative_to(d) for d in (site, "/lib", "/lib64", "/usr/lib", "/usr/lib64")), f"{name} takes {library} from {real}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("wheel", type=pathlib.Path)
    parser.add_argument("--sdist", type=pathlib.Path)
    arguments = parser.parse_args()
    wheel = arguments.wheel.resolve()
    times: dict[str, float] = {}

    with zipfile.ZipFile(wheel) as archive:
        record = next(n for n in archive.namelist() if n.endswith(".dist-info/RECORD"))
        recorded = [row[0] for row in csv.reader(io.StringIO(archive.read(record).decode()))]
        expect(sorted(recorded) == sorted(n for n in archive.namelist() if not n.endswith("/")), "RECORD and the files of the wheel differ")
    version = wheel.name.split("-")[1]
    if arguments.sdist:
        checkSdist(arguments.sdist, version)

    with tempfile.TemporaryDirectory(prefix="spacetime-wheel-") as temporary:
        folder = pathlib.Path(temporary)

        def timed(name: str, *command, **kwargs) -> str:
            start = time.perf_counter()
            output = run(*command, **kwargs)
            times[name] = time.perf_counter() - start
            return output

        start = time.perf_counter()
        venv.create(folder / "venv", with_pip=True)
        times["fresh virtual environment"] = time.perf_counter() - start
        python, program = folder / "venv" / "bin" / "python", folder / "venv" / "bin" / "spacetime"
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-q"]
        requirements = [line.split(": ", 1)[1] for line in zipfile.ZipFile(wheel).read(record.replace("RECORD", "METADATA")).decode().splitlines()
                        if line.startswith("Requires-Dist: ") and "extra ==" not in line]
        timed("OpenMM and numpy", *pip, "install", *requirements)
        site = pathlib.Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip())
        before = files(folder / "venv")
        timed("wheel", *pip, "install", wheel)
        after = files(folder / "venv")
        changed = [n for n in before if after.get(n) != before[n]]
        expect(not changed, f"the wheel changes files that are not its own: {changed}")
        run(*pip, "check")
        expect("torch" not in run(*pip, "list", "--format=json"), "torch was installed")

        # No compiler, no build folder, no other Python: only what the system needs to start a program.
        bare = {"PATH": str(python.parent), "HOME": temporary, "LC_ALL": "C.UTF-8"}
        work = {"env": bare, "cwd": temporary}
        printed = run(python, "-c", "import openmmspacetime; print(openmmspacetime.__version__)", **work).strip()
        expect(printed == run(program, "--version", **work).strip() == version, f"the package says version {printed}, the program {run(program, '--version', **work)}")
        (folder / "wells.json").write_text(json.dumps({"means": [[-1.5, 0], [0, 1.2], [1.5, 0]], "variances": [0.2, 0.3, 0.2], "weights": [1, 0.6, 1]}))
        timed("first curve", program, "geodesic", "--mixture", "wells.json", "--from", "-1.5,0", "--to", "1.5,0", "--out", "curve.json", **work)
        timed("curve of a network", program, "geodesic", "--model", ROOT / "examples" / "published_2d" / "data" / "network.safetensors",
              "--from", "-0.56,1.44", "--to", "0.62,0.03", "--log-snr", "5", "--out", "network.json", **work)
        timed("first path", python, "-c", PATH, ROOT / "examples" / "alanine_dipeptide", "paths", **work)
        expect((folder / "paths" / "path-0000.dcd").stat().st_size > 0, "the path has no frames")
        samples = ROOT / "examples" / "alanine_dipeptide" / "data" / "alanine_vacuum_300K.npz"
        error = subprocess.run([str(program), "train", str(samples), "--variables", "torsion,torsion", "--out", "model.safetensors"], capture_output=True, text=True, **work)
        expect(error.returncode == 2 and "pip install 'torch" in error.stderr, f"training without torch: exit code {error.returncode}\n{error.stderr}")
        status = json.loads(run(python, "-m", "openmmspacetime.status", "--json", **work))
        expect(status["works"], f"the status of a working installation says: {status}")

        owned = sorted(set(after) - set(before))
        checkLibraries(site, [os.path.relpath(folder / "venv" / n, site) for n in owned])
        run(*pip, "uninstall", "-y", "openmm-spacetime")
        expect(files(folder / "venv") == before, "uninstalling does not bring back what was there")
        left = [str(p) for p in site.rglob("*pacetime*") if "tests" not in p.parts]
        expect(not left, f"uninstalling leaves {left}")
        run(python, "-c", "import openmm; assert openmm.Platform.getNumPlatforms() >= 2", **work)

    print(f"{wheel.name}: {wheel.stat().st_size/1e6:.1f} MB, {len(recorded)} files" + (f"; sdist {arguments.sdist.stat().st_size/1e6:.1f} MB" if arguments.sdist else ""))
    for name, seconds in times.items():
        print(f"  {name:26} {seconds:6.1f} s")


if __name__ == "__main__":
    main()
