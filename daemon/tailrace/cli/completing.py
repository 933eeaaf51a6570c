"""Names that a shell completes: looked up when somebody presses Tab, for ``shell_complete``.

They come from where the command itself would look. Whatever goes wrong, or takes
too long, offers nothing and says nothing: somebody is in the middle of a line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from tailrace import wire
    from tailrace.cli.source import Source

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_WITHIN_S: Final = 2.0
_MOST_RUNS: Final = 100


def _names(find: Callable[[Source, click.Context], Awaitable[list[str]]]) -> Complete:
    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        import asyncio

        from tailrace.cli.main import Globals
        from tailrace.cli.session import Session

        session = Session(ctx.ensure_object(Globals))

        async def look() -> list[str]:
            if not (session.url or session.own_socket() or session.state_path().is_dir()):
                return []  # a state folder is made by whoever has something to put there
            async with asyncio.timeout(_WITHIN_S), session.source() as source:
                return await find(source, ctx)

        try:
            names = asyncio.run(look())
        except Exception:  # noqa: BLE001 - as the module says: nothing may be printed at a prompt
            names = []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


async def _refs(source: Source, ctx: click.Context) -> list[str]:
    found, _ = await source.page(pipeline=None, status=None, limit=_MOST_RUNS, cursor=None)
    return [run.ref for run in found] + (["latest"] if found else [])


async def _pipelines(source: Source, ctx: click.Context) -> list[str]:
    return [pipeline.name for pipeline in await source.pipelines()]


async def _view(source: Source, ctx: click.Context) -> wire.RunView:
    named = ctx.params.get("run_name")
    if ctx.get_parameter_source("run_name") is not ParameterSource.COMMANDLINE and ctx.args:
        named = ctx.args[0]  # while an option lacks its value, click gives no argument its name
    named = named or "latest"
    return await source.view(await source.resolve(named))


async def _steps(source: Source, ctx: click.Context) -> list[str]:
    return [step.step for step in (await _view(source, ctx)).steps]


async def _starts(source: Source, ctx: click.Context) -> list[str]:
    return ["failed", "start", *await _steps(source, ctx)]


async def _questions(source: Source, ctx: click.Context) -> list[str]:
    return [prompt["id"] for prompt in (await _view(source, ctx)).prompts]


async def _files(source: Source, ctx: click.Context) -> list[str]:
    return [artifact.name for artifact in (await _view(source, ctx)).artifacts]


runs: Final = _names(_refs)
pipelines: Final = _names(_pipelines)
steps: Final = _names(_steps)
starts: Final = _names(_starts)
questions: Final = _names(_questions)
files: Final = _names(_files)


def pipelines_or_paths(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a pipeline's name, or a path, which the shell does by itself."""
    if "/" in incomplete or incomplete.startswith("."):
        return [CompletionItem(incomplete, type="file")]
    return pipelines(ctx, param, incomplete)


def statuses(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a run's status."""
    from typing import get_args

    from tailrace.core.events import RunStatus

    return [CompletionItem(name) for name in get_args(RunStatus) if name.startswith(incomplete)]
