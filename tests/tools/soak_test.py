# SPDX-License-Identifier: BSL-1.0
"""soak_test.py SOURCE: the soak sees each kind of drift, and none where there is none."""
import contextlib
import io
import random
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv.pop(1)) / "tools"))
import soak  # pylint: disable=wrong-import-position


def samples(**growth):
    """300 noisy samples, of which some quantity grows to so many times as much."""
    noise = random.Random(1)
    steady = {"memory (MB)": 200, "descriptors": 30, "threads": 20, "latency (ms)": 20}
    names = {"memory": "memory (MB)", "latency": "latency (ms)"}
    grows = {names.get(k, k): v for k, v in growth.items()}
    return [{what: value * (1 + (grows.get(what, 1) - 1) * i / 300) + noise.uniform(-1, 1)
             for what, value in steady.items()} for i in range(300)]


class Drift(unittest.TestCase):
    def found(self, **growth):
        with contextlib.redirect_stdout(io.StringIO()):
            return soak.drift(samples(**growth))

    def test_noise_is_no_drift(self):
        self.assertEqual(self.found(), [])

    def test_each_quantity_is_watched(self):
        for what in ("memory", "descriptors", "threads", "latency"):
            found = self.found(**{what: 3})
            self.assertEqual(len(found), 1, what)
            self.assertTrue(found[0].startswith(what))

    def test_a_warm_up_is_left_out(self):
        cold = samples()
        for sample in cold[:50]:
            sample["memory (MB)"] = 20
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(soak.drift(cold), [])


unittest.main()
