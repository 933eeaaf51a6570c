"""What daemons and runners lose that are killed at random moments: nothing, run after run."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.daemon import Daemon, start_daemon, step
from bench.figure import Figure, Goal
from bench.workshop import Workshop, read_journal, workshop
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.rundir.lock import is_held, read_holder

_LINES: Final = 80
_STEPS: Final = ("a", "b", "c")
_KILLS_A_RUN: Final = 2
_MOST_S: Final = 30.0  # until a run has ended whose runner died
_SEED: Final = 20_261_121  # the moments differ from run to run of a program, hardly of the seed

_COUNT: Final = f"i=0; while [ $i -lt {_LINES} ]; do echo $i; i=$((i+1)); sleep 0.01; done"
# It leaves its group, its session and its parent, and ignores SIGTERM.
_NASTY: Final = "trap '' TERM; (setsid sh -c 'sleep 300 & sleep 300' &) ; sleep 300 & " + _COUNT


def measure(*, quick: bool) -> list[Figure]:
    """Return how many runs, lines, steps and processes a number of kills cost."""
    daemon_kills, runner_kills = (2, 2) if quick else (100, 50)
    choice = random.Random(_SEED)
    count = {"steps": {name: step("sh", "-c", _COUNT) for name in _STEPS}, "parallel": 3}
    nasty = {
        "steps": {name: step("sh", "-c", _NASTY, grace="100ms") for name in _STEPS},
        "parallel": 3,
    }
    pipelines = {"count": count, "fail": nasty, "retry": {**nasty, "on_lost": "retry"}}
    with workshop(pipelines) as place:
        return [
            *kill_daemons(place, daemon_kills, choice),
            *kill_runners(place, runner_kills, choice),
        ]


def kill_daemons(place: Workshop, kills: int, choice: random.Random) -> list[Figure]:
    """Kill daemons while runs of three steps print numbered lines; count what went wrong."""
    failed = wrong = twice = 0
    runs = kills // _KILLS_A_RUN
    daemon = start_daemon(place)
    try:
        for _ in range(runs):
            run_id = daemon.start("count")
            for _ in range(_KILLS_A_RUN):
                time.sleep(choice.uniform(0, 0.5))
                daemon.kill(choice.choice((signal.SIGKILL, signal.SIGTERM)))
                daemon = start_daemon(place)
            run = RunDir(place.state / "runs" / run_id)
            failed += not _has_ended(run)
            failed += (_end_of(run) or {}).get("status") != "success"
            numbers = [str(number) for number in range(_LINES)]
            wrong += sum(_lines(run, name) != numbers for name in _STEPS)
            twice += sum(n > 1 for n in Counter(_told(run, "step_started", "step")).values())
    finally:
        daemon.close()
    kind = f"{kills} daemon kills"
    return [
        _figure(f"{kind}: runs lost", failed, f"of {runs}", "SIGKILL or SIGTERM at random moments"),
        _figure(
            f"{kind}: outputs wrong", wrong, f"of {3 * runs}", "a numbered line missing or twice"
        ),
        _figure(f"{kind}: steps twice", twice, f"of {3 * runs}", "started more than once"),
    ]


def kill_runners(place: Workshop, kills: int, choice: random.Random) -> list[Figure]:
    """Kill runners whose steps hide processes; count runs that hang, end wrongly, or leave some."""
    stuck = wrong = left = 0
    daemon = start_daemon(place)
    try:
        for number in range(kills):
            pipeline = ("fail", "retry")[number % 2]
            run = RunDir(place.state / "runs" / daemon.start(pipeline))
            _kill_runner(daemon, run, choice.uniform(0, 0.4))
            stuck += not _has_ended(run)
            end = _end_of(run) or {}
            found = (end.get("status"), end.get("cause_code"))
            wrong += found != {"fail": ("error", "lost"), "retry": ("success", None)}[pipeline]
            _is_free(run)
            left += len(_processes(run.id))
    finally:
        daemon.close()
    kind = f"{kills} runner kills"
    return [
        _figure(f"{kind}: runs stuck", stuck, f"of {kills}", f"without an end after {_MOST_S:g} s"),
        _figure(f"{kind}: ended wrongly", wrong, f"of {kills}", "on_lost: fail and retry, in turn"),
        _figure(
            f"{kind}: processes left", left, f"of {kills * 9}", "of steps that hide two thirds"
        ),
    ]


def _figure(name: str, value: int, unit: str, note: str) -> Figure:
    return Figure(
        name=name, value=value, unit=unit, goal=Goal(kind="most", limit=0), note=note
    )  # fmt: skip


def _kill_runner(daemon: Daemon, run: RunDir, after_s: float) -> None:
    """Kill the run's runner once every step has started, a random moment later."""
    started = _within(_MOST_S, lambda: set(_told(run, "step_started", "step")) == set(_STEPS))
    holder = read_holder(run.lock)
    if not started or holder is None:
        raise RuntimeError(f"{run.id} doesn't start: {daemon.view(run.id)}")
    time.sleep(after_s)
    os.kill(holder.pid, signal.SIGKILL)


def _has_ended(run: RunDir) -> bool:
    return _within(_MOST_S, lambda: _end_of(run) is not None)


def _is_free(run: RunDir) -> bool:
    return _within(_MOST_S, lambda: not is_held(run.lock))


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _end_of(run: RunDir) -> dict[str, Any] | None:
    last = read_journal(run)[-1]
    return last if last["event"] in ("summary", "aborted") else None


def _told(run: RunDir, event: str, key: str) -> list[Any]:
    return [item[key] for item in read_journal(run) if item["event"] == event]


def _lines(run: RunDir, name: str) -> list[str]:
    """Return a step's lines as its events tell them."""
    reader = JournalReader(run)
    text = ""
    while frames := reader.read():
        for frame in frames:
            if frame.event == "log" and frame.step == name:
                data = msgspec.json.decode(frame.data)
                text += data["text"] + ("" if data.get("open") else "\n")
    reader.close()
    return text.splitlines()


def _processes(run_id: str) -> list[int]:
    """Return the living processes whose environment names the run."""
    marker = f"TAILRACE_RUN_ID={run_id}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # gone, or another user's
            continue
    return found
