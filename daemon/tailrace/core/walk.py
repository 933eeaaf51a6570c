"""The walk over a plan's graph: which step starts, which is skipped, how the run ends.

Pure rules. The engine reports what happened (`Walk.finished`, `Walk.stop`) and
asks `Walk.decide` what to do next; conditions are evaluated by a function that
it hands in, because they need outputs and an expression engine.

A walk has three phases. *walking*: steps start as their needs allow.
*stopping*: after a cancel, the run's timeout, the end of its budget or
``fail_fast`` no step starts but those whose ``when`` names a status function
that still holds; their time is bounded by ``limits.cleanup``. *ending*: after
a second cancel, or when that time is over, nothing starts any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from tailrace.core.events import Aborted, CauseCode, Cost, StepConclusion, Summary
from tailrace.core.graph import transitive_needs
from tailrace.core.plan import AskAction, Plan, StepPlan


class Phase(Enum):
    """How far the walk is."""

    WALKING = "walking"
    STOPPING = "stopping"
    ENDING = "ending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a run stops before its graph is done."""

    kind: Literal["cancel", "timeout", "budget", "fail_fast", "failure"]
    cause: str  # a sentence for a person
    cause_code: CauseCode
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusFunctions:
    """What ``success() failure() cancelled()`` answer for one step now."""

    success: bool
    failure: bool
    cancelled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start this step's first attempt."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """This step ends without ever starting."""

    step: str
    status: StepConclusion
    cause: str
    cause_code: CauseCode


Decision = Start | Finish


class ConditionFailedError(Exception):
    """A ``when`` can't be evaluated; the text says why."""


Evaluate = Callable[[StepPlan, StatusFunctions], bool]


@dataclass(slots=True, kw_only=True)
class _State:
    status: str = "pending"  # pending, running, or a conclusion
    allowed: bool = False
    by_person: bool = False  # a person skipped it
    cause_code: CauseCode | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the run ended."""

    status: Literal["success", "error", "aborted"]
    message: str
    cause: str | None
    cause_code: CauseCode | None
    by: str = ""


def last_event(
    verdict: Verdict,
    *,
    duration_ms: int = 0,
    file_url: str | None = None,
    artifacts: tuple[str, ...] = (),
    cost: Cost | None = None,
) -> Summary | Aborted:
    """Return the last event of a run that ended so; the defaults are of one that never started."""
    if verdict.status == "aborted":
        return Aborted(
            reason=verdict.cause or "", cause_code=verdict.cause_code or "cancelled",
            by=verdict.by or None, duration_ms=duration_ms, file_url=file_url,
            artifacts=artifacts, cost=cost or Cost(),
        )  # fmt: skip
    return Summary(
        status=verdict.status, message=verdict.message, cause=verdict.cause,
        cause_code=verdict.cause_code, duration_ms=duration_ms, file_url=file_url,
        artifacts=artifacts, cost=cost or Cost(),
    )  # fmt: skip


def _holds_with_its_needs(step: StepPlan, evaluate: Evaluate) -> bool:
    """Tell whether it is only for its needs that a step doesn't start, not for its own `when`."""
    try:
        return evaluate(step, StatusFunctions(success=True, failure=False, cancelled=False))
    except ConditionFailedError:
        return True  # it reads what only a need's success would have left


