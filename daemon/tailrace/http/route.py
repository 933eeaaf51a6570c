"""A route as data: what the application registers, the guard asks for, and OpenAPI describes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiohttp import web

from tailrace.http.signed import What
from tailrace.store.tokens import Scope

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Kind = Literal["text", "integer", "flag", "duration"]
Header = Literal["Idempotency-Key", "Last-Event-ID"]
JSON: Final = "application/json"
TEXT: Final = "text/plain"
SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
ANY: Final = "*/*"


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter in a query string."""

    name: str
    kind: Kind
    help: str
    choices: tuple[str, ...] = ()  # of a text
    least: int = 0  # of an integer


LINK: Final = Query("link", "text", "a signed link's own; no token is needed with it")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no error."""

    status: int
    help: str
    body: Any = None  # a type of `tailrace.wire`; None where there is no JSON
    media: str = JSON  # "": no body


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path. ``scope`` None needs no token."""

    method: str
    path: str  # as OpenAPI writes it: /api/v1/runs/{id}/events
    handler: Handler
    summary: str
    scope: Scope | None
    answers: tuple[Answer, ...]
    query: tuple[Query, ...] | None = ()  # None: anything, read by the handler
    body: type | None = None
    body_required: bool = False
    headers: tuple[Header, ...] = ()  # those that the handler heeds
    starts: bool = False  # a GET that changes something: guarded like a POST
    probe: bool = False  # answered to any Host
    link: What | None = None  # what a signed link to it is of; None: there is none

    @property
    def is_change(self) -> bool:
        """Whether a foreign page must not be able to cause it."""
        return self.starts or self.method not in ("GET", "HEAD")

    @property
    def pattern(self) -> str:
        """The path as aiohttp's router takes it.

        ``{id}`` of a run also takes a ref, written plainly or with ``%2F``;
        ``{path}`` takes everything that follows.
        """
        return _PLACE.sub(self._place, self.path)

    def _place(self, match: re.Match[str]) -> str:
        name, before = match[1], self.path[: match.start()]
        if name == "path":
            return "{path:.+}"
        if before.endswith("/runs/"):
            return "{" + name + ":[^/]+(?:/[0-9]+)?}"
        return "{" + name + ":[^/]+}"


_PLACE: Final = re.compile(r"\{([a-z_]+)\}")
