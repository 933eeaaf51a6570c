"""Checks between the parts of a pipeline: graph, depths, variables, schedules."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tailrace.core.graph import find_cycles, nearest, transitive_needs
from tailrace.core.plan import ParamValue
from tailrace.pipeline.build import is_null, typed_value
from tailrace.pipeline.cron import cron_problem
from tailrace.pipeline.expressions import has_template
from tailrace.pipeline.model import Param, Pipeline, Schedule, StepDef
from tailrace.pipeline.paths import variable_of
from tailrace.pipeline.reading import Reading
from tailrace.pipeline.variants import combinations, count_combinations, graph_at, graph_of

MAX_COMBINATIONS: Final = 256
MAX_ID: Final = 200  # bytes of a step's id: it names a folder, and those end at 255

# What the runner itself puts into a step's environment.
RUNNER_VARIABLES: Final = frozenset(
    f"TAILRACE_{name}"
    for name in (
        "RUN_ID", "RUN_REF", "STEP", "ATTEMPT", "DEPTH", "WORKSPACE", "ARTIFACTS", "COLLECTED",
        "CACHE", "OUTPUT", "EVENTS", "ANSWERS", "PARAMS",
    )
)  # fmt: skip


def check_graph(reading: Reading, pipeline: Pipeline) -> None:
    """Check needs, cycles, matrices and the folders that steps work in."""
    for step in pipeline.steps.values():
        for item, need in enumerate(step.needs):
            if need not in pipeline.steps and not reading.has(f"steps.{need}"):
                hint = reading.suggest(need, (name for name in pipeline.steps if name != step.id))
                where = f"steps.{step.id}.needs"
                reading.mistake(where, f"no step is named '{need}'", hint, item=item)
        _check_matrix(reading, step)
    for cycle in find_cycles(graph_of(pipeline)):
        problem = f"cycle {' -> '.join(cycle)}"
        hint = "remove one of these needs"
        reading.mistake(f"steps.{cycle[0]}", problem, hint, key=True, told="steps")
    _check_clones(reading, pipeline)


def _check_matrix(reading: Reading, step: StepDef) -> None:
    where = f"steps.{step.id}.matrix"
    count = count_combinations(step)
    if count > MAX_COMBINATIONS:
        problem = f"makes {count} combinations, more than {MAX_COMBINATIONS}"
        reading.mistake(where, problem, "leave values out, or split the step", key=True)
    elif any(len(step_id) > MAX_ID for step_id, _ in combinations(step)):
        at = where if step.matrix else f"steps.{step.id}"
        problem = f"makes a step id of over {MAX_ID} characters"
        reading.mistake(at, problem, "shorten the id or its values", key=True)
    else:
        seen: dict[str, str] = {}
        for step_id, _ in combinations(step):
            other = seen.setdefault(variable := variable_of("OUTPUT", step_id), step_id)
            if other != step_id:
                problem = f"makes '{other}' and '{step_id}', the same variable ({variable}…)"
                reading.mistake(where, problem, "change a value", key=True)
                break
    _check_same_variable(reading, where, step.matrix, "MATRIX")


def _check_clones(reading: Reading, pipeline: Pipeline) -> None:
    clones = {step.id for step in pipeline.steps.values() if step.clone is not None}
    if not clones:
        return
    told: set[str] = set()
    for depth in pipeline.depths or [None]:
        graph = graph_at(pipeline, depth)
        for step in pipeline.steps.values():
            works = step.run is not None or step.command is not None
            if step.id not in graph or step.id in told or not works or step.workdir is not None:
                continue
            near = nearest(graph, step.id, clones)
            if len(near) > 1 or any(count_combinations(pipeline.steps[name]) > 1 for name in near):
                told.add(step.id)
                names = " and ".join(f"'{name}'" for name in near)
                problem = f"{names} are equally near clones, so its workdir is unclear"
                if len(near) == 1:
                    problem = f"{names} clones into several folders, so its workdir is unclear"
                reading.mistake(f"steps.{step.id}.workdir", problem, "say it: 'workdir: FOLDER'")
    _check_clone_folders(reading, pipeline, clones)


def _check_clone_folders(reading: Reading, pipeline: Pipeline, clones: Iterable[str]) -> None:
    """Check that no clone, which removes its target first, removes another's."""
    taken: list[tuple[str, StepDef]] = []
    for step in pipeline.steps.values():
        if step.id not in clones or step.clone is None:
            continue
        if step.matrix and step.clone.path is None:
            continue  # each combination has a folder of its own
        where = f"steps.{step.id}.clone.path"
        path = step.clone.path or step.id
        if count_combinations(step) > 1:
            if "matrix" not in path:
                hint = "name the matrix in it: FOLDER/${{ matrix.NAME }}"
                reading.mistake(where, f"'{path}' is one folder for all combinations", hint)
            continue
        if has_template(path):
            continue
        folder = posixpath.normpath(path)
        for taken_folder, other in taken:
            if step.depth and other.depth and not {*step.depth} & {*other.depth}:
                continue
            if folder == taken_folder:
                problem = f"'{path}' is the folder of '{other.id}' already"
                reading.mistake(where, problem, "give each clone its own")
                break
            (around, outer), (within, inner) = sorted(
                ((folder, step), (taken_folder, other)), key=lambda found: len(found[0])
            )
            if not within.startswith(f"{around}/"):
                continue
            if outer.id not in transitive_needs(graph_of(pipeline), inner.id):
                problem = f"is within the folder of '{outer.id}', which would remove it"
                hint = f"add {outer.id} to its needs, or name another folder"
                reading.mistake(f"steps.{inner.id}.clone.path", problem, hint)
        taken.append((folder, step))


