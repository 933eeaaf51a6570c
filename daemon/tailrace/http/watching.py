"""Watching a run: from what a request asks to the bytes it gets, section 3 of the contract."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from aiohttp import hdrs, web

from tailrace.errors import InvalidInputError, Problem, UnknownError
from tailrace.http.keys import WORKER
from tailrace.http.query import EventId, Parameters, parse_event_id
from tailrace.http.route import NDJSON, SSE, Query
from tailrace.http.shapes import (
    Narrowing,
    PlainLines,
    Thinning,
    Wanted,
    sse_parts,
)
from tailrace.http.streams import Crowd, Outlet, head_answer, joined, media_of, outlet, sse_outlet
from tailrace.rundir.feed import Cursor, Feed
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.rundir.places import Attempt, Tail, last_lines, open_lines, tail_frames
from tailrace.wire import Frame, ndjson_frames

OpenLines = dict[Attempt, str]

SHAPE_QUERY = (
    Query("progress", "duration", "a step's progress at most once in so long, such as 2s"),
    Query("plain", "flag", "`log` is the bare text of each line once it has ended"),
    Query("shape", "text", "`message`: no `event:` line", ("event", "message")),
)
PLACE_QUERY = (
    Query("step", "text", "only this step's events, `plan` and the last event"),
    Query("after", "text", "begin after this event: SEQ or RUNID:SEQ"),
    Query("tail", "integer", "only the last so many log lines, and every other event"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream begins."""

    after: int = 0
    parts: int = 0  # of the next event, seen already
    tail: int | None = None


def wanted_of(given: Parameters, accept: str | None) -> Wanted:
    """Read what a watcher asks for.

    Raises:
        InvalidInputError: the wishes exclude each other.
    """
    wanted = Wanted(
        step=given.text("step"),
        progress_ms=given.integer("progress"),
        plain=given.flag("plain"),
        message=given.text("shape") == "message",
        ndjson=prefers(accept, NDJSON, SSE),
    )
    if wanted.plain and (wanted.message or wanted.ndjson):
        other = "shape=message" if wanted.message else f"Accept: {NDJSON}"
        raise InvalidInputError(
            [Problem("plain", f"excludes {other}", "plain text has no place in JSON; choose one")]
        )
    return wanted


def prefers(accept: str | None, media: str, over: str) -> bool:
    """Whether an ``Accept`` header (RFC 9110, 12.5.1) names *media*, and not *over* before it.

    Wildcards count for neither: who wants something else than the usual says so.
    """
    weights: dict[str, float] = {}
    for item in (accept or "").split(","):
        name, *rest = (part.strip().lower() for part in item.split(";"))
        weight = next((part[2:] for part in rest if part.startswith("q=")), "1")
        try:
            weights.setdefault(name, float(weight))
        except ValueError:
            continue
    return 0 < weights.get(media, 0) > weights.get(over, 0)


async def place_of(request: web.Request, run_id: str, given: Parameters) -> Place | None:
    """Find where a stream of that run begins; None where its end was seen already.

    ``Last-Event-ID`` counts first, then ``after``, then ``tail``.

    Raises:
        InvalidInputError: the number is beyond the run's last event, or the id is another run's.
    """
    where, text = "Last-Event-ID", request.headers.get("Last-Event-ID", "").strip() or None
    if text is None:
        where, text = "after", given.text("after")
    if text is None:
        return Place(tail=given.integer("tail"))
    event_id = parse_event_id(text, where=where)
    if event_id.run not in (None, run_id):
        hint = f"this run's ids are SEQ or {run_id}:SEQ"
        raise InvalidInputError([Problem(where, "is an id of another run", hint)])
    return await _after(request, run_id, event_id, where)


async def _after(request: web.Request, run_id: str, seen: EventId, where: str) -> Place | None:
    worker = request.app[WORKER]
    snapshot = await worker.snapshot(run_id)
    last, seq = snapshot.last_seq, seen.seq
    if seq > last:
        # A daemon that has just come back may not have read so far yet: ask the journal itself.
        last = await asyncio.to_thread(_last_seq, worker.state.run(run_id), seq)
    if seq > last:
        hint = "begin with a lower one, or leave it out to get everything"
        problem = f"{seq} is beyond the run's last event, {last}"
        raise InvalidInputError([Problem(where, problem, hint)])
    return None if snapshot.is_final and seq == last else Place(after=seq, parts=seen.parts)


def _last_seq(run: RunDir, wanted: int) -> int:
    """Return the journal's last number, or *wanted* where it has that one."""
    reader = JournalReader(run, after=wanted - 1)
    try:
        return wanted if reader.read(1) else reader.seq
    finally:
        reader.close()


async def check_step(
    request: web.Request, run_id: str, step: str | None, *, or_matrix: bool = False
) -> None:
    """Refuse a step that the run hasn't; with *or_matrix* a matrix step's own id is one, too.

    Raises:
        UnknownError: it has none of that id.
    """
    if step is not None:
        known = (await request.app[WORKER].snapshot(run_id)).steps
        is_matrix = or_matrix and any(name.startswith(f"{step}[") for name in known)
        if step not in known and not is_matrix:
            raise UnknownError(f"the run has no step '{step}'; its steps: {', '.join(known)}")


