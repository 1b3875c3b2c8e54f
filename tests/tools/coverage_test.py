# SPDX-License-Identifier: BSL-1.0
"""coverage_test.py SOURCE: shares and missed lines are those of the counters, and the goal decides."""
import json
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
    if (odd)
        stop();
}
"""


def function(name, count, *regions, file="include/a.hpp"):
    """Regions are (line, column, line, column, how often[, kind]), the function itself the first of them."""
    return {"name": name, "count": count, "filenames": ["{folder}/" + file],
            "regions": [[*r[:5], 0, 0, *(r[5:] or [0])] for r in regions]}


counters = [[function("main", 3, (1, 12, 8, 2, 3), (2, 17, 4, 6, 0), (7, 9, 7, 15, 0)),
             function("main", 0, (1, 1, 1, 9, 0), file="tests/b.cpp")],
            [function("main", 1, (1, 12, 8, 2, 1), (2, 17, 4, 6, 0), (7, 9, 7, 15, 0))]]


class Coverage(unittest.TestCase):
    def report(self, counters, goal, reasons=None, unseen=None, text=program):
        with tempfile.TemporaryDirectory() as folder:
            include = Path(folder, "include")
            include.mkdir()
            (include / "a.hpp").write_text(text)
            if unseen is not None:
                (include / "unseen.hpp").write_text(unseen)
            exports = Path(folder, "programs")
            exports.mkdir()
            for number, functions in enumerate(counters):
                text_of_it = json.dumps({"data": [{"functions": functions}]}).replace("{folder}", folder)
                (exports / f"{number}.json").write_text(text_of_it)
            arguments = [exports, include, str(goal)]
            if reasons is not None:
                arguments.append(Path(folder, "reasons.txt"))
                arguments[-1].write_text(reasons)
            return subprocess.run([sys.executable, source / "tools/coverage.py", *arguments],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_counts_add_up_and_other_folders_do_not_count(self):
        done = self.report(counters, 40)
        self.assertIn(" 66.7 %  a.hpp\n", done.stdout)
        self.assertIn(" 66.7 %  of 6 lines", done.stdout)
        self.assertEqual(done.returncode, 0)

    def test_fails_below_the_goal_and_without_lines(self):
        self.assertEqual(self.report(counters, 67).returncode, 1)
        self.assertEqual(self.report([], 0).returncode, 1)

    def test_a_reason_is_for_the_lines_up_to_the_next_that_ran(self):
        done = self.report(counters, 40, "# why\na.hpp | give_up(); | nothing is ever broken | or is it\n")
        self.assertNotIn(": or is it", done.stdout)  # what is in front of that is no line of the file
        done = self.report(counters, 40, "a.hpp | give_up(); | nothing is ever broken\n")
        self.assertIn(" 3: nothing is ever broken\n", done.stdout)
        self.assertIn(" 7: no reason known: stop();\n", done.stdout)

    def test_reasons_for_lines_that_are_gone_and_unseen_headers_are_told(self):
        both = "a.hpp | give_up(); | nothing is ever broken\na.hpp | stop(); | it is even\n"
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
        self.assertEqual(self.report(counters, 40, one + "a.hpp | stop(); | it is even\n").returncode, 0)


    def missed(self, functions, text):
        """The numbers of the lines that count, and of those that did not run."""
        out = self.report(functions, 0, text=text).stdout
        spans = [s.split(":")[0].split("-") for s in out.splitlines() if "no reason known" in s]
        lines = [n for s in spans for n in range(int(s[0]), int(s[-1]) + 1)]
        return int(out.split("of ")[-1].split(" lines")[0]), lines

    def test_a_function_counts_as_the_programs_have_it_that_use_it(self):
        text = "void f() {\n    // a comment\n#if A\n    a();\n#else\n    b();\n#endif\n}\n"
        body = (1, 10, 8, 2)
        for name in "_ZN8tidegate2v01fEv", "_ZN8tidegate11v0_no_trace1fEv":
            used = function("_ZN8tidegate2v01fEv", 1, (*body, 1), (2, 5, 2, 17, 0, 2), (5, 1, 7, 7, 0, 2))
            unused = function(name, 0, (*body, 0))
            for both in ([used], [unused]), ([unused], [used]):
                lines, missed = self.missed(both, text)
                self.assertEqual((lines, missed), (3, []))
        self.assertEqual(self.missed([[unused]], text), (6, [1, 2, 3, 4, 5, 6, 7]))

    def test_what_follows_a_block_with_a_return_ran_as_often_as_what_is_in_front_of_it(self):
        text = "void f() {\n    {\n        if (a) return;\n        b();\n    }\n    c();\n}\n"
        counted = function("f", 2, (1, 10, 7, 2, 2), (3, 16, 3, 22, 0), (3, 23, 4, 9, 2, 3), (4, 9, 6, 8, 2),
                           (5, 6, 6, 5, 0, 3))
        self.assertEqual(self.missed([[counted]], text), (4, []))

    def test_a_lambda_counts_by_itself(self):
        text = "void f() {\n    auto g = [] {\n        h();\n    };\n    i();\n}\n"
        outer = function("f", 1, (1, 10, 6, 2, 1))
        self.assertEqual(self.missed([[outer, function("g", 0, (2, 17, 4, 6, 0))]], text), (4, [3]))
        self.assertEqual(self.missed([[outer, function("g", 2, (2, 17, 4, 6, 2))]], text), (4, []))

    def test_branches_that_the_compiler_leaves_out_are_no_lines(self):
        text = "void f() {\n    if constexpr (a) {\n        b();\n    } else {\n        c();\n    }\n}\n"
        body = (1, 10, 7, 2)
        first = function("f<1>", 1, (*body, 1), (2, 5, 2, 22, 0, 2), (2, 22, 4, 6, 1), (4, 6, 6, 6, 0, 2))
        second = function("f<2>", 0, (*body, 0), (2, 5, 4, 12, 0, 2), (4, 12, 6, 6, 0))
        self.assertEqual(self.missed([[first]], text), (3, []))
        self.assertEqual(self.missed([[first, second]], text), (5, [4, 5]))

    def test_an_else_in_one_line_is_a_line(self):
        text = "void f() {\n    if (a) b();\n    else c();\n}\n"
        counted = function("f", 1, (1, 10, 4, 2, 1), (2, 12, 2, 15, 1), (2, 16, 3, 10, 0, 3), (3, 10, 3, 13, 0))
        self.assertEqual(self.missed([[counted]], text), (3, [3]))


unittest.main()
