# SPDX-License-Identifier: MIT
"""clang-tidy over the C++ sources that changed since they last passed.

    python tests/lint/tidy.py build/make [SOURCE ...]

A source has passed with its own headers and .clang-tidy as they are now where build/tidy holds the hash of all of them. Exit code 1 where a source does not pass.
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


def main() -> int:
    build, wanted = pathlib.Path(sys.argv[1]).resolve(), [str(pathlib.Path(s).resolve()) for s in sys.argv[2:]]
    passed = build.parent/"tidy"
    passed.mkdir(exist_ok=True)
    # {object: [what it was made from]}
    depends = {block.split(":")[0]: re.findall(r"^    (.*)$", block, re.M)
               for block in subprocess.run(["ninja", "-C", build, "-t", "deps"], capture_output=True, text=True, check=True).stdout.split("\n\n")}
    failed, seen, due = [], set(), []
    for command in json.loads((build/"compile_commands.json").read_text()):
        source = pathlib.Path(command["file"])
        if source in seen or build in source.parents or source.name == "StbImplementation.cpp" or (wanted and str(source) not in wanted):
            continue
        seen.add(source)
        made = re.search(r" -o (\S+)", command["command"]).group(1)
        files = sorted({p for p in ((build/d).resolve() for d in depends.get(made, [])) if ROOT in p.parents and ".venv" not in p.parts} | {source, ROOT/".clang-tidy"})
        digest = hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in files)).hexdigest()
        stamp = passed/f"{source.relative_to(ROOT).as_posix().replace('/', '-')}.txt"
        if not (stamp.exists() and stamp.read_text() == digest):
            due.append((source, stamp, digest))

    def check(task):
        source, stamp, digest = task
        result = subprocess.run(["clang-tidy", "-p", build, "--quiet", source], capture_output=True, text=True)
        if result.returncode == 0:
            stamp.write_text(digest)
        return source.relative_to(ROOT), result

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, result in pool.map(check, due):
            print("clang-tidy", name, flush=True)
            if result.returncode != 0:
                failed.append(str(name))
                print(result.stdout)
    print(f"clang-tidy: {len(seen)-len(failed)} of {len(seen)} sources pass" + (f"; these do not: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
