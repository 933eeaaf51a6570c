"""Runs whose runner died: at every moment, ended or gone on with, and told truthfully."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runs import accept, plan_of, processes_of, read_events, script
from tailrace import wire
from tailrace.core import events
from tailrace.core.events import Control
from tailrace.rundir.control import send_command
from tailrace.rundir.journal import JournalWriter
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.lock import is_held, read_holder, try_lock
from tailrace.worker.lost import Fate, end_lost, settle_lost
from tailrace.worker.pulse import Pulse
from tailrace.worker.submission import Submission
from yard import Yard, start, until

# Each step leaves a mark of each time that it ran; "second" reads what "first" gave.
STEPS = """
steps:
  first:
    run: |
      echo ran >> "$TAILRACE_WORKSPACE/first"
      echo word=kept >> "$TAILRACE_OUTPUT"
      echo made > "$TAILRACE_ARTIFACTS/first.txt"
  second:
    needs: first
    env: {WORD: "${{ steps.first.outputs.word }}"}
    run: |
      echo ran >> "$TAILRACE_WORKSPACE/second"
      cat "$TAILRACE_COLLECTED/first.txt"
      echo "attempt $TAILRACE_ATTEMPT: $WORD"
      echo made > "$TAILRACE_ARTIFACTS/second.txt"
"""
# A step that waits for a file; what it leaves behind ignores SIGTERM.
WAITS = """
steps:
  wait:
    grace: 100ms
    run: |
      (trap '' TERM; while :; do sleep 0.05; done) &
      echo "attempt $TAILRACE_ATTEMPT"
      until [ -e go ]; do sleep 0.02; done
"""
# A step that takes its time to end.
STUBBORN = """
steps:
  wait: {grace: 1m, run: "trap '' TERM; echo on; while :; do sleep 0.05; done"}
  after: {needs: wait, run: 'echo after'}
