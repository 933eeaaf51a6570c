"""When a daemon was last there: a file whose time says so, and who is told of its absence."""

from __future__ import annotations

import contextlib
import os
import time

import structlog

from tailrace import wire
from tailrace.errors import UnavailableError
from tailrace.rundir.layout import StateDir
from tailrace.worker.live import LiveRun
from tailrace.worker.steering import ask_runner

log = structlog.get_logger()


class Pulse:
    """The daemon's sign of life, ``<state>/alive``.

    It is still until the runs that went on meanwhile have been told how long
    nobody was there: a daemon that dies before that leaves it to the next one.
    """

    def __init__(self, state: StateDir) -> None:
        self._path = state.alive
        self._told = False
        try:
            self._last_s: float | None = self._path.stat().st_mtime
        except OSError:  # the first daemon of this folder
            self._last_s = None

    def beat(self) -> None:
        """Say that the daemon is there. A disk that takes nothing costs a notice, and no more."""
        if not self._told:
            return
        with contextlib.suppress(OSError):
            try:
                os.utime(self._path)
            except FileNotFoundError:
                self._path.touch(mode=0o600)

    async def tell(self, runs: list[LiveRun]) -> None:
        """Tell the watchers of those *runs* that were there before the daemon went; begin to beat.

        Each is told once of each absence, because the absence's beginning is
        the command's id. Only its runner writes a run's journal, so it is asked.
        """
        if self._last_s is not None:
            for live in runs:
                if wire.parse_timestamp(live.file.created_at) <= self._last_s:
                    await _tell(live, self._last_s)
        self._told = True
        self.beat()


async def _tell(live: LiveRun, last_s: float) -> None:
    command = wire.Command(
        command="away",
        id=f"away since {last_s}",
        away_ms=max(0, round((time.time() - last_s) * 1000)),
    )
    try:
        reply = await ask_runner(live, command)
    except UnavailableError as exc:
        log.warning("absence_not_told", run_id=live.run.id, reason=str(exc))
        return
    if reply.status not in ("done", "conflict"):  # an older runner doesn't know the command
        log.info("absence_not_told", run_id=live.run.id, reason=reply.reason)
