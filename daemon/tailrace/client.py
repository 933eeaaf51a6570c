"""The daemon's HTTP API as a client sees it, over TCP or its Unix socket.

A stream that breaks is taken up again behind the last event that arrived, so
that its user sees every event once. Whatever goes wrong is an error of
`tailrace.errors`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from tailrace import wire
from tailrace.core.events import LAST_EVENTS
from tailrace.errors import (
    ConflictError,
    InvalidInputError,
    Problem,
    UnavailableError,
    UnknownError,
    UnreachableError,
)

T = TypeVar("T")

_SILENCE_S: Final = 45.0  # the stream has a comment every 15 s
_CHUNK: Final = 1 << 18
_LATE_S: Final = 1.0  # by which a stream may fall behind
_KEPT_LINES: Final = 200  # of output, when it is caught up with
RECONNECT_S: Final = (0.1, 0.3, 1.0, 2.0, 3.0, 4.0)  # waits; a daemon's restart takes a second


class Client:
    """Speaks to one daemon; an async context manager.

    ``where`` is a URL, or the path of a Unix socket. ``reconnect_s`` are the
    waits between attempts to take a broken stream up again.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        token: str | None = None,
        reconnect_s: Sequence[float] = RECONNECT_S,
    ) -> None:
        self.where = str(where)
        self._socket = where if isinstance(where, Path) else None
        self._base = "http://localhost" if self._socket else _checked(str(where))
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._reconnect_s = tuple(reconnect_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        """Make ready; nothing is sent yet."""
        connector = aiohttp.UnixConnector(str(self._socket)) if self._socket else None
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=60, sock_connect=10),
            read_bufsize=_CHUNK,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close all connections."""
        assert self._session is not None
        await self._session.close()

    # ---- single requests ---------------------------------------------------------------------

    async def _ask(
        self, method: str, path: str, answer: type[T], *, body: Any = None, key: str | None = None
    ) -> T:
        """Send a request and return its answer.

        One that changes nothing twice (a GET, or with *key*) is sent again
        where the connection broke.
        """
        headers = {"Idempotency-Key": key} if key else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = wire.encode_json(body) if body is not None else None
        tries = len(self._reconnect_s) if method == "GET" or key else 0
        for attempt in range(tries + 1):
            try:
                async with self._request(method, path, headers=headers, data=data) as response:
                    return _decoded(await response.read(), answer, self.where)
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as exc:
                refused = isinstance(exc, aiohttp.ClientConnectorError)
                if attempt == tries or (refused and attempt == 0):
                    raise self._unreachable(exc) from None
                await asyncio.sleep(self._reconnect_s[attempt])
        raise AssertionError

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        extra: dict[str, Any] = {"timeout": timeout} if timeout else {}
        async with self._session.request(
            method, self._base + path, headers=headers, data=data, allow_redirects=False, **extra
        ) as response:
            if response.status >= 300:
                raise _refusal(response.status, response.headers, await response.read(), self.where)
            yield response

    def _unreachable(self, exc: BaseException) -> UnreachableError:
        reason = str(exc) or type(exc).__name__
        if isinstance(exc, aiohttp.ClientConnectorError):
            reason = (exc.os_error.strerror or str(exc.os_error)) if exc.os_error else reason
        return UnreachableError(
            f"the daemon at {self.where} can't be reached: {reason}; is it running?"
        )

    async def start(
        self, pipeline: str, params: dict[str, Any], depth: str | None, *, keep_workspace: bool,
        on_disconnect: Literal["continue", "cancel"] | None = None,
    ) -> tuple[str | None, str | None]:  # fmt: skip
        """Start a run; return its id, or None and why there is none (``on_conflict: skip``)."""
        body = wire.StartRun(
            pipeline=pipeline, params=params, depth=depth, keep_workspace=keep_workspace,
            on_disconnect=on_disconnect,
        )  # fmt: skip
        answer = await self._ask(
            "POST", "/api/v1/runs", dict[str, Any], body=body, key=uuid.uuid4().hex
        )
        if "run" in answer and answer["run"] is None:
            return None, str(answer.get("reason") or "")
        return str(answer["id"]), None

    async def retry(self, run_id: str, start: str) -> str:
        """Repeat a run; return the new one's id."""
        body = wire.RetryBody(from_=start)
        path = f"/api/v1/runs/{run_id}/retry"
        answer = await self._ask("POST", path, dict[str, Any], body=body, key=uuid.uuid4().hex)
        return str(answer["id"])

    async def view(self, run: str) -> wire.RunView:
        """Return a run's state; *run* is an id, a ref or a prefix."""
        return await self._ask("GET", f"/api/v1/runs/{quote(run, safe='/')}", wire.RunView)

    async def page(
        self, *, pipeline: str | None, status: str | None, limit: int, cursor: str | None
    ) -> tuple[list[wire.RunSummary], str | None]:
        """Return runs, newest first, and the cursor of the next page."""
        given = {"pipeline": pipeline, "status": status, "limit": limit, "cursor": cursor}
        query = "&".join(f"{k}={quote(str(v), safe='')}" for k, v in given.items() if v is not None)
        page = await self._ask("GET", f"/api/v1/runs?{query}", wire.RunList)
        return list(page.runs), page.next_cursor

    async def cancel(self, run_id: str, reason: str | None = None) -> None:
        """Cancel a run."""
        await self._steer(run_id, "cancel", wire.CancelBody(reason=reason))

    async def pause(self, run_id: str) -> None:
        """Freeze a run."""
        await self._steer(run_id, "pause")

    async def resume(self, run_id: str) -> None:
        """Go on with a paused run."""
        await self._steer(run_id, "resume")

    async def answer(self, run_id: str, prompt: str, answer: str) -> None:
        """Answer a prompt."""
        path = f"answers/{quote(prompt, safe='')}"
        await self._steer(run_id, path, wire.AnswerBody(answer=answer))

    async def progress(self, run_id: str, body: wire.ProgressBody) -> None:
        """Tell how far a step is; without a key: what was lost, a later one makes up for."""
        await self._ask("POST", f"/api/v1/runs/{run_id}/progress", Any, body=body)

    async def skip(self, run_id: str, step: str, reason: str | None = None) -> None:
        """Skip a step."""
        path = f"steps/{quote(step, safe='')}/skip"
        await self._steer(run_id, path, wire.CancelBody(reason=reason))

    async def extend(self, run_id: str, step: str, by: str) -> None:
        """Give a step's attempt more time; *by* is a duration such as ``10m``."""
        await self._steer(run_id, f"steps/{quote(step, safe='')}/extend", wire.ExtendBody(by=by))

    async def _steer(self, run_id: str, what: str, body: Any = None) -> None:
        # With a key, so that asking again after a broken connection does it once.
        key = uuid.uuid4().hex
        await self._ask("POST", f"/api/v1/runs/{run_id}/{what}", Any, body=body, key=key)

    async def delete(self, run_id: str) -> None:
        """Delete a run."""
        await self._ask("DELETE", f"/api/v1/runs/{run_id}", Any)

    async def pipelines(self) -> list[wire.PipelineView]:
        """Return the pipelines."""
        return list((await self._ask("GET", "/api/v1/pipelines", wire.PipelineList)).pipelines)

    async def pipeline(self, name: str) -> wire.PipelineView:
        """Return one pipeline."""
        return await self._ask(
            "GET", f"/api/v1/pipelines/{quote(name, safe='')}", wire.PipelineView
        )

    async def doctor(self, pipelines: Sequence[str] = ()) -> wire.DoctorReport:
        """Have the daemon look whether it can do what these pipelines ask for; all by default."""
        query = f"?pipelines={quote(','.join(pipelines), safe='')}" if pipelines else ""
        return await self._ask("GET", f"/api/v1/doctor{query}", wire.DoctorReport)

    async def artifact(self, run_id: str, name: str) -> AsyncIterator[bytes]:
        """Give an artifact's bytes."""
        path = f"/api/v1/runs/{run_id}/artifacts/{quote(name)}?download=1"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        try:
            async with self._request("GET", path, timeout=timeout) as response:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    yield chunk
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as exc:
            raise self._unreachable(exc) from None

    # ---- streams -----------------------------------------------------------------------------

    async def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        tail: int | None = None,
        step: str | None = None,
        skip_late: bool = False,
    ) -> AsyncGenerator[list[wire.Frame], None]:
        """Give a run's events, until the last one; a broken stream is taken up again.

        With *skip_late* output is left out, and no other event, where it comes
        too fast for us: for a view that shows what is printed now.

        Raises:
            UnreachableError: it broke, and the daemon stayed away for as long
                as ``reconnect_s`` waits together.
        """
        seq, failures = after, 0
        lateness = Lateness()
        while True:
            query = f"after={seq}" if seq or tail is None else f"tail={tail}"
            if lateness.is_late:
                query = f"tail={_KEPT_LINES}"
                lateness = Lateness()
            query += f"&step={quote(step, safe='')}" if step else ""
            path = f"/api/v1/runs/{run_id}/events?{query}"
            problem: BaseException = ConnectionError("the stream ended before the run")
            try:
                async with contextlib.aclosing(self._stream(path)) as stream:
                    async for frames in stream:
                        fresh = [frame for frame in frames if frame.seq > seq]
                        if not fresh:
                            continue
                        seq, failures = fresh[-1].seq, 0
                        yield fresh
                        if fresh[-1].event in LAST_EVENTS:
                            return
                        if skip_late and lateness.take(fresh[-1], time.time()):
                            break
                if lateness.is_late:
                    continue
            except _EndedError:
                return
            except UnavailableError as exc:
                problem = exc
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as exc:
                problem = exc
            if failures >= len(self._reconnect_s):
                lost = self._unreachable(problem)
                raise UnreachableError(f"{lost} the run goes on without us, seen up to event {seq}")
            await asyncio.sleep(self._reconnect_s[failures])
            failures += 1

    async def _stream(self, path: str) -> AsyncGenerator[list[wire.Frame], None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE_S)
        headers = {"Accept": "text/event-stream"}
        async with self._request("GET", path, headers=headers, timeout=timeout) as response:
            if response.status == 204:
                raise _EndedError
            parser = SseParser()
            async for chunk in response.content.iter_any():
                if blocks := parser.feed(chunk):
                    yield [_frame(data, self.where) for data in blocks]


