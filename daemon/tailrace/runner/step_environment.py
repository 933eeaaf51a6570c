"""All variables of an attempt: the common ones, the pipeline's, params, outputs, and its places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tailrace.core.plan import StepPlan
from tailrace.pipeline.expressions import Scope, TemplateError, render
from tailrace.pipeline.paths import variable_of
from tailrace.runner.context import RunContext
from tailrace.runner.environment import (
    MAX_OUTPUTS,
    base_environment,
    output_variables,
    param_variables,
)
from tailrace.runner.invocation import RefusedStepError
from tailrace.runner.places import Places

_SHOWN: Final = 5  # names in a notice


def step_environment(
    ctx: RunContext,
    step: StepPlan,
    scope: Scope,
    places: Places,
    *,
    marker: Mapping[str, str],
    sandboxed: bool,
) -> tuple[dict[str, str], list[str]]:
    """Return an attempt's environment, and the names of outputs that it has no room for.

    *marker* are the variables by which the attempt's processes are known.

    Raises:
        RefusedStepError: a template of ``env`` has no value.
    """
    outputs, left_out = output_variables(ctx.needed_outputs(step))
    return {
        **base_environment(ctx.settings.step_env),
        **({"HOME": str(places.home)} if sandboxed else {}),
        "TMPDIR": str(places.tmp),
        **{name: _rendered(step, name, scope) for name in step.env},
        **{name: ctx.secrets[name] for name in step.secrets},
        **param_variables(ctx.params),
        **outputs,
        **{variable_of("MATRIX", name): value for name, value in step.matrix.items()},
        **marker,
        "TAILRACE_RUN_REF": ctx.file.ref,
        "TAILRACE_DEPTH": ctx.plan.depth or "",
        "TAILRACE_WORKSPACE": str(ctx.workspace),
        "TAILRACE_CACHE": str(ctx.cache),
        "TAILRACE_ARTIFACTS": str(places.artifacts),
        "TAILRACE_COLLECTED": str(ctx.run.artifacts),
        "TAILRACE_OUTPUT": str(places.output),
        "TAILRACE_EVENTS": str(places.events),
        "TAILRACE_ANSWERS": str(places.answers),
        "TAILRACE_PARAMS": str(places.params),
    }, left_out


def _rendered(step: StepPlan, name: str, scope: Scope) -> str:
    try:
        return render(step.env[name], scope)
    except TemplateError as exc:
        raise RefusedStepError(f"its env {name} can't be rendered: {exc}") from None


def told_left_out(names: Sequence[str]) -> str:
    """Say which outputs aren't in the environment, and what to do."""
    shown = ", ".join(names[:_SHOWN])
    if (more := len(names) - _SHOWN) > 0:
        shown += f" and {more:,} more"
    return (
        f"not in the environment: {shown}; the outputs of the steps that it needs take over"
        f" {MAX_OUTPUTS >> 10} KiB together; hand over what is long as an artifact"
    )
