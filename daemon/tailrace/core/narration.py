"""What a step says of itself on ``$TAILRACE_EVENTS``, turned into events.

The lines come from hostile code, and only the fields that
`tailrace.core.events` names leave this module. What can't be used becomes a
``notice``, never a failure; no notice quotes what the line held, because a
piece of a secret would pass the masker.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import urlsplit

import msgspec

from tailrace.core.events import (
    Citation,
    Cost,
    CostEvent,
    Event,
    Fault,
    Notice,
    Progress,
    Result,
    Status,
    Text,
    ToolCall,
)
from tailrace.core.units import parse_duration

MAX_LINE: Final = 64 << 10  # bytes, newline not counted
MIN_MASK: Final = 4  # characters
MAX_MASKS: Final = 1_000  # a run
MAX_NOTICES: Final = 20  # an attempt
MAX_CALLS: Final = 1_000  # tool calls open at once, an attempt
MAX_PROMPTS: Final = 100  # an attempt

# Readers keep numbers as doubles (RFC 8259, section 6): what is beyond 2**53 would change there.
_MOST: Final = 1 << 53
_MOST_USD: Final = 1e9

_Int = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
_Number = _Int | Annotated[float, msgspec.Meta(ge=0, le=_MOST)]
_Usd = Annotated[float, msgspec.Meta(ge=0, le=_MOST_USD)]


@dataclass(frozen=True, slots=True)
class MaskValue:
    """A value to mask from now on, in this step and the rest of the run."""

    value: str = field(repr=False)  # trimmed; `MIN_MASK` characters or more


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A step asks the people watching; ``id`` is its own name for it."""

    id: str
    question: str
    choices: tuple[str, ...] = ()
    default: str | None = None
    expires_ms: int | None = None


class Totals:
    """What the steps of one run have said together; its narrators share one."""

    def __init__(self) -> None:
        self.masks: set[str] = set()
        self._usd = 0.0
        self._tokens_in = 0
        self._tokens_out = 0

    def cost(self) -> Cost:
        """Return what the run has spent; dollars to nine digits, so that sums read as written."""
        return Cost(usd=round(self._usd, 9), tokens_in=self._tokens_in, tokens_out=self._tokens_out)

    def begin_with(self, spent: Cost) -> None:
        """Count on from what an earlier runner of the run has told."""
        self._usd, self._tokens_in = spent.usd, spent.tokens_in
        self._tokens_out = spent.tokens_out

    def spend(self, usd: float, tokens_in: int, tokens_out: int) -> Cost:
        """Add to what was spent and return the totals.

        Raises:
            ValueError: a total would pass what its readers can count to; nothing is added.
        """
        totals = self._usd + usd, self._tokens_in + tokens_in, self._tokens_out + tokens_out
        if totals[0] > _MOST_USD or max(totals[1:]) > _MOST:
            raise ValueError("the run's totals are too large to be counted on")
        self._usd, self._tokens_in, self._tokens_out = totals
        return self.cost()


# ---- what a line may hold: the fields that count; all others are dropped ---------------------


class _Head(msgspec.Struct):
    event: str


class _Progress(msgspec.Struct):
    percent: int | float | None = None
    stage: str | None = None
    note: str | None = None
    done: _Number | None = None
    total: _Number | None = None
    unit: str | None = None
    rate: _Number | None = None


class _Status(msgspec.Struct):
    text: str


class _ToolCall(msgspec.Struct):
    name: str
    id: str | None = None
    server: str | None = None
    phase: Annotated[str, msgspec.Meta(pattern=r"^(started|finished)\Z")] | None = None
    is_error: bool | None = None
    duration_ms: _Number | None = None


class _Text(msgspec.Struct):
    delta: str | None = None
    text: str | None = None  # as programs that say `token` call it


class _Citation(msgspec.Struct):
    id: str | None = None
    title: str | None = None
    url: str | None = None


class _Cost(msgspec.Struct):
    usd: _Usd | None = None
    tokens_in: _Int | None = None
    tokens_out: _Int | None = None


class _Result(msgspec.Struct):
    text: str
    is_error: bool = False


class _Fault(msgspec.Struct):
    message: str
    kind: str = "error"


class _Mask(msgspec.Struct):
    value: str


