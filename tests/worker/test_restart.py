"""What happens to runs when runners, fork servers and daemons die, and when they come back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tailrace import wire
from tailrace.core.events import StepFinished, Summary
from tailrace.errors import InvalidInputError
from tailrace.rundir.control import send_command
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.rundir.lock import is_held, try_lock
from tailrace.rundir.snapshot import read_snapshot
from tailrace.runner.containment import is_alive
from tailrace.worker.lost import end_lost
from tailrace.worker.submission import Submission
from tailrace.worker.worker import Worker
from yard import Yard, start, until

WAIT = 'echo waiting; until [ -e "$PARAM_FILE" ]; do sleep 0.02; done; echo done'


def wait_for(path: Path) -> dict[str, str]:
    """Keys of a pipeline whose script waits for a file."""
    return {"params": f"{{file: {{default: {path}}}}}"}


async def printing(run: RunDir) -> None:
    """Wait until the run's step has printed something."""
    await until(lambda: b'"event":"log"' in run.journal.read_bytes(), "output")


async def runner_of(run: RunDir) -> int:
    """The pid of a run's runner."""
    reply = await send_command(run, wire.Command(command="hello"))
    assert reply.pid is not None
    return reply.pid


async def ended(worker: Worker, run_id: str) -> str:
    """Wait until the index knows that a run has ended; return its status."""
    final = ("success", "error", "aborted")
    row = await until(
        lambda: (row := worker.index.get(run_id)) and row.status in final and row, "its end"
    )
    status: str = row.status
    return status


def texts(run: RunDir, step: str) -> str:
    """A step's output put together again from its events."""
    reader = JournalReader(run)
    whole = ""
    while frames := reader.read():
        for frame in frames:
            if frame.event == "log" and frame.step == step:
                data = msgspec.json.decode(frame.data)
                whole += data["text"] + ("" if data.get("open") else "\n")
    reader.close()
    return whole


async def test_runs_go_on_without_the_worker_and_the_next_one_follows_them(
    yard: Yard, tmp_path: Path
) -> None:
    """Stopped in good order; the run never notices."""
    yard.pipeline("wait", WAIT, **wait_for(tmp_path / "go"))
    async with yard.worker() as worker:
        run_id = await start(worker, "wait")
        run = yard.state.run(run_id)
        await printing(run)
        runner = await runner_of(run)
    assert is_alive(runner)
    assert is_held(run.lock)
    async with yard.worker() as worker:
        assert (await worker.snapshot(run_id)).status == "running"
        assert worker.list(status="running")[0][0].id == run_id
        (tmp_path / "go").touch()
        assert await ended(worker, run_id) == "success"
    assert yard.journal(run_id).count("started") == 1


async def test_a_run_that_ended_while_no_worker_lived_is_not_run_again(
    yard: Yard, tmp_path: Path
) -> None:
    """It is a journal with a last event."""
    yard.pipeline("wait", WAIT, **wait_for(tmp_path / "go"))
    async with yard.worker() as worker:
        run_id = await start(worker, "wait")
        await printing(yard.state.run(run_id))
    (tmp_path / "go").touch()
    await yard.settled(run_id)
    async with yard.worker() as worker:
        row = worker.index.get(run_id)
        assert row is not None
        assert row.status == "success"
        assert (await worker.gauges())["live_runs"] == 0


async def test_a_queued_run_is_started_by_the_next_worker(yard: Yard) -> None:
    """Also one that a worker had not yet handed over, with its secrets looked up anew."""
    yard.pipeline("hello", 'test "$TOKEN" = tok-5ecret-value', secrets="[TOKEN]")
    async with yard.worker(begin=False) as worker:
        run_id = await start(worker, "hello")
        assert (await worker.snapshot(run_id)).status == "queued"
    async with yard.worker() as worker:
        assert await ended(worker, run_id) == "success"


async def test_a_queued_run_whose_parameters_held_a_secret_is_ended(yard: Yard) -> None:
    """They are on no disk, and the end says so."""
    yard.pipeline("hello", "true", params="{repo: {type: git-url}}")
    async with yard.worker(begin=False) as worker:
        run_id = await start(worker, "hello", params={"repo": "https://u:pa55word@example.org/x"})
    async with yard.worker() as worker:
        assert await ended(worker, run_id) == "error"
    last = yard.last(run_id)
    assert isinstance(last, Summary)
    assert (last.cause, last.cause_code) == ("its parameters held a secret", "lost")


