"""Checks of every text in a file that holds a template or a condition."""

from __future__ import annotations

import re
from typing import Final

from tailrace.pipeline.cel import (
    CEL_FUNCTIONS,
    CEL_TYPES,
    Condition,
    ConditionError,
    compile_condition,
)
from tailrace.pipeline.expressions import (
    STATUS_FUNCTIONS,
    TemplateError,
    has_template,
    is_status_only,
    paths_within,
    references,
)
from tailrace.pipeline.model import Pipeline, StepDef
from tailrace.pipeline.names import Fault, Names
from tailrace.pipeline.paths import CONDITION_NAMES, Path
from tailrace.pipeline.reading import PlacedText, Reading
from tailrace.pipeline.spelling import suggest

_ALLOWED: Final = (
    "it is for env, label, command, clone, workdir, artifacts, concurrency.group"
    " and on.webhook.params"
)
_HYPHENATED: Final = re.compile(r"\bsteps\.([a-z0-9][a-z0-9_]*(?:-[a-z0-9_]+)+)")


def check_texts(reading: Reading, pipeline: Pipeline, names: Names) -> None:
    """Add a mistake for each template and condition that can't work."""
    for text in reading.texts:
        place = reading.place_of(text)
        if place == "condition":
            _check_condition(reading, text, pipeline, names)
        elif has_template(text.node.text):
            if place == "none":
                reading.mistake_within(text, "${{", 0, "takes no ${{ … }}", _ALLOWED)
            elif place == "code":
                _refuse_in_code(reading, text, pipeline)
            else:
                _check_template(reading, text, pipeline, names)


def _step_of(text: PlacedText, pipeline: Pipeline) -> StepDef | None:
    head, _, rest = text.where.partition(".")
    return pipeline.steps.get(rest.partition(".")[0]) if head == "steps" else None


def _refuse_in_code(reading: Reading, text: PlacedText, pipeline: Pipeline) -> None:
    problem = "text from outside must never become code: no ${{ … }} here"
    for nth, path in enumerate(paths_within(text.node.text)):
        if path is None:
            reading.mistake_within(text, "${{", nth, problem, 'read "$PARAM_NAME" and its like')
            continue
        variable = None if _is_of_matrix(path, pipeline) else path.variable
        hint = f'write "${variable}"' if variable else f"put {path} into env, and read its variable"
        reading.mistake_within(text, "${{", nth, f"{problem} ('{path}')", hint)


def _is_of_matrix(path: Path, pipeline: Pipeline) -> bool:
    """Tell whether it takes an output of a matrix: only each combination's are variables."""
    step = pipeline.steps.get(path.parts[1]) if path.parts[0] == "steps" and path.variable else None
    return step is not None and bool(step.matrix)


def _check_template(reading: Reading, text: PlacedText, pipeline: Pipeline, names: Names) -> None:
    try:
        paths = references(text.node.text)
    except TemplateError as error:
        hint = "write ${{ params.NAME }}, say"
        reading.mistake_within(text, "${{", 0, str(error), hint)
        return
    step = _step_of(text, pipeline)
    for nth, path in enumerate(paths):
        fault = names.fault(path, text.place, step)
        if fault is not None:
            reading.mistake_within(text, "${{", nth, fault.problem, fault.hint)


def _check_condition(reading: Reading, text: PlacedText, pipeline: Pipeline, names: Names) -> None:
    source = text.node.text
    if has_template(source):
        hint = "write params.NAME as it is"
        reading.mistake_within(text, "${{", 0, "a condition is CEL and takes no ${{ … }}", hint)
        return
    in_step = text.where.startswith("steps.")
    if in_step and is_status_only(source):
        return
    for fault in _condition_faults(source, text, pipeline, names, in_step=in_step):
        reading.mistake_at(text.node, text.where, fault.problem, fault.hint)


def _condition_faults(
    source: str, text: PlacedText, pipeline: Pipeline, names: Names, *, in_step: bool
) -> list[Fault]:
    hyphenated = [name for name in _HYPHENATED.findall(source) if name in pipeline.steps]
    if hyphenated:
        return [
            Fault(f"CEL reads 'steps.{name}' as a subtraction", f"write steps['{name}'].status")
            for name in dict.fromkeys(hyphenated)
        ]
    try:
        condition = compile_condition(source)
    except ConditionError as error:
        return [Fault(str(error), _syntax_hint(source))]
    faults = _root_faults(condition, in_step=in_step)
    step = _step_of(text, pipeline)
    for path in dict.fromkeys(condition.paths):
        if not in_step and path.parts[0] != "event":
            fault: Fault | None = Fault(f"'{path.parts[0]}' isn't known here", "use event")
        elif len(path.parts) == 1:
            fault = None  # the whole mapping: "x" in params, steps.all(…)
        else:
            fault = names.fault(path, "condition", step)
        if fault is not None:
            faults.append(fault)
    return faults


def _root_faults(condition: Condition, *, in_step: bool) -> list[Fault]:
    faults = [
        Fault(f"nothing is named '{name}'", suggest(name, CONDITION_NAMES))
        for name in sorted(condition.names - {*CONDITION_NAMES} - CEL_TYPES)
    ]
    functions = {*CEL_FUNCTIONS, *(STATUS_FUNCTIONS if in_step else ())}
    for name in sorted(condition.functions - functions):
        hint = suggest(name, functions, otherwise="use CEL's functions")
        faults.append(Fault(f"no function is named '{name}'", hint))
    return faults


def _syntax_hint(source: str) -> str:
    if re.search(r"(?<![=!<>])=(?!=)", source):
        return "compare with =="
    if re.search(r"\b(and|or|not)\b", source):
        return "write && || and !"
    if re.search(r"\bsteps\.[0-9]", source):
        return "write steps['ID'].status for an id that begins with a digit"
    return 'write CEL such as params.lang == "python"'
