"""What is compiled together: the shapes of a process, the secrets of a run, values told later.

A layer answers three questions: what it finds in a stream, from where on an
open line could become a match, and whether a needle goes on behind a line feed.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Final

from tailrace.core.always import ALWAYS
from tailrace.core.chains import Chain
from tailrace.core.scanner import Scanner, TailScanner
from tailrace.core.shapes import Rule, Run, Shape, rules_of

REACH: Final = 16 * 1024  # bytes within which a candidate for a shape is decided
KEY: Final = 8  # bytes by which a needle's part up to a line feed is found

_ANCHOR: Final = 256  # a longer needle is looked for by its last bytes and then compared
_PERIOD: Final = 3  # a needle that repeats itself after so many bytes is looked for once a row
_PROBE: Final = 64  # bytes of a tail that are compared before all of it


class Layer:
    """Needles or rules that share one database. Immutable."""

    def __init__(
        self,
        needles: Iterable[bytes] = (),
        chains: Iterable[Chain] = (),
        *,
        rules: Sequence[Rule] = (),
    ) -> None:
        self.needles = sorted(needles)
        self.chains = tuple(chains)
        self.rules = tuple(rules)
        self.runs = _runs(self.needles)  # by number
        if rules:
            self.scanner = Scanner([rule.find for rule in rules], [rule.flags for rule in rules])
            self._beginnings = TailScanner([rule.begins for rule in rules if rule.begins])
        else:
            self.scanner = _needle_scanner(self.needles, self.runs, self.chains)
        # By number: the width of a match that covers just that much, or 0 for all others.
        self.widths = [
            0 if len(needle) > _ANCHOR or number in self.runs else len(needle)
            for number, needle in enumerate(self.needles)
        ]
        self.widths += [0] * len(self.chains)
        self.widths += [0 if r.run or r.kind != "token" or any(r.keep) else r.width for r in rules]
        self.longest = max(
            max(map(len, self.needles), default=0),
            max((chain.longest for chain in self.chains), default=0),
        )
        self._longest_needle = max(map(len, self.needles), default=0)
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
        first = min((chain.begun(tail) for chain in self.chains), default=len(tail))
        for place in self._first_bytes.finditer(tail, max(0, len(tail) - self._longest_needle + 1)):
            if place.start() >= first or self._begins_needle(tail, place.start()):
                return min(first, place.start())
        return first

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

    @property
    def reaches_over_lines(self) -> bool:
        """Some needle holds a line feed."""
        return bool(self.line_ends or self.chains)

    def may_go_on(self, chunk: bytes, cut: int) -> bool:
        """Tell whether a needle may have begun before *cut*, behind a line feed, and go on there.

        It may well be none; that it can't be is certain.
        """
        if self.line_ends and cut < KEY:
            return True
        if any(chunk[cut - size : cut] in self.line_ends for size in self.key_sizes):
            return True
        return any(cut < chain.look_back or chain.may_go_on(chunk, cut) for chain in self.chains)

    def waiting_from(self, raw: bytearray, cut: int) -> int:
        """Return where in *raw* a needle has begun that goes on beyond the line feed before *cut*.

        What follows *cut* in *raw* is looked at too. Returns *cut* for none.
        """
        first = min(cut, *(chain.begun(raw) for chain in self.chains)) if self.chains else cut
        for size in self.key_sizes:
            for needle, length in self.line_ends.get(bytes(raw[max(0, cut - size) : cut]), ()):
                begin = cut - length
                if 0 <= begin < first and len(raw) - begin < len(needle):
                    first = begin if needle.startswith(bytes(raw[begin:])) else first
        return first


def _runs(needles: Sequence[bytes]) -> dict[int, Run]:
    """Return, by number, what goes on behind needles such as ``====`` or ``abababab``.

    A ruler across the screen would be a match for each of its bytes.
    """
    runs = {}
    for number, needle in enumerate(needles):
        for period in range(1, _PERIOD + 1):
            if len(needle) <= _ANCHOR and needle[period:] == needle[:-period]:
                unit = needle[-period:]
                runs[number] = Run(re.compile(b"(?:" + re.escape(unit) + b")*+"), unit)
                break
    return runs


def _needle_scanner(
    needles: Sequence[bytes], runs: Mapping[int, Run], chains: Sequence[Chain]
) -> Scanner:
    anchors = [needle[-_ANCHOR:] for needle in needles]
    if not runs and not chains and not any(b"\0" in anchor for anchor in anchors):
        return Scanner(anchors)
    # The library takes literals as C strings.
    escaped = list(map(_escaped, anchors))
    for number, run in runs.items():
        escaped[number] = _first_of_a_row(needles[number], len(run.unit))
    escaped += [chain.expression() for chain in chains]
    return Scanner(escaped, [0] * len(escaped))


def _escaped(literal: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in literal)


def _first_of_a_row(needle: bytes, period: int) -> bytes:
    """Write an expression for a needle that isn't preceded by another one *period* bytes before."""
    unit = needle[:period]
    others = [
        b"(?:^|[^\\x%02x])" % unit[at] + _escaped(unit[at + 1 :] + needle) for at in range(period)
    ]
    return b"(?:" + b"|".join(others) + b")"


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
