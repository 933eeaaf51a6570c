"""What the daemon takes from a service manager and tells it, without one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import TAILRACE, Site
from daemons import serving
from runs import eventually
from tailrace.systemd import ServiceManager


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    """What a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        yield manager


def environment(told: socket.socket, **more: str) -> dict[str, str]:
    """What the manager puts into a service's environment."""
    return {"NOTIFY_SOCKET": told.getsockname(), **more}


def test_what_a_manager_gives_is_taken_out_of_the_environment(told: socket.socket) -> None:
    """Children would believe that they are meant; so does a process that isn't."""
    ours = environment(
        told, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()), LISTEN_PID="1",
        LISTEN_FDS="1", LISTEN_FDNAMES="x", KEPT="yes",
    )  # fmt: skip
    manager = ServiceManager.take(ours)
    assert ours == {"KEPT": "yes"}
    assert (manager.watchdog_s, manager.sockets) == (3.0, ())
    manager.tell(STATUS="one\nREADY=1", ERRNO=2)
    assert told.recv(100) == b"STATUS=one READY=1\nERRNO=2"
    others = environment(told, WATCHDOG_USEC="3000000", WATCHDOG_PID="1")
    assert ServiceManager.take(others).watchdog_s is None
    nobody = ServiceManager.take({})
    nobody.tell(READY=1)


async def test_the_watchdog_is_fed_by_the_loop_itself(told: socket.socket) -> None:
    """Twice as often as it asks for; not while the loop is stuck; with news of the status."""
    told.setblocking(False)
    loop = asyncio.get_running_loop()
    manager = ServiceManager.take(environment(told, WATCHDOG_USEC="100000"))
    status, stopping = "idle", False
    telling = asyncio.create_task(manager.keep_told(lambda: status, lambda: stopping))
    async with asyncio.timeout(30):
        began = loop.time()
        assert await loop.sock_recv(told, 100) == b"WATCHDOG=1\nSTATUS=idle"
        assert await loop.sock_recv(told, 100) == b"WATCHDOG=1"
        assert loop.time() - began >= 0.045
        with contextlib.suppress(BlockingIOError):  # one may have come in the same turn
            told.recv(100)
        time.sleep(0.2)  # noqa: ASYNC251 - the stuck loop
        with pytest.raises(BlockingIOError):
            told.recv(100)
        status, stopping = "busy", True
        said = await loop.sock_recv(told, 100)
        assert said == b"WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000\nSTATUS=busy"
    telling.cancel()


def test_a_daemon_tells_its_manager_how_it_goes(site: Site, told: socket.socket) -> None:
    """Ready when it answers, reloading with the time, stopping; its children hear nothing of it."""
    env = site.env | environment(told)
    with subprocess.Popen(
        [*TAILRACE, "serve", "--listen", "127.0.0.1:0"], env=env, cwd=site.folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as daemon:  # fmt: skip
        try:
            assert told.recv(200) == b"READY=1"
            address = site.state.address.read_text().strip()
            status = told.recv(200).decode()
            assert status == f"STATUS={address} and {site.state.socket}; 0 runs live, 0 queued"
            before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            daemon.send_signal(signal.SIGHUP)
            reloading, at = told.recv(200).decode().split("\n")
            assert reloading == "RELOADING=1"
            assert int(at.removeprefix("MONOTONIC_USEC=")) >= before_us
            assert told.recv(200) == b"READY=1"
            daemon.terminate()
            assert told.recv(200) == b"STOPPING=1"
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()


# Becomes the daemon with a socket at descriptor 3, as systemd does it.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
env = os.environ | {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "front"}
os.execve(sys.executable, [sys.executable, "-m", "tailrace.cli.main", "serve"], env)
"""


def hand_over(site: Site, handed: socket.socket) -> subprocess.Popen[str]:
    """Start a daemon that is handed a socket."""
    return subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, str(handed.fileno())], env=site.env, cwd=site.folder,
        pass_fds=[handed.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_socket_that_was_handed_over_is_served_and_left_open(site: Site) -> None:
    """Who connects before the daemon is there, or after it stopped, waits for the next one."""
    with socket.create_server(("127.0.0.1", 0)) as handed:
        address = "{}:{}".format(*handed.getsockname())

        def ask() -> socket.socket:
            client = socket.create_connection(handed.getsockname(), 30)
            client.sendall(f"GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            return client

        for _ in range(2):
            with ask() as early, hand_over(site, handed) as daemon:
                try:
                    assert early.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
                    assert site.state.address.read_text().strip() == address
                    daemon.terminate()
                    assert daemon.wait(30) == 0
                finally:
                    daemon.kill()


def test_what_is_no_listening_socket_is_refused(site: Site) -> None:
    """With what to do about it."""
    with socket.socket() as handed, hand_over(site, handed) as daemon:
        _, said = daemon.communicate(timeout=30)
    assert daemon.returncode == 2
    assert "descriptor 3 (front): was handed over and is no stream socket that listens" in said


async def test_a_daemon_may_cancel_its_runs_when_it_stops(tmp_path: Path) -> None:
    """Those under way, with their last steps; what waits goes on waiting."""
    pipelines = {
        "long": "steps:\n  long: {run: 'echo on; sleep 600'}\n"
        "  last: {needs: long, when: always(), run: 'echo cleaned'}\n"
    }
    async with serving(
        tmp_path, pipelines, settings="max_runs: 1\n", args=("--on-stop", "cancel")
    ) as daemon:
        live, waiting = [(await daemon.start("long"))["id"] for _ in range(2)]
        log = daemon.state.run(live).log("long", 1)
        await eventually(lambda: log.exists() and log.read_text() == "on\n")
        daemon.process.terminate()
        assert await daemon.process.wait() == 0
    events = [json.loads(x) for x in daemon.state.run(live).journal.read_text().splitlines()]
    assert events[-1]["event"] == "aborted"
    assert events[-1]["reason"] == "the daemon stops"
    assert daemon.state.run(live).log("last", 1).read_text() == "cleaned\n"
    last = json.loads(daemon.state.run(waiting).journal.read_text().splitlines()[-1])
    assert last["event"] == "queued"


def test_a_journal_is_told_priorities(tmp_path: Path) -> None:
    """In front of each line, where standard error is the journal's; never elsewhere."""
    code = (
        "import os, structlog\n"
        "here = os.fstat(2)\n"
        "os.environ['JOURNAL_STREAM'] = f'{here.st_dev}:{here.st_ino + SHIFT}'\n"
        "from tailrace.logs import set_up_logs\n"
        "from tailrace.settings import Log\n"
        "set_up_logs(Log(level='debug'))\n"
        "log = structlog.get_logger('tailrace.test')\n"
        "for level in ('debug', 'info', 'warning', 'error'):\n"
        "    getattr(log, level)(level)\n"
    )
    for shift, expected in ((0, ["<7>", "<6>", "<4>", "<3>"]), (1, ["", "", "", ""])):
        with open(tmp_path / "stderr", "w+") as stream:
            argv = [sys.executable, "-c", code.replace("SHIFT", str(shift))]
            subprocess.run(argv, stderr=stream, check=True)
            stream.seek(0)
            assert [line.partition("{")[0] for line in stream] == expected
