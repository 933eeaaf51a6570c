"""Runs and pipelines as bodies: what is known of them becomes what section 3 shows.

The daemon answers with these, and so does the command line where no daemon
lives. ``base`` begins all addresses; None stands for no daemon: files are then
where the runner said, and paths begin with ``/``.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from tailrace import wire
from tailrace.core import events
from tailrace.core.run import Snapshot, StepState
from tailrace.pipeline.catalog import Entry
from tailrace.pipeline.params import params_schema
from tailrace.pipeline.variants import default_depth
from tailrace.store.index import RunRow

API = "/api/v1"


def run_path(run_id: str) -> str:
    """Return a run's path."""
    return f"{API}/runs/{run_id}"


def artifact_path(run_id: str, name: str) -> str:
    """Return an artifact's path."""
    return f"{run_path(run_id)}/artifacts/{quote(name)}"


def run_summary(row: RunRow, base: str | None) -> wire.RunSummary:
    """Return a run as lists show it."""
    known = msgspec.structs.asdict(row)
    del known["key"], known["body_sha256"]
    known["file_url"] = _file_url(row.id, row.file_url, base)
    url = (base or "") + run_path(row.id)
    return wire.RunSummary(**known, url=url, events_url=f"{url}/events")


def run_view(run: Snapshot, base: str | None) -> wire.RunView:
    """Return a run as ``GET /runs/{id}`` shows it."""
    url = (base or "") + run_path(run.id)
    artifacts = tuple(_artifact_view(run.id, item, base) for item in run.artifacts)
    return wire.RunView(
        id=run.id,
        ref=run.ref,
        pipeline=run.pipeline,
        depth=run.depth,
        params=run.params,
        status=run.status,
        cause=run.cause,
        cause_code=run.cause_code,
        created_at=run.created_at or "",
        started_at=run.started_at,
        finished_at=run.finished_at,
        duration_ms=run.duration_ms,
        last_seq=run.last_seq,
        url=url,
        events_url=f"{url}/events",
        file_url=_file_url(run.id, run.file_url, base),
        retry_of=run.retry_of,
        by=run.by,
        via=run.via,
        steps=tuple(step_view(state) for state in run.steps.values()),
        artifacts=artifacts,
        prompts=tuple(msgspec.to_builtins(prompt) for prompt in run.prompts.values()),
    )


def step_view(state: StepState) -> wire.StepView:
    """Return a step as ``GET /runs/{id}`` shows it."""
    place = wire.StepView(
        step=state.id,
        label=state.label,
        needs=state.needs,
        status=state.status,
        attempt=state.attempt,
        started_at=state.started_at,
    )
    if (end := state.finished) is None:
        return place
    return msgspec.structs.replace(
        place,
        allowed=end.allowed,
        reused=end.reused,
        returncode=end.returncode,
        signal=end.signal,
        cause=end.cause,
        cause_code=end.cause_code,
        duration_ms=end.duration_ms,
        lines=end.lines,
        bytes=end.bytes,
        kill=end.kill,
    )


def _artifact_view(run_id: str, item: events.Artifact, base: str | None) -> wire.ArtifactView:
    return wire.ArtifactView(
        step=item.step,
        name=item.name,
        url=item.url if base is None else base + artifact_path(run_id, item.name),
        bytes=item.bytes,
        sha256=item.sha256,
        media_type=item.media_type,
    )


def _file_url(run_id: str, told: str | None, base: str | None) -> str | None:
    """Return the primary artifact's address for this client; the event's has its own writer's."""
    if told is None or base is None:
        return told
    _, place, name = told.partition(f"/runs/{run_id}/artifacts/")  # of http: or file:, quoted
    return base + API + place + name if name else told


def pipeline_view(
    entry: Entry,
    last: list[RunRow],
    base: str | None,
    schedules: tuple[wire.ScheduleView, ...] = (),
) -> wire.PipelineView:
    """Return a pipeline with its last runs and its schedules, or with its mistakes."""
    runs = tuple(run_summary(row, base) for row in last)
    pipeline = entry.pipeline
    if pipeline is None:
        mistakes = tuple(
            wire.Mistake(
                where=item.where, problem=item.problem, hint=item.hint, position=item.position
            )
            for item in entry.problems
        )
        return wire.PipelineView(name=entry.name, last_runs=runs, mistakes=mistakes)
    return wire.PipelineView(
        name=pipeline.name,
        description=pipeline.description,
        params={name: msgspec.to_builtins(param) for name, param in pipeline.params.items()},
        params_schema=params_schema(pipeline),
        depths=tuple(pipeline.depths),
        default_depth=default_depth(pipeline),
        graph=tuple(
            wire.PipelineNode(
                id=step.id,
                label=step.label or step.id,
                needs=step.needs,
                depth=step.depth,
                matrix=step.matrix,
                when=step.when,
            )
            for step in pipeline.steps.values()
        ),
        next_run_at=min(filter(None, (each.next_run_at for each in schedules)), default=None),
        schedules=schedules,
        last_runs=runs,
    )
