"""A watcher that never reads and a thousand that read slowly: neither run nor daemon cares."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final

from bench.daemon import Daemon, serving
from bench.figure import Figure, Goal
from bench.memory import sampled
from bench.usage import MB, cpu_s, rss_mb
from bench.workshop import PRODUCER
from tailrace import wire
from tailrace.rundir.layout import StateDir

_RATE_MB: Final = 20  # a second: far beyond what the slow ones take, well below what a core can
_SIP: Final = 4096  # bytes that each of them takes, a few times a second
_EVERY_S: Final = 0.25


def measure(*, quick: bool) -> list[Figure]:
    """Return the step's time with and without them, and what the daemon's memory grew by."""
    slow, seconds = (20, 1) if quick else (1000, 10)
    size = seconds * _RATE_MB * MB
    # The step says nothing before everyone watches: it waits for a file.
    command = [*PRODUCER, "pace", str(size), str(_RATE_MB * MB), "${{ params.go }}"]
    pipelines = {
        "talk": {"params": {"go": {"required": True}}, "steps": {"talk": {"command": command}}}
    }
    with serving(pipelines) as daemon:
        alone = _alone(daemon)
        run_id, go = _start(daemon, "watched")
        with contextlib.ExitStack() as stack:
            watchers = [stack.enter_context(daemon.watch(run_id)) for _ in range(slow + 1)]
            taken = _await_heads(watchers)
            before, cpu = rss_mb(daemon.pid), cpu_s(daemon.pid)
            began = time.monotonic()
            go()
            with sampled({"daemon": daemon.pid}) as samples:
                taken += sum(_sip(daemon, run_id, watchers[1:]))  # the first never reads
            cores = (cpu_s(daemon.pid) - cpu) / (time.monotonic() - began)
            watched = _printing_s(daemon, run_id)
    what = f"one that never reads, {slow} that read {taken / MB:.1f} MB of {slow * size / 1e9:g} GB"
    return [
        Figure(
            name="a step with slow watchers", value=watched, bare=alone, unit="s",
            goal=Goal(kind="over", limit=0.05 * seconds),
            note=f"from first output to last, {_RATE_MB} MB/s; {what}; bare: nobody watches",
        ),
        Figure(
            name="slow watchers, memory", value=max(samples["daemon"]) - before, unit="MB",
            goal=Goal(kind="most", limit=20),
            note=f"what the daemon grew by over {before:.0f} MB with all of them connected; "
            f"it used {cores:.2f} cores",
        ),
    ]  # fmt: skip


def _start(daemon: Daemon, name: str) -> tuple[str, Callable[[], None]]:
    go = daemon.place.folder / name
    status, body = daemon.request(
        "POST", "/api/v1/runs", {"pipeline": "talk", "params": {"go": str(go)}}
    )
    if status != 201:
        raise RuntimeError(f"POST /runs: {status} {body.decode()}")
    return str(json.loads(body)["id"]), go.touch


def _alone(daemon: Daemon) -> float:
    run_id, go = _start(daemon, "alone")
    go()
    daemon.wait(run_id)
    return _printing_s(daemon, run_id)


def _await_heads(watchers: list[socket.socket]) -> int:
    """Wait until everyone has been answered; return the bytes that came."""
    taken = 0
    for watcher in watchers:
        taken += len(watcher.recv(1 << 10))
        watcher.setblocking(False)
    return taken


def _sip(daemon: Daemon, run_id: str, watchers: list[socket.socket]) -> Iterator[int]:
    """Have each of them take a little now and then until the run is over; give the bytes."""
    while daemon.view(run_id)["status"] in ("queued", "running"):
        began = time.monotonic()
        for watcher in watchers:
            with contextlib.suppress(BlockingIOError):
                yield len(watcher.recv(_SIP))
        time.sleep(max(0, _EVERY_S - (time.monotonic() - began)))


def _printing_s(daemon: Daemon, run_id: str) -> float:
    """Return how long the step printed, as its journal has it: before that it waited for us."""
    moments = []
    for line in StateDir(daemon.place.state).run(run_id).journal.read_bytes().splitlines():
        record = wire.decode_record(line)
        if record.event == "log":
            moments.append(wire.parse_timestamp(record.t))
    return moments[-1] - moments[0]