"""
RETRY = "on_lost: retry\n"


def told(run: RunDir, event: str, **keys: Any) -> list[dict[str, Any]]:
    """The events of a kind that hold these values."""
    return [
        item
        for item in read_events(run)
        if item["event"] == event and all(item.get(k) == v for k, v in keys.items())
    ]


def text(run: RunDir, attempt: int, step: str) -> str:
    """What an attempt printed."""
    return "\n".join(item["text"] for item in told(run, "log", step=step, attempt=attempt))


def check_journal(run: RunDir) -> None:
    """Whatever happened: no gap, one start, one end, each step finished once, nobody left."""
    events = read_events(run)
    assert [item["seq"] for item in events] == list(range(1, len(events) + 1))
    assert [item["event"] for item in events].count("started") <= 1
    assert [item["event"] in ("summary", "aborted") for item in events].count(True) == 1
    assert events[-1]["event"] in ("summary", "aborted")
    finished = [item["step"] for item in events if item["event"] == "step_finished"]
    assert sorted(finished) == sorted(node["id"] for node in events[0]["graph"])
    assert processes_of(run) == []
    assert not run.control.exists()
    assert not list(Path("/dev/shm").glob(f"tailrace-{run.id}-*"))


async def running_to_its_end(yard: Yard, run_id: str) -> None:
    """Wait for the end and the clean-up."""
    await yard.settled(run_id)
    run = yard.state.run(run_id)
    left = (run.path / "attempts", run.control)
    await until(lambda: not any(path.exists() for path in left), "the clean-up")
    check_journal(run)


async def kill_runner(run: RunDir) -> None:
    """SIGKILL."""
    reply = await send_command(run, wire.Command(command="hello"))
    assert reply.pid is not None
    os.kill(reply.pid, signal.SIGKILL)


async def said(run: RunDir, what: str) -> None:
    """Wait until a step has said something."""
    found: Callable[[], bool] = lambda: what in str(told(run, "log"))  # noqa: E731 - a claim
    await until(found, f"'{what}' in the output")


MOMENTS = [
    # where the runner dies; statuses with on_lost: fail; attempts of "second" with retry
    ("at start", None, 1),
    ("before started", None, 1),
    ("after started", ("skipped", "skipped"), 1),
    ("after step_started", ("error", "skipped"), 1),
    ("before artifact", ("error", "skipped"), 1),
    ("after artifact", ("error", "skipped"), 1),
    ("after step_finished", ("success", "skipped"), 1),
    ("after log", ("success", "error"), 2),
    ("before summary", ("success", "success"), 1),
    ("after summary", ("success", "success"), 1),
]


def moments(*soak: str) -> list[Any]:
    """All moments, of which those named are for the soak test: the other way of ending has them."""
    return [pytest.param(*m, marks=pytest.mark.soak) if m[0] in soak else m for m in MOMENTS]


@pytest.mark.parametrize(
    ("moment", "statuses", "attempts"),
    moments("before started", "after step_started", "after artifact", "before summary"),
)
async def test_a_runner_may_die_at_any_moment_of_a_run_that_goes_on(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, moment: str, statuses: object, attempts: int
) -> None:
    """No step that has finished runs again, outputs and artifacts are there, and it succeeds."""
    monkeypatch.setenv("TAILRACE_TEST_DIE", moment)
    (yard.pipelines / "two.yaml").write_text(RETRY + STEPS)
    async with yard.worker(target="runner_targets:die_once") as worker:
        run_id = await start(worker, "two", keep_workspace=True)
        run = yard.state.run(run_id)
        await running_to_its_end(yard, run_id)

        assert yard.last(run_id).status == "success"
        assert text(run, attempts, "second") == f"made\nattempt {attempts}: kept"
        lost = told(run, "step_retrying")
        assert [item["cause_code"] for item in lost] == ["lost"] * len(lost)
        ran = (yard.state.workspace(run_id) / "second").read_text().splitlines()
        assert len(ran) == attempts
        names = sorted(item["name"] for item in await artifacts_of(worker, run_id))
        assert names == ["first.txt", "second.txt"]


async def artifacts_of(worker: Any, run_id: str) -> list[dict[str, Any]]:
    """A run's artifacts as the API would list them."""
    await until(lambda: worker.index.get(run_id).finished_at, "the end")
    return [{"name": item.name} for item in (await worker.snapshot(run_id)).artifacts]


@pytest.mark.parametrize(
    ("moment", "statuses", "attempts"),
    moments("at start", "after started", "before artifact", "after step_finished", "after summary"),
)
async def test_a_runner_may_die_at_any_moment_of_a_run_that_ends_then(
    yard: Yard,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    statuses: tuple[str, str] | None,
    attempts: int,
) -> None:
    """It ends once: with the cause, or as its steps did where nothing was lost."""
    monkeypatch.setenv("TAILRACE_TEST_DIE", moment)
    (yard.pipelines / "two.yaml").write_text(STEPS)
    async with yard.worker(target="runner_targets:die_once") as worker:
        run_id = await start(worker, "two")
        await running_to_its_end(yard, run_id)
        await until(lambda: (row := worker.index.get(run_id)) and row.finished_at, "the end")
        steps = (await worker.snapshot(run_id)).steps
        succeeded = statuses == ("success", "success")
        await until(
            lambda: not (succeeded and yard.state.workspace(run_id).exists()), "a tidy workspace"
        )
    last = yard.last(run_id)
    assert tuple(step.status for step in steps.values()) == (statuses or ("skipped", "skipped"))
    assert last.status == ("success" if succeeded else "error")
    assert last.cause_code == (None if succeeded else "lost")


