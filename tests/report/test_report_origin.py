"""What is shown and linked of the repository's address."""

from __future__ import annotations

import pytest

from tailrace.report.origin import read_origin

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("repo", "name", "line"),
    [
        ("https://github.com/pallets/flask", "pallets/flask", "https://github.com/pallets/flask/blob/SHA/a%20b.py#L7"),
        ("https://me:hunter2@github.com/pallets/flask.git", "pallets/flask", "https://github.com/pallets/flask/blob/SHA/a%20b.py#L7"),
        ("git@github.com:pallets/flask.git", "pallets/flask", "https://github.com/pallets/flask/blob/SHA/a%20b.py#L7"),
        ("ssh://git@gitlab.com:22/group/sub/x.git", "sub/x", "https://gitlab.com/group/sub/x/-/blob/SHA/a%20b.py#L7"),
        ("https://codeberg.org/forgejo/forgejo", "forgejo/forgejo", "https://codeberg.org/forgejo/forgejo/src/commit/SHA/a%20b.py#L7"),
        ("https://bitbucket.org/a/b", "a/b", "https://bitbucket.org/a/b/src/SHA/a%20b.py#lines-7"),
        ("https://git.example.org/a/b", "a/b", None),
        ("http://github.com/a/b", "a/b", None),
        ("https://github.com:8443/a/b", "a/b", None),
        ("https://github.example.org/a/b", "a/b", "https://github.example.org/a/b/blob/SHA/a%20b.py#L7"),
        ('https://github.com/a/"><script>', 'a/"><script>', None),
        ("/srv/repos/tool.git", "tool", None),
        ("/srv/repos/tool/.git", "tool", None),
        (".", "repository", None),
        ("", "repository", None),
        ("ext::sh -c id", "repository", None),
    ],
)  # fmt: skip
def test_lines_are_linked_on_forges_we_know_and_credentials_never_shown(
    repo: str, name: str, line: str | None
) -> None:
    """Name and links come from the parsed address alone."""
    origin = read_origin({"PARAM_REPO": repo, "OUTPUT_CLONE_SHA": SHA})

    assert origin.name == name
    assert origin.line_url("a%20b.py", 7) == (line and line.replace("SHA", SHA))
    assert "hunter2" not in str(origin)


def test_a_commit_that_is_no_hash_is_neither_shown_nor_linked() -> None:
    """An output is a text like any other until it is checked."""
    origin = read_origin({"PARAM_REPO": "https://github.com/a/b", "OUTPUT_CLONE_SHA": "../../evil"})

    assert origin.sha is None
    assert origin.commit_url is None
    assert origin.line_url("a.py", 1) is None


def test_a_commit_has_its_address() -> None:
    """The commit links to the forge's page of it."""
    assert (
        read_origin({"PARAM_REPO": "https://gitlab.com/a/b", "OUTPUT_CLONE_SHA": SHA}).commit_url
        == f"https://gitlab.com/a/b/-/commit/{SHA}"
    )


def test_texts_of_the_commit_are_one_printable_line() -> None:
    """Subjects are as hostile as file names."""
    origin = read_origin({"OUTPUT_CLONE_SUBJECT": "a\nb\x1b[2J" + "x" * 5000})

    assert origin.subject.startswith(r"a b\x1b[2Jx")
    assert len(origin.subject) == 200
