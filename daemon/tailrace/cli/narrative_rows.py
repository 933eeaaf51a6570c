"""Rows of what a step narrates: while it runs the last of it, in the end what it came to."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len

from tailrace.cli.narrative import Call, Narrative
from tailrace.cli.rows import Frame, Line, short_duration
from tailrace.cli.wrap import shown, wrap

INDENT: Final = 5  # cells left of what is beneath a step
MOST_CALLS: Final = 4  # beneath a running step
MOST_TEXT: Final = 6
RESULT_ROWS: Final = 40  # of a result, in the end
_CITATIONS: Final = 12
_NAME: Final = 24  # cells that names of calls are brought to, where they fit


def text_rows(said: Narrative, frame: Frame) -> list[Line]:
    """Return the last rows of a step's text."""
    return [Line().add(row) for row in _last_rows(said.text, frame.width - INDENT)]


def trimmed(calls: list[Line], words: list[Line], rows: int) -> list[Line]:
    """Return so many rows of both, the last ones; each gets half before the other gets more."""
    for_words = min(len(words), max(rows - len(calls), (rows + 1) // 2))
    for_calls = min(len(calls), rows - for_words)
    return [*calls[len(calls) - for_calls :], *words[len(words) - for_words :]]


def _last_rows(text: str, width: int) -> list[str]:
    """Return the last rows of a text, without wrapping all of it."""
    near = text[-(MOST_TEXT + 2) * 2 * max(width, 20) :]
    if len(near) < len(text):
        near = near.partition("\n")[2] or near
    return [row for row in wrap(near, width) if row][-MOST_TEXT:]


def call_rows(said: Narrative, frame: Frame) -> list[Line]:
    """Return a row for each of the latest calls: those that ended last, then those under way."""
    under_way = [call for call in said.calls if not call.ended][-MOST_CALLS:]
    ended = [call for call in said.calls if call.ended]
    room = MOST_CALLS - len(under_way)
    shown_calls = [*ended[len(ended) - min(room, len(ended)) :], *under_way]
    return [_call_row(call, frame) for call in shown_calls]


def _call_row(call: Call, frame: Frame) -> Line:
    ms = call.duration_ms
    if not call.ended and call.began is not None:
        ms = max(0, int((frame.now - call.began) * 1_000))
    line = Line().add(f"{frame.symbols.tool} ", "bad" if call.is_error else "note")
    name = shown(call.name.replace("\n", " "))
    line.add(name.ljust(min(_NAME, frame.width // 3)), "" if call.ended else "strong")
    if ms is not None:
        line.add(f"  {short_duration(ms):>6}", "dim")
    if call.is_error:
        line.add("  failed", "bad")
    return line


def end_rows(said: Narrative, frame: Frame) -> list[Line]:
    """Return what stays of a narrative: the result, else the text, and the sources."""
    rows = wrap(said.text, frame.width - INDENT)
    left = len(rows) - RESULT_ROWS
    if said.result is None:  # a text that broke off: its end tells more
        rows = rows[-RESULT_ROWS:]
    style = "bad" if said.result is not None and said.result.is_error else ""
    lines = [Line().add(row, style) for row in rows[:RESULT_ROWS]]
    if left > 0:
        more = Line().add(f"{frame.symbols.ellipsis} {left} more rows", "dim")
        lines = [*lines, more] if said.result is not None else [more, *lines]
    return lines + citation_rows(said, frame)


def citation_rows(said: Narrative, frame: Frame) -> list[Line]:
    """Return the first sources; an address that doesn't fit beside its title has its own row."""
    lines = []
    for number, cited in enumerate(list(said.citations.values())[:_CITATIONS], 1):
        mark = f"[{number}] "
        title = shown(" ".join((cited.title or "").split()))
        url = shown(cited.url or "")
        line = Line().add(mark, "dim").add(title)
        if cell_len(f"{mark}{title}  {url}") <= frame.width - INDENT:
            lines.append(line.add("  " if title and url else "").add(url, "note"))
            continue
        rows = wrap(url, frame.width - INDENT - len(mark))
        lines += [line, *(Line().add(" " * len(mark)).add(row, "note") for row in rows)]
    more = len(said.citations) - _CITATIONS + said.left_out
    if more > 0:
        lines.append(Line().add(f"{frame.symbols.ellipsis} {more} more sources", "dim"))
    return lines
