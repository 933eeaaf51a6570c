"""Shapes: what secrets look like that nobody told us.

A shape comes from ``configs/masking.yaml`` or the settings, or is one of
`tailrace.core.always`. `rules_of` turns it into what the masker works with; see
`tailrace.core.mask` for what the kinds of rules mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from tailrace.core import patterns, scanner
from tailrace.core.pattern_syntax import Node, PatternError, parse


class Shape(msgspec.Struct, frozen=True):
    """One look of secrets; patterns as `tailrace.core.pattern_syntax` reads them."""

    name: str
    pattern: str  # with ``before`` of a fixed width, then a class without end: AB[0-9a-f]{32,}
    before: str = ""  # must stand in front and stays readable
    skip: str = ""  # with ``before``: what of the value stays readable where it begins like this
    quote: str = ""  # with ``before``, which holds it last: the value ends at the next of its depth
    until: str = ""  # mask everything from ``pattern`` to this, or `BLOCK` bytes
    keep: tuple[int, int] = (0, 0)  # bytes at either end of a match that stay readable


class Run(msgspec.Struct, frozen=True):
    """What goes on behind a match for as long as it can: bytes of a class, or one text repeated.

    Or what is between quotes. Where it stops and begins anew makes no difference.
    """

    goes_on: re.Pattern[bytes]  # all that there is, possibly nothing; never fails
    unit: bytes = b""  # the text; nothing for a class
    open: re.Pattern[bytes] | None = None  # all that may belong to it once more has come

    def may_go_on(self, raw: bytes | bytearray, at: int) -> bool:
        """Tell whether a run that has stopped at *at* goes on if the right bytes follow *raw*."""
        if self.open:
            return self.open.fullmatch(raw, at) is not None
        return len(raw) - at <= len(self.unit) and self.unit.startswith(raw[at:])


class Rule(msgspec.Struct, frozen=True):
    """One expression to look for, and what its match means."""

    kind: Literal["token", "value", "block", "end"]
    shape: str
    find: bytes
    flags: int
    width: int  # of a match in bytes; 0 where it varies and the scanner tells its start
    begins: bytes | None = None  # matches every unfinished beginning
    keep: tuple[int, int] = (0, 0)
    run: Run | None = None  # goes on from a match's end
    last: bytes | None = None  # with ``run``: it ends behind the last of these within `REACH`
    lead: re.Pattern[bytes] | None = (
        None  # of a value: what may stand in front of it, never failing
    )
    head: re.Pattern[bytes] | None = None  # of a value: what it must begin with
    skip: re.Pattern[bytes] | None = None
    lookahead: int = 0  # bytes by which a value is known to be one, or not
    quote: bytes = b""  # what a value stands in
    by_depth: tuple[Rule, ...] = ()  # with ``quote``: the rule by its number of backslashes

    def within(self, raw: bytes | bytearray, begin: int, end: int) -> Rule:
        """Return the rule of a value that begins behind *end*; *begin* is as far as it looks."""
        if not self.quote:
            return self
        at = raw.rfind(self.quote, begin, end)
        ahead = raw[max(begin, at - len(_INNER)) : max(at, begin)]
        backslashes = len(ahead) - len(ahead.rstrip(b"\\"))
        return self.by_depth[min(backslashes, len(self.by_depth) - 1)]


class ShapeProblem(msgspec.Struct, frozen=True):
    """One mistake in a list of shapes."""

    where: str  # "shapes[3].pattern"
    problem: str
    hint: str


class ShapeError(ValueError):
    """Shapes can't be used; ``problems`` are all their mistakes, ``source`` the file's name."""

    def __init__(self, source: str, problems: tuple[ShapeProblem, ...]) -> None:
        lines = (f"{source}: {p.where}: {p.problem}; {p.hint}" for p in problems)
        super().__init__("\n".join(lines))
        self.source = source
        self.problems = problems


# A terminal's control sequence: a colour, a cursor's move, a character set; also as C, JSON and
# shells write the escape character.
CONTROL: Final = (
    r"(?:\x1b|\\(?:033|e|x1[bB]|u001[bB])|\^\[)(?:\[[0-?]*[@-~]|\([0-9A-Z]|[78=>DEHMc])"
)

# Backslashes in front of a quote within a value, at least, where the value's own quotes have 0, 1,
# 2, 3, 4 or more: 1, 3 and 7 stand before those of JSON in JSON.
_INNER: Final = (1, 2, 4, 4, 8)

_KEYS: Final = ("name", "pattern", "before")

# What programs put right in front of a word, and that ends like one: escapes of JSON, C, URLs and
# quoted-printable, colours, cursor control, the underscore of a name. Tokens begin behind them too.
_EDGE: Final = parse(
    r"\b|_|\\[abefnrtv]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[0-3][0-7]{2}|%[0-9A-Fa-f]{2}|=3D"
    rf"|[\[0-9;][mK]|{CONTROL}"
)


def load_shapes(data: object, source: str) -> tuple[Shape, ...]:
    """Read the shapes of ``configs/masking.yaml`` (``{shapes: […]}``) or of a setting (a list).

    Each is ``{name, pattern}``, with ``before`` for a text that must stand in
    front of it, or a pattern alone. *source* is named in errors.

    Raises:
        ShapeError: with every mistake at once.
    """
    items = data.get("shapes") if isinstance(data, Mapping) else data
    if not isinstance(items, list) or (isinstance(data, Mapping) and set(data) != {"shapes"}):
        told = ShapeProblem(
            "shapes", "this isn't a list of shapes", "write '- {name: …, pattern: …}'"
        )
        raise ShapeError(source, (told,))
    shapes: list[Shape] = []
    problems: list[ShapeProblem] = []
    for number, item in enumerate(items):
        try:
            shapes.append(_checked(item, f"shapes[{number}]"))
        except _Refused as refused:
            problems.append(refused.problem)
    if problems:
        raise ShapeError(source, tuple(problems))
    return tuple(shapes)


class _Refused(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, where: str, problem: str, hint: str) -> None:
        self.problem = ShapeProblem(where, problem, hint)


def _checked(item: object, where: str) -> Shape:
    fields: dict[Any, Any] = {"name": where, "pattern": item} if isinstance(item, str) else {}
    if isinstance(item, Mapping):
        fields = dict(item)
    for key in fields:
        if key not in _KEYS:
            raise _Refused(f"{where}.{key}", "unknown key", f"a shape has {', '.join(_KEYS)}")
    for key in ("name", "pattern"):
        if not fields.get(key):
            raise _Refused(f"{where}.{key}", "it is missing", "write {name: …, pattern: …}")
    for key, value in fields.items():
        if not isinstance(value, str):
            raise _Refused(f"{where}.{key}", "this isn't text", "quote it with single quotes")
    shape = Shape(**fields)
    try:
        rules = rules_of(shape)
        scanner.Scanner([rule.find for rule in rules], [rule.flags for rule in rules])
        scanner.TailScanner([rule.begins for rule in rules if rule.begins] or [b"x"])
    except PatternError as error:
        raise _Refused(f"{where}.pattern", str(error), f"see {shape.name!r}") from None
    except scanner.ExpressionError as error:
        hint = "counts are costly to scan for: write {10,} in place of {10,500}"
        raise _Refused(f"{where}.pattern", str(error), hint) from None
    return shape


def rules_of(shape: Shape) -> list[Rule]:
    """Return what to look for.

    Raises:
        PatternError: a pattern of the shape can't be used.
    """
    if shape.before:
        return [_value_rule(shape)]
    kind: Literal["token", "block"] = "block" if shape.until else "token"
    rules = [_match_rule(shape, kind, node) for node in _branches(shape.pattern)]
    if shape.until:
        rules.extend(
            Rule("end", shape.name, patterns.expression(node), scanner.LINES, 1)
            for node in _branches(shape.until)
        )
    return rules


def _branches(pattern: str) -> list[Node]:
    node = parse(pattern)
    if patterns.widths(node)[0] == 0:
        raise PatternError("it matches the empty text, and so everything")
    return list(patterns.alternatives(node))


def _match_rule(shape: Shape, kind: Literal["token", "block"], node: Node) -> Rule:
    head, run, last = node, None, None
    if kind == "token" and (split := patterns.split_last(node)):
        head, run, last = split
    elif kind == "token" and not any(shape.keep):
        head, run = patterns.split_run(node)
    if patterns.widths(head)[0] == 0:
        head, run = node, None
    low, high = patterns.widths(head)
    width = low if low == high else 0
    begun = patterns.beginning(node if last else head)
    return Rule(
        kind=kind,
        shape=shape.name,
        # The edge is no part of the match where its width tells where that begins.
        find=patterns.expression(patterns.with_edge(head, _EDGE) if width else head),
        flags=scanner.LINES | (0 if width else scanner.STARTS),
        width=width,
        begins=None if begun is None else patterns.expression(begun),
        keep=shape.keep,
        run=_run(run),
        last=last,
    )


def _value_rule(shape: Shape) -> Rule:
    head, run = patterns.split_run(parse(shape.pattern))
    low, high = patterns.widths(head)
    if run is None or low == 0 or low != high:
        raise PatternError(
            "with 'before' it must have a fixed width and go on in a class, as in AB[0-9a-f]{32,}"
        )
    before, skip = parse(shape.before), parse(shape.skip)
    if patterns.widths(before)[0] == 0:
        raise PatternError("'before' matches the empty text, and so everything")
    # Blanks without end would be a match each; where they stop is one look.
    before, lead = patterns.split_lead(before, head)
    rule = Rule(
        kind="value",
        shape=shape.name,
        find=patterns.expression(before),
        flags=scanner.LINES,
        width=low,
        run=_run(run),
        lead=None if lead is None else re.compile(patterns.char_class(lead) + b"*+"),
        head=re.compile(patterns.expression(head)),
        skip=re.compile(patterns.expression(skip)) if shape.skip else None,
        lookahead=max(low, patterns.widths(skip)[1] or 0),
    )
    if not shape.quote:
        return rule
    by_depth = (replace(rule, run=_quoted_run(shape.quote, inner)) for inner in _INNER)
    return replace(rule, quote=shape.quote.encode(), by_depth=tuple(by_depth))


def _run(chars: frozenset[int] | None) -> Run | None:
    return None if chars is None else Run(re.compile(patterns.char_class(chars) + b"*+"))


def _quoted_run(quote: str, inner: int) -> Run:
    r"""Return what goes on to *quote*, but over one behind *inner* or more backslashes.

    Backslashes in front of the quote that ends it aren't part of it. ``'\''``
    and ``'"'"'``, by which shells write a quote between single ones, are.
    """
    more = [
        rf"[^\r\n\\{quote}]++",
        rf"(?<=\\{{{inner}}})[\\{quote}]",
        rf"\\{{{inner}}}",
    ]
    begun = []
    if inner > 1:
        more.append(rf"\\{{1,{inner - 1}}}(?=[^\\{quote}])")
        begun.append(rf"\\{{1,{inner - 1}}}")
    elif quote == "'":
        more += [r"'\\''", "'\"'\"'"]
        begun += [r"'(?:\\'?)?", "'\"(?:'\"?)?"]
    goes_on, open_ = f"(?:{'|'.join(more)})*+", f"(?:{'|'.join(begun)})?"
    return Run(re.compile(goes_on.encode()), open=re.compile(open_.encode()))
