"""Steering runs: cancel, pause, answer, skip, extend, retry, delete."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final

import msgspec
from aiohttp import web

from tailrace import wire
from tailrace.core.plan import AskAction
from tailrace.core.units import parse_duration
from tailrace.errors import ConflictError, InvalidInputError, Problem, UnknownError
from tailrace.http.bodies import json_answer, read_body
from tailrace.http.guard import check_scope
from tailrace.http.keys import CALLER, WORKER
from tailrace.http.query import shown
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
from tailrace.rundir.snapshot import read_run_file
from tailrace.store.tokens import Scope
from tailrace.views import API, run_view


async def cancel(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/cancel``."""
    body = await read_body(request, wire.CancelBody, required=False)
    return await _steer(request, "cancel", reason=body.reason)


async def pause(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/pause``."""
    await read_body(request, wire.PauseBody, required=False)
    return await _steer(request, "pause")


async def resume(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/resume``."""
    await read_body(request, wire.PauseBody, required=False)
    return await _steer(request, "resume")


async def answer(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/answers/{prompt}``."""
    body = await read_body(request, wire.AnswerBody)
    prompt = request.match_info["prompt"]
    check_scope(request[CALLER], await scope_of_answer(request, run_of(request), prompt))
    return await _steer(request, "answer", prompt=prompt, answer=body.answer)


async def scope_of_answer(request: web.Request, run_id: str, prompt: str) -> Scope:
    """Return the scope that an answer needs: the ``ask`` step's, else ``run``."""
    worker = request.app[WORKER]
    if prompt not in (await worker.snapshot(run_id)).steps:  # an event's: STEP.p1
        return "run"
    plan = (await asyncio.to_thread(read_run_file, worker.state.run(run_id))).plan
    action = plan.step(prompt).action
    return (action.scope if isinstance(action, AskAction) else None) or "run"


async def progress(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/progress``."""
    body = await read_body(request, wire.ProgressBody)
    return await _steer(
        request, "progress", about=body.step, stage=body.stage, percent=body.percent, note=body.note
    )


async def skip_step(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/steps/{step}/skip``."""
    body = await read_body(request, wire.CancelBody, required=False)
    return await _steer(request, "skip", reason=body.reason)


async def cancel_step(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/steps/{step}/cancel``."""
    body = await read_body(request, wire.CancelBody, required=False)
    return await _steer(request, "cancel_step", reason=body.reason)


async def extend_step(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/steps/{step}/extend``."""
    body = await read_body(request, wire.ExtendBody)
    return await _steer(request, "extend", by_ms=extension_ms(body.by))


def extension_ms(text: str) -> int:
    """Return by how much a timeout is extended.

    Raises:
        InvalidInputError: it is no duration, or nothing.
    """
    try:
        if (by_ms := parse_duration(text)) > 0:
            return by_ms
        hint = "extend by more than nothing, such as 10m"
    except ValueError as exc:
        hint = str(exc)
    raise InvalidInputError([Problem("by", f"'{shown(text)}' makes no sense", hint)])


async def _steer(
    request: web.Request, command: Any, *, about: str | None = None, **more: Any
) -> web.StreamResponse:
    parameters(request)
    run_id, step = run_of(request), request.match_info.get("step", about)
    asked = wire.Command(
        command=command,
        id=idempotency_key(request),
        step=step,
        by=request[CALLER].name,
        via="http",
        **more,
    )
    reply = await steer(request, run_id, asked)
    steered = wire.Steered(
        run=run_id, command=command, step=step, prompt=asked.prompt, seq=reply.seq,
        changed=reply.status == "done",
    )  # fmt: skip
    return json_answer(steered, status=202)


async def steer(
    request: web.Request,
    run_id: str,
    asked: wire.Command,
    *,
    where: str | None = None,
    key: str = "Idempotency-Key",
) -> wire.Reply:
    """Hand a command to a run, whichever way it came, and return the answer.

    Once handed over it is done, also when the client goes away meanwhile.
    *where* is the place that a mistake is told to be in, by default the field
    that the command turns on, and *key* that of its id.

    Raises:
        UnknownError: there is no such run, step or prompt.
        ConflictError: the state doesn't allow it.
        InvalidInputError: it makes no sense here.
        UnavailableError: the run's runner doesn't answer.
    """
    await check_step(request, run_id, asked.step)
    reply = await finish(request.app[WORKER].steer(run_id, asked))
    match reply.status:
        case "unknown":
            raise UnknownError(reply.reason or "there is no such thing in this run")
        case "conflict":
            state = reply.state or (await request.app[WORKER].snapshot(run_id)).status
            raise ConflictError(reply.reason or f"it is {state}", state=state)
        case "invalid":
            turns_on, usual_hint = _TURNS_ON.get(asked.command, ("body", ""))
            if reply == wire.OTHER_COMMAND:
                where = key
            said, _, hint = (reply.reason or "makes no sense here").partition("; ")
            raise InvalidInputError(
                [Problem(turns_on if where is None else where, said, hint or usual_hint)]
            )
    return reply


_TURNS_ON: Final = {
    "answer": ("answer", "choose one of these"),
    "extend": ("by", "give a duration such as 10m"),
}


async def retry(request: web.Request) -> web.StreamResponse:
    """``POST /runs/{id}/retry``."""
    parameters(request)
    body = await read_body(request, wire.RetryBody, required=False)
    key = idempotency_key(request)
    new_id = await repeat(request, run_of(request), body.from_, via="http", key=key)
    view = run_view(await request.app[WORKER].snapshot(new_id), base_url(request))
    return json_answer(view, status=201, headers=location(request, new_id))


async def repeat(
    request: web.Request, run_id: str, start: str, *, via: str, key: str | None
) -> str:
    """Repeat a run from *start* on, whichever way that was asked for; return the new run's id.

    Raises:
        UnknownError: there is no such run or step.
        ConflictError: it hasn't ended, or its workspace is gone or in use.
        InvalidInputError: the key came before with another request.
        UnavailableError: the queue or the disk is full.
    """
    if start not in ("failed", "start"):
        await check_step(request, run_id, start, or_matrix=True)
    caller, asked = request[CALLER], msgspec.json.encode([run_id, start])
    work = request.app[WORKER].retry(
        run_id,
        start=start,
        by=caller.name,
        via=via,
        trusted=caller.trusted,
        key=key,
        body_sha256=hashlib.sha256(asked).hexdigest(),
    )
    return await finish(work)


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
        headers=("Idempotency-Key",),
        answers=(_STEERED,),
    ),
    Route(
        method="POST",
        path=_RUN + "/pause",
        handler=pause,
        summary="Freeze a run's processes and start no more",
        scope="run",
        body=wire.PauseBody,
        headers=("Idempotency-Key",),
        answers=(_STEERED,),
    ),
    Route(
        method="POST",
        path=_RUN + "/resume",
        handler=resume,
        summary="Go on with a paused run",
        scope="run",
        body=wire.PauseBody,
        headers=("Idempotency-Key",),
        answers=(_STEERED,),
    ),
    Route(
        method="POST",
        path=_RUN + "/answers/{prompt}",
        handler=answer,
        summary="Answer a prompt",
        scope="read",  # at least: an `ask` may demand another, and `run` is needed where none does
        body=wire.AnswerBody,
        body_required=True,
        headers=("Idempotency-Key",),
        answers=(_STEERED,),
    ),
    Route(
        method="POST",
        path=_RUN + "/progress",
        handler=progress,
        summary="Tell how far a step is, in its name",
        scope="run",
        body=wire.ProgressBody,
        body_required=True,
        headers=("Idempotency-Key",),
        answers=(_STEERED,),
    ),
    Route(
        method="POST",
        path=_RUN + "/retry",
        handler=retry,
        summary="Repeat a run on its workspace, as a new run",
        scope="run",
        body=wire.RetryBody,
        headers=("Idempotency-Key",),
        answers=(_NEW,),
    ),
    Route(
        method="POST",
        path=_RUN + "/steps/{step}/skip",
        handler=skip_step,
        summary="Skip a step",
        scope="run",
        body=wire.CancelBody,
        headers=("Idempotency-Key",),
        answers=(_STEERED,),
    ),
    Route(
        method="POST",
        path=_RUN + "/steps/{step}/cancel",
        handler=cancel_step,
        summary="Cancel a step",
        scope="run",
        body=wire.CancelBody,
        headers=("Idempotency-Key",),
        answers=(_STEERED,),
    ),
    Route(
        method="POST",
        path=_RUN + "/steps/{step}/extend",
        handler=extend_step,
        summary="Give a step's attempt more time",
        scope="run",
        body=wire.ExtendBody,
        body_required=True,
        headers=("Idempotency-Key",),
        answers=(_STEERED,),
    ),
)
