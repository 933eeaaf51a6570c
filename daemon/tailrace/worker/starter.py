"""Starts runs from the queue: when it is their turn, and the disk has room for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from tailrace import wire
from tailrace.core import admission
from tailrace.core.plan import RunFile
from tailrace.errors import InvalidInputError, UnavailableError, UnknownError
from tailrace.rundir.layout import StateDir
from tailrace.rundir.lock import try_lock
from tailrace.rundir.snapshot import read_run_file
from tailrace.settings import Settings
from tailrace.worker.accept import Acceptor
from tailrace.worker.lives import Lives
from tailrace.worker.prepared import Accepted
from tailrace.worker.queue import Queue
from tailrace.worker.tasks import Tasks
from tailrace.worker.unstarted import Reason, end_unstarted

log = structlog.get_logger()


class Starter:
    """Moves runs from the queue to the lives; starts none before `begin`, and none after `stop`.

    ``steer`` ends those that newer ones replace; ``on_end`` is called with the
    id of a run whose end was written here, as it could not be started.
    """

    def __init__(
        self,
        state: StateDir,
        settings: Settings,
        acceptor: Acceptor,
        queue: Queue,
        lives: Lives,
        tasks: Tasks,
        *,
        steer: Callable[[str, wire.Command], Awaitable[wire.Reply]],
        on_end: Callable[[str], None],
    ) -> None:
        self._state = state
        self._settings = settings
        self._acceptor = acceptor
        self._queue = queue
        self._lives = lives
        self._tasks = tasks
        self._steer = steer
        self._on_end = on_end
        self._base_url: str | None = None
        self._begun = False
        self._closing = False  # no more run is started
        self._short_of_room = False  # the last look found less than limits.min_free
        self._hindered: set[str] = set()  # runs whose folder couldn't be read when their turn came
        self._replaced: set[str] = set()  # runs that were told to end for a newer one

    def begin(self, base_url: str | None) -> None:
        """Let `admit` start runs from now on; *base_url* is where people reach this daemon."""
        self._base_url = base_url
        self._begun = True

    def reload(self, acceptor: Acceptor, settings: Settings) -> None:
        """Work by other settings from the next run on."""
        self._acceptor, self._settings = acceptor, settings

    def stop(self) -> None:
        """Start no run any more."""
        self._closing = True

    def look_for_room(self) -> None:
        """Start what waits for room on the disk, or for its folder, where that is there again."""
        if self._short_of_room or self._hindered:
            self.admit()

    def forget(self, run_id: str) -> None:
        """Take note that a run has ended."""
        self._hindered.discard(run_id)
        self._replaced.discard(run_id)

    def admit(self) -> None:
        """Start what may start, and end what newer runs replace. Called after every change."""
        if not self._begun or self._closing:
            return
        decision = admission.decide(
            self._lives.entries, self._queue.entries, max_runs=self._settings.max_runs
        )
        for run_id, newer in decision.superseded.items():
            if run_id not in self._replaced:
                self._replaced.add(run_id)
                self._tasks.start(self._replace(run_id, newer), name=f"replace {run_id}")
        if decision.start and self._has_room():
            for run_id in decision.start:
                self._start(run_id)

    def _has_room(self) -> bool:
        """Whether the disk has room for runs to start; those that wait do so until it has."""
        try:
            self._acceptor.check_disk()
        except UnavailableError as exc:
            if not self._short_of_room:
                log.warning("runs_wait_for_room", waiting=len(self._queue), reason=str(exc))
            self._short_of_room = True
            return False
        if self._short_of_room:
            log.info("runs_start_again")
        self._short_of_room = False
        return True

    def _start(self, run_id: str) -> None:
        """Hand a run from the queue to a runner; one that can't be read doesn't hold up others."""
        waiting = self._queue.get(run_id)
        assert waiting is not None
        run = self._state.run(run_id)
        try:
            run_file = read_run_file(run)
            lock_fd = waiting.lock_fd if waiting.lock_fd is not None else try_lock(run.lock)
        except (FileNotFoundError, msgspec.MsgspecError) as exc:  # deleted by hand, or damaged
            log.error("run_unreadable", run_id=run_id, reason=str(exc))
            self._queue.drop(run_id)
            self.forget(run_id)
            asyncio.get_running_loop().call_soon(self.admit)  # its place is another's
            return
        except OSError as exc:  # the disk, or too many open files: it waits on
            if run_id not in self._hindered:
                log.warning("run_waits_for_its_folder", run_id=run_id, reason=str(exc))
            self._hindered.add(run_id)
            return
        self._hindered.discard(run_id)
        self._queue.pop(run_id)
        if lock_fd is None:  # somebody else has it in hand
            self._lives.adopt(run, run_file)
            return
        try:
            handover = waiting.handover or self._acceptor.handover(run_file)
        except InvalidInputError as exc:
            self._tasks.start(self._end_impossible(run_id, lock_fd, exc), name=f"end {run_id}")
            return
        handover = msgspec.structs.replace(handover, public_url=self._base_url)
        self._lives.start(Accepted(run=run, run_file=run_file, lock_fd=lock_fd, handover=handover))

    def handover_again(self, run_file: RunFile) -> wire.Handover:
        """Return what a runner is handed that goes on where another one died.

        Raises:
            InvalidInputError: as `Acceptor.handover`.
        """
        handover = self._acceptor.handover(run_file)
        return msgspec.structs.replace(handover, public_url=self._base_url)

    async def _end_impossible(self, run_id: str, lock_fd: int, exc: InvalidInputError) -> None:
        lost = exc.problems[0].where == "params"  # its parameters held a secret
        reason = Reason(
            status="error",
            cause="; ".join(problem.problem for problem in exc.problems),
            cause_code="lost" if lost else "requirement",
        )
        try:
            await asyncio.to_thread(end_unstarted, self._state.run(run_id), reason)
        finally:
            os.close(lock_fd)
        self._on_end(run_id)
        self.admit()

    async def _replace(self, run_id: str, newer: admission.Entry) -> None:
        command = wire.Command(
            command="cancel",
            id=f"superseded by {newer.run_id}",
            reason=f"newer run {newer.ref}",
            cause_code="superseded",
            by=newer.ref,
            via="queue",
        )
        with contextlib.suppress(UnavailableError, UnknownError):  # its end is what counts
            await self._steer(run_id, command)
