"""The step channel: the FIFO ``$TAILRACE_EVENTS`` of one attempt, as lines.

It is held open for reading and writing during the whole attempt (fifo(7)): no
writer blocks on opening it, and no reader sees an end between two writers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from tailrace.core.narration import MAX_LINE

CAPACITY: Final = 256 << 10  # bytes that a step may write before it waits for us
_READ: Final = 64 << 10


class StepChannel:
    """Makes the FIFO at *path*, mode 0600, and reads it; close it at the attempt's end.

    Raises:
        OSError: it can't be made, as where something is there already.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path, 0o600)
        try:
            self._fd = _open_fifo(path)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        with contextlib.suppress(OSError):  # EPERM: this user's pipes hold all they may, pipe(7)
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._capacity: int = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        self._open_line = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to wait on for reading; -1 once closed."""
        return self._fd

    def drain(self, most: int | None = None) -> list[bytes]:
        """Return the whole lines that are there now, without their newlines; never waits.

        Everything written before the call is taken, or the first *most* bytes. What a writer adds
        meanwhile may be left for the next call: each reads at most as much as
        the pipe holds, so that a flood doesn't keep its reader here. A line
        longer than `MAX_LINE` is cut to one byte more than that.
        """
        lines: list[bytes] = []
        left = self._capacity if most is None else most
        while left > 0:
            try:
                chunk = os.read(self._fd, min(left, _READ))
            except BlockingIOError:
                break
            left -= len(chunk)
            self._split(chunk, lines)
        return lines

    def close(self) -> list[bytes]:
        """Return the last lines, also one that hasn't ended, and remove the FIFO.

        Of a process that outlived its attempt and still writes, only what the
        pipe holds is read. A second call returns [].
        """
        if self._fd < 0:
            return []
        lines = self.drain()
        if self._open_line:
            lines.append(bytes(self._open_line))
            self._open_line.clear()
        os.close(self._fd)
        self._fd = -1
        with contextlib.suppress(OSError):  # the step removed it, or put a folder in its place
            self._path.unlink()
        return lines

    def _split(self, chunk: bytes, lines: list[bytes]) -> None:
        """Add the lines that end in *chunk* to *lines*, and hold the start of one that doesn't."""
        first, *others = chunk.split(b"\n")
        self._open_line += first[: MAX_LINE + 1 - len(self._open_line)]
        if not others:
            return
        lines.append(bytes(self._open_line))
        self._open_line[:] = others.pop()
        lines += others


def _open_fifo(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)  # somebody replaced it between the two calls
    raise OSError(errno.EEXIST, "something else has taken the FIFO's place", str(path))
