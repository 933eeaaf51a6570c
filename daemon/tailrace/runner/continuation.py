"""Goes on where a runner died: the same run and journal, finished steps as they ended."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from tailrace import wire
from tailrace.core.events import Artifact
from tailrace.core.lost import replay
from tailrace.core.run import UNDERWAY, Snapshot
from tailrace.errors import ConflictError
from tailrace.rundir.attempts import remove_attempts
from tailrace.rundir.past import RunPast
from tailrace.runner.context import Earlier, RunContext


def check_settled(ref: str, before: Snapshot) -> None:
    """Refuse a run whose last runner's death isn't told yet, or that needs no other.

    Raises:
        ConflictError: it isn't to be continued.
    """
    running = any(step.status in UNDERWAY for step in before.steps.values())
    if before.is_final or before.status == "queued" or running:
        raise ConflictError(f"{ref} can't be continued: {before.status}", state=before.status)


def take_up(ctx: RunContext) -> None:
    """Bring *ctx* to where the journal ends, and remove what unfinished attempts left.

    Raises:
        OSError: the run folder can't be read or written.
        msgspec.MsgspecError: a file of outputs is damaged.
    """
    past = RunPast(ctx.run)
    snapshot, now = past.snapshot, time.time()
    ctx.walk = replay(ctx.plan, snapshot, past.told)
    ctx.totals.begin_with(past.told.cost)
    ctx.earlier = Earlier(
        elapsed_s=_since(snapshot.started_at, now),
        paused_s=past.paused_s(now),
        is_paused=snapshot.paused,
        attempts={s.id: s.attempt for s in snapshot.steps.values() if not s.is_final},
        step_elapsed_s={s.id: _since(s.started_at, now) for s in snapshot.steps.values()},
        delay_s={
            s.id: max(0.0, s.delay_ms / 1000 - _since(s.failed_at, now))
            for s in snapshot.steps.values()
            if s.failed_at is not None
        },
    )
    finished = {step.id for step in snapshot.steps.values() if step.is_final}
    remove_attempts(ctx.run)
    _restore_outputs(ctx, finished)
    _restore_artifacts(ctx, [item for item in snapshot.artifacts if item.step in finished])


def _since(moment: str | None, now: float) -> float:
    return 0.0 if moment is None else max(0.0, now - wire.parse_timestamp(moment))


def _restore_outputs(ctx: RunContext, finished: set[str]) -> None:
    for step in ctx.plan.steps:
        path = ctx.run.outputs(step.id)
        if step.id not in finished:
            path.unlink(missing_ok=True)
        elif path.exists():
            ctx.outputs[step.id] = msgspec.json.decode(path.read_bytes(), type=dict[str, str])


def _restore_artifacts(ctx: RunContext, told: list[Artifact]) -> None:
    for artifact in told:
        ctx.artifacts.append(artifact)
        if artifact.primary is True:
            ctx.primary = artifact.name
    names = {artifact.name for artifact in told}
    for folder, _, files in os.walk(ctx.run.artifacts):
        for name in files:
            path = Path(folder, name)
            if str(path.relative_to(ctx.run.artifacts)) not in names:
                path.unlink(missing_ok=True)  # collected, or half so, when the runner died
