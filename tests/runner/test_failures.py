"""Bugs of ours, put into a runner: each run has its end, and nothing lives on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from mechanisms import MECHANISMS, require_mechanism
from runs import accept, execute, executing, plan_of, processes_of, script
from tailrace import wire
from tailrace.cgroup import cgroups_of
from tailrace.core.plan import StepLimits
from tailrace.rundir.layout import StateDir

COLLECTION_FAILS = """
from tailrace.runner import collection

async def collect(ctx, step, attempt, **more):
    if step.id == "bad":
        raise RuntimeError("a bug at hunter22")

collection.collect = collect
"""

CONDITION_FAILS = """
from tailrace.runner import engine
whole = engine.evaluate

def evaluate(text, scope):
    if text is not None:
        raise RuntimeError("a bug in the condition")
    return whole(text, scope)

engine.evaluate = evaluate
"""

FINISH_FAILS = """
from tailrace.runner.engine import Engine

def finish_step(self, step, result, **more):
    raise RuntimeError("a bug at the step's end")

Engine.finish_step = finish_step
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

OUTPUT_FAILS = """
import sys
from tailrace.runner import attempt
from tailrace.runner.containment import is_alive
whole = attempt.Attempt._supervise

def output(*args, **more):
    raise RuntimeError("a bug in the output")

async def supervise(self, leader, log, narration):
    try:
        return await whole(self, leader, log, narration)
    finally:
        print("goes on:", is_alive(leader.pid), file=sys.stderr)

attempt.Output, attempt.Attempt._supervise = output, supervise
"""

NO_DESCRIPTORS_ONCE = """
import errno, os
whole = os.pidfd_open

def pidfd_open(pid, flags=0):
    os.pidfd_open = whole
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

os.pidfd_open = pidfd_open
"""

COMMAND_FAILS = """
from tailrace.runner.steering import Steering

def extend(self, command):
    raise ValueError("a bug at hunter22")

Steering._extend = extend
"""

END_FAILS = """
from tailrace.runner.engine import Engine
whole = Engine._end

async def end(self):
    await whole(self)
    raise RuntimeError("a bug behind the end")

Engine._end = end
"""


