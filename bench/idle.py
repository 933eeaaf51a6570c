"""What Tailrace costs while nothing happens: the daemon, its fork server, and a runner."""

from __future__ import annotations

import time

from bench.daemon import Daemon, serving, step
from bench.figure import Figure, Goal
from bench.usage import children, cpu_s, pss_mb, rss_mb


def measure(*, quick: bool) -> list[Figure]:
    """Return memory in MB and CPU in percent of a core."""
    settle_s, over_s = (0.1, 0.2) if quick else (1.0, 5.0)
    pipelines = {
        "once": {"steps": {"s": step("true")}},
        "sleep": {"steps": {"s": step("sleep", "60")}},
    }
    with serving(pipelines) as daemon:
        daemon.wait(daemon.start("once"))  # imports that the first run causes count, too
        time.sleep(settle_s)
        helpers = children(daemon.pid)
        idle = _cpu_percent([daemon.pid, *helpers], over_s)
        figures = [
            _memory("idle daemon", daemon.pid, goal_mb=70),
            *(_memory("idle fork server", pid) for pid in helpers),
            Figure(
                name="idle daemon", value=idle, unit="% of a core",
                goal=Goal(kind="most", limit=0.2),
                note=f"CPU of the daemon and its fork server over {over_s:g} s after a run",
            ),
        ]  # fmt: skip
        runner = _sleeping_runner(daemon, helpers)
        time.sleep(settle_s)
        busy = _cpu_percent([runner], over_s)
        figures += [
            _memory("waiting runner", runner, goal_mb=35),
            Figure(
                name="waiting runner",
                value=busy,
                unit="% of a core",
                note=f"CPU of a runner over {over_s:g} s whose only step sleeps",
            ),
        ]
    return figures


def _sleeping_runner(daemon: Daemon, helpers: list[int]) -> int:
    """Start a run that sleeps and return its runner's pid."""
    before = {child for pid in helpers for child in children(pid)}
    run_id = daemon.start("sleep")
    while daemon.view(run_id)["steps"][0]["status"] != "running":
        time.sleep(0.01)
    (runner,) = {child for pid in helpers for child in children(pid)} - before
    return runner


def _memory(name: str, pid: int, *, goal_mb: float | None = None) -> Figure:
    pss = pss_mb(pid)
    shared = f"; Pss {pss:.1f} MB" if pss is not None else ""
    return Figure(
        name=name, value=rss_mb(pid), unit="MB",
        goal=None if goal_mb is None else Goal(kind="most", limit=goal_mb),
        note=f"Rss{shared}",
    )  # fmt: skip


def _cpu_percent(pids: list[int], over_s: float) -> float:
    before, began = cpu_s(*pids), time.monotonic()
    time.sleep(over_s)
    return (cpu_s(*pids) - before) / (time.monotonic() - began) * 100
