"""One run's events for all who watch it: a ring of recent frames, and cursors into it.

A subscriber is a cursor, never a queue: a slow one costs nothing but its own
socket's buffer, because what has left the ring is read from the file again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from tailrace.core.events import LAST_EVENTS
from tailrace.rundir.changes import AGAIN_S, Changes
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.task_end import end_task
from tailrace.wire import Frame

_BATCH: Final = 1 << 18  # bytes of frames read, and handed to a cursor, at once


class Feed:
    """Follows one journal for any number of cursors.

    `follow` does the following and belongs to one task; everything else may be
    called from any task of the same loop. ``ring_bytes`` bounds the frames kept
    in memory (by their data; the newest frame is always kept).
    """

    def __init__(self, run: RunDir, *, ring_bytes: int = 1 << 18) -> None:
        self.run_dir = run
        self.last_seq = 0  # of the newest frame seen
        self.ended = False  # the last event has been seen
        self.ring_size = 0  # bytes held now: a gauge
        self._ring: deque[Frame] = deque()
        self._ring_bytes = ring_bytes
        self._news: asyncio.Future[None] | None = None

    async def follow(self, changes: Changes) -> None:
        """Read the journal as it grows, until its last event; cancel it to stop earlier.

        Begins after ``last_seq``, so that who knows a run's state needn't have its
        past read again. The journal's file must exist. While it can't be read (a
        failing disk, too many open files), it is tried again, and cursors wait.
        """
        reader = JournalReader(self.run_dir, after=self.last_seq)
        try:
            while not self.ended:
                try:
                    await self._read_on(reader, changes)
                except OSError:
                    await asyncio.sleep(AGAIN_S)
        finally:
            reader.close()
            self.wake()

    async def _read_on(self, reader: JournalReader, changes: Changes) -> None:
        async with changes.of(self.run_dir.journal) as changed:
            while not self.ended:
                changed.clear()
                while frames := reader.read(_BATCH):
                    self._publish(frames)
                    await asyncio.sleep(0)  # a long journal leaves room for others
                if not self.ended:
                    await changed.wait()

    def _publish(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._ring.append(frame)
            self.ring_size += len(frame.data)
        while self.ring_size > self._ring_bytes and len(self._ring) > 1:
            self.ring_size -= len(self._ring.popleft().data)
        self.last_seq = frames[-1].seq
        self.ended = frames[-1].event in LAST_EVENTS
        self.wake()

    def wake(self) -> None:
        """Make every waiting cursor look again."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        self._news = None

    def recent(self, after: int) -> list[Frame] | None:
        """Return the frames after that number from the ring; None where it no longer has them."""
        if after >= self.last_seq:
            return []
        if not self._ring or after + 1 < self._ring[0].seq:
            return None
        start = after + 1 - self._ring[0].seq
        return [self._ring[i] for i in range(start, len(self._ring))] if start else list(self._ring)

    async def news(self) -> None:
        """Wait until there may be something new; cancelling it harms nobody else."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)


class Cursor:
    """A place in one run's sequence; ``read`` moves it on. Close it when done."""

    def __init__(self, feed: Feed, *, after: int = 0) -> None:
        self.seq = after  # of the last frame given out
        self._feed = feed
        self._reader: JournalReader | None = None

    async def read(self) -> list[Frame]:
        """Return the next frames, waiting for one; [] once the last event was given out.

        A batch holds 256 KiB of data or one frame, or what the ring holds.
        Cancelling it loses nothing: the cursor moves only when frames are returned.
        """
        while True:
            frames = self._feed.recent(self.seq)
            if frames is None:
                frames = self._from_file()
            elif self._reader is not None:
                self.close()
            if frames:
                self.seq = frames[-1].seq
                return frames
            if self._feed.ended:
                return []
            await self._feed.news()

    def _from_file(self) -> list[Frame]:
        if self._reader is None:
            self._reader = JournalReader(self._feed.run_dir, after=self.seq)
        return self._reader.read(_BATCH)

    def close(self) -> None:
        """Close the files that it may have open."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


@contextlib.asynccontextmanager
async def following(run: RunDir, changes: Changes) -> AsyncIterator[Feed]:
    """Give a feed of that run with its own task, for a program that follows one run."""
    feed = Feed(run)
    task = asyncio.create_task(feed.follow(changes), name=f"follow {run.id}")
    try:
        yield feed
    finally:
        await end_task(task)
