"""The daemon's HTTP API as a client sees it, over TCP or its Unix socket.

A stream that breaks is taken up again behind the last event that arrived, so
that its user sees every event once. Whatever goes wrong is an error of
`tailrace.errors`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from tailrace import wire
from tailrace.client.answers import (
    AwayError,
    checked,
    checked_token,
    decoded,
    refusal,
    shown,
)
from tailrace.client.asking import checked_key, checked_params, encoded
from tailrace.client.stream import EndedError, Lateness, SseParser, frame_of
from tailrace.client.told import Told, told_of
from tailrace.core.events import LAST_EVENTS, Aborted, Summary
from tailrace.core.ulid import PREFIX
from tailrace.errors import (
    ConflictError,
    InvalidInputError,
    Problem,
    UnavailableError,
    UnknownError,
    UnreachableError,
)
from tailrace.socket_path import short_path
from tailrace.whole_file import written_whole

T = TypeVar("T")

_REF: Final = re.compile(r"[a-z0-9][a-z0-9-]*/[0-9]{1,18}")
_SILENCE_S: Final = 45.0  # the stream has a comment every 15 s
_ANSWER_S: Final = 60.0  # what takes longest is a doctor that tries everything out
_CHUNK: Final = 1 << 18
_KEPT_LINES: Final = 200  # of output, when it is caught up with
RECONNECT_S: Final = (0.1, 0.3, 1.0, 2.0, 3.0, 4.0)  # waits; a daemon's restart takes a second


class Client:
    """Speaks to one daemon; an async context manager.

    ``where`` is a URL, or the path of a Unix socket (where no token is
    needed). ``reconnect_s`` are the waits in seconds between attempts to take
    up again what broke, and to reach a daemon that has gone; one that has never
    answered is waited for by streams alone. A run is named by its id or its ref everywhere. Methods
    may be called side by side, and cancelled: that closes their connection and
    changes nothing of the run.

    Every method raises an error of `tailrace.errors` where it can't do what it
    says: `UnreachableError` (no daemon, no permission), `UnknownError` (no such
    run, step, prompt or file), `ConflictError` (the run's state doesn't allow
    it), `InvalidInputError` (a value makes no sense), `UnavailableError` (not now).
    """

    def __init__(
        self,
        where: str | Path,
        *,
        token: str | None = None,
        reconnect_s: Sequence[float] = RECONNECT_S,
    ) -> None:
        self.where = shown(str(where))
        self._socket = where if isinstance(where, Path) else None
        self._base = "http://localhost" if self._socket else checked(str(where))
        self._headers = {"Authorization": f"Bearer {checked_token(token)}"} if token else {}
        if token and self.where != str(where):
            hint = "a request holds one of them: leave the user out, or unset TAILRACE_TOKEN"
            raise InvalidInputError([Problem("--url", "has a user, and there is a token", hint)])
        self._reconnect_s = tuple(reconnect_s)
        self._session: aiohttp.ClientSession | None = None
        self._opened = contextlib.ExitStack()
        self._has_answered = False  # the daemon, at least once

    async def __aenter__(self) -> Client:
        """Make ready; nothing is sent yet."""
        connector = None
        if self._socket is not None:
            try:
                name = self._opened.enter_context(short_path(self._socket))
            except OSError as exc:
                raise self._unreachable(exc) from None
            connector = aiohttp.UnixConnector(name)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=_ANSWER_S, sock_connect=10),
            read_bufsize=_CHUNK,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close all connections."""
        assert self._session is not None
        await self._session.close()
        self._opened.close()

    # ---- single requests ---------------------------------------------------------------------

    async def _ask(
        self, method: str, path: str, answer: type[T], *, body: Any = None, key: str | None = None
    ) -> T:
        """Send a request and return its answer.

        One that changes nothing twice (a GET, or with *key*) is sent again
        where the connection broke, or the daemon that we knew is away: it may
        just restart. One that has never answered is nobody to wait for.
        """
        headers = {"Idempotency-Key": checked_key(key)} if key else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = encoded(body) if body is not None else None
        tries = len(self._reconnect_s) if method == "GET" or key else 0
        for attempt in range(tries + 1):
            try:
                async with self._request(method, path, headers=headers, data=data) as response:
                    return decoded(await response.read(), answer, self.where)
            except TimeoutError:  # it hangs: asked again, it would hang again
                message = f"the daemon at {self.where} doesn't answer within {_ANSWER_S:g} seconds"
                raise UnreachableError(f"{message}; look at its log, or start it anew") from None
            except AwayError:
                if attempt == tries or not self._has_answered:
                    raise
                await asyncio.sleep(self._reconnect_s[attempt])
            except (aiohttp.ClientError, ConnectionError) as exc:
                refused = isinstance(exc, aiohttp.ClientConnectorError)
                if attempt == tries or (refused and not self._has_answered and attempt == 0):
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
            problem = None
            if response.status >= 300:
                data = await response.read()
                problem = refusal(response.status, response.headers, data, self.where)
            if isinstance(problem, AwayError):
                raise problem
            self._has_answered = True
            if problem is not None:
                raise problem
            yield response

    def _unreachable(self, exc: BaseException) -> UnreachableError:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        if isinstance(exc, aiohttp.ClientConnectorError):
            reason = (exc.os_error.strerror or str(exc.os_error)) if exc.os_error else reason
        return UnreachableError(
            f"the daemon at {self.where} can't be reached: {reason}; is it running?"
        )

    async def start(
        self,
        pipeline: str,
        params: Mapping[str, Any] | None = None,
        *,
        depth: str | None = None,
        on_disconnect: Literal["continue", "cancel"] | None = None,
        keep_workspace: bool = False,
        key: str | None = None,
    ) -> wire.RunView:
        """Start a run and return it; it is never tied to this connection.

        *depth* None is the pipeline's default. *key* is an ``Idempotency-Key``:
        within a day the same call with the same one returns the same run. Without
        one a start is sent once, or again with a key of its own where the connection broke.

        Raises:
            NotStartedError: ``on_conflict: skip``, and the group is busy.
            InvalidInputError: a param's value is none that JSON has, such as a NaN.
        """
        body = wire.StartRun(
            pipeline=pipeline, params=checked_params(params or {}), depth=depth,
            on_disconnect=on_disconnect, keep_workspace=keep_workspace,
        )  # fmt: skip
        answer = await self._ask(
            "POST", "/api/v1/runs", msgspec.Raw, body=body, key=key or uuid.uuid4().hex
        )
        if decoded(answer, _Started, self.where).run is None:
            raise NotStartedError(decoded(answer, wire.NoRun, self.where).reason)
        return decoded(answer, wire.RunView, self.where)

    async def retry(self, run: str, start: str = "failed") -> wire.RunView:
        """Repeat what ``failed``, all (``start``), or from a step on; return the new run."""
        body = wire.RetryBody(from_=start)
        path = f"/api/v1/runs/{_named(run)}/retry"
        return await self._ask("POST", path, wire.RunView, body=body, key=uuid.uuid4().hex)

    async def view(self, run: str) -> wire.RunView:
        """Return a run's state; *run* is an id, a ref or a prefix."""
        return await self._ask("GET", f"/api/v1/runs/{_named(run)}", wire.RunView)

    async def page(
        self,
        *,
        pipeline: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[wire.RunSummary], str | None]:
        """Return runs, newest first, and the cursor of the next page."""
        given = {"pipeline": pipeline, "status": status, "limit": limit, "cursor": cursor}
        query = "&".join(f"{k}={quote(str(v), safe='')}" for k, v in given.items() if v is not None)
        page = await self._ask("GET", f"/api/v1/runs?{query}", wire.RunList)
        return list(page.runs), page.next_cursor

    async def cancel(
        self, run_id: str, reason: str | None = None, *, key: str | None = None
    ) -> None:
        """Cancel a run.

        A second cancel ends the steps that clean up after the first one; however often
        it is asked for with one *key*, an ``Idempotency-Key``, it is done once.
        """
        await self._steer(run_id, "cancel", wire.CancelBody(reason=reason), key=key)

    async def pause(self, run_id: str) -> None:
        """Freeze a run."""
        await self._steer(run_id, "pause")

    async def resume(self, run_id: str) -> None:
        """Go on with a paused run."""
        await self._steer(run_id, "resume")

    async def answer(self, run_id: str, prompt: str, answer: str) -> None:
        """Answer a prompt."""
        path = f"answers/{_segment(prompt, 'question')}"
        await self._steer(run_id, path, wire.AnswerBody(answer=answer))

    async def progress(self, run_id: str, body: wire.ProgressBody) -> None:
        """Tell how far a step is; without a key: what was lost, a later one makes up for."""
        await self._ask("POST", f"/api/v1/runs/{_named(run_id)}/progress", Any, body=body)

    async def skip(self, run_id: str, step: str, reason: str | None = None) -> None:
        """Skip a step."""
        path = f"steps/{_segment(step, 'step')}/skip"
        await self._steer(run_id, path, wire.CancelBody(reason=reason))

    async def extend(self, run_id: str, step: str, by: str) -> None:
        """Give a step's attempt more time; *by* is a duration such as ``10m``."""
        await self._steer(run_id, f"steps/{_segment(step, 'step')}/extend", wire.ExtendBody(by=by))

    async def cancel_step(self, run: str, step: str, reason: str | None = None) -> None:
        """Cancel a step; it ends ``aborted``, and what needs it is skipped."""
        path = f"steps/{_segment(step, 'step')}/cancel"
        await self._steer(run, path, wire.CancelBody(reason=reason))

    async def _steer(
        self, run_id: str, what: str, body: Any = None, *, key: str | None = None
    ) -> None:
        # With a key, so that asking again after a broken connection does it once.
        path = f"/api/v1/runs/{_named(run_id)}/{what}"
        await self._ask("POST", path, Any, body=body, key=key or uuid.uuid4().hex)

    async def delete(self, run_id: str) -> None:
        """Delete a run."""
        await self._ask("DELETE", f"/api/v1/runs/{_named(run_id)}", Any)

    async def pipelines(self) -> list[wire.PipelineView]:
        """Return the pipelines."""
        return list((await self._ask("GET", "/api/v1/pipelines", wire.PipelineList)).pipelines)

    async def pipeline(self, name: str) -> wire.PipelineView:
        """Return one pipeline."""
        path = f"/api/v1/pipelines/{_segment(name, 'pipeline')}"
        return await self._ask("GET", path, wire.PipelineView)

    async def doctor(self, pipelines: Sequence[str] = ()) -> wire.DoctorReport:
        """Have the daemon look whether it can do what these pipelines ask for; all by default."""
        query = f"?pipelines={quote(','.join(pipelines), safe='')}" if pipelines else ""
        return await self._ask("GET", f"/api/v1/doctor{query}", wire.DoctorReport)

    async def artifact(self, run_id: str, name: str) -> AsyncGenerator[bytes, None]:
        """Give an artifact's bytes; close it (`contextlib.aclosing`) where it is left early."""
        parts = "/".join(_segment(part, "artifact") for part in name.split("/"))
        path = f"/api/v1/runs/{_named(run_id)}/artifacts/{parts}?download=1"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        try:
            async with self._request("GET", path, timeout=timeout) as response:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    yield chunk
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as exc:
            raise self._unreachable(exc) from None

    async def download(self, run: str, name: str, path: str | Path) -> None:
        """Write an artifact to *path*, which changes only once the whole file is there.

        Raises:
            OSError: it can't be written.
        """
        async with contextlib.aclosing(self.artifact(run, name)) as chunks:
            with written_whole(path) as file:
                async for chunk in chunks:
                    file.write(chunk)

    # ---- streams -----------------------------------------------------------------------------

    async def follow(
        self, run: str, *, after: int = 0, step: str | None = None
    ) -> AsyncGenerator[Told, None]:
        """Give a run's events one by one, typed, until the last one, each exactly once.

        It begins behind the number *after*, waits for what is still to come, and
        takes a broken stream up again by itself. With *step* only that step's
        events come, and ``plan`` and the last one. Close it (`contextlib.aclosing`)
        where it is left before its end.

        Raises:
            UnreachableError: the daemon stayed away for as long as
                ``reconnect_s`` waits together; the run goes on.
        """
        async with contextlib.aclosing(self.events(run, after=after, step=step)) as batches:
            async for frames in batches:
                for frame in frames:
                    yield told_of(frame)

    async def wait(self, run: str) -> Summary | Aborted:
        """Return a run's last event once it has ended, at once if it has.

        Raises: as `follow`.
        """
        # A stream alone: it is what waits for a daemon that restarts.
        async with contextlib.aclosing(self.events(run, tail=0, skip_late=True)) as batches:
            async for frames in batches:
                if frames[-1].event in LAST_EVENTS:
                    last = told_of(frames[-1]).event
                    assert isinstance(last, Summary | Aborted)
                    return last
        raise UnreachableError(f"the events of {run} ended without a last one")

    async def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        tail: int | None = None,
        step: str | None = None,
        skip_late: bool = False,
    ) -> AsyncGenerator[list[wire.Frame], None]:
        """Give a run's events as they came, in batches, until the last one; see `follow`.

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
            path = f"/api/v1/runs/{_named(run_id)}/events?{query}"
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
            except EndedError:
                return
            except (UnavailableError, AwayError) as exc:
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
                raise EndedError
            parser = SseParser()
            async for chunk in response.content.iter_any():
                if blocks := parser.feed(chunk):
                    yield [frame_of(data, self.where) for data in blocks]


class _Started(msgspec.Struct):
    run: str | None = ""  # null where there is none; a run's own document has no such key


class NotStartedError(ConflictError):
    """The pipeline's group is busy, and it says ``on_conflict: skip``: there is no run."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no run was started: {reason}", state="")
        self.reason = reason


def _named(run: str) -> str:
    """Return a run's name as it stands in an address.

    Raises:
        UnknownError: it is neither an id, the beginning of one, nor a ref, and would be the
            address of something else.
    """
    if _REF.fullmatch(run) is None and PREFIX.fullmatch(run.lower()) is None:
        shown = run if len(run) <= 80 else run[:80] + "…"
        raise UnknownError(f"there is no run '{shown}'; `tailrace runs` lists them")
    return run


def _segment(name: str, what: str) -> str:
    """Return a name as one part of an address.

    Raises:
        UnknownError: no *what* can have that name, which leads out of its place (RFC 3986, 5.2.4).
    """
    if name in ("", ".", ".."):
        raise UnknownError(f"no {what} is named '{name}'")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError:  # a lone surrogate, as of text that was cut
        raise UnknownError(f"no {what} is named {name!r:.80}") from None
