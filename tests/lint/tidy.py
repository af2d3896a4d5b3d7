# SPDX-License-Identifier: MIT
"""clang-tidy over the C++ sources that changed since they last passed.

    python tests/lint/tidy.py build/make [SOURCE ...]

tidy.json beside this file, which is committed, holds for every source that passed a hash of it, of our headers that it includes, of .clang-tidy and of clang-tidy's
version: only what has another is looked at, and what passes is entered. Exit code 1 where a source does not pass.
"""
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORD = pathlib.Path(__file__).resolve().parent/"tidy.json"


def main() -> int:
    build, wanted = pathlib.Path(sys.argv[1]).resolve(), [str(pathlib.Path(s).resolve()) for s in sys.argv[2:]]
    passed = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    version = re.search(r"version (\d+)", subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout).group(1)
    # {object: [what it was made from]}
    depends = {block.split(":")[0]: re.findall(r"^    (.*)$", block, re.M)
               for block in subprocess.run(["ninja", "-C", build, "-t", "deps"], capture_output=True, text=True, check=True).stdout.split("\n\n")}
    failed, hashes, due = [], {}, []
    for command in json.loads((build/"compile_commands.json").read_text()):
        source = pathlib.Path(command["file"])
        name = source.relative_to(ROOT).as_posix() if ROOT in source.parents else ""
        if not name or name in hashes or build in source.parents or ".venv" in source.parts or source.name == "StbImplementation.cpp" or (wanted and str(source) not in wanted):
            continue
        made = re.search(r" -o (\S+)", command["command"]).group(1)
        files = {(build/d).resolve() for d in depends.get(made, [])} | {source, ROOT/".clang-tidy"}
        ours = sorted(p.relative_to(ROOT).as_posix() for p in files if ROOT in p.parents and ".venv" not in p.parts and build not in p.parents)
        digest = hashlib.sha256(version.encode())
        for file in ours:
            # Comments change nothing, but where they speak to clang-tidy.
            digest.update(hashlib.sha256(re.sub(rb"//(?![^\n]*NOLINT)[^\n]*", b"", (ROOT/file).read_bytes())).digest())
        hashes[name] = digest.hexdigest()[:16]
        if passed.get(name) != hashes[name]:
            due.append(name)

    def check(name):
        return name, subprocess.run(["clang-tidy", "-p", build, "--quiet", ROOT/name], capture_output=True, text=True)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, result in pool.map(check, due):
            print("clang-tidy", name, flush=True)
            if result.returncode == 0:
                passed[name] = hashes[name]
                RECORD.write_text(json.dumps({n: passed[n] for n in sorted(passed) if (ROOT/n).exists()}, indent=0)+"\n")
            else:
                failed.append(name)
                print(result.stdout)
    print(f"clang-tidy: {len(hashes)-len(failed)} of {len(hashes)} sources pass" + (f"; these do not: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
