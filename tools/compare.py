#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Two revisions side by side.
compare.py times OLD NEW         results of benchmarks in two folders: ratios with 95 % intervals
compare.py instructions OLD NEW  two builds of hot_paths: instructions an operation, by callgrind
A row says "slower" or "faster" only if its whole interval does."""
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def samples_in(folder):
    """{row: {round: nanoseconds}}, of all runs below the folder, on the clock by which a row is judged."""
    rows = {}
    for file in sorted(Path(folder).rglob("*.json")):
        result = json.loads(file.read_text())
        for row in result["benchmarks"]:
            rounds = rows.setdefault(f"{result['scenario']}/{row['name']}", {})
            times = [sample[row["clock"] + "_ns"] for sample in row["samples"]]
            if min(times) > 0:
                rounds[file.parent.name] = times
    return rows


def ratio(old, new, times=2000):
    """That of the medians, and a bootstrapped 95 % interval for it. Rounds are drawn, old and new of one
    together, then samples of each: those of one process, a minute long, are not independent."""
    dice = random.Random(1)
    rounds = sorted(old.keys() & new.keys())

    def drawn():
        mine = dice.choices(rounds, k=len(rounds))
        before = [t for r in mine for t in dice.choices(old[r], k=len(old[r]))]
        after = [t for r in mine for t in dice.choices(new[r], k=len(new[r]))]
        return statistics.median(after) / statistics.median(before)

    def middle(of):
        return statistics.median(t for r in rounds for t in of[r])

    ratios = sorted(drawn() for _ in range(times))
    return middle(new) / middle(old), ratios[times // 40], ratios[-times // 40]


def verdict(low, high):
    return "slower" if low > 1 else "faster" if high < 1 else "same"


def compare_times(old, new):
    before, after = samples_in(old), samples_in(new)
    rows = sorted(row for row in before.keys() & after.keys() if before[row].keys() & after[row].keys())
    if not rows:
        sys.exit("no row is in both")
    for row in rows:
        middle, low, high = ratio(before[row], after[row])
        print(f"{row:50} {middle:6.3f}  [{low:.3f}, {high:.3f}]  {verdict(low, high)}")


def instructions(program, path, times):
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", program, path, str(times)],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return int(re.search(r"^summary: (\d+)", Path(out.name).read_text(), re.MULTILINE).group(1))


def an_operation(program, path):
    """What 10,000 more cost: start and warm-up cancel out."""
    return (instructions(program, path, 20000) - instructions(program, path, 10000)) / 10000


def compare_instructions(old, new):
    known = [set(subprocess.run([p], stdout=subprocess.PIPE, text=True, check=True).stdout.split()) for p in (old, new)]
    for path in sorted(known[0] & known[1]):
        before, after = an_operation(old, path), an_operation(new, path)
        print(f"{path:30} {before:8.1f} -> {after:8.1f} instructions  {after / before:.3f}")


if __name__ == "__main__":
    {"times": compare_times, "instructions": compare_instructions}[sys.argv[1]](*sys.argv[2:4])
