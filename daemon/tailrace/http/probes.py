"""What other programs ask of a daemon: is it well, what does it count, what can it do."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from tailrace import __version__, wire
from tailrace.http.bodies import json_answer
from tailrace.http.keys import CALLER, HERE, METRICS, WORKER
from tailrace.http.keys import ROUTES as ALL_ROUTES
from tailrace.http.openapi import document
from tailrace.http.problems import RefusedError
from tailrace.http.route import JSON, TEXT, Answer, Route
from tailrace.views import API


async def health(request: web.Request) -> web.StreamResponse:
    """``GET /healthz``: the process answers."""
    return json_answer(wire.Health(status="ok", version=__version__))


async def readiness(request: web.Request) -> web.StreamResponse:
    """``GET /readyz``: it takes work; 503 from the moment it is about to stop."""
    if request.app[HERE].draining:
        return json_answer(wire.Health(status="draining", version=__version__), status=503)
    return json_answer(wire.Health(status="ok", version=__version__))


async def metrics(request: web.Request) -> web.StreamResponse:
    """``GET /metrics``: of all pipelines, so not for tokens that are narrowed to some."""
    if request[CALLER].pipelines is not None:
        raise RefusedError(403, "the token is narrowed to pipelines; metrics are of all of them")
    body, media = request.app[METRICS].render(await request.app[WORKER].gauges())
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: media})


async def openapi(request: web.Request) -> web.StreamResponse:
    """``GET /api/v1/openapi.json``."""
    body = wire.encode_json(document(request.app[ALL_ROUTES], version=__version__))
    return web.Response(body=body, content_type=JSON)


ROUTES: Final = (
    Route(
        method="GET",
        path="/healthz",
        handler=health,
        summary="Tell that the daemon answers",
        scope=None,
        probe=True,
        query=None,
        answers=(Answer(200, "it does", wire.Health),),
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=readiness,
        summary="Tell whether the daemon takes work",
        scope=None,
        probe=True,
        query=None,
        answers=(Answer(200, "it does", wire.Health), Answer(503, "it is stopping", wire.Health)),
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=metrics,
        summary="Get figures in Prometheus' text format",
        scope="read",
        query=None,
        answers=(Answer(200, "the figures", media=TEXT),),
    ),
    Route(
        method="GET",
        path=f"{API}/openapi.json",
        handler=openapi,
        summary="Get this description of the API",
        scope="read",
        query=None,
        answers=(Answer(200, "OpenAPI 3.1"),),
    ),
)
