"""Ends a run whose runner died, truthfully: what was running failed, the rest never ran."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final

import msgspec

from tailrace import wire
from tailrace.core import events
from tailrace.core.lines import LineCounter, Slice
from tailrace.core.plan import RunFile
from tailrace.core.run import Snapshot, StepState
from tailrace.rundir.journal import JournalReader, JournalWriter
from tailrace.rundir.layout import RunDir
from tailrace.rundir.snapshot import fold, read_run_file

CAUSE: Final = "its runner died"
_SLICE: Final = 1 << 16  # bytes of a log that one event tells
_KILL_ROUNDS: Final = 100  # of a look at all processes; who still forks then isn't ours to stop


def end_lost(run: RunDir) -> bool:
    """Write the end of a run that has none, once the caller holds its lock.

    What is left of its processes is killed, output that reached a log but not
    the journal is told, steps that ran are ``error``, those that didn't
    ``skipped``. Returns False, and writes nothing, where the run has its last
    event already.

    Raises:
        OSError: the folder can't be read or written.
        msgspec.MsgspecError: ``run.json`` is damaged.
    """
    run_file = read_run_file(run)
    journal = JournalWriter(run)
    try:
        past = _Past(run)
        if past.snapshot.is_final:
            return False
        killed = kill_processes(run.id)
        _Ending(run, run_file, journal, past).write(killed)
        journal.sync()
    finally:
        journal.close()
    return True


class _Past:
    """What the journal says: the state, each log's last slice, and what was spent."""

    def __init__(self, run: RunDir) -> None:
        self.snapshot = Snapshot(id=run.id)
        self.slices: dict[tuple[str, int], wire.Record] = {}
        self.limited: dict[str, int | msgspec.UnsetType] = {}  # step -> the line it goes on with
        self.cost = events.Cost()
        reader = JournalReader(run, texts=False)
        try:
            while frames := reader.read():
                fold(self.snapshot, frames)
                for frame in frames:
                    self._look_at(frame)
        finally:
            reader.close()

    def _look_at(self, frame: wire.Frame) -> None:
        if frame.event == "log":
            record = wire.decode_record(frame.data)
            self.slices[record.step or "", record.attempt] = record
            if record.step in self.limited:
                self.limited[record.step] = msgspec.UNSET
        elif frame.event == "notice":
            event = wire.decode_event(frame.data)
            assert isinstance(event, events.Notice)
            if event.kind == "log_limit" and event.step is not None:
                self.limited[event.step] = event.line
        elif frame.event in ("step_started", "step_finished"):
            self.limited.pop(frame.step or "", None)
        elif frame.event == "cost":
            event = wire.decode_event(frame.data)
            assert isinstance(event, events.CostEvent)
            self.cost = events.Cost(
                usd=event.total_usd,
                tokens_in=event.total_tokens_in,
                tokens_out=event.total_tokens_out,
            )


class _Ending:
    """Writes the missing events."""

    def __init__(self, run: RunDir, run_file: RunFile, journal: JournalWriter, past: _Past) -> None:
        self._run = run
        self._plan = run_file.plan
        self._journal = journal
        self._past = past
        self._now = time.time()

    def write(self, killed: int) -> None:
        """Write everything, the last event included."""
        if killed:
            processes = "process that it left was" if killed == 1 else "processes that it left were"
            self._record(events.Notice(kind="lost", text=f"{killed} {processes} killed"))
        snapshot = self._past.snapshot
        for step in snapshot.steps.values():
            if not step.is_final:
                self._finish(step)
        self._record(
            events.Summary(
                status="error",
                message="the runner died",
                cause=CAUSE,
                cause_code="lost",
                duration_ms=self._since(snapshot.started_at),
                file_url=self._file_url(),
                artifacts=tuple(artifact.name for artifact in snapshot.artifacts),
                cost=self._past.cost,
            )
        )

    def _finish(self, step: StepState) -> None:
        lines = size = 0
        if step.attempt:
            lines, size = self._tell_rest(step.id, step.attempt)
            if step.id in self._past.limited:
                text = "the end of its output, kept in memory (limits.log), is lost with its runner"
                self._record(events.Notice(kind="log_limit", text=text, step=step.id))
        self._record(
            events.StepFinished(
                step=step.id,
                label=step.label,
                status="error" if step.attempt else "skipped",
                allowed=bool(step.attempt) and self._is_allowed(step.id),
                cause=CAUSE,
                cause_code="lost",
                attempt=step.attempt,
                duration_ms=self._since(step.started_at),
                lines=lines,
                bytes=size,
            )
        )

    def _tell_rest(self, step: str, attempt: int) -> tuple[int, int]:
        """Tell what an attempt's log holds beyond its last slice; return its lines and bytes."""
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
        return counter.lines, counter.offset

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
        primaries = {(s.id, name) for s in self._plan.steps for name in (s.primary,) if name}
        for artifact in self._past.snapshot.artifacts:
            names = (artifact.name, artifact.name.removeprefix(f"{artifact.step}/"))
            if any((artifact.step, name) in primaries for name in names):
                return artifact.url
        return None

    def _since(self, moment: str | None) -> int:
        if moment is None:
            return 0
        return max(0, round((self._now - wire.parse_timestamp(moment)) * 1000))

    def _record(self, event: events.Event) -> None:
        # All of it was masked when it was first written, or is ours.
        self._journal.append(wire.timestamp(self._now), msgspec.to_builtins(event))


def kill_processes(run_id: str) -> int:
    """Kill every process whose environment says that it is that run's; return how many there were.

    A process that wiped its environment isn't found.
    """
    marker = f"TAILRACE_RUN_ID={run_id}".encode()
    killed: set[int] = set()
    for _ in range(_KILL_ROUNDS):
        found = [pid for pid in _pids() if pid not in killed and _kill_if_marked(pid, marker)]
        if not found:
            break
        killed.update(found)  # they may have forked since the look
    return len(killed)


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
