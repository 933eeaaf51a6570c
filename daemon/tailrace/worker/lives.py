"""The runs that go on: handed to runners, followed, and ended where a runner died."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import msgspec
import structlog

from tailrace import wire
from tailrace.core import lost
from tailrace.core.admission import Entry
from tailrace.core.plan import RunFile
from tailrace.errors import InvalidInputError
from tailrace.rundir.changes import Changes
from tailrace.rundir.disk import is_disk_error
from tailrace.rundir.layout import RunDir
from tailrace.rundir.lock import is_held, try_lock
from tailrace.rundir.snapshot import read_snapshot
from tailrace.worker.live import LiveRun
from tailrace.worker.lost import Fate, settle_lost
from tailrace.worker.prepared import Accepted
from tailrace.worker.spawn import ForkServer, ForkServerGoneError, spawn_runner
from tailrace.worker.tasks import Tasks
from tailrace.worker.unstarted import DIED, Reason, end_unstarted

log = structlog.get_logger()

_AGAIN_S: Final = 3.0  # until an end that couldn't be written is tried again
_SPAWNS: Final = 2  # tries with the fork server; then a runner is started without it


class Lives:
    """Live runs by id.

    ``on_change`` is called with each change of status, ``on_end`` at the end,
    ``on_orphan`` with a run that another process accepted and left before it
    started: it is live no more, and may be queued again. ``handover`` looks up
    anew what a runner needs that goes on with a lost run, and raises
    InvalidInputError where that can't be had.

    Until `may_start` is set, lost runs that would go on wait for it.
    """

    def __init__(
        self,
        changes: Changes,
        tasks: Tasks,
        *,
        on_change: Callable[[LiveRun], None],
        on_end: Callable[[LiveRun], None],
        on_orphan: Callable[[LiveRun], None],
        handover: Callable[[RunFile], wire.Handover],
        target: str,
    ) -> None:
        self._changes = changes
        self._tasks = tasks
        self._on_change = on_change
        self._on_end = on_end
        self._on_orphan = on_orphan
        self._handover = handover
        self.may_start = False
        self._runs: dict[str, LiveRun] = {}
        self._by_pid: dict[int, LiveRun] = {}
        self._not_before: dict[str, float] = {}  # runs whose end couldn't be written, until when
        self._cold: list[subprocess.Popen[bytes]] = []  # started without the fork server
        self.fork_server = ForkServer(self._exited, target=target)

    def __iter__(self) -> Iterator[LiveRun]:
        """Give the live runs."""
        return iter(tuple(self._runs.values()))

    def __contains__(self, run_id: object) -> bool:
        """Whether that run goes on."""
        return run_id in self._runs

    @property
    def entries(self) -> list[Entry]:
        """The live runs as admission sees them."""
        return [
            replace(live.entry, waits=live.snapshot.status == "waiting")
            for live in self._runs.values()
        ]

    def get(self, run_id: str) -> LiveRun | None:
        """Return a live run."""
        return self._runs.get(run_id)

    def adopt(self, run: RunDir, run_file: RunFile) -> LiveRun:
        """Follow a run that is in somebody's hands."""
        live = LiveRun(run, run_file)
        self._runs[run.id] = live
        live.following = self._tasks.start(self._follow(live), name=f"follow {run_file.ref}")
        return live

    def start(self, accepted: Accepted) -> LiveRun:
        """Hand a run to a runner of its own, and follow it; its lock is ours no more."""
        live = self.adopt(accepted.run, accepted.run_file)
        live.starting = live.ours = True
        self._tasks.start(self._hand_over(live, accepted), name=f"start {live.file.ref}")
        return live

    async def _follow(self, live: LiveRun) -> None:
        await live.follow(self._changes, self._on_change)
        del self._runs[live.run.id]
        self._on_end(live)

    # Starting

    async def _hand_over(self, live: LiveRun, accepted: Accepted) -> None:
        lock_fd: int | None = accepted.lock_fd
        try:
            for _ in range(_SPAWNS):
                assert lock_fd is not None
                try:
                    await self.fork_server.start()
                    pid = await self.fork_server.spawn(replace(accepted, lock_fd=lock_fd))
                except ForkServerGoneError:
                    # It may have forked before it went: without our copy, the lock tells.
                    os.close(lock_fd)
                    lock_fd = try_lock(live.run.lock)
                    if lock_fd is None:
                        return
                else:
                    self._by_pid[pid] = live
                    return
            log.warning("fork_server_unusable", run_id=live.run.id)
            assert lock_fd is not None
            self._cold.append(spawn_runner(replace(accepted, lock_fd=os.dup(lock_fd))))
        except OSError as exc:
            log.error("runner_not_started", run_id=live.run.id, reason=str(exc))
            reason = Reason(
                status="error",
                cause=f"no runner could be started: {exc.strerror or exc}",
                cause_code="disk" if is_disk_error(exc) else "internal",
            )
            try:
                await asyncio.to_thread(end_unstarted, live.run, reason)
            except OSError as again:  # looked after later: its lock is free
                log.error("run_not_ended", run_id=live.run.id, reason=str(again))
        finally:
            if lock_fd is not None:
                os.close(lock_fd)
            live.starting = False

    # Ending what was lost

    def _exited(self, pid: int, status: int) -> None:
        live = self._by_pid.pop(pid, None)
        if live is not None and live.run.id in self._runs:
            self._tasks.start(self._look_after(live), name=f"look after {live.file.ref}")

    def look_after_all(self) -> None:
        """End the runs whose runner is gone; called now and then, for who died unnoticed."""
        self._cold = [process for process in self._cold if process.poll() is None]
        for live in self:
            if not live.starting and not is_held(live.run.lock):
                self._tasks.start(self._look_after(live), name=f"look after {live.file.ref}")

    async def _look_after(self, live: LiveRun) -> None:
        """Settle the run if its runner died; one that has its last event is left alone."""
        now = asyncio.get_running_loop().time()
        if self._not_before.get(live.run.id, 0.0) > now or live.starting:
            return
        waits = live.file.plan.on_lost == "retry" and not self.may_start
        if waits or live.run.id not in self._runs:
            return
        try:
            lock_fd = try_lock(live.run.lock)
            if lock_fd is None:
                return
            live.starting = True  # in our hands: nobody else need look
            try:
                await self._settle(live, lock_fd)
            finally:
                live.starting = False
        except (OSError, msgspec.MsgspecError) as exc:
            if live.run.id not in self._not_before:
                log.error("run_not_ended", run_id=live.run.id, reason=str(exc))
            # A disk may come back; a file that is damaged stays so.
            again_s = _AGAIN_S if isinstance(exc, OSError) else math.inf
            self._not_before[live.run.id] = now + again_s
            return
        self._not_before.pop(live.run.id, None)

    async def _settle(self, live: LiveRun, lock_fd: int) -> None:
        """End a lost run, start it again, or give it back to the queue; the lock is let go of."""
        try:
            queued = read_snapshot(live.run).status == "queued"
            handover, refusal = None, None
            fate: Fate | None = None
            if live.ours or not queued:
                handover, refusal = self._handover_again(live.file)
                live.tries += queued
                if queued and handover is not None and live.tries < lost.MOST_DEATHS:
                    fate = Fate.CONTINUES
                else:
                    fate = await _to_its_end(_settle_dead, live.run, refusal)
        except BaseException:
            os.close(lock_fd)
            raise
        if fate is Fate.CONTINUES and handover is not None:
            log.warning("runner_died", run_id=live.run.id, ref=live.file.ref, continues=True)
            live.ours = True
            await self._hand_over(
                live,
                Accepted(
                    run=live.run, run_file=live.file, lock_fd=lock_fd,
                    handover=msgspec.structs.replace(handover, continues=not queued),
                ),
            )  # fmt: skip
            return
        os.close(lock_fd)
        if fate is Fate.ENDED:
            log.warning("runner_died", run_id=live.run.id, ref=live.file.ref, continues=False)
        if fate is None and self._runs.pop(live.run.id, None) is not None:
            assert live.following is not None
            live.following.cancel()
            self._on_orphan(live)

    def _handover_again(self, run_file: RunFile) -> tuple[wire.Handover | None, str | None]:
        """Return what a new runner would need, or why it can't be had."""
        if run_file.plan.on_lost != "retry":
            return None, None
        try:
            return self._handover(run_file), None
        except InvalidInputError as exc:
            return None, "; ".join(problem.problem for problem in exc.problems)


async def _to_its_end(settle: Callable[[RunDir, str | None], Fate], *arguments: Any) -> Fate:
    """Call it in a thread; being cancelled waits for it, because it writes under our lock."""
    work = asyncio.ensure_future(asyncio.to_thread(settle, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait((work,))
        raise


def _settle_dead(run: RunDir, refusal: str | None) -> Fate:
    """Settle a run whose lock is free and ours now, if it hasn't ended."""
    if read_snapshot(run).status == "queued":
        end_unstarted(run, DIED)
        return Fate.ENDED
    return settle_lost(run, refusal=refusal)
