"""Findings in one form, whichever analyzer made them; pure.

A `Result` is what one analyzer has to say about one tree. It is written as
JSON between the analyzer's step and the report's, and collected as an
artifact, so its keys are for other programs too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import msgspec

from tailrace.core.units import plural

Severity = Literal["high", "medium", "low"]
SEVERITIES: Final[tuple[Severity, ...]] = ("high", "medium", "low")
# One undefined name outweighs a handful of unused imports, not a whole file of them.
WEIGHTS: Final[dict[Severity, int]] = {"high": 10, "medium": 3, "low": 1}

MAX_FINDINGS: Final = 50_000  # kept per analyzer, the severest first; all are counted
MAX_FUNCTIONS: Final = 1_000  # the most complex ones


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that an analyzer says about one line."""

    rule: str  # "F821", "B602", "complexity", "AWS Access Key"
    severity: Severity
    uri: str  # relative to the repository, percent-encoded: see `to_uri`
    line: int  # from 1
    column: int | None = None  # from 1
    message: str  # printable, one line
    help: str | None = None  # https address of the rule's documentation


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function and how hard it is to follow."""

    name: str
    uri: str
    line: int
    complexity: int  # cyclomatic
    lines: int  # of code, without comments
    parameters: int


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of one language."""

    name: str
    files: int
    code: int
    comments: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one analyzer left."""

    tool: str
    version: str | None = None  # where its output tells
    counts: dict[Severity, int]  # of all findings, the omitted ones too
    omitted: int = 0  # findings beyond MAX_FINDINGS
    findings: tuple[Finding, ...] = ()
    unread: int = 0  # files it could not read, or lines of its output that we could not
    function_count: int = 0
    functions: tuple[Function, ...] = ()
    languages: tuple[Language, ...] = ()

    @property
    def total(self) -> int:
        """How many findings there were."""
        return sum(self.counts.values())


class FileRank(NamedTuple):
    """A file with its findings, in the order of its lines."""

    uri: str
    score: int  # severity-weighted: WEIGHTS
    counts: Counter[Severity]
    findings: list[tuple[str, Finding]]  # with the tool's name


def make_result(
    tool: str,
    findings: Iterable[Finding],
    *,
    version: str | None = None,
    unread: int = 0,
    functions: Sequence[Function] = (),
    languages: Sequence[Language] = (),
) -> Result:
    """Count, bound and order what an analyzer said.

    Findings are kept severest first up to MAX_FINDINGS, functions most
    complex first up to MAX_FUNCTIONS, languages by lines of code.
    """
    ranked = sorted(findings, key=lambda f: (-WEIGHTS[f.severity], f.uri, f.line, f.rule))
    counts = Counter(f.severity for f in ranked)
    return Result(
        tool=tool,
        version=version,
        counts={severity: counts[severity] for severity in SEVERITIES},
        omitted=max(0, len(ranked) - MAX_FINDINGS),
        findings=tuple(ranked[:MAX_FINDINGS]),
        unread=unread,
        function_count=len(functions),
        functions=tuple(
            sorted(functions, key=lambda f: (-f.complexity, f.uri, f.line))[:MAX_FUNCTIONS]
        ),
        languages=tuple(sorted(languages, key=lambda entry: (-entry.code, entry.name))),
    )


def rank_files(results: Iterable[Result]) -> list[FileRank]:
    """Group all findings by file, the worst file first."""
    files: dict[str, list[tuple[str, Finding]]] = {}
    for result in results:
        for finding in result.findings:
            files.setdefault(finding.uri, []).append((result.tool, finding))
    ranks = []
    for uri, found in files.items():
        counts = Counter(finding.severity for _, finding in found)
        score = sum(WEIGHTS[severity] * n for severity, n in counts.items())
        found.sort(key=lambda pair: (pair[1].line, pair[1].column or 0, pair[0], pair[1].rule))
        ranks.append(FileRank(uri, score, counts, found))
    return sorted(ranks, key=lambda rank: (-rank.score, rank.uri))


def summarize(result: Result) -> str:
    """Say in one line, without text from the repository, what was found."""
    if result.languages:
        code = sum(language.code for language in result.languages)
        files = sum(language.files for language in result.languages)
        named = len(result.languages)
        text = (
            f"{plural(code, 'line')} of code in {plural(files, 'file')}, "
            f"{plural(named, 'language')}"
        )
    elif result.functions:
        text = (
            f"{plural(result.function_count, 'function')}, {result.total:,} too complex; "
            f"the most complex has {result.functions[0].complexity:,} paths"
        )
    elif result.total:
        parts = [f"{result.counts[s]:,} {s}" for s in SEVERITIES if result.counts.get(s)]
        files = len({finding.uri for finding in result.findings})
        text = f"{plural(result.total, 'finding')} in {plural(files, 'file')}: {', '.join(parts)}"
    else:
        text = "nothing found"
    if result.unread:
        text += f"; {plural(result.unread, 'file')} could not be read"
    return f"{result.tool}: {text}"


def to_uri(path: str) -> str:
    """Encode a relative path of this file system as a URI reference (RFC 3986).

    Lossless for every name Linux allows: bytes that aren't UTF-8 arrive as
    surrogates (PEP 383) and leave as the bytes they were.
    """
    return quote(path.encode("utf-8", "surrogateescape"), safe="/")


def to_text(uri: str) -> str:
    """Decode `to_uri` for people: printable, what isn't being escaped."""
    return printable(unquote_to_bytes(uri).decode("utf-8", "backslashreplace"))


def printable(text: str) -> str:
    r"""Escape what would not show as itself: controls, surrogates, bidi overrides.

    A name that holds U+202E would otherwise read backwards ("Trojan Source",
    CVE-2021-42574); a newline becomes ``\n``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def relative(path: str, root: str) -> str | None:
    """Return *path*, as an analyzer in *root* printed it, relative to *root*.

    None for what lies outside: it is no part of the repository.
    """
    joined = os.path.normpath(os.path.join(root, path))  # noqa: PTH118 - hostile text, no object
    inside = joined.removeprefix(root.rstrip("/") + "/")
    return None if inside == joined or not inside else inside
