# SPDX-License-Identifier: MIT
"""Makes sure that OpenMM has loaded the plugin, or says why not.

``import openmm`` loads every library in its plugin folder and keeps failures to itself: the first sign would be a Context that cannot be created. So the
package checks once, when it is imported.
"""
from __future__ import annotations

import os
import sys
import warnings

__all__ = ["check", "runStatus", "version"]

KERNEL = "CalcSpacetimeForce"
LIBRARY = "libOpenMMSpacetimeReference.so"


def check() -> None:
    """Check that OpenMM fits and that its Reference platform knows the SpacetimeForce; load the plugin if need be.

    Libraries for GPU platforms may be missing or fail to load without harm: they are expected to where there is no such platform. Where there is one, a warning says why.

    Raises
    ------
    ImportError
        When the installed OpenMM has another major or minor version than the one this package was built against (C++ interfaces change with each), or when
        the plugin cannot be loaded. The message holds the reason and the command that mends it.
    """
    import openmm

    from ._built_against import OPENMM_VERSION

    installed = openmm.version.short_version
    series = ".".join(OPENMM_VERSION.split(".")[:2])
    if installed.split(".")[:2] != OPENMM_VERSION.split(".")[:2]:
        raise ImportError(f"openmmspacetime was built against OpenMM {OPENMM_VERSION}, but OpenMM {installed} is installed. "
                          f"Run: pip install 'openmm=={series}.*', or install an openmm-spacetime that was built for OpenMM {installed}")
    if _isRegistered(openmm):
        _warnOfOthers(openmm)
        return
    path = os.path.join(openmm.version.openmm_library_path, "plugins", LIBRARY)
    reinstall = "Run: pip install --force-reinstall --no-deps openmm-spacetime"
    if not os.path.exists(path):
        raise ImportError(f"OpenMM's plugin folder lacks {LIBRARY}: {path} does not exist. {reinstall}")
    try:
        openmm.Platform.loadPluginLibrary(path)
    except Exception as e:
        raise ImportError(f"OpenMM could not load {path}: {e}. {reinstall}") from e
    if not _isRegistered(openmm):
        failures = "; ".join(f for f in openmm.Platform.getPluginLoadFailures() if "Spacetime" in f)
        raise ImportError(f"{path} was loaded, but OpenMM's Reference platform does not know the kernel {KERNEL}. {failures} {reinstall}")


def runStatus() -> None:
    """Run the status program if it is what Python was started for (``python -m openmmspacetime.status``), and end.

    Python imports the package before it looks for the module, and the program must also run where the package cannot be imported.
    """
    if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].endswith("openmmspacetime.status"):
        from .status import main

        sys.exit(main(sys.argv[1:]))


def _warnOfOthers(openmm) -> None:
    """Warn of platforms that OpenMM has and this plugin should serve but does not, with OpenMM's own reason."""
    for i in range(openmm.Platform.getNumPlatforms()):
        platform = openmm.Platform.getPlatform(i)
        if platform.getName() in ("OpenCL", "CUDA", "HIP") and not platform.supportsKernels([KERNEL]):
            failures = "; ".join(f for f in openmm.Platform.getPluginLoadFailures() if f"Spacetime{platform.getName()}" in f)
            warnings.warn(f"openmmspacetime: a SpacetimeForce cannot be used on OpenMM's {platform.getName()} platform: "
                          f"{failures or 'this installation was built without it'}", RuntimeWarning, stacklevel=4)


def version() -> str:
    """Version of this package."""
    from ._built_against import VERSION

    return VERSION


def _isRegistered(openmm) -> bool:
    return openmm.Platform.getPlatformByName("Reference").supportsKernels([KERNEL])
