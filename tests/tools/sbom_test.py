# SPDX-License-Identifier: BSL-1.0
"""sbom_test.py SOURCE: the bill of materials names what lies in .deps, and only that."""
import gzip
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

source = Path(sys.argv.pop(1))


def bill_of(deps):
    done = subprocess.run([sys.executable, source / "tools/sbom.py", deps], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def unpacked(deps, folder, name, version):
    doc = deps / folder / "usr/share/doc" / name
    doc.mkdir(parents=True)
    with gzip.open(doc / "changelog.Debian.gz", "wt") as log:
        log.write(f"{name} ({version}) unstable; urgency=medium\n")
    (doc / "copyright").write_text("Files: *\nLicense: BSL-1.0\n text\n\nFiles: a\nLicense: MIT\n")
    return doc


class Bill(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.deps = Path(self.folder.name)
        (self.deps / "stamps").mkdir()

    def tearDown(self):
        self.folder.cleanup()

    def test_of_nothing_names_us_alone(self):
        bill = bill_of(self.deps)
        self.assertEqual([p["name"] for p in bill["packages"]], ["tidegate"])

    def test_names_packages_with_version_locator_and_licences(self):
        unpacked(self.deps, "boost", "libboost-dev", "1.88.0-1")
        (self.deps / "onnxruntime/lib").mkdir(parents=True)
        (self.deps / "stamps/onnxruntime-library-1.21.0").touch()
        bill = bill_of(self.deps)
        named = {p["name"]: p for p in bill["packages"]}
        self.assertEqual(set(named), {"tidegate", "libboost-dev", "onnxruntime-node"})
        boost = named["libboost-dev"]
        self.assertEqual(boost["versionInfo"], "1.88.0-1")
        self.assertEqual(boost["externalRefs"][0]["referenceLocator"], "pkg:deb/debian/libboost-dev@1.88.0-1")
        self.assertIn("BSL-1.0, MIT", boost["comment"])
        self.assertEqual(named["onnxruntime-node"]["versionInfo"], "1.21.0")
        related = {r["relatedSpdxElement"] for r in bill["relationships"]}
        self.assertEqual(related, {p["SPDXID"] for p in bill["packages"]})

    def test_tells_when_a_file_is_another(self):
        doc = unpacked(self.deps, "boost", "libboost-dev", "1.88.0-1")
        before = bill_of(self.deps)
        (doc / "copyright").write_text("changed")
        self.assertNotEqual(before["packages"][1]["comment"], bill_of(self.deps)["packages"][1]["comment"])
        self.assertNotEqual(before["documentNamespace"], bill_of(self.deps)["documentNamespace"])

    def test_has_what_spdx_asks_for(self):
        unpacked(self.deps, "boost", "lib++.boost_dev", "1:1.88.0~rc+1")
        bill = bill_of(self.deps)
        for field in ("spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo"):
            self.assertTrue(bill[field])
        for package in bill["packages"]:
            self.assertRegex(package["SPDXID"], r"^SPDXRef-[A-Za-z0-9.-]+$")
            for field in ("downloadLocation", "licenseConcluded", "licenseDeclared", "copyrightText"):
                self.assertTrue(package[field])


unittest.main()
