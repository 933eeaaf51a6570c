"""``GET /runs/{id}/ws``: a run's events and the commands that steer it, on one connection.

One task sends what a cursor reads, as in every stream; another takes commands
one by one. A command's answer is its ``control`` or ``answered`` event. That one
comes with the stream; where it went by before the command came, as when the same
is asked again, it is sent again. What isn't done is answered by ``refused``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from aiohttp import WSCloseCode, WSMessage, WSMsgType, hdrs, web

from tailrace import wire
from tailrace.errors import ConflictError, InvalidInputError, TailraceError
from tailrace.http.commands import LARGEST, data_of, prompt_of, read_message
from tailrace.http.guard import check_origin, check_scope, identify
from tailrace.http.keys import CALLER, HERE, METRICS, WORKER
from tailrace.http.problems import RefusedError
from tailrace.http.requests import base_url, owned_key, parameters, run_of
from tailrace.http.route import LINK, Answer, Query, Route
from tailrace.http.steering import extension_ms, repeat, scope_of_answer, steer
from tailrace.http.streams import HEARTBEAT_S, Crowd, bound, counted, joined, room
from tailrace.http.watching import place_of
from tailrace.rundir.disk import is_disk_error
from tailrace.rundir.feed import Cursor, Feed
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.views import API, run_path
from tailrace.wire import Frame

LAST_WORD_S: Final = 0.5  # commands are taken for so long after the last event: `retry`, as a rule
_CLOSING_S: Final = 2.0  # a client answers the end of a connection within this, or is cut off
_VIA: Final = "ws"


async def watch(request: web.Request) -> web.StreamResponse:
    """Send a run's events and take commands, until its last event or until the client goes."""
    check_origin(request)
    given = parameters(request)
    run_id = run_of(request)
    ws = web.WebSocketResponse(
        timeout=_CLOSING_S,
        max_msg_size=LARGEST,
        compress=False,  # costs each watcher its own work and memory, and shared bytes are gone
    )
    if not ws.can_prepare(request).ok:
        if "websocket" in request.headers.get(hdrs.UPGRADE, "").lower():
            raise RefusedError(
                400, "the handshake is no WebSocket's (RFC 6455, 4.2.1): its key has 16 bytes, in "
                "base64, its version is 13, and Connection says Upgrade"
            )  # fmt: skip
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        raise RefusedError(426, "this is a WebSocket; GET …/events is the same as SSE", headers)
    place = await place_of(request, run_id, given)
    worker = request.app[WORKER]
    after = (await worker.snapshot(run_id)).last_seq if place is None else place.after
    async with worker.watch(run_id) as feed:
        with counted(request) as transport, joined(feed) as crowd:
            await ws.prepare(request)
            bound(transport, request.app[HERE].settings.limits.in_flight)
            try:
                await _Connection(request, run_id, ws, transport, feed, crowd, after).serve()
            except asyncio.CancelledError:
                if request.app[HERE].draining:
                    await _say_goodbye(ws)
                raise
            await ws.close(code=WSCloseCode.OK)
    return ws


