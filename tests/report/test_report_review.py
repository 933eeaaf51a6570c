"""A change, what an agent says of it, and the page made of both."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.agent.rules import RULES, gone_names, remarks_on, remarks_on_all
from tailrace.errors import InvalidInputError
from tailrace.report.change import ChangedFile, is_test, read_change
from tailrace.report.origin import Origin
from tailrace.report.review import read_review
from tailrace.report.review_page import write_review_page

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ORIGIN = Origin(name="ann/app", run_ref="agent-review/1")
DIFF = """\
diff --git a/app/old.py b/app/old.py
deleted file mode 100644
index 1..0
--- a/app/old.py
+++ /dev/null
@@ -1,2 +0,0 @@
-def gone():
---- a/what looks like a head
diff --git "a/caf\\303\\251 \\"x\\".py" "b/caf\\303\\251 \\"x\\".py"
new file mode 100644
--- /dev/null
+++ "b/caf\\303\\251 \\"x\\".py"
@@ -0,0 +1 @@
+++ b/what looks like another
\\ No newline at end of file
diff --git a/logo.png b/logo.png
index 1..2 100644
Binary files a/logo.png and b/logo.png differ
diff --git a/app/new.py b/app/new.py
index 1..2 100644
--- a/app/new.py
+++ b/app/new.py
@@ -10,3 +10,4 @@ def f():
 kept

-was
+is
+too
@@ -40 +41 @@
-x
+y
"""


def test_a_diff_is_taken_apart_by_its_counts() -> None:
    """Lines that look like heads are lines; names come without git's quotes."""
    old, cafe, logo, new = read_change(DIFF)
    assert (old.path, old.is_removed) == ("app/old.py", True)
    assert old.removed == [(1, "def gone():"), (2, "--- a/what looks like a head")]
    assert (cafe.path, cafe.is_new) == ('café "x".py', True)
    assert cafe.added == [(1, "++ b/what looks like another")]
    assert (logo.path, logo.is_binary) == ("logo.png", True)
    assert new.added == [(12, "is"), (13, "too"), (41, "y")]
    assert new.removed == [(12, "was"), (40, "x")]


@given(st.text(alphabet='@-+ ab/1,\\"\n', max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever a diff holds, it is read to its end."""
    assert all(file.path for file in read_change("diff --git a/x b/x\n" + text))


@pytest.mark.parametrize(
    ("path", "line", "rule"),
    [
        ("a.py", "    except:", "bare-except"), ("a.py", "except OSError: pass", "swallowed"),
        ("a.py", "subprocess.run(x, shell=True)", "shell"), ("a.js", "eval(x)", "eval"),
        ("a.py", "def f(a, b=[]):", "mutable-default"), ("a.py", "verify=False", "no-tls-check"),
        ("conf.yaml", "api_key: 'abcdef123456'", "secret"), ("a.ts", "it.only('')", "focused-test"),
        ("a.py", "<<<<<<< HEAD", "conflict-marker"), ("a.py", "breakpoint()", "debugger"),
        ("a.go", "// TODO later", "todo"), ("tests/test_a.py", "sleep(0.5)", "sleep-in-test"),
    ],
)  # fmt: skip
def test_each_rule_finds_what_it_is_for(path: str, line: str, rule: str) -> None:
    """By the added line alone, and with a line's number."""
    found = list(remarks_on(ChangedFile(path=path, added=[(7, line)])))
    assert [(remark.rule, remark.line) for remark in found] == [(rule, 7)]
    assert rule in {each.name for each in RULES}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a.py", "model.eval(x)"), ("a.py", "time.sleep(1)"), ("a.md", "eval(x)"),
        ("a.py", "# TODO(#12) later"), ("tests/test_a.py", "password = 'hunter2hunter2'"),
        ("a.py", "token = os.environ['TOKEN_NAME']"), ("a.py", "sleep(0)"),
    ],
)  # fmt: skip
def test_what_is_fine_is_not_remarked_on(path: str, line: str) -> None:
    """A rule that cries wolf is read no more."""
    assert list(remarks_on(ChangedFile(path=path, added=[(1, line)]))) == []


def test_the_change_as_a_whole_is_looked_at() -> None:
    """Tests that went away, code without any, and names that are gone."""
    many = [(n, "x = 1") for n in range(12)]
    gone = ChangedFile(path="tests/test_a.py", is_removed=True, removed=[(1, "def test_a():")])
    code = ChangedFile(path="a.py", added=many, removed=[(3, "def old(x):"), (5, "def kept():")])
    moved = ChangedFile(path="b.py", added=[(1, "async def kept():")])
    assert {r.rule for r in remarks_on_all([gone, code])} == {"removed-test", "untested"}
    assert gone_names([code, moved]) == [("old", "a.py", 3)]
    assert is_test("src/foo.spec.ts")
    assert not is_test("src/contest.py")


def left(**more: Any) -> bytes:
    """A review.json."""
    return json.dumps(more).encode()


def test_a_review_is_read_as_models_write_it() -> None:
    """In a fence, with other words for severities; what is no finding is counted."""
    findings = [
        {"path": "./a b.py", "line": 3, "severity": "Critical", "message": "One\nline", "why": 1},
        {"path": "a.py", "severity": "nit", "message": "x"},
        {"path": "../../etc/passwd", "message": "x"}, {"path": "/etc", "message": "x"},
        {"path": "a.py"}, "no", {"path": "a.py", "message": " "},
    ]  # fmt: skip
    sources = [{"url": "https://u:p@x.example/?token=1"}, {"url": "javascript:alert(1)"}, 3]
    data = left(summary="Fine.", findings=findings, sources=sources)
    review = read_review(b"```json\n" + data + b"\n```\n")
    found = review.result.findings
    assert [(f.uri, f.line, f.severity, f.message) for f in found] == [
        ("a%20b.py", 3, "high", "One line"), ("a.py", 1, "medium", "x"),
    ]  # fmt: skip
    assert review.result.unread == 5
    assert [source.url for source in review.sources] == ["https://x.example/?***"]


@pytest.mark.parametrize(
    "data", [b"", b"not JSON", b"[]", b'{"findings": 3}', b"\xff", b"[" * 9999]
)
def test_what_is_no_review_is_refused_with_a_reason(data: bytes) -> None:
    """The step's log gets one line."""
    with pytest.raises(InvalidInputError, match=r"review\.json"):
        read_review(data)


def test_the_page_holds_no_markup_from_outside() -> None:
    """Summary, findings, names and sources are a stranger's text."""
    evil = "<script>alert(1)</script>"
    review = read_review(
        left(
            summary=f"One.\n\n{evil}",
            findings=[{"path": evil, "message": evil, "rule": evil}],
            sources=[{"title": evil, "url": f"https://x.example/{evil}"}],
        )
    )
    files = [ChangedFile(path=evil, added=[(1, "x")])]
    page = write_review_page(review, "", files, ORIGIN, now=NOW).decode()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert "<p>One.</p>" in page


def test_a_page_without_a_review_tells_why() -> None:
    """What changed is there all the same."""
    files = read_change(DIFF)
    page = write_review_page(None, "the agent left no review.json", files, ORIGIN, now=NOW).decode()
    assert "the agent left no review.json" in page
    assert "<strong>new.py</strong>" in page
    assert "<em>removed</em>" in page
