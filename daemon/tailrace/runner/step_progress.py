"""Thins the progress of one step, over all its attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tailrace.core.events import Progress
from tailrace.core.throttle import Throttle

_EVERY_S: Final = 0.25


class StepProgress:
    """Lets progress through at most four times a second, the last one always; on one event loop.

    *tell* gets what could not go at once, later; `finish` when the step ends.
    """

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._throttle: Throttle[Progress] = Throttle(_EVERY_S)
        self._timer: asyncio.TimerHandle | None = None

    def offer(self, progress: Progress) -> Progress | None:
        """Return it if it may be told now; else it is told when its time has come."""
        now = self._loop.time()
        ready = self._throttle.offer(now, progress)
        if ready is None and self._timer is None and (due := self._throttle.due(now)) is not None:
            self._timer = self._loop.call_later(due, self._timed)
        return ready

    def _timed(self) -> None:
        self._timer = None
        due = self._throttle.due(self._loop.time())
        if due:  # other progress went out since the timer was set
            self._timer = self._loop.call_later(due, self._timed)
        else:
            self._let_go()

    def _let_go(self) -> None:
        if (ready := self._throttle.take(self._loop.time())) is not None:
            self._tell(ready)

    def finish(self) -> None:
        """Tell the last progress: none can follow."""
        if self._timer is not None:
            self._timer.cancel()
        self._let_go()
