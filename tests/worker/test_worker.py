"""The daemon's side of runs, with real runners."""

from __future__ import annotations

import asyncio
import shutil
import threading
from typing import Any

import pytest

from tailrace import wire
from tailrace.core.events import Aborted
from tailrace.core.ulid import is_ulid
from tailrace.errors import (
    ConflictError,
    InvalidInputError,
    UnavailableError,
    UnknownError,
)
from tailrace.rundir.feed import Cursor
from tailrace.rundir.lock import is_held
from tailrace.settings import Limits
from tailrace.store.index import RunRow
from tailrace.worker import prepared
from tailrace.worker.folder import create_folder
from tailrace.worker.spawn import spawn_runner
from tailrace.worker.submission import Submission
from tailrace.worker.worker import Worker
from yard import SECRET, Yard, start, until

WAIT = 'echo waiting; until [ -e "$PARAM_FILE" ]; do sleep 0.02; done'
FILE = {"params": "{file: {default: /nonexistent}}"}


async def running(worker: Worker, run_id: str) -> None:
    """Wait until a run's step has printed something."""
    events = worker.state.run(run_id).journal
    await until(lambda: b'"event":"log"' in events.read_bytes(), f"output of {run_id}")


async def ended(worker: Worker, run_id: str) -> str:
    """Wait until the index knows that a run has ended; return its status."""
    final = ("success", "error", "aborted")
    row = await until(
        lambda: (row := worker.index.get(run_id)) and row.status in final and row, "its end"
    )
    status: str = row.status
    return status


def cancel(**more: Any) -> wire.Command:
    """A person's wish."""
    return wire.Command(command="cancel", by="ann", via="http", **more)


async def test_a_run_goes_from_submission_to_its_end(yard: Yard) -> None:
    """Accepted, executed, watched, indexed, and its workspace removed."""
    yard.pipeline("hello", "echo hello")
    async with yard.worker() as worker:
        run_id = await start(worker, "hello", by="ann", via="http")
        assert is_ulid(run_id)
        seen: list[wire.Frame] = []
        async with worker.watch(run_id) as feed:
            cursor = Cursor(feed)
            while frames := await cursor.read():
                seen += frames
            cursor.close()
        assert [frame.seq for frame in seen] == list(range(1, len(seen) + 1))
        assert seen[-1].event == "summary"
        assert await ended(worker, run_id) == "success"
        row = worker.list()[0][0]
        assert (row.ref, row.by, row.via, row.last_seq) == ("hello/1", "ann", "http", len(seen))
        assert worker.resolve("hello/1") == worker.resolve("latest") == run_id
        assert (await worker.snapshot(run_id)).status == "success"
        await until(lambda: not yard.state.workspace(run_id).exists(), "the workspace's removal")


async def test_a_run_whose_folder_was_removed_is_unknown(yard: Yard) -> None:
    """Not a stream that ends without an end, nor an empty log; it can be deleted all the same."""
    yard.pipeline("hello")
    async with yard.worker() as worker:
        run_id = await start(worker, "hello")
        assert await ended(worker, run_id) == "success"
        await until(lambda: worker.counts() == (0, 0), "its follower's end")
        assert (await worker.snapshot(run_id)).is_final
        shutil.rmtree(yard.state.run(run_id).path)
        with pytest.raises(UnknownError, match="the folder of hello/1 is gone"):
            await worker.steer(run_id, cancel())
        with pytest.raises(UnknownError, match="the folder of hello/1 is gone"):
            await worker.snapshot(run_id)
        await worker.delete(run_id)
        assert worker.list() == ([], None)


async def test_a_run_whose_folder_was_removed_while_it_waited_holds_nobody_up(yard: Yard) -> None:
    """The one before it ends, the one behind it starts, and new ones are accepted."""
    yard.pipeline("wait", WAIT, **FILE)
    yard.pipeline("hello")
    async with yard.worker(max_runs=1) as worker:
        first, removed, third = [await start(worker, name) for name in ("wait", "hello", "hello")]
        shutil.rmtree(yard.state.run(removed).path)
        await worker.steer(first, cancel())
        assert await ended(worker, first) == "aborted"
        assert await ended(worker, third) == "success"
        assert await ended(worker, await start(worker, "hello")) == "success"


