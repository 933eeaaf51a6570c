"""Asking a runner: the client's end of ``control.sock``."""

from __future__ import annotations

import asyncio
import os

import msgspec

from tailrace import wire
from tailrace.rundir.layout import RunDir

_decoder = msgspec.json.Decoder(wire.Reply)


async def send_command(run: RunDir, command: wire.Command, *, timeout_s: float = 5.0) -> wire.Reply:
    """Send one command to the run's runner and return its answer.

    Raises:
        ConnectionError: there is no runner, or it went before it answered.
        TimeoutError: it didn't answer in time.
    """
    try:
        folder = os.open(run.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ConnectionRefusedError(f"there is no run folder {run.path}") from None
    try:
        async with asyncio.timeout(timeout_s):
            try:
                # Through the folder's descriptor: an address holds 107 bytes (unix(7)).
                reader, writer = await asyncio.open_unix_connection(
                    f"/proc/self/fd/{folder}/{run.control.name}"
                )
            except FileNotFoundError:
                raise ConnectionRefusedError(f"no runner answers for {run.id}") from None
            try:
                writer.write(wire.encode_json(command) + b"\n")
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
    finally:
        os.close(folder)
    if not line.endswith(b"\n"):
        raise ConnectionResetError(f"the runner of {run.id} went before it answered")
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError as exc:
        raise ConnectionError(f"the runner of {run.id} answered wrongly: {exc}") from None
