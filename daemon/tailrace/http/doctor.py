"""``GET /doctor``: whether this machine can do what its pipelines ask for."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from tailrace import wire
from tailrace.doctor.examination import examine
from tailrace.errors import UnknownError
from tailrace.http.bodies import json_answer
from tailrace.http.keys import CALLER, HERE, WORKER
from tailrace.http.query import shown
from tailrace.http.requests import parameters
from tailrace.http.route import Answer, Query, Route
from tailrace.pipeline.spelling import suggest
from tailrace.views import API

_QUERY: Final = (Query("pipelines", "text", "only these, with commas between; by default all"),)


async def show(request: web.Request) -> web.StreamResponse:
    """Examine, and answer with the report."""
    given = parameters(request).text("pipelines")
    worker, caller = request.app[WORKER], request[CALLER]
    entries = {e.name: e for e in worker.catalog.entries() if caller.may_see(e.name)}
    names = list(entries)
    if given is not None:
        names = [name for name in dict.fromkeys(given.split(",")) if name]
        for name in names:
            if name not in entries:
                hint = suggest(name, list(entries), otherwise="GET /pipelines lists them")
                raise UnknownError(f"no pipeline is named '{shown(name)}'; {hint}")
    report = await examine(
        request.app[HERE].settings,
        worker.state,
        [entries[name] for name in names],
        worker.requirements,
        every_server=given is None and caller.pipelines is None,
    )
    return json_answer(report)


ROUTES: Final = (
    Route(
        method="GET",
        path=f"{API}/doctor",
        handler=show,
        summary="Tell whether this machine can do what its pipelines ask for",
        scope="admin",
        query=_QUERY,
        answers=(Answer(200, "what was looked at, and what to do next", wire.DoctorReport),),
    ),
)
