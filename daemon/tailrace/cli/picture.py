"""Styled lines on a console: the end of a run, tables, and the console itself."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Final

from rich.box import ASCII2, ROUNDED
from rich.cells import cell_len
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text
from rich.theme import Theme

from tailrace.cli.model import Model
from tailrace.cli.rows import ASCII, STYLES, UNICODE, Frame, Line, Symbols
from tailrace.cli.view import lay_out_end, lay_out_summary

THEME: Final = Theme(
    {
        "good": "green", "bad": "red", "warn": "yellow", "run": "cyan", "dim": "bright_black",
        "strong": "bold", "note": "cyan", "output": "dim", "guide": "bright_black",
        "bar": "green", "bar_rest": "bright_black", "address": "bold underline",
    },
    inherit=False,
)  # fmt: skip
_SIZE: Final = re.compile("[1-9][0-9]{0,3}")  # another one is no size of a window
_PIPE_WIDTH: Final = 160  # where there is no terminal that says


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the error pass: `tailrace.cli.main` has one exit status for all commands."""
        raise BrokenPipeError


def make_console() -> Console:
    """Return a console on standard output that honours NO_COLOR and TERM."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES") or _SIZE.fullmatch(value)
    }
    width = None if sys.stdout.isatty() else int(environ.get("COLUMNS", _PIPE_WIDTH))
    return _Console(
        theme=THEME, highlight=False, markup=False, emoji=False, width=width, _environ=environ
    )


def symbols_for(console: Console) -> Symbols:
    """Return the signs that the console's encoding has."""
    return UNICODE if console.encoding.lower().startswith("utf") else ASCII


def text_of(line: Line, width: int | None = None) -> Text:
    """Return *line* as rich's text, cut to *width* cells with its right part at the edge."""
    text = Text(no_wrap=True, overflow="crop")
    for span in line.spans:
        if "\x1b" in span.text:
            text.append_text(Text.from_ansi(span.text, style=span.style, end=""))
        else:
            text.append(span.text, span.style)
    if width is None:
        return text
    right = line.right if len(line.right) + 12 <= width else ""
    room = width - (len(right) + 2 if right else 0)
    if text.cell_len > room:
        text.truncate(room, overflow="ellipsis")
    if right:
        text.append(" " * (room - text.cell_len + 2) + right, "dim")
    return text


def frame_of(console: Console) -> Frame:
    """Return what a picture on that console depends on, now."""
    width, height = console.size
    return Frame(width=width - 1, height=height, now=time.time(), symbols=symbols_for(console))


def print_end(console: Console, model: Model) -> None:
    """Print every step of a run, and what it came to, if it has ended."""
    frame = frame_of(console)
    for line in lay_out_end(model, frame):
        console.print(text_of(line, frame.width))
    if model.snapshot.is_final:
        _print_summary(console, model, console.width)


def _print_summary(console: Console, model: Model, width: int) -> None:
    style = STYLES.get(model.snapshot.status, "")
    title_style = console.get_style(style) + console.get_style("strong")
    title, lines = lay_out_summary(model)
    rows = [text_of(line) for line in lines]
    needed = max([cell_len(title) + 2, *(row.cell_len for row in rows)]) + 6
    console.print()
    if needed <= width:
        box = ROUNDED if symbols_for(console) is UNICODE else ASCII2
        heading = Text.assemble(" ", (title, title_style), " ")
        console.print(
            Panel(
                Group(*rows), box=box, title=heading, title_align="left", border_style=style,
                padding=(0, 2), width=max(needed, min(48, width)),
            )
        )  # fmt: skip
        return
    # Too narrow for a frame: an address in one piece is worth more than a border.
    console.print(Text(title, title_style))
    for row in rows:
        row.no_wrap = False
        console.print(row, soft_wrap=True)


def print_table(console: Console, head: Sequence[str], rows: Iterable[Sequence[Line]]) -> None:
    """Print cells in columns; in a terminal the last one is cut at the edge."""
    table = [[Line().add(title, "dim") for title in head], *rows]
    widths = [max(cell_len(row[i].plain()) for row in table) for i in range(len(head) - 1)]
    for cells in table:
        line = Line()
        for cell, width in zip(cells[:-1], widths, strict=True):
            line.spans += cell.spans
            line.add(" " * (width - cell_len(cell.plain()) + 2))
        line.spans += cells[-1].spans
        text = text_of(line, console.width - 1 if console.is_terminal else None)
        text.rstrip()
        console.print(text, soft_wrap=not console.is_terminal)
