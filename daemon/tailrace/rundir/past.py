"""All that a run's journal says, for who goes on with it or writes its end."""

from __future__ import annotations

import contextlib

import msgspec

from tailrace import wire
from tailrace.core import events, lost
from tailrace.core.run import Snapshot
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.rundir.snapshot import fold


class RunPast:
    """The run's state, what was asked and spent, and each log's last slice."""

    def __init__(self, run: RunDir) -> None:
        """Read the journal as it is now."""
        self.snapshot = Snapshot(id=run.id)
        self.told = lost.Past()
        self._paused_s = 0.0  # together, of pauses that were ended
        self._paused_at: float | None = None
        self.slices: dict[tuple[str, int], wire.Record] = {}
        self.limited: dict[str, int | msgspec.UnsetType] = {}  # step -> the line it goes on with
        self.left_bytes: dict[str, int] = {}  # step -> what its log doesn't have of its output
        reader = JournalReader(run, texts=False)
        try:
            while frames := reader.read():
                fold(self.snapshot, frames)
                for frame in frames:
                    self._look_at(frame)
        finally:
            reader.close()

    def paused_s(self, now: float) -> float:
        """Return for how long the run was paused until *now*, in seconds."""
        return self._paused_s + (now - self._paused_at if self._paused_at is not None else 0.0)

    def _look_at(self, frame: wire.Frame) -> None:
        match frame.event:
            case "log":
                record = wire.decode_record(frame.data)
                self.slices[record.step or "", record.attempt] = record
                if record.step in self.limited:
                    self.limited[record.step] = msgspec.UNSET
            case "control" | "cost" | "notice" | "step_started" | "step_finished":
                with contextlib.suppress(msgspec.ValidationError):  # of a later version
                    event = wire.decode_event(frame.data)
                    self._take(event)
                    if isinstance(event, events.Control) and event.step is None:
                        self._clock(event, wire.decode_record(frame.data).t)

    def _take(self, event: events.AnyEvent) -> None:
        self.told.apply(event)
        match event:
            case events.Notice(kind="log_limit", step=str(step)):
                self.limited[step] = event.line
                if event.left_bytes is not msgspec.UNSET:
                    self.left_bytes[step] = event.left_bytes
            case events.StepStarted() | events.StepFinished():
                self.limited.pop(event.step, None)
                self.left_bytes.pop(event.step, None)
            case _:
                pass

    def _clock(self, control: events.Control, t: str) -> None:
        moment = wire.parse_timestamp(t)
        if control.action == "pause":
            self._paused_at = moment
        elif control.action == "resume" and self._paused_at is not None:
            self._paused_s += max(0.0, moment - self._paused_at)
            self._paused_at = None
