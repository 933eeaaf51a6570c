"""What a run may spend, and the sentence that says it spent more."""

from __future__ import annotations

from tailrace.core.events import Cost
from tailrace.core.plan import Budget
from tailrace.core.walk import Stop


def overspent(budget: Budget, spent: Cost) -> Stop | None:
    """Return why the run stops that has *spent* so much; None within its budget.

    Exactly the budget is within it. Tokens are those read and written together.
    """
    if budget.usd is not None and spent.usd > budget.usd:
        figures = f"{_dollars(spent.usd, budget.usd)} of the {_dollars(budget.usd)} allowed"
        return _stop(figures)
    tokens = spent.tokens_in + spent.tokens_out
    if budget.tokens is not None and tokens > budget.tokens:
        return _stop(f"{tokens:,} of the {budget.tokens:,} tokens allowed")
    return None


def _stop(figures: str) -> Stop:
    return Stop(kind="budget", cause=f"spent {figures}", cause_code="budget")


def _dollars(amount: float, beyond: float | None = None) -> str:
    """Return an amount with two digits behind the point, or as many as show what it is.

    One that is *beyond* another must not read like it.
    """
    cents = round(amount, 2)
    if abs(cents - amount) < 1e-9 or (amount > 1 and (beyond is None or cents > beyond)):
        return f"${amount:,.2f}"
    return f"${amount:,.9f}".rstrip("0")
