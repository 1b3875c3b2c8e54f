#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Makes docs/benchmarks.md, docs/benchmarks.svg and the tables of figures in docs/primitives.

    benchmarks_page.py --collect DIR...   takes over what ./dev bench wrote (DIR/*.json): of each
                                          scenario the newest whole run, not a quick one, into docs/benchmarks.json
    benchmarks_page.py                    writes the pages from docs/benchmarks.json
    benchmarks_page.py --check            fails if they are not what it would write
    benchmarks_page.py --preview DIR      writes DIR/benchmarks.md and .svg from DIR/*.json alone
"""
import json
import math
import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS / "benchmarks.json"
MEASURED = re.compile(r"^<!-- measured (\w+): ([\w, ]+) -->\n(?:\|.*\n)*", re.M)

ABOUT = {
    "wait": "Waking, parking and cancelling waiters, waits with a deadline. `wake_1000` wakes a "
            "thousand; `concrete` has io_context's executor instead of any_io_executor.",
    "semaphore": "Taking and giving back a permit: by `try`, awaited (`uncontended`), and with 64 "
                 "coroutines in line.",
    "channel": "Sending and receiving; `pipe_N` with room for N values between two coroutines, "
               "`threads_N` between two threads.",
    "resilience": "Limiters, breaker, layers of a policy, timeouts.",
    "pool": "Jobs on worker threads, awaited by 1 or 64 coroutines, and detached.",
    "execution": "Pools, channels, semaphores, batches, parallel maps and tasks.",
    "cache": "Hits, puts, and a replay of a trace with misses; `_2` with two threads.",
    "monitor": "Recording durations, reading them, scoped timers, being watched for stalls.",
    "seeds": "Blocking code on an event loop against the same work awaited, with a real server.",
    "compile_time": "CPU seconds that including a header takes g++ beyond Asio's `awaitable.hpp` and "
                    "`steady_timer.hpp`: see the claims `compile_seconds_HEADER`.",
    "redis": "A call of the limiter, a refusal that is known, hearing of another node's change; beside "
             "`SET` on the same connection.",
    "vision": "Frames a second, CPU time a frame and memory of the video pipeline, beside a loop on one "
              "thread, the model alone, and the same stages without the library: see the claims `vision.NAME`.",
    "service": "Answers, refusals and memory of the vision service when it has too much to do, and ten clients "
               "at once: see the claims `service.NAME`.",
}

# Their rows are no times of ours beside a peer's: the claims say it all.
WITHOUT_TABLE = {"compile_time", "service", "vision"}

# Rows whose result is a counter; their time says how long the benchmark runs, or a pace that it sets itself.
# These are in no table, their claims are.
COUNTED = {
    "accuracy_bimodal", "accuracy_lognormal", "accuracy_pareto", "crowd", "handlers_of_0.5_thresholds",
    "hit_ratio", "lazy_memory", "memory", "memory_a_thread", "million_expire_together",
    "million_on_small_stack", "million_receives_on_small_stack", "queueing", "rate_under_100_tasks",
    "stalls_of_1.5_thresholds", "ten_million_hits_on_small_stack",
}

# What the picture shows: what, scenario, rows. Each beside the fastest peer of these rows.
PICTURE = [
    ("cancel one of 20,000 waiters", "wait", "cancel_one_of_20000"),
    ("pass a value between threads", "channel", "threads_1024"),
    ("take a free permit, awaited", "semaphore", "uncontended"),
    ("pass a value between coroutines", "channel", "pair"),
    ("record a latency", "monitor", "record"),
    ("a call through a closed breaker", "resilience", "closed"),
    ("wait with a deadline", "wait", "park_and_wake_deadline"),
    ("a timeout round a call", "resilience", "timeout"),
    ("wake a waiter", "wait", "wake_1000"),
    ("await a job of a pool", "execution", "await_64"),
    ("take a permit of a rate limiter", "resilience", "grant"),
    ("a cache hit", "cache", "get"),
    ("try to take a permit", "semaphore", "try"),
]

# In these rows, but no peers: they do not do the job.
DO_LESS = {"empty_child", "plain"}

NAMES = {
    "asio_channel": "asio channel",
    "asio_channel_cancel_after": "asio channel, cancel_after",
    "asio_co_spawn": "asio thread_pool",
    "asio_concurrent_channel": "asio concurrent_channel",
    "asio_hop": "asio thread_pool",
    "asio_hop_child": "asio thread_pool",
    "atomic_log_linear": "shared atomic buckets",
    "intrusive_lru": "intrusive LRU, no times to live",
    "mutex_breaker": "breaker with a mutex",
    "mutex_bucket": "bucket with a mutex",
    "naive": "list, map and mutex",
    "std_counting_semaphore": "std::counting_semaphore",
    "std_mutex": "std::mutex",
}


def time(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def allocations(count):
    if count is None:
        return ""
    return "0" if count < 0.0005 else f"{count:.2g}" if count < 10 else f"{count:.0f}"


# Collecting --------------------------------------------------------------------------------------


def condense(run):
    rows = {}
    for row in run["benchmarks"]:
        samples = [s["allocations"] for s in row["samples"] if s.get("allocations") is not None]
        rows[row["name"]] = {
            "clock": row["clock"], "min_ns": round(row["min_ns"], 2),
            "median_ns": round(row["median_ns"], 2),
            "allocations": round(max(samples), 4) if samples else None,
        }
    machine = {k: run["machine"][k] for k in ("cpu", "cpus", "system")}
    machine["system"] = re.sub(r"(\d+\.\d+\.\d+)-\S+", r"\1", machine["system"])
    return {"date": run["date"], "machine": machine, "versions": run["versions"], "rows": rows,
            "claims": run["claims"]}


def completeness(run):
    """A run with a filter must not take the place of a whole one."""
    return len(run["benchmarks"]), run["date"]


def newest_runs(folders):
    newest = {}
    for folder in folders:
        for path in pathlib.Path(folder).glob("*.json"):
            run = json.loads(path.read_text())
            if not isinstance(run, dict) or "benchmarks" not in run or run["quick"]:
                continue
            name = run["scenario"]
            best = newest.get(name)
            if name in ABOUT and (not best or completeness(run) > completeness(best)):
                newest[name] = run
    if not newest:
        sys.exit("no results of whole runs there: ./dev bench writes them into build/bench")
    return {name: condense(run) for name, run in sorted(newest.items())}


def collect(folders):
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known.update(newest_runs(folders))
    RESULTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


# Writing -----------------------------------------------------------------------------------------


def by_what(rows):
    groups = {}
    for name, row in rows.items():
        what, _, who = name.partition("/")
        groups.setdefault(what, {})[who] = row
    return groups


def table(scenario, results, only):
    groups = by_what(results[scenario]["rows"])
    missing = [what for what in only if what not in groups]
    if missing:
        sys.exit(f"scenario {scenario} has no rows {', '.join(missing)}")
    if not any("tidegate" in groups[what] for what in only):
        return each(groups, only)
    lines = ["| measured | tidegate | allocations | beside it |", "| --- | --- | --- | --- |"]
    for what in only:
        ours = groups[what].get("tidegate")
        others = sorted(((who, row) for who, row in groups[what].items() if who != "tidegate"),
                        key=lambda one: one[1]["min_ns"])
        lines.append(f"| `{what}` | {time(ours['min_ns']) if ours else ''} | "
                     f"{allocations(ours['allocations']) if ours else ''} | " +
                     ", ".join(f"`{who}` {time(row['min_ns'])}" for who, row in others) + " |")
    return "\n".join(lines) + "\n"


def each(groups, chosen):
    """Rows that have no counterpart of ours, or are all ours."""
    lines = ["| measured | | allocations |", "| --- | --- | --- |"]
    for what in chosen:
        for who, row in sorted(groups[what].items(), key=lambda one: one[1]["min_ns"]):
            lines.append(f"| `{what}/{who}` | {time(row['min_ns'])} | {allocations(row['allocations'])} |")
    return "\n".join(lines) + "\n"


def tables(scenario, results):
    if scenario in WITHOUT_TABLE:
        return ""
    rows = by_what(results[scenario]["rows"])
    groups = {what: row for what, row in rows.items() if what not in COUNTED}
    beside = [what for what in groups if "tidegate" in groups[what]]
    alone = [what for what in groups if what not in beside]
    return "\n".join(table(scenario, results, part) for part in (beside, alone) if part)


def page(results):
    first = next(iter(results.values()))
    versions = {k: v for k, v in first["versions"].items() if k != "tidegate"}
    claims = [(c, name) for name, s in results.items() for c in s["claims"]]
    held = sum(c["holds"] for c, _ in claims)
    out = [
        "# Benchmarks", "",
        "All figures come from one command, which runs every part and its peers interleaved in the same process, in",
        "random order, and judges what is claimed:", "",
        "```sh", "./dev bench              # or one scenario: ./dev bench semaphore",
        "tools/benchmarks_page.py --collect build/bench && tools/benchmarks_page.py   # this page", "```", "",
        f"Measured on {first['machine']['cpu']}, {first['machine']['cpus']} virtual processors, "
        f"{first['machine']['system'].split('-')[0]}; " +
        ", ".join(f"{k} {v}" for k, v in versions.items()) + ".",
        "A shared virtual machine: times are the least of all repetitions, since noise only ever adds; compare within a line, not between machines. Allocations are those of an",
        "operation in steady state. Rows that measure something else (bytes, errors, lateness, a hit ratio) are not in the",
        "tables; [the claims](#claims) have their figures.", "",
        "![How many times as long the fastest peer takes](benchmarks.svg)", "",
        "[benchmarks/README.md](../benchmarks/README.md) says how it is measured and who the peers are.", ""]
    for name, scenario in results.items():
        out += [f"## {name}", "", f"{ABOUT[name]} Measured {scenario['date'][:10]}.", "",
                tables(name, results)]
    out += ["## Claims", "",
            f"What the library promises itself: {held} of {len(claims)} hold. A claim that falls short stays, and says so.", "",
            "| claim | measured | goal | |", "| --- | --- | --- | --- |"]
    out += [f"| `{c['name']}` | {c['measured']:g} | {c['goal']} | {'holds' if c['holds'] else '**short**'} |"
            for c, _ in sorted(claims, key=lambda one: one[0]["name"])]
    return "\n".join(out) + "\n"


def fastest_peer(group):
    peers = {who: row["min_ns"] for who, row in group.items()
             if who not in DO_LESS and not who.startswith("tidegate")}
    return min(peers.items(), key=lambda one: one[1], default=None)


def picture(results):
    """Bars on a logarithmic scale: how many times as long the fastest peer takes."""
    bars = []
    for what, scenario, rows in PICTURE:
        group = by_what(results.get(scenario, {"rows": {}})["rows"]).get(rows, {})
        peer = fastest_peer(group)
        if peer and "tidegate" in group:
            ours = group["tidegate"]["min_ns"]
            bars.append((what, NAMES.get(peer[0], peer[0]), peer[1] / ours, ours))
    bars.sort(key=lambda bar: -bar[2])
    left, right, top, step = 236, 216, 54, 22
    width, height = 860, top + step * len(bars) + 34
    low, high = math.log10(0.5), math.log10(1000)
    span = width - left - right

    def x(ratio):
        return left + span * (math.log10(min(max(ratio, 0.5), 1000)) - low) / (high - low)

    text = 'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="How many times as long the fastest peer takes">',
        "<!-- SPDX-License-Identifier: BSL-1.0; made by tools/benchmarks_page.py -->",
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        f'<text x="20" y="26" {text} font-weight="bold" fill="#1f2933">'
        "How many times as long the fastest peer takes (logarithmic)</text>"]
    for ratio in (1, 10, 100, 1000):
        out += [f'<line x1="{x(ratio):.1f}" x2="{x(ratio):.1f}" y1="{top - 8}" y2="{height - 26}" '
                f'stroke="{"#52606d" if ratio == 1 else "#d9e2ec"}"/>',
                f'<text x="{x(ratio):.1f}" y="{top - 14}" {text} fill="#52606d" '
                f'text-anchor="middle">{ratio}</text>']
    for i, (what, peer, ratio, ns) in enumerate(bars):
        y = top + i * step
        begin, end = sorted((x(1), x(ratio)))
        colour = "#00897b" if ratio >= 1 else "#ef6c00"
        shown = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
        out += [f'<text x="{left - 12}" y="{y + 13}" {text} fill="#1f2933" text-anchor="end">{what}</text>',
                f'<rect x="{begin:.1f}" y="{y + 2}" width="{max(end - begin, 1):.1f}" height="14" '
                f'rx="2" fill="{colour}"><title>{time(ns)}</title></rect>',
                f'<text x="{max(end, x(1)) + 6:.1f}" y="{y + 13}" {text} fill="#1f2933">{shown} × '
                f'<tspan fill="#7b8794">{peer}</tspan></text>']
    out += [f'<text x="20" y="{height - 10}" {text} fill="#7b8794">Least of all repetitions, '
            'interleaved in one process. Repeat: ./dev bench</text>', "</svg>"]
    return "\n".join(out) + "\n"


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--collect"]:
        return collect(arguments[1:])
    if arguments[:1] == ["--preview"]:
        folder = pathlib.Path(arguments[1])
        results = newest_runs([folder])
        (folder / "benchmarks.md").write_text(page(results))
        (folder / "benchmarks.svg").write_text(picture(results))
        return 0
    results = json.loads(RESULTS.read_text())
    made = {DOCS / "benchmarks.md": page(results), DOCS / "benchmarks.svg": picture(results)}
    for path in sorted((DOCS / "primitives").glob("*.md")):
        made[path] = MEASURED.sub(
            lambda m: f"<!-- measured {m[1]}: {m[2]} -->\n" + table(m[1], results, m[2].split(", ")),
            path.read_text())
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            print(f"docs/{path.relative_to(DOCS)} is not what was measured: tools/benchmarks_page.py",
                  file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(made[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
