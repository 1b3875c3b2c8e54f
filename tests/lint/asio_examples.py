# SPDX-License-Identifier: BSL-1.0
"""Runs tidegate-lint on Boost.Asio's own examples, each file by itself. What it finds there is listed below: calls
that do block, where the example does not mind. Anything else is a wrong finding.

asio_examples.py LINT EXAMPLES FLAGS...      EXAMPLES: the folder with cpp11, cpp14, cpp17 and cpp20
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

# A datagram sent, a file opened, and a message sent from handlers, on sockets that wait.
BLOCKING = {("cpp11/fork/daemon.cpp", "boost::asio::basic_datagram_socket::send_to"),
            ("cpp11/local/fd_passing_stream_server.cpp", "fopen"),
            ("cpp11/local/fd_passing_stream_server.cpp", "sendmsg")}
# Written for another system, or for an interface that Asio has no more.
UNREADABLE = {"cpp11/windows/transmit_file.cpp", "cpp11/serialization/client.cpp"}
# The coroutines of the technical specification are those of C++20 by now.
STANDARDS = {"cpp11": "c++14", "cpp14": "c++14", "cpp17": "c++20", "cpp20": "c++20"}

lint, examples, *flags = sys.argv[1:]
examples = pathlib.Path(examples)


def look_at(file):
    name = str(file.relative_to(examples))
    done = subprocess.run([lint, "-json=-", str(file), "--", f"-std={STANDARDS[name.split('/')[0]]}",
                           f"-I{examples}/cpp11", *flags], capture_output=True, text=True)
    if done.returncode == 2:
        return name, None, done.stderr
    return name, {(name, i["function"]) for i in json.loads(done.stdout)["issues"]}, ""


files = sorted(file for folder in STANDARDS for file in (examples / folder).rglob("*.cpp"))
with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("TIDEGATE_JOBS", os.cpu_count() or 2))) as pool:
    looked_at = list(pool.map(look_at, files))
found = set().union(*(issues for _, issues, _ in looked_at if issues))
unreadable = {name: why for name, issues, why in looked_at if issues is None}
wrong = sorted(found - BLOCKING)
failures = [f"wrong: {name}: {what}" for name, what in wrong]
failures += [f"unreadable: {name}\n{why[:800]}" for name, why in unreadable.items() if name not in UNREADABLE]
failures += [f"not found: {name}: {what}" for name, what in sorted(BLOCKING - found)]
print(f"{len(files) - len(unreadable)} examples of Boost.Asio read, {len(wrong)} wrong findings, "
      f"{len(found & BLOCKING)} calls that do block")
print("\n".join(failures), end="\n" if failures else "")
sys.exit(bool(failures) or not files)
