"""A part of an attempt's log: which lines, without escape sequences, only those that match."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tailrace.core.line_pattern import line_pattern
from tailrace.core.lines import strip_ansi_bytes
from tailrace.errors import InvalidInputError, Problem
from tailrace.http.files import PIECE
from tailrace.http.query import Parameters
from tailrace.http.streams import Outlet
from tailrace.rundir.layout import RunDir
from tailrace.rundir.places import line_start

LONGEST_LINE: Final = 1 << 24  # bytes gathered for a line that is searched; longer ones are cut
_BLOCK: Final = 1 << 20

Filter = Callable[[bytes], bytes]  # of whole lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of a log is asked for."""

    follow: bool
    tail: int | None
    from_line: int | None
    to_line: int | None
    filters: tuple[Filter, ...]

    @property
    def is_file(self) -> bool:
        """Whether the file itself is the answer, so that ``Range`` has a meaning."""
        whole = self.tail is None and self.from_line is None and self.to_line is None
        return whole and not self.follow and not self.filters


def wanted_of(given: Parameters) -> Wanted:
    """Read what of a log is asked for.

    Raises:
        InvalidInputError: the wishes exclude each other, or the pattern is none.
    """
    first, last, tail = (given.integer(name) for name in ("from_line", "to_line", "tail"))
    problems = []
    if tail is not None and (first is not None or last is not None):
        problems.append(Problem("tail", "excludes from_line and to_line", "choose one of them"))
    if first is not None and last is not None and last < first:
        problems.append(Problem("to_line", f"{last} is before from_line", f"give {first} or more"))
    if last is not None and given.flag("follow"):
        problems.append(Problem("to_line", "excludes follow", "follow goes on to the end"))
    filters: list[Filter] = [strip_ansi_bytes] if given.text("ansi") == "strip" else []
    try:
        if (pattern := given.text("grep")) is not None:
            filters.append(grep(pattern))
    except InvalidInputError as exc:
        problems += exc.problems
    if problems:
        raise InvalidInputError(problems)
    return Wanted(
        follow=given.flag("follow"),
        tail=tail,
        from_line=first,
        to_line=last,
        filters=tuple(filters),
    )


def grep(pattern: str) -> Filter:
    """Return a filter that keeps the lines in which the pattern (RE2) is found.

    Raises:
        InvalidInputError: it is too long, or no pattern.
    """
    try:
        found = line_pattern(pattern)
    except ValueError as exc:
        told, _, hint = str(exc).rpartition("; ")
        raise InvalidInputError([Problem("grep", told, hint)]) from None
    return lambda block: _matching(found, block)


def _matching(found: Any, block: bytes) -> bytes:
    # A block at a time: a call of RE2 for each line would cost ten times as much.
    kept: list[bytes] = []
    place = 0
    while place < len(block) and (match := found.search(block, place)) is not None:
        start = block.rfind(b"\n", 0, match.start()) + 1
        end = block.find(b"\n", match.end()) + 1 or len(block)
        kept.append(block[start:end])
        place = end
    return b"".join(kept)


def window(run: RunDir, step: str, attempt: int, file: int, wanted: Wanted) -> tuple[int, int]:
    """Return the bytes of the log that are asked for: from, to."""
    size = os.fstat(file).st_size
    start, end = 0, size
    if wanted.tail is not None:
        start = _last(file, size, wanted.tail)
    if wanted.from_line is not None:
        found = line_start(run, step, attempt, wanted.from_line)
        start = size if found is None else min(found, size)
    if wanted.to_line is not None:
        found = line_start(run, step, attempt, wanted.to_line + 1)
        end = size if found is None else min(found, size)
    return start, max(start, end)


def _last(file: int, size: int, lines: int) -> int:
    """Return where the last *lines* lines begin; an open one counts."""
    if lines == 0:
        return size
    end, wanted = size, lines
    if size and os.pread(file, 1, size - 1) == b"\n":
        end -= 1  # ends the last line, and begins none
    while end > 0:
        start = max(0, end - PIECE)
        data = os.pread(file, end - start, start)
        count = data.count(b"\n")
        if count >= wanted:
            place = len(data)
            for _ in range(wanted):
                place = data.rfind(b"\n", 0, place)
            return start + place + 1
        wanted -= count
        end = start
    return 0


class Pump:
    """Sends a growing file through filters that want whole lines."""

    def __init__(self, out: Outlet, file: int, start: int, filters: tuple[Filter, ...]) -> None:
        self._out = out
        self._file = file
        self._place = start
        self._filters = filters
        self._rest = b""  # of an open line, bounded by LONGEST_LINE

    async def send(self, end: int | None = None, *, final: bool = False) -> None:
        """Send what is there up to *end*; with *final*, an open line too."""
        while end is None or self._place < end:
            want = _BLOCK if end is None else min(_BLOCK, end - self._place)
            data = os.pread(self._file, want, self._place)
            if not data:
                break
            self._place += len(data)
            if self._filters:
                data = await self._filtered(data)
            if data:
                await self._out.write(data)
            await asyncio.sleep(0)
        if final and self._rest:
            data, self._rest = await asyncio.to_thread(self._apply, self._rest), b""
            await self._out.write(data)

    async def _filtered(self, data: bytes) -> bytes:
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) >= LONGEST_LINE:
            cut = len(data)
        self._rest = data[cut:]
        return await asyncio.to_thread(self._apply, data[:cut]) if cut else b""

    def _apply(self, block: bytes) -> bytes:
        for each in self._filters:
            block = each(block)
        return block
