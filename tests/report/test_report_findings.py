"""Paths, texts and rankings of findings."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from tailrace.report.findings import (
    MAX_FINDINGS,
    Finding,
    Function,
    Language,
    Severity,
    make_result,
    printable,
    rank_files,
    relative,
    summarize,
    to_text,
    to_uri,
)


def finding(uri: str = "a.py", severity: Severity = "low", line: int = 1) -> Finding:
    """Make a finding of which only what a test names matters."""
    return Finding(rule="R1", severity=severity, uri=uri, line=line, message="wrong")


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_every_name_that_linux_allows_keeps_its_bytes_in_the_uri(name: bytes) -> None:
    """The URI is lossless, ASCII, and holds neither quotes nor angle brackets."""
    from urllib.parse import unquote_to_bytes

    uri = to_uri(os.fsdecode(name))

    assert unquote_to_bytes(uri) == name
    assert uri.isascii()
    assert not set(uri) & set("\"'<>&#? \n")
    assert to_text(uri).isprintable()


def test_names_that_would_deceive_a_reader_are_shown_escaped() -> None:
    """Newlines, stray bytes, escape sequences and bidi overrides show as escapes."""
    assert to_text("a%0Ab.py") == r"a\nb.py"
    assert to_text("q%FF.py") == r"q\xff.py"
    assert printable("\x1b[31m\u202egnp.exe") == r"\x1b[31m\u202egnp.exe"
    assert to_text("caf%C3%A9.py") == "café.py"


def test_paths_outside_of_the_repository_are_no_part_of_it() -> None:
    """Only what lies below the root has a relative path."""
    assert relative("/w/clone/src/a.py", "/w/clone") == "src/a.py"
    assert relative("./src/a.py", "/w/clone") == "src/a.py"
    assert relative("-rf.py", "/w/clone") == "-rf.py"
    assert relative("/w/clone2/a.py", "/w/clone") is None
    assert relative("../a.py", "/w/clone") is None
    assert relative("/etc/passwd", "/w/clone") is None
    assert relative(".", "/w/clone") is None


def test_a_grave_file_ranks_above_one_with_many_trifles() -> None:
    """Files rank by weight, ties by name; lines are in order."""
    result = make_result(
        "ruff",
        [
            *(finding("trifles.py") for _ in range(9)),
            finding("grave.py", "high", 7),
            finding("grave.py", "low", 3),
        ],
    )

    ranks = rank_files([result])

    assert [(rank.uri, rank.score) for rank in ranks] == [("grave.py", 11), ("trifles.py", 9)]
    assert [found.line for _, found in ranks[0].findings] == [3, 7]


def test_findings_beyond_the_bound_are_counted_and_the_severest_are_kept() -> None:
    """What is dropped is of low weight, and told."""
    result = make_result(
        "ruff", [*(finding() for _ in range(MAX_FINDINGS + 5)), finding("z.py", "high")]
    )

    assert result.total == MAX_FINDINGS + 6
    assert result.omitted == 6
    assert len(result.findings) == MAX_FINDINGS
    assert result.findings[0].uri == "z.py"


def test_each_analyzer_is_summed_up_in_one_line() -> None:
    """Counts with singular and plural, no word of the repository."""
    function = Function(name="<evil>", uri="a.py", line=1, complexity=41, lines=81, parameters=1)
    language = Language(name="Python", files=1, code=1200, comments=3)

    assert summarize(make_result("ruff", [])) == "ruff: nothing found"
    assert (
        summarize(make_result("bandit", [finding(), finding("b.py", "high")], unread=1))
        == "bandit: 2 findings in 2 files: 1 high, 1 low; 1 file could not be read"
    )
    assert (
        summarize(make_result("lizard", [finding()], functions=[function]))
        == "lizard: 1 function, 1 too complex; the most complex has 41 paths"
    )
    assert (
        summarize(make_result("pygount", [], languages=[language]))
        == "pygount: 1,200 lines of code in 1 file, 1 language"
    )
