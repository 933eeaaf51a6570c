"""What the tools take and give: each type's JSON Schema is what clients are told."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from tailrace.mcp.lines import LogLine, Progress

LONGEST_WAIT_S: Final = 50  # clients give a call a minute
TOKENS: Final = 2_000
MOST_TOKENS: Final = 20_000

RunName = Annotated[
    str, Meta(description="A run's id, ref such as analyze/42, id prefix, or `latest`")
]
Budget = Annotated[
    int, Meta(ge=100, le=MOST_TOKENS, description="How many tokens the answer may take, about")
]


# ---- arguments -------------------------------------------------------------------------------


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all arguments."""


class ListPipelines(Arguments, frozen=True, kw_only=True):
    """Of ``list_pipelines``: none."""


class StartRun(Arguments, frozen=True, kw_only=True):
    """Of ``start_run``."""

    pipeline: Annotated[str, Meta(description="A name that list_pipelines tells")]
    params: Annotated[
        dict[str, Any],
        Meta(
            description="Its params by name",
            extra_json_schema={
                "additionalProperties": {"type": ["string", "number", "boolean", "null"]}
            },
        ),
    ] = {}
    depth: Annotated[str, Meta(description="One of its depths; else its default")] | None = None


class RunStatus(Arguments, frozen=True, kw_only=True):
    """Of ``run_status``."""

    run: RunName
    wait_s: Annotated[
        float,
        Meta(
            ge=0,
            le=LONGEST_WAIT_S,
            description="Wait so many seconds at most for its end, or for a question it asks",
        ),
    ] = 0


class TailRun(Arguments, frozen=True, kw_only=True):
    """Of ``tail_run``."""

    run: RunName
    step: Annotated[str, Meta(description="Only this step's output")] | None = None
    tokens: Budget = TOKENS
    after: Annotated[
        int, Meta(ge=0, description="Only what came after: `last_seq` of an earlier answer")
    ] = 0
    upto: (
        Annotated[
            int,
            Meta(
                ge=1,
                description="End with this line of the step: what led to a line that was found",
            ),
        ]
        | None
    ) = None


class SearchLog(Arguments, frozen=True, kw_only=True):
    """Of ``search_log``."""

    run: RunName
    pattern: Annotated[str, Meta(max_length=256, description="RE2; (?i) ignores case")]
    step: Annotated[str, Meta(description="Only this step's output")] | None = None
    most: Annotated[int, Meta(ge=1, le=100, description="How many lines at most")] = 20
    tokens: Budget = TOKENS


class FirstFailure(Arguments, frozen=True, kw_only=True):
    """Of ``first_failure``."""

    run: RunName
    tokens: Budget = TOKENS


class CancelRun(Arguments, frozen=True, kw_only=True):
    """Of ``cancel_run``."""

    run: RunName
    reason: (
        Annotated[str, Meta(max_length=1000, description="One sentence; it is kept in the run")]
        | None
    ) = None


class AnswerPrompt(Arguments, frozen=True, kw_only=True):
    """Of ``answer_prompt``."""

    run: RunName
    prompt: Annotated[str, Meta(description="The question's id, as run_status tells it")]
    answer: Annotated[str, Meta(max_length=10_000, description="One of its choices, if it has any")]


class ProgressUpdate(Arguments, frozen=True, kw_only=True):
    """Of ``progress_update``."""

    run: RunName
    stage: (
        Annotated[str, Meta(max_length=200, description="What is being done: Reading the diff")]
        | None
    ) = None
    percent: Annotated[float, Meta(ge=0, le=100, description="How far it is")] | None = None
    note: Annotated[str, Meta(max_length=1000, description="A detail: 12 of 30 files")] | None = (
        None
    )
    step: (
        Annotated[str, Meta(description="The running step it is about; needed where several run")]
        | None
    ) = None


# ---- results ---------------------------------------------------------------------------------


class Param(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline's param."""

    name: str
    type: str
    required: bool
    default: Any = None
    choices: tuple[Any, ...] = ()
    help: str = ""


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline; one with mistakes can't be run."""

    name: str
    description: str
    params: tuple[Param, ...]
    depths: tuple[str, ...]
    default_depth: str | None
    steps: tuple[str, ...]
    mistakes: tuple[str, ...]


class Pipelines(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``list_pipelines``."""

    pipelines: tuple[Pipeline, ...]


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``start_run``: ``id`` and ``ref`` are null where no run was made."""

    id: str | None
    ref: str | None
    status: str | None
    reason: str | None = None  # why there is none


class StepState(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a run."""

    step: str
    label: str
    status: str
    attempt: int
    cause: str | None = None
    cause_code: str | None = None
    returncode: int | None = None
    duration_ms: int | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """An open prompt."""

    id: str
    step: str
    question: str
    choices: tuple[str, ...] = ()
    default: str | None = None
    expires_at: str | None = None


class File(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact."""

    name: str
    step: str
    bytes: int
    url: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``run_status``, and the text of a run's resource."""

    id: str
    ref: str
    pipeline: str
    depth: str | None
    params: dict[str, Any]
    status: str
    cause: str | None
    cause_code: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    last_seq: int
    steps: tuple[StepState, ...]
    prompts: tuple[Question, ...]
    artifacts: tuple[File, ...]
    file_url: str | None


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``tail_run``."""

    id: str
    ref: str
    status: str
    lines: tuple[LogLine, ...]
    left_out: bool  # there are earlier lines that didn't fit
    progress: tuple[Progress, ...]  # of the steps that run
    last_seq: int


class Matches(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``search_log``."""

    id: str
    ref: str
    lines: tuple[LogLine, ...]
    matches: int  # all of them, also those that didn't fit
    complete: bool  # false: the search took too long, and ended before the output did


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``first_failure``; ``step`` is null where no step has failed."""

    id: str
    ref: str
    status: str
    cause: str | None  # the run's
    step: StepState | None
    lines: tuple[LogLine, ...]
    left_out: bool


class Steered(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``cancel_run``, ``answer_prompt`` and ``progress_update``."""

    id: str
    ref: str
    status: str
