"""The live view in a terminal: paints the tree at most ten times a second.

The picture is made from the run's state, never from the output as it comes, so
that a step which prints at full speed costs no more to show than a quiet one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType

from tailrace import wire
from tailrace.cli.keyboard import Keyboard
from tailrace.cli.model import Model
from tailrace.cli.picture import print_end, symbols_for, text_of
from tailrace.cli.question import Asking
from tailrace.cli.rows import Frame
from tailrace.cli.view import lay_out
from tailrace.core.events import Prompt
from tailrace.errors import TailraceError
from tailrace.task_end import end_task

_PAINT_S: Final = 0.1  # between two pictures, at least
_SPIN_S: Final = 0.25  # and at most, so that times go on and the spinner turns


class Terminal:
    """Shows one run as a live tree; an async context manager, which owns the painting task.

    With *answer* it asks what the run asks, and gives it the prompt's id and
    the answer. The cursor and the terminal's settings are as before when it is
    left, however that happens short of SIGKILL.
    """

    def __init__(
        self,
        console: Console,
        model: Model,
        *,
        hint: str = "",
        answer: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        self._console = console
        self._model = model
        self._hint = hint
        self._answer = answer
        self._asking = Asking()
        self._keyboard = Keyboard()
        self._sending: asyncio.Task[None] | None = None
        self._symbols = symbols_for(console)
        self._changed = asyncio.Event()
        self._size = (0, 0)
        self._painted: list[int] = []  # the cells of each row
        self._above: list[int] = []  # likewise, of old rows that a low window has scrolled away
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False,
            redirect_stderr=False,
        )  # fmt: skip
        self._exits = contextlib.ExitStack()
        self._painter: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Terminal:
        """Take the terminal."""
        self._exits.callback(self._keyboard.give_back)
        self._keyboard.attend()
        self._exits.enter_context(self._live)
        self._painter = asyncio.create_task(self._paint_on(), name="paint")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Give the terminal back, and print what stays of the run."""
        try:
            for task in (self._painter, self._sending):
                if task is not None:
                    await end_task(task)
        finally:
            self.give_back()
        if self._model.snapshot.steps:
            print_end(self._console, self._model)

    def give_back(self) -> None:
        """Give the terminal back at once; the picture is wiped off."""
        self._exits.close()

    async def take(self, frames: Sequence[wire.Frame]) -> None:
        """Take the run's next frames in; the picture follows when it is time."""
        self._model.take(frames)
        self._changed.set()

    def tell(self, hint: str) -> None:
        """Put *hint* into the last row."""
        self._hint = hint
        self._changed.set()

    async def _paint_on(self) -> None:
        while True:
            self._keyboard.attend()
            self._look()
            self._paint()
            self._changed.clear()
            await asyncio.sleep(_PAINT_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SPIN_S - _PAINT_S):
                    await self._changed.wait()

    # ---- questions ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Ask what is to be asked now."""
        if self._asking.look(self._model.snapshot.prompts):
            asks = self._answer is not None and self._asking.prompt is not None
            self._keyboard.listen(self._pressed if asks else None)

    def _pressed(self, keys: bytes) -> None:
        self._look()  # what is typed is for what is open now, painted or not
        prompt = self._asking.prompt
        answer = self._asking.press(keys)
        if answer is not None and prompt is not None:
            self._sending = asyncio.create_task(self._send(prompt, answer), name="answer")
        self._paint()

    async def _send(self, prompt: Prompt, answer: str) -> None:
        assert self._answer is not None
        try:
            await self._answer(prompt.id, answer)
        except TailraceError as exc:
            self._asking.refuse(prompt, str(exc))
            self._changed.set()

    # ---- the picture -------------------------------------------------------------------------

    def _paint(self) -> None:
        if not self._model.snapshot.steps:
            return
        width, height = self._console.size
        if (width, height) != self._size:
            self._undo_resize(width, height)
        frame = Frame(
            width=max(width - 1, 1), height=max(height - 1, 1), now=time.time(),
            symbols=self._symbols, hint=self._hint, asking=self._asking,
            can_answer=self._answer is not None and self._keyboard.can_type,
        )  # fmt: skip
        rows = [text_of(line, frame.width) for line in lay_out(self._model, frame)]
        self._painted = [row.cell_len for row in rows]
        self._live.update(Group(*rows), refresh=True)

    def _undo_resize(self, width: int, height: int) -> None:
        """Go to where the picture begins now, if another size of the window has moved its rows.

        rich goes up as many rows as it has written, and clears them. Terminals
        that reflow have more where the window is narrower. Where it is lower, rows
        have gone up to what can only be scrolled to, and come back with the room.
        So wipe them all, and stand where rich will go up to the first.
        """
        self._size = (width, height)
        old = [*self._above, *self._painted]
        rows = [max(1, -(-cells // width)) for cells in old]
        count, written = sum(rows), len(self._painted)
        gone = 0
        while sum(rows[gone:]) > height:
            gone += 1
        self._above = old[:gone]
        if count <= written:
            return
        wipe: list[tuple[ControlType, int]] = [(ControlType.ERASE_IN_LINE, 2)]
        up = [(ControlType.CURSOR_UP, 1), *wipe]
        down = [(ControlType.CURSOR_DOWN, written - 1)] if written > 1 else []
        self._console.control(
            Control(ControlType.CARRIAGE_RETURN, *wipe, *(up * (count - 1)), *down)
        )
