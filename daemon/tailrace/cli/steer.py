"""``tailrace cancel``, ``pause``, ``answer`` and alike: what is done to runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from tailrace.cli import completing
from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async

if TYPE_CHECKING:
    from tailrace.cli.source import Source


class _Duration(click.ParamType[str]):
    """A duration as in pipelines; it stays text."""

    name = "duration"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it."""
        from tailrace.core.units import parse_duration

        try:
            by_ms = parse_duration(value)
        except ValueError as exc:
            self.fail(f"'{value}' makes no sense; {exc}", param, ctx)
        if not by_ms:
            self.fail("extend by more than nothing, such as 10m", param, ctx)
        return value


DURATION: Final = _Duration()


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=completing.runs)
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
        view = await source.view(run_id)
        ended = view.finished_at is not None and view.status != "aborted"  # it had lost its runner
        what = f"has ended: {view.status}" if ended else "is being cancelled"
        _done(session, run_id, f"{view.ref} {what}", "cancel")


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=completing.runs)
@global_options
def pause(run_name: str) -> None:
    """Freeze a run: its processes stand still, and no step begins.

    The time until `tailrace resume` counts for no timeout.
    """
    run_async(_pause(current(), run_name))


async def _pause(session: Session, name: str) -> None:
    async with session.source() as source:
        run_id = await source.resolve(name)
        await source.pause(run_id)
        _done(session, run_id, f"{(await source.view(run_id)).ref} is paused", "pause")


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=completing.runs)
@global_options
def resume(run_name: str) -> None:
    """Go on with a paused run."""
    run_async(_resume(current(), run_name))


async def _resume(session: Session, name: str) -> None:
    async with session.source() as source:
        run_id = await source.resolve(name)
        await source.resume(run_id)
        _done(session, run_id, f"{(await source.view(run_id)).ref} goes on", "resume")


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=completing.runs)
@click.argument("step", shell_complete=completing.steps)
@click.argument("by", metavar="DURATION", type=DURATION)
@global_options
def extend(run_name: str, step: str, by: str) -> None:
    """Give a running step more time before it times out.

    DURATION, such as 10m, is what is added.
    """
    run_async(_extend(current(), run_name, step, by))


async def _extend(session: Session, name: str, step: str, by: str) -> None:
    async with session.source() as source:
        run_id = await source.resolve(name)
        await source.extend(run_id, step, by)
        ref = (await source.view(run_id)).ref
        _done(session, run_id, f"{step} of {ref} has {by} more", "extend")


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=completing.runs)
@click.argument("prompt", shell_complete=completing.questions)
@click.argument("text")
@global_options
def answer(run_name: str, prompt: str, text: str) -> None:
    """Answer a question that a run asks.

    `tailrace show RUN` lists the open ones.
    """
    run_async(_answer(current(), run_name, prompt, text))


async def _answer(session: Session, name: str, prompt: str, text: str) -> None:
    async with session.source() as source:
        run_id = await source.resolve(name)
        await source.answer(run_id, prompt, text)
        ref = (await source.view(run_id)).ref
        _done(session, run_id, f"{prompt} of {ref} is answered", "answer")


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=completing.runs)
@click.argument("step", shell_complete=completing.steps)
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
@click.argument("run_names", metavar="RUN…", nargs=-1, required=True,
                shell_complete=completing.runs)  # fmt: skip
@global_options
def rm(run_names: Sequence[str]) -> None:
    """Delete finished runs with all their files."""
    run_async(_rm(current(), run_names))


async def _rm(session: Session, names: Sequence[str]) -> None:
    async with session.source() as source:
        # All names first: a typing mistake must not leave half of the work done.
        ids = {name: await source.resolve(name) for name in names}
        for name, run_id in ids.items():
            told = await ref_of(source, name, run_id)
            await source.delete(run_id)
            _done(session, run_id, f"{told} is deleted", "rm")


async def ref_of(source: Source, name: str, run_id: str) -> str:
    """Return how a run that was named is told: ``latest`` may be another one by then."""
    return (await source.view(run_id)).ref if name == "latest" else name


def _done(session: Session, run_id: str, text: str, what: str) -> None:
    from tailrace.cli.output import print_json, say

    if session.as_json:
        print_json({"run": run_id, "done": what})
    else:
        say(text)
