"""Watching one run to its end, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from tailrace import wire
from tailrace.cli.failure import ABORTED, FAILED, LEFT
from tailrace.cli.keyboard import terminal_of_input
from tailrace.cli.line_questions import LineQuestions
from tailrace.cli.output import JsonLines, PlainLines, Show, has_colours, is_terminal, say
from tailrace.cli.source import Source
from tailrace.core.events import Summary
from tailrace.errors import TailraceError

if TYPE_CHECKING:
    from tailrace.cli.terminal import Terminal

HINT: Final = "Ctrl-C cancels the run"
_HEARD_S: Final = 2.0  # how long a second Ctrl-C waits for the cancel to reach the run


async def watch(events: AsyncGenerator[list[wire.Frame], None], show: Show) -> int:
    """Give a run's events to *show* until the last one; return the exit status they stand for."""
    status = FAILED
    async with contextlib.aclosing(events) as batches:
        async for frames in batches:
            await show.take(frames)
            last = frames[-1]
            if last.event == "aborted":
                status = ABORTED
            elif last.event == "summary":
                event = wire.decode_event(last.data)
                status = 0 if isinstance(event, Summary) and event.status == "success" else FAILED
    return status


async def run_to_end(source: Source, run_id: str, *, as_json: bool, plain: bool) -> int:
    """Watch a run that we started; the first Ctrl-C cancels it, the second leaves it."""
    if not as_json and not plain and draws_tree():
        async with tree(source, run_id, hint=HINT, asks=True) as terminal:
            with Interrupts(_Cancel(source, run_id, terminal.tell), terminal.give_back):
                return await watch(source.events(run_id, texts=False), terminal)
    with contextlib.ExitStack() as exits:
        exits.enter_context(Interrupts(_Cancel(source, run_id, say), lambda: None))
        show: Show = JsonLines() if as_json else plain_lines()
        if isinstance(show, PlainLines) and (fd := terminal_of_input()) is not None:
            answer = functools.partial(source.answer, run_id)
            show = exits.enter_context(LineQuestions(show, fd, answer, say))
        return await watch(source.events(run_id), show)


def draws_tree() -> bool:
    """Whether standard output is a terminal that can show the live tree."""
    return is_terminal() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def plain_lines(matches: Callable[[str], bool] | None = None) -> PlainLines:
    """Return the lines for where no tree is drawn."""
    return PlainLines(to_terminal=is_terminal(), colours=has_colours(), note=say, matches=matches)


@contextlib.asynccontextmanager
async def tree(
    source: Source, run_id: str, *, hint: str, asks: bool = False
) -> AsyncIterator[Terminal]:
    """Give the live view of a run; with *asks* it takes answers to the run's questions."""
    from tailrace.cli.model import Model
    from tailrace.cli.picture import make_console
    from tailrace.cli.terminal import Terminal

    model = Model(source.log_reader(run_id))
    answer = functools.partial(source.answer, run_id) if asks else None
    async with Terminal(make_console(), model, hint=hint, answer=answer) as terminal:
        yield terminal


class _Cancel:
    """The first Ctrl-C: cancels the run, and says so."""

    def __init__(self, source: Source, run_id: str, tell: Callable[[str], None]) -> None:
        self._source = source
        self._run_id = run_id
        self._tell = tell

    async def __call__(self) -> None:
        self._tell("cancelling; Ctrl-C again leaves the run to itself")
        try:
            await self._source.cancel(self._run_id)
        except TailraceError as exc:
            self._tell(str(exc))


class Interrupts:
    """Ctrl-C and SIGTERM: the first one starts *first*, the second leaves with 130.

    It leaves at once, but for the moment that *first* may need to be heard; the
    third doesn't wait for that either.

    A context manager within a running loop; leaving it waits for nothing.
    """

    def __init__(
        self, first: Callable[[], Coroutine[Any, Any, None]], leaving: Callable[[], None]
    ) -> None:
        self._first = first
        self._leaving = leaving
        self._task: asyncio.Task[None] | None = None
        self._last: asyncio.Task[None] | None = None

    def __enter__(self) -> Interrupts:
        """Take the signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._came)
        return self

    def __exit__(self, *exc: object) -> None:
        """Give the signals back."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        for task in (self._task, self._last):
            if task is not None:
                task.cancel()

    def _came(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._first(), name="cancel")
        elif self._task.done() or self._last is not None:
            self._leave()
        else:
            self._last = asyncio.get_running_loop().create_task(
                self._leave_soon(self._task), name="leave"
            )

    async def _leave_soon(self, first: asyncio.Task[None]) -> None:
        await asyncio.wait({first}, timeout=_HEARD_S)
        self._leave()

    def _leave(self) -> None:
        self._leaving()
        say("left; the run is on its own")
        sys.stderr.flush()
        # No exception: a thread may hang in a write to a pager that nobody reads.
        os._exit(LEFT)
