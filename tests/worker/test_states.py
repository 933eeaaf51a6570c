"""States of runs that nobody follows."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from tailrace.core.run import Snapshot
from tailrace.rundir.layout import RunDir
from tailrace.rundir.snapshot import read_snapshot
from tailrace.worker import states
from tailrace.worker.states import States
from tailrace.worker.submission import Submission
from tailrace.worker.tasks import Tasks
from tailrace.worker.unstarted import Reason, end_unstarted
from yard import Yard


async def test_a_finished_run_is_read_once_and_not_on_the_loop(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks at the same time gets the same, also when another one goes away."""
    readers: list[threading.Thread] = []

    def read(run: RunDir) -> Snapshot:
        readers.append(threading.current_thread())
        return read_snapshot(run)

    monkeypatch.setattr(states, "read_snapshot", read)
    yard.pipeline("hello")
    accepted = yard.acceptor().accept(Submission(pipeline="hello"))
    os.close(accepted.lock_fd)
    end_unstarted(accepted.run, Reason(status="error", cause="a test", cause_code="internal"))
    tasks = Tasks()
    known = States(tasks)

    asking = [asyncio.create_task(known.read(accepted.run)) for _ in range(3)]
    await asyncio.sleep(0)
    asking.pop(0).cancel()
    found = await asyncio.gather(*asking, known.read(accepted.run))
    await tasks.close()

    assert {snapshot.status for snapshot in found} == {"error"}
    assert len({id(snapshot) for snapshot in found}) == 1
    assert len(readers) == 1
    assert readers[0] is not threading.main_thread()


async def test_a_run_that_has_not_ended_is_read_again(yard: Yard) -> None:
    """Only a final state stays as it is."""
    yard.pipeline("hello")
    accepted = yard.acceptor().accept(Submission(pipeline="hello"))
    os.close(accepted.lock_fd)
    tasks = Tasks()
    known = States(tasks)

    assert (await known.read(accepted.run)).status == "queued"
    end_unstarted(accepted.run, Reason(status="error", cause="a test", cause_code="internal"))
    assert (await known.read(accepted.run)).status == "error"
    await tasks.close()
