"""Events as a program gets them: typed, each with its number and time."""

from __future__ import annotations

from typing import Final

import msgspec

from tailrace import wire
from tailrace.core.events import AnyEvent, LogRecord


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of an attempt's output.

    ``text`` is one or more lines joined by newlines, ``line`` the number of the
    first, from 1. ``open`` says that the last one hasn't ended: the next `Log` of
    the attempt goes on there. So its output is ``text`` and, unless it is open,
    a newline, in order.
    """

    step: str
    attempt: int
    line: int
    text: str
    open: bool = False


class Unknown(msgspec.Struct, frozen=True):
    """An event that a later daemon knows and this client doesn't; ``data`` is its JSON."""

    name: str
    data: bytes


class Told(msgspec.Struct, frozen=True):
    """An event of a run.

    ``seq`` counts from 1 without a gap; ``t`` is RFC 3339 in UTC. ``event`` is
    one of `tailrace.core.events`, or `Log`, or `Unknown`.
    """

    seq: int
    t: str
    event: AnyEvent | Log | Unknown


_decode_log: Final = msgspec.json.Decoder(Log).decode


def told_of(frame: wire.Frame) -> Told:
    """Return a frame's event."""
    t = wire.decode_record(frame.data).t
    event: AnyEvent | Log | Unknown
    try:
        event = _decode_log(frame.data) if frame.event == "log" else wire.decode_event(frame.data)
    except msgspec.ValidationError:
        event = Unknown(frame.event, frame.data)
    assert not isinstance(event, LogRecord)
    return Told(frame.seq, t, event)
