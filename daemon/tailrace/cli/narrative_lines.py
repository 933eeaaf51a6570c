"""What steps narrate as plain lines: text as it streams, and each tool call once it has ended.

A line that was written can't be taken back: a result that replaces the text
follows it, unless it says only what is there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tailrace import wire
from tailrace.cli.lines import Joiner
from tailrace.cli.narrative import Call, Narrative
from tailrace.core import events
from tailrace.core.units import format_duration

NARRATED: Final = frozenset({"tool_call", "text", "citation", "result", "cost", "status"})


@dataclass(slots=True)
class _Step:
    said: Narrative = field(default_factory=Narrative)
    joiner: Joiner = field(default_factory=Joiner)


class NarrativeLines:
    """Takes the narrating events of a run's steps in order."""

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}

    def take(self, frame: wire.Frame) -> str | None:
        """Return the lines that end with this event, joined by newlines; None where none do."""
        if frame.event in ("status", "cost"):  # of the moment; and told once, in the end
            return None
        try:
            event = wire.decode_event(frame.data)
        except msgspec.ValidationError:  # of a later version
            return None
        step = self._steps.setdefault(frame.step or "", _Step())
        match event:
            case events.Text():
                step.said.take_text(event)
                return step.joiner.take(event.delta, is_open=True)
            case events.ToolCall():
                now = wire.parse_timestamp(wire.decode_record(frame.data).t)
                call = step.said.take_call(event, now)
                if event.phase == "started":
                    return step.joiner.end()  # what was said before it is a line of its own
                return _call_line(call)
            case events.Citation():
                return _source_line(event) if step.said.take_citation(event) else None
            case events.Result():
                return _result_lines(step, event)
            case _:
                return None

    def end(self, step: str | None) -> Iterator[tuple[str, str | None]]:
        """Give the steps that end now, one or all, with the last line of each."""
        for name in [step] if step is not None else list(self._steps):
            if (ended := self._steps.pop(name, None)) is not None:
                yield name, ended.joiner.end()


def _call_line(call: Call) -> str:
    took = "" if call.duration_ms is None else f" in {format_duration(call.duration_ms)}"
    return f"[{call.name}{', which failed' if call.is_error else ''}{took}]"


def _source_line(event: events.Citation) -> str:
    named = " ".join(part for part in (event.title, event.url) if part)
    return f"source: {' '.join(named.split())}"


def _result_lines(step: _Step, event: events.Result) -> str | None:
    rest = step.joiner.end()
    repeats = step.said.repeats(event)
    step.said.result = event
    if repeats:
        return rest
    head = "failed:" if event.is_error else "result:"
    text = event.text.rstrip("\n")
    said = f"{head}\n{text}" if "\n" in text else f"{head} {text}"
    return said if rest is None else f"{rest}\n{said}"
