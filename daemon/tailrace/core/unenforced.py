"""What a plan asks for and this version doesn't do: told at the start, never passed over."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from tailrace.core.plan import Plan, StepPlan


def unenforced(plan: Plan) -> list[tuple[str | None, str]]:
    """Return (step, sentence) for each wish that has no effect; the step is None for the run's."""
    found: list[tuple[str | None, str]] = []
    for step in plan.steps:
        found += [(step.id, text) for text in _of_step(step)]
    return found


def _of_step(step: StepPlan) -> Iterator[str]:
    cpu = step.limits.cpu
    if cpu is not None and not cpu.is_integer():
        cores = f"{ceil(cpu)} cores" if cpu > 1 else "one core"
        yield f"limits.cpu: {cpu:g} counts as {cores}: only whole ones can be given"
