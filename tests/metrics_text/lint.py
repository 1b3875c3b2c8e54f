# SPDX-License-Identifier: BSL-1.0
"""Checks a page of metrics (Prometheus text format, on stdin) by the rules of `promtool check
metrics`, after the reference parser has read it. Exit status 77: there is no such parser.
"""
import re
import sys

try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    print("skipped: Python's prometheus_client is not installed")
    sys.exit(77)

# Base units are asked for, and kinds of metrics do not belong into names.
OTHER_UNITS = ("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days",
               "kilobytes", "megabytes", "bits", "percent")
KINDS = ("counter", "gauge", "histogram", "summary", "untyped")


def complaints(family):
    name, kind = family.name, family.type
    if kind == "unknown":
        yield "has no type"
    if not family.documentation:
        yield "has no help"
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        yield "is not in snake_case"
    words = name.split("_")
    for word in words:
        if word in OTHER_UNITS:
            yield f"is not in a base unit: {word}"
        if word in KINDS:
            yield f"has its kind in its name: {word}"
    for sample in family.samples:
        if kind == "counter" and not sample.name.endswith("_total"):
            yield "is a counter without _total"
        if kind == "gauge" and sample.name.endswith(("_total", "_count", "_sum", "_bucket")):
            yield "is a gauge with the ending of another kind"
        if kind != "histogram" and "le" in sample.labels:
            yield "has the label 'le' of a histogram"
        if kind != "summary" and "quantile" in sample.labels:
            yield "has the label 'quantile' of a summary"
        for label in sample.labels:
            if not re.fullmatch("[a-z][a-z0-9_]*", label):
                yield f"has the label '{label}', not in snake_case"


families = list(text_string_to_metric_families(sys.stdin.read()))
seen, problems = set(), []
for family in families:
    if family.name in seen:
        problems.append(f"{family.name}: comes twice")
    seen.add(family.name)
    problems += sorted({f"{family.name}: {why}" for why in complaints(family)})
    keys = [(s.name, tuple(sorted(s.labels.items()))) for s in family.samples]
    problems += [f"{family.name}: {key} comes twice" for key in sorted(set(k for k in keys if keys.count(k) > 1))]
for problem in problems:
    print(problem)
print(len(families), "families,", len(problems), "problems")
sys.exit(1 if problems or not families else 0)
