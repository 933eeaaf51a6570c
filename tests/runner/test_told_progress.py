"""Progress that somebody else tells in a step's name: throttled, and only while the step runs."""

from __future__ import annotations

from runs import accept, execute, executing, plan_of, script
from tailrace import wire
from tailrace.core.plan import AskAction, Retry, StepPlan
from tailrace.rundir.layout import StateDir

WAITS = 'echo ready; until [ -e "$TAILRACE_WORKSPACE/go" ]; do sleep 0.02; done'


async def test_told_progress_appears_throttled_and_the_last_one_always(state: StateDir) -> None:
    """At most four a second together with the step's own; masked like everything."""
    own = 'echo \'{"event":"progress","percent":1}\' >> "$TAILRACE_EVENTS"; '
    run = accept(state, plan_of(script("work", own + WAITS)))
    async with executing(run, secrets={"S": "hunter2hunter2"}) as execution:
        await execution.until("log", step="work")
        for number in range(50):
            reply = await execution.send(
                "progress", percent=number, note=f"hunter2hunter2 {number}"
            )
            assert reply.status == "done"
        (state.workspace(run.id) / "go").touch()
        await execution.wait()

    told = execution.told("progress", step="work")
    assert told[-1]["note"] == "*** 49"
    assert told[-1]["percent"] == 49
    assert told[-1]["label"] == "work"
    times = [wire.parse_timestamp(str(event["t"])) for event in told]
    assert len(told) <= 4 + 4 * (times[-1] - times[0])
    assert execution.told()[-1]["status"] == "success"


async def test_progress_is_four_a_second_over_all_attempts_of_a_step(state: StateDir) -> None:
    """What an attempt told last comes, unless the next one has told more by then."""
    text = "; ".join(
        f"""echo '{{"event":"progress","note":"'$TAILRACE_ATTEMPT'/{n}"}}' >> "$TAILRACE_EVENTS\""""
        for n in range(3)
    )
    retry = Retry(attempts=12, delay_ms=1, factor=1)
    done = await execute(state, plan_of(script("work", f"{text}; exit 1", retry=retry)))

    told = done.told("progress", step="work")
    times = [wire.parse_timestamp(str(event["t"])) for event in told]
    # The first at once, the last at the end, and between them one in each quarter of a second.
    assert len(told) <= 2 + 4 * (times[-1] - times[0])
    assert told[-1]["note"] == "12/2"
    assert told[-1]["seq"] < done.told("step_finished", step="work")[0]["seq"]


async def test_told_progress_that_makes_no_sense_is_refused(state: StateDir) -> None:
    """With the reason; nothing is recorded."""
    ask = StepPlan(id="ask", base="ask", label="ask", needs=(), action=AskAction(question="Go?"))
    run = accept(state, plan_of(script("a", WAITS), script("b", WAITS, "a"), ask))
    async with executing(run) as execution:
        await execution.until("log", step="a")
        await execution.until("prompt", step="ask")
        empty = await execution.send("progress")
        unknown = await execution.send("progress", note="x", step="zzz")
        pending = await execution.send("progress", note="x", step="b")
        asking = await execution.send("progress", note="x", step="ask")
        await execution.send("pause")
        paused = await execution.send("progress", note="x")
        await execution.send("resume")
        taken = await execution.send("progress", note="the only one that runs")
        await execution.send("cancel")
        await execution.wait()

    assert (empty.status, unknown.status, taken.status) == ("invalid", "unknown", "done")
    assert (pending.status, pending.state) == ("conflict", "pending")
    assert (asking.status, asking.state) == ("conflict", "running")
    assert (paused.status, paused.state) == ("conflict", "paused")
    assert [event["note"] for event in execution.told("progress")] == ["the only one that runs"]


async def test_told_progress_names_its_step_where_several_run(state: StateDir) -> None:
    """A guess would be wrong half of the time."""
    run = accept(state, plan_of(script("a", WAITS), script("b", WAITS)))
    async with executing(run) as execution:
        await execution.until("log", step="a")
        await execution.until("log", step="b")
        vague = await execution.send("progress", note="x")
        named = await execution.send("progress", note="x", step="b")
        await execution.send("cancel")
        await execution.wait()

    assert vague.status == "invalid"
    assert "a, b" in (vague.reason or "")
    assert named.status == "done"
    assert [event["step"] for event in execution.told("progress")] == ["b"]
