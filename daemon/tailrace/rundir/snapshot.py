"""A run's state read from its folder."""

from __future__ import annotations

import msgspec

from tailrace import wire
from tailrace.core.events import LogRecord
from tailrace.core.plan import RunFile
from tailrace.core.run import UNFOLDED, Snapshot
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir

_run_file_decoder = msgspec.json.Decoder(RunFile)


def fold(snapshot: Snapshot, frames: list[wire.Frame]) -> None:
    """Take the next frames of a journal into *snapshot*.

    An event of a later version, which this one doesn't know, counts as read.
    """
    for frame in frames:
        if frame.event in UNFOLDED:
            snapshot.last_seq = frame.seq
            continue
        try:
            event = wire.decode_event(frame.data)
        except msgspec.ValidationError:
            snapshot.last_seq = frame.seq
            continue
        assert not isinstance(event, LogRecord)
        snapshot.apply(frame.seq, wire.decode_record(frame.data).t, event)


def read_snapshot(run: RunDir) -> Snapshot:
    """Return the run's state as its journal says now; an empty one where there is no journal."""
    reader = JournalReader(run, texts=False)
    snapshot = Snapshot(id=run.id)
    try:
        while frames := reader.read():
            fold(snapshot, frames)
    finally:
        reader.close()
    return snapshot


def read_run_file(run: RunDir) -> RunFile:
    """Return ``run.json``.

    Raises:
        OSError: it is missing or can't be read.
        msgspec.MsgspecError: it isn't what Tailrace wrote.
    """
    return _run_file_decoder.decode(run.run_json.read_bytes())
