"""What a daemon's answers mean, and what a daemon's address is."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from tailrace import wire
from tailrace.errors import (
    ConflictError,
    InvalidInputError,
    Problem,
    UnavailableError,
    UnknownError,
    UnreachableError,
)

T = TypeVar("T")

_AWAY: Final = (429, 502, 504)  # what proxies answer while a daemon restarts
_USERINFO: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@")


def shown(where: str) -> str:
    """Return a daemon's address, or its socket's path, as it may be told: without its user."""
    return _USERINFO.sub(r"\1***@", where)


def checked(url: str) -> str:
    """Return a daemon's address without a slash at its end.

    Raises:
        InvalidInputError: it is no http or https address, or has a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and not set("?#") & set(url)  # paths are put behind it
    except ValueError:
        usable = False
    if not usable:
        hint = "give it as http://HOST:PORT or https://HOST"
        problem = f"'{shown(url)}' is no address of a daemon"
        raise InvalidInputError([Problem("--url", problem, hint)])
    return url.rstrip("/")


def checked_token(token: str) -> str:
    """Return a token that a header can hold.

    Raises:
        InvalidInputError: it has a character that no token has.
    """
    if not (token.isascii() and token.isprintable()):
        hint = "set it to one that `tailrace token create` made there"
        raise InvalidInputError([Problem("TAILRACE_TOKEN", "holds what no token holds", hint)])
    return token


def decoded(data: bytes | msgspec.Raw, answer: type[T], where: str) -> T:
    """Return an answer's body; None where it has none and *answer* is Any.

    Raises:
        UnreachableError: it isn't what Tailrace answers.
    """
    if answer is Any and not bytes(data):
        return None  # type: ignore[return-value]  # 202 and 204: callers that expect it pass Any
    try:
        return msgspec.json.decode(data, type=answer)
    except msgspec.MsgspecError as exc:
        raise UnreachableError(f"{where} answered, but not as Tailrace does: {exc}") from None


class AwayError(UnreachableError):
    """Somebody in between says that the daemon is away, or that we come too often: try again."""


def refusal(status: int, headers: Any, data: bytes, where: str) -> Exception:
    """Return the error that a refused request stands for."""
    try:
        document = msgspec.json.decode(data, type=wire.ProblemDocument)
    except msgspec.MsgspecError:
        kind = AwayError if status in (*_AWAY, 503) else UnreachableError
        return kind(f"{where} answered {status}, and not as Tailrace does")
    if status in _AWAY:
        return AwayError(f"{where} answered {status}: {document.detail or document.title}")
    detail = document.detail or document.title
    match status:
        case 401 | 403:
            hint = "set TAILRACE_TOKEN to one that `tailrace token create` made there"
            return UnreachableError(f"{where} refused: {detail}; {hint}")
        case 404:
            return UnknownError(detail)
        case 409:
            return ConflictError(detail, state=document.state or "")
        case 400 | 405 | 413 | 415 | 422:
            problems = [Problem(e.where, e.problem, e.hint, e.position) for e in document.errors]
            return InvalidInputError(problems or [Problem("", detail)])
        case 503:
            wait = headers.get("Retry-After", "")
            return UnavailableError(detail, retry_after_s=int(wait) if wait.isdigit() else 1)
    return UnreachableError(f"{where} answered {status}: {detail}")
