"""Questions where no tree is drawn: the next line that is typed is the answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

from tailrace import wire
from tailrace.cli.keyboard import in_foreground
from tailrace.cli.output import PlainLines
from tailrace.cli.question import Asking
from tailrace.core.events import Prompt
from tailrace.core.run import Snapshot
from tailrace.errors import TailraceError
from tailrace.rundir.snapshot import fold


class LineQuestions:
    """Shows a run as `PlainLines`, and reads answers from the terminal *fd*; a context manager.

    The terminal edits the line, as it does for any program. *answer* gets the
    prompt's id and the answer; *say* tells a person something.
    """

    def __init__(
        self,
        lines: PlainLines,
        fd: int,
        answer: Callable[[str, str], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        self._lines, self._fd, self._answer, self._say = lines, fd, answer, say
        self._snapshot = Snapshot()
        self._asking = Asking()
        self._reads = self._ended = False
        self._sending: asyncio.Task[None] | None = None

    def __enter__(self) -> LineQuestions:
        """Make ready."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Read no more."""
        self._read_on(False)
        if self._sending is not None:
            self._sending.cancel()

    async def take(self, frames: Sequence[wire.Frame]) -> None:
        """Show the next frames, and ask what is to be asked then."""
        await self._lines.take(frames)
        fold(self._snapshot, list(frames))
        if not self._asking.look(self._snapshot.prompts):
            return
        asks = self._asking.prompt is not None and not self._ended and in_foreground(self._fd)
        if asks:
            with contextlib.suppress(termios.error):  # typed for something else
                termios.tcflush(self._fd, termios.TCIFLUSH)
            self._say("or type the answer here, and press Enter")
        self._read_on(asks)

    def _read_on(self, wanted: bool) -> None:
        loop = asyncio.get_running_loop()
        if wanted and not self._reads:
            loop.add_reader(self._fd, self._read)
        elif self._reads and not wanted:
            loop.remove_reader(self._fd)
        self._reads = wanted

    def _read(self) -> None:
        if not in_foreground(self._fd):
            self._read_on(False)
            return
        try:
            typed = os.read(self._fd, 1 << 16)
        except OSError:
            typed = b""
        if not typed:  # Ctrl-D: nobody wants to type here
            self._ended = True
            self._read_on(False)
            return
        prompt = self._asking.prompt
        answer = self._asking.submit(typed.decode("utf-8", "replace").rstrip("\r\n"))
        if answer is not None and prompt is not None:
            self._sending = asyncio.create_task(self._send(prompt, answer), name="answer")
        elif self._asking.said:
            self._say(f"{self._asking.said}; type it again")

    async def _send(self, prompt: Prompt, answer: str) -> None:
        try:
            await self._answer(prompt.id, answer)
        except TailraceError as exc:
            self._asking.refuse(prompt, str(exc))
            self._say(str(exc))
