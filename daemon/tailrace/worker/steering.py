"""Hands commands to runs: to their runners, or done here while they wait in the queue."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakValueDictionary

import msgspec
import structlog

from tailrace import wire
from tailrace.core.admission import WAITS_ELSEWHERE
from tailrace.core.events import Control
from tailrace.core.mask_rules import MaskRules
from tailrace.errors import UnavailableError
from tailrace.rundir.control import send_command
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.lock import try_lock
from tailrace.store.answers import KeptAnswers
from tailrace.store.index import RunRow
from tailrace.worker.live import LiveRun
from tailrace.worker.lives import Lives
from tailrace.worker.queue import Queue
from tailrace.worker.states import check_folder
from tailrace.worker.unstarted import Reason, end_unstarted

log = structlog.get_logger()

_ANSWER_S: Final = 5.0  # a runner that starts listens within this
_PAUSE_S: Final = 0.02
_GAUGES_S: Final = 0.5  # a scrape doesn't wait for a stuck runner

RUNNER_GAUGES: Final = ("pipe_bytes", "held_bytes")


class Steering:
    """Takes the commands of all runs, and keeps what was answered to those with an id.

    ``row`` finds a run or raises `UnknownError`, ``usual_handover`` tells what
    to mask for runs without a handover of their own, and ``on_cancelled`` is
    called with the id of a run that was cancelled in the queue.
    """

    def __init__(
        self,
        state: StateDir,
        queue: Queue,
        lives: Lives,
        answers: KeptAnswers,
        *,
        row: Callable[[str], RunRow],
        usual_handover: Callable[[], wire.Handover],
        on_cancelled: Callable[[str], None],
    ) -> None:
        self._state = state
        self._queue = queue
        self._lives = lives
        self._row = row
        self._usual_handover = usual_handover
        self._on_cancelled = on_cancelled
        self._answers = answers
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def steer(self, run_id: str, command: wire.Command) -> wire.Reply:
        """Hand a command to a run and return the answer: as `Worker.steer`."""
        if run_id not in self._queue:
            return await self._steer(run_id, command)
        # Two who cancel it at once: the second finds what the first has done.
        turn = self._turns.setdefault(run_id, asyncio.Lock())
        async with turn:
            return await self._steer(run_id, command)

    async def _steer(self, run_id: str, command: wire.Command) -> wire.Reply:
        if known := self._known(run_id, command):
            return known
        row = self._row(run_id)
        reply: wire.Reply | None = None
        if run_id in self._queue:
            if command.command != "cancel":
                return wire.Reply(
                    status="conflict", state="queued", reason=f"{row.ref} hasn't started"
                )
            reply = await self._cancel_queued(run_id, command)
        if reply is None:
            live = self._lives.get(run_id)
            if live is None:
                check_folder(self._state.run(run_id), row.ref)
            reply = await ask_runner(live, command) if live else has_ended(row.ref, row.status)
        if command.id is not None and reply.status in ("done", "unchanged"):
            asked = wire.asked_digest(command).hex()
            with _unless_unusable(run_id):
                self._answers.keep(_key(run_id, command.id), asked, wire.encode_json(reply))
        return reply

    async def _cancel_queued(self, run_id: str, command: wire.Command) -> wire.Reply | None:
        masked, lock_fd = self._masked(run_id, command), self._queue.take_lock(run_id)
        reply = await cancel_queued(self._state.run(run_id), masked, lock_fd)
        if reply is not None:
            self._on_cancelled(run_id)
        return reply

    def _known(self, run_id: str, command: wire.Command) -> wire.Reply | None:
        """Return the answer that this command got before; an id given to another is refused."""
        found = None
        if command.id is not None:
            with _unless_unusable(run_id):
                found = self._answers.known(_key(run_id, command.id))
        if found is None:
            return None
        asked, answer = found
        if asked != wire.asked_digest(command).hex():
            return wire.OTHER_COMMAND
        return msgspec.json.decode(answer, type=wire.Reply)

    def _masked(self, run_id: str, command: wire.Command) -> wire.Command:
        """Return the command as it may be written; a runner masks what it is sent itself."""
        waiting = self._queue.get(run_id)
        handover = (waiting and waiting.handover) or self._usual_handover()
        rules = MaskRules(handover.secrets, handover.shapes)
        return msgspec.structs.replace(
            command,
            reason=command.reason and rules.mask_text(command.reason),
            by=rules.mask_text(command.by),
        )


@contextlib.contextmanager
def _unless_unusable(run_id: str) -> Iterator[None]:
    """Steer on where ``state.db`` can't be used: while a run lives, its runner remembers too."""
    try:
        yield
    except UnavailableError as exc:
        log.warning("answers_unusable", run_id=run_id, reason=str(exc))


def _key(run_id: str, command_id: str) -> str:
    return f"{run_id} {command_id}"


async def ask_runner(live: LiveRun, command: wire.Command) -> wire.Reply:
    """Send a command to the run's runner, which may only be about to listen.

    Raises:
        UnavailableError: it doesn't answer.
    """
    deadline = asyncio.get_running_loop().time() + _ANSWER_S
    while not live.snapshot.is_final:
        try:
            return await send_command(live.run, command)
        except (ConnectionError, TimeoutError) as exc:
            if asyncio.get_running_loop().time() > deadline:
                if live.snapshot.status == "queued":
                    reason = f"{live.file.ref} {WAITS_ELSEWHERE}"
                    return wire.Reply(status="conflict", state="queued", reason=reason)
                why = str(exc) or "it took too long"
                message = f"the runner of {live.file.ref} doesn't answer: {why}"
                raise UnavailableError(message, retry_after_s=5) from None
        await asyncio.sleep(_PAUSE_S)
    return has_ended(live.file.ref, live.snapshot.status)


async def runner_gauges(live: LiveRun) -> dict[str, float]:
    """Return what a runner's buffers hold; nothing where it doesn't answer at once."""
    try:
        command = wire.Command(command="gauges")
        reply = await send_command(live.run, command, timeout_s=_GAUGES_S)
    except (ConnectionError, TimeoutError):  # it is about to listen, or has just ended
        return {}
    return reply.gauges or {}


def has_ended(ref: str, status: str) -> wire.Reply:
    """Return the answer of a finished run."""
    return wire.Reply(status="conflict", state=status, reason=f"{ref} has ended: {status}")


async def cancel_queued(
    run: RunDir, command: wire.Command, lock_fd: int | None = None
) -> wire.Reply | None:
    """Cancel a run that waits; None where it is in somebody else's hands now.

    *lock_fd* is its lock where the caller holds it; it is closed here.

    Raises:
        OSError: its folder can't be written.
    """
    if lock_fd is None:
        lock_fd = try_lock(run.lock)
    if lock_fd is None:
        return None
    reason = Reason(
        status="aborted",
        cause=wire.cause_of(command),
        cause_code=command.cause_code,
        by=command.by,
        control=Control(action="cancel", by=command.by or None, via=command.via or None),
    )
    try:
        seq = await asyncio.to_thread(end_unstarted, run, reason)
    finally:
        os.close(lock_fd)
    return None if seq is None else wire.Reply(status="done", seq=seq)
