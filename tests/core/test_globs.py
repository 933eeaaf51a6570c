"""Which files a glob names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.globs import Globs, parse_glob


def names(pattern: str, path: str, *, hidden: bool = False) -> bool:
    """Whether *pattern* names the file *path*, found as a walk finds it."""
    globs = Globs([parse_glob(pattern)], hidden=hidden)
    *folders, file = path.split("/")
    state = globs.start()
    for folder in folders:
        state = globs.enter(state, folder)
    return bool(globs.matched(state, file))


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("report.html", ["report.html"], ["x/report.html", "report.htm", "Report.html"]),
        ("./out//a.txt", ["out/a.txt"], ["a.txt"]),
        ("*.sarif", ["a.sarif", "b c.sarif"], ["a/b.sarif", ".sarif", ".a.sarif", "a.sarif.gz"]),
        ("**/*.sarif", ["a.sarif", "x/a.sarif", "x/y/z/a.sarif"], ["x/.git/a.sarif", "a.txt"]),
        ("x/**/z/*", ["x/z/f", "x/y/z/f", "x/z/z/f"], ["z/f", "x/f", "x/z/y/f"]),
        ("dist", ["dist", "dist/a", "dist/b/c"], ["x/dist", "dista", "dist/.hidden", "dist/.d/e"]),
        ("dist/", ["dist/a", "dist/b/c"], ["x/dist/a"]),
        ("*/", ["a/b", "a/b/c"], [".a/b"]),
        ("build/*/out", ["build/x/out", "build/x/out/f"], ["build/out", "build/x/y/out"]),
        ("*", ["a"], ["a/b", ".a"]),
        ("**", ["a", "a/b/c"], [".a", "a/.b/c"]),
        (".", ["a", "a/b"], [".git/config"]),
        (".ci/*", [".ci/a"], [".ci/.a", ".cj/a"]),
        (".*", [".a"], ["a"]),
        ("file-[0-9].t?t", ["file-1.txt"], ["file-a.txt", "file-1.tt"]),
        ("a[!x]", ["ab"], ["ax", "a"]),
        ("[", ["["], ["a"]),
        ("(a|b)+.txt", ["(a|b)+.txt"], ["a.txt"]),
        ("a\\b", ["a\\b"], ["ab"]),
        ("**/**/a", ["a", "x/a", "x/y/a"], ["b"]),
        ("a/**/**", ["a/b", "a/b/c"], ["b"]),
    ],
)
def test_a_pattern_names_files(pattern: str, yes: list[str], no: list[str]) -> None:
    """As a shell with globstar, and a plain name stands for a folder's contents too."""
    assert [path for path in yes if not names(pattern, path)] == []
    assert [path for path in no if names(pattern, path)] == []


def test_hidden_files_count_where_they_are_asked_for() -> None:
    """What a step put into its own folder is taken whatever its name."""
    assert names("**", ".a/.b", hidden=True)


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../x", "a/../../b", "a/.."])
def test_a_pattern_that_leaves_its_folder_is_refused(pattern: str) -> None:
    """With a hint."""
    with pytest.raises(ValueError, match="working directory"):
        parse_glob(pattern)


def test_a_walk_is_spared_the_folders_where_nothing_can_match() -> None:
    """An empty state says so."""
    globs = Globs([parse_glob("out/*.txt"), parse_glob("docs/**")])
    assert not globs.enter(globs.start(), "node_modules")
    assert not globs.enter(globs.enter(globs.start(), "out"), "deeper")
    assert globs.enter(globs.start(), "docs")


def test_each_pattern_that_names_a_file_is_told() -> None:
    """By its index."""
    globs = Globs([parse_glob("*.txt"), parse_glob("**/*.md"), parse_glob("a.*")])
    assert globs.matched(globs.start(), "a.txt") == {0, 2}
    assert globs.matched(globs.start(), "a.md") == {1, 2}
    assert globs.matched(globs.start(), "b.c") == set()


@given(st.text("ab*?[]!/.", max_size=15), st.text("ab./[", min_size=1, max_size=12))
def test_no_pattern_breaks_the_matcher(pattern: str, path: str) -> None:
    """A pattern is refused, or matches or not."""
    try:
        parts = parse_glob(pattern)
    except ValueError:
        return
    assert parts
    names(pattern, path)
