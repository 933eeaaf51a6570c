r"""A secret of several lines, whatever its line breaks became on the way.

A chain is the lines without what stands at their ends, in their order; between
two of them a *gap*: any mixture, also none, of what programs make of line
breaks and indentation. It can't be a list of needles, because the gaps of one
printing need not be the same. The scanner looks for its last lines; from there
it is compared backwards, line by line.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from typing import Final

GAP: Final = 64  # bytes between two lines of a chain, at most

_BREAK: Final = (
    rb"[ \t\r\n\f\v]"
    rb"|\\+(?:[nrt]|\r?\n|u000[9aAdD]|x0[9aAdD]|01[125])"  # JSON in text, C, `sh` going on
    rb"|'\$'(?:\\[nrt])+''"  # bash, between single quotes
    rb"|%0[9aAdD]|&#(?:9|10|13|x[9aAdD]);|<br ?/?>"
)
_BEGUN: Final = (
    rb"\\+(?:\r|u0{0,3}|x0?|01?)?|'(?:\$(?:'(?:\\[nrt])*(?:\\|')?)?)?"
    rb"|%0?|&(?:#(?:1[03]?|9|x[9aAdD]?)?)?|<(?:br? ?/?)?"
)
_ENDS_IN_GAP: Final = re.compile(b"(?:" + _BREAK + rb")*\Z")
_ENDS_IN_OPEN_GAP: Final = re.compile(b"(?:" + _BREAK + b")*(?:" + _BEGUN + rb")?\Z")
_LAST: Final = frozenset(b" \t\r\n\f\vnrtaAdD01259';>")  # by which a break can end
_AROUND: Final = re.compile(rb"\A(?:%b)+|(?:%b)+\Z" % (_BREAK, _BREAK))
_LINE_BREAK: Final = re.compile(rb"\r\n|\n|\r")

_KEY: Final = 8  # bytes at a line's end by which it is found
_ANCHOR: Final = (
    16  # bytes of the last lines that are scanned for, at least where there are so many
)
_LONG: Final = 128  # bytes of one line that are scanned for, at most

Raw = bytes | bytearray


class Chain:
    """The lines of one secret; two or more. Immutable."""

    def __init__(self, lines: tuple[bytes, ...]) -> None:
        self.lines = lines
        self.longest = sum(map(len, lines)) + GAP * (len(lines) - 1)
        self.look_back = GAP + _KEY  # bytes before a place that `may_go_on` looks at
        self._ends: dict[bytes, list[int]] = {}
        for number, line in enumerate(lines[:-1]):
            self._ends.setdefault(line[-_KEY:], []).append(number)
        self._sizes = sorted({len(key) for key in self._ends})
        self._sorted = sorted((line, number) for number, line in enumerate(lines))
        self._longest_line = max(map(len, lines))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chain) and self.lines == other.lines

    def __hash__(self) -> int:
        return hash(self.lines)

    @cached_property
    def _first_bytes(self) -> re.Pattern[bytes]:
        return re.compile(b"[" + re.escape(bytes({line[0] for line in self.lines})) + b"]")

    def expression(self) -> bytes:
        """Write what is scanned for: the end of the chain. `begin` tells whether all is there."""
        lines: list[bytes] = []
        for line in reversed(self.lines):
            lines.insert(0, line[-_LONG:])
            if len(line) > _LONG or sum(map(len, lines)) >= _ANCHOR:
                break
        gap = b"(?:" + _BREAK + b")*"
        return gap.join(b"".join(b"\\x%02x" % byte for byte in line) for line in lines)

    def begin(self, raw: Raw, end: int) -> int:
        """Return where the whole chain begins that ends at *end*, or -1."""
        begin = end - len(self.lines[-1])
        if begin < 0 or not raw.startswith(self.lines[-1], begin):
            return -1
        return self._begin_before(raw, begin, len(self.lines) - 1)

    def begun(self, raw: Raw) -> int:
        """Return where a chain begins that isn't whole yet at the end of *raw*, or its length.

        The earliest place, if there are several.
        """
        first = size = len(raw)
        for place in self._first_bytes.finditer(raw, max(0, size - self._longest_line + 1)):
            for number in self._lines_that_begin(bytes(raw[place.start() :])):
                begin = self._begin_before(raw, place.start(), number)
                first = begin if 0 <= begin < first else first
        for number, at in self._lines_that_end(raw, size, _ENDS_IN_OPEN_GAP):
            begin = self._begin_before(raw, at - len(self.lines[number]), number)
            first = begin if 0 <= begin < first else first
        return first

    def may_go_on(self, raw: Raw, at: int) -> bool:
        """Tell whether what ends at *at* could be the part of a chain up to a gap."""
        return next(self._lines_that_end(raw, at, _ENDS_IN_GAP), None) is not None

    def _lines_that_begin(self, begun: bytes) -> Iterator[int]:
        at = bisect_left(self._sorted, (begun, -1))
        while at < len(self._sorted) and self._sorted[at][0].startswith(begun):
            line, number = self._sorted[at]
            if len(line) > len(begun):
                yield number
            at += 1

    def _lines_that_end(
        self, raw: Raw, at: int, gap: re.Pattern[bytes]
    ) -> Iterator[tuple[int, int]]:
        """Yield lines, but the last, that stand before a gap ending at *at*, and where they end."""
        found = gap.search(raw, max(0, at - GAP), at)
        assert found
        for end in range(found.start(), at + 1):
            for size in self._sizes:
                for number in self._ends.get(bytes(raw[max(0, end - size) : end]), ()):
                    if _ends_with(raw, end, self.lines[number]) and gap.match(raw, end, at):
                        yield number, end

    def _begin_before(self, raw: Raw, at: int, count: int) -> int:
        """Return where the first *count* lines begin, the last gap ending at *at*, or -1.

        The earliest place: where lines end in what a gap may hold, there can be several.
        """
        places = {at}
        for line in reversed(self.lines[:count]):
            places = {end - len(line) for place in places for end in _ends_before(raw, place, line)}
            if not places:
                return -1
        return min(places)


def _ends_with(raw: Raw, end: int, line: bytes) -> bool:
    return end >= len(line) and raw.startswith(line, end - len(line))


def _ends_before(raw: Raw, at: int, line: bytes) -> Iterator[int]:
    """Yield the places where *line* ends and a gap begins that reaches to *at*."""
    if _ends_with(raw, at, line):
        yield at
    if at == 0 or raw[at - 1] not in _LAST:
        return
    found = _ENDS_IN_GAP.search(raw, max(0, at - GAP), at)
    assert found
    begin = raw.find(line, max(0, found.start() - len(line)), at - 1)
    while begin >= 0:
        end = begin + len(line)
        if _ENDS_IN_GAP.match(raw, end, at):
            yield end
        begin = raw.find(line, begin + 1, at - 1)


def chain_of(text: bytes) -> Chain | None:
    """Return the chain of a secret, or None where it has one line only."""
    stripped = (_AROUND.sub(b"", line) for line in _LINE_BREAK.split(text))
    lines = tuple(line for line in stripped if line)
    return Chain(lines) if len(lines) > 1 else None
