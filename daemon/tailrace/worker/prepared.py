"""A run between its checks and its folder."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec

from tailrace import wire
from tailrace.core import events
from tailrace.core.plan import RunFile
from tailrace.errors import DISK_RETRY_S, UnavailableError
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.worker.counter import Counter
from tailrace.worker.folder import create_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A run that is there; its lock is ours until a runner has it."""

    run: RunDir
    run_file: RunFile
    lock_fd: int  # its owner hands it to a runner, or closes it
    handover: wire.Handover


class Prepared:
    """A run that passed every check and isn't there yet.

    Holds its pipeline's counter, and what ``held`` has: commit it or leave its
    context soon.
    """

    def __init__(
        self,
        state: StateDir,
        run_file: RunFile,
        handover: wire.Handover,
        plan_event: dict[str, Any],
        counter: Counter,
    ) -> None:
        self.run_file = run_file
        self.handover = handover
        self._state = state
        self._plan_event = plan_event
        self._counter = counter
        self.held = ExitStack()  # what is let go of with the counter

    def __enter__(self) -> Prepared:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go; without a commit nothing was made, and its number is the next run's."""
        self.held.close()
        self._counter.__exit__(kind, exc, traceback)

    def commit(self, *, position: int = 0, reason: str | None = None) -> Accepted:
        """Make the run; ``position`` and ``reason`` are those of its ``queued`` event.

        Raises:
            UnavailableError: the state folder can't be written; nothing is left of the run.
        """
        group = self.run_file.plan.group or None  # without a text: all runs of the pipeline
        queued = events.Queued(position=position, reason=reason, group=group)
        first = [self._plan_event, msgspec.to_builtins(queued)]  # both masked
        try:
            self._counter.take()
            run, lock_fd = create_folder(self._state, self.run_file, first)
        except OSError as exc:
            message = f"the run can't be written to {self._state.path}: {exc.strerror}"
            raise UnavailableError(message, retry_after_s=DISK_RETRY_S) from exc
        return Accepted(run=run, run_file=self.run_file, lock_fd=lock_fd, handover=self.handover)
