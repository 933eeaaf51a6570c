"""What one attempt narrated: its tool calls, its text, its sources, its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tailrace.core.events import Citation, Result, Text, ToolCall

MOST_TEXT: Final = 1 << 16  # characters kept of a text under way, its end
_MOST_CALLS: Final = 64
_MOST_CITATIONS: Final = 64


@dataclass(slots=True, kw_only=True)
class Call:
    """A tool call; under way while ``ended`` is false."""

    id: str | None
    name: str
    began: float | None = None  # seconds since 1970; None where only its end was told
    ended: bool = False
    is_error: bool = False
    duration_ms: int | None = None


@dataclass(slots=True)
class Narrative:
    """Takes the events of one attempt in order; of everything it keeps a bounded part."""

    calls: list[Call] = field(default_factory=list)  # the latest, in the order they began
    finished: int = 0  # calls
    failed: int = 0  # of these
    citations: dict[tuple[str | None, str | None], Citation] = field(default_factory=dict)
    left_out: int = 0  # citations beyond those kept
    result: Result | None = None
    _pieces: list[str] = field(default_factory=list)
    _size: int = 0

    @property
    def counted(self) -> str:
        """How many tools were used: ``14 tool calls, 1 failed``; empty where none."""
        if not self.finished:
            return ""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.finished:,} tool call{'s' if self.finished > 1 else ''}{failed}"

    @property
    def text(self) -> str:
        """What the step has to say: its result, or before there is one the text under way."""
        return self.streamed if self.result is None else self.result.text

    @property
    def streamed(self) -> str:
        """The end of the text as it streamed."""
        self._pieces = ["".join(self._pieces)[-MOST_TEXT:]]
        self._size = len(self._pieces[0])
        return self._pieces[0]

    def take_text(self, event: Text) -> None:
        """Go on with the text."""
        self._pieces.append(event.delta)
        self._size += len(event.delta)
        if self._size > 4 * MOST_TEXT:
            _ = self.streamed

    def take_call(self, event: ToolCall, now: float) -> Call:
        """Take a call's beginning or end; *now* is the event's time. Return the call."""
        name = f"{event.server}/{event.name}" if event.server else event.name
        if event.phase == "started":
            if self._size and not self._pieces[-1].endswith("\n"):
                self.take_text(Text(step=event.step, delta="\n"))  # what follows is said after it
            call = Call(id=event.id, name=name, began=now)
            self._keep(call)
            return call
        call = self._begun(event, name) or Call(id=event.id, name=name)
        if call.began is None:
            self._keep(call)
        call.ended, call.is_error, call.duration_ms = True, bool(event.is_error), event.duration_ms
        if call.duration_ms is None and call.began is not None:
            call.duration_ms = max(0, round((now - call.began) * 1_000))
        self.finished += 1
        self.failed += call.is_error
        return call

    def _begun(self, event: ToolCall, name: str) -> Call | None:
        for call in self.calls:
            same = call.name == name if event.id is None else call.id == event.id
            if same and not call.ended:
                return call
        return None

    def _keep(self, call: Call) -> None:
        self.calls.append(call)
        if len(self.calls) > _MOST_CALLS:
            ended = (n for n, kept in enumerate(self.calls) if kept.ended)
            del self.calls[next(ended, 0)]

    def take_citation(self, event: Citation) -> bool:
        """Take a source; return whether it is a new one."""
        key = event.url or event.id, event.title
        if key in self.citations:
            return False
        if len(self.citations) >= _MOST_CITATIONS:
            self.left_out += 1
        else:
            self.citations[key] = event
        return True

    def repeats(self, result: Result) -> bool:
        """Whether a result says only what streamed last, so that a reader has it already."""
        said = " ".join(result.text.split())
        return " ".join(self.streamed.split()).endswith(said)
