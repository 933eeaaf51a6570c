"""Brings the index up to date with the run folders, or makes it anew from them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Final

import msgspec

from tailrace import wire
from tailrace.core.events import FINAL_RUN_STATUSES, LAST_EVENTS, Aborted, Summary
from tailrace.core.plan import RunFile
from tailrace.core.run import Snapshot
from tailrace.core.ulid import is_ulid
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.snapshot import read_run_file, read_snapshot
from tailrace.store.database import unusable
from tailrace.store.index import DamagedIndexError, Index, RunRow

_TAIL: Final = 1 << 16  # bytes; where a last event usually fits
_HEAD: Final = 64  # events before ``started``: plan, queued, a notice or two


def open_index(state: StateDir) -> Index:
    """Open the index; one that is damaged is put aside and made anew, empty."""
    try:
        return Index(state.index)
    except DamagedIndexError:
        for suffix in ("-wal", "-shm"):  # another database's leftovers would damage the new one
            state.index.with_name(state.index.name + suffix).unlink(missing_ok=True)
        state.index.replace(state.index.with_name("tailrace.db.damaged"))
        return Index(state.index)


def catch_up(state: StateDir, index: Index) -> list[str]:
    """Make *index* agree with the folders; return the ids of runs without a last event.

    Rows of ended runs are believed, so that a start costs one listing of the
    folder and a look at what changed.
    """
    known = index.statuses()
    there = run_ids(state)
    unfinished = []
    with index.batch():
        for run_id in known.keys() - there:
            index.remove(run_id)
        for run_id in sorted(there):
            if known.get(run_id) in FINAL_RUN_STATUSES:
                continue
            row = read_row(state.run(run_id))
            if row is None:
                continue
            index.put(row)
            if row.status not in FINAL_RUN_STATUSES:
                unfinished.append(run_id)
    return unfinished


def rebuild(state: StateDir) -> int:
    """Make the index anew from the run folders; return how many runs it has.

    A daemon that has it open goes on with it.

    Raises:
        UnavailableError: its file can't be written.
    """
    try:
        with contextlib.closing(open_index(state)) as index:
            index.clear()
            catch_up(state, index)
            return sum(index.counts().values())
    except sqlite3.Error as exc:
        raise unusable(state.index, exc) from exc


def run_ids(state: StateDir) -> set[str]:
    """Return the ids of all the run folders."""
    try:
        return {folder.name for folder in state.runs.iterdir() if is_ulid(folder.name)}
    except FileNotFoundError:
        return set()


def read_row(run: RunDir) -> RunRow | None:
    """Return the run's row as its folder has it; None where ``run.json`` is missing or damaged.

    Of an ended run only the head and the tail of the journal are read.
    """
    try:
        run_file = read_run_file(run)
    except (OSError, msgspec.MsgspecError):
        return None
    last = _last_line(run)
    if last is not None:
        record, event = last
        if isinstance(event, Summary):
            row = row_of(run_file, Snapshot(status=event.status, cause=event.cause))
        else:
            row = row_of(run_file, Snapshot(status="aborted", cause=event.reason))
        return msgspec.structs.replace(
            row,
            cause_code=event.cause_code,
            started_at=_started_at(run),
            finished_at=record.t,
            duration_ms=event.duration_ms,
            file_url=event.file_url,
            last_seq=record.seq,
        )
    return row_of(run_file, read_snapshot(run))


def row_of(run_file: RunFile, snapshot: Snapshot) -> RunRow:
    """Return the row of a run whose events so far gave *snapshot*."""
    return RunRow(
        id=run_file.id,
        ref=run_file.ref,
        pipeline=run_file.pipeline,
        depth=run_file.depth,
        params=run_file.params,
        status=snapshot.status,
        cause=snapshot.cause,
        cause_code=snapshot.cause_code,
        created_at=run_file.created_at,
        started_at=snapshot.started_at,
        finished_at=snapshot.finished_at,
        duration_ms=snapshot.duration_ms,
        last_seq=snapshot.last_seq,
        file_url=snapshot.file_url,
        retry_of=run_file.retry_of,
        by=run_file.by,
        via=run_file.via,
        key=run_file.key,
        body_sha256=run_file.body_sha256,
    )


def _started_at(run: RunDir) -> str | None:
    reader = JournalReader(run)
    try:
        for _ in range(_HEAD):
            frames = reader.read(1)
            if not frames:
                break
            if frames[0].event == "started":
                return wire.decode_record(frames[0].data).t
    finally:
        reader.close()
    return None


def _last_line(run: RunDir) -> tuple[wire.Record, Summary | Aborted] | None:
    """Return the journal's last event, if it ends the run."""
    try:
        fd = os.open(run.journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        size, want, tail = os.fstat(fd).st_size, _TAIL, b""
        while True:
            tail = os.pread(fd, want, max(0, size - want))
            if want >= size or tail.count(b"\n") > 1:
                break
            want *= 4
    finally:
        os.close(fd)
    if not tail.endswith(b"\n"):  # torn: whatever it was, the run has no last event
        return None
    line = tail.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        record = wire.decode_record(line)
        if record.event not in LAST_EVENTS:
            return None
        event = wire.decode_event(line)
    except msgspec.MsgspecError:
        return None
    assert isinstance(event, Summary | Aborted)
    return record, event
