"""Query strings and stream positions: text from outside, read or refused with every mistake."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tailrace.core.ulid import is_ulid
from tailrace.core.units import parse_duration
from tailrace.errors import InvalidInputError, Problem
from tailrace.http.route import Query
from tailrace.http.shapes import MOST_ZEROS
from tailrace.pipeline.spelling import suggest

_FLAGS: Final = {
    "1": True, "true": True, "yes": True, "": True, "0": False, "false": False, "no": False,
}  # fmt: skip
_DIGITS: Final = 15  # of an integer; keeps every number far below 63 bits
_PLACE: Final = re.compile(
    rf"(0{{0,{MOST_ZEROS}}})(0|[1-9][0-9]{{0,{_DIGITS - 1}}})(?:\.([1-9][0-9]{{0,{_DIGITS - 1}}}))?"
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters that were given, by name and kind; None (or False) where one wasn't."""

    values: dict[str, str | int | bool]

    def text(self, name: str) -> str | None:
        """Return a text."""
        value = self.values.get(name)
        return value if isinstance(value, str) else None

    def integer(self, name: str) -> int | None:
        """Return an integer, or the milliseconds of a duration."""
        value = self.values.get(name)
        return value if isinstance(value, int) else None

    def flag(self, name: str) -> bool:
        """Return a flag."""
        return self.values.get(name) is True


def parse_query(known: Iterable[Query], given: Iterable[tuple[str, str]]) -> Parameters:
    """Read a query string's pairs.

    Raises:
        InvalidInputError: a name is unknown or comes twice, or a value makes no
            sense; all mistakes together.
    """
    queries = {query.name: query for query in known}
    values: dict[str, str | int | bool] = {}
    problems = []
    for name, text in given:
        query = queries.get(name)
        if query is None:
            problems.append(Problem(shown(name), "unknown parameter", _names_hint(name, queries)))
        elif name in values:
            problems.append(Problem(name, "is given twice", "leave one of them out"))
        else:
            try:
                values[name] = _value(query, text)
            except ValueError as exc:
                problems.append(Problem(name, f"'{shown(text)}' makes no sense", str(exc)))
    if problems:
        raise InvalidInputError(problems)
    return Parameters(values)


def _value(query: Query, text: str) -> str | int | bool:
    if query.kind == "integer":
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
            raise ValueError(f"give a whole number from {query.least}")
        if int(text) < query.least:
            raise ValueError(f"the least is {query.least}")
        return int(text)
    if query.kind == "flag":
        if text not in _FLAGS:
            raise ValueError("give 1 or 0")
        return _FLAGS[text]
    if query.kind == "duration":
        return parse_duration(text)
    if query.choices and text not in query.choices:
        raise ValueError(f"use one of {', '.join(query.choices)}")
    return text


def _names_hint(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    return suggest(name, names, otherwise=f"known here: {', '.join(names)}" if names else "")


def shown(text: str) -> str:
    """Return *text* as an answer may repeat it: short and printable."""
    cut = text if len(text) <= 80 else text[:80] + "…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)


@dataclass(frozen=True, slots=True)
class EventId:
    """A place in a run's sequence, as ``id:`` gives it: ``SEQ`` or ``RUNID:SEQ``.

    ``parts`` says how far into the event after it: the zeros in front of SEQ,
    or the number behind a dot (`tailrace.http.shapes`).
    """

    run: str | None
    seq: int
    parts: int = 0


def parse_event_id(text: str, *, where: str = "Last-Event-ID") -> EventId:
    """Read an event id.

    Raises:
        InvalidInputError: it is none.
    """
    run, colon, place = text.strip().rpartition(":")
    found = _PLACE.fullmatch(place)
    if found is None or (colon and not is_ulid(run)):
        hint = "send the last id as it came: SEQ or RUNID:SEQ"
        raise InvalidInputError([Problem(where, f"'{shown(text)}' is no event's id", hint)])
    zeros, number, parts = found.groups()
    return EventId(run or None, int(number), int(parts) if parts else len(zeros))
