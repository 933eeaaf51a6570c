"""The rows of the live tree: one step, its progress, its end, as styled text.

Every text from outside goes through `tailrace.cli.visible.visible` here and
may hold colours, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from rich.cells import cell_len, set_cell_size

from tailrace import wire
from tailrace.cli.model import Live, Model
from tailrace.cli.question import Asking
from tailrace.cli.visible import visible
from tailrace.core.events import Cost, Progress
from tailrace.core.run import StepState
from tailrace.core.units import format_cost, format_duration, format_size, format_usd

_RIGHT: Final = 11  # cells of the longest time at the right edge, and of the blanks before it


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line; ``style`` is a name of `tailrace.cli.picture.THEME`."""

    text: str
    style: str = ""


@dataclass(slots=True)
class Line:
    """One row: spans from the left, and ``right`` at the right edge."""

    spans: list[Span] = field(default_factory=list)
    right: str = ""

    def add(self, text: str, style: str = "") -> Line:
        """Append a span and return the line."""
        if text:
            self.spans.append(Span(text, style))
        return self

    def plain(self) -> str:
        """Return the text without styles."""
        text = "".join(span.text for span in self.spans)
        return f"{text}  {self.right}" if self.right else text


@dataclass(frozen=True, slots=True)
class Symbols:
    """The signs of the tree."""

    branch: str
    last: str
    trunk: str
    spinner: str
    bar: str
    dot: str
    ellipsis: str
    tool: str
    cursor: str
    status: dict[str, str]


UNICODE: Final = Symbols(
    branch="├─ ",
    last="└─ ",
    trunk="│  ",
    spinner="⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏",
    bar="━",
    dot=" · ",
    ellipsis="…",
    tool="⚒",
    cursor="▏",
    status={
        "pending": "○", "queued": "○", "success": "✓", "error": "✗", "aborted": "■",
        "skipped": "⊘", "retrying": "↻", "paused": "‖", "waiting": "?",
    },
)  # fmt: skip
ASCII: Final = Symbols(  # where the terminal's encoding has no better
    branch="|- ",
    last="`- ",
    trunk="|  ",
    spinner="|/-\\",
    bar="=",
    dot=" - ",
    ellipsis="~",
    tool="*",
    cursor="_",
    status={
        "pending": ".", "queued": ".", "success": "+", "error": "x", "aborted": "#",
        "skipped": "/", "retrying": "@", "paused": "=", "waiting": "?",
    },
)  # fmt: skip

