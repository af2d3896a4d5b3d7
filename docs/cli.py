# SPDX-License-Identifier: MIT
"""Writes docs/cli.md from what the program says of itself: `python docs/cli.py`; with --print to standard output."""
import pathlib
import re
import subprocess
import sys

import openmmspacetime

PROGRAM = pathlib.Path(openmmspacetime.__file__).parent/"bin"/"spacetime"
PAGE = pathlib.Path(__file__).with_name("cli.md")

HEAD = """# The program

`spacetime` does without Python what the package does with it, on files. This page is made from its help by `python docs/cli.py`; a test says when it is stale.

## Exit codes

| code | |
|---|---|
| 0 | done |
| 1 | the result was written, and is not to be trusted as it is: not converged, fewer than 30 effective samples on the curve, a density path that leaves the model's range, not all paths complete, or interrupted |
| 2 | bad input: one line on stderr says what, where and what to do; nothing was written |

## What all commands share

* `--json` prints one JSON object to stdout, `--quiet` shows no progress (which goes to stderr, at a terminal only), `--overwrite` replaces files, which nothing does unasked.
* Values are raw: rad and nm, kJ/mol, K. `--from=-2.58,2.79` and `--from -2.58,2.79` are both understood.
* A model is one of `--model` (safetensors), `--torchscript` (a program: open files of people you trust), `--samples` and `--mixture`.
* Samples are `.npz` (`x` [K, n] and optionally `log_weights` [K]), `.npy` or `.csv`.
* Ctrl-C keeps what was done.

"""


def helpOf(*command):
    """Help of a command, without the version, which changes with every commit."""
    text = subprocess.run([PROGRAM, *command, "--help"], capture_output=True, text=True, check=True).stdout
    return re.sub(r"^spacetime \S+: ", "spacetime: ", text).strip()


def names(text):
    """Commands that a help lists, in its order."""
    return re.findall(r"^  (\w+)  +\S", text, re.M)


def page():
    top = helpOf()
    density = helpOf("density")
    commands = [(name,) for name in names(top)]
    at = commands.index(("density",))
    commands[at+1:at+1] = [("density", name) for name in names(density)]
    parts = [HEAD+f"## spacetime\n\n```text\n{top}\n```\n"]
    parts += [f"## spacetime {' '.join(command)}\n\n```text\n{helpOf(*command)}\n```\n" for command in commands]
    return "\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(page(), end="")
    else:
        PAGE.write_text(page(), encoding="utf-8")
