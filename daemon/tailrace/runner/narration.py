"""What a running step tells besides its output: the step channel, dialects, git's own progress."""

from __future__ import annotations

import asyncio
import functools
from typing import Final

from tailrace.core.dialects import Dialect, Heard
from tailrace.core.dialects.claude import Claude
from tailrace.core.dialects.github import Github
from tailrace.core.events import CostEvent, Event, Notice, Progress, Result, Text, ToolCall
from tailrace.core.git_progress import GitProgress
from tailrace.core.mask import Masker
from tailrace.core.narration import MaskValue, Narrator, Question, Told
from tailrace.core.plan import StepPlan
from tailrace.core.text_mask import TextMasker
from tailrace.runner.beneath import leave_file
from tailrace.runner.channel import StepChannel
from tailrace.runner.context import RunContext
from tailrace.runner.places import Places
from tailrace.runner.step_progress import StepProgress

_MASK: Final = b'"mask"'  # in a line that may tell a value to mask
_TURN: Final = 64 << 10  # bytes
_END_TEXT: Final = (ToolCall, CostEvent, Result)  # what comes when a text is whole
_REFUSAL: Final = b"clone: "  # how tailrace.runner.clone begins its last line


class Narration:
    """The events of one attempt, in the order they were told.

    *progress* is the step's, over its attempts. Text is masked as one, however
    it is cut into deltas: up to a tool call, a cost, a question or the result,
    which end it. Errors in what a step tells are notices. Used on one event loop.
    """

    def __init__(
        self, ctx: RunContext, step: StepPlan, label: str, places: Places, progress: StepProgress
    ) -> None:
        self._ctx, self._step, self._label, self._places = ctx, step.id, label, places
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._channel = StepChannel(places.events)
        self._narrator = Narrator(step.id, label, ctx.totals, mask=ctx.mask_text)
        self._dialect: Dialect | None = None
        if step.narration != "channel":
            self._dialect = Claude(mask=ctx.mask_text) if step.narration == "claude" else Github()
        self._text: TextMasker | None = None  # of the text that is being told
        self._git = GitProgress()
        self._unwritten: list[Event] = []  # what is told at once is written at once
        self.last_event = 0.0  # on the loop's clock
        self.refusal: str | None = None  # of a clone: its last line says what to do
        self._loop.add_reader(self._channel.fileno(), self._some)

    @property
    def held(self) -> int:
        """Bytes of output held back: a gauge."""
        heard = self._dialect.held if self._dialect is not None else 0
        return heard + (self._text.held if self._text is not None else 0)

    def _some(self) -> None:
        """Take in a piece of what there is: other steps have their turn before the next."""
        self._listen(self._channel.drain(_TURN))

    def hear(self, chunk: bytes) -> bytes:
        """Return what of a chunk of output is output, and take in what it narrates.

        Values to mask that were told before count for it.
        """
        self._listen(self._channel.drain())
        if self._dialect is None:
            return chunk
        return self._heard(self._dialect.feed(chunk))

    def hear_end(self) -> bytes:
        """Return what of the output was held back: it has ended."""
        self._listen(self._channel.drain())
        return b"" if self._dialect is None else self._heard(self._dialect.close())

    def _heard(self, heard: Heard) -> bytes:
        now = self._loop.time()
        told = [told for item in heard.said for told in self._narrator.say(item, now)]
        self._mask(told)
        self._tell(told)
        return heard.output

    def _listen(self, lines: list[bytes]) -> None:
        if lines:
            now = self.last_event = self._loop.time()
            # Values to mask first: what else came with them may be cut, and is masked before.
            first = [n for n, line in enumerate(lines) if _MASK in line]
            told = {n: self._narrator.read(lines[n], now) for n in first}
            self._mask([item for each in told.values() for item in each])
            rest = {
                n: self._narrator.read(lines[n], now) for n in range(len(lines)) if n not in told
            }
            self._mask([item for each in rest.values() for item in each])  # named by an escape
            told |= rest
            self._tell([item for n in range(len(lines)) for item in told[n]])

    def _mask(self, told: Told) -> None:
        # Together, because each time costs a compilation; and first, which can only mask more.
        if values := [item.value for item in told if isinstance(item, MaskValue)]:
            self._ctx.mask_values(values)

    def _tell(self, told: Told) -> None:
        for item in told:
            if isinstance(item, MaskValue):
                self._record(
                    Notice(kind="mask", text="a value is masked from here on", step=self._step)
                )
            elif isinstance(item, Text):
                self._tell_text(item.delta)
            elif isinstance(item, Question):
                self._end_text()
                self._write()
                self._ask(item)
            elif isinstance(item, Progress):
                self._offer(item)
            else:
                if isinstance(item, _END_TEXT):
                    self._end_text()
                self._record(item)
        self._write()
        if any(isinstance(item, CostEvent) for item in told):
            self._ctx.spent()

    def _ask(self, question: Question) -> None:
        name = f"{self._step}.{question.id}"
        if self._ctx.mask_text(name) != name:  # nobody who sees it masked could name it
            text = "a prompt whose id is masked can't be answered, and isn't asked"
            self._record(Notice(kind="event", text=text, step=self._step))
            return
        with self._ctx.disk_guard():
            settle = functools.partial(self._hand_over, question.id)
            self._ctx.prompts.ask(name, self._step, question, settle)

    def _tell_text(self, delta: str) -> None:
        if self._text is None:
            masker = Masker(self._ctx.rules)
            self._ctx.maskers.add(masker)
            self._text = TextMasker(masker)
        self._record_text(self._text.feed(delta))

    def _end_text(self) -> None:
        if self._text is not None:
            text, self._text = self._text, None
            self._record_text(text.close())

    def _record_text(self, delta: str) -> None:
        if delta:
            self._record(Text(step=self._step, delta=delta))

    def _hand_over(self, prompt: str, answer: str | None) -> None:
        """Give the step its answer as a file, or tell it so that nobody answered."""
        self.last_event = self._loop.time()
        name = f"{prompt}.expired" if answer is None else prompt
        try:
            leave_file(self._places.answers, name, (answer or "").encode())
        except OSError as exc:  # the step took the folder away, or the disk is full
            why = exc.strerror or str(exc)
            text = f"the answer to '{prompt}' can't be handed over: {why}"
            self._record(Notice(kind="answer", text=text, step=self._step))
            self._write()

    def git_output(self, data: bytes) -> None:
        """Read progress, and why a clone was refused, from a piece of its output."""
        for line in data.split(b"\n"):
            if line.startswith(_REFUSAL):
                self.refusal = line.removeprefix(_REFUSAL).decode("utf-8", "replace").strip()
        for phase in self._git.feed(data):
            self._offer(
                Progress(
                    step=self._step, label=self._label, percent=phase.percent, stage=phase.stage,
                    note=phase.note, done=phase.done, total=phase.total, unit=phase.unit,
                    rate=phase.rate,
                )
            )  # fmt: skip
        self._write()

    def tell_progress(self, *, stage: str | None, percent: float | None, note: str | None) -> None:
        """Tell what somebody else says of how far the step is; it breaks no silence of its own."""
        self._offer(
            Progress(
                step=self._step, label=self._label, stage=stage, percent=percent, note=note
            )
        )  # fmt: skip
        self._write()

    def _offer(self, progress: Progress) -> None:
        if (ready := self._progress.offer(progress)) is not None:
            self._record(ready)

    def _record(self, event: Event) -> None:
        self._unwritten.append(event)

    def _write(self) -> None:
        if self._unwritten:
            batch, self._unwritten = self._unwritten, []
            with self._ctx.disk_guard():
                self._ctx.recorder.record_all(batch)

    def finish(self) -> None:
        """Take in the last lines, and remove the FIFO."""
        self._loop.remove_reader(self._channel.fileno())
        self._listen(self._channel.drain())
        self._listen(self._channel.close())
        self._end_text()
        self._write()
