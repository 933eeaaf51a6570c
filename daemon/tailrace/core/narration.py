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
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import msgspec

from tailrace.core import said
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
        if totals[0] > said.MOST_USD or max(totals[1:]) > said.MOST:
            raise ValueError("the run's totals are too large to be counted on")
        self._usd, self._tokens_in, self._tokens_out = totals
        return self.cost()


Told = list[Event | MaskValue | Question]


class _MalformedError(ValueError):
    """The line has the right types and still makes no sense; the text says why."""


_HEAD: Final = msgspec.json.Decoder(said.Head)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NAMES: Final[dict[str, type[said.Saying]]] = {
    "progress": said.Progress,
    "status": said.Status,
    "tool_call": said.ToolCall,
    "tool": said.ToolCall,
    "text": said.Text,
    "token": said.Text,
    "citation": said.Citation,
    "cost": said.Cost,
    "result": said.Result,
    "fault": said.Fault,
    "error": said.Fault,
    "mask": said.Mask,
    "prompt": said.Prompt,
}
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    name: msgspec.json.Decoder(model) for name, model in _NAMES.items()
}


class Narrator:
    """Reads what one attempt says.

    *label* is the step's, for its progress; *totals* are the run's. *mask* is
    asked before a text is cut: what is left of a secret, no masker would know.
    """

    def __init__(
        self,
        step: str,
        label: str,
        totals: Totals,
        *,
        mask: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._masked = mask
        self._step = step
        self._label = label
        self._totals = totals
        self._told = 0
        self._calls: OrderedDict[tuple[str, str], float] = OrderedDict()  # when each began
        self._asked: set[str] = set()  # ids of prompts

    def read(self, line: bytes, now: float) -> Told:
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
        if name not in _NAMES:
            # A name in full, which the masker will know; or none, where it may be anything.
            named = f"named {name!r}" if _PLAIN.fullmatch(name) else "of that name"
            return self._dropped(f"there is no event {named}")
        try:
            return self._SAY[_NAMES[name]](self, _DECODERS[name].decode(line), now)
        except msgspec.ValidationError as exc:
            return self._dropped(f"{name}: {exc}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._dropped(f"{name}: isn't JSON in UTF-8")
        except _MalformedError as exc:
            return self._dropped(f"{name}: {exc}")

    def say(self, item: said.Saying, now: float) -> Told:
        """Return what comes of something that a dialect found in the step's output, as `read`."""
        try:
            return self._SAY[type(item)](self, item, now)
        except _MalformedError as exc:
            return self._dropped(str(exc), "output")

    def _dropped(self, why: str, source: str = "$TAILRACE_EVENTS") -> Told:
        self._told += 1
        if self._told > MAX_NOTICES + 1:
            return []
        if self._told > MAX_NOTICES:
            why = "more lines are malformed; the rest of this attempt's are not told"
        return [Notice(kind="event", text=f"{source}: {why}", step=self._step)]

    def _unread(self, item: said.Unread, _now: float) -> Told:
        return self._dropped(item.why, "output")

    def _progress(self, item: said.Progress, _now: float) -> Told:
        percent = None if item.percent is None else min(100, max(0, item.percent))
        return [
            Progress(
                step=self._step,
                label=self._label,
                percent=percent,
                stage=item.stage,
                note=item.note,
                done=item.done,
                total=item.total,
                unit=item.unit,
                rate=item.rate,
            )
        ]

    def _status(self, item: said.Status, _now: float) -> Told:
        return [Status(step=self._step, text=item.text)]

    def _tool_call(self, item: said.ToolCall, now: float) -> Told:
        # One line that already tells how it went stands for a call that is over.
        is_over = item.is_error is not None or item.duration_ms is not None
        finished = is_over if item.phase is None else item.phase == "finished"
        name = self._tool_name(item.name)
        if not name:
            raise _MalformedError("the name of a tool is one word")
        call = ("name", name) if item.id is None else ("id", item.id)
        duration_ms = item.duration_ms if finished else None
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
                id=None if item.id is None else shown_id(item.id),
                name=name,
                server=None if item.server is None else self._tool_name(item.server) or None,
                phase="finished" if finished else "started",
                is_error=item.is_error if finished else None,
                duration_ms=None if duration_ms is None else round(duration_ms),
            )
        ]

    def _tool_name(self, name: str) -> str:
        if tool_name(name) == name:
            return name
        masked = self._masked(name)
        return tool_name(masked) or ("***" if masked != name else "")

    def _text(self, item: said.Text, _now: float) -> Told:
        delta = item.text if item.delta is None else item.delta
        if delta is None:
            raise _MalformedError("needs 'delta'")
        return [Text(step=self._step, delta=delta)]

    def _citation(self, item: said.Citation, _now: float) -> Told:
        if item.url is None and item.title is None:
            raise _MalformedError("give it a url or a title")
        url = None if item.url is None else citable_url(self._masked(item.url))
        if item.url is not None and url is None:
            raise _MalformedError("the url must be a http or https address")
        title = None if item.title is None else self._masked(item.title)
        title = title and _ADDRESS.sub(_shown_address, title)
        shown = None if item.id is None else shown_id(item.id)
        return [Citation(step=self._step, id=shown, title=title, url=url)]

    def _cost(self, item: said.Cost, _now: float) -> Told:
        if item.usd is None and item.tokens_in is None and item.tokens_out is None:
            raise _MalformedError("give it usd, tokens_in or tokens_out")
        added = item.usd or 0.0, int(item.tokens_in or 0), int(item.tokens_out or 0)
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

    def _result(self, item: said.Result, _now: float) -> Told:
        return [Result(step=self._step, text=item.text, is_error=item.is_error)]

    def _fault(self, item: said.Fault, _now: float) -> Told:
        return [Fault(step=self._step, kind=item.kind, message=item.message)]

    def _mask(self, item: said.Mask, _now: float) -> Told:
        value = item.value.strip()
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

    def _prompt(self, item: said.Prompt, _now: float) -> Told:
        if item.id in self._asked:
            raise _MalformedError("that id was asked before; give each prompt its own")
        if len(self._asked) >= MAX_PROMPTS:
            raise _MalformedError(f"an attempt may ask {MAX_PROMPTS} times")
        if item.choices and item.default is not None and item.default not in item.choices:
            raise _MalformedError("the default isn't one of the choices")
        try:
            expires_ms = None if item.expires is None else parse_duration(item.expires)
        except ValueError as exc:
            raise _MalformedError(f"expires: {exc}") from None
        self._asked.add(item.id)
        return [
            Question(
                id=item.id,
                question=item.question,
                choices=tuple(item.choices),
                default=item.default,
                expires_ms=expires_ms,
            )
        ]

    _SAY: ClassVar[dict[type[said.Saying], Callable[[Narrator, Any, float], Told]]] = {
        said.Progress: _progress,
        said.Status: _status,
        said.ToolCall: _tool_call,
        said.Text: _text,
        said.Citation: _citation,
        said.Cost: _cost,
        said.Result: _result,
        said.Fault: _fault,
        said.Mask: _mask,
        said.Prompt: _prompt,
        said.Unread: _unread,
    }


# What a tool may be called: more than the model APIs and MCP allow ([A-Za-z0-9_.-]), and nothing
# that a call's input is written with.
_WORD: Final = re.compile(r"[\w./:+-]{1,128}")
_ID: Final = re.compile(r"[\w./:+#\[\]-]{1,128}")
_ADDRESS: Final = re.compile(r"https?://\S+", re.IGNORECASE)


def tool_name(name: str) -> str:
    """Return a tool's name without what isn't one: ``Bash(rm -rf build)`` is ``Bash``."""
    found = _WORD.match(name.strip())
    return found[0] if found is not None else ""


def shown_id(text: str) -> str | None:
    """Return an id that is one word of 128 characters at most; None for what only poses as one."""
    return text if _ID.fullmatch(text) else None


def _shown_address(found: re.Match[str]) -> str:
    return citable_url(found[0]) or "***"


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
