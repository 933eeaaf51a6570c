"""What a value in a pipeline file may look like: reading it, and its JSON Schema.

A shape turns a node into a value or adds mistakes and returns `INVALID`; it
never raises, so that one pass finds everything. The tables made of shapes
stand in `tailrace.pipeline.keys`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from tailrace.core import units
from tailrace.core.cut import quoted
from tailrace.pipeline.document import Mapping as MappingNode
from tailrace.pipeline.document import Node, Scalar, Sequence
from tailrace.pipeline.params import NUMBER, WHOLE, Unfit, from_text
from tailrace.pipeline.reading import Place, PlacedText, Reading

_MAPPING: Final = ["object", "null"]  # for a schema: without a value it is an empty one
INVALID: Final[Any] = object()  # a mistake was added


class Shape(Protocol):
    """One kind of value."""

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return the value at *node*, or `INVALID` after adding a mistake."""

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""


def _refuse(reading: Reading, node: Node, where: str, expected: str, hint: str) -> Any:
    match node:
        case Scalar(text="", plain=True):
            found = "nothing"
        case Scalar():
            found = quoted(node.text, 60) if node.text.isprintable() else "this text"
        case Sequence(items=[]):
            found = "an empty list"
        case Sequence():
            found = "a list"
        case _:
            found = "a mapping"
    reading.mistake_at(node, where, f"expects {expected}, not {found}", hint)
    return INVALID


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Scalar) and node.plain and not node.text


class Text(msgspec.Struct, frozen=True):
    """Text in its source spelling: ``3.10``, ``no`` and ``null`` are text here."""

    place: Place = "none"
    pattern: str = ""  # over the whole text
    expected: str = "text"
    hint: str = "write one line of text, in quotes where it holds ': ' or ' #'"
    empty: bool = False  # may be empty

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return the text."""
        if not isinstance(node, Scalar) or (not node.text.strip() and not self.empty):
            return _refuse(reading, node, where, self.expected, self.hint)
        reading.texts.append(PlacedText(where, node, self.place))
        if self.pattern and not re.fullmatch(self.pattern, node.text):
            return _refuse(reading, node, where, self.expected, self.hint)
        return node.text

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema; editors read ``3.10`` as a number."""
        if self.empty:
            return {"type": ["string", "number", "boolean", "null"]}
        pattern = f"^{self.pattern}$" if self.pattern else r"\S"
        return {"type": ["string", "number", "boolean"], "pattern": pattern}


class Choice(msgspec.Struct, frozen=True):
    """One of a few words; *values* maps each spelling to what it means."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, *words: str) -> Choice:
        """Return the choice of words that mean themselves."""
        return cls({word: word for word in words})

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return what the word means."""
        if isinstance(node, Scalar) and node.text in self._spellings():
            return self._spellings()[node.text]
        words = list(self.values)
        expected = f"{', '.join(words[:-1])} or {words[-1]}"
        word = node.text if isinstance(node, Scalar) else ""
        otherwise = f"write {words[0]}, say"
        hint = reading.suggest(word, words, otherwise=otherwise) if word else otherwise
        return _refuse(reading, node, where, expected, hint)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        booleans = [word == "true" for word in self.values if word in ("true", "false")]
        return {"enum": [*self._spellings(), *booleans]}

    def _spellings(self) -> dict[str, Any]:
        spellings = {**self.values}
        if "true" in self.values:  # YAML's booleans (1.2.2, "Core Schema"), and its older ones
            for word, value in self.values.items():
                spellings |= {word.capitalize(): value, word.upper(): value}
        return spellings


FLAG: Final = Choice({"true": True, "false": False, "yes": True, "no": False})


