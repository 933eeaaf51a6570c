"""From what an analyzer printed to a `Result`: one function per analyzer.

Analyzers quote the repository: names with newlines and stray bytes, messages
as long as a file. What doesn't fit the expected shape is refused as a whole
(`InvalidInputError`), because half an output would look like a clean half;
the one exception is lizard's CSV, which its own file names can break.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from tailrace.errors import InvalidInputError, Problem
from tailrace.report.findings import (
    Finding,
    Function,
    Language,
    Result,
    Severity,
    make_result,
    printable,
    relative,
    to_uri,
)

MAX_MESSAGE: Final = 300  # characters
COMPLEX: Final = 15  # paths through a function from which on lizard warns by default
_MAX_LINE: Final = 2**31 - 1  # SARIF's consumers keep lines in 32 bits

T = TypeVar("T")


def read(tool: str, output: bytes, root: str) -> Result:
    """Read what *tool*, run in the folder *root*, printed.

    Raises:
        InvalidInputError: it isn't what that tool prints; says where it broke.
    """
    return READERS[tool](output, root)


# --- ruff --output-format json -------------------------------------------------------------


class _RuffPosition(msgspec.Struct):
    row: int
    column: int


class _RuffItem(msgspec.Struct):
    filename: str
    message: str
    location: _RuffPosition
    code: str | None = None  # null for a syntax error in old versions
    url: str | None = None
    cell: int | None = None  # of a notebook; rows count within it


_NOT_PARSED: Final = "invalid-syntax"
_RUFF_HIGH: Final = re.compile(r"F82[123]|F50\d|F63[134]|F70\d")
_RUFF_MEDIUM: Final = re.compile(r"F|E9|B|ASYNC|PLE|DTZ|LOG|RUF00[568]|invalid-syntax")


def read_ruff(output: bytes, root: str) -> Result:
    """Ruff knows no severities: what fails when it runs is high, likely mistakes medium.

    Of a file that doesn't parse only the first mistake is kept: the rest are
    its echo, up to one for every character.
    """
    broken: set[str] = set()

    def findings() -> Iterable[Finding]:
        for item in _decode("ruff", output, list[_RuffItem]):
            rule = item.code or _NOT_PARSED
            if rule == _NOT_PARSED:
                if item.filename in broken:
                    continue
                broken.add(item.filename)
            where = f"cell {item.cell}: " if item.cell is not None else ""
            yield from _finding(
                item.filename,
                root,
                rule=rule,
                severity=_ruff_severity(rule),
                line=item.location.row,
                column=item.location.column,
                message=where + item.message,
                help=item.url,
            )

    return make_result("ruff", findings())


def _ruff_severity(rule: str) -> Severity:
    if _RUFF_HIGH.match(rule):
        return "high"
    return "medium" if _RUFF_MEDIUM.match(rule) else "low"


# --- bandit -f json ------------------------------------------------------------------------


class _BanditItem(msgspec.Struct):
    filename: str
    test_id: str
    issue_severity: str
    issue_confidence: str
    issue_text: str
    line_number: int
    col_offset: int = -1  # from 0
    more_info: str | None = None


class _BanditOutput(msgspec.Struct):
    results: list[_BanditItem]
    errors: list[Any] = []


# "Possible hardcoded password: 'hunter2'": the report must not repeat it.
_BANDIT_QUOTES_SECRET: Final = frozenset({"B105", "B106", "B107"})


def read_bandit(output: bytes, root: str) -> Result:
    """Bandit's severities are ours, one lower where it has little confidence."""
    read_output = _decode("bandit", output, _BanditOutput)

    def findings() -> Iterable[Finding]:
        for item in read_output.results:
            message = item.issue_text
            if item.test_id in _BANDIT_QUOTES_SECRET:
                message = message.partition(":")[0]
            yield from _finding(
                item.filename,
                root,
                rule=item.test_id,
                severity=_bandit_severity(item),
                line=item.line_number,
                column=item.col_offset + 1,
                message=f"{message} ({item.issue_confidence.lower()} confidence)",
                help=item.more_info,
            )

    return make_result("bandit", findings(), unread=len(read_output.errors))


