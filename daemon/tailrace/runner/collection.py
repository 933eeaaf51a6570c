"""What a finished step leaves to the run: its outputs and artifacts, or those of an earlier run."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec

from tailrace.core import events
from tailrace.core.plan import StepPlan
from tailrace.pipeline.expressions import TemplateError, render
from tailrace.rundir.disk import sync_folder, write_synced
from tailrace.rundir.layout import RunDir
from tailrace.rundir.snapshot import read_snapshot
from tailrace.runner import artifacts
from tailrace.runner.ask import Ask
from tailrace.runner.attempt import Attempt
from tailrace.runner.context import RunContext


async def collect(ctx: RunContext, step: StepPlan, attempt: Attempt | Ask) -> None:
    """Take over the outputs and artifacts of a step's last attempt.

    Raises:
        OSError: the run folder can't be written.
    """
    await _take_outputs(ctx, step, attempt)
    if isinstance(attempt, Ask) or attempt.places is None or attempt.workdir is None:
        return  # it has no places, or never started
    scope = ctx.scope(step)
    try:
        patterns = [render(pattern, scope) for pattern in step.artifacts]
    except TemplateError as exc:
        patterns = []
        ctx.recorder.record(events.Notice(kind="artifacts", text=str(exc), step=step.id))
    if not patterns and _is_empty(attempt.places.artifacts):
        return  # as most steps do: spare them a thread
    async with ctx.collecting:  # steps that end together share names and limits
        found = await _collect_files(ctx, step, attempt.places.artifacts, attempt.workdir, patterns)
        for kind, text in found.notices:
            ctx.recorder.record(events.Notice(kind=kind, text=text, step=step.id))
        for file in found.files:
            _tell(ctx, step, file.name, file.bytes, file.sha256, file.media_type)


def _is_empty(folder: Path) -> bool:
    try:
        return next(folder.iterdir(), None) is None
    except OSError:  # the step took it away, or made it unreadable: the collection tells
        return False


async def _collect_files(
    ctx: RunContext, step: StepPlan, source: Path, workdir: Path, patterns: list[str]
) -> artifacts.Collection:
    loop = asyncio.get_running_loop()

    async def would_mask(name: str) -> bool:
        return ctx.rules.would_mask(name)

    def ask(name: str) -> bool:
        # The masker's scratch space is the loop's: no other thread may use it meanwhile.
        return asyncio.run_coroutine_threadsafe(would_mask(name), loop).result()

    limits = ctx.settings.limits
    return await asyncio.to_thread(
        artifacts.collect,
        source,
        workdir.resolve(),
        patterns,
        ctx.run.artifacts,
        step=step.id,
        taken={artifact.name: artifact.step for artifact in ctx.artifacts},
        max_bytes=_left(limits.artifacts, step.limits.artifacts, ctx.artifacts),
        max_files=limits.artifact_files - len(ctx.artifacts),
        would_mask=ask,
        workspace=ctx.workspace.resolve(),
    )


def _left(of_run: int, of_step: int | None, used: list[events.Artifact]) -> int:
    left = max(of_run - sum(artifact.bytes for artifact in used), 0)
    return left if of_step is None else min(left, of_step)


def _tell(
    ctx: RunContext, step: StepPlan, name: str, size: int, sha256: str, media_type: str
) -> None:
    event = events.Artifact(
        step=step.id, name=name, url=ctx.url_of(name), bytes=size, sha256=sha256,
        media_type=media_type,
    )  # fmt: skip
    ctx.recorder.record(event)
    ctx.artifacts.append(event)
    if step.primary is not None and name in (step.primary, f"{step.id}/{step.primary}"):
        ctx.primary = name


async def _take_outputs(ctx: RunContext, step: StepPlan, attempt: Attempt | Ask) -> None:
    if not attempt.started:
        return
    outputs, problems = attempt.read_outputs()
    for problem in problems:
        ctx.recorder.record(events.Notice(kind="outputs", text=problem, step=step.id))
    if outputs:
        await _keep_outputs(ctx, step.id, outputs)


async def _keep_outputs(ctx: RunContext, step: str, outputs: dict[str, str]) -> None:
    """Keep a step's outputs, on disk when this returns: its end is told next."""
    ctx.outputs[step] = outputs
    masked = {name: ctx.rules.mask_text(value) for name, value in outputs.items()}
    await asyncio.to_thread(_write_outputs, ctx.run, step, msgspec.json.encode(masked))


def _write_outputs(run: RunDir, step: str, data: bytes) -> None:
    folder = run.outputs(step).parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_synced(run.outputs(step), data)
    for above in (folder.parent, run.path):
        sync_folder(above)


async def take_over(ctx: RunContext) -> None:
    """Begin with what the run that this one repeats has done already.

    Raises:
        OSError: the earlier run's folder is gone, or this one can't be written.
    """
    for step_id, run_id in ctx.file.reused.items():
        if ctx.walk.status_of(step_id) != "pending":  # by a runner that died since
            continue
        step = ctx.plan.step(step_id)
        earlier = ctx.state.run(run_id)
        snapshot = read_snapshot(earlier)
        if earlier.outputs(step_id).exists():
            outputs = msgspec.json.decode(
                earlier.outputs(step_id).read_bytes(), type=dict[str, str]
            )
            await _keep_outputs(ctx, step_id, outputs)
        for artifact in snapshot.artifacts:
            if artifact.step == step_id:
                _copy(earlier, ctx.run, artifact.name)
                _tell(
                    ctx, step, artifact.name, artifact.bytes, artifact.sha256, artifact.media_type
                )
        finished = snapshot.steps[step_id].finished
        assert finished is not None, "only steps that have finished are reused"
        ctx.recorder.record(msgspec.structs.replace(finished, reused=True))
        ctx.walk.finished(step_id, finished.status, allowed=finished.allowed)


def _copy(source: RunDir, target: RunDir, name: str) -> None:
    to = target.artifacts / name
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(source.artifacts / name, to, follow_symlinks=False)
