"""``GET /``: says what this is; ``/?token=T`` turns a token into a browser's session."""

from __future__ import annotations

import html
import time
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aiohttp import hdrs, web

from tailrace import __version__
from tailrace.core.host_name import host_name
from tailrace.http.auth import SESSION_S
from tailrace.http.guard import cookie_name, identify, scheme_of
from tailrace.http.keys import HERE, TOKENS
from tailrace.http.problems import RefusedError
from tailrace.http.route import Answer, Query, Route

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Tailrace</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto }}
</style>
<h1>Tailrace {version}</h1>
<p>Runs pipelines over repositories; every line can be watched live.</p>
<p>{who}</p>
"""
_STRANGER: Final = (
    "You aren't logged in. Run <code>tailrace open</code> on this machine, or open "
    "<code>/?token=TOKEN</code> once, with the token of <code>&lt;state&gt;/token</code> or one "
    "made by <code>tailrace token create</code>. Programs send "
    "<code>Authorization: Bearer TOKEN</code>."
)
# Nothing of it comes from outside; scripts and streams are left to whoever works in this page.
_CSP: Final = "frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
_KNOWN: Final = (
    "You are logged in as {name}. The API is described in "
    '<a href="/api/v1/openapi.json">openapi.json</a>; there are '
    '<a href="/api/v1/pipelines">pipelines</a> and <a href="/api/v1/runs">runs</a>.'
)


async def show(request: web.Request) -> web.StreamResponse:
    """Show the page, or log in and redirect to where the token isn't in the address."""
    if (token := request.query.get("token")) is not None and request.method == "GET":
        return _log_in(request, token.strip())
    try:
        who = _KNOWN.format(name=html.escape(identify(request).name))
    except RefusedError:
        who = _STRANGER
    headers = {
        hdrs.CACHE_CONTROL: "no-store",
        "Content-Security-Policy": _CSP,
    }
    return web.Response(
        text=_PAGE.format(version=__version__, who=who), content_type="text/html", headers=headers
    )


def _log_in(request: web.Request, token: str) -> web.Response:
    session = request.app[TOKENS].open_session(token, now=time.time(), seconds=SESSION_S)
    if session is None:
        raise RefusedError(
            401,
            "the token is unknown, revoked or expired; `tailrace open` has the right address",
            {hdrs.WWW_AUTHENTICATE: 'Bearer realm="tailrace", error="invalid_token"'},
        )
    public = _public_url(request)
    kept = request.rel_url.without_query_params("token")
    headers = {
        hdrs.LOCATION: public.path.rstrip("/") + str(kept),
        hdrs.CACHE_CONTROL: "no-store",
    }
    response = web.Response(status=303, headers=headers)
    response.set_cookie(
        cookie_name(request),
        session,
        max_age=SESSION_S,
        path="/",
        httponly=True,
        samesite="Lax",
        secure="https" in (scheme_of(request), public.scheme),
    )
    return response


def _public_url(request: web.Request) -> SplitResult:
    """Return the setting ``public_url`` where the browser came by it: what a proxy takes away."""
    public = urlsplit(request.app[HERE].settings.public_url or "")
    host = host_name(request.headers.get(hdrs.HOST, ""))
    return public if host is not None and host == host_name(public.netloc) else urlsplit("")


ROUTES: Final = (
    Route(
        method="GET",
        path="/",
        handler=show,
        summary="Say what this is; with a token, log a browser in",
        scope=None,
        query=(Query("token", "text", "logs in, then redirects to where it isn't in the address"),),
        answers=(
            Answer(200, "the page", media="text/html"),
            Answer(303, "logged in", media=""),
        ),
    ),
)
