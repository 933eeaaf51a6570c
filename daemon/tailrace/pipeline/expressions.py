"""Templates and conditions: ``${{ params.repo }}`` and the CEL of ``when``.

A template takes a path and becomes text; it is never evaluated as code. A
condition is CEL (https://cel.dev), compiled by the package
`common-expression-language`; four status functions and the names of `Scope`
are all that it sees. The runner uses this module while steps run, so it reads
no YAML, and CEL is loaded only when a condition needs it: the four bare status
functions never do.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tailrace.core.plan import ParamValue
from tailrace.errors import TailraceError
from tailrace.pipeline.cel import ConditionError as ConditionError  # what `evaluate` raises
from tailrace.pipeline.cel import compile_condition, execute
from tailrace.pipeline.paths import Path, blank_event, parse_path

STATUS_FUNCTIONS: Final = ("always", "success", "failure", "cancelled")

_OPEN: Final = "${{"
_TEMPLATE: Final = re.compile(r"\$\{\{([^{}]*)\}\}")
_OPENED: Final = re.compile(r"\$\{\{(?:([^{}]*)\}\})?")
_STATUS_ONLY: Final = re.compile(r"\s*(!?)\s*(always|success|failure|cancelled)\s*\(\s*\)\s*")


class TemplateError(TailraceError):
    """A ``${{ … }}`` that can't be read, or a value that must not stand where it would."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What expressions see at one moment.

    ``steps`` maps a step's id to ``{"status": …, "outputs": {…}}``; the id in
    the file of a matrix step stands beside those of its combinations
    (`matrix_facts`). ``event`` has the keys of `EVENT_KEYS`; None stands for a
    run that a person started.
    """

    params: Mapping[str, ParamValue] = {}
    depth: str | None = None
    matrix: Mapping[str, str] = {}
    event: Mapping[str, Any] | None = None
    run_id: str = ""
    run_ref: str = ""
    steps: Mapping[str, Mapping[str, Any]] = {}
    success: bool = True  # every need concluded success
    failure: bool = False  # some step it needs, directly or not, failed
    cancelled: bool = False

    def names(self) -> dict[str, Any]:
        """Return the values of `TEMPLATE_NAMES`."""
        return {
            "params": self.params,
            "depth": self.depth,
            "matrix": self.matrix,
            "event": blank_event("manual") if self.event is None else self.event,
            "steps": self.steps,
            "run": {"id": self.run_id, "ref": self.run_ref},
        }


def matrix_facts(combinations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what ``steps.<id>`` says of a matrix step, from the facts of its combinations.

    The status is the worst one; of outputs with the same name, that of the
    last combination counts.
    """
    outputs: dict[str, Any] = {}
    for facts in combinations:
        outputs.update(facts["outputs"])
    worst = min((facts["status"] for facts in combinations), key=_badness, default="absent")
    return {"status": worst, "outputs": outputs}


_WORST_FIRST: Final = (
    "error", "aborted", "running", "retrying", "waiting", "paused", "pending", "skipped", "success",
)  # fmt: skip


def _badness(status: str) -> int:
    return _WORST_FIRST.index(status) if status in _WORST_FIRST else len(_WORST_FIRST)


# Templates


@functools.lru_cache(maxsize=1_024)
def _parse_template(text: str) -> tuple[str | Path, ...]:
    """Return the literal texts and paths that *text* is made of, in order, empty texts left out."""
    parts: list[str | Path] = []
    end = 0
    for match in _TEMPLATE.finditer(text):
        path = parse_path(match[1])
        if path is None:
            raise TemplateError(f"'{match[0]}' isn't a path such as ${{{{ params.x }}}}")
        parts += [text[end : match.start()], path]
        end = match.end()
    parts.append(text[end:])
    if any(isinstance(part, str) and _OPEN in part for part in parts):
        raise TemplateError("'${{' without its '}}'")
    return tuple(part for part in parts if part != "")


def has_template(text: str) -> bool:
    """Tell whether *text* holds a ``${{``, well formed or not."""
    return _OPEN in text


