#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""repeat.py BUILD [TIMES [JOBS]]: runs the unit tests that are in BUILD so many times (100).

Each program of tests runs whole, its tests in another order each time: so they meet what other tests
leave behind, and a run takes as long as the tests, not as the starting of a process for each. Stops at
the first failure, with what was printed and how to have the same order again.
"""
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

GOAL_S = 20


def commands_of(tests):
    """The programs behind what ctest lists: those of Catch2 once, the others as they are called."""
    cases = {}
    for test in tests:
        cases.setdefault(test["command"][0], []).append(test)
    commands = []
    for program, those in cases.items():
        properties = {p["name"]: p["value"] for p in those[0]["properties"]}
        catch2 = Path(program).name.startswith("test_") and len(those[0]["command"]) == 2
        for command in [[program]] if catch2 else [test["command"] for test in those]:
            commands.append((command, catch2, properties))
    return commands


def run(command, catch2, properties):
    """How long it took, and what to show if it failed."""
    if catch2:
        command = [*command, "--order", "rand", "--rng-seed", str(random.randrange(1, 2**31))]
    begun = time.monotonic()
    try:
        ended = subprocess.run(command, cwd=properties.get("WORKING_DIRECTORY"), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
                               timeout=properties.get("TIMEOUT", 300))
        printed, status = ended.stdout, ended.returncode
    except subprocess.TimeoutExpired as hung:
        printed, status = (hung.stdout or b"").decode(errors="replace"), "no end in time"
    failed = status not in (0, properties.get("SKIP_RETURN_CODE", 0))
    report = f"{printed}\nfailed ({status}): {' '.join(command)}" if failed else None
    return time.monotonic() - begun, report


def count(what, text):
    if not text.isdecimal() or int(text) < 1:
        sys.exit(f"repeat.py: {what} is '{text}'; allowed: 1 or more")
    return int(text)


def main(build, times="100", jobs="3"):
    times, jobs = count("TIMES", times), count("JOBS", jobs)
    listed = subprocess.run(["ctest", "--test-dir", build, "-L", "unit", "--show-only=json-v1"],
                            check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    commands = commands_of(json.loads(listed.stdout)["tests"])
    if not commands:
        sys.exit(f"repeat.py: no unit tests in {build}")
    # The seconds that each program took last: those that take longest begin first.
    memory = Path(build, "repeat.json")
    usual = json.loads(memory.read_text()) if memory.exists() else {}
    slowest = 0.0
    with ThreadPoolExecutor(jobs) as pool:
        for turn in range(1, times + 1):
            commands.sort(key=lambda command: -usual.get(" ".join(command[0]), 0))
            begun = time.monotonic()
            results = list(pool.map(lambda command: run(*command), commands))
            took = time.monotonic() - begun
            reports = [report for _, report in results if report]
            if reports:
                sys.exit("\n".join(reports) + f"\nrun {turn} of {times} failed")
            usual = {" ".join(command): seconds for (command, *_), (seconds, _) in zip(commands, results)}
            memory.write_text(json.dumps(usual))
            slowest = max(slowest, took)
            print(f"run {turn} of {times}: {len(commands)} programs, {took:.1f} s", flush=True)
    print(f"claim repeat.unit_suite_s {slowest:.3f} <= {GOAL_S} {'holds' if slowest <= GOAL_S else 'short'}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
