"""What a watcher gets of a run's events, and in what shape: pure, frames in, bytes out.

Three stations, each of which may be absent: `Narrowing` leaves events out,
`Thinning` leaves progress out, `PlainLines` makes lines of logs. All are
functions of the sequence alone, never of the clock or of how it came in
batches, so that a stream that resumes goes on as the broken one would have.

An event may become several parts: the lines that end with it, or a progress
that was held back and comes before it. A client that comes back names the last
``id:`` it saw, so each part has one. The last part carries the event's number.
Those before it carry the number before, which is the last that is wholly given,
with a zero in front for each part: ``007`` says that 7 is done, and two parts of
8 are too. Zeros keep ids numbers; where there would be too many of them, parts
are counted behind a dot instead: ``7.257``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tailrace import wire
from tailrace.core.events import LAST_EVENTS
from tailrace.core.lines import resolve_carriage_returns
from tailrace.rundir.places import Attempt
from tailrace.wire import Frame

LONGEST_LINE: Final = 1 << 24  # characters of a line gathered for ``plain``; longer ones are cut

MOST_ZEROS: Final = 256  # a chunk of short lines is an event of a hundred thousand parts

Part = tuple[str, bytes]  # an event's name and its data


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a watcher asks for."""

    step: str | None = None
    progress_ms: int | None = None
    plain: bool = False
    message: bool = False
    ndjson: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every frame is sent as it is, so that its bytes can be shared."""
        return self.step is None and self.progress_ms is None and not self.plain


class Narrowing:
    """Keeps one step's events, ``plan`` and the last one."""

    def __init__(self, step: str) -> None:
        self._step = step

    def take(self, frames: Iterable[Frame]) -> list[Frame]:
        """Return those of the next frames that are kept."""
        return [
            frame
            for frame in frames
            if frame.step == self._step or frame.event == "plan" or frame.event in LAST_EVENTS
        ]


class Thinning:
    """Lets a step's progress pass at most once in so many milliseconds of the run's own time.

    The newest one left out is held, and given before the end of its attempt,
    so that a bar never ends short of where it came.
    """

    def __init__(self, interval_ms: int) -> None:
        self._interval_s = interval_ms / 1000
        self._passed: dict[str, float] = {}
        self._held: dict[str, Frame] = {}

    def take(self, frame: Frame) -> list[Frame]:
        """Return what is to be sent for the next frame: it, nothing, or a held one before it."""
        step = frame.step or ""
        if frame.event == "progress":
            if not self._may_pass(step, frame):
                self._held[step] = frame
                return []
            self._held.pop(step, None)
        elif frame.event in ("step_finished", "step_retrying"):
            self._passed.pop(step, None)
            if (held := self._held.pop(step, None)) is not None:
                return [held, frame]
        return [frame]

    def _may_pass(self, step: str, frame: Frame) -> bool:
        try:
            now = wire.parse_timestamp(wire.decode_record(frame.data).t)
        except ValueError:
            return True
        last = self._passed.get(step)
        if last is not None and 0 <= now - last < self._interval_s:
            return False
        self._passed[step] = now
        return True


@dataclass(slots=True)
class _OpenLine:
    """What an attempt has printed of a line; gathered, and put together once."""

    pieces: list[str]
    size: int

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.size += len(text)


class PlainLines:
    """Log events as the bare text of each line once it has ended.

    An open line is gathered until it ends, or its attempt does. Carriage
    returns are resolved as a terminal would. A line of more than `LONGEST_LINE`
    characters comes in pieces of that length, counted from its start.
    """

    def __init__(self, opened: Mapping[Attempt, str]) -> None:
        """Begin with the open lines as they are where the stream begins."""
        self._open: dict[Attempt, _OpenLine] = {}
        for key, text in opened.items():
            self.resume(key, text)

    def resume(self, key: Attempt, text: str) -> None:
        """Take what an attempt has printed of its open line, unless it is known here."""
        if key not in self._open:
            self._grow(key, text)

    def parts(self, frame: Frame) -> list[Part]:
        """Return the lines that end with this event, and itself unless it is a log."""
        ended = [("log", line.encode()) for line in self.lines(frame)]
        return ended if frame.event == "log" else [*ended, (frame.event, frame.data)]

    def lines(self, frame: Frame) -> list[str]:
        """Return the lines that end with this event."""
        if frame.event == "log":
            return self._take(wire.decode_log(frame.data))
        if frame.event in ("step_finished", "step_retrying"):
            return self._close([key for key in self._open if key[0] == frame.step])
        if frame.event in LAST_EVENTS:
            return self._close(list(self._open))
        return []

    def _take(self, log: wire.LogData) -> list[str]:
        key = (log.step, log.attempt)
        *ended, rest = log.text.split("\n")
        if not log.open:
            ended.append(rest)
        found: list[str] = []
        for line in ended:
            found += self._grow(key, line)
            gathered = self._open.pop(key, None)
            found.append(resolve_carriage_returns("".join(gathered.pieces) if gathered else ""))
        if log.open:
            found += self._grow(key, rest)
        return found

    def _grow(self, key: Attempt, text: str) -> list[str]:
        """Add to an open line; return the pieces that it has become too long by."""
        if not text:
            return []
        line = self._open.setdefault(key, _OpenLine([], 0))
        line.add(text)
        if line.size <= LONGEST_LINE:
            return []
        whole = "".join(line.pieces)
        cut = (len(whole) - 1) // LONGEST_LINE * LONGEST_LINE
        self._open[key] = _OpenLine([whole[cut:]], len(whole) - cut)
        pieces = (whole[at : at + LONGEST_LINE] for at in range(0, cut, LONGEST_LINE))
        return [resolve_carriage_returns(piece) for piece in pieces]

    def _close(self, keys: list[Attempt]) -> list[str]:
        return [resolve_carriage_returns("".join(self._open.pop(key).pieces)) for key in keys]


def sse_parts(
    seq: int,
    parts: list[Part],
    *,
    begin: int = 0,
    cut: int = 0,
    head: str = "",
    message: bool = False,
) -> bytes:
    """Encode an event's parts from number *begin* on, each with its id; *head* goes before ids.

    Before the first of *parts* the event has *cut* more, which ids count too.
    """
    found = []
    for place in range(begin, len(parts)):
        name, data = parts[place]
        is_last = place + 1 == len(parts)
        number = str(seq) if is_last else _id_within(seq, cut + place + 1)
        found.append(wire.sse_event(None if message else name, head + number, data))
    return b"".join(found)


def _id_within(seq: int, given: int) -> str:
    """Return the id that says that so many parts of an event were given."""
    return "0" * given + str(seq - 1) if given <= MOST_ZEROS else f"{seq - 1}.{given}"


def sse_frames(frames: Iterable[Frame], *, run: str | None, message: bool) -> bytes:
    """Encode whole events; with *run*, ids are ``RUNID:SEQ``."""
    shape = "message" if message else "event"
    return b"".join(wire.sse_frame(frame, run=run, shape=shape) for frame in frames)
