"""Errors as RFC 9457 problem documents, and the boundary where nothing passes unseen."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web

from tailrace import wire
from tailrace.errors import (
    DISK_RETRY_S,
    ConflictError,
    InvalidInputError,
    Problem,
    TailraceError,
    UnavailableError,
    UnknownError,
)
from tailrace.http.query import shown
from tailrace.http.route import Handler
from tailrace.rundir.disk import is_disk_error

log = structlog.get_logger()

BEGUN: Final = web.RequestKey("begun", web.StreamResponse)  # the answer, once it has begun
MEDIA_TYPE: Final = "application/problem+json"


class RefusedError(TailraceError):
    """A request that is refused for what its head says.

    ``status`` is the answer's; ``headers`` go with it, such as WWW-Authenticate.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class UnreadableError(InvalidInputError):
    """A body that can't be read as JSON at all: HTTP 400."""


def problem(
    status: int,
    detail: str,
    *,
    errors: tuple[Problem, ...] = (),
    state: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """Make a problem document's response."""
    document = wire.ProblemDocument(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=tuple(
            wire.ProblemItem(
                where=item.where, problem=item.problem, hint=item.hint, position=item.position
            )
            for item in errors
        ),
        state=state,
    )
    return web.Response(
        status=status, body=wire.encode_json(document), content_type=MEDIA_TYPE, headers=headers
    )


def problem_of(exc: TailraceError) -> web.Response:
    """Return the answer that an error of ours becomes."""
    match exc:
        case RefusedError():
            return problem(exc.status, str(exc), headers=exc.headers)
        case UnreadableError():
            return problem(400, str(exc), errors=exc.problems)
        case InvalidInputError():
            return problem(422, str(exc), errors=exc.problems)
        case UnknownError():
            return problem(404, str(exc))
        case ConflictError():
            return problem(409, str(exc), state=exc.state)
        case UnavailableError():
            return problem(503, str(exc), headers={"Retry-After": str(exc.retry_after_s)})
        case _:
            return problem(500, str(exc))


def problem_of_http(request: web.Request, exc: web.HTTPException) -> web.StreamResponse:
    """Return the answer that an error of aiohttp's own becomes; redirects stay what they are."""
    if exc.status < 400:
        return exc
    match exc:
        case web.HTTPNotFound():
            detail = (
                f"there is nothing at {shown(request.path)}; /api/v1/openapi.json lists what is"
            )
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(exc.allowed_methods))
            detail = f"{shown(request.method)} isn't possible here; use {allowed}"
            return problem(405, detail, headers={"Allow": allowed})
        case web.HTTPRequestEntityTooLarge():
            larger = Problem(
                "body", "is larger than limits.body", "send less, or raise the setting"
            )
            return problem(413, str(larger), errors=(larger,))
        case _:
            detail = exc.reason or ""
    return problem(exc.status, detail)


@web.middleware
async def boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document; what wasn't foreseen is logged, and ends only this.

    Once an answer has begun it can't become another: the connection is cut, so
    that the client sees that it isn't whole.
    """
    try:
        return await handler(request)
    except TailraceError as exc:
        if BEGUN not in request:
            return problem_of(exc)
        log.warning("answer_cut", path=request.path, error=str(exc))
        return _cut(request)
    except web.HTTPException as exc:
        return problem_of_http(request, exc)
    except ConnectionError:  # the client went away
        return _cut(request)
    except Exception as exc:  # the boundary: one request's bug ends that request only
        if isinstance(exc, OSError) and is_disk_error(exc) and BEGUN not in request:
            log.warning("disk_failed", path=request.path, error=str(exc))
            detail = f"the disk doesn't take it: {exc.strerror}; free some space, and try again"
            return problem_of(UnavailableError(detail, retry_after_s=DISK_RETRY_S))
        log.exception("request_failed", method=request.method, path=request.path)
        if BEGUN in request:
            return _cut(request)
        return problem(500, "something went wrong in the daemon; its log says what")


def _cut(request: web.Request) -> web.StreamResponse:
    """Close the connection under an answer; aiohttp finds it closed, and writes no end."""
    if request.transport is not None:
        request.transport.close()
    return request.get(BEGUN) or problem(400, "the connection broke")
