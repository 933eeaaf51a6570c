"""The runner's end of ``control.sock``: one JSON line in, one JSON line out."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec

from tailrace import wire
from tailrace.rundir.layout import RunDir

_MAX_LINE: Final = 1 << 16

Handler = Callable[[wire.Command], Awaitable[wire.Reply]]


@contextlib.asynccontextmanager
async def serve_control(run: RunDir, handle: Handler) -> AsyncIterator[None]:
    """Answer commands while the context lasts; socket and connections are closed at its end.

    A Unix socket's address holds 107 bytes, so it is bound through the folder's
    descriptor (unix(7)).

    Raises:
        OSError: the socket can't be bound.
    """
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_converse(reader, writer, handle), name="control connection")
        connections.add(task)
        task.add_done_callback(connections.discard)

    run.control.unlink(missing_ok=True)
    folder = os.open(run.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        server = await asyncio.start_unix_server(
            connected, f"/proc/self/fd/{folder}/{run.control.name}", limit=_MAX_LINE
        )
    finally:
        os.close(folder)
    try:
        yield
    finally:
        server.close()
        run.control.unlink(missing_ok=True)
        for connection in connections:
            connection.cancel()
        if connections:
            await asyncio.wait(connections)


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler
) -> None:
    try:
        while line := await _next_line(reader):
            writer.write(wire.encode_json(await _answer(line, handle)) + b"\n")
            with contextlib.suppress(ConnectionError):  # gone: the next read tells
                await writer.drain()
    finally:
        writer.close()


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except (ConnectionError, ValueError):  # gone, or a line without an end
        return b""


_decoder: Final = msgspec.json.Decoder(wire.Command)


async def _answer(line: bytes, handle: Handler) -> wire.Reply:
    try:
        command = _decoder.decode(line)
    except msgspec.MsgspecError as exc:
        return wire.Reply(status="invalid", reason=f"not a command: {exc}")
    return await handle(command)
