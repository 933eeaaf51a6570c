"""When a failed attempt is repeated."""

from __future__ import annotations

import pytest

from tailrace.core.plan import Retry
from tailrace.core.retry import retry_delay_ms


def test_delays_grow_by_the_factor_up_to_the_longest() -> None:
    """1 s, 2 s, 4 s, then no more than 5 s."""
    rule = Retry(attempts=5, delay_ms=1_000, factor=2, max_delay_ms=5_000)

    delays = [retry_delay_ms(rule, attempt=n, returncode=1) for n in range(1, 6)]

    assert delays == [1_000, 2_000, 4_000, 5_000, None]


def test_attempts_count_all_executions() -> None:
    """One attempt means no retry."""
    assert retry_delay_ms(Retry(attempts=1), attempt=1, returncode=1) is None


def test_with_exit_codes_only_those_are_repeated() -> None:
    """A death by signal or a timeout is none of them."""
    rule = Retry(attempts=3, exit_codes=(75,))

    assert retry_delay_ms(rule, attempt=1, returncode=75) == 1_000
    assert retry_delay_ms(rule, attempt=1, returncode=1) is None
    assert retry_delay_ms(rule, attempt=1, returncode=-9) is None
    assert retry_delay_ms(rule, attempt=1, returncode=None) is None


@pytest.mark.parametrize(("factor", "attempt"), [(10, 99_000), (1e200, 3), (1.001, 50_000)])
def test_a_delay_beyond_all_numbers_is_the_longest(factor: float, attempt: int) -> None:
    """Whether by many attempts or by a large factor; nothing times it stays nothing."""
    rule = Retry(attempts=100_000, factor=factor)
    at_once = Retry(attempts=100_000, factor=factor, delay_ms=0)

    assert retry_delay_ms(rule, attempt=attempt, returncode=1) == rule.max_delay_ms
    assert retry_delay_ms(at_once, attempt=attempt, returncode=1) == 0
