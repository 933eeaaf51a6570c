"""The rules of a run's graph: what starts, what is skipped, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.plan import AskAction, Plan, RunAction, StepPlan
from tailrace.core.walk import (
    ConditionFailedError,
    Finish,
    Phase,
    Start,
    StatusFunctions,
    Stop,
    Walk,
)

CANCEL = Stop(kind="cancel", cause="cancelled by ann", cause_code="cancelled", by="ann")
TIMEOUT = Stop(kind="timeout", cause="the run timed out after 1s", cause_code="timeout")
BUDGET = Stop(kind="budget", cause="spent $2.00 of the $1.00 allowed", cause_code="budget")


def step(name: str, *needs: str, **more: Any) -> StepPlan:
    """A step that runs nothing of interest."""
    return StepPlan(
        id=name, base=name, label=name, needs=needs, action=RunAction(script=":"), **more
    )


def make_plan(*steps: StepPlan, parallel: int = 99, **more: Any) -> Plan:
    """A plan of these steps."""
    return Plan(pipeline="p", steps=steps, parallel=parallel, **more)


def by_status(step: StepPlan, functions: StatusFunctions) -> bool:
    """Evaluate a bare status function, as conditions do; none means success()."""
    name = (step.when or "success()").removesuffix("()")
    return name == "always" or bool(getattr(functions, name))


def walk_all(walk: Walk, outcome: Callable[[str], str] = lambda _: "success") -> list[str]:
    """Walk to the end, each started step ending at once as *outcome* says; return who started."""
    started = []
    while decisions := walk.decide(by_status):
        for decision in decisions:
            if isinstance(decision, Start):
                started.append(decision.step)
                walk.finished(decision.step, outcome(decision.step))  # type: ignore[arg-type] # text
            else:
                walk.finished(
                    decision.step,
                    decision.status,
                    cause=decision.cause,
                    cause_code=decision.cause_code,
                )
    return started


def test_steps_start_once_all_that_they_need_has_succeeded() -> None:
    """A diamond starts from its top, then both sides, then its bottom."""
    walk = Walk(make_plan(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")))

    assert walk.decide(by_status) == [Start(step="a")]
    walk.finished("a", "success")
    assert walk.decide(by_status) == [Start(step="b"), Start(step="c")]
    walk.finished("b", "success")
    assert walk.decide(by_status) == []
    walk.finished("c", "success")
    assert walk.decide(by_status) == [Start(step="d")]


def test_no_more_steps_run_at_once_than_parallel_says() -> None:
    """A free place goes to the next step in the file's order."""
    walk = Walk(make_plan(step("a"), step("b"), step("c"), parallel=2))

    assert walk.decide(by_status) == [Start(step="a"), Start(step="b")]
    walk.finished("b", "success")
    assert walk.decide(by_status) == [Start(step="c")]


def test_a_question_takes_no_place_of_those_that_run() -> None:
    """Neither while it is open, nor does it wait for one: it runs nothing."""
    questions = [
        StepPlan(id=name, base=name, label=name, action=AskAction(question="Go on?"))
        for name in ("first", "last")
    ]
    walk = Walk(make_plan(questions[0], step("a"), step("b"), questions[1], parallel=1))

    assert walk.decide(by_status) == [Start(step="first"), Start(step="a"), Start(step="last")]
    assert walk.decide(by_status) == []
    walk.finished("a", "success")
    assert walk.decide(by_status) == [Start(step="b")]


def test_a_step_that_waits_for_room_is_not_asked_again() -> None:
    """Its condition is evaluated once: a wide graph costs no square of its steps."""
    steps = [step(f"s{number}", when="always()") for number in range(50)]
    walk = Walk(make_plan(*steps, parallel=1))
    asked: list[str] = []

    def evaluate(step: StepPlan, functions: StatusFunctions) -> bool:
        asked.append(step.id)
        return by_status(step, functions)

    while decisions := walk.decide(evaluate):
        (start,) = decisions
        walk.finished(start.step, "success")
    assert asked == [item.id for item in steps]


def test_a_step_whose_need_failed_is_skipped_with_the_cause() -> None:
    """Its dependents are skipped in turn, each naming the step it needs."""
    walk = Walk(make_plan(step("clone"), step("lint", "clone"), step("report", "lint")))
    walk.decide(by_status)
    walk.finished("clone", "error", cause="exit status 1", cause_code="exit")

    assert walk.decide(by_status) == [
        Finish(
            step="lint",
            status="skipped",
            cause="needs 'clone', which failed",
            cause_code="needs",
        )
    ]
    walk.finished("lint", "skipped")
    (decision,) = walk.decide(by_status)
    assert isinstance(decision, Finish)
    assert decision.cause == "needs 'lint', which was skipped"


