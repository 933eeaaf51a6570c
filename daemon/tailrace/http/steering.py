"""Steering runs: cancel, skip, retry, delete."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from aiohttp import web

from tailrace import wire
from tailrace.errors import ConflictError, InvalidInputError, Problem, UnknownError
from tailrace.http.bodies import json_answer, read_body
from tailrace.http.keys import CALLER, WORKER
from tailrace.http.requests import (
    base_url,
    finish,
    idempotency_key,
    location,
    parameters,
    run_of,
)
from tailrace.http.route import Answer, Route
from tailrace.http.watching import check_step
from tailrace.views import API, run_view


async def cancel(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/cancel``."""
    return await _steer(request, "cancel")


async def skip_step(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/steps/{step}/skip``."""
    return await _steer(request, "skip")


async def cancel_step(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/steps/{step}/cancel``."""
    return await _steer(request, "cancel_step")


async def _steer(request: web.Request, command: Any) -> web.StreamResponse:
    parameters(request)
    body = await read_body(request, wire.CancelBody, required=False)
    run_id, step = run_of(request), request.match_info.get("step")
    check_step(request, run_id, step)
    asked = wire.Command(
        command=command,
        id=idempotency_key(request),
        step=step,
        reason=body.reason,
        by=request[CALLER].name,
        via="http",
    )
    reply = await finish(request.app[WORKER].steer(run_id, asked))
    match reply.status:
        case "unknown":
            raise UnknownError(reply.reason or "there is no such thing in this run")
        case "conflict":
            state = reply.state or request.app[WORKER].snapshot(run_id).status
            raise ConflictError(reply.reason or f"it is {state}", state=state)
        case "invalid":
            raise InvalidInputError([Problem("body", reply.reason or "makes no sense here")])
    steered = wire.Steered(
        run=run_id, command=command, step=step, seq=reply.seq, changed=reply.status == "done"
    )
    return json_answer(steered, status=202)


async def retry(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/retry``."""
    parameters(request)
    body = await read_body(request, wire.RetryBody, required=False)
    worker, caller, run_id = request.app[WORKER], request[CALLER], run_of(request)
    if body.from_ not in ("failed", "start"):
        check_step(request, run_id, body.from_)
    asked = msgspec.json.encode([run_id, body.from_])
    work = worker.retry(
        run_id,
        start=body.from_,
        by=caller.name,
        via="http",
        trusted=caller.trusted,
        key=idempotency_key(request),
        body_sha256=hashlib.sha256(asked).hexdigest(),
    )
    new_id = await finish(work)
    view = run_view(worker.snapshot(new_id), base_url(request))
    return json_answer(view, status=201, headers=location(request, new_id))


async def remove(request: web.Request) -> web.StreamResponse:
    """``DELETE /runs/{id}``."""
    parameters(request)
    run_id = run_of(request)
    await finish(request.app[WORKER].delete(run_id))
    return web.Response(status=204)


_STEERED = Answer(202, "taken", wire.Steered)
_NEW = Answer(201, "the run, and its Location", wire.RunView)
_RUN = f"{API}/runs/{{id}}"

ROUTES: Final = (
    Route(
        method="DELETE",
        path=_RUN,
        handler=remove,
        summary="Delete a finished run, with everything it left",
        scope="admin",
        answers=(Answer(204, "gone", media=""),),
    ),
    Route(
        method="POST",
        path=_RUN + "/cancel",
        handler=cancel,
        summary="Cancel a run",
        scope="run",
        body=wire.CancelBody,
        answers=(_STEERED,),
    ),
    Route(
        method="POST",
        path=_RUN + "/retry",
        handler=retry,
        summary="Repeat a run on its workspace, as a new run",
        scope="run",
        body=wire.RetryBody,
        answers=(_NEW,),
    ),
    Route(
        method="POST",
        path=_RUN + "/steps/{step}/skip",
        handler=skip_step,
        summary="Skip a step",
        scope="run",
        body=wire.CancelBody,
        answers=(_STEERED,),
    ),
    Route(
        method="POST",
        path=_RUN + "/steps/{step}/cancel",
        handler=cancel_step,
        summary="Cancel a step",
        scope="run",
        body=wire.CancelBody,
        answers=(_STEERED,),
    ),
)
