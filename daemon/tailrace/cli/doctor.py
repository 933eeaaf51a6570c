"""``tailrace doctor``: what keeps pipelines from running here, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tailrace.cli import completing
from tailrace.cli.main import global_options
from tailrace.cli.run import is_path
from tailrace.cli.session import Session, current, run_async

if TYPE_CHECKING:
    from rich.console import Console

    from tailrace import wire
    from tailrace.pipeline.catalog import Entry

_SIGNS: Final = {"ok": ("✓", "+"), "warning": ("!", "!"), "problem": ("✗", "x")}
_STYLES: Final = {"ok": "good", "warning": "warn", "problem": "bad"}


@click.command()
@click.argument("names", metavar="[PIPELINE]…", nargs=-1,
                shell_complete=completing.pipelines_or_paths)  # fmt: skip
@click.option("--local", is_flag=True, help="Look from here, even if a daemon runs.")
@global_options
def doctor(names: Sequence[str], local: bool) -> int:
    """Tell whether this machine can do what its pipelines ask for.

    It looks at commands, secrets, hosts, MCP servers, containment, sandbox,
    disk and folders; where a daemon runs, that one looks, with its PATH and
    its secrets. PIPELINE is a name or the path of a file; without one, all
    pipelines are checked. Exit status 1 if something is a problem.
    """
    from tailrace.client.answers import shown

    session = current()
    if any(map(is_path, names)):
        if session.url and not local:
            raise click.UsageError(
                f"a file here can't be checked by {shown(session.url)}; leave it out, "
                "or add --local"
            )
        local = True
    where = None if local else session.url or session.own_socket()
    report = run_async(_report(session, list(dict.fromkeys(names)), where))
    if session.as_json:
        from tailrace.cli.output import print_json

        print_json(report)
    else:
        _print(report, f", as the daemon at {shown(str(where))} sees it" if where else "")
    return 1 if report.status == "problem" else 0


async def _report(
    session: Session, names: list[str], where: str | Path | None
) -> wire.DoctorReport:
    if where is None:
        return await _look_from_here(session, names)
    from tailrace.cli.remote import no_pipeline
    from tailrace.errors import UnknownError

    async with session.client(where) as client:
        try:
            return await client.doctor(names)
        except UnknownError:  # whose hint is for HTTP
            raise await no_pipeline(client, names) from None


async def _look_from_here(session: Session, names: list[str]) -> wire.DoctorReport:
    """Look as ``tailrace run`` without a daemon would; makes no folder."""
    from tailrace.core.mask_rules import MaskRules
    from tailrace.doctor.examination import examine
    from tailrace.rundir.layout import StateDir
    from tailrace.undumpable import become_undumpable
    from tailrace.worker.requirements import Requirements
    from tailrace.worker.secrets import SecretStore
    from tailrace.worker.shapes import load_all_shapes

    become_undumpable()  # steps run as the same user, and this holds secrets
    settings = session.settings
    secrets = SecretStore.take(settings, os.environ)
    return await examine(
        settings,
        StateDir(session.state_path()),
        _entries(session, names),
        Requirements(settings, secrets, MaskRules({}, load_all_shapes(settings))),
        every_server=not names,
    )


def _entries(session: Session, names: list[str]) -> list[Entry]:
    """Return the pipelines of these names and files, broken ones too; all where there are none.

    Raises:
        UnknownError: there is no pipeline of a name.
    """
    from tailrace.errors import InvalidInputError
    from tailrace.pipeline.catalog import Entry
    from tailrace.pipeline.loader import load_pipeline

    catalog = session.catalog()
    if not names:
        return catalog.entries()
    found = []
    for name in names:
        path = Path(name)
        try:
            pipeline = load_pipeline(path, display=name) if is_path(name) else catalog.get(name)
            entry = Entry(name=pipeline.name, path=path, pipeline=pipeline)
        except InvalidInputError as exc:
            entry = Entry(name=path.stem, path=path, problems=exc.problems)
        found.append(entry)
    return found


def _print(report: wire.DoctorReport, by: str) -> None:
    """Print the machine's checks, then the pipelines', then what it comes to."""
    from tailrace.cli.picture import make_console

    console = make_console()
    if console.is_terminal:
        _draw(console, report)
    else:
        for check in report.checks:
            click.echo("  ".join(_cells(check)))
    problems = sum(check.status == "problem" for check in report.checks)
    warnings = sum(check.status == "warning" for check in report.checks)
    counts = [
        f"{count} {what}{'' if count == 1 else 's'}"
        for count, what in ((problems, "problem"), (warnings, "warning"))
        if count
    ]
    said = " and ".join(counts) or "all is well"
    console.print(said + by, style=_STYLES[report.status], soft_wrap=True)


def _cells(check: wire.DoctorCheck) -> tuple[str, str, str]:
    """Return a check as a line's parts: status, what, and what was found."""
    from tailrace.cli.visible import visible

    what = f"{check.pipeline} {check.check}" if check.pipeline else check.check
    text = f"{check.text}; {check.hint}" if check.hint else check.text
    return check.status, visible(_flat(what)), visible(_flat(text))


def _draw(console: Console, report: wire.DoctorReport) -> None:
    """Draw two tables, in which long texts go on beneath themselves."""
    from rich.table import Table
    from rich.text import Text

    from tailrace.cli.picture import symbols_for
    from tailrace.cli.rows import UNICODE
    from tailrace.cli.visible import visible

    place = 0 if symbols_for(console) is UNICODE else 1
    arrow = ("→ ", "> ")[place]
    for of_pipelines in (False, True):
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        before = None
        for check in report.checks:
            if (check.pipeline is not None) != of_pipelines:
                continue
            style = _STYLES[check.status]
            name = check.check if check.pipeline is None else check.pipeline
            text = _flat(check.text)
            if check.pipeline is not None and check.check not in ("pipeline", "file"):
                text = f"{check.check}: {text}"
            found = Text(visible(text))
            if check.hint:
                found.append(f"\n{arrow}{visible(_flat(check.hint))}", "dim")
            shown = "" if name == before and of_pipelines else visible(_flat(name))
            sign = Text(_SIGNS[check.status][place], style)
            table.add_row(sign, Text(shown, "strong"), found)
            before = name
        if table.row_count:
            console.print(table)
            console.print()


def _flat(text: str) -> str:
    return " ".join(text.split())
