"""``tailrace mcp``: the Model Context Protocol on standard input and output."""

from __future__ import annotations

import contextlib
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
    output; it ends when the input ends. Runs go on.
    """
    from tailrace.logs import set_up_logs
    from tailrace.mcp.installed import import_server

    session = current()
    set_up_logs(session.settings.log)
    run_async(_serve(session, import_server()))


async def _serve(session: Session, server: Any) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await server.serve_stdio(_Opening(session, stack))


class _Opening:
    """Opens the runs anew for each call, because daemons come and go while an agent works.

    Where none lives, what starts runs is kept: a run whose turn hasn't come
    waits for it there, and so does this process before it ends.
    """

    def __init__(self, session: Session, stack: contextlib.AsyncExitStack) -> None:
        self._session, self._stack = session, stack
        self._folders: Source | None = None

    @contextlib.asynccontextmanager
    async def __call__(self, _request: object) -> AsyncIterator[SourceRuns]:
        """Give the runs for one call."""
        async with self._session.source() as source:
            starter = source
            if self._session.url is None and self._session.own_socket() is None:
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
