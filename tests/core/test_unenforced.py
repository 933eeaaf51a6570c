"""What has no effect yet is told."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.core.plan import Plan, RunAction, StepLimits, StepPlan
from tailrace.core.unenforced import unenforced


def make_plan(*, run: dict[str, Any] | None = None, **step: Any) -> Plan:
    """A plan of one step."""
    only = StepPlan(id="a", base="a", label="a", action=RunAction(script=":"), **step)
    return Plan(pipeline="p", steps=(only,), **(run or {}))


def test_a_plan_that_asks_for_nothing_unusual_is_told_nothing() -> None:
    """What is limited as it was asked for is no news."""
    limits = StepLimits(artifacts=1, log=1, memory=1, pids=1, cpu=2.0)
    assert unenforced(make_plan(limits=limits)) == []


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"limits": StepLimits(cpu=1.5)}, "1.5 counts as 2 cores"),
        ({"limits": StepLimits(cpu=0.5)}, "0.5 counts as one core"),
    ],
)
def test_each_wish_without_effect_is_told_once(keys: dict[str, Any], said: str) -> None:
    """With the step that wishes it, where it is a step's."""
    ((step, text),) = unenforced(make_plan(**keys))

    assert step == (None if "run" in keys else "a")
    assert said in text
