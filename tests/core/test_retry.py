"""When a failed attempt is repeated."""

from __future__ import annotations

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


def test_a_huge_number_of_attempts_does_not_overflow() -> None:
    """The factor's power is bounded before it is taken."""
    rule = Retry(attempts=100_000, factor=10)

    assert retry_delay_ms(rule, attempt=99_000, returncode=1) == rule.max_delay_ms
