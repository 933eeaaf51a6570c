"""Every request passes here: Host, CORS, who asks, whether they may, and the access log."""

from __future__ import annotations

import pwd
import socket
import struct
import time
from typing import Final

import structlog
from aiohttp import HttpVersion11, hdrs, web

from tailrace.http import auth
from tailrace.http.auth import Caller
from tailrace.http.keys import CALLER, HERE, METRICS, ROUTE, TABLE, TOKENS
from tailrace.http.problems import BEGUN, RefusedError
from tailrace.http.route import LINK, SSE, Handler, Route
from tailrace.http.signed import NOBODY, What, read_link
from tailrace.store.tokens import Scope

log = structlog.get_logger()

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


@web.middleware
async def access_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log one line a request: never its query string nor a header, which may hold secrets."""
    began = time.monotonic()
    # Unless told otherwise, the client went away before there was an answer (as nginx logs it).
    status, size = 499, 0
    try:
        response = await handler(request)
        status, size = response.status, response.body_length or response.content_length or 0
    except web.HTTPException as exc:
        status = exc.status
        raise
    finally:
        seconds = time.monotonic() - began
        route = request.get(ROUTE)
        name = route.path if route else "unknown"
        metrics = request.app[METRICS]
        metrics.requests.labels(request.method[:16], name, status).inc()
        if BEGUN not in request:
            metrics.seconds.labels(name).observe(seconds)
        caller = request.get(CALLER)
        quiet = route is not None and route.probe
        (log.debug if quiet else log.info)(
            "request",
            method=request.method,
            path=request.path,
            status=status,
            duration_ms=round(seconds * 1000, 1),
            bytes=size,
            by=caller.name if caller else None,
            remote=request.remote or "unix",
        )
    return response


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through, or refuse it; afterwards `CALLER` and `ROUTE` say who and what."""
    route = request.app[TABLE].get(request.match_info.route)
    if route is not None:
        request[ROUTE] = route
    on_socket = unix_peer(request) is not None
    if not on_socket and not (route is not None and route.probe):
        _check_host(request)
    if hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers and request.method == "OPTIONS":
        return _preflight(request)
    if route is None:
        return await handler(request)  # 404 or 405
    if route.scope is not None:
        caller = identify(request)
        request[CALLER] = caller
        _check_change(request, route, caller)
        check_scope(caller, route.scope)
    await _meet_expectation(request)
    return await handler(request)


async def expect_later(_request: web.Request) -> None:
    """Leave ``Expect`` to the guard: aiohttp looks at it before anybody asks who is there."""


async def _meet_expectation(request: web.Request) -> None:
    """Ask for the body that a client holds back until it knows that it may send it (RFC 9110)."""
    expected = request.headers.get(hdrs.EXPECT, "").strip().lower()
    if not expected or request.version < HttpVersion11:
        return
    if expected != "100-continue":
        raise RefusedError(417, "the only Expect that can be met is 100-continue; leave it out")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself hasn't begun


def _check_host(request: web.Request) -> None:
    here = request.app[HERE]
    settings = here.settings
    allowed = auth.host_names(here.host, settings.public_url, settings.allowed_hosts)
    if not auth.host_is_allowed(request.headers.getall(hdrs.HOST, []), allowed):
        raise RefusedError(
            403, "this Host isn't ours; if it should be, add it to the setting allowed_hosts"
        )


def _preflight(request: web.Request) -> web.Response:
    if LINK.name in request.query:  # what it opens, it opens to any page; the request will say
        return web.Response(status=204, headers={**auth.LINKED, **auth.PREFLIGHT})
    origin = request.headers.get(hdrs.ORIGIN)
    headers = auth.cors_headers(origin, request.app[HERE].settings.allowed_origins)
    if hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in headers:
        raise RefusedError(
            403, "pages of this origin may not ask; the setting allowed_origins says which may"
        )
    return web.Response(status=204, headers=auth.PREFLIGHT)


def identify(request: web.Request) -> Caller:
    """Return who asks: by a signed link, by the Unix socket, else by token, else by cookie.

    Raises:
        RefusedError: nobody that we know.
    """
    if (what := _linked(request)) is not None:
        return _caller_of_link(request, what)
    if (uid := unix_peer(request)) is not None:
        return auth.caller_of_peer(uid, request.app[HERE].uid, _user_name(uid))
    now = time.time()
    tokens = request.app[TOKENS]
    if (header := request.headers.get(hdrs.AUTHORIZATION)) is not None:
        text = auth.bearer_token(header)
        token = None if text is None else tokens.find(text, now=now)
        if token is None:
            raise _unauthorized("the token is unknown, revoked or expired", "invalid_token")
        return auth.caller_of_token(token, "bearer")
    session = request.cookies.get(cookie_name(request))
    if session and (found := tokens.find_session(session, now=now)) is not None:
        token, until_s = found
        return auth.caller_of_token(token, "cookie", until_s=until_s)
    raise _unauthorized("send a token: Authorization: Bearer TOKEN, or open /?token=TOKEN once")