def _bandit_severity(item: _BanditItem) -> Severity:
    unsure = item.issue_confidence == "LOW"
    if item.issue_severity == "HIGH":
        return "medium" if unsure else "high"
    return "medium" if item.issue_severity == "MEDIUM" and not unsure else "low"


# --- lizard --csv --------------------------------------------------------------------------

# Lizard quotes no quotes in file names, so the row is read by what it repeats: the place
# ("name@start-end@file") tells where file and name end.
# Its count of lines can be negative, after a string of many lines.
_LIZARD_START: Final = re.compile(rb'-?\d+,\d+,\d+,\d+,\d+,"')
_LIZARD_ROW: Final = re.compile(
    r'(?P<nloc>-?\d{1,9}),(?P<ccn>\d{1,9}),\d+,(?P<parameters>\d{1,9}),\d+,"(?P<place>.*)"'
    r",(?P<start>\d{1,9}),(?P<end>\d{1,9})",
    re.DOTALL,
)


def read_lizard(output: bytes, root: str) -> Result:
    """Functions of more than COMPLEX paths are findings: beyond 25 medium, beyond 50 high."""
    functions: list[Function] = []
    unread = 0
    for row in _lizard_rows(output):
        function = _lizard_function(row, root)
        if function is None:
            unread += 1
        else:
            functions.append(function)
    if output.strip() and not functions and unread:
        raise _broken("lizard", "this is not its CSV")
    return make_result(
        "lizard",
        [_complexity(function) for function in functions if function.complexity > COMPLEX],
        functions=functions,
        unread=unread,
    )


def _lizard_rows(output: bytes) -> Iterable[str]:
    """Yield rows; a row goes on over the newlines in its file's name."""
    row: list[bytes] = []
    for line in output.splitlines(keepends=True):
        if _LIZARD_START.match(line) and row:
            yield b"".join(row).decode("utf-8", "surrogateescape").rstrip("\r\n")
            row.clear()
        row.append(line)
    if row:
        yield b"".join(row).decode("utf-8", "surrogateescape").rstrip("\r\n")