async def test_a_lost_attempt_is_told_and_its_processes_are_gone_before_the_next(
    yard: Yard,
) -> None:
    """The same run, the same numbers, and the retry looks like one."""
    (yard.pipelines / "wait.yaml").write_text(RETRY + WAITS)
    async with yard.worker() as worker:
        run_id = await start(worker, "wait")
        run = yard.state.run(run_id)
        await said(run, "attempt 1")
        before = set(processes_of(run))
        await kill_runner(run)
        await said(run, "attempt 2")
        assert not before & set(processes_of(run))
        (yard.state.workspace(run_id) / "go").touch()
        await running_to_its_end(yard, run_id)
    assert yard.last(run_id).status == "success"
    (retrying,) = told(run, "step_retrying")
    assert (retrying["attempt"], retrying["cause"]) == (1, "its runner died")
    assert (retrying["cause_code"], retrying["returncode"]) == ("lost", None)
    (notice,) = told(run, "notice", kind="lost")
    assert notice["text"].startswith("its runner died, and another runner goes on; ")
    (finished,) = told(run, "step_finished")
    assert finished["attempt"] == 2


async def test_a_run_whose_runner_always_dies_ends(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three in a row, and it says so."""
    monkeypatch.setenv("TAILRACE_TEST_DIE", "always after log")
    (yard.pipelines / "two.yaml").write_text(RETRY + STEPS)
    async with yard.worker(target="runner_targets:die_once") as worker:
        run_id = await start(worker, "two")
        await running_to_its_end(yard, run_id)
    assert yard.last(run_id).cause == "its runner died, 3 times in a row"
    run = yard.state.run(run_id)
    assert [item["attempt"] for item in told(run, "step_retrying")] == [1, 2]
    (finished,) = told(run, "step_finished", step="second")
    assert (finished["status"], finished["attempt"]) == ("error", 3)


async def test_a_run_whose_runner_never_starts_ends(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is that tried for ever."""
    monkeypatch.setenv("TAILRACE_TEST_DIE", "always at start")
    (yard.pipelines / "two.yaml").write_text(RETRY + STEPS)
    async with yard.worker(target="runner_targets:die_once") as worker:
        run_id = await start(worker, "two")
        await running_to_its_end(yard, run_id)
    assert yard.last(run_id).cause == "its runner died before it started"


@pytest.mark.parametrize(("by", "who"), [("ann", "ann"), ("", "somebody")])
async def test_a_run_that_was_being_cancelled_is_not_retried(yard: Yard, by: str, who: str) -> None:
    """Somebody wanted its end, or its last client is gone, which is nobody's doing."""
    (yard.pipelines / "stubborn.yaml").write_text(RETRY + STUBBORN)
    async with yard.worker() as worker:
        run_id = await start(worker, "stubborn")
        run = yard.state.run(run_id)
        await said(run, "on")
        await worker.steer(run_id, wire.Command(command="cancel", by=by, via="http"))
        await kill_runner(run)
        await running_to_its_end(yard, run_id)
    last = yard.last(run_id)
    assert (last.reason, last.by) == (f"cancelled by {who}, and its runner died", by or None)
    assert last.cause_code == "cancelled"
    statuses = [item["status"] for item in told(run, "step_finished")]
    assert statuses == ["aborted", "skipped"]


async def test_a_step_that_was_being_skipped_is_not_run_again(yard: Yard) -> None:
    """What was asked before the runner died counts after it."""
    (yard.pipelines / "stubborn.yaml").write_text(RETRY + STUBBORN)
    async with yard.worker() as worker:
        run_id = await start(worker, "stubborn")
        run = yard.state.run(run_id)
        await said(run, "on")
        await worker.steer(run_id, wire.Command(command="skip", step="wait", by="ann"))
        await kill_runner(run)
        await running_to_its_end(yard, run_id)
    assert yard.last(run_id).status == "success"
    assert [item["status"] for item in told(run, "step_finished")] == ["skipped", "success"]


async def lost_run(yard: Yard, pipeline: str, **more: Any) -> RunDir:
    """A run whose runner was killed while no worker lived."""
    async with yard.worker() as worker:
        run = yard.state.run(await start(worker, pipeline, **more))
        await said(run, "attempt 1")
        holder = read_holder(run.lock)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    await until(lambda: not is_held(run.lock), "the lock's release")
    return run


async def test_the_timeout_of_a_run_counts_on_through_its_runners(yard: Yard) -> None:
    """Steps for cleaning up run, and the lost one doesn't."""
    tidy = "  tidy: {needs: wait, when: always(), run: echo tidied}\n"
    (yard.pipelines / "wait.yaml").write_text("timeout: 1h\n" + RETRY + WAITS + tidy)
    run = await lost_run(yard, "wait")
    began = told(run, "started")[0]["t"]
    earlier = wire.timestamp(wire.parse_timestamp(began) - 7200)
    line = b'"event":"started","t":"%s"'
    told_so, tells = (line % t.encode() for t in (began, earlier))
    run.journal.write_bytes(run.journal.read_bytes().replace(told_so, tells))
    async with yard.worker():
        await running_to_its_end(yard, run.id)
    last = yard.last(run.id)
    assert (last.cause, last.cause_code) == ("the run timed out after 1h", "timeout")
    assert last.duration_ms > 7_200_000
    ends = {item["step"]: item for item in told(run, "step_finished")}
    assert (ends["wait"]["status"], ends["wait"]["attempt"]) == ("aborted", 1)
    assert ends["tidy"]["status"] == "success"


async def test_the_wait_for_the_next_attempt_counts_on_through_its_runners(yard: Yard) -> None:
    """A runner's death takes nothing of it."""
    fails = "steps: {work: {run: exit 1, retry: {attempts: 2, delay: 1500ms}}}\n"
    (yard.pipelines / "fails.yaml").write_text(RETRY + fails)
    async with yard.worker() as worker:
        run = yard.state.run(await start(worker, "fails"))
        await until(lambda: told(run, "step_retrying"), "the end of its first attempt")
        await kill_runner(run)
        await yard.settled(run.id)
    check_journal(run)
    (failed,) = told(run, "step_retrying")
    again = told(run, "step_started", attempt=2)[0]
    waited_s = wire.parse_timestamp(again["t"]) - wire.parse_timestamp(failed["t"])
    assert waited_s >= 1.5
    assert told(run, "notice", kind="lost")


@pytest.mark.parametrize("keys", ["", RETRY])
async def test_a_restart_of_the_machine_is_told_as_such(yard: Yard, keys: str) -> None:
    """The kernel's boot id is another one than the runner wrote down."""
    (yard.pipelines / "wait.yaml").write_text(keys + WAITS)
    run = await lost_run(yard, "wait")
    run.lock.write_bytes(wire.encode_json(wire.Holder(pid=1, boot="an earlier boot")))
    if keys:
        (yard.state.workspace(run.id) / "go").touch()
    async with yard.worker():
        await running_to_its_end(yard, run.id)
    event = "step_retrying" if keys else "summary"
    (item,) = told(run, event)
    assert (item["cause"], item["cause_code"]) == ("the machine was restarted", "reboot")
    assert yard.last(run.id).status == ("success" if keys else "error")


async def test_what_can_not_be_had_again_ends_a_lost_run(yard: Yard, tmp_path: Path) -> None:
    """Parameters that held a secret, a secret that is gone, values that a step asked to mask."""
    (yard.pipelines / "param.yaml").write_text("params: {repo: {type: git-url}}\n" + RETRY + WAITS)
    mask = """      echo '{"event":"mask","value":"s3cret-value"}' >> "$TAILRACE_EVENTS"\n"""
    said_first = '      echo "attempt $TAILRACE_ATTEMPT"\n'
    (yard.pipelines / "mask.yaml").write_text(RETRY + WAITS.replace(said_first, mask + said_first))
    (yard.pipelines / "key.yaml").write_text("secrets: [KEY]\n" + RETRY + WAITS)
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "KEY").write_text("some-value")
    (secrets / "KEY").chmod(0o600)
    async with yard.worker(secrets_dir=str(secrets)) as worker:
        runs = {
            "its parameters held a secret": await start(
                worker, "param", params={"repo": "https://u:pa55word@example.org/x"}
            ),
            "its runner died, and with it what a step had asked to mask": await start(
                worker, "mask"
            ),
            "its runner died, and it can't go on: no secret is named 'KEY'": await start(
                worker, "key"
            ),
        }
        for run_id in runs.values():
            await said(yard.state.run(run_id), "attempt 1")
        (secrets / "KEY").unlink()
        for run_id in runs.values():
            await kill_runner(yard.state.run(run_id))
        for run_id in runs.values():
            await running_to_its_end(yard, run_id)
    for cause, run_id in runs.items():
        last = yard.last(run_id)
        assert (last.status, last.cause_code) == ("error", "lost")
        assert last.cause == cause


