"""What can be told of a pattern, and its expression for the scanner.

No library tells four things of a pattern: whether it can match the empty text
or a line break, how wide it is, which bytes it ends in for as long as they go
on, and what every unfinished match of it looks like (`beginning`). The
scanner's expression is written anew from the tree, so that it sees exactly
what was checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tailrace.core.pattern_syntax import NOTHING, Chars, Choice, Edge, Node, Repeat, Sequence

_EXACT: Final = 64  # counts up to this are kept in a beginning


def widths(node: Node) -> tuple[int, int | None]:
    """Return how many bytes a match has at least and at most (None: no bound)."""
    match node:
        case Chars():
            return 1, 1
        case Edge():
            return 0, 0
        case Repeat(part, least, most):
            low, high = widths(part)
            return low * least, None if most is None or high is None else high * most
        case Sequence(parts):
            pairs = [widths(part) for part in parts]
            return sum(low for low, _ in pairs), _total([high for _, high in pairs])
        case Choice(parts):
            pairs = [widths(part) for part in parts]
            highs = [high for _, high in pairs]
            known = [high for high in highs if high is not None]
            return min(low for low, _ in pairs), max(known) if len(known) == len(highs) else None


def _total(highs: list[int | None]) -> int | None:
    known = [high for high in highs if high is not None]
    return sum(known) if len(known) == len(highs) else None


def alternatives(node: Node) -> Iterator[Node]:
    """Yield the branches of a pattern that is a choice, or the pattern."""
    if isinstance(node, Choice):
        for part in node.parts:
            yield from alternatives(part)
    else:
        yield node


def split_run(node: Node) -> tuple[Node, frozenset[int] | None]:
    """Split ``head[class]{n,}`` into ``head[class]{n}`` and the class.

    What begins with the head and goes on in the class is what the pattern
    matches; the class is None where the pattern doesn't end that way.
    """
    parts = node.parts if isinstance(node, Sequence) else (node,)
    match parts[-1]:
        case Repeat(Chars(of) as chars, least, None):
            return Sequence((*parts[:-1], *([Repeat(chars, least, least)] * bool(least)))), of
    return node, None


def split_last(node: Node) -> tuple[Node, frozenset[int], bytes] | None:
    """Split ``text[class]{n,}@``, where the class holds ``@``, at the first ``@`` that can end it.

    Returns a pattern that ends there, the class, and the byte: what goes on
    in the class to a later one is matched too. None for other patterns, and
    where two matches could begin in one stretch of the class.
    """
    match node:
        case Sequence((*ahead, Repeat(Chars(of), least, None) as run, Chars(ends))) if (
            len(ends) == 1
            and ends < of
            and any(isinstance(part, Chars) and not part.of & of for part in ahead)
        ):
            exact = [Repeat(run.part, least, least)] * bool(least)
            first = Repeat(Chars(of - ends), 0, None)
            return Sequence((*ahead, *exact, first, Chars(ends))), of, bytes(ends)
    return None


def split_lead(node: Node, follows: Node) -> tuple[Node, frozenset[int] | None]:
    """Split ``text[class]*`` into the text and the class, which is None for other patterns.

    Also None where what *follows* could begin with a byte of the class.
    """
    match node:
        case Sequence((*ahead, Repeat(Chars(of), 0, None))):
            text, begins = Sequence(tuple(ahead)), _first_bytes(follows)
            if widths(text)[0] > 0 and begins is not None and not begins & of:
                return text, of
    return node, None


def _first_bytes(node: Node) -> frozenset[int] | None:
    match node:
        case Chars(of):
            return of
        case Repeat(part, least, _) if least:
            return _first_bytes(part)
        case Sequence((first, *_)):
            return _first_bytes(first)
        case Choice(parts):
            firsts = [_first_bytes(part) for part in parts]
            known = [first for first in firsts if first is not None]
            return frozenset().union(*known) if len(known) == len(firsts) else None
    return None


def with_edge(node: Node, edge: Node) -> Node:
    r"""Return a pattern with *edge* in place of the ``\b`` that it begins with, if it does."""
    match node:
        case Sequence((Edge("\\b"), *rest)):
            return Sequence((edge, *rest))
    return node


def expression(node: Node) -> bytes:
    """Write a pattern for Hyperscan (flag MULTILINE for ``^`` and ``$``)."""
    match node:
        case Chars(of):
            return char_class(of)
        case Edge(mark):
            return mark.encode()
        case Repeat(part, least, most):
            counts = f"{{{least},{'' if most is None else most}}}".encode()
            return b"(?:" + expression(part) + b")" + counts
        case Sequence(parts):
            return b"".join(map(expression, parts))
        case Choice(parts):
            return b"(?:" + b"|".join(map(expression, parts)) + b")"


def char_class(chars: frozenset[int]) -> bytes:
    """Write a set of bytes as a class for Hyperscan and for `re`."""
    ordered = sorted(chars)
    ranges: list[list[int]] = []
    for byte in ordered:
        if ranges and ranges[-1][1] == byte - 1:
            ranges[-1][1] = byte
        else:
            ranges.append([byte, byte])
    if len(ordered) == 1:
        return b"\\x%02x" % ordered[0]
    return b"[" + b"".join(b"\\x%02x-\\x%02x" % (low, high) for low, high in ranges) + b"]"


def beginning(node: Node) -> Node | None:
    """Return a pattern of every non-empty text that a match could begin with, and be unfinished.

    It allows for more (edges and large counts are left aside), never for less,
    and with a text for every beginning of it: who holds back what it matches
    holds back enough, and never holds what was let go before. None where one
    byte is all there is to a match.
    """
    return _nonempty(_beginning(node))


def _beginning(node: Node) -> Node:
    match node:
        case Chars() | Edge():
            return NOTHING
        case Repeat(part, _, most):
            before = NOTHING if most == 1 else Repeat(_relaxed(part), 0, _fewer(most))
            return Sequence((before, _beginning(part)))
        case Choice(parts):
            return Choice(tuple(map(_beginning, parts)))
        case Sequence(parts):
            begun = _beginning(parts[-1]) if parts else NOTHING
            for part in reversed(parts[:-1]):
                begun = Choice((_beginning(part), Sequence((_relaxed(part), begun))))
            return begun


def _fewer(most: int | None) -> int | None:
    return most - 1 if most and most <= _EXACT else None


def _relaxed(node: Node) -> Node:
    """Return a pattern for at least the same texts, without edges and large counts."""
    match node:
        case Chars():
            return node
        case Edge():
            return NOTHING
        case Repeat(part, least, most):
            exact = max(least, most or 0) <= _EXACT
            return Repeat(_relaxed(part), *((least, most) if exact else (0, None)))
        case Sequence(parts):
            return Sequence(tuple(map(_relaxed, parts)))
        case Choice(parts):
            return Choice(tuple(map(_relaxed, parts)))


def _nonempty(node: Node) -> Node | None:
    if widths(node)[0] > 0:
        return node
    match node:
        case Choice(parts):
            some = [part for part in map(_nonempty, parts) if part is not None]
            return Choice(tuple(some)) if some else None
        case Repeat(part, _, most):
            one = _nonempty(part)
            more = None if most is None else most - 1
            return one if one is None or more == 0 else Sequence((one, Repeat(part, 0, more)))
        case Sequence((first, *rest)):
            tail = Sequence(tuple(rest))
            head, later = _nonempty(first), _nonempty(tail)
            some = [] if head is None else [Sequence((head, tail))]
            return (
                Choice((*some, *([later] if later is not None else []))) if some or later else None
            )
        case _:
            return None