async def test_a_run_that_cannot_be_read_when_its_turn_comes_starts_when_it_can(yard: Yard) -> None:
    """A disk comes back, and so do open files; what was accepted isn't lost meanwhile."""
    yard.pipeline("wait", WAIT, **FILE)
    yard.pipeline("hello")
    async with yard.worker(max_runs=1) as worker:
        first, second = await start(worker, "wait"), await start(worker, "hello")
        file, aside = yard.state.run(second).run_json, yard.pipelines / "aside"
        file.rename(aside)
        file.mkdir()  # reading it is an OSError, as with a failing disk
        await worker.steer(first, cancel())
        assert await ended(worker, first) == "aborted"
        assert (await worker.snapshot(second)).status == "queued"
        file.rmdir()
        aside.rename(file)
        assert await ended(worker, second) == "success"


async def test_the_state_is_known_as_soon_as_a_run_is_accepted(yard: Yard) -> None:
    """Whoever submitted can look at once, whether it runs or waits."""
    yard.pipeline("wait", WAIT, **FILE)
    async with yard.worker(max_runs=1) as worker:
        first, second = await start(worker, "wait"), await start(worker, "wait")
        assert (await worker.snapshot(first)).ref == "wait/1"
        assert (await worker.snapshot(second)).status == "queued"
        assert (await worker.snapshot(second)).position == 1
        assert (await worker.gauges())["queue_length"] == 1
        for run_id in (second, first):
            await worker.steer(run_id, cancel())
            assert await ended(worker, run_id) == "aborted"


async def test_no_more_than_max_runs_run_and_the_rest_follow_in_order(yard: Yard) -> None:
    """One at a time, in the order of their creation."""
    yard.pipeline("hello", "true")
    async with yard.worker(max_runs=1) as worker:
        ids = [await start(worker, "hello") for _ in range(4)]
        for run_id in ids:
            assert await ended(worker, run_id) == "success"
        started = [(await worker.snapshot(run_id)).started_at for run_id in ids]
        finished = [(await worker.snapshot(run_id)).finished_at for run_id in ids]
    assert None not in started
    assert all(str(a) <= str(b) for a, b in zip(finished, started[1:], strict=False))


async def test_a_full_queue_refuses_and_nothing_is_made(yard: Yard) -> None:
    """503 with a time to try again."""
    yard.pipeline("wait", WAIT, **FILE)
    async with yard.worker(max_runs=1, max_queued=1) as worker:
        ids = [await start(worker, "wait") for _ in range(2)]
        with pytest.raises(UnavailableError, match="1 runs wait already") as caught:
            await start(worker, "wait")
        assert caught.value.retry_after_s > 0
        assert len(list(yard.state.runs.iterdir())) == 2
        for run_id in reversed(ids):
            await worker.steer(run_id, cancel())
            await ended(worker, run_id)


async def test_a_newer_run_of_its_group_replaces_one_that_runs_and_those_that_wait(
    yard: Yard,
) -> None:
    """cancel-running: the newest wins, and starts when the old one has ended."""
    yard.pipeline("build", WAIT, **FILE, concurrency="{group: g, on_conflict: cancel-running}")
    async with yard.worker() as worker:
        first = await start(worker, "build")
        await running(worker, first)
        second, third = await start(worker, "build"), await start(worker, "build")
        assert await ended(worker, first) == await ended(worker, second) == "aborted"
        for run_id in (first, second):
            last = yard.last(run_id)
            assert isinstance(last, Aborted)
            assert last.cause_code == "superseded"
            assert last.reason.startswith("newer run build/")
        await running(worker, third)
        before, after = await worker.snapshot(first), await worker.snapshot(third)
        assert str(before.finished_at) <= str(after.started_at)
        await worker.steer(third, cancel())
        await ended(worker, third)


