"""Watching one run to its end, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from tailrace import wire
from tailrace.cli.failure import ABORTED, FAILED, LEFT
from tailrace.cli.keyboard import terminal_of_input
from tailrace.cli.line_questions import LineQuestions
from tailrace.cli.output import JsonLines, PlainLines, Show, has_colours, is_terminal, say
from tailrace.cli.source import Source
from tailrace.core.events import Summary
from tailrace.errors import TailraceError, UnreachableError

if TYPE_CHECKING:
    from tailrace.cli.terminal import Terminal

HINT: Final = "Ctrl-C cancels the run"
_CANCELLING: Final = "cancelling; Ctrl-C again leaves the run to itself"
_AGAIN_S: Final = 0.3  # until a cancel that reached nobody is sent again
_HEARD_S: Final = 2.0  # how long a cancel may take to reach the run, for a second Ctrl-C too


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


async def run_to_end(
    source: Source, run_id: str, interrupts: Interrupts, *, as_json: bool, plain: bool
) -> int:
    """Watch a run that we started; *interrupts* has its id."""
    if not as_json and not plain and draws_tree():
        async with tree(source, run_id, hint=HINT, asks=True) as terminal:
            with interrupts.told_by(terminal):
                return await watch(source.events(run_id, texts=False), terminal)
    with contextlib.ExitStack() as exits:
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


class Interrupts:
    """Ctrl-C and SIGTERM: the first one cancels the run, the second leaves with 130.

    It takes them from before the run is asked for, and remembers: one that
    comes while there is no run yet cancels it as soon as it is known. The second
    leaves at once, but for the moment that the cancel may need to be heard; the
    third doesn't wait for that either.

    A context manager within a running loop; leaving it waits for nothing.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._run_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._ref = ""
        self._terminal: Terminal | None = None
        self._task: asyncio.Task[None] | None = None
        self._last: asyncio.Task[None] | None = None
        self._before: dict[int, Any] = {}
        self.came = False  # the run is to be cancelled

    def __enter__(self) -> Interrupts:
        """Take the signals."""
        loop = asyncio.get_running_loop()

        def take(number: int, frame: FrameType | None) -> None:
            self.came = True  # known at once: the loop may be busy with the start
            loop.call_soon_threadsafe(self._take)

        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, take)
        return self

    def __exit__(self, *exc: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for task in (self._task, self._last):
            if task is not None:
                task.cancel()

    async def begin(self) -> None:
        """Let a Ctrl-C of before take effect, which asyncio keeps until somebody waits."""
        await asyncio.sleep(0)

    def know(self, run_id: str, ref: str) -> None:
        """Learn which run it is."""
        self._ref = ref
        self._run_id.set_result(run_id)

    @contextlib.contextmanager
    def told_by(self, terminal: Terminal) -> Iterator[None]:
        """Say what is to be said in the terminal's picture meanwhile."""
        self._terminal = terminal
        if self.came:
            terminal.tell(_CANCELLING)
        try:
            yield
        finally:
            self._terminal = None

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more; the signal counts
            (say if self._terminal is None else self._terminal.tell)(text)

    def _take(self) -> None:
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._cancel(), name="cancel")
        elif self._task.done() or self._last is not None:
            self._leave()
        else:
            self._last = loop.create_task(self._leave_soon(self._task), name="leave")

    async def _cancel(self) -> None:
        """Cancel the run, as long as it takes to reach who can: the watching ends before us."""
        self._tell(_CANCELLING)
        run_id, key, told = await self._run_id, uuid.uuid4().hex, False
        while True:
            sending = asyncio.create_task(self._source.cancel(run_id, key=key), name="send cancel")
            try:
                await asyncio.wait({sending}, timeout=None if told else _HEARD_S)
                if not sending.done():  # a daemon that restarts is waited for
                    self._tell("Nobody answers yet. The run isn't cancelled yet.")
                    told = True
                await sending
            except UnreachableError as exc:
                if not told:
                    self._tell(f"{exc} The run isn't cancelled yet.")
                    told = True
                await asyncio.sleep(_AGAIN_S)
            except TailraceError as exc:
                self._tell(str(exc))
                return
            else:
                return
            finally:
                sending.cancel()

    async def _leave_soon(self, first: asyncio.Task[None]) -> None:
        await asyncio.wait({first}, timeout=_HEARD_S)
        self._leave()

    def _leave(self) -> None:
        text = "left; if the run was started, `tailrace runs` lists it"
        if self._ref:
            text = f"left; {self._ref} is on its own, `tailrace tail {self._ref}` shows it again"
        try:
            if self._terminal is not None:
                self._terminal.give_back()
            say(text)
            sys.stderr.flush()
        finally:
            # No exception: a thread may hang in a write to a pager that nobody reads.
            os._exit(LEFT)
