"""How an attempt is asked to stop, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tailrace.core.deadline import Deadline
from tailrace.core.events import CauseCode, Kill
from tailrace.core.units import format_duration
from tailrace.runner.process import signal_name


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    """Why a running attempt is stopped, and what it then counts as."""

    conclusion: Literal["error", "aborted", "skipped"]
    cause: str
    cause_code: CauseCode
    at_once: bool = False  # without the step's grace


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """How an attempt ended."""

    conclusion: Literal["success", "error", "aborted", "skipped"]
    returncode: int | None = None
    cause: str | None = None
    cause_code: CauseCode | None = None
    kill: Kill | None = None
    lines: int = 0
    bytes: int = 0

    @classmethod
    def stopped(cls, request: StopRequest) -> AttemptResult:
        """Return the end of an attempt that was stopped and had no process."""
        return cls(
            conclusion=request.conclusion, cause=request.cause, cause_code=request.cause_code
        )

    @property
    def signal(self) -> str | None:
        """The signal that ended the leader."""
        return signal_name(self.returncode)


def timed_out(deadline: Deadline) -> StopRequest:
    """Return why an attempt ends whose time is over."""
    assert deadline.allowed_ms is not None
    return StopRequest(
        conclusion="error",
        cause=f"timed out after {format_duration(deadline.allowed_ms)}",
        cause_code="timeout",
    )
