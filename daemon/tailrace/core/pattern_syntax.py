r"""The syntax of token shapes: what RE2, Hyperscan and Python's `re` agree on.

A shape is text in ``configs/masking.yaml`` or in the settings. It is parsed
here, and not handed to a library as it stands, so that `tailrace.core.patterns`
can tell of its tree what no library tells.

Patterns see bytes; text beyond ASCII stands for its UTF-8. No part of a
pattern matches a line feed: ``.``, ``\s`` and ``[^…]`` leave it out.
``^`` and ``$`` are a line's ends. ``*?`` reads as ``*``: all matches count.
"""

from __future__ import annotations

import string
from typing import Final, Literal

import msgspec

MAX_COUNT: Final = 1_000  # in {n,m}; the bound that RE2 has

_EVERY: Final = frozenset(range(256)) - {0x0A}
_WORD: Final = frozenset((string.ascii_letters + string.digits + "_").encode())
_DIGIT: Final = frozenset(string.digits.encode())
_SPACE: Final = frozenset(b" \t\r\f\v")
_SETS: Final = {
    "d": _DIGIT, "D": _EVERY - _DIGIT, "w": _WORD, "W": _EVERY - _WORD,
    "s": _SPACE, "S": _EVERY - _SPACE,
}  # fmt: skip
_CONTROLS: Final = {"t": 9, "r": 13, "f": 12, "v": 11, "a": 7}
_POSIX: Final = {
    "alnum": _WORD - {0x5F}, "alpha": _WORD - {0x5F} - _DIGIT, "digit": _DIGIT, "word": _WORD,
    "lower": frozenset(string.ascii_lowercase.encode()),
    "upper": frozenset(string.ascii_uppercase.encode()),
    "xdigit": frozenset(string.hexdigits.encode()),
    "punct": frozenset(string.punctuation.encode()),
    "space": _SPACE, "blank": frozenset(b" \t"),
}  # fmt: skip


class PatternError(ValueError):
    """A pattern can't be used; ``str()`` says why and where in it."""


class Chars(msgspec.Struct, frozen=True):
    """One byte out of a set."""

    of: frozenset[int]


class Sequence(msgspec.Struct, frozen=True):
    """One part after the other."""

    parts: tuple[Node, ...]


class Choice(msgspec.Struct, frozen=True):
    """Any one of several."""

    parts: tuple[Node, ...]


class Repeat(msgspec.Struct, frozen=True):
    """A part ``least`` to ``most`` times; ``most`` None means without end."""

    part: Node
    least: int
    most: int | None


class Edge(msgspec.Struct, frozen=True):
    r"""A place between two bytes: ``^``, ``$``, ``\b`` or ``\B``."""

    mark: Literal["^", "$", "\\b", "\\B"]


Node = Chars | Sequence | Choice | Repeat | Edge
NOTHING: Final = Sequence(())


def parse(pattern: str) -> Node:
    """Read a pattern.

    Raises:
        PatternError: it isn't one, or uses what the libraries don't share.
    """
    return _Parser(pattern).whole()


