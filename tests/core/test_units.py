"""Durations and sizes, as files and people spell them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.units import (
    format_bound,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    plural,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("0s", 0),
        ("007s", 7_000),
    ],
)
def test_a_duration_becomes_milliseconds(text: str, ms: int) -> None:
    """Every unit of the contract is understood."""
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "30", "s", "1.5h", "-1s", "1 s", "1S", "2h30m", "٣s", "1s\n"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    """Bare numbers, fractions and signs say how to write it."""
    with pytest.raises(ValueError, match="500ms, 30s, 5m, 2h or 1d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["1000001d", "86400000001s", "9" * 12 + "d"])
def test_a_duration_that_leads_beyond_the_calendar_is_refused(text: str) -> None:
    """The longest that isn't still ends at a date."""
    with pytest.raises(ValueError, match="at most 1000000d"):
        parse_duration(text)
    assert datetime.now(UTC) + timedelta(milliseconds=parse_duration("1000000d"))


@pytest.mark.parametrize(
    ("text", "size"), [("64K", 65_536), ("512M", 536_870_912), ("2G", 2 << 30), ("1t", 1 << 40)]
)
def test_a_size_becomes_bytes_in_powers_of_1024(text: str, size: int) -> None:
    """Every unit of the contract is understood."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "512", "1.5G", "2GB", "-1K", "K", "99999999T"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    """A bare number is refused: nobody knows whether it meant bytes or megabytes."""
    with pytest.raises(ValueError, match="64K, 512M or 2G"):
        parse_size(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (1_550, "1.5s"),
        (59_999, "59.9s"),
        (60_000, "1m"),
        (90_000, "1m 30s"),
        (600_000, "10m"),
        (7_500_000, "2h 5m"),
        (90_061_000, "1d 1h"),
    ],
)
def test_a_duration_reads_well(ms: int, text: str) -> None:
    """People see at most two units, never more than has passed."""
    assert format_duration(ms) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (1_048_575, "1.0 MiB"),
        (2 << 30, "2.0 GiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_a_measured_size_has_one_decimal(size: int, text: str) -> None:
    """The unit is the one that keeps the figure below 1024."""
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"), [(2 << 30, "2 GiB"), (512 << 20, "512 MiB"), (1_536, "1.5 KiB"), (0, "0 B")]
)
def test_a_bound_reads_as_it_was_set(size: int, text: str) -> None:
    """``2G`` is 2 GiB, not 2.0 GiB."""
    assert format_bound(size) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1_200, "1,200 files")]
)
def test_a_count_has_its_noun_in_the_form_that_fits(count: int, text: str) -> None:
    """As every sentence for people needs it."""
    assert plural(count, "file") == text


@given(st.text())
def test_any_text_is_a_value_or_a_clear_refusal(text: str) -> None:
    """No text ends in anything but a figure or a ValueError."""
    for parse in (parse_duration, parse_size):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0
