"""What a request asks for: its run, its parameters, its key, and where its client finds us."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Coroutine
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from tailrace.errors import InvalidInputError, Problem, UnknownError
from tailrace.http.guard import scheme_of, unix_peer
from tailrace.http.keys import CALLER, HERE, ROUTE, WORKER
from tailrace.http.query import Parameters, parse_query
from tailrace.views import run_path

T = TypeVar("T")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


def parameters(request: web.Request) -> Parameters:
    """Read the request's query string as its route describes it.

    Raises:
        InvalidInputError: it has mistakes.
    """
    return parse_query(request[ROUTE].query or (), request.query.items())


def run_of(request: web.Request) -> str:
    """Return the id of the run that the path means.

    Raises:
        UnknownError: it means none, or one that the token doesn't reach.
    """
    text = request.match_info["id"]
    if text == "latest":  # for people at a terminal: an address must go on meaning the same run
        raise UnknownError("'latest' is for the command line; `GET /runs?limit=1` tells its id")
    return resolve_run(request, text)


def resolve_run(request: web.Request, text: str) -> str:
    """Return the id of the run that *text* means for this caller.

    Raises:
        UnknownError: it means none, or one that the token doesn't reach.
    """
    return request.app[WORKER].resolve(text, request[CALLER].pipelines)


def idempotency_key(request: web.Request) -> str | None:
    """Return the request's key with its owner in front: keys of others are others.

    Raises:
        InvalidInputError: it is too long, or not of printable ASCII.
    """
    return owned_key(request, request.headers.get("Idempotency-Key"), where="Idempotency-Key")


def owned_key(request: web.Request, key: str | None, *, where: str) -> str | None:
    """Return a key's digest with its owner in front, a token or a user; None where there is none.

    The key itself is kept nowhere: it may be anything, also what is to be masked.

    Raises:
        InvalidInputError: it is too long, or not of printable ASCII.
    """
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        hint = "send 1 to 255 printable ASCII characters without spaces, such as a UUID"
        raise InvalidInputError([Problem(where, "is no key", hint)])
    caller = request[CALLER]
    owner = caller.name if caller.how == "socket" else caller.token
    return f"{owner}:{hashlib.sha256(key.encode()).hexdigest()}"


def base_url(request: web.Request) -> str:
    """Return where this client finds us: the setting ``public_url``, or as it came."""
    here = request.app[HERE]
    settings = here.settings
    if settings.public_url:
        return settings.public_url.rstrip("/")
    if unix_peer(request) is not None or not (host := request.headers.get(hdrs.HOST)):
        name = f"[{here.host}]" if ":" in here.host else here.host
        return f"http://{name}:{here.port}"
    return f"{scheme_of(request)}://{host}"


def location(request: web.Request, run_id: str) -> dict[str, str]:
    """Return the ``Location`` of a run: a path, which holds behind tunnels too."""
    prefix = urlsplit(request.app[HERE].settings.public_url or "").path.rstrip("/")
    return {"Location": prefix + run_path(run_id)}


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Do what changes something to its end, also when the client goes away meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # nobody is there to be told
        raise
