"""A stream of server-sent events, taken apart."""

from __future__ import annotations

from typing import Final

import msgspec

from tailrace import wire
from tailrace.errors import UnreachableError

_LATE_S: Final = 1.0  # by which a stream may fall behind


class Lateness:
    """Tells when a stream's events come later and later, because its reader is too slow.

    What counts is how much later than the least late one so far: clocks of two
    machines may differ, and what a run said long ago is no sign of slowness.
    """

    def __init__(self) -> None:
        self.is_late = False
        self._least_s: float | None = None

    def take(self, frame: wire.Frame, now: float) -> bool:
        """Take an event and the time at which it came; return whether they come late now."""
        try:
            late_s = now - wire.parse_timestamp(wire.decode_record(frame.data).t)
        except ValueError:  # a damaged one has no time
            return self.is_late
        self._least_s = late_s if self._least_s is None else min(self._least_s, late_s)
        self.is_late = late_s - self._least_s > _LATE_S
        return self.is_late


class EndedError(Exception):
    """The stream has nothing more: its last event was seen before."""


class SseParser:
    """Takes the ``data`` of server-sent events out of a stream of bytes.

    Our daemon writes each event's data in one line, so no others are joined;
    ids are in the data, and comments only keep the connection alive.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data lines that are whole now."""
        if b"\n" not in chunk:
            self._rest += chunk
            return []
        head, _, rest = chunk.rpartition(b"\n")
        lines = (self._rest + head).split(b"\n")
        self._rest = rest
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def frame_of(data: bytes, where: str) -> wire.Frame:
    """Return an event's data as a frame.

    Raises:
        UnreachableError: it is none.
    """
    try:
        record = wire.decode_record(data)
    except msgspec.MsgspecError as exc:
        raise UnreachableError(f"the daemon at {where} sent no event of ours: {exc}") from None
    return wire.Frame(record.seq, record.event, record.step, data)
