"""Run ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.ulid import is_ulid, new_ulid

MOMENTS = st.integers(0, 2**48 - 1)


def test_the_specification_s_example_of_a_time() -> None:
    """github.com/ulid/spec: 1469918176385 is 01ARYZ6S41."""
    assert new_ulid(1469918176385, bytes(10)) == "01aryz6s41" + "0" * 16


@given(MOMENTS, st.binary(min_size=10, max_size=10))
def test_every_id_is_a_lower_case_ulid(now_ms: int, randomness: bytes) -> None:
    """26 characters, none of i, l, o, u."""
    assert is_ulid(new_ulid(now_ms, randomness))


@given(MOMENTS, MOMENTS, st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_their_time(first: int, second: int, one: bytes, other: bytes) -> None:
    """So that newest first is a sort by id."""
    if first < second:
        assert new_ulid(first, one) < new_ulid(second, other)


def test_what_only_looks_like_an_id_is_none() -> None:
    """Upper case, forbidden letters, wrong lengths, or a time beyond 48 bits."""
    good = new_ulid(1, b"tailrace!!")
    for text in (good.upper(), good[:-1] + "u", good[:-1], good + "0", "8" + good[1:], ""):
        assert not is_ulid(text)
