"""Sentences for people who read a run as plain lines: what happens besides its output."""

from __future__ import annotations

from typing import Final

import msgspec

from tailrace import wire
from tailrace.cli.question import numbered
from tailrace.core import events
from tailrace.core.units import format_cost, format_duration


def plan_ref(frame: wire.Frame) -> str:
    """Return the run's ref, from its ``plan``."""
    try:
        plan = wire.decode_event(frame.data)
    except msgspec.ValidationError:  # of a later version
        return ""
    return plan.ref if isinstance(plan, events.PlanEvent) else ""


def note_of(frame: wire.Frame, ref: str) -> str | None:
    """Return what people who read plain lines should know of a frame; *ref* is the run's."""
    if frame.event not in _NOTED:
        return None
    try:
        event = wire.decode_event(frame.data)
    except msgspec.ValidationError:  # of a later version
        return None
    match event:
        case events.PlanEvent():
            count = len(event.graph)
            return f"{event.ref} has {count} step{'s' if count > 1 else ''}"
        case events.Queued():
            return f"queued: {event.reason}" if event.reason else None
        case events.StepStarted() if event.attempt > 1:
            return f"{event.step}: attempt {event.attempt}"
        case events.StepRetrying():
            wait = format_duration(event.delay_ms)
            return f"{event.step}: attempt {event.attempt} failed: {event.cause}; again in {wait}"
        case events.StepFinished():
            return _end_of_step(event)
        case events.Prompt():
            return question_text(event, ref)
        case events.Answered():
            return _answered(event)
        case events.Fault():
            return f"{event.step}: {event.message}"
        case events.Notice():
            return event.text
        case events.Summary():
            why = f": {event.cause}" if event.cause else ""
            return _with_end(f"{event.status} in {format_duration(event.duration_ms)}{why}", event)
        case events.Aborted():
            took = format_duration(event.duration_ms)
            return _with_end(f"aborted after {took}: {event.reason}", event)
    return None


_NOTED: Final = frozenset(
    {"plan", "queued", "step_started", "step_retrying", "step_finished", "fault", "notice",
     "prompt", "answered", "summary", "aborted"}
)  # fmt: skip


def _end_of_step(event: events.StepFinished) -> str:
    how = "reused" if event.reused else event.status
    took = "" if event.status == "skipped" else f" in {format_duration(event.duration_ms)}"
    why = f": {event.cause}" if event.cause else ""
    allowed = ", which is allowed" if event.allowed else ""
    return f"{event.step}: {how}{took}{why}{allowed}"


def _with_end(text: str, event: events.Summary | events.Aborted) -> str:
    cost = event.cost
    if cost != events.Cost():
        text += f"\ncost: {format_cost(cost.usd, cost.tokens_in, cost.tokens_out)}"
    return f"{text}\nreport: {event.file_url}" if event.file_url else text


def question_text(prompt: events.Prompt, ref: str) -> str:
    """Return a question with its choices, and the command that answers it."""
    lines = [f"{prompt.id} asks: {prompt.question}"]
    for number, choice in enumerate(prompt.choices, 1):
        default = " (default)" if choice == prompt.default else ""
        lines.append(f"  {f'{number} ' if numbered(prompt) else ''}{choice}{default}")
    if prompt.default is not None and not prompt.choices:
        lines.append(f"  (default: {prompt.default})")
    until = f" until {prompt.expires_at}" if prompt.expires_at else ""
    return "\n".join([*lines, f"answer{until} with: tailrace answer {ref} {prompt.id} TEXT"])


def _answered(event: events.Answered) -> str:
    if event.via == "expiry":
        counts = "it has no default" if event.answer is None else f"'{event.answer}' counts"
        return f"{event.id}: nobody answered in time; {counts}"
    return f"{event.id}: {event.by or 'somebody'} answered '{event.answer}'"
