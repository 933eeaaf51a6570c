"""An index that goes on without its file, and finds back to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from disks import fill, small_disk
from runs import accept, plan_of, script
from tailrace.rundir.layout import StateDir
from tailrace.store.index import Index, RunRow
from tailrace.store.rebuild import rebuild
from tailrace.store.state import open_state
from tailrace.store.steady import SteadyIndex


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A state folder with two runs."""
    state = open_state(tmp_path / "state")
    for _ in range(2):
        accept(state, plan_of(script("a", "true")))
    rebuild(state)
    return state


def ids(state: StateDir) -> set[str]:
    """The runs that a new reader of the file finds."""
    index = Index(state.index)
    try:
        return set(index.statuses())
    finally:
        index.close()


def garbage(path: Path) -> None:
    """Overwrite the file in place."""
    path.write_bytes(b"no database " * 5_000)


def truncated(path: Path) -> None:
    """Cut the file."""
    path.write_bytes(path.read_bytes()[:5_000])


def empty(path: Path) -> None:
    """Leave nothing of it."""
    path.write_bytes(b"")


def missing(path: Path) -> None:
    """Delete the file."""
    path.unlink()


def a_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


DAMAGES = (garbage, truncated, empty, missing, a_folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_missing_file_stops_nobody(
    state: StateDir, damage: Callable[[Path], None]
) -> None:
    """The folders tell what was in it; with a folder in its place it stays in memory."""
    for suffix in ("-wal", "-shm"):
        state.index.with_name(state.index.name + suffix).unlink(missing_ok=True)
    damage(state.index)
    told: list[str] = []
    index = SteadyIndex(state, told.append)
    try:
        assert set(index.counts().items()) == {("queued", 2)}
        assert len(index.unfinished) == 2
        assert any("goes on in memory" in text for text in told) is (damage is a_folder)
    finally:
        index.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_damaged_or_deleted_while_it_is_open_is_made_anew(
    state: StateDir, damage: Callable[[Path], None]
) -> None:
    """Nothing raises meanwhile, and a write since then is in the new one."""
    told: list[str] = []
    index = SteadyIndex(state, told.append)
    try:
        damage(state.index)
        new = accept(state, plan_of(script("a", "true")))
        for _ in range(3):
            index.put(RunRow(id=new.id, ref="test/3", pipeline="test"))
            index.look_after()
            assert index.resolve("test/3") == new.id
            assert len(index.list(limit=10)[0]) == 3
        if damage is a_folder:
            assert "goes on in memory" in told[-1]
            state.index.rmdir()
            index.look_after()
    finally:
        index.close()
    if damage in (missing, a_folder):
        assert "goes on in memory" in told[0]
        assert told[-1] == "the index is in its file again"
    assert rebuild(state) == 3
    assert new.id in ids(state)


def test_a_full_disk_takes_it_to_memory_and_space_brings_it_back(tmp_path: Path) -> None:
    """What was put meanwhile is there, and is in the file afterwards."""
    with small_disk(tmp_path / "disk", "4M") as disk:
        state = open_state(disk / "state")
        accept(state, plan_of(script("a", "true")))
        told: list[str] = []
        index = SteadyIndex(state, told.append)
        filler = fill(disk)
        rows = [RunRow(id=f"{n:026}", ref=f"x/{n}", pipeline="x" * 900) for n in range(200)]
        for row in rows:
            index.put(row)
        index.look_after()
        assert ["disk" in each for each in told] == [True]
        assert all(index.get(row.id) == row for row in rows)
        filler.unlink()
        index.look_after()
        assert told[1:] == ["the index is in its file again"]
        index.close()
        assert len(ids(state)) == 201
