"""Writing to standard output: events as NDJSON, output as plain or raw lines.

Nothing is written while the loop runs on: a pipe whose reader waits (a pager)
would keep Ctrl-C from being heard, so that each batch is written by a thread.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

from tailrace import wire
from tailrace.cli.lines import Joiner
from tailrace.cli.narrative_lines import NARRATED, NarrativeLines
from tailrace.cli.notes import note_of, plan_ref
from tailrace.cli.visible import visible, visible_json
from tailrace.core import events
from tailrace.core.lines import strip_ansi

_COLOURS: Final = ("36", "33", "35", "32", "34", "96", "93", "95", "92", "94")


class Show(Protocol):
    """What a run's frames are given to, in order."""

    async def take(self, frames: Sequence[wire.Frame]) -> None:
        """Show the next frames."""


class JsonLines:
    """Every event as the stream has it, one object a line."""

    async def take(self, frames: Sequence[wire.Frame]) -> None:
        """Write the frames."""
        await write(_json(wire.ndjson_frames(frames)))


class RawText:
    """Output alone, as it came, of all the steps shown; colours and nothing else to a terminal."""

    def __init__(self, *, to_terminal: bool) -> None:
        self._to_terminal = to_terminal

    async def take(self, frames: Sequence[wire.Frame]) -> None:
        """Write the frames' output."""
        pieces = []
        for frame in frames:
            if frame.event == "log":
                log = wire.decode_log(frame.data)
                pieces.append(log.text if log.open else log.text + "\n")
        text = "".join(pieces)
        await write((visible(text) if self._to_terminal else text).encode())


class PlainLines:
    """Output as ``step | text``, each line once it has ended; what else happens goes to *note*.

    In a terminal steps have colours and so may the text; elsewhere lines hold
    no escape sequences. ``matches`` picks the lines to show.
    """

    def __init__(
        self,
        *,
        to_terminal: bool = False,
        colours: bool = False,
        note: Callable[[str], None] | None = None,
        matches: Callable[[str], bool] | None = None,
    ) -> None:
        self._to_terminal = to_terminal
        self._colours = colours
        self._note = note or _nothing
        self._matches = matches
        self._joiners: dict[str, Joiner] = {}
        self._heads: dict[str, str] = {}
        self._narrative = NarrativeLines()
        self._ref = ""

    async def take(self, frames: Sequence[wire.Frame]) -> None:
        """Write the lines that end with these frames."""
        out: list[str] = []
        for frame in frames:
            if frame.event == "log":
                log = wire.decode_log(frame.data)
                joiner = self._joiners.get(log.step)
                if joiner is None:
                    joiner = self._joiners[log.step] = Joiner()
                self._put(out, log.step, joiner.take(log.text, is_open=log.open))
                continue
            if frame.event in NARRATED:
                self._put(out, frame.step or "", self._narrative.take(frame))
                continue
            if frame.event in ("step_finished", "step_retrying", *events.LAST_EVENTS):
                self._end_lines(out, frame.step)
            if frame.event == "plan":
                self._ref = plan_ref(frame)
            if (said := note_of(frame, self._ref)) is not None:
                if out:  # in its place, where both go to one terminal
                    await write("".join(out).encode())
                    out.clear()
                self._note(said)
        if out:
            await write("".join(out).encode())

    def _end_lines(self, out: list[str], step: str | None) -> None:
        for name in [step] if step else list(self._joiners):
            joiner = self._joiners.pop(name, None)
            if joiner is not None:
                self._put(out, name, joiner.end())
        for name, rest in self._narrative.end(step):
            self._put(out, name, rest)

    def _put(self, out: list[str], step: str, text: str | None) -> None:
        if text is None:
            return
        if self._matches is not None:
            lines = [line for line in text.split("\n") if self._matches(strip_ansi(line))]
            if not lines:
                return
            text = "\n".join(lines)
        if self._to_terminal:
            text = visible(text)
        if not self._colours and "\x1b" in text:  # by lines: an open sequence ends with its own
            text = "\n".join(map(strip_ansi, text.split("\n")))
        head = self._heads.get(step)
        if head is None:
            head = self._heads[step] = self._head(step)
        out.append(head + text.replace("\n", "\n" + head) + "\n")

    def _head(self, step: str) -> str:
        if not self._colours:
            return f"{step} | "
        colour = _COLOURS[len(self._heads) % len(_COLOURS)]
        return f"\x1b[{colour}m{step}\x1b[90m |\x1b[0m "


def _nothing(text: str) -> None:
    del text


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return os.isatty(sys.stdout.fileno())


def has_colours() -> bool:
    """Whether colours are wanted there (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    return is_terminal() and not plain


async def write(data: bytes) -> None:
    """Write bytes to standard output at once.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    if data:
        await asyncio.to_thread(_write, data)


async def write_bytes(first: bytes, others: AsyncIterator[bytes]) -> None:
    """Write a file to standard output as it is; to a terminal as text, colours and nothing else."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace") if is_terminal() else None

    async def put(data: bytes, *, final: bool = False) -> None:
        await write(visible(decoder.decode(data, final)).encode() if decoder else data)

    await put(first)
    async for data in others:
        await put(data)
    await put(b"", final=True)


def _write(data: bytes) -> None:
    sys.stdout.flush()
    fd = sys.stdout.fileno()
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def print_json(value: object) -> None:
    """Write a value as JSON in one line, for programs."""
    _write(_json(wire.encode_json(value)) + b"\n")


def _json(data: bytes) -> bytes:
    """Return JSON as it may be written: what steers a terminal is escaped where one reads it."""
    return visible_json(data.decode()).encode() if is_terminal() else data


def print_text(text: str) -> None:
    """Write text, which may come from outside, as lines of its own."""
    _write((visible(text) if is_terminal() else text).encode() + b"\n")


def say(text: str) -> None:
    """Write a note for the person at the terminal to standard error, as ``tailrace: TEXT``."""
    for line in text.split("\n"):
        sys.stderr.write(f"tailrace: {visible(line)}\n")
    sys.stderr.flush()
