"""What is compiled together: the shapes of a process, the secrets of a run, values told later.

A layer answers three questions: what it finds in a stream, from where on an
open line could become a match, and whether a needle goes on behind a line feed.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Final

from tailrace.core.scanner import Scanner, TailScanner
from tailrace.core.shapes import ALWAYS, Rule, Shape, rules_of

REACH: Final = 16 * 1024  # bytes within which a candidate for a shape is decided
KEY: Final = 8  # bytes by which a needle's part up to a line feed is found

_ANCHOR: Final = 256  # a longer needle is looked for by its last bytes and then compared
_PROBE: Final = 64  # bytes of a tail that are compared before all of it


class Layer:
    """Needles or rules that share one database. Immutable."""

    def __init__(self, needles: Iterable[bytes] = (), rules: Sequence[Rule] = ()) -> None:
        self.needles = sorted(needles)
        self.rules = tuple(rules)
        if rules:
            self.scanner = Scanner([rule.find for rule in rules], [rule.flags for rule in rules])
            self._beginnings = TailScanner([rule.begins for rule in rules if rule.begins])
        else:
            self.scanner = _needle_scanner(self.needles)
        # By number: the width of a match that covers just that much, or 0 for all others.
        self.widths = [len(n) if len(n) <= _ANCHOR else 0 for n in self.needles]
        self.widths += [0 if r.run or r.kind != "token" or any(r.keep) else r.width for r in rules]
        self.longest = max(map(len, self.needles), default=0)
        self.line_ends = _line_ends(self.needles)
        self.key_sizes = sorted({len(key) for key in self.line_ends})

    @cached_property
    def _first_bytes(self) -> re.Pattern[bytes]:
        return re.compile(b"[" + re.escape(bytes({needle[0] for needle in self.needles})) + b"]")

    def unfinished(self, tail: bytes) -> int:
        """Return the offset from which on *tail*, an open line, could become a match.

        Its length for none. Needles that have begun before the line are not
        considered; see `waiting_from`.
        """
        if self.rules:
            begin = max(0, len(tail) - REACH)
            return begin + self._beginnings.first(tail[begin:])
        for place in self._first_bytes.finditer(tail, max(0, len(tail) - self.longest + 1)):
            if self._begins_needle(tail, place.start()):
                return place.start()
        return len(tail)

    def _begins_needle(self, tail: bytes, at: int) -> bool:
        """Tell whether all of *tail* from *at* on is the beginning of a longer needle."""
        probe = tail[at : at + _PROBE]
        number = bisect_left(self.needles, probe)
        size = len(tail) - at
        while number < len(self.needles) and self.needles[number].startswith(probe):
            needle = self.needles[number]
            if len(needle) > size and (size <= _PROBE or needle.startswith(tail[at:])):
                return True
            number += 1
        return False

    def waiting_from(self, raw: bytearray, cut: int) -> int:
        """Return where in *raw* a needle has begun that goes on beyond the line feed before *cut*.

        What follows *cut* in *raw* is looked at too. Returns *cut* for none.
        """
        first = cut
        for size in self.key_sizes:
            for needle, length in self.line_ends.get(bytes(raw[max(0, cut - size) : cut]), ()):
                begin = cut - length
                if 0 <= begin < first and len(raw) - begin < len(needle):
                    first = begin if needle.startswith(bytes(raw[begin:])) else first
        return first


def _needle_scanner(needles: Sequence[bytes]) -> Scanner:
    anchors = [needle[-_ANCHOR:] for needle in needles]
    if not any(b"\0" in anchor for anchor in anchors):
        return Scanner(anchors)
    # The library takes literals as C strings.
    escaped = [b"".join(b"\\x%02x" % byte for byte in anchor) for anchor in anchors]
    return Scanner(escaped, [0] * len(escaped))


@lru_cache(maxsize=4)
def shape_layer(shapes: tuple[Shape, ...]) -> Layer:
    return Layer(rules=[rule for shape in (*ALWAYS, *shapes) for rule in rules_of(shape)])


def _line_ends(needles: Iterable[bytes]) -> dict[bytes, list[tuple[bytes, int]]]:
    """Map the last bytes before each line feed in a needle to the needle and that place."""
    ends: dict[bytes, list[tuple[bytes, int]]] = {}
    for needle in needles:
        place = needle.find(b"\n") + 1
        while 0 < place < len(needle):
            key = needle[max(0, place - KEY) : place]
            ends.setdefault(key, []).append((needle, place))
            place = needle.find(b"\n", place) + 1
    return ends
