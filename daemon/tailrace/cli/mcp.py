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
    server = import_server()
    run_async(server.serve_stdio(_opening(session)))


def _opening(session: Session) -> Any:
    """Return what opens the runs for each call: daemons come and go while an agent works."""

    @contextlib.asynccontextmanager
    async def open_runs(_request: object) -> AsyncIterator[SourceRuns]:
        async with session.source() as source:
            yield SourceRuns(source)

    return open_runs


class SourceRuns:
    """A source's runs as a `tailrace.mcp.runs.Runs`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.pipelines = source.pipelines
        self.resolve = source.resolve
        self.page = source.page
        self.view = source.view
        self.cancel = source.cancel
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
        return await self._source.start(asked)

    def past(
        self, run_id: str, *, tail: int | None = None, step: str | None = None
    ) -> AsyncGenerator[list[wire.Frame], None]:
        """Give a run's events up to now."""
        return self._source.events(run_id, tail=tail, step=step, follow=False)
