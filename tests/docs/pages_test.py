# SPDX-License-Identifier: BSL-1.0
"""Each public header is on a page, each page of a primitive has the same paragraphs and is in the site."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).parents[2]
PRIMITIVES = [p for p in (ROOT / "docs/primitives").glob("*.md") if p.name != "README.md"]
PARAGRAPHS = ["What it guarantees", "Units and defaults", "Executors", "Cancellation", "Errors", "Cost"]
# Included by others, or including them all.
NOT_ON_A_PAGE = {"config.hpp", "version.hpp", "tidegate.hpp"}


class Pages(unittest.TestCase):
    def test_each_public_header_is_linked_from_the_primitives(self):
        text = "".join(p.read_text() for p in (ROOT / "docs/primitives").glob("*.md"))
        headers = [
            header.relative_to(ROOT)
            for folder in ("", "redis", "http", "testing")
            for header in (ROOT / "include/tidegate" / folder).glob("*.hpp")
            if header.name not in NOT_ON_A_PAGE and not header.stem.endswith("_options")
        ]
        self.assertGreater(len(headers), 50)
        self.assertEqual([str(h) for h in headers if f"(../../{h})" not in text], [])

    def test_each_page_of_a_primitive_has_the_paragraphs_in_order(self):
        self.assertGreater(len(PRIMITIVES), 25)
        for page in PRIMITIVES:
            found = re.findall(r"^## (.*)$", page.read_text(), re.M)
            found = [h.replace("they guarantee", "it guarantees") for h in found]
            self.assertEqual(found[: len(PARAGRAPHS)], PARAGRAPHS, page.name)

    def test_each_page_of_a_primitive_shows_code_and_how_it_is_cancelled(self):
        for page in PRIMITIVES:
            text = page.read_text()
            self.assertIn("```cpp\n", text, page.name)
            cancellation = text.split("## Cancellation")[1].split("\n## ")[0]
            self.assertIn("| --- |", cancellation, page.name)

    def test_each_page_is_in_the_navigation(self):
        navigation = (ROOT / "docs/mkdocs.yml").read_text()
        pages = [*PRIMITIVES, *(ROOT / "docs").glob("*.md")]
        for folder in ("recipes", "adr"):
            pages += (ROOT / "docs" / folder).glob("*.md")
        for page in pages:
            self.assertIn(str(page.relative_to(ROOT / "docs")), navigation)


if __name__ == "__main__":
    unittest.main()
