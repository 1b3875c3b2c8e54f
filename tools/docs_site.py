#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""The steps of ./dev docs beside Doxygen and MkDocs.

    docs_site.py stage    makes build/docs/pages: docs/, what it links to, the list of the reference
    docs_site.py check    fails on links in build/docs/site that lead nowhere, or out of it for more
                          than a page to read

Pages link to files of the repository, so that they read well where the code is hosted. In the site a
header becomes its class in the reference, and any other file a page that shows it.
"""
import html
import html.parser
import os
import pathlib
import re
import shutil
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ROOT / "build/docs/pages"
SITE = ROOT / "build/docs/site"
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
NAMESPACES = ("tidegate", "core", "redis", "http", "testing", "eviction")
LANGUAGES = {".cpp": "cpp", ".hpp": "cpp", ".ipp": "cpp", ".py": "python", ".sh": "sh",
             ".json": "json", ".txt": "cmake"}


def class_page(header):
    """The reference of the class that a header is named after, else of the header."""
    text, stem = header.read_text(), header.stem
    scope = "tidegate_1_1"
    if header.parent.name in ("redis", "testing", "http", "core"):
        scope += header.parent.name + "_1_1"
    names = [f"basic_{stem}", stem, *re.findall(r"^class (?:\[\[nodiscard\]\] )?(\w+)", text, re.M)]
    for name in names:
        for kind in ("class", "struct"):
            page = f"{kind}{scope}{name.replace('_', '__')}.html"
            if (PAGES / "api" / page).exists():
                return page
    encoded = stem.replace("_", "__") + "_8hpp_source.html"
    for page in (encoded, f"{header.parent.name}_2{encoded}"):
        if (PAGES / "api" / page).exists():
            return page
    sys.exit(f"docs: the reference has nothing on {header.relative_to(ROOT)}")


class Stage:
    """Copies pages, and whatever they link to, with the links set right."""

    def __init__(self):
        self.done = set()

    def target(self, path):
        """Where a file of the repository is below PAGES; makes it if need be."""
        inside = path.relative_to(ROOT)
        if path.is_relative_to(ROOT / "include/tidegate") and path.suffix == ".hpp":
            return PAGES / "api" / class_page(path)
        if path.is_relative_to(DOCS) and path.suffix in (".md", ".svg", ".css"):
            return PAGES / path.relative_to(DOCS)
        shown = PAGES / "source" / inside
        if path.is_dir():
            shown = shown / "index.md"
        elif path.suffix != ".md":
            shown = shown.with_name(shown.name + ".md")
        if path not in self.done:
            self.done.add(path)
            self.show(path, inside, shown)
        return shown

    def show(self, path, inside, shown):
        shown.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix in LANGUAGES and p.name[0] != "C")
            lines = [f"- [{p.name}]({os.path.relpath(self.target(p), shown.parent)})" for p in files]
            shown.write_text(f"# {inside}\n\n" + "\n".join(lines) + "\n")
        elif path.suffix == ".md":
            shown.write_text(self.page(path, shown))
        else:
            language = LANGUAGES.get(path.suffix, "text")
            text = path.read_text()
            shown.write_text(f"# {inside}\n\n````{language}\n{text}````\n")

    def page(self, path, shown):
        """The text of a page, for its place in the site."""

        def relink(match):
            to, _, anchor = match[2].partition("#")
            if not to or re.match(r"[a-z]+:", to):
                return match[0]
            found = (path.parent / to).resolve()
            if not found.exists():
                sys.exit(f"docs: {path.relative_to(ROOT)} links to {to}, which is not there")
            there = os.path.relpath(self.target(found), shown.parent)
            return match[1] + there + ("#" + anchor if anchor else "") + match[3]

        out, fenced = [], False
        for line in path.read_text().splitlines():
            if line.lstrip().startswith("```"):
                fenced = not fenced
            if not fenced and re.match(r"\s*<!-- .* -->$", line):
                continue
            out.append(line if fenced else LINK.sub(relink, line))
        return "\n".join(out) + "\n"

    def run(self):
        for path in sorted(DOCS.rglob("*")):
            if path.suffix not in (".md", ".svg", ".css") or path.name == "api.css":
                continue
            shown = PAGES / path.relative_to(DOCS)
            shown.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                shown.write_text(self.page(path, shown))
            else:
                shutil.copy(path, shown)
        (PAGES / "reference.md").write_text(reference())


def reference():
    """All classes with their first sentence, for the search of the site."""
    rows = re.findall(
        r'<tr id="row_[^"]*".*?<a class="el" href="([^"]+)"[^>]*>([^<]+)</a></td>'
        r'<td class="desc">(.*?)</td></tr>',
        (PAGES / "api/annotated.html").read_text(), re.S)
    lines = ["# Reference", "", "What the header comments say: [classes](api/annotated.html), "
             "[functions and errors](api/namespacetidegate.html), [headers](api/files.html).", "",
             "| class | |", "| --- | --- |"]
    named = []
    for page, name, brief in rows:
        brief = html.unescape(re.sub(r"<[^>]*>", "", brief)).strip().replace("|", "\\|")
        scope = re.sub(r"^(class|struct)|\.html$", "", page).split("_1_1")[:-1]
        inner = [part for part in scope if part not in NAMESPACES]
        if brief and not inner and page.startswith(("class", "struct")):
            named.append(("core" in scope, "::".join([*scope[1:], html.unescape(name)]), page, brief))
    for _, name, page, brief in sorted(named):
        lines.append(f"| [`{name}`](api/{page}) | {brief} |")
    return "\n".join(lines) + "\n"


class Page(html.parser.HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loads = set(), [], []
        self.feed(path.read_text(errors="replace"))

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.anchors.update(a[k] for k in ("id", "name") if a.get(k))
        if tag in ("a", "area") and a.get("href"):
            self.links.append(a["href"])
        if tag in ("img", "script", "iframe") and a.get("src"):
            self.loads.append(a["src"])
        if tag == "link" and a.get("href") and a.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(a["href"])


def check():
    pages = {path: Page(path) for path in SITE.rglob("*.html") if path.name != "404.html"}
    wrong = []
    for path, page in pages.items():
        name = path.relative_to(SITE)
        wrong += [f"{name}: loads {load}" for load in page.loads if re.match(r"(https?:)?//", load)]
        for link in page.links + page.loads:
            if re.match(r"[a-z]+:|//", link):
                continue
            to, _, anchor = link.partition("#")
            found = (path.parent / urllib.parse.unquote(to.partition("?")[0])).resolve() if to else path
            if found.is_dir():
                found = found / "index.html"
            if not found.exists():
                wrong.append(f"{name}: {link} is not there")
            elif anchor and found in pages:
                # Doxygen lists nested classes at the top of a page even if it shows none of them.
                if urllib.parse.unquote(anchor) not in pages[found].anchors | {"nested-classes"}:
                    wrong.append(f"{name}: {link} has no such anchor")
    print("\n".join(sorted(set(wrong))), file=sys.stderr, end="\n" if wrong else "")
    print(f"{len(pages)} pages, {sum(len(p.links) for p in pages.values())} links, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["stage"]:
        sys.exit(Stage().run())
    if sys.argv[1:] == ["check"]:
        sys.exit(check())
    sys.exit(__doc__)
