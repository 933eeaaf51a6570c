"""One pass over a document: which place each value came from, and every mistake so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from tailrace.errors import Problem
from tailrace.pipeline.document import Document, Mistake, Node, Scalar
from tailrace.pipeline.spelling import printable, suggest

# Where a text stands decides what ``${{ … }}`` may take there: nothing, names known before any
# step runs, those of the step as well, or only the event; ``code`` and ``condition`` have their
# own refusals.
Place = Literal["none", "run", "step", "event", "code", "condition"]

_HINTED: Final = 100  # mistakes that get a search for near misses, which is slow


class PlacedText(msgspec.Struct, frozen=True):
    """A text of the file that could hold a template."""

    where: str
    node: Scalar
    place: Place


class Reading:
    """Collects what shapes find: places of values, texts, mistakes."""

    def __init__(self, document: Document) -> None:
        self.mistakes: list[Mistake] = [*document.mistakes]
        self.texts: list[PlacedText] = []
        self._text = document.text
        self._values: dict[str, Node] = {}
        self._keys: dict[str, Scalar] = {}
        self._code: set[tuple[str, int]] = set()

    def place(self, where: str, node: Node, key: Scalar | None = None) -> None:
        """Remember where the value at *where*, and its key, stand in the file."""
        self._values[where] = node
        if key is not None:
            self._keys[where] = key

    def has(self, where: str) -> bool:
        """Tell whether the file says something at *where*."""
        return where in self._values

    def is_same(self, where: str, other: str) -> bool:
        """Tell whether two paths lead to the same value."""
        return self._values.get(where) is self._values.get(other)

    def mark_code(self, where: str, item: int) -> None:
        """Say that a list item is code for an interpreter, so that it takes no templates."""
        self._code.add((where, id(self._values[f"{where}[{item}]"])))

    def place_of(self, text: PlacedText) -> Place:
        """Return what templates a text may take."""
        return "code" if (text.where, id(text.node)) in self._code else text.place

    def mistake(
        self,
        where: str,
        problem: str,
        hint: str,
        *,
        item: int | None = None,
        key: bool = False,
        told: str = "",
    ) -> None:
        """Add a mistake at the value of *where*, its list item, or its key.

        What isn't in the file itself (a missing key) is told at the nearest
        thing around it that is. *told* names another path in the message.
        """
        node: Node | None = self._keys.get(where) if key else None
        if item is not None:
            node = self._values.get(f"{where}[{item}]")
        around = where
        while node is None:
            key_of_it = self._keys.get(around) if around != where else None
            node = key_of_it or self._values.get(around)
            if node is None and not around:
                self.mistakes.append(Mistake(1, 1, told or where, problem, hint))
                return
            around = around.rpartition(".")[0]
        self.mistake_at(node, told or where, problem, hint)

    def mistake_at(self, node: Node, where: str, problem: str, hint: str) -> None:
        """Add a mistake at a node."""
        self.mistakes.append(Mistake(node.line, node.column, where, problem, hint))

    def mistake_within(
        self, text: PlacedText, needle: str, nth: int, problem: str, hint: str
    ) -> None:
        """Add a mistake at the *nth* (from 0) *needle* inside a text, as it stands in the file."""
        node = text.node
        offset = node.start - 1
        for _ in range(nth + 1):
            offset = self._text.find(needle, offset + 1, node.end)
            if offset < 0:  # spelled with escapes
                self.mistake_at(node, text.where, problem, hint)
                return
        lines = self._text.count("\n", node.start, offset)
        column = (
            offset - self._text.rfind("\n", 0, offset)
            if lines
            else node.column + offset - node.start
        )
        self.mistakes.append(Mistake(node.line + lines, column, text.where, problem, hint))

    def suggest(self, word: str, known: Iterable[str], *, otherwise: str = "") -> str:
        """Return a hint about a misspelled word, as long as there are few mistakes."""
        if len(self.mistakes) > _HINTED:
            return otherwise or "check its spelling"
        return suggest(word, known, otherwise=otherwise) or "check its spelling"

    def problems(self, display: str) -> list[Problem]:
        """Return all mistakes in the file's order."""
        ordered = sorted(self.mistakes, key=lambda mistake: (mistake.line, mistake.column))
        # Merged anchors are read at each place that uses them, and stand in one.
        unique = dict.fromkeys(ordered)
        return [
            Problem(
                printable(found.where),
                printable(found.problem),
                printable(found.hint),
                f"{display}:{found.line}:{found.column}",
            )
            for found in unique
        ]
