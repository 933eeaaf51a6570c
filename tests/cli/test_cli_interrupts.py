"""Ctrl-C and SIGTERM before a run is under way."""

from __future__ import annotations

import fcntl
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Site
from tailrace.rundir.lock import is_held
from tailrace.rundir.snapshot import read_snapshot

SLOW = "steps: {a: {run: 'sleep 60', grace: 1s}}\n"
GROUP = "concurrency: {group: g}\n" + SLOW


def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waits_for_lock(pid: int) -> bool:
    """Whether a process waits for a lock of files (proc(5): `->` marks who waits)."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {pid} " in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_signal_that_comes_while_the_run_starts_cancels_it(
    site: Site, number: signal.Signals, detach: list[str]
) -> None:
    """It is remembered until the run is known, whose end is waited for: exit status 4."""
    site.pipeline("slow", SLOW)
    counter = site.state.counter("slow")
    counter.parent.mkdir(parents=True)
    with counter.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = site.begin("run", "slow", *detach)
        until(lambda: waits_for_lock(process.pid))
        process.send_signal(number)
        fcntl.flock(held, fcntl.LOCK_UN)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, "cancelling; Ctrl-C again" in stderr) == (4, True)
    assert read_snapshot(site.latest()).status == "aborted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_detached_run_that_waits_for_its_turn_can_be_cancelled(
    site: Site, number: signal.Signals
) -> None:
    """Who asked for it still waits with it, and says 4 once it is cancelled."""
    site.pipeline("grp", GROUP)
    assert site.tailrace("run", "grp", "--detach").stdout == "grp/1\n"
    process = site.begin("run", "grp", "--detach")
    assert process.stdout is not None
    assert process.stdout.readline() == "grp/2\n"
    second = site.latest()
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 4
    assert read_snapshot(second).status == "aborted"
    assert not is_held(second.lock)
    assert site.tailrace("show", "grp/1", "--json").stdout.count('"status":"running"') == 2
