"""How messages show words from outside, and what they propose instead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_LISTED: Final = 8  # more names than this don't help a reader


def suggest(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return a hint: the nearest known word, else *otherwise*, else the known words if few."""
    import difflib  # here, because only mistakes need it

    options = [*known]
    # Longer words are no near miss of any name of ours, and difflib is quadratic.
    near = difflib.get_close_matches(word, options, n=1) if len(word) <= 100 else []
    if near:
        return f"did you mean '{printable(near[0])}'?"
    if otherwise or not options or len(options) > _LISTED:
        return otherwise
    return "known: " + ", ".join(options)


def printable(text: str) -> str:
    """Return *text* on one line, what would steer a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
