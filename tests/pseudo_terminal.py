"""A terminal for tests: a program on a pty, and the screen that it draws there."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import pyte
from pyte.screens import Char, StaticDefaultDict

# Takes the pty on descriptor 0 as its controlling terminal, so that Ctrl-C is a signal.
_LAUNCH = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)

_END = b"\0"  # comes after all that the program wrote


class PseudoTerminal(AbstractContextManager["PseudoTerminal"]):
    """Runs a program in a terminal of some size; a context manager, which ends it."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], rows: int = 24, columns: int = 80
    ) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._scrolled: list[StaticDefaultDict[int, Char]] = []
        self._stream = pyte.ByteStream(self._screen)
        self._left: int | None = None  # the local modes, as they were when the program had ended
        self.raw = b""  # all that was written
        self._master, slave = os.openpty()
        _set_size(slave, rows, columns)
        self._slave = slave  # held open, so that settings can be read after the program's end
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**env, "TERM": env.get("TERM", "xterm-256color")},
            start_new_session=True,
        )

    def __exit__(self, *exc: object) -> None:
        """End the program and close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._left = self._modes()
        os.close(self._master)
        os.close(self._slave)

    @property
    def rows(self) -> list[str]:
        """What the screen shows, without the blanks at the right."""
        return [row.rstrip() for row in self._screen.display]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.rows)

    def cursor_shows(self) -> bool:
        """Whether the cursor is visible."""
        return not self._screen.cursor.hidden

    def echoes(self) -> bool:
        """Whether the terminal echoes what is typed."""
        return bool(self._modes() & termios.ECHO)

    def edits(self) -> bool:
        """Whether the terminal gathers and edits a line itself (canonical mode)."""
        return bool(self._modes() & termios.ICANON)

    def _modes(self) -> int:
        if self._left is not None:
            return self._left
        return int(termios.tcgetattr(self._slave)[3])

    def press(self, keys: bytes) -> None:
        """Type keys; byte 3 is Ctrl-C."""
        os.write(self._master, keys)

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size, as its owner would.

        What has no room any more scrolls out above, and comes back with the room.
        """
        screen = self._screen
        lines = [screen.buffer[y] for y in range(screen.lines)]
        gone = max(0, screen.cursor.y + 1 - rows)
        back = self._scrolled[max(0, len(self._scrolled) - max(0, rows - screen.lines)) :]
        self._scrolled = self._scrolled[: len(self._scrolled) - len(back)] + lines[:gone]
        top = screen.cursor.y - gone + len(back)
        screen.resize(rows, columns)
        for y, line in enumerate([*back, *lines[gone:]][:rows]):
            screen.buffer[y] = line
        screen.cursor.y = top
        _set_size(self._master, rows, columns)

    def until(self, holds: Callable[[PseudoTerminal], bool], *, within_s: float = 20) -> None:
        """Read until the screen shows what is waited for."""
        deadline = time.monotonic() + within_s
        while not holds(self):
            left = deadline - time.monotonic()
            assert left > 0, f"the screen still shows:\n{self.text}"
            self._read(min(left, 0.1))

    def exit_status(self, *, within_s: float = 20) -> int:
        """Read until the program ends; return its exit status."""
        self.until(lambda _: self.process.poll() is not None, within_s=within_s)
        while self._read(0):
            pass
        os.write(self._slave, _END)  # what the program wrote last may still be on its way
        self.until(lambda t: t.raw.endswith(_END), within_s=within_s)
        self.raw = self.raw.removesuffix(_END)
        return self.process.returncode

    def _read(self, wait_s: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], wait_s)
        if not readable:
            return False
        data = os.read(self._master, 1 << 16)
        self.raw += data
        self._stream.feed(data.replace(_END, b""))
        return True


def _set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