class Walk:
    """The state of one run's graph."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._states: dict[str, _State] = {step.id: _State() for step in plan.steps}
        graph = {step.id: step.needs for step in plan.steps}
        self._ancestors = {name: transitive_needs(graph, name) for name in graph}
        # A condition is asked when its needs have ended, not again whenever another step ends.
        self._waits_for_room: dict[str, StatusFunctions] = {}
        # What waits for people needs no core: it takes no place of `parallel`.
        self._questions = {step.id for step in plan.steps if isinstance(step.action, AskAction)}
        self._early: set[str] = set()  # ended, by a person, before their needs had
        self.phase = Phase.WALKING
        self.stop_reason: Stop | None = None

    # ---- what happened -----------------------------------------------------------------------

    def finished(
        self,
        step: str,
        status: StepConclusion,
        *,
        allowed: bool = False,
        by_person: bool = False,
        cause: str | None = None,
        cause_code: CauseCode | None = None,
    ) -> None:
        """Take in a step's end; with ``fail_fast`` a failure stops the run."""
        state = self._states[step]
        if state.status == "pending" and not self._is_decided(self._plan.step(step)):
            self._early.add(step)
        state.status, state.allowed, state.by_person = status, allowed, by_person
        state.cause, state.cause_code = cause, cause_code
        if status == "error" and not allowed and self._plan.fail_fast:
            self.stop(
                Stop(
                    kind="fail_fast", cause=f"step '{step}' failed (fail_fast)", cause_code="needs"
                )
            )

    def stop(self, reason: Stop) -> None:
        """Stop walking for *reason*; a further stop ends the clean-up steps too.

        The first reason is the run's, but a cancel outranks ``fail_fast``.
        """
        if self.phase is Phase.WALKING:
            self.phase, self.stop_reason = Phase.STOPPING, reason
        elif self.stop_reason is not None and self.stop_reason.kind == "fail_fast":
            self.stop_reason = reason
        elif reason.kind != "fail_fast":
            self.phase = Phase.ENDING

    def fail(self, reason: Stop) -> None:
        """End the walk at once for *reason*, which outranks any other: the run can't go on."""
        self.phase, self.stop_reason = Phase.ENDING, reason

    def end(self) -> None:
        """Let nothing start any more: the time for cleaning up is over."""
        self.phase = Phase.ENDING

    # ---- what to do --------------------------------------------------------------------------

    @property
    def running(self) -> tuple[str, ...]:
        """Steps that have started and not finished."""
        return tuple(name for name, state in self._states.items() if state.status == "running")

    @property
    def done(self) -> bool:
        """Whether every step has finished."""
        return all(map(self._has_ended, self._states))

    def knows(self, step: str) -> bool:
        """Whether the plan has that step."""
        return step in self._states

    def status_of(self, step: str) -> str:
        """Return ``pending``, ``running`` or how the step ended."""
        return self._states[step].status

    def decide(self, evaluate: Evaluate) -> list[Decision]:
        """Return what to do now, in the file's order; apply each before asking again.

        ``Start`` marks the step as running; ``Finish`` must be reported back by
        `finished`. [] means: wait for a running step, or all is done.
        """
        decisions: list[Decision] = []
        room = self._plan.parallel - len(set(self.running) - self._questions)
        for step in self._plan.steps:
            if self._states[step.id].status != "pending":
                continue
            if not self._is_decided(step):
                continue
            decision = self._decide_step(step, evaluate)
            if isinstance(decision, Start):
                if step.id not in self._questions:
                    if room <= 0:
                        continue
                    room -= 1
                self._states[step.id].status = "running"
            decisions.append(decision)
        return decisions

    def _is_decided(self, step: StepPlan) -> bool:
        """Whether all that the step waits for has ended, also behind what ended early."""
        return self.phase is Phase.ENDING or all(
            self._has_ended(need)
            and (need not in self._early or all(map(self._has_ended, self._ancestors[need])))
            for need in step.needs
        )

    def _has_ended(self, step: str) -> bool:
        return self._states[step].status not in ("pending", "running")

    def _decide_step(self, step: StepPlan, evaluate: Evaluate) -> Decision:
        if self.phase is Phase.ENDING:
            return self._skipped_by_stop(step)
        functions = self._functions(step)
        if self._waits_for_room.get(step.id) == functions:
            return Start(step=step.id)
        try:
            holds = evaluate(step, functions)
        except ConditionFailedError as exc:
            return Finish(
                step=step.id, status="error", cause=f"its `when` {exc}", cause_code="when"
            )
        if holds:
            self._waits_for_room[step.id] = functions
            return Start(step=step.id)
        return self._skipped(step, functions, evaluate)

    def _functions(self, step: StepPlan) -> StatusFunctions:
        stopped = self.phase is not Phase.WALKING
        return StatusFunctions(
            success=not stopped and all(self._counts_as_success(need) for need in step.needs),
            failure=any(self._counts_as_failure(name) for name in self._ancestors[step.id]),
            cancelled=self.stop_reason is not None and self.stop_reason.kind == "cancel",
        )

    def _counts_as_success(self, step: str) -> bool:
        state = self._states[step]
        return (
            state.status == "success"
            or (state.status == "error" and state.allowed)
            or (state.status == "skipped" and state.by_person)
        )

    def _counts_as_failure(self, step: str) -> bool:
        state = self._states[step]
        # What the run's timeout or budget took down has failed; what a person cancelled has not.
        taken_down = state.status == "aborted" and state.cause_code in ("timeout", "budget")
        return not state.allowed and (state.status == "error" or taken_down)

    def _skipped(self, step: StepPlan, functions: StatusFunctions, evaluate: Evaluate) -> Finish:
        for need in step.needs:
            if not self._counts_as_success(need) and _holds_with_its_needs(step, evaluate):
                how = {"error": "failed", "skipped": "was skipped", "aborted": "was aborted"}
                return Finish(
                    step=step.id,
                    status="skipped",
                    cause=f"needs '{need}', which {how.get(self._states[need].status, 'ended')}",
                    cause_code="needs",
                )
        if self.phase is not Phase.WALKING and not functions.success:
            return self._skipped_by_stop(step)
        return Finish(
            step=step.id, status="skipped", cause=f"its `when` is false: {step.when}",
            cause_code="when",
        )  # fmt: skip

    def _skipped_by_stop(self, step: StepPlan) -> Finish:
        reason = self.stop_reason
        return Finish(
            step=step.id,
            status="skipped",
            cause=reason.cause if reason else "the run has ended",
            cause_code=reason.cause_code if reason else "cancelled",
        )

    # ---- the end -----------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        """Return how the run ended; ask when all is done."""
        reason = self.stop_reason
        counts = self._counts()
        if reason is not None and reason.kind == "cancel":
            return Verdict(
                status="aborted", message=counts, cause=reason.cause,
                cause_code=reason.cause_code, by=reason.by,
            )  # fmt: skip
        if reason is not None and reason.kind in ("timeout", "budget", "failure"):
            return Verdict(
                status="error", message=counts, cause=reason.cause, cause_code=reason.cause_code
            )
        for name, state in self._states.items():
            if state.status == "error" and not state.allowed:
                return self._failed(name, state, "failed", counts)
        for name, state in self._states.items():
            if state.status == "aborted" and not state.allowed:
                return self._failed(name, state, "was aborted", counts)
        return Verdict(status="success", message=counts, cause=None, cause_code=None)

    def _failed(self, name: str, state: _State, how: str, counts: str) -> Verdict:
        cause = f"step '{name}' {how}" + (f": {state.cause}" if state.cause else "")
        return Verdict(status="error", message=counts, cause=cause, cause_code=state.cause_code)

    def _counts(self) -> str:
        words = (
            ("success", "succeeded"), ("error", "failed"), ("aborted", "aborted"),
            ("skipped", "skipped"),
        )  # fmt: skip
        statuses = [state.status for state in self._states.values()]
        total = len(statuses)
        parts = [f"{statuses.count(key)} {word}" for key, word in words if key in statuses]
        return f"{total} step{'' if total == 1 else 's'}: {', '.join(parts)}"
