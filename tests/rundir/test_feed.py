"""Feeds and cursors: many watchers of one journal, each at its own pace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import asyncinotify
import pytest

import tailrace.rundir.feed as feed_module
from tailrace.rundir.changes import Changes
from tailrace.rundir.feed import Cursor, Feed, following
from tailrace.rundir.journal import JournalReader, JournalWriter
from tailrace.rundir.layout import RunDir


@pytest.fixture
async def changes() -> AsyncIterator[Changes]:
    """A watch on files."""
    async with Changes() as watching:
        yield watching


def status(journal: JournalWriter, text: str = "x") -> None:
    """Append an event."""
    journal.append("t", {"event": "status", "step": "a", "text": text})


def end(journal: JournalWriter) -> None:
    """Append the last event."""
    journal.append("t", {"event": "summary"})
    journal.close()


async def read_all(feed: Feed, *, after: int = 0, pause: bool = False) -> list[int]:
    """Follow to the end; return the numbers seen."""
    cursor = Cursor(feed, after=after)
    seen: list[int] = []
    while frames := await cursor.read():
        seen += [frame.seq for frame in frames]
        if pause:
            await asyncio.sleep(random.random() / 500)
    cursor.close()
    return seen


async def test_every_watcher_sees_every_event_once_at_any_pace(
    run: RunDir, changes: Changes
) -> None:
    """Quick ones live from the ring, slow ones from the file, late ones from any number."""
    journal = JournalWriter(run)
    status(journal)
    async with following(run, changes) as feed:
        readers = [
            asyncio.create_task(read_all(feed, after=n * 7, pause=n % 2 == 1)) for n in range(10)
        ]
        for number in range(5_000):
            status(journal, "y" * 200)
            if number % 100 == 0:
                await asyncio.sleep(0)
        end(journal)
        results = await asyncio.gather(*readers)

    for n, seen in enumerate(results):
        assert seen == list(range(n * 7 + 1, 5_003))


async def test_the_ring_stays_within_its_bound(run: RunDir, changes: Changes) -> None:
    """A watcher that never reads costs nothing."""
    journal = JournalWriter(run)
    status(journal)
    feed = Feed(run, ring_bytes=10_000)
    idle = Cursor(feed)
    following_it = asyncio.create_task(feed.follow(changes))
    for _ in range(2_000):
        status(journal, "z" * 100)
    end(journal)
    await following_it

    assert feed.last_seq == 2_002
    assert feed.ring_size <= 10_000
    first, *_ = await idle.read()
    assert first.seq == 1
    idle.close()


async def test_a_cancelled_read_loses_nothing(run: RunDir, changes: Changes) -> None:
    """The cursor moves only when frames are given out."""
    journal = JournalWriter(run)
    status(journal)
    async with following(run, changes) as feed:
        cursor = Cursor(feed)
        await cursor.read()
        waiting = asyncio.create_task(cursor.read())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        status(journal)
        assert [frame.seq for frame in await cursor.read()] == [2]
        end(journal)


async def test_a_watcher_that_begins_at_the_end_is_told_so(run: RunDir, changes: Changes) -> None:
    """No frames mean that there will be none."""
    journal = JournalWriter(run)
    end(journal)
    async with following(run, changes) as feed:
        assert await read_all(feed) == [1]
        assert await read_all(feed, after=1) == []


async def test_a_journal_that_cannot_be_read_for_a_while_is_waited_for(
    run: RunDir, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails, or too many open files: watchers wait, and then miss nothing."""
    monkeypatch.setattr(feed_module, "AGAIN_S", 0.01)
    journal = JournalWriter(run)
    status(journal)
    end(journal)
    aside = run.path / "aside"
    run.journal.rename(aside)
    run.journal.symlink_to(aside)  # which readers refuse: ELOOP
    with pytest.raises(OSError, match="symbolic links"):
        JournalReader(run).read()
    async with following(run, changes) as feed:
        reading = asyncio.create_task(read_all(feed))
        await asyncio.sleep(0)  # both have tried
        aside.rename(run.journal)
        assert await reading == [1, 2]


async def test_without_inotify_files_are_polled(
    run: RunDir, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a user has no more watches (ENOSPC) everything works, a little later."""

    def refused(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(asyncinotify.Inotify, "add_watch", refused)
    journal = JournalWriter(run)
    status(journal)
    async with following(run, changes) as feed:
        reading = asyncio.create_task(read_all(feed))
        await asyncio.sleep(0)
        status(journal)
        end(journal)
        assert await reading == [1, 2, 3]
