"""When a failed attempt is repeated, and after how long."""

from __future__ import annotations

from tailrace.core.plan import Retry


def retry_delay_ms(rule: Retry, *, attempt: int, returncode: int | None) -> int | None:
    """Return how long to wait before the next attempt, or None where there is none.

    ``attempt`` is the number of the one that has just ended in ``error``;
    ``rule.attempts`` counts all executions. With ``exit_codes`` only those exit
    statuses are repeated (a death by signal or a timeout then is not).
    """
    if attempt >= rule.attempts:
        return None
    if rule.exit_codes is not None and returncode not in rule.exit_codes:
        return None
    try:
        delay = rule.delay_ms * float(rule.factor) ** (attempt - 1)
    except OverflowError:
        delay = rule.max_delay_ms if rule.delay_ms else 0
    return int(min(delay, rule.max_delay_ms))
