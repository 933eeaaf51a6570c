"""What people and programs may ask of a running run, and how each is answered.

Asking for what is already so changes nothing and names the earlier ``control``
event; a command with an id is done once and answered the same again, unless it was refused.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from typing import TYPE_CHECKING, Literal

from msgspec import UNSET
from msgspec.structs import replace

from tailrace.core.events import FINAL_STEP_STATUSES, Control, Notice
from tailrace.core.units import format_duration
from tailrace.core.walk import Phase, Stop
from tailrace.runner.answers import Answers
from tailrace.runner.result import AttemptResult, StopRequest
from tailrace.wire import Command, Reply, cause_of

if TYPE_CHECKING:
    from tailrace.runner.engine import Engine
    from tailrace.runner.step_run import StepRun


class Steering:
    """Answers the commands of one run's control socket."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._answers = Answers()
        self._earlier: dict[tuple[str, str | None], int] = {}  # (action, step) -> seq
        self._one_at_a_time = asyncio.Lock()  # freezing takes a moment

    async def handle(self, command: Command) -> Reply:
        """Do what is asked, or say why not."""
        async with self._one_at_a_time:
            if known := self._answers.known(command):
                return known
            try:
                reply = await self._do(command)
            except OSError as exc:  # the disk: the run ends, and says so as soon as it can
                self._engine.disk_failed(exc)
                return Reply(status="invalid", reason=f"the run folder can't be written: {exc}")
            except Exception:  # noqa: BLE001 - the boundary of a command: the run goes on
                self._engine.ctx.log_bug(traceback.format_exc())
                return Reply(status="invalid", reason="the runner failed at it; see runner.log")
            if reply.reason is not None:  # it may name choices, a step, a state: as all may see it
                reply = replace(reply, reason=self._engine.ctx.mask_text(reply.reason))
            return self._answers.keep(command, reply)

    async def _do(self, command: Command) -> Reply:
        match command.command:
            case "hello":
                return Reply(status="done", pid=os.getpid())
            case "gauges":
                return Reply(status="done", gauges=self._engine.gauges())
            case _ if self._engine.ended is not None:  # its runner is just leaving
                return self._has_ended(self._engine.ended)
            case "away":
                return self._tell_away(command)
            case "cancel":
                return self._cancel(command)
            case "pause":
                return await self._pause(command)
            case "resume":
                return self._resume(command)
            case "answer":
                return self._engine.ctx.prompts.answer(
                    command.prompt or "", command.answer, by=command.by, via=command.via
                )
            case "skip" | "cancel_step":
                return self._end_step(command)
            case "extend":
                return self._extend(command)
            case "progress":
                return self._progress(command)

    def _has_ended(self, status: str) -> Reply:
        return Reply(status="conflict", state=status, reason=f"the run has ended: {status}")

    def _tell_away(self, command: Command) -> Reply:
        """Tell watchers that nobody served them for a while; the run didn't notice."""
        went = "stayed paused" if self._engine.paused else "went on"
        text = f"the daemon was away for {format_duration(command.away_ms)}; the run {went}"
        try:
            seq = self._engine.ctx.recorder.record(Notice(kind="daemon_away", text=text))
        except OSError as exc:  # of no weight: it must not end a run
            return Reply(status="conflict", reason=f"not told: {exc.strerror}")
        return Reply(status="done", seq=seq)

    def _cancel(self, command: Command) -> Reply:
        walk = self._engine.ctx.walk
        reason = walk.stop_reason
        cancelled = reason is not None and reason.kind == "cancel"
        # After a timeout it stays the reason, whoever cancels then.
        if (cancelled or ("cancel", None) in self._earlier) and (
            walk.phase is Phase.ENDING or not self._cleaning_up()
        ):
            return Reply(status="unchanged", seq=self._earlier.get(("cancel", None)))
        seq = self._tell("cancel", command)
        self._engine.stop(
            Stop(
                kind="cancel",
                cause=cause_of(command),
                cause_code=command.cause_code,
                by=command.by,
            )
        )
        return Reply(status="done", seq=seq)

    async def _pause(self, command: Command) -> Reply:
        if self._engine.ctx.walk.phase is not Phase.WALKING:
            return Reply(status="conflict", state="running", reason="the run is being ended")
        if self._engine.paused:
            return Reply(status="unchanged", seq=self._earlier.get(("pause", None)))
        await self._engine.pause()
        if self._engine.ended is not None:  # while its last step was being frozen
            return self._has_ended(self._engine.ended)
        return Reply(status="done", seq=self._tell("pause", command))

    def _resume(self, command: Command) -> Reply:
        if not self._engine.paused:
            return Reply(status="unchanged", seq=self._earlier.get(("resume", None)))
        seq = self._tell("resume", command)
        self._engine.resume()
        return Reply(status="done", seq=seq)

    def _extend(self, command: Command) -> Reply:
        name = command.step or ""
        status = self._status_of(name)
        if status is None:
            return Reply(status="unknown", reason=f"no step is named '{name}'")
        if command.by_ms <= 0:
            return Reply(status="invalid", reason="extend by more than nothing, such as 10m")
        running = self._engine.running.get(name)
        attempt = None if running is None or running.stop_request else running.attempt
        if attempt is None or not attempt.started:
            state, said = _why_no_attempt(running, status)
            return Reply(status="conflict", state=state, reason=f"step '{name}' {said}")
        if not attempt.extend(command.by_ms):
            return Reply(status="conflict", state=status, reason=f"step '{name}' has no timeout")
        return Reply(status="done", seq=self._tell("extend", command))

    def _progress(self, command: Command) -> Reply:
        """Tell progress in a step's name, through the throttle that its own goes through."""
        if command.stage is None and command.percent is None and command.note is None:
            return Reply(status="invalid", reason="give it a stage, a percent or a note")
        name = command.step
        if name is not None and (status := self._status_of(name)) is None:
            return Reply(status="unknown", reason=f"no step is named '{name}'")
        if self._engine.paused:
            return Reply(status="conflict", state="paused", reason="the run is paused")
        told = {
            step: running.attempt.narration
            for step, running in self._engine.running.items()
            if running.attempt is not None and running.attempt.narration is not None
        }
        if name is None and len(told) > 1:
            steps = ", ".join(sorted(told))
            return Reply(status="invalid", reason=f"several steps run; name one of them: {steps}")
        if name is None and not told:
            return Reply(status="conflict", state="running", reason="no step runs at the moment")
        narration = told.get(name) if name is not None else next(iter(told.values()))
        if narration is None:
            reason = f"step '{name}' isn't running: {status}"
            if name in self._engine.running:
                reason = f"step '{name}' has no progress to tell: it waits"
            return Reply(status="conflict", state=status, reason=reason)
        narration.tell_progress(
            stage=command.stage, percent=command.percent, note=command.note
        )  # fmt: skip
        return Reply(status="done")

    def _status_of(self, step: str) -> str | None:
        """Return a step's status, or None where there is no such step."""
        walk = self._engine.ctx.walk
        return walk.status_of(step) if walk.knows(step) else None

    def _cleaning_up(self) -> bool:
        """Whether steps that started after the cancel are running: a second cancel ends them."""
        return any(run.stop_request is None for run in self._engine.running.values())

    def _end_step(self, command: Command) -> Reply:
        name = command.step or ""
        status = self._status_of(name)
        if status is None:
            return Reply(status="unknown", reason=f"no step is named '{name}'")
        earlier = self._earlier.get((command.command, name))
        if earlier is not None:
            return Reply(status="unchanged", seq=earlier)
        if status in FINAL_STEP_STATUSES:
            return Reply(
                status="conflict", state=status, reason=f"step '{name}' has ended: {status}"
            )
        running = self._engine.running.get(name)
        if running is not None and (stop := running.stop_request) is not None:
            if command.command == "cancel_step" and stop.conclusion == "aborted":
                return Reply(status="unchanged", seq=self._earlier.get(("cancel", None)))
            return Reply(status="conflict", state=status, reason=f"step '{name}' is being stopped")
        seq = self._tell(command.command, command)
        cause = cause_of(command, "skipped" if command.command == "skip" else "cancelled")
        if running is not None:
            conclusion: Literal["skipped", "aborted"] = (
                "skipped" if command.command == "skip" else "aborted"
            )
            running.stop(StopRequest(conclusion=conclusion, cause=cause, cause_code="cancelled"))
        else:
            self._engine.finish_step(
                self._engine.ctx.plan.step(name),
                AttemptResult(conclusion="skipped", cause=cause, cause_code="cancelled"),
                by_person=command.command == "skip",
            )
        return Reply(status="done", seq=seq)

    def _tell(self, action: str, command: Command) -> int:
        name = "cancel" if action == "cancel_step" else action
        seq = self._engine.ctx.recorder.record(
            Control(
                action=name, by=command.by or None, via=command.via or None, step=command.step,
                extended_ms=command.by_ms if name == "extend" else UNSET,
            )
        )  # fmt: skip
        self._earlier[action, command.step] = seq
        return seq


def _why_no_attempt(running: StepRun | None, status: str) -> tuple[str, str]:
    """Return a step's state, and what it does instead of executing an attempt."""
    if running is None:
        return status, f"isn't running: {status}"
    if running.stop_request is not None:
        return status, "is being stopped"
    if running.attempts:
        return "retrying", "waits for its next attempt"
    return "pending", "waits for its start"
