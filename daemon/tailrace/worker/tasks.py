"""The worker's tasks: each has an owner, a name, and a place where its failure is told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from tailrace.errors import TailraceError

log = structlog.get_logger()
T = TypeVar("T")


class Tasks:
    """Background tasks that end when their owner does."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run *work*; if it fails, the log tells, and everything else carries on."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        exc = None if task.cancelled() else task.exception()
        if exc is not None and not isinstance(exc, TailraceError):  # foreseen: who asked is told
            log.error("task_failed", task=task.get_name(), exc_info=exc)

    async def close(self) -> None:
        """Cancel what still runs, and wait for it."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)  # the failure of one, if it had one, is told
