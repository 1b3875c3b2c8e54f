#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Keeps the C++ in README.md and docs/ equal to programs that are compiled and run.

A block says in the line before it where it comes from:

    <!-- from examples/semaphore.cpp: download -->
    <!-- from docs/snippets/readme.cpp -->            (all of the file, without its first comment)
    <!-- not compiled: what the compiler refuses -->

In the program a pair of comments "//! [download]" marks the region; regions may nest. Without
arguments every difference is told and is a failure; --fix writes the blocks anew.
"""
import pathlib
import re
import sys
import textwrap

FENCE = re.compile(r"^(\s*)```(\w+)?")
CPP = {"cpp", "c++", "cc", "cxx"}
ORIGIN = re.compile(r"^\s*<!-- from (\S+?)(?:: ([\w-]+))? -->$")
EXEMPT = re.compile(r"^\s*<!-- not compiled: \S.* -->$")
MARKER = re.compile(r"^\s*//! \[([\w-]+)\]$")
# All that is in these folders is compiled, and run by a test.
COMPILED = ("docs/snippets", "examples")


class Wrong(Exception):
    pass


def regions(text):
    """The named regions of a program, and all of it under None."""
    lines = text.splitlines()
    open_at, found = {}, {}
    for number, line in enumerate(lines):
        if not (marker := MARKER.match(line)):
            continue
        name = marker[1]
        if name in open_at:
            found[name] = lines[open_at.pop(name) + 1 : number]
        elif name in found:
            raise Wrong(f"region [{name}] is there twice")
        else:
            open_at[name] = number
    if open_at:
        raise Wrong(f"region [{', '.join(open_at)}] does not end")
    first = next((i for i, line in enumerate(lines) if not line.startswith("//")), 0)
    found[None] = lines[first:]
    return {name: clean(body) for name, body in found.items()}


def clean(lines):
    kept = "\n".join(line for line in lines if not MARKER.match(line))
    return textwrap.dedent(kept).strip("\n").splitlines()


class Checker:
    def __init__(self, root, fix):
        self.root, self.fix = pathlib.Path(root), fix
        self.sources, self.shown, self.failures = {}, set(), []

    def region(self, path, name):
        if not path.startswith(tuple(folder + "/" for folder in COMPILED)):
            raise Wrong(f"{path} is not compiled: only {' and '.join(COMPILED)} are")
        if path not in self.sources:
            try:
                self.sources[path] = regions((self.root / path).read_text())
            except OSError as error:
                raise Wrong(f"there is no {path}") from error
            except Wrong as error:
                raise Wrong(f"{path}: {error}") from error
        if name not in self.sources[path]:
            raise Wrong(f"{path} has no region [{name}]")
        self.shown.add((path, name))
        return self.sources[path][name]

    def block(self, before, body, indent):
        """What the block should be; `before` is the last line that is not blank."""
        if EXEMPT.match(before):
            return body
        if not (origin := ORIGIN.match(before)):
            raise Wrong("C++ without a line above that says where it is compiled")
        return [indent + line if line else line for line in self.region(origin[1], origin[2])]

    def page(self, path):
        lines = path.read_text().splitlines()
        out, before, i = [], "", 0
        while i < len(lines):
            fence = FENCE.match(lines[i])
            out.append(lines[i])
            if not fence:
                before = lines[i] if lines[i].strip() else before
                i += 1
                continue
            end = next(
                (n for n in range(i + 1, len(lines)) if lines[n].strip() == "```"), len(lines)
            )
            body = lines[i + 1 : end]
            if (fence[2] or "").lower() in CPP:
                try:
                    wanted = self.block(before, body, fence[1])
                    if wanted != body and not self.fix:
                        raise Wrong("the block is not what is compiled: tools/snippets.py --fix")
                    body = wanted
                except Wrong as error:
                    self.failures.append(f"{path.relative_to(self.root)}:{i + 1}: {error}")
            out += body + lines[end : end + 1]
            before, i = "", end + 1
        if self.fix:
            path.write_text("\n".join(out) + "\n")

    def unshown(self):
        for path in sorted((self.root / "docs/snippets").glob("*.cpp")):
            name = str(path.relative_to(self.root))
            shown = {region for file, region in self.shown if file == name}
            if None in shown:
                continue
            for region in regions(path.read_text()):
                if region and region not in shown:
                    self.failures.append(f"{name}: no page shows [{region}]")


def main():
    arguments = [a for a in sys.argv[1:] if a != "--fix"]
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parents[1]).resolve()
    checker = Checker(root, "--fix" in sys.argv)
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        checker.page(page)
    checker.unshown()
    print("\n".join(checker.failures), file=sys.stderr, end="\n" if checker.failures else "")
    return 1 if checker.failures else 0


if __name__ == "__main__":
    sys.exit(main())
