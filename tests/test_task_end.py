"""Ending a task: whose cancellation is whose."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.task_end import end_task


async def forever() -> None:
    """Work until cancelled."""
    await asyncio.Event().wait()


async def test_a_task_has_ended_when_it_was_ended() -> None:
    """Its own cancellation is nobody else's; one that had ended before is fine, too."""
    task = asyncio.create_task(forever())
    for _ in range(2):
        await end_task(task)
        assert task.cancelled()


async def test_who_is_cancelled_while_ending_a_task_is_cancelled() -> None:
    """Though the task it waits for was cancelled, too."""
    letting_go, may_end = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        try:
            await forever()
        finally:
            letting_go.set()
            await may_end.wait()

    task = asyncio.create_task(slow())
    await asyncio.sleep(0)
    ending = asyncio.create_task(end_task(task))
    await letting_go.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert ending.cancelled()
    may_end.set()
    await asyncio.wait({task})


async def test_what_a_task_failed_with_is_told() -> None:
    """A mistake isn't lost with the task that made it."""

    async def fail() -> None:
        raise ValueError("a mistake")

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    with pytest.raises(ValueError, match="a mistake"):
        await end_task(task)
