"""Streams: a cursor into a run's sequence on one side, a socket on the other, nothing in between.

A watcher that is slow blocks its own coroutine and nobody else: what it hasn't
taken is read from the ring or the file when it gets there.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import termios
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final
from weakref import WeakKeyDictionary

import structlog
from aiohttp import hdrs, web

from tailrace import wire
from tailrace.errors import UnavailableError
from tailrace.http.keys import CALLER, HERE, METRICS, TOKENS
from tailrace.http.route import NDJSON, SSE
from tailrace.http.shapes import Wanted, sse_frames
from tailrace.http.signed import NOBODY
from tailrace.rundir.feed import Feed
from tailrace.wire import Frame

log = structlog.get_logger()

HEARTBEAT_S: Final = 15.0
TOKENS_S: Final = 1.0  # how often it is looked whether the tokens of open streams are still valid
_PIECE: Final = 1 << 16  # aiohttp looks at the connection's buffer after so many bytes
_GRID_S: Final = 0.0001  # for each watcher of a run
_LEAST_S: Final = 0.001
_SHARE: Final = 2  # of `in_flight`: with less than half of it unsent, a batch fits behind it
_LEAST_WAIT_S: Final = 0.0005
_MOST_WAIT_S: Final = 0.25
_FIRST_COMMENT: Final = wire.sse_comment("tailrace")
_HEARTBEAT: Final = wire.sse_comment("")

_HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx holds answers back otherwise
}


class Outlet:
    """One client's end of a stream: bounded, kept alive, counted.

    At most ``limits.in_flight`` bytes (128 KiB at least) wait in this process,
    and as much in the kernel. Who asks for `room` before it reads what comes next
    has nothing wait here, as a rule: it fits into the kernel's buffer.
    """

    def __init__(self, request: web.Request, media: str, *, keep_alive: bytes) -> None:
        self._request = request
        self._keep_alive = keep_alive
        self._metrics = request.app[METRICS]
        self._loop = asyncio.get_running_loop()
        self._written_at = self._loop.time()
        self._in_flight = request.app[HERE].settings.limits.in_flight
        self._transport: asyncio.Transport | None = None
        self.response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: media, **_HEADERS})

    async def open(self, transport: asyncio.Transport, first: bytes) -> None:
        """Send the headers and *first* at once."""
        await self.response.prepare(self._request)
        bound(transport, self._in_flight)
        self._transport = transport
        await self.write(first)

    async def room(self) -> None:
        """Wait until most of what was sent has left this machine's buffers.

        A thousand watchers that don't read cost the kernel's bounded buffers and
        nothing here, as long as nobody holds bytes for them.

        Raises:
            ConnectionError: the client went away.
        """
        assert self._transport is not None
        await room(self._transport, self._in_flight)

    async def write(self, data: bytes) -> None:
        """Send, waiting while the client takes nothing.

        Raises:
            ConnectionError: the client went away.
        """
        self._written_at = self._loop.time()
        self._metrics.stream_bytes.inc(len(data))
        if len(data) <= _PIECE:
            await self.response.write(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            await self.response.write(view[start : start + _PIECE])

    @property
    def due_s(self) -> float:
        """Seconds until something must be sent to keep the connection."""
        return max(0.0, self._written_at + HEARTBEAT_S - self._loop.time())

    async def keep_alive(self) -> None:
        """Send a comment if nothing else was sent for so long."""
        if self.due_s > 0:
            return
        if self._keep_alive:
            await self.write(self._keep_alive)
        self._written_at = self._loop.time()


def bound(transport: asyncio.Transport, in_flight: int) -> None:
    """Let at most so many bytes (128 KiB at least) wait here for a client, and in the kernel."""
    transport.set_write_buffer_limits(high=max(0, in_flight - 2 * _PIECE))
    if (peer := transport.get_extra_info("socket")) is not None:
        _bound_socket(peer, in_flight)


async def room(transport: asyncio.Transport, in_flight: int) -> None:
    """Wait until most of what was sent has left this machine's buffers, as `Outlet.room` does."""
    wait_s = 0.0
    while _unsent(transport) > in_flight // _SHARE:
        # There is no event for it: a socket counts as writable with a third of it free.
        await asyncio.sleep(wait_s)
        wait_s = min(max(_LEAST_WAIT_S, 2 * wait_s), _MOST_WAIT_S)
        if transport.is_closing():
            raise ConnectionResetError("the client went away")


def _unsent(transport: asyncio.Transport) -> int:
    """Return the bytes that the peer hasn't acknowledged (SIOCOUTQ: tcp(7), unix(7))."""
    waiting = transport.get_write_buffer_size()
    count = array.array("i", [0])
    peer = transport.get_extra_info("socket")
    if peer is not None:
        with contextlib.suppress(OSError):  # closed meanwhile, or of a kind that can't tell
            fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, count)
    return waiting + count[0]


def _bound_socket(peer: socket.socket, in_flight: int) -> None:
    with contextlib.suppress(OSError):  # an odd transport; nothing depends on it
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, in_flight)
        if peer.family in (socket.AF_INET, socket.AF_INET6):  # tcp(7): a client that vanished
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


