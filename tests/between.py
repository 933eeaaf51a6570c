"""What stands between a browser and a daemon: connections that break, pages of other origins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def breaking_proxy(
    target: str, *, after: int, times: int, requests: bytes = b"GET /ops/"
) -> AsyncIterator[str]:
    """Pass TCP through to *target*; the first *times* streams break after so many bytes.

    Streams are what is asked for by a request that begins with one of *requests*,
    separated by commas.
    """
    host, port = target.rsplit(":", 1)
    left = times
    connections: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int) -> None:
        try:
            while most > 0 and (data := await reader.read(min(most, 1 << 16))):
                most -= len(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the other side sees it by the close
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()  # browsers connect beforehand, and may ask nothing
            return
        there, away = await asyncio.open_connection(host, int(port))
        # One request a connection, so that each is looked at.
        away.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        breaks = head.startswith(tuple(requests.split(b","))) and left > 0
        left -= breaks
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(there, writer, after if breaks else 1 << 60))
            tasks.create_task(pump(reader, away, 1 << 60))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


@asynccontextmanager
async def page_server(pages: Mapping[str, str]) -> AsyncIterator[str]:
    """Serve HTML by path, on an origin of its own; give the origin."""

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path not in pages:
            raise web.HTTPNotFound
        return web.Response(text=pages[request.path], content_type="text/html")

    server = web.Server(answer)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        await server.shutdown(timeout=1)
