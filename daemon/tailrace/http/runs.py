"""Runs: starting, listing, showing and watching them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final

import msgspec
from aiohttp import web

from tailrace import wire
from tailrace.errors import InvalidInputError, Problem, UnknownError
from tailrace.http.bodies import json_answer, read_body
from tailrace.http.keys import CALLER, WORKER
from tailrace.http.query import parse_event_id, parse_query, shown
from tailrace.http.requests import (
    base_url,
    finish,
    idempotency_key,
    location,
    parameters,
    resolve_run,
    run_of,
)
from tailrace.http.route import LINK, NDJSON, SSE, Answer, Query, Route
from tailrace.http.shapes import Wanted
from tailrace.http.streams import head_answer, sse_outlet
from tailrace.http.watching import (
    PLACE_QUERY,
    SHAPE_QUERY,
    Place,
    answer_stream,
    check_step,
    place_of,
    prefers,
    wanted_of,
)
from tailrace.store.index import MOST_LISTED, RunRow
from tailrace.views import API, run_summary, run_view
from tailrace.worker.submission import Submission

_PAGE: Final = 50


async def start(request: web.Request) -> web.StreamResponse:
    """``POST /runs``."""
    caller = request[CALLER]
    streamed = prefers(request.headers.get("Accept"), SSE, "application/json")
    wanted = wanted_of(parameters(request), None)
    body = await read_body(request, wire.StartRun)
    if not caller.may_see(body.pipeline):
        raise UnknownError(f"no pipeline is named '{shown(body.pipeline)}'")
    if request.headers.get("Last-Event-ID", "").strip():
        return await answer_resumed(request, body.pipeline, wanted)
    canonical = msgspec.json.encode(body, order="deterministic")
    submission = Submission(
        pipeline=body.pipeline,
        params=body.params,
        depth=body.depth,
        on_disconnect=body.on_disconnect,
        keep_workspace=body.keep_workspace,
        by=caller.name,
        via="http",
        trusted=caller.trusted,
        key=idempotency_key(request),
        body_sha256=hashlib.sha256(canonical).hexdigest(),
    )
    return await answer_started(request, submission, wanted if streamed else None)


async def answer_started(
    request: web.Request, submission: Submission, wanted: Wanted | None
) -> web.StreamResponse:
    """Submit, and answer with the run (201), its stream (200), or the reason why there is none."""
    worker = request.app[WORKER]
    submission = msgspec.structs.replace(submission, watched=wanted is not None)
    started = await finish(worker.submit(submission))
    if started.run_id is None:
        return json_answer(wire.NoRun(reason=started.reason or ""))
    if wanted is not None:
        return await answer_stream(request, started.run_id, wanted, Place(), own_ids=True)
    view = run_view(await worker.snapshot(started.run_id), base_url(request))
    return json_answer(view, status=201, headers=location(request, started.run_id))


async def answer_resumed(request: web.Request, pipeline: str, wanted: Wanted) -> web.StreamResponse:
    """Answer with the rest of the run that ``Last-Event-ID`` names; never start one.

    Raises:
        InvalidInputError: it names no run, or one of another pipeline.
        UnknownError: there is no such run.
    """
    worker = request.app[WORKER]
    last = parse_event_id(request.headers["Last-Event-ID"])
    if last.run is None:
        hint = "send the last id as it came, RUNID:SEQ, or none to start a run"
        raise InvalidInputError([Problem("Last-Event-ID", "names no run", hint)])
    run_id = resolve_run(request, last.run)
    if (of := worker.pipeline_of(run_id)) != pipeline:
        hint = f"resume where '{of}' is started, or send none to start a run"
        raise InvalidInputError([Problem("Last-Event-ID", "is of another pipeline's run", hint)])
    place = await place_of(request, run_id, parse_query((), ()))
    return await answer_stream(request, run_id, wanted, place, own_ids=True)


async def show_list(request: web.Request) -> web.StreamResponse:
    """``GET /runs``."""
    given = parameters(request)
    limit = given.integer("limit")
    rows, cursor = page_of(
        request,
        given.text("pipeline"),
        given.text("status"),
        _PAGE if limit is None else limit,
        given.text("cursor"),
    )
    base = base_url(request)
    runs = tuple(run_summary(row, base) for row in rows)
    return json_answer(wire.RunList(runs=runs, next_cursor=cursor))


def page_of(
    request: web.Request, pipeline: str | None, status: str | None, limit: int, cursor: str | None
) -> tuple[list[RunRow], str | None]:
    """Return a page of the caller's runs, newest first, and the next one's cursor."""
    worker, caller = request.app[WORKER], request[CALLER]
    if pipeline is None and caller.pipelines is not None and len(caller.pipelines) == 1:
        (pipeline,) = caller.pipelines
    if pipeline is not None and not caller.may_see(pipeline):
        return [], None
    while True:
        rows, cursor = worker.list(pipeline=pipeline, status=status, limit=limit, cursor=cursor)
        seen = [row for row in rows if caller.may_see(row.pipeline)]
        if seen or cursor is None:  # a page may be short; only the last one may be empty
            return seen, cursor


async def show(request: web.Request) -> web.StreamResponse:
    """``GET /runs/{id}``."""
    parameters(request)
    run_id = run_of(request)
    return json_answer(run_view(await request.app[WORKER].snapshot(run_id), base_url(request)))


async def watch(request: web.Request) -> web.StreamResponse:
    """``GET /runs/{id}/events``."""
    given = parameters(request)
    wanted = wanted_of(given, request.headers.get("Accept"))
    run_id = run_of(request)
    await check_step(request, run_id, wanted.step)
    return await answer_stream(request, run_id, wanted, await place_of(request, run_id, given))


async def watch_list(request: web.Request) -> web.StreamResponse:
    """``GET /events``."""
    parameters(request)
    caller, base = request[CALLER], base_url(request)
    if request.method == "HEAD":
        return head_answer(SSE)
    changes = request.app[WORKER].list_changes()
    async with sse_outlet(request) as out:
        coming = asyncio.ensure_future(_first(changes))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=out.due_s)
                if not done:
                    await out.keep_alive()
                    continue
                row = coming.result()
                if row is None:
                    break
                coming = asyncio.ensure_future(_first(changes))
                if caller.may_see(row.pipeline):
                    data = wire.encode_json(run_summary(row, base))
                    await out.write(wire.sse_event("run", None, data))
        finally:
            coming.cancel()
            await asyncio.wait({coming})
            if (close := getattr(changes, "aclose", None)) is not None:
                await close()
    return out.response


async def _first(changes: Any) -> RunRow | None:
    """Return the next change, None at the end (a task can't raise StopAsyncIteration)."""
    return await anext(changes, None)


_RUN = Answer(200, "the run", wire.RunView)
_NEW = Answer(201, "the run, and its Location", wire.RunView)
_RUNS = f"{API}/runs"

ROUTES: Final = (
    Route(
        method="POST",
        path=_RUNS,
        handler=start,
        summary="Start a run; with `Accept: text/event-stream`, answer with its events",
        scope="run",
        query=SHAPE_QUERY,
        body=wire.StartRun,
        body_required=True,
        headers=("Idempotency-Key", "Last-Event-ID"),
        answers=(
            _NEW,
            Answer(200, "its events", media=SSE),
            Answer(200, "no run was made", wire.NoRun),
        ),
    ),
    Route(
        method="GET",
        path=_RUNS,
        handler=show_list,
        summary="List runs, newest first",
        scope="read",
        query=(
            Query("pipeline", "text", "only of this pipeline"),
            Query("status", "text", "only with this status"),
            Query(
                "limit",
                "integer",
                f"at most so many, 1 to {MOST_LISTED}; {_PAGE} by default",
                least=1,
            ),
            Query("cursor", "text", "`next_cursor` of the page before"),
        ),
        answers=(Answer(200, "a page", wire.RunList),),
    ),
    Route(
        method="GET",
        path=_RUNS + "/{id}",
        handler=show,
        summary="Show a run with its steps and artifacts",
        scope="read",
        answers=(_RUN,),
    ),
    Route(
        method="GET",
        path=_RUNS + "/{id}/events",
        handler=watch,
        summary="Watch a run's events, from any place on",
        scope="read",
        query=(*SHAPE_QUERY, *PLACE_QUERY, LINK),
        link="events",
        headers=("Last-Event-ID",),
        answers=(
            Answer(200, "its events", media=SSE),
            Answer(200, "its events, one object a line", media=NDJSON),
            Answer(204, "the last event was seen already", media=""),
        ),
    ),
    Route(
        method="GET",
        path=f"{API}/events",
        handler=watch_list,
        summary="Watch the list: an event for every run that changes its status",
        scope="read",
        answers=(Answer(200, "`event: run`, data as in the list", media=SSE),),
    ),
)
