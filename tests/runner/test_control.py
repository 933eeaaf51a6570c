"""The control socket: what is said there is answered, and it ends with the run."""

from __future__ import annotations

import asyncio
import os

import pytest

from runs import accept, executing, plan_of, script
from tailrace import wire
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.runner.control import serve_control

HELLO = wire.encode_json(wire.Command(command="hello")) + b"\n"


async def connect(run: RunDir) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to whoever executes the run."""
    folder = os.open(run.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{run.control.name}")
    finally:
        os.close(folder)


async def test_a_connection_ends_with_the_run_and_leaves_no_trace(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever keeps it open learns of the end at once; the runner's log says nothing of it."""
    run = accept(state, plan_of(script("work", "echo up; until test -e go; do sleep 0.01; done")))
    async with executing(run) as execution:
        await execution.until("log", step="work")
        reader, writer = await connect(run)
        writer.write(HELLO)
        assert b'"done"' in await reader.readline()
        (state.workspace(run.id) / "go").touch()
        assert await reader.read() == b""
        writer.close()
        await execution.wait()

    assert execution.told()[-1]["status"] == "success"
    assert capfd.readouterr().err == ""


async def test_a_connection_that_waits_for_its_answer_is_closed_with_the_socket(
    state: StateDir,
) -> None:
    """Nothing of a conversation outlives the context that serves it."""
    run = accept(state, plan_of(script("never", ":")))
    asked, ended = asyncio.Event(), asyncio.Event()
    never: asyncio.Future[wire.Reply] = asyncio.get_running_loop().create_future()

    async def handle(command: wire.Command) -> wire.Reply:
        asked.set()
        try:
            return await never
        finally:
            ended.set()

    async with serve_control(run, handle):
        reader, writer = await connect(run)
        writer.write(HELLO)
        await asked.wait()
    assert ended.is_set()
    assert await reader.read() == b""
    writer.close()


async def test_a_line_without_an_end_closes_its_connection_only(state: StateDir) -> None:
    """The next one is answered as ever."""
    run = accept(state, plan_of(script("never", ":")))

    async def handle(command: wire.Command) -> wire.Reply:
        return wire.Reply(status="done")

    async with serve_control(run, handle):
        endless, writer = await connect(run)
        writer.write(b"x" * (1 << 17))
        assert await endless.read() == b""
        writer.close()
        reader, writer = await connect(run)
        writer.write(HELLO)
        assert b'"done"' in await reader.readline()
        writer.close()
