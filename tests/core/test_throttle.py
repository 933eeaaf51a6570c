"""What comes too often is thinned, and its last value kept."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.throttle import Throttle


def test_the_first_value_goes_at_once() -> None:
    """Nothing waits that has no reason to."""
    assert Throttle[str](0.25).offer(100.0, "a") == "a"


def test_of_what_comes_too_soon_the_latest_goes_when_it_is_due() -> None:
    """Values in between are replaced, the last one isn't lost."""
    throttle = Throttle[str](0.25)
    throttle.offer(0.0, "a")

    assert throttle.offer(0.1, "b") is None
    assert throttle.offer(0.2, "c") is None
    assert throttle.due(0.2) == pytest.approx(0.05)
    assert throttle.due(0.3) == 0
    assert throttle.take(0.3) == "c"
    assert throttle.due(0.3) is None
    assert throttle.take(0.4) is None


def test_a_value_that_may_go_leaves_nothing_older_behind() -> None:
    """What was kept is never given out after something newer."""
    throttle = Throttle[str](0.25)
    throttle.offer(0.0, "a")
    throttle.offer(0.1, "b")

    assert throttle.offer(0.25, "c") == "c"
    assert throttle.take(1.0) is None


def test_nothing_is_due_where_nothing_was_offered() -> None:
    """A caller that asks needs no timer."""
    throttle = Throttle[str](0.25)
    assert throttle.due(0.0) is None
    assert throttle.take(0.0) is None


@given(st.lists(st.floats(0, 0.5), max_size=60), st.floats(0.01, 1))
def test_values_keep_their_order_and_distance_and_the_last_one_comes(
    gaps: list[float], interval: float
) -> None:
    """However they come: in order, an interval apart, and the last one at the end."""
    throttle = Throttle[int](interval)
    now, given_out = 0.0, []
    for value, gap in enumerate(gaps):
        until = now + gap
        while (due := throttle.due(now)) is not None and now + due <= until:
            now += due
            given_out.append((now, throttle.take(now)))
        now = until
        if throttle.offer(now, value) is not None:
            given_out.append((now, value))
    times = [moment for moment, _ in given_out]
    if (last := throttle.take(now)) is not None:
        given_out.append((now, last))

    values = [value for _, value in given_out]
    assert values == sorted(set(values))  # type: ignore[type-var]  # none is None: it was due
    assert all(b - a >= interval - 1e-9 for a, b in itertools.pairwise(times))
    assert values[-1:] == list(range(len(gaps)))[-1:]
