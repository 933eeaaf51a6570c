"""The MCP servers of the settings: asked by a real handshake, and remembered for a while."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from tailrace import wire
from tailrace.settings import McpServer, Settings

TIMEOUT_S: Final = 10.0  # of a handshake; some servers are fetched first
_ALIVE_S: Final = 30.0  # so long a server that answered counts as alive
_DEAD_S: Final = 5.0  # and so long one that didn't as dead: somebody may be repairing it
_CLEANING_S: Final = 5.0  # for the process to end what the server left
_MOST_ANSWER: Final = 4 << 20  # bytes; a thousand names of tools are less
_AT_ONCE: Final = 8


class McpServers:
    """Which servers answer, by one version of the settings.

    ``mask`` is applied to what servers say of themselves. ``timeout_s`` bounds
    each handshake; tests set it.
    """

    def __init__(
        self, settings: Settings, mask: Callable[[str], str], *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._servers = settings.mcp
        self._step_env = settings.step_env
        self._mask = mask
        self._timeout_s = timeout_s
        self._known: dict[str, tuple[float, wire.McpHealth]] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._few = asyncio.Semaphore(_AT_ONCE)

    def known(self, name: str) -> wire.McpHealth | None:
        """Return what the last look found, however long ago; None where there was none."""
        found = self._known.get(name)
        return found[1] if found else None

    async def look(self, names: Iterable[str], *, fresh: bool = False) -> list[wire.McpHealth]:
        """Ask those servers, at once, unless they were asked a moment ago; with *fresh* anyway.

        Names that the settings don't have are left out. Being cancelled ends
        the handshakes under way; no process stays.
        """
        wanted = [name for name in dict.fromkeys(names) if name in self._servers]
        since = time.monotonic() if fresh else None
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(self._look(name, since), name=f"ask MCP server {name}")
                for name in wanted
            ]
        return [task.result() for task in asked]

    async def _look(self, name: str, since: float | None) -> wire.McpHealth:
        """Return what is known if it is new enough (from *since* on, if given), else ask."""
        async with self._asking[name]:
            known = self._known.get(name)
            if known is not None:
                at, health = known
                keeps_s = _ALIVE_S if health.alive else _DEAD_S
                if at >= (since if since is not None else time.monotonic() - keeps_s):
                    return health
            async with self._few:
                health = await self._ask(name)
            self._known[name] = time.monotonic(), health
            return health

    async def _ask(self, name: str) -> wire.McpHealth:
        try:
            answer = await _shake_hands(self._servers[name], self._step_env, self._timeout_s)
        except (OSError, msgspec.MsgspecError, TimeoutError) as exc:
            error = f"it couldn't be asked: {str(exc) or 'no answer came in time'}"
            answer = _Answer(alive=False, error=error)
        return wire.McpHealth(
            name=name,
            alive=answer.alive,
            tools=tuple(answer.tools),
            error=None if answer.error is None else self._mask(answer.error),
        )


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What ``python -m tailrace.handshake`` says."""

    alive: bool
    tools: list[str] = []
    error: str | None = None


class _Question(msgspec.Struct, frozen=True, kw_only=True):
    """What it is asked."""

    command: tuple[str, ...]
    url: str | None
    step_env: dict[str, str]
    timeout_s: float


async def _shake_hands(server: McpServer, step_env: dict[str, str], timeout_s: float) -> _Answer:
    """Ask by a process of its own, which is gone with all it started when this returns."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "tailrace.handshake",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    question = _Question(
        command=server.command, url=server.url, step_env=step_env, timeout_s=timeout_s
    )
    try:
        async with asyncio.timeout(timeout_s + _CLEANING_S):
            process.stdin.write(msgspec.json.encode(question) + b"\n")
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            data = b""
            while len(data) < _MOST_ANSWER and (read := await process.stdout.read(_MOST_ANSWER)):
                data += read
            await process.wait()
            return msgspec.json.decode(data, type=_Answer)
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Have the process end what it started, and wait for that."""
    assert process.stdin is not None
    process.stdin.close()
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_CLEANING_S):
            await process.wait()
    except TimeoutError:  # it hangs in a look-up of names, and has started nothing
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
