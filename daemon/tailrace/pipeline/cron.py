"""The five fields of crontab(5): checked where they are written, and the times that they mean.

Times are those of Debian's cron(8), around changes of the clock too: see
``docs/decisions/0006-times-as-cron-has-them.md``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
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
_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SOME_DAY: Final = 946_684_800.0  # 2000-01-01: what comes at all comes within 50 years
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
    if Cron(text).next_after(_SOME_DAY) is None:
        return f"'{text}' never comes"
    return None


class Cron:
    """When a cron text's times are, in a time zone. Immutable."""

    def __init__(self, text: str, timezone: str = "UTC") -> None:
        """Take a text that `cron_problem` finds nothing in, and the name of a zone that exists."""
        self._text = _NICKNAMES.get(text.strip(), text)
        self._zone: tzinfo = UTC  # this very object: the library knows it as a clock never changed
        if timezone != "UTC":
            from zoneinfo import ZoneInfo  # only schedules with a zone of their own need it

            self._zone = ZoneInfo(timezone)

    def next_after(self, after_s: float) -> float | None:
        """Return the first time behind *after_s*, in seconds since 1970.

        None where there is none within 50 years. Some 50 µs for what comes
        every day, a millisecond for what comes every few years.
        """
        from cronsim import CronSim, CronSimError  # only for pipelines with schedules

        try:
            for time in CronSim(self._text, datetime.fromtimestamp(after_s, self._zone)):
                # In an hour that comes twice it may tell the first one's time again.
                if (found := time.timestamp()) > after_s:
                    return found
        except (CronSimError, OverflowError, ValueError):  # no such day; the year 10000
            return None
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
