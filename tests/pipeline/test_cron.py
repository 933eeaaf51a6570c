"""The times that cron texts mean, where clocks change too, and texts that mean none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailrace.pipeline.cron import Cron, cron_problem


def times(text: str, after: str, upto: str, timezone: str = "Europe/Berlin") -> list[str]:
    """All times between two moments (RFC 3339), in UTC, as DAY HOUR:MINUTE."""
    cron, found = Cron(text, timezone), []
    at_s: float | None = datetime.fromisoformat(after).timestamp()
    end_s = datetime.fromisoformat(upto).timestamp()
    while at_s is not None and (at_s := cron.next_after(at_s)) is not None and at_s <= end_s:
        found.append(f"{datetime.fromtimestamp(at_s, UTC):%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 */6 * * *", ["02 00:00", "02 06:00", "02 12:00", "02 18:00", "03 00:00"]),
        ("@daily", ["02 00:00", "03 00:00"]),
        ("30 4 * * mon-fri", ["02 04:30"]),
        ("0 12 3 * *", []),
        ("0 0 3 * mon", ["02 00:00", "03 00:00"]),  # either day counts, as in crontab(5)
        ("15 10-12/2 * mar *", ["02 10:15", "02 12:15"]),
    ],
)
def test_times_are_those_of_crontab(text: str, expected: list[str]) -> None:
    """From Sunday noon to Tuesday, in UTC."""
    assert cron_problem(text) is None
    assert times(text, "2026-03-01T23:00Z", "2026-03-03T00:00Z", "UTC") == expected


def test_a_time_that_the_clock_skips_comes_right_behind_the_gap_and_once() -> None:
    """On 29 March 2026 Berlin goes from 02:00 to 03:00, which is 01:00 UTC."""
    night = ("2026-03-28T12:00Z", "2026-03-29T12:00Z")
    assert times("30 2 * * *", *night) == ["29 01:00"]
    assert times("0,30 2 * * *", *night) == ["29 01:00"]
    assert times("30 3 * * *", *night) == ["29 01:30"]


def test_a_time_that_the_clock_shows_twice_comes_once() -> None:
    """On 25 October 2026 Berlin has 02:00 to 03:00 twice: from 00:00 UTC and from 01:00."""
    night = ("2026-10-24T12:00Z", "2026-10-25T12:00Z")
    assert times("30 2 * * *", *night) == ["25 00:30"]
    assert times("0 3 * * *", *night) == ["25 02:00"]
    # Asked within the second time round, the first one's is over.
    assert times("30 2 * * *", "2026-10-25T01:15Z", "2026-10-26T12:00Z") == ["26 01:30"]


def test_what_comes_every_few_minutes_goes_by_the_time_that_passes() -> None:
    """Where minute or hour begins with a star, an hour more is an hour more."""
    assert times("*/30 * * * *", "2026-10-24T23:45Z", "2026-10-25T02:00Z") == [
        "25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00",
    ]  # fmt: skip
    assert times("0 * * * *", "2026-03-28T23:30Z", "2026-03-29T02:00Z") == [
        "29 00:00", "29 01:00", "29 02:00",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6 *", "* * 31 feb *"])
def test_a_day_that_no_month_has_is_a_mistake(text: str) -> None:
    """It would wait for ever."""
    assert cron_problem(text) == f"'{text}' never comes"


def test_a_day_that_few_years_have_is_none() -> None:
    """29 February, and a Sunday that is one."""
    assert cron_problem("0 0 29 2 *") is None
    assert times("0 0 29 2 *", "2026-01-01T00:00Z", "2030-01-01T00:00Z", "UTC") == ["29 00:00"]
    assert cron_problem("0 0 29 feb */7") is None
