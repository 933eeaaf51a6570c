r"""Hyperscan and RE2, held so that their Python bindings can't hurt us.

Hyperscan's binding (0.9) keeps no reference to a stream's database and
callback, so a stream owns them here. ``Database.stream()`` returns one
reference too many and ``Stream.__enter__`` gives one back: a stream is entered
exactly once, or it is freed under our hands; and ``Stream.size()`` crashes.
Scanning isn't thread-safe: the streams of a database share one scratch space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import hyperscan
import re2  # type: ignore[import-untyped]  # the wheel has no stubs

Buffer = bytes | bytearray | memoryview
Found = tuple[int, int, int]  # (end, number of the expression, start; 0 without STARTS)

LINES: Final = hyperscan.HS_FLAG_MULTILINE
STARTS: Final = hyperscan.HS_FLAG_SOM_LEFTMOST  # report where a match begins, not only its end
_MODE: Final = hyperscan.HS_MODE_STREAM | hyperscan.HS_MODE_SOM_HORIZON_LARGE


class ExpressionError(ValueError):
    """An expression can't be compiled."""


class Scanner:
    """Expressions or literals compiled for streams.

    Literals compile faster. Flags go with expressions, one each.

    Raises:
        ExpressionError: one of them isn't for Hyperscan.
    """

    def __init__(self, sought: Sequence[bytes], flags: Sequence[int] | None = None) -> None:
        self._database = hyperscan.Database(mode=_MODE)
        try:
            self._database.compile(
                expressions=sought,
                ids=range(len(sought)),
                flags=flags or [0] * len(sought),
                literal=flags is None,
            )
        except hyperscan.error as error:
            raise ExpressionError(str(error).rstrip(".")) from None

    def open(self, origin: int) -> ScanStream:
        """Begin a stream whose first byte counts as offset *origin*."""
        return ScanStream(self._database, origin)


class ScanStream:
    """One pass over one sequence of bytes, in pieces of any size. End it with `close`."""

    def __init__(self, database: hyperscan.Database, origin: int) -> None:
        self._database = database
        self._origin = origin
        self._found: list[Found] = []
        append = self._found.append

        def note(number: int, start: int, end: int, flags: int, context: object) -> None:
            append((end, number, start))

        self._note = note
        self._stream = database.stream(match_event_handler=note, context=0)
        self._stream.__enter__()

    def scan(self, data: Buffer) -> list[Found]:
        """Return the matches that are known once *data* is read, in any order."""
        self._stream.scan(data)  # type: ignore[type-var]  # any buffer will do
        return self._taken() if self._found else []

    def close(self) -> list[Found]:
        """Free the stream; return the matches that only the end decides."""
        self._stream.close()
        return self._taken()

    def _taken(self) -> list[Found]:
        origin = self._origin
        found = self._found.copy()
        self._found.clear()
        if origin:
            return [(end + origin, number, start + origin) for end, number, start in found]
        return found


class TailScanner:
    """One question: where does the longest end of a text begin that one of *expressions* matches?

    RE2 answers it from the text's end backwards, and only as far as needed.

    Raises:
        ExpressionError: they are too large together.
    """

    def __init__(self, expressions: Sequence[bytes]) -> None:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.longest_match = True
        options.never_capture = True
        options.log_errors = False
        try:
            self._pattern = re2.compile(rb"(?:" + b"|".join(expressions) + rb")\z", options)
        except re2.error as error:
            raise ExpressionError(str(error)) from None

    def first(self, text: bytes) -> int:
        """Return the offset in *text*, or its length where nothing matches."""
        match = self._pattern.search(text)
        return int(match.start()) if match else len(text)
