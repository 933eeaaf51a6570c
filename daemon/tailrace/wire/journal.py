"""Journal lines, and what everything on the wire is written with: JSON and times."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from tailrace.core import events
from tailrace.core.lines import slice_text

encode_json = msgspec.json.Encoder().encode


def timestamp(seconds: float) -> str:
    """Return RFC 3339 in UTC with milliseconds, as everywhere in Tailrace."""
    whole, thousandths = divmod(int(seconds * 1000), 1000)
    return f"{_to_the_second(whole)}.{thousandths:03d}Z"


@functools.lru_cache(maxsize=4)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_timestamp(text: str) -> float:
    """Return the seconds since 1970 of what `timestamp` wrote.

    Raises:
        ValueError: it isn't such a text.
    """
    return datetime.fromisoformat(text).timestamp()


def encode_record(seq: int, t: str, fields: dict[str, Any]) -> bytes:
    """Return one journal line, newline included; *fields* hold ``event`` and the event's keys."""
    return encode_json({"seq": seq, "event": fields["event"], "t": t, **fields}) + b"\n"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What readers of a journal line need to place it; the line itself has the rest."""

    seq: int
    event: str
    t: str = ""
    step: str | None = None
    attempt: int = 0
    line: int = 0
    open: bool = False
    offset: int = 0
    bytes: int = 0


_record_decoder: Final = msgspec.json.Decoder(Record)
_event_decoder: Final[msgspec.json.Decoder[events.AnyEvent]] = msgspec.json.Decoder(events.AnyEvent)


def decode_record(line: bytes) -> Record:
    """Read the head of a journal line.

    Raises:
        msgspec.MsgspecError: the line isn't a record, as a torn one.
    """
    return _record_decoder.decode(line)


def decode_event(line: bytes) -> events.AnyEvent:
    """Read a whole journal line (or ``data`` other than ``log``) as its event.

    Raises:
        msgspec.MsgspecError: it is none that this version knows.
    """
    return _event_decoder.decode(line)


class LogData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A slice of an attempt's output: ``log`` as watchers get it.

    ``text`` is one or more lines joined by newlines, ``line`` the number of the
    first, from 1. ``open`` says that the last one hasn't ended: the next ``log`` of
    the attempt goes on there. So its output is ``text`` and, unless it is open,
    a newline, in order.
    """

    seq: int
    event: Literal["log"]
    t: str
    step: str
    attempt: int
    line: int
    open: bool = False
    text: str


def log_data(record: Record, data: bytes) -> bytes:
    """Return a ``log`` event's data for watchers, from its record and its slice of the file."""
    return encode_json(
        LogData(
            seq=record.seq,
            event="log",
            t=record.t,
            step=record.step or "",
            attempt=record.attempt,
            line=record.line,
            open=record.open,
            text=slice_text(data),
        )
    )


_log_decoder: Final = msgspec.json.Decoder(LogData)


def decode_log(data: bytes) -> LogData:
    """Read the ``data`` of a ``log`` event.

    Raises:
        msgspec.MsgspecError: it isn't one.
    """
    return _log_decoder.decode(data)
