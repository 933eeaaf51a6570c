"""``GET /runs/{id}/steps/{step}/log``: an attempt's output as plain text."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from aiohttp import hdrs, web

from tailrace.core.line_pattern import LONGEST_PATTERN
from tailrace.core.run import Snapshot
from tailrace.errors import UnknownError
from tailrace.http.excerpt import Pump, Wanted, wanted_of, window
from tailrace.http.files import open_beneath, send_file
from tailrace.http.keys import WORKER
from tailrace.http.requests import parameters, run_of
from tailrace.http.route import LINK, TEXT, Answer, Query, Route
from tailrace.http.streams import Outlet, head_answer, outlet
from tailrace.http.watching import check_step
from tailrace.rundir.feed import Cursor, Feed
from tailrace.rundir.layout import RunDir
from tailrace.rundir.places import line_start
from tailrace.views import API
from tailrace.wire import Frame, decode_record

_MEDIA: Final = f"{TEXT}; charset=utf-8"


async def show(request: web.Request) -> web.StreamResponse:
    """Send an attempt's log, or what is asked of it."""
    given = parameters(request)
    wanted = wanted_of(given)
    run_id, step = run_of(request), request.match_info["step"]
    await check_step(request, run_id, step)
    worker = request.app[WORKER]
    attempt = _attempt(await worker.snapshot(run_id), step, given.integer("attempt"))
    if request.method == "HEAD" and not wanted.is_file:
        return head_answer(_MEDIA)
    if wanted.follow:
        async with worker.watch(run_id) as feed, outlet(request, _MEDIA) as out:
            await _follow(
                out, feed, await worker.snapshot(run_id), step, given.integer("attempt"), wanted
            )
        return out.response
    if attempt is None:
        return web.Response(body=b"", headers={hdrs.CONTENT_TYPE: _MEDIA})  # it hasn't begun
    return await _show_now(request, worker.state.run(run_id), step, attempt, wanted)


async def _show_now(
    request: web.Request, run: RunDir, step: str, attempt: int, wanted: Wanted
) -> web.StreamResponse:
    with open_log(run, step, attempt) as file:
        if file is None:
            return web.Response(body=b"", headers={hdrs.CONTENT_TYPE: _MEDIA})
        if wanted.is_file:
            return await send_file(request, file, {hdrs.CONTENT_TYPE: _MEDIA})
        start, end = await asyncio.to_thread(window, run, step, attempt, file, wanted)
        async with outlet(request, _MEDIA) as out:
            await Pump(out, file, start, wanted.filters).send(end, final=True)
        return out.response


@contextlib.contextmanager
def open_log(run: RunDir, step: str, attempt: int) -> Iterator[int | None]:
    """Give the descriptor of an attempt's log; None where it has none, as a reused step."""
    with contextlib.ExitStack() as opened:
        file = None
        with contextlib.suppress(UnknownError):
            file = opened.enter_context(open_beneath(run.path, ("steps", step, f"{attempt}.log")))
        yield file


def has_log(run: RunDir, step: str, attempt: int) -> bool:
    """Whether an attempt has its log already."""
    with open_log(run, step, attempt) as file:
        return file is not None


def _attempt(run: Snapshot, step: str, asked: int | None) -> int | None:
    """Return the attempt that is meant: the asked one, else the last; None before the first."""
    last = run.steps[step].attempt
    if asked is None:
        return last or None
    if not 1 <= asked <= last:
        known = f"attempts 1 to {last}" if last else "no attempt yet"
        raise UnknownError(f"step '{step}' has no attempt {asked}; it has {known}")
    return asked


async def _follow(
    out: Outlet, feed: Feed, run: Snapshot, step: str, asked: int | None, wanted: Wanted
) -> None:
    """Send the log as it grows, until its attempt has ended."""
    # Together, before anything is awaited: the snapshot of a run that lives moves on.
    cursor, attempt = Cursor(feed, after=run.last_seq), _attempt(run, step, asked)
    state = run.steps[step]
    ended = run.is_final or state.is_final or state.status == "retrying"
    ended = ended or (attempt is not None and attempt < state.attempt)
    try:
        while not ended and (attempt is None or not has_log(feed.run_dir, step, attempt)):
            # It hasn't begun, or is about to make its log.
            attempt, ended = _events_of(await cursor.read(), step, attempt)
        if attempt is None:
            return
        with open_log(feed.run_dir, step, attempt) as file:
            if file is None:
                return
            if (first := wanted.from_line) is not None:
                while not ended and not await _has_line(feed.run_dir, step, attempt, first):
                    ended = await _reach(cursor, step, attempt, first)
            start, _ = await asyncio.to_thread(window, feed.run_dir, step, attempt, file, wanted)
            pump = Pump(out, file, start, wanted.filters)
            while not ended:
                await pump.send()
                _, ended = _events_of(await cursor.read(), step, attempt)
            await pump.send(final=True)
    finally:
        cursor.close()


async def _has_line(run: RunDir, step: str, attempt: int, line: int) -> bool:
    return await asyncio.to_thread(line_start, run, step, attempt, line) is not None


async def _reach(cursor: Cursor, step: str, attempt: int, line: int) -> bool:
    """Read on until that line may be there; return whether the attempt has ended before."""
    while True:
        frames = await cursor.read()
        _, ended = _events_of(frames, step, attempt)
        if ended or any(_last_line(frame) >= line for frame in frames if frame.step == step):
            return ended


def _last_line(frame: Frame) -> int:
    """Return the number of a log event's last line, or more: escaped text is not looked into."""
    if frame.event != "log":
        return 0
    return decode_record(frame.data).line + frame.data.count(b"\\n")


def _events_of(frames: list[Frame], step: str, attempt: int | None) -> tuple[int | None, bool]:
    """Return the attempt that these events are about, and whether it has ended with them."""
    for frame in frames:
        if frame.step != step:
            continue
        if frame.event == "step_started" and attempt is None:
            attempt = decode_record(frame.data).attempt
        elif frame.event in ("step_finished", "step_retrying"):
            # An attempt that was asked for may be older than the one that ends here; it has ended.
            return attempt, True
    return attempt, not frames


ROUTES: Final = (
    Route(
        method="GET",
        path=f"{API}/runs/{{id}}/steps/{{step}}/log",
        handler=show,
        summary="Get an attempt's log",
        scope="read",
        query=(
            Query("attempt", "integer", "the attempt, from 1; by default the last", least=1),
            Query("follow", "flag", "go on as it grows, until the attempt ends"),
            Query("tail", "integer", "only the last so many lines"),
            Query("from_line", "integer", "begin at this line", least=1),
            Query("to_line", "integer", "end with this line", least=1),
            Query("ansi", "text", "`strip`: without escape sequences", ("keep", "strip")),
            Query(
                "grep",
                "text",
                f"only lines with this RE2 pattern, up to {LONGEST_PATTERN} characters",
            ),
            LINK,
        ),
        link="log",
        answers=(
            Answer(200, "the log", media=TEXT),
            Answer(206, "the part that Range asks for", media=TEXT),
        ),
    ),
)