class _Prompt(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    question: Annotated[str, msgspec.Meta(min_length=1)]
    choices: Annotated[list[str], msgspec.Meta(max_length=100)] = []
    default: str | None = None
    expires: str | None = None


Said = list[Event | MaskValue | Question]


class _MalformedError(ValueError):
    """The line has the right types and still makes no sense; the text says why."""


_HEAD: Final = msgspec.json.Decoder(_Head)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _accepted(
    model: type[msgspec.Struct], say: Callable[[Narrator, Any, float], Said], *names: str
) -> dict[str, tuple[msgspec.json.Decoder[Any], Callable[[Narrator, Any, float], Said]]]:
    return dict.fromkeys(names, (msgspec.json.Decoder(model), say))


class Narrator:
    """Reads what one attempt says.

    *label* is the step's, for its progress; *totals* are the run's.
    """

    def __init__(self, step: str, label: str, totals: Totals) -> None:
        self._step = step
        self._label = label
        self._totals = totals
        self._told = 0
        self._calls: OrderedDict[tuple[str, str], float] = OrderedDict()  # when each began
        self._asked: set[str] = set()  # ids of prompts

    def read(self, line: bytes, now: float) -> Said:
        """Return what a line, given without its newline, says; [] for a blank one.

        *now* is in seconds, from a clock that never goes back. A malformed line
        gives one ``notice`` of kind ``event``, or nothing once `MAX_NOTICES`
        were told. Whoever gets a `MaskValue` masks it before anything else that
        the step printed, and tells that it happened; whoever gets a `Question`
        asks it.
        """
        if len(line) > MAX_LINE:
            return self._dropped(f"a line is longer than {MAX_LINE >> 10} KiB")
        if not line.strip():
            return []
        try:
            name = _HEAD.decode(line).event
        except msgspec.ValidationError as exc:
            return self._dropped(f"a line is no event: {exc}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._dropped("a line isn't JSON in UTF-8")
        if name not in self._ACCEPTED:
            # A name in full, which the masker will know; or none, where it may be anything.
            named = f"named {name!r}" if _PLAIN.fullmatch(name) else "of that name"
            return self._dropped(f"there is no event {named}")
        decoder, say = self._ACCEPTED[name]
        try:
            return say(self, decoder.decode(line), now)
        except msgspec.ValidationError as exc:
            return self._dropped(f"{name}: {exc}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._dropped(f"{name}: isn't JSON in UTF-8")
        except _MalformedError as exc:
            return self._dropped(f"{name}: {exc}")

    def _dropped(self, why: str) -> Said:
        self._told += 1
        if self._told > MAX_NOTICES + 1:
            return []
        if self._told > MAX_NOTICES:
            why = "more lines are malformed; the rest of this attempt's are not told"
        return [Notice(kind="event", text=f"$TAILRACE_EVENTS: {why}", step=self._step)]

    def _progress(self, said: _Progress, _now: float) -> Said:
        percent = None if said.percent is None else min(100, max(0, said.percent))
        return [
            Progress(
                step=self._step,
                label=self._label,
                percent=percent,
                stage=said.stage,
                note=said.note,
                done=said.done,
                total=said.total,
                unit=said.unit,
                rate=said.rate,
            )
        ]

    def _status(self, said: _Status, _now: float) -> Said:
        return [Status(step=self._step, text=said.text)]

    def _tool_call(self, said: _ToolCall, now: float) -> Said:
        # One line that already tells how it went stands for a call that is over.
        is_over = said.is_error is not None or said.duration_ms is not None
        finished = is_over if said.phase is None else said.phase == "finished"
        call = ("name", said.name) if said.id is None else ("id", said.id)
        duration_ms = said.duration_ms if finished else None
        if finished:
            began = self._calls.pop(call, None)
            if duration_ms is None and began is not None:
                duration_ms = max(0, round((now - began) * 1000))
        else:
            self._calls.pop(call, None)
            self._calls[call] = now
            if len(self._calls) > MAX_CALLS:
                self._calls.popitem(last=False)  # it has waited longest: its end may never come
        return [
            ToolCall(
                step=self._step,
                id=said.id,
                name=said.name,
                server=said.server,
                phase="finished" if finished else "started",
                is_error=said.is_error if finished else None,
                duration_ms=None if duration_ms is None else round(duration_ms),
            )
        ]

    def _text(self, said: _Text, _now: float) -> Said:
        delta = said.text if said.delta is None else said.delta
        if delta is None:
            raise _MalformedError("needs 'delta'")
        return [Text(step=self._step, delta=delta)]

    def _citation(self, said: _Citation, _now: float) -> Said:
        if said.url is None and said.title is None:
            raise _MalformedError("give it a url or a title")
        url = None if said.url is None else citable_url(said.url)
        if said.url is not None and url is None:
            raise _MalformedError("the url must be a http or https address")
        return [Citation(step=self._step, id=said.id, title=said.title, url=url)]

    def _cost(self, said: _Cost, _now: float) -> Said:
        if said.usd is None and said.tokens_in is None and said.tokens_out is None:
            raise _MalformedError("give it usd, tokens_in or tokens_out")
        added = said.usd or 0.0, said.tokens_in or 0, said.tokens_out or 0
        try:
            total = self._totals.spend(*added)
        except ValueError as exc:
            raise _MalformedError(str(exc)) from None
        return [
            CostEvent(
                step=self._step,
                usd=added[0],
                tokens_in=added[1],
                tokens_out=added[2],
                total_usd=total.usd,
                total_tokens_in=total.tokens_in,
                total_tokens_out=total.tokens_out,
            )
        ]

    def _result(self, said: _Result, _now: float) -> Said:
        return [Result(step=self._step, text=said.text, is_error=said.is_error)]

    def _fault(self, said: _Fault, _now: float) -> Said:
        return [Fault(step=self._step, kind=said.kind, message=said.message)]

    def _mask(self, said: _Mask, _now: float) -> Said:
        value = said.value.strip()
        if value in self._totals.masks:
            return []  # masked already, and told
        if len(value) < MIN_MASK:
            raise _MalformedError(f"a value of less than {MIN_MASK} characters isn't masked")
        if len(self._totals.masks) >= MAX_MASKS:
            raise _MalformedError(
                f"the run has masked {MAX_MASKS:,} values, the most it may; this one is NOT masked"
            )
        self._totals.masks.add(value)
        return [MaskValue(value)]

    def _prompt(self, said: _Prompt, _now: float) -> Said:
        if said.id in self._asked:
            raise _MalformedError("that id was asked before; give each prompt its own")
        if len(self._asked) >= MAX_PROMPTS:
            raise _MalformedError(f"an attempt may ask {MAX_PROMPTS} times")
        if said.choices and said.default is not None and said.default not in said.choices:
            raise _MalformedError("the default isn't one of the choices")
        try:
            expires_ms = None if said.expires is None else parse_duration(said.expires)
        except ValueError as exc:
            raise _MalformedError(f"expires: {exc}") from None
        self._asked.add(said.id)
        return [
            Question(
                id=said.id,
                question=said.question,
                choices=tuple(said.choices),
                default=said.default,
                expires_ms=expires_ms,
            )
        ]

    _ACCEPTED: ClassVar = {
        **_accepted(_Progress, _progress, "progress"),
        **_accepted(_Status, _status, "status"),
        **_accepted(_ToolCall, _tool_call, "tool_call", "tool"),
        **_accepted(_Text, _text, "text", "token"),
        **_accepted(_Citation, _citation, "citation"),
        **_accepted(_Cost, _cost, "cost"),
        **_accepted(_Result, _result, "result"),
        **_accepted(_Fault, _fault, "fault", "error"),
        **_accepted(_Mask, _mask, "mask"),
        **_accepted(_Prompt, _prompt, "prompt"),
    }


def citable_url(url: str) -> str | None:
    """Return an address that may be shown: no userinfo, and ``***`` for its query.

    A fragment that holds assignments, as OAuth puts tokens there (RFC 6749,
    section 4.2.2), is masked too. None for what isn't http or https, or what
    programs read differently (RFC 3986 against WHATWG URL: white space, control
    characters, backslashes).
    """
    if not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.query:
        shown += "?***"
    if parts.fragment:
        shown += "#***" if "=" in parts.fragment else f"#{parts.fragment}"
    return shown
