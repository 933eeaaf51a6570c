"""Bugs of ours, put into a runner: each run has its end, and nothing lives on."""

from __future__ import annotations

import pytest

from runs import accept, executing, plan_of, processes_of, script
from tailrace.core.plan import StepLimits
from tailrace.rundir.layout import StateDir

COLLECTION_FAILS = """
from tailrace.runner import collection

async def collect(ctx, step, attempt):
    raise RuntimeError("a bug in the collection")

collection.collect = collect
"""

WATCH_FAILS = """
from tailrace.runner import attempt

async def until_over(limits, containment):
    raise RuntimeError("a bug in the watch")

attempt.until_over = until_over
"""

STOP_FAILS = """
from tailrace.runner.containment import Containment
whole = Containment.stop

async def stop(self, *, grace_s):
    await whole(self, grace_s=grace_s)
    raise RuntimeError("a bug behind the stop")

Containment.stop = stop
"""


async def test_a_bug_in_one_step_s_room_ends_the_others_without_their_grace(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run can't go on: none is asked to end by itself, and none lives on."""
    patient = "trap 'echo asked' TERM; touch ready; while :; do sleep 0.05; done"
    steps = (
        script("other", patient, grace_ms=600_000),
        script("bad", "until test -e ready; do sleep 0.01; done"),
    )
    run = accept(state, plan_of(*steps))
    async with executing(run, altered_by=COLLECTION_FAILS) as execution:
        await execution.wait()

    last = execution.told()[-1]
    assert (last["event"], last["cause_code"]) == ("summary", "internal")
    assert "a bug in the collection" in capfd.readouterr().err
    assert execution.text("other") == ""
    assert processes_of(run) == []


async def test_the_rest_of_the_output_is_kept_where_stopping_a_step_fails(state: StateDir) -> None:
    """What was held back is written before the run ends: here the first half of a secret."""
    run = accept(state, plan_of(script("work", "printf 'said hunter'; sleep 600")))
    async with executing(run, altered_by=STOP_FAILS, secrets={"PW": "hunter22"}) as execution:
        await execution.until("log", step="work")
        await execution.send("cancel")
        await execution.wait()

    assert execution.told()[-1]["cause_code"] == "internal"
    assert execution.text("work") == "said hunter"
    assert processes_of(run) == []


async def test_a_limit_that_is_no_longer_watched_ends_the_run(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing goes on beyond its limits unseen."""
    run = accept(state, plan_of(script("work", "sleep 600", limits=StepLimits(pids=9))))
    async with executing(run, altered_by=WATCH_FAILS) as execution:
        await execution.wait()

    last = execution.told()[-1]
    assert (last["event"], last["cause_code"]) == ("summary", "internal")
    assert "a bug in the watch" in capfd.readouterr().err
    assert processes_of(run) == []