async def test_a_skipped_submission_has_a_reason_and_makes_no_run(yard: Yard) -> None:
    """There is a reason and no run; the same key gets the same answer."""
    yard.pipeline("build", WAIT, **FILE, concurrency="{group: g, on_conflict: skip}")
    async with yard.worker() as worker:
        first = await start(worker, "build")
        skipped = await worker.submit(Submission(pipeline="build", key="k", body_sha256="b"))
        assert skipped.run_id is None
        assert skipped.reason == "build/1 of group 'g' is not done"
        await worker.steer(first, cancel())
        await ended(worker, first)
        again = await worker.submit(Submission(pipeline="build", key="k", body_sha256="b"))
        assert again == skipped
        second = await start(worker, "build")
        assert worker.index.get(second).ref == "build/2"  # type: ignore[union-attr]  # it is there
        await worker.steer(second, cancel())
        await ended(worker, second)


async def test_a_key_starts_one_run_whoever_asks_again(yard: Yard) -> None:
    """At the same time, later, and after a restart; another body is refused."""
    yard.pipeline("hello", "true")
    asked = Submission(pipeline="hello", key="ann:k", body_sha256="b")
    async with yard.worker() as worker:
        answers = await asyncio.gather(*(worker.submit(asked) for _ in range(5)))
        assert len({answer.run_id for answer in answers}) == 1
        assert sorted(answer.repeated for answer in answers) == [False, True, True, True, True]
        assert await ended(worker, str(answers[0].run_id)) == "success"
    async with yard.worker() as worker:
        again = await worker.submit(asked)
        assert (again.run_id, again.repeated) == (answers[0].run_id, True)
        with pytest.raises(InvalidInputError, match="Idempotency-Key: came before"):
            await worker.submit(Submission(pipeline="hello", key="ann:k", body_sha256="c"))


async def test_a_key_outlives_its_run_and_the_worker(yard: Yard) -> None:
    """Who asks again after a deletion, or after being told that none is made, gets no other run."""
    yard.pipeline("hello", "true")
    yard.pipeline("build", WAIT, **FILE, concurrency="{group: g, on_conflict: skip}")
    asked = Submission(pipeline="hello", key="ann:k", body_sha256="b")
    skipping = Submission(pipeline="build", key="ann:s", body_sha256="b")
    async with yard.worker() as worker:
        run_id = str((await worker.submit(asked)).run_id)
        await ended(worker, run_id)
        await worker.delete(run_id)
        waits = await start(worker, "build")
        skipped = await worker.submit(skipping)
        await worker.steer(waits, cancel())
        await ended(worker, waits)
    async with yard.worker() as worker:
        with pytest.raises(ConflictError, match="was deleted; use a new key"):
            await worker.submit(asked)
        with pytest.raises(InvalidInputError, match="Idempotency-Key: came before"):
            await worker.submit(Submission(pipeline="hello", key="ann:k", body_sha256="c"))
        assert await worker.submit(skipping) == skipped
        assert [row.id for row in worker.list()[0]] == [waits]


async def test_a_command_with_an_id_is_answered_the_same_by_the_next_worker(yard: Yard) -> None:
    """Also when the run, which would refuse it now, has ended."""
    yard.pipeline("build", WAIT, **FILE)
    async with yard.worker() as worker:
        run_id = await start(worker, "build")
        await running(worker, run_id)
        done = await worker.steer(run_id, cancel(id="ann:c"))
        assert done.status == "done"
        await ended(worker, run_id)
    async with yard.worker() as worker:
        assert await worker.steer(run_id, cancel(id="ann:c")) == done
        other = wire.Command(command="pause", id="ann:c")
        assert await worker.steer(run_id, other) == wire.OTHER_COMMAND
        assert (await worker.steer(run_id, cancel(id="ann:d"))).status == "conflict"


async def test_a_run_is_steered_though_answers_can_not_be_kept(yard: Yard) -> None:
    """Its runner remembers while it lives; nobody must be kept from stopping it."""
    yard.pipeline("build", "trap '' TERM\n" + WAIT, **FILE)
    async with yard.worker() as worker:
        run_id = await start(worker, "build")
        await running(worker, run_id)
        state_db = yard.state.state_db
        state_db.with_name("state.db-wal").write_bytes(b"")
        state_db.write_bytes(b"\xa5" * state_db.stat().st_size)
        done = await worker.steer(run_id, cancel(id="ann:c"))
        assert done.status == "done"
        assert await worker.steer(run_id, cancel(id="ann:c")) == done
        assert await ended(worker, run_id) == "aborted"


