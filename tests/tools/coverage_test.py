# SPDX-License-Identifier: BSL-1.0
"""coverage_test.py SOURCE: shares and missed lines are those of the counters, and the goal decides."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

source = Path(sys.argv.pop(1))
lcov = """SF:/p/include/a.hpp
DA:1,3
DA:2,0
DA:3,0
DA:9,0
end_of_record
SF:/p/include/a.hpp
DA:9,1
end_of_record
SF:/p/tests/b.cpp
DA:1,0
end_of_record
"""


class Coverage(unittest.TestCase):
    def report(self, text, goal):
        with tempfile.NamedTemporaryFile("w", suffix=".lcov") as file:
            file.write(text)
            file.flush()
            return subprocess.run([sys.executable, source / "tools/coverage.py", file.name, "/p/include", str(goal)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_counts_add_up_and_other_folders_do_not_count(self):
        done = self.report(lcov, 50)
        self.assertIn(" 50.0 %  a.hpp   not: 2-3\n", done.stdout)
        self.assertIn(" 50.0 %  of 4 lines", done.stdout)
        self.assertEqual(done.returncode, 0)

    def test_fails_below_the_goal_and_without_lines(self):
        self.assertEqual(self.report(lcov, 51).returncode, 1)
        self.assertEqual(self.report("", 0).returncode, 1)


unittest.main()
