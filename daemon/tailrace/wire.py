"""Every byte that another program reads: journal lines, stream frames, bodies, control messages.

The events themselves are `tailrace.core.events`; this module puts them into
bytes and reads them back. A journal line is a JSON object that begins with
``seq``, ``event`` and ``t``; the same object is the ``data`` of every stream,
but for ``log``, whose ``offset`` and ``bytes`` become ``text``. So one
encoding serves the disk, SSE, WebSocket and NDJSON, and a watcher's data is
the journal.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from tailrace.core import events
from tailrace.core.lines import slice_text
from tailrace.core.shapes import Shape

encode_json = msgspec.json.Encoder().encode


def timestamp(seconds: float) -> str:
    """Return RFC 3339 in UTC with milliseconds, as everywhere in Tailrace."""
    whole, thousandths = divmod(int(seconds * 1000), 1000)
    return f"{_to_the_second(whole)}.{thousandths:03d}Z"


@functools.lru_cache(maxsize=4)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_timestamp(text: str) -> float:
    """Return the seconds since 1970 of what `timestamp` wrote.

    Raises:
        ValueError: it isn't such a text.
    """
    return datetime.fromisoformat(text).timestamp()


# ---- the journal -----------------------------------------------------------------------------


def encode_record(seq: int, t: str, fields: dict[str, Any]) -> bytes:
    """Return one journal line, newline included; *fields* hold ``event`` and the event's keys."""
    return encode_json({"seq": seq, "event": fields["event"], "t": t, **fields}) + b"\n"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What readers of a journal line need to place it; the line itself has the rest."""

    seq: int
    event: str
    t: str = ""
    step: str | None = None
    attempt: int = 0
    line: int = 0
    open: bool = False
    offset: int = 0
    bytes: int = 0


_record_decoder: Final = msgspec.json.Decoder(Record)
_event_decoder: Final[msgspec.json.Decoder[events.AnyEvent]] = msgspec.json.Decoder(events.AnyEvent)


def decode_record(line: bytes) -> Record:
    """Read the head of a journal line.

    Raises:
        msgspec.MsgspecError: the line isn't a record, as a torn one.
    """
    return _record_decoder.decode(line)


def decode_event(line: bytes) -> events.AnyEvent:
    """Read a whole journal line (or ``data`` other than ``log``) as its event.

    Raises:
        msgspec.MsgspecError: it is none that this version knows.
    """
    return _event_decoder.decode(line)


class LogData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A slice of an attempt's output: ``log`` as watchers get it.

    ``text`` is one or more lines joined by newlines, ``line`` the number of the
    first, from 1. ``open`` says that the last one hasn't ended: the next ``log`` of
    the attempt goes on there. So its output is ``text`` and, unless it is open,
    a newline, in order.
    """

    seq: int
    event: Literal["log"]
    t: str
    step: str
    attempt: int
    line: int
    open: bool = False
    text: str


def log_data(record: Record, data: bytes) -> bytes:
    """Return a ``log`` event's data for watchers, from its record and its slice of the file."""
    return encode_json(
        LogData(
            seq=record.seq,
            event="log",
            t=record.t,
            step=record.step or "",
            attempt=record.attempt,
            line=record.line,
            open=record.open,
            text=slice_text(data),
        )
    )


_log_decoder: Final = msgspec.json.Decoder(LogData)


def decode_log(data: bytes) -> LogData:
    """Read the ``data`` of a ``log`` event.

    Raises:
        msgspec.MsgspecError: it isn't one.
    """
    return _log_decoder.decode(data)


# ---- streams ---------------------------------------------------------------------------------


class Frame(msgspec.Struct, frozen=True):
    """One event, ready for every kind of stream; shared by all who watch."""

    seq: int
    event: str
    step: str | None
    data: bytes  # the JSON object


def damaged_frame(seq: int, reason: str) -> Frame:
    """Return a ``notice`` in place of an event that can't be read, so that no number is missing."""
    notice = {"seq": seq, "event": "notice", "t": "", "kind": "damaged", "text": reason}
    return Frame(seq, "notice", None, encode_json(notice))


