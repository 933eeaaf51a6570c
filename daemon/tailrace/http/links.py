"""``POST /runs/{id}/links``: addresses that show one thing for a while, to whoever holds them."""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import quote

from aiohttp import web

from tailrace import wire
from tailrace.core.run import Snapshot
from tailrace.core.units import format_duration, parse_duration
from tailrace.errors import InvalidInputError, Problem, UnknownError
from tailrace.http.bodies import json_answer, read_body
from tailrace.http.keys import CALLER, TOKENS, WORKER
from tailrace.http.query import shown
from tailrace.http.requests import base_url, parameters, run_of
from tailrace.http.route import LINK, Answer, Route
from tailrace.http.signed import LONGEST_S, Link, text_of
from tailrace.http.watching import check_step
from tailrace.views import API, artifact_path, run_path


async def make(request: web.Request) -> web.StreamResponse:
    """Sign a link to a run's events, to a step's log or to an artifact."""
    parameters(request)
    run_id = run_of(request)
    body = await read_body(request, wire.LinkBody)
    expires_s = int(time.time()) + _seconds(body.expires)
    place, path = await _place(request, run_id, body)
    link = Link(
        run=run_id, what=body.what, path=path, issuer=request[CALLER].token, expires_s=expires_s
    )
    text = text_of(request.app[TOKENS].link_key(), link)
    made = wire.SignedLink(
        url=f"{base_url(request)}{place}?{LINK.name}={text}", expires_at=wire.timestamp(expires_s)
    )
    return json_answer(made, status=201)


def _seconds(text: str) -> int:
    longest = format_duration(LONGEST_S * 1000)
    try:
        seconds = parse_duration(text) // 1000
        if 0 < seconds <= LONGEST_S:
            return seconds
        hint = f"a link lasts 1s to {longest}"
    except ValueError as exc:
        hint = f"{exc}; at most {longest}"
    raise InvalidInputError([Problem("expires", f"'{shown(text)}' makes no sense", hint)])


async def _place(request: web.Request, run_id: str, body: wire.LinkBody) -> tuple[str, str]:
    """Return the path of an address, and what of it is signed besides the run."""
    run = await request.app[WORKER].snapshot(run_id)
    match body.what:
        case "events":
            if body.path is not None:
                hint = "leave it out; `log` and `artifact` have one"
                raise InvalidInputError([Problem("path", "means nothing for events", hint)])
            return f"{run_path(run_id)}/events", ""
        case "log":
            if body.path is None:
                hint = f"name the step; there are {', '.join(run.steps)}"
                raise InvalidInputError([Problem("path", "is missing", hint)])
            await check_step(request, run_id, body.path)
            return f"{run_path(run_id)}/steps/{quote(body.path, safe='')}/log", body.path
        case "artifact":
            name = _artifact(run, body.path)
            return artifact_path(run_id, name), name


def _artifact(run: Snapshot, name: str | None) -> str:
    """Return the name of an artifact that the run has; without a name, of the primary one."""
    for item in run.artifacts:
        if item.name == name or (name is None and item.url == run.file_url):
            return item.name
    if name is None:
        raise UnknownError("the run has no primary artifact (yet); name one in `path`")
    raise UnknownError(
        f"the run has no artifact '{shown(name)}' (yet); GET /runs/{{id}} lists them"
    )


ROUTES: Final = (
    Route(
        method="POST",
        path=f"{API}/runs/{{id}}/links",
        handler=make,
        summary="Sign a link to events, a log or an artifact",
        scope="run",
        body=wire.LinkBody,
        body_required=True,
        answers=(Answer(201, "the address, for whoever gets it", wire.SignedLink),),
    ),
)
