"""The tools: what each takes, does and gives, without a word of the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tailrace import wire
from tailrace.core.events import FINAL_RUN_STATUSES, StepFinished
from tailrace.core.line_pattern import line_pattern
from tailrace.errors import InvalidInputError, Problem, UnavailableError, UnknownError
from tailrace.mcp import messages as m
from tailrace.mcp.lines import Search, Tailing, most_lines, shortened, tokens_of
from tailrace.mcp.runs import Runs

_SEARCH_S: Final = 10.0
_READ_S: Final = 45.0  # clients give a call a minute
_FIRST_LOOK_S: Final = 0.05  # while waiting; doubled until
_LAST_LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool; its name, and the hints that clients show before they call it."""

    name: str
    title: str
    description: str
    arguments: type[m.Arguments]
    result: type[msgspec.Struct]
    call: Callable[[Runs, Any], Awaitable[msgspec.Struct]]
    read_only: bool = True
    destructive: bool = False
    idempotent: bool = True
    open_world: bool = False


async def _list_pipelines(runs: Runs, _asked: m.ListPipelines) -> m.Pipelines:
    return m.Pipelines(pipelines=tuple(_pipeline(view) for view in await runs.pipelines()))


def _pipeline(view: wire.PipelineView) -> m.Pipeline:
    return m.Pipeline(
        name=view.name,
        description=view.description,
        params=tuple(
            m.Param(
                name=name,
                type=param["type"],
                required=bool(param.get("required")),
                default=param.get("default"),
                choices=tuple(param.get("choices") or ()),
                help=param.get("help") or "",
            )
            for name, param in view.params.items()
        ),
        depths=view.depths,
        default_depth=view.default_depth,
        steps=tuple(node.id for node in view.graph),
        mistakes=tuple(
            str(Problem(item.where, item.problem, item.hint, item.position))
            for item in view.mistakes
        ),
    )


async def _start_run(runs: Runs, asked: m.StartRun) -> m.Started:
    wrong = [name for name, value in asked.params.items() if isinstance(value, dict | list)]
    if wrong:
        hint = "give text, a number, true or false"
        raise InvalidInputError([Problem(f"params.{name}", "is no value", hint) for name in wrong])
    params = {name: _text(value) for name, value in asked.params.items() if value is not None}
    run_id, reason = await runs.start(asked.pipeline, params, asked.depth)
    if run_id is None:
        return m.Started(id=None, ref=None, status=None, reason=reason)
    view = await runs.view(run_id)
    return m.Started(id=run_id, ref=view.ref, status=view.status)


def _text(value: str | float) -> str:
    """Return a param as the command line takes it; the pipeline knows its type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


async def _run_status(runs: Runs, asked: m.RunStatus) -> m.Status:
    run_id = await runs.resolve(asked.run)
    until, pause = time.monotonic() + asked.wait_s, _FIRST_LOOK_S
    while True:
        view = await runs.view(run_id)
        left_s = until - time.monotonic()
        if left_s <= 0 or view.status in FINAL_RUN_STATUSES or view.prompts:
            return status_of(view)
        await asyncio.sleep(min(pause, left_s))
        pause = min(pause * 2, _LAST_LOOK_S)


def status_of(view: wire.RunView) -> m.Status:
    """Return a run's state as models get it."""
    return m.Status(
        id=view.id, ref=view.ref, pipeline=view.pipeline, depth=view.depth, params=view.params,
        status=view.status, cause=view.cause, cause_code=view.cause_code,
        created_at=view.created_at, started_at=view.started_at, finished_at=view.finished_at,
        duration_ms=view.duration_ms, last_seq=view.last_seq,
        steps=tuple(_step(step) for step in view.steps),
        prompts=tuple(msgspec.convert(prompt, m.Question) for prompt in view.prompts),
        artifacts=tuple(
            m.File(name=item.name, step=item.step, bytes=item.bytes, url=item.url)
            for item in view.artifacts
        ),
        file_url=view.file_url,
    )  # fmt: skip