async def test_a_bug_at_one_step_ends_that_step_and_the_graph_goes_on(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """Others run to their end, and those for a failure run; the runner's log has the rest."""
    steps = (
        script("other", "until test -e cleaned; do sleep 0.01; done; echo whole"),
        script("bad", "echo one; echo two"),
        script("after", "echo never", "bad"),
        script("clean", "touch cleaned", "bad", when="failure()"),
    )
    run = accept(state, plan_of(*steps))
    async with executing(run, altered_by=COLLECTION_FAILS, secrets={"PW": "hunter22"}) as execution:
        await execution.wait()

    bad = execution.finished("bad")
    assert (bad["status"], bad["cause_code"]) == ("error", "internal")
    assert bad["cause"] == "internal error; see runner.log"
    assert (bad["returncode"], bad["lines"], bad["bytes"]) == (0, 2, 8)
    assert execution.finished("after")["status"] == "skipped"
    assert execution.finished("clean")["status"] == "success"
    assert execution.text("other") == "whole\n"
    last = execution.told()[-1]
    assert last["cause"] == "step 'bad' failed: internal error; see runner.log"
    assert "RuntimeError: a bug at ***" in capfd.readouterr().err
    assert processes_of(run) == []


async def test_a_bug_at_one_condition_ends_that_step_and_the_graph_goes_on(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """The step is an error that its `when` brought."""
    steps = (script("bad", "echo never", when='depth == "x"'), script("other", "echo ran"))
    execution = await execute(state, plan_of(*steps), altered_by=CONDITION_FAILS)

    bad = execution.finished("bad")
    assert (bad["status"], bad["cause_code"]) == ("error", "when")
    assert bad["cause"] == "its `when` met an internal error; see runner.log"
    assert execution.finished("other")["status"] == "success"
    assert "a bug in the condition" in capfd.readouterr().err


async def test_a_bug_of_the_run_itself_ends_every_step_that_is_open(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run can't go on: no step is asked to end by itself, none lives on, each has its end."""
    patient = "trap 'echo asked' TERM; echo up; touch ready; while :; do sleep 0.05; done"
    steps = (
        script("other", patient, grace_ms=600_000, allow_failure=True),
        script("bad", "until test -e ready; do sleep 0.01; done"),
        script("after", "echo never", "bad", label="Afterwards"),
    )
    run = accept(state, plan_of(*steps))
    async with executing(run, altered_by=FINISH_FAILS) as execution:
        await execution.wait()

    last = execution.told()[-1]
    assert (last["event"], last["status"], last["cause_code"]) == ("summary", "error", "internal")
    times = {item["event"]: wire.parse_timestamp(item["t"]) for item in execution.told()}
    assert last["duration_ms"] == pytest.approx(
        1000 * (times["summary"] - times["started"]), abs=50
    )
    ends = [execution.finished(step) for step in ("other", "bad", "after")]
    assert [end["status"] for end in ends] == ["error", "error", "skipped"]
    assert [end["cause_code"] for end in ends] == ["internal"] * 3
    assert [end["attempt"] for end in ends] == [1, 1, 0]
    assert [end["allowed"] for end in ends] == [True, False, False]
    assert (ends[0]["lines"], ends[0]["bytes"]) == (1, 3)
    assert ends[2]["label"] == "Afterwards"
    assert "a bug at the step's end" in capfd.readouterr().err
    assert execution.text("other") == "up\n"
    assert processes_of(run) == []


async def test_the_rest_of_the_output_is_kept_where_stopping_a_step_fails(state: StateDir) -> None:
    """What was held back is written before the run ends: here the first half of a secret."""
    run = accept(state, plan_of(script("work", "printf 'said hunter'; sleep 600")))
    async with executing(run, altered_by=STOP_FAILS, secrets={"PW": "hunter22"}) as execution:
        await execution.until("log", step="work")
        await execution.send("cancel")
        await execution.wait()

    assert execution.finished("work")["cause_code"] == "internal"
    assert execution.text("work") == "said hunter"
    assert processes_of(run) == []


async def test_a_limit_that_is_no_longer_watched_ends_the_step(
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


async def test_a_process_is_ended_whose_output_can_t_be_read(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the attempt, not only by the run's end."""
    run = accept(state, plan_of(script("work", "sleep 600")))
    async with executing(run, altered_by=OUTPUT_FAILS) as execution:
        await execution.wait()

    log = capfd.readouterr().err
    assert "a bug in the output" in log
    assert "goes on: False" in log
    assert execution.told()[-1]["cause_code"] == "internal"


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_step_that_finds_no_descriptors_is_told_and_leaves_no_process(
    state: StateDir, mechanism: str
) -> None:
    """It had started when they were missing; the run goes on without it."""
    require_mechanism(mechanism)
    text = "echo up; exec sleep 600"
    steps = (script("work", text), script("after", text, "work", when="always()"))
    run = accept(state, plan_of(*steps))
    settings = {"limits": {"containment": mechanism}}
    async with executing(run, altered_by=NO_DESCRIPTORS_ONCE, settings=settings) as execution:
        await execution.until("log", step="after")
        steps_of = {
            line
            for pid in processes_of(run)
            for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if line.startswith(b"TAILRACE_STEP=")
        }
        await execution.send("cancel")
        with contextlib.suppress(ConnectionError):  # it may have ended by the first
            await execution.send("cancel")
        await execution.wait()

    assert steps_of == {b"TAILRACE_STEP=after"}
    finished = execution.finished("work")
    assert (finished["status"], finished["cause_code"]) == ("error", "requirement")
    assert finished["cause"].endswith(": Too many open files")
    assert cgroups_of(run.id) == []


async def test_a_command_that_fails_is_told_and_the_run_goes_on(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who asked learns it, and the runner's log has the rest, masked."""
    run = accept(state, plan_of(script("work", "echo up; sleep 600")))
    async with executing(run, altered_by=COMMAND_FAILS, secrets={"PW": "hunter22"}) as execution:
        await execution.until("log", step="work")
        reply = await execution.send("extend", step="work", by_ms=1000)
        cancelled = await execution.send("cancel")
        await execution.wait()

    assert (reply.status, reply.reason) == (
        "invalid", "the runner failed at it; see runner.log",
    )  # fmt: skip
    assert cancelled.status == "done"
    assert execution.told()[-1]["event"] == "aborted"
    assert "ValueError: a bug at ***" in capfd.readouterr().err


async def test_a_bug_behind_the_last_event_adds_no_other(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run has ended as it was told; the bug is in the runner's log."""
    run = accept(state, plan_of(script("work", ":")))
    async with executing(run, altered_by=END_FAILS) as execution:
        await execution.wait()

    assert [item["status"] for item in execution.told("summary")] == ["success"]
    assert "a bug behind the end" in capfd.readouterr().err