async def test_a_paused_run_goes_on_paused(yard: Yard) -> None:
    """What was asked before the runner died counts, and the pause isn't the timeout's."""
    (yard.pipelines / "wait.yaml").write_text("timeout: 1h\n" + RETRY + WAITS)
    async with yard.worker() as worker:
        run = yard.state.run(await start(worker, "wait"))
        await said(run, "attempt 1")
        await worker.steer(run.id, wire.Command(command="pause", by="ann"))
        await kill_runner(run)
        await until(lambda: told(run, "step_retrying"), "the retry")
        assert (await worker.snapshot(run.id)).status == "paused"
        await worker.steer(run.id, wire.Command(command="resume", by="ann"))
        (yard.state.workspace(run.id) / "go").touch()
        await running_to_its_end(yard, run.id)
    assert told(run, "step_started", attempt=2)[0]["seq"] > told(run, "control")[-1]["seq"]
    assert yard.last(run.id).status == "success"


async def test_a_death_that_was_half_told_is_told_to_the_end(yard: Yard) -> None:
    """The daemon may die between any two events that it writes for a dead runner."""
    (yard.pipelines / "wait.yaml").write_text(RETRY + WAITS)
    run = await lost_run(yard, "wait")
    for _ in range(2):
        lock = try_lock(run.lock)
        assert lock is not None
        assert settle_lost(run) is Fate.CONTINUES
        os.close(lock)
    assert len(told(run, "step_retrying")) == 1
    (yard.state.workspace(run.id) / "go").touch()
    lock = try_lock(run.lock)
    assert lock is not None
    assert settle_lost(run) is Fate.ENDED  # that was the third time
    os.close(lock)
    check_journal(run)
    assert told(run, "step_finished")[0]["attempt"] == 1


