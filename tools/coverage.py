#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""coverage.py LCOV FOLDER GOAL [REASONS]: the share of lines that ran, file by file, and the lines that
did not, with why not as REASONS has it. A line counts as run if any instance of its template ran it.
With REASONS, also lists headers that no test includes and reasons that fit no line, and fails for them as
for a line without a reason; always below GOAL percent.

REASONS has lines of 'FILE | LINE | why it is not run': the text of a line, for it and for those that
follow it without one that ran between them."""
import re
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


def reasons_in(file):
    """{(file, text of a line): why}"""
    found = {}
    for line in Path(file).read_text().splitlines():
        if line and not line.startswith("#"):
            name, rest = line.split(" | ", 1)
            text, why = rest.rsplit(" | ", 1)
            found[name, text.strip()] = why
    return found


def spans(missed, run):
    """[[3, 4, 5, 9], [12]]: lines that did not run, with none that did between those of a span."""
    found = []
    for n in missed:
        if found and not any(found[-1][-1] < r < n for r in run):
            found[-1].append(n)
        else:
            found.append([n])
    return found


def why_not(span, name, source, reasons):
    """[(first line, last line, why)] for a span; why is None where there is no reason."""
    found = []
    for n in span:
        reason = reasons.get((name, source[n - 1].strip()))
        if reason or not found:
            found.append([n, n, reason])
        else:
            found[-1][1] = n
    return found


def complaints(folder, unseen, reasons):
    """Of headers with functions of which no program has any, and of reasons for lines that are gone."""
    for name in sorted(unseen - {file for file, text in reasons if text == "(whole file)"}):
        if re.search(r"\)[^;{}]*\{", (folder / name).read_text()):
            yield f"{name}: no test has it"
    for file, text in sorted(reasons):
        lines = (folder / file).read_text().splitlines() if (folder / file).exists() else []
        if text != "(whole file)" and text not in {line.strip() for line in lines}:
            yield f"{file}: there is no line '{text}'"


def main():
    lcov, folder, goal = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    asks_why = len(sys.argv) > 4
    reasons = reasons_in(sys.argv[4]) if asks_why else {}
    run = total = unexplained = 0
    unseen = {str(header.relative_to(folder)) for header in folder.rglob("*.[hi]pp")}
    for file, lines in sorted(counts_of(lcov).items()):
        if folder not in Path(file).parents or not lines:
            continue
        missed = sorted(n for n, count in lines.items() if count == 0)
        ran = sorted(n for n, count in lines.items() if count > 0)
        run += len(ran)
        total += len(lines)
        name = str(Path(file).relative_to(folder))
        unseen.discard(name)
        print(f"{100 * len(ran) / len(lines):6.1f} %  {name}")
        source = Path(file).read_text().splitlines() if missed else []
        for span in spans(missed, ran):
            for first, last, why in why_not(span, name, source, reasons):
                where = first if first == last else f"{first}-{last}"
                print(f"           {where}: {why or 'no reason known: ' + source[first - 1].strip()}")
                unexplained += not why
    if total == 0:
        sys.exit("no lines: nothing was built with counters")
    print(f"{100 * run / total:6.1f} %  of {total} lines (goal: {goal:.0f} %)")
    wrong = unexplained if asks_why else 0
    for complaint in complaints(folder, unseen, reasons) if asks_why else []:
        print(complaint)
        wrong += 1
    if wrong:
        print(f"{wrong} places to look at: no known reason, or not one that fits")
    sys.exit(0 if 100 * run >= goal * total and not wrong else 1)


if __name__ == "__main__":
    main()
