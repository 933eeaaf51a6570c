"""The keyboard of the terminal that we were started in, while it shows a run.

What is typed is not echoed into the picture. While somebody listens, keys come
one by one (cbreak: no line editing by the terminal, Ctrl-C and the like work
on). The settings are as before when the keyboard is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from typing import Any, Final

_LOCAL: Final = 3  # places in what tcgetattr(3) gives
_CONTROL: Final = 6


class Keyboard:
    """Standard input where it is a terminal; elsewhere nothing of this does anything.

    A background process that sets the terminal, or reads from it, is stopped
    (SIGTTOU, SIGTTIN), so that all of it waits for the foreground: `attend`,
    called now and then, notices. Used on one event loop, by one owner.
    """

    def __init__(self) -> None:
        self._fd = terminal_of_input()
        self._before: list[Any] | None = None
        self._listener: Callable[[bytes], None] | None = None
        self._reads = False
        self._stale = False  # what was typed before somebody listened is to be dropped

    @property
    def can_type(self) -> bool:
        """Whether there is somebody to type."""
        return self._fd is not None

    def listen(self, listener: Callable[[bytes], None] | None) -> None:
        """Give keys to *listener* from now on, or to nobody.

        What was typed before is dropped: it was meant for something else.
        """
        self._stale = listener is not None
        self._listener = listener
        self.attend()

    def attend(self) -> None:
        """Set the terminal as it is wanted; a shell that stopped us has set its own meanwhile."""
        if self._fd is None:
            return
        try:
            if self._before is None and in_foreground(self._fd):
                self._before = termios.tcgetattr(self._fd)
            ours = self._before is not None and in_foreground(self._fd)
            if ours:
                self._set(self._fd)
        except termios.error:  # the terminal has gone
            ours = False
        self._read_on(self._fd, ours and self._listener is not None)

    def _set(self, fd: int) -> None:
        assert self._before is not None
        now = termios.tcgetattr(fd)
        wanted = [*now[:_CONTROL], list(now[_CONTROL])]
        wanted[_LOCAL] &= ~termios.ECHO
        if self._listener is None:
            wanted[_LOCAL] |= self._before[_LOCAL] & termios.ICANON
            wanted[_CONTROL] = self._before[_CONTROL]
        else:
            wanted[_LOCAL] &= ~termios.ICANON
            wanted[_CONTROL][termios.VMIN], wanted[_CONTROL][termios.VTIME] = 1, 0
        if self._stale or wanted != now:
            termios.tcsetattr(fd, termios.TCSAFLUSH if self._stale else termios.TCSADRAIN, wanted)
            self._stale = False

    def _read_on(self, fd: int, wanted: bool) -> None:
        if wanted and not self._reads:
            asyncio.get_running_loop().add_reader(fd, self._read, fd)
        elif self._reads and not wanted:
            asyncio.get_running_loop().remove_reader(fd)
        self._reads = wanted

    def _read(self, fd: int) -> None:
        if not in_foreground(fd):
            self._read_on(fd, False)
            return
        try:
            keys = os.read(fd, 4096)
        except OSError:
            keys = b""
        if not keys:  # the terminal has gone
            self._read_on(fd, False)
            self._fd = None
        elif self._listener is not None:
            self._listener(keys)

    def give_back(self) -> None:
        """Set the terminal as it was; also from where no loop runs."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        with contextlib.suppress(RuntimeError):  # no loop runs
            self._read_on(fd, False)
        if self._before is None:
            return
        # We may be in the background by now, where setting the terminal would stop us.
        handler = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, self._before)
        signal.signal(signal.SIGTTOU, handler)


@contextlib.contextmanager
def quiet_keyboard() -> Iterator[None]:
    """Keep what is typed from being echoed into a picture; Ctrl-C and the like work on."""
    keyboard = Keyboard()
    keyboard.attend()
    try:
        yield
    finally:
        keyboard.give_back()


def in_foreground(fd: int) -> bool:
    """Whether that terminal lets us read and set it."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


def terminal_of_input() -> int | None:
    """Return standard input's descriptor where it is a terminal."""
    try:
        fd = sys.stdin.fileno()
    except (OSError, ValueError):
        return None
    return fd if os.isatty(fd) else None
