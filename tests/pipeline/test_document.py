"""YAML as nodes with places, and every hostile file refused with one clear mistake."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tailrace.pipeline import document
from tailrace.pipeline.document import Mapping, Node, Scalar, Sequence, parse_document

CHECK = "check quotes, brackets and indentation, here and in the line above"


@pytest.fixture(params=["libyaml", "pure"], autouse=True)
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run everything with both of PyYAML's loaders."""
    if request.param == "pure":
        monkeypatch.setattr(document, "_LOADER", yaml.Loader)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml: reinstall it from a wheel")


def parsed(text: str) -> dict[str, object]:
    """Return a document as plain values; it must have no mistakes."""
    found = parse_document(text.encode())
    assert not found.mistakes
    assert found.root is not None
    plain = _plain(found.root)
    assert isinstance(plain, dict)
    return plain


def _plain(node: Node) -> object:
    match node:
        case Scalar():
            return node.text
        case Sequence():
            return [_plain(item) for item in node.items]
        case Mapping():
            return {name: _plain(value) for name, (_, value) in node.entries.items()}


def refusal(data: bytes) -> tuple[int, int, str]:
    """Return line, column and message of the only mistake."""
    found = parse_document(data)
    assert len(found.mistakes) == 1, found.mistakes
    only = found.mistakes[0]
    assert only.hint
    return only.line, only.column, f"{only.where}: {only.problem}"


def test_scalars_keep_their_source_spelling() -> None:
    """Neither ``on`` nor ``3.10`` nor ``no`` becomes anything else."""
    text = "on: {python: 3.10, flag: no, hex: 0x10, date: 2024-01-01, tilde: ~, none: null}"
    assert parsed(text) == {
        "on": {
            "python": "3.10", "flag": "no", "hex": "0x10", "date": "2024-01-01", "tilde": "~",
            "none": "null",
        }
    }  # fmt: skip


def test_merged_keys_come_after_and_below_those_of_the_mapping() -> None:
    """Own keys win, then the first of several merged mappings."""
    text = """
x-a: &a {b: 1, c: 1}
x-d: &d {c: 2, e: 2}
one: {<<: *a, c: 3}
two: {<<: [*a, *d]}
three: {"<<": text}
"""
    found = parsed(text)
    assert found["one"] == {"b": "1", "c": "3"}
    assert found["two"] == {"b": "1", "c": "1", "e": "2"}
    assert found["three"] == {"<<": "text"}


def test_nodes_know_their_line_and_column_in_characters() -> None:
    """Counted from 1, after characters of several bytes too."""
    found = parse_document("é: 1\nå: [ü, x]\n".encode()).root
    assert found is not None
    key, value = found.entries["å"]
    assert (key.line, key.column) == (2, 1)
    assert isinstance(value, Sequence)
    assert (value.items[1].line, value.items[1].column) == (2, 8)


