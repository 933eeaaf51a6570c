"""Run ids: lower-case ULIDs (github.com/ulid/spec), sortable by time of creation."""

from __future__ import annotations

import re
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
_ULID: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")
PREFIX: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{0,25}")


def new_ulid(now_ms: int, randomness: bytes) -> str:
    """Return the ULID of a moment (milliseconds since 1970) and 10 random bytes."""
    number = (now_ms << 80) | int.from_bytes(randomness[:10], "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def is_ulid(text: str) -> bool:
    """Whether *text* is a whole run id."""
    return _ULID.fullmatch(text) is not None
