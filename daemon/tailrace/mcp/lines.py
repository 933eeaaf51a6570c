"""Lines of a run's output as a model gets them: each with its reference, within a budget of tokens.

A reference is ``#RUN/STEP/Lnnn``, such as ``#analyze/42/lint/L120``: the run's
ref, the step, and the line's number in the attempt's log.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, overload

import msgspec

from tailrace import wire
from tailrace.core.lines import resolve_carriage_returns, strip_ansi, strip_ansi_bytes

LONGEST_SHOWN: Final = 2_000  # characters of one line
LONGEST_SEARCHED: Final = 1 << 20  # characters of one line; what follows isn't looked at
_BYTES_A_TOKEN: Final = 3  # of UTF-8: logs take more tokens than prose, which has four
_PROGRESS: Final = 200  # characters of a stage, and of a note
_AROUND: Final = 200  # characters shown before a match that lies far in its line


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of output."""

    ref: str  # #RUN/STEP/Lnnn
    text: str  # without escape sequences; "…" where a long line was cut
    attempt: int = 1  # absent for the first one


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a step told last of how far it is."""

    step: str
    percent: float | None = None
    stage: str | None = None
    note: str | None = None


_progress_decoder: Final = msgspec.json.Decoder(Progress)


@overload
def shortened(text: str, most: int) -> str: ...
@overload
def shortened(text: str | None, most: int) -> str | None: ...
def shortened(text: str | None, most: int) -> str | None:
    """Return a text, cut with "…" behind *most* characters."""
    return text if text is None or len(text) <= most else text[:most] + "…"


def tokens_of(value: Any) -> int:
    """Return how many tokens a value takes as JSON: an estimate that is rather too high."""
    return -(-len(msgspec.json.encode(value)) // _BYTES_A_TOKEN)


@dataclass(slots=True)
class _Line:
    """A line that may still grow; what is beyond *most* characters is forgotten."""

    step: str
    attempt: int
    number: int
    most: int
    text: str = ""

    def add(self, piece: str) -> None:
        """Let it grow; one character more than *most* tells that there is more."""
        if len(self.text) <= self.most:
            self.text += piece[: self.most + 1 - len(self.text)]

    def shown(self, ref: str, start: int = 0) -> LogLine:
        """Return it as it is shown, from about that character on."""
        text = strip_ansi(self.text)
        if len(text) > LONGEST_SHOWN and start > LONGEST_SHOWN - _AROUND:
            text = "…" + text[start - _AROUND :]
        else:
            text = resolve_carriage_returns(text)
        if len(text) > LONGEST_SHOWN:
            text = text[:LONGEST_SHOWN] + "…"
        return LogLine(
            ref=f"#{ref}/{self.step}/L{self.number}", text=text, attempt=self.attempt
        )  # fmt: skip


class _Lines:
    """Puts lines together from the pieces that ``log`` events hold."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[tuple[str, int], _Line] = {}

    def begun(self, log: wire.LogData, *, upto: int, last: int) -> tuple[int, list[_Line]]:
        """Take a piece; return how many lines begin in it, and the *last* of them, or a few more.

        Those beyond line *upto* don't count. The very last one may still grow.
        """
        head, *rest = log.text.split("\n")
        grown = self._open.pop((log.step, log.attempt), None)
        found = []
        if grown is not None and grown.number == log.line:
            grown.add(head)
        elif log.line <= upto:
            grown = self._new(log, 0, head)
            found.append(grown)
        count = max(0, min(len(rest), upto - log.line))
        first = max(0, count - last)
        found += [self._new(log, n + 1, rest[n]) for n in range(first, count)]
        if log.open and count == len(rest):
            newest = found[-1] if rest else grown
            if newest is not None:
                self._open[log.step, log.attempt] = newest
        return len(found) + first, found

    def ended(self, log: wire.LogData, pattern: Any) -> list[_Line]:
        """Take a piece; return those of the lines that end in it that may match."""
        grown = self._open.pop((log.step, log.attempt), None)
        number, text = 0, log.text
        found = []
        if grown is not None and grown.number == log.line:
            head, newline, text = text.partition("\n")
            grown.add(head)
            if not newline and log.open:
                self._open[log.step, log.attempt] = grown
                return []
            found.append(grown)
            if not newline:
                return found
            number = 1
        if log.open:
            whole, newline, last = text.rpartition("\n")
            self._open[log.step, log.attempt] = self._new(log, number + text.count("\n"), last)
            if not newline:
                return found
            text = whole
        return found + self._matching(log, number, text, pattern)

    def _matching(self, log: wire.LogData, number: int, text: str, pattern: Any) -> list[_Line]:
        """Return the lines of *text* that match; its first is the piece's line *number*, from 0."""
        # A search a match, and in bytes: a call of RE2 for each line would cost ten times as much.
        data = strip_ansi_bytes(text.encode())
        found = []
        place = 0
        while (match := pattern.search(data, place)) is not None:
            start = data.rfind(b"\n", 0, match.start()) + 1
            number += data.count(b"\n", place, start)
            end = data.find(b"\n", match.end())
            end = len(data) if end < 0 else end
            found.append(self._new(log, number, data[start:end].decode("utf-8", "replace")))
            place, number = end + 1, number + 1
            if place > len(data):
                break
        return found

    def still_open(self) -> list[_Line]:
        """Return the lines that haven't ended."""
        return list(self._open.values())

    def _new(self, log: wire.LogData, number: int, text: str) -> _Line:
        line = _Line(log.step, log.attempt, log.line + number, self._most)
        line.add(text)
        return line


