"""CEL (https://cel.dev): compiling a condition and telling what it names.

The package `common-expression-language` parses and evaluates; this module
loads it, and only when a condition needs it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from tailrace.errors import TailraceError
from tailrace.pipeline.paths import CONDITION_NAMES, Path

MAX_CONDITION: Final = 4_096  # characters: enough for people, too few to exhaust a parser

# The functions and macros of CEL that the package has.
CEL_FUNCTIONS: Final = frozenset({
    "size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string",
    "bytes", "type", "dyn", "duration", "timestamp", "has", "all", "exists", "exists_one",
    "existsOne", "map", "filter", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
    "getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds",
})  # fmt: skip
CEL_TYPES: Final = frozenset(
    {"int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"}
)


class ConditionError(TailraceError):
    """A condition that can't be compiled or evaluated, or isn't true or false."""


class Condition(msgspec.Struct, frozen=True):
    """A compiled ``when`` or ``if``.

    ``names`` are the root names that are no loop variables, ``functions`` those
    called by name (operators left out), ``paths`` every constant path from one
    of `CONDITION_NAMES`.
    """

    text: str
    names: frozenset[str]
    functions: frozenset[str]
    paths: tuple[Path, ...]
    program: Any


def compile_condition(text: str) -> Condition:
    """Compile CEL.

    Raises:
        ConditionError: it isn't CEL, or over 4,096 characters long.
    """
    if len(text) > MAX_CONDITION:
        raise ConditionError(f"is over {MAX_CONDITION} characters long")
    return _compile(text)


@functools.lru_cache(maxsize=256)
def _compile(text: str) -> Condition:
    try:
        program = _cel().compile(text)
        found = program.references()
    except (ValueError, RuntimeError) as error:
        raise ConditionError(_syntax_problem(str(error))) from None
    tokens = [*_tokens(text)]
    bound = {
        name
        for macro, paren, name, comma in zip(
            tokens, tokens[1:], tokens[2:], tokens[3:], strict=False
        )
        if macro in _MACROS and paren == "(" and comma == ","
    }
    functions = frozenset(
        name for name in found["functions"] if name.isidentifier() and name[0] != "_"
    )
    names = frozenset(found["variables"]) - bound
    return Condition(text, names, functions, tuple(_paths(tokens, bound)), program)


def _cel() -> Any:
    """Return CEL's extension module without its command line.

    ``import cel`` also loads typer, rich and prompt_toolkit for its own command
    line: 150 ms and 30 MB, against 15 ms and 5 MB for what compiles and evaluates.
    """
    import importlib.machinery
    import importlib.util
    import sys

    name = "cel.cel"  # where a later ``import cel`` finds it too; it can't be initialized twice
    if name not in sys.modules:
        package = importlib.util.find_spec("cel")
        places = package.submodule_search_locations if package else None
        spec = importlib.machinery.PathFinder.find_spec(name, places)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError("common-expression-language isn't installed", name=name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def _syntax_problem(message: str) -> str:
    """Return the first complaint of CEL's parser without its echo of the whole text."""
    found = re.search(r"ERROR: <input>:\d+:(\d+): (?:Syntax error: )?([^\n]*)", message)
    if found is None:
        return "isn't CEL"
    if "Recursion limit" in found[2]:
        return "isn't CEL: nested too deeply"
    complaint = re.sub(r" expecting \{.*", "", found[2]).replace("'<EOF>'", "end")
    return f"isn't CEL: {complaint[:200]} at character {found[1]}"


def execute(
    condition: Condition, names: Mapping[str, Any], functions: dict[str, Callable[[], bool]]
) -> bool:
    """Evaluate with these values and functions.

    Raises:
        ConditionError: it can't be evaluated, or isn't true or false.
    """
    # Only what the expression names is converted: event.raw may hold megabytes.
    variables = {name: names[name] for name in condition.names if name in names}
    try:
        value = condition.program.execute(_cel().Context(variables=variables, functions=functions))
    except KeyError as error:
        raise ConditionError(f"'{condition.text}': nothing is named {error}") from None
    except (ValueError, TypeError, RuntimeError, ArithmeticError, IndexError) as error:
        complaint = " ".join(str(error).partition(". ")[0].split())
        raise ConditionError(f"'{condition.text}': {complaint}") from None
    if not isinstance(value, bool):
        raise ConditionError(f"'{condition.text}' is neither true nor false")
    return value


# Reading CEL just far enough to check names

_MACROS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
_LEXEME: Final = (  # compiled when the first condition is read
    r"""(?sxa)(?P<string>[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"
    |"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))
    |(?P<skip>//[^\n]*|\s+)|(?P<word>[A-Za-z_]\w*)|(?P<number>\d[\w.]*)|(?P<mark>.)"""
)


def _tokens(text: str) -> Iterator[str]:
    return (match[0] for match in re.finditer(_LEXEME, text) if match.lastgroup != "skip")


def _paths(tokens: list[str], bound: set[str]) -> Iterator[Path]:
    for place, token in enumerate(tokens):
        after_dot = place > 0 and tokens[place - 1] == "."
        if token in CONDITION_NAMES and token not in bound and not after_dot:
            yield Path((token, *_segments(tokens, place + 1)))


def _segments(tokens: list[str], place: int) -> Iterator[str]:
    """Give the constant segments that follow a root name, up to a method call or an index."""
    while True:
        match tokens[place : place + 3]:
            case [".", name, *rest] if name.isidentifier() and rest[:1] != ["("]:
                yield name
                place += 2
            case ["[", text, "]"] if len(text) > 2 and text[0] in "'\"" and "\\" not in text:
                yield text[1:-1]
                place += 3
            case _:
                return
