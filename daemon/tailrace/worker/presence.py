"""Who watches a run, for ``on_disconnect: cancel``."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

GONE_S: Final = 10.0  # a client that reconnects comes back within this: section 1 of the contract


class Presence:
    """Counts the streams of each run; tells *on_gone* when the last has been gone for a while."""

    def __init__(self, on_gone: Callable[[str], None], *, gone_s: float = GONE_S) -> None:
        self._on_gone = on_gone
        self._gone_s = gone_s
        self._streams: Counter[str] = Counter()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def streams(self) -> int:
        """How many there are, over all runs."""
        return self._streams.total()

    @contextlib.contextmanager
    def watching(self, run_id: str) -> Iterator[None]:
        """Count as a stream of that run."""
        self._streams[run_id] += 1
        self._stop_timer(run_id)
        try:
            yield
        finally:
            self._streams[run_id] -= 1
            if not self._streams[run_id]:
                del self._streams[run_id]
                self.expect(run_id)

    def expect(self, run_id: str) -> None:
        """Wait for somebody to watch that run, as after its last stream ended, unless one does."""
        if run_id in self._streams:
            return
        self._stop_timer(run_id)
        loop = asyncio.get_running_loop()
        self._timers[run_id] = loop.call_later(self._gone_s, self._expired, run_id)

    def forget(self, run_id: str) -> None:
        """Stop waiting: the run has ended."""
        self._stop_timer(run_id)

    def _expired(self, run_id: str) -> None:
        del self._timers[run_id]
        self._on_gone(run_id)

    def _stop_timer(self, run_id: str) -> None:
        if timer := self._timers.pop(run_id, None):
            timer.cancel()

    def close(self) -> None:
        """Stop all waiting."""
        for run_id in tuple(self._timers):
            self._stop_timer(run_id)
