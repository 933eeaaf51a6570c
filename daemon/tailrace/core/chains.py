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
_BEFORE: Final = re.compile(rb"(?:%b)*" % _BREAK)
_AFTER: Final = re.compile(rb"(?:%b)+\Z" % _BREAK)
_LINE_BREAK: Final = re.compile(rb"\r\n|\n|\r")
_LINES: Final = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")

_KEY: Final = 8  # bytes at a line's end by which it is found
_ANCHOR: Final = (
    16  # bytes of the last lines that are scanned for, at least where there are so many
)
_LONG: Final = 128  # bytes of one line that are scanned for, at most
_LOOKS: Final = 1 << 16  # at once; some tenths of a second

Raw = bytes | bytearray


class Chain:
    """The lines of one secret; two or more. Immutable. *text* is how they are written mostly."""

    def __init__(self, lines: tuple[bytes, ...], text: bytes = b"") -> None:
        self.lines = lines
        joined = b"\n".join(lines)
        self._texts = tuple(sorted({joined, text or joined}, key=len, reverse=True))
        # How often a line is looked for at once, at most. Once for each is enough where it is clear
        # what is a line; "ab", "abab" and "aba" can be read in as many ways as there are bytes.
        self.most_looks = max(_LOOKS, 2 * len(lines))
        self._hash = hash(lines)
        self.longest = sum(map(len, lines)) + GAP * (len(lines) - 1)
        self.look_back = GAP + _KEY  # bytes before a place that `may_go_on` looks at
        self._places: dict[bytes, int] = {}  # of each line, as bits of their numbers
        for number, line in enumerate(lines):
            self._places[line] = self._places.get(line, 0) | 1 << number
        self._ends: dict[bytes, list[bytes]] = {}
        for line in dict.fromkeys(lines[:-1]):
            self._ends.setdefault(line[-_KEY:], []).append(line)
        self._sizes = sorted({len(key) for key in self._ends})
        self._sorted = sorted(self._places)
        self._longest_line = max(map(len, lines))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chain) and self.lines == other.lines

    def __hash__(self) -> int:
        return self._hash

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

    def begin(self, raw: Raw, end: int, looks: int) -> tuple[int, int]:
        """Return where the whole chain begins that ends at *end*, and how many *looks* are left.

        -1 where none does, or where there were too few of them to find out.
        """
        for text in self._texts:  # a comparison, where line by line takes thousands of them
            if _ends_with(raw, end, text):
                return end - len(text), looks
        begin = end - len(self.lines[-1])
        if begin < 0 or not raw.startswith(self.lines[-1], begin):
            return -1, looks
        begin, left = self._begin_before(raw, {begin: 1 << len(self.lines) - 1}, looks)
        return begin, max(left, 0)

    def begun(self, raw: Raw) -> int:
        """Return where a chain begins that isn't whole yet at the end of *raw*, or its length.

        The earliest place, if there are several, and the earliest possible one where it is unclear.
        """
        size = len(raw)
        open_lines: dict[int, int] = {}
        for place in self._first_bytes.finditer(raw, max(0, size - self._longest_line + 1)):
            for line in self._lines_that_begin(bytes(raw[place.start() :])):
                at = place.start()
                open_lines[at] = open_lines.get(at, 0) | self._places[line]
        last = 1 << len(self.lines) - 1
        for line, end in self._lines_that_end(raw, size, _ENDS_IN_OPEN_GAP):
            at = end - len(line)
            open_lines[at] = open_lines.get(at, 0) | (self._places[line] & ~last)
        begin, left = self._begin_before(raw, open_lines, self.most_looks)
        if left < 0:
            return max(0, size - self.longest)
        return size if begin < 0 else begin

    def may_go_on(self, raw: Raw, at: int) -> bool:
        """Tell whether what ends at *at* could be the part of a chain up to a gap."""
        return next(self._lines_that_end(raw, at, _ENDS_IN_GAP), None) is not None

    def _lines_that_begin(self, begun: bytes) -> Iterator[bytes]:
        at = bisect_left(self._sorted, begun)
        while at < len(self._sorted) and self._sorted[at].startswith(begun):
            if len(self._sorted[at]) > len(begun):
                yield self._sorted[at]
            at += 1

    def _lines_that_end(
        self, raw: Raw, at: int, gap: re.Pattern[bytes]
    ) -> Iterator[tuple[bytes, int]]:
        """Yield lines, but the last, that stand before a gap ending at *at*, and where they end."""
        found = gap.search(raw, max(0, at - GAP), at)
        assert found
        for end in range(found.start(), at + 1):
            for size in self._sizes:
                for line in self._ends.get(bytes(raw[max(0, end - size) : end]), ()):
                    if _ends_with(raw, end, line) and gap.match(raw, end, at):
                        yield line, end

    def _begin_before(self, raw: Raw, open_lines: dict[int, int], looks: int) -> tuple[int, int]:
        """Return where a chain begins of which some lines stand at these places, or -1.

        And how many *looks* are left; -1 where they didn't do, and there may be an earlier one.
        A place has a bit for each line that could begin there; all go back
        together, a line a step, so that many equal lines cost what one costs.
        The earliest place: where lines end in what a gap may hold, there can be several.
        """
        first = -1
        while open_lines and looks > 0:
            before: dict[int, int] = {}
            for place, numbers in open_lines.items():
                if numbers & 1 and (first < 0 or place < first):
                    first = place
                ahead = numbers >> 1  # the lines in front of them
                while ahead:
                    line = self.lines[ahead.bit_length() - 1]
                    same = self._places[line]
                    looks -= 1
                    for end in _ends_before(raw, place, line):
                        at = end - len(line)
                        before[at] = before.get(at, 0) | (ahead & same)
                    ahead &= ~same
            open_lines = before
        return first, -1 if open_lines else max(looks, 0)


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
    lines: list[bytes] = []
    begin = end = at = 0  # of all lines, without what stands around the first and the last
    for piece in _LINES.findall(text):
        line = _LINE_BREAK.sub(b"", piece)
        first = _BEFORE.match(line).end()  # type: ignore[union-attr] # it matches nothing, too
        if stripped := _AFTER.sub(b"", line[first:]):
            begin = begin if lines else at + first
            end = at + first + len(stripped)
            lines.append(stripped)
        at += len(piece)
    return Chain(tuple(lines), text[begin:end]) if len(lines) > 1 else None
