#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""mutate.py [--sample N] [--jobs N] [FILE...]: do the tests notice when an operator in core/ is another?

Flips one operator at a time in a copy of a header of include/tidegate/core, builds the tests that
include that header, and runs them. A mutant is killed when a test fails or hangs, survives when all
pass, and does not count when it does not compile. Ends with the survivors and the share of killed
mutants; fails below 90 %. tests/core/equivalent_mutants.txt names those that change nothing.
"""
import argparse
import concurrent.futures
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

root = Path(__file__).resolve().parent.parent
core = root / "include/tidegate/core"
work = root / "build/mutate"
goal = 0.9

# What stands between blanks is an operator, since clang-format puts none round template brackets.
flips = {
    " < ": [" <= "], " <= ": [" < "], " > ": [" >= "], " >= ": [" > "], " == ": [" != "], " != ": [" == "],
    " + ": [" - "], " - ": [" + "], " * ": [" / "], " / ": [" * "], " % ": [" * "],
    " && ": [" || "], " || ": [" && "], " += ": [" -= "], " -= ": [" += "], " << ": [" >> "], " >> ": [" << "],
    "++": ["--"], "--": ["++"], "std::min": ["std::max"], "std::max": ["std::min"],
    "return true": ["return false"], "return false": ["return true"], "(!": ["("],
}
operator = re.compile("|".join(re.escape(o) for o in sorted(flips, key=len, reverse=True)))


class Mutant:
    def __init__(self, header, line, column, old, new):
        self.header, self.line, self.column, self.old, self.new = header, line, column, old, new
        self.lines = header.read_text().splitlines(keepends=True)

    def text(self):
        line = self.lines[self.line]
        lines = list(self.lines)
        lines[self.line] = line[: self.column] + self.new + line[self.column + len(self.old):]
        return "".join(lines)

    def key(self):
        """How equivalent_mutants.txt names it: it outlives changes elsewhere in the file."""
        nth = self.lines[self.line][: self.column].count(self.old) + 1
        return (str(self.header.relative_to(core)), self.lines[self.line].strip(), self.old.strip(), nth)

    def __str__(self):
        where = f"{self.header.relative_to(root)}:{self.line + 1}:{self.column + 1}"
        return f"{where}: '{self.old.strip()}' -> '{self.new.strip()}'   {self.lines[self.line].strip()}"


def mutants_of(header):
    for number, line in enumerate(header.read_text().splitlines()):
        code = line.split("//")[0]
        if re.match(r"\s*(#|static_assert|template|using |for_each)", code):
            continue
        for found in operator.finditer(code):
            for new in flips[found.group()]:
                yield Mutant(header, number, found.start(), found.group(), new)


def equivalent():
    """Lines of 'FILE | LINE | OPERATOR | NTH | why nothing changes'."""
    known = set()
    for line in (root / "tests/core/equivalent_mutants.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            file, rest = line.split(" | ", 1)
            text, old, nth, _why = rest.rsplit(" | ", 3)
            known.add((file, text.strip(), old, int(nth)))
    return known


def closure(file, seen=None):
    """The headers of the library that a file includes, at any depth."""
    seen = set() if seen is None else seen
    for name in re.findall(r"#include <(tidegate/[\w/]+\.[hi]pp)>", file.read_text()):
        header = root / "include" / name
        if header not in seen and header.exists():
            seen.add(header)
            closure(header, seen)
    return seen


def tests_of(header):
    tests = sorted((root / "tests/core").glob("*_test.cpp"))
    direct = [t for t in tests if f"<{header.relative_to(root / 'include')}>" in t.read_text()]
    return direct or [t for t in tests if header in closure(t)]


class Builder:
    compiler = os.environ.get("CXX", "clang++-19")

    def __init__(self):
        boost, catch = root / ".deps/boost/usr", root / ".deps/catch2/usr"
        self.includes = ["-I", str(root / "include"), "-I", str(root / "tests")]
        self.includes += [f"-isystem{p}/include" for p in (boost, catch) if p.exists()]
        libraries = list(catch.rglob("libCatch2*.a"))
        self.libraries = [str(p) for p in sorted(libraries, reverse=True)] or ["-lCatch2Main", "-lCatch2"]

    def run(self, overlay, test, timeout):
        """'passed', 'failed', 'hung' or 'broken'."""
        program = overlay / "program"
        # No asserts: the tests have to find it, not the library's own checks. But bounds, which the tests
        # are run with under AddressSanitizer.
        bounds = ["-D_GLIBCXX_ASSERTIONS", "-fsanitize=bounds", "-fsanitize-trap=bounds"]
        command = [self.compiler, "-std=c++20", "-O1", "-w", "-DNDEBUG", *bounds, "-I", str(overlay), *self.includes,
                   str(test), *self.libraries, "-pthread", "-o", str(program)]
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            return "broken"
        few = {"TIDEGATE_STRESS_SCHEDULES": "500", "TIDEGATE_STRESS_SEED": "20261120", **os.environ}
        try:
            done = subprocess.run([str(program), "--abort"], env=few, timeout=timeout,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return "failed" if done.returncode else "passed"
        except subprocess.TimeoutExpired:
            return "hung"


def judge(builder, mutant, tests, timeout, number):
    overlay = work / str(number)
    target = overlay / mutant.header.relative_to(root / "include")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(mutant.text())
    outcomes = []
    for test in tests:
        outcomes.append(builder.run(overlay, test, timeout))
        if outcomes[-1] in ("failed", "hung"):
            break
    shutil.rmtree(overlay)
    if outcomes[-1] in ("failed", "hung"):
        return "killed"
    return "broken" if "broken" in outcomes else "survived"


def longest_run(builder, tests):
    """The slowest of these tests with nothing mutated, in seconds."""
    overlay = work / "unmutated"
    overlay.mkdir(parents=True, exist_ok=True)
    longest = 0.0
    for test in tests:
        begun = time.monotonic()
        if builder.run(overlay, test, 600) != "passed":
            sys.exit(f"{test.relative_to(root)} does not pass unmutated")
        longest = max(longest, time.monotonic() - begun)
    return longest


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sample", type=int, help="so many mutants of each file, chosen at random")
    options.add_argument("--jobs", type=int, default=int(os.environ.get("TIDEGATE_JOBS", os.cpu_count())))
    options.add_argument("files", nargs="*", help="below include/tidegate/core; all by default")
    chosen = options.parse_args()
    headers = [core / f for f in chosen.files] or sorted(core.rglob("*.hpp"))

    builder, harmless, survivors, killed = Builder(), equivalent(), [], 0
    for header in headers:
        tests = tests_of(header)
        mutants = [m for m in mutants_of(header) if m.key() not in harmless]
        if chosen.sample and chosen.sample < len(mutants):
            mutants = random.Random(1).sample(mutants, chosen.sample)
        if not tests or not mutants:
            continue
        timeout = 5 * longest_run(builder, tests) + 5
        with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
            outcomes = list(pool.map(lambda i: judge(builder, mutants[i], tests, timeout, i), range(len(mutants))))
        alive = [m for m, outcome in zip(mutants, outcomes) if outcome == "survived"]
        dead = outcomes.count("killed")
        print(f"{header.relative_to(core)}: {dead} of {dead + len(alive)} killed", flush=True)
        for mutant in alive:
            print(f"  {mutant}", flush=True)
        killed += dead
        survivors += alive
    shutil.rmtree(work, ignore_errors=True)

    total = killed + len(survivors)
    if not total:
        sys.exit("no mutants")
    print(f"{killed} of {total} mutants killed: {100 * killed / total:.1f} % (goal: {100 * goal:.0f} %)")
    sys.exit(0 if killed >= goal * total else 1)


main()
