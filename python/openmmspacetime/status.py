# SPDX-License-Identifier: MIT
"""What of this installation works, what is missing, and the commands that mend it.

``python -m openmmspacetime.status [--json]`` ends with exit code 0 where molecules can be simulated, and 1 where not.

It is for installations in which something is broken, so this module imports nothing of the package, and everything that could fail or crash (OpenMM, its plugins,
the package itself, each platform) is tried in a process of its own.
"""
from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
from typing import Any

__all__ = ["collect", "main"]

PACKAGE = os.path.dirname(os.path.abspath(__file__))
DISTRIBUTION = "openmm-spacetime"
REINSTALL = f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
LIBRARIES = ["libOpenMMSpacetime.so", "plugins/libOpenMMSpacetimeReference.so"]

# What is optional: {extra: (what it is for, distributions)}.
OPTIONAL = {"train": ("training networks, TorchScript models, models of pictures", ["torch"]),
            "analysis": ("plots, reports, trajectories, free energies", ["matplotlib", "scipy", "mdtraj", "pymbar", "pillow"]),
            "cluster": ("paths on many machines", ["dask"])}

# Which Debian packages bring the system's libraries that ours and OpenMM's need.
DEBIAN = {"libz.so": "zlib1g", "libstdc++.so": "libstdc++6", "libgcc_s.so": "libgcc-s1", "libOpenCL.so": "ocl-icd-libopencl1 pocl-opencl-icd"}

OPENMM = """
import json, os, openmm
P, report = openmm.Platform, {}
report["version"] = openmm.version.short_version
report["library"] = openmm.version.openmm_library_path
report["platforms"] = [dict(name=p.getName(), speed=p.getSpeed(), kernel=p.supportsKernels(["CalcSpacetimeForce"]))
                       for p in map(P.getPlatform, range(P.getNumPlatforms()))]
report["failures"] = list(P.getPluginLoadFailures())
print("\\n" + json.dumps(report))
"""

IMPORT = """
import json, warnings
warnings.simplefilter("ignore")
import openmmspacetime
print("\\n" + json.dumps(dict(version=openmmspacetime.__version__)))
"""

# The energy of four particles with a torsion of 1 rad held at 0.5 rad with kappa 10: -kT 10 cos(0.5).
FORCE = """
import json, math, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, openmm
from openmm import unit
import openmmspacetime as st
system = openmm.System()
for _ in range(4):
    system.addParticle(1)
variables = st.Variables.torsions([(0, 1, 2, 3)])
eta = 10*np.array([[math.cos(0.5), math.sin(0.5)]]*2)
system.addForce(st.SpacetimeForce(s=[0, 1], eta=eta, variables=variables, temperature=300))
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform(sys.argv[1]))
context.setPositions([(0.1, 0, 0), (0, 0, 0), (0, 0, 0.1), (0.1*math.cos(1), 0.1*math.sin(1), 0.1)])
kT = (unit.MOLAR_GAS_CONSTANT_R*300*unit.kelvin).value_in_unit(unit.kilojoules_per_mole)
energy = context.getState(energy=True).getPotentialEnergy()._value/kT
assert abs(energy + 10*math.cos(0.5)) < 1e-3, f"the energy of a trial molecule is {energy} kT, expected {-10*math.cos(0.5)}"
print("\\n" + json.dumps({}))
"""

TORCH = """
import ctypes, sys
ctypes.CDLL(sys.argv[1])
print("\\n{}")
"""


