"""The daemon's side of runs: accepts, queues, starts, follows, steers and ends them.

Everything here runs on one event loop. The run folders are the truth: whatever
this object knows it can read again from them, and does when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack
from typing import Final

import msgspec
import structlog

from tailrace import wire
from tailrace.core.cut import quoted
from tailrace.core.run import Snapshot
from tailrace.errors import ConflictError, UnavailableError, UnknownError
from tailrace.pipeline.catalog import Catalog
from tailrace.pipeline.model import Pipeline
from tailrace.rundir.changes import Changes
from tailrace.rundir.feed import Feed
from tailrace.rundir.layout import StateDir
from tailrace.rundir.lock import is_held
from tailrace.rundir.snapshot import read_run_file, read_snapshot
from tailrace.settings import Settings
from tailrace.store.answers import KeptAnswers
from tailrace.store.index import RunRow
from tailrace.store.marks import ScheduleMarks
from tailrace.store.rebuild import read_row, row_of, run_ids
from tailrace.store.state import hold_state
from tailrace.store.steady import SteadyIndex
from tailrace.worker import forkserver
from tailrace.worker.accept import Acceptor
from tailrace.worker.board import Board
from tailrace.worker.caretaker import Caretaker
from tailrace.worker.finished import Finished
from tailrace.worker.folder import remove_unfinished
from tailrace.worker.intake import Intake
from tailrace.worker.live import Feeds, LiveRun
from tailrace.worker.lives import Lives
from tailrace.worker.prepared import Accepted
from tailrace.worker.presence import GONE_S, Presence
from tailrace.worker.pulse import Pulse
from tailrace.worker.queue import Queue
from tailrace.worker.repeat import repeat_of
from tailrace.worker.requirements import Requirements
from tailrace.worker.schedule import Scheduler
from tailrace.worker.secrets import SecretStore
from tailrace.worker.starter import Starter
from tailrace.worker.states import States, check_folder
from tailrace.worker.steering import RUNNER_GAUGES, Steering, runner_gauges
from tailrace.worker.submission import Repeat, Started, Submission
from tailrace.worker.tasks import Tasks

log = structlog.get_logger()

_LOOK_S: Final = 1.0  # how often runners are looked after that nobody reports on


class Worker:
    """One daemon's runs; an async context manager. No other daemon may use the state folder.

    Runs start once `begin` was called. Leaving the context stops admitting and
    following; runs go on, and the next worker finds them.

    ``target`` is what a runner executes, ``gone_s`` how long a run with
    ``on_disconnect: cancel`` goes on unwatched, and ``clock`` what schedules go
    by (seconds since 1970); tests set them.
    """

    def __init__(
        self,
        state: StateDir,
        settings: Settings,
        catalog: Catalog,
        secrets: SecretStore,
        *,
        target: str = forkserver.TARGET,
        gone_s: float = GONE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.state = state
        self.settings = settings
        self.catalog = catalog
        self.index: SteadyIndex
        self._acceptor = Acceptor(state, settings, catalog, secrets)
        self._intake: Intake
        self._pulse: Pulse
        self._lives: Lives
        self._finished: Finished
        self._starter: Starter
        self._steering: Steering
        self._scheduler: Scheduler
        self._clock = clock
        self._queue = Queue()
        self._board = Board()
        self._tasks = Tasks()
        self._presence = Presence(self._all_gone, gone_s=gone_s)
        self._states = States(self._tasks)
        self._known: set[str] = set()  # run folders that were looked at
        self._runs_changed = 0  # the runs folder's time when it was looked at
        self._resources = AsyncExitStack()
        self._target = target

    # ---- life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Worker:
        """Take the state folder, bring the index up to date and adopt what is there.

        Raises:
            InvalidInputError: another daemon uses the folder, or its ``state.db`` is damaged.
            UnavailableError: ``state.db`` can't be used.
        """
        async with AsyncExitStack() as opened:
            opened.enter_context(hold_state(self.state))
            remove_unfinished(self.state)
            self.index = SteadyIndex(self.state, lambda what: log.warning("index", what=what))
            opened.callback(self.index.close)
            changes = await opened.enter_async_context(Changes())
            self._feeds = Feeds(changes, ring_bytes=self.settings.limits.ring)
            opened.push_async_callback(self._feeds.close)
            self._lives = Lives(
                changes,
                self._tasks,
                on_change=self._changed,
                on_end=self._ended,
                on_orphan=self._orphaned,
                handover=lambda file: self._starter.handover_again(file),  # noqa: PLW0108 - made next
                target=self._target,
            )
            self._finished = Finished(self.state, self._lives, self._queue)
            self._starter = Starter(
                self.state,
                self.settings,
                self._acceptor,
                self._queue,
                self._lives,
                self._tasks,
                steer=self.steer,
                on_end=self._refresh,
            )
            answers = KeptAnswers(self.state.state_db)
            opened.callback(answers.close)
            self._steering = Steering(
                self.state,
                self._queue,
                self._lives,
                answers,
                row=self._row,
                usual_handover=lambda: self._acceptor.usual_handover,
                on_cancelled=self._leave_queue,
            )
            self._intake = Intake(
                self._acceptor,
                self.settings,
                self.index,
                self._lives,
                self._queue,
                answers,
                self._accepted,
            )
            marks = ScheduleMarks(self.state.state_db)
            opened.callback(marks.close)
            self._scheduler = Scheduler(
                lambda: self.catalog, marks, self.submit, self._run_by_key, self._clock
            )
            opened.push_async_callback(self._lives.fork_server.close)
            opened.push_async_callback(self._tasks.close)
            self._note_runs_folder()
            for run_id in self.index.unfinished:
                self._find(run_id)
            self._known = run_ids(self.state)
            self._pulse = Pulse(self.state)
            went_on = [live for live in self._lives if is_held(live.run.lock)]
            self._tasks.start(self._pulse.tell(went_on), name="tell of the absence")
            opened.callback(self._pulse.beat)
            self._lives.look_after_all()
            self._tasks.start(self._look_around(), name="look around")
            caretaker = Caretaker(self.state, self.index, self._removed)
            opened.callback(caretaker.stop)  # before the tasks are waited for
            care = caretaker.keep(lambda: self.settings.retention)
            self._tasks.start(care, name="keep within retention")
            self._resources = opened.pop_all()
        return self

    async def begin(self, base_url: str | None) -> None:
        """Start runs from now on; *base_url* is where people reach this daemon."""
        self._starter.begin(base_url)
        with contextlib.suppress(OSError):  # told, and tried again, when a run starts
            await self._lives.fork_server.start()
            await self._lives.fork_server.make_ready(self._acceptor.usual_handover)
        self._lives.may_start = True
        self._lives.look_after_all()
        self._starter.admit()
        self._tasks.start(self._scheduler.keep(), name="keep the schedule")

    def reload(self, settings: Settings, catalog: Catalog, secrets: SecretStore) -> None:
        """Work by other settings from the next run on (SIGHUP); the state folder stays."""
        acceptor = Acceptor(self.state, settings, catalog, secrets)
        self.settings, self.catalog, self._acceptor = settings, catalog, acceptor
        self._intake.reload(acceptor, settings)
        self._starter.reload(acceptor, settings)
        self._feeds.ring_limit = settings.limits.ring
        work = self._lives.fork_server.make_ready(acceptor.usual_handover)
        self._tasks.start(work, name="make the fork server ready")
        self._starter.admit()

    @property
    def requirements(self) -> Requirements:
        """What pipelines need, and whether it is there, by the settings that hold now."""
        return self._acceptor.requirements

    async def cancel_all(self, reason: str) -> None:
        """Start no run any more, cancel those under way, and return when all have ended.

        Their ``always()`` steps run. What waits in the queue goes on waiting,
        for the next worker. Being cancelled leaves to themselves those that live.
        """
        self._starter.stop()
        command = wire.Command(command="cancel", id="daemon stops", reason=reason, via="daemon")

        async def ask(run_id: str) -> None:
            try:
                await self.steer(run_id, command)
            except UnavailableError as exc:  # asked again
                log.warning("run_not_cancelled", run_id=run_id, reason=str(exc))

        while live := list(self._lives):
            await asyncio.gather(*(ask(each.run.id) for each in live))
            following = [each.following for each in live if each.following is not None]
            await asyncio.wait(following, timeout=_LOOK_S)

    async def __aexit__(self, *exc: object) -> None:
        """Stop admitting, and let go of everything; live runs go on."""
        self._starter.stop()
        self._scheduler.stop()
        self._presence.close()
        self._board.close()
        await self._intake.close()  # what is half accepted becomes whole, and waits
        for waiting in self._queue:
            if waiting.lock_fd is not None:
                os.close(waiting.lock_fd)
        await self._resources.aclose()

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._pulse.beat()
            try:
                self.index.look_after()
                self._lives.look_after_all()
                self._starter.look_for_room()
                if self._note_runs_folder():
                    new = run_ids(self.state) - self._known - {self._intake.making}
                    for run_id in sorted(new):
                        self._known.add(run_id)
                        self._find(run_id)
            except OSError as exc:  # the disk; it may come back
                log.warning("runs_unreadable", reason=str(exc))

    def _note_runs_folder(self) -> bool:
        """Whether runs came or went since the last look, ours included."""
        before, self._runs_changed = self._runs_changed, self.state.runs.stat().st_mtime_ns
        return self._runs_changed != before

    def _find(self, run_id: str) -> None:
        """Take in a run that another process made, or that was there when we started."""
        run = self.state.run(run_id)
        try:
            run_file = read_run_file(run)
            row = read_row(run)
        except (OSError, msgspec.MsgspecError) as exc:
            log.warning("run_unreadable", run_id=run_id, reason=str(exc))
            return
        if row is None or row.finished_at is not None:
            if row is not None:
                self._put(row)
            return
        self._put(row)
        if is_held(run.lock) or row.status != "queued":
            # Somebody executes it; or its runner died, which the first look around tells.
            self._lives.adopt(run, run_file)
        else:
            self._queue.add(run_file, None)
            self._starter.admit()
        if run.watched.exists():
            self._presence.expect(run_id)  # its streams ended with the daemon before us

    # ---- starting ----------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> Started:
        """Accept a run and start it, or queue it.

        Being cancelled doesn't stop it: a run is accepted whole.

        Raises:
            InvalidInputError, UnknownError, UnavailableError: as `Acceptor.accept`;
                also when a key comes again with another body, and when the queue is full.
        """
        work = self._submit(submission)
        return await asyncio.shield(self._tasks.start(work, name=f"submit {submission.pipeline}"))

    async def _submit(self, submission: Submission) -> Started:
        started = await self._intake.submit(submission)
        if submission.watched and started.run_id is not None:
            self._note_watched(started.run_id)
            self._presence.expect(started.run_id)  # its client may be gone before it sees anything
        return started

    def _run_by_key(self, key: str) -> str | None:
        """Return the run that a key started, however long ago."""
        row = self.index.by_key(key, since="")
        return row.id if row else None

    async def retry(
        self,
        run_id: str,
        *,
        start: str,
        by: str,
        via: str,
        trusted: bool,
        key: str | None = None,
        body_sha256: str | None = None,
    ) -> str:
        """Accept a run that repeats a finished one on its workspace; return its id.

        ``start`` is ``failed``, ``start`` or a step.

        Raises:
            ConflictError: the run hasn't ended, or its workspace is gone or in use.
            InvalidInputError: there is no such step, or its parameters held a secret.
            UnknownError: there is no such run.
            UnavailableError: as `submit`.
        """
        row = self._row(run_id)
        await self._finished.settled(run_id)
        with contextlib.suppress(OSError, msgspec.MsgspecError):  # `repeat_of` says what is wrong
            await self.requirements.look(read_run_file(self.state.run(run_id)).plan.requires)

        def repeat() -> Repeat:
            asked = repeat_of(self.state, run_id, start=start, by=by, via=via, trusted=trusted)
            self._finished.check_workspace(asked, row.status)
            return msgspec.structs.replace(asked, key=key, body_sha256=body_sha256)

        work = self._intake.repeat(repeat, key, body_sha256)
        started = await asyncio.shield(self._tasks.start(work, name=f"retry {row.ref}"))
        if started.run_id is None:
            raise ConflictError(started.reason or "skipped", state=row.status)
        return started.run_id

    def _accepted(self, accepted: Accepted, position: int) -> None:
        run_file = accepted.run_file
        self._known.add(run_file.id)
        self._pulse.beat()  # of a run that it has accepted, it knows
        self._put(row_of(run_file, read_snapshot(accepted.run)))
        if position:
            os.close(accepted.lock_fd)  # ten thousand may wait, each with its lock
            self._queue.add(run_file, accepted.handover)
        else:
            self._queue.add(run_file, accepted.handover, accepted.lock_fd)
        self._starter.admit()

    # ---- what becomes of runs ----------------------------------------------------------------

    def _changed(self, live: LiveRun) -> None:
        self._put(row_of(live.file, live.snapshot))
        self._starter.admit()  # one that waits for an answer holds no place

    def _ended(self, live: LiveRun) -> None:
        self._states.keep(live.snapshot)
        self._presence.forget(live.run.id)
        self._starter.forget(live.run.id)
        self._tasks.start(self._finished.tidy(live), name=f"tidy {live.file.ref}")
        self._starter.admit()

    def _orphaned(self, live: LiveRun) -> None:
        self._queue.add(live.file, None)
        self._starter.admit()

    def _refresh(self, run_id: str) -> None:
        """Bring the index up to date with the folder of a run that isn't followed."""
        if row := read_row(self.state.run(run_id)):
            self._put(row)

    def _put(self, row: RunRow) -> None:
        self.index.put(row)
        self._board.publish(row)

    def _ends_unwatched(self, run_id: str) -> bool:
        """Whether it is to be cancelled when the last who watched it is gone."""
        live, waiting = self._lives.get(run_id), self._queue.get(run_id)
        wish = live.file.plan.on_disconnect if live else waiting and waiting.on_disconnect
        return wish == "cancel"

    def _note_watched(self, run_id: str) -> None:
        """Keep for the next daemon that somebody has watched a run, where that matters."""
        if self._ends_unwatched(run_id):
            try:
                self.state.run(run_id).watched.touch(mode=0o600)
            except OSError as exc:  # the disk: only a restart now would make a difference
                log.warning("watcher_not_noted", run_id=run_id, reason=str(exc))

    def _all_gone(self, run_id: str) -> None:
        if self._ends_unwatched(run_id):
            command = wire.Command(
                command="cancel",
                reason="the last client that watched it is gone",
                cause_code="client_gone",
            )
            self._tasks.start(self.steer(run_id, command), name=f"cancel {run_id}")

    # ---- steering ----------------------------------------------------------------------------

    async def steer(self, run_id: str, command: wire.Command) -> wire.Reply:
        """Hand a command to a run and return the answer.

        Raises:
            UnknownError: there is no such run.
            UnavailableError: its runner doesn't answer.
        """
        return await self._steering.steer(run_id, command)

    def _leave_queue(self, run_id: str) -> None:
        if run_id in self._queue:
            self._queue.pop(run_id)
        self._starter.forget(run_id)
        self._presence.forget(run_id)
        self._refresh(run_id)
        self._starter.admit()

    async def delete(self, run_id: str) -> None:
        """Remove a finished run's folder, and its workspace unless a retry works in it.

        Raises:
            ConflictError: the run is live, or a retry has still to take its results over.
            UnknownError: there is no such run.
        """
        await self._finished.remove(run_id, self._row(run_id).ref)
        self._removed(run_id)

    def _removed(self, run_id: str) -> None:
        """Forget a run whose folder is gone, but for the key that started it."""
        self._states.forget(run_id)
        if row := self.index.get(run_id):
            try:
                self._intake.remember(row)
            except UnavailableError as exc:
                log.warning("key_not_kept", run_id=run_id, reason=str(exc))
        self.index.remove(run_id)

    # ---- reading -----------------------------------------------------------------------------

    def resolve(self, text: str, pipelines: Collection[str] | None = None) -> str:
        """Return the id that *text* means: as `Index.resolve`.

        Raises:
            UnknownError: it means no run, or several.
        """
        return self.index.resolve(text, pipelines)

    def pipeline_of(self, run_id: str) -> str:
        """Return the name of a run's pipeline, as the index has it.

        Raises:
            UnknownError: there is no such run.
        """
        return self._row(run_id).pipeline

    async def snapshot(self, run_id: str) -> Snapshot:
        """Return a run's state; a live one's goes on changing.

        Raises:
            UnknownError: there is no such run.
        """
        if live := self._lives.get(run_id):
            return live.snapshot
        row, run = self._row(run_id), self.state.run(run_id)
        check_folder(run, row.ref)
        if run_id in self._queue:  # two events
            return read_snapshot(run)
        snapshot = await self._states.read(run)
        torn = row.finished_at is not None and not snapshot.is_final
        if torn and run_id not in self._lives:  # the index had its end, the journal has lost it
            self._find(run_id)
        return snapshot

    @contextlib.asynccontextmanager
    async def watch(self, run_id: str) -> AsyncIterator[Feed]:
        """Give a run's feed; whoever holds it counts as watching, for ``on_disconnect``.

        A finished run's feed has ended; cursors read its file.

        Raises:
            UnknownError: there is no such run.
        """
        known = await self.snapshot(run_id)
        self._note_watched(run_id)
        with self._presence.watching(run_id):
            async with self._feeds.of(self.state.run(run_id), known) as feed:
                yield feed

    def list(
        self,
        *,
        pipeline: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[RunRow], str | None]:
        """Return runs, newest first, and the next page's cursor: as `Index.list`.

        Raises:
            InvalidInputError: a wish makes no sense.
        """
        rows, following = self.index.list(
            pipeline=pipeline, status=status, limit=limit, cursor=cursor
        )
        # The index has a live run as of its last change of status.
        live = {row.id: found for row in rows if (found := self._lives.get(row.id))}
        return [
            msgspec.structs.replace(row, last_seq=live[row.id].snapshot.last_seq)
            if row.id in live
            else row
            for row in rows
        ], following

    def list_changes(self) -> AsyncIterator[RunRow]:
        """Give every run whose status changes, as it is then; see `Board` for slow readers."""
        return self._board.subscribe()

    def counts(self) -> tuple[int, int]:
        """Return how many runs are live, and how many wait in the queue."""
        return len(self._lives.entries), len(self._queue)

    def timetable(self, pipeline: Pipeline) -> tuple[wire.ScheduleView, ...]:
        """Return a pipeline's schedules: as `Scheduler.timetable`."""
        return self._scheduler.timetable(pipeline)

    async def gauges(self) -> dict[str, float]:
        """Return figures for ``/metrics``, without runners that don't answer at once."""
        asked = await asyncio.gather(*(runner_gauges(live) for live in self._lives))
        buffers = {name: sum(each.get(name, 0) for each in asked) for name in RUNNER_GAUGES}
        counts = {f"runs_{status}": float(n) for status, n in self.index.counts().items()}
        return (
            counts
            | buffers
            | {
                "schedules": self._scheduler.followed,
                "schedule_refusals": self._scheduler.refusals,
                "queue_length": len(self._queue),
                "ring_bytes": self._feeds.ring_bytes,
                "live_runs": len(self._lives.entries),
                "list_subscribers": self._board.subscribers,
            }
        )

    def _row(self, run_id: str) -> RunRow:
        row = self.index.get(run_id)
        if row is None:
            raise UnknownError(f"there is no run {quoted(run_id)}; `tailrace runs` lists them")
        return row
