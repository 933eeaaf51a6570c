"""How fast a step may print: through mask, log and journal, against ``producer | cat > file``."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from typing import Any, Final

from bench.daemon import Daemon, serving, step
from bench.figure import Figure, Goal, interleaved
from bench.usage import MB
from bench.workshop import PRODUCER, SECRET, Workshop
from tailrace import wire
from tailrace.rundir.layout import StateDir

_RECV: Final = 1 << 20


def measure(*, quick: bool) -> list[Figure]:
    """Return MB/s of output: alone, and with a watcher; and the runner's memory in such a flood."""
    size = 8 * MB if quick else 1000 * MB
    flood = (*PRODUCER, "flood", str(size), SECRET)
    pipeline = {"secrets": ["SECRET"], "steps": {"flood": step(*flood)}}
    peaks: list[float] = []
    with serving({"flood": pipeline}) as daemon:
        ways = {
            "bare": lambda: _bare(daemon.place, flood, size),
            "alone": lambda: _alone(daemon.place, size, peaks),
            "watched": lambda: _watched(daemon, size),
        }
        rate = interleaved(1 if quick else 3, ways)
    return [
        Figure(
            name="output", value=rate["alone"], bare=rate["bare"], unit="MB/s",
            goal=Goal(kind="share", limit=0.5),
            note=f"one step, {size // MB} MB, secret and token shapes masked, log and journal on "
            "disk; bare: producer | cat > file",
        ),
        Figure(
            name="output, watched", value=rate["watched"], bare=rate["bare"], unit="MB/s",
            goal=Goal(kind="share", limit=0.3),
            note="the same below a daemon, until one SSE client holds the last byte",
        ),
        Figure(
            name="runner in a flood", value=max(peaks), unit="MB",
            note="the most resident memory (VmHWM) of the runner that wrote this output",
        ),
    ]  # fmt: skip


def _bare(place: Workshop, flood: tuple[str, ...], size: int) -> float:
    file = place.folder / "bare.log"
    began = time.perf_counter()
    subprocess.run(f"{shlex.join(flood)} | cat > {shlex.quote(str(file))}", shell=True, check=True)
    elapsed = time.perf_counter() - began
    file.unlink()
    return size / MB / elapsed


def _alone(place: Workshop, size: int, peaks: list[float]) -> float:
    done = place.run("flood")
    peaks.append(done.peak_rss_mb)
    # Until the last byte is in its file, as with cat: what follows is fsync, and cat has none.
    elapsed = done.time_of("log", last=True) - done.time_of("step_started")
    return size / MB / elapsed


def _watched(daemon: Daemon, size: int) -> float:
    run_id = daemon.start("flood")
    with daemon.watch(run_id) as sock:
        buffer = bytearray(_RECV)
        while sock.recv_into(buffer):
            pass
    ended = time.time()
    view: dict[str, Any] = daemon.wait(run_id)
    started = _started(daemon, run_id)
    if view["steps"][0]["status"] != "success":
        raise RuntimeError(f"the flood ended: {view['steps'][0]}")
    shutil.rmtree(daemon.place.state / "runs" / run_id / "steps")
    return size / MB / (ended - started)


def _started(daemon: Daemon, run_id: str) -> float:
    run = StateDir(daemon.place.state).run(run_id)
    with open(run.journal, "rb") as journal:
        for line in journal:
            record = wire.decode_record(line)
            if record.event == "step_started":
                return wire.parse_timestamp(record.t)
    raise RuntimeError("the step never started")
