"""Thins what comes too often, so that the latest value is never lost."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Throttle(Generic[T]):
    """Lets one value through per interval and keeps the latest of the others.

    ``interval_s`` is in seconds, and so is ``now``, from a clock that never goes
    back. Values are given out in the order they came; one that a later value
    replaced is gone, the last one stays until `take`.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._next = float("-inf")  # the moment from which a value may go
        self._kept: T | None = None

    def offer(self, now: float, value: T) -> T | None:
        """Return *value* if it may go now; else keep it as the latest and return None."""
        self._kept = value
        return self.take(now) if now >= self._next else None

    def due(self, now: float) -> float | None:
        """Return the seconds until the kept value may go, 0 for now; None where nothing is kept."""
        return None if self._kept is None else max(0.0, self._next - now)

    def take(self, now: float) -> T | None:
        """Give out what is kept: once `due` is over, or at the end, when nothing can follow."""
        value, self._kept = self._kept, None
        if value is not None:
            self._next = now + self._interval_s
        return value
