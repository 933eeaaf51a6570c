"""What the agent looks for in lines that a change adds; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tailrace.report.change import ChangedFile, is_test
from tailrace.report.findings import Severity

CODE: Final = frozenset(
    {"c", "cc", "cpp", "cs", "go", "h", "java", "js", "jsx", "kt", "php", "pl", "py", "rb", "rs",
     "scala", "sh", "swift", "ts", "tsx"}
)  # fmt: skip
_MOST_LINE: Final = 2_000  # characters looked at; minified code has longer ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something that the agent has to say about a line."""

    path: str
    line: int  # of the new file, from 1; of the old one, where the file or line is removed
    severity: Severity
    rule: str
    message: str
    source: tuple[str, str] | None = None  # title and address of what it goes back to


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    severity: Severity
    message: str
    pattern: re.Pattern[str]
    suffixes: frozenset[str] = CODE
    source: tuple[str, str] | None = None
    in_tests: bool = True


def _cwe(number: int, title: str) -> tuple[str, str]:
    return f"CWE-{number}: {title}", f"https://cwe.mitre.org/data/definitions/{number}.html"


_PY: Final = frozenset({"py"})
_JS: Final = frozenset({"js", "jsx", "ts", "tsx"})

# Patterns are tried on lines of a stranger's: none repeats within a repetition.
RULES: Final = (
    _Rule(
        "conflict-marker", "high", "A merge conflict was committed with its markers.",
        re.compile(r"^(<{7} |>{7} |={7}$)"),
        CODE | {"md", "yaml", "yml", "json", "toml", "html"},
    ),
    _Rule(
        "eval", "high", "Text becomes code here; whoever writes the text runs what they like.",
        re.compile(r"(?<![\w.])(eval|exec)\(\s*[^\s)'\"]"),
        _PY | _JS | {"php", "rb"}, _cwe(95, "Eval Injection"), in_tests=False,
    ),
    _Rule(
        "shell", "high", "A shell reads this command; a name with `;` in it runs another one.",
        re.compile(r"shell\s*=\s*True|\bos\.(system|popen)\("),
        _PY, _cwe(78, "OS Command Injection"), in_tests=False,
    ),
    _Rule(
        "no-tls-check", "high", "The other end's certificate isn't checked.",
        re.compile(
            r"verify\s*=\s*False|rejectUnauthorized\s*:\s*false|InsecureSkipVerify:\s*true"
        ),
        CODE, _cwe(295, "Improper Certificate Validation"), in_tests=False,
    ),
    _Rule(
        "secret", "high", "This looks like a secret; the history keeps it even if it is removed.",
        re.compile(
            r"(?i)(password|passwd|secret|api_?key|token)\w{0,20}[\"']?\s*[:=]\s*"
            r"[\"'][^\"'\s$<{]{8,}[\"']"
        ),
        CODE | {"yaml", "yml", "json", "toml", "ini", "env"},
        _cwe(798, "Hard-coded Credentials"), in_tests=False,
    ),
    _Rule(
        "bare-except", "medium", "It catches everything, Ctrl-C and typing mistakes too.",
        re.compile(r"^\s*except\s*:"),
        _PY, _cwe(396, "Catch for Generic Exception"),
    ),
    _Rule(
        "swallowed", "medium", "The error goes nowhere; nobody learns of it.",
        re.compile(r"^\s*except\b[^:]*:\s*(pass|\.\.\.)\s*$|catch\s*(\([^)]*\))?\s*\{\s*\}"),
        _PY | _JS | {"java", "cs", "kt"}, _cwe(391, "Unchecked Error Condition"),
    ),
    _Rule(
        "mutable-default", "medium", "All calls share this default, and what others put into it.",
        re.compile(
            r"^\s*(async\s+)?def\s+\w+\(.*=\s*(\[\]|\{\}|set\(\)|list\(\)|dict\(\))\s*[,)]"
        ),
        _PY,
    ),
    _Rule(
        "sleep-in-test", "medium", "A test that waits for a duration fails on a slow machine.",
        re.compile(r"\b(time\.|asyncio\.)?sleep\(\s*[\d.]*[1-9]"),
    ),
    _Rule(
        "focused-test", "medium", "Only this test runs while this stays.",
        re.compile(r"\b(describe|it|test)\.only\("),
        _JS,
    ),
    _Rule(
        "debugger", "medium", "Somebody's debugging was left in.",
        re.compile(r"^\s*(breakpoint\(\)|import pdb\b|debugger;?\s*$)"),
        _PY | _JS,
    ),
    _Rule(
        "todo", "low", "Something is still to be done here; say where it is followed up.",
        re.compile(r"(#|//|/\*|--)\s*(TODO|FIXME|XXX)\b(?!\(#?\w+\))"),
    ),
)  # fmt: skip


def remarks_on(file: ChangedFile) -> Iterator[Remark]:
    """Give what a file's added lines are to be blamed for."""
    suffix = file.path.rpartition(".")[2].lower()
    test = is_test(file.path)
    for line, text in file.added:
        for rule in RULES:
            if suffix not in rule.suffixes or (test and not rule.in_tests):
                continue
            if rule.name == "sleep-in-test" and not test:
                continue
            if rule.pattern.search(text[:_MOST_LINE]):
                yield Remark(
                    path=file.path, line=line, severity=rule.severity, rule=rule.name,
                    message=rule.message, source=rule.source,
                )  # fmt: skip


def remarks_on_all(files: Iterable[ChangedFile]) -> Iterator[Remark]:
    """Give what the change as a whole is to be blamed for."""
    listed = [file for file in files if file.path.rpartition(".")[2].lower() in CODE]
    for file in listed:
        if file.is_removed and is_test(file.path):
            yield Remark(
                path=file.path, line=1, severity="medium", rule="removed-test",
                message="Tests were removed; say what keeps the promise that they kept.",
            )  # fmt: skip
    code = [file for file in listed if not is_test(file.path) and len(file.added) >= 10]
    if code and not any(is_test(file.path) and file.added for file in listed):
        most = max(code, key=lambda file: len(file.added))
        yield Remark(
            path=most.path, line=most.added[0][0], severity="low", rule="untested",
            message=f"{sum(len(f.added) for f in code):,} lines of code are new, and no test is.",
        )  # fmt: skip


_DEFINED: Final = re.compile(r"^\s*(?:async\s+)?(?:def|class|func|function|fn)\s+(\w{3,80})")


def gone_names(files: Iterable[ChangedFile]) -> list[tuple[str, str, int]]:
    """Return what the change defines no longer: its name, and where it was (path, line)."""
    listed = list(files)
    kept = {found[1] for f in listed for _, text in f.added if (found := _DEFINED.match(text))}
    return [
        (found[1], file.path, line)
        for file in listed
        for line, text in file.removed
        if (found := _DEFINED.match(text[:_MOST_LINE])) and found[1] not in kept
    ]
