"""What is written of a run when it is accepted: ``run.json`` and its ``plan`` event."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tailrace import wire
from tailrace.core import events
from tailrace.core.mask_rules import MaskRules
from tailrace.core.plan import ParamValue, Plan, RunFile, StepPlan
from tailrace.core.ulid import new_ulid
from tailrace.pipeline.expressions import Scope, TemplateError, render, text_of
from tailrace.pipeline.paths import blank_event
from tailrace.worker.submission import Repeat, Submission


def new_run_file(pipeline: str, number: int, asked: Submission | Repeat) -> RunFile:
    """Return a new run with its id, its ref and who asked, and no plan yet."""
    now = time.time()
    return RunFile(
        id=new_ulid(int(now * 1_000), os.urandom(10)),
        ref=f"{pipeline}/{number}",
        pipeline=pipeline,
        by=asked.by,
        via=asked.via,
        created_at=wire.timestamp(now),
        trusted=asked.trusted,
        keep_workspace=isinstance(asked, Submission) and asked.keep_workspace,
        event=asked.event if isinstance(asked, Submission) else _event_again(asked.of),
        key=asked.key,
        body_sha256=asked.body_sha256,
        plan=Plan(pipeline=pipeline, steps=()),
    )


def _event_again(old: RunFile) -> dict[str, Any]:
    """Return what caused a repeated run: what caused *old*, unless that was just a person."""
    return blank_event("retry") if old.event is None else old.event


def masked_run_file(
    run_file: RunFile,
    plan: Plan,
    params: Mapping[str, ParamValue],
    hidden: Mapping[str, ParamValue],
    rules: MaskRules,
) -> RunFile:
    """Return ``run.json`` as it may be on disk."""
    mask = rules.mask_text
    return msgspec.structs.replace(
        run_file,
        depth=plan.depth,
        params={n: mask(text_of(v, n)) if n in hidden else v for n, v in params.items()},
        params_masked=tuple(hidden),
        by=mask(run_file.by),
        event=_masked_value(run_file.event, mask),
        # Two groups that differ in a secret alone become one, which is the safe side.
        plan=msgspec.structs.replace(plan, group=plan.group and mask(plan.group)),
    )


def _masked_value(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {key: _masked_value(item, mask) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked_value(item, mask) for item in value]
    return value


def plan_event(run_file: RunFile, plan: Plan, scope: Scope) -> events.PlanEvent:
    """Return the first event of a run, its labels as far as they are known now."""
    labels = [
        _label(step, msgspec.structs.replace(scope, matrix=step.matrix)) for step in plan.steps
    ]
    return events.PlanEvent(
        run=run_file.id,
        ref=run_file.ref,
        pipeline=run_file.pipeline,
        depth=plan.depth,
        params=dict(run_file.params),
        by=run_file.by,
        via=run_file.via,
        retry_of=run_file.retry_of,
        steps=tuple(labels),
        graph=tuple(
            events.GraphNode(id=step.id, label=label, needs=step.needs)
            for step, label in zip(plan.steps, labels, strict=True)
        ),
    )


def _label(step: StepPlan, scope: Scope) -> str:
    """Return a step's label as far as it is known now; outputs of other steps read empty."""
    try:
        return render(step.label, scope)
    except TemplateError:
        return step.id
