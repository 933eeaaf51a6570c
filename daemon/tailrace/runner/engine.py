"""Executes one run: asks the walk what to do, does it, and tells the journal.

All decisions are in `tailrace.core.walk`; here are the tasks, timers and
commands around them. Each running step is one task of a group that the engine
owns, so that none outlives it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from tailrace.core import events
from tailrace.core.budget import overspent
from tailrace.core.deadline import Deadline
from tailrace.core.plan import StepPlan
from tailrace.core.unenforced import unenforced
from tailrace.core.units import format_duration
from tailrace.core.walk import (
    ConditionFailedError,
    Finish,
    Phase,
    Start,
    StatusFunctions,
    Stop,
    Verdict,
    last_event,
)
from tailrace.pipeline.expressions import ConditionError, TemplateError, evaluate, render
from tailrace.rundir.snapshot import read_snapshot
from tailrace.runner import collection
from tailrace.runner.containment import reap_orphans
from tailrace.runner.context import Earlier, RunContext
from tailrace.runner.control import serve_control
from tailrace.runner.result import AttemptResult, StopRequest
from tailrace.runner.steering import Steering
from tailrace.runner.step_run import BUG, StepRun
from tailrace.wire import parse_timestamp

_DISK_PATIENCE_S: Final = 300.0  # how long a run's end waits for a disk that takes nothing
_DISK_AGAIN_S: Final = 0.2


class Engine:
    """One run, from ``started`` to its last event."""

    def __init__(self, ctx: RunContext) -> None:
        self.ctx = ctx
        self.running: dict[str, StepRun] = {}
        self._wake = asyncio.Event()
        self._awake = asyncio.Event()  # not paused
        self._awake.set()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()  # of the run, also where this runner goes on with it
        self._deadline = Deadline(ctx.plan.timeout_ms, self._began)
        self._alarm: asyncio.TimerHandle | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._owed: list[events.Event] = []  # events that the disk hasn't taken yet
        self.ended: str | None = None  # how, from the last event on: nothing is told after it

    async def run(self) -> None:
        """Execute the run; returns once the last event is on disk and no step is left.

        Raises:
            OSError: not even the last event could be written.
        """
        ctx = self.ctx
        if ctx.earlier is None:
            containment = ctx.mechanism.containment
            self._record(events.Started(worker=socket.gethostname(), containment=containment))
        else:
            self._go_on(ctx.earlier)
        with ctx.disk_guard():
            ctx.workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (ctx.cache.parent, ctx.cache):
                folder.mkdir(mode=0o700, exist_ok=True)
            ctx.run.artifacts.mkdir(mode=0o700, exist_ok=True)
        self._loop.add_signal_handler(signal.SIGCHLD, lambda: reap_orphans(ctx.leaders))
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._told_to_end, number)
        async with AsyncExitStack() as stack:
            with ctx.disk_guard():
                await stack.enter_async_context(serve_control(ctx.run, Steering(self).handle))
                if ctx.mechanism.why is not None and ctx.earlier is None:
                    ctx.recorder.record(events.Notice(kind="containment", text=ctx.mechanism.why))
                for step, text in unenforced(ctx.plan) if ctx.earlier is None else ():
                    ctx.recorder.record(events.Notice(kind="unenforced", text=text, step=step))
                await self._take_over()
            try:
                self._begin_clock()
                await self._walk()
            finally:
                for timer in (self._alarm, *self._timers):
                    if timer is not None:
                        timer.cancel()
            await self._end()

    async def _take_over(self) -> None:
        try:
            await collection.take_over(self.ctx)
        except collection.EarlierGoneError as exc:
            self._fail(str(exc), "requirement")

    def _begin_clock(self) -> None:
        """Have timeout and budget count; an earlier runner may have stopped walking already."""
        if self.ctx.walk.phase is not Phase.WALKING:
            self._stopping()
        if self._deadline.left_s(self._loop.time()) == 0:  # before another step starts
            self._timed_out()
        else:
            self._set_alarm()
        self.check_budget()

    def _go_on(self, earlier: Earlier) -> None:
        """Begin where a runner died: the time counts on, and a paused run is paused."""
        now = self._loop.time()
        self._began = now - earlier.elapsed_s
        self._deadline = Deadline(self.ctx.plan.timeout_ms, self._began + earlier.paused_s)
        if earlier.is_paused:
            self._awake.clear()
            self._deadline.pause(now)

    async def _walk(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                while not self.paused and (decisions := self.ctx.walk.decide(self._evaluate)):
                    for decision in decisions:
                        self._apply(decision, tasks)
                if self.ctx.walk.done:
                    return
                await self._wake.wait()

    def _apply(self, decision: Start | Finish, tasks: asyncio.TaskGroup) -> None:
        step = self.ctx.plan.step(decision.step)
        match decision:
            case Start():
                stopping = self.ctx.walk.phase is Phase.STOPPING
                running = StepRun(
                    self.ctx, step, self._label(step),
                    attempts=self._earlier(step.id)[0], delay_s=self._delay_s(step.id),
                    cleans_up=stopping, is_paused=lambda: self.paused,
                )  # fmt: skip
                self.running[step.id] = running
                tasks.create_task(self._run_step(running), name=f"step {step.id}")
            case Finish():
                self._finish_waiting(step, decision)

    def _finish_waiting(self, step: StepPlan, decision: Finish) -> None:
        """End a step that won't start; one that a runner's death interrupted has been started."""
        attempts, elapsed_s = self._earlier(step.id)
        status = decision.status
        if attempts and status == "skipped":
            status = "aborted"
        self.finish_step(
            step,
            AttemptResult(conclusion=status, cause=decision.cause, cause_code=decision.cause_code),
            duration_ms=round(elapsed_s * 1000),
        )

    def _earlier(self, step: str) -> tuple[int, float]:
        """Return the attempts that a step has had, and the seconds since the first began."""
        earlier = self.ctx.earlier
        if earlier is None:
            return 0, 0.0
        return earlier.attempts.get(step, 0), earlier.step_elapsed_s.get(step, 0.0)

    def _delay_s(self, step: str) -> float:
        """Return how long a step has still to wait for its next attempt."""
        return 0.0 if self.ctx.earlier is None else self.ctx.earlier.delay_s.get(step, 0.0)

    def _evaluate(self, step: StepPlan, functions: StatusFunctions) -> bool:
        try:
            return evaluate(step.when, self.ctx.scope(step, functions))
        except ConditionError as exc:
            raise ConditionFailedError(str(exc)) from None
        except Exception:  # noqa: BLE001 - the boundary of a condition: the graph goes on
            self.ctx.log_bug(traceback.format_exc())
            raise ConditionFailedError(f"met an {BUG}") from None

    def _label(self, step: StepPlan) -> str:
        try:
            return render(step.label, self.ctx.scope(step))
        except TemplateError:
            return step.label

    # ---- one step ----------------------------------------------------------------------------

    async def _run_step(self, running: StepRun) -> None:
        """Execute a step, and tell of its end."""
        began = self._loop.time() - self._earlier(running.step.id)[1]
        try:
            result = await running.run()
            del self.running[running.step.id]
            self.finish_step(
                running.step,
                result,
                label=running.label,
                attempt=running.attempts,
                by_person=(
                    running.stop_request is not None
                    and running.stop_request.conclusion == "skipped"
                ),
                duration_ms=round((self._loop.time() - began) * 1000),
            )
        finally:
            await running.discard()

    def finish_step(
        self,
        step: StepPlan,
        result: AttemptResult,
        *,
        label: str | None = None,
        attempt: int = 0,
        duration_ms: int = 0,
        by_person: bool = False,
    ) -> None:
        """Tell of a step's end, to the journal and to the walk."""
        allowed = step.allow_failure and result.conclusion == "error"
        attempt = attempt or self._earlier(step.id)[0]
        self._record(
            events.StepFinished(
                step=step.id, label=label or self._label(step), status=result.conclusion,
                allowed=allowed, returncode=result.returncode, signal=result.signal,
                cause=result.cause, cause_code=result.cause_code, attempt=attempt,
                duration_ms=duration_ms, lines=result.lines, bytes=result.bytes,
                kill=result.kill,
            )
        )  # fmt: skip
        before = self.ctx.walk.phase
        self.ctx.walk.finished(
            step.id, result.conclusion, allowed=allowed, by_person=by_person,
            cause=result.cause, cause_code=result.cause_code,
        )  # fmt: skip
        if self.ctx.walk.phase is not before:  # fail_fast
            self._stopping()
        self._wake.set()

    def gauges(self) -> dict[str, float]:
        """Return what the buffers of all running attempts hold now, in bytes."""
        attempts = [run.attempt for run in self.running.values() if run.attempt is not None]
        return {
            "pipe_bytes": float(sum(attempt.unread for attempt in attempts)),
            "held_bytes": float(sum(attempt.held for attempt in attempts)),
        }

    # ---- pausing -----------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether the run is paused."""
        return not self._awake.is_set()

    async def pause(self) -> None:
        """Freeze what runs and start nothing more; output so far is told when this returns."""
        self._awake.clear()
        self._deadline.pause(self._loop.time())
        self._set_alarm()
        for running in tuple(self.running.values()):
            if running.attempt is not None and self.paused:  # a failure may have ended the pause
                await running.attempt.pause()

    def resume(self) -> None:
        """Go on after a pause; its time counts for no timeout."""
        self._awake.set()
        self._deadline.resume(self._loop.time())
        self._set_alarm()
        for running in self.running.values():
            if running.attempt is not None:
                running.attempt.resume()
        self._wake.set()

    # ---- stopping ----------------------------------------------------------------------------

    def stop(self, reason: Stop) -> None:
        """Stop the run: running steps end, and only steps for cleaning up start any more."""
        self.ctx.walk.stop(reason)
        self._stopping(reason)

    def _stopping(self, reason: Stop | None = None) -> None:
        """End what runs for *reason*, which needn't be the first; None: the run's."""
        reason = reason or self.ctx.walk.stop_reason
        assert reason is not None
        if self.paused:
            if reason.kind != "cancel":  # which says by itself that the pause is over
                self._record(events.Control(action="resume", by=None, via="run"))
            self.resume()
        request = StopRequest(
            conclusion="error" if reason.kind == "failure" else "aborted",
            cause=reason.cause,
            cause_code=reason.cause_code,
        )
        stopping = self.ctx.walk.phase is Phase.STOPPING
        for running in self.running.values():
            if not (stopping and running.cleans_up):  # a cancel after fail_fast leaves it its time
                running.stop(request)
        if stopping:
            self._after(self.ctx.settings.limits.cleanup, self._cleanup_over)
        self._wake.set()

    def _told_to_end(self, number: signal.Signals) -> None:
        cause = f"the runner was told to end by {number.name}"
        self.stop(Stop(kind="cancel", cause=cause, cause_code="cancelled"))

    def _set_alarm(self) -> None:
        """Wait for the run's timeout, which stands still while it is paused."""
        if self._alarm is not None:
            self._alarm.cancel()
        left_s = self._deadline.left_s(self._loop.time())
        self._alarm = None if left_s is None else self._loop.call_later(left_s, self._timed_out)

    def _timed_out(self) -> None:
        allowed_ms = self._deadline.allowed_ms
        assert allowed_ms is not None
        if self.ctx.walk.phase is Phase.WALKING:
            cause = f"the run timed out after {format_duration(allowed_ms)}"
            self.stop(Stop(kind="timeout", cause=cause, cause_code="timeout"))

    def check_budget(self) -> None:
        """Stop the run where its steps have spent more than its depth allows.

        What it spends on cleaning up is counted and stops nothing.
        """
        reason = overspent(self.ctx.plan.budget, self.ctx.totals.cost())
        if reason is not None and self.ctx.walk.phase is Phase.WALKING:
            self.stop(reason)

    def _cleanup_over(self) -> None:
        self.ctx.walk.end()
        cause = f"cleaning up took over {format_duration(self.ctx.settings.limits.cleanup)}"
        for running in self.running.values():
            running.stop(StopRequest(conclusion="aborted", cause=cause, cause_code="timeout"))
        self._wake.set()

    def disk_failed(self, error: OSError) -> None:
        """End the run because its folder can't be written."""
        self._fail(f"the run folder can't be written: {error.strerror or error}", "disk")

    def _fail(self, cause: str, code: events.CauseCode) -> None:
        if self.ctx.walk.phase is not Phase.ENDING:
            self.ctx.walk.fail(Stop(kind="failure", cause=cause, cause_code=code))
            self._stopping()

    def _after(self, delay_ms: int, call: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay_ms / 1000, call))

    # ---- the end -----------------------------------------------------------------------------

    def _record(self, event: events.Event) -> None:
        """Write an event that must not be lost, on disk when this returns.

        Where the disk takes nothing, the run ends, and what is owed is written then.
        """
        self._owed.append(event)
        with self.ctx.disk_guard():
            self._pay()

    def _pay(self) -> None:
        while self._owed:
            self.ctx.recorder.record(self._owed[0], urgent=True)
            del self._owed[0]
        self.ctx.recorder.sync()

    async def _end(self) -> None:
        """Write the last event; a disk that takes nothing is waited for.

        Raises:
            OSError: it didn't come back in time.
        """
        deadline = self._loop.time() + _DISK_PATIENCE_S
        while True:
            try:
                self._pay()
                verdict = self.ctx.walk.verdict()
                self.ctx.recorder.record(self._last(verdict), urgent=True)
            except OSError as exc:
                if self._loop.time() > deadline:
                    raise
                self.disk_failed(exc)
                await asyncio.sleep(_DISK_AGAIN_S)
            else:
                self.ended = verdict.status
                break
        with self.ctx.disk_guard():
            self.ctx.recorder.sync()

    def give_up(self) -> None:
        """Tell of a bug of ours that the run can't go on with: each step's end, and its own.

        By what the journal says, whatever state the bug has left here.

        Raises:
            OSError: they can't be written.
        """
        ctx = self.ctx
        snapshot = read_snapshot(ctx.run)
        for step in snapshot.steps.values():
            if step.is_final:
                continue
            running = self.running.get(step.id)
            lines, size = running.printed if running is not None else (0, 0)
            ctx.recorder.record(
                events.StepFinished(
                    step=step.id, label=step.label, status="error" if step.attempt else "skipped",
                    allowed=bool(step.attempt) and ctx.plan.step(step.id).allow_failure,
                    cause=BUG, cause_code="internal", attempt=step.attempt,
                    duration_ms=_since(step.started_at), lines=lines, bytes=size,
                ),
                urgent=True,
            )  # fmt: skip
        verdict = Verdict(
            status="error", message="the runner failed", cause=BUG, cause_code="internal"
        )
        ctx.recorder.record(
            last_event(
                verdict, duration_ms=_since(snapshot.started_at), file_url=ctx.file_url,
                artifacts=tuple(item.name for item in ctx.artifacts), cost=ctx.totals.cost(),
            ),
            urgent=True,
        )  # fmt: skip
        ctx.recorder.sync()

    def _last(self, verdict: Verdict) -> events.Event:
        ctx = self.ctx
        duration_ms = round((self._loop.time() - self._began) * 1000)
        names = tuple(artifact.name for artifact in ctx.artifacts)
        return last_event(
            verdict, duration_ms=duration_ms, file_url=ctx.file_url, artifacts=names,
            cost=ctx.totals.cost(),
        )  # fmt: skip


def _since(moment: str | None) -> int:
    """Return the milliseconds since a moment that the journal tells."""
    return 0 if moment is None else max(0, round((time.time() - parse_timestamp(moment)) * 1000))
