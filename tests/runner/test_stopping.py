"""Cancel, skip and what they leave: each is told, done once, and leaves no process."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args, get_type_hints

import pytest

from mechanisms import MECHANISMS, require_mechanism
from programs import require
from runs import (
    accept,
    command,
    eventually,
    execute,
    executing,
    plan_of,
    processes_of,
    script,
)
from tailrace.cgroup import cgroups_of
from tailrace.core.plan import Retry
from tailrace.core.walk import Phase
from tailrace.prove.marks import Mark, look
from tailrace.prove.trees import TREES
from tailrace.prove.trees import script as tree_script
from tailrace.rundir.layout import StateDir
from tailrace.runner.engine import Engine
from tailrace.runner.steering import Steering
from tailrace.wire import Command
from tailrace.worker.lost import kill_processes

SLEEPS = "echo ready; sleep 600"


async def test_a_cancel_ends_running_steps_and_the_run_is_aborted(state: StateDir) -> None:
    """Who asked, through what and why is told; nothing of the step survives."""
    run = accept(state, plan_of(script("work", SLEEPS), script("next", "echo never", "work")))
    async with executing(run) as execution:
        await execution.until("log", step="work")
        reply = await execution.send("cancel", reason="wrong branch")
        await execution.wait()

    assert reply.status == "done"
    (control,) = execution.told("control")
    assert control["seq"] == reply.seq
    assert (control["action"], control["by"], control["via"]) == ("cancel", "ann", "cli")
    assert execution.finished("work")["status"] == "aborted"
    assert execution.finished("work")["kill"]["survivors"] == []
    assert execution.finished("next")["status"] == "skipped"
    last = execution.told()[-1]
    assert (last["event"], last["reason"], last["by"]) == ("aborted", "wrong branch", "ann")
    assert last["cause_code"] == "cancelled"
    assert execution.process.returncode == 1


async def test_steps_for_cleaning_up_run_after_a_cancel_and_a_second_one_ends_them(
    state: StateDir,
) -> None:
    """``when: always()`` gets its time, until somebody insists."""
    run = accept(
        state,
        plan_of(script("work", SLEEPS), script("tidy", SLEEPS, "work", when="always()")),
    )
    async with executing(run) as execution:
        await execution.until("log", step="work")
        first = await execution.send("cancel")
        await execution.until("log", step="tidy")
        second = await execution.send("cancel", reason="enough")
        await execution.wait()

    assert (first.status, second.status) == ("done", "done")
    assert execution.finished("work")["cause"] == "cancelled by ann"
    assert execution.finished("tidy")["status"] == "aborted"
    assert execution.finished("tidy")["cause"] == "enough"
    assert execution.told()[-1]["reason"] == "cancelled by ann"
    assert execution.told()[-1]["event"] == "aborted"


async def test_a_cancel_of_cleaning_up_after_a_timeout_is_told_as_that(state: StateDir) -> None:
    """The run stays one that timed out; another cancel changes nothing."""
    stubborn = "trap '' TERM; " + SLEEPS
    tidies = script("tidy", stubborn, "work", when="always()", grace_ms=1_000)
    run = accept(state, plan_of(script("work", SLEEPS), tidies, timeout_ms=500))
    async with executing(run) as execution:
        await execution.until("log", step="tidy")
        first = await execution.send("cancel")
        again = await execution.send("cancel")
        await execution.wait()

    assert (first.status, again.status, again.seq) == ("done", "unchanged", first.seq)
    assert len(execution.told("control")) == 1
    tidy, last = execution.finished("tidy"), execution.told()[-1]
    assert (tidy["cause"], tidy["cause_code"]) == ("cancelled by ann", "cancelled")
    assert (last["status"], last["cause_code"]) == ("error", "timeout")


async def test_a_cancel_that_is_already_so_changes_nothing(state: StateDir) -> None:
    """The earlier ``control`` event is named again, and there is one only."""
    run = accept(state, plan_of(script("work", "trap '' TERM; " + SLEEPS, grace_ms=1_000)))
    async with executing(run) as execution:
        await execution.until("log", step="work")
        first = await execution.send("cancel")
        again = await execution.send("cancel")
        await execution.wait()

    assert (again.status, again.seq) == ("unchanged", first.seq)
    assert len(execution.told("control")) == 1


async def test_a_command_with_an_id_is_done_once_and_answered_the_same_again(
    state: StateDir,
) -> None:
    """A program that lost the answer may ask again."""
    run = accept(state, plan_of(script("a", SLEEPS), script("b", SLEEPS)))
    async with executing(run) as execution:
        await execution.until("log", step="a")
        first = await execution.send("skip", step="a", id="k1")
        again = await execution.send("skip", step="a", id="k1")
        await execution.send("cancel")
        await execution.wait()

    assert first == again
    assert [item["action"] for item in execution.told("control")] == ["skip", "cancel"]


async def test_a_skipped_step_counts_as_success_for_what_needs_it(state: StateDir) -> None:
    """Whether it was running or had not begun."""
    run = accept(
        state,
        plan_of(
            script("running", SLEEPS),
            script("waiting", "echo never", "running"),
            script("last", "echo last", "waiting"),
        ),
    )
    async with executing(run) as execution:
        await execution.until("log", step="running")
        await execution.send("skip", step="waiting")
        await execution.send("skip", step="running", reason="takes too long")
        await execution.wait()

    finished = execution.finished("running")
    assert (finished["status"], finished["cause"]) == ("skipped", "takes too long")
    assert execution.finished("waiting")["attempt"] == 0
    assert execution.text("last") == "last\n"
    assert execution.told()[-1]["status"] == "success"


async def test_a_step_that_is_being_stopped_is_not_skipped_any_more(state: StateDir) -> None:
    """That is refused, instead of told by a ``control``; a cancel of it is so already."""
    stubborn = "trap '' TERM; " + SLEEPS
    run = accept(state, plan_of(*(script(name, stubborn, grace_ms=1_000) for name in ("a", "b"))))
    async with executing(run) as execution:
        for name in ("a", "b"):
            await execution.until("log", step=name)
        await execution.send("cancel_step", step="a")
        skip_a = await execution.send("skip", step="a")
        cancel = await execution.send("cancel")
        skip_b = await execution.send("skip", step="b")
        cancel_b = await execution.send("cancel_step", step="b")
        await execution.wait()

    for reply, name in ((skip_a, "a"), (skip_b, "b")):
        assert (reply.status, reply.state) == ("conflict", "running")
        assert reply.reason == f"step '{name}' is being stopped"
    assert (cancel_b.status, cancel_b.seq) == ("unchanged", cancel.seq)
    assert [item["action"] for item in execution.told("control")] == ["cancel", "cancel"]
    assert {execution.finished(name)["status"] for name in ("a", "b")} == {"aborted"}


async def test_a_reason_is_one_line_whatever_it_holds(state: StateDir) -> None:
    """Control characters are shown, and steer nobody's terminal."""
    run = accept(state, plan_of(script("a", SLEEPS), script("b", SLEEPS)))
    async with executing(run) as execution:
        for name in ("a", "b"):
            await execution.until("log", step=name)
        await execution.send("skip", step="a", reason="too\nslow\x1b[31m")
        await execution.send("cancel", reason="stop\x00\x7f\x9b now")
        await execution.wait()

    assert execution.finished("a")["cause"] == "too␊slow␛[31m"
    assert execution.told()[-1]["reason"] == "stop␀␡� now"


