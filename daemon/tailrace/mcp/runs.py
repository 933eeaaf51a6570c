"""What the tools ask of wherever the runs are: a daemon from within, one far away, or folders."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from tailrace import wire


class Runs(Protocol):
    """The runs that one caller may see and steer.

    Every method raises `tailrace.errors.TailraceError` where it can't do what
    it says; its text is for the caller. Cancelling one harms no run.
    """

    async def pipelines(self) -> list[wire.PipelineView]:
        """Return the pipelines, broken ones with their mistakes."""

    async def start(
        self, pipeline: str, params: dict[str, str], depth: str | None
    ) -> tuple[str | None, str | None]:
        """Start a run that goes on whoever watches; return its id, or None and why not."""

    async def resolve(self, text: str) -> str:
        """Return the id that an id, a ref, a prefix or ``latest`` means."""

    async def page(
        self, *, pipeline: str | None, status: str | None, limit: int, cursor: str | None
    ) -> tuple[list[wire.RunSummary], str | None]:
        """Return runs, newest first, and the cursor of the next page."""

    async def view(self, run_id: str) -> wire.RunView:
        """Return a run's state."""

    def past(
        self, run_id: str, *, tail: int | None = None, step: str | None = None
    ) -> AsyncGenerator[list[wire.Frame], None]:
        """Give a run's events up to now; with ``tail`` only its last lines of output."""

    async def cancel(self, run_id: str, reason: str | None) -> None:
        """Cancel a run."""

    async def answer(self, run_id: str, prompt: str, answer: str) -> None:
        """Answer a prompt."""

    async def progress(self, run_id: str, body: wire.ProgressBody) -> None:
        """Tell how far a step is, in its name."""
