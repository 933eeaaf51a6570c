"""Events as a program gets them: typed, each with its number and time."""

from __future__ import annotations

import msgspec

from tailrace import wire
from tailrace.core.events import AnyEvent, LogRecord


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
    event: AnyEvent | wire.LogData | Unknown


def told_of(frame: wire.Frame) -> Told:
    """Return a frame's event."""
    t = wire.decode_record(frame.data).t
    event: AnyEvent | wire.LogData | Unknown
    try:
        decode = wire.decode_log if frame.event == "log" else wire.decode_event
        event = decode(frame.data)
    except msgspec.ValidationError:
        event = Unknown(frame.event, frame.data)
    assert not isinstance(event, LogRecord)
    return Told(frame.seq, t, event)
