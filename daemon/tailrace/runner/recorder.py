"""Writes a run's events: masked, numbered, timed, in one order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tailrace import wire
from tailrace.core.events import Event, masked_fields
from tailrace.core.lines import Slice
from tailrace.core.mask_rules import MaskRules
from tailrace.rundir.journal import JournalWriter
from tailrace.rundir.layout import RunDir


class Recorder:
    """The only way to the journal; every text passes the masker here.

    ``rules`` may be replaced while the run goes on (late secrets). *room* is
    kept for urgent events, as `JournalWriter` says.
    """

    def __init__(
        self,
        run: RunDir,
        rules: MaskRules,
        *,
        room: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rules = rules
        self._journal = JournalWriter(run, room=room)
        self._clock = clock

    @property
    def seq(self) -> int:
        """Number of the last event written."""
        return self._journal.seq

    def record(self, event: Event, *, urgent: bool = False) -> int:
        """Write an event and return its ``seq``; an *urgent* one finds room on a full disk too.

        Raises:
            OSError: the disk is full or failing; nothing was written.
        """
        fields = masked_fields(event, self.rules.mask_text)
        return self._journal.append(wire.timestamp(self._clock()), fields, urgent=urgent)

    def record_all(self, batch: Sequence[Event]) -> int:
        """Write events of one moment, or none of them; return the last one's ``seq``.

        Their texts are looked through together, and only where there is
        something to mask one by one: a step that tells a lot costs a scan a batch.

        Raises:
            OSError: the disk is full or failing; nothing was written.
        """
        texts: list[str] = []

        def gather(text: str) -> str:
            texts.append(text)
            return text

        fields = [masked_fields(event, gather) for event in batch]
        # Between two of them a line feed, where no shape goes on. A secret of several lines might
        # be found that is in none of them, which then costs the looking through one by one.
        if self.rules.would_mask("\n".join(texts)):
            fields = [masked_fields(event, self.rules.mask_text) for event in batch]
        return self._journal.append_all(wire.timestamp(self._clock()), fields)

    def record_log(self, step: str, attempt: int, piece: Slice) -> int:
        """Write the record of a slice whose bytes are in the attempt's log, masked already."""
        fields = {"event": "log", "step": step, "attempt": attempt, "line": piece.line}
        if piece.open:
            fields["open"] = True
        fields |= {"offset": piece.offset, "bytes": len(piece.data)}
        return self._journal.append(wire.timestamp(self._clock()), fields)

    def sync(self) -> None:
        """Return once all that was written is on disk."""
        self._journal.sync()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()
