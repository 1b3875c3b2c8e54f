# SPDX-License-Identifier: BSL-1.0
"""Loads the module into clang-tidy and runs it on those files of the corpus that are whole by themselves:
the same lines are found as by tidegate-lint, with the chain as notes.

check_tidy.py CLANG-TIDY MODULE CORPUS FLAGS...
"""
import pathlib
import re
import subprocess
import sys

tidy, module, corpus, *flags = sys.argv[1:]
failures = []
for name in ("kept.cpp", "ready.cpp", "allowed.cpp"):
    file = pathlib.Path(corpus) / name
    done = subprocess.run([tidy, f"-load={module}", "-config={}", "-checks=-*,tidegate-blocking-call", str(file), "--", "-std=c++20",
                           *flags], capture_output=True, text=True)
    warned = re.findall(r":(\d+):\d+: warning: .* \[(blocking-\w+|await-under-lock)\]; instead: ", done.stdout)
    found = {(int(line), rule) for line, rule in warned}
    wanted = {(number, rule) for number, line in enumerate(file.read_text().splitlines(), 1)
              for rule in re.findall(r"// finds (\S+)", line)}
    if not wanted or found != wanted:
        failures.append(f"{name}: {sorted(found ^ wanted)}\n{done.stderr[-500:]}")
    if name == "kept.cpp" and "note: kept::worker::p01 calls a lambda" not in done.stdout:
        failures.append("no chain is told")
print("\n".join(failures) or "clang-tidy says the same")
sys.exit(bool(failures))
