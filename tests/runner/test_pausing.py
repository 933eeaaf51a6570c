"""Pause, resume and extend: what is frozen prints nothing, and the time doesn't count."""

from __future__ import annotations

import asyncio
import json

import pytest

from mechanisms import MECHANISMS, require_mechanism
from runs import accept, eventually, executing, plan_of, processes_of, script
from tailrace import wire
from tailrace.core.plan import AskAction, Retry, StepPlan
from tailrace.rundir.layout import StateDir

COUNTS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"


def moment(event: dict[str, object]) -> float:
    """When an event was told."""
    return wire.parse_timestamp(str(event["t"]))


async def test_a_paused_step_prints_nothing_until_it_is_resumed(state: StateDir) -> None:
    """Between the two controls there is no output, and nothing is lost or doubled."""
    run = accept(state, plan_of(script("count", COUNTS), script("next", "echo next", "count")))
    async with executing(run) as execution:
        await execution.until("log", step="count", text='"3')
        paused = await execution.send("pause")
        assert execution.snapshot().status == "paused"
        assert execution.snapshot().steps["count"].status == "paused"
        await asyncio.sleep(0.3)  # long enough for fifteen lines
        resumed = await execution.send("resume")
        assert execution.snapshot().status == "running"
        await eventually(lambda: execution.told("log")[-1]["seq"] > resumed.seq)
        await execution.send("cancel")
        await execution.wait()

    assert (paused.status, resumed.status) == ("done", "done")
    between = [e["event"] for e in execution.told() if paused.seq <= e["seq"] <= resumed.seq]
    assert between == ["control", "control"]
    numbers = [int(line) for line in execution.text("count").split()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_paused_time_counts_for_neither_timeout_nor_silence(state: StateDir) -> None:
    """Nor for the run's own timeout; and a paused run starts no step."""
    step = script("work", "echo on; sleep 0.4; echo off", timeout_ms=2_000, silence_ms=1_800)
    run = accept(state, plan_of(step, script("next", "echo next", "work"), timeout_ms=2_400))
    async with executing(run) as execution:
        await execution.until("log", step="work")
        await execution.send("pause")
        await asyncio.sleep(2.5)
        assert execution.told("step_finished") == []
        await execution.send("resume")
        await execution.wait()

    assert execution.text("work") == "on\noff\n"
    assert execution.told()[-1]["status"] == "success"


async def test_pausing_and_resuming_what_is_so_already_changes_nothing(state: StateDir) -> None:
    """The earlier event is named again."""
    run = accept(state, plan_of(script("work", "echo on; sleep 600")))
    async with executing(run) as execution:
        await execution.until("log", step="work")
        before = await execution.send("resume")
        first, again = await execution.send("pause"), await execution.send("pause")
        on, on_again = await execution.send("resume"), await execution.send("resume")
        await execution.send("cancel")
        await execution.wait()

    assert (before.status, before.seq) == ("unchanged", None)
    assert (again.status, again.seq) == ("unchanged", first.seq)
    assert (on_again.status, on_again.seq) == ("unchanged", on.seq)
    assert [e["action"] for e in execution.told("control")] == ["pause", "resume", "cancel"]


async def test_a_cancel_ends_a_paused_run_with_its_grace(state: StateDir) -> None:
    """A frozen process handles SIGTERM; steps for cleaning up run."""
    work = script("work", "trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.02; done")
    run = accept(state, plan_of(work, script("tidy", "echo tidy", "work", when="always()")))
    async with executing(run) as execution:
        await execution.until("log", step="work")
        await execution.send("pause")
        await execution.send("cancel")
        await execution.wait()

    assert execution.text("work").endswith("bye\n")
    assert execution.text("tidy") == "tidy\n"
    assert execution.finished("work")["kill"]["forced"] == 0
    assert execution.told()[-1]["event"] == "aborted"
    assert processes_of(run) == []


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_step_that_is_cancelled_in_a_paused_run_has_its_grace(
    state: StateDir, mechanism: str
) -> None:
    """It handles SIGTERM and ends, and nothing has to be forced."""
    require_mechanism(mechanism)
    work = script("work", "trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.02; done")
    run = accept(state, plan_of(work))
    settings = {"limits": {"containment": mechanism}}
    async with executing(run, settings=settings) as execution:
        await execution.until("log", step="work")
        await execution.send("pause")
        await execution.send("cancel_step", step="work")
        await execution.wait()

    assert execution.text("work").endswith("bye\n")
    assert execution.finished("work")["returncode"] == 0
    assert execution.finished("work")["kill"]["forced"] == 0


async def test_a_failure_that_ends_a_pause_is_nobody_s_resume(state: StateDir) -> None:
    """``by`` is null: here the run ends because a question expired meanwhile."""
    question = StepPlan(
        id="ask", base="ask", label="ask",
        action=AskAction(question="Go?", expires_ms=1_500),
    )  # fmt: skip
    run = accept(state, plan_of(script("work", "echo up; sleep 600"), question, fail_fast=True))
    async with executing(run) as execution:
        await execution.until("log", step="work")
        await execution.until("prompt", step="ask")
        paused = await execution.send("pause")
        await execution.wait()

    assert paused.status == "done"
    resumed = execution.told("control")[-1]
    assert (resumed["action"], resumed["by"], resumed["via"]) == ("resume", None, "run")


async def test_a_step_that_is_skipped_while_the_run_is_paused_ends(state: StateDir) -> None:
    """The others stay frozen."""
    run = accept(state, plan_of(script("a", COUNTS), script("b", COUNTS)))
    async with executing(run) as execution:
        await execution.until("log", step="a")
        await execution.until("log", step="b")
        await execution.send("pause")
        await execution.send("skip", step="a")
        await execution.until("step_finished", step="a")
        assert execution.snapshot().steps["b"].status == "paused"
        await execution.send("cancel")
        await execution.wait()

    assert execution.finished("a")["status"] == "skipped"


async def test_a_pause_is_refused_while_the_run_is_being_ended(state: StateDir) -> None:
    """With the state."""
    run = accept(state, plan_of(script("work", "trap '' TERM; echo on; sleep 600", grace_ms=800)))
    async with executing(run) as execution:
        await execution.until("log", step="work")
        await execution.send("cancel")
        refused = await execution.send("pause")
        await execution.wait()

    assert (refused.status, refused.state) == ("conflict", "running")


async def test_a_paused_run_asks_nothing_again(state: StateDir) -> None:
    """Not even where the delay of a retry is over: the question is for when it goes on."""
    action = AskAction(question="Deploy?", expires_ms=100)
    ask = StepPlan(
        id="ask", base="ask", label="ask", action=action, retry=Retry(attempts=2, delay_ms=100)
    )
    counts = script("work", COUNTS)
    run = accept(state, plan_of(ask, counts))
    async with executing(run) as execution:
        await execution.until("step_retrying", step="ask")
        await execution.send("pause")
        await asyncio.sleep(0.4)  # longer than the delay, and than the question waits
        asked = execution.told("prompt")
        await execution.send("resume")
        await execution.until("step_finished", step="ask")
        await execution.send("cancel")
        await execution.wait()

    assert len(asked) == 1
    assert len(execution.told("prompt")) == 2
    assert execution.finished("ask")["cause_code"] == "expired"


async def test_a_step_that_is_cancelled_before_its_next_attempt_ends_as_its_last_one_did(
    state: StateDir,
) -> None:
    """It has started, so it isn't skipped; the run isn't a success."""
    work = script("work", "echo one; exit 3", retry=Retry(attempts=2, delay_ms=100))
    run = accept(state, plan_of(work))
    async with executing(run) as execution:
        await execution.until("step_retrying", step="work")
        await execution.send("pause")
        await asyncio.sleep(0.3)  # longer than the delay: its turn would have come
        await execution.send("cancel_step", step="work")
        await execution.wait()

    told = execution.finished("work")
    assert (told["status"], told["cause_code"]) == ("aborted", "cancelled")
    assert (told["attempt"], told["returncode"], told["lines"]) == (1, 3, 1)
    assert execution.told()[-1]["status"] == "error"


async def test_a_timeout_is_extended_each_time(state: StateDir) -> None:
    """And told with all that was allowed."""
    step = script("work", "echo on; sleep 600", timeout_ms=300, grace_ms=100)
    run = accept(state, plan_of(step))
    async with executing(run) as execution:
        await execution.until("step_started", step="work")
        first = await execution.send("extend", step="work", by_ms=500)
        second = await execution.send("extend", step="work", by_ms=200)
        await execution.wait()

    assert (first.status, second.status) == ("done", "done")
    finished = execution.finished("work")
    assert (finished["cause"], finished["cause_code"]) == ("timed out after 1s", "timeout")
    assert finished["duration_ms"] >= 950
    told = execution.told("control")
    assert [(e["action"], e["step"], e["extended_ms"]) for e in told] == [
        ("extend", "work", 500),
        ("extend", "work", 200),
    ]


async def test_what_can_not_be_extended_is_refused(state: StateDir) -> None:
    """No timeout, not running, no such step, and less than nothing."""
    steps = (
        script("free", "echo on; sleep 600"),
        script("later", ":", "free", timeout_ms=1_000),
        script("again", "exit 1", retry=Retry(attempts=2, delay_ms=600_000), timeout_ms=1_000),
    )
    run = accept(state, plan_of(*steps))
    async with executing(run) as execution:
        await execution.until("log", step="free")
        await execution.until("step_retrying", step="again")
        asked = [
            await execution.send("extend", step=step, by_ms=by_ms)
            for step, by_ms in (("free", 1), ("later", 1), ("again", 1), ("nope", 1), ("free", -1))
        ]
        await execution.send("cancel")
        await execution.wait()

    assert [reply.status for reply in asked] == [
        "conflict", "conflict", "conflict", "unknown", "invalid",
    ]  # fmt: skip
    assert asked[0].reason == "step 'free' has no timeout"
    assert (asked[2].state, asked[2].reason) == (
        "retrying", "step 'again' waits for its next attempt",
    )  # fmt: skip
    assert [e["action"] for e in execution.told("control")] == ["cancel"]
    assert "extended_ms" not in json.dumps(execution.told("control"))
