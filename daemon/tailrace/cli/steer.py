"""``tailrace cancel``, ``skip`` and ``rm``: what is done to runs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--reason", metavar="TEXT", help="Why; it is kept in the run.")
@global_options
def cancel(run_name: str, reason: str | None) -> None:
    """Cancel a run.

    Its steps get SIGTERM and their grace; those that clean up (`when: always()`)
    still run. The run's end tells what was stopped.
    """
    run_async(_cancel(current(), run_name, reason))


async def _cancel(session: Session, name: str, reason: str | None) -> None:
    async with session.source() as source:
        run_id = await source.resolve(name)
        await source.cancel(run_id, reason)
        _done(session, run_id, f"{(await source.view(run_id)).ref} is being cancelled", "cancel")


@click.command()
@click.argument("run_name", metavar="RUN")
@click.argument("step")
@global_options
def skip(run_name: str, step: str) -> None:
    """Skip a step of a live run.

    One that runs is stopped. What needs it goes on as if it had succeeded.
    """
    run_async(_skip(current(), run_name, step))


async def _skip(session: Session, name: str, step: str) -> None:
    async with session.source() as source:
        run_id = await source.resolve(name)
        await source.skip(run_id, step)
        ref = (await source.view(run_id)).ref
        _done(session, run_id, f"{step} of {ref} is skipped", "skip")


@click.command()
@click.argument("run_names", metavar="RUN…", nargs=-1, required=True)
@global_options
def rm(run_names: Sequence[str]) -> None:
    """Delete finished runs with all their files."""
    run_async(_rm(current(), run_names))


async def _rm(session: Session, names: Sequence[str]) -> None:
    async with session.source() as source:
        # All names first: a typing mistake must not leave half of the work done.
        ids = {name: await source.resolve(name) for name in names}
        for name, run_id in ids.items():
            await source.delete(run_id)
            _done(session, run_id, f"{name} is deleted", "rm")


def _done(session: Session, run_id: str, text: str, what: str) -> None:
    from tailrace.cli.output import print_json, say

    if session.as_json:
        print_json({"run": run_id, "done": what})
    else:
        say(text)
