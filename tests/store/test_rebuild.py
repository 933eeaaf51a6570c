"""The index made from run folders, and the state folder itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runs import accept, plan_of, script
from tailrace.core import events
from tailrace.errors import InvalidInputError, UnavailableError
from tailrace.rundir.journal import JournalWriter
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.snapshot import read_run_file, read_snapshot
from tailrace.store.index import Index
from tailrace.store.rebuild import catch_up, open_index, read_row, rebuild, row_of
from tailrace.store.state import hold_state, open_state
from tailrace.store.tokens import TokenStore


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A new state folder."""
    return open_state(tmp_path / "state")


def write(run: RunDir, *told: events.Event) -> None:
    """Append events."""
    journal = JournalWriter(run)
    for event in told:
        fields = events.masked_fields(event, lambda text: text)
        journal.append("2026-01-01T00:00:01.000Z", fields)
    journal.close()


def summary(**more: object) -> events.Summary:
    """A successful end."""
    fields: dict[str, object] = {
        "status": "success", "message": "done", "cause": None, "cause_code": None,
        "duration_ms": 7, "file_url": "http://x/report", "artifacts": (), "cost": events.Cost(),
    }  # fmt: skip
    return events.Summary(**{**fields, **more})  # type: ignore[arg-type]  # fields of the event


ABORTED = events.Aborted(
    reason="cancelled by ann", cause_code="cancelled", by="ann", duration_ms=3, file_url=None,
    artifacts=(), cost=events.Cost(),
)  # fmt: skip
STARTED = events.Started(worker="w", containment="weak")


@pytest.mark.parametrize(
    "told",
    [
        (),
        (STARTED,),
        (STARTED, summary()),
        (STARTED, summary(status="error", cause="no", cause_code="exit")),
        (STARTED, ABORTED),
        (ABORTED,),
        (STARTED, summary(artifacts=tuple(f"report-{n}.html" for n in range(9_000)))),
    ],
)
def test_a_row_read_quickly_is_the_one_folded_from_every_event(
    state: StateDir, told: tuple[events.Event, ...]
) -> None:
    """Of an ended run only head and tail are read, and the row is the same."""
    run = accept(state, plan_of(script("a", "true")))
    write(run, *told)
    assert read_row(run) == row_of(read_run_file(run), read_snapshot(run))


def test_a_torn_last_event_counts_as_not_written(state: StateDir) -> None:
    """A run whose end was torn has not ended."""
    run = accept(state, plan_of(script("a", "true")))
    write(run, STARTED, summary())
    whole = run.journal.read_bytes()
    run.journal.write_bytes(whole[:-1])
    row = read_row(run)
    assert row is not None
    assert row.status == "running"


def test_the_index_agrees_with_the_folders_after_catching_up(state: StateDir) -> None:
    """New runs are added, ended ones updated, deleted ones forgotten; live ones are returned."""
    ended, live, gone = (accept(state, plan_of(script("a", "true"))) for _ in range(3))
    write(ended, STARTED, summary())
    index = open_index(state)
    try:
        catch_up(state, index)
        gone.path.rename(state.path / "away")
        assert catch_up(state, index) == [live.id]
        assert index.statuses() == {ended.id: "success", live.id: "queued"}
    finally:
        index.close()


def test_rebuilding_gives_the_same_index(state: StateDir) -> None:
    """Whatever was in it before."""
    runs = [accept(state, plan_of(script("a", "true"))) for _ in range(3)]
    write(runs[0], STARTED, summary())
    assert rebuild(state) == 3
    index = Index(state.index)
    rows = index.list()
    index.remove(runs[0].id)
    index.close()
    assert rebuild(state) == 3
    index = Index(state.index)
    assert index.list() == rows
    index.close()


def test_a_damaged_index_is_put_aside_and_made_anew(state: StateDir) -> None:
    """Nothing is lost: the folders are the truth."""
    accept(state, plan_of(script("a", "true")))
    rebuild(state)
    data = bytearray(state.index.read_bytes())
    data[100:3_000] = b"\xff" * 2_900
    state.index.write_bytes(data)
    assert rebuild(state) == 1
    assert state.index.with_name("tailrace.db.damaged").exists()


def test_what_is_no_run_is_left_alone(state: StateDir) -> None:
    """Foreign folders, damaged run.json, files of the same name."""
    (state.runs / "notes").mkdir()
    (state.runs / ("0" * 26)).mkdir()
    (state.runs / ("1" * 26)).write_text("a file")
    damaged = accept(state, plan_of(script("a", "true")))
    damaged.run_json.write_text("{")
    assert rebuild(state) == 0


def test_the_state_folder_is_made_private(tmp_path: Path) -> None:
    """0700, its version 1, its parents as everybody's."""
    state = open_state(tmp_path / "deep" / "state")
    assert state.path.stat().st_mode & 0o777 == 0o700
    assert state.version.read_text() == "1\n"
    assert open_state(state.path) == state


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2\n", "was written by a newer Tailrace"),
        ("x", "not a format's number"),
        ("0", "not a format's number"),
    ],
)
def test_a_state_folder_of_another_kind_is_refused_untouched(
    tmp_path: Path, version: str, message: str
) -> None:
    """What a newer version wrote is none of our business."""
    state = StateDir(tmp_path / "state")
    state.path.mkdir()
    state.version.write_text(version)
    with pytest.raises(InvalidInputError, match=message):
        open_state(state.path)
    assert state.version.read_text() == version


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file stands in its way."""
    (tmp_path / "state").write_text("")
    with pytest.raises(InvalidInputError, match="File exists; make it a folder"):
        open_state(tmp_path / "state")


def test_one_daemon_at_a_time_uses_a_state_folder(state: StateDir) -> None:
    """The second is refused, and may come when the first is gone."""
    with (
        hold_state(state),
        pytest.raises(InvalidInputError, match="another daemon uses"),
        hold_state(state),
    ):
        pass
    with hold_state(state):
        pass


def test_rebuilding_leaves_alone_what_the_folders_cannot_tell(state: StateDir) -> None:
    """``state.db`` and the counters are as they were, to the byte."""
    TokenStore(state.state_db).close()
    state.counter("p").parent.mkdir()
    state.counter("p").write_text("7\n")
    kept = (state.state_db, state.counter("p"), state.version)
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in kept]
    state.index.write_bytes(b"garbage")
    rebuild(state)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in kept] == before


def test_an_index_that_cannot_be_written_anew_is_told(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the disk as what may be wrong, or the owner where the folder is somebody else's."""
    state.index.mkdir()
    with pytest.raises(UnavailableError, match=r"tailrace\.db can't be used: .*full or read-only"):
        rebuild(state)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UnavailableError, match=f"state belongs to uid {owner}: call .* its owner"):
        rebuild(state)
