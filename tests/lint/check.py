# SPDX-License-Identifier: BSL-1.0
"""Runs tidegate-lint on the corpus: what is marked `// finds RULE` is to be found, and nothing else.
Then what it writes, what it keeps, and what it says of bad input.

check.py LINT CORPUS FLAGS...
"""
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

lint, corpus, *flags = sys.argv[1:]
files = sorted(pathlib.Path(corpus).glob("*.cpp"))
scratch = pathlib.Path(tempfile.mkdtemp(prefix="tidegate-lint-"))
failures = []


def run(*arguments, status=1):
    done = subprocess.run([lint, *arguments], capture_output=True, text=True)
    if done.returncode != status:
        failures.append(f"{' '.join(arguments[:3])}: exit status {done.returncode}, not {status}\n{done.stderr}")
    return done


def on_corpus(*arguments):
    return run(*arguments, *map(str, files), "--", "-std=c++20", *flags)


def check_findings(issues):
    found = {(pathlib.Path(i["file"]).name, i["line"], i["rule"]) for i in issues if not i["allowed"]}
    wanted, snippets = set(), collections.Counter()
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            wanted |= {(file.name, number, rule) for rule in re.findall(r"// finds (\S+)", line)}
            snippets.update(re.findall(r"\b([pn])\d\d\(", line)[:1])
    right = len(wanted & found)
    print(f"{snippets['p']} snippets that block, {snippets['n']} that do not")
    print(f"recall {right / len(wanted):.3f}, precision {right / len(found):.3f}")
    failures.extend("missed: %s:%d %s" % one for one in sorted(wanted - found))
    failures.extend("wrong:  %s:%d %s" % one for one in sorted(found - wanted))


def check_sarif(issues):
    log = json.loads((scratch / "out.sarif").read_text())
    assert log["version"] == "2.1.0"
    rules = {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]}
    results = log["runs"][0]["results"]
    assert len(results) == len(issues)
    for one, issue in zip(results, issues):
        assert one["ruleId"] in rules
        steps = one["codeFlows"][0]["threadFlows"][0]["locations"]
        assert len(steps) == len(issue["chain"])
        assert one["partialFingerprints"]["tidegateLint/v1"] == issue["fingerprint"]
        assert bool(one.get("suppressions")) == issue["allowed"]


cold = on_corpus("-json=-", f"-sarif={scratch}/out.sarif", f"-cache={scratch}/cache")
issues = json.loads(cold.stdout)["issues"]
check_findings(issues)
check_sarif(issues)
warm = on_corpus("-json=-", f"-cache={scratch}/cache")
if warm.stdout != cold.stdout:
    failures.append("what was kept leads to something else")

# A finding keeps its fingerprint when lines are put before it.
moved = scratch / "moved.cpp"
first = next(file for file in files if file.name == "chains.cpp").read_text()
prints = []
for text in (first, first.replace("namespace chains {", "\n\n\nnamespace chains {")):
    moved.write_text(text)
    done = run("-json=-", str(moved), "--", "-std=c++20", f"-I{corpus}", *flags)
    prints.append(sorted(i["fingerprint"] for i in json.loads(done.stdout)["issues"]))
if prints[0] != prints[1]:
    failures.append("fingerprints move with lines")

# Bad input is named.
bad = scratch / "bad.json"
for text, why in (('{"rules": [{"id": "x", "priority": "P0", "colour": "red"}]}', "colour"),
                  ('{"rules": [{"id": "x", "priority": "P9"}]}', "P9"), ("{", "bad.json")):
    bad.write_text(text)
    if why not in run(f"-rules={bad}", str(files[0]), "--", status=2).stderr:
        failures.append(f"does not say what is wrong with {text}")
moved.write_text("int main( {")
run(str(moved), "--", status=2)
run(str(moved), status=2)
run("-p", str(scratch / "nowhere"), status=2)

# Rules of one's own.
bad.write_text('{"rules": [{"id": "mine", "priority": "P3", "effort": "none", "instead": "x", "functions": ["my::slow*"]}]}')
moved.write_text("#include <boost/asio.hpp>\nnamespace my { void slowly(); }\n"
                 "boost::asio::awaitable<void> f() { my::slowly(); co_return; }\n")
mine = run("-json=-", f"-rules={bad}", str(moved), "--", "-std=c++20", *flags)
if [i["rule"] for i in json.loads(mine.stdout)["issues"]] != ["mine"]:
    failures.append("a rule of one's own finds nothing")

print("\n".join(failures) or "all as it should be")
sys.exit(bool(failures))
