#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""sbom.py [DEPS]: a software bill of materials of what tools/dependencies.sh put into .deps, as SPDX
2.3 JSON on standard output. Versions and licences are read from the packages themselves."""
import datetime
import gzip
import hashlib
import json
import re
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent


def digest_of(folder):
    """One SHA-256 over names and contents of all files, in order of name."""
    total = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        total.update(f"{file.relative_to(folder)}\n".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def declared_licences(copyright_file):
    """Those that a machine-readable copyright file names, in its own words."""
    text = copyright_file.read_text(errors="replace") if copyright_file.exists() else ""
    names = {n.strip() for n in re.findall(r"^License:[ \t]*(\S.*)$", text, re.MULTILINE)}
    return "Debian's copyright file names: " + ", ".join(sorted(names)) if names else "not machine-readable"


def debian_packages(folder):
    """What was unpacked there: name and version from the package's own change log."""
    for doc in sorted((folder / "usr/share/doc").glob("*")):
        logs = [p for p in (doc / "changelog.Debian.gz", doc / "changelog.gz") if p.exists()]
        if not logs:
            continue
        with gzip.open(logs[0], "rt", errors="replace") as log:
            version = re.match(r"\S+ \(([^)]+)\)", log.readline())
        if version:
            yield doc.name, version.group(1), declared_licences(doc / "copyright")


def package(name, version, locator, folder, comment):
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", f"{name}-{version}"),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "comment": f"{comment}; sha256 over the unpacked files: {digest_of(folder)}",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": locator,
        }],
    }


def packages_in(deps):
    for folder in sorted(p for p in deps.iterdir() if p.is_dir()):
        for name, version, licences in debian_packages(folder):
            yield package(name, version, f"pkg:deb/debian/{name}@{version}", folder, licences)
    for stamp in sorted((deps / "stamps").glob("onnxruntime-library-[0-9]*")):
        version = stamp.name.rsplit("-", 1)[1]
        if (deps / "onnxruntime").is_dir() and re.fullmatch(r"[0-9.]+", version):
            yield package("onnxruntime-node", version, f"pkg:npm/onnxruntime-node@{version}",
                          deps / "onnxruntime", "the library of the npm package, which is MIT licensed")


def document(deps):
    header = (root / "include/tidegate/version.hpp").read_text()
    version = re.search(r'TIDEGATE_VERSION_STRING "([^"]+)"', header).group(1)
    packages = list(packages_in(deps))
    us = {
        "SPDXID": "SPDXRef-tidegate",
        "name": "tidegate",
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "BSL-1.0",
        "licenseDeclared": "BSL-1.0",
        "copyrightText": "NOASSERTION",
    }
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", us["SPDXID"])]
    relations += [(us["SPDXID"], "DEPENDS_ON", p["SPDXID"]) for p in packages]
    fingerprint = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"tidegate-{version}",
        "documentNamespace": f"https://github.com/tidegate/tidegate/spdx/{version}-{fingerprint}",
        "creationInfo": {
            "created": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: tidegate-sbom"],
        },
        "packages": [us, *packages],
        "relationships": [
            {"spdxElementId": a, "relationshipType": kind, "relatedSpdxElement": b} for a, kind, b in relations
        ],
    }


if __name__ == "__main__":
    json.dump(document(Path(sys.argv[1]) if len(sys.argv) > 1 else root / ".deps"), sys.stdout, indent=2)
    print()
