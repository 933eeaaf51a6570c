"""Ends a task that somebody owns."""

from __future__ import annotations

import asyncio
from typing import Any


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancel *task* and return once it has ended; what it failed with is raised.

    ``await task`` with its `CancelledError` suppressed would take a
    cancellation of the caller for that of the task: this raises it.
    """
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
