"""``tailrace prove``: Tailrace's promises, tried on this machine, and a table of what came out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tailrace.cli.main import global_options
from tailrace.cli.session import current, run_async

if TYPE_CHECKING:
    from tailrace.cli.proving import Progress
    from tailrace.prove.proof import Kind, Verdict

_PROOFS: Final = ("daemon-kills", "watchers", "cancels", "runner-kills", "canaries")
_MISSES: Final = ("lost", "doubled", "survivors", "leaks")


@click.command()
@click.argument("proofs", nargs=-1, metavar="[PROOF]…", type=click.Choice(_PROOFS))
@click.option("--quick", is_flag=True, help="A tenth of it, in some fifteen seconds.")
@click.option("--seed", type=int, metavar="N", help="Draw the moments and secrets of that run.")
@click.option("--keep", is_flag=True, help="Keep the folder, also where nothing was missed.")
@click.option(
    "--report", metavar="FILE", default="tailrace-prove.html", show_default=True,
    type=click.Path(dir_okay=False, writable=True), help="Where the HTML report goes.",
)  # fmt: skip
@click.option(
    "--plant", multiple=True, type=click.Choice(_MISSES), help="Make a miss, to see it found."
)
@global_options
def prove(
    proofs: tuple[str, ...], quick: bool, seed: int | None, keep: bool, report: str,
    plant: tuple[Kind, ...],
) -> int:  # fmt: skip
    """Prove that nothing is lost, left behind or leaked here.

    Without PROOF all of them, in about a minute: daemon-kills, watchers,
    cancels, runner-kills, canaries. It starts daemons of its own in a temporary folder,
    on the loopback interface, and kills them; daemons and runs of yours aren't
    touched. The exit status is 1 if anything was missed.
    """
    from tailrace.cli.proving import Progress, print_verdict

    if not os.access(Path(report).absolute().parent, os.W_OK):  # before the minute that it takes
        raise click.UsageError(f"{report} can't be written; name another file with --report")
    _check_plants(proofs or _PROOFS, plant)
    session = current()
    session.refuse("it makes state folders and daemons of its own", "--url", "--state")
    # Drawn here, so that whoever saw a miss can have the same moments again.
    drawn = random.randrange(1 << 32) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="tailrace-prove-"))
    passed = False
    try:
        wanted = _Wanted(proofs or _PROOFS, drawn, quick, plant)
        with Progress(wanted.proofs, quiet=session.as_json) as progress:
            verdict = run_async(_prove(folder, progress, wanted))
        passed = verdict.passed
        page = _write(verdict, Path(report))
        print_verdict(verdict, as_json=session.as_json, page=page)
    except asyncio.CancelledError:
        passed = True  # left by Ctrl-C: nothing was found, and nothing is kept
        raise KeyboardInterrupt from None
    finally:
        _leave(folder, kept=keep or not passed, quiet=session.as_json)
    return 0 if passed else 1


def _check_plants(proofs: Collection[str], plant: Collection[Kind]) -> None:
    """Refuse a miss that no proof would make: nothing found would look as if it failed to find.

    Raises:
        click.UsageError: names the proofs that make it.
    """
    from tailrace.prove.course import PROMISES

    for kind in plant:
        able = [promise.name for promise in PROMISES if kind in promise.plants]
        if not set(able) & set(proofs):
            raise click.UsageError(
                f"--plant {kind} is made by {' and '.join(able)}; name one of them, too"
            )


@dataclass(frozen=True, slots=True)
class _Wanted:
    proofs: Collection[str]
    seed: int
    quick: bool
    planted: tuple[Kind, ...]


async def _prove(folder: Path, progress: Progress, wanted: _Wanted) -> Verdict:
    from tailrace.prove.course import PROMISES, prove_all
    from tailrace.prove.proof import QUICK, Counts

    with _ends_on_signals(progress):
        return await prove_all(
            folder, QUICK if wanted.quick else Counts(), seed=wanted.seed, planted=wanted.planted,
            tell=progress.tell, ended=progress.ended,
            promises=[promise for promise in PROMISES if promise.name in wanted.proofs],
        )  # fmt: skip


@contextlib.contextmanager
def _ends_on_signals(progress: Progress) -> Iterator[None]:
    """Cancel the calling task on the first signal; cleaning up is short, and isn't cut off."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end() -> None:
        if not task.cancelling():
            progress.say("ending what was started …")
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _write(verdict: Verdict, path: Path) -> Path:
    from tailrace.prove.page import write_page

    path.write_bytes(write_page(verdict))
    return path.resolve()


def _leave(folder: Path, *, kept: bool, quiet: bool) -> None:
    from tailrace.cli.output import say

    if not kept:
        shutil.rmtree(folder)
    elif not quiet:
        say(f"kept for a look: {folder}")