@dataclass(slots=True)
class Tail:
    """The last lines of a run, or of a step, and what was told of progress."""

    lines: list[LogLine]
    left_out: bool  # there are earlier lines
    progress: list[Progress]
    last_seq: int


def most_lines(tokens: int) -> int:
    """Return how many lines could fit in so many tokens at best, and one more."""
    return tokens // tokens_of(LogLine(ref="#a/1/b/L1", text="")) + 1


class Tailing:
    """Keeps the last lines that fit in *tokens*.

    Of those told after the event *after*, and with a number of *upto* at most.
    With *progress* what running steps told of it goes first, with half of the
    tokens at most.
    """

    def __init__(
        self,
        ref: str,
        tokens: int,
        *,
        after: int = 0,
        upto: int | None = None,
        progress: bool = False,
    ) -> None:
        self._ref, self._tokens, self._after = ref, tokens, after
        self._upto = sys.maxsize if upto is None else upto
        self._assembly = _Lines(LONGEST_SHOWN * 4)  # more than is shown: escape sequences go
        self._last: deque[_Line] = deque(maxlen=most_lines(tokens))
        self._tells_progress = progress
        self._progress: dict[str, Progress] = {}
        self._begun = self._last_seq = 0
        self._passed_in = 0  # the attempt whose output has gone beyond *upto*

    def is_beyond(self, attempt: int) -> bool:
        """Whether *upto* has been passed in that attempt: nothing of it counts any more."""
        return self._passed_in == attempt

    def take(self, frames: Iterable[wire.Frame]) -> None:
        """Take in more events."""
        for frame in frames:
            self._last_seq = frame.seq
            if frame.event == "log" and frame.seq > self._after:
                log = wire.decode_log(frame.data)
                # Of a flood most lines are forgotten again: those needn't be made.
                count, lines = self._assembly.begun(
                    log, upto=self._upto, last=most_lines(self._tokens)
                )
                self._begun += count
                self._last += lines
                if log.line > self._upto:
                    self._passed_in = log.attempt
            elif frame.event == "progress":
                said = _progress_decoder.decode(frame.data)
                self._progress.pop(said.step, None)  # the latest goes last
                self._progress[said.step] = said
            elif frame.event == "step_finished":
                self._progress.pop(frame.step or "", None)

    def end(self) -> Tail:
        """Return what fits."""
        progress = self._fitting_progress() if self._tells_progress else []
        kept: list[LogLine] = []
        tokens = self._tokens - sum(tokens_of(said) + 1 for said in progress)
        for line in reversed(self._last):
            shown = line.shown(self._ref)
            tokens -= tokens_of(shown) + 1
            if tokens < 0:
                break
            kept.append(shown)
        kept.reverse()
        # A full tail may have lines before it that nobody read.
        left_out = len(kept) < self._begun or self._begun >= most_lines(self._tokens)
        return Tail(kept, left_out, progress, self._last_seq)

    def _fitting_progress(self) -> list[Progress]:
        """Return what fits in half of the tokens: the latest, without words where those don't."""
        kept: list[Progress] = []
        tokens = self._tokens // 2
        for said in reversed(self._progress.values()):
            short = msgspec.structs.replace(
                said, stage=shortened(said.stage, _PROGRESS), note=shortened(said.note, _PROGRESS)
            )
            bare = Progress(step=said.step, percent=said.percent)
            for shown in (short, bare):
                if (taken := tokens_of(shown) + 1) <= tokens:
                    tokens -= taken
                    kept.append(shown)
                    break
        kept.reverse()
        return kept


@dataclass(slots=True)
class Found:
    """The lines that match a pattern."""

    lines: list[LogLine]
    matches: int  # all of them, also those that didn't fit
    complete: bool  # everything was searched


class Search:
    """Looks for a pattern in a run's output; *most* lines and *tokens* are kept at most."""

    def __init__(self, pattern: Any, ref: str, *, most: int, tokens: int) -> None:
        self._pattern, self._ref, self._most, self._tokens = pattern, ref, most, tokens
        self._assembly = _Lines(LONGEST_SEARCHED)
        self._lines: list[LogLine] = []
        self._full = False
        self._matches = 0

    def take(self, frames: Iterable[wire.Frame]) -> None:
        """Look through more events."""
        for frame in frames:
            if frame.event == "log":
                log = wire.decode_log(frame.data)
                self._look(self._assembly.ended(log, self._pattern))

    def end(self, *, complete: bool) -> Found:
        """Look through the lines that haven't ended, and return all that was found."""
        self._look(self._assembly.still_open())
        return Found(self._lines, self._matches, complete)

    def _look(self, lines: Iterable[_Line]) -> None:
        for line in lines:
            match = self._pattern.search(strip_ansi(line.text))
            if match is None:
                continue
            self._matches += 1
            if self._full:
                continue
            shown = line.shown(self._ref, match.start())
            self._tokens -= tokens_of(shown) + 1
            self._full = self._tokens < 0 or len(self._lines) == self._most
            if not self._full:
                self._lines.append(shown)
