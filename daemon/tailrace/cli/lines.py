"""Output put together again: whole lines for plain text, the last few for the live view."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from tailrace import wire
from tailrace.core.lines import resolve_carriage_returns

_MOST: Final = 1 << 20  # characters kept of a line that doesn't end
_LOOK: Final = 1 << 14  # characters at the end that the last lines are looked for in


class Joiner:
    """Joins the ``log`` events of one attempt into lines as they end.

    Lines come as one text, joined by newlines, because a flood has millions of
    them. Carriage returns are resolved as a terminal would. Of a line that
    passes a million characters what came so far is given out as a line of its
    own: output need not end lines at all.
    """

    def __init__(self) -> None:
        self._open = ""

    def take(self, text: str, *, is_open: bool) -> str | None:
        """Return the lines that ended with this slice; None where none did."""
        text = self._open + text
        if not is_open:
            self._open = ""
            return _resolved(text)
        ended, newline, self._open = text.rpartition("\n")
        if len(self._open) > _MOST:
            self._open = resolve_carriage_returns(self._open)
        if len(self._open) > _MOST:
            self._open = ""
            return _resolved(text)
        return _resolved(ended) if newline else None

    def end(self) -> str | None:
        """Return what is left: the last line, where the attempt didn't end it."""
        rest, self._open = self._open, ""
        return resolve_carriage_returns(rest) if rest else None


def _resolved(text: str) -> str:
    if "\r" not in text:
        return text
    return "\n".join(map(resolve_carriage_returns, text.split("\n")))


class Tail:
    """The last output of a step, kept as it came and decoded only when somebody looks.

    So a step that prints at full speed costs the view what a quiet one does.
    Bounded by events and bytes; the newest event is always kept.
    """

    def __init__(self, *, events: int = 64, size: int = 1 << 18) -> None:
        self._frames: deque[bytes] = deque()
        self._events = events
        self._most = size
        self._size = 0
        self._shown: list[str] | None = None

    def push(self, data: bytes) -> None:
        """Take the data of a ``log`` event."""
        self._frames.append(data)
        self._size += len(data)
        while len(self._frames) > 1 and (
            len(self._frames) > self._events or self._size > self._most
        ):
            self._size -= len(self._frames.popleft())
        self._shown = None

    def lines(self, count: int) -> list[str]:
        """Return the last lines, at most *count* (up to 20) and none of them blank."""
        if self._shown is None:
            self._shown = self._last(20)
        return self._shown[-count:] if count > 0 else []

    def _last(self, count: int) -> list[str]:
        lines: list[str] = []  # newest first
        later = ""  # the beginning of the piece after, which may go on an open line
        for data in reversed(self._frames):
            log = wire.decode_log(data)
            pieces = log.text[-_LOOK:].split("\n")
            if log.open:
                pieces[-1] += later
            elif later:
                lines.append(later)
            later = pieces.pop(0)
            lines.extend(reversed(pieces))
            lines = [line for line in lines if line.strip()]
            if len(lines) >= count:
                break
        else:
            if later.strip():
                lines.append(later)
        return [_as_shown(line) for line in reversed(lines[:count])]


def _as_shown(line: str) -> str:
    """Return what a progress line shows now: its last piece that isn't blank."""
    if "\r" not in line:
        return line
    pieces = [piece for piece in line.split("\r") if piece.strip()]
    return pieces[-1] if pieces else ""


class FileTail:
    """The last output of a step, read from its log file when somebody looks.

    For who follows a run folder: the output itself doesn't pass through at all.
    ``read`` gives the bytes of an attempt's log from an offset to another.
    """

    def __init__(self, read: Callable[[str, int, int, int], bytes]) -> None:
        self._read = read
        self._place: tuple[str, int, int] | None = None  # step, attempt, where its log ends
        self._shown: list[str] | None = None

    def push(self, data: bytes) -> None:
        """Take a ``log`` event's record."""
        record = wire.decode_record(data)
        self._place = (record.step or "", record.attempt, record.offset + record.bytes)
        self._shown = None

    def lines(self, count: int) -> list[str]:
        """Return the last lines, at most *count* (up to 20) and none of them blank."""
        if self._shown is None and self._place is not None:
            step, attempt, end = self._place
            data = self._read(step, attempt, max(0, end - _LOOK), end)
            lines = data.decode("utf-8", "replace").split("\n")
            if end > _LOOK and len(lines) > 1:
                lines = lines[1:]  # its beginning is before what we looked at
            self._shown = [_as_shown(line) for line in lines if line.strip()][-20:]
        return self._shown[-count:] if self._shown and count > 0 else []
