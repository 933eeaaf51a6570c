"""YAML bytes to nodes that know their place, with every kind of hostile file refused.

Built from libyaml's events rather than its nodes: composing recurses in C
(deep nesting ends the process), and resolves ``3.10`` and ``no`` before anybody
has said whether text is wanted. Here a scalar keeps its spelling, a mapping
keeps the place of each key, and merges (``<<``) are resolved.

Lines and columns count from 1, in characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import msgspec
import yaml

from tailrace.pipeline.spelling import suggest

MAX_BYTES: Final = 1 << 20  # of a file, and of what its anchors expand to
MAX_DEPTH: Final = 64  # a pipeline needs five

_TOO_DEEP: Final = (f"nested deeper than {MAX_DEPTH} levels", "flatten this")

# libyaml where PyYAML was built with it; the pure loader gives the same events, slower.
_LOADER: Final[Any] = getattr(yaml, "CLoader", yaml.Loader)
_UNPRINTABLE: Final = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_UNUSABLE: Final = re.compile("[\0\ud800-\udfff]")  # what a quoted "\0" or "\ud800" stands for
_CORE_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")
)


class Scalar(msgspec.Struct):
    """Text as its writer spelled it."""

    text: str
    plain: bool  # neither quoted nor a block
    line: int
    column: int
    start: int = 0  # offsets in the document's text, to find a place inside a long text
    end: int = 0
    size: int = 0


class Sequence(msgspec.Struct):
    """A list."""

    items: list[Node]
    line: int
    column: int
    size: int = 1


class Mapping(msgspec.Struct):
    """Keys and values in the file's order, merged ones last."""

    entries: dict[str, tuple[Scalar, Node]]
    line: int
    column: int
    size: int = 1


Node = Scalar | Sequence | Mapping


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong at one place."""

    line: int
    column: int
    where: str
    problem: str
    hint: str


class Document(msgspec.Struct):
    """A file's nodes, as far as it could be read."""

    text: str
    root: Mapping | None  # None: a mistake says why
    mistakes: list[Mistake] = []


class _NotReadable(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.problem)
        self.mistake = mistake


class _Open(msgspec.Struct):
    """A collection whose end hasn't come."""

    node: Sequence | Mapping
    anchor: str | None
    key: Scalar | None = None  # the key whose value comes next
    merges: list[Node] = []
    merge_keys: int = 0


def parse_document(data: bytes) -> Document:
    """Read one YAML document.

    Never raises for what the bytes hold: whatever can't be used is one of the
    document's mistakes.
    """
    document = Document("", None)
    try:
        document.text = _decode(data)
        document.root = _Builder(document).build()
    except _NotReadable as refusal:
        document.mistakes.append(refusal.mistake)
    return document


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _NotReadable(Mistake(1, 1, "file", "is over 1 MiB", "split the pipeline"))
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        line, column = _place(before, len(before))
        problem = f"byte 0x{data[error.start]:02x} isn't UTF-8"
        raise _NotReadable(
            Mistake(line, column, "file", problem, "save the file as UTF-8")
        ) from None
    found = _UNPRINTABLE.search(text)
    if found:
        line, column = _place(text, found.start())
        problem = f"control character U+{ord(found[0]):04X}"
        hint = 'remove it, or write it as an escape in double quotes, such as "\\e"'
        raise _NotReadable(Mistake(line, column, "file", problem, hint))
    return text


def _place(text: str, offset: int) -> tuple[int, int]:
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - line_start + 1


