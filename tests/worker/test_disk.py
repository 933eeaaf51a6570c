"""A disk that is full, or read-only: runs fail with a cause that names it, and all else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon, serving
from disks import failing_disk, fill, fill_but, make_read_only, small_disk
from runs import eventually, processes_of, read_events
from tailrace.rundir.layout import RunDir
from tailrace.rundir.lock import is_held

PIPELINES = {
    "good": "steps:\n  only:\n    run: echo well\n",
    "fill": "steps:\n  only:\n    run: |\n      echo before\n      head -c 99M /dev/zero > file\n",
    "flood": "steps:\n  only:\n    run: yes 'a line that fills the disk'\n",
    "wait": "steps:\n  only:\n    run: while ! test -e $GO; do sleep 0.01; done\n",
}


@pytest.fixture
async def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Daemon]:
    """A daemon whose state folder is on a disk of 16 MB, with a floor of 1 KB or as asked for."""
    floor = {"TAILRACE_LIMITS__MIN_FREE": getattr(request, "param", "1K")}
    with small_disk(tmp_path / "state"):
        settings = f"max_runs: 1\nstep_env: {{GO: {tmp_path / 'go'}}}\n"
        async with serving(tmp_path, PIPELINES, settings=settings, env=floor) as served:
            yield served
            (tmp_path / "go").touch()  # what waits must not outlive a test that failed


def run_of(daemon: Daemon, run: dict[str, Any]) -> RunDir:
    """The run's folder."""
    return daemon.state.run(run["id"])


def check_whole(run: RunDir) -> list[dict[str, Any]]:
    """The journal reads without a gap, each step has one end, and logs are as told."""
    told = read_events(run)
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert [event for event in told if event.get("kind") == "damaged"] == []
    steps = [node["id"] for node in told[0]["graph"]]
    assert sorted(e["step"] for e in told if e["event"] == "step_finished") == sorted(steps)
    assert told[-1]["event"] in ("summary", "aborted")
    texts = [e["text"] + ("" if e.get("open") else "\n") for e in told if e["event"] == "log"]
    logs = sorted(run.path.glob("steps/*/*.log"))
    assert "".join(texts) == "".join(path.read_text() for path in logs)
    return told


async def refused(daemon: Daemon, pipeline: str) -> str:
    """Ask for a run that can't be stored; return the problem's detail."""
    body = {"pipeline": pipeline, "params": {}}
    async with daemon.client.post(f"{daemon.url}/api/v1/runs", json=body) as answer:
        assert answer.status == 503, await answer.text()
        assert int(answer.headers["Retry-After"]) > 0
        return str((await answer.json())["detail"])


async def all_is_well(daemon: Daemon) -> None:
    """A run succeeds, and the index and the list have it."""
    run = await daemon.start("good")
    ended = await daemon.until_final(run["id"])
    assert ended["status"] == "success"
    assert (await daemon.get("/runs"))["runs"][0]["id"] == run["id"]
    check_whole(run_of(daemon, run))


@pytest.mark.parametrize("pipeline", ["fill", "flood"])
async def test_a_step_that_fills_the_disk_fails_by_a_cause_that_names_it(
    daemon: Daemon, pipeline: str
) -> None:
    """Be it by its files or by its output; the journal is whole, and space makes all work again."""
    run = await daemon.start(pipeline)
    ended = await daemon.until_final(run["id"])
    assert (ended["status"], ended["cause_code"]) == ("error", "disk")
    assert "disk is full" in ended["cause"] or "No space left on device" in ended["cause"]
    told = check_whole(run_of(daemon, run))
    assert told[-2]["cause_code"] == "disk"

    # The runner gives back the room that it kept when it has told the end.
    await eventually(lambda: not is_held(run_of(daemon, run).lock))
    fill(daemon.state.path)
    assert (await daemon.get(f"/runs/{run['id']}"))["status"] == "error"
    assert "free" in await refused(daemon, "good") or "space" in await refused(daemon, "good")
    async with daemon.client.get(f"{daemon.url}/healthz") as answer:
        assert answer.status == 200

    (daemon.state.path / "filler").unlink()
    for file in (
        daemon.state.workspace(run["id"]) / "file",
        *run_of(daemon, run).path.glob("steps/*/*.log"),
    ):
        file.unlink(missing_ok=True)
    await all_is_well(daemon)


async def test_a_disk_that_was_full_before_takes_no_run(daemon: Daemon) -> None:
    """Nothing half made stays behind, and what is there can be read."""
    await all_is_well(daemon)
    filler = fill(daemon.state.path)
    before = sorted(path.name for path in daemon.state.runs.iterdir())
    await refused(daemon, "good")
    assert sorted(path.name for path in daemon.state.runs.iterdir()) == before
    assert len((await daemon.get("/runs"))["runs"]) == 1
    filler.unlink()
    await all_is_well(daemon)


@pytest.mark.parametrize("daemon", ["8M"], indirect=True)
async def test_a_run_that_waits_does_not_start_under_the_floor(
    daemon: Daemon, tmp_path: Path
) -> None:
    """It goes on waiting, which the log tells, and starts when there is room again."""
    first = await daemon.start("wait")
    second = await daemon.start("good")
    filler = fill_but(daemon.state.path, 4 << 20)
    assert "under 8 MiB (limits.min_free)" in await refused(daemon, "good")
    (tmp_path / "go").touch()
    assert (await daemon.until_final(first["id"]))["status"] == "success"
    await eventually(lambda: "runs_wait_for_room" in daemon.log.read_text())
    assert (await daemon.get(f"/runs/{second['id']}"))["status"] == "queued"
    filler.unlink()
    assert (await daemon.until_final(second["id"]))["status"] == "success"
    assert "runs_start_again" in daemon.log.read_text()