STYLES: Final = {
    "success": "good", "error": "bad", "aborted": "warn", "skipped": "dim", "pending": "dim",
    "queued": "dim", "running": "run", "retrying": "warn", "paused": "warn", "waiting": "warn",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a picture depends on besides the run."""

    width: int
    height: int
    now: float  # seconds since 1970
    symbols: Symbols = UNICODE
    hint: str = ""  # the last row
    asking: Asking | None = None  # the question above it
    can_answer: bool = False  # whether it is answered by typing here
    labels: int = 0  # cells of the column that labels are in
    ids: int = 0  # likewise of ids, where they are shown


def with_columns(frame: Frame, steps: list[StepState], *, ids_from: int) -> Frame:
    """Return the frame with the cells that labels and ids get, so that what follows is in a column.

    Commands and causes name a step by its id; where labels differ, it has a column of
    its own in windows of *ids_from* cells or more.
    """
    labels = max((cell_len(_clean(step.label)) for step in steps), default=0)
    ids = max((cell_len(_own_id(step)) for step in steps), default=0)
    return replace(
        frame,
        labels=min(labels, max(8, int(frame.width * 0.4))),
        ids=min(ids, max(8, int(frame.width * 0.2))) if frame.width >= ids_from else 0,
    )


def _own_id(step: StepState) -> str:
    """Return what a step is called elsewhere, if its label doesn't say."""
    return "" if step.label.lower().replace(" ", "-") == step.id.lower() else _clean(step.id)


def spelled(value: object) -> str:
    """Return a param's value as it is given: booleans are ``true`` and ``false``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def root_line(model: Model, frame: Frame) -> Line:
    """Return the run's own row."""
    run = model.snapshot
    dot = frame.symbols.dot
    line = Line().add(_sign(run.status, frame), STYLES.get(run.status, "run"))
    line.add(f" {run.ref or run.id}", "strong")
    if run.depth:
        line.add(f"{dot}{run.depth}")
    if run.status == "queued":
        why = f" ({_clean(run.reason)})" if run.reason else ""
        line.add(f"{dot}queued{why}", "warn")
    elif run.status in ("paused", "waiting"):
        line.add(f"{dot}{run.status}", "warn")
    if model.spent != Cost() and not run.is_final:
        spent = model.spent
        line.add(dot).add(
            format_usd(spent.usd)
            if spent.usd
            else format_cost(spent.usd, spent.tokens_in, spent.tokens_out),
            "note",
        )
    for name, value in run.params.items():
        if value not in (None, ""):
            line.add(f"{dot}{name}={_clean(spelled(value))}", "dim")
    if run.duration_ms is not None:
        line.right = _duration(run.duration_ms)
    elif begun := run.started_at or run.created_at:
        line.right = short_duration(_since(begun, frame.now))
    return line


def step_line(model: Model, step: StepState, frame: Frame) -> Line:
    """Return a step's row."""
    if step.finished is not None:
        return _finished_line(step, model.of(step.id), frame)
    line = Line().add(_sign(step.status, frame), STYLES.get(step.status, "")).add(" ")
    if step.status == "pending":
        waits = f"needs {waits}" if (waits := _waits_for(model, step)) else ""
        _add_name(line, step, frame, waits, "dim")
        return line.add(f"  {waits}" if waits else "", "dim")
    live = model.of(step.id)
    now = Line()
    if step.attempt > 1:
        now.add(f"  attempt {step.attempt}", "warn")
    if step.status == "running":
        _add_activity(now, live, frame)
    elif step.status == "retrying":
        _add_wait(now, live, frame)
    else:
        now.add(f"  {step.status}", "warn")
    _add_name(line, step, frame, None if now.spans else "")
    line.spans += now.spans
    if step.started_at:
        line.right = short_duration(_since(step.started_at, frame.now))
    return line


def _finished_line(step: StepState, live: Live, frame: Frame) -> Line:
    finished = step.finished
    assert finished is not None
    style = "warn" if finished.allowed else STYLES[finished.status]
    line = Line().add(_sign(finished.status, frame), style).add(" ")
    said = []
    if finished.reused:
        said.append("reused")
    if finished.cause:
        said.append(_clean(finished.cause))
    elif finished.status in ("error", "aborted"):
        said.append(finished.status)
    if finished.allowed:
        said.append("allowed to fail")
    if finished.attempt > 1:
        said.append(f"{finished.attempt} attempts")
    if live.said.counted:
        said.append(live.said.counted)
    text = frame.symbols.dot.join(said)
    _add_name(line, step, frame, text)
    if said:
        tone = "dim" if finished.status in ("success", "skipped") else style
        line.add(f"  {text}", tone)
    if finished.status != "skipped" and not finished.reused:
        line.right = _duration(finished.duration_ms)
    return line


def _add_wait(line: Line, live: Live, frame: Frame) -> None:
    wait = ""
    if live.delay_until is not None and live.delay_until > frame.now:
        wait = f" in {max(1, round(live.delay_until - frame.now))}s"
    cause = f": {_clean(live.status)}" if live.status else ""
    line.add(f"  again{wait}{cause}", "warn")


def _add_activity(line: Line, live: Live, frame: Frame) -> None:
    progress = live.progress
    words = [live.status, live.said.counted]
    if progress is not None:
        words = [progress.stage, live.status or progress.note, _amount(progress), _rate(progress)]
    if progress is not None and progress.percent is not None:
        percent = max(0.0, min(progress.percent, 100.0))
        if frame.width >= 60:
            cells = min(30, frame.width // 4)
            done = int(percent / 100 * cells)
            line.add("  ").add(frame.symbols.bar * done, "bar")
            line.add(frame.symbols.bar * (cells - done), "bar_rest")
        line.add(f" {percent:3.0f}%", "strong")
    text = frame.symbols.dot.join(_clean(word) for word in words if word)
    line.add(f"  {text}" if text else "", "note")


def survivors_line(step: StepState) -> Line | None:
    """Return the row that names processes which outlived the step, None where there are none."""
    kill = step.finished.kill if step.finished is not None else None
    if kill is None or not kill.survivors:
        return None
    named = ", ".join(f"{s.pid} ({_clean(s.cmd)})" for s in kill.survivors)
    return Line().add(f"still alive: {named}", "bad")


def output_lines(lines: list[str]) -> list[Line]:
    """Return rows of a step's own output."""
    return [Line().add(visible(line).expandtabs(), "output") for line in lines]


def fault_line(text: str) -> Line:
    """Return a row with what went wrong."""
    return Line().add(_clean(text), "bad")


def _add_name(
    line: Line, step: StepState, frame: Frame, follows: str | None, style: str = ""
) -> None:
    """Add a step's label and id; a long label is cut where it would drive out what *follows*.

    None is what changes as time goes on: it stays in its column.
    """
    label, step_id = _clean(step.label), _own_id(step) if frame.ids else ""
    room = frame.labels
    if follows is not None:
        beside = len(frame.symbols.last) + 2 + (frame.ids + 2 if frame.ids else 0) + _RIGHT
        room = max(room, frame.width - beside - (cell_len(follows) + 2 if follows else 0))
    if frame.labels and cell_len(label) > room:
        label = set_cell_size(label, room - 1).rstrip() + frame.symbols.ellipsis
    if follows != "" or step_id:
        label = set_cell_size(label, max(frame.labels, cell_len(label)))
    line.add(label, style)
    if follows != "" and frame.ids:
        step_id = set_cell_size(step_id, max(frame.ids, cell_len(step_id)))
    line.add(f"  {step_id}" if step_id else "", "dim")


def _waits_for(model: Model, step: StepState) -> str:
    steps = model.snapshot.steps
    names = [steps[n].label for n in step.needs if n in steps and not steps[n].is_final]
    if len(names) > 2:
        return f"{len(names)} steps"
    return " and ".join(_clean(name) for name in names)


def _sign(status: str, frame: Frame) -> str:
    if status == "running":
        return frame.symbols.spinner[int(frame.now * 8) % len(frame.symbols.spinner)]
    return frame.symbols.status.get(status, " ")


def _amount(progress: Progress) -> str | None:
    if progress.done is None:
        return None
    if progress.unit in ("bytes", "B"):
        of = f"/{format_size(int(progress.total))}" if progress.total else ""
        return f"{format_size(int(progress.done))}{of}"
    of = f"/{progress.total:,.0f}" if progress.total else ""
    return f"{progress.done:,.0f}{of} {progress.unit or ''}".rstrip()


def _rate(progress: Progress) -> str | None:
    return f"{format_size(int(progress.rate))}/s" if progress.rate is not None else None


def _clean(text: str | None) -> str:
    return visible(_one_line(text or "")).expandtabs(1)


def _one_line(text: str) -> str:
    return text.replace("\n", " ")


def _duration(ms: int) -> str:
    """Return how long something took that is over."""
    return short_duration(ms) if ms >= 1_000 else format_duration(ms)


def _since(t: str, now: float) -> int:
    return max(0, int((now - wire.parse_timestamp(t)) * 1_000))


def short_duration(ms: int) -> str:
    """Return a duration that doesn't jump about while it grows: ``8.2s``, ``1m 05s``, ``2h 3m``."""
    if ms < 60_000:
        return f"{ms // 100 / 10:.1f}s"
    minutes, seconds = divmod(ms // 1_000, 60)
    return f"{minutes}m {seconds:02d}s" if minutes < 60 else format_duration(ms)