# ---- the daemon ------------------------------------------------------------------------------


@pytest.mark.parametrize(("moment", "runs"), [("making", 0), ("accepted", 1), ("spawned", 1)])
async def test_a_daemon_may_die_at_any_moment_of_a_hand_over(
    yard: Yard, moment: str, runs: int
) -> None:
    """A run that wasn't made leaves nothing; one that was runs once."""
    yard.pipeline("hello", 'echo ran >> "$TAILRACE_WORKSPACE/ran"')
    script = Path(__file__).parent.parent / "worker_process.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(yard.pipelines.parent), "hello",
        stdout=subprocess.DEVNULL, env={**os.environ, "TAILRACE_TEST_DIE": moment},
    )  # fmt: skip
    assert await process.wait() == -signal.SIGKILL
    async with yard.worker() as worker:
        found = [row.id for row in worker.list()[0]]
        assert len(found) == runs
        assert sorted(path.name for path in yard.state.runs.iterdir()) == found
        for run_id in found:
            await running_to_its_end(yard, run_id)
            assert yard.last(run_id).status == "success"
            assert yard.journal(run_id).count("step_started") == 1
        again = await worker.submit(Submission(pipeline="hello"))
        assert again.run_id is not None
        await yard.settled(again.run_id)


async def test_queued_runs_and_groups_keep_their_order_through_a_restart(yard: Yard) -> None:
    """They start in creation order, one of a group at a time."""
    yard.pipeline(
        "grouped", 'until [ -e "$PARAM_GO" ]; do sleep 0.02; done',
        params=f"{{go: {{default: {yard.pipelines.parent / 'go'}}}}}", concurrency="{group: one}",
    )  # fmt: skip
    async with yard.worker() as worker:
        ids = [await start(worker, "grouped") for _ in range(4)]
        await until(lambda: "step_started" in yard.journal(ids[0]), "the first's start")
    async with yard.worker() as worker:
        assert [(await worker.snapshot(run_id)).status for run_id in ids[1:]] == ["queued"] * 3
        (yard.pipelines.parent / "go").touch()
        for run_id in ids:
            await running_to_its_end(yard, run_id)
    times = [
        (told(yard.state.run(i), "started")[0]["t"], read_events(yard.state.run(i))[-1]["t"])
        for i in ids
    ]
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(times))


