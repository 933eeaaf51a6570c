"""Removing runs and workspaces, with nobody but the folders to ask."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tailrace.core.plan import RunFile
from tailrace.errors import ConflictError
from tailrace.rundir.lock import try_lock
from tailrace.worker.prepared import Prepared
from tailrace.worker.removal import remove_run, remove_workspace
from tailrace.worker.repeat import repeat_of
from tailrace.worker.spawn import spawn_runner
from tailrace.worker.submission import Submission
from tailrace.worker.unstarted import Reason, end_unstarted
from yard import Yard


def accepted(yard: Yard) -> RunFile:
    """A run that waits in nobody's hands."""
    made = yard.acceptor().accept(Submission(pipeline="build"))
    os.close(made.lock_fd)
    return made.run_file


async def failed(yard: Yard) -> str:
    """A run whose first step succeeded and whose second failed; its runner is gone."""
    (yard.pipelines / "build.yaml").write_text(
        "steps:\n  make: {run: 'true'}\n  test: {needs: make, run: exit 1}\n"
    )
    made = yard.acceptor().accept(Submission(pipeline="build"))
    process = spawn_runner(made)
    assert await asyncio.to_thread(process.wait) == 1
    return made.run.id


@contextmanager
def repeating(yard: Yard, run_id: str, start: str) -> Iterator[Prepared]:
    """A retry of that run that is about to be made."""
    asked = repeat_of(yard.state, run_id, start=start, by="", via="cli", trusted=True)
    with yard.acceptor().prepare_repeat(asked) as prepared:
        yield prepared


def end(yard: Yard, run_id: str) -> None:
    """Write the end of a run that waits."""
    reason = Reason(status="error", cause="a test", cause_code="internal")
    assert end_unstarted(yard.state.run(run_id), reason) is None
    assert yard.journal(run_id)[-1] == "summary"


def test_a_run_that_waits_stays(yard: Yard) -> None:
    """Nobody holds its lock, but it will be started."""
    yard.pipeline("build")
    run_id = accepted(yard).id
    with pytest.raises(ConflictError, match="build/1 is queued; cancel it first"):
        remove_run(yard.state, run_id)
    end(yard, run_id)
    remove_run(yard.state, run_id)
    assert list(yard.state.runs.iterdir()) == []


async def test_a_run_that_somebody_holds_stays(yard: Yard) -> None:
    """Its runner may still clean up."""
    run_id = await failed(yard)
    lock_fd = try_lock(yard.state.run(run_id).lock)
    assert lock_fd is not None
    with pytest.raises(ConflictError, match="its runner cleans up; try again"):
        remove_run(yard.state, run_id)
    os.close(lock_fd)
    remove_run(yard.state, run_id)


async def test_what_a_retry_needs_stays_until_it_has_it(yard: Yard) -> None:
    """The folder until its results were taken over, the workspace until the retry has ended."""
    run_id = await failed(yard)
    workspace = yard.state.workspace(run_id)
    with repeating(yard, run_id, "failed") as prepared:
        made = prepared.commit()
    with pytest.raises(ConflictError, match="build/2 is about to take its results over"):
        remove_run(yard.state, run_id)
    assert remove_workspace(yard.state, run_id)
    assert workspace.is_dir()

    os.close(made.lock_fd)
    end(yard, made.run.id)
    remove_run(yard.state, run_id)
    assert not workspace.exists()


async def test_a_workspace_stays_for_the_run_that_works_in_it(yard: Yard) -> None:
    """From its start anew, of which nothing is taken over: the folder may go."""
    run_id = await failed(yard)
    with repeating(yard, run_id, "start") as prepared:
        made = prepared.commit()
    remove_run(yard.state, run_id)
    assert not yard.state.run(run_id).path.exists()
    assert yard.state.workspace(run_id).is_dir()

    os.close(made.lock_fd)
    end(yard, made.run.id)
    assert remove_workspace(yard.state, run_id)
    assert not yard.state.workspace(run_id).exists()


async def test_a_retry_that_is_being_made_counts(yard: Yard) -> None:
    """Whoever comes first: the removal waits for it."""
    run_id = await failed(yard)
    with repeating(yard, run_id, "failed") as prepared:
        removing = asyncio.create_task(asyncio.to_thread(remove_run, yard.state, run_id))
        made = await asyncio.to_thread(prepared.commit)
    with pytest.raises(ConflictError, match="build/2"):
        await removing
    os.close(made.lock_fd)
    assert yard.state.workspace(run_id).is_dir()


def test_a_run_whose_folder_is_gone_is_removed_all_the_same(yard: Yard) -> None:
    """Its workspace goes, too."""
    yard.pipeline("build")
    run_id = accepted(yard).id
    yard.state.workspace(run_id).mkdir(parents=True)
    shutil.rmtree(yard.state.run(run_id).path)
    remove_run(yard.state, run_id)
    assert not yard.state.workspace(run_id).exists()