def check_depths(reading: Reading, pipeline: Pipeline) -> None:
    """Check that depths are defined, and at most one is the default."""
    marked = [name for name, depth in pipeline.depths.items() if depth.default]
    for name in marked[1:]:
        problem = f"'{marked[0]}' is the default already"
        reading.mistake(f"depths.{name}.default", problem, "mark one depth")
    for step in pipeline.steps.values():
        for item, name in enumerate(step.depth):
            _check_depth(reading, pipeline, f"steps.{step.id}.depth", name, item)
    webhook = pipeline.on.webhook
    if webhook is not None and webhook.depth is not None:
        _check_depth(reading, pipeline, "on.webhook.depth", webhook.depth)
    for index, schedule in enumerate(pipeline.on.schedule):
        if schedule.depth is not None:
            _check_depth(reading, pipeline, _schedule(reading, index) + ".depth", schedule.depth)


def _check_depth(
    reading: Reading, pipeline: Pipeline, where: str, name: str, item: int | None = None
) -> None:
    if name not in pipeline.depths and not reading.has(f"depths.{name}"):
        otherwise = "" if pipeline.depths else "define it under 'depths'"
        hint = reading.suggest(name, pipeline.depths, otherwise=otherwise)
        reading.mistake(where, f"no depth is named '{name}'", hint, item=item)


def check_variables(reading: Reading, pipeline: Pipeline) -> None:
    """Check that no two names become the same environment variable."""
    _check_same_variable(reading, "steps", pipeline.steps, "OUTPUT")
    owners = _Owners(pipeline)
    steps = [*pipeline.steps.values()]
    scopes: list[tuple[str, Iterable[str], Iterable[str], list[StepDef]]] = [
        ("", pipeline.env, pipeline.secrets, steps),
        *((f"depths.{name}.", depth.env, (), steps) for name, depth in pipeline.depths.items()),
        *((f"steps.{step.id}.", step.env, step.secrets, [step]) for step in steps),
    ]
    keep_one = "keep one: a variable has one value"
    for prefix, env, secrets, within in scopes:
        for name in env:
            owner = owners.owner(name, within)
            if owner:
                reading.mistake(f"{prefix}env.{name}", f"is {owner}", "rename it", key=True)
            elif name in secrets or name in pipeline.secrets:
                problem = "is among 'secrets' too"
                reading.mistake(f"{prefix}env.{name}", problem, keep_one, key=True)
        for item, name in enumerate(secrets):
            owner = owners.owner(name, within)
            if owner:
                reading.mistake(f"{prefix}secrets", f"'{name}' is {owner}", "rename it", item=item)
            elif prefix and name in pipeline.env:
                reading.mistake(
                    f"{prefix}secrets", f"'{name}' is in 'env' too", keep_one, item=item
                )


