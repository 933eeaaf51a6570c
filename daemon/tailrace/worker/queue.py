"""The runs that wait, in creation order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tailrace import wire
from tailrace.core.admission import Entry
from tailrace.core.plan import RunFile
from tailrace.worker.live import entry_of


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run in the queue. Its plan stays on disk: ten thousand may wait."""

    entry: Entry
    on_disconnect: str
    workspace: str  # id of the run whose workspace it will use
    handover: wire.Handover | None  # None: another process accepted it; looked up when it starts
    lock_fd: int | None = None  # of one that starts at once


class Queue:
    """Runs that wait, by id; ids sort by creation."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._entries: list[Entry] | None = []

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __contains__(self, run_id: object) -> bool:
        """Whether that run waits."""
        return run_id in self._waiting

    def __iter__(self) -> Iterator[Waiting]:
        """Give those that wait, oldest first."""
        return iter(self._waiting.values())

    @property
    def entries(self) -> list[Entry]:
        """Those that wait, oldest first."""
        if self._entries is None:
            self._entries = [waiting.entry for waiting in self._waiting.values()]
        return self._entries

    def add(
        self, run_file: RunFile, handover: wire.Handover | None, lock_fd: int | None = None
    ) -> None:
        """Put a run at the end."""
        self._waiting[run_file.id] = Waiting(
            entry=entry_of(run_file),
            on_disconnect=run_file.plan.on_disconnect,
            workspace=run_file.workspace or run_file.id,
            handover=handover,
            lock_fd=lock_fd,
        )
        self._entries = None

    def get(self, run_id: str) -> Waiting | None:
        """Return a run that waits."""
        return self._waiting.get(run_id)

    def take_lock(self, run_id: str) -> int | None:
        """Return the lock of a run that waits, which is the caller's then; None where it has none.

        Raises:
            KeyError: it doesn't wait.
        """
        waiting = self._waiting[run_id]
        self._waiting[run_id] = replace(waiting, lock_fd=None)
        return waiting.lock_fd

    def pop(self, run_id: str) -> Waiting:
        """Take a run out.

        Raises:
            KeyError: it doesn't wait.
        """
        self._entries = None
        return self._waiting.pop(run_id)

    def drop(self, run_id: str) -> None:
        """Take a run out and let go of its lock.

        Raises:
            KeyError: it doesn't wait.
        """
        lock_fd = self.pop(run_id).lock_fd
        if lock_fd is not None:
            os.close(lock_fd)