def sse_event(name: str | None, event_id: str | None, data: bytes) -> bytes:
    """Encode one server-sent event (WHATWG HTML, "Server-sent events").

    *data* is one line: JSON escapes line breaks. ``name`` None gives no
    ``event:`` line, so that ``onmessage`` gets it.
    """
    head = b""
    if name is not None:
        head += b"event: " + name.encode() + b"\n"
    if event_id is not None:
        head += b"id: " + event_id.encode() + b"\n"
    return head + b"data: " + data + b"\n\n"


def sse_frame(frame: Frame, *, run: str | None = None, shape: str = "event") -> bytes:
    """Encode a frame for ``/events``; with *run*, ids are ``RUNID:SEQ`` as on ``/ops``."""
    event_id = f"{run}:{frame.seq}" if run else str(frame.seq)
    return sse_event(None if shape == "message" else frame.event, event_id, frame.data)


def ndjson_frames(frames: Iterable[Frame]) -> bytes:
    """Encode frames as JSON, one object a line."""
    return b"".join(frame.data + b"\n" for frame in frames)


def ws_message(event: str, data: bytes) -> bytes:
    """Encode a WebSocket message: the event's name, and the same *data* as everywhere."""
    return b'{"event":' + encode_json(event) + b',"data":' + data + b"}"


SSE_RETRY: Final = b"retry: 2000\n\n"


def sse_comment(text: str) -> bytes:
    """Encode a comment, which keeps a connection alive and reaches no listener."""
    return b": " + text.encode() + b"\n\n"


# ---- bodies of the HTTP API ------------------------------------------------------------------


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


# ---- the control socket ----------------------------------------------------------------------


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A line sent to a runner's ``control.sock``."""

    command: Literal[
        "hello", "gauges", "away", "cancel", "pause", "resume", "answer", "skip", "cancel_step",
        "extend", "progress",
    ]  # fmt: skip
    id: str | None = None  # done once for each id
    step: str | None = None
    reason: str | None = None
    by_ms: int = 0  # of ``extend``
    prompt: str | None = None  # of ``answer``
    answer: str = ""
    stage: str | None = None  # of ``progress``, as the two that follow
    percent: float | None = None
    note: str | None = None
    cause_code: Literal["cancelled", "superseded", "client_gone"] = "cancelled"
    by: str = ""
    via: str = ""
    away_ms: int = 0  # with "away": how long no daemon was there


def asked_digest(command: Command) -> bytes:
    """Return what tells requests apart that came with the same id: not who, by which way, why."""
    asked = msgspec.structs.replace(command, by="", via="", reason=None)
    return hashlib.sha256(encode_json(asked)).digest()


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A runner's answer, one line."""

    status: Literal["done", "unchanged", "unknown", "conflict", "invalid"]
    seq: int | None = None  # of the control event
    reason: str | None = None  # where it was refused
    state: str | None = None  # the run's or step's status, with "conflict"
    pid: int | None = None
    gauges: dict[str, float] | None = None  # for "gauges": what the runner's buffers hold


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner writes into the run's ``lock``; it holds the lock, this only says who."""

    pid: int
    boot: str  # the kernel's boot id: random(4), "boot_id"


OTHER_COMMAND: Final = Reply(
    status="invalid", reason="its id came before with another command; use a new id for another one"
)


# ---- the hand-over to a runner ---------------------------------------------------------------


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner gets in memory, never by disk, argv or environment."""

    secrets: dict[str, str] = {}  # by name; all are masked, steps get those that they name
    params: dict[str, Any] = {}  # those whose value held a secret; the others are in run.json
    shapes: tuple[Shape, ...] = ()  # token shapes and the operator's own
    settings: dict[str, Any] = {}  # a `tailrace.settings.Settings` as builtins; the defaults
    public_url: str | None = None  # where artifacts will be found; None: file paths
    continues: bool = False  # its runner died, all of that is told, and this one goes on