async def answer_stream(
    request: web.Request, run_id: str, wanted: Wanted, place: Place | None, *, own_ids: bool = False
) -> web.StreamResponse:
    """Answer with a run's events from *place* on; None is 204, as EventSource then stops.

    With *own_ids*, ids are ``RUNID:SEQ``.
    """
    if place is None:
        return web.Response(status=204, headers={hdrs.CACHE_CONTROL: "no-store"})
    if request.method == "HEAD":
        return head_answer(media_of(wanted))
    prefix = run_id if own_ids else None
    opening = outlet(request, NDJSON) if wanted.ndjson else sse_outlet(request)
    async with request.app[WORKER].watch(run_id) as feed, opening as out:
        with joined(feed) as crowd:
            if wanted.is_whole and place.tail is None:
                await _send_whole(out, feed, crowd, place.after, wanted, prefix)
            else:
                choice = await _choice(feed, wanted, place, prefix)
                await _send_chosen(out, feed, crowd, place, choice)
    return out.response


async def _send_whole(
    out: Outlet, feed: Feed, crowd: Crowd, after: int, wanted: Wanted, prefix: str | None
) -> None:
    cursor = Cursor(feed, after=after)
    try:
        while await _pass_on(out, cursor, lambda f: crowd.batches.encode(f, wanted, prefix)):
            await crowd.beat()
            await out.room()
    finally:
        cursor.close()


async def _pass_on(out: Outlet, cursor: Cursor, encode: Callable[[list[Frame]], bytes]) -> bool:
    """Send what comes next; return whether there may be more.

    A function of its own, so that a watcher that waits for room holds no bytes.
    """
    frames = await _next(cursor, out)
    if frames is None:
        return True
    if not frames:
        return False
    data = encode(frames)
    del frames
    if data:
        await out.write(data)
    return True


async def _next(cursor: Cursor, out: Outlet) -> list[Frame] | None:
    """Return the next frames, [] at the end, or None where only a sign of life was sent."""
    try:
        async with asyncio.timeout(out.due_s):
            return await cursor.read()
    except TimeoutError:
        await out.keep_alive()
        return None


class _Choice:
    """A stream that leaves something out or rewrites it: its stations, in order."""

    def __init__(self, wanted: Wanted, place: Place, prefix: str | None, opened: OpenLines) -> None:
        self.step = wanted.step
        self.plain = PlainLines(opened) if wanted.plain else None
        self._narrowing = Narrowing(wanted.step) if wanted.step is not None else None
        self._thinning = None if wanted.progress_ms is None else Thinning(wanted.progress_ms)
        self._wanted = wanted
        self._head = f"{prefix}:" if prefix else ""
        self._place = place

    def pass_over(self, frames: Iterable[Frame]) -> None:
        """Take what the client has seen already: what was held back then, is held back now."""
        for frame in frames:
            if self._thinning is not None:
                self._thinning.take(frame)

    def encode(self, frames: list[Frame]) -> bytes:
        """Return what the client gets of these."""
        if self._narrowing is not None:
            frames = self._narrowing.take(frames)
        return b"".join(self._encoded(frame) for frame in frames)

    def _encoded(self, frame: Frame) -> bytes:
        sent = [frame] if self._thinning is None else self._thinning.take(frame)
        if self._wanted.ndjson:
            return ndjson_frames(sent)
        if self.plain is not None:
            parts = [part for each in sent for part in self.plain.parts(each)]
        else:
            parts = [(each.event, each.data) for each in sent]
        resumed = parts and frame.seq == self._place.after + 1
        begin = min(self._place.parts, len(parts) - 1) if resumed else 0  # its end is owed at least
        message = self._wanted.message
        return sse_parts(
            frame.seq, parts, begin=begin, cut=frame.cut, head=self._head, message=message
        )


async def _choice(feed: Feed, wanted: Wanted, place: Place, prefix: str | None) -> _Choice:
    run, after = feed.run_dir, place.after
    if not after:
        return _Choice(wanted, place, prefix, {})
    opened = await asyncio.to_thread(_opened, run, after, wanted.step) if wanted.plain else {}
    choice = _Choice(wanted, place, prefix, opened)
    if wanted.progress_ms is not None:
        await asyncio.to_thread(choice.pass_over, tail_frames(run, Tail(after)))
    return choice


def _opened(run: RunDir, upto: int, step: str | None) -> OpenLines:
    """Return the open lines at an event; with *step* its own alone, as nothing ends the others."""
    return {
        key: data.decode("utf-8", "replace")
        for key, data in open_lines(run, upto).items()
        if step in (None, key[0])
    }


async def _send_chosen(
    out: Outlet, feed: Feed, crowd: Crowd, place: Place, choice: _Choice
) -> None:
    after = place.after
    if place.tail is not None:
        after = await _send_tail(out, feed.run_dir, place.tail, choice)
    cursor = Cursor(feed, after=after)
    try:
        while await _pass_on(out, cursor, choice.encode):
            await out.keep_alive()
            await crowd.beat()
            await out.room()
    finally:
        cursor.close()


async def _send_tail(out: Outlet, run: RunDir, lines: int, choice: _Choice) -> int:
    """Send everything up to now, of the logs only the last lines; return the number it came to."""
    tail = await asyncio.to_thread(last_lines, run, lines, step=choice.step)
    frames = tail_frames(run, tail)
    while batch := await asyncio.to_thread(_some, frames):
        if data := choice.encode(batch):
            await out.write(data)
            await out.room()
    if choice.plain is not None:
        opened = await asyncio.to_thread(_opened, run, tail.upto, choice.step)
        for key, text in opened.items():
            choice.plain.resume(key, text)  # lines that began before the tail and go on after it
    return tail.upto


def _some(frames: Iterator[Frame]) -> list[Frame]:
    return list(itertools.islice(frames, 256))
