# SPDX-License-Identifier: BSL-1.0
"""What tools/snippets.py finds, and that --fix mends it."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).parents[2] / "tools/snippets.py"
PROGRAM = """// SPDX-License-Identifier: BSL-1.0
// What it is for.
int main() {
    //! [body]
    int const a = 1;
    //! [inner]
    return a - 1;
    //! [inner]
    //! [body]
}
"""
BODY = "int const a = 1;\nreturn a - 1;\n"


def block(code, origin="<!-- from docs/snippets/p.cpp: body -->"):
    return f"Text.\n\n{origin}\n```cpp\n{code}```\n"


class Snippets(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        (self.root / "docs/snippets").mkdir(parents=True)
        (self.root / "docs/snippets/p.cpp").write_text(PROGRAM)
        (self.root / "README.md").write_text(
            block("return a - 1;\n", "<!-- from docs/snippets/p.cpp: inner -->")
        )

    def check(self, page, *arguments):
        (self.root / "docs/page.md").write_text(page)
        run = subprocess.run(
            [sys.executable, TOOL, self.root, *arguments], capture_output=True, text=True
        )
        return run.returncode, run.stderr

    def test_an_equal_block_passes(self):
        self.assertEqual(self.check(block(BODY)), (0, ""))

    def test_a_block_that_differs_fails(self):
        code, told = self.check(block("int const a = 2;\nreturn a - 1;\n"))
        self.assertEqual(code, 1)
        self.assertIn("docs/page.md:4: the block is not what is compiled", told)

    def test_a_block_without_a_source_fails(self):
        code, told = self.check(block(BODY) + "\nText.\n\n```cpp\nint x;\n```\n")
        self.assertEqual(code, 1)
        self.assertIn("docs/page.md:11: C++ without a line above", told)

    def test_only_an_exemption_with_a_reason_passes(self):
        shown = block(BODY)
        self.assertEqual(self.check(shown + block("x\n", "<!-- not compiled: wrong -->"))[0], 0)
        self.assertEqual(self.check(shown + block("x\n", "<!-- not compiled: -->"))[0], 1)

    def test_a_source_that_nobody_compiles_fails(self):
        code, told = self.check(block(BODY) + block(BODY, "<!-- from other/p.cpp: body -->"))
        self.assertEqual(code, 1)
        self.assertIn("other/p.cpp is not compiled", told)

    def test_a_region_that_is_missing_or_that_no_page_shows_fails(self):
        code, told = self.check(block(BODY, "<!-- from docs/snippets/p.cpp: none -->"))
        self.assertEqual(code, 1)
        self.assertIn("has no region [none]", told)
        self.assertIn("no page shows [body]", told)

    def test_fix_writes_the_blocks_and_nothing_else(self):
        page = block("old\n") + "\n```sh\nmake\n```\n"
        self.assertEqual(self.check(page, "--fix")[0], 0)
        self.assertEqual((self.root / "docs/page.md").read_text(), page.replace("old\n", BODY))


if __name__ == "__main__":
    unittest.main()