@pytest.mark.parametrize(
    ("data", "line", "column", "message"),
    [
        (b"", 1, 1, "file: is empty"),
        (b"# a comment\n", 1, 1, "file: is empty"),
        (b"---\n...\n", 1, 1, "file: is empty"),
        (b"text", 1, 1, "file: isn't a mapping"),
        (b"- a\n", 1, 1, "file: isn't a mapping"),
        (b"a: 1\nb: \xff\n", 2, 4, "file: byte 0xff isn't UTF-8"),
        (b"\xff\xfea\0:\0", 1, 1, "file: byte 0xff isn't UTF-8"),
        (b"a: \x1b[0m", 1, 4, "file: control character U+001B"),
        (b'a: "\\0"', 1, 4, "a: holds a character that no process can be given"),
        (b"a: 1\na: 2\n", 2, 1, "a: the key stands twice, first in line 1"),
        (b"a: {b: 1, b: 2}\n", 1, 11, "a.b: the key stands twice, first in line 1"),
        (b"a: 1\n---\nb: 1\n", 2, 1, "file: a second document begins"),
        (b"a: *b\n", 1, 4, "a: no anchor is named 'b'"),
        (b"a: &a [*a]\n", 1, 8, "a: anchor 'a' holds itself"),
        (b"a: &a {b: {<<: *a}}\n", 1, 16, "a.b.<<: anchor 'a' holds itself"),
        (b"a: {<<: 3}\n", 1, 9, "a.<<: only mappings can be merged"),
        (b"a: &a {b: 1}\nc: {<<: *a, <<: *a}\n", 2, 13, "c.<<: the key stands twice"),
        (b"? [a]\n: b\n", 1, 3, "file: a key must be text"),
        (b"a: !!python/name:os.system x\n", 1, 4,
         "a: the tag 'tag:yaml.org,2002:python/name:os.system' means nothing here"),
        (b"a: " + b"[" * 70 + b"]" * 70, 1, 67, "a: nested deeper than 64 levels"),
        (b"a: b\n" * 1 + b"c: " + b"x" * (1 << 20), 1, 1, "file: is over 1 MiB"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_pipeline_is_one_clear_mistake(
    data: bytes, line: int, column: int, message: str
) -> None:
    """Where it is, and what."""
    assert refusal(data) == (line, column, message)


def test_the_depth_of_a_hostile_file_ends_nothing_but_its_reading() -> None:
    """Parsers with a bound of their own stop before ours is reached, elsewhere on the line."""
    _, _, message = refusal(b"a: " + b"[" * 20_000)
    assert message.endswith(": nested deeper than 64 levels")


@pytest.mark.parametrize(
    ("data", "line", "hint"),
    [
        (b"a:\n\tb: 1\n", 2, "indent with spaces, never with tabs"),
        (b"a: b: c\n", 1, "quote text that holds ': ', and check the indentation"),
        (b"a: @b\n", 1, "quote text that begins with such a character"),
        (b"a: [1, 2\nb: 3\n", 2, CHECK),
        (b'a: "b\n', 2, CHECK),
    ],
)  # fmt: skip
def test_broken_yaml_says_what_to_look_at(data: bytes, line: int, hint: str) -> None:
    """The hint fits the kind of mistake."""
    found = parse_document(data)
    assert [(mistake.line, mistake.hint) for mistake in found.mistakes] == [(line, hint)]
    assert found.mistakes[0].problem.startswith("isn't YAML: ")


def test_every_duplicate_key_is_told() -> None:
    """Not just the first."""
    found = parse_document(b"a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert [mistake.where for mistake in found.mistakes] == ["a", "b.c"]


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    """Nine to the twentieth power of copies cost no time."""
    lines = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for before, name in zip("abcdefghijklmnopqrst", "bcdefghijklmnopqrstu", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    begin = time.monotonic()
    line, _, message = refusal("\n".join(lines).encode())
    assert message.endswith("its anchors expand to over 1 MiB")
    assert line == 6
    assert time.monotonic() - begin < 1


def test_anchors_may_expand_to_much_more_than_the_file() -> None:
    """Half a MiB out of a file of a few KiB is fine."""
    text = f"x-a: &a {'x' * 1_000}\n" + "b: [" + ", ".join(["*a"] * 500) + "]\n"
    assert parsed(text)["b"] == ["x" * 1_000] * 500


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    """Editors on other systems write one."""
    assert parsed("\ufeffsteps: {}\n") == {"steps": {}}


def _soup() -> Iterator[st.SearchStrategy[str]]:
    yield st.sampled_from(
        ["a", "- ", ": ", "\n", "  ", "&a ", "*a", "<<: ", "{", "}", "[", "]", ", ", "? ", "!t ",
         "|\n", ">-\n", '"', "'", "#", "---\n", "...\n", "%YAML 1.1\n", "\t", "é", "\r\n", "\\u1",
         "\x85", "~"]
    )  # fmt: skip
    yield st.text(max_size=5)


@given(st.lists(st.one_of(*_soup()), max_size=40).map("".join))
def test_any_text_is_a_document_or_mistakes(text: str) -> None:
    """YAML's own signs in any order raise nothing."""
    found = parse_document(text.encode("utf-8", "surrogatepass"))
    assert (found.root is not None) or found.mistakes
    assert all(mistake.line > 0 and mistake.column > 0 for mistake in found.mistakes)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_mistakes(data: bytes) -> None:
    """Bytes that are no text raise nothing either."""
    found = parse_document(data)
    assert (found.root is not None) or found.mistakes
