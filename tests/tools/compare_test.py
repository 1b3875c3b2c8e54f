# SPDX-License-Identifier: BSL-1.0
"""compare_test.py SOURCE: a revision is slower or faster only where the samples leave no doubt."""
import json
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

source = Path(sys.argv.pop(1))


class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.dice = random.Random(7)

    def tearDown(self):
        self.folder.cleanup()

    def results(self, name, **rows):
        """A folder with two runs, of rows of that many nanoseconds, give or take 5 %."""
        for round_ in ("1", "2"):
            path = Path(self.folder.name, name, round_)
            path.mkdir(parents=True)
            benchmarks = [
                {"name": row, "clock": "cpu",
                 "samples": [{"cpu_ns": ns * self.dice.uniform(0.95, 1.05), "wall_ns": 1} for _ in range(20)]}
                for row, ns in rows.items()]
            (path / "s.json").write_text(json.dumps({"scenario": "s", "benchmarks": benchmarks}))
        return Path(self.folder.name, name)

    def compared(self, old, new):
        done = subprocess.run([sys.executable, source / "tools/compare.py", "times", old, new],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return done.returncode, {line.split()[0]: line.split() for line in done.stdout.splitlines()}

    def test_verdicts_and_ratios(self):
        old = self.results("old", worse=100, better=100, equal=100, gone=5)
        new = self.results("new", worse=120, better=80, equal=100, fresh=5)
        code, rows = self.compared(old, new)
        self.assertEqual(code, 0)
        self.assertEqual({row: columns[-1] for row, columns in rows.items()},
                         {"s/worse": "slower", "s/better": "faster", "s/equal": "same"})
        self.assertAlmostEqual(float(rows["s/worse"][1]), 1.2, delta=0.03)
        low, high = (float(c.strip("[],")) for c in rows["s/worse"][2:4])
        self.assertLess(low, high)

    def test_nothing_in_common_is_an_error(self):
        code, _ = self.compared(self.results("old", a=1), self.results("new", b=1))
        self.assertEqual(code, 1)


unittest.main()
