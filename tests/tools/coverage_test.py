# SPDX-License-Identifier: BSL-1.0
"""coverage_test.py SOURCE: shares and missed lines are those of the counters, and the goal decides."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

source = Path(sys.argv.pop(1))
program = """int main() {
    if (broken) {
        give_up();
    }
    work();
    if (odd) stop();
}
"""
counters = """SF:{folder}/include/a.hpp
DA:1,3
DA:3,0
DA:4,0
DA:6,0
end_of_record
SF:{folder}/include/a.hpp
DA:5,1
end_of_record
SF:{folder}/tests/b.cpp
DA:1,0
end_of_record
"""


class Coverage(unittest.TestCase):
    def report(self, counters, goal, reasons=None, unseen=None):
        with tempfile.TemporaryDirectory() as folder:
            include = Path(folder, "include")
            include.mkdir()
            (include / "a.hpp").write_text(program)
            if unseen is not None:
                (include / "unseen.hpp").write_text(unseen)
            lcov = Path(folder, "all.lcov")
            lcov.write_text(counters.format(folder=folder))
            arguments = [lcov, include, str(goal)]
            if reasons is not None:
                arguments.append(Path(folder, "reasons.txt"))
                arguments[-1].write_text(reasons)
            return subprocess.run([sys.executable, source / "tools/coverage.py", *arguments],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_counts_add_up_and_other_folders_do_not_count(self):
        done = self.report(counters, 40)
        self.assertIn(" 40.0 %  a.hpp\n", done.stdout)
        self.assertIn(" 40.0 %  of 5 lines", done.stdout)
        self.assertEqual(done.returncode, 0)

    def test_fails_below_the_goal_and_without_lines(self):
        self.assertEqual(self.report(counters, 41).returncode, 1)
        self.assertEqual(self.report("", 0).returncode, 1)

    def test_a_reason_is_for_the_lines_up_to_the_next_that_ran(self):
        done = self.report(counters, 40, "# why\na.hpp | give_up(); | nothing is ever broken | or is it\n")
        self.assertNotIn(": or is it", done.stdout)  # what is in front of that is no line of the file
        done = self.report(counters, 40, "a.hpp | give_up(); | nothing is ever broken\n")
        self.assertIn(" 3-4: nothing is ever broken\n", done.stdout)
        self.assertIn(" 6: no reason known: if (odd) stop();\n", done.stdout)

    def test_reasons_for_lines_that_are_gone_and_unseen_headers_are_told(self):
        both = "a.hpp | give_up(); | nothing is ever broken\na.hpp | if (odd) stop(); | it is even\n"
        done = self.report(counters, 40, both + "a.hpp | long(gone); | whatever\n")
        self.assertIn("a.hpp: there is no line 'long(gone);'", done.stdout)
        self.assertEqual(done.returncode, 1)
        done = self.report(counters, 40, both, unseen="void f() {\n}\n")
        self.assertIn("unseen.hpp: no test has it", done.stdout)
        self.assertEqual(done.returncode, 1)
        done = self.report(counters, 40, both, unseen="// nothing in here\n")
        self.assertEqual(done.returncode, 0)

    def test_fails_when_there_are_reasons_but_not_for_all(self):
        one = "a.hpp | give_up(); | nothing is ever broken\n"
        self.assertEqual(self.report(counters, 40, one).returncode, 1)
        self.assertEqual(self.report(counters, 40, "").returncode, 1)
        self.assertEqual(self.report(counters, 40, one + "a.hpp | if (odd) stop(); | it is even\n").returncode, 0)


unittest.main()
