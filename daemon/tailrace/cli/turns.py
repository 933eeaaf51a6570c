"""Concurrency groups where no daemon keeps a queue: who starts a run waits for its turn.

The order is that of creation: rivals are looked for while the pipeline's
counter is held, and a run waits for older ones alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tailrace import wire
from tailrace.core.admission import place
from tailrace.rundir.control import send_command
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.lock import is_held
from tailrace.rundir.snapshot import read_run_file
from tailrace.store.steady import SteadyIndex
from tailrace.worker.live import entry_of

if TYPE_CHECKING:
    from tailrace.core.admission import Entry
    from tailrace.core.plan import RunFile
    from tailrace.worker.prepared import Accepted, Prepared

_LOOK_S: Final = 0.1  # how often rivals are looked at
_MOST: Final = 1_000  # of the pipeline's newest runs, among which live ones are looked for


class Turns:
    """The runs of this process that wait for others of their group.

    *spawn* starts a runner, *end* ends a run that hasn't started.
    """

    def __init__(
        self, state: StateDir, spawn: Callable[[Accepted], None], end: Callable[[RunDir], object]
    ) -> None:
        self._state = state
        self._spawn = spawn
        self._end = end
        self._waiting: dict[str, asyncio.Task[None]] = {}

    def begin(self, prepared: Prepared) -> tuple[str | None, str | None]:
        """Make the run, and start it now or in its turn; None and why, where there is to be none.

        Raises: as `Prepared.commit`.
        """
        new = entry_of(prepared.run_file)
        rivals = self._rivals(new)
        found = place(new, rivals, [], max_runs=len(rivals) + 1)
        if found.skip:
            return None, found.reason
        accepted = prepared.commit(position=found.position, reason=found.reason)
        if not rivals:
            self._spawn(accepted)
        else:
            task = asyncio.create_task(
                self._start_in_turn(accepted, new, rivals), name=f"start {new.run_id}"
            )
            # Not in the task itself: one that is cancelled early never begins.
            task.add_done_callback(functools.partial(_let_go, accepted))
            self._waiting[new.run_id] = task
        return new.run_id, None

    def _rivals(self, new: Entry) -> list[Entry]:
        """Return the live runs of the group, oldest first."""
        if new.excludes is None:
            return []
        entries = map(entry_of, live_runs(self._state, new.pipeline))
        return [entry for entry in entries if entry.excludes == new.excludes]

    async def _start_in_turn(self, accepted: Accepted, new: Entry, rivals: list[Entry]) -> None:
        if new.on_conflict == "cancel-running":
            await asyncio.gather(*(self._replace(rival, new) for rival in rivals))
        while self._any_lives(rivals):  # noqa: ASYNC110 - they are other processes
            await asyncio.sleep(_LOOK_S)
        del self._waiting[new.run_id]
        self._spawn(accepted)

    def _any_lives(self, rivals: list[Entry]) -> bool:
        return any(is_held(self._state.run(rival.run_id).lock) for rival in rivals)

    async def _replace(self, rival: Entry, new: Entry) -> None:
        command = wire.Command(
            command="cancel",
            id=f"superseded by {new.run_id}",
            reason=f"newer run {new.ref}",
            cause_code="superseded",
            by=new.ref,
            via="queue",
        )
        with contextlib.suppress(ConnectionError, TimeoutError):  # its end is what counts
            await send_command(self._state.run(rival.run_id), command)

    async def leave(self, run_id: str) -> bool:
        """Wait no longer for that run's turn; return False where it doesn't wait here."""
        task = self._waiting.pop(run_id, None)
        if task is None:
            return False
        task.cancel()
        await asyncio.wait({task})
        return True

    async def settle(self) -> None:
        """Return when none waits any more; when cancelled, end those that do."""
        try:
            while self._waiting:
                ended, _ = await asyncio.wait(
                    self._waiting.values(), return_when=asyncio.FIRST_COMPLETED
                )
                for task in ended:
                    if not task.cancelled():  # as `leave` does
                        task.result()
        finally:
            await self.give_up()

    async def give_up(self) -> None:
        """End the runs that wait."""
        for run_id in list(self._waiting):
            await self.leave(run_id)
            self._end(self._state.run(run_id))


def live_runs(state: StateDir, pipeline: str) -> list[RunFile]:
    """Return a pipeline's runs that somebody executes or is about to, oldest first.

    Raises:
        OSError, msgspec.MsgspecError: one's ``run.json`` can't be read.
    """
    with contextlib.closing(SteadyIndex(state)) as index:  # as the folders are now
        rows, _ = index.list(pipeline=pipeline, status=None, limit=_MOST, cursor=None)
    live = [run for run in (state.run(row.id) for row in rows) if is_held(run.lock)]
    return [read_run_file(run) for run in reversed(live)]


def _let_go(accepted: Accepted, task: asyncio.Task[None]) -> None:
    """Let go the lock of a run that isn't to be started, so that its end can be written."""
    if task.cancelled():
        os.close(accepted.lock_fd)
