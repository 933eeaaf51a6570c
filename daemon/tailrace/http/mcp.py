"""``/mcp``: the Model Context Protocol over streamable HTTP.

The SDK speaks ASGI and we speak aiohttp; a request is handed over whole, and
so is its answer. Each stands for itself: the protocol's sessions would bind a
client to this daemon's memory, and a restart would lose them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import structlog
from aiohttp import hdrs, web

from tailrace.http.keys import HERE
from tailrace.http.mcp_runs import RequestRuns
from tailrace.http.problems import RefusedError, problem
from tailrace.http.requests import parameters
from tailrace.http.route import Answer, Route
from tailrace.mcp.installed import NotInstalledError, import_server

log = structlog.get_logger(__name__)

PATH: Final = "/mcp"
_OURS: Final = "tailrace.request"  # where an ASGI scope holds the request as we know it
_HOP_BY_HOP: Final = frozenset({"content-length", "transfer-encoding", "connection"})


class Endpoint:
    """The SDK's end, which begins with the first request: it costs half a second and memory."""

    def __init__(self) -> None:
        self._ready: asyncio.Future[Any] | None = None  # the SDK's manager, which may be missing
        self._running: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def manager(self) -> Any:
        """Return the SDK's manager, started; where that fails, the next call tries again.

        Raises:
            NotInstalledError: the extra ``mcp`` is missing.
        """
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._ready), name="mcp")
        # Shielded: a client that goes away cancels its request, and others wait for the same.
        return await asyncio.shield(self._ready)

    async def _run(self, ready: asyncio.Future[Any]) -> None:
        try:
            module = await asyncio.to_thread(import_server)
            manager = module.make_http_manager(open_runs)
            # Its task group must be entered and left by the same task.
            async with manager.run():
                ready.set_result(manager)
                await self._stop.wait()
        except Exception as exc:  # a task's root: told to whoever waits, else logged
            self._ready = None
            if ready.done():
                log.exception("mcp_ended")
            else:
                ready.set_exception(exc)

    async def close(self) -> None:
        """End what is still being answered."""
        self._stop.set()
        if self._running is not None:
            await self._running


@contextlib.asynccontextmanager
async def open_runs(request: Any) -> AsyncIterator[RequestRuns]:
    """Give the runs that the SDK's request, which was one of ours, may see."""
    yield RequestRuns(request.scope[_OURS])


ENDPOINT: Final = web.AppKey("mcp", Endpoint)


async def endpoint(app: web.Application) -> AsyncIterator[None]:
    """Keep the SDK's end for as long as the application serves."""
    app[ENDPOINT] = Endpoint()
    yield
    await app[ENDPOINT].close()


async def exchange(request: web.Request) -> web.StreamResponse:
    """Answer one message."""
    parameters(request)
    try:
        manager = await request.app[ENDPOINT].manager()
    except NotInstalledError as exc:
        raise RefusedError(501, str(exc)) from None
    body = await request.read()
    answer = _Answer()
    # A daemon that stops ends what waits, as it does with streams.
    task = asyncio.current_task()
    assert task is not None
    request.app[HERE].streams.add(task)
    try:
        await manager.handle_request(_scope(request), _receiver(body), answer.take)
    finally:
        request.app[HERE].streams.discard(task)
    return answer.response()


def _scope(request: web.Request) -> dict[str, Any]:
    """Return the request as ASGI tells it (ASGI, HTTP connection scope)."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.rel_url.raw_path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": None,
        "server": None,
        _OURS: request,
    }


def _receiver(body: bytes) -> Any:
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        # A client that goes away cancels the handler, and whoever waits here with it.
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    return receive


class _Answer:
    """Gathers what the SDK sends; answers are JSON, whole and small."""

    def __init__(self) -> None:
        self._status = 500
        self._headers: list[tuple[str, str]] = []
        self._body = b""

    async def take(self, message: Any) -> None:
        """Take an ASGI message."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in message.get("headers", ())
                if name.decode("latin-1").lower() not in _HOP_BY_HOP
            ]
        else:
            self._body += message.get("body", b"")

    def response(self) -> web.Response:
        """Return the answer; a refusal of the SDK's that names no media type is made a problem."""
        if self._status >= 400 and not any(
            name.lower() == "content-type" for name, _ in self._headers
        ):
            return problem(self._status, self._body.decode("utf-8", "replace"))
        response = web.Response(status=self._status, body=self._body)
        for name, value in self._headers:
            response.headers[name] = value
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        return response


ROUTES: Final = (
    Route(
        method="POST",
        path=PATH,
        handler=exchange,
        summary="Speak the Model Context Protocol (streamable HTTP, one message a request)",
        scope="read",
        answers=(
            Answer(200, "the answer, as JSON-RPC"),
            Answer(202, "a notification was taken", media=""),
        ),
    ),
)
