"""Every error that Tailrace foresees, with where, what and what to do next.

A step that fails is a result, never one of these; an exception means that
Tailrace could not do what it was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in something that came from outside.

    Rendered as ``WHERE: PROBLEM; HINT``; for a file ``position`` goes first,
    as ``FILE:LINE:COLUMN``.
    """

    where: str  # a path in the document or body: "steps.lint.needs", "params.repo"
    problem: str
    hint: str = ""
    position: str | None = None  # "pipelines/analyze.yaml:27:13"

    def __str__(self) -> str:
        """Render as the contract's section 1 shows."""
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        if self.hint:
            text += f"; {self.hint}"
        return f"{self.position}: {text}" if self.position else text

    def masked(self, mask: Callable[[str], str]) -> Problem:
        """Return it with all that it quotes masked."""
        return Problem(mask(self.where), mask(self.problem), mask(self.hint), self.position)


class TailraceError(Exception):
    """Base class of all our errors; ``str()`` is a sentence for a person."""


class InvalidInputError(TailraceError):
    """What came from outside can't be used: exit status 2, HTTP 422.

    Carries every problem at once, never just the first.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = tuple(problems)


class UnknownError(TailraceError):
    """No such run, pipeline, step or artifact: exit status 2, HTTP 404."""


class ConflictError(TailraceError):
    """The state of the run doesn't allow it: HTTP 409.

    ``state`` is the run's or step's status at that moment.
    """

    def __init__(self, message: str, *, state: str) -> None:
        super().__init__(message)
        self.state = state


DISK_RETRY_S: Final = 60  # when a disk that is full or failing is worth another try


class UnavailableError(TailraceError):
    """Not now: the queue is full or the disk is too full to start; HTTP 503.

    ``retry_after_s`` is a fair time to try again, in seconds.
    """

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnreachableError(TailraceError):
    """The daemon can't be reached or answered wrongly: exit status 3."""
