#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""coverage.py EXPORTS FOLDER GOAL [REASONS]: the share of lines that ran, file by file, and the lines that
did not, with why not as REASONS has it. A line counts as run if any instance of its template ran it in any
program. EXPORTS is a folder with a NAME.json of `llvm-cov export` for each program.
With REASONS, also lists headers that no test includes and reasons that fit no line, and fails for them as
for a line without a reason; always below GOAL percent.

REASONS has lines of 'FILE | LINE | why it is not run': the text of a line, for it and for those that
follow it without one that ran between them."""
import json
import re
import sys
from pathlib import Path

code, skipped = 0, 2  # kinds of regions; the others say nothing of lines


def same_for_all(function):
    """The mangled name, without what tells the program that has no trace hooks from the others."""
    return re.sub(r"8tidegate\d+v\d+_no_trace", "8tidegate2v0", function)


def functions_in(exports, folder):
    """{(file, where its regions are): how often each ran}, of the functions of all programs added up.

    Of an inline function that a program does not use, the compiler knows only where it begins and ends:
    comments and what the preprocessor leaves out seem to be lines. Such a function is left to those programs
    that have more of it. (Of several programs at once, llvm-cov takes a function from the first.)"""
    found, richest = [], {}
    for export in sorted(Path(exports).glob("*.json")):
        for function in json.loads(export.read_text())["data"][0]["functions"]:
            name, files = same_for_all(function["name"]), function["filenames"]
            for number, file in enumerate(files):
                if folder not in Path(file).parents:
                    continue
                regions = [r for r in function["regions"] if r[5] == number and r[7] in (code, skipped)]
                shape = tuple((*r[:4], r[7]) for r in regions)
                if not shape:  # all of it comes out of a macro
                    continue
                found.append((file, name, shape, [r[4] for r in regions]))
                richest[file, name] = max(richest.get((file, name), 0), len(shape))
    added = {}
    for file, name, shape, counts in found:
        if len(shape) == richest[file, name]:
            before = added.get((file, shape), [0] * len(counts))
            added[file, shape] = [a + b for a, b in zip(before, counts)]
    return added


def place_in(number, text, regions):
    """Where in a line to look for what runs: at its first character, or behind an `else` or an `if constexpr`.
    None if there is nothing but a comment, a brace, or what the compiler leaves out."""
    at = (number, re.match(r"\s*(\}?\s*else\s+)?", text).end() + 1)
    if not text.strip(" {};") or text.lstrip().startswith("//"):
        return None
    around = [r for r in regions if r[:2] <= at < r[2:4]]
    if around and around[-1][4] == skipped:
        at = around[-1][2:4]
        if at[0] != number or not text[at[1] - 1:].strip(" ;}"):
            return None
    return at


def lines_of(shape, counts, source, bodies):
    """(line, how often) of a function. A line ran as often as what encloses its beginning, or as what
    begins in it: llvm-cov has lines behind a block with a return in it that did not run as often.
    What is in another of the `bodies` counts there: in a lambda, or in a member of a local class."""
    regions, body = sorted(zip(shape, counts), key=lambda region: region[0][:2]), body_of(shape)
    inner = [b for b in bodies if b != body and body[0] <= b[0] and b[1] <= body[1]]
    for number in range(body[0][0], body[1][0] + 1):
        at = place_in(number, source[number - 1], [r for r, _ in regions])
        if not at or any(b[0] <= at < b[1] for b in inner):
            continue
        around = [count for r, count in regions if r[:2] <= at < r[2:4]]
        here = [count for r, count in regions if r[0] == number and r[4] == code] + around[-1:]
        if here:
            yield number, max(here)


def body_of(shape):
    return min(r[:2] for r in shape), max(r[2:4] for r in shape)


def counts_of(exports, folder):
    """{file: {line: how often}}"""
    files, sources, bodies = {}, {}, {}
    functions = functions_in(exports, folder)
    for file, shape in functions:
        bodies.setdefault(file, set()).add(body_of(shape))
    for (file, shape), counts in functions.items():
        if file not in sources:
            sources[file] = Path(file).read_text().splitlines()
        known = files.setdefault(file, {})
        for number, count in lines_of(shape, counts, sources[file], bodies[file]):
            known[number] = known.get(number, 0) + count
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
    exports, folder, goal = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    asks_why = len(sys.argv) > 4
    reasons = reasons_in(sys.argv[4]) if asks_why else {}
    run = total = unexplained = 0
    unseen = {str(header.relative_to(folder)) for header in folder.rglob("*.[hi]pp")}
    for file, lines in sorted(counts_of(exports, folder).items()):
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
