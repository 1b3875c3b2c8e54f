# SPDX-License-Identifier: BSL-1.0
"""repeat_test.py SOURCE: what tools/repeat.py makes of tests that pass, fail, and are no unit tests."""
import subprocess
import sys
import tempfile
from pathlib import Path

source = Path(sys.argv[1])


def repeat(build, times):
    return subprocess.run([sys.executable, source / "tools/repeat.py", build, str(times)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def write_program(path, status):
    path.write_text(f'#!/bin/sh\necho "$0 $@" >>"{path.parent}/calls"\necho printed by $0\nexit {status}\n')
    path.chmod(0o755)


with tempfile.TemporaryDirectory() as folder:
    build = Path(folder)
    write_program(build / "test_good", 0)
    write_program(build / "test_bad", 3)
    write_program(build / "check", 0)
    tests = [("test_good: one", "test_good", "one", "unit"), ("test_good: two", "test_good", "two", "unit"),
             ("a check", "check", "--this", "unit"), ("another check", "check", "--that", "unit"),
             ("test_bad: slow", "test_bad", "slow", "stress")]

    def list_tests():
        (build / "CTestTestfile.cmake").write_text("".join(
            f'add_test("{name}" "{build}/{program}" "{argument}")\n'
            f'set_tests_properties("{name}" PROPERTIES LABELS {label})\n' for name, program, argument, label in tests))

    list_tests()
    good = repeat(build, 2)
    assert good.returncode == 0, good.stdout
    assert "run 2 of 2: 3 programs" in good.stdout, good.stdout
    assert "claim repeat.unit_suite_s" in good.stdout, good.stdout
    calls = (build / "calls").read_text().splitlines()
    whole = [call for call in calls if "test_good" in call]
    assert len(whole) == 2 and all("--order rand --rng-seed" in call for call in whole), calls
    assert whole[0] != whole[1], "the same order twice"
    assert sum("--this" in call for call in calls) == 2 and sum("--that" in call for call in calls) == 2, calls
    assert not any("test_bad" in call for call in calls), calls

    tests[-1] = ("test_bad: quick", "test_bad", "quick", "unit")
    list_tests()
    bad = repeat(build, 2)
    assert bad.returncode == 1, bad
    assert "run 1 of 2 failed" in bad.stdout and "printed by" in bad.stdout, bad.stdout
    assert "failed (3): " in bad.stdout and "--rng-seed" in bad.stdout, bad.stdout

    for times in ("0", "-1", "many"):
        refused = repeat(build, times)
        assert refused.returncode == 1 and f"TIMES is '{times}'; allowed: 1 or more" in refused.stdout, refused

    (build / "CTestTestfile.cmake").write_text("")
    none = repeat(build, 1)
    assert none.returncode != 0 and "no unit tests" in none.stdout, none.stdout
