"""Which steps of a finished run are taken over by its repetition."""

from __future__ import annotations

import pytest

from tailrace.core.plan import Plan, RunAction, StepPlan
from tailrace.core.reuse import reused_steps


def plan(**needs: str) -> Plan:
    """A plan of steps by their needs."""
    steps = tuple(
        StepPlan(
            id=name,
            base=name.partition("_")[0],
            label=name,
            action=RunAction(script="true"),
            needs=tuple(wanted.split()),
        )
        for name, wanted in needs.items()
    )
    return Plan(pipeline="p", steps=steps)


GRAPH = plan(clone="", lint="clone", scan="clone", report="lint scan", t_1="clone", t_2="clone")


@pytest.mark.parametrize(
    ("failed", "start", "reused"),
    [
        ("lint", "failed", "clone scan t_1 t_2"),
        ("clone lint scan report t_1 t_2", "failed", ""),
        ("", "failed", "clone lint scan report t_1 t_2"),
        ("", "start", ""),
        ("", "lint", "clone scan t_1 t_2"),
        ("t_1", "lint", "clone scan t_2"),  # what failed runs again in any case
        ("", "t", "clone lint scan report"),  # every combination of a matrix
        ("", "t_1", "clone lint scan report t_2"),
        ("clone", "failed", ""),  # all that needs it runs again, whatever became of it
    ],
)
def test_what_succeeded_and_needs_nothing_that_runs_again_is_reused(
    failed: str, start: str, reused: str
) -> None:
    """Each row is what failed, where to start, and what is taken over."""
    statuses = {s.id: "error" if s.id in failed.split() else "success" for s in GRAPH.steps}
    assert " ".join(reused_steps(GRAPH, statuses, start=start)) == reused


def test_a_step_that_told_a_value_to_mask_tells_it_again() -> None:
    """What comes after it could print that value otherwise."""
    statuses = dict.fromkeys((step.id for step in GRAPH.steps), "success")
    reused = reused_steps(GRAPH, statuses, start="failed", masked=["lint"])
    assert " ".join(reused) == "clone scan t_1 t_2"


def test_a_step_that_does_not_exist_is_refused() -> None:
    """Whoever asked is told by the caller, which knows what to name it."""
    with pytest.raises(KeyError, match="x"):
        reused_steps(GRAPH, {}, start="x")