async def test_a_reason_with_a_secret_is_masked_though_no_runner_lives(yard: Yard) -> None:
    """The worker ends a queued run itself, and writes no more than a runner would."""
    yard.pipeline("build", WAIT, **FILE, secrets="[TOKEN]")
    async with yard.worker(max_runs=1) as worker:
        first = await start(worker, "build")
        second = await start(worker, "build")
        await running(worker, first)

        await worker.steer(second, cancel(reason=f"leaks {SECRET}"))
        await worker.steer(first, cancel())
        await yard.settled(first)

    assert yard.last(second).reason == "leaks ***"
    assert SECRET.encode() not in yard.state.run(second).journal.read_bytes()


async def test_who_is_cancelled_while_submitting_leaves_a_whole_run_or_none(yard: Yard) -> None:
    """A client that goes away at any moment."""
    yard.pipeline("hello", "true")
    async with yard.worker() as worker:
        for _ in range(5):
            asking = asyncio.create_task(worker.submit(Submission(pipeline="hello")))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        last = await start(worker, "hello")
        for row in worker.list()[0]:
            assert await ended(worker, row.id) == "success"
        assert worker.index.get(last) is not None


async def test_a_run_that_is_accepted_while_the_worker_stops_is_left_to_the_next(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, and in nobody's hands: its lock isn't kept by a process that starts nothing."""
    yard.pipeline("hello")
    making, go_on = threading.Event(), threading.Event()

    def create(*arguments: Any) -> Any:
        making.set()
        assert go_on.wait(20)
        return create_folder(*arguments)

    monkeypatch.setattr(prepared, "create_folder", create)
    async with yard.worker() as worker:
        submitting = asyncio.create_task(start(worker, "hello"))
        await until(making.is_set, "the making of its folder")
        asyncio.get_running_loop().call_soon(go_on.set)  # when leaving waits for it
    run_id = await submitting
    assert not is_held(yard.state.run(run_id).lock)
    async with yard.worker() as worker:
        assert await ended(worker, run_id) == "success"


async def test_a_queued_run_is_cancelled_without_ever_starting(yard: Yard) -> None:
    """The worker writes its end itself, and answers the same command the same again."""
    yard.pipeline("wait", WAIT, **FILE)
    async with yard.worker(max_runs=1) as worker:
        first, second = await start(worker, "wait"), await start(worker, "wait")
        reply = await worker.steer(second, cancel(id="x", reason="not needed"))
        assert (reply.status, reply.seq) == ("done", 3)
        assert yard.journal(second) == ["plan", "queued", "control", "step_finished", "aborted"]
        last = yard.last(second)
        assert (last.reason, last.cause_code, last.by) == ("not needed", "cancelled", "ann")
        assert (await worker.snapshot(second)).steps["only"].status == "skipped"
        assert await worker.steer(second, cancel(id="x")) == reply
        late = await worker.steer(second, cancel())
        assert (late.status, late.state) == ("conflict", "aborted")
        await worker.steer(first, cancel())
        assert await ended(worker, first) == "aborted"


async def test_who_cancels_a_queued_run_together_with_others_gets_a_true_answer(
    yard: Yard,
) -> None:
    """One of them does it, the same command is answered the same, and others learn of its end."""
    yard.pipeline("wait", WAIT, **FILE)
    async with yard.worker(max_runs=1) as worker:
        first, second = await start(worker, "wait"), await start(worker, "wait")
        commands = [cancel(id="x"), cancel(id="x"), cancel(), cancel(id="y")]
        replies = await asyncio.gather(*(worker.steer(second, each) for each in commands))
        assert [(reply.status, reply.state) for reply in replies] == [
            ("done", None), ("done", None), ("conflict", "aborted"), ("conflict", "aborted"),
        ]  # fmt: skip
        assert yard.journal(second).count("control") == 1
        await worker.steer(first, cancel())
        assert await ended(worker, first) == "aborted"


async def test_a_command_reaches_a_runner_that_is_only_starting(yard: Yard) -> None:
    """Cancelled at once after submission."""
    yard.pipeline("wait", WAIT, **FILE)
    async with yard.worker() as worker:
        run_id = await start(worker, "wait")
        assert (await worker.steer(run_id, cancel())).status == "done"
        assert await ended(worker, run_id) == "aborted"


async def test_what_does_not_exist_is_told(yard: Yard) -> None:
    """Every way in says so."""
    async with yard.worker() as worker:
        for ask in (
            worker.steer("0" * 26, cancel()),
            worker.delete("0" * 26),
            worker.retry("0" * 26, start="failed", by="", via="", trusted=False),
        ):
            with pytest.raises(UnknownError, match="there is no run"):
                await ask
        with pytest.raises(UnknownError):
            await worker.snapshot("../..")
        with pytest.raises(UnknownError):
            async with worker.watch("x"):
                pass


async def test_a_deleted_run_is_gone_and_a_live_one_stays(yard: Yard) -> None:
    """Folder, workspace and index row."""
    yard.pipeline("wait", f"{WAIT}; exit 1", **FILE)
    async with yard.worker() as worker:
        run_id = await start(worker, "wait")
        await running(worker, run_id)
        with pytest.raises(ConflictError, match="wait/1 is running; cancel it first"):
            await worker.delete(run_id)
        await worker.steer(run_id, cancel())
        await ended(worker, run_id)
        assert yard.state.workspace(run_id).exists()
        await worker.delete(run_id)
        assert list(yard.state.runs.iterdir()) == []
        assert not yard.state.workspace(run_id).exists()
        with pytest.raises(UnknownError):
            worker.resolve(run_id)


async def test_lists_are_told_of_every_change_of_status(yard: Yard) -> None:
    """A subscriber sees a run come, go on and end."""
    yard.pipeline("hello", "true")
    async with yard.worker() as worker:
        changes = worker.list_changes()
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        run_id = await start(worker, "hello")
        rows: list[RunRow] = [await waiting]
        while rows[-1].status not in ("success", "error"):
            rows.append(await anext(changes))
        await changes.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert {row.id for row in rows} == {run_id}
        assert rows[-1].status == "success"
        assert (await worker.gauges())["list_subscribers"] == 0


@pytest.mark.parametrize("wish", ["cancel", "continue"])
async def test_a_run_whose_clients_are_gone_is_cancelled_if_it_wants_that(
    yard: Yard, wish: str
) -> None:
    """One that watches again in time changes that; others go on."""
    yard.pipeline("wait", WAIT, **FILE, on_disconnect=wish)
    async with yard.worker(gone_s=0.3) as worker:
        run_id = await start(worker, "wait")
        await running(worker, run_id)
        logged = len(yard.journal(run_id))
        await until(lambda: worker.list()[0][0].last_seq == logged, "its last event in the list")
        for _ in range(3):
            async with worker.watch(run_id), worker.watch(run_id):
                pass
            assert (await worker.snapshot(run_id)).status == "running"
        if wish == "cancel":
            assert await ended(worker, run_id) == "aborted"
            last = yard.last(run_id)
            assert (last.cause_code, last.by) == ("client_gone", None)  # nobody did it
        else:
            await asyncio.sleep(0.5)  # longer than the time that would have cancelled it
            assert (await worker.snapshot(run_id)).status == "running"
            await worker.steer(run_id, cancel())
            await ended(worker, run_id)


async def test_a_run_is_cancelled_whose_client_went_before_its_stream_had_begun(
    yard: Yard,
) -> None:
    """Also one that waits in the queue; not one whose client wanted its id alone."""
    yard.pipeline("wait", WAIT, **FILE, on_disconnect="cancel")
    async with yard.worker(gone_s=0.3, max_runs=2) as worker:
        alone = await start(worker, "wait")
        streamed = [await start(worker, "wait", watched=True) for _ in range(2)]
        for run_id in reversed(streamed):
            assert await ended(worker, run_id) == "aborted"
            assert yard.last(run_id).cause_code == "client_gone"
        await running(worker, alone)
        await worker.steer(alone, cancel())
        assert await ended(worker, alone) == "aborted"


async def test_a_run_whose_clients_went_with_the_daemon_is_cancelled_by_the_next_one(
    yard: Yard,
) -> None:
    """Whoever doesn't come back in time is gone; a run that nobody had watched goes on."""
    yard.pipeline("wait", WAIT, **FILE, on_disconnect="cancel")
    async with yard.worker(max_runs=3) as worker:
        alone, seen, streamed = [
            await start(worker, "wait", watched=watched) for watched in (False, False, True)
        ]
        queued = await start(worker, "wait", watched=True)
        for run_id in (alone, seen, streamed):
            await running(worker, run_id)
        async with worker.watch(seen):
            pass
    async with yard.worker(gone_s=0.3, max_runs=3) as worker:
        for run_id in (seen, streamed, queued):
            assert await ended(worker, run_id) == "aborted"
            assert yard.last(run_id).cause_code == "client_gone"
        assert (await worker.snapshot(alone)).status == "running"
        await worker.steer(alone, cancel())
        assert await ended(worker, alone) == "aborted"


async def test_a_failed_run_is_repeated_on_its_workspace_from_where_it_failed(yard: Yard) -> None:
    """What succeeded is reused; the workspace is as it was left."""
    (yard.pipelines / "build.yaml").write_text(
        "steps:\n"
        "  make: {run: 'echo made > made; echo x=1 >> \"$TAILRACE_OUTPUT\"'}\n"
        "  test: {needs: make, run: 'test -e fixed && cat made && test \"$OUTPUT_MAKE_X\" = 1'}\n"
        "  other: {run: 'true'}\n"
    )
    async with yard.worker() as worker:
        first = await start(worker, "build")
        assert await ended(worker, first) == "error"
        (yard.state.workspace(first) / "fixed").touch()
        second = await worker.retry(first, start="failed", by="ann", via="http", trusted=False)
        assert await ended(worker, second) == "success"
        steps = (await worker.snapshot(second)).steps
        finished = {name: step.finished for name, step in steps.items()}
        assert {name: end.reused for name, end in finished.items() if end} == {
            "make": True, "test": False, "other": True,
        }  # fmt: skip
        row = worker.index.get(second)
        assert row is not None
        assert (row.retry_of, row.ref, row.by) == (first, "build/2", "ann")
        await until(lambda: not yard.state.workspace(first).exists(), "the workspace's removal")
        with pytest.raises(ConflictError, match="the workspace of build/1 is gone"):
            await worker.retry(first, start="failed", by="", via="", trusted=False)


async def test_a_repeated_run_masks_what_a_step_had_asked_to_mask(yard: Yard) -> None:
    """Nobody but that step knows the value, which may stand in the workspace: it runs again."""
    (yard.pipelines / "late.yaml").write_text(
        "steps:\n"
        "  tells:\n"
        "    run: |\n"
        '      echo \'{"event":"mask","value":"late-5ecret"}\' >> "$TAILRACE_EVENTS"\n'
        "      echo late-5ecret > value\n"
        "  other: {run: 'true'}\n"
        "  prints: {needs: tells, run: 'cat value; exit 1'}\n"
        "  again: {when: \"event.kind == 'retry'\", run: 'true'}\n"
    )
    async with yard.worker() as worker:
        first = await start(worker, "late")
        assert await ended(worker, first) == "error"
        second = await worker.retry(first, start="failed", by="", via="", trusted=False)
        assert await ended(worker, second) == "error"
        steps = (await worker.snapshot(second)).steps
        reused = {name for name, step in steps.items() if step.finished and step.finished.reused}
        assert reused == {"other"}
        assert steps["again"].status == "success"
        assert (await worker.snapshot(first)).steps["again"].status == "skipped"
        for run_id in (first, second):
            assert yard.state.run(run_id).log("prints", 1).read_text() == "***\n"


async def test_a_repeated_run_has_the_outputs_that_the_first_one_had(yard: Yard) -> None:
    """Of a secret in them only `***` was kept: the step that told it tells it again."""
    (yard.pipelines / "outs.yaml").write_text(
        "secrets: [TOKEN]\n"
        "steps:\n"
        '  tells: {run: \'echo "v=$TOKEN" >> "$TAILRACE_OUTPUT"\'}\n'
        "  other: {run: 'echo v=open >> \"$TAILRACE_OUTPUT\"'}\n"
        '  uses: {needs: [tells, other], run: \'test "$OUTPUT_TELLS_V" = "$TOKEN"; exit 7\'}\n'
    )
    async with yard.worker() as worker:
        run_id = await start(worker, "outs")
        assert await ended(worker, run_id) == "error"
        for _ in range(2):
            run_id = await worker.retry(run_id, start="failed", by="", via="", trusted=False)
            assert await ended(worker, run_id) == "error"
            steps = (await worker.snapshot(run_id)).steps
            finished = {name: step.finished for name, step in steps.items() if step.finished}
            assert {name for name, end in finished.items() if end.reused} == {"other"}
            assert finished["uses"].returncode == 7


async def test_a_workspace_in_use_and_a_live_run_cannot_be_repeated(yard: Yard) -> None:
    """One run at a time has a workspace."""
    yard.pipeline("wait", f"{WAIT}; exit 1", **FILE)
    async with yard.worker() as worker:
        first = await start(worker, "wait")
        await running(worker, first)
        again: dict[str, Any] = {"by": "", "via": "", "trusted": False}
        with pytest.raises(ConflictError, match="wait/1 is running"):
            await worker.retry(first, start="failed", **again)
        await worker.steer(first, cancel())
        await ended(worker, first)
        with pytest.raises(InvalidInputError, match="from: no step is named 'x'"):
            await worker.retry(first, start="x", **again)
        second = await worker.retry(first, start="only", **again)
        with pytest.raises(ConflictError, match="in use by wait/2"):
            await worker.retry(first, start="failed", **again)
        await worker.steer(second, cancel())
        await ended(worker, second)


async def test_a_run_whose_parameters_held_a_secret_cannot_be_repeated(yard: Yard) -> None:
    """They are on no disk."""
    yard.pipeline("hello", "exit 1", params="{repo: {type: git-url}}")
    async with yard.worker() as worker:
        run_id = await start(worker, "hello", params={"repo": "https://u:pa55word@example.org/x"})
        assert await ended(worker, run_id) == "error"
        with pytest.raises(InvalidInputError, match="its parameters held a secret"):
            await worker.retry(run_id, start="failed", by="", via="", trusted=True)


async def test_a_run_that_was_started_beside_the_daemon_is_followed(yard: Yard) -> None:
    """`tailrace run --local` on the daemon's own state folder."""
    yard.pipeline("hello", "true")
    async with yard.worker() as worker:
        accepted = yard.acceptor().accept(Submission(pipeline="hello"))
        process = spawn_runner(accepted)
        assert await ended(worker, accepted.run.id) == "success"
        await asyncio.to_thread(process.wait)
        assert not is_held(accepted.run.lock)


async def test_another_ring_counts_from_the_next_feed_on(yard: Yard) -> None:
    """SIGHUP changes what is kept in memory of runs that are watched from then on."""
    yard.pipeline("hello", "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done")
    async with yard.worker() as worker:
        settings = yard.settings(limits=Limits(min_free=0, ring=0))
        worker.reload(settings, yard.catalog, yard.secrets(settings))
        run_id = await start(worker, "hello")
        async with worker.watch(run_id) as feed:
            await until(lambda: feed.ended, "the feed's end")
            last = wire.encode_json(yard.last(run_id))
            assert 0 < feed.ring_size < 2 * len(last)  # the newest frame alone


async def test_a_run_that_waits_with_its_lock_at_hand_can_be_cancelled(yard: Yard) -> None:
    """One that was to start at once, and had to wait all the same."""
    yard.pipeline("hello", "true")
    async with yard.worker(begin=False) as worker:
        run_id = await start(worker, "hello")
        reply = await worker.steer(run_id, cancel())
        assert reply.status == "done"
        await worker.begin(None)
        assert await ended(worker, run_id) == "aborted"
    assert yard.journal(run_id)[-1] == "aborted"
    assert not is_held(yard.state.run(run_id).lock)


async def test_other_settings_count_from_the_next_run_on(yard: Yard) -> None:
    """SIGHUP lets waiting runs start when there is room."""
    yard.pipeline("wait", WAIT, **FILE)
    async with yard.worker(max_runs=1) as worker:
        first, second = await start(worker, "wait"), await start(worker, "wait")
        settings = yard.settings(max_runs=2)
        worker.reload(settings, yard.catalog, yard.secrets(settings))
        await running(worker, second)
        for run_id in (first, second):
            await worker.steer(run_id, cancel())
            await ended(worker, run_id)
