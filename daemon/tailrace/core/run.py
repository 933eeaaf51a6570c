"""The state of a run, folded from its events: what lists, pages, terminals and retries show.

A `Snapshot` is what the journal says so far. Apply the events in order and it
is the same for everybody, whenever they came. ``log`` events cost nothing: only
their line and byte counts matter, and `StepFinished` brings those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from tailrace.core import events
from tailrace.core.events import (
    FINAL_RUN_STATUSES,
    FINAL_STEP_STATUSES,
    AnyEvent,
    Artifact,
    CauseCode,
    Prompt,
    RunStatus,
    StepStatus,
)

# Events that change nothing here; readers may pass them over without decoding them.
UNFOLDED: Final = frozenset({"log", "progress", "status", "tool_call", "text", "citation", "fault"})


# Statuses of a step while an attempt of it is being executed.
UNDERWAY: Final = frozenset({"running", "paused", "waiting"})


@dataclass(slots=True, kw_only=True)
class StepState:
    """A step so far."""

    id: str
    label: str
    needs: tuple[str, ...]
    status: StepStatus = "pending"
    attempt: int = 0
    started_at: str | None = None  # of the first attempt
    failed_at: str | None = None  # while it waits for the next attempt
    delay_ms: int = 0  # from then to that
    finished: events.StepFinished | None = None
    masked: bool = False  # it told a value to mask, which is on no disk

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL_STEP_STATUSES


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """A run so far."""

    id: str = ""
    ref: str = ""
    pipeline: str = ""
    depth: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    by: str = ""
    via: str = ""
    retry_of: str | None = None
    status: RunStatus = "queued"
    position: int = 0
    reason: str | None = None  # why it waits in the queue
    cause: str | None = None
    cause_code: CauseCode | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_ms: int | None = None
    containment: str | None = None
    file_url: str | None = None
    last_seq: int = 0
    steps: dict[str, StepState] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    prompts: dict[str, Prompt] = field(default_factory=dict)  # open ones
    paused: bool = False

    @property
    def is_final(self) -> bool:
        """Whether the run has its last event."""
        return self.status in FINAL_RUN_STATUSES

    def apply(self, seq: int, t: str, event: AnyEvent) -> None:
        """Take in the next event; ``t`` is its time as the journal has it."""
        self.last_seq = seq
        match event:
            case events.PlanEvent():
                self._planned(t, event)
            case events.Queued():
                self.position, self.reason = event.position, event.reason
            case events.Started():
                self.status = "running"
                self.started_at = self.started_at or t
                self.containment = event.containment
            case events.Prompt():
                self.prompts[event.id] = event
                self._settle()
            case events.Answered():
                self.prompts.pop(event.id, None)
                self._settle()
            case events.Artifact():
                self.artifacts.append(event)
            case events.Control():
                if event.step is None and event.action in ("pause", "resume", "cancel"):
                    self.paused = event.action == "pause"  # a cancel lets the steps end
                    self._settle()
            case events.StepStarted() | events.StepRetrying() | events.StepFinished():
                self._step_changed(t, event)
            case events.Notice(kind="mask", step=str(step)) if step in self.steps:
                self.steps[step].masked = True
            case events.Summary():
                self.cause, self.cause_code = event.cause, event.cause_code
                self._ended(t, event.status, event)
            case events.Aborted():
                self.cause, self.cause_code = event.reason, event.cause_code
                self._ended(t, "aborted", event)
            case _:
                pass

    def _planned(self, t: str, event: events.PlanEvent) -> None:
        self.id, self.ref, self.pipeline = event.run, event.ref, event.pipeline
        self.depth, self.params, self.retry_of = event.depth, event.params, event.retry_of
        self.by, self.via, self.created_at = event.by, event.via, t
        self.steps = {
            node.id: StepState(id=node.id, label=node.label, needs=node.needs)
            for node in event.graph
        }

    def _step_changed(
        self, t: str, event: events.StepStarted | events.StepRetrying | events.StepFinished
    ) -> None:
        state = self.steps.get(event.step)
        if state is None:  # the line of the plan is damaged
            state = StepState(id=event.step, label=event.step, needs=())
            self.steps[event.step] = state
        state.attempt = event.attempt
        match event:
            case events.StepStarted():
                state.status, state.label = "running", event.label
                state.started_at, state.failed_at = state.started_at or t, None
            case events.StepRetrying():
                state.status, state.failed_at, state.delay_ms = "retrying", t, event.delay_ms
                # Only a runner's death lets an attempt leave some that isn't the last.
                self.artifacts = [a for a in self.artifacts if a.step != event.step]
            case events.StepFinished():
                state.status, state.label, state.finished = event.status, event.label, event
        if not isinstance(event, events.StepStarted):  # nobody waits for these answers any more
            for prompt in [p.id for p in self.prompts.values() if p.step == event.step]:
                del self.prompts[prompt]
        self._settle()

    def _settle(self) -> None:
        """Work out who is paused and who waits, for steps and for the run.

        A step waits while one of its prompts is open, a run when all of its
        running steps do; being paused shows before waiting.
        """
        asking = {prompt.step for prompt in self.prompts.values()}
        live = [s for s in self.steps.values() if s.status in ("running", "paused", "waiting")]
        for state in live:
            busy: StepStatus = "waiting" if state.id in asking else "running"
            state.status = "paused" if self.paused else busy
        if self.status in ("queued", *FINAL_RUN_STATUSES):
            return
        retrying = any(state.status == "retrying" for state in self.steps.values())
        waits = bool(live) and not retrying and all(state.id in asking for state in live)
        self.status = "paused" if self.paused else "waiting" if waits else "running"

    def _ended(self, t: str, status: RunStatus, event: events.Summary | events.Aborted) -> None:
        self.status, self.finished_at = status, t
        self.duration_ms, self.file_url = event.duration_ms, event.file_url
        self.prompts.clear()
