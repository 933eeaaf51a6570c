"""Who is paused and who waits, folded from the events."""

from __future__ import annotations

from tailrace.core import events
from tailrace.core.run import Snapshot, StepState

T = "2026-11-21T12:00:00.000Z"


class Told:
    """A snapshot that is told events."""

    def __init__(self, *steps: str) -> None:
        self.run = Snapshot(id="r", status="queued")
        self.run.steps = {name: StepState(id=name, label=name, needs=()) for name in steps}
        self.say(events.Started(worker="w", containment="weak"))

    def say(self, event: events.AnyEvent) -> None:
        """Tell the next event."""
        self.run.apply(self.run.last_seq + 1, T, event)

    def start(self, step: str) -> None:
        """A step starts."""
        self.say(events.StepStarted(step=step, label=step, attempt=1, host=None))

    def ask(self, step: str) -> None:
        """A step asks."""
        self.say(
            events.Prompt(
                id=f"{step}.p", step=step, question="?", choices=(), default=None, expires_at=None
            )
        )

    def control(self, action: str, step: str | None = None) -> None:
        """Somebody steers."""
        self.say(events.Control(action=action, by="ann", via="cli", step=step))

    @property
    def states(self) -> tuple[str, ...]:
        """The run's status, then those of its steps."""
        return (self.run.status, *(step.status for step in self.run.steps.values()))


def test_a_run_waits_when_all_that_runs_of_it_waits() -> None:
    """An answer ends that, and so does another step."""
    told = Told("a", "b")
    told.start("a")
    told.ask("a")
    assert told.states == ("waiting", "waiting", "pending")
    told.start("b")
    assert told.states == ("running", "waiting", "running")
    told.ask("b")
    told.say(events.Answered(id="a.p", answer="x", by="ann", via="cli"))
    assert told.states == ("running", "running", "waiting")


def test_a_pause_shows_before_waiting_and_a_resume_brings_it_back() -> None:
    """Steps that haven't begun stay pending; one that is asked meanwhile waits afterwards."""
    told = Told("a", "b", "c")
    told.start("a")
    told.start("b")
    told.ask("a")
    told.control("pause")
    assert told.states == ("paused", "paused", "paused", "pending")
    told.control("resume")
    assert told.states == ("running", "waiting", "running", "pending")


def test_a_cancel_ends_a_pause_and_a_step_s_cancel_does_not() -> None:
    """Only what is about the run."""
    told = Told("a")
    told.start("a")
    told.control("pause")
    told.control("cancel", "a")
    assert told.run.status == "paused"
    told.control("cancel")
    assert told.states == ("running", "running")


def test_prompts_end_with_their_attempt() -> None:
    """Nobody waits for an answer any more."""
    told = Told("a")
    told.start("a")
    told.ask("a")
    told.say(
        events.StepRetrying(
            step="a",
            attempt=1,
            returncode=1,
            signal=None,
            cause="",
            cause_code="exit",
            kill=None,
            delay_ms=1,
        )
    )
    assert told.run.prompts == {}
    assert told.states == ("running", "retrying")