def test_an_allowed_failure_counts_as_success() -> None:
    """Neither its dependents nor the run suffer."""
    walk = Walk(make_plan(step("scan"), step("report", "scan")))
    walk.decide(by_status)
    walk.finished("scan", "error", allowed=True)

    assert walk_all(walk) == ["report"]
    assert walk.verdict().status == "success"


def test_a_step_that_a_person_skipped_counts_as_success() -> None:
    """Skipping by hand means going on without it."""
    walk = Walk(make_plan(step("slow"), step("report", "slow")))
    walk.decide(by_status)
    walk.finished("slow", "skipped", by_person=True)

    assert walk_all(walk) == ["report"]
    assert walk.verdict().status == "success"


@pytest.mark.parametrize("by_person", [True, False], ids=["skip", "cancel"])
def test_what_needs_a_step_that_was_ended_early_waits_for_the_steps_before_that(
    by_person: bool,
) -> None:
    """It may read what they leave, and its condition asks how they ended."""
    walk = Walk(
        make_plan(
            step("a"), step("b", "a"), step("c", "b"), step("late", "c", when="failure()")
        )
    )  # fmt: skip
    assert walk.decide(by_status) == [Start(step="a")]
    for name in ("b", "c"):
        walk.finished(name, "skipped", by_person=by_person)

    assert walk.decide(by_status) == []
    walk.finished("a", "error")
    assert walk.decide(by_status) == [Start(step="late")]


@pytest.mark.parametrize(
    ("when", "runs"),
    [("always()", True), ("failure()", True), ("success()", False), ("cancelled()", False)],
)
def test_status_functions_decide_after_a_failure(when: str, runs: bool) -> None:
    """``failure()`` sees a failed step that is needed indirectly."""
    walk = Walk(make_plan(step("a"), step("b", "a"), step("last", "b", when=when)))

    started = walk_all(walk, lambda name: "error" if name == "a" else "success")

    assert ("last" in started) is runs
    assert walk.verdict().status == "error"
    assert walk.verdict().cause == "step 'a' failed"


def test_a_false_when_skips_the_step_and_tells_the_condition() -> None:
    """The cause shows what was written."""
    walk = Walk(make_plan(step("a", when='params.lang == "python"')))

    (decision,) = walk.decide(lambda _step, _functions: False)

    assert isinstance(decision, Finish)
    assert decision.cause_code == "when"
    assert 'params.lang == "python"' in decision.cause


@pytest.mark.parametrize(
    ("when", "holds", "cause_code"),
    [
        ("always() && false", lambda _: False, "when"),
        ("cancelled()", lambda functions: functions.cancelled, "when"),
        ("success()", lambda functions: functions.success, "needs"),
        ("success() && true", lambda functions: functions.success, "needs"),
        ("failure() && false", lambda _: False, "when"),
    ],
)
def test_a_failed_need_is_the_cause_only_where_the_condition_would_hold(
    when: str, holds: Callable[[StatusFunctions], bool], cause_code: str
) -> None:
    """A `when` that is false anyway is what kept the step from starting."""

    def evaluate(step: StepPlan, functions: StatusFunctions) -> bool:
        return by_status(step, functions) if step.when is None else holds(functions)

    walk = Walk(make_plan(step("a"), step("b", "a", when=when)))
    walk.decide(evaluate)
    walk.finished("a", "error")

    (decision,) = walk.decide(evaluate)

    assert isinstance(decision, Finish)
    assert decision.cause_code == cause_code
    assert (when in decision.cause) is (cause_code == "when")


def test_a_when_that_can_not_be_evaluated_fails_the_step() -> None:
    """It is an error, not a skip."""

    def broken(_step: StepPlan, _functions: StatusFunctions) -> bool:
        raise ConditionFailedError("names no such key 'x'")

    (decision,) = Walk(make_plan(step("a", when="params.x"))).decide(broken)

    assert isinstance(decision, Finish)
    assert (decision.status, decision.cause_code) == ("error", "when")


def test_fail_fast_stops_what_does_not_need_the_failed_step() -> None:
    """Nothing new starts, but for steps that clean up; the run failed, it wasn't aborted."""
    walk = Walk(
        make_plan(
            step("a"), step("b"), step("c", "b"), step("d", "b", when="always()"), fail_fast=True
        )
    )
    walk.decide(by_status)
    walk.finished("a", "error")
    assert walk.phase is Phase.STOPPING
    walk.finished("b", "aborted", cause_code="needs")

    assert walk_all(walk) == ["d"]
    verdict = walk.verdict()
    assert (verdict.status, verdict.cause) == ("error", "step 'a' failed")


