"""``tailrace mcp``: the Model Context Protocol on standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async

if TYPE_CHECKING:
    from tailrace import wire
    from tailrace.cli.source import Source


@click.command()
@global_options
def mcp() -> None:
    """Let an AI agent run pipelines: the Model Context Protocol on stdio.

    The agent's program starts it and speaks with it on standard input and
    output; it ends when the input ends, or at once by Ctrl-C. Runs go on.
    """
    from tailrace.logs import set_up_logs
    from tailrace.mcp.installed import import_server

    session = current()
    set_up_logs(session.settings.log)
    run_async(_serve(session, import_server()))


async def _serve(session: Session, server: Any) -> None:
    with contextlib.suppress(asyncio.CancelledError), _Signals() as signals:
        async with contextlib.AsyncExitStack() as stack:
            opening = _Opening(session, stack)
            serving = asyncio.create_task(server.serve_stdio(opening), name="serve stdio")
            await asyncio.wait({serving})
            await serving
    if signals.came is not None:
        # No exception: the SDK reads in a thread that can't be stopped, and is waited for.
        os._exit(128 + signals.came)


class _Signals:
    """SIGINT and SIGTERM cancel the task that has entered it; a second one ends the process."""

    def __init__(self) -> None:
        self.came: int | None = None  # the first one

    def __enter__(self) -> _Signals:
        """Take the signals, but those that we were told to ignore."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._take, number, task)
        return self

    def __exit__(self, *exc: object) -> None:
        """Keep them: the process is about to end."""

    def _take(self, number: int, task: asyncio.Task[None]) -> None:
        if self.came is not None:
            os._exit(128 + number)
        self.came = number
        task.cancel()


class _Opening:
    """Opens the runs anew for each call, because daemons come and go while an agent works.

    One at an address that was given is waited for while it restarts, once it
    has answered; so its client is kept. Where none lives, what starts runs is
    kept: a run whose turn hasn't come waits for it there, and so does this
    process before it ends.
    """

    def __init__(self, session: Session, stack: contextlib.AsyncExitStack) -> None:
        self._session, self._stack = session, stack
        self._folders: Source | None = None
        self._remote: Source | None = None

    @contextlib.asynccontextmanager
    async def __call__(self, _request: object) -> AsyncIterator[SourceRuns]:
        """Give the runs for one call."""
        if self._session.url is not None:
            if self._remote is None:
                self._remote = await self._stack.enter_async_context(self._session.source())
            yield SourceRuns(self._remote, self._remote)
            return
        async with self._session.source() as source:
            starter = source
            if self._session.own_socket() is None:
                if self._folders is None:
                    self._folders = await self._stack.enter_async_context(
                        self._session.source(local=True)
                    )
                starter = self._folders
            yield SourceRuns(source, starter)


class SourceRuns:
    """A source's runs as a `tailrace.mcp.runs.Runs`; *starter* is what starts and cancels."""

    def __init__(self, source: Source, starter: Source) -> None:
        self._source, self._starter = source, starter
        self.pipelines = source.pipelines
        self.resolve = source.resolve
        self.page = source.page
        self.view = source.view
        self.cancel = starter.cancel
        self.answer = source.answer
        self.progress = source.progress

    async def start(
        self, pipeline: str, params: dict[str, str], depth: str | None
    ) -> tuple[str | None, str | None]:
        """Start a run that goes on whoever watches."""
        from tailrace.cli.source import Asked

        asked = Asked(
            pipeline=pipeline, params=params, depth=depth, on_disconnect="continue", via="mcp"
        )
        return await self._starter.start(asked)

    def past(
        self, run_id: str, *, tail: int | None = None, step: str | None = None
    ) -> AsyncGenerator[list[wire.Frame], None]:
        """Give a run's events up to now."""
        return self._source.events(run_id, tail=tail, step=step, follow=False)