@pytest.mark.parametrize("daemon", ["0K"], indirect=True)
async def test_a_run_that_starts_on_a_full_disk_ends_truthfully(
    daemon: Daemon, tmp_path: Path
) -> None:
    """It was accepted before: room for its end is kept from then on, also for a cancel."""
    first = await daemon.start("wait")
    second, third = await daemon.start("flood"), await daemon.start("flood")
    await eventually(daemon.state.workspace(first["id"]).is_dir)
    filler = fill(daemon.state.path)

    url = f"{daemon.url}/api/v1/runs/{third['id']}/cancel"
    async with daemon.client.post(url, json={"reason": "no need"}) as answer:
        assert answer.status == 202
    assert (await daemon.get(f"/runs/{third['id']}"))["status"] == "aborted"

    (tmp_path / "go").touch()
    ending = asyncio.create_task(daemon.until_final(second["id"]))
    while not ending.done():  # what the first gives back is taken at once
        await asyncio.to_thread(fill, daemon.state.path)
        await asyncio.sleep(0.01)
    ended = await ending
    assert (ended["status"], ended["cause_code"]) == ("error", "disk")
    assert "No space left on device" in ended["cause"] or "disk is full" in ended["cause"]
    check_whole(run_of(daemon, second))
    filler.unlink()
    await all_is_well(daemon)


async def test_a_login_on_a_full_disk_is_put_off(daemon: Daemon) -> None:
    """A session must be stored: 503, and no word of a bug."""
    filler = fill(daemon.state.path)
    login = f"{daemon.url}/?token={daemon.token}"
    statuses = set()
    for _ in range(200):  # the database's log has some room of its own
        async with daemon.client.get(login, allow_redirects=False) as answer:
            statuses.add(answer.status)
            if answer.status == 503:
                break
    assert statuses <= {302, 303, 503}
    filler.unlink()
    async with daemon.client.get(login, allow_redirects=False) as answer:
        assert answer.status in (302, 303)
    assert "Traceback" not in daemon.log.read_text()


async def test_a_disk_that_turns_read_only_under_a_run_is_survived(tmp_path: Path) -> None:
    """The run's processes end, all that is there can be read, and a repaired disk goes on.

    What the run's end was can't be written anywhere: the next daemon tells that it was lost.
    """
    text = "steps:\n  only:\n    run: while :; do echo tick; sleep 0.01; done\n"
    with failing_disk(tmp_path / "state") as disk, contextlib.ExitStack() as ending:
        async with serving(tmp_path, {**PIPELINES, "tick": text}) as daemon:
            run = await daemon.start("tick")
            folder = run_of(daemon, run)
            log = folder.log("only", 1)
            await eventually(lambda: log.exists() and log.stat().st_size > 50)
            ending.callback(end_runner, folder)
            disk.turn_read_only()
            await eventually(lambda: processes_of(folder) == [])
            assert (await daemon.get(f"/runs/{run['id']}"))["status"] == "running"
            url = f"{daemon.url}/api/v1/runs/{run['id']}/steps/only/log"
            async with daemon.client.get(url) as answer:
                assert (await answer.text()).startswith("tick\ntick\n")
            assert "Read-only file system" in await refused(daemon, "good")
        assert daemon.process.returncode == 0, daemon.log.read_text()
        assert "Traceback" not in daemon.log.read_text()
        end_runner(folder)

        disk.repair()
        async with serving(tmp_path, PIPELINES) as daemon:
            ended = await daemon.until_final(run["id"])
            assert (ended["status"], ended["cause_code"]) == ("error", "lost")
            check_whole(run_of(daemon, run))
            await all_is_well(daemon)


def end_runner(run: RunDir) -> None:
    """End the process that writes a run's journal, which waits some minutes for its disk."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            opened = [fd.readlink() for fd in (folder / "fd").iterdir()]
            if run.journal in opened:
                os.kill(int(folder.name), signal.SIGKILL)


def test_a_read_only_disk_is_named_by_the_command_line(tmp_path: Path) -> None:
    """Runs are listed and shown; a new one is refused in one line."""
    with small_disk(tmp_path / "state"):
        (tmp_path / "pipelines").mkdir()
        (tmp_path / "pipelines/good.yaml").write_text(PIPELINES["good"])

        def tailrace(*args: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "tailrace.cli.main", *args], cwd=tmp_path, text=True,
                capture_output=True, check=False,
                env={**os.environ, "TAILRACE_STATE_DIR": str(tmp_path / "state"),
                     "TAILRACE_LIMITS__MIN_FREE": "1K"},
            )  # fmt: skip

        assert tailrace("run", "good").returncode == 0
        make_read_only(tmp_path / "state")
        listed = json.loads(tailrace("runs", "--json").stdout)
        assert [run["ref"] for run in listed["runs"]] == ["good/1"]
        assert "well" in tailrace("tail", "good/1").stdout
        again = tailrace("run", "good")
        assert again.returncode == 3
        assert "Read-only file system" in again.stderr
        subprocess.run(["mount", "-o", "remount,rw", str(tmp_path / "state")], check=True)
        assert tailrace("run", "good").returncode == 0
