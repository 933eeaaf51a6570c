"""One execution of a step: its places, its process, its output, and its end."""

from __future__ import annotations

import asyncio
import math
import os
import random
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal

from msgspec import UNSET

from tailrace.bubblewrap import Bubblewrap
from tailrace.core.deadline import Deadline
from tailrace.core.events import CauseCode, Kill, Notice, StepStarted
from tailrace.core.mask import Masker
from tailrace.core.outputs import MAX_FILE, parse_outputs
from tailrace.core.plan import CloneAction, StepPlan
from tailrace.core.units import format_duration
from tailrace.errors import TailraceError
from tailrace.rundir.disk import what_is_wrong
from tailrace.rundir.journal import AttemptLog
from tailrace.runner import process
from tailrace.runner.beneath import open_file
from tailrace.runner.containment import Containment
from tailrace.runner.context import RunContext
from tailrace.runner.invocation import Invocation, invocation_of
from tailrace.runner.limit_watch import until_over
from tailrace.runner.narration import Narration
from tailrace.runner.output import Output
from tailrace.runner.places import Places, make_places
from tailrace.runner.result import AttemptResult, StopRequest, timed_out
from tailrace.runner.sandbox import Sandbox, SandboxedEnd, bubblewrap_for, view_of
from tailrace.runner.step_environment import step_environment, told_left_out
from tailrace.runner.step_progress import StepProgress


