"""The page and the SARIF log, from findings made by hand."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

from tailrace.report.findings import Finding, Function, Language, Result, make_result
from tailrace.report.origin import Origin, read_origin
from tailrace.report.page import write_page
from tailrace.report.sarif import write_sarif
from tailrace.report.sections import MAX_ROWS, MAX_ROWS_PER_FILE

NOW = datetime(2026, 11, 20, 17, 31, tzinfo=UTC)
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"
ORIGIN = read_origin(
    {
        "PARAM_REPO": "https://github.com/pallets/flask",
        "OUTPUT_CLONE_SHA": "0123456789abcdef0123456789abcdef01234567",
        "OUTPUT_CLONE_BRANCH": "main",
    }
)


class Page(HTMLParser):
    """Collect tags, attributes and text of a page, as a browser would see them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self._data: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that tags close in order."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self._data.append(data)

    @property
    def text(self) -> str:
        """All text, entities resolved."""
        return "".join(self._data)


def page_of(
    *results: Result, failed: dict[str, str] | None = None, origin: Origin = ORIGIN
) -> Page:
    """Render results."""
    return Page(write_page(results, failed or {}, origin, now=NOW))


def finding(**changes: Any) -> Finding:
    """Make a finding of which only what a test names matters."""
    fields: dict[str, Any] = {
        "rule": "F401", "severity": "medium", "uri": "src/a.py", "line": 7, "message": "wrong",
    }  # fmt: skip
    return Finding(**(fields | changes))


def test_every_finding_is_on_the_page_with_file_and_line_linked_to_the_forge() -> None:
    """A row holds line, message, analyzer and rule."""
    page = page_of(make_result("ruff", [finding(help="https://docs.astral.sh/x")]))

    links = [attrs.get("href") for tag, attrs in page.tags if tag == "a"]
    assert f"https://github.com/pallets/flask/blob/{ORIGIN.sha}/src/a.py#L7" in links
    assert "https://docs.astral.sh/x" in links
    assert "#f0" in links
    assert re.search(r"src/a\.py\s*1\s*7wrongruff F401", page.text)


def test_nothing_from_outside_becomes_markup() -> None:
    """Each text of the repository and its analyzers passes an escape."""
    evil_uri = "%3Cscript%3E.py"
    origin = Origin(name=EVIL, subject=EVIL, author=EVIL, branch=EVIL, sha="a" * 40, depth=EVIL)
    function = Function(name=EVIL, uri=evil_uri, line=1, complexity=99, lines=9, parameters=1)
    results = [
        make_result(
            tool,
            [finding(rule=EVIL, message=EVIL, uri=evil_uri, help='https://x/"><script>')],
            functions=[function],
            languages=[Language(name=EVIL, files=1, code=1, comments=0)],
        )
        for tool in ("ruff", "detect-secrets", EVIL)
    ]

    page = page_of(*results, failed={EVIL: EVIL}, origin=origin)

    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "object", "form", "base", "svg", "link"}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "<script>alert(1)</script>" in page.text  # as text


def test_the_page_requests_nothing() -> None:
    """It is whole under a policy that allows inline styles alone."""
    raw = write_page([make_result("ruff", [finding()])], {}, ORIGIN, now=NOW).decode()

    assert "<script" not in raw
    assert not re.search(r"url\(|@import|\bsrc=", raw)


def test_an_analyzer_that_left_nothing_is_named() -> None:
    """Silence is never read as a clean tree, neither on the page nor in SARIF."""
    failed = {"bandit": "bandit left no result; the log of its step tells why"}
    results = [make_result("ruff", [])]

    page = page_of(*results, failed=failed)
    runs = json.loads(write_sarif(results, failed, ORIGIN))["runs"]

    assert failed["bandit"] in page.text
    assert "no result" in page.text
    assert [
        (run["tool"]["driver"]["name"], run["invocations"][0]["executionSuccessful"])
        for run in runs
    ] == [("ruff", True), ("bandit", False)]


def test_a_repository_without_findings_has_a_calm_page() -> None:
    """Nothing found is said, not shown as empty tables."""
    page = page_of(*(make_result(tool, []) for tool in ("ruff", "bandit", "pygount")))

    assert "Nothing was found." in page.text
    assert "Worst files" not in page.text


def test_twenty_thousand_findings_give_a_usable_file() -> None:
    """Rows and bytes are bounded, and the page tells what it leaves out."""
    message = "`something.rather.long` imported but unused; consider removing it " * 2
    help_url = "https://docs.astral.sh/ruff/rules/unused-import"
    spread = [
        finding(uri=f"src/package/module_{n % 400}.py", line=n, message=message, help=help_url)
        for n in range(30_000)
    ]
    dense = [finding(uri="dense.py", line=n, severity="low") for n in range(1, 2_001)]
    dense.append(finding(uri="dense.py", line=5_000, severity="high", message="the grave one"))

    raw = write_page([make_result("ruff", spread + dense)], {}, ORIGIN, now=NOW)

    assert len(raw) < 10_000_000
    page = Page(raw)
    assert "32,001" in page.text
    assert f"and {2_001 - MAX_ROWS_PER_FILE:,} more in this file" in page.text
    assert "the grave one" in page.text
    assert f"{32_001 - MAX_ROWS:,} are left to findings.sarif" in page.text


def test_sarif_has_a_run_per_analyzer_with_relative_paths_and_stable_identities() -> None:
    """A finding keeps its fingerprint when its line moves; twins differ."""

    def results(line: int) -> Any:
        log = write_sarif(
            [
                make_result("ruff", [finding(line=line), finding(line=line + 1)], version="1"),
                make_result("pygount", []),
            ],
            {},
            ORIGIN,
        )
        runs = json.loads(log)["runs"]
        assert [run["tool"]["driver"]["name"] for run in runs] == ["ruff"]
        return runs[0]["results"]

    before, after = results(7), results(70)

    assert before[0]["level"] == "warning"
    assert before[0]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "src/a.py", "uriBaseId": "SRCROOT"},
        "region": {"startLine": 7},
    }
    prints = [[r["partialFingerprints"]["tailrace/v1"] for r in run] for run in (before, after)]
    assert prints[0] == prints[1]
    assert prints[0][0] != prints[0][1]


def test_sarif_names_the_commit() -> None:
    """Where the repository has an address of the web, provenance is told."""
    run = json.loads(write_sarif([make_result("ruff", [])], {}, ORIGIN))["runs"][0]

    assert run["versionControlProvenance"] == [
        {
            "repositoryUri": "https://github.com/pallets/flask",
            "revisionId": ORIGIN.sha,
            "branch": "main",
        }
    ]
