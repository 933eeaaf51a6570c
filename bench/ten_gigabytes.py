"""Ten gigabytes of output by one step, watched: the memory of runner and daemon stays flat."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any, Final

from bench.daemon import Daemon, serving, step
from bench.figure import Figure, Goal
from bench.memory import sampled
from bench.usage import MB
from bench.workshop import PRODUCER, SECRET
from tailrace.prove.ground import pid_of_runner
from tailrace.rundir.layout import RunDir, StateDir

_RECV: Final = 1 << 20
_MOST: Final = Goal(kind="most", limit=120)
_RUN_S: Final = 540.0


def measure(*, quick: bool) -> list[Figure]:
    """Return the most memory that each of them had.

    Raises:
        RuntimeError: not all of the output is in the log.
    """
    size = (50 if quick else 10_000) * MB
    flood = step(*PRODUCER, "flood", str(size), SECRET, limits={"log": "16G"})
    with serving({"flood": {"secrets": ["SECRET"], "steps": {"flood": flood}}}) as daemon:
        began = time.monotonic()
        run_id = daemon.start("flood")
        run = StateDir(daemon.place.state).run(run_id)
        pids = {"runner": _runner(run), "daemon": daemon.pid}
        watcher = threading.Thread(target=_read, args=(daemon.watch(run_id),), name="watcher")
        watcher.start()
        with sampled(pids) as samples:
            view = _wait(daemon, run_id)
        watcher.join()
        elapsed = time.monotonic() - began
        written = run.log("flood", 1).stat().st_size
    (told,) = view["steps"]
    # Each secret of 28 bytes is three in the log.
    if told["bytes"] != written or written < 0.99 * size:
        raise RuntimeError(f"{written} of {size} bytes are in the log; told are {told['bytes']}")
    what = f"{size / 1e9:g} GB by one step in {elapsed:.0f} s, masked, one SSE client reads all"
    return [
        Figure(
            name=f"ten gigabytes, {name}", value=max(values), unit="MB", goal=_MOST,
            note=f"the most resident memory; {_mean(values[: len(values) // 4]):.0f} MB in the "
            f"first quarter, {_mean(values[-(len(values) // 4) :]):.0f} in the last; {what}",
        )
        for name, values in samples.items()
    ]  # fmt: skip


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def _runner(run: RunDir) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (pid := asyncio.run(pid_of_runner(run))) is not None:
            return pid
        time.sleep(0.01)
    raise RuntimeError("no runner answers")


def _read(sock: socket.socket) -> None:
    buffer = bytearray(_RECV)
    with sock:
        while sock.recv_into(buffer):
            pass


def _wait(daemon: Daemon, run_id: str) -> dict[str, Any]:
    """Wait for the end; asking seldom, because asking costs the daemon something, too."""
    deadline = time.monotonic() + _RUN_S
    while time.monotonic() < deadline:
        view = daemon.view(run_id)
        if view["status"] not in ("queued", "running"):
            return daemon.wait(run_id)
        time.sleep(0.2)
    raise RuntimeError(f"it still runs after {_RUN_S:.0f} s")
