"""The durable events of a run, section 2 of the contract: one type a row.

A field's name is its key on the wire and its type what a reader gets, so that
renaming one here changes what users rely on; ``tests/core/test_events.py``
holds a golden example of each. ``seq`` and ``t`` are not fields: the journal
gives them when it writes (`tailrace.wire.encode_record`).

A key without a value is null; the few keys that may be absent are ``UNSET``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

StepConclusion = Literal["success", "error", "skipped", "aborted"]
RunStatus = Literal["queued", "running", "paused", "waiting", "success", "error", "aborted"]
StepStatus = Literal[
    "pending", "running", "paused", "waiting", "retrying",
    "success", "error", "skipped", "aborted", "absent",
]  # fmt: skip
CauseCode = Literal[
    "exit", "signal", "timeout", "silence", "memory", "disk", "limit", "lost", "reboot",
    "needs", "when", "cancelled", "superseded", "budget", "expired", "requirement",
    "client_gone", "internal",
]  # fmt: skip

FINAL_RUN_STATUSES: Final = frozenset({"success", "error", "aborted"})
FINAL_STEP_STATUSES: Final = frozenset({"success", "error", "skipped", "aborted", "absent"})


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """A process that outlived an enforced stop."""

    pid: int
    cmd: str


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """What an enforced stop did."""

    mechanism: str  # "cgroup", "pidns" or "process_group"
    signalled: int  # processes that got SIGTERM
    forced: int  # processes that got SIGKILL
    survivors: tuple[Survivor, ...] = ()
    duration_ms: int


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """A step in ``plan``."""

    id: str
    label: str
    needs: tuple[str, ...]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of a run."""

    usd: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Base of all events."""


class PlanEvent(Event, frozen=True, kw_only=True, tag="plan"):
    """The first event: what will be done."""

    run: str
    ref: str
    pipeline: str
    depth: str | None
    params: dict[str, Any]
    by: str
    via: str
    retry_of: str | None
    steps: tuple[str, ...]  # labels
    graph: tuple[GraphNode, ...]


class Queued(Event, frozen=True, kw_only=True, tag="queued"):
    """Accepted and in line; ``position`` 0 when it may start at once."""

    position: int
    reason: str | None
    group: str | None


class Started(Event, frozen=True, kw_only=True, tag="started"):
    """A runner executes it; on disk before the first process."""

    worker: str
    containment: str


class StepStarted(Event, frozen=True, kw_only=True, tag="step_started"):
    """An attempt begins."""

    step: str
    label: str
    attempt: int
    cmd: str | UnsetType = UNSET  # absent with ``echo: false``
    host: str | None


class LogRecord(Event, frozen=True, kw_only=True, tag="log"):
    """A slice of an attempt's log, as the journal keeps it.

    Watchers get ``text`` in place of ``offset`` and ``bytes``. ``line`` is the
    number of the slice's first line, from 1; ``open`` says that its last line
    hasn't ended.
    """

    step: str
    attempt: int
    line: int
    open: bool | UnsetType = UNSET
    offset: int
    bytes: int


class Progress(Event, frozen=True, kw_only=True, tag="progress"):
    """How far a step is."""

    step: str
    label: str
    percent: float | None = None
    stage: str | None = None
    note: str | None = None
    done: float | None = None
    total: float | None = None
    unit: str | None = None
    rate: float | None = None


class Status(Event, frozen=True, kw_only=True, tag="status"):
    """What a step says it is doing."""

    step: str
    text: str


class ToolCall(Event, frozen=True, kw_only=True, tag="tool_call"):
    """A tool begins or ends; never its input or output."""

    step: str
    id: str | None
    name: str
    server: str | None = None
    phase: Literal["started", "finished"]
    is_error: bool | None = None
    duration_ms: int | None = None


class Text(Event, frozen=True, kw_only=True, tag="text"):
    """A piece of text that a step narrates."""

    step: str
    delta: str


class Citation(Event, frozen=True, kw_only=True, tag="citation"):
    """A source that a step names."""

    step: str
    id: str | None
    title: str | None
    url: str | None


class CostEvent(Event, frozen=True, kw_only=True, tag="cost"):
    """What a step spent, and the run's totals."""

    step: str
    usd: float
    tokens_in: int
    tokens_out: int
    total_usd: float
    total_tokens_in: int
    total_tokens_out: int


class Result(Event, frozen=True, kw_only=True, tag="result"):
    """Replaces every ``text`` delta of the step."""

    step: str
    text: str
    is_error: bool = False


