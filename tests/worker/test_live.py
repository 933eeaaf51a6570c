"""A live run's state, folded from its journal as it grows."""

from __future__ import annotations

import asyncio
import os

import pytest

from tailrace.rundir.changes import Changes
from tailrace.rundir.snapshot import read_run_file
from tailrace.worker import live
from tailrace.worker.live import LiveRun
from tailrace.worker.submission import Submission
from tailrace.worker.unstarted import Reason, end_unstarted
from yard import Yard


async def test_a_run_is_followed_to_its_end_though_its_journal_fails_for_a_while(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk comes back, and so do open files; or else it would stay live for ever."""
    monkeypatch.setattr(live, "AGAIN_S", 0.01)
    yard.pipeline("hello")
    accepted = yard.acceptor().accept(Submission(pipeline="hello"))
    run = accepted.run
    os.close(accepted.lock_fd)
    end_unstarted(run, Reason(status="error", cause="a test", cause_code="internal"))
    aside = run.path / "aside"
    run.journal.rename(aside)
    followed = LiveRun(run, read_run_file(run))
    run.journal.symlink_to(aside)  # which readers refuse: ELOOP
    seen: list[str] = []

    async with Changes() as changes:
        following = asyncio.create_task(
            followed.follow(changes, lambda run: seen.append(run.snapshot.status))
        )
        await asyncio.sleep(0)  # it has tried
        aside.rename(run.journal)
        await following

    assert followed.snapshot.is_final
    assert seen == ["error"]
