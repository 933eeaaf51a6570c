"""What becomes of a run whose runner died: rules over what its journal says, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tailrace.core.events import (
    AnyEvent,
    CauseCode,
    Control,
    Cost,
    CostEvent,
    Notice,
    StepFinished,
)
from tailrace.core.plan import Plan, RunFile
from tailrace.core.run import Snapshot
from tailrace.core.walk import Stop, Walk

MOST_DEATHS: Final = 3  # runners in a row, no step finished in between; then the run ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How a runner ended before its run did."""

    cause: str  # a sentence for a person
    cause_code: CauseCode
    message: str


DIED: Final = Death(cause="its runner died", cause_code="lost", message="the runner died")
RESTARTED: Final = Death(
    cause="the machine was restarted", cause_code="reboot", message="the machine was restarted"
)


@dataclass(slots=True, kw_only=True)
class Past:
    """What a run's journal says besides its state, as far as a new runner must know."""

    cancel: Control | None = None  # somebody cancelled the run
    asked: dict[str, Control] = field(default_factory=dict)  # step -> its skip or cancel
    cost: Cost = field(default_factory=Cost)
    deaths: int = 0  # of runners, since a step last finished
    masked: bool = False  # a step told a value to mask, which is on no disk

    def apply(self, event: AnyEvent) -> None:
        """Take in the next event."""
        match event:
            case Control(action="cancel", step=None):
                self.cancel = event
            case Control(action="skip" | "cancel", step=str(step)):
                self.asked[step] = event
            case CostEvent():
                self.cost = Cost(
                    usd=event.total_usd,
                    tokens_in=event.total_tokens_in,
                    tokens_out=event.total_tokens_out,
                )
            case Notice(kind="mask"):
                self.masked = True
            case Notice(kind="lost"):
                self.deaths += 1
            case StepFinished():
                self.deaths = 0
            case _:
                pass


def obstacle(run_file: RunFile, past: Past, death: Death) -> str | None:
    """Return why a run with ``on_lost: retry`` can't go on all the same, as its cause."""
    if run_file.params_masked:
        return "its parameters held a secret"
    if past.masked:
        return f"{death.cause}, and with it what a step had asked to mask"
    if past.deaths + 1 >= MOST_DEATHS:
        return f"{death.cause}, {past.deaths + 1} times in a row"
    return None


def stop_of(cancel: Control, death: Death) -> Stop:
    """Return why a run ends that was being cancelled when its runner died."""
    newer = cancel.via == "queue"
    who = f"newer run {cancel.by}" if newer else f"cancelled by {cancel.by or 'somebody'}"
    return Stop(
        kind="cancel",
        cause=f"{who}, and {death.cause}",
        cause_code="superseded" if newer else "cancelled",
        by=cancel.by or "",
    )


def replay(plan: Plan, snapshot: Snapshot, past: Past) -> Walk:
    """Return the walk as far as it came: the finished steps have finished, the others wait."""
    walk = Walk(plan)
    for step in plan.steps:
        state = snapshot.steps.get(step.id)
        if state is None or state.finished is None:
            continue
        end = state.finished
        control = past.asked.get(step.id)
        walk.finished(
            step.id,
            end.status,
            allowed=end.allowed,
            by_person=end.status == "skipped" and control is not None and control.action == "skip",
            cause=end.cause,
            cause_code=end.cause_code,
        )
    return walk