def _try(code: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """What a piece of Python printed last, as JSON, or {} and the reason why it did not come that far."""
    try:
        result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return {}, "no answer within 300 s"
    if result.returncode < 0:
        return {}, f"crashed with signal {-result.returncode}"
    lines = result.stderr.strip().splitlines()
    if result.returncode != 0:
        return {}, re.sub(r"^[\w.]*(Error|Exception): ", "", lines[-1]) if lines else f"exit code {result.returncode}"
    return json.loads(result.stdout.strip().splitlines()[-1]), ""


def _versionOf(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirement(distribution: str) -> str:
    """What pip is asked for: the requirement of this package's metadata with its bounds, where there is one."""
    try:
        for line in importlib.metadata.requires(DISTRIBUTION) or []:
            requirement = line.split(";")[0].strip()
            if re.match(r"[\w.-]+", requirement).group().lower() == distribution:  # type: ignore[union-attr]
                return f"'{requirement}'"
    except importlib.metadata.PackageNotFoundError:
        pass
    return distribution


def _builtAgainst() -> dict[str, str]:
    try:
        return runpy.run_path(os.path.join(PACKAGE, "_built_against.py"))
    except Exception:
        return {}


def _series(version: str) -> list[str]:
    return version.split(".")[:2]


def _systemLibrary(reason: str) -> str | None:
    """The command that installs a library of the system that the loader did not find."""
    found = re.search(r"(lib[\w+.-]+\.so)[.\d]*: cannot open shared object", reason)
    package = DEBIAN.get(found.group(1)) if found else None
    return f"apt install {package}" if package else None


def _driver() -> str | None:
    """The CUDA version that the NVIDIA driver supports, or None where there is no driver."""
    try:
        number = ctypes.c_int()
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return f"{number.value//1000}.{number.value%1000//10}"


def _program() -> dict[str, str]:
    path = os.path.join(PACKAGE, "bin", "spacetime")
    report = {"path": path, "version": "", "error": "", "onPath": shutil.which("spacetime") or ""}
    try:
        result = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60)
        report["version"] = result.stdout.strip()
        if result.returncode != 0:
            report["error"] = (result.stderr.strip() or f"exit code {result.returncode}").splitlines()[-1]
    except (OSError, subprocess.TimeoutExpired) as e:
        report["error"] = str(e)
    return report


def collect() -> dict[str, Any]:
    """Try everything.

    Returns
    -------
    dict
        works : bool, whether molecules can be simulated with a SpacetimeForce; version, builtAgainst {OPENMM_VERSION, TORCH_VERSION}, python, package, program,
        openmm {version, library}, platforms [{name, speed, works, reason}], driver (CUDA version, or None), libraries {name: version or None};
        problems [{what, mend, essential}]: what is broken, and missing: what could be added, both with the command to run.
    """
    built = _builtAgainst()
    driver = _driver()
    problems: list[dict[str, Any]] = []
    missing: list[dict[str, str]] = []

    def problem(what: str, mend: str, essential: bool = True) -> None:
        problems.append({"what": what, "mend": mend, "essential": essential})

    if not built:
        problem(f"{PACKAGE} has no _built_against.py: it is a source folder or an incomplete installation", REINSTALL)
    series = ".".join(_series(built.get("OPENMM_VERSION", "8.6")))
    openmm, reason = _try(OPENMM)
    fits = True
    if not openmm:
        again = "--force-reinstall " if importlib.util.find_spec("openmm") else ""
        problem(f"OpenMM cannot be imported: {reason}", _systemLibrary(reason) or f"pip install {again}{_requirement('openmm')}")
    else:
        fits = not built or _series(openmm["version"]) == _series(built["OPENMM_VERSION"])
        lacking = [n for n in LIBRARIES if not os.path.exists(os.path.join(openmm["library"], n))]
        if not fits:
            problem(f"OpenMM {openmm['version']} is installed, but this openmm-spacetime was built against OpenMM {built['OPENMM_VERSION']}", f"pip install 'openmm=={series}.*'")
        elif lacking and not os.path.samefile(os.path.dirname(PACKAGE), os.path.dirname(os.path.dirname(openmm["library"]))):
            problem(f"OpenMM is not the one beside this package: its libraries are in {openmm['library']} (another environment's, or conda's), which has no {lacking[0]}",
                    f"pip install --force-reinstall --no-deps {_requirement('openmm')}")
        elif lacking:
            problem(f"{openmm['library']} has no {', '.join(lacking)}", REINSTALL)
    if _versionOf("numpy") is None:
        problem("numpy is not installed", f"pip install {_requirement('numpy')}")

    package, reason = _try(IMPORT)
    if not package and not any(p["essential"] for p in problems):
        problem(f"openmmspacetime cannot be imported: {reason}", _systemLibrary(reason) or REINSTALL)

    platforms = []
    for known in openmm.get("platforms", []):
        entry = {"name": known["name"], "speed": known["speed"], "works": False, "reason": ""}
        if not known["kernel"] and known["name"] in ("OpenCL", "CUDA", "HIP"):
            failures = [f for f in openmm["failures"] if f"Spacetime{known['name']}" in f]
            entry["reason"] = failures[0] if failures else "this openmm-spacetime was built without it"
        elif package:
            entry["reason"] = _try(FORCE, known["name"])[1]
            entry["works"] = not entry["reason"]
        else:
            entry["reason"] = "openmmspacetime cannot be imported"
        platforms.append(entry)
    names = [p["name"] for p in platforms]
    for entry in platforms:
        if package and not entry["works"]:
            mend = _systemLibrary(entry["reason"]) or (REINSTALL if entry["name"] in ("Reference", "CPU") else "")
            problem(f"the {entry['name']} platform: {entry['reason']}", mend, entry["name"] == "Reference")
    openclFailure = next((f for f in openmm.get("failures", []) if "libOpenMMOpenCL.so:" in f), "")
    if openclFailure and (command := _systemLibrary(openclFailure)):
        missing.append({"what": "OpenCL (GPUs without CUDA)", "mend": command})
    if driver and openmm and fits and "CUDA" not in names:
        wheel = f"openmm-cuda-{12 if int(driver.split('.')[0]) < 13 else 13}"
        failure = next((f for f in openmm["failures"] if "libOpenMMCUDA.so:" in f), "")
        if failure:
            problem(f"OpenMM's CUDA platform is installed but does not load: {failure}", f"pip install --force-reinstall {_requirement(wheel)}", False)
        else:
            missing.append({"what": f"OpenMM's CUDA platform, for the NVIDIA driver (CUDA {driver})", "mend": f"pip install {_requirement(wheel)}"})

    program = _program()
    if program["error"]:
        problem(f"the program {program['path']} does not run: {program['error']}",
                next((p["mend"] for p in problems if p["essential"]), None) or _systemLibrary(program["error"]) or REINSTALL, False)
    elif built and program["version"] != built["VERSION"]:
        problem(f"the program is of version {program['version']}, the package of {built['VERSION']}", REINSTALL, False)

    libraries: dict[str, str | None] = {"openmm": openmm.get("version"), "numpy": _versionOf("numpy")}
    for purpose, distributions in OPTIONAL.values():
        libraries.update((d, _versionOf(d)) for d in distributions)
        absent = [d for d in distributions if libraries[d] is None]
        if absent:
            missing.append({"what": f"{purpose} ({', '.join(absent)})", "mend": f"pip install {' '.join(map(_requirement, absent))}"})
    torch = os.path.join(PACKAGE, "lib", "libspacetime_torch.so")
    if libraries["torch"]:
        if not os.path.exists(torch):
            problem(f"{torch} does not exist: this openmm-spacetime was built without LibTorch, so it does not train networks", REINSTALL, False)
        elif (reason := _try(TORCH, torch)[1]):
            problem(f"torch {libraries['torch']} is installed, but {torch} (built against {built.get('TORCH_VERSION') or 'another'}) does not load: {reason}",
                    f"pip install {_requirement('torch')}", False)

    return {"works": not any(p["essential"] for p in problems), "version": built.get("VERSION"),
            "builtAgainst": {k: built[k] for k in ("OPENMM_VERSION", "TORCH_VERSION") if k in built},
            "python": platform.python_version(), "executable": sys.executable, "package": PACKAGE, "program": program,
            "openmm": {k: openmm.get(k) for k in ("version", "library")}, "platforms": platforms, "driver": driver, "libraries": libraries,
            "problems": problems, "missing": missing}


def _text(status: dict[str, Any]) -> str:
    built = status["builtAgainst"]
    lines = [f"openmm-spacetime {status['version'] or '(version unknown)'}, built against OpenMM {built.get('OPENMM_VERSION', '?')}"
             + (f" and LibTorch {built['TORCH_VERSION']}" if built.get("TORCH_VERSION") else ""),
             f"  package   {status['package']}", f"  program   {status['program']['path']}", f"  Python    {status['python']}, {status['executable']}"]
    if status["openmm"]["version"]:
        lines.append(f"  OpenMM    {status['openmm']['version']}, {status['openmm']['library']}")
    lines.append(f"  CUDA      {'driver for CUDA ' + status['driver'] if status['driver'] else 'no NVIDIA driver'}")
    lines += ["", "Platform   speed   SpacetimeForce"]
    lines += [f"{p['name']:10} {p['speed']:5g}   {'works' if p['works'] else 'does not work: ' + p['reason']}" for p in status["platforms"]]
    if not status["platforms"]:
        lines.append("none: OpenMM cannot be imported")
    lines += ["", "Library    version"]
    lines += [f"{name:10} {version or '-'}" for name, version in status["libraries"].items()]
    if status["problems"]:
        lines += ["", "Broken"]
        for p in status["problems"]:
            lines += [f"  {p['what']}"] + ([f"      {p['mend']}"] if p["mend"] else [])
    if status["missing"]:
        lines += ["", "Not installed, and only needed for what is said"]
        lines += [line for m in status["missing"] for line in (f"  {m['what']}", f"      {m['mend']}")]
    lines += ["", "Simulation works." if status["works"] else "SIMULATION DOES NOT WORK: run the first command above, then this program again."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The program: prints the status, and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m openmmspacetime.status", description="What of openmm-spacetime works here, what is missing, and what mends it.",
                                     epilog="Exit code 0: molecules can be simulated; 1: they cannot.")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args(arguments)
    status = collect()
    print(json.dumps(status, indent=1) if options.json else _text(status))
    return 0 if status["works"] else 1


if __name__ == "__main__":
    sys.exit(main())
