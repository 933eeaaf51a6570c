"""Tells lists and dashboards which runs changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from tailrace.store.index import RunRow

MOST_WAITING: Final = 1_000  # runs that a subscriber hasn't taken; older ones are left out


class Board:
    """Passes rows to any number of subscribers, none of which can hold it up.

    A slow subscriber gets the latest row of each run that changed meanwhile,
    and of `MOST_WAITING` runs at most: after a pause a list is read again anyway.
    """

    def __init__(self) -> None:
        self._subscribers: set[_Subscriber] = set()
        self._closed = False

    @property
    def subscribers(self) -> int:
        """How many there are now."""
        return len(self._subscribers)

    def publish(self, row: RunRow) -> None:
        """Tell everybody of a run as it is now."""
        for subscriber in self._subscribers:
            subscriber.put(row)

    async def subscribe(self) -> AsyncIterator[RunRow]:
        """Give every change from now on, until the board is closed."""
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        try:
            while not self._closed:
                await subscriber.news.wait()
                for row in subscriber.take():
                    yield row
        finally:
            self._subscribers.discard(subscriber)

    def close(self) -> None:
        """End every subscription."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.news.set()


class _Subscriber:
    def __init__(self) -> None:
        self.news = asyncio.Event()
        self._waiting: dict[str, RunRow] = {}

    def put(self, row: RunRow) -> None:
        self._waiting.pop(row.id, None)  # the latest change goes to the end
        self._waiting[row.id] = row
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self.news.set()

    def take(self) -> list[RunRow]:
        rows = list(self._waiting.values())
        self._waiting.clear()
        self.news.clear()
        return rows