class Fault(Event, frozen=True, kw_only=True, tag="fault"):
    """Something went wrong that isn't the step's end."""

    step: str
    kind: str
    message: str


class Prompt(Event, frozen=True, kw_only=True, tag="prompt"):
    """A question to the people watching."""

    id: str
    step: str
    question: str
    choices: tuple[str, ...]
    default: str | None
    expires_at: str | None


class Answered(Event, frozen=True, kw_only=True, tag="answered"):
    """A prompt has its answer.

    At expiry ``via`` is ``expiry`` and ``by`` null: ``answer`` is the default
    then, or null where the prompt has none.
    """

    id: str
    answer: str | None
    by: str | None
    via: str


class Artifact(Event, frozen=True, kw_only=True, tag="artifact"):
    """A file was collected."""

    step: str
    name: str
    url: str
    bytes: int
    sha256: str
    media_type: str
    primary: bool | UnsetType = UNSET  # what the run is for; of several the last one is


class StepRetrying(Event, frozen=True, kw_only=True, tag="step_retrying"):
    """An attempt failed and will be repeated."""

    step: str
    attempt: int
    returncode: int | None
    signal: str | None
    cause: str
    cause_code: CauseCode
    kill: Kill | None
    delay_ms: int


class StepFinished(Event, frozen=True, kw_only=True, tag="step_finished"):
    """The end of a step; once a step."""

    step: str
    label: str
    status: StepConclusion
    allowed: bool = False
    reused: bool = False
    returncode: int | None = None
    signal: str | None = None
    cause: str | None = None
    cause_code: CauseCode | None = None
    attempt: int = 0
    duration_ms: int = 0
    lines: int = 0
    bytes: int = 0
    kill: Kill | None = None


class Control(Event, frozen=True, kw_only=True, tag="control"):
    """Somebody steered the run."""

    action: str
    by: str | None  # null: nobody; the last client has gone
    via: str | None
    step: str | None = None
    extended_ms: int | UnsetType = UNSET  # ``extend``: by how much


class Notice(Event, frozen=True, kw_only=True, tag="notice"):
    """Something a watcher should know."""

    kind: str
    text: str
    step: str | None = None
    line: int | UnsetType = UNSET  # ``log_limit``: what the output goes on with, after a gap
    left_bytes: int | UnsetType = UNSET  # ``log_limit``: the gap, in bytes of output


class Summary(Event, frozen=True, kw_only=True, tag="summary"):
    """Last event of a run that came to its end."""

    status: Literal["success", "error"]
    message: str
    cause: str | None
    cause_code: CauseCode | None
    duration_ms: int
    file_url: str | None
    artifacts: tuple[str, ...]
    cost: Cost


class Aborted(Event, frozen=True, kw_only=True, tag="aborted"):
    """Last event of a run that was stopped."""

    reason: str
    cause_code: CauseCode
    by: str | None  # null: nobody; the last client has gone
    duration_ms: int
    file_url: str | None
    artifacts: tuple[str, ...]
    cost: Cost


AnyEvent = (
    PlanEvent | Queued | Started | StepStarted | LogRecord | Progress | Status | ToolCall | Text
    | Citation | CostEvent | Result | Fault | Prompt | Answered | Artifact | StepRetrying
    | StepFinished | Control | Notice | Summary | Aborted
)  # fmt: skip

LAST_EVENTS: Final = frozenset({"summary", "aborted"})

# Values under these keys name things that other events and other programs refer to. They come
# from the operator's own files or from us, and masking them would break every reference.
_STRUCTURAL: Final = frozenset(
    {"event", "step", "run", "ref", "pipeline", "depth", "retry_of", "status", "cause_code",
     "phase", "action", "mechanism", "sha256", "media_type", "signal", "containment"}
)  # fmt: skip


def masked_fields(event: Event, mask: Callable[[str], str]) -> dict[str, Any]:
    """Return the event's keys and values with *mask* applied to every text a secret could be in.

    Structural names (step ids, statuses, codes) stay as they are; so do the
    ids and needs in ``plan.graph``.
    """
    fields: dict[str, Any] = msgspec.to_builtins(event)
    for key, value in fields.items():
        if key == "graph":
            fields[key] = [{**node, "label": mask(node["label"])} for node in value]
        elif key not in _STRUCTURAL:
            fields[key] = _masked(value, mask)
    return fields


def _masked(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _masked(item, mask) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, mask) for item in value]
    return value