async def test_cancelling_one_step_aborts_it_and_the_run_goes_on(state: StateDir) -> None:
    """What needs it is skipped; the run can't be a success then."""
    run = accept(
        state,
        plan_of(script("slow", SLEEPS), script("after", ":", "slow"), script("other", "echo hi")),
    )
    async with executing(run) as execution:
        await execution.until("log", step="slow")
        await execution.send("cancel_step", step="slow")
        await execution.wait()

    assert execution.finished("slow")["status"] == "aborted"
    assert execution.finished("after")["cause"] == "needs 'slow', which was aborted"
    assert execution.finished("other")["status"] == "success"
    last = execution.told()[-1]
    assert (last["event"], last["status"]) == ("summary", "error")


async def test_commands_that_make_no_sense_are_refused_and_change_nothing(
    state: StateDir,
) -> None:
    """An unknown step, and one that has ended."""
    run = accept(state, plan_of(script("quick", "echo hi"), script("slow", SLEEPS)))
    async with executing(run) as execution:
        await execution.until("step_finished", step="quick")
        await execution.until("log", step="slow")
        unknown = await execution.send("skip", step="nope")
        ended = await execution.send("skip", step="quick")
        await execution.send("cancel")
        await execution.wait()

    assert unknown.status == "unknown"
    assert (ended.status, ended.state) == ("conflict", "success")
    assert [item["action"] for item in execution.told("control")] == ["cancel"]