@contextlib.asynccontextmanager
async def outlet(
    request: web.Request, media: str, *, first: bytes = b"", keep_alive: bytes = b""
) -> AsyncIterator[Outlet]:
    """Give an open stream to the client; it ends when the context is left, or the daemon stops."""
    found = Outlet(request, media, keep_alive=keep_alive)
    with counted(request) as transport:
        await found.open(transport, first)
        yield found
        await found.response.write_eof()


@contextlib.contextmanager
def counted(request: web.Request) -> Iterator[asyncio.Transport]:
    """Count the current task as a stream: cancelled by a stop of the daemon, or what it came by.

    Raises:
        ConnectionResetError: the client is gone already.
    """
    task = asyncio.current_task()
    assert task is not None
    here, transport = request.app[HERE], request.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    here.streams.add(task)
    here.holders[task] = request[CALLER]
    request.app[METRICS].transports.add(transport)
    try:
        yield transport
    finally:
        here.streams.discard(task)
        here.holders.pop(task, None)
        request.app[METRICS].transports.discard(transport)


async def end_with_tokens(app: web.Application) -> AsyncIterator[None]:
    """Cut streams soon after their token or link ended, as long as the application lives.

    A client that comes back is refused, as it would be with any request.
    """
    looking = asyncio.create_task(_cut_ended(app), name="end streams with their tokens")
    yield
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking


async def _cut_ended(app: web.Application) -> None:
    holders, tokens = app[HERE].holders, app[TOKENS]
    while True:
        await asyncio.sleep(TOKENS_S)
        if not holders:
            continue
        now = time.time()
        try:
            valid = {NOBODY, *(token.id for token in tokens.list() if token.is_valid(now))}
        except UnavailableError as exc:  # the disk; a new request is told
            log.warning("tokens_unreadable", reason=str(exc))
            continue
        for task, caller in tuple(holders.items()):
            expired = caller.until_s is not None and caller.until_s <= now
            if expired or caller.token not in valid:
                task.cancel()


def sse_outlet(request: web.Request) -> contextlib.AbstractAsyncContextManager[Outlet]:
    """Give an open stream of server-sent events."""
    first = wire.SSE_RETRY + _FIRST_COMMENT
    return outlet(request, SSE, first=first, keep_alive=_HEARTBEAT)


def head_answer(media: str) -> web.Response:
    """Return what HEAD tells of a stream."""
    return web.Response(headers={hdrs.CONTENT_TYPE: media, **_HEADERS})


def media_of(wanted: Wanted) -> str:
    """Return the media type of a run's stream."""
    return NDJSON if wanted.ndjson else SSE


class Batches:
    """The bytes of whole batches, encoded once for all who watch a run.

    Watchers that are up to date read the same batch at the same moment; the
    last few are kept, for each shape.
    """

    _KEPT: Final = 4

    def __init__(self) -> None:
        self._bytes: dict[tuple[int, int, str], bytes] = {}
        self._messages: dict[tuple[int, int], list[bytes]] = {}

    def encode(self, frames: list[Frame], wanted: Wanted, run: str | None) -> bytes:
        """Return the frames in a shape that leaves nothing out."""
        kind = "ndjson" if wanted.ndjson else f"{'message' if wanted.message else 'event'}:{run}"
        key = (frames[0].seq, frames[-1].seq, kind)
        found = self._bytes.get(key)
        if found is None:
            if wanted.ndjson:
                found = wire.ndjson_frames(frames)
            else:
                found = sse_frames(frames, run=run, message=wanted.message)
            self._bytes[key] = found
            while len(self._bytes) > self._KEPT:
                del self._bytes[next(iter(self._bytes))]
        return found

    def messages(self, frames: list[Frame]) -> list[bytes]:
        """Return the frames as WebSocket messages."""
        key = (frames[0].seq, frames[-1].seq)
        found = self._messages.get(key)
        if found is None:
            found = [wire.ws_message(frame.event, frame.data) for frame in frames]
            self._messages[key] = found
            while len(self._messages) > self._KEPT:
                del self._messages[next(iter(self._messages))]
        return found


class Crowd:
    """Those who watch one run now: they share bytes, and a beat when they are many.

    Watchers who each wake for each line cost a core from some forty on. From ten
    on they wake together, at most every 0.1 ms times their number.
    """

    def __init__(self) -> None:
        self.batches = Batches()
        self.size = 0

    async def beat(self) -> None:
        """Wait for the crowd's next beat; a small crowd has none."""
        interval = self.size * _GRID_S
        if interval < _LEAST_S:
            await asyncio.sleep(0)  # whoever catches up leaves room for others
            return
        await asyncio.sleep(interval - asyncio.get_running_loop().time() % interval)


_crowds: Final[WeakKeyDictionary[Feed, Crowd]] = WeakKeyDictionary()


@contextlib.contextmanager
def joined(feed: Feed) -> Iterator[Crowd]:
    """Give the crowd of a feed, with the caller counted in."""
    crowd = _crowds.setdefault(feed, Crowd())
    crowd.size += 1
    try:
        yield crowd
    finally:
        crowd.size -= 1
