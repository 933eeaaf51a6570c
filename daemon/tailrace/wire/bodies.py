"""Bodies of the HTTP API, asked and answered: a list."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from tailrace.core import events


class StartRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /runs``."""

    pipeline: str
    params: dict[str, Any] = {}
    depth: str | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None
    keep_workspace: bool = False  # also after a success


class CancelBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST …/cancel`` and ``…/skip``.

    ``reason`` becomes the cause, one sentence for a person.
    """

    reason: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


class ExtendBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST …/extend``; ``by`` is a duration such as ``10m``."""

    by: str


class AnswerBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST …/answers/{prompt}``."""

    answer: Annotated[str, msgspec.Meta(max_length=10_000)]


class ProgressBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST …/progress``: what somebody else than a step tells of how far it is.

    Without ``step`` it is about the only one that runs.
    """

    stage: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    note: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    step: str | None = None


class PauseBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST …/pause`` and ``…/resume``: nothing."""


class RetryBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST …/retry``."""

    from_: str = msgspec.field(default="failed", name="from")


class LinkBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST …/links``.

    ``path`` is the step of a log, or the name of an artifact (by default the
    primary one); ``expires`` a duration.
    """

    what: Literal["events", "log", "artifact"]
    path: str | None = None
    expires: str = "1h"


class SignedLink(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to ``POST …/links``."""

    url: str
    expires_at: str


class CommandMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a WebSocket client sends; ``data`` is one of the bodies below, by ``event``."""

    event: str
    data: dict[str, Any] | None = None
    id: str | int | None = None  # done once for each, as with Idempotency-Key


class CancelData(CancelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``data`` of ``cancel``: of one step where it is named, else of the run."""

    step: str | None = None


class SkipData(CancelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``data`` of ``skip``."""

    step: str


class ExtendData(ExtendBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``data`` of ``extend``."""

    step: str


class AnswerData(AnswerBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``data`` of ``answer``; the prompt may be called ``id``, as in its own event."""

    prompt: str | None = None
    id: str | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``data`` of ``refused``: nothing was changed."""

    command: str | None
    reason: str
    id: str | int | None = None  # as it came with the command
    state: str | None = None  # of the run or step, where that is the reason


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """``data`` of the ``control`` that answers ``retry``; it is in no run's sequence."""

    event: Literal["control"] = "control"
    action: Literal["retry"] = "retry"
    by: str
    via: str
    step: None = None
    run: str  # the new one
    ref: str
    url: str


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step in ``GET /runs/{id}``: its place, and what ``step_finished`` says."""

    step: str
    label: str
    needs: tuple[str, ...]
    status: str
    attempt: int = 0
    allowed: bool = False
    reused: bool = False
    returncode: int | None = None
    signal: str | None = None
    cause: str | None = None
    cause_code: str | None = None
    started_at: str | None = None
    duration_ms: int | None = None
    lines: int = 0
    bytes: int = 0
    kill: events.Kill | None = None


class ArtifactView(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact in ``GET /runs/{id}``."""

    step: str
    name: str
    url: str
    bytes: int
    sha256: str
    media_type: str


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in lists and in ``GET /events``."""

    id: str
    ref: str
    pipeline: str
    depth: str | None
    params: dict[str, Any]
    status: str
    cause: str | None = None
    cause_code: str | None = None
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    duration_ms: int | None = None
    last_seq: int = 0
    url: str
    events_url: str
    file_url: str | None = None
    retry_of: str | None = None
    by: str = ""
    via: str = ""


class RunView(RunSummary, frozen=True, kw_only=True):
    """``GET /runs/{id}``."""

    steps: tuple[StepView, ...] = ()
    artifacts: tuple[ArtifactView, ...] = ()
    prompts: tuple[dict[str, Any], ...] = ()


class RunList(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /runs``."""

    runs: tuple[RunSummary, ...]
    next_cursor: str | None = None


class NoRun(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to ``POST /runs`` where ``on_conflict: skip`` made none."""

    run: None = None
    reason: str


class Steered(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a command that was taken: ``seq`` is that of its ``control`` or ``answered``."""

    run: str
    command: str
    step: str | None = None
    prompt: str | None = None
    seq: int | None = None
    changed: bool = True  # False: it was so already


class PipelineNode(msgspec.Struct, frozen=True, kw_only=True):
    """A step in ``GET /pipelines``, as the file has it: before depth and matrix."""

    id: str
    label: str
    needs: tuple[str, ...]
    depth: tuple[str, ...] = ()  # empty: in every depth
    matrix: dict[str, tuple[str, ...]] = {}
    when: str | None = None


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """A mistake in a pipeline's file."""

    where: str
    problem: str
    hint: str = ""
    position: str | None = None  # FILE:LINE:COLUMN


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """One of a pipeline's schedules."""

    cron: str
    timezone: str
    catch_up: str  # skip or once
    next_run_at: str | None = None
    last_run: str | None = None  # id of the last run that it started
    refusal: str | None = None  # why its last time started none


class PipelineView(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /pipelines/{name}``; where there are mistakes, only they and the last runs."""

    name: str
    description: str = ""
    params: dict[str, Any] = {}
    params_schema: dict[str, Any] = {}  # JSON Schema 2020-12
    depths: tuple[str, ...] = ()
    default_depth: str | None = None
    graph: tuple[PipelineNode, ...] = ()
    next_run_at: str | None = None  # the first of its schedules' times; None without a daemon
    schedules: tuple[ScheduleView, ...] = ()
    last_runs: tuple[RunSummary, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


class PipelineList(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /pipelines``."""

    pipelines: tuple[PipelineView, ...]
    next_cursor: str | None = None


class McpHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What a handshake with an MCP server came to."""

    name: str
    alive: bool
    tools: tuple[str, ...] = ()  # names
    error: str | None = None


DoctorStatus = Literal["ok", "warning", "problem"]


class DoctorCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at; ``check`` names it for programs."""

    check: str
    status: DoctorStatus
    text: str
    hint: str | None = None  # what to do next
    pipeline: str | None = None  # whose requirement it is; None: the machine's


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /doctor``; ``status`` is that of the worst check."""

    status: DoctorStatus
    version: str
    checks: tuple[DoctorCheck, ...]
    mcp: tuple[McpHealth, ...] = ()


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /healthz`` and ``/readyz``."""

    status: str
    version: str


class ProblemItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One mistake in a problem document."""

    where: str
    problem: str
    hint: str
    position: str | None = None  # FILE:LINE:COLUMN, of a mistake in a pipeline's file


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``application/problem+json`` (RFC 9457)."""

    type: str | None = None  # ours is always "about:blank"; others may leave it out
    title: str
    status: int
    detail: str = ""
    errors: tuple[ProblemItem, ...] = ()
    state: str | None = None  # of the run or step, with 409