@pytest.mark.parametrize(
    ("reason", "when", "runs"),
    [
        (CANCEL, "always()", True),
        (CANCEL, "cancelled()", True),
        (CANCEL, "failure()", False),
        (CANCEL, "success()", False),
        (CANCEL, None, False),
        (TIMEOUT, "always()", True),
        (TIMEOUT, "failure()", True),
        (BUDGET, "failure()", True),
        (BUDGET, None, False),
        (TIMEOUT, "cancelled()", False),
        (TIMEOUT, None, False),
    ],
)
def test_after_a_stop_only_steps_whose_when_still_holds_start(
    reason: Stop, when: str | None, runs: bool
) -> None:
    """A cancel isn't a failure; the run's timeout and its budget are."""
    walk = Walk(make_plan(step("work"), step("last", "work", when=when)))
    walk.decide(by_status)
    walk.stop(reason)
    walk.finished("work", "aborted", cause_code=reason.cause_code)

    assert (walk_all(walk) == ["last"]) is runs
    assert walk.verdict().status == ("aborted" if reason is CANCEL else "error")


def test_a_plain_step_does_not_start_after_a_cancel_though_its_needs_succeeded() -> None:
    """Otherwise a cancel would only end what runs at that moment."""
    walk = Walk(make_plan(step("a"), step("b", "a"), step("c")))
    walk.decide(by_status)
    walk.finished("a", "success")
    walk.stop(CANCEL)
    walk.finished("c", "aborted", cause_code="cancelled")

    assert walk_all(walk) == []
    assert walk.verdict().by == "ann"


def test_a_second_cancel_lets_nothing_start_any_more() -> None:
    """Even ``always()`` steps are skipped then."""
    walk = Walk(make_plan(step("work"), step("clean", "work", when="always()")))
    walk.decide(by_status)
    walk.stop(CANCEL)
    walk.stop(CANCEL)
    walk.finished("work", "aborted")

    assert walk_all(walk) == []


def test_a_cancel_outranks_fail_fast() -> None:
    """The run that is cancelled while it stops for a failure is aborted."""
    walk = Walk(make_plan(step("a"), step("b"), fail_fast=True))
    walk.decide(by_status)
    walk.finished("a", "error")
    walk.stop(CANCEL)
    walk.finished("b", "aborted")

    assert walk.verdict().status == "aborted"


def test_a_run_folder_that_can_not_be_written_ends_everything_at_once() -> None:
    """It outranks a cancel: what was asked can't be recorded either."""
    walk = Walk(make_plan(step("a"), step("b", "a", when="always()")))
    walk.decide(by_status)
    walk.stop(CANCEL)
    walk.fail(Stop(kind="failure", cause="disk full", cause_code="disk"))
    walk.finished("a", "aborted")

    assert walk_all(walk) == []
    assert (walk.verdict().status, walk.verdict().cause_code) == ("error", "disk")


@st.composite
def graphs(draw: st.DrawFn) -> Plan:
    """Any graph without cycles, with any conditions and allowances."""
    names = [f"s{i}" for i in range(draw(st.integers(1, 8)))]
    steps = []
    for i, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:i]), unique=True)) if i else []
        when = draw(st.sampled_from([None, "always()", "failure()", "cancelled()", "success()"]))
        steps.append(step(name, *needs, when=when))
    draw(st.randoms()).shuffle(steps)
    return make_plan(*steps, parallel=draw(st.integers(1, 4)), fail_fast=draw(st.booleans()))


@given(plan=graphs(), data=st.data())
def test_every_walk_ends_with_every_step_finished_once(plan: Plan, data: st.DataObject) -> None:
    """Whatever happens in whatever order: no step is lost, twice, or too early."""
    walk = Walk(plan)
    finished: set[str] = set()
    running: list[str] = []
    while not walk.done:
        for decision in walk.decide(by_status):
            assert decision.step not in finished
            if isinstance(decision, Start):
                assert set(plan.step(decision.step).needs) <= finished
                running.append(decision.step)
            else:
                walk.finished(decision.step, decision.status)
                finished.add(decision.step)
        assert len(running) <= plan.parallel
        if running:
            if data.draw(st.integers(0, 9)) == 0:
                walk.stop(data.draw(st.sampled_from([CANCEL, TIMEOUT])))
            name = running.pop(data.draw(st.integers(0, len(running) - 1)))
            walk.finished(name, data.draw(st.sampled_from(["success", "error", "aborted"])))
            finished.add(name)
    assert finished == {item.id for item in plan.steps}
    assert walk.verdict().status in ("success", "error", "aborted")