def _step(step: wire.StepView) -> m.StepState:
    return m.StepState(
        step=step.step, label=step.label, status=step.status, attempt=step.attempt,
        cause=step.cause, cause_code=step.cause_code, returncode=step.returncode,
        duration_ms=step.duration_ms,
    )  # fmt: skip


async def tail_run(runs: Runs, asked: m.TailRun) -> m.Lines:
    """Return the last lines that fit in the budget."""
    if asked.upto is not None and asked.step is None:
        raise InvalidInputError([Problem("upto", "is a line of one step", "name the step")])
    view = await _view(runs, asked.run, asked.step)
    tail = most_lines(asked.tokens) if asked.upto is None else None
    events = runs.past(view.id, tail=tail, step=asked.step)
    answer = m.Lines(
        id=view.id, ref=view.ref, status=view.status, lines=(), left_out=False, progress=(),
        last_seq=view.last_seq,
    )  # fmt: skip
    ended = view.status in FINAL_RUN_STATUSES
    tailing = Tailing(
        view.ref, asked.tokens - tokens_of(answer), after=asked.after, upto=asked.upto,
        progress=not ended,
    )  # fmt: skip
    attempt = next((each.attempt for each in view.steps if each.step == asked.step), 0)

    def is_enough() -> bool:
        """Whether the line was passed in the last attempt, and no progress is to be told."""
        return ended and tailing.is_beyond(attempt)

    await _read(view.ref, _take_all(events, tailing, _READ_S, is_enough))
    found = tailing.end()
    last_seq = view.last_seq if is_enough() else found.last_seq
    return msgspec.structs.replace(
        answer, lines=tuple(found.lines), left_out=found.left_out,
        progress=tuple(found.progress), last_seq=max(last_seq, asked.after),
    )  # fmt: skip


async def _take_all(
    events: AsyncGenerator[list[wire.Frame], None],
    taker: Search | Tailing,
    most_s: float,
    is_enough: Callable[[], bool] = lambda: False,
) -> bool:
    """Hand events on, in a thread that holds up nobody; return False where time was up."""
    until = time.monotonic() + most_s
    async with contextlib.aclosing(events):
        async for frames in events:
            await asyncio.to_thread(taker.take, frames)
            if is_enough():
                return True
            if time.monotonic() > until:
                return False
    return True


async def _read(ref: str, taking: Awaitable[bool]) -> None:
    """Wait until all is taken in.

    Raises:
        UnavailableError: time was up; lines of somewhere before would be taken for the last ones.
    """
    if not await taking:
        message = f"the output of {ref} couldn't be read within {_READ_S:g} seconds"
        hint = "ask for its last lines, without upto, or for what search_log finds"
        raise UnavailableError(f"{message}; {hint}", retry_after_s=1)


async def _search_log(runs: Runs, asked: m.SearchLog) -> m.Matches:
    try:
        pattern = line_pattern(asked.pattern)
    except ValueError as exc:
        raise InvalidInputError([Problem("pattern", str(exc))]) from None
    view = await _view(runs, asked.run, asked.step)
    answer = m.Matches(id=view.id, ref=view.ref, lines=(), matches=0, complete=True)
    tokens = asked.tokens - tokens_of(answer)
    search = Search(pattern, view.ref, most=asked.most, tokens=tokens)
    complete = await _take_all(runs.past(view.id, step=asked.step), search, _SEARCH_S)
    found = search.end(complete=complete)
    return msgspec.structs.replace(
        answer, lines=tuple(found.lines), matches=found.matches, complete=found.complete
    )


