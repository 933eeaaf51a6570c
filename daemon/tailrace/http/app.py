"""The aiohttp application: the routes, what they share, and what every request passes."""

from __future__ import annotations

import asyncio
import os

from aiohttp import web

from tailrace.http import (
    artifacts,
    doctor,
    links,
    login,
    logs,
    mcp,
    module,
    ops,
    pipelines,
    probes,
    runs,
    steering,
    websocket,
)
from tailrace.http.guard import access_log, expect_later, guard, on_prepare
from tailrace.http.keys import HERE, METRICS, ROUTES, TABLE, TOKENS, WORKER, Here, Worker
from tailrace.http.metrics import Metrics
from tailrace.http.problems import boundary
from tailrace.http.route import Route
from tailrace.http.streams import end_with_tokens
from tailrace.settings import Settings
from tailrace.store.tokens import TokenStore

ALL: tuple[Route, ...] = (
    *pipelines.ROUTES,
    *runs.ROUTES,
    *websocket.ROUTES,
    *steering.ROUTES,
    *logs.ROUTES,
    *artifacts.ROUTES,
    *links.ROUTES,
    *ops.ROUTES,
    *mcp.ROUTES,
    *doctor.ROUTES,
    *probes.ROUTES,
    *login.ROUTES,
    *module.ROUTES,
)


def make_app(worker: Worker, settings: Settings, tokens: TokenStore) -> web.Application:
    """Make the application over an open worker and an open token store, which stay the caller's.

    To be served with ``handler_cancellation``, so that a client that goes away
    ends its stream at once (`tailrace.http.server` does).
    """
    app = web.Application(
        middlewares=[access_log, boundary, guard], client_max_size=settings.limits.body
    )
    app[WORKER] = worker
    app[TOKENS] = tokens
    app[HERE] = Here(settings=settings, uid=os.geteuid())
    app[METRICS] = Metrics()
    app[ROUTES] = ALL
    app[TABLE] = {}
    for route in ALL:
        resource = app.router.add_resource(route.pattern)
        methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        for method in methods:
            registered = resource.add_route(method, route.handler, expect_handler=expect_later)
            app[TABLE][registered] = route
    app.on_response_prepare.append(on_prepare)
    app.cleanup_ctx.append(mcp.endpoint)
    app.cleanup_ctx.append(end_with_tokens)
    app.on_shutdown.append(_end_streams)
    return app


async def _end_streams(app: web.Application) -> None:
    """Cut the streams when the daemon stops: their clients resume with the next one."""
    app[HERE].draining = True
    tasks = tuple(app[HERE].streams)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=5)
