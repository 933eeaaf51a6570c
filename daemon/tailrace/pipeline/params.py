"""What a run is given: text or JSON to typed values, every mistake at once.

Text comes from the command line and query strings and is read by the param's
type; JSON has types of its own, and only what loses nothing is converted
(``3.0`` for an integer, ``3`` for text). A whole number stays within 64 bits,
because CEL and most readers of ``params.json`` end there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from tailrace.core.cut import quoted
from tailrace.core.plan import ParamValue
from tailrace.errors import InvalidInputError, Problem
from tailrace.pipeline.model import Param, ParamType, Pipeline
from tailrace.pipeline.spelling import printable, suggest

MAX_TEXT: Final = 1 << 20  # characters of one value; longer input belongs into a file

_HINTS: Final[dict[ParamType, str]] = {
    "integer": "write a whole number such as 3",
    "number": "write a number such as 0.5",
    "boolean": "write true or false",
}
_BOOLEANS: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip
# Numbers as text spells them; also in the JSON Schema of pipelines.
WHOLE: Final = r"[+-]?[0-9]{1,40}"
NUMBER: Final = r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?"
_UNUSABLE: Final = "[\0\ud800-\udfff]"


class Unfit(ValueError):  # noqa: N818 - reads as what it says of a value
    """A value that its param can't take: what is wrong, and a hint."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}; {hint}")
        self.problem = problem
        self.hint = hint


def check_params(
    pipeline: Pipeline, given: Mapping[str, object], *, text: bool
) -> dict[str, ParamValue]:
    """Return a value for every param that the pipeline declares: given, default, or None.

    With *text*, values are strings to be read by type; else they are JSON. A
    null counts as not given.

    Raises:
        InvalidInputError: unknown names, missing values, wrong types and values
            out of bounds, all at once, each with ``where`` as ``params.NAME``.
    """
    otherwise = "check its spelling" if pipeline.params else "it takes none"
    problems = [
        Problem(f"params.{name}", "no such param", suggest(name, pipeline.params) or otherwise)
        for name in given
        if name not in pipeline.params
    ]
    values: dict[str, ParamValue] = {}
    for name, param in pipeline.params.items():
        value = given.get(name)
        if value is None:
            values[name] = param.default
            if param.required and param.default is None:
                hint = param.help or f"give it a value: {name}=…"
                problems.append(Problem(f"params.{name}", "is required", hint))
            continue
        try:
            values[name] = read_value(param, value, text=text)
        except Unfit as unfit:
            problems.append(Problem(f"params.{name}", unfit.problem, unfit.hint))
    if problems:
        raise InvalidInputError(problems)
    return values


def read_value(param: Param, value: object, *, text: bool) -> ParamValue:
    """Return *value* as *param* takes it.

    Raises:
        Unfit: it can't.
    """
    typed = from_text(param.type, value) if text and isinstance(value, str) else None
    if typed is None:
        typed = _from_json(param.type, value)
    check_bounds(param, typed)
    return typed


def from_text(kind: ParamType, text: str) -> str | int | float | bool:
    """Read a value of that type from its spelling.

    Raises:
        Unfit: it is no such value.
    """
    hint = _HINTS.get(kind, "")
    match kind:
        case "integer":
            if not re.fullmatch(WHOLE, text):
                raise Unfit(f"{_shown(text)} isn't a whole number", hint)
            return _within_64_bits(int(text))
        case "number":
            if re.fullmatch(WHOLE, text):
                return _within_64_bits(int(text))
            if not re.fullmatch(NUMBER, text) or not math.isfinite(float(text)):
                raise Unfit(f"{_shown(text)} isn't a number", hint)
            return float(text)
        case "boolean":
            if text.lower() not in _BOOLEANS:
                raise Unfit(f"{_shown(text)} is neither true nor false", hint)
            return _BOOLEANS[text.lower()]
    _check_text(kind, text)
    return text


