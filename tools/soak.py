#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""soak.py PROGRAM [MINUTES]: runs the vision service under load, and fails when it drifts.

Clients submit videos with ever other options, watch, fetch, cancel and break off. Meanwhile memory,
descriptors, threads and the latency of small requests are sampled. After a warm-up of a fifth of the
time, the median of the last third must not be above that of the first third by more than is allowed.
"""
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

root = Path(__file__).resolve().parent.parent
assets = root / "examples/vision/assets"

# What the last third may have more than the first: a share, and so much in any case.
allowed = {"memory (MB)": (0.10, 16), "descriptors": (0.10, 8), "threads": (0.0, 2), "latency (ms)": (0.5, 10)}


class Service:
    def __init__(self, program, data):
        self.process = subprocess.Popen(
            [program, "serve", "--model", assets / "shapes.onnx", "--data", data, "--port", "0",
             "--rate", "1000000", "--burst", "1000000", "--log-level", "off"],
            stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1].strip(" /\n"))
        # Nobody else reads what it says, and a full pipe would hold it up.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def ask(self, method, target, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def sample(self):
        proc = Path("/proc", str(self.process.pid))
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        begun = time.monotonic()
        self.ask("GET", "/v1/status")
        return {
            "memory (MB)": int(status["VmRSS"].split()[0]) / 1024,
            "descriptors": len(list((proc / "fd").iterdir())),
            "threads": int(status["Threads"]),
            "latency (ms)": 1000 * (time.monotonic() - begun),
        }

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=120)


class Client(threading.Thread):
    """Submits videos one after another, and treats them in one of the ways that people do."""

    def __init__(self, service, video, number, until):
        super().__init__(daemon=True)
        self.service, self.video, self.until = service, video, until
        self.random = random.Random(number)
        self.succeeded = self.others = 0
        self.failure = None

    def run(self):
        try:
            while time.monotonic() < self.until:
                self.one_job()
        except Exception as e:  # pylint: disable=broad-except
            self.failure = e

    def one_job(self):
        confidence = round(self.random.uniform(0.1, 0.9), 6)  # equal options would share one run
        target = f"/v1/jobs?confidence={confidence}&annotate=false&every_n={self.random.randint(1, 5)}"
        status, body = self.service.ask("POST", target, self.video)
        if status == 503:  # the queue is full
            time.sleep(0.2)
            return
        if status != 202:
            raise RuntimeError(f"{target}: {status} {body[:200]!r}")
        job = "/v1/jobs/" + json.loads(body)["id"]
        way = self.random.randrange(8)
        if way == 0:
            self.service.ask("DELETE", job)
            self.others += 1
        elif way == 1:
            self.break_off(job + "/events")
            self.others += 1
        else:
            self.wait_for(job)

    def wait_for(self, job):
        while time.monotonic() < self.until:
            state = json.loads(self.service.ask("GET", job)[1])["state"]
            if state == "succeeded":
                status, _ = self.service.ask("GET", job + "/result")
                if status != 200:
                    raise RuntimeError(f"{job}/result: {status}")
                self.succeeded += 1
                return
            if state == "failed":
                raise RuntimeError(f"{job} failed")
            time.sleep(0.05)

    def break_off(self, target):
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
        connection.request("GET", target)
        connection.getresponse().read(1)
        connection.close()


def drift(samples):
    """What grew by more than is allowed, as lines; prints all of it."""
    samples = samples[len(samples) // 5:]
    third = max(1, len(samples) // 3)
    found = []
    for what, (share, anyway) in allowed.items():
        first = statistics.median(s[what] for s in samples[:third])
        last = statistics.median(s[what] for s in samples[-third:])
        limit = first + max(share * first, anyway)
        print(f"{what:14} {first:10.1f} {last:10.1f}   allowed {limit:.1f}")
        if last > limit:
            found.append(f"{what} went from {first:.1f} to {last:.1f}")
    return found


def main():
    program, minutes = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10
    video = (assets / "shapes.mp4").read_bytes()
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        service = Service(program, Path(folder, "data"))
        clients = [Client(service, video, number, until) for number in range(6)]
        for client in clients:
            client.start()
        samples = []
        while time.monotonic() < until:
            samples.append(service.sample())
            time.sleep(min(5, minutes))
        for client in clients:
            client.join(timeout=120)
        problems = [f"a client failed: {c.failure}" for c in clients if c.failure]
        problems += ["a client hangs"] * sum(c.is_alive() for c in clients)
        if service.stop() != 0:
            problems.append(f"the service ended with {service.process.returncode}")
    succeeded = sum(c.succeeded for c in clients)
    print(f"{succeeded} jobs succeeded, {sum(c.others for c in clients)} were cancelled or left, {len(samples)} samples")
    problems += drift(samples)
    if succeeded == 0:
        problems.append("no job succeeded")
    for problem in problems:
        print(f"FAIL  {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
