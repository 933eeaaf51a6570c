"""The file ``$TAILRACE_OUTPUT``."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.outputs import MAX_FILE, MAX_TOLD, MAX_TOTAL, MAX_VALUE, parse_outputs


@pytest.mark.parametrize(
    ("data", "outputs"),
    [
        (b"", {}),
        (b"sha=abc\n", {"sha": "abc"}),
        (b"sha=abc", {"sha": "abc"}),
        (b"empty=\n", {"empty": ""}),
        (b"a=1=2<<3\n", {"a": "1=2<<3"}),
        (b"a= spaced \n", {"a": " spaced "}),
        (b"\n\na=1\n\n_b2=2\n", {"a": "1", "_b2": "2"}),
        (b"a=1\na=2\n", {"a": "2"}),
        (b"a=1\r\nb=2\r\n", {"a": "1", "b": "2"}),
        (b"a=\xff\xc3\n", {"a": "\ufffd\ufffd"}),
        (b"a=sep\xe2\x80\xa8ends\x0cno\x85line\n", {"a": "sep\u2028ends\x0cno\ufffdline"}),
        (b"n<<END\none\n\n two=2\nEND\nb=3\n", {"n": "one\n\n two=2", "b": "3"}),
        (b"n<<END\nEND\n", {"n": ""}),
        (b"n<<END\nx\nEND", {"n": "x"}),
        (b"n<< a = b << c\nx\n a = b << c\n", {"n": "x"}),
        (b"n<<E\r\none\r\ntwo\r\nE\r\n", {"n": "one\ntwo"}),
        (b"n<<E\none\r\nE\r\n", {"n": "one\r"}),
        (b"n<<E\nEND\nE \nE\n", {"n": "END\nE "}),
    ],
)
def test_an_output_file_is_read(data: bytes, outputs: dict[str, str]) -> None:
    """Both forms, whatever ends the lines; the last assignment counts."""
    assert parse_outputs(data) == (outputs, [])


@pytest.mark.parametrize(
    ("data", "outputs", "told"),
    [
        (b"just text\na=1\n", {"a": "1"}, "line 1: neither"),
        (b"a=1\n2b=secret\n", {"a": "1"}, "line 2: a name is"),
        (b"a b=1\n", {}, "line 1: a name is"),
        (b"=1\n", {}, "line 1: a name is"),
        ("ä=1\n".encode(), {}, "line 1: a name is"),
        (b"a" * 129 + b"=1\n", {}, "line 1: a name is"),
        (b"\xef\xbb\xbfa=1\nb=2", {"b": "2"}, "line 1: a name is"),
        (b"a=1\nn<<END\nb=2\n", {"a": "1"}, "line 2: the line that ends its value is missing"),
        (b"n<<\nb=2\n", {}, "line 1: the line that ends its value is missing"),
        (b"a=x\0y\n", {}, "a: the value holds a NUL"),
    ],
)
def test_what_is_malformed_is_told_and_left_out(
    data: bytes, outputs: dict[str, str], told: str
) -> None:
    """One sentence each, with its line; the rest counts."""
    read, problems = parse_outputs(data)
    assert read == outputs
    assert [told in problem for problem in problems] == [True]


def test_the_lines_of_a_misnamed_value_are_no_assignments() -> None:
    """Text from outside within a value never becomes an output, though its name is wrong."""
    outputs, problems = parse_outputs(b"bad name<<END\nadmin=true\nEND\nok=1\n")
    assert outputs == {"ok": "1"}
    assert len(problems) == 1


def test_a_value_of_64_kib_is_taken_and_a_longer_one_is_not() -> None:
    """The bound is exact, and counts bytes."""
    fits, too_long = "é" * (MAX_VALUE // 2), "é" * (MAX_VALUE // 2) + "x"
    assert parse_outputs(f"a={fits}\n".encode()) == ({"a": fits}, [])
    outputs, problems = parse_outputs(f"a=1\na={too_long}\n".encode())
    assert outputs == {}  # an earlier value would be the wrong one
    assert problems == ["a: the value is longer than 64 KiB"]


def test_a_step_has_outputs_of_a_mebibyte() -> None:
    """What goes beyond is left out and told; what still fits is taken."""
    many = MAX_TOTAL // MAX_VALUE
    data = b"".join(b"n%d=%b\n" % (i, b"x" * MAX_VALUE) for i in range(many + 1))
    outputs, problems = parse_outputs(data + b"empty=\n")
    assert set(outputs) == {f"n{i}" for i in range(many)} | {"empty"}
    assert problems == [f"n{many}: the step's outputs are longer than 1 MiB"]


def test_of_a_file_that_is_too_long_whole_lines_are_read() -> None:
    """No value is taken that the bound has cut."""
    line = b"a=" + b"x" * 1021 + b"\n"
    outputs, problems = parse_outputs(line * (MAX_FILE // len(line)) + b"b=" + b"y" * 2000)
    assert outputs == {"a": "x" * 1021}
    assert problems == ["the file is longer than 4 MiB; the rest is not read"]


def test_the_sentences_are_few_and_quote_no_line() -> None:
    """A piece of a secret in a malformed line would pass the masker."""
    _, problems = parse_outputs(b"hunter2 hunter2\nhun ter2=1\n" * 500)
    assert len(problems) == MAX_TOLD + 1
    assert problems[-1] == "and 980 more"
    assert "hun" not in "".join(problems)


@given(st.binary(max_size=400) | st.text("ab=<E\n\r\0 ", max_size=80).map(str.encode))
def test_any_bytes_give_outputs_and_sentences(data: bytes) -> None:
    """Nothing raises, names and values are as promised."""
    outputs, problems = parse_outputs(data)
    assert all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in outputs)
    assert all("\0" not in value for value in outputs.values())
    assert all(problem.isprintable() for problem in problems)


@given(
    st.dictionaries(
        st.from_regex("[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
        max_size=8,
    )
)
def test_what_a_careful_writer_writes_is_read_back(outputs: dict[str, str]) -> None:
    """With a delimiter that no value holds, every text without NUL passes unchanged."""
    end = "=-END-=\u2028"
    data = "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in outputs.items())
    assert parse_outputs(data.encode()) == (outputs, [])
