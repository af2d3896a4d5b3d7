# SPDX-License-Identifier: MIT
"""The C++ tests under sanitizers and under valgrind; a table of what ran and what was found.

    python sanitize.py --asan BUILD --tsan BUILD --valgrind BUILD [--jobs 2] [--only asan|tsan|valgrind] [--labels core ...]

Every test of the labels core, diffusion, openmm and reference runs. Left out are the labels torch (LibTorch is not instrumented and fills the log with what is not ours) and opencl, cuda, hip and cpu (drivers, and
OpenMM's own threads); their tests are listed at the end.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
LABELS = ["core", "diffusion", "openmm", "reference"]
# The quarantine is small because a test measures memory.
SETTINGS = {"LSAN_OPTIONS": f"suppressions={HERE}/lsan.txt:print_suppressions=0",
            "ASAN_OPTIONS": "quarantine_size_mb=16:detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1", "TSAN_OPTIONS": "second_deadlock_stack=1"}

VALGRIND = ("valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite", "--num-callers=25",
            f"--suppressions={HERE}/valgrind.supp")


def tests(build):
    """Each test of the tree: name, command, labels."""
    listed = json.loads(subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True, capture_output=True, text=True).stdout)
    for test in listed["tests"]:
        labels = next((p["value"] for p in test["properties"] if p["name"] == "LABELS"), [])
        environment = next((p["value"] for p in test["properties"] if p["name"] == "ENVIRONMENT"), [])
        yield test["name"], test.get("command", []), labels, environment


def runAll(build, labels, jobs, prefix=()):
    """Names of tests that failed, how many ran, seconds."""
    chosen = [t for t in tests(build) if set(t[2]) & set(labels)]
    begin = time.perf_counter()
    logs = build/"sanitizer-logs"
    logs.mkdir(exist_ok=True)

    def run(test):
        name, command, _, environment = test
        done = subprocess.run([*prefix, *command], env={**os.environ, **SETTINGS, **dict(e.split("=", 1) for e in environment)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        (logs/f"{name.replace('/', '_')}.log").write_bytes(done.stdout)
        if done.returncode not in (0, 77):
            print(f"  {name}: exit code {done.returncode}, see {logs}", flush=True)
        return None if done.returncode in (0, 77) else name

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        failed = [name for name in pool.map(run, chosen) if name is not None]
    return failed, len(chosen), time.perf_counter()-begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for tool in "asan", "tsan", "valgrind":
        parser.add_argument(f"--{tool}", type=pathlib.Path, help=f"build tree for {tool}")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=["asan", "tsan", "valgrind"])
    parser.add_argument("--labels", nargs="+", choices=LABELS, default=LABELS)
    arguments = parser.parse_args()
    names = {"asan": "Address- and UndefinedBehaviorSanitizer", "tsan": "ThreadSanitizer", "valgrind": "valgrind (memcheck)"}
    clean, last = True, None
    print(f"{'':40} {'tests':>6} {'failed':>7} {'seconds':>8}", flush=True)
    for tool, title in names.items():
        build = getattr(arguments, tool)
        if build is None or arguments.only not in (None, tool):
            continue
        build = last = build.resolve()
        if tool != "valgrind":
            subprocess.run(["ninja", "-C", build, "-j", str(arguments.jobs), "--quiet"], check=True)
        prefix = () if tool != "valgrind" else VALGRIND
        failed, count, seconds = runAll(build, arguments.labels, arguments.jobs, prefix)
        print(f"{title:40} {count:6} {len(failed):7} {seconds:8.0f}", flush=True)
        clean = clean and not failed
    if last is not None:
        out = [name for name, _, labels, _ in tests(last) if not set(labels) & set(arguments.labels)]
        print(f"left out by label: {', '.join(out) or 'none'}")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