async def test_a_step_that_waits_for_its_next_attempt_is_cancelled_at_once(
    state: StateDir,
) -> None:
    """A cancel is never retried."""
    step = script("flaky", "exit 1", retry=Retry(attempts=3, delay_ms=600_000))
    run = accept(state, plan_of(step))
    async with executing(run) as execution:
        await execution.until("step_retrying", step="flaky")
        await execution.send("cancel")
        await execution.wait()

    assert execution.finished("flaky")["status"] == "aborted"
    assert len(execution.told("step_started")) == 1


async def test_fail_fast_stops_the_other_steps(state: StateDir) -> None:
    """With the failed step as their cause."""
    run = accept(
        state,
        plan_of(
            script("other", SLEEPS),
            script("bad", 'while ! test -e "$TAILRACE_WORKSPACE/go"; do sleep 0.01; done; exit 1'),
            fail_fast=True,
        ),
    )
    async with executing(run) as execution:
        await execution.until("log", step="other")
        (state.workspace(run.id) / "go").touch()
        await execution.wait()

    other = execution.finished("other")
    assert (other["status"], other["cause"]) == ("aborted", "step 'bad' failed (fail_fast)")
    assert execution.told()[-1]["status"] == "error"


async def test_a_cancel_after_fail_fast_leaves_clean_up_steps_their_time(state: StateDir) -> None:
    """It is the first cancel; only a second one ends them."""
    wait = 'echo ready; while ! test -e "$TAILRACE_WORKSPACE/go"; do sleep 0.01; done; echo tidied'
    run = accept(
        state,
        plan_of(
            script("bad", "exit 1"), script("tidy", wait, "bad", when="always()"), fail_fast=True
        ),
    )
    async with executing(run) as execution:
        await execution.until("log", step="tidy")
        await execution.send("cancel")
        (state.workspace(run.id) / "go").touch()
        await execution.wait()

    assert execution.finished("tidy")["status"] == "success"
    assert execution.text("tidy") == "ready\ntidied\n"
    assert execution.told()[-1]["event"] == "aborted"


def _grow(tree: str, mark: Mark) -> str:
    """The script of a step whose processes have a mark."""
    return f"PROOF_FOLDER={shlex.quote(str(mark.folder))}; {tree_script(tree)}"


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_cancel_leaves_no_process_of_any_tree(
    state: StateDir, tmp_path: Path, mechanism: str
) -> None:
    """Each kill report counts what was signalled and forced, and proves that none is left."""
    require_mechanism(mechanism)
    mark = Mark.make(tmp_path, f"mark-{tmp_path.name}-{os.getpid()}")
    trees = {f"t{n}": _grow(tree, mark) for n, tree in enumerate(TREES)}
    steps = [script(step, text, grace_ms=200) for step, text in trees.items()]
    run = accept(state, plan_of(*steps, parallel=len(steps)))
    limits = {"containment": mechanism, "steps": len(steps)}
    async with executing(run, settings={"limits": limits}) as execution:
        for step in trees:
            await execution.until("log", step=step, text="ready")
        assert len(look([mark])[mark.text]) > len(trees)
        await execution.send("cancel")
        await execution.wait()

    (started,) = execution.told("started")
    assert started["containment"] == ("weak" if mechanism == "process_group" else mechanism)
    for step in trees:
        kill = execution.finished(step)["kill"]
        assert (kill["mechanism"], kill["survivors"]) == (mechanism, [])
        assert kill["signalled"] >= 1
    # The last is found at the run's end only, where nothing holds it together.
    await eventually(lambda: look([mark])[mark.text] == [])
    assert cgroups_of(run.id) == []


