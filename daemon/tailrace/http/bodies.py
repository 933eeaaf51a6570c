"""JSON bodies in and out: every mistake of a body is told at once."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from tailrace import wire
from tailrace.errors import InvalidInputError, Problem
from tailrace.http.problems import RefusedError, UnreadableError
from tailrace.http.query import shown
from tailrace.pipeline.spelling import suggest

T = TypeVar("T", bound=msgspec.Struct)

_WORDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "null": "null",
}


async def read_body(request: web.Request, kind: type[T], *, required: bool = True) -> T:
    """Read the request's body as a *kind*; without one that isn't required, its defaults.

    The media type isn't asked for: whoever forgets it means JSON.

    Raises:
        UnreadableError: it isn't JSON, or missing.
        RefusedError: 415, it is compressed.
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
            raise UnreadableError(
                [Problem("body", "is missing", f"send JSON with {_fields(kind)}")]
            )
        return kind()
    return parse_body(raw, kind)


def parse_body(raw: bytes, kind: type[T]) -> T:
    """Read JSON as a *kind*, as `read_body` does."""
    try:
        given = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as exc:  # MsgspecError and bad UTF-8 are ValueErrors
        hint = f"send an object with {_fields(kind)}"
        raise UnreadableError([Problem("body", f"isn't JSON: {exc}", hint)]) from None
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
            except (msgspec.ValidationError, RecursionError):
                problems.append(_problem(name, given[name], field.type))
        elif field.required:
            problems.append(Problem(name, "is missing", f"the {where} holds {_fields(kind)}"))
    if problems:
        raise InvalidInputError(problems)
    return kind(**values)


def _fields(kind: type[msgspec.Struct]) -> str:
    return ", ".join(field.encode_name for field in msgspec.structs.fields(kind))


def _problem(name: str, value: object, kind: Any) -> Problem:
    hint = f"give {wanted(msgspec.json.schema(kind))}"
    return Problem(name, f"{_said(value)} makes no sense", hint)


def _said(value: object) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case str() if len(value) > 80:
            return f"a text of {len(value)} characters"
    return shown(msgspec.json.encode(value).decode())


def wanted(schema: dict[str, Any]) -> str:
    """Return what a JSON Schema of a field asks for, in words."""
    if options := schema.get("anyOf"):
        return " or ".join(wanted(option) for option in options)
    if choices := schema.get("enum"):
        return "one of " + ", ".join("null" if each is None else str(each) for each in choices)
    word = _WORDS.get(schema.get("type", ""), "another value")
    if "maxLength" in schema:
        return f"{word} of at most {schema['maxLength']} characters"
    if "minimum" in schema:
        return f"{word} from {schema['minimum']:g} to {schema['maximum']:g}"
    return word


def json_answer(
    body: msgspec.Struct, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Make a JSON response."""
    return web.Response(
        status=status, body=wire.encode_json(body), content_type="application/json", headers=headers
    )
