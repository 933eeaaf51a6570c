"""Ctrl-C and SIGTERM before a run is under way."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Site
from tailrace.rundir.lock import is_held, read_holder
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


def test_a_run_that_nobody_starts_any_more_is_told_and_can_be_cancelled(site: Site) -> None:
    """Who waited with it was killed, and no daemon runs that would go on with it."""
    site.pipeline("grp", GROUP)
    assert site.tailrace("run", "grp", "--detach").stdout == "grp/1\n"
    process = site.begin("run", "grp", "--detach")
    assert process.stdout is not None
    assert process.stdout.readline() == "grp/2\n"
    waiting = site.tailrace("cancel", "grp/2")
    assert (waiting.returncode, "waits for its group in another `tailrace`" in waiting.stderr) == (
        2, True,
    )  # fmt: skip
    process.kill()
    process.communicate()
    told = site.tailrace("tail", "grp/2")
    assert (told.returncode, "grp/2 is queued, and nobody executes it" in told.stderr) == (2, True)
    assert [site.tailrace("cancel", ref).returncode for ref in ("grp/2", "grp/1")] == [0, 0]
    site.tailrace("tail", "grp/1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_counts_also_where_nobody_reads_what_is_said(
    site: Site, number: signal.Signals
) -> None:
    """The run is cancelled, and the second signal leaves."""
    stubborn = "trap '' TERM; echo on; while :; do sleep 0.1; done"
    site.pipeline("slow", f'steps: {{a: {{run: "{stubborn}", grace: 60s}}}}\n')
    process = site.begin("run", "slow")
    assert process.stdout is not None
    assert process.stderr is not None
    while "on" not in process.stdout.readline():
        pass
    run = site.latest()
    process.stderr.close()
    process.send_signal(number)
    until(lambda: b'"event":"control"' in run.journal.read_bytes())
    process.send_signal(number)
    assert process.wait(timeout=20) == 130
    process.stdout.close()
    holder = read_holder(run.lock)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)  # or it would wait for the grace
    site.tailrace("tail", run.id)


def python(site: Site, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that uses the command line's own parts."""
    return subprocess.run(
        [sys.executable, "-c", script], env=site.env, cwd=site.folder, capture_output=True,
        text=True, timeout=40,
    )  # fmt: skip


EARLY = """
import contextlib, signal
from tailrace.cli.main import Globals
from tailrace.cli.run import _run
from tailrace.cli.session import Session, run_async
from tailrace.cli.source import Asked

class Interrupted(Session):
    @contextlib.asynccontextmanager
    async def source(self, *, local=False):
        async with super().source(local=local) as found:
            signal.raise_signal(signal.SIGINT)
            yield found

session = Interrupted(Globals())
run_async(_run(session, Asked(pipeline="slow"), local=True, detach=False, plain=True))
"""


def test_a_ctrl_c_just_before_starts_no_run(site: Site) -> None:
    """asyncio delivers it where somebody waits, which must not be behind the start."""
    site.pipeline("slow", SLOW)
    done = python(site, EARLY)
    assert "KeyboardInterrupt" in done.stderr
    assert list(site.state.runs.glob("*")) == []


AT_ONCE = """
import asyncio
from tailrace.cli.main import Globals
from tailrace.cli.session import Session
from tailrace.cli.source import Asked

async def work():
    async with Session(Globals()).source(local=True) as source:
        await source.start(Asked(pipeline="grp"))
        second, _ = await source.start(Asked(pipeline="grp"))
        await source.cancel(second)
        print((await source.view(second)).status)

asyncio.run(work())
"""


def test_a_run_is_cancelled_before_its_wait_has_begun(site: Site) -> None:
    """A task that is cancelled at once never runs; the run's lock is let go all the same."""
    site.pipeline("grp", GROUP)
    done = python(site, AT_ONCE)
    assert (done.stdout, done.stderr) == ("aborted\n", "")