async def _say_goodbye(ws: web.WebSocketResponse) -> None:
    """Tell a client that the daemon stops, so that it comes back with its last number."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSING_S):
            await ws.close(code=WSCloseCode.GOING_AWAY, message=b"the daemon stops")


class _Connection:
    """One client: what it was sent, and what it asks for."""

    def __init__(
        self,
        request: web.Request,
        run_id: str,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        feed: Feed,
        crowd: Crowd,
        after: int,
    ) -> None:
        self._request, self._run_id, self._ws = request, run_id, ws
        self._transport, self._feed, self._crowd = transport, feed, crowd
        self._in_flight = request.app[HERE].settings.limits.in_flight
        self._loop = asyncio.get_running_loop()
        self._written_at = self._loop.time()
        self._sent = after  # number of the last event that the client has
        self._moved = asyncio.Event()
        self._ended = False
        self._busy = asyncio.Lock()  # held while a command is done
        self._claimed: set[int] = set()  # numbers by which the stream answers a command already

    async def serve(self) -> None:
        """Send and listen, until one of them ends."""
        telling = asyncio.create_task(self._tell(), name=f"ws {self._run_id}")
        listening = asyncio.create_task(self._listen(), name=f"ws commands {self._run_id}")
        tasks = {telling, listening}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not listening.done() and telling.exception() is None:
                await asyncio.wait({listening}, timeout=LAST_WORD_S)
                async with self._busy:
                    listening.cancel()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _tell(self) -> None:
        cursor = Cursor(self._feed, after=self._sent)
        try:
            while await self._pass_on(cursor):
                await self._crowd.beat()
                await room(self._transport, self._in_flight)
        finally:
            cursor.close()
            self._ended = True
            self._moved.set()

    async def _pass_on(self, cursor: Cursor) -> bool:
        """Send what comes next; return whether there may be more.

        A function of its own, so that a client that waits for room holds no bytes.
        """
        frames = await self._next(cursor)
        if frames:
            await self._send_frames(frames)
        return frames != []

    async def _next(self, cursor: Cursor) -> list[Frame] | None:
        """Return the next frames, [] at the end, or None where only a sign of life was sent."""
        try:
            async with asyncio.timeout_at(self._written_at + HEARTBEAT_S):
                return await cursor.read()
        except TimeoutError:
            self._written_at = self._loop.time()
            # Whoever doesn't answer it in time isn't cut off: a slow client is no harm. One that
            # vanished is found by TCP.
            await self._ws.ping()
            return None

    async def _send_frames(self, frames: list[Frame]) -> None:
        for frame, message in zip(frames, self._crowd.batches.messages(frames), strict=True):
            await self._send(message)
            self._sent = frame.seq
        self._moved.set()

    async def _send(self, message: bytes) -> None:
        """Send, waiting while the client takes nothing."""
        self._written_at = self._loop.time()
        self._request.app[METRICS].stream_bytes.inc(len(message))
        await self._ws.send_frame(message, WSMsgType.TEXT)

    async def _listen(self) -> None:
        async for message in self._ws:
            async with self._busy:
                await self._take(message)

    async def _take(self, message: WSMessage) -> None:
        asked: wire.CommandMessage | None = None
        arrived_at = self._sent
        self._claimed = {seq for seq in self._claimed if seq > arrived_at}
        try:
            if message.type is WSMsgType.TEXT:
                asked = read_message(message.data)
                await self._obey(asked, arrived_at)
            elif message.type is WSMsgType.BINARY:
                raise RefusedError(400, "commands are text messages of JSON, not binary ones")
        except TailraceError as exc:
            await self._refuse(asked, exc)
        except OSError as exc:
            if not is_disk_error(exc):
                raise
            await self._refuse(asked, TailraceError(f"the disk doesn't take it: {exc.strerror}"))

    async def _obey(self, asked: wire.CommandMessage, arrived_at: int) -> None:
        """Do what is asked, and see to it that its answer is sent.

        Raises:
            TailraceError: it is refused.
        """
        data = data_of(asked)
        self._request[CALLER] = identify(self._request)  # a token may have ended meanwhile
        if self._request[CALLER].how == "link":
            raise RefusedError(403, "a link only shows; bring a token to steer")
        key = None if asked.id is None else str(asked.id)
        owned = owned_key(self._request, key, where="id")
        if isinstance(data, wire.RetryBody):
            check_scope(self._request[CALLER], "run")
            await self._retry(data, owned)
            return
        command = await self._command(asked.event, data, owned)
        reply = await steer(self._request, self._run_id, command, key="id")
        if reply.seq is None:  # a resume of what was never paused
            raise RefusedError(409, "it is so already, and was never otherwise")
        await self._answer(reply.seq, arrived_at)

    async def _command(self, event: str, data: object, key: str | None) -> wire.Command:
        request = self._request
        more: dict[str, Any] = {}
        scope: Any = "run"
        match data:
            case wire.CancelData() | wire.SkipData():
                more = {"step": data.step, "reason": data.reason}
                event = "cancel_step" if event == "cancel" and data.step is not None else event
            case wire.ExtendData():
                more = {"step": data.step, "by_ms": extension_ms(data.by)}
            case wire.AnswerData():
                more = {"prompt": prompt_of(data), "answer": data.answer}
                scope = await scope_of_answer(request, self._run_id, more["prompt"])
        check_scope(request[CALLER], scope)
        name: Any = event
        return wire.Command(command=name, id=key, by=request[CALLER].name, via=_VIA, **more)

    async def _retry(self, data: wire.RetryBody, key: str | None) -> None:
        request = self._request
        run_id = await repeat(request, self._run_id, data.from_, via=_VIA, key=key)
        new = await request.app[WORKER].snapshot(run_id)
        url = base_url(request) + run_path(run_id)
        answer = wire.Retried(by=new.by, via=new.via, run=run_id, ref=new.ref, url=url)
        await self._send(wire.ws_message("control", wire.encode_json(answer)))

    async def _answer(self, seq: int, arrived_at: int) -> None:
        """Let the stream bring the event of that number, or send it again."""
        if seq > arrived_at and seq not in self._claimed:
            self._claimed.add(seq)
            return
        while self._sent < seq and not self._ended:  # not before what comes before it
            self._moved.clear()
            await self._moved.wait()
        run = self._request.app[WORKER].state.run(self._run_id)
        for frame in await asyncio.to_thread(_event, run, seq):
            await self._send(wire.ws_message(frame.event, frame.data))

    async def _refuse(self, asked: wire.CommandMessage | None, why: TailraceError) -> None:
        refused = wire.Refused(
            command=None if asked is None else asked.event,
            reason="; ".join(map(str, why.problems))
            if isinstance(why, InvalidInputError)
            else str(why),
            id=None if asked is None else asked.id,
            state=why.state if isinstance(why, ConflictError) else None,
        )
        await self._send(wire.ws_message("refused", wire.encode_json(refused)))


def _event(run: RunDir, seq: int) -> list[Frame]:
    """Read one event of a run again."""
    reader = JournalReader(run, after=seq - 1)
    try:
        return reader.read(1)
    finally:
        reader.close()


ROUTES: Final = (
    Route(
        method="GET",
        path=f"{API}/runs/{{id}}/ws",
        handler=watch,
        summary="Watch a run and steer it, by WebSocket",
        scope="read",
        query=(Query("after", "text", "begin after this event: SEQ or RUNID:SEQ"), LINK),
        link="events",
        answers=(Answer(101, "its events as messages; commands are taken", media=""),),
    ),
)
