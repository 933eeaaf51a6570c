"""``tailrace tail``: a run's output, from the beginning or the last lines on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import click

from tailrace.cli import completing
from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async

_MOST_LINES: Final = 10**9  # a greater number is all lines, too


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    step: str | None
    lines: int | None
    follow: bool
    matches: Callable[[str], bool] | None
    plain: bool
    raw: bool


@click.command()
@click.argument("run_name", metavar="[RUN]", default="latest", shell_complete=completing.runs)
@click.option("--step", metavar="STEP", shell_complete=completing.steps,
              help="Only this step's output.")  # fmt: skip
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N",
              help="Begin with the last N lines.")  # fmt: skip
@click.option("--no-follow", is_flag=True, help="Show what is there, and end.")
@click.option("--grep", metavar="RE", help="Only lines that match (RE2).")
@click.option("--plain", is_flag=True, help="Print lines, also in a terminal.")
@click.option("--raw", is_flag=True, help="Print the output as it came, without the steps' names.")
@global_options
def tail(
    run_name: str,
    step: str | None,
    lines: int | None,
    no_follow: bool,
    grep: str | None,
    plain: bool,
    raw: bool,
) -> int:
    """Show a run's output, and go on while it lives.

    RUN is the latest one by default. In a terminal a live run shows as the same
    tree as in `tailrace run`, unless an option asks for lines.
    """
    session = current()
    if session.as_json + plain + raw > 1:
        raise click.UsageError("--json, --plain and --raw exclude each other; choose one")
    if grep is not None and (session.as_json or raw):
        raise click.UsageError("--grep picks lines; use it without --json and --raw")
    wanted = _Wanted(
        step=step,
        lines=None if lines is None else min(lines, _MOST_LINES),
        follow=not no_follow,
        matches=matcher(grep),
        plain=plain,
        raw=raw,
    )
    return run_async(_tail(session, run_name, wanted))


async def _tail(session: Session, name: str, wanted: _Wanted) -> int:
    from tailrace.cli import follow
    from tailrace.cli.output import JsonLines, RawText, Show, is_terminal
    from tailrace.core.events import FINAL_RUN_STATUSES
    from tailrace.errors import UnknownError

    async with session.source() as source:
        run_id = await source.resolve(name)
        view = await source.view(run_id)
        if wanted.step is not None and wanted.step not in {step.step for step in view.steps}:
            names = ", ".join(step.step for step in view.steps)
            raise UnknownError(f"{view.ref} has no step '{wanted.step}'; it has {names}")
        for_lines = wanted.plain or wanted.raw or session.as_json or wanted.matches is not None
        of_part = wanted.step is not None or wanted.lines is not None or not wanted.follow
        is_over = view.status in FINAL_RUN_STATUSES
        if not (for_lines or of_part or is_over) and follow.draws_tree():
            async with follow.tree(source, run_id, hint="Ctrl-C leaves; the run goes on") as show:
                return await follow.watch(source.events(run_id, texts=False), show)
        lines: Show
        if session.as_json:
            lines = JsonLines()
        elif wanted.raw:
            lines = RawText(to_terminal=is_terminal())
        else:
            lines = follow.plain_lines(wanted.matches)
        batches = source.events(run_id, tail=wanted.lines, step=wanted.step, follow=wanted.follow)
        status = await follow.watch(batches, lines)
        return status if wanted.follow else 0


def matcher(pattern: str | None) -> Callable[[str], bool] | None:
    """Return whether a line matches, as a function; None for no pattern.

    Raises:
        click.UsageError: it is no pattern of RE2.
    """
    if pattern is None:
        return None
    from tailrace.core.line_pattern import compile_pattern

    try:
        compiled = compile_pattern(pattern)
    except ValueError as exc:
        raise click.UsageError(f"--grep '{pattern}' is no pattern of RE2: {exc}") from None
    return lambda line: compiled.search(line) is not None