async def test_a_queued_run_whose_secret_is_gone_is_ended(yard: Yard, tmp_path: Path) -> None:
    """With the reason."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "KEY").write_text("some-value")
    (secrets / "KEY").chmod(0o600)
    yard.pipeline("hello", "true", secrets="[KEY]")
    async with yard.worker(begin=False, secrets_dir=str(secrets)) as worker:
        run_id = await start(worker, "hello")
    (secrets / "KEY").unlink()
    async with yard.worker(secrets_dir=str(secrets)) as worker:
        assert await ended(worker, run_id) == "error"
    assert yard.last(run_id).cause_code == "requirement"


async def test_a_runner_that_is_killed_ends_its_run_truthfully(yard: Yard) -> None:
    """The running step failed, what waited for it never ran, and its processes are gone."""
    (yard.pipelines / "build.yaml").write_text(
        "steps:\n"
        "  first: {run: 'true'}\n"
        "  loop: {run: 'sleep 1000 & echo $! > pid; echo waiting; wait'}\n"
        "  after: {needs: loop, run: 'true'}\n"
    )
    async with yard.worker() as worker:
        run_id = await start(worker, "build")
        run = yard.state.run(run_id)
        await printing(run)
        await until(
            lambda: read_snapshot(yard.state.run(run_id)).steps["first"].is_final, "the first step"
        )
        child = int((yard.state.workspace(run_id) / "pid").read_text())
        os.kill(await runner_of(run), signal.SIGKILL)
        assert await ended(worker, run_id) == "error"
        steps = (await worker.snapshot(run_id)).steps
        assert {name: step.status for name, step in steps.items()} == {
            "first": "success", "loop": "error", "after": "skipped",
        }  # fmt: skip
        lost = steps["loop"].finished
        assert isinstance(lost, StepFinished)
        assert (lost.cause, lost.cause_code, lost.lines) == ("its runner died", "lost", 1)
        last = yard.last(run_id)
        assert (last.status, last.cause_code) == ("error", "lost")
        assert yard.state.workspace(run_id).exists()
    await until(lambda: not is_alive(child), "the end of what the step had started")
    assert "notice" in yard.journal(run_id)


async def test_a_runner_that_dies_before_it_starts_ends_its_run(yard: Yard) -> None:
    """Nothing is tried for ever."""
    yard.pipeline("hello", "true")
    async with yard.worker(target="runner_targets:die") as worker:
        run_id = await start(worker, "hello")
        assert await ended(worker, run_id) == "error"
    last = yard.last(run_id)
    assert (last.cause, last.cause_code) == ("its runner died before it started", "lost")


async def test_a_runner_that_died_while_no_worker_lived_is_found_by_the_next(yard: Yard) -> None:
    """Its lock is free and its journal has no end."""
    yard.pipeline("wait", WAIT, **wait_for(Path("/nonexistent")))
    async with yard.worker() as worker:
        run_id = await start(worker, "wait")
        run = yard.state.run(run_id)
        await printing(run)
        runner = await runner_of(run)
    os.kill(runner, signal.SIGKILL)
    await until(lambda: not is_held(run.lock), "the lock's release")
    async with yard.worker() as worker:
        assert await ended(worker, run_id) == "error"
    assert yard.last(run_id).cause_code == "lost"


async def test_a_killed_fork_server_costs_no_run(yard: Yard, tmp_path: Path) -> None:
    """Live ones go on and are still looked after, new ones get a new server."""
    yard.pipeline("wait", WAIT, **wait_for(tmp_path / "go"))
    yard.pipeline("hello", "true")
    async with yard.worker() as worker:
        first = await start(worker, "wait")
        await printing(yard.state.run(first))
        server = worker._lives.fork_server.pid
        assert server is not None
        os.kill(server, signal.SIGKILL)
        second = await start(worker, "hello")
        assert await ended(worker, second) == "success"
        assert (await worker.snapshot(first)).status == "running"
        os.kill(await runner_of(yard.state.run(first)), signal.SIGKILL)
        assert await ended(worker, first) == "error"


@asynccontextmanager
async def daemon(
    yard: Yard, *pipelines: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """A worker in a process of its own, and the ids of the runs that it was asked for."""
    script = Path(__file__).parent.parent / "worker_process.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(yard.pipelines.parent), *pipelines,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process, [(await process.stdout.readline()).decode().strip() for _ in pipelines]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_daemon_that_is_killed_loses_nothing(yard: Yard, tmp_path: Path) -> None:
    """SIGKILL at any moment; the next one finds every run and ends none twice."""
    yard.pipeline("wait", WAIT, **wait_for(tmp_path / "go"))
    yard.pipeline("hello", "echo hello")
    async with daemon(yard, "wait", "hello", "wait", "hello", "wait", "hello") as (process, ids):
        process.kill()
        await process.wait()
    async with yard.worker() as worker:
        assert sorted(row.id for row in worker.list()[0]) == sorted(ids)
        (tmp_path / "go").touch()
        for run_id in ids:
            assert await ended(worker, run_id) == "success"
    for run_id in ids:
        told = yard.journal(run_id)
        assert (told.count("started"), told.count("summary")) == (1, 1)


async def test_a_second_daemon_is_refused_while_the_first_lives(yard: Yard) -> None:
    """Two would start the same queue twice."""
    yard.pipeline("hello")
    async with daemon(yard, "hello"):
        with pytest.raises(InvalidInputError, match="another daemon uses"):
            async with yard.worker():
                pass


async def test_a_damaged_index_is_made_anew_at_start(yard: Yard) -> None:
    """The folders are the truth."""
    yard.pipeline("hello")
    async with yard.worker() as worker:
        run_id = await start(worker, "hello", key="k", body_sha256="b")
        assert await ended(worker, run_id) == "success"
        rows = worker.list()
    yard.state.index.write_bytes(b"damaged" * 1_000)
    async with yard.worker() as worker:
        assert worker.list() == rows
        again = await worker.submit(Submission(pipeline="hello", key="k", body_sha256="b"))
        assert again.run_id == run_id


async def test_a_run_whose_journal_has_lost_its_end_gets_another(yard: Yard) -> None:
    """After a power cut, or from a backup: whoever looks at it brings it about."""
    yard.pipeline("hello")
    async with yard.worker() as worker:
        run_id = await start(worker, "hello")
        assert await ended(worker, run_id) == "success"
        await yard.settled(run_id)
    run = yard.state.run(run_id)
    os.truncate(run.journal, run.journal.stat().st_size - 30)
    async with yard.worker() as worker:
        found = await asyncio.gather(*(worker.snapshot(run_id) for _ in range(3)))
        assert {snapshot.status for snapshot in found} == {"running"}
        await until(lambda: read_snapshot(run).is_final, "its end")
        async with asyncio.timeout(20):  # the worker follows the journal, a moment behind it
            while (await worker.snapshot(run_id)).status != "success":  # noqa: ASYNC110 - it is asked
                await asyncio.sleep(0.01)
    assert yard.journal(run_id)[-2:] == ["notice", "summary"]


async def test_a_run_that_another_process_accepted_and_left_is_started(yard: Yard) -> None:
    """Its lock came free with only `plan` and `queued` in the journal."""
    yard.pipeline("hello")
    async with yard.worker() as worker:
        accepted = yard.acceptor().accept(Submission(pipeline="hello"))
        await until(lambda: worker.index.get(accepted.run.id), "its discovery")
        assert (await worker.snapshot(accepted.run.id)).status == "queued"
        os.close(accepted.lock_fd)
        assert await ended(worker, accepted.run.id) == "success"


@pytest.mark.parametrize(
    "rest", [b"", b"more\n", b"more\nand open", b"\xe2\x82", b"x" * 200_000 + b"\nend"]
)
async def test_output_that_no_event_told_of_is_told_in_the_end(yard: Yard, rest: bytes) -> None:
    """The journal's text and the log file are the same again, byte for byte as UTF-8."""
    yard.pipeline("wait", "printf 'one\\ntwo'; sleep 1000")
    async with yard.worker() as worker:
        run_id = await start(worker, "wait")
        run = yard.state.run(run_id)
        await printing(run)
        runner = await runner_of(run)
    os.kill(runner, signal.SIGKILL)
    await until(lambda: not is_held(run.lock), "the lock's release")
    with open(run.log("only", 1), "ab") as log:
        log.write(rest)
    with open(run.journal, "ab") as journal:
        journal.write(b'{"seq":99,"event":"lo')  # torn
    lock = try_lock(run.lock)
    assert lock is not None
    assert end_lost(run)
    assert not end_lost(run)
    os.close(lock)
    whole = run.log("only", 1).read_bytes()
    assert texts(run, "only").removesuffix("\n") == whole.decode("utf-8", "replace").removesuffix(
        "\n"
    )
    finished = read_snapshot(run).steps["only"].finished
    assert finished is not None
    assert finished.bytes == len(whole)
    assert finished.lines == len(whole.splitlines())
    records = [wire.decode_record(line) for line in run.journal.read_bytes().splitlines()]
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
