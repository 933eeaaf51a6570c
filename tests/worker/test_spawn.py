"""Starting runners: what they inherit, what they don't, and who outlives whom."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from tailrace.rundir.lock import is_held
from tailrace.runner.containment import children, is_alive
from tailrace.worker.prepared import Accepted
from tailrace.worker.spawn import ForkServer, ForkServerGoneError, spawn_runner
from tailrace.worker.submission import Submission
from yard import SECRET, Yard, until

Exits = list[tuple[int, int]]


@asynccontextmanager
async def fork_server(target: str) -> AsyncIterator[tuple[ForkServer, Exits]]:
    """A fork server whose children do *target*, and what it told of their ends."""
    exits: Exits = []
    server = ForkServer(lambda pid, status: exits.append((pid, status)), target=target)
    await server.start()
    try:
        yield server, exits
    finally:
        await server.close()


def accept(yard: Yard) -> Accepted:
    """Accept a run that has a secret."""
    yard.pipeline("hello", "true", secrets="[TOKEN]")
    return yard.acceptor().accept(Submission(pipeline="hello"))


async def spawn(server: ForkServer, accepted: Accepted) -> int:
    """Hand a run over, and let go of its lock."""
    pid = await server.spawn(accepted)
    os.close(accepted.lock_fd)
    return pid


@asynccontextmanager
async def ended(pid: int) -> AsyncIterator[None]:
    """Kill a process in the end."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not is_alive(pid), f"the end of {pid}")


async def test_a_forked_runner_has_the_lock_the_secrets_and_nothing_else(yard: Yard) -> None:
    """A session of its own, three standard streams and the lock; unreadable to its peers."""
    accepted = accept(yard)
    async with fork_server("runner_targets:report") as (server, _):
        pid = await spawn(server, accepted)
        async with ended(pid):
            report = accepted.run.path / "report"
            await until(report.exists, "the report")
            its_pid, session, is_the_lock, fds, secrets = report.read_text().split("\n")
            assert (int(its_pid), int(session)) == (pid, pid)
            assert is_the_lock == "True"
            assert len(fds.split(",")) == 5  # 0, 1, 2, the lock, and the listing itself
            assert secrets == f"TOKEN={SECRET}"
            assert is_held(accepted.run.lock)
            await until((accepted.run.path / "runner.log").read_bytes, "its output")
            environ = await asyncio.to_thread(_owner, f"/proc/{pid}/environ")
            assert environ == 0  # root's: it is undumpable


def _owner(path: str) -> int:
    return os.stat(path).st_uid  # noqa: PTH116 - a path of proc(5)


async def test_a_runner_outlives_the_fork_server_and_the_lock_stays_held(yard: Yard) -> None:
    """What waits ends with the daemon; what runs does not."""
    accepted = accept(yard)
    async with fork_server("runner_targets:report") as (server, _):
        pid = await spawn(server, accepted)
        server_pid = server.pid
    assert server_pid is not None
    async with ended(pid):
        assert not is_alive(server_pid)
        assert is_alive(pid)
        assert is_held(accepted.run.lock)
    assert not is_held(accepted.run.lock)


async def test_the_end_of_a_runner_is_told(yard: Yard) -> None:
    """With its exit status, or the signal that ended it."""
    async with fork_server("runner_targets:die") as (server, exits):
        pid = await spawn(server, accept(yard))
        await until(lambda: exits, "its end")
        assert exits == [(pid, 9)]
    async with fork_server("runner_targets:report") as (server, exits):
        pid = await spawn(server, accept(yard))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: exits, "its end")
        assert exits == [(pid, -signal.SIGKILL)]


async def test_a_killed_fork_server_is_told_and_can_be_started_again(yard: Yard) -> None:
    """Whoever waits for an answer gets an error, and the next start helps."""
    accepted = accept(yard)
    async with fork_server("runner_targets:report") as (server, _):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ForkServerGoneError):
            await server.spawn(accepted)
        await server.start()
        pid = await spawn(server, accepted)
        async with ended(pid):
            assert is_held(accepted.run.lock)


async def test_who_starts_it_at_once_starts_one() -> None:
    """Requests that come while the daemon starts, or two runs that find it gone."""
    before = set(children(os.getpid()))
    server = ForkServer(lambda *_: None, target="runner_targets:report")
    try:
        await asyncio.gather(*(server.start() for _ in range(3)))
        assert set(children(os.getpid())) - before == {server.pid}
    finally:
        await server.close()


async def test_a_hand_over_of_megabytes_arrives_whole(yard: Yard) -> None:
    """Far beyond a socket's buffer, several at once."""

    def big(number: int) -> Accepted:
        accepted = accept(yard)
        secrets = {"BIG": str(number) * 3_000_000}
        return Accepted(
            run=accepted.run,
            run_file=accepted.run_file,
            lock_fd=accepted.lock_fd,
            handover=msgspec.structs.replace(accepted.handover, secrets=secrets),
        )

    async with fork_server("runner_targets:report") as (server, _):
        runs = [big(number) for number in range(3)]
        pids = await asyncio.gather(*(spawn(server, run) for run in runs))
        try:
            for number, run in enumerate(runs):
                report = run.run.path / "report"
                await until(report.exists, "the report")
                assert report.read_text().split("\n")[4] == f"BIG={str(number) * 3_000_000}"
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: not any(map(is_alive, pids)), "their ends")


async def test_a_runner_that_is_started_cold_does_the_same(yard: Yard) -> None:
    """As `tailrace run` does without a daemon."""
    yard.pipeline("hello", 'test "$TOKEN" = tok-5ecret-value', secrets="[TOKEN]")
    accepted = yard.acceptor().accept(Submission(pipeline="hello"))
    process = spawn_runner(accepted)
    assert is_held(accepted.run.lock)
    assert await asyncio.to_thread(process.wait) == 0
    assert yard.last(accepted.run.id).status == "success"
    assert not is_held(accepted.run.lock)