class Lateness:
    """Tells when a stream's events come later and later, because its reader is too slow.

    What counts is how much later than the least late one so far: clocks of two
    machines may differ, and what a run said long ago is no sign of slowness.
    """

    def __init__(self) -> None:
        self.is_late = False
        self._least_s: float | None = None

    def take(self, frame: wire.Frame, now: float) -> bool:
        """Take an event and the time at which it came; return whether they come late now."""
        try:
            late_s = now - wire.parse_timestamp(wire.decode_record(frame.data).t)
        except ValueError:  # a damaged one has no time
            return self.is_late
        self._least_s = late_s if self._least_s is None else min(self._least_s, late_s)
        self.is_late = late_s - self._least_s > _LATE_S
        return self.is_late


class _EndedError(Exception):
    """The stream has nothing more: its last event was seen before."""


class SseParser:
    """Takes the ``data`` of server-sent events out of a stream of bytes.

    Our daemon writes each event's data in one line, so no others are joined;
    ids are in the data, and comments only keep the connection alive.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data lines that are whole now."""
        if b"\n" not in chunk:
            self._rest += chunk
            return []
        head, _, rest = chunk.rpartition(b"\n")
        lines = (self._rest + head).split(b"\n")
        self._rest = rest
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def _frame(data: bytes, where: str) -> wire.Frame:
    try:
        record = wire.decode_record(data)
    except msgspec.MsgspecError as exc:
        raise UnreachableError(f"the daemon at {where} sent no event of ours: {exc}") from None
    return wire.Frame(record.seq, record.event, record.step, data)


