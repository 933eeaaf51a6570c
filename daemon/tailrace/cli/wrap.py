"""Text for people broken into rows of so many cells."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells

from tailrace.cli.visible import visible
from tailrace.core.lines import strip_ansi


def shown(text: str) -> str:
    """Return *text* as it may be written to a terminal, without colours of its own."""
    return visible(strip_ansi(text).replace("\r\n", "\n")).expandtabs(4)


def wrap(text: str, width: int) -> list[str]:
    """Break *text* into rows of at most *width* cells: at blanks, else where they end.

    Lines keep their indentation, so that lists and code can be read; blank ones
    at either end are left out, and of several together all but one.
    """
    rows: list[str] = []
    for line in shown(text).split("\n"):
        if not line.strip():
            if rows and rows[-1]:
                rows.append("")
            continue
        rows += _wrapped(line.rstrip(), max(width, 4))
    while rows and not rows[-1]:
        rows.pop()
    return rows


def _wrapped(line: str, width: int) -> list[str]:
    words = line.split(" ")
    indent = ""
    while words and not words[0]:
        indent += " "
        words.pop(0)
    indent = indent if len(indent) <= width // 2 else ""
    hanging = indent + "  " if words[0] in ("-", "*", "+") else indent
    rows: list[str] = []
    row = indent + words[0]
    for word in words[1:]:
        if cell_len(row) + 1 + cell_len(word) <= width:
            row += f" {word}"
            continue
        rows.append(row)
        row = hanging + word
    rows.append(row)
    return [piece for row in rows for piece in _chopped(row, width)]


def _chopped(row: str, width: int) -> list[str]:
    return [row] if cell_len(row) <= width else chop_cells(row, width)
