"""Reads ``tailrace.yaml`` and ``TAILRACE_*``: every mistake at once, with its place.

A variable overrides the key that its name spells (``TAILRACE_LIMITS__LOG`` is
``limits.log``); one that spells no key is somebody else's. Its text reads as
the file's would; a list may be written with commas, and lists, maps and
sections as JSON.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from tailrace.core.cut import quoted
from tailrace.core.units import format_bound, parse_duration, parse_size
from tailrace.errors import InvalidInputError, Problem
from tailrace.pipeline.document import Mapping as MappingNode
from tailrace.pipeline.document import Node, Scalar, Sequence, parse_document
from tailrace.pipeline.spelling import suggest
from tailrace.settings import Settings
from tailrace.settings_check import problems_of

SYSTEM_FILE: Final = Path("/etc/tailrace/tailrace.yaml")
_PREFIX: Final = "TAILRACE_"
_INVALID: Final[Any] = object()  # a problem was added
_BOOLEANS: Final = {
    "true": True, "yes": True, "on": True, "false": False, "no": False, "off": False,
}  # fmt: skip
_NOTHING: Final = ("", "~", "null", "none")
_WHOLE: Final = re.compile(r"[0-9]{1,15}")
_CORES: Final = re.compile(r"(?:([0-9]{1,3})\s*[*x×]\s*)?cores")  # noqa: RUF001 - people write that sign


def find_file(config: str | None, environ: Mapping[str, str]) -> Path | None:
    """Return *config*, else what ``$TAILRACE_CONFIG`` names, else the system's if it exists."""
    named = config or environ.get("TAILRACE_CONFIG")
    if named:
        return Path(named)
    return SYSTEM_FILE if SYSTEM_FILE.exists() else None


def load_settings(
    config: str | None,
    environ: Mapping[str, str],
    *,
    state_dir: str | None = None,
    pipelines_dir: str | None = None,
) -> Settings:
    """Return the settings of the file (`find_file`) with those of *environ* over them.

    *state_dir* and *pipelines_dir* are those of the command line and go over both.

    Raises:
        InvalidInputError: the file can't be read, or something in it or in a
            variable can't be used; carries every mistake.
    """
    path = find_file(config, environ)
    reading = _Reading(str(path) if path else "")
    root = reading.document(path.read_bytes) if path else None
    root = reading.override(root or MappingNode({}, 1, 1), environ)
    values = reading.value(inspect.type_info(Settings), root, "")
    if not isinstance(values, Settings):
        raise InvalidInputError(reading.problems)
    given = {"state_dir": state_dir, "pipelines_dir": pipelines_dir}
    values = msgspec.structs.replace(values, **{k: v for k, v in given.items() if v is not None})
    problems = reading.problems + [reading.placed(problem) for problem in problems_of(values)]
    if problems:
        raise InvalidInputError(problems)
    return values


