"""Finds in a stream the lines that a dialect wants to see whole; all else passes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_LINE_FEED: Final = 0x0A


@dataclass(frozen=True, slots=True)
class Plain:
    """Output that is no candidate; it may end within a line."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line, or the part of it from where it reads like the dialect, without its newline."""

    line: bytes
    ended: bool = True  # a newline followed, which is in no `Plain`
    alone: bool = True  # nothing of the same line came before it
    too_long: bool = False  # *line* is only its beginning


class CandidateLines:
    """Cuts a stream into `Plain` pieces and `Candidate` lines.

    *find* returns where in its bytes, from a place on, a candidate begins, or -1;
    before that place there is a byte more: the line feed where a line begins,
    also when spaces or tabs of it have passed. *half* returns likewise where at
    the end of the bytes something stands that could become a beginning, or their
    length. A candidate longer than *most* bytes is told by its beginning alone.
    """

    def __init__(
        self,
        find: Callable[[bytes, int], int],
        half: Callable[[bytes, int], int],
        *,
        most: int,
    ) -> None:
        self._find, self._half = find, half
        self._most = most
        self._tail = b""  # may begin a candidate
        self._before = b"\n"  # what to think of as before the tail: a line feed at a line's start
        self._alone = True  # nothing of this line has passed
        self._line: bytearray | None = None  # the candidate that hasn't ended
        self._size = 0

    @property
    def held(self) -> int:
        """Bytes held back."""
        return len(self._tail) + (0 if self._line is None else len(self._line))

    def feed(self, chunk: bytes) -> Iterator[Plain | Candidate]:
        """Take a chunk; give what is decided. To be exhausted before the next one."""
        data = self._before + self._tail + chunk
        place = len(self._before)
        self._tail = b""
        while place < len(data):
            if self._line is not None:
                end = data.find(b"\n", place)
                self._grow(data[place : len(data) if end < 0 else end])
                if end < 0:
                    return
                yield self._candidate()
                self._before, self._alone = b"\n", True
                place = end + 1
                continue
            begin = self._find(data, place)
            if begin < 0:
                cut = self._half(data, place)
                self._tail = data[cut:]
                if cut > place:
                    yield self._plain(data[place:cut])
                return
            if begin > place:
                yield self._plain(data[place:begin])
            place = begin
            self._line, self._size = bytearray(), 0

    def close(self) -> Iterator[Plain | Candidate]:
        """Give what is held: the stream has ended."""
        if self._line is not None:
            yield self._candidate(ended=False)
        elif self._tail:
            yield Plain(self._tail)
            self._tail = b""

    def _grow(self, data: bytes) -> None:
        assert self._line is not None
        self._size += len(data)
        self._line += data[: self._most - len(self._line)]

    def _candidate(self, *, ended: bool = True) -> Candidate:
        assert self._line is not None
        line, self._line = bytes(self._line), None
        return Candidate(line, ended, self._alone, too_long=self._size > self._most)

    def _plain(self, data: bytes) -> Plain:
        line = data[data.rfind(b"\n") + 1 :]
        if line or b"\n" not in data:
            self._alone = False
            blank = not line.strip(b" \t") and (b"\n" in data or self._before == b"\n")
            self._before = b"\n" if blank else b"."
        else:
            self._alone, self._before = True, b"\n"
        return Plain(data)


def begins_line(data: bytes, place: int) -> bool:
    """Tell whether only spaces and tabs stand between *place* and the line feed before it."""
    before = place - 1
    while data[before] in b" \t":
        before -= 1
    return data[before] == _LINE_FEED
