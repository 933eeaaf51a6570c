"""One step of a run: its attempts, the waits before and between them, and how it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tailrace.core import events
from tailrace.core.plan import AskAction, StepPlan
from tailrace.core.retry import retry_delay_ms
from tailrace.rundir.slots import Slots
from tailrace.runner import collection
from tailrace.runner.ask import Ask
from tailrace.runner.attempt import Attempt
from tailrace.runner.context import RunContext
from tailrace.runner.result import AttemptResult, StopRequest
from tailrace.runner.step_progress import StepProgress

BUG: Final = "internal error; see runner.log"  # the cause of what a bug of ours ends
_UNKNOWN: Final = AttemptResult(conclusion="error", cause_code="internal")
_SLOT_POLL_S: Final = 0.05  # a file lock can't be waited for without a thread


class StepRun:
    """A step that has started: its attempt of the moment, and how it is stopped.

    *attempts* are those that it has had already, with runners that died, and
    *delay_s* what is left of the wait for the next. `discard` it in the end.
    """

    def __init__(
        self,
        ctx: RunContext,
        step: StepPlan,
        label: str,
        *,
        attempts: int,
        delay_s: float,
        cleans_up: bool,
        is_paused: Callable[[], bool],
    ) -> None:
        self._ctx, self.step, self.label = ctx, step, label
        self.cleans_up = cleans_up  # it started while the run was stopping already
        self._is_paused = is_paused
        self._delay_s = delay_s
        self.attempt: Attempt | Ask | None = None  # while it runs, or waits for a slot
        self._progress = StepProgress(self._tell_progress)
        self._latest = self._make(attempts + 1)
        self._result = _UNKNOWN  # of the last attempt
        self.stop_request: StopRequest | None = None
        self._stopped = asyncio.Event()

    @property
    def attempts(self) -> int:
        """How many attempts have begun, counted from the run's start."""
        return self._latest.number if self._latest.started else self._latest.number - 1

    def stop(self, request: StopRequest) -> None:
        """End the running attempt, or the wait for the next one. The first request counts."""
        if self.stop_request is None:
            self.stop_request = request
            self._stopped.set()
            if self.attempt is not None:
                self.attempt.stop(request)

    async def run(self) -> AttemptResult:
        """Execute attempts until one counts; what that one has left is collected.

        A bug of ours ends it as an error, and the run's other steps go on.
        """
        try:
            return await self._execute()
        except Exception:  # noqa: BLE001 - the boundary of a step: the graph goes on
            self._ctx.log_bug(traceback.format_exc())
            lines, size = self.printed
            return replace(
                self._result, conclusion="error", cause=BUG, cause_code="internal",
                lines=lines, bytes=size,
            )  # fmt: skip
        finally:
            self._progress.finish()

    @property
    def printed(self) -> tuple[int, int]:
        """The lines and bytes of the last attempt's output by now."""
        return self._latest.printed

    async def _execute(self) -> AttemptResult:
        with self._ctx.disk_guard():
            if not await self._wait(self._delay_s):
                return self._stopped_in_wait(self._result)
            while True:
                before, self._result = self._result, _UNKNOWN
                result = await self._run_attempt(self._latest)
                if result is None:
                    return self._stopped_in_wait(before)
                self._result = result
                delay_ms = self._retry_delay(self._result)
                if delay_ms is None:
                    succeeded = self._result.conclusion == "success"
                    await collection.collect(
                        self._ctx, self.step, self._latest, succeeded=succeeded
                    )
                    break
                if not await self._pause(self._result, delay_ms):
                    break
                await self.discard()
                self._latest = self._make(self._latest.number + 1)
        if self.stop_request is not None and self._result.conclusion == "error":
            # Stopped between two attempts, or by a failing disk: that is how it ended.
            return _stopped_result(self._result, self.stop_request)
        return self._result

    async def discard(self) -> None:
        """Remove the folders of the last attempt."""
        await asyncio.to_thread(self._latest.discard)

    def _make(self, number: int) -> Attempt | Ask:
        if isinstance(self.step.action, AskAction):
            return Ask(self._ctx, self.step, number, label=self.label)
        return Attempt(
            self._ctx, self.step, number, label=self.label, progress=self._progress
        )  # fmt: skip

    def _tell_progress(self, progress: events.Progress) -> None:
        with self._ctx.disk_guard():
            self._ctx.recorder.record(progress)

    async def _run_attempt(self, attempt: Attempt | Ask) -> AttemptResult | None:
        """Execute an attempt when its turn has come; None where the step is stopped before that.

        A question takes no slot, but none is asked in a paused run either.
        """
        self.attempt = attempt
        slots = Slots(self._ctx.state.slots, self._ctx.settings.limits.steps)
        slot: int | None = None
        try:
            while self._is_paused() or (
                isinstance(attempt, Attempt) and (slot := slots.try_take()) is None
            ):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SLOT_POLL_S):
                        await self._stopped.wait()
                if self._stopped.is_set():
                    return None
            return None if self._stopped.is_set() else await attempt.run()
        finally:
            self.attempt = None
            if slot is not None:
                os.close(slot)

    def _stopped_in_wait(self, before: AttemptResult) -> AttemptResult:
        """Return how it ends where the next attempt hasn't begun: as the one *before* was left."""
        assert self.stop_request is not None
        if not self.attempts:
            return replace(AttemptResult.stopped(self.stop_request), conclusion="skipped")
        return _stopped_result(before, self.stop_request)

    def _retry_delay(self, result: AttemptResult) -> int | None:
        if result.conclusion != "error" or self.stop_request is not None:
            return None
        return retry_delay_ms(
            self.step.retry, attempt=self._latest.number, returncode=result.returncode
        )

    async def _pause(self, result: AttemptResult, delay_ms: int) -> bool:
        """Tell of the retry and wait for it; False where the step was stopped meanwhile."""
        self._ctx.recorder.record(
            events.StepRetrying(
                step=self.step.id, attempt=self._latest.number, returncode=result.returncode,
                signal=result.signal, cause=result.cause or "",
                cause_code=result.cause_code or "exit", kill=result.kill, delay_ms=delay_ms,
            )
        )  # fmt: skip
        return await self._wait(delay_ms / 1000)

    async def _wait(self, delay_s: float) -> bool:
        """Wait for so long; False where the step was stopped meanwhile."""
        if delay_s <= 0:
            return True
        try:
            async with asyncio.timeout(delay_s):
                await self._stopped.wait()
        except TimeoutError:
            return True
        return False


def _stopped_result(result: AttemptResult, request: StopRequest) -> AttemptResult:
    return replace(
        result, conclusion=request.conclusion, cause=request.cause, cause_code=request.cause_code
    )
