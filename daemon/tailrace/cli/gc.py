"""``tailrace gc``: what is kept no longer goes now."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

import click

from tailrace.cli.main import global_options
from tailrace.cli.session import current

if TYPE_CHECKING:
    from tailrace.worker.retention import Gone, Sweep

_REASONS: Final = {
    "age": "older than {key}",
    "runs": "more than retention.runs",
    "bytes": "over {key}",
    "done": "its run succeeded",
    "orphan": "its run is gone",
}
_KEYS: Final = {  # what, why -> the setting
    ("run", "age"): "retention.age",
    ("run", "bytes"): "retention.bytes",
    ("workspace", "age"): "retention.workspaces",
    ("workspace", "bytes"): "retention.workspace_bytes",
    ("cache", "bytes"): "retention.cache_bytes",
}


@click.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
@global_options
def gc(dry_run: bool) -> None:
    """Remove what the retention settings keep no longer.

    Finished runs, workspaces and caches, as the daemon does at its start and
    every ten minutes. Works on the state folder, with or without a daemon.
    """
    from tailrace.cli.output import print_json, say
    from tailrace.worker.retention import LINK_HINT

    done = _sweep(dry_run)
    for link in done.links:
        say(f"{link} is a link; {LINK_HINT}")
    parts = {"run": done.runs, "workspace": done.workspaces, "cache": done.caches}
    total = sum(gone.bytes for gone in done.all)
    if current().as_json:
        document = {f"{what}s": list(gone) for what, gone in parts.items()}
        print_json({"dry_run": dry_run, **document, "bytes": total})
        return
    for what, items in parts.items():
        for gone in items:
            click.echo(_line(what, gone))
    say(_summary(parts, total, dry_run))


def _sweep(dry_run: bool) -> Sweep:
    from tailrace.store.steady import SteadyIndex
    from tailrace.worker.folder import remove_unfinished
    from tailrace.worker.retention import Keeper

    session = current()
    state = session.own_state()
    index = SteadyIndex(state)
    if not dry_run:
        remove_unfinished(state)  # of command lines that were killed while they made a run
    try:
        done = Keeper(state).sweep(
            index.outlines(), session.settings.retention, now_s=time.time(), dry_run=dry_run,
            most=sys.maxsize,
        )  # fmt: skip
        if not dry_run:
            for gone in done.runs:
                index.remove(gone.run or "")
    finally:
        index.close()
    return done


def _line(what: str, gone: Gone) -> str:
    from tailrace.core.units import format_size

    reason = _REASONS[gone.why].format(key=_KEYS.get((what, gone.why), ""))
    return f"{what} {gone.name}  {format_size(gone.bytes)}  {reason}"


def _summary(parts: dict[str, tuple[Gone, ...]], total: int, dry_run: bool) -> str:
    from tailrace.core.units import format_size, plural

    counts = [plural(len(parts[what]), what) for what in ("run", "workspace")]
    entries = len(parts["cache"])
    counts.append(f"{entries:,} cache {'entry' if entries == 1 else 'entries'}")
    return f"{', '.join(counts)}: {format_size(total)} {'would be freed' if dry_run else 'freed'}"
