# SPDX-License-Identifier: MIT
"""The code blocks of the documentation, and how the tests run them.

A block of Python or of commands (bash) in docs/ is run by the test that calls `run` with its page, or its page says in a comment right above it why it is not:

    <!-- not run: needs MPI -->

    python tests/python/snippets.py docs/tutorial.md FOLDER      # runs a page as it stands, in FOLDER, and prints what it prints
"""
import dataclasses
import os
import pathlib
import re
import subprocess
import sys

import openmmspacetime

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(openmmspacetime.__file__).parent/"bin"
RUNNABLE = {"python", "bash"}
#: Languages of blocks that are no code of this project's users: output, files, mathematics, directives of the site.
OTHER = {"text", "json", "math", "cmake", "{api}", "{eval-rst}"}
FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+?) -->\n+)?^(?P<indent> *)```(?P<language>\S*)\n(?P<code>.*?)^ *```$", re.S | re.M)


@dataclasses.dataclass
class Block:
    """A fenced block: `reason` says why it is not run, `line` where it begins."""

    language: str
    code: str
    reason: str
    line: int


def pages():
    """Paths of all pages, relative to the root, without those that docs/conf.py copies from elsewhere."""
    return [path.relative_to(ROOT).as_posix() for path in sorted((ROOT/"docs").rglob("*.md")) if path.parent.name not in ("examples", "project")]


def blocks(page):
    """Every fenced block of `page` (its path, relative to the root)."""
    text = (ROOT/page).read_text(encoding="utf-8")
    found = [Block(m["language"], m["code"], m["reason"] or "", text.count("\n", 0, m.start("code"))) for m in FENCE.finditer(text)]
    assert 2*len(found) == len(re.findall(r"^ *```", text, re.M)), f"{page}: a fence is not closed"
    return found


def run(page, names=None, less=None, only=slice(None)):
    """Run the blocks of `page` in order, Python in the namespace `names`, and return that.

    `less` maps what to replace to its replacement, to make runs short; each must occur in the page. `only` is a slice of the blocks that are run.
    """
    names = {} if names is None else names
    chosen = [block for block in blocks(page) if block.language in RUNNABLE and not block.reason][only]
    assert chosen, f"{page}: nothing to run"
    unused = [much for much in less or {} if not any(much in block.code for block in chosen)]
    assert not unused, f"{page}: {unused} occur in no block"
    for block in chosen:
        code = block.code
        for much, few in (less or {}).items():
            code = code.replace(much, few)
        if block.language == "python":
            exec(compile(code, f"{page}:{block.line}", "exec"), names)
        else:
            path = os.pathsep.join([str(PROGRAM), str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
            done = subprocess.run(["bash", "-ec", code], capture_output=True, text=True, env={**os.environ, "PATH": path})
            assert done.returncode == 0, f"{page}:{block.line}: {done.stdout}{done.stderr}"
            print(done.stdout, end="")
    return names


if __name__ == "__main__":
    page = pathlib.Path(sys.argv[1]).resolve().relative_to(ROOT).as_posix()
    os.chdir(sys.argv[2])
    run(page)
