#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""coverage.py LCOV FOLDER GOAL: the share of lines that ran, file by file, and the lines that did
not. A line counts as run if any instance of its template ran it. Fails below GOAL percent."""
import sys
from pathlib import Path


def counts_of(lcov):
    """{file: {line: how often}}; the same line of several programs adds up."""
    files, lines = {}, {}
    for record in Path(lcov).read_text().splitlines():
        if record.startswith("SF:"):
            lines = files.setdefault(record[3:], {})
        elif record.startswith("DA:"):
            number, count = record[3:].split(",")[:2]
            lines[int(number)] = lines.get(int(number), 0) + int(count)
    return files


def spans(numbers):
    """"3-5, 9" for [3, 4, 5, 9]."""
    found = []
    for n in numbers:
        if found and found[-1][1] == n - 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def main():
    lcov, folder, goal = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    run = total = 0
    for file, lines in sorted(counts_of(lcov).items()):
        if folder not in Path(file).parents or not lines:
            continue
        missed = sorted(n for n, count in lines.items() if count == 0)
        run += len(lines) - len(missed)
        total += len(lines)
        share = 100 * (len(lines) - len(missed)) / len(lines)
        print(f"{share:6.1f} %  {Path(file).relative_to(folder)}" + (f"   not: {spans(missed)}" if missed else ""))
    if total == 0:
        sys.exit("no lines: nothing was built with counters")
    print(f"{100 * run / total:6.1f} %  of {total} lines (goal: {goal:.0f} %)")
    sys.exit(0 if 100 * run >= goal * total else 1)


if __name__ == "__main__":
    main()
