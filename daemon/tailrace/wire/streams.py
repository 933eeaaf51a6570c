"""Frames, and how each kind of stream carries them: SSE, NDJSON, WebSocket."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from tailrace.wire.journal import encode_json


class Frame(msgspec.Struct, frozen=True):
    """One event, ready for every kind of stream; shared by all who watch."""

    seq: int
    event: str
    step: str | None
    data: bytes  # the JSON object
    cut: int = 0  # lines that end within the event and were left out at its begin, as of a tail


def damaged_frame(seq: int, reason: str, t: str) -> Frame:
    """Return a ``notice`` in place of an event that can't be read, so that no number is missing."""
    notice = {
        "seq": seq, "event": "notice", "t": t, "kind": "damaged", "text": reason, "step": None,
    }  # fmt: skip
    return Frame(seq, "notice", None, encode_json(notice))


def sse_event(name: str | None, event_id: str | None, data: bytes) -> bytes:
    """Encode one server-sent event (WHATWG HTML, "Server-sent events").

    *data* is one line: JSON escapes line breaks. ``name`` None gives no
    ``event:`` line, so that ``onmessage`` gets it.
    """
    head = b""
    if name is not None:
        head += b"event: " + name.encode() + b"\n"
    if event_id is not None:
        head += b"id: " + event_id.encode() + b"\n"
    return head + b"data: " + data + b"\n\n"


def sse_frame(frame: Frame, *, run: str | None = None, shape: str = "event") -> bytes:
    """Encode a frame for ``/events``; with *run*, ids are ``RUNID:SEQ`` as on ``/ops``."""
    event_id = f"{run}:{frame.seq}" if run else str(frame.seq)
    return sse_event(None if shape == "message" else frame.event, event_id, frame.data)


def ndjson_frames(frames: Iterable[Frame]) -> bytes:
    """Encode frames as JSON, one object a line."""
    return b"".join(frame.data + b"\n" for frame in frames)


def ws_message(event: str, data: bytes) -> bytes:
    """Encode a WebSocket message: the event's name, and the same *data* as everywhere."""
    return b'{"event":' + encode_json(event) + b',"data":' + data + b"}"


SSE_RETRY: Final = b"retry: 2000\n\n"


def sse_comment(text: str) -> bytes:
    """Encode a comment, which keeps a connection alive and reaches no listener."""
    return b": " + text.encode() + b"\n\n"
