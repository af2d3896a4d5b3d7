# SPDX-License-Identifier: MIT
"""The plugin's CUDA library loads wherever OpenMM's CUDA platform does, shown without a GPU: a library of ours stands in for the driver."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import openmm
import pytest

LIB = pathlib.Path(openmm.version.openmm_library_path)
OURS = "libOpenMMSpacetimeCUDA.so"
THEIRS = "libOpenMMCUDA.so"

# Which series of OpenMM's CUDA wheels: where its platform lies, and which libraries of CUDA it needs that are not installed beside it.
# Both wheels bring a libOpenMMCUDA.so to the same place, so only one of them can be installed; `make` lays the other in a folder beside.
ASIDE = pathlib.Path(sys.prefix) / "openmm-cuda-12"
WHEELS = {13: (LIB / "plugins", ["libcuda"]), 12: (ASIDE / "OpenMM.libs" / "lib" / "plugins", ["libcuda", "libnvrtc", "libcufft"])}

CHECK = """
import openmm
platform = openmm.Platform.getPlatform("CUDA")
print([f for f in openmm.Platform.getPluginLoadFailures() if "CUDA" in f])
print(platform.supportsKernels(["CalcSpacetimeForce"]), platform.supportsKernels(["NoSuchKernel"]))
system = openmm.System()
system.addParticle(1)
try:
    openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
except openmm.OpenMMException as e:
    print(e)
"""


def run(*command, **environment):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    assert result.returncode == 0, f"{command}: exit code {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout


def symbols(library, which):
    """{name: version or ""}: what a library "defined" or leaves "undefined"; what it can do without is left out."""
    lines = (line.split() for line in run("nm", "-D", f"--{which}-only", library).splitlines())
    return {name: version for kind, symbol in (line[-2:] for line in lines) if kind not in "wv" or which == "defined"
            for name, _, version in [symbol.replace("@@", "@").partition("@")]}


def needed(library):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", library))


def standIns(folder, library, names):
    """Libraries with the names and symbols that `library` expects. All their functions say CUDA_ERROR_NO_DEVICE, but cuInit succeeds."""
    folder.mkdir()
    prefixes = {"libcuda": r"cu[A-Z]", "libnvrtc": r"nvrtc", "libcufft": r"cufft"}
    undefined = symbols(library, "undefined")
    for name in names:
        soname = next(n for n in needed(library) if n.startswith(name + ".so"))
        functions = {f: version for f, version in undefined.items() if re.match(prefixes[name], f)}
        assert functions
        source, versions = folder / f"{name}.c", folder / f"{name}.map"
        source.write_text("".join(f"int {f}(void) {{ return {0 if f == 'cuInit' else 100}; }}\n" for f in functions))
        versions.write_text("".join(f"{v} {{ global: *; }};\n" for v in sorted(set(functions.values()) - {""})))
        script = [f"-Wl,--version-script={versions}"] if versions.stat().st_size else []
        run("gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", *script, "-o", folder / soname, source)


@pytest.fixture(params=[13, 12])
def wheel(request, tmp_path):
    """The folder of plugins with OpenMM's CUDA platform and ours, and what stands in for CUDA."""
    plugins, absent = WHEELS[request.param]
    if not (plugins / THEIRS).exists():
        pytest.fail(f"{plugins / THEIRS} is needed to load our CUDA library. Run: make, or: pip install " + (
            f"'openmm-cuda-{request.param}>=8.6.1,<8.7'" if plugins == LIB / "plugins" else
            f"--no-deps --target {ASIDE} 'openmm-cuda-{request.param}>=8.6.1,<8.7'"))
    if not (LIB / "plugins" / OURS).exists():
        pytest.fail(f"{LIB / 'plugins' / OURS} was not built: CMake's output says which headers lack. Run: pip install -r requirements.txt, then build anew")
    if plugins != LIB / "plugins":
        # As it would be installed. OpenMM's other libraries are the same for all of its CUDA wheels.
        folder = tmp_path / "lib" / "plugins"
        folder.mkdir(parents=True)
        for library in LIB.glob("*.so"):
            (folder.parent / library.name).symlink_to(library)
        for library in (plugins / THEIRS, LIB / "plugins" / OURS):
            shutil.copy(library, folder)
        plugins = folder
    standIns(tmp_path / "cuda", plugins / THEIRS, absent)
    return plugins, tmp_path / "cuda"


def testNeedsNothingOfCuda():
    dynamic = run("readelf", "-d", LIB / "plugins" / OURS)
    libraries = needed(LIB / "plugins" / OURS)
    assert {THEIRS, "libOpenMM.so", "libOpenMMSpacetime.so"} <= set(libraries)
    assert not [n for n in libraries if n.startswith(("libcu", "libnv"))]
    # Found in OpenMM's folders wherever they lie.
    paths = re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", dynamic)
    assert paths and all(p.startswith("$ORIGIN") for p in paths[0].split(":"))


def testSymbolsAreProvided(wheel):
    plugins, cuda = wheel
    resolved = dict(re.findall(r"^\s*(\S+) => (/\S+)", run("ldd", plugins / OURS, LD_LIBRARY_PATH=str(cuda)), re.M))
    missing = [n for n in needed(plugins / OURS) if n not in resolved]
    assert not missing
    assert pathlib.Path(resolved[THEIRS]).resolve() == (plugins / THEIRS).resolve()
    undefined = set(symbols(plugins / OURS, "undefined"))
    provided = {n: set(symbols(resolved[n], "defined")) for n in needed(plugins / OURS)}
    assert undefined - set().union(*provided.values()) == set()
    # Not only by chance: something is asked of OpenMM's platform and of our own library.
    assert undefined & provided[THEIRS] and undefined & provided["libOpenMMSpacetime.so"]


def testLoadsWithoutGpu(wheel):
    plugins, cuda = wheel
    # With LD_BIND_NOW a function that is nowhere stops the load, which OpenMM would put off to the first call.
    output = run(sys.executable, "-c", CHECK, LD_LIBRARY_PATH=str(cuda), OPENMM_PLUGIN_DIR=str(plugins), LD_BIND_NOW="1").splitlines()
    assert output[0] == "[]"
    assert output[1] == "True False"
    # Only the GPU is lacking: the error is the stand-in's.
    assert "(100)" in output[2]


def testImportWithoutDriver():
    # Where no driver is installed, that OpenMM's CUDA platform fails to load is no fault of ours.
    assert run(sys.executable, "-c", "import openmmspacetime, openmm; print(openmm.Platform.getPlatform('Reference').getName())") == "Reference\n"