def _linked(request: web.Request) -> What | None:
    """Return what a link in the address shows; None where there is no link."""
    route = request.get(ROUTE)
    return route.link if route is not None and LINK.name in request.query else None


def _caller_of_link(request: web.Request, what: What) -> Caller:
    place, tokens, now = request.match_info, request.app[TOKENS], time.time()
    link = read_link(
        tokens.link_key(),
        request.query[LINK.name],
        run=place["id"],
        what=what,
        path=place.get("step") or place.get("path") or "",
    )
    if link is None:
        raise RefusedError(403, "the link isn't one to this address; ask for a new one")
    if link.expires_s <= now:
        raise RefusedError(403, "the link has expired; ask for a new one")
    if link.issuer == NOBODY:
        return auth.caller_of_link(None, until_s=link.expires_s)
    if (issuer := tokens.find_id(link.issuer, now=now)) is None:
        raise RefusedError(403, "the token that made the link has ended; ask for a new one")
    return auth.caller_of_link(issuer, until_s=link.expires_s)


def _unauthorized(detail: str, error: str | None = None) -> RefusedError:
    challenge = 'Bearer realm="tailrace"' + (f', error="{error}"' if error else "")
    return RefusedError(401, detail, {hdrs.WWW_AUTHENTICATE: challenge})


def _check_change(request: web.Request, route: Route, caller: Caller) -> None:
    if caller.how != "cookie" or not route.is_change:
        return
    host = request.headers.get(hdrs.HOST, "")
    ours = auth.own_origins(scheme_of(request), host, request.app[HERE].settings.public_url)
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get(hdrs.ORIGIN)
    if not auth.change_is_ours(site, origin, ours):
        raise RefusedError(
            403, "with a cookie, changes come from our own page only; send a token instead"
        )


def check_origin(request: web.Request) -> None:
    """Refuse a WebSocket from a page that isn't ours: browsers open them to anybody.

    Raises:
        RefusedError: 403.
    """
    settings = request.app[HERE].settings
    host = request.headers.get(hdrs.HOST, "")
    ours = auth.own_origins(scheme_of(request), host, settings.public_url)
    origin, how = request.headers.get(hdrs.ORIGIN), request[CALLER].how
    if not auth.websocket_is_ours(origin, how, ours, settings.allowed_origins):
        raise RefusedError(
            403,
            "WebSockets of this Origin aren't taken: with a cookie it must be our own, else it may "
            "be one of allowed_origins",
        )


def check_scope(caller: Caller, scope: Scope) -> None:
    """Refuse a caller without that scope.

    Raises:
        RefusedError: 403.
    """
    if scope not in caller.scopes:
        challenge = f'Bearer realm="tailrace", error="insufficient_scope", scope="{scope}"'
        raise RefusedError(
            403,
            f"the token's scope doesn't reach: '{scope}' is needed",
            {hdrs.WWW_AUTHENTICATE: challenge},
        )


def unix_peer(request: web.BaseRequest) -> int | None:
    """Return the user id at the other end of the Unix socket; None for TCP."""
    peer = request.transport.get_extra_info("socket") if request.transport is not None else None
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    packed = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(packed)[1]
    return uid


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def cookie_name(request: web.Request) -> str:
    """Return our cookie's name, with the port: cookies don't tell ports apart (RFC 6265, 8.5)."""
    return f"tailrace_{request.app[HERE].port}"


def scheme_of(request: web.Request) -> str:
    """Return the scheme that the client used."""
    return auth.forwarded_scheme(
        request.scheme,
        request.remote,
        request.headers.get("X-Forwarded-Proto"),
        request.app[HERE].settings.trusted_proxies,
    )


async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Add what every answer carries."""
    request[BEGUN] = response
    headers = response.headers
    if request.app[HERE].draining:
        headers[hdrs.CONNECTION] = "close"
        response.force_close()
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    if response.content_type != SSE:
        headers.setdefault(hdrs.CACHE_CONTROL, "no-cache")
    if _linked(request) is not None:
        headers.update(auth.LINKED)
        return
    origin = request.headers.get(hdrs.ORIGIN)
    headers.update(auth.cors_headers(origin, request.app[HERE].settings.allowed_origins))