class _Reading:
    """One pass over nodes, guided by the types of the settings."""

    def __init__(self, display: str) -> None:
        self.problems: list[Problem] = []
        self._display = display
        # id of a node -> the variable it came from; the node too, so that no other gets its id
        self._variables: dict[int, tuple[str, Node]] = {}
        self._nodes: dict[str, Node] = {}

    # The file

    def document(self, read: Callable[[], bytes]) -> MappingNode | None:
        try:
            document = parse_document(read())
        except OSError as exc:
            hint = "name another with --config or $TAILRACE_CONFIG"
            self.problems.append(Problem("", exc.strerror or str(exc), hint, self._display))
            return None
        for mistake in document.mistakes:
            if mistake.problem == "is empty":  # all defaults
                continue
            where, hint = mistake.where, mistake.hint
            if mistake.problem == "isn't a mapping":
                hint = "write keys with values, such as 'max_runs: 4'"
            position = f"{self._display}:{mistake.line}:{mistake.column}"
            self.problems.append(Problem(where, mistake.problem, hint, position))
        return document.root

    # Variables

    def override(self, root: MappingNode, environ: Mapping[str, str]) -> MappingNode:
        for name in sorted(environ):
            if not name.startswith(_PREFIX):
                continue
            path, kind = _key_of(name.removeprefix(_PREFIX).lower().split("__"))
            if path:
                node = self._variable_node(name, environ[name], kind)
                root = self._with(root, path, node)
        return root

    def _variable_node(self, name: str, text: str, kind: inspect.Type) -> Node:
        node: Node = Scalar(text, plain=True, line=1, column=1)
        if text.lstrip().startswith(("{", "[")) and not isinstance(kind, inspect.StrType):
            root = parse_document(f'{{"value": {text}}}'.encode(errors="surrogateescape")).root
            if root is not None and "value" in root.entries:
                node = root.entries["value"][1]
        elif isinstance(kind, inspect.VarTupleType):
            items = [item.strip() for item in text.split(",")]
            node = Sequence([Scalar(item, True, 1, 1) for item in items if item], 1, 1)
        self._mark(node, name)
        return node

    def _mark(self, node: Node, variable: str) -> None:
        self._variables[id(node)] = variable, node
        if isinstance(node, Sequence):
            for item in node.items:
                self._mark(item, variable)
        elif isinstance(node, MappingNode):
            for key, value in node.entries.values():
                self._mark(key, variable)
                self._mark(value, variable)

    def _with(self, root: MappingNode, path: list[str], node: Node) -> MappingNode:
        """Return *root* with *node* at *path*; sections of both are joined."""
        first, *rest = path
        key, old = root.entries.get(first, (Scalar(first, True, 1, 1), None))
        inner = old if isinstance(old, MappingNode) else MappingNode({}, 1, 1)
        if rest:
            node = self._with(inner, rest, node)
        elif isinstance(node, MappingNode) and isinstance(old, MappingNode):
            node = MappingNode(old.entries | node.entries, old.line, old.column)
        return MappingNode(root.entries | {first: (key, node)}, root.line, root.column)

    # Values

    def value(self, kind: inspect.Type, node: Node, where: str) -> Any:
        """Return the value at *node*, or `_INVALID` after adding a problem.

        Of a section with mistakes in it the other keys are kept, so that they can be checked too.
        """
        self._nodes[where] = node
        match kind:
            case inspect.Metadata():
                return self._with_unit(kind, node, where)
            case inspect.UnionType():
                return self._optional(kind, node, where)
            case inspect.StructType():
                return self._struct(kind, node, where)
            case inspect.VarTupleType():
                return self._list(kind, node, where)
            case inspect.DictType():
                return self._map(kind, node, where)
            case inspect.AnyType():
                return _plain(node)
        return self._scalar(kind, node, where)

    def _struct(self, kind: inspect.StructType, node: Node, where: str) -> Any:
        if _is_nothing(node):
            return kind.cls()
        if not isinstance(node, MappingNode):
            return self._refuse(node, where, "a mapping", "write its keys below it")
        fields = {field.name: field.type for field in kind.fields}
        values: dict[str, Any] = {}
        for name, (key, item) in node.entries.items():
            path = f"{where}.{name}" if where else name
            if name in fields:
                values[name] = self.value(fields[name], item, path)
            else:
                self._problem(key, path, "unknown key", suggest(name, fields))
        required = [f.name for f in kind.fields if f.required and f.name not in values]
        for name in required:
            self._problem(node, f"{where}.{name}", "is missing", "every entry needs it")
        valid = {name: value for name, value in values.items() if value is not _INVALID}
        if any(field.required and field.name not in valid for field in kind.fields):
            return _INVALID
        return kind.cls(**valid)

    def _list(self, kind: inspect.VarTupleType, node: Node, where: str) -> Any:
        if _is_nothing(node):
            return ()
        if not isinstance(node, Sequence):
            return self._refuse(node, where, "a list", "write [a, b]")
        items = [
            self.value(kind.item_type, item, f"{where}[{place}]")
            for place, item in enumerate(node.items)
        ]
        return _INVALID if _INVALID in items else tuple(items)

    def _map(self, kind: inspect.DictType, node: Node, where: str) -> Any:
        if _is_nothing(node):
            return {}
        if not isinstance(node, MappingNode):
            return self._refuse(node, where, "a mapping", "write 'name: value', one a line")
        values = {}
        for name, (_, item) in node.entries.items():
            known = len(self.problems)
            value = self.value(kind.value_type, item, f"{where}.{name}")
            if len(self.problems) == known:  # what is missing in it may be misspelt
                values[name] = value
        return values

    def _optional(self, kind: inspect.UnionType, node: Node, where: str) -> Any:
        if isinstance(node, Scalar) and node.plain and node.text.lower() in _NOTHING:
            return None
        other = next(t for t in kind.types if not isinstance(t, inspect.NoneType))
        return self.value(other, node, where)

    def _scalar(self, kind: inspect.Type, node: Node, where: str) -> Any:
        if not isinstance(node, Scalar):
            return self._refuse(node, where, "one value", "write it in one line")
        match kind:
            case inspect.StrType():
                return "" if _is_nothing(node) else node.text
            case inspect.BoolType():
                if node.text.lower() in _BOOLEANS:
                    return _BOOLEANS[node.text.lower()]
                return self._refuse(node, where, "true or false", "")
            case inspect.LiteralType():
                if node.text in kind.values:
                    return node.text
                words = [str(value) for value in kind.values]
                return self._refuse(
                    node, where, "one of " + ", ".join(words), suggest(node.text, words)
                )
            case inspect.IntType():
                if _WHOLE.fullmatch(node.text):
                    return int(node.text)
                return self._refuse(node, where, "a whole number", "such as 4")
        raise AssertionError(kind)  # a type that no setting has yet

    def _with_unit(self, kind: inspect.Metadata, node: Node, where: str) -> Any:
        if not isinstance(node, Scalar):
            return self._refuse(node, where, "one value", "write it in one line")
        unit = (kind.extra or {}).get("unit")
        cores = _CORES.fullmatch(node.text) if unit == "cores" else None
        if cores:
            return int(cores[1] or 1) * (os.cpu_count() or 1)
        if unit not in ("size", "duration"):
            value = self._scalar(kind.type, node, where)
        else:
            try:
                value = parse_size(node.text) if unit == "size" else parse_duration(node.text)
            except ValueError as exc:
                return self._refuse(node, where, f"a {unit}", str(exc))
        assert isinstance(kind.type, inspect.IntType)  # all that have a unit
        if value is _INVALID:
            return value
        for bound, is_beyond, word in (
            (kind.type.ge, operator.lt, "more"), (kind.type.le, operator.gt, "less"),
        ):  # fmt: skip
            if bound is not None and is_beyond(value, bound):
                expected = format_bound(bound) if unit == "size" else str(bound)
                return self._refuse(node, where, f"{expected} or {word}", "")
        return value

    # Problems

    def _refuse(self, node: Node, where: str, expected: str, hint: str) -> Any:
        found = {Sequence: "a list", MappingNode: "a mapping"}.get(type(node))
        if found is None:
            assert isinstance(node, Scalar)
            found = quoted(node.text, 60) if node.text else "nothing"
        self._problem(node, where, f"expects {expected}, not {found}", hint)
        return _INVALID

    def _problem(self, node: Node, where: str, problem: str, hint: str) -> None:
        self.problems.append(Problem(where, problem, hint, self._position(node)))

    def placed(self, problem: Problem) -> Problem:
        """Return *problem* with the place of the nearest node at or around its ``where``."""
        where = problem.where
        while where and where not in self._nodes:
            where = re.sub(r"(\.[^.]*|\[\d+\]|^[^.\[]*)$", "", where)
        return Problem(
            problem.where, problem.problem, problem.hint, self._position(self._nodes[where])
        )

    def _position(self, node: Node) -> str | None:
        if id(node) in self._variables:
            return self._variables[id(node)][0]
        if not self._display:
            return None
        return f"{self._display}:{node.line}:{node.column}"


def _key_of(parts: list[str]) -> tuple[list[str], inspect.Type]:
    """Return the key that a variable's parts spell and its type; no parts where they spell none."""
    kind: inspect.Type = inspect.type_info(Settings)
    for part in parts:
        fields = kind.fields if isinstance(kind, inspect.StructType) else ()
        found = next((field.type for field in fields if field.name == part), None)
        if found is None:
            return [], kind
        kind = found
    return parts, kind


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Scalar) and node.plain and node.text in ("", "~", "null")


def _plain(node: Node) -> Any:
    """Return a node as plain values, for sections that belong to later parts."""
    match node:
        case Scalar():
            return None if _is_nothing(node) else node.text
        case Sequence():
            return [_plain(item) for item in node.items]
        case MappingNode():
            return {name: _plain(item) for name, (_, item) in node.entries.items()}
