r"""An attempt's output as numbered lines, and lines as a terminal would show them.

The log file is the output byte for byte; a `Slice` says where a piece of it
lies and which lines it holds. Slices join without loss: an attempt's file is
``text + ("" if open else "\n")`` of its slices, in order, as UTF-8 with
replacement, because no slice cuts a UTF-8 sequence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of an attempt's log: whole lines, or a part of an open one."""

    offset: int  # bytes from the start of the log
    data: bytes
    line: int  # number of its first line, from 1
    open: bool  # its last line hasn't ended


class LineCounter:
    """Numbers the output of one attempt, chunk by chunk.

    ``offset`` is the number of bytes given out so far and ``line`` the number
    that the next slice begins with. At most 3 bytes are held back: the start
    of a UTF-8 sequence whose end hasn't come yet.
    """

    def __init__(self, *, offset: int = 0, line: int = 1, is_open: bool = False) -> None:
        self.offset = offset
        self.line = line
        self.is_open = is_open
        self._held = b""

    @property
    def lines(self) -> int:
        """How many lines were begun so far; an open last one counts."""
        return self.line if self.is_open else self.line - 1

    @property
    def held(self) -> int:
        """Bytes held back."""
        return len(self._held)

    def take(self, data: bytes, *, final: bool = False) -> Slice | None:
        """Return the next slice, or None where there is nothing to give out yet.

        ``final`` gives out held bytes too: the attempt's output has ended.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        if not final:
            cut = len(data) - incomplete_tail(data)
            if cut < len(data):
                data, self._held = data[:cut], data[cut:]
        if not data:
            return None
        is_open = not data.endswith(b"\n")
        piece = Slice(self.offset, data, self.line, is_open)
        self.offset += len(data)
        self.line += data.count(b"\n")
        self.is_open = is_open
        return piece


def incomplete_tail(data: bytes) -> int:
    """Return how many bytes at the end begin a UTF-8 sequence that isn't complete (0 to 3).

    A tail that can't become valid any more counts as complete: decoding with
    replacement gives the same text whether or not something follows (Unicode 15, D93b).
    """
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:  # a lead byte: how long does its sequence want to be?
            tail = data[len(data) - back :]
            return back if _may_continue(tail) else 0
    return 0


def _may_continue(tail: bytes) -> bool:
    """Whether *tail*, a lead byte and what follows it, is a proper prefix of a valid sequence."""
    lead = tail[0]
    if lead < 0xC2 or lead > 0xF4:
        return False
    length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if len(tail) >= length:
        return False
    if len(tail) == 1:
        return True
    low, high = _SECOND.get(lead, (0x80, 0xBF))  # Unicode 15, table 3-7
    return low <= tail[1] <= high


_SECOND: Final = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}


def slice_text(data: bytes) -> str:
    """Return a slice's ``text``: its bytes as UTF-8 with replacement, less its final newline."""
    return data.removesuffix(b"\n").decode("utf-8", "replace")


# CSI, OSC (ended by BEL or ST), other string controls, and two-byte escapes: ECMA-48, section 5.
_ANSI: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"
    r"|\x1b[ -/]*[0-~]"
)
_ANSI_BYTES: Final = re.compile(_ANSI.pattern.encode())


def strip_ansi(text: str) -> str:
    """Return *text* without escape sequences (ECMA-48)."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def strip_ansi_bytes(data: bytes) -> bytes:
    """Return *data* without escape sequences, like `strip_ansi`."""
    return _ANSI_BYTES.sub(b"", data) if b"\x1b" in data else data


def resolve_carriage_returns(line: str) -> str:
    r"""Return what a terminal shows of *line* in the end: each ``\r`` writes over from its start.

    What a later piece doesn't cover stays, as on a terminal; a final ``\r``
    (of ``\r\n``) changes nothing.
    """
    if "\r" not in line:
        return line
    # From the last piece back: what an earlier one adds is what sticks out. Forward, a long line
    # written over often would be copied each time.
    shown: list[str] = []
    width = 0
    for piece in reversed(line.split("\r")):
        if len(piece) > width:
            shown.append(piece[width:])
            width = len(piece)
    return "".join(shown)
