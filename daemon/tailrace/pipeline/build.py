"""From what a table's keys say to the model: rules between keys of one table."""

from __future__ import annotations

import posixpath
from typing import Any

from tailrace.core.plan import Retry
from tailrace.pipeline import model
from tailrace.pipeline.document import Scalar
from tailrace.pipeline.expressions import has_template
from tailrace.pipeline.interpreters import code_items
from tailrace.pipeline.params import Unfit, check_bounds, from_text, matches
from tailrace.pipeline.reading import Reading

ACTIONS = ("run", "command", "clone", "ask")
_NULLS = ("", "~", "null", "Null", "NULL")


def is_null(node: Scalar) -> bool:
    """Tell whether a scalar says that there is no value: nothing, ``null`` or ``~``, unquoted."""
    return node.plain and node.text in _NULLS


def typed_value(
    reading: Reading, where: str, param: model.Param, node: Scalar, item: int | None = None
) -> Any:
    """Return a scalar of the file as *param* takes it; None for null, or after adding a mistake."""
    return None if is_null(node) else _read_scalar(reading, where, param, node, item)


def _read_scalar(
    reading: Reading, where: str, param: model.Param, node: Scalar, item: int | None
) -> Any:
    try:
        value = from_text(param.type, node.text)
        check_bounds(param, value)
    except Unfit as unfit:
        reading.mistake(where, unfit.problem, unfit.hint, item=item)
        return None
    return value


def build_param(reading: Reading, where: str, fields: dict[str, Any]) -> model.Param:
    """Return a param, its default and choices typed and within its bounds."""
    default = fields.pop("default", None)
    choices = fields.pop("choices", ())
    if reading.has(f"{where}.type") and "type" not in fields:
        return model.Param(**fields)  # its type is a mistake already: nothing else can be told
    param = model.Param(**fields)
    _check_facets(reading, where, param, has_choices=bool(choices))
    if param.pattern is not None and not _is_pattern(reading, f"{where}.pattern", param.pattern):
        fields["pattern"] = None
    param = model.Param(**fields)
    # A choice is a value, never the lack of one: null is a text like any other.
    typed = [
        _read_scalar(reading, f"{where}.choices", param, node, item)
        for item, node in enumerate(choices)
    ]
    fields["choices"] = tuple(value for value in typed if value is not None)
    param = model.Param(**fields)
    if default is None or len(fields["choices"]) < len(choices):
        return param
    fields["default"] = typed_value(reading, f"{where}.default", param, default)
    return model.Param(**fields)


def _check_facets(reading: Reading, where: str, param: model.Param, *, has_choices: bool) -> None:
    kind = param.type
    if kind == "enum" and not has_choices and not reading.has(f"{where}.choices"):
        reading.mistake(f"{where}.choices", "is missing", "an enum lists its values: [a, b]")
    if kind == "boolean" and has_choices:
        reading.mistake(f"{where}.choices", "a boolean has its two values", "remove it", key=True)
    if param.pattern is not None and kind not in ("string", "git-url", "git-ref"):
        hint = "use it with string, git-url or git-ref"
        reading.mistake(f"{where}.pattern", f"means nothing for {kind}", hint, key=True)
    for facet in ("minimum", "maximum"):
        if getattr(param, facet) is not None and kind not in ("integer", "number"):
            hint = "use it with integer or number; a pattern bounds text"
            reading.mistake(f"{where}.{facet}", f"means nothing for {kind}", hint, key=True)
    if param.minimum is not None and param.maximum is not None and param.minimum > param.maximum:
        reading.mistake(f"{where}.minimum", "is above the maximum", "lower it")


def _is_pattern(reading: Reading, where: str, pattern: str) -> bool:
    try:
        matches(pattern, "")
    except ValueError as error:
        reading.mistake(where, f"isn't RE2: {error}", "lookaround and backreferences don't exist")
        return False
    return True


