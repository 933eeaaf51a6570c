"""Pipelines: what may be run, and what is wrong with what may not."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from tailrace import wire
from tailrace.errors import UnknownError
from tailrace.http.bodies import json_answer
from tailrace.http.keys import CALLER, WORKER
from tailrace.http.query import shown
from tailrace.http.requests import base_url, parameters
from tailrace.http.route import Answer, Route
from tailrace.pipeline.catalog import Entry
from tailrace.pipeline.spelling import suggest
from tailrace.views import API, pipeline_view

_LAST_RUNS: Final = 5


async def show_list(request: web.Request) -> web.StreamResponse:
    """``GET /pipelines``."""
    parameters(request)
    return json_answer(wire.PipelineList(pipelines=pipeline_views(request)))


def pipeline_views(request: web.Request) -> tuple[wire.PipelineView, ...]:
    """Return the pipelines that the caller may see."""
    return tuple(_view(request, entry) for entry in _entries(request))


async def show(request: web.Request) -> web.StreamResponse:
    """``GET /pipelines/{name}``."""
    parameters(request)
    name, entries = request.match_info["name"], _entries(request)
    for entry in entries:
        if entry.name == name:
            return json_answer(_view(request, entry))
    hint = suggest(name, [entry.name for entry in entries], otherwise="GET /pipelines lists them")
    raise UnknownError(f"no pipeline is named '{shown(name)}'" + (f"; {hint}" if hint else ""))


def _entries(request: web.Request) -> list[Entry]:
    caller = request[CALLER]
    return [entry for entry in request.app[WORKER].catalog.entries() if caller.may_see(entry.name)]


def _view(request: web.Request, entry: Entry) -> wire.PipelineView:
    worker = request.app[WORKER]
    last, _ = worker.list(pipeline=entry.name, limit=_LAST_RUNS)
    schedules = () if entry.pipeline is None else worker.timetable(entry.pipeline)
    return pipeline_view(entry, last, base_url(request), schedules)


ROUTES: Final = (
    Route(
        method="GET",
        path=f"{API}/pipelines",
        handler=show_list,
        summary="List the pipelines, broken ones with their mistakes",
        scope="read",
        answers=(Answer(200, "all of them", wire.PipelineList),),
    ),
    Route(
        method="GET",
        path=f"{API}/pipelines/{{name}}",
        handler=show,
        summary="Show a pipeline: params, graph, schedules, last runs, mistakes",
        scope="read",
        answers=(Answer(200, "the pipeline", wire.PipelineView),),
    ),
)
