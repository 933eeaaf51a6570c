"""What a finished step leaves to the run: its outputs and artifacts, or those of an earlier run."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import UNSET

from tailrace.core import events
from tailrace.core.plan import StepPlan
from tailrace.core.walk import Phase
from tailrace.errors import TailraceError
from tailrace.pipeline.expressions import TemplateError, render
from tailrace.rundir.disk import sync_folder, write_synced
from tailrace.rundir.layout import RunDir
from tailrace.rundir.snapshot import read_snapshot
from tailrace.runner import artifacts
from tailrace.runner.ask import Ask
from tailrace.runner.attempt import Attempt
from tailrace.runner.context import RunContext


async def collect(
    ctx: RunContext, step: StepPlan, attempt: Attempt | Ask, *, succeeded: bool
) -> None:
    """Take over the outputs and artifacts of a step's last attempt.

    That its primary artifact is missing is told where it *succeeded*; otherwise
    that is no wonder.

    Raises:
        OSError: the run folder can't be written.
    """
    await _take_outputs(ctx, step, attempt)
    if isinstance(attempt, Ask) or attempt.places is None or attempt.workdir is None:
        return  # it has no places, or never started
    scope = ctx.scope(step)
    primary: str | None = None
    try:
        patterns = [render(pattern, scope) for pattern in step.artifacts]
        primary = None if step.primary is None else render(step.primary, scope)
    except TemplateError as exc:
        patterns = []
        _notice(ctx, step, str(exc))
    if not patterns and primary is None and _is_empty(attempt.places.artifacts):
        return  # as most steps do: spare them a thread
    told_primary = False
    async with ctx.collecting:  # steps that end together share names and limits
        found = await _collect_files(ctx, step, attempt.places.artifacts, attempt.workdir, patterns)
        for kind, text in found.notices:
            ctx.recorder.record(events.Notice(kind=kind, text=text, step=step.id))
        for file in found.files:
            is_primary = file.given == primary
            _tell(
                ctx,
                events.Artifact(
                    step=step.id, name=file.name, url=ctx.url_of(file.name), bytes=file.bytes,
                    sha256=file.sha256, media_type=file.media_type, primary=is_primary or UNSET,
                ),
            )  # fmt: skip
            told_primary |= is_primary
    if primary is not None and not told_primary and succeeded:
        _notice(ctx, step, f"artifacts.primary: no file is collected as {primary}")


def _notice(ctx: RunContext, step: StepPlan, text: str) -> None:
    ctx.recorder.record(events.Notice(kind="artifacts", text=text, step=step.id))


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
        workdir,
        patterns,
        ctx.run.artifacts,
        step=step.id,
        taken={artifact.name: artifact.step for artifact in ctx.artifacts},
        max_bytes=_left(limits.artifacts, step.limits.artifacts, ctx.artifacts),
        max_files=limits.artifact_files - len(ctx.artifacts),
        would_mask=ask,
        workspace=ctx.workspace.parent.resolve() / ctx.workspace.name,
    )


def _left(of_run: int, of_step: int | None, used: list[events.Artifact]) -> int:
    left = max(of_run - sum(artifact.bytes for artifact in used), 0)
    return left if of_step is None else min(left, of_step)


def _tell(ctx: RunContext, event: events.Artifact) -> None:
    ctx.recorder.record(event)
    ctx.artifacts.append(event)
    if event.primary is True:
        ctx.primary = event.name


async def _take_outputs(ctx: RunContext, step: StepPlan, attempt: Attempt | Ask) -> None:
    if not attempt.started:
        return
    outputs, problems = attempt.read_outputs()
    if secret := [name for name in outputs if ctx.rules.would_mask(name)]:
        outputs = {name: value for name, value in outputs.items() if name not in secret}
        problems.append("an output whose name holds what is masked is left out")
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


class EarlierGoneError(TailraceError):
    """What an earlier run has left can't be read any more; the text is this run's cause."""


@dataclass(frozen=True, slots=True)
class _Left:
    """What a step of an earlier run has left, its artifacts being copied."""

    finished: events.StepFinished
    outputs: dict[str, str]
    artifacts: list[events.Artifact]


async def take_over(ctx: RunContext) -> None:
    """Begin with what the run that this one repeats has done already; a stop ends it early.

    Raises:
        EarlierGoneError: the earlier run's folder, or something in it, is gone.
        OSError: this run's folder can't be written.
    """
    for step_id, run_id in ctx.file.reused.items():
        if _is_settled(ctx, step_id):  # by a runner that died since
            continue
        left = await asyncio.to_thread(_copy_left, ctx.state.run(run_id), ctx.run, step_id)
        if left.outputs:
            await _keep_outputs(ctx, step_id, left.outputs)
        if _is_settled(ctx, step_id):  # by somebody, meanwhile
            continue
        for artifact in left.artifacts:
            _tell(ctx, msgspec.structs.replace(artifact, url=ctx.url_of(artifact.name)))
        # Its output stays with the earlier run: here it printed nothing.
        finished = msgspec.structs.replace(left.finished, reused=True, lines=0, bytes=0)
        ctx.recorder.record(finished)
        ctx.walk.finished(step_id, finished.status, allowed=finished.allowed)


def _is_settled(ctx: RunContext, step: str) -> bool:
    return ctx.walk.status_of(step) != "pending" or ctx.walk.phase is not Phase.WALKING


def _copy_left(earlier: RunDir, run: RunDir, step: str) -> _Left:
    with _reading(earlier, step):
        earlier.journal.stat()  # one that isn't there would read as empty
        snapshot = read_snapshot(earlier)
        finished = snapshot.steps[step].finished
        outputs: dict[str, str] = {}
        if earlier.outputs(step).exists():
            outputs = msgspec.json.decode(earlier.outputs(step).read_bytes(), type=dict[str, str])
    assert finished is not None, "only steps that have finished are reused"
    left = [artifact for artifact in snapshot.artifacts if artifact.step == step]
    for artifact in left:
        with _reading(earlier, step):
            path = earlier.artifacts / artifact.name
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        target = run.artifacts / artifact.name
        with open(source, "rb") as old:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with target.open("wb") as new:
                shutil.copyfileobj(old, new)
    return _Left(finished, outputs, left)


@contextmanager
def _reading(earlier: RunDir, step: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, OSError, msgspec.MsgspecError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "damaged"
        cause = f"what step '{step}' left in run {earlier.id} can't be read ({why})"
        raise EarlierGoneError(f"{cause}; retry from the start") from exc
