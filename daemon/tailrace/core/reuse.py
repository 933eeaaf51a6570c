"""Which steps of a finished run needn't run again when it is repeated."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tailrace.core.plan import Plan


def reused_steps(
    plan: Plan, statuses: Mapping[str, str], *, start: str, masked: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the steps whose results are taken over, in the plan's order.

    ``start`` is ``failed`` (all that didn't succeed run again), ``start``
    (everything does) or a step, which runs again; what needs a step that runs
    again runs again too. *masked* are steps that told a value to mask, or had
    outputs with something to mask: nobody else knows it, so they tell it again.

    Raises:
        KeyError: there is no such step.
    """
    again = _first_again(plan, statuses, start) | set(masked)
    needs = {step.id: step.needs for step in plan.steps}
    changed = True
    while changed:
        more = {s for s in needs.keys() - again if any(need in again for need in needs[s])}
        again |= more
        changed = bool(more)
    return tuple(step.id for step in plan.steps if step.id not in again)


def _first_again(plan: Plan, statuses: Mapping[str, str], start: str) -> set[str]:
    if start == "start":
        return {step.id for step in plan.steps}
    again = {step.id for step in plan.steps if statuses.get(step.id) != "success"}
    if start != "failed":
        named = {step.id for step in plan.steps if start in (step.id, step.base)}
        if not named:
            raise KeyError(start)
        again |= named
    return again
