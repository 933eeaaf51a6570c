"""Where runs are seen and steered: a daemon, or the run folders themselves.

Both do the same under the same names, so that a command doesn't care which it
has.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Literal, Protocol

import msgspec

from tailrace import wire


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A run that the command line asks for."""

    pipeline: str
    params: dict[str, str] = {}
    depth: str | None = None
    keep_workspace: bool = False
    on_disconnect: Literal["continue", "cancel"] | None = None  # None: as the pipeline says
    via: str = "cli"  # told where no daemon does it, which says by itself what it came through


class Source(Protocol):
    """Runs, wherever they are; an async context manager.

    Every method raises `tailrace.errors.TailraceError` where it can't do what
    it says: `UnknownError` for no such run, `ConflictError` where the run's state
    doesn't allow it, `UnreachableError` where the daemon has gone.
    """

    async def start(self, asked: Asked) -> tuple[str | None, str | None]:
        """Start a run; return its id, or None and why there is none (``on_conflict: skip``)."""

    async def retry(self, run_id: str, start: str) -> str:
        """Repeat what ``failed``, all (``start``), or from a step on; return the new id."""

    async def settle(self) -> None:
        """Return when what was started here needs us no more."""

    async def resolve(self, text: str) -> str:
        """Return the id of the run that *text* means."""

    async def page(
        self, *, pipeline: str | None, status: str | None, limit: int, cursor: str | None
    ) -> tuple[list[wire.RunSummary], str | None]:
        """Return runs, newest first, and the cursor of the next page."""

    async def view(self, run_id: str) -> wire.RunView:
        """Return a run's state."""

    def events(
        self, run_id: str, *, after: int = 0, tail: int | None = None, step: str | None = None,
        follow: bool = True, texts: bool = True,
    ) -> AsyncGenerator[list[wire.Frame], None]:  # fmt: skip
        """Give a run's events from a number on, in order, until the last one.

        ``tail`` leaves out all but the last lines of output. Without
        ``follow`` it ends with what is there now. Without ``texts`` the data of
        a ``log`` is what `log_reader`'s user needs, and output that comes too fast
        may be left out: enough for a view.
        """

    def log_reader(self, run_id: str) -> Callable[[str, int, int, int], bytes] | None:
        """Return what reads a log (step, attempt, from, to); None where events bring the text."""

    async def cancel(
        self, run_id: str, reason: str | None = None, *, key: str | None = None
    ) -> None:
        """Cancel a run; one that is being cancelled is told nothing new.

        However often it is asked for with one *key*, it is done once.
        """

    async def pause(self, run_id: str) -> None:
        """Freeze a run."""

    async def resume(self, run_id: str) -> None:
        """Go on with a paused run."""

    async def answer(self, run_id: str, prompt: str, answer: str) -> None:
        """Answer a prompt."""

    async def progress(self, run_id: str, body: wire.ProgressBody) -> None:
        """Tell how far a step is, in its name."""

    async def skip(self, run_id: str, step: str) -> None:
        """Skip a step."""

    async def extend(self, run_id: str, step: str, by: str) -> None:
        """Give a step's attempt more time, such as ``10m``."""

    async def delete(self, run_id: str) -> None:
        """Delete a finished run."""

    def artifact(self, run_id: str, name: str) -> AsyncGenerator[bytes, None]:
        """Give an artifact's bytes; close it (`contextlib.aclosing`) where it is left early."""

    async def pipelines(self) -> list[wire.PipelineView]:
        """Return the pipelines as ``GET /pipelines`` lists them."""