def _checked(url: str) -> str:
    """Return a daemon's address without a slash at its end.

    Raises:
        InvalidInputError: it is no http or https address.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        hint = "give it as http://HOST:PORT or https://HOST"
        raise InvalidInputError([Problem("--url", f"'{url}' is no address of a daemon", hint)])
    return url.rstrip("/")


def _decoded(data: bytes, answer: type[T], where: str) -> T:
    if not data:
        return None  # type: ignore[return-value]  # 202 and 204: callers that expect it pass Any
    try:
        return msgspec.json.decode(data, type=answer)
    except msgspec.MsgspecError as exc:
        raise UnreachableError(f"{where} answered, but not as Tailrace does: {exc}") from None


def _refusal(status: int, headers: Any, data: bytes, where: str) -> Exception:
    """Return the error that a refused request stands for."""
    try:
        document = msgspec.json.decode(data, type=wire.ProblemDocument)
    except msgspec.MsgspecError:
        return UnreachableError(f"{where} answered {status}, and not as Tailrace does")
    detail = document.detail or document.title
    match status:
        case 401 | 403:
            hint = "set TAILRACE_TOKEN to one that `tailrace token create` made there"
            return UnreachableError(f"{where} refused: {detail}; {hint}")
        case 404:
            return UnknownError(detail)
        case 409:
            return ConflictError(detail, state=document.state or "")
        case 400 | 405 | 413 | 415 | 422:
            problems = [Problem(e.where, e.problem, e.hint, e.position) for e in document.errors]
            return InvalidInputError(problems or [Problem("", detail)])
        case 503:
            wait = headers.get("Retry-After", "")
            return UnavailableError(detail, retry_after_s=int(wait) if wait.isdigit() else 1)
    return UnreachableError(f"{where} answered {status}: {detail}")
