# SPDX-License-Identifier: BSL-1.0
"""Runs tidegate-lint on the corpus: what is marked `// finds RULE` is to be found, and nothing else.
Then what it writes, what it keeps, and what it says of bad input.

check.py LINT CORPUS FLAGS...

Its SARIF is held against sarif-2.1.0-subset.schema.json: what the standard (OASIS, section 3) requires of
the properties that are written, and that there are no others.
"""
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema

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
    schema = json.loads((pathlib.Path(__file__).parent / "sarif-2.1.0-subset.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker())
    failures.extend(f"SARIF: {list(e.absolute_path)}: {e.message}" for e in validator.iter_errors(log))
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

# What a baseline lists counts no more, and each as often as it lists it.
known = scratch / "known.json"
run(f"-write-baseline={known}", f"-cache={scratch}/cache", *map(str, files), "--", "-std=c++20", *flags, status=0)
on_known = (f"-baseline={known}", f"-cache={scratch}/cache", *map(str, files), "--", "-std=c++20", *flags)
done = run("-json=-", f"-sarif={scratch}/out.sarif", *on_known, status=1)  # of the comments that allow nothing
after = json.loads(done.stdout)
if after["summary"]["known"] != sum(not i["allowed"] for i in issues) or after["summary"]["P0"] != 0:
    failures.append(f"a baseline of all leaves {after['summary']}")
check_sarif(after["issues"])
states = {r["baselineState"] for r in json.loads((scratch / "out.sarif").read_text())["runs"][0]["results"]}
if states != {"new", "unchanged"}:  # allowed ones are in no baseline
    failures.append(f"baseline states {states}")
listed = json.loads(known.read_text())
dropped = listed["findings"].pop(0)
listed["findings"].append({"fingerprint": "gone"})
known.write_text(json.dumps(listed))
done = run("-json=-", *on_known)
new = [i["fingerprint"] for i in json.loads(done.stdout)["issues"] if not i["allowed"] and not i["known"]]
if new != [dropped["fingerprint"]]:
    failures.append(f"{new} is new, not {dropped['fingerprint']}")
if "1 findings of" not in done.stderr:
    failures.append("does not say that a known finding has gone")
for text, why in (("{}", "no baseline"), ("[", "known.json"), ('{"version": 1, "findings": [{}]}', "fingerprint")):
    known.write_text(text)
    if why not in run(*on_known, status=2).stderr:
        failures.append(f"does not say what is wrong with the baseline {text}")

# All that override a virtual function, if asked to.
virtual = [json.loads(run("-json=-", *more, str(next(f for f in files if f.name == "kept.cpp")), "--", "-std=c++20",
                          f"-I{corpus}", *flags).stdout)["issues"] for more in ((), ("-overriders",))]
if "kept::n04" not in {i["chain"][0]["function"] for i in virtual[1]} - {i["chain"][0]["function"] for i in virtual[0]}:
    failures.append("-overriders does not follow to what overrides")

# A path that is no URI as it stands.
spaced = scratch / "a b#c.cpp"
spaced.write_text("#include <cstdlib>\n#include <boost/asio.hpp>\n"
                  "boost::asio::awaitable<void> f() { ::system(nullptr); co_return; }\n")
run(f"-sarif={scratch}/out.sarif", str(spaced), "--", "-std=c++20", *flags)
uri = json.loads((scratch / "out.sarif").read_text())["runs"][0]["results"][0]["locations"][0]["physicalLocation"][
    "artifactLocation"]["uri"]
if not uri.endswith("/a%20b%23c.cpp"):
    failures.append(f"the URI of {spaced} is {uri}")

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
