r"""An attempt's output as numbered lines, and lines as a terminal would show them.

The log file is the output byte for byte; a `Slice` says where a piece of it
lies and which lines it holds. Slices join without loss: an attempt's file is
``text + ("" if open else "\n")`` of its slices, in order, as UTF-8 with
replacement, because no slice cuts a UTF-8 sequence.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
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

    What a later piece doesn't cover stays, as on a terminal, unless it was erased
    (EL, ``CSI K``); a final ``\r`` (of ``\r\n``) changes nothing. Wide characters
    take two columns, and combining ones none. Colours (SGR) go with their
    characters; other escape sequences of a line that is written over are left out.
    """
    if "\r" not in line:
        return line
    # From the last piece back: what an earlier one adds is what sticks out. Forward, a long line
    # written over often would be copied each time.
    shown: list[_Run] = []
    width, limit, end = 0, 2 * len(line), len(line)
    for text in reversed(line.split("\r")):
        start = end - len(text)
        if 2 * len(text) > width or "\x1b" in text:
            piece = _Piece(text, start)
            if (reach := min(piece.width, limit)) > width:
                shown += piece.between(width, reach)
                width = reach
            limit = min(limit, piece.erased_from)
            if width >= limit:
                break
        end = start - 1
    while shown and shown[-1].offset is None:
        shown.pop()
    return _painted(line, shown)


@dataclass(slots=True)
class _Run:
    """Text without escape sequences, and where in its line it stands; None for what was erased."""

    offset: int | None
    text: str


class _Piece:
    """What is written from a line's start on, up to the next carriage return."""

    def __init__(self, text: str, start: int) -> None:
        self.width = 0  # columns that it covers, from the first on
        self.erased_from = 2 * (start + len(text))  # columns from here on lose what was there
        self._runs: list[_Run] = []
        self._blank = 0  # columns before the runs
        wiped = place = 0
        for escape in _ANSI.finditer(text):
            self._write(text[place : escape.start()], start + place)
            place = escape.end()
            match escape[0]:
                case "\x1b[K" | "\x1b[0K":
                    self.erased_from = min(self.erased_from, self.width)
                case "\x1b[1K":
                    self._wipe()
                    wiped = self.width + 1  # also the column that the cursor is in
                case "\x1b[2K":
                    self._wipe()
                    self.erased_from = 0
        self._write(text[place:], start + place)
        if wiped > self.width:
            self.width = wiped
            self._runs.append(_Run(None, " "))

    def _write(self, text: str, offset: int) -> None:
        if text:
            self._runs.append(_Run(offset, text))
            self.width += _columns(text)

    def _wipe(self) -> None:
        self._runs.clear()
        self._blank = self.width

    def between(self, first: int, end: int) -> Iterator[_Run]:
        """Give what it shows from column *first* on, and before *end*."""
        if first < self._blank:
            yield _Run(None, " " * (min(end, self._blank) - first))
        column = self._blank
        for run in self._runs:
            width = _columns(run.text)
            is_seen = column < end and first < column + width
            if is_seen or (width == 0 and first < column <= end):
                yield _Run(run.offset, _cut(run.text, first - column, end - column))
            column += width


def _cut(text: str, first: int, end: int) -> str:
    """Return a text's columns from *first* on, and before *end*; half a wide character is blank."""
    if _is_narrow(text):
        return text[max(0, first) : end]
    found, column = [], 0
    for char in text:
        width = _width(char)
        inside = min(end, column + width) - max(first, column)
        if inside > 0:
            found.append(char if inside == width else " ")
        elif width == 0 and (first < column <= end or first <= column == 0):
            found.append(char)
        column += width
    return "".join(found)


def _columns(text: str) -> int:
    return len(text) if _is_narrow(text) else sum(map(_width, text))


def _is_narrow(text: str) -> bool:
    return text.isascii() or all(_width(char) == 1 for char in set(text))


@functools.lru_cache(maxsize=4096)
def _width(char: str) -> int:
    """Return how many columns a character takes (Unicode Standard Annex 11)."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


_SGR: Final = re.compile(r"\x1b\[([0-9;:]{0,64})m")
_RESET: Final = "\x1b[0m"
_LONGEST_PEN: Final = 256  # far more than a terminal's attributes need


def _painted(line: str, shown: list[_Run]) -> str:
    """Join runs, each in the colours that it was written in; it ends in those of the line's end."""
    if "\x1b" not in line:
        return "".join(run.text for run in shown)
    offsets = [run.offset for run in shown if run.offset is not None]
    pens = _pens(line, [*offsets, len(line)])
    found, pen = [], ""
    for run in [*shown, _Run(len(line), "")]:
        wanted = "" if run.offset is None else pens[run.offset]
        if wanted != pen:
            found += [_RESET if pen else "", wanted]
            pen = wanted
        found.append(run.text)
    return "".join(found)


def _pens(line: str, offsets: list[int]) -> dict[int, str]:
    """Return the SGR sequences that hold at each of these places of a line."""
    waiting, found, pen = sorted(offsets, reverse=True), {}, ""
    for sgr in _SGR.finditer(line):
        while waiting and waiting[-1] < sgr.end():
            found[waiting.pop()] = pen
        pen = _pen_after(pen, sgr)
    return found | dict.fromkeys(waiting, pen)


def _pen_after(pen: str, sgr: re.Match[str]) -> str:
    if not sgr[1].strip("0;"):
        return ""
    if sgr[1].startswith(("0;", ";")) or len(pen) > _LONGEST_PEN:
        return sgr[0]
    return pen.replace(sgr[0], "") + sgr[0]