async def _first_failure(runs: Runs, asked: m.FirstFailure) -> m.Failure:
    view = await _view(runs, asked.run, None)
    failed = await _first_failed(runs, view)
    step = None
    if failed is not None:
        step = next((_step(each) for each in view.steps if each.step == failed), None)
    answer = m.Failure(
        id=view.id, ref=view.ref, status=view.status, cause=view.cause, step=step, lines=(),
        left_out=False,
    )  # fmt: skip
    if step is None:
        return _within(answer, asked.tokens)
    answer = _within(answer, asked.tokens)
    tailing = Tailing(view.ref, max(0, asked.tokens - tokens_of(answer)))
    events = runs.past(view.id, tail=most_lines(asked.tokens), step=step.step)
    await _read(view.ref, _take_all(events, tailing, _READ_S))
    tail = tailing.end()
    return msgspec.structs.replace(answer, lines=tuple(tail.lines), left_out=tail.left_out)


def _within(answer: m.Failure, tokens: int) -> m.Failure:
    """Return it with its texts cut where they take more than half of the tokens, or too many."""
    shown = answer
    for most, share in ((1000, 2), (500, 2), (200, 2), (100, 2), (50, 1), (20, 1), (5, 1)):
        step = answer.step and msgspec.structs.replace(
            answer.step, label=shortened(answer.step.label, most),
            cause=shortened(answer.step.cause, most),
        )  # fmt: skip
        shown = msgspec.structs.replace(answer, cause=shortened(answer.cause, most), step=step)
        if tokens_of(shown) <= tokens // share:
            break
    return shown


async def _first_failed(runs: Runs, view: wire.RunView) -> str | None:
    """Return the step that failed first; one whose failure is allowed only where no other has.

    Of a run that was stopped as a whole: the first step that this ended.
    """
    found: dict[str, str] = {}
    async with contextlib.aclosing(runs.past(view.id, tail=0)) as events:
        async for frames in events:
            for frame in frames:
                if frame.event == "step_finished":
                    end = wire.decode_event(frame.data)
                    assert isinstance(end, StepFinished)
                    kind = "allowed" if end.allowed else end.status
                    found.setdefault(kind, end.step)
    return found.get("error") or found.get("aborted") or found.get("allowed")


async def _view(runs: Runs, run: str, step: str | None) -> wire.RunView:
    view = await runs.view(await runs.resolve(run))
    if step is not None and all(each.step != step for each in view.steps):
        known = ", ".join(each.step for each in view.steps)
        raise UnknownError(f"{view.ref} has no step '{step}'; its steps: {known}")
    return view


async def _cancel_run(runs: Runs, asked: m.CancelRun) -> m.Steered:
    run_id = await runs.resolve(asked.run)
    await runs.cancel(run_id, asked.reason)
    return await _steered(runs, run_id)


async def _answer_prompt(runs: Runs, asked: m.AnswerPrompt) -> m.Steered:
    run_id = await runs.resolve(asked.run)
    await runs.answer(run_id, asked.prompt, asked.answer)
    return await _steered(runs, run_id)


async def _progress_update(runs: Runs, asked: m.ProgressUpdate) -> m.Steered:
    run_id = await runs.resolve(asked.run)
    body = wire.ProgressBody(
        stage=asked.stage, percent=asked.percent, note=asked.note, step=asked.step
    )
    await runs.progress(run_id, body)
    return await _steered(runs, run_id)


async def _steered(runs: Runs, run_id: str) -> m.Steered:
    view = await runs.view(run_id)
    return m.Steered(id=run_id, ref=view.ref, status=view.status)


