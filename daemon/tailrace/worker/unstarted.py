"""Ends a run that no runner has started: cancelled or replaced in the queue, or impossible."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from tailrace import wire
from tailrace.core import events, lost
from tailrace.core.events import CauseCode
from tailrace.core.walk import Verdict, last_event
from tailrace.rundir.journal import JournalWriter
from tailrace.rundir.layout import RunDir
from tailrace.rundir.snapshot import read_snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why it ends."""

    status: Literal["aborted", "error"]
    cause: str
    cause_code: CauseCode
    by: str = ""
    control: events.Control | None = None  # who asked, where somebody did


DIED: Final = Reason(
    status="error", cause=f"{lost.DIED.cause} before it started", cause_code="lost"
)


def end_unstarted(run: RunDir, reason: Reason) -> int | None:
    """Write the run's end, once the caller holds its lock; return the ``control`` event's number.

    Every step is ``skipped`` with the run's cause. Writes nothing where the run
    has started or ended meanwhile.

    Raises:
        OSError: the folder can't be read or written.
    """
    journal = JournalWriter(run)
    try:
        snapshot = read_snapshot(run)
        if snapshot.status != "queued":
            return None
        moment = wire.timestamp(time.time())
        asked = None
        if reason.control is not None:
            asked = journal.append(moment, msgspec.to_builtins(reason.control))
        for step in snapshot.steps.values():
            if not step.is_final:
                finished = events.StepFinished(
                    step=step.id,
                    label=step.label,
                    status="skipped",
                    cause=reason.cause,
                    cause_code=reason.cause_code,
                )
                journal.append(moment, msgspec.to_builtins(finished))
        verdict = Verdict(
            status=reason.status, message="the run couldn't start", cause=reason.cause,
            cause_code=reason.cause_code, by=reason.by,
        )  # fmt: skip
        journal.append(moment, msgspec.to_builtins(last_event(verdict)))
        journal.sync()
        return asked
    finally:
        journal.close()
