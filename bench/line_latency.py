"""How live a line is: from its printing in a step to its arrival at an SSE client."""

from __future__ import annotations

import json
import subprocess
import time

from bench.daemon import Daemon, serving, step
from bench.figure import Figure, Goal, percentile
from bench.workshop import PRODUCER

_GAPS_S = (0.02, 0.05)  # the first is as often as output is gathered, the second is a quiet step


def measure(*, quick: bool) -> list[Figure]:
    """Return milliseconds, median and 99th percentile, for both rates."""
    figures = []
    rates = {f"every{gap_s * 1000:.0f}": gap_s for gap_s in _GAPS_S}
    counts = {name: 5 if quick else int(3 / gap_s) for name, gap_s in rates.items()}
    argvs = {
        name: (*PRODUCER, "trickle", str(counts[name]), str(gap_s)) for name, gap_s in rates.items()
    }
    pipelines = {name: {"steps": {"trickle": step(*argv)}} for name, argv in argvs.items()}
    with serving(pipelines) as daemon:
        for name, gap_s in rates.items():
            ours: list[float] = []
            bare: list[float] = []
            for _ in range(1 if quick else 2):
                ours += _watched(daemon, name, counts[name])
                bare += _piped(argvs[name])
            figures += _figures(gap_s, ours, bare)
    return figures


def _figures(gap_s: float, ours: list[float], bare: list[float]) -> list[Figure]:
    every = f"every {gap_s * 1000:.0f} ms"
    return [
        Figure(
            name=f"a line {every}", value=percentile(ours, 0.5), unit="ms",
            bare=percentile(bare, 0.5), goal=Goal(kind="most", limit=3),
            note="median from write(2) in the step to an SSE client; bare: through a pipe",
        ),
        Figure(
            name=f"a line {every}, p99", value=percentile(ours, 0.99), unit="ms",
            bare=percentile(bare, 0.99), goal=Goal(kind="most", limit=20),
            note="the same, 99th percentile",
        ),
    ]  # fmt: skip


def _watched(daemon: Daemon, pipeline: str, count: int) -> list[float]:
    latencies: list[float] = []
    run_id = daemon.start(pipeline)
    with daemon.watch(run_id) as sock, sock.makefile("rb", buffering=0) as stream:
        left = b""
        while chunk := stream.read(1 << 16):
            now = time.time_ns()
            *events, left = (left + chunk).split(b"\n\n")
            for event in events:
                latencies += [(now - printed) / 1e6 for printed in _printed(event)]
    daemon.wait(run_id)
    if len(latencies) != count:
        raise RuntimeError(f"{count} lines were printed, and {len(latencies)} arrived")
    return latencies


def _printed(event: bytes) -> list[int]:
    """Return the times that a ``log`` event's lines hold."""
    if b"event: log\n" not in event:
        return []
    data = json.loads(event.partition(b"\ndata: ")[2])
    return [int(line) for line in data["text"].split("\n")]


def _piped(argv: tuple[str, ...]) -> list[float]:
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        latencies = []
        while line := process.stdout.read(64):
            latencies.append((time.time_ns() - int(line.split()[0])) / 1e6)
    return latencies
