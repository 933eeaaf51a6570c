"""From a pipeline and what a run was given to its plan: nothing left to look up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from tailrace.core.graph import Graph, nearest
from tailrace.core.plan import (
    Action,
    AskAction,
    Budget,
    CloneAction,
    CommandAction,
    ParamValue,
    Plan,
    RunAction,
    StepPlan,
)
from tailrace.errors import InvalidInputError, Problem
from tailrace.pipeline.expressions import Scope, has_template, render
from tailrace.pipeline.model import Depth, Pipeline, Sandbox, StepDef
from tailrace.pipeline.spelling import printable, suggest
from tailrace.pipeline.variants import absent_steps, combinations, default_depth, graph_at
from tailrace.pipeline.variants import graph_of as graph_of  # what listings show of a file

_HOOK_KINDS = frozenset({"push", "tag", "pull_request", "release"})


class PlanDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say where a pipeline says nothing."""

    timeout_ms: int | None = 6 * 3_600_000  # ``limits.timeout``; None: no limit
    parallel: int = 1  # cores


def make_plan(
    pipeline: Pipeline,
    params: Mapping[str, ParamValue],
    *,
    depth: str | None = None,
    event: dict[str, Any] | None = None,
    run_id: str = "",
    run_ref: str = "",
    defaults: PlanDefaults = PlanDefaults(),  # noqa: B008 - frozen
) -> Plan:
    """Resolve a run: depth chosen, matrix expanded, needs of absent steps inherited.

    *params* are as `tailrace.pipeline.params.check_params` returns them. The
    concurrency group is rendered; other templates wait for their step.

    Raises:
        InvalidInputError: the pipeline has no such depth.
        TemplateError: the concurrency group takes something that is no text.
    """
    chosen = choose_depth(pipeline, depth)
    budget = pipeline.depths[chosen] if chosen is not None else Depth()
    graph = graph_at(pipeline, chosen)
    ids = {name: tuple(found for found, _ in combinations(pipeline.steps[name])) for name in graph}
    caused = event is not None and event.get("kind") in _HOOK_KINDS
    sandbox: Sandbox = "required" if caused else "off"
    steps = tuple(
        _plan_step(pipeline, budget, graph, ids, pipeline.steps[name], step_id, matrix, sandbox)
        for name in graph
        for step_id, matrix in combinations(pipeline.steps[name])
    )
    scope = Scope(params=params, depth=chosen, event=event, run_id=run_id, run_ref=run_ref)
    concurrency = pipeline.concurrency
    return Plan(
        pipeline=pipeline.name,
        description=pipeline.description,
        depth=chosen,
        steps=steps,
        absent=absent_steps(pipeline, chosen),
        timeout_ms=_run_timeout(pipeline, budget, defaults),
        parallel=pipeline.parallel or defaults.parallel,
        fail_fast=pipeline.fail_fast,
        on_disconnect=pipeline.on_disconnect,
        on_lost=pipeline.on_lost,
        group=render(concurrency.group, scope) if concurrency is not None else None,
        on_conflict=concurrency.on_conflict if concurrency is not None else "queue",
        budget=Budget(usd=budget.usd, tokens=budget.tokens),
        secrets=_merged(*(step.secrets for step in steps)),
        requires=pipeline.requires,
    )


def choose_depth(pipeline: Pipeline, depth: str | None) -> str | None:
    """Return the depth of a run that asks for *depth*; None where the pipeline has none.

    Raises:
        InvalidInputError: the pipeline has no such depth.
    """
    if depth is None:
        return default_depth(pipeline)
    if depth not in pipeline.depths:
        hint = suggest(depth, pipeline.depths, otherwise="name one of 'depths', or leave it out")
        raise InvalidInputError([Problem("depth", f"no depth is named '{printable(depth)}'", hint)])
    return depth


def _run_timeout(pipeline: Pipeline, budget: Depth, defaults: PlanDefaults) -> int | None:
    for timeout in (budget.timeout_ms, pipeline.timeout_ms):
        if timeout is not UNSET:
            return timeout
    return defaults.timeout_ms


def _plan_step(
    pipeline: Pipeline,
    budget: Depth,
    graph: Graph,
    ids: Mapping[str, tuple[str, ...]],
    step: StepDef,
    step_id: str,
    matrix: dict[str, str],
    sandbox: Sandbox,
) -> StepPlan:
    return StepPlan(
        id=step_id,
        base=step.id,
        label=_label(step, step_id, matrix),
        action=_action(step, step_id),
        needs=tuple(found for need in graph[step.id] for found in ids[need]),
        when=step.when,
        workdir=step.workdir,
        workdir_of=_workdir_of(pipeline, graph, ids, step),
        shell=step.shell,
        env={**pipeline.env, **budget.env, **step.env},
        secrets=_merged(pipeline.secrets, step.secrets),
        matrix=matrix,
        timeout_ms=step.timeout_ms,
        silence_ms=step.silence_ms,
        grace_ms=step.grace_ms,
        retry=step.retry,
        allow_failure=step.allow_failure,
        limits=step.limits,
        sandbox=step.sandbox or sandbox,
        network=step.network,
        host=step.host,
        artifacts=step.artifacts.paths,
        primary=step.artifacts.primary,
        narration=step.narration,
        echo=step.echo,
    )


def _label(step: StepDef, step_id: str, matrix: Mapping[str, str]) -> str:
    """Return the label; combinations that would share one get their values appended."""
    if step.label is None:
        return step_id
    if not matrix or (has_template(step.label) and "matrix" in step.label):
        return step.label
    return f"{step.label} ({', '.join(matrix.values())})"


def _action(step: StepDef, step_id: str) -> Action:
    if step.run is not None:
        return RunAction(script=step.run)
    if step.command is not None:
        return CommandAction(argv=step.command)
    if step.ask is not None:
        ask = step.ask
        return AskAction(
            question=ask.question,
            choices=ask.choices,
            default=ask.default,
            expires_ms=ask.expires_ms,
            scope=ask.scope,
        )
    clone = step.clone
    assert clone is not None, "the loader lets no step pass that does nothing"
    return CloneAction(
        url=clone.url,
        ref=clone.ref,
        commit=clone.commit,
        history=clone.history,
        submodules=clone.submodules,
        path=clone.path if clone.path is not None else clone_folder(step_id),
    )


def clone_folder(step_id: str) -> str:
    """Return the folder of a clone step that names none: ``clone``, or ``clone@3.11,linux``.

    No two ids share one, and no character in it means anything to a shell.
    """
    return step_id.replace("[", "@").removesuffix("]")


def _workdir_of(
    pipeline: Pipeline, graph: Graph, ids: Mapping[str, tuple[str, ...]], step: StepDef
) -> str | None:
    if step.workdir is not None or step.clone is not None or step.ask is not None:
        return None
    clones = [name for name in graph if pipeline.steps[name].clone is not None]
    # The loader refuses a file in which this is not one step of one combination.
    return next((ids[name][0] for name in nearest(graph, step.id, clones)), None)


def _merged(*names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in names for name in group))
