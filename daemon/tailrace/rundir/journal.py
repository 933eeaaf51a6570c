"""The journal and the logs of a run: written by one, read by anyone at any time.

Line N of ``journal.jsonl`` holds ``seq`` N. A ``log`` record names a slice of
an attempt's log and is written after its bytes, so whoever sees the record
finds them. A line without its newline is torn: it is being written, or its
writer died; readers stop before it and `JournalWriter` cuts it off.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tailrace import wire
from tailrace.core.lines import Slice
from tailrace.rundir.disk import keep_room
from tailrace.rundir.layout import RunDir

_WHOLE = 1 << 18  # how much of a journal is read at once
_AHEAD = 1 << 16  # room is kept for so many bytes more at once


def room_for(steps: int) -> int:
    """Return the bytes that the events of a run's end take, at most as a rule."""
    return (8 << 10) + (2 << 10) * steps


class JournalWriter:
    """Appends events; only the holder of the run's lock may have one.

    Opening repairs what a writer's death left: a torn last line is cut off.
    With *room* the disk keeps so many bytes for events that must not be lost,
    where the file system can: an append that would need them is refused as by
    a full disk, unless it says that it is ``urgent``.
    """

    def __init__(self, run: RunDir, *, room: int = 0) -> None:
        self._room = room
        self._kept = 0  # the disk has room for the file up to here
        self._fd = os.open(
            run.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        self.seq, self._size = _whole_lines(self._fd)
        if os.fstat(self._fd).st_size > self._size:
            os.ftruncate(self._fd, self._size)

    def append(self, t: str, fields: dict[str, Any], *, urgent: bool = False) -> int:
        """Write one event, given as its keys and values with ``event``; return its ``seq``.

        Raises:
            OSError: the disk is full or failing; what a short write left is cut off,
                so that the journal stays readable and the number is not used.
        """
        self._write(wire.encode_record(self.seq + 1, t, fields), urgent=urgent)
        self.seq += 1
        return self.seq

    def append_all(self, t: str, events: Iterable[dict[str, Any]]) -> int:
        """Write several events of one moment, or none of them; return the last one's ``seq``.

        Raises:
            OSError: as `append`.
        """
        lines = [
            wire.encode_record(seq, t, fields) for seq, fields in enumerate(events, self.seq + 1)
        ]
        self._write(b"".join(lines), urgent=False)
        self.seq += len(lines)
        return self.seq

    def _write(self, data: bytes, *, urgent: bool) -> None:
        if self._room and self._size + len(data) + self._room > self._kept:
            try:
                self.keep_room(len(data))
            except OSError:
                if not urgent:
                    raise
        write_whole(self._fd, data)
        self._size += len(data)

    def keep_room(self, ahead: int = 0) -> None:
        """Have the disk keep the room for the end behind the next *ahead* bytes.

        Raises:
            OSError: it hasn't that much.
        """
        size = ahead + self._room
        try:
            there = keep_room(self._fd, self._size, size + _AHEAD)
            size += _AHEAD
        except OSError:
            there = keep_room(self._fd, self._size, size)
        if there:
            self._kept = self._size + size
        else:
            self._room = 0

    def sync(self) -> None:
        """Return once all that was appended is on disk (fdatasync)."""
        os.fdatasync(self._fd)

    def close(self, *, give_back: bool = True) -> None:
        """Close the file, and give back what room is kept; the lock is somebody else's business."""
        if give_back:
            with contextlib.suppress(OSError):  # a disk that fails keeps it
                os.ftruncate(self._fd, self._size)
        os.close(self._fd)


class AttemptLog:
    """The log file of one attempt, growing."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(
            path,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
        )
        self._written = False

    def append(self, piece: Slice) -> None:
        """Write a slice's bytes.

        Raises:
            OSError: the disk is full or failing; the file ends where it ended before.
        """
        write_whole(self._fd, piece.data)
        self._written = True

    def cut(self, size: int) -> None:
        """Take back what was appended behind the first *size* bytes.

        Raises:
            OSError: the disk is failing.
        """
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        """Return once all that was appended is on disk (fdatasync)."""
        if self._written:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def damaged_frame(seq: int, error: Exception, *, before: str) -> wire.Frame:
    """Return what stands for an event that can't be read, of the time of the one before it.

    Where that is unknown ("") its time is now.
    """
    return wire.damaged_frame(seq, str(error), before or wire.timestamp(time.time()))


def write_whole(fd: int, data: bytes) -> None:
    """Append all of *data* to a file opened with O_APPEND, or nothing of it.

    Raises:
        OSError: it could not be written; the file has its old length again.
    """
    written = os.write(fd, data)
    if written == len(data):
        return
    start = os.lseek(fd, 0, os.SEEK_CUR) - written
    try:
        view = memoryview(data)
        while written < len(data):
            written += os.write(fd, view[written:])
    except OSError:
        os.ftruncate(fd, start)
        raise


def _whole_lines(fd: int) -> tuple[int, int]:
    """Count the whole lines of a file: their number and their bytes together."""
    lines = size = offset = 0
    while chunk := os.pread(fd, _WHOLE, offset):
        if count := chunk.count(b"\n"):
            lines += count
            size = offset + chunk.rindex(b"\n") + 1
        offset += len(chunk)
    return lines, size


class JournalReader:
    """Reads a run's events from any number on, as frames for watchers.

    Not asynchronous: a read is bounded by ``limit`` and comes from the page
    cache as a rule. A journal that isn't there yet reads as empty. With
    ``texts=False`` the data of a ``log`` is its record as it stands, with
    ``offset`` and ``bytes``: for who looks at little of the output.
    """

    def __init__(self, run: RunDir, *, after: int = 0, texts: bool = True) -> None:
        self._run = run
        self._texts = texts
        self._fd: int | None = None
        self._offset = 0
        self.seq = 0  # of the last event read or passed over
        self._after = after
        self._t = ""  # of the last event read
        self._logs: dict[tuple[str, int], int] = {}

    def read(self, limit: int = _WHOLE) -> list[wire.Frame]:
        """Return the next events, some *limit* bytes of frames at most; [] when there are none yet.

        A damaged line, or a slice whose bytes are missing, becomes a frame of a
        ``notice`` in its place, so that the numbers stay without a gap.
        """
        frames: list[wire.Frame] = []
        size = 0
        while size < limit:
            try:
                lines = self._lines(_WHOLE)
            except OSError:
                if frames:  # passed over already: told now, and the next read fails
                    break
                raise
            if not lines:
                break
            for line in lines:
                self._offset += len(line) + 1
                self.seq += 1
                if self.seq <= self._after:
                    continue
                frames.append(self._frame(line))
                size += len(frames[-1].data)
                if size >= limit:
                    break
        return frames

    def close(self) -> None:
        """Close the files."""
        for fd in (self._fd, *self._logs.values()):
            if fd is not None:
                os.close(fd)
        self._fd = None
        self._logs.clear()

    def _lines(self, want: int) -> list[bytes]:
        """Return whole lines from where we are, without their ends; a torn one is left out."""
        if self._fd is None:
            try:
                self._fd = os.open(self._run.journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return []
        while True:
            chunk = os.pread(self._fd, want, self._offset)
            end = chunk.rfind(b"\n") + 1
            if not end:
                if len(chunk) < want:
                    return []
                want *= 4  # an event's texts are bounded, but not so low
                continue
            skip = self._after - self.seq
            if skip <= 0 or (count := chunk.count(b"\n", 0, end)) > skip:
                return chunk[: end - 1].split(b"\n")
            self.seq += count  # passed over by counting: line N is seq N
            self._offset += end

    def _frame(self, line: bytes) -> wire.Frame:
        try:
            if not line.isascii():
                line.decode()  # what isn't looked at below would reach watchers as it is
            record = wire.decode_record(line)
            data = line
            if record.event == "log" and self._texts:
                data = wire.log_data(record, self._slice(record))
        except (msgspec.MsgspecError, OSError, ValueError) as exc:
            return damaged_frame(self.seq, exc, before=self._t)
        self._t = record.t
        return wire.Frame(self.seq, record.event, record.step, data)

    def _slice(self, record: wire.Record) -> bytes:
        """Read a log record's bytes.

        Raises:
            OSError: the file is missing or too short.
        """
        key = (record.step or "", record.attempt)
        fd = self._logs.get(key)
        if fd is None:
            if len(self._logs) >= 32:  # parallel steps; a bound on descriptors, not on steps
                os.close(self._logs.pop(next(iter(self._logs))))
            fd = os.open(self._run.log(*key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            self._logs[key] = fd
        # A damaged number must not ask for more memory than there are bytes.
        there = os.fstat(fd).st_size - record.offset
        data = os.pread(fd, max(0, min(record.bytes, there)), record.offset)
        if len(data) != record.bytes:
            raise OSError(f"the log of {key[0]} ends before byte {record.offset + record.bytes}")
        return data