async def test_watchers_are_told_once_that_the_daemon_was_away(yard: Yard) -> None:
    """Only in runs that were there before it went, and that go on when it comes back."""
    (yard.pipelines / "wait.yaml").write_text(WAITS)
    async with yard.worker() as worker:
        run = yard.state.run(await start(worker, "wait"))
        over = yard.state.run(await start(worker, "wait"))
        for each in (run, over):
            await said(each, "attempt 1")
        (yard.state.workspace(over.id) / "go").touch()
        await yard.settled(over.id)
    for times in (1, 2):
        last_s = yard.state.alive.stat().st_mtime
        async with yard.worker() as worker:
            await until(lambda: told(run, "notice")[times - 1 :], "the notice")  # noqa: B023 - now
            (live,) = worker._lives
            assert live.run == run
            # The daemon may have died before it noted that it is there again.
            os.utime(yard.state.alive, (last_s, last_s))
            await Pulse(yard.state).tell([live])
            assert len(told(run, "notice")) == times
    notice = told(run, "notice")[0]
    assert notice["kind"] == "daemon_away"
    assert notice["text"].startswith("the daemon was away for ")
    assert told(over, "notice", kind="daemon_away") == []


async def test_a_cancel_of_a_lost_run_from_the_command_line_ends_it(yard: Yard) -> None:
    """Who cancels doesn't want it continued."""
    (yard.pipelines / "wait.yaml").write_text(RETRY + WAITS)
    run = await lost_run(yard, "wait")
    lock = try_lock(run.lock)
    assert lock is not None
    assert end_lost(run, asked=Control(action="cancel", by="ann", via="cli"))
    os.close(lock)
    check_journal(run)
    assert yard.last(run.id).reason == "cancelled by ann, and its runner died"


def test_a_lost_run_s_file_is_the_last_primary_artifact(tmp_path: Path) -> None:
    """As its runner told when it was collected."""
    steps = [script(name, ":", primary="report.html") for name in ("one", "two", "three")]
    run = accept(StateDir(tmp_path), plan_of(*steps))
    journal = JournalWriter(run)
    said = [events.Started(worker="here", containment="weak")] + [
        events.Artifact(
            step=step, name=name, url=f"at/{name}", bytes=1, sha256="", media_type="text/html",
            primary=primary,
        )
        for step, name, primary in (
            ("one", "report.html", True), ("two", "two/report.html", True),
            ("three", "three/index.html", msgspec.UNSET),
        )
    ]  # fmt: skip
    for event in said:
        journal.append(wire.timestamp(time.time()), msgspec.to_builtins(event))
    journal.close()

    assert end_lost(run)
    assert read_events(run)[-1]["file_url"] == "at/two/report.html"
