"""Reading what analyzers print, also when it is broken or hostile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import InvalidInputError
from tailrace.report.findings import Result
from tailrace.report.readers import MAX_MESSAGE, READERS, read

ROOT = "/w/clone"


def ruff_item(**changes: Any) -> dict[str, Any]:
    """Return an item as ruff prints it."""
    item = {
        "cell": None,
        "code": "F401",
        "filename": f"{ROOT}/src/a.py",
        "location": {"column": 8, "row": 1},
        "message": "`os` imported but unused",
        "url": "https://docs.astral.sh/ruff/rules/unused-import",
        "fix": None,
    }
    return item | changes


def read_ruff(*items: dict[str, Any]) -> Result:
    """Read items as ruff's output."""
    return read("ruff", json.dumps(items).encode(), ROOT)


def test_ruff_findings_have_a_relative_path_and_a_severity_by_rule() -> None:
    """What fails when it runs is high, a likely mistake medium, style low."""
    result = read_ruff(
        ruff_item(), ruff_item(code="F821", message="Undefined name"), ruff_item(code="E402")
    )

    assert [(f.rule, f.severity, f.uri, f.line, f.column) for f in result.findings] == [
        ("F821", "high", "src/a.py", 1, 8),
        ("F401", "medium", "src/a.py", 1, 8),
        ("E402", "low", "src/a.py", 1, 8),
    ]


def test_a_file_that_does_not_parse_counts_once() -> None:
    """Ruff reports one syntax error a token; the first tells enough."""
    items = [
        ruff_item(code=code, message="Expected an expression", location={"row": n, "column": 1})
        for n, code in enumerate([None, "invalid-syntax", "invalid-syntax"], start=5)
    ]

    result = read_ruff(*items)

    assert [(f.rule, f.line) for f in result.findings] == [("invalid-syntax", 5)]


def test_messages_are_made_one_printable_line_of_bounded_length() -> None:
    """A message quotes the repository: controls are escaped, length is cut."""
    result = read_ruff(ruff_item(message="a\nb \x1b[2J \u202e" + "x" * 10_000))

    message = result.findings[0].message
    assert message.startswith(r"a b \x1b[2J \u202exxx")
    assert len(message) == MAX_MESSAGE
    assert message.isprintable()


def test_only_https_addresses_become_links() -> None:
    """A rule's address that isn't https is dropped."""
    result = read_ruff(ruff_item(url="javascript:alert(1)"))

    assert result.findings[0].help is None


def test_a_notebook_finding_names_its_cell() -> None:
    """Rows of a notebook count within the cell."""
    assert read_ruff(ruff_item(cell=3)).findings[0].message.startswith("cell 3: ")


def test_files_outside_of_the_clone_are_left_out() -> None:
    """A path that leads out of the clone is no finding of this repository."""
    assert read_ruff(ruff_item(filename="/home/someone/.ssh/x.py")).total == 0


def bandit(**changes: Any) -> bytes:
    """Return bandit's output with one result."""
    item = {
        "code": "3 password = 'hunter2secret'\n",
        "col_offset": 4,
        "filename": "./a.py",
        "issue_confidence": "HIGH",
        "issue_severity": "MEDIUM",
        "issue_text": "Use of exec detected.",
        "line_number": 3,
        "more_info": "https://bandit.readthedocs.io/x",
        "test_id": "B102",
    }
    return json.dumps({"errors": [{"filename": "x"}], "results": [item | changes]}).encode()


def test_bandit_severities_drop_by_one_where_it_has_little_confidence() -> None:
    """MEDIUM with LOW confidence is low."""
    sure, unsure = (
        read("bandit", bandit(issue_confidence=confidence), ROOT) for confidence in ("HIGH", "LOW")
    )

    assert [f.severity for f in (*sure.findings, *unsure.findings)] == ["medium", "low"]
    assert sure.unread == 1
    assert sure.findings[0].column == 5


@pytest.mark.parametrize("test_id", ["B105", "B106", "B107"])
def test_a_password_that_bandit_quotes_is_not_repeated(test_id: str) -> None:
    """Neither the message nor the quoted code reaches the result."""
    output = bandit(test_id=test_id, issue_text="Possible hardcoded password: 'hunter2secret'")

    assert "hunter2" not in str(read("bandit", output, ROOT))


def lizard(path: str, name: str = "f", complexity: int = 3, start: int = 4) -> str:
    """Return a row as lizard prints it: without quoting quotes in the file's name."""
    end = start + 3
    return (
        f'8,{complexity},24,1,4,"{name}@{start}-{end}@{path}","{path}",'
        f'"{name}","{name}( x , y )",{start},{end}\n'
    )


