"""Executes one run: asks the walk what to do, does it, and tells the journal.

All decisions are in `tailrace.core.walk`; here are the tasks, timers and
commands around them. Each running step is one task of a group that the engine
owns, so that none outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from tailrace.core import events
from tailrace.core.budget import overspent
from tailrace.core.deadline import Deadline
from tailrace.core.plan import AskAction, StepPlan
from tailrace.core.retry import retry_delay_ms
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
from tailrace.rundir.slots import Slots
from tailrace.runner import collection
from tailrace.runner.ask import Ask
from tailrace.runner.attempt import Attempt, AttemptResult, StopRequest
from tailrace.runner.containment import reap_orphans
from tailrace.runner.context import Earlier, RunContext
from tailrace.runner.control import serve_control
from tailrace.runner.steering import Steering

_SLOT_POLL_S: Final = 0.05  # a file lock can't be waited for without a thread
_DISK_PATIENCE_S: Final = 300.0  # how long a run's end waits for a disk that takes nothing
_DISK_AGAIN_S: Final = 0.2


class StepRun:
    """A step that has started: its attempt of the moment, and how it is stopped."""

    def __init__(self, step: StepPlan, label: str, *, cleans_up: bool) -> None:
        self.step, self.label = step, label
        self.cleans_up = cleans_up  # it started while the run was stopping already
        self.attempt: Attempt | Ask | None = None
        self.stop_request: StopRequest | None = None
        self.stopped = asyncio.Event()

    def stop(self, request: StopRequest) -> None:
        """End the running attempt, or the wait for the next one. The first request counts."""
        if self.stop_request is None:
            self.stop_request = request
            self.stopped.set()
            if self.attempt is not None:
                self.attempt.stop(request)


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
                running = StepRun(step, self._label(step), cleans_up=stopping)
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

    def _evaluate(self, step: StepPlan, functions: StatusFunctions) -> bool:
        try:
            return evaluate(step.when, self.ctx.scope(step, functions))
        except ConditionError as exc:
            raise ConditionFailedError(str(exc)) from None

    def _label(self, step: StepPlan) -> str:
        try:
            return render(step.label, self.ctx.scope(step))
        except TemplateError:
            return step.label

    # ---- one step ----------------------------------------------------------------------------

    async def _run_step(self, running: StepRun) -> None:
        """Execute a step's attempts until one counts, and tell of its end."""
        attempts, elapsed_s = self._earlier(running.step.id)
        began = self._loop.time() - elapsed_s
        attempt = self._attempt(running, attempts + 1)
        result = AttemptResult(conclusion="error", cause_code="internal")
        try:
            with self.ctx.disk_guard():
                while True:
                    result = await self._run_attempt(running, attempt)
                    delay_ms = self._retry_delay(running, attempt.number, result)
                    if delay_ms is None:
                        await collection.collect(self.ctx, running.step, attempt)
                        break
                    if not await self._pause(running, attempt.number, result, delay_ms):
                        break
                    await asyncio.to_thread(attempt.discard)
                    attempt = self._attempt(running, attempt.number + 1)
            if running.stop_request is not None and result.conclusion == "error":
                # Stopped between two attempts, or by a failing disk: that is how it ended.
                result = _stopped_result(result, running.stop_request)
            del self.running[running.step.id]
            self.finish_step(
                running.step,
                result,
                label=running.label,
                attempt=attempt.number if attempt.started else attempt.number - 1,
                by_person=(
                    running.stop_request is not None
                    and running.stop_request.conclusion == "skipped"
                ),
                duration_ms=round((self._loop.time() - began) * 1000),
            )
        finally:
            await asyncio.to_thread(attempt.discard)

    def _attempt(self, running: StepRun, number: int) -> Attempt | Ask:
        kind = Ask if isinstance(running.step.action, AskAction) else Attempt
        return kind(self.ctx, running.step, number, label=running.label)

    async def _run_attempt(self, running: StepRun, attempt: Attempt | Ask) -> AttemptResult:
        running.attempt = attempt
        if running.stop_request is not None:  # stopped before it began
            attempt.stop(running.stop_request)
        try:
            if isinstance(attempt, Ask):
                return await attempt.run()
            return await self._run_in_slot(running, attempt)
        finally:
            running.attempt = None

    async def _run_in_slot(self, running: StepRun, attempt: Attempt) -> AttemptResult:
        slot = await self._take_slot(running)
        if slot is None:
            assert running.stop_request is not None
            return replace(AttemptResult.stopped(running.stop_request), conclusion="skipped")
        try:
            return await attempt.run()
        finally:
            os.close(slot)

    async def _take_slot(self, running: StepRun) -> int | None:
        """Wait until fewer steps run than ``limits.steps`` allows; None where it is stopped.

        A paused run takes none.
        """
        slots = Slots(self.ctx.state.slots, self.ctx.settings.limits.steps)
        while self.paused or (slot := slots.try_take()) is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SLOT_POLL_S):
                    await running.stopped.wait()
                return None
        return slot

    def _retry_delay(self, running: StepRun, number: int, result: AttemptResult) -> int | None:
        if result.conclusion != "error" or running.stop_request is not None:
            return None
        return retry_delay_ms(running.step.retry, attempt=number, returncode=result.returncode)

    async def _pause(
        self, running: StepRun, number: int, result: AttemptResult, delay_ms: int
    ) -> bool:
        """Tell of the retry and wait for it; False where the step was stopped meanwhile."""
        self.ctx.recorder.record(
            events.StepRetrying(
                step=running.step.id, attempt=number, returncode=result.returncode,
                signal=result.signal, cause=result.cause or "",
                cause_code=result.cause_code or "exit", kill=result.kill, delay_ms=delay_ms,
            )
        )  # fmt: skip
        try:
            async with asyncio.timeout(delay_ms / 1000):
                await running.stopped.wait()
        except TimeoutError:
            return True
        return False

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
        self._stopping()

    def _stopping(self) -> None:
        reason = self.ctx.walk.stop_reason
        assert reason is not None
        if self.paused:
            if reason.kind != "cancel":  # which says by itself that the pause is over
                self._record(events.Control(action="resume", by="", via="run"))
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

    def _last(self, verdict: Verdict) -> events.Event:
        ctx = self.ctx
        duration_ms = round((self._loop.time() - self._began) * 1000)
        names = tuple(artifact.name for artifact in ctx.artifacts)
        return last_event(
            verdict, duration_ms=duration_ms, file_url=ctx.file_url, artifacts=names,
            cost=ctx.totals.cost(),
        )  # fmt: skip


def _stopped_result(result: AttemptResult, request: StopRequest) -> AttemptResult:
    return replace(
        result, conclusion=request.conclusion, cause=request.cause, cause_code=request.cause_code
    )
