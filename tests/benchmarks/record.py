# SPDX-License-Identifier: MIT
"""Runs a benchmark of this folder and keeps what it prints as a page, docs/performance/NAME.md: what `make bench` calls.

    python record.py NAME [arguments of NAME.py]

The page holds the command, the machine and the output, and no date. It is written where the benchmark ends with 0 or 1 (an aim missed), but not with an exception;
that code is returned.
"""
import ast
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PAGES = HERE.parents[1]/"docs"/"performance"


def machine():
    """Processor, cores, memory, device and versions, in one line."""
    import openmm

    text = pathlib.Path("/proc/cpuinfo").read_text() if pathlib.Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    memory = os.sysconf("SC_PAGE_SIZE")*os.sysconf("SC_PHYS_PAGES")/2**30
    parts = [model.group(1).strip() if model else platform.machine(), f"{len(os.sched_getaffinity(0))} cores", f"{memory:.0f} GiB"]
    try:
        parts += subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True).stdout.split("\n")[:1]
    except (OSError, subprocess.CalledProcessError):
        parts.append("no GPU")
    versions = [f"Python {platform.python_version()}", f"OpenMM {openmm.__version__}"]
    try:
        import torch

        versions.append(f"torch {torch.__version__.split('+')[0]}")
    except ImportError:
        pass
    return ", ".join(parts+versions)


def page(name, arguments, output):
    """Markdown of what a benchmark printed; where it printed no Markdown itself, as text."""
    about = ast.get_docstring(ast.parse((HERE/f"{name}.py").read_text(encoding="utf-8"))).split("\n\n")[0].replace("\n", " ")
    command = " ".join(["python", f"tests/benchmarks/{name}.py", *arguments])
    body = output.strip("\n")
    if not re.search(r"^\|[-| :]+\|$", body, re.M):
        body = f"```text\n{body}\n```"
    return f"# {name}\n\n{about.rstrip(':')}\n\n| | |\n|---|---|\n| command | `{command}` |\n| machine | {machine()} |\n\n{body}\n"


def main():
    name, arguments = sys.argv[1], sys.argv[2:]
    lines = []
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen([sys.executable, "-u", str(HERE/f"{name}.py"), *arguments], stdout=subprocess.PIPE, stderr=errors, text=True)
        for line in child.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        code = child.wait()
        errors.seek(0)
        complaints = errors.read()
    print(complaints, end="", file=sys.stderr)
    if code == 1 and "Traceback (most recent call last)" in complaints:  # Python's own 1
        return 2
    if code in (0, 1) and lines:
        PAGES.mkdir(exist_ok=True)
        (PAGES/f"{name}.md").write_text(page(name, arguments, "".join(lines)), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