def _from_json(kind: ParamType, value: object) -> str | int | float | bool:
    match kind, value:
        case "boolean", bool():
            return value
        case "integer" | "number", int() if not isinstance(value, bool):
            return _within_64_bits(value)
        case "integer", float() if value.is_integer() and abs(value) <= 2**53:
            return int(value)
        case "number", float() if math.isfinite(value):
            return value
        case (("integer" | "number" | "boolean"), _):
            raise Unfit(f"expects {_article(kind)}, not {_json_name(value)}", _HINTS[kind])
        case _, str():
            _check_text(kind, value)
            return value
        case _, int() if not isinstance(value, bool):
            return str(_within_64_bits(value))
    raise Unfit(f"expects text, not {_json_name(value)}", "put it in quotes")


def _within_64_bits(value: int) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise Unfit("the number has more than 64 bits", "write a smaller one, or make it a string")
    return value


def _check_text(kind: ParamType, text: str) -> None:
    if re.search(_UNUSABLE, text):
        raise Unfit("holds a NUL or bytes that aren't UTF-8", "remove them")
    if len(text) > MAX_TEXT:
        raise Unfit("is over 1 MiB long", "put it into a file or a repository")
    if kind in ("git-ref", "git-url"):
        _check_git(kind, text)


def _check_git(kind: ParamType, text: str) -> None:
    """Check the form alone: which hosts and protocols may be reached is policy."""
    from tailrace.core.git_url import GitInputError, check_ref, parse_git_url

    try:
        if kind == "git-ref":
            check_ref(text)
        else:
            parse_git_url(text)
    except GitInputError as error:
        raise Unfit(error.problem, error.hint) from None


def check_bounds(param: Param, value: ParamValue) -> None:
    """Check choices, pattern, minimum and maximum.

    Raises:
        Unfit: the value is outside.
    """
    if param.choices and value not in param.choices:
        choices = ", ".join(str(choice) for choice in param.choices)
        hint = suggest(str(value), map(str, param.choices), otherwise=f"choose one of {choices}")
        raise Unfit(f"{_shown(value)} isn't one of its choices", hint)
    if param.pattern is not None and isinstance(value, str) and not matches(param.pattern, value):
        raise Unfit(f"{_shown(value)} doesn't match {param.pattern}", param.help or "change it")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if param.minimum is not None and value < param.minimum:
            raise Unfit(f"{value} is too small", f"give at least {param.minimum}")
        if param.maximum is not None and value > param.maximum:
            raise Unfit(f"{value} is too large", f"give at most {param.maximum}")


def matches(pattern: str, text: str) -> bool:
    """Tell whether the whole *text* matches an RE2 pattern, in linear time.

    Raises:
        ValueError: *pattern* isn't RE2; the message says why.
    """
    from tailrace.core.line_pattern import compile_pattern  # 9 ms that few pipelines need

    return compile_pattern(pattern).fullmatch(text) is not None


def params_schema(pipeline: Pipeline) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the ``params`` that start a run."""
    required = [
        n for n, param in pipeline.params.items() if param.required and param.default is None
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {name: _schema_of(param) for name, param in pipeline.params.items()},
        "required": required,
        "additionalProperties": False,
    }


def _schema_of(param: Param) -> dict[str, Any]:
    json_type = param.type if param.type in ("integer", "number", "boolean") else "string"
    schema: dict[str, Any] = {"type": json_type}
    if param.type == "git-url":
        schema |= {"format": "uri-reference", "minLength": 1}
    if param.type == "git-ref":
        schema["minLength"] = 1
    if param.help:
        schema["description"] = param.help
    if param.choices:
        schema["enum"] = [*param.choices]
    if param.pattern is not None:
        schema["pattern"] = f"^(?:{param.pattern})$"
    for key in ("default", "minimum", "maximum"):
        value = getattr(param, key)
        if value is not None:
            schema[key] = value
    return schema


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "integer" else f"a {kind}"


def _json_name(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case str():
            return f"the text {_shown(value)}"
        case int() | float():
            return f"the number {value}"
        case None:
            return "null"
        case Mapping():
            return "an object"
    return "a list"


def _shown(value: object) -> str:
    return quoted(printable(str(value)), 60)
