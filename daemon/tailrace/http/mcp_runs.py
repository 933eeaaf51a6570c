"""The runs as one request to ``/mcp`` may see them: the daemon's own rules, from within."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Generator
from typing import Any, Final

from aiohttp import web

from tailrace import wire
from tailrace.errors import UnknownError
from tailrace.http.guard import check_scope
from tailrace.http.keys import CALLER, WORKER
from tailrace.http.pipelines import pipeline_views
from tailrace.http.query import shown
from tailrace.http.requests import base_url, resolve_run
from tailrace.http.runs import page_of
from tailrace.http.steering import scope_of_answer, steer
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.rundir.places import Tail, last_lines, tail_frames
from tailrace.views import run_summary, run_view
from tailrace.worker.submission import Submission

_CHUNK: Final = 1 << 18  # bytes of events at once
_BATCH: Final = 64  # frames at once, each of 64 KiB at most

VIA: Final = "mcp"


class RequestRuns:
    """A `tailrace.mcp.runs.Runs` with the rights of the request's caller.

    Reading needs ``read``, which the route asks for; all else ``run``, or what
    an ``ask`` step demands. Runs of other pipelines than the token's aren't there.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._worker = request.app[WORKER]
        self._caller = request[CALLER]

    async def pipelines(self) -> list[wire.PipelineView]:
        """Return the caller's pipelines."""
        return list(pipeline_views(self._request))

    async def start(
        self, pipeline: str, params: dict[str, str], depth: str | None
    ) -> tuple[str | None, str | None]:
        """Start a run; that is done to its end, also when the client goes away meanwhile."""
        check_scope(self._caller, "run")
        if not self._caller.may_see(pipeline):
            raise UnknownError(f"no pipeline is named '{shown(pipeline)}'")
        started = await self._worker.submit(
            Submission(
                pipeline=pipeline, params=dict(params), text=True, depth=depth,
                on_disconnect="continue", by=self._caller.name, via=VIA,
                trusted=self._caller.trusted,
            )
        )  # fmt: skip
        return started.run_id, started.reason

    async def resolve(self, text: str) -> str:
        """Return a run's id; ``latest`` is the latest that the caller may see."""
        return resolve_run(self._request, text)

    async def page(
        self, *, pipeline: str | None, status: str | None, limit: int, cursor: str | None
    ) -> tuple[list[wire.RunSummary], str | None]:
        """Return the caller's runs, newest first."""
        rows, next_cursor = page_of(self._request, pipeline, status, limit, cursor)
        base = base_url(self._request)
        return [run_summary(row, base) for row in rows], next_cursor

    async def view(self, run_id: str) -> wire.RunView:
        """Return a run's state."""
        return run_view(await self._worker.snapshot(run_id), base_url(self._request))

    async def past(
        self, run_id: str, *, tail: int | None = None, step: str | None = None
    ) -> AsyncGenerator[list[wire.Frame], None]:
        """Give a run's events up to now."""
        run = self._worker.state.run(run_id)
        try:
            found = await asyncio.to_thread(_past, run, tail, step)
            try:
                while frames := await asyncio.to_thread(next, found, None):
                    yield frames if step is None else [f for f in frames if f.step == step]
            finally:
                found.close()
        except FileNotFoundError:
            raise UnknownError(f"the run '{run_id}' has been deleted") from None

    async def cancel(self, run_id: str, reason: str | None) -> None:
        """Cancel a run."""
        await self._steer(run_id, "cancel", reason=reason)

    async def answer(self, run_id: str, prompt: str, answer: str) -> None:
        """Answer a prompt."""
        check_scope(self._caller, await scope_of_answer(self._request, run_id, prompt))
        await self._steer(run_id, "answer", checked=True, prompt=prompt, answer=answer)

    async def progress(self, run_id: str, body: wire.ProgressBody) -> None:
        """Tell how far a step is."""
        await self._steer(
            run_id, "progress", step=body.step, stage=body.stage, percent=body.percent,
            note=body.note,
        )  # fmt: skip

    async def _steer(
        self, run_id: str, command: Any, *, checked: bool = False, **more: Any
    ) -> None:
        if not checked:
            check_scope(self._caller, "run")
        asked = wire.Command(command=command, by=self._caller.name, via=VIA, **more)
        await steer(self._request, run_id, asked, where="")


def _past(
    run: RunDir, tail: int | None, step: str | None
) -> Generator[list[wire.Frame], None, None]:
    """Give a run's events in batches, up to the moment of the call; not asynchronous."""
    last = last_lines(run, tail or 0, step=step)
    return _last(run, last) if tail is not None else _all(run, last.upto)


def _last(run: RunDir, last: Tail) -> Generator[list[wire.Frame], None, None]:
    frames = tail_frames(run, last)
    while batch := list(itertools.islice(frames, _BATCH)):
        yield batch


def _all(run: RunDir, upto: int) -> Generator[list[wire.Frame], None, None]:
    reader = JournalReader(run)
    try:
        while reader.seq < upto and (frames := reader.read(_CHUNK)):
            yield [frame for frame in frames if frame.seq <= upto]
    finally:
        reader.close()
