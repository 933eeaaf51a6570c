"""Durations and sizes: text in files and on the command line, integers inside, text for people.

A duration is ``500ms 30s 5m 2h 1d`` and becomes milliseconds, a size is
``64K 512M 2G 1T`` (powers of 1024) and becomes bytes. Both are one whole
number and one unit; a bare number is refused, because nobody can tell what
its writer meant.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Final

DURATION_PATTERN: Final = "([0-9]{1,12})(ms|s|m|h|d)"  # also in the JSON Schema of pipelines
SIZE_PATTERN: Final = "([0-9]{1,12})([KMGTkmgt])"

_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DURATION: Final = re.compile(DURATION_PATTERN)
_SIZE: Final = re.compile(SIZE_PATTERN)

# Durations are added to the time, and what comes out must have a date: those end with year 9999.
_MOST_MS: Final = 1_000_000 * _MS["d"]
_MOST_BYTES: Final = 1 << 53  # sizes are handed to the kernel, and to readers that keep doubles


def parse_duration(text: str) -> int:
    """Return the milliseconds that *text* names.

    Raises:
        ValueError: it isn't a whole number with one of the units, or over a
            million days; the message is a hint for a person.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("write a duration such as 500ms, 30s, 5m, 2h or 1d")
    value = int(match[1]) * _MS[match[2]]
    if value > _MOST_MS:
        raise ValueError("write at most 1000000d")
    return value


def parse_size(text: str) -> int:
    """Return the bytes that *text* names; the units are powers of 1024.

    Raises:
        ValueError: it isn't a whole number with one of the units; the message
            is a hint for a person.
    """
    match = _SIZE.fullmatch(text)
    value = int(match[1]) * _BYTES[match[2].upper()] if match else _MOST_BYTES
    if value >= _MOST_BYTES:
        raise ValueError("write a size such as 64K, 512M or 2G")
    return value


def format_duration(ms: int) -> str:
    """Return a duration for people, in at most two units: ``10m``, ``1m 30s``, ``1.5s``, ``40ms``.

    What is below the second unit is cut off, so that a figure never overstates.
    """
    if ms < 1_000:
        return f"{ms}ms"
    if ms < 60_000:
        return f"{ms // 100 / 10:g}s"
    names = ("d", "h", "m", "s")
    for larger, smaller in itertools.pairwise(names):
        if ms >= _MS[larger]:
            whole, rest = divmod(ms, _MS[larger])
            part = rest // _MS[smaller]
            return f"{whole}{larger} {part}{smaller}" if part else f"{whole}{larger}"
    raise AssertionError(ms)


def format_size(size: int) -> str:
    """Return a measured size for people, with one decimal: ``2.0 GiB``, ``512 B``."""
    if size < 1 << 10:
        return f"{size} B"
    for letter in "KMGT":
        # Rounding 1023.96 KiB would give a figure that the next unit shows better.
        if round(size / _BYTES[letter], 1) < 1024 or letter == "T":
            return f"{size / _BYTES[letter]:.1f} {letter}iB"
    raise AssertionError(size)


def format_bound(size: int) -> str:
    """Return a size that somebody set, as exactly as they wrote it: ``2 GiB``, else as measured."""
    for letter in "TGMK":
        if size and size % _BYTES[letter] == 0:
            return f"{size // _BYTES[letter]} {letter}iB"
    return format_size(size)


def plural(count: int, noun: str) -> str:
    """Return ``1 file``, ``1,200 files``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_usd(usd: float) -> str:
    """Return dollars for people, small amounts to two digits that count: ``$1.20``, ``$0.0042``."""
    if usd >= 0.01 or usd == 0:
        return f"${usd:,.2f}"
    if usd < 1e-9:
        return "under $0.000001"
    places = 1 - math.floor(math.log10(usd))
    return f"${usd:.{places}f}".rstrip("0")


def format_cost(usd: float, tokens_in: int, tokens_out: int) -> str:
    """Return what was spent for people: ``$0.12 · 3,400 tokens in · 210 out``.

    Dollars and tokens that were never told are left out.
    """
    parts = [format_usd(usd)] if usd or not (tokens_in or tokens_out) else []
    if tokens_in or tokens_out:
        parts += [f"{tokens_in:,} tokens in", f"{tokens_out:,} out"]
    return " · ".join(parts)
