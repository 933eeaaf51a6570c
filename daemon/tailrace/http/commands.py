"""Commands as WebSocket clients send them: ``{"event", "data", "id"}``, read or refused whole."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from tailrace import wire
from tailrace.errors import InvalidInputError, Problem
from tailrace.http.bodies import read_fields
from tailrace.http.query import shown
from tailrace.pipeline.spelling import suggest

LARGEST: Final = 1 << 18  # bytes of a message; an answer of 10,000 characters fits, escaped or not

Data = (
    wire.CancelData | wire.SkipData | wire.ExtendData | wire.AnswerData | wire.PauseBody
    | wire.RetryBody
)  # fmt: skip

KINDS: Final[Mapping[str, type[Data]]] = MappingProxyType(
    {
        "cancel": wire.CancelData,
        "pause": wire.PauseBody,
        "resume": wire.PauseBody,
        "skip": wire.SkipData,
        "extend": wire.ExtendData,
        "answer": wire.AnswerData,
        "retry": wire.RetryBody,
    }
)


def read_message(text: str) -> wire.CommandMessage:
    """Read a message.

    Raises:
        InvalidInputError: it isn't JSON, or not of that shape.
    """
    try:
        given = msgspec.json.decode(text)
    except (ValueError, RecursionError) as exc:  # MsgspecError and lone surrogates are ValueErrors
        hint = 'send {"event": "cancel", "data": {…}}'
        raise InvalidInputError([Problem("message", f"isn't JSON: {exc}", hint)]) from None
    return read_fields(given, wire.CommandMessage, where="message")


def data_of(message: wire.CommandMessage) -> Data:
    """Read a message's ``data`` as its command needs it.

    Raises:
        InvalidInputError: there is no such command, or the data has mistakes.
    """
    kind = KINDS.get(message.event)
    if kind is None:
        known = f"the commands are {', '.join(KINDS)}"
        hint = suggest(message.event[:80], KINDS) or known
        raise InvalidInputError([Problem("event", f"'{shown(message.event)}' is no command", hint)])
    return read_fields(message.data or {}, kind, where="data")


def prompt_of(data: wire.AnswerData) -> str:
    """Return the id of the prompt that is answered.

    Raises:
        InvalidInputError: it isn't named, or named twice.
    """
    named = [name for name in (data.prompt, data.id) if name is not None]
    if len(named) != 1:
        problem = "is missing" if not named else "is named twice"
        hint = "name the prompt's id, once, as `prompt` or as `id`"
        raise InvalidInputError([Problem("prompt", problem, hint)])
    return named[0]
