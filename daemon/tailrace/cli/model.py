"""A run as the terminal view knows it: the snapshot, and what each step said last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from tailrace import wire
from tailrace.cli.lines import FileTail, Tail
from tailrace.cli.narrative import Narrative
from tailrace.core import events
from tailrace.core.run import Snapshot
from tailrace.rundir.snapshot import fold


@dataclass(slots=True)
class Live:
    """What a step said last."""

    tail: Tail | FileTail
    progress: events.Progress | None = None
    status: str | None = None
    said: Narrative = field(default_factory=Narrative)
    delay_until: float | None = None  # when a retrying step begins again, seconds since 1970


@dataclass(slots=True)
class Model:
    """A run so far, from its frames; takes them in order, from the first.

    With ``read_log`` the frames of ``log`` have no text, and this gives it
    (step, attempt, from where, to where).
    """

    read_log: Callable[[str, int, int, int], bytes] | None = None
    snapshot: Snapshot = field(default_factory=Snapshot)
    live: dict[str, Live] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    message: str = ""  # the summary's
    faults: dict[str, str] = field(default_factory=dict)  # the last one of a step
    ended: dict[str, int] = field(default_factory=dict)  # step -> seq of its end
    spent: events.Cost = field(default_factory=events.Cost)

    def take(self, frames: Sequence[wire.Frame]) -> None:
        """Take the next frames in."""
        for frame in frames:
            if frame.event == "log":
                self.of(frame.step or "").tail.push(frame.data)
                self.snapshot.last_seq = frame.seq
            elif frame.event in _LIVE:
                self._take_live(frame)
            else:
                fold(self.snapshot, [frame])

    def of(self, step: str) -> Live:
        """Return what a step said last."""
        live = self.live.get(step)
        if live is None:
            live = self.live[step] = self._new()
        return live

    def _new(self) -> Live:
        return Live(Tail() if self.read_log is None else FileTail(self.read_log))

    def _take_live(self, frame: wire.Frame) -> None:
        fold(self.snapshot, [frame])
        try:
            event = wire.decode_event(frame.data)
        except msgspec.ValidationError:  # of a later version: nothing of it can be shown
            return
        match event:
            case events.Progress():
                self.of(event.step).progress = event
            case events.Status():
                self.of(event.step).status = event.text
            case events.ToolCall():
                began = wire.parse_timestamp(wire.decode_record(frame.data).t)
                self.of(event.step).said.take_call(event, began)
            case events.Text():
                self.of(event.step).said.take_text(event)
            case events.Citation():
                self.of(event.step).said.take_citation(event)
            case events.Result():
                self.of(event.step).said.result = event
            case events.CostEvent():
                self.spent = events.Cost(
                    usd=event.total_usd,
                    tokens_in=event.total_tokens_in,
                    tokens_out=event.total_tokens_out,
                )
            case events.Fault():
                self.faults[event.step] = event.message
            case events.Notice():
                self.notices.append(event.text)
            case events.Summary():
                self.message, self.spent = event.message, event.cost
            case events.Aborted():
                self.spent = event.cost
            case events.StepFinished():
                self.ended[event.step] = frame.seq
            case events.StepStarted():
                self.live[event.step] = self._new()
            case events.StepRetrying():
                live = self.of(event.step)
                live.status = event.cause
                live.delay_until = (
                    wire.parse_timestamp(wire.decode_record(frame.data).t) + event.delay_ms / 1_000
                )
            case _:
                pass


_LIVE = frozenset(
    {"progress", "status", "fault", "notice", "summary", "aborted", "step_started",
     "step_retrying", "step_finished", "tool_call", "text", "citation", "result", "cost"}
)  # fmt: skip
