"""Settles a run whose runner died: told truthfully, then ended or made ready to go on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from enum import Enum
from typing import Final

import msgspec

from tailrace import wire
from tailrace.cgroup import SPARE, cgroups_of
from tailrace.core import events, lost
from tailrace.core.events import CauseCode, StepConclusion
from tailrace.core.lines import LineCounter, Slice
from tailrace.core.lost import Death
from tailrace.core.plan import RunFile
from tailrace.core.run import UNDERWAY, StepState
from tailrace.core.walk import Verdict, Walk, last_event
from tailrace.rundir.attempts import remove_attempts
from tailrace.rundir.journal import JournalWriter
from tailrace.rundir.layout import RunDir
from tailrace.rundir.lock import boot_id, read_holder
from tailrace.rundir.past import RunPast
from tailrace.rundir.snapshot import read_run_file

_SLICE: Final = 1 << 16  # bytes of a log that one event tells
_KILL_ROUNDS: Final = 100  # of a look at all processes; who still forks then isn't ours to stop


class Fate(Enum):
    """What became of a lost run."""

    OVER = "it has its last event already"
    ENDED = "its last event was written"
    CONTINUES = "a new runner may go on with it"


def settle_lost(run: RunDir, *, refusal: str | None = None) -> Fate:
    """Tell of a runner's death, once the caller holds the run's lock, and decide what follows.

    What is left of its processes is killed, and output that reached a log but
    not the journal is told. With ``on_lost: retry`` the lost attempts are
    ``step_retrying``, and the caller hands the run to a new runner
    (`Handover.continues`); else the run gets its end. A run whose steps had
    all finished ends as they did.

    *refusal* is why the caller can't start a runner; the run's cause says it.

    Raises:
        OSError: the folder can't be read or written.
        msgspec.MsgspecError: ``run.json`` is damaged.
    """
    return _settle(run, refusal, None)


def end_lost(run: RunDir, *, asked: events.Control | None = None) -> bool:
    """Write the end of a lost run, whatever its ``on_lost``; False where it has one.

    *asked* is who cancelled it, if that is why: it is told where the run would have gone on.

    Raises: as `settle_lost`.
    """
    return _settle(run, "", asked) is Fate.ENDED


def _settle(run: RunDir, refusal: str | None, asked: events.Control | None) -> Fate:
    run_file = read_run_file(run)
    journal = JournalWriter(run)
    try:
        past = RunPast(run)
        if past.snapshot.is_final:
            return Fate.OVER
        killed = kill_processes(run.id)
        settlement = _Settlement(run, run_file, journal, past, killed)
        if asked is not None and run_file.plan.on_lost == "retry":
            settlement.cancel(asked)
        fate = settlement.write(refusal)
        journal.sync()
    finally:
        journal.close()
    if fate is Fate.ENDED:
        remove_attempts(run)
    return fate


def _death(run: RunDir) -> Death:
    holder = read_holder(run.lock)
    restarted = holder is not None and holder.boot != boot_id()
    return lost.RESTARTED if restarted else lost.DIED


class _Settlement:
    """Writes the missing events."""

    def __init__(
        self, run: RunDir, run_file: RunFile, journal: JournalWriter, past: RunPast, killed: int
    ) -> None:
        self._run, self._file, self._plan = run, run_file, run_file.plan
        self._journal = journal
        self._past = past
        self._killed = killed
        self._death = _death(run)
        self._now = time.time()

    def cancel(self, control: events.Control) -> None:
        """Take in, and tell, that somebody cancels the run."""
        self._record(control)
        self._past.told.cancel = control

    def write(self, refusal: str | None) -> Fate:
        """Write everything; the last event too, unless the run goes on."""
        snapshot, told = self._past.snapshot, self._past.told
        walk = lost.replay(self._plan, snapshot, told)
        if told.cancel is not None:
            walk.stop(lost.stop_of(told.cancel, self._death))
        if walk.done:
            self._notice(f"{self._death.cause} after the last step")
            self._last(walk.verdict())
            return Fate.ENDED
        obstacle = None
        if told.cancel is None and self._plan.on_lost == "retry":
            obstacle = lost.obstacle(self._file, told, self._death)
            if obstacle is None and refusal:
                obstacle = f"{self._death.cause}, and it can't go on: {refusal}"
            if obstacle is None and refusal is None:
                self._notice(f"{self._death.cause}, and another runner goes on")
                self._repeat()
                return Fate.CONTINUES
        if self._killed:
            self._notice("")
        self._end(walk, obstacle)
        return Fate.ENDED

    def _notice(self, how: str) -> None:
        texts = [how] if how else []
        if self._killed:
            one = self._killed == 1
            processes = "process that it left was" if one else "processes that it left were"
            texts.append(f"{self._killed} {processes} killed")
        self._record(events.Notice(kind="lost", text="; ".join(texts)))

    # ---- going on ----------------------------------------------------------------------------

    def _repeat(self) -> None:
        """Tell what became of the attempts; those steps that somebody ended don't run again."""
        for step in self._past.snapshot.steps.values():
            control = self._past.told.asked.get(step.id)
            if step.is_final:
                continue
            if control is not None:
                self._finish_asked(step, control)
            elif step.status in UNDERWAY:
                self._tell_rest(step.id, step.attempt)
                self._record(
                    events.StepRetrying(
                        step=step.id, attempt=step.attempt, returncode=None, signal=None,
                        cause=self._death.cause, cause_code=self._death.cause_code, kill=None,
                        delay_ms=0,
                    )
                )  # fmt: skip

    def _finish_asked(self, step: StepState, control: events.Control) -> None:
        skipped = control.action == "skip"
        verb = "skipped" if skipped else "cancelled"
        self._finish(
            step,
            "skipped" if skipped or not step.attempt else "aborted",
            f"{verb} by {control.by or 'somebody'}",
            "cancelled",
        )

    # ---- the end -----------------------------------------------------------------------------

    def _end(self, walk: Walk, obstacle: str | None) -> None:
        death, stop = self._death, walk.stop_reason
        cancelled = stop is not None and stop.kind == "cancel"
        for step in self._past.snapshot.steps.values():
            if step.is_final:
                continue
            if cancelled and stop is not None:
                status: StepConclusion = "aborted" if step.attempt else "skipped"
                self._finish(step, status, stop.cause, stop.cause_code)
            else:
                status = "error" if step.attempt else "skipped"
                self._finish(step, status, death.cause, death.cause_code)
        if cancelled and stop is not None:
            verdict = Verdict(
                status="aborted", message="", cause=stop.cause, cause_code=stop.cause_code,
                by=stop.by,
            )  # fmt: skip
        else:
            verdict = Verdict(
                status="error", message=death.message, cause=obstacle or death.cause,
                cause_code=death.cause_code,
            )  # fmt: skip
        self._last(verdict)

    def _last(self, verdict: Verdict) -> None:
        snapshot = self._past.snapshot
        self._record(
            last_event(
                verdict,
                duration_ms=self._since(snapshot.started_at),
                file_url=self._file_url(),
                artifacts=tuple(artifact.name for artifact in snapshot.artifacts),
                cost=self._past.told.cost,
            )
        )

    def _finish(
        self, step: StepState, status: StepConclusion, cause: str, cause_code: CauseCode
    ) -> None:
        lines = size = 0
        if step.attempt:
            lines, size = self._tell_rest(step.id, step.attempt)
        self._record(
            events.StepFinished(
                step=step.id,
                label=step.label,
                status=status,
                allowed=status == "error" and self._is_allowed(step.id),
                cause=cause,
                cause_code=cause_code,
                attempt=step.attempt,
                duration_ms=self._since(step.started_at),
                lines=lines,
                bytes=size,
            )
        )

    # ---- output that no event told of --------------------------------------------------------

    def _tell_rest(self, step: str, attempt: int) -> tuple[int, int]:
        """Tell what an attempt's log holds beyond its last slice.

        Returns the lines and bytes of its output, those that ``limits.log`` left out included.
        """
        counter = LineCounter()
        try:
            fd = os.open(self._run.log(step, attempt), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return 0, 0
        with open(fd, "rb") as log:
            last = self._past.slices.get((step, attempt))
            if last is not None:
                data = os.pread(fd, last.bytes, last.offset)
                line = last.line + data.count(b"\n")
                counter = LineCounter(offset=last.offset + last.bytes, line=line, is_open=last.open)
            after_gap = self._past.limited.get(step, msgspec.UNSET)
            if after_gap is not msgspec.UNSET:
                counter.line = after_gap
            log.seek(counter.offset)
            while chunk := log.read(_SLICE):
                self._tell(step, attempt, counter.take(chunk))
            self._tell(step, attempt, counter.take(b"", final=True))
        if step in self._past.limited:
            text = "the end of its output, kept in memory (limits.log), is lost with its runner"
            self._record(events.Notice(kind="log_limit", text=text, step=step))
        return counter.lines, counter.offset + self._past.left_bytes.get(step, 0)

    def _tell(self, step: str, attempt: int, piece: Slice | None) -> None:
        if piece is not None:
            record = events.LogRecord(
                step=step,
                attempt=attempt,
                line=piece.line,
                open=piece.open or msgspec.UNSET,
                offset=piece.offset,
                bytes=len(piece.data),
            )
            self._record(record)

    def _is_allowed(self, step: str) -> bool:
        try:
            return self._plan.step(step).allow_failure
        except KeyError:
            return False

    def _file_url(self) -> str | None:
        primary = [item for item in self._past.snapshot.artifacts if item.primary is True]
        return primary[-1].url if primary else None

    def _since(self, moment: str | None) -> int:
        if moment is None:
            return 0
        return max(0, round((self._now - wire.parse_timestamp(moment)) * 1000))

    def _record(self, event: events.Event) -> None:
        # All of it was masked when it was first written, or is ours.
        self._journal.append(wire.timestamp(self._now), msgspec.to_builtins(event))


def kill_processes(run_id: str) -> int:
    """Kill every process of a run whose runner is gone; return how many there were.

    Those in its cgroup, whatever they did to hide, and those whose environment
    says that they are its own: the inits of its PID namespaces, with all in there.
    Where there was neither, a process that wiped its environment isn't found.
    """
    killed: set[int] = set()
    for group in cgroups_of(run_id):
        killed.update(pid for pid in group.members() if not _is_spare(pid))
        group.kill()
        group.remove()
    marker = f"TAILRACE_RUN_ID={run_id}".encode()
    for _ in range(_KILL_ROUNDS):
        found = [pid for pid in _pids() if pid not in killed and _kill_if_marked(pid, marker)]
        if not found:
            break
        killed.update(found)  # they may have forked since the look
    return len(killed)


def _is_spare(pid: int) -> bool:
    """Whether a process only waited for a step to become; it ends with its runner by itself."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", "rb") as file:
        return file.read().strip() == SPARE
    return True  # it has just ended


def _pids() -> list[int]:
    ours = os.getpid()
    with os.scandir("/proc") as entries:
        return [int(e.name) for e in entries if e.name.isdigit() and int(e.name) != ours]


def _kill_if_marked(pid: int, marker: bytes) -> bool:
    """Kill a process with that variable; its pidfd makes sure that it is the one looked at."""
    if not _is_marked(pid, marker):
        return False
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if _is_marked(pid, marker):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                return True
        finally:
            os.close(fd)
    return False


def _is_marked(pid: int, marker: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # empty for a zombie
            return marker in file.read().split(b"\0")
    except OSError:
        return False