def test_lizard_functions_are_counted_and_complex_ones_are_findings() -> None:
    """More than 15 paths is low, more than 25 medium, more than 50 high."""
    rows = "".join(lizard("./a.py", f"f{n}", n) for n in (15, 16, 26, 51))

    result = read("lizard", rows.encode(), ROOT)

    assert result.function_count == 4
    assert [f.complexity for f in result.functions] == [51, 26, 16, 15]
    assert [f.severity for f in result.findings] == ["high", "medium", "low"]


@pytest.mark.parametrize(
    "name",
    [
        'x"y.py',
        'a","b.py',
        "a\nb.py",
        "a\n1,2,3.py",
        "f@4-7@.py",
        "q\udcff.py",
        "-rf.py",
        "a, b.py",
    ],
)
def test_lizard_rows_survive_any_name_of_a_file(name: str) -> None:
    """Rows are read by what they repeat, since lizard quotes nothing."""
    rows = lizard("./first.py") + lizard(f"./{name}", start=9) + lizard("./last.py")

    result = read("lizard", rows.encode("utf-8", "surrogateescape"), ROOT)

    assert result.function_count == 3
    assert result.unread == 0


def test_a_negative_count_of_lines_is_survived() -> None:
    """Lizard takes comments off that it hasn't counted."""
    output = lizard("./a.py") + lizard("./b.py").replace("8,", "-1,", 1)

    result = read("lizard", output.encode(), ROOT)

    assert [(f.uri, f.lines) for f in result.functions] == [("a.py", 8), ("b.py", 0)]
    assert result.unread == 0


def test_secrets_are_told_by_place_and_kind_alone() -> None:
    """Not even the hash is kept: a short secret can be guessed from it."""
    entry = {"filename": "a.py", "hashed_secret": "28f850ae66", "line_number": 3}
    output = {
        "version": "1.5.0",
        "results": {
            "a.py": [entry | {"type": kind} for kind in ("AWS Access Key", "Secret Keyword")]
        },
    }

    result = read("detect-secrets", json.dumps(output).encode(), ROOT)

    assert [(f.rule, f.severity, f.line) for f in result.findings] == [
        ("AWS Access Key", "high", 3),
        ("Secret Keyword", "medium", 3),
    ]
    assert "28f850ae66" not in str(result)


def test_languages_are_ordered_by_lines_and_pseudo_languages_left_out() -> None:
    """Binaries, empty files and duplicates are no language."""

    def language(name: str, code: int, *, pseudo: bool = False) -> dict[str, Any]:
        return {
            "language": name,
            "fileCount": 1,
            "sourceCount": code,
            "documentationCount": 0,
            "isPseudoLanguage": pseudo,
        }

    output = {
        "pygountVersion": "3.2.0",
        "languages": [language("C", 5), language("__binary__", 0, pseudo=True), language("Go", 9)],
    }

    result = read("pygount", json.dumps(output).encode(), ROOT)

    assert [(entry.name, entry.code) for entry in result.languages] == [("Go", 9), ("C", 5)]


@pytest.mark.parametrize("tool", sorted(set(READERS) - {"lizard"}))
@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (b"", "it printed nothing"),
        (b'[{"filename": ', "this is not JSON"),
        (b"Traceback (most recent call last):", "this is not JSON"),
        (b'"text"', "another shape"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 10_000, "this is not JSON"),
        (b"\xff\xfe\xff", "this is not JSON"),
    ],
)
def test_broken_output_is_refused_with_the_place_and_the_reason(
    tool: str, output: bytes, problem: str
) -> None:
    """Half an output must not look like a clean half."""
    with pytest.raises(InvalidInputError, match=f"^output of {tool}: .*{problem}"):
        read(tool, output, ROOT)


def test_text_that_is_not_lizards_csv_is_refused() -> None:
    """An empty output is fine (no functions), prose isn't."""
    assert read("lizard", b"", ROOT).function_count == 0
    with pytest.raises(InvalidInputError, match="not its CSV"):
        read("lizard", b"Traceback (most recent call last):\n", ROOT)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["results", "errors", "filename", "languages", "location", "row"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    tool=st.sampled_from(sorted(READERS)),
    output=st.binary() | _JSON.map(json.dumps).map(str.encode),
)
def test_any_bytes_are_a_result_or_a_clear_refusal(tool: str, output: bytes) -> None:
    """Nothing that an analyzer prints ends in a traceback."""
    try:
        result = read(tool, output, ROOT)
    except InvalidInputError:
        return
    assert result.tool == tool


@given(rows=st.text(alphabet='0123456789,"@-./f\n', max_size=200))
def test_any_text_that_resembles_lizards_rows_is_survived(rows: str) -> None:
    """Rows that don't fit are counted as unread."""
    result = read("lizard", (lizard("./a.py") + rows + "\n" + lizard("./b.py")).encode(), ROOT)

    assert "b.py" in {function.uri for function in result.functions}
