"""What a run may spend."""

from __future__ import annotations

import pytest

from tailrace.core.budget import overspent
from tailrace.core.events import Cost
from tailrace.core.plan import Budget


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        (Budget(), Cost(usd=1e6, tokens_in=10**12)),
        (Budget(usd=1.0), Cost(usd=1.0)),
        (Budget(usd=0.0), Cost(tokens_in=7)),
        (Budget(tokens=100), Cost(usd=5, tokens_in=60, tokens_out=40)),
        (Budget(usd=1.0, tokens=100), Cost(usd=1.0, tokens_in=100)),
    ],
)
def test_a_run_may_spend_all_of_its_budget(budget: Budget, spent: Cost) -> None:
    """Exactly the budget is within it."""
    assert overspent(budget, spent) is None


@pytest.mark.parametrize(
    ("budget", "spent", "cause"),
    [
        (Budget(usd=1.0), Cost(usd=1.24), "spent $1.24 of the $1.00 allowed"),
        (Budget(usd=1.0), Cost(usd=1.000000001), "spent $1.000000001 of the $1.00 allowed"),
        (Budget(usd=1.0), Cost(usd=1.004), "spent $1.004 of the $1.00 allowed"),
        (Budget(usd=0.005), Cost(usd=0.0123), "spent $0.0123 of the $0.005 allowed"),
        (Budget(usd=0), Cost(usd=0.1), "spent $0.10 of the $0.00 allowed"),
        (Budget(usd=1000), Cost(usd=1234.5678), "spent $1,234.57 of the $1,000.00 allowed"),
        (
            Budget(tokens=100_000),
            Cost(tokens_in=100_000, tokens_out=1),
            "spent 100,001 of the 100,000 tokens allowed",
        ),
        (Budget(usd=1.0, tokens=1), Cost(usd=2.0, tokens_in=2), "spent $2.00 of the $1.00 allowed"),
    ],
)
def test_beyond_it_the_run_stops_and_says_the_figures(
    budget: Budget, spent: Cost, cause: str
) -> None:
    """However little more: the two figures never read the same."""
    stop = overspent(budget, spent)
    assert stop is not None
    assert (stop.kind, stop.cause, stop.cause_code) == ("budget", cause, "budget")