class Number(msgspec.Struct, frozen=True):
    """A number within bounds, read from its source text."""

    kind: str  # "integer" or "number"
    least: float = 0
    most: float = float("inf")
    above: bool = False  # *least* itself is too little

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return the number."""
        expected = "a whole number" if self.kind == "integer" else "a number"
        value: Any = None
        if isinstance(node, Scalar):
            try:
                value = from_text("integer" if self.kind == "integer" else "number", node.text)
            except Unfit:
                value = None
        outside = value is not None and not self.least <= value <= self.most
        if value is None or outside or (self.above and value == self.least):
            hint = "write the bare number, without a unit"
            return _refuse(reading, node, where, f"{expected}{self._bounds()}", hint)
        return value

    def _bounds(self) -> str:
        if self.most != float("inf"):
            return f" from {self.least:g} to {self.most:g}"
        if self.least == float("-inf"):
            return ""
        return f" above {self.least:g}" if self.above else f" of at least {self.least:g}"

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        # Quoted, a number is text to an editor; bounds count for bare ones alone.
        pattern = WHOLE if self.kind == "integer" else NUMBER
        schema: dict[str, Any] = {"type": [self.kind, "string"], "pattern": f"^{pattern}$"}
        if self.least != float("-inf"):
            schema["exclusiveMinimum" if self.above else "minimum"] = self.least
        if self.most != float("inf"):
            schema["maximum"] = self.most
        return schema


class Duration(msgspec.Struct, frozen=True):
    """``500ms 30s 5m 2h 1d`` as milliseconds; ``none`` as None where it is allowed."""

    zero: bool = False
    none: bool = False

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return milliseconds."""
        if self.none and isinstance(node, Scalar) and node.text == "none":
            return None
        try:
            value = units.parse_duration(node.text if isinstance(node, Scalar) else "")
        except ValueError as error:
            hint = f"{error}, or none" if self.none else str(error)
            return _refuse(reading, node, where, "a duration", hint)
        if value == 0 and not self.zero:
            return _refuse(reading, node, where, "a duration above zero", "write 30s, say")
        return value

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        pattern = units.DURATION_PATTERN if self.zero else f"(?!0+[a-z]){units.DURATION_PATTERN}"
        return {"type": "string", "pattern": f"^({pattern}|none)$" if self.none else f"^{pattern}$"}


class Size(msgspec.Struct, frozen=True):
    """``64K 512M 2G`` as bytes."""

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return bytes."""
        try:
            value = units.parse_size(node.text if isinstance(node, Scalar) else "")
        except ValueError as error:
            return _refuse(reading, node, where, "a size", str(error))
        if value == 0:
            return _refuse(reading, node, where, "a size above zero", "write 512M, say")
        return value

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": f"^(?!0+[A-Za-z]){units.SIZE_PATTERN}$"}


class Raw(msgspec.Struct, frozen=True):
    """A scalar whose type something else in the file decides; its node is the value."""

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return the node."""
        if not isinstance(node, Scalar):
            return _refuse(reading, node, where, "one value", "write text, a number or true/false")
        reading.texts.append(PlacedText(where, node, "none"))
        return node

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": ["string", "number", "boolean", "null"]}