def _held_by(mechanism: str, sandbox: str) -> dict[str, Any]:
    """The settings for a mechanism; skips where it, or the sandbox, doesn't work."""
    require_mechanism(mechanism)
    if sandbox == "required":
        require("bwrap")
    return {"limits": {"containment": mechanism}}


@pytest.mark.parametrize("sandbox", ["off", "required"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_kill_report_counts_the_processes_of_the_step_alone(
    state: StateDir, mechanism: str, sandbox: str
) -> None:
    """A shell and its child that are deaf to SIGTERM are two, whatever holds them together."""
    settings = _held_by(mechanism, sandbox)
    deaf = script(
        "deaf", "trap '' TERM; sleep 600 & echo ready; wait", sandbox=sandbox, grace_ms=100
    )
    run = accept(state, plan_of(deaf))
    async with executing(run, settings=settings) as execution:
        await execution.until("log", step="deaf", text="ready")
        await execution.send("cancel")
        await execution.wait()

    kill = execution.finished("deaf")["kill"]
    assert (kill["signalled"], kill["forced"], kill["survivors"]) == (2, 2, [])


@pytest.mark.parametrize("sandbox", ["off", "required"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_step_that_is_stopped_while_it_starts_needs_no_force(
    state: StateDir, mechanism: str, sandbox: str
) -> None:
    """Where bubblewrap comes before it, SIGTERM is for the step all the same, once it is there."""
    settings = _held_by(mechanism, sandbox)
    names = [f"sleep-{n}" for n in range(8)]
    steps = [command(name, "sleep", "600", sandbox=sandbox) for name in names]
    run = accept(state, plan_of(*steps))
    async with executing(run, settings=settings) as execution:
        await execution.until("step_started", step=names[-1])
        await execution.send("cancel")
        await execution.wait()

    for name in names:
        finished = execution.finished(name)
        assert (finished["returncode"], finished["kill"]["forced"]) == (-signal.SIGTERM, 0)


@pytest.mark.parametrize("sandbox", ["off", "required"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_only_steps_that_leave_processes_behind_are_told_of(
    state: StateDir, mechanism: str, sandbox: str
) -> None:
    """Bubblewrap's own end a moment after the step's, and are no leftover."""
    settings = _held_by(mechanism, sandbox)
    clean = [script(f"clean-{n}", f"exit {n % 2}", sandbox=sandbox) for n in range(24)]
    messy = script("messy", "sleep 600 & exit 0", sandbox=sandbox)
    done = await execute(state, plan_of(*clean, messy), settings=settings)

    assert [(notice["step"], notice["text"]) for notice in done.told("notice")] == [
        ("messy", "1 process outlived the step and had to be ended")
    ]


@pytest.mark.parametrize("mechanism", ["cgroup", "pidns"])
async def test_a_dead_runner_leaves_no_process_however_it_hid(
    state: StateDir, tmp_path: Path, mechanism: str
) -> None:
    """Whoever ends the run kills also what wiped its environment and lost its parent."""
    require_mechanism(mechanism)
    mark = Mark.make(tmp_path, f"mark-{tmp_path.name}-{os.getpid()}")
    run = accept(state, plan_of(script("nasty", _grow("hiding", mark))))
    async with executing(run, settings={"limits": {"containment": mechanism}}) as execution:
        await execution.until("log", step="nasty", text="ready")
        await eventually(lambda: len(look([mark])[mark.text]) >= 3)
        execution.process.kill()
        await execution.process.wait()
        assert look([mark])[mark.text] != []
        # Killing a namespace's init ends the others before they are counted.
        assert kill_processes(run.id) >= (3 if mechanism == "cgroup" else 1)

    await eventually(lambda: look([mark])[mark.text] == [])
    assert cgroups_of(run.id) == []


async def test_a_mechanism_that_is_weaker_than_asked_for_is_told(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason; the run goes on with what there is."""
    monkeypatch.setenv("PATH", "/nonexistent")
    plan = plan_of(command("a", sys.executable, "-c", "print('hi')"))
    done = await execute(state, plan, settings={"limits": {"containment": "pidns"}})

    (notice,) = done.told("notice")
    assert notice["kind"] == "containment"
    assert "pidns: " in notice["text"]
    assert done.told("started")[0]["containment"] == "weak"
    assert done.text("a") == "hi\n"


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_an_end_reads_the_same_in_every_mechanism(state: StateDir, mechanism: str) -> None:
    """Exit status, death by signal, and a program that isn't there or can't be executed."""
    require_mechanism(mechanism)
    steps = (
        script("three", "exit 3"), script("died", "kill -SEGV $$"), command("none", "nope"),
        command("text", "/etc/passwd"), command("folder", "/etc"),
        command("within", "/etc/passwd/x"),
    )  # fmt: skip
    done = await execute(state, plan_of(*steps), settings={"limits": {"containment": mechanism}})

    assert done.finished("three")["returncode"] == 3
    died = done.finished("died")
    assert (died["returncode"], died["signal"]) == (-signal.SIGSEGV, "SIGSEGV")
    for step, cause in {
        "none": "could not start 'nope': No such file or directory",
        "text": "could not start '/etc/passwd': Permission denied",
        "folder": "could not start '/etc': Permission denied",
        "within": "could not start '/etc/passwd/x': Not a directory",
    }.items():
        assert done.finished(step)["cause"] == cause
    assert cgroups_of(done.run.id) == []


async def test_a_runner_that_is_told_to_end_cancels_its_run(state: StateDir) -> None:
    """SIGTERM to it is a cancel, so that its steps don't outlive it."""
    run = accept(state, plan_of(script("work", SLEEPS)))
    async with executing(run) as execution:
        await execution.until("log", step="work")
        execution.process.terminate()
        await execution.wait()

    last = execution.told()[-1]
    assert (last["event"], last["reason"]) == (
        "aborted", "the runner was told to end by SIGTERM",
    )  # fmt: skip
    assert processes_of(run) == []


async def test_a_refusal_is_not_remembered(state: StateDir) -> None:
    """What was refused for the state of the run is done once that lets it, under the same id."""
    steps = (
        script("gate", "until test -e go; do sleep 0.01; done"),
        script("work", SLEEPS, "gate", timeout_ms=600_000),
    )
    run = accept(state, plan_of(*steps))
    async with executing(run) as execution:
        await execution.until("step_started", step="gate")
        asked: dict[str, Any] = {"step": "work", "by_ms": 1000, "id": "k1"}
        early = await execution.send("extend", **asked)
        (state.workspace(run.id) / "go").touch()
        await execution.until("log", step="work")
        done = await execution.send("extend", **asked)
        again = await execution.send("extend", **asked)
        await execution.send("cancel")
        await execution.wait()

    assert (early.status, early.state) == ("conflict", "pending")
    assert done.status == "done"
    assert again == done
    assert [item["extended_ms"] for item in execution.told("control", step="work")] == [1000]


@pytest.mark.parametrize("name", get_args(get_type_hints(Command)["command"]))
async def test_a_command_behind_the_last_event_is_refused_and_told_nowhere(name: Any) -> None:
    """The socket is open a moment longer; who asks then gets the run's end for an answer."""
    # It has no recorder: a command that tried to tell of itself would fail.
    ctx = SimpleNamespace(run=SimpleNamespace(id="r"), mask_text=str)
    engine = SimpleNamespace(ended="success", gauges=dict, ctx=ctx)
    reply = await Steering(cast(Engine, engine)).handle(Command(command=name, step="work"))

    if name in ("hello", "gauges"):
        assert reply.status == "done"
    else:
        assert (reply.status, reply.state) == ("conflict", "success")
        assert reply.reason == "the run has ended: success"


async def test_a_run_that_ends_while_it_is_being_paused_is_told_as_ended() -> None:
    """Its last step may end while it is frozen."""
    walk = SimpleNamespace(phase=Phase.WALKING)
    ctx = SimpleNamespace(walk=walk, run=SimpleNamespace(id="r"), mask_text=str)
    engine = SimpleNamespace(ended=None, paused=False, ctx=ctx)

    async def pause() -> None:
        engine.ended = "error"

    engine.pause = pause
    reply = await Steering(cast(Engine, engine)).handle(Command(command="pause"))

    assert (reply.status, reply.state) == ("conflict", "error")