def references(text: str) -> tuple[Path, ...]:
    """Return the paths that *text* takes, in order.

    Raises:
        TemplateError: a ``${{`` has no end, or holds something else than a path.
    """
    return tuple(part for part in _parse_template(text) if isinstance(part, Path))


def paths_within(text: str) -> tuple[Path | None, ...]:
    """Return for each ``${{`` of *text* the path that it takes, None where it takes none."""
    return tuple(
        None if match[1] is None else parse_path(match[1]) for match in _OPENED.finditer(text)
    )


def render(text: str, scope: Scope) -> str:
    """Return *text* with the value of each path in its place.

    Null, and what has no value (the output of a step that was skipped), is the
    empty text; booleans are ``true`` and ``false``, numbers decimal.

    Raises:
        TemplateError: it isn't a template, or a path leads to a list or a mapping.
    """
    if _OPEN not in text:
        return text
    names = scope.names()
    return "".join(
        part if isinstance(part, str) else _text_at(part, names) for part in _parse_template(text)
    )


def render_argv(argv: Sequence[str], scope: Scope) -> list[str]:
    """Return a step's command with its templates rendered, item by item.

    A value stays within its item, whatever it holds, and can't turn its item
    into an option: where an item begins with a template, its text must not
    begin with ``-`` unless a ``--`` stands before.

    Raises:
        TemplateError: a value would become an option, holds a NUL, or isn't text.
    """
    result: list[str] = []
    options_end = False
    for place, item in enumerate(argv):
        text = render(item, scope)
        if item.startswith(_OPEN) and text.startswith("-") and not options_end:
            raise TemplateError(
                f"command item {place + 1}: {_beginning(item, scope)} begins with '-' and would"
                " become an option; put '--' before it, or give another value"
            )
        if "\0" in text:
            raise TemplateError(f"command item {place + 1}: holds a NUL character")
        options_end = options_end or item == "--"
        result.append(text)
    return result


def _beginning(item: str, scope: Scope) -> str:
    """Return what a rendered item begins with; values before it are empty."""
    names = scope.names()
    for part in _parse_template(item):
        if isinstance(part, str):
            return f"what follows {references(item)[0]}, which is empty,"
        if _text_at(part, names):
            return f"the value of {part}"
    raise AssertionError(item)


def _text_at(path: Path, names: Mapping[str, Any]) -> str:
    value: Any = names
    for part in path.parts:
        value = value.get(part) if isinstance(value, Mapping) else None
    return text_of(value, str(path))


def text_of(value: Any, what: str) -> str:
    """Return a value as templates and ``PARAM_*`` variables spell it.

    Raises:
        TemplateError: *value* is a list or a mapping; *what* names it.
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case float():
            return _decimal(value)
    raise TemplateError(f"{what} is no text; name one of its keys")


def _decimal(value: float) -> str:
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    from decimal import Decimal  # here, because few numbers are that small or large

    return f"{Decimal(text):f}"


# Conditions


def is_status_only(when: str) -> bool:
    """Tell whether a condition is one bare status function, which needs no CEL."""
    return _STATUS_ONLY.fullmatch(when) is not None


def evaluate(when: str | None, scope: Scope) -> bool:
    """Tell whether a step may start.

    A ``when`` that calls none of the four status functions also requires
    ``success()``, and so does a step without ``when``; where that isn't so,
    the rest isn't evaluated.

    Raises:
        ConditionError: it can't be compiled or evaluated, or isn't true or false.
    """
    if when is None:
        return scope.success
    status: dict[str, bool] = {
        "always": True,
        "success": scope.success,
        "failure": scope.failure,
        "cancelled": scope.cancelled,
    }
    simple = _STATUS_ONLY.fullmatch(when)
    if simple is not None:
        return status[simple[2]] is not bool(simple[1])
    condition = compile_condition(when)
    if not condition.functions.intersection(STATUS_FUNCTIONS) and not scope.success:
        return False
    return execute(condition, scope.names(), {name: _constant(status[name]) for name in status})


def _constant(value: bool) -> Callable[[], bool]:
    return lambda: value
