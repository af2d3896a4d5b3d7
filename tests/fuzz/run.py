# SPDX-License-Identifier: MIT
"""Run the fuzzers: every reader of files from outside gets so many made-up files, under AddressSanitizer and UndefinedBehaviorSanitizer.

    python run.py --build BUILD [--runs 10000000] [--jobs 2] [--minutes M] [--grow] [TARGET ...]

One finding ends a target's run with its input under BUILD/findings, and the exit code is 1. An allocation of more than 512 MB at once, or 2 GB in all, is a
finding, as is a file that takes ten seconds: none has more than 2 KB. The files are made from those in corpus/, which is left as it is; --grow adds the files of
up to 1 KB that reached what none reached before.
"""
import argparse
import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGETS = ["safetensors", "curve", "npz", "npy", "csv", "mixture", "forcexml", "densitypath", "picture"]


def run(target, arguments):
    """One line of the table, and whether nothing was found."""
    build = arguments.build
    program, found, findings, log = build/"tests"/"fuzz"/f"fuzz_{target}", build/"fuzz"/target, build/"findings"/target, build/"fuzz"/f"{target}.log"
    for folder in found, findings:
        folder.mkdir(parents=True, exist_ok=True)
    known, begin = set(findings.iterdir()), time.perf_counter()
    command = [program, found, HERE/"corpus"/target, f"-runs={arguments.runs}", "-max_len=2048", f"-timeout={arguments.timeout}", "-rss_limit_mb=2048", "-malloc_limit_mb=512",
               "-print_final_stats=1", f"-artifact_prefix={findings}/", f"-dict={HERE}/keys.dict", f"-seed={arguments.seed}"]
    if arguments.minutes:
        command.append(f"-max_total_time={int(60*arguments.minutes)}")
    with open(log, "w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, cwd=findings).returncode
    text = log.read_text(errors="replace")
    executions = re.findall(r"stat::number_of_executed_units:\s+(\d+)", text) or re.findall(r"^#(\d+)", text, re.M)[-1:] or ["0"]
    coverage = re.findall(r"cov: (\d+)", text)
    memory = re.findall(r"stat::peak_rss_mb:\s+(\d+)", text)
    new = sorted(set(findings.iterdir())-known)
    line = (f"{target:12} {int(executions[0]):12,} {time.perf_counter()-begin:9.0f} {coverage[-1] if coverage else '?':>9} {memory[-1] if memory else '?':>8}  "
            + ("none" if code == 0 else f"{new[0] if new else 'exit code '+str(code)}, see {log}"))
    return line, code == 0


def grow(target, arguments):
    """Merge what was found into the corpus, as far as the files are small."""
    corpus, small = HERE/"corpus"/target, arguments.build/"fuzz"/f"{target}-small"
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir()
    for file in (arguments.build/"fuzz"/target).iterdir():
        if file.stat().st_size <= 1024:
            shutil.copy(file, small)
    subprocess.run([arguments.build/"tests"/"fuzz"/f"fuzz_{target}", "-merge=1", corpus, small], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help=", ".join(TARGETS))
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build tree with the fuzzers")
    parser.add_argument("--runs", type=int, default=10_000_000)
    parser.add_argument("--minutes", type=float, help="stop each target after so many")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=10, help="seconds on the clock that a file may take: more on a machine that is busy")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--grow", action="store_true")
    arguments = parser.parse_args()
    arguments.build = arguments.build.resolve()
    for target in arguments.targets:
        if target not in TARGETS:
            parser.error(f"expected targets among {', '.join(TARGETS)}, got '{target}'")
    targets = arguments.targets or TARGETS
    (arguments.build/"fuzz").mkdir(exist_ok=True)
    print(f"{'target':12} {'executions':>12} {'seconds':>9} {'coverage':>9} {'peak MB':>8}  findings", flush=True)
    clean = True
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for line, good in pool.map(lambda t: run(t, arguments), targets):
            print(line, flush=True)
            clean = clean and good
    if arguments.grow:
        for target in targets:
            grow(target, arguments)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