class Attempt:
    """Executes a step once.

    `run` returns only when no process of the attempt is left that could be
    ended, whether or not it was stopped. `places` stay until `discard`.
    """

    def __init__(
        self, ctx: RunContext, step: StepPlan, number: int, *, label: str, progress: StepProgress
    ) -> None:
        self._ctx, self._step, self.number, self._label = ctx, step, number, label
        self._progress = progress
        self._stopped: asyncio.Future[StopRequest] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(None, 0.0)
        self._nudged = asyncio.Event()  # a deadline has moved
        self._paused = False
        self._awake_at = 0.0  # when the last pause was over, on the loop's clock
        self._containment: Containment | None = None  # while processes may be there
        self.output: Output | None = None  # once a process has started
        self.places: Places | None = None
        self.workdir: Path | None = None  # without a link below the workspace, at its start
        self._sandbox: Sandbox | None = None
        self.narration: Narration | None = None  # while its progress can be told

    @property
    def unread(self) -> int:
        """Bytes that the step has printed and we haven't read: a gauge."""
        return self.output.unread if self.output is not None else 0

    @property
    def printed(self) -> tuple[int, int]:
        """The lines and bytes of its output by now."""
        return (self.output.lines, self.output.size) if self.output is not None else (0, 0)

    @property
    def held(self) -> int:
        """Bytes read and not written yet: a gauge."""
        heard = self.narration.held if self.narration is not None else 0
        return heard + (self.output.held if self.output is not None else 0)

    def stop(self, request: StopRequest) -> None:
        """End the attempt: SIGTERM, the step's grace, SIGKILL. The first request counts."""
        if not self._stopped.done():
            self._stopped.set_result(request)

    @property
    def started(self) -> bool:
        """Whether it has begun."""
        return self.places is not None

    async def pause(self) -> None:
        """Freeze its processes; what they had printed is told when this returns."""
        self._paused = True
        self._deadline.pause(self._loop.time())
        self._nudged.set()
        if (containment := self._containment) is not None:
            await containment.freeze()
            assert self.output is not None
            if self._paused:
                self.output.catch_up()
            else:  # resumed meanwhile
                containment.thaw()

    def resume(self) -> None:
        """Let its processes go on; the pause counts for no timeout."""
        self._paused = False
        self._awake_at = self._loop.time()
        self._deadline.resume(self._awake_at)
        self._nudged.set()
        if self._containment is not None:
            self._containment.thaw()

    def extend(self, by_ms: int) -> bool:
        """Allow it so much more time; False where it has no timeout."""
        self._nudged.set()
        return self._deadline.extend(by_ms)

    async def run(self) -> AttemptResult:
        """Execute, and return how it ended.

        Cancelling it stops the processes without their grace, then raises.

        Raises:
            OSError: the run folder can't be written; the processes are gone by then.
        """
        ctx, step = self._ctx, self._step
        scope = ctx.scope(step)
        self.places = make_places(
            ctx.run, step.id, self.number,
            params=ctx.params_json(), params_secret=bool(ctx.file.params_masked),
        )  # fmt: skip
        try:
            bubblewrap = await bubblewrap_for(ctx, step, scope)
            env, left_out = step_environment(
                ctx, step, scope, self.places,
                marker=self._marker(), sandboxed=bubblewrap is not None,
            )  # fmt: skip
            invocation = invocation_of(ctx, step, scope)
        except TailraceError as exc:
            self._announce(None)
            return AttemptResult(conclusion="error", cause=str(exc), cause_code="requirement")
        self.workdir = invocation.cwd
        with ExitStack() as held:
            held.callback(invocation.close)
            self._announce(invocation.display)
            log = held.enter_context(closing(AttemptLog(ctx.run.log(step.id, self.number))))
            narration = self.narration = Narration(
                ctx, step, self._label, self.places, self._progress
            )
            held.callback(self._let_go, narration, log)
            if left_out:
                text = told_left_out(left_out)
                ctx.recorder.record(Notice(kind="outputs", text=text, step=step.id))
            leader = self._start(invocation, env, bubblewrap)
            if isinstance(leader, AttemptResult):
                return leader
            return await self._supervise(leader, log, narration)

    def _let_go(self, narration: Narration, log: AttemptLog) -> None:
        self.narration = None
        if self._sandbox is not None:
            self._sandbox.close()
        with self._ctx.disk_guard():
            narration.finish()
            log.sync()
        self._ctx.prompts.forget(self._step.id)

    def _announce(self, command: str | None) -> None:
        shown = self._step.echo and command is not None
        self._ctx.recorder.record(
            StepStarted(
                step=self._step.id, label=self._label, attempt=self.number,
                cmd=command if shown and command is not None else UNSET, host=self._step.host,
            )
        )  # fmt: skip

    def _start(
        self, invocation: Invocation, env: dict[str, str], bubblewrap: Bubblewrap | None
    ) -> process.Leader | AttemptResult:
        assert self.places is not None
        argv, pass_fds = invocation.argv, invocation.pass_fds
        try:
            if bubblewrap is not None:
                view = view_of(self._ctx, self._step, self.places, invocation.cwd)
                self._sandbox = Sandbox(bubblewrap, view, argv, env=env, marker=self._marker())
                argv, env = self._sandbox.argv, self._sandbox.env
                pass_fds = (*pass_fds, *self._sandbox.pass_fds)
            return self._ctx.mechanism.start(
                argv, cwd=invocation.cwd, env=env, pass_fds=pass_fds,
                cpus=_cpus(self._step.limits.cpu), in_namespace=self._sandbox is not None,
            )  # fmt: skip
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            return AttemptResult(
                conclusion="error",
                cause=f"could not start {invocation.argv[0]!r}: {why}",
                cause_code="requirement",
            )
        finally:
            invocation.close()
            if self._sandbox is not None:
                self._sandbox.close_inherited()

    def _marker(self) -> dict[str, str]:
        """Return the variables by which the attempt's processes are known."""
        return {
            "TAILRACE_RUN_ID": self._ctx.file.id,
            "TAILRACE_STEP": self._step.id,
            "TAILRACE_ATTEMPT": str(self.number),
        }

    # ---- while it runs -----------------------------------------------------------------------

    async def _supervise(
        self, leader: process.Leader, log: AttemptLog, narration: Narration
    ) -> AttemptResult:
        ctx = self._ctx
        ctx.leaders.add(leader.pid)
        containment = Containment(leader, self._marker(), ctx.leaders)
        request: StopRequest | None = None
        kill: Kill | None = None
        at_once = True  # where this is cancelled, or fails
        try:
            output = self.output = self._output(leader, log, narration)
            self._containment = containment
            self._deadline = Deadline(self._step.timeout_ms, self._loop.time())
            if self._paused:  # while it was being started
                await self.pause()
            request = await self._until_end(leader, output, narration, containment)
            at_once = request is not None and request.at_once
        finally:
            try:
                if request is not None or leader.returncode is None or containment.members():
                    grace_s = 0 if at_once else self._step.grace_ms / 1000
                    kill = await containment.stop(grace_s=grace_s)
            finally:
                self._containment = None
                containment.release()
                ctx.leaders.discard(leader.pid)
                if self.output is None:  # it couldn't be made
                    os.close(leader.output)
                else:
                    with ctx.disk_guard():
                        self.output.finish()
        if request is None and kill is not None:
            self._tell_leftovers(kill)
            kill = None
        return self._result(leader, output, request, kill, narration.refusal)

    def _output(self, leader: process.Leader, log: AttemptLog, narration: Narration) -> Output:
        limits = self._ctx.settings.limits
        masker = Masker(self._ctx.rules)
        self._ctx.maskers.add(masker)
        return Output(
            leader.output,
            step=self._step.id,
            attempt=self.number,
            masker=masker,
            log=log,
            recorder=self._ctx.recorder,
            read_chunk=limits.read_chunk,
            gather_s=limits.gather / 1000,
            limit=limits.log if self._step.limits.log is None else self._step.limits.log,
            hear=narration.hear,
            hear_end=narration.hear_end,
            on_text=narration.git_output if isinstance(self._step.action, CloneAction) else None,
            on_error=self._ctx.disk_failed,
        )

    async def _until_end(
        self,
        leader: process.Leader,
        output: Output,
        narration: Narration,
        containment: Containment,
    ) -> StopRequest | None:
        """Wait for the leader's exit (None), or for a reason to stop it."""
        exited = asyncio.ensure_future(self._end_of(leader))
        overrun = asyncio.ensure_future(self._overrun(containment))
        try:
            while True:
                self._nudged.clear()
                now = self._loop.time()
                limits = (self._deadline.left_s(now), self._silence_left_s(output, narration))
                known = [left for left in limits if left is not None]
                nudged = asyncio.ensure_future(self._nudged.wait())
                try:
                    await asyncio.wait(
                        (exited, overrun, self._stopped, nudged),
                        timeout=min(known) if known else None,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                finally:
                    nudged.cancel()
                if self._stopped.done():
                    return self._stopped.result()
                if overrun.done():
                    return overrun.result()
                if exited.done():
                    return None
                if (request := self._overdue(output, narration)) is not None:
                    return request
        finally:
            exited.cancel()
            overrun.cancel()

    async def _overrun(self, containment: Containment) -> StopRequest:
        """Wait until it uses more memory or processes than it may; for ever without limits."""
        limits = self._step.limits
        if limits.memory is None and limits.pids is None:
            await self._loop.create_future()
        over = await until_over(limits, containment)
        return StopRequest(
            conclusion="error", cause=over.cause, cause_code=over.cause_code, at_once=True
        )

    async def _end_of(self, leader: process.Leader) -> None:
        """Wait for the end of the step's own process, which may leave others behind."""
        if self._sandbox is None:
            await leader.wait()
            return
        ends = [asyncio.ensure_future(end) for end in (leader.wait(), self._sandbox.left())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    def _silence_left_s(self, output: Output, narration: Narration) -> float | None:
        """Return for how long it may still be silent; a pause and an open prompt don't count."""
        step = self._step
        if step.silence_ms is None or self._paused:
            return None
        now = self._loop.time()
        if self._ctx.prompts.is_waiting(step.id):
            return step.silence_ms / 1000
        heard = max(output.last_output, narration.last_event, self._awake_at)
        return max(heard + step.silence_ms / 1000 - now, 0.0)

    def _overdue(self, output: Output, narration: Narration) -> StopRequest | None:
        if self._deadline.left_s(self._loop.time()) == 0:
            return timed_out(self._deadline)
        if self._silence_left_s(output, narration) == 0:
            assert self._step.silence_ms is not None
            return StopRequest(
                conclusion="error",
                cause=f"no output for {format_duration(self._step.silence_ms)}",
                cause_code="silence",
            )
        return None

    # ---- afterwards --------------------------------------------------------------------------

    def _tell_leftovers(self, kill: Kill) -> None:
        count = max(kill.signalled, kill.forced, len(kill.survivors))
        if not count:  # they were just ending by themselves, as bubblewrap's do behind the step's
            return
        text = f"{count} process{'' if count == 1 else 'es'} outlived the step and had to be ended"
        if kill.survivors:
            names = ", ".join(f"{item.pid} ({item.cmd})" for item in kill.survivors)
            text += f"; still there: {names}"
        with self._ctx.disk_guard():
            self._ctx.recorder.record(Notice(kind="leftover", text=text, step=self._step.id))

    def _result(
        self,
        leader: process.Leader,
        output: Output,
        request: StopRequest | None,
        kill: Kill | None,
        refusal: str | None,
    ) -> AttemptResult:
        returncode = leader.returncode
        if self._sandbox is not None:
            told = self._sandbox.end()
            returncode = told.returncode_of(returncode, forced=kill is not None and kill.forced > 0)
            if request is None and not told.started:
                return self._without_sandbox(told, output)
        conclusion: Literal["success", "error", "aborted", "skipped"] = "success"
        cause: str | None = None
        code: CauseCode | None = None
        if request is not None:
            conclusion, cause, code = request.conclusion, request.cause, request.cause_code
        elif returncode is not None and returncode < 0:
            conclusion, code = "error", "signal"
            cause = f"killed by {process.signal_name(returncode)}"
        elif returncode != 0:
            cause = refusal or f"exit status {returncode}"
            conclusion, code = "error", "exit"
            if wrong := what_is_wrong(self._ctx.workspace):
                cause, code = f"{cause}, and {wrong}", "disk"
        return AttemptResult(
            conclusion=conclusion, returncode=returncode, cause=cause, cause_code=code, kill=kill,
            lines=output.lines, bytes=output.size,
        )  # fmt: skip

    def _without_sandbox(self, told: SandboxedEnd, output: Output) -> AttemptResult:
        """Return the result of a step that never began, for its sandbox or its program."""
        cause = "its sandbox can't be made; its output says why"
        if told.errno is not None:
            cause = f"could not start {told.program!r}: {os.strerror(told.errno)}"
        return AttemptResult(
            conclusion="error", cause=cause, cause_code="requirement",
            lines=output.lines, bytes=output.size,
        )  # fmt: skip

    def read_outputs(self) -> tuple[dict[str, str], list[str]]:
        """Return what the step wrote to ``$TAILRACE_OUTPUT``, and what was wrong with it."""
        assert self.places is not None
        try:
            folder = os.open(self.places.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with open(open_file(folder, self.places.output.name), "rb") as file:
                    return parse_outputs(file.read(MAX_FILE + 1))
            finally:
                os.close(folder)
        except OSError as exc:  # the step may put anything in its place, or nothing
            return {}, [f"$TAILRACE_OUTPUT can't be read: {exc.strerror}; its outputs are lost"]

    def discard(self) -> None:
        """Remove the attempt's folders."""
        if self.places is not None:
            self.places.remove()


def _cpus(cores: float | None) -> list[int] | None:
    """Return the processors that a step may run on: as many as it may use, any of ours."""
    ours = sorted(os.sched_getaffinity(0))
    if cores is None or cores > len(ours) - 1:
        return None
    return random.sample(ours, math.ceil(cores))