def build_clone(reading: Reading, where: str, fields: dict[str, Any]) -> model.Clone:
    """Return a clone; texts without templates are checked now, the others when the step starts."""
    if fields.get("history") == 0:
        fields["history"] = None
    for key, kind in (("url", "git-url"), ("ref", "git-ref")):
        text = fields.get(key, "")
        if text and not has_template(text):
            try:
                from_text(kind, text)  # type: ignore[arg-type]  # a literal, lost in the tuple
            except Unfit as unfit:
                reading.mistake(f"{where}.{key}", unfit.problem, unfit.hint)
    if "path" in fields:
        check_folder(reading, f"{where}.path", fields["path"])
    return model.Clone(**fields)


def check_folder(reading: Reading, where: str, path: str) -> None:
    """Add a mistake where a path without templates leads out of the workspace."""
    normal = posixpath.normpath(path)
    if has_template(path):
        # What the templates bring is checked when the step starts; what is written, now.
        if path.startswith("/") or ".." in path.split("/"):
            reading.mistake(where, "may lead out of the workspace", "write it without '..' or '/'")
    elif normal.startswith(("/", "../")) or normal == "..":
        hint = "write a folder below the workspace, such as clone/src"
        reading.mistake(where, f"'{path}' is outside the workspace", hint)


def build_step(reading: Reading, where: str, fields: dict[str, Any]) -> model.StepDef:
    """Return a step that does exactly one thing."""
    _check_action(reading, where)
    if isinstance(fields.get("retry"), int):
        fields["retry"] = Retry(attempts=fields["retry"])
    if isinstance(fields.get("artifacts"), tuple):
        fields["artifacts"] = model.Artifacts(paths=fields["artifacts"])
    if "artifacts" in fields:
        _check_globs(reading, f"{where}.artifacts", fields["artifacts"].paths)
        _check_primary(reading, f"{where}.artifacts.primary", fields["artifacts"].primary)
    if "workdir" in fields:
        check_folder(reading, f"{where}.workdir", fields["workdir"])
    if fields.get("command"):
        _check_command(reading, f"{where}.command", fields["command"])
    ask = fields.get("ask")
    if (
        ask is not None
        and ask.choices
        and ask.default is not None
        and ask.default not in ask.choices
    ):
        hint = reading.suggest(ask.default, ask.choices)
        reading.mistake(f"{where}.ask.default", "isn't one of the choices", hint)
    for name, values in fields.get("matrix", {}).items():
        for item, value in enumerate(values):
            if value in values[:item]:
                reading.mistake(
                    f"{where}.matrix.{name}", f"'{value}' twice", "remove one", item=item
                )
    return model.StepDef(id=where.removeprefix("steps."), **fields)


def _check_action(reading: Reading, where: str) -> None:
    found = [action for action in ACTIONS if reading.has(f"{where}.{action}")]
    if not found:
        hint = "add one of run, command, clone and ask"
        reading.mistake(where, "does nothing", hint, key=True)
    for action in found[1:]:
        problem = f"has both {found[0]} and {action}"
        reading.mistake(where, problem, "keep one, and make the other a step of its own", key=True)


def _check_globs(reading: Reading, where: str, globs: tuple[str, ...]) -> None:
    inner = f"{where}.paths" if reading.has(f"{where}.paths") else where
    for item, glob in enumerate(globs):
        if glob.startswith("/") or ".." in glob.split("/"):
            hint = "name files below the workdir; leave others in $TAILRACE_ARTIFACTS"
            reading.mistake(inner, f"'{glob}' leads out of the workdir", hint, item=item)


def _check_primary(reading: Reading, where: str, name: str | None) -> None:
    if name is not None and (name.startswith("/") or ".." in name.split("/")):
        hint = "write it as `tailrace artifacts` lists it, such as report.html"
        reading.mistake(where, f"no artifact can be named '{name}'", hint)


def _check_command(reading: Reading, where: str, argv: tuple[str, ...]) -> None:
    if not argv[0].strip():
        reading.mistake(where, "names no program", "begin with one", item=0)
    for item in sorted(code_items(argv)):
        if item < len(argv) and has_template(argv[item]):
            reading.mark_code(where, item)
