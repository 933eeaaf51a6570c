"""``tailrace run`` and ``retry``: start a run and watch it to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tailrace.cli import completing
from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async
from tailrace.cli.source import Asked, Source

if TYPE_CHECKING:
    from tailrace.cli.follow import Interrupts


@click.command()
@click.argument("pipeline", shell_complete=completing.pipelines_or_paths)
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A param's value."
)
@click.option("--depth", metavar="NAME", help="One of the pipeline's depths.")
@click.option("--detach", is_flag=True, help="Print the run's ref and leave; it goes on.")
@click.option("--keep", is_flag=True, help="Keep the workspace, also after a success.")
@click.option("--local", is_flag=True, help="Do the work here, even if a daemon runs.")
@click.option("--plain", is_flag=True, help="Print lines, also in a terminal.")
@global_options
def run(
    pipeline: str,
    params: Sequence[str],
    depth: str | None,
    detach: bool,
    keep: bool,
    local: bool,
    plain: bool,
) -> int:
    """Run a pipeline and watch every line live.

    PIPELINE is a name in the pipelines' folder, or the path of a file: whatever
    holds a slash or ends in .yaml.
    """
    session = current()
    _refuse_both(session, plain)
    if is_path(pipeline):
        if session.url and not local:
            from tailrace.client.answers import shown

            raise click.UsageError(
                f"'{pipeline}' is a file here, and {shown(session.url)} runs pipelines of its own; "
                "name one of those, or add --local"
            )
        local = True
    asked = Asked(pipeline=pipeline, params=parse_params(params), depth=depth, keep_workspace=keep)
    return run_async(_run(session, asked, local=local, detach=detach, plain=plain))


async def _run(session: Session, asked: Asked, *, local: bool, detach: bool, plain: bool) -> int:
    from tailrace.cli.follow import Interrupts

    async with session.source(local=local) as source:
        with Interrupts(source) as interrupts:
            await interrupts.begin()
            run_id, reason = await source.start(asked)
            if run_id is not None:
                return await _go_on(session, source, run_id, interrupts, detach=detach, plain=plain)
    from tailrace.cli.output import print_json, say

    if session.as_json:
        print_json({"run": None, "reason": reason})
    else:
        say(f"no run was started: {reason}")
    return 0


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=completing.runs)
@click.option("--from", "start", default="failed", show_default=True, metavar="failed|start|STEP",
              shell_complete=completing.starts, help="Where to begin.")  # fmt: skip
@click.option("--detach", is_flag=True, help="Print the new run's ref and leave; it goes on.")
@click.option("--plain", is_flag=True, help="Print lines, also in a terminal.")
@global_options
def retry(run_name: str, start: str, detach: bool, plain: bool) -> int:
    """Run again what failed, on the old run's workspace."""
    _refuse_both(current(), plain)
    return run_async(_retry(current(), run_name, start, detach=detach, plain=plain))


async def _retry(session: Session, name: str, start: str, *, detach: bool, plain: bool) -> int:
    from tailrace.cli.follow import Interrupts

    async with session.source() as source:
        old_id = await source.resolve(name)
        with Interrupts(source) as interrupts:
            await interrupts.begin()
            run_id = await source.retry(old_id, start)
            return await _go_on(session, source, run_id, interrupts, detach=detach, plain=plain)


async def _go_on(
    session: Session, source: Source, run_id: str, interrupts: Interrupts, *, detach: bool,
    plain: bool,
) -> int:  # fmt: skip
    from tailrace.cli.follow import run_to_end

    view = await source.view(run_id)
    interrupts.know(run_id, view.ref)
    if detach:
        from tailrace.cli.output import print_json, print_text

        if session.as_json:
            print_json(view)
        else:
            print_text(view.ref)
        await source.settle()
        if not interrupts.came:
            return 0
    return await run_to_end(source, run_id, interrupts, as_json=session.as_json, plain=plain)


def _refuse_both(session: Session, plain: bool) -> None:
    if session.as_json and plain:
        raise click.UsageError("--json and --plain exclude each other; choose one")


def is_path(pipeline: str) -> bool:
    """Whether PIPELINE names a file, rather than a pipeline of the folder."""
    return "/" in pipeline or pipeline.endswith((".yaml", ".yml"))


def parse_params(given: Sequence[str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` pairs as a mapping.

    Raises:
        click.UsageError: one has no ``=``, or a name comes twice.
    """
    params: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"'-p {pair}' has no value; write -p NAME=VALUE")
        if name in params:
            raise click.UsageError(f"'-p {name}=…' is given twice; leave one of them out")
        params[name] = value
    return params
