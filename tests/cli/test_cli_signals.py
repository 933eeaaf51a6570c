"""When the daemon takes signals: always."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Site
from tailrace.cli.signals import Signals


@pytest.fixture
def signals() -> Iterator[Signals]:
    """The signals, taken; afterwards they are as they were."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    with Signals() as taken:
        yield taken
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_what_came_before_anybody_asked_is_remembered(signals: Signals) -> None:
    """Several hang-ups are one; a stop goes first, and stays."""
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)
    assert await signals.next() == "reload"
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)
    assert await signals.next() == "stop"
    assert await signals.next() == "stop"


async def test_a_signal_ends_the_wait(signals: Signals) -> None:
    """An idle loop wakes up for it."""
    for number, wish in ((signal.SIGHUP, "reload"), (signal.SIGINT, "stop")):
        waiting = asyncio.ensure_future(signals.next())
        await asyncio.sleep(0)  # it waits
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            assert await waiting == wish


def catches(pid: int, number: int) -> bool:
    """Whether a process handles or ignores that signal (proc(5), ``status``)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, mask = line.partition(":\t")
            if name in ("SigCgt", "SigIgn") and int(mask, 16) >> (number - 1) & 1:
                return True
    return False


def test_a_daemon_takes_hangups_while_it_starts_and_stops(site: Site) -> None:
    """From when it takes them at all they never end it, from its imports to its last moment."""
    with site.begin("serve", "--listen", "127.0.0.1:0") as daemon:
        try:
            deadline = time.monotonic() + 30
            while not catches(daemon.pid, signal.SIGHUP):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            while not site.state.address.exists():
                assert time.monotonic() < deadline
                daemon.send_signal(signal.SIGHUP)
                time.sleep(0.001)
            daemon.terminate()
            while daemon.poll() is None:
                assert time.monotonic() < deadline
                if catches(daemon.pid, signal.SIGHUP):
                    daemon.send_signal(signal.SIGHUP)
                time.sleep(0.001)
            assert daemon.returncode == 0
        finally:
            daemon.kill()
        assert daemon.stderr is not None
        said = daemon.stderr.read()
    assert '"stopping"' in said
    assert "Traceback" not in said


def test_a_daemon_that_is_told_to_stop_while_it_starts_stops(site: Site) -> None:
    """In order: it leaves neither address nor socket."""
    with site.begin("serve", "--listen", "127.0.0.1:0") as daemon:
        try:
            deadline = time.monotonic() + 30
            while not catches(daemon.pid, signal.SIGTERM):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            daemon.terminate()
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
    assert not site.state.address.exists()
    assert not site.state.socket.exists()
