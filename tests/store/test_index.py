"""The index: look-ups, pages, keys, and what becomes of a damaged one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.ulid import new_ulid
from tailrace.errors import InvalidInputError, UnknownError
from tailrace.store.index import DamagedIndexError, Index, RunRow


def row(number: int, pipeline: str = "analyze", **more: object) -> RunRow:
    """A run's row; a higher number is newer."""
    run_id = new_ulid(1_700_000_000_000 + number * 1_000, bytes(10))
    return RunRow(
        id=run_id,
        ref=f"{pipeline}/{number}",
        pipeline=pipeline,
        created_at=f"2026-01-01T00:00:{number:02d}.000Z",
        **more,  # type: ignore[arg-type]  # fields of the row
    )


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty index."""
    index = Index(tmp_path / "tailrace.db")
    yield index
    index.close()


def test_a_row_comes_back_as_it_was_put(index: Index) -> None:
    """Params keep their types."""
    written = row(
        1, params={"a": 1, "b": None, "c": "x'y"}, status="error", cause="it's", last_seq=9
    )
    index.put(written)
    assert index.get(written.id) == written


def test_an_older_view_of_a_run_does_not_replace_a_newer_one(index: Index) -> None:
    """Two processes may read the same folder at different moments."""
    index.put(row(1, status="success", last_seq=9))
    index.put(row(1, status="running", last_seq=5))
    assert index.get(row(1).id) == row(1, status="success", last_seq=9)


def test_pages_follow_each_other_newest_first_without_gap_or_repetition(index: Index) -> None:
    """Also while new runs come in."""
    for number in range(1, 8):
        index.put(row(number))
    first, cursor = index.list(limit=3)
    index.put(row(8))
    assert cursor is not None
    second, cursor = index.list(limit=3, cursor=cursor)
    assert cursor is not None
    third, end = index.list(limit=3, cursor=cursor)
    refs = [found.ref for found in (*first, *second, *third)]
    assert refs == [f"analyze/{number}" for number in range(7, 0, -1)]
    assert end is None


def test_a_list_is_narrowed_by_pipeline_and_status(index: Index) -> None:
    """Both together, and text that looks like SQL is only text."""
    index.put(row(1, status="success"))
    index.put(row(2, status="error"))
    index.put(row(3, "clone", status="error"))
    found, _ = index.list(pipeline="analyze", status="error")
    assert [each.ref for each in found] == ["analyze/2"]
    assert index.list(pipeline="' OR 1=1 --") == ([], None)


@pytest.mark.parametrize(
    ("wish", "where"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"status": "done"}, "status"),
        ({"cursor": "%"}, "cursor"),
        ({"cursor": "01h"}, "cursor"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(
    index: Index, wish: dict[str, str], where: str
) -> None:
    """The message names the parameter."""
    with pytest.raises(InvalidInputError) as caught:
        index.list(**wish)  # type: ignore[arg-type]  # what came from outside
    assert [problem.where for problem in caught.value.problems] == [where]


def test_a_run_is_found_by_id_ref_prefix_and_latest(index: Index) -> None:
    """Every way that people name runs."""
    index.put(row(1))
    index.put(row(2, "clone"))
    wanted = row(1).id
    for text in (wanted, wanted.upper(), wanted[:24], "analyze/1", "analyze/01"):
        assert index.resolve(text) == wanted
    assert index.resolve("latest") == row(2).id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("01", "several runs' ids begin with '01'"),
        ("7z", "there is no run '7z'"),
        ("analyze/3", "there is no run 'analyze/3'"),
        ("%", "there is no run '%'"),
        ("", "there is no run ''"),
        ("_" * 200, "there is no run '…' (200 characters);"),
        ("01h\n", "there is no run"),
    ],
)
def test_what_means_no_run_or_several_is_told_apart(index: Index, text: str, message: str) -> None:
    """Wildcards of LIKE mean nothing."""
    index.put(row(1))
    index.put(row(2))
    with pytest.raises(UnknownError) as caught:
        index.resolve(text)
    assert message in str(caught.value)


def test_there_is_no_latest_without_runs(index: Index) -> None:
    """The message says why."""
    with pytest.raises(UnknownError, match="there are no runs yet"):
        index.resolve("latest")


@given(st.text(max_size=40))
def test_no_text_breaks_a_look_up(text: str) -> None:
    """Whatever is asked for, it is a run or an UnknownError."""
    index = Index(Path(":memory:"))
    try:
        index.put(row(1))
        with contextlib.suppress(UnknownError):
            assert index.resolve(text) == row(1).id
    finally:
        index.close()


def test_a_key_is_known_for_as_long_as_it_is_honoured(index: Index) -> None:
    """An older run with the same key doesn't count."""
    index.put(row(5, key="ann:k", body_sha256="b"))
    found = index.by_key("ann:k", since="2026-01-01T00:00:04.000Z")
    assert found is not None
    assert (found.ref, found.body_sha256) == ("analyze/5", "b")
    assert index.by_key("ann:k", since="2026-01-01T00:00:06.000Z") is None
    assert index.by_key("bob:k", since="") is None


def test_a_batch_that_fails_changes_nothing(index: Index) -> None:
    """All or nothing."""
    batch = index.batch()
    with contextlib.suppress(ZeroDivisionError), batch:
        index.put(row(1))
        raise ZeroDivisionError
    assert index.counts() == {}


@pytest.mark.parametrize("damage", [b"not a database at all" * 99, b"", None])
def test_a_file_that_is_no_index_is_told(tmp_path: Path, damage: bytes | None) -> None:
    """Garbage and another format are damaged; an empty file is a new index."""
    path = tmp_path / "tailrace.db"
    if damage is not None:
        path.write_bytes(damage)
    else:
        other = sqlite3.connect(path)
        other.execute("PRAGMA user_version = 99")
        other.close()
    if damage == b"":
        Index(path).close()
        return
    with pytest.raises(DamagedIndexError):
        Index(path)