def _mark(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


class _Builder:
    """Turns events into nodes without recursion."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._documents = 0

    def build(self) -> Mapping:
        """Return the root."""
        for event in self._events():
            self._take(event)
        root = self._root
        if root is None or (isinstance(root, Scalar) and root.plain and not root.text):
            raise _NotReadable(
                Mistake(1, 1, "file", "is empty", "write at least 'steps:' with one step")
            )
        if not isinstance(root, Mapping):
            raise _NotReadable(
                Mistake(root.line, root.column, "file", "isn't a mapping", "begin with 'steps:'")
            )
        return root

    def _events(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self._document.text, Loader=_LOADER)
        except yaml.YAMLError as error:
            raise _NotReadable(_syntax_mistake(error, self._document.text)) from None

    def _take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.SequenceStartEvent():
                self._open(event, Sequence([], *_mark(event)))
            case yaml.MappingStartEvent():
                self._open(event, Mapping({}, *_mark(event)))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._close(event)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop(event, "a second document begins", "one file holds one pipeline")

    def _scalar(self, event: Any) -> None:
        text: str = event.value
        offsets = event.start_mark.index, event.end_mark.index
        node = Scalar(text, event.implicit[0], *_mark(event), *offsets)
        node.size = len(text) + 1
        if self._check_tag(event):
            node.text = f"{event.tag} {text}".strip()  # as it was most likely meant
        if _UNUSABLE.search(text):
            self._mistake(
                event,
                "holds a character that no process can be given",
                "remove the NUL or surrogate",
            )
            node.text = _UNUSABLE.sub("\ufffd", text)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._add(node, event)

    def _alias(self, event: Any) -> None:
        name = event.anchor
        if any(opened.anchor == name for opened in self._stack):
            self._stop(event, f"anchor '{name}' holds itself", "take the alias out of its anchor")
        if name not in self._anchors:
            self._stop(
                event,
                f"no anchor is named '{name}'",
                suggest(name, self._anchors, otherwise=f"write &{name} where it is meant, above"),
            )
        self._add(self._anchors[name], event)

    def _open(self, event: Any, node: Sequence | Mapping) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self._stop(event, *_TOO_DEEP)
        if self._stack and self._is_key():
            self._stop(event, "a key must be text", "quote it, or write 'key: value'")
        self._check_tag(event)
        self._stack.append(_Open(node, event.anchor))

    def _close(self, event: Any) -> None:
        opened = self._stack.pop()
        node = opened.node
        if isinstance(node, Mapping):
            self._merge(opened, node)
        if opened.anchor is not None:
            self._anchors[opened.anchor] = node
        self._add(node, event)

    def _is_key(self) -> bool:
        return isinstance(self._stack[-1].node, Mapping) and self._stack[-1].key is None

    def _add(self, node: Node, event: Any) -> None:
        if not self._stack:
            self._root = node
            return
        opened = self._stack[-1]
        if isinstance(opened.node, Sequence):
            opened.node.items.append(node)
        elif opened.key is None:
            if not isinstance(node, Scalar):
                self._stop(event, "a key must be text", "let the alias name a text")
            # The alias's own place, not the anchor's, is where this key stands.
            opened.key = Scalar(node.text, node.plain, *_mark(event))
        else:
            self._put(opened, opened.key, node, opened.node)
            opened.key = None
        self._grow(opened.node, node.size, event)

    def _put(self, opened: _Open, key: Scalar, node: Node, mapping: Mapping) -> None:
        merge = key.plain and key.text == "<<"
        if merge:
            opened.merges.append(node)
            opened.merge_keys += 1
        earlier = mapping.entries.get(key.text)
        if earlier is not None or (merge and opened.merge_keys > 1):
            first = f", first in line {earlier[0].line}" if earlier else ""
            where = ".".join(self._path())
            hint = "write '<<: [*a, *b]'" if merge else "remove one"
            self._document.mistakes.append(
                Mistake(key.line, key.column, where, f"the key stands twice{first}", hint)
            )
        elif not merge:
            mapping.entries[key.text] = (key, node)

    def _merge(self, opened: _Open, mapping: Mapping) -> None:
        sources: list[Node] = []
        for merged in opened.merges:
            sources.extend(merged.items if isinstance(merged, Sequence) else [merged])
        for source in sources:
            if not isinstance(source, Mapping):
                where = ".".join([*self._path(), "<<"])
                self._document.mistakes.append(
                    Mistake(
                        source.line, source.column, where, "only mappings can be merged", "name one"
                    )
                )
                continue
            for name, entry in source.entries.items():
                mapping.entries.setdefault(name, entry)

    def _grow(self, node: Sequence | Mapping, size: int, event: Any) -> None:
        node.size += size
        if node.size > MAX_BYTES:
            self._stop(event, "its anchors expand to over 1 MiB", "use fewer aliases")

    def _check_tag(self, event: Any) -> bool:
        """Tell whether the tag is one that we don't know, after adding a mistake."""
        if event.tag in (None, "!", *_CORE_TAGS):
            return False
        hint = f"quote text that begins with '!': \"{event.tag} …\""
        self._mistake(event, f"the tag '{event.tag}' means nothing here", hint)
        return True

    def _path(self) -> list[str]:
        return [opened.key.text for opened in self._stack if opened.key is not None]

    def _mistake(self, event: Any, problem: str, hint: str) -> None:
        where = ".".join(self._path()) or "file"
        self._document.mistakes.append(Mistake(*_mark(event), where, problem, hint))

    def _stop(self, event: Any, problem: str, hint: str) -> NoReturn:
        self._mistake(event, problem, hint)
        raise _NotReadable(self._document.mistakes.pop())


def _syntax_mistake(error: yaml.YAMLError, text: str) -> Mistake:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "isn't YAML"
    if mark is None:
        return Mistake(1, 1, "file", f"isn't YAML: {problem}", "save it as UTF-8 text")
    if "nesting depth" in problem:  # libyaml looks ahead, and has a bound of its own: 1,000
        return Mistake(mark.line + 1, mark.column + 1, "file", *_TOO_DEEP)
    context_mark = getattr(error, "context_mark", None)
    if context_mark is not None and context_mark.line != mark.line:
        context = getattr(error, "context", "")
        problem = f"{problem}, {context} that begins in line {context_mark.line + 1}"
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    return Mistake(
        mark.line + 1,
        mark.column + 1,
        "file",
        f"isn't YAML: {problem}",
        _syntax_hint(problem, line),
    )


def _syntax_hint(problem: str, line: str) -> str:
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation:
        return "indent with spaces, never with tabs"
    if "whitespace or line break" in problem:
        return "quote text that begins with '!'"
    if "cannot start any token" in problem:
        return "quote text that begins with such a character"
    if "mapping values are not allowed" in problem:
        return "quote text that holds ': ', and check the indentation"
    return "check quotes, brackets and indentation, here and in the line above"
