"""What an agent has left of its review: ``review.json``, written by a program nobody here knows.

```json
{"summary": "…",
 "findings": [{"path": "app/fetch.py", "line": 41, "severity": "high", "rule": "…",
               "message": "…"}],
 "sources": [{"title": "…", "url": "https://…"}]}
```

All but a finding's ``path`` and ``message`` may be missing, and other keys may
be there. A finding that can't be read is counted and left out, because what
the others say is still worth knowing.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any, Final

import msgspec

from tailrace.core.narration import citable_url
from tailrace.errors import InvalidInputError, Problem
from tailrace.report.findings import Finding, Result, Severity, make_result, printable, to_uri

TOOL: Final = "agent"
MAX_SUMMARY: Final = 20_000  # characters
_MAX_MESSAGE: Final = 2_000
_MAX_SOURCES: Final = 100
_SEVERITIES: Final[dict[str, Severity]] = {
    "critical": "high", "high": "high", "error": "high", "major": "high",
    "medium": "medium", "warning": "medium", "moderate": "medium",
    "low": "low", "info": "low", "note": "low", "minor": "low",
}  # fmt: skip
_FENCE: Final = re.compile(rb"\A\s*```[a-z]*\n(.*)\n```\s*\Z", re.DOTALL)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the agent went by."""

    title: str
    url: str | None = None  # http or https, without userinfo; its query is masked


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent found."""

    summary: str
    result: Result
    sources: tuple[Source, ...] = ()


class _Left(msgspec.Struct):
    summary: str = ""
    findings: list[Any] = []
    sources: list[Any] = []


class _Finding(msgspec.Struct):
    path: str
    message: str
    line: int = 1
    severity: str = "medium"
    rule: str = "review"


class _Source(msgspec.Struct):
    title: str = ""
    url: str = ""


def read_review(data: bytes) -> Review:
    """Return what ``review.json`` says; a fence of Markdown around it, as models like, is no harm.

    Raises:
        InvalidInputError: it isn't JSON of that form.
    """
    fenced = _FENCE.match(data)
    try:
        left = msgspec.json.decode(fenced[1] if fenced else data, type=_Left)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        hint = "it holds a summary, findings and sources"
        raise InvalidInputError([Problem("review.json", str(error), hint)]) from None
    read = [_finding(item) for item in left.findings]
    findings = [finding for finding in read if finding is not None]
    return Review(
        summary=left.summary[:MAX_SUMMARY],
        result=make_result(TOOL, findings, unread=len(read) - len(findings)),
        sources=tuple(s for s in map(_source, left.sources[:_MAX_SOURCES]) if s is not None),
    )


def _finding(item: Any) -> Finding | None:
    try:
        said = msgspec.convert(item, _Finding)
    except msgspec.ValidationError:
        return None
    path = posixpath.normpath(said.path.removeprefix("./"))
    if path.startswith(("/", "../")) or path in (".", "..") or not said.message.strip():
        return None
    return Finding(
        rule=printable(" ".join(said.rule.split()))[:80] or "review",
        severity=_SEVERITIES.get(said.severity.strip().lower(), "medium"),
        uri=to_uri(path),
        line=min(max(said.line, 1), 1 << 31),
        message=printable(" ".join(said.message.split()))[:_MAX_MESSAGE],
    )


def _source(item: Any) -> Source | None:
    try:
        said = msgspec.convert(item, _Source)
    except msgspec.ValidationError:
        return None
    url = citable_url(said.url) if said.url else None
    title = printable(" ".join(said.title.split()))[:300]
    return Source(title=title or url or "", url=url) if title or url else None
