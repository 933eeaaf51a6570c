"""What artifacts are called."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.artifact_names import (
    MAX_NAME,
    ArtifactNames,
    escaped,
    media_type,
    shortened,
    why_unfit,
)


@pytest.mark.parametrize(
    ("taken", "name", "placed"),
    [
        ({}, "a.txt", "a.txt"),
        ({"a.txt": "one"}, "a.txt", "two/a.txt"),
        ({"a.txt": "two"}, "a.txt", "a.txt"),
        ({"dir/a": "one"}, "dir", "two/dir"),
        ({"dir": "one"}, "dir/a", "two/dir/a"),
        ({"dir/a": "one"}, "dir/b", "dir/b"),
        ({"a": "one", "two/a": "one"}, "a", None),
        ({"a": "one", "two": "one"}, "a", None),
    ],
)
def test_a_name_that_another_step_has_used_gets_the_step_in_front(
    taken: dict[str, str], name: str, placed: str | None
) -> None:
    """Also where a file would have to stand for a folder."""
    assert ArtifactNames("two", taken).place(name) == placed


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain \xc3\xa9.txt", None),
        (b"line\nbreak", "line\\nbreak"),
        (b"esc\x1b[2J", "esc\\x1b[2J"),
        (b"nul-free\x7f", "nul-free\\x7f"),
        (b"bytes\xff\xfe", "bytes\\xff\\xfe"),
        ("gpj\u202e.exe".encode(), "gpj\\u202e.exe"),
        ("c1\x9b".encode(), "c1\\x9b"),
    ],
)
def test_a_name_that_would_disturb_a_terminal_is_unfit(raw: bytes, shown: str | None) -> None:
    """And can be shown all the same."""
    name = os.fsdecode(raw)
    assert (why_unfit(name) is None) == (shown is None)
    assert escaped(name) == (shown or name)


def test_a_name_is_as_long_as_a_path_allows() -> None:
    """Bytes count, and what is shown of a long one is its beginning."""
    assert why_unfit("é" * (MAX_NAME // 2)) is None
    assert why_unfit("é" * (MAX_NAME // 2) + "x") == "its name is longer than 1,024 bytes"
    assert shortened("x" * 300) == "x" * 200 + "…"
    assert shortened("x" * 200) == "x" * 200


@given(st.binary(max_size=30))
def test_any_name_can_be_shown(raw: bytes) -> None:
    """Whatever a file system allows."""
    assert escaped(os.fsdecode(raw)).isprintable()


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("report.html", "text/html"),
        ("a/b/ruff.sarif", "application/sarif+json"),
        ("README.md", "text/markdown"),
        ("build.log", "text/plain"),
        ("data.json", "application/json"),
        ("REPORT.HTML", "text/html"),
        ("a.tar.gz", "application/gzip"),
        ("page.html.br", "application/octet-stream"),
        ("logo.svg", "image/svg+xml"),
        ("no-extension", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("dir/data:,x", "application/octet-stream"),
    ],
)
def test_a_name_stands_for_a_media_type(name: str, media: str) -> None:
    """The same on every machine; a compressed file is what its outside is."""
    assert media_type(name) == media
