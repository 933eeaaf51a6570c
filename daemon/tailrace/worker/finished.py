"""What becomes of runs that have ended: tidied up after, repeated, removed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from tailrace.errors import ConflictError
from tailrace.rundir.attempts import remove_attempts
from tailrace.rundir.layout import StateDir
from tailrace.rundir.lock import is_held
from tailrace.worker.live import LiveRun
from tailrace.worker.lives import Lives
from tailrace.worker.queue import Queue
from tailrace.worker.removal import remove_run, remove_workspace
from tailrace.worker.repeat import check_unused
from tailrace.worker.submission import Repeat

log = structlog.get_logger()

_SETTLE_S: Final = 5.0  # a runner cleans up after its last event


class Finished:
    """Works on finished runs next to those that go on."""

    def __init__(self, state: StateDir, lives: Lives, queue: Queue) -> None:
        self._state = state
        self._lives = lives
        self._queue = queue

    async def settled(self, run_id: str) -> None:
        """Wait until a finished run's runner has let go of it, for some seconds at most."""
        deadline = asyncio.get_running_loop().time() + _SETTLE_S
        live = self._lives.get(run_id)
        if live is not None and not live.snapshot.is_final:
            return
        while is_held(self._state.run(run_id).lock):
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.01)

    async def tidy(self, live: LiveRun) -> None:
        """Remove what nobody needs any more, where the runner died before its clean-up."""
        await self.settled(live.run.id)
        await asyncio.to_thread(remove_attempts, live.run)
        if live.snapshot.status != "success" or live.file.keep_workspace:
            return
        gone = False
        with contextlib.suppress(OSError):
            gone = await asyncio.to_thread(remove_workspace, self._state, live.workspace)
        if not gone:
            path = self._state.workspace(live.workspace)
            log.warning("workspace_not_removed", run_id=live.run.id, path=str(path))

    def check_workspace(self, repeat: Repeat, status: str) -> None:
        """Refuse to repeat a run, which ended as *status*, in a workspace that is in use.

        Raises:
            ConflictError: it is.
        """
        workspace = repeat.of.workspace or repeat.of.id
        users = [live.file.ref for live in self._lives if live.workspace == workspace]
        users += [run.entry.ref for run in self._queue if run.workspace == workspace]
        check_unused(repeat, users, status)

    async def remove(self, run_id: str, ref: str) -> None:
        """Remove a run's folder, and its workspace unless a retry works in it.

        Raises:
            ConflictError: the run is live, or a retry has still to take its results over.
        """
        await self.settled(run_id)
        if live := self._lives.get(run_id):
            status = live.snapshot.status
            raise ConflictError(f"{ref} is {status}; cancel it first", state=status)
        await asyncio.to_thread(remove_run, self._state, run_id)
