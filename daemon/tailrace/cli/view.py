"""The live tree: which steps are shown, how much of their output, and what stays at the end.

Layout alone, no terminal: `lay_out` gives what a terminal of some size shows
of a run at one moment, `lay_out_end` and `lay_out_summary` what stays when it
is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tailrace.cli.model import Model
from tailrace.cli.narrative_rows import call_rows, end_rows, text_rows, trimmed
from tailrace.cli.question_rows import question_rows
from tailrace.cli.rows import (
    Frame,
    Line,
    Span,
    Symbols,
    fault_line,
    output_lines,
    root_line,
    step_line,
    survivors_line,
    with_columns,
)
from tailrace.cli.visible import visible
from tailrace.core.events import Cost
from tailrace.core.run import StepState
from tailrace.core.units import format_cost, format_duration, format_size

MOST_TAIL: Final = 5  # lines of output beneath a running step
FAILURE_TAIL: Final = 20  # lines of output beneath a failed one, at the end
_BUSY: Final = frozenset({"running", "paused", "waiting", "retrying"})


def lay_out(model: Model, frame: Frame) -> list[Line]:
    """Return the rows for a run that is under way: at most ``height``, running steps first.

    Steps that don't fit are folded into lines that count them. What room is
    left goes to what running steps say: their tool calls, their text, else
    their output; then to what the last finished one has told, because a question
    may be about that. A question that the run asks stands below, in half of the rows at most.
    """
    steps = _present(model)
    frame = with_columns(frame, steps, ids_from=100)
    asked = question_rows(frame.asking, model.snapshot.ref, frame) if frame.asking else []
    asked = _fitting(asked, max(frame.height // 2, 3))
    below = {step.id: _below(model, step, frame) for step in steps if step.status in _BUSY}
    room = frame.height - 1 - bool(frame.hint) - len(asked)
    shown, tails, left = _share_out(below, steps, room)
    last = _last_to_tell(model, steps)
    hidden = [step for step in steps if step.id not in shown]
    rows = _folded((s for s in hidden if s.is_final), "finished", frame)
    for step in steps:
        if step.id in shown:
            said = trimmed(*below.get(step.id, ([], [])), tails.get(step.id, 0))
            if step is last:
                said = end_rows(model.of(step.id).said, frame)[:left]
            rows.append(_Row(step_line(model, step, frame), said))
    rows += _folded((s for s in hidden if s.status in _BUSY), "running", frame)
    rows += _folded((s for s in hidden if s.status == "pending"), "waiting", frame)
    lines = [root_line(model, frame), *_tree(rows, frame.symbols)]
    foot = [*asked, Line().add(frame.hint, "dim")] if frame.hint else asked
    return [*lines[: max(frame.height - len(foot), 0)], *foot][: max(frame.height, 1)]


def _fitting(asked: list[Line], rows: int) -> list[Line]:
    """Return a question in so many rows: its beginning, and the end, where the answer stands."""
    if len(asked) <= rows:
        return asked
    return [*asked[: rows - 2], *asked[-2:]]


def _last_to_tell(model: Model, steps: list[StepState]) -> StepState | None:
    """Return the finished step that was the last to say something, if any."""
    told = [step for step in steps if step.is_final and model.of(step.id).said.text]
    ended = model.ended
    return max(told, key=lambda step: ended.get(step.id, 0), default=None)


def _below(model: Model, step: StepState, frame: Frame) -> tuple[list[Line], list[Line]]:
    """Return what may stand beneath a step that runs: its calls, and its words."""
    live = model.of(step.id)
    calls = call_rows(live.said, frame)
    return calls, text_rows(live.said, frame) or output_lines(live.tail.lines(MOST_TAIL))


def lay_out_end(model: Model, frame: Frame) -> list[Line]:
    """Return the rows for a run that has ended: every step, and the last words of failed ones."""
    steps = _present(model)
    frame = with_columns(frame, steps, ids_from=60)
    rows = []
    for step in steps:
        below = end_rows(model.of(step.id).said, frame)
        if step.status == "error":
            fault = model.faults.get(step.id)
            if fault and step.finished is not None and fault != step.finished.cause:
                below.append(fault_line(fault))
            below += output_lines(model.of(step.id).tail.lines(FAILURE_TAIL))
        if survivors := survivors_line(step):
            below.append(survivors)
        rows.append(_Row(step_line(model, step, frame), below))
    return [root_line(model, frame), *_tree(rows, frame.symbols)]


def lay_out_summary(model: Model) -> tuple[str, list[Line]]:
    """Return the title and the lines of what the run came to."""
    run = model.snapshot
    took = f" in {format_duration(run.duration_ms)}" if run.duration_ms is not None else ""
    ended = {"success": "succeeded", "error": "failed", "aborted": "aborted"}
    title = f"{run.ref} {ended.get(run.status, run.status)}{took}"
    lines: list[Line] = []
    said = run.cause if run.status != "success" else model.message
    if said:
        lines.append(Line().add(visible(said.replace("\n", " "))))
    lines += [
        Line().add("note    ", "dim").add(visible(notice.replace("\n", " ")))
        for notice in model.notices[-3:]
    ]
    if model.spent != Cost():
        spent = format_cost(model.spent.usd, model.spent.tokens_in, model.spent.tokens_out)
        lines.append(Line().add("cost    ", "dim").add(spent))
    if run.file_url:
        lines.append(Line().add("report  ", "dim").add(visible(run.file_url), "address"))
    return title, lines + list(_artifact_lines(model))


def _artifact_lines(model: Model) -> Iterator[Line]:
    others = [a for a in model.snapshot.artifacts if a.url != model.snapshot.file_url]
    for n, artifact in enumerate(others):
        if n == 8 and len(others) > 9:
            yield Line().add(f"        and {len(others) - n} more", "dim")
            return
        line = Line().add("files   " if n == 0 else "        ", "dim")
        yield line.add(visible(artifact.name)).add(f"  {format_size(artifact.bytes)}", "dim")


def _present(model: Model) -> list[StepState]:
    return [step for step in model.snapshot.steps.values() if step.status != "absent"]


# ---- which steps, and how much of their output -----------------------------------------------


def _share_out(
    below: dict[str, tuple[list[Line], list[Line]]], steps: list[StepState], room: int
) -> tuple[set[str], dict[str, int], int]:
    """Return the steps to show, how many of the rows *below* each one gets, and what is left."""
    busy = [step for step in steps if step.status in _BUSY]
    wanted = {step_id: len(calls) + len(words) for step_id, (calls, words) in below.items()}
    for_output = min(sum(wanted.values()), max(room // 2, room - len(steps)))
    shown = _chosen(steps, max(room - for_output, min(len(busy) + 2, room), 1))
    left = room - len(shown) - _folds(steps, shown)
    tails = dict.fromkeys(wanted, 0)
    while left > 0:
        hungry = [i for i in wanted if i in shown and tails[i] < wanted[i]]
        if not hungry:
            break
        for step_id in hungry[:left]:
            tails[step_id] += 1
            left -= 1
    return shown, tails, max(left, 0)


def _chosen(steps: list[StepState], rows: int) -> set[str]:
    """Choose the steps that fit in *rows*, together with the lines that count the others."""
    pending = [step for step in steps if step.status == "pending"]
    finished = [step for step in steps if step.is_final]
    by_worth = [
        *(step for step in steps if step.status in _BUSY),
        *(step for step in finished if step.status == "error"),
        *pending[:2],  # what comes next
        *(step for step in reversed(finished) if step.status != "error"),
        *pending[2:],
    ]
    for count in range(min(rows, len(steps)), 0, -1):
        shown = {step.id for step in by_worth[:count]}
        if count + _folds(steps, shown) <= rows:
            return shown
    return set()


def _folds(steps: list[StepState], shown: set[str]) -> int:
    """Return how many lines it takes to count the steps that aren't shown."""
    hidden = (step for step in steps if step.id not in shown)
    return len({0 if s.is_final else 1 if s.status in _BUSY else 2 for s in hidden})


def _folded(hidden: Iterable[StepState], what: str, frame: Frame) -> list[_Row]:
    steps = list(hidden)
    if not steps:
        return []
    line = Line().add(f"{frame.symbols.ellipsis} {len(steps)} more {what}", "dim")
    if failed := sum(step.status == "error" for step in steps):
        line.add(f", {failed} failed", "bad")
    return [_Row(line, [])]


# ---- the tree --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    line: Line
    below: list[Line]


def _tree(rows: list[_Row], symbols: Symbols) -> Iterator[Line]:
    for n, row in enumerate(rows):
        is_last = n == len(rows) - 1
        row.line.spans.insert(0, Span(symbols.last if is_last else symbols.branch, "guide"))
        yield row.line
        trunk = " " * len(symbols.trunk) if is_last else symbols.trunk
        for line in row.below:
            line.spans.insert(0, Span(trunk + "  ", "guide"))
            yield line
