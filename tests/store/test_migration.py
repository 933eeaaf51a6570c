"""A state folder of an older format: brought forward, with a copy, or left as it was."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from tailrace.errors import InvalidInputError
from tailrace.rundir.layout import StateDir
from tailrace.store.state import hold_state, open_state
from tailrace.store.tokens import TokenStore


@pytest.fixture
def old(tmp_path: Path) -> StateDir:
    """A folder of format 1, with a token."""
    state = open_state(tmp_path / "state")
    with contextlib.closing(TokenStore(state.state_db)) as store:
        store.create("ann", ["run"], now=time.time())
    return state


def add_notes(state: StateDir) -> None:
    """From format 1 to 2: a table more."""
    with contextlib.closing(sqlite3.connect(state.state_db)) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
        db.execute("DELETE FROM tokens")


def tables(path: Path) -> set[str]:
    """The tables of a database."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master")}


def test_an_older_folder_is_copied_and_brought_forward(old: StateDir) -> None:
    """What was in state.db is in the copy, for its owner's eyes alone, and it is said."""
    told: list[str] = []
    open_state(old.path, migrations=(add_notes,), tell=told.append)
    assert old.version.read_text() == "2\n"
    assert "notes" in tables(old.state_db)
    copy = old.path / "state.db.format1"
    assert "notes" not in tables(copy)
    assert copy.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(TokenStore(copy)) as store:
        assert [token.name for token in store.list()] == ["ann"]
    assert "from format 1 to 2" in told[0]

    open_state(old.path, migrations=(add_notes,), tell=told.append)
    assert len(told) == 1
    with pytest.raises(InvalidInputError, match=r"newer Tailrace \(format 2; this one knows 1"):
        open_state(old.path)


def test_a_migration_that_was_interrupted_is_done_again_from_its_step(old: StateDir) -> None:
    """The copy stays the one from before; what was done isn't done twice."""
    done: list[str] = []

    def second(state: StateDir) -> None:
        done.append("second")
        if done.count("second") == 1:
            raise OSError("the power went")

    def first(state: StateDir) -> None:
        done.append("first")

    with pytest.raises(InvalidInputError, match=r"format 3: the power went; .*format2 is a copy"):
        open_state(old.path, migrations=(first, second))
    assert old.version.read_text() == "2\n"
    open_state(old.path, migrations=(first, second))
    assert done == ["first", "second", "second"]
    assert old.version.read_text() == "3\n"


def test_a_folder_that_a_daemon_uses_is_not_migrated_under_it(old: StateDir) -> None:
    """Stop it first."""
    with hold_state(old), pytest.raises(InvalidInputError, match="another daemon uses"):
        open_state(old.path, migrations=(add_notes,))
    assert old.version.read_text() == "1\n"


def test_what_cannot_be_copied_is_not_migrated(old: StateDir) -> None:
    """A damaged state.db is told, and nothing is changed."""
    for path in old.path.glob("state.db-*"):
        path.unlink()
    old.state_db.write_bytes(b"no database " * 1_000)
    with pytest.raises(InvalidInputError, match="can't be copied before the upgrade"):
        open_state(old.path, migrations=(add_notes,))
    assert old.version.read_text() == "1\n"
    assert list(old.path.glob("*format*")) == []
    with pytest.raises(InvalidInputError, match="is damaged"):
        TokenStore(old.state_db)


def test_a_new_folder_has_the_newest_format(tmp_path: Path) -> None:
    """And one whose version was lost is taken for the oldest."""
    state = open_state(tmp_path / "state", migrations=(add_notes,))
    assert state.version.read_text() == "2\n"
    TokenStore(state.state_db).close()
    state.version.unlink()
    open_state(state.path, migrations=(add_notes,))
    assert state.version.read_text() == "2\n"


def test_a_folder_that_several_make_at_once_opens_for_each_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another call comes while the first one's version isn't in its place yet."""
    others = iter([tmp_path / "state"])
    synced = os.fsync

    def fsync(fd: int) -> None:
        synced(fd)
        for other in others:
            open_state(other)

    monkeypatch.setattr(os, "fsync", fsync)
    state = open_state(tmp_path / "state")
    assert {path.name for path in state.path.iterdir()} == {"runs", "version"}
    assert state.version.read_text() == "1\n"


@pytest.mark.parametrize("version", ["2\n", "abc\n"])
def test_a_folder_that_is_refused_keeps_its_mode_and_what_is_in_it(
    tmp_path: Path, version: str
) -> None:
    """It may be somebody else's."""
    (tmp_path / "version").write_text(version)
    tmp_path.chmod(0o755)
    with pytest.raises(InvalidInputError):
        open_state(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["version"]


def test_a_folder_whose_version_cannot_be_written_is_told_with_that_file(tmp_path: Path) -> None:
    """Not with the name that it has while it is written."""
    (tmp_path / "version").symlink_to(tmp_path / "nowhere" / "version")
    with pytest.raises(InvalidInputError, match=r"/version: No such file"):
        open_state(tmp_path)
