"""A run that goes on: its state, folded as its journal grows, and a feed while somebody watches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from tailrace.core.admission import Entry
from tailrace.core.plan import RunFile
from tailrace.core.run import Snapshot
from tailrace.rundir.changes import AGAIN_S, Changes
from tailrace.rundir.feed import Feed
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.rundir.snapshot import fold
from tailrace.task_end import end_task

log = structlog.get_logger()

_BATCH: Final = 1 << 18  # bytes of events folded at once


def entry_of(run_file: RunFile) -> Entry:
    """Return a run as far as its admission goes."""
    return Entry(
        run_id=run_file.id,
        ref=run_file.ref,
        pipeline=run_file.pipeline,
        group=run_file.plan.group,
        on_conflict=run_file.plan.on_conflict,
    )


class LiveRun:
    """A run that somebody executes, or is about to; made with its state so far."""

    def __init__(self, run: RunDir, run_file: RunFile) -> None:
        self.run = run
        self.file = run_file
        self.entry = entry_of(run_file)
        self.starting = False  # its lock is in our hands, on its way to a runner
        self.ours = False  # we have handed it to a runner
        self.tries = 0  # of runners that died before they told that it has started
        self.following: asyncio.Task[None] | None = None
        self._reader = JournalReader(run, texts=False)
        self.snapshot = Snapshot(id=run_file.id)
        while frames := self._reader.read(_BATCH):
            fold(self.snapshot, frames)

    @property
    def workspace(self) -> str:
        """Id of the run whose workspace it works in."""
        return self.file.workspace or self.file.id

    async def follow(self, changes: Changes, on_change: Callable[[LiveRun], None]) -> None:
        """Fold the journal until its last event; tell of each change of status.

        Output isn't read, whatever there is of it. While the journal can't be
        read (a failing disk, too many open files), it is tried again.
        """
        told = False
        try:
            while not self.snapshot.is_final:
                try:
                    await self._read_on(changes, on_change)
                except OSError as exc:
                    if not told:
                        log.warning("journal_unreadable", run_id=self.run.id, reason=str(exc))
                    told = True
                    await asyncio.sleep(AGAIN_S)
        finally:
            self._reader.close()

    async def _read_on(self, changes: Changes, on_change: Callable[[LiveRun], None]) -> None:
        async with changes.of(self.run.journal) as changed:
            while True:
                changed.clear()
                while frames := self._reader.read(_BATCH):
                    before = self.snapshot.status
                    fold(self.snapshot, frames)
                    if self.snapshot.status != before:
                        on_change(self)
                    await asyncio.sleep(0)  # a long journal leaves room for others
                if self.snapshot.is_final:
                    return
                await changed.wait()


@dataclass(slots=True)
class _Shared:
    feed: Feed
    task: asyncio.Task[None] | None
    holders: int = 0

    async def end(self) -> None:
        """Stop following."""
        if self.task is not None:
            await end_task(self.task)


class Feeds:
    """The feeds of watched runs: one a run, shared, there while somebody holds it."""

    def __init__(self, changes: Changes, *, ring_bytes: int) -> None:
        self._changes = changes
        self.ring_limit = ring_bytes  # of each feed that is opened from now on
        self._shared: dict[str, _Shared] = {}

    @property
    def ring_bytes(self) -> int:
        """Bytes that all rings hold now."""
        return sum(shared.feed.ring_size for shared in self._shared.values())

    @contextlib.asynccontextmanager
    async def of(self, run: RunDir, known: Snapshot) -> AsyncIterator[Feed]:
        """Give the run's feed; *known*, its state so far, is where following begins.

        For a run that has ended it is a feed that has ended: cursors read the file.
        """
        shared = self._shared.get(run.id)
        if shared is None:
            shared = self._shared[run.id] = self._open(run, known)
        shared.holders += 1
        try:
            yield shared.feed
        finally:
            shared.holders -= 1
            if not shared.holders:
                del self._shared[run.id]
                await shared.end()

    def _open(self, run: RunDir, known: Snapshot) -> _Shared:
        feed = Feed(run, ring_bytes=self.ring_limit)
        feed.last_seq, feed.ended = known.last_seq, known.is_final
        if feed.ended:
            return _Shared(feed, None)
        task = asyncio.create_task(feed.follow(self._changes), name=f"feed {run.id}")
        return _Shared(feed, task)

    async def close(self) -> None:
        """Stop following; whoever still holds a feed gets nothing more."""
        for shared in self._shared.values():
            await shared.end()
