# SPDX-License-Identifier: BSL-1.0
"""Runs tidegate-lint on the corpus: what is marked `// finds RULE` is to be found, and nothing else.

check.py LINT CORPUS FLAGS...
"""
import collections
import json
import pathlib
import re
import subprocess
import sys

lint, corpus, *flags = sys.argv[1:]
files = sorted(pathlib.Path(corpus).glob("*.cpp"))
run = subprocess.run(
    [lint, "-json=-", *map(str, files), "--", "-std=c++20", *flags], capture_output=True, text=True)
if run.returncode != 1:
    sys.exit(f"exit status {run.returncode}, expected 1\n{run.stderr}")
found = {(pathlib.Path(i["file"]).name, i["line"], i["rule"])
         for i in json.loads(run.stdout)["issues"] if not i["allowed"]}
wanted, snippets = set(), collections.Counter()
for file in files:
    for number, line in enumerate(file.read_text().splitlines(), 1):
        wanted |= {(file.name, number, rule) for rule in re.findall(r"// finds (\S+)", line)}
        snippets.update(re.findall(r"\b([pn])\d\d\(", line)[:1])
missed, wrong = sorted(wanted - found), sorted(found - wanted)
right = len(wanted & found)
print(f"{snippets['p']} snippets that block, {snippets['n']} that do not")
print(f"recall {right / len(wanted):.3f}, precision {right / len(found):.3f}")
for one in missed:
    print("missed: %s:%d %s" % one)
for one in wrong:
    print("wrong:  %s:%d %s" % one)
sys.exit(bool(missed or wrong))