def _lizard_function(row: str, root: str) -> Function | None:
    match = _LIZARD_ROW.fullmatch(row)
    if match is None:
        return None
    span = f"@{match['start']}-{match['end']}@"
    name, found, rest = match["place"].partition(span)
    # rest is FILE","FILE","NAME","LONG NAME: the first half of what stands before ","NAME".
    twice, closed, _ = rest.partition(f'","{name}","')
    path = twice[: (len(twice) - len('","')) // 2]
    if not found or not closed or twice != f'{path}","{path}':
        return None
    inside = relative(path, root)
    if inside is None:
        return None
    return Function(
        name=_text(name, 120),
        uri=to_uri(inside),
        line=_line(int(match["start"])),
        complexity=int(match["ccn"]),
        lines=max(0, int(match["nloc"])),
        parameters=int(match["parameters"]),
    )


def _complexity(function: Function) -> Finding:
    severity: Severity = "low"
    if function.complexity > 25:
        severity = "high" if function.complexity > 50 else "medium"
    return Finding(
        rule="complexity",
        severity=severity,
        uri=function.uri,
        line=function.line,
        message=_text(
            f"{function.name} has {function.complexity} paths through "
            f"{function.lines} lines; {COMPLEX} is plenty"
        ),
    )


# --- detect-secrets scan -------------------------------------------------------------------


class _Secret(msgspec.Struct):
    type: str
    line_number: int = 1
    # hashed_secret is left where it is: a short secret can be guessed from its hash


class _SecretsOutput(msgspec.Struct):
    results: dict[str, list[_Secret]]
    version: str | None = None


_GUESSED: Final = re.compile("Secret Keyword|.*High Entropy String")


def read_detect_secrets(output: bytes, root: str) -> Result:
    """Known shapes are high, guesses by entropy or by a variable's name medium."""
    read_output = _decode("detect-secrets", output, _SecretsOutput)

    def findings() -> Iterable[Finding]:
        for path, secrets in read_output.results.items():
            for secret in secrets:
                guessed = _GUESSED.fullmatch(secret.type) is not None
                yield from _finding(
                    path,
                    root,
                    rule=secret.type,
                    severity="medium" if guessed else "high",
                    line=secret.line_number,
                    message="Possible secret" if guessed else "Secret; revoke it, then remove it",
                )

    return make_result("detect-secrets", findings(), version=read_output.version)


# --- pygount --format json -----------------------------------------------------------------


class _PygountLanguage(msgspec.Struct, rename="camel"):
    language: str
    file_count: int
    source_count: int
    documentation_count: int
    is_pseudo_language: bool = False


class _PygountOutput(msgspec.Struct, rename="camel"):
    languages: list[_PygountLanguage]
    pygount_version: str | None = None


def read_pygount(output: bytes, root: str) -> Result:
    """Pygount finds nothing, it counts; binaries, texts and empty files are no language."""
    read_output = _decode("pygount", output, _PygountOutput)
    languages = [
        Language(
            name=_text(entry.language, 60),
            files=entry.file_count,
            code=entry.source_count,
            comments=entry.documentation_count,
        )
        for entry in read_output.languages
        if not entry.is_pseudo_language and entry.source_count > 0
    ]
    return make_result("pygount", (), version=read_output.pygount_version, languages=languages)


READERS: Final[Mapping[str, Callable[[bytes, str], Result]]] = {
    "ruff": read_ruff,
    "bandit": read_bandit,
    "lizard": read_lizard,
    "detect-secrets": read_detect_secrets,
    "pygount": read_pygount,
}


def _decode(tool: str, output: bytes, shape: type[T]) -> T:
    """Decode JSON of a known shape.

    With the standard library's parser: Python's analyzers write stray bytes of
    names as lone surrogates, which msgspec's parser refuses.
    """
    if not output.strip():
        raise _broken(tool, "it printed nothing")
    try:
        return msgspec.convert(json.loads(output), shape)
    except RecursionError:
        raise _broken(tool, "its JSON is nested too deeply") from None
    except msgspec.ValidationError as error:
        raise _broken(tool, f"its JSON has another shape than expected: {error}") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, absurdly long numbers
        raise _broken(tool, f"this is not JSON: {error}") from None


def _broken(tool: str, problem: str) -> InvalidInputError:
    return InvalidInputError(
        [
            Problem(
                where=f"output of {tool}",
                problem=printable(problem)[:MAX_MESSAGE],
                hint="the lines that it printed before this one may tell why",
            )
        ]
    )


def _finding(
    path: str,
    root: str,
    *,
    rule: str,
    severity: Severity,
    line: int,
    message: str,
    column: int | None = None,
    help: str | None = None,
) -> Iterable[Finding]:
    """Yield the finding, or nothing where the file lies outside of the repository."""
    inside = relative(path, root)
    if inside is None:
        return
    yield Finding(
        rule=_text(rule, 60),
        severity=severity,
        uri=to_uri(inside),
        line=_line(line),
        column=column if column is not None and 1 <= column <= _MAX_LINE else None,
        message=_text(message),
        help=help if help is not None and help.startswith("https://") else None,
    )


def _line(number: int) -> int:
    return min(max(number, 1), _MAX_LINE)


def _text(text: str, limit: int = MAX_MESSAGE) -> str:
    """Make one printable line of at most *limit* characters."""
    line = printable(" ".join(text[: 4 * limit].split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"
