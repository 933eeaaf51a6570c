"""JSON bodies in and out: every mistake of a body is told at once."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from tailrace import wire
from tailrace.errors import InvalidInputError, Problem
from tailrace.http.problems import RefusedError
from tailrace.http.query import shown
from tailrace.pipeline.spelling import suggest

T = TypeVar("T", bound=msgspec.Struct)

_PATH: Final = re.compile(r"^(.*?)(?: - at `\$(?:\.)?(.*)`)?$", re.DOTALL)


async def read_body(request: web.Request, kind: type[T], *, required: bool = True) -> T:
    """Read the request's body as a *kind*; without one that isn't required, its defaults.

    The media type isn't asked for: whoever forgets it means JSON.

    Raises:
        RefusedError: 400, it isn't JSON; 415, it is compressed.
        InvalidInputError: it is, but not what was expected.
        web.HTTPRequestEntityTooLarge: it is larger than ``limits.body``.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        # A small body may unpack to a huge one, and nobody sends much here.
        raise RefusedError(
            415, "send the body without Content-Encoding", {hdrs.ACCEPT_ENCODING: "identity"}
        )
    raw = await request.read()
    if not raw.strip():
        if required:
            raise RefusedError(400, f"the body is missing; send JSON with {_fields(kind)}")
        return kind()
    return parse_body(raw, kind)


def parse_body(raw: bytes, kind: type[T]) -> T:
    """Read JSON as a *kind*, as `read_body` does."""
    try:
        given = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as exc:  # MsgspecError and bad UTF-8 are ValueErrors
        raise RefusedError(400, f"the body isn't JSON: {exc}") from None
    return read_fields(given, kind, where="body")


def read_fields(given: object, kind: type[T], *, where: str) -> T:
    """Read a JSON value as a *kind*; *where* is its name in mistakes.

    Raises:
        InvalidInputError: it isn't one; with every mistake.
    """
    if not isinstance(given, dict):
        hint = f"send an object with {_fields(kind)}"
        raise InvalidInputError([Problem(where, "isn't a JSON object", hint)])
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    problems = [
        Problem(
            shown(name), "unknown field", suggest(name[:80], known) or f"known: {_fields(kind)}"
        )
        for name in given
        if name not in known
    ]
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in given:
            try:
                values[field.name] = msgspec.convert(given[name], field.type)
            except (msgspec.ValidationError, RecursionError) as exc:
                problems.append(_problem(name, str(exc)))
        elif field.required:
            problems.append(Problem(name, "is missing", f"the {where} holds {_fields(kind)}"))
    if problems:
        raise InvalidInputError(problems)
    return kind(**values)


def _fields(kind: type[msgspec.Struct]) -> str:
    return ", ".join(field.encode_name for field in msgspec.structs.fields(kind))


def _problem(name: str, message: str) -> Problem:
    match = _PATH.match(message)
    assert match is not None
    where = f"{name}.{match[2]}" if match[2] else name
    text = match[1][:1].lower() + match[1][1:]
    return Problem(shown(where), shown(text))


def json_answer(
    body: msgspec.Struct, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Make a JSON response."""
    return web.Response(
        status=status, body=wire.encode_json(body), content_type="application/json", headers=headers
    )