class _Parser:
    """Recursive descent over one pattern."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.caseless = False

    def fail(self, problem: str) -> PatternError:
        return PatternError(f"{problem} (at character {self.at + 1} of the pattern)")

    def peek(self, ahead: str) -> bool:
        return self.text.startswith(ahead, self.at)

    def take(self, ahead: str) -> bool:
        if self.peek(ahead):
            self.at += len(ahead)
            return True
        return False

    def next(self) -> str:
        if self.at >= len(self.text):
            raise self.fail("it ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def until(self, closing: str) -> str:
        end = self.text.find(closing, self.at)
        if end < 0:
            raise self.fail(f"'{closing}' is missing")
        found = self.text[self.at : end]
        self.at = end + len(closing)
        return found

    def whole(self) -> Node:
        node = self.choice()
        if self.at < len(self.text):
            raise self.fail("')' closes nothing")
        return node

    def choice(self) -> Node:
        caseless = self.caseless
        parts = [self.sequence()]
        while self.take("|"):
            parts.append(self.sequence())
        self.caseless = caseless  # (?i) reaches to the end of its group
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.text) and not self.peek("|") and not self.peek(")"):
            part = self.repeated(self.atom())
            parts.extend(part.parts if isinstance(part, Sequence) else (part,))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repeated(self, part: Node) -> Node:
        counts = self.counts()
        if counts is None:
            return part
        if isinstance(part, Edge) or part == NOTHING:
            raise self.fail("there is nothing to repeat")
        self.take("?")  # a lazy repeat matches the same texts
        if self.peek("+") or self.counts() is not None:
            raise self.fail("a repeat of a repeat needs a group, and possessive ones aren't shared")
        return Repeat(part, *counts)

    def counts(self) -> tuple[int, int | None] | None:
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(sign):
                return counts
        if not self.peek("{"):
            return None
        least, comma, most = self.text[self.at + 1 :].partition("}")[0].partition(",")
        if not least.isdecimal() or not (most.isdecimal() or most == ""):
            return None  # a brace that counts nothing is a brace, as in RE2 and Hyperscan
        self.until("}")
        low = int(least)
        high = low if not comma else int(most) if most else None
        if max(low, high or 0) > MAX_COUNT or (high is not None and high < low):
            raise self.fail(f"counts go from 0 to {MAX_COUNT}, the smaller first")
        return low, high

    def atom(self) -> Node:
        char = self.next()
        if char == "(":
            return self.group()
        if char == "[":
            return self.characters()
        if char == ".":
            return Chars(_EVERY)
        if char == "^":
            return Edge("^")
        if char == "$":
            return Edge("$")
        if char == "\\":
            return self.escape()
        if char in "*+?":
            raise self.fail("there is nothing to repeat")
        return self.literal(char)

    def literal(self, char: str) -> Node:
        if char == "\n":
            raise self.fail("a pattern can't reach over a line break")
        encoded = char.encode()
        if len(encoded) > 1:
            return Sequence(tuple(Chars(frozenset((byte,))) for byte in encoded))
        return Chars(self.cased(frozenset(encoded)))

    def cased(self, chars: frozenset[int]) -> frozenset[int]:
        if not self.caseless:
            return chars
        both = bytes(chars)
        return frozenset(both.lower() + both.upper()) | chars

    def group(self) -> Node:
        caseless = self.caseless
        if self.take("?"):
            if self.take("P<") or (self.peek("<") and not self.peek("<=") and not self.peek("<!")):
                self.until(">")
            elif not self.take(":"):
                flags = self.flags()
                if flags == ")":
                    return NOTHING
        node = self.choice()
        if not self.take(")"):
            raise self.fail("')' is missing")
        self.caseless = caseless
        return node

    def flags(self) -> str:
        on = True
        while True:
            flag = self.next()
            if flag in ":)":
                return flag
            if flag == "-":
                on = False
            elif flag == "i":
                self.caseless = on
            elif flag not in "sm":  # these two are so anyway
                raise self.fail("look-around, references and flags but i, s, m aren't supported")

    def escape(self) -> Node:
        if self.take("b"):
            return Edge("\\b")
        if self.take("B"):
            return Edge("\\B")
        return Chars(self.cased(self.escaped()))

    def escaped(self) -> frozenset[int]:
        char = self.next()
        if char in _SETS:
            return _SETS[char]
        if char in _CONTROLS:
            return frozenset((_CONTROLS[char],))
        if char == "x":
            digits = self.until("}") if self.take("{") else self.next() + self.next()
            try:
                byte = int(digits, 16)
            except ValueError:
                raise self.fail("two hexadecimal digits belong after \\x") from None
            if byte > 0x7F or byte == 0x0A:
                raise self.fail("\\x names an ASCII character other than the line feed")
            return frozenset((byte,))
        if char.isalnum() or not char.isascii():
            what = "a pattern can't reach over a line break" if char == "n" else "unknown escape"
            raise self.fail(f"\\{char}: {what}")
        return frozenset(char.encode())

    def characters(self) -> Node:
        negated = self.take("^")
        members: set[int] = set()
        first = True
        while first or not self.peek("]"):
            first = False
            low = self.member()
            if len(low) == 1 and self.peek("-") and not self.peek("-]"):
                self.take("-")
                high = self.member()
                if len(high) != 1 or min(high) < min(low):
                    raise self.fail("a range needs its smaller end first")
                low = frozenset(range(min(low), min(high) + 1))
            members |= low
        self.take("]")
        chars = self.cased(frozenset(members))
        chars = _EVERY - chars if negated else chars - {0x0A}
        if not chars:
            raise self.fail("this class holds no character")
        return Chars(chars)

    def member(self) -> frozenset[int]:
        if self.take("[:"):
            name = self.until(":]")
            inverted = name.startswith("^")
            if name.lstrip("^") not in _POSIX:
                raise self.fail(f"[:{name}:] is no class of characters")
            return _EVERY - _POSIX[name[1:]] if inverted else _POSIX[name]
        char = self.next()
        if char == "\\":
            if self.take("n"):
                return frozenset((0x0A,))  # welcome in [^…]; taken out of all others
            return self.escaped()
        if not char.isascii():
            raise self.fail("a class holds ASCII characters only; write other ones as (?:ä|ö)")
        return frozenset(char.encode())