class _Owners:
    """What sets variables besides ``env`` and ``secrets``."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._params = {variable_of("PARAM", name): name for name in pipeline.params}
        self._outputs = {variable_of("OUTPUT", name, ""): name for name in pipeline.steps}
        self._graph = graph_of(pipeline)

    def owner(self, variable: str, steps: Iterable[StepDef]) -> str:
        """Return what else sets a variable in one of these steps; nothing where it is free."""
        if variable in RUNNER_VARIABLES:
            return "set by Tailrace itself"
        if variable in self._params:
            return f"the variable of the param '{self._params[variable]}'"
        if variable.startswith("MATRIX_"):
            for name in {name for step in steps for name in step.matrix}:
                if variable_of("MATRIX", name) == variable:
                    return f"the variable of the matrix value '{name}'"
        for start, name in self._outputs.items():
            if variable.startswith(start) and any(
                name in transitive_needs(self._graph, step.id) for step in steps
            ):
                return f"a variable for outputs of '{name}'"
        return ""


def _check_same_variable(reading: Reading, where: str, names: Iterable[str], prefix: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        variable = variable_of(prefix, name)
        if variable in seen:
            shown = f"{variable}_…" if prefix == "OUTPUT" else variable
            problem = f"becomes the same variable as '{seen[variable]}' ({shown})"
            reading.mistake(f"{where}.{name}", problem, "rename one", key=True)
        seen.setdefault(variable, name)


def check_triggers(reading: Reading, pipeline: Pipeline) -> Pipeline:
    """Check webhook and schedules; return the pipeline with the schedules' params typed."""
    webhook = pipeline.on.webhook
    if webhook is not None:
        for name in webhook.params or ():
            _check_param_name(reading, pipeline, f"on.webhook.params.{name}", name)
    schedules = tuple(
        _check_schedule(reading, pipeline, _schedule(reading, index), schedule)
        for index, schedule in enumerate(pipeline.on.schedule)
    )
    on = msgspec.structs.replace(pipeline.on, schedule=schedules)
    return msgspec.structs.replace(pipeline, on=on)


def _schedule(reading: Reading, index: int) -> str:
    """Return the path of a schedule, which has none of its own where the file has no list."""
    item = f"on.schedule[{index}]"
    return "on.schedule" if reading.is_same("on.schedule", item) else item


def _check_schedule(
    reading: Reading, pipeline: Pipeline, where: str, schedule: Schedule
) -> Schedule:
    cron = f"{where}.cron" if reading.has(f"{where}.cron") else where
    problem = cron_problem(schedule.cron) if reading.has(cron) and schedule.cron else None
    if problem:
        reading.mistake(cron, problem, 'write "30 4 * * mon-fri", say')
    if not _is_timezone(schedule.timezone):
        hint = "write UTC or a name such as Europe/Berlin"
        reading.mistake(f"{where}.timezone", f"no time zone is named '{schedule.timezone}'", hint)
    values: dict[str, ParamValue] = {}
    nodes: dict[str, Any] = dict(schedule.params)  # as read: typed here, where params are known
    for name, node in nodes.items():
        inner = f"{where}.params.{name}"
        param = _check_param_name(reading, pipeline, inner, name)
        if param is not None:
            values[name] = typed_value(reading, inner, param, node)
    for name, param in pipeline.params.items():
        unset = name not in nodes or is_null(nodes[name])
        if param.required and param.default is None and unset:
            hint = f"give it a value: 'params: {{{name}: …}}'"
            reading.mistake(f"{where}.params", f"the required param '{name}' has no value", hint)
    return msgspec.structs.replace(schedule, params=values)


def _check_param_name(reading: Reading, pipeline: Pipeline, where: str, name: str) -> Param | None:
    param = pipeline.params.get(name)
    if param is None:
        hint = reading.suggest(name, pipeline.params, otherwise="declare it under 'params'")
        reading.mistake(where, f"no param is named '{name}'", hint, key=True)
    return param


def _is_timezone(name: str) -> bool:
    if name == "UTC":
        return True
    import zoneinfo  # only schedules with a zone of their own need it

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
