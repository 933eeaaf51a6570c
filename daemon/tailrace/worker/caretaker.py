"""Keeps a daemon's state folder within its bounds: at the start, and now and then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from tailrace.rundir.layout import StateDir
from tailrace.settings import Retention
from tailrace.store.index import Outline
from tailrace.store.steady import SteadyIndex
from tailrace.worker.retention import LINK_HINT, Keeper, Sweep

log = structlog.get_logger()

EVERY_S: Final = 600.0
_SOON_S: Final = 5.0  # where there was more to do than is done at once
_PAGE: Final = 2_000  # runs that are read before others have their turn


class Caretaker:
    """Sweeps in a thread of its own; ``on_removed`` is called on the loop with each run that went.

    `stop` makes a sweep end soon; what it has put aside goes with the next one.
    """

    def __init__(
        self, state: StateDir, index: SteadyIndex, on_removed: Callable[[str], None]
    ) -> None:
        self._stopped = threading.Event()
        self._index = index
        self._keeper = Keeper(state, self._stopped.is_set)
        self._on_removed = on_removed
        self._links: set[str] = set()  # that were told

    def stop(self) -> None:
        """End the sweep that goes on, if one does."""
        self._stopped.set()

    async def keep(self, bounds: Callable[[], Retention]) -> None:
        """Sweep again and again, by the bounds of the moment."""
        while True:
            more = False
            try:
                more = (await self.sweep(bounds())).more
            except OSError as exc:  # the disk; it may come back
                log.warning("retention_failed", reason=str(exc))
            await asyncio.sleep(_SOON_S if more else EVERY_S)

    async def sweep(self, bounds: Retention) -> Sweep:
        """Sweep once.

        Raises:
            OSError: the state folder can't be read or written.
        """
        outlines: list[Outline] = []
        while page := self._index.outlines(after=outlines[-1].id if outlines else "", limit=_PAGE):
            outlines += page
            await asyncio.sleep(0)
        done = await asyncio.to_thread(self._keeper.sweep, outlines, bounds, now_s=time.time())
        for gone in done.runs:
            assert gone.run is not None
            self._on_removed(gone.run)
        for link in set(done.links) - self._links:
            log.warning("cache_is_a_link", path=link, hint=LINK_HINT)
        self._links = set(done.links)
        if done.all:
            log.info(
                "retention",
                runs=len(done.runs),
                workspaces=len(done.workspaces),
                cache_entries=len(done.caches),
                bytes=sum(gone.bytes for gone in done.all),
            )
        return done
