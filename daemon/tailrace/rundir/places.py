"""Places in a run's logs, found by its journal: the last lines, a line by its number, open lines.

An attempt's log is one file; the journal says which bytes hold which lines.
Nothing here reads more of a log than it must. Not asynchronous: a long journal
takes its time, so a server calls these in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tailrace import wire
from tailrace.rundir.journal import damaged_frame
from tailrace.rundir.layout import RunDir

Attempt = tuple[str, int]  # a step and its attempt's number

_CHUNK: Final = 1 << 18


def records(run: RunDir, *, upto: int | None = None) -> Iterator[tuple[int, wire.Record]]:
    """Give the heads of a journal's whole lines with their numbers, to ``upto`` inclusive.

    Damaged lines are passed over, and so is a torn last one.

    Raises:
        OSError: the journal can't be read.
    """
    with open(run.journal, "rb") as file:
        for seq, line in enumerate(file, 1):
            if (upto is not None and seq > upto) or not line.endswith(b"\n"):
                return
            try:
                yield seq, wire.decode_record(line)
            except msgspec.MsgspecError:
                continue


@dataclass(slots=True)
class Tail:
    """The last lines of a run, as of one moment."""

    upto: int  # the journal's last number at that moment
    starts: dict[Attempt, int] = field(default_factory=dict)  # byte of the log that they begin at


def last_lines(run: RunDir, lines: int, *, step: str | None = None) -> Tail:
    """Find the run's last *lines* log lines, or those of one step; a line counts where it begins.

    Raises:
        OSError: the journal or a log can't be read.
    """
    end, upto = _whole(run)
    tail = Tail(upto)
    for line in _backward(run, end):
        if lines <= 0:
            break
        try:
            record = wire.decode_record(line)
        except msgspec.MsgspecError:
            continue
        if record.event == "log" and record.bytes and step in (None, record.step):
            lines -= _count_back(run, record, lines, tail)
    return tail


def _count_back(run: RunDir, record: wire.Record, wanted: int, tail: Tail) -> int:
    """Take the last lines that begin within a slice, *wanted* at most; return how many."""
    with open(run.log(record.step or "", record.attempt), "rb") as file:
        # With the byte before it, because a line begins where one has ended.
        before = min(1, record.offset)
        file.seek(record.offset - before)
        data = (b"" if before else b"\n") + file.read(record.bytes + before)
    # A line begins after each newline but one that ends the slice.
    starts = data.count(b"\n", 0, len(data) - 1)
    if starts == 0:
        return 0
    place = len(data) - 1
    if starts <= wanted:
        place = data.find(b"\n")
    else:
        for _ in range(wanted):
            place = data.rfind(b"\n", 0, place)
    tail.starts[record.step or "", record.attempt] = record.offset + place
    return min(starts, wanted)


def _whole(run: RunDir) -> tuple[int, int]:
    """Return where a journal's last whole line ends, and how many lines there are."""
    lines = size = end = 0
    with open(run.journal, "rb") as file:
        while chunk := file.read(_CHUNK):
            if count := chunk.count(b"\n"):
                lines += count
                end = size + chunk.rindex(b"\n") + 1
            size += len(chunk)
    return end, lines


def _backward(run: RunDir, end: int) -> Iterator[bytes]:
    """Give a journal's lines up to byte *end*, the last one first."""
    with open(run.journal, "rb") as file:
        rest = b""
        while end > 0:
            start = max(0, end - _CHUNK)
            file.seek(start)
            lines = (file.read(end - start) + rest).split(b"\n")
            rest = lines[0]  # its beginning may lie in the chunk before
            yield from (line for line in reversed(lines[1:]) if line)
            end = start
        if rest:
            yield rest


def tail_frames(run: RunDir, tail: Tail) -> Iterator[wire.Frame]:
    """Give a run's events up to the tail's moment, of its logs only the tail's lines.

    Raises:
        OSError: the journal or a log can't be read.
    """
    before = ""
    with open(run.journal, "rb") as file:
        for seq, line in enumerate(file, 1):
            if seq > tail.upto:
                return
            try:
                record = wire.decode_record(line)
            except msgspec.MsgspecError as exc:
                yield damaged_frame(seq, exc, before=before)
                continue
            before = record.t
            if record.event != "log":
                yield wire.Frame(seq, record.event, record.step, line.rstrip(b"\n"))
                continue
            start = tail.starts.get((record.step or "", record.attempt))
            if start is not None and start < record.offset + record.bytes:
                yield _log_frame(run, seq, record, max(0, start - record.offset))


def _log_frame(run: RunDir, seq: int, record: wire.Record, skip: int) -> wire.Frame:
    """Return a slice's frame without its first *skip* bytes, which are whole lines."""
    with open(run.log(record.step or "", record.attempt), "rb") as file:
        file.seek(record.offset)
        data = file.read(record.bytes)
    cut = data.count(b"\n", 0, skip)
    record = msgspec.structs.replace(record, line=record.line + cut)
    return wire.Frame(seq, "log", record.step, wire.log_data(record, data[skip:]), cut)


def line_start(run: RunDir, step: str, attempt: int, line: int) -> int | None:
    """Return the byte of an attempt's log that a line begins at; None where it isn't there yet.

    Numbers are the journal's, which jump where ``limits.log`` left something
    out: a line that was left out begins where the next one does.

    Raises:
        OSError: the journal or the log can't be read.
    """
    before: wire.Record | None = None  # the last slice that begins with an earlier line
    begins = True  # whether the slice begins its first line, or goes on with an open one
    for _, record in records(run):
        if record.event != "log" or (record.step, record.attempt) != (step, attempt):
            continue
        if record.line == line and begins:
            return record.offset
        if record.line >= line:
            found = None if before is None else _within(run, before, line)
            return record.offset if found is None else found
        before, begins = record, not record.open
    return None if before is None else _within(run, before, line)


def _within(run: RunDir, record: wire.Record, line: int) -> int | None:
    """Return where a line begins within a slice that begins with an earlier one."""
    with open(run.log(record.step or "", record.attempt), "rb") as file:
        file.seek(record.offset)
        data = file.read(record.bytes)
    place = -1
    for _ in range(line - record.line):
        place = data.find(b"\n", place + 1)
        if place < 0:
            return None
    return record.offset + place + 1 if place + 1 < len(data) else None


def open_lines(run: RunDir, upto: int) -> dict[Attempt, bytes]:
    """Return what each attempt that lives at event *upto* has printed of its open line.

    Raises:
        OSError: the journal or a log can't be read.
    """
    ends: dict[Attempt, int] = {}
    for _, record in records(run, upto=upto):
        key = (record.step or "", record.attempt)
        if record.event == "log" and record.open:
            ends[key] = record.offset + record.bytes
        elif record.event in ("log", "step_retrying", "step_finished"):
            ends.pop(key, None)
    return {key: _last_line(run, key, end) for key, end in ends.items()}


def _last_line(run: RunDir, attempt: Attempt, end: int) -> bytes:
    found = b""
    with open(run.log(*attempt), "rb") as file:
        while end > 0:
            start = max(0, end - _CHUNK)
            file.seek(start)
            chunk = file.read(end - start)
            newline = chunk.rfind(b"\n")
            found = chunk[newline + 1 :] + found
            if newline >= 0:
                break
            end = start
    return found
