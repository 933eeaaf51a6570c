"""Takes submissions one at a time: known before, skipped, refused, or accepted at their place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec

from tailrace import wire
from tailrace.core.admission import place
from tailrace.errors import ConflictError, InvalidInputError, Problem, UnavailableError
from tailrace.settings import Settings
from tailrace.store.answers import KEPT_S, KeptAnswers
from tailrace.store.index import RunRow
from tailrace.store.steady import SteadyIndex
from tailrace.worker.accept import Acceptor
from tailrace.worker.live import entry_of
from tailrace.worker.lives import Lives
from tailrace.worker.prepared import Accepted, Prepared
from tailrace.worker.queue import Queue
from tailrace.worker.submission import Repeat, Started, Submission

_RETRY_S: Final = 30  # when a full queue is worth another try


class Intake:
    """Decides about runs before they are made.

    ``on_accepted`` is called with each run that was, and its position in the
    queue; its lock is the callee's then.
    """

    def __init__(
        self,
        acceptor: Acceptor,
        settings: Settings,
        index: SteadyIndex,
        lives: Lives,
        queue: Queue,
        answers: KeptAnswers,
        on_accepted: Callable[[Accepted, int], None],
    ) -> None:
        self._acceptor = acceptor
        self._settings = settings
        self._index = index
        self._lives = lives
        self._queue = queue
        self._on_accepted = on_accepted
        self._one_at_a_time = asyncio.Lock()  # a place holds until it is taken
        self._closed = False
        self.making: str | None = None  # id of the run whose folder is being made
        self._answers = answers  # of submissions that have no run

    def reload(self, acceptor: Acceptor, settings: Settings) -> None:
        """Decide by other settings from now on."""
        self._acceptor, self._settings = acceptor, settings

    async def close(self) -> None:
        """Refuse everything from now on; returns when nothing is half accepted."""
        self._closed = True
        async with self._one_at_a_time:
            pass

    async def submit(self, submission: Submission) -> Started:
        """Accept a run; see `Worker.submit`."""
        await self._acceptor.ready(submission)  # others needn't wait for a slow server
        async with self._one_at_a_time:
            if known := self._repeated(submission.key, submission.body_sha256):
                return known
            with self._acceptor.prepare(submission) as prepared:
                return await self._decide(prepared)

    async def repeat(
        self, ask: Callable[[], Repeat], key: str | None, body_sha256: str | None
    ) -> Started:
        """Accept the run that *ask*, called when its turn has come, wants to repeat another."""
        async with self._one_at_a_time:
            if known := self._repeated(key, body_sha256):
                return known
            with self._acceptor.prepare_repeat(ask()) as prepared:
                return await self._decide(prepared)

    def _repeated(self, key: str | None, body_sha256: str | None) -> Started | None:
        """Return what the key was answered before."""
        if key is None:
            return None
        since = wire.timestamp(time.time() - KEPT_S)
        if row := self._index.by_key(key, since=since):
            asked, started = row.body_sha256 or "", Started(run_id=row.id, repeated=True)
        elif found := self._answers.known(key):
            asked, started = found[0], msgspec.json.decode(found[1], type=Started)
        else:
            return None
        if asked != (body_sha256 or ""):
            problem = "came before with another body"
            raise InvalidInputError(
                [Problem("Idempotency-Key", problem, "use a new key for another request")]
            )
        if started.run_id is not None and not started.repeated:
            message = "the run that this key started was deleted; use a new key to start another"
            raise ConflictError(message, state="deleted")
        return started

    def remember(self, gone: RunRow) -> None:
        """Go on honouring the key of a run that isn't there any more.

        Raises:
            UnavailableError: the disk is full or failing.
        """
        if gone.key is None:
            return
        at_s = wire.parse_timestamp(gone.created_at)
        if at_s > time.time() - KEPT_S:
            self._keep(gone.key, gone.body_sha256, Started(run_id=gone.id), at_s)

    async def _decide(self, prepared: Prepared) -> Started:
        if self._closed:
            raise UnavailableError("the daemon is stopping", retry_after_s=_RETRY_S)
        run_file = prepared.run_file
        found = place(
            entry_of(run_file),
            self._lives.entries,
            self._queue.entries,
            max_runs=self._settings.max_runs,
        )
        if found.skip:
            return self._skip(run_file.key, run_file.body_sha256, found.reason)
        if found.position and len(self._queue) >= self._settings.max_queued:
            message = f"{len(self._queue)} runs wait already (max_queued); try again later"
            raise UnavailableError(message, retry_after_s=_RETRY_S)
        self.making = run_file.id
        try:
            accepted = await asyncio.to_thread(
                prepared.commit, position=found.position, reason=found.reason
            )
            self._on_accepted(accepted, found.position)
        finally:
            self.making = None
        return Started(run_id=run_file.id)

    def _skip(self, key: str | None, body_sha256: str | None, reason: str | None) -> Started:
        started = Started(run_id=None, reason=reason)
        if key is not None:
            self._keep(key, body_sha256, started, time.time())
        return started

    def _keep(self, key: str, body_sha256: str | None, started: Started, at_s: float) -> None:
        self._answers.keep(key, body_sha256 or "", msgspec.json.encode(started), at_s=at_s)
