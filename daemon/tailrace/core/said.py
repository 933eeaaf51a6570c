"""What a step can say, before it is an event: on ``$TAILRACE_EVENTS``, or in a dialect.

A saying has the fields that count; all others are dropped when it is read. Only
`tailrace.core.narration` makes events of them.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

# Readers keep numbers as doubles (RFC 8259, section 6): what is beyond 2**53 would change there.
MOST: Final = 1 << 53
MOST_USD: Final = 1e9

_Int = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
_Number = _Int | Annotated[float, msgspec.Meta(ge=0, le=MOST)]
# JSON doesn't tell 1.0 from 1, and some writers have but one kind of number.
_Whole = _Int | Annotated[float, msgspec.Meta(ge=0, le=MOST, multiple_of=1)]
_Usd = Annotated[float, msgspec.Meta(ge=0, le=MOST_USD)]


class Saying(msgspec.Struct):
    """Base of all that a step can say."""


class Head(msgspec.Struct):
    """What tells which saying a line is."""

    event: str


class Progress(Saying):
    """How far it is."""

    percent: int | float | None = None
    stage: str | None = None
    note: str | None = None
    done: _Number | None = None
    total: _Number | None = None
    unit: str | None = None
    rate: _Number | None = None


class Status(Saying):
    """What it is doing."""

    text: str


class ToolCall(Saying):
    """A tool begins or ends."""

    name: str
    id: str | None = None
    server: str | None = None
    phase: Annotated[str, msgspec.Meta(pattern=r"^(started|finished)\Z")] | None = None
    is_error: bool | None = None
    duration_ms: _Number | None = None


class Text(Saying):
    """A piece of text."""

    delta: str | None = None
    text: str | None = None  # as programs that say `token` call it


class Citation(Saying):
    """A source."""

    id: str | None = None
    title: str | None = None
    url: str | None = None


class Cost(Saying):
    """What was spent."""

    usd: _Usd | None = None
    tokens_in: _Whole | None = None
    tokens_out: _Whole | None = None


class Result(Saying):
    """Its text as a whole."""

    text: str
    is_error: bool = False


class Fault(Saying):
    """Something went wrong."""

    message: str
    kind: str = "error"


class Mask(Saying):
    """A value to mask."""

    value: str


class Prompt(Saying):
    """A question."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    question: Annotated[str, msgspec.Meta(min_length=1)]
    choices: Annotated[list[str], msgspec.Meta(max_length=100)] = []
    default: str | None = None
    expires: str | None = None


class Unread(Saying):
    """A part of the output that a dialect left out, and why; never what it held."""

    why: str