TOOLS: Final = (
    Tool(
        name="list_pipelines",
        title="List pipelines",
        description="List the pipelines that can be run, with their params, depths and steps.",
        arguments=m.ListPipelines,
        result=m.Pipelines,
        call=_list_pipelines,
    ),
    Tool(
        name="start_run",
        title="Start a run",
        description="Start a run of a pipeline and return its id and ref at once. The run goes on "
        "by itself, whatever becomes of this connection; follow it with run_status and tail_run.",
        arguments=m.StartRun,
        result=m.Started,
        call=_start_run,
        read_only=False,
        idempotent=False,
        open_world=True,
    ),
    Tool(
        name="run_status",
        title="Show a run",
        description="Return a run's status, its steps, open questions and artifacts. With wait_s "
        "it answers when the run ends or asks something, so that nobody need ask again and again.",
        arguments=m.RunStatus,
        result=m.Status,
        call=_run_status,
    ),
    Tool(
        name="tail_run",
        title="Show a run's last lines",
        description="Return the last lines of a run's output that fit in a budget of tokens, each "
        "with its reference #RUN/STEP/Lnnn, secrets masked, and the progress of running steps.",
        arguments=m.TailRun,
        result=m.Lines,
        call=tail_run,
    ),
    Tool(
        name="search_log",
        title="Search a run's output",
        description="Return the first lines of a run's output that match an RE2 pattern, with "
        "their references #RUN/STEP/Lnnn, and how many match altogether.",
        arguments=m.SearchLog,
        result=m.Matches,
        call=_search_log,
    ),
    Tool(
        name="first_failure",
        title="Show what failed first",
        description="Return the step that failed first, why, and its last lines. A step whose "
        "failure is allowed counts only where no other has failed.",
        arguments=m.FirstFailure,
        result=m.Failure,
        call=_first_failure,
    ),
    Tool(
        name="cancel_run",
        title="Cancel a run",
        description="Cancel a run: its processes are ended, and steps that clean up still run.",
        arguments=m.CancelRun,
        result=m.Steered,
        call=_cancel_run,
        read_only=False,
        destructive=True,
    ),
    Tool(
        name="answer_prompt",
        title="Answer a question of a run",
        description="Answer an open question of a run. It can be answered once.",
        arguments=m.AnswerPrompt,
        result=m.Steered,
        call=_answer_prompt,
        read_only=False,
        idempotent=False,
    ),
    Tool(
        name="progress_update",
        title="Tell how far a step is",
        description="Tell those who watch a run how far its running step is: a stage, a percent, "
        "a note. It is thinned to four a second, and taken only while the step runs.",
        arguments=m.ProgressUpdate,
        result=m.Steered,
        call=_progress_update,
        read_only=False,
        idempotent=False,
    ),
)

BY_NAME: Final = {tool.name: tool for tool in TOOLS}


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return a type's JSON Schema (2020-12) with the object itself at its root, as MCP wants it."""
    (root,), parts = msgspec.json.schema_components(
        (kind,), ref_template="#/$defs/{name}"
    )  # fmt: skip
    name = root["$ref"].rpartition("/")[2]
    schema: dict[str, Any] = dict(parts.pop(name))
    del schema["title"], schema["description"]  # the code's own words
    return {**schema, "$defs": parts} if parts else schema


def arguments_of(tool: Tool, given: dict[str, Any]) -> m.Arguments:
    """Read a call's arguments; numbers may come as text, as some models send them.

    Raises:
        InvalidInputError: they don't fit.
    """
    known = ", ".join(tool.arguments.__struct_fields__) or "none"
    try:
        with contextlib.suppress(msgspec.ValidationError):  # what is text stays text if it may
            return msgspec.convert(given, tool.arguments)
        return msgspec.convert(given, tool.arguments, strict=False)
    except (msgspec.ValidationError, RecursionError) as exc:
        text, _, place = str(exc).partition(" - at `$")
        where = place.strip("`.") or "arguments"
        hint = f"{tool.name} takes: {known}"
        raise InvalidInputError([Problem(where, text, hint)]) from None


def text_of(result: msgspec.Struct) -> str:
    """Return a result as text: output line by line, everything else as JSON."""
    match result:
        case m.Lines() | m.Matches() | m.Failure():
            head = {
                name: value
                for name, value in msgspec.to_builtins(result).items()
                if name != "lines"
            }
            lines = [_line(line.ref, line.attempt, line.text) for line in result.lines]
            return "\n".join([wire.encode_json(head).decode(), *lines])
    return wire.encode_json(result).decode()


def _line(ref: str, attempt: int, text: str) -> str:
    return f"{ref} {text}" if attempt == 1 else f"{ref} (attempt {attempt}) {text}"
