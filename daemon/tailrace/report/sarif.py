"""All findings as one SARIF 2.1.0 log, for editors, forges and other tools.

The format: OASIS, "Static Analysis Results Interchange Format (SARIF) Version
2.1.0". One run per analyzer; one that left nothing is a run too, whose
invocation failed, so that silence is never read as a clean tree.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tailrace.report.findings import Finding, Result, Severity
from tailrace.report.origin import Origin

_SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS: Final[Mapping[Severity, str]] = {"high": "error", "medium": "warning", "low": "note"}
_HOMES: Final[Mapping[str, str]] = {
    "ruff": "https://docs.astral.sh/ruff/",
    "bandit": "https://bandit.readthedocs.io/",
    "lizard": "https://github.com/terryyin/lizard",
    "detect-secrets": "https://github.com/Yelp/detect-secrets",
}
_COUNTERS: Final = frozenset({"pygount"})  # they count and find nothing: no run of theirs


def write_sarif(results: Sequence[Result], failed: Mapping[str, str], origin: Origin) -> bytes:
    """Encode *results*, and *failed* (why an analyzer left none, by its name)."""
    runs = [_run(result, origin) for result in results if result.tool not in _COUNTERS]
    runs += [_failed_run(tool, why) for tool, why in failed.items() if tool not in _COUNTERS]
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": runs}
    return msgspec.json.encode(log) + b"\n"


def _run(result: Result, origin: Origin) -> dict[str, Any]:
    index = {rule: n for n, rule in enumerate(sorted({f.rule for f in result.findings}))}
    run: dict[str, Any] = {
        "tool": {"driver": _driver(result.tool, result.version, result.findings)},
        "invocations": [{"executionSuccessful": True}],
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"SRCROOT": {"description": {"text": "the repository's root"}}},
        "results": list(_results(result, index)),
    }
    if origin.web is not None and origin.sha is not None:
        revision = {"repositoryUri": origin.web, "revisionId": origin.sha}
        if origin.branch:
            revision["branch"] = origin.branch
        run["versionControlProvenance"] = [revision]
    if result.omitted:
        run["properties"] = {"omittedResults": result.omitted}
    return run


def _driver(tool: str, version: str | None, findings: Iterable[Finding]) -> dict[str, Any]:
    rules: dict[str, dict[str, str]] = {}
    for finding in findings:
        rule = rules.setdefault(finding.rule, {"id": finding.rule})
        if finding.help is not None:
            rule["helpUri"] = finding.help
    driver: dict[str, Any] = {"name": tool, "rules": [rules[name] for name in sorted(rules)]}
    if version is not None:
        driver["version"] = version
    if tool in _HOMES:
        driver["informationUri"] = _HOMES[tool]
    return driver


def _results(result: Result, index: Mapping[str, int]) -> Iterable[dict[str, Any]]:
    seen: Counter[str] = Counter()
    for finding in result.findings:
        region = {"startLine": finding.line}
        if finding.column is not None:
            region["startColumn"] = finding.column
        # Without the line, so that a finding keeps its identity when code above it moves;
        # the count tells twins in one file apart.
        twins = f"{result.tool}\0{finding.rule}\0{finding.uri}\0{finding.message}"
        seen[twins] += 1
        identity = hashlib.sha256(f"{twins}\0{seen[twins]}".encode()).hexdigest()
        yield {
            "ruleId": finding.rule,
            "ruleIndex": index[finding.rule],
            "level": _LEVELS[finding.severity],
            "message": {"text": finding.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": finding.uri, "uriBaseId": "SRCROOT"},
                        "region": region,
                    }
                }
            ],
            "partialFingerprints": {"tailrace/v1": identity},
        }


def _failed_run(tool: str, why: str) -> dict[str, Any]:
    return {
        "tool": {"driver": _driver(tool, None, ())},
        "invocations": [
            {
                "executionSuccessful": False,
                "toolExecutionNotifications": [{"level": "error", "message": {"text": why}}],
            }
        ],
        "results": [],
    }
