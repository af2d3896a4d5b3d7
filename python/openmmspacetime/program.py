# SPDX-License-Identifier: MIT
"""The console script: hands over to the compiled program inside the package."""
import os
import sys


def path() -> str:
    """Where the compiled `spacetime` program lies."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "spacetime")


def main() -> None:
    os.execv(path(), [path(), *sys.argv[1:]])
