"""``tailrace runs`` and ``show``: what ran, and how it went."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from tailrace.cli import completing
from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async

if TYPE_CHECKING:
    from tailrace import wire
    from tailrace.cli.rows import Line


@click.command()
@click.option("--pipeline", metavar="NAME", shell_complete=completing.pipelines,
              help="Only this pipeline's.")  # fmt: skip
@click.option("--status", metavar="STATUS", shell_complete=completing.statuses,
              help="Only those with this status.")  # fmt: skip
@click.option("-n", "--limit", type=click.IntRange(1, 1_000), default=20, show_default="20",
              metavar="N", help="How many.")  # fmt: skip
@click.option("--cursor", metavar="CURSOR", help="The next page, as --json names it.")
@global_options
def runs(pipeline: str | None, status: str | None, limit: int, cursor: str | None) -> None:
    """List runs, newest first."""
    run_async(_runs(current(), pipeline, status, limit, cursor))


async def _runs(
    session: Session, pipeline: str | None, status: str | None, limit: int, cursor: str | None
) -> None:
    from tailrace.cli.output import print_json, say

    async with session.source() as source:
        found, next_cursor = await source.page(
            pipeline=pipeline, status=status, limit=limit, cursor=cursor
        )
    if session.as_json:
        print_json({"runs": found, "next_cursor": next_cursor})
        return
    if not found:
        say("there are no such runs" if pipeline or status or cursor else "there are no runs yet")
        return
    from tailrace.cli.picture import make_console, print_table

    now = time.time()
    head = ("RUN", "STATUS", "STARTED", "TOOK", "WHAT")
    print_table(make_console(), head, [_row(run, now) for run in found])
    if next_cursor:
        say(f"there are more: --cursor {next_cursor}")


def _row(run: wire.RunSummary, now: float) -> list[Line]:
    from tailrace.cli.rows import STYLES, Line, spelled
    from tailrace.cli.visible import visible
    from tailrace.core.units import format_duration
    from tailrace.wire import parse_timestamp

    ago = max(0, int(now - parse_timestamp(run.created_at)))
    took = format_duration(run.duration_ms) if run.duration_ms is not None else ""
    params = " ".join(f"{n}={spelled(v)}" for n, v in run.params.items() if v not in (None, ""))
    what = Line()
    if run.status in ("error", "aborted") and run.cause:
        what.add(visible(run.cause.replace("\n", " ")) + "  ", STYLES.get(run.status, ""))
    what.add(visible(params.replace("\n", " ")), "dim")
    return [
        Line().add(run.ref, "strong"),
        Line().add(run.status, STYLES.get(run.status, "")),
        Line().add(f"{format_duration(ago * 1_000) if ago else 'just'} ago" if ago else "now"),
        Line().add(took),
        what,
    ]


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=completing.runs)
@global_options
def show(run_name: str) -> None:
    """Show a run: its steps, times and artifacts."""
    run_async(_show(current(), run_name))


async def _show(session: Session, name: str) -> None:
    async with session.source() as source:
        run_id = await source.resolve(name)
        view = await source.view(run_id)
        if session.as_json:
            from tailrace.cli.output import print_json

            print_json(view)
            return
        from tailrace.cli.model import Model
        from tailrace.cli.picture import frame_of, make_console, print_end, text_of
        from tailrace.cli.question_rows import open_question
        from tailrace.cli.rows import Line
        from tailrace.cli.view import FAILURE_TAIL
        from tailrace.cli.visible import visible

        model = Model()
        lines = FAILURE_TAIL * max(1, len(view.steps))
        async for frames in source.events(run_id, tail=lines, follow=False):
            model.take(frames)
    console = make_console()
    print_end(console, model)
    frame = frame_of(console)
    for prompt in model.snapshot.prompts.values():
        console.print()
        for row in open_question(prompt, view.ref, frame):
            console.print(text_of(row, frame.width if row.right else None), soft_wrap=True)
    asked = f"{view.id}  asked for by {visible(view.by) or 'nobody named'} via {view.via}"
    line = Line().add(f"{asked} at {view.created_at[:19]}Z", "dim")
    console.print()
    console.print(text_of(line), soft_wrap=True)
    if view.retry_of:
        console.print(text_of(Line().add(f"repeats {view.retry_of}", "dim")), soft_wrap=True)
