# SPDX-License-Identifier: BSL-1.0
"""Reads what `metrics_text` prints with the reference parsers of both formats, and compares values.

Exit status 77: the parsers (Python's prometheus_client) are not installed.
"""
import math
import subprocess
import sys

try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
    from prometheus_client.parser import text_string_to_metric_families as read_text
except ImportError:
    print("skipped: Python's prometheus_client is not installed")
    sys.exit(77)


def samples(read, *arguments):
    text = subprocess.run([sys.argv[1], *arguments], check=True, capture_output=True).stdout
    families = list(read(text.decode("utf-8")))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), f"a family comes twice: {names}"
    found = {}
    for family in families:
        for one in family.samples:
            key = (one.name, tuple(sorted(one.labels.items())))
            assert key not in found, f"a sample comes twice: {key}"
            found[key] = one.value
    return families, found


for read, arguments in ((read_text, []), (read_open, ["--open-metrics"])):
    families, found = samples(read, *arguments)
    value = lambda sample, **labels: found[(sample, tuple(sorted(labels.items())))]
    assert value("requests_total") == 3
    assert value("odd_total", path='/a"b\\c\nd', user="") == 1
    assert value("odd_total", path="é🌊", user="{}=,# ") == 2
    assert value("odd_total", path="caf\ufffd", user="\ufffd\ufffd") == 7
    assert value("tidegate_metrics_failed_collectors") == 2
    assert value("load_ratio") == 0.1 + 0.2
    assert value("least") == 5e-324
    assert value("no_end") == -math.inf
    assert value("latency_seconds_count", method="GET") == 1000
    assert abs(value("latency_seconds_sum", method="GET") - sum(i * i for i in range(1000)) / 1e6) < 1e-9
    assert value("latency_seconds_bucket", method="PUT", le="+Inf") == 2
    assert value("latency_seconds_bucket", method="GET", le="0.25") == sum(i * i <= 250000 for i in range(1000))
    assert value("tidegate_circuit_breaker_state", name="backend", state="closed") == 1
    help_text = next(f.documentation for f in families if f.name.startswith("requests"))
    assert help_text.startswith("Help with a \\ and a\nnew line and a "), help_text
    print(len(families), "families,", len(found), "samples")
