"""States of runs that nobody follows: read from their journals, which may be long, in a thread."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from tailrace.core.run import Snapshot
from tailrace.errors import UnknownError
from tailrace.rundir.layout import RunDir
from tailrace.rundir.snapshot import read_snapshot
from tailrace.worker.tasks import Tasks

_REMEMBERED: Final = 64


class States:
    """Reads states, once for all who ask at the same time, and remembers the last final ones."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._final: OrderedDict[str, Snapshot] = OrderedDict()
        self._reading: dict[str, asyncio.Task[Snapshot]] = {}

    async def read(self, run: RunDir) -> Snapshot:
        """Return a run's state as its journal says now.

        Raises:
            OSError: the journal can't be read.
        """
        if found := self._final.get(run.id):
            return found
        reading = self._reading.get(run.id)
        if reading is None:
            work = asyncio.to_thread(read_snapshot, run)
            reading = self._reading[run.id] = self._tasks.start(work, name=f"read {run.id}")
            reading.add_done_callback(lambda _: self._reading.pop(run.id))
        snapshot = await asyncio.shield(reading)  # who goes away leaves the others theirs
        if snapshot.is_final:
            self.keep(snapshot)
        return snapshot

    def keep(self, snapshot: Snapshot) -> None:
        """Remember a final state."""
        self._final[snapshot.id] = snapshot
        if len(self._final) > _REMEMBERED:
            self._final.popitem(last=False)

    def forget(self, run_id: str) -> None:
        """Forget a run that was removed."""
        self._final.pop(run_id, None)


def check_folder(run: RunDir, ref: str) -> None:
    """Refuse what is asked of a run that the index knows and whose folder is gone.

    Raises:
        UnknownError: it is.
    """
    if not run.journal.exists():
        raise UnknownError(f"the folder of {ref} is gone; `tailrace reindex` forgets it")
