"""Rows of the question that a run asks, beneath its tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rich.cells import cell_len

from tailrace import wire
from tailrace.cli.question import Asking, numbered
from tailrace.cli.rows import Frame, Line
from tailrace.cli.wrap import shown, wrap
from tailrace.core.events import Prompt
from tailrace.core.units import format_duration

_QUESTION: Final = 6  # rows at most
_CHOICES: Final = 9


def question_rows(asking: Asking, ref: str, frame: Frame) -> list[Line]:
    """Return the question with its choices, and the line that is typed or how else to answer."""
    prompt = asking.prompt
    if prompt is None:
        return []
    lines = _head(prompt, asking.more, frame)
    lines += choice_rows(prompt, frame)
    if not frame.can_answer:
        lines.append(Line().add("  answer with ", "dim").add(how_to_answer(ref, prompt), "strong"))
        return lines
    lines.append(_entry(asking, prompt, frame))
    if asking.said:
        lines += [Line().add(f"    {row}", "bad") for row in wrap(asking.said, frame.width - 4)[:3]]
    return lines


def open_question(prompt: Prompt, ref: str, frame: Frame) -> list[Line]:
    """Return a question that waits for its answer, and the command that gives it."""
    return question_rows(Asking(prompt=prompt), ref, replace(frame, can_answer=False))


def _head(prompt: Prompt, more: int, frame: Frame) -> list[Line]:
    about = [time_left(prompt, frame.now), f"{more} more after this" if more else ""]
    right = frame.symbols.dot.join(part for part in about if part)
    beside = len(right) + 2 if right and frame.width >= 60 else 0
    rows = wrap(prompt.question, frame.width - 2 - beside) or [shown(prompt.id)]
    if len(rows) > _QUESTION:
        rows = [*rows[: _QUESTION - 1], frame.symbols.ellipsis]
    first = Line().add(f"{frame.symbols.status['waiting']} ", "warn").add(rows[0], "strong")
    lines = [first, *(Line().add(f"  {row}", "strong") for row in rows[1:])]
    if beside:
        first.right = right
    elif right:
        lines.append(Line().add(f"  {right}", "dim"))
    return lines


def choice_rows(prompt: Prompt, frame: Frame) -> list[Line]:
    """Return the choices: in one row where they fit, else a row for each."""
    count = numbered(prompt)
    choices = [
        (f"{n} " if count else "", shown(choice.replace("\n", " ")), choice == prompt.default)
        for n, choice in enumerate(prompt.choices, 1)
    ]
    one = Line().add("   ")
    for number, text, is_default in choices:
        one.add(" ").add(number, "dim").add(text, "note")
        one.add(" (default)" if is_default else "", "dim").add("  ")
    if cell_len(one.plain()) <= frame.width:
        return [one] if choices else []
    shown_choices = choices if len(choices) <= _CHOICES else choices[: _CHOICES - 1]
    lines = []
    for number, text, is_default in shown_choices:
        line = Line().add(f"    {number}", "dim").add(text, "note")
        lines.append(line.add(" (default)" if is_default else "", "dim"))
    if left := len(choices) - len(shown_choices):
        lines.append(Line().add(f"    {frame.symbols.ellipsis} {left} more", "dim"))
    return lines


def _entry(asking: Asking, prompt: Prompt, frame: Frame) -> Line:
    if asking.sent is not None:
        return Line().add("  > ", "dim").add(_end_of(asking.sent, frame)).add("  sending", "dim")
    line = Line().add("  > ", "warn").add(_end_of(asking.editor.text, frame))
    line.add(frame.symbols.cursor, "strong")
    if not asking.editor.text and prompt.default is not None:
        line.add(f" Enter for {_end_of(prompt.default, frame)}", "dim")
    return line


def _end_of(text: str, frame: Frame) -> str:
    """Return the end of what is typed, which is what its writer looks at."""
    text = shown(text.replace("\n", " "))
    most = max(8, frame.width - 8)
    if cell_len(text) <= most:
        return text
    text = text[-most:]
    while cell_len(text) > most:
        text = text[1:]
    return frame.symbols.ellipsis + text


def time_left(prompt: Prompt, now: float) -> str:
    """Return how long an answer counts: ``4m 59s left``; nothing where it always does."""
    if prompt.expires_at is None:
        return ""
    left_s = max(0, int(wire.parse_timestamp(prompt.expires_at) - now))
    return f"{format_duration(left_s * 1_000) if left_s else '0s'} left"


def how_to_answer(ref: str, prompt: Prompt) -> str:
    """Return the command that answers a prompt from elsewhere."""
    return f"tailrace answer {ref} {shown(prompt.id)} TEXT"
