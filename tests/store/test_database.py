"""``state.db`` under several connections and processes, and in all states of repair."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailrace.core.schedule import Mark
from tailrace.errors import InvalidInputError, UnavailableError
from tailrace.store.answers import KEPT_S, KeptAnswers
from tailrace.store.marks import ScheduleMarks
from tailrace.store.tokens import TokenStore

ADD = """
import sys, time
from pathlib import Path
from tailrace.store.tokens import TokenStore
store = TokenStore(Path(sys.argv[1]))
store.create(sys.argv[2], ["run"], now=time.time())
store.close()
"""


def test_what_another_process_writes_is_seen_by_all_connections(tmp_path: Path) -> None:
    """A daemon has two; a process that comes and goes must not take the log from under them."""
    path = tmp_path / "state.db"
    tokens = TokenStore(path)
    marks = ScheduleMarks(path)
    for name in ("ann", "bob"):
        subprocess.run([sys.executable, "-c", ADD, str(path), name], check=True)
        assert path.with_name("state.db-wal").exists()
        marks.put("p", name, Mark(done_s=1.0))
    assert [token.name for token in tokens.list()] == ["ann", "bob"]
    marks.close()
    assert [token.name for token in tokens.list()] == ["ann", "bob"]
    tokens.close()
    with contextlib.closing(ScheduleMarks(path)) as marks:
        assert set(marks.all()) == {("p", "ann"), ("p", "bob")}


def test_answers_are_kept_for_a_day(tmp_path: Path) -> None:
    """Over restarts; afterwards the key is as new, and nothing of it is left."""
    now = 1_000_000.0
    path = tmp_path / "state.db"
    with contextlib.closing(KeptAnswers(path, lambda: now)) as answers:
        answers.keep("a", "asked", b"answer")
        answers.keep("b", "asked", b"older", at_s=now - 10)
    with contextlib.closing(KeptAnswers(path, lambda: now)) as answers:
        now += KEPT_S - 5
        assert answers.known("a") == ("asked", b"answer")
        assert answers.known("b") is None
        answers.keep("a", "again", b"other")
        assert answers.known("a") == ("again", b"other")
        now += KEPT_S
        assert answers.known("a") is None
        answers.keep("c", "asked", b"")
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT key FROM answers").fetchall() == [("c",)]


def filled(path: Path) -> Path:
    """A database of many pages."""
    with contextlib.closing(ScheduleMarks(path)) as marks:
        for number in range(300):
            marks.put("p", f"{number} " + "x" * 200, Mark(done_s=float(number)))
    return path


def test_a_damaged_page_is_found_at_the_start_and_nothing_is_changed(tmp_path: Path) -> None:
    """Not by a request, a week later; the owner decides what becomes of the file."""
    path = filled(tmp_path / "state.db")
    data = bytearray(path.read_bytes())
    data[4096 * 5 : 4096 * 6] = b"\xa5" * 4096
    path.write_bytes(data)
    for opened in (TokenStore, ScheduleMarks):
        with pytest.raises(InvalidInputError, match=r"state\.db: is damaged: .*put back a copy"):
            opened(path)
    assert path.read_bytes() == data


def test_a_file_that_is_damaged_under_a_daemon_is_told_as_unavailable(tmp_path: Path) -> None:
    """503 and a sentence, not the fault of who asks."""
    path = filled(tmp_path / "state.db")
    with contextlib.closing(ScheduleMarks(path)) as marks:
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute("DELETE FROM schedule_marks WHERE done_s = 7")  # what is cached is old
        path.with_name("state.db-wal").write_bytes(b"")
        path.write_bytes(b"\xa5" * path.stat().st_size)
        with pytest.raises(UnavailableError, match=r"is damaged: .* stop the daemon, and put back"):
            marks.all()


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """A folder in its place, or no folder at all."""
    (tmp_path / "state.db").mkdir()
    with pytest.raises(UnavailableError, match="can't be used"):
        TokenStore(tmp_path / "state.db")
    with pytest.raises(FileNotFoundError):
        TokenStore(tmp_path / "nowhere/state.db")


def test_a_name_twice_is_the_callers_matter(tmp_path: Path) -> None:
    """It is no damage."""
    with contextlib.closing(TokenStore(tmp_path / "state.db")) as store:
        store.create("ann", ["run"], now=time.time())
        with pytest.raises(InvalidInputError, match="'ann' exists"):
            store.create("ann", ["run"], now=time.time())
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as db:
            assert db.execute("SELECT count(*) FROM tokens").fetchone() == (1,)
