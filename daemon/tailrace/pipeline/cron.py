"""The five fields of crontab(5), as far as a file can be checked without a clock."""

from __future__ import annotations

import re
from typing import Final

_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec"
_DAYS: Final = "sun mon tue wed thu fri sat"
_FIELDS: Final = (
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day of month", 1, 31, ""),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),  # 0 and 7 are Sunday
)
_NICKNAMES: Final = frozenset(
    {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
)
_PART: Final = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d{1,3}))?", re.ASCII)


def cron_problem(text: str) -> str | None:
    """Return what is wrong with a cron text, or None: ``*/5 8-18 * * mon-fri``, ``@daily``."""
    if text.strip() in _NICKNAMES:
        return None
    fields = text.split()
    if len(fields) != len(_FIELDS):
        return f"has {len(fields)} of the 5 fields of cron"
    for field, (name, least, most, words) in zip(fields, _FIELDS, strict=True):
        if any(not _is_part(part, least, most, words.split()) for part in field.split(",")):
            return f"'{field}' is no {name} ({least} to {most})"
    return None


def _is_part(part: str, least: int, most: int, words: list[str]) -> bool:
    match = _PART.fullmatch(part)
    if match is None or (match[3] is not None and int(match[3]) == 0):
        return False
    ends = [_number(end, least, words) for end in match.groups()[:2] if end is not None]
    return all(least <= end <= most for end in ends) and ends == sorted(ends)


def _number(text: str, least: int, words: list[str]) -> int:
    if text.lower() in words:
        # The first word of either list stands for the field's least number.
        return words.index(text.lower()) + least
    return int(text) if text.isdigit() and len(text) <= 2 else -1
