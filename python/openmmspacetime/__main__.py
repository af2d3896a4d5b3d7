# SPDX-License-Identifier: MIT
"""Tells builds of C++ programs where the plugin's CMake package lies.

``cmake -S . -B build -DOpenMMSpacetime_ROOT=$(python -m openmmspacetime --cmake-dir)``
"""
import argparse
import os
import sys

import openmm


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m openmmspacetime", description="Where the C++ side of openmm-spacetime is installed.")
    parser.add_argument("--cmake-dir", action="store_true", help="print the folder of OpenMMSpacetimeConfig.cmake")
    if not parser.parse_args().cmake_dir:
        parser.error("expected --cmake-dir")
    folder = os.path.join(openmm.version.openmm_library_path, "cmake", "OpenMMSpacetime")
    if not os.path.exists(os.path.join(folder, "OpenMMSpacetimeConfig.cmake")):
        print(f"{folder} has no OpenMMSpacetimeConfig.cmake. Run: pip install --force-reinstall --no-deps openmm-spacetime", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