class Many(msgspec.Struct, frozen=True):
    """A list, or where *single* one value that stands for a list of one; read as a tuple."""

    item: Shape
    single: bool = True
    least: int = 0

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return those items that could be read; `INVALID` where it is no list at all."""
        if _is_nothing(node):
            nodes: list[Node] = []
        elif isinstance(node, Sequence):
            nodes = node.items
        elif self.single:
            nodes = [node]
        else:
            return _refuse(
                reading, node, where, "a list", "write [a, b], or one '- ' line for each"
            )
        if len(nodes) < self.least:
            return _refuse(reading, node, where, "at least one item", "add one, or remove the key")
        values: list[Any] = []
        indexed = isinstance(self.item, Table) and isinstance(node, Sequence)
        for index, nested in enumerate(nodes):
            inner = f"{where}[{index}]" if indexed else where
            value = self.item.read(reading, nested, inner)
            if value is not INVALID:
                # By the value's index in the tuple, which is what checks know.
                reading.place(f"{where}[{len(values)}]", nested)
                values.append(value)
        return tuple(values)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        listed: dict[str, Any] = {"type": "array", "items": self.item.schema()}
        if self.least:
            listed["minItems"] = self.least
        shapes = [*([self.item.schema()] if self.single else []), listed]
        if not self.least:
            shapes.append({"type": "null"})
        return {"anyOf": shapes} if len(shapes) > 1 else listed


class Named(msgspec.Struct, frozen=True):
    """A mapping from names of one kind to values of one shape."""

    pattern: str
    name: str  # what a name is: "step id"
    value: Shape
    hint: str
    example: str = ""  # of an entry, where one at least is needed

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return those entries that could be read; `INVALID` where it is no mapping."""
        empty = _is_nothing(node) or (isinstance(node, MappingNode) and not node.entries)
        if self.example and empty:
            reading.mistake(where, "is empty", f"add one: '{self.example}'", key=True)
        if _is_nothing(node):
            return {}
        if not isinstance(node, MappingNode):
            return _refuse(reading, node, where, f"a mapping by {self.name}", "write 'name: value'")
        values: dict[str, Any] = {}
        for name, (key, nested) in node.entries.items():
            inner = f"{where}.{name}"
            reading.place(inner, nested, key)
            if not re.fullmatch(self.pattern, name):
                reading.mistake_at(key, inner, f"isn't a {self.name}", self.hint)
            value = self.value.read(reading, nested, inner)
            if value is not INVALID:
                values[name] = value
        return values

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {
            **({"type": "object", "minProperties": 1} if self.example else {"type": _MAPPING}),
            "patternProperties": {f"^{self.pattern}$": self.value.schema()},
            "additionalProperties": False,
        }


class Key(msgspec.Struct, frozen=True):
    """One key of a table."""

    shape: Shape
    help: str
    field: str = ""  # of the model, where it has another name than the key
    required: bool = False


class Table(msgspec.Struct, frozen=True):
    """A mapping with fixed keys; read as what *build* makes of them.

    *build* gets the fields that could be read; with *scalar*, a value that is
    no mapping is read by that shape instead.
    """

    title: str
    keys: Mapping[str, Key]
    build: Callable[[Reading, str, dict[str, Any]], Any]
    scalar: Shape | None = None
    free: str = ""  # prefix of keys that mean nothing to us
    examples: str = "write 'key: value'"

    def read(self, reading: Reading, node: Node, where: str) -> Any:
        """Return what *build* makes; `INVALID` where the value is no mapping."""
        if self.scalar is not None and not isinstance(node, MappingNode) and not _is_nothing(node):
            return self.scalar.read(reading, node, where)
        entries: dict[str, tuple[Scalar, Node]] = {}
        if isinstance(node, MappingNode):
            entries = node.entries
        elif not _is_nothing(node):
            return _refuse(reading, node, where, f"a mapping ({self.title})", self.examples)
        fields: dict[str, Any] = {}
        for name, (key, nested) in entries.items():
            inner = f"{where}.{name}" if where else name
            if name not in self.keys:
                if not self.free or not name.startswith(self.free):
                    hint = reading.suggest(name, self.keys)
                    reading.mistake_at(key, inner, "unknown key", hint)
                continue
            reading.place(inner, nested, key)
            value = self.keys[name].shape.read(reading, nested, inner)
            if value is not INVALID:
                fields[self.keys[name].field or name] = value
        for name, declared in self.keys.items():
            if declared.required and name not in entries:
                inner = f"{where}.{name}" if where else name
                reading.mistake(inner, "is missing", f"add '{name}:', {declared.help}")
        return self.build(reading, where, fields)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        schema: dict[str, Any] = {
            "type": "object",
            "title": self.title,
            "properties": {
                name: {"description": key.help, **key.shape.schema()}
                for name, key in self.keys.items()
            },
            "additionalProperties": False,
        }
        required = [name for name, key in self.keys.items() if key.required]
        if required:
            schema["required"] = required
        else:
            schema["type"] = _MAPPING
        if self.free:
            schema["patternProperties"] = {f"^{self.free}": True}
        return {"anyOf": [self.scalar.schema(), schema]} if self.scalar is not None else schema
