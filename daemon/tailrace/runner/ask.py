"""One execution of an ``ask`` step: a question, and the wait for its answer."""

from __future__ import annotations

import asyncio

from tailrace.core.deadline import Deadline
from tailrace.core.events import StepStarted
from tailrace.core.narration import Question
from tailrace.core.plan import AskAction, StepPlan
from tailrace.core.units import format_duration
from tailrace.runner.context import RunContext
from tailrace.runner.result import AttemptResult, StopRequest, timed_out

ANSWER = "answer"  # name of the output


class Ask:
    """Asks, in place of `tailrace.runner.attempt.Attempt`; it has neither process nor places.

    The answer is the step's output ``answer``. Nobody's answer in time is the
    default, or an error where there is none.
    """

    unread = held = 0  # it has no output
    printed = (0, 0)
    narration: None = None  # nor progress

    def __init__(self, ctx: RunContext, step: StepPlan, number: int, *, label: str) -> None:
        self._ctx, self._step, self.number, self._label = ctx, step, number, label
        self._loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[str | None] = self._loop.create_future()
        self._stopped: asyncio.Future[StopRequest] = self._loop.create_future()
        self._deadline = Deadline(None, 0.0)
        self._nudged = asyncio.Event()
        self.started = False
        self.outputs: dict[str, str] = {}

    def stop(self, request: StopRequest) -> None:
        """End the wait. The first request counts."""
        if not self._stopped.done():
            self._stopped.set_result(request)

    async def pause(self) -> None:
        """Let no timeout pass; the question may be answered meanwhile."""
        self._deadline.pause(self._loop.time())
        self._nudged.set()

    def resume(self) -> None:
        """Go on after a pause."""
        self._deadline.resume(self._loop.time())
        self._nudged.set()

    def extend(self, by_ms: int) -> bool:
        """Allow it so much more time; False where it has no timeout."""
        self._nudged.set()
        return self._deadline.extend(by_ms)

    async def run(self) -> AttemptResult:
        """Ask, and return how it ended.

        Raises:
            OSError: the run folder can't be written.
        """
        ctx, step = self._ctx, self._step
        assert isinstance(step.action, AskAction)
        ctx.recorder.record(
            StepStarted(step=step.id, label=self._label, attempt=self.number, host=None)
        )
        self.started = True
        self._deadline = Deadline(step.timeout_ms, self._loop.time())
        action = step.action
        question = Question(
            id=step.id,
            question=action.question,
            choices=action.choices,
            default=action.default,
            expires_ms=action.expires_ms,
        )
        ctx.prompts.ask(step.id, step.id, question, self._settled.set_result)
        try:
            return await self._wait(action)
        finally:
            ctx.prompts.forget(step.id)

    async def _wait(self, action: AskAction) -> AttemptResult:
        while True:
            self._nudged.clear()
            left_s = self._deadline.left_s(self._loop.time())
            nudged = asyncio.ensure_future(self._nudged.wait())
            try:
                await asyncio.wait(
                    (self._settled, self._stopped, nudged),
                    timeout=left_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                nudged.cancel()
            if self._stopped.done():
                return AttemptResult.stopped(self._stopped.result())
            if self._settled.done():
                return self._answered(action, self._settled.result())
            if self._deadline.left_s(self._loop.time()) == 0:
                return AttemptResult.stopped(timed_out(self._deadline))

    def _answered(self, action: AskAction, answer: str | None) -> AttemptResult:
        if answer is None:
            assert action.expires_ms is not None
            return AttemptResult(
                conclusion="error",
                cause=f"nobody answered in {format_duration(action.expires_ms)}",
                cause_code="expired",
            )
        self.outputs = {ANSWER: answer}
        return AttemptResult(conclusion="success")

    def read_outputs(self) -> tuple[dict[str, str], list[str]]:
        """Return the answer as the step's output."""
        return self.outputs, []

    def discard(self) -> None:
        """Do nothing: it made no folders."""
