"""Tells when a file was written to: inotify(7), or polling where that is exhausted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from asyncinotify import Inotify, Mask, Watch

from tailrace.task_end import end_task

POLL_S: Final = 0.05  # where inotify is exhausted (fs.inotify.max_user_watches)
AGAIN_S: Final = 1.0  # until a file that can't be read is tried again


class Changes:
    """One inotify instance for all the files that a process follows.

    Used as an async context manager, which owns the reading task.
    """

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._task: asyncio.Task[None] | None = None
        self._events: dict[Watch, set[asyncio.Event]] = {}

    async def __aenter__(self) -> Changes:
        """Start; where no instance can be had (EMFILE), everything is polled."""
        with contextlib.suppress(OSError):
            self._inotify = Inotify()
            self._task = asyncio.create_task(self._dispatch(self._inotify), name="inotify")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop, and close the instance."""
        try:
            if self._task is not None:
                await end_task(self._task)
        finally:
            if self._inotify is not None:
                self._inotify.close()

    async def _dispatch(self, inotify: Inotify) -> None:
        async for event in inotify:
            if event.watch is None:  # the queue overflowed: whoever waits looks again
                for waiting in self._events.values():
                    for changed in waiting:
                        changed.set()
                continue
            for changed in self._events.get(event.watch, ()):
                changed.set()

    @contextlib.asynccontextmanager
    async def of(self, path: Path) -> AsyncIterator[asyncio.Event]:
        """Give an event that is set whenever *path*, which must exist, may have been written to.

        The reader clears it before it looks, so that nothing is missed between.
        """
        changed = asyncio.Event()
        watch = self._watch(path)
        if watch is None:
            poller = asyncio.create_task(_poll(changed), name=f"poll {path}")
            try:
                yield changed
            finally:
                poller.cancel()
            return
        waiting = self._events.setdefault(watch, set())
        waiting.add(changed)
        try:
            yield changed
        finally:
            waiting.discard(changed)
            if not waiting and self._inotify is not None:
                self._events.pop(watch, None)
                with contextlib.suppress(OSError):  # the file is gone, and the watch with it
                    self._inotify.rm_watch(watch)

    def _watch(self, path: Path) -> Watch | None:
        if self._inotify is None:
            return None
        try:
            return self._inotify.add_watch(path, Mask.MODIFY | Mask.CLOSE_WRITE)
        except OSError:  # no more watches for this user: poll this file
            return None


async def _poll(changed: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(POLL_S)
        changed.set()
