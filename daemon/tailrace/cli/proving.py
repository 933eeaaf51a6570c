"""What ``tailrace prove`` shows: how far it is, and its table."""

from __future__ import annotations

import contextlib
import sys
import textwrap
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tailrace.cli.keyboard import quiet_keyboard
from tailrace.cli.output import has_colours, is_terminal, print_json, say
from tailrace.cli.visible import visible
from tailrace.core.units import format_duration
from tailrace.prove.course import PROMISES
from tailrace.prove.proof import KINDS, Promise, Proof, Verdict

_WIDTH: Final = 100  # of the table where there is no terminal
_BAR: Final = 24
_GAP: Final = 3  # between the columns


class Progress:
    """Shows proofs as they go on: live in a terminal, else a line for each; a context manager."""

    def __init__(self, names: Collection[str], *, quiet: bool) -> None:
        self._promises = [promise for promise in PROMISES if promise.name in names]
        self._quiet = quiet
        self._live: Live | None = None
        self._exits = contextlib.ExitStack()
        self._ended: dict[str, Proof] = {}
        self._now: tuple[Promise, int, int] | None = None
        self._began = time.monotonic()
        self._spinner = Spinner("dots")

    def __enter__(self) -> Progress:
        """Take the terminal, where there is one."""
        if not self._quiet and is_terminal():
            self._exits.enter_context(quiet_keyboard())
            self._live = Live(
                console=_console(), get_renderable=self._picture, transient=True,
                refresh_per_second=8, redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._exits.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Give the terminal back; the picture is wiped off."""
        self._exits.close()

    def tell(self, promise: Promise, done: int, size: int) -> None:
        """Take in how far a proof is."""
        if self._now is None or self._now[0] is not promise:
            self._began = time.monotonic()
            self.say(f"{promise.title.format(size)} …", only_lines=True)
        self._now = promise, done, size

    def ended(self, proof: Proof) -> None:
        """Take in a proof's end."""
        self._ended[proof.name] = proof
        took = format_duration(proof.duration_ms)
        said = f"{len(proof.misses)} missed" if proof.misses else "nothing missed"
        self.say(f"{said} in {took}", only_lines=True)

    def say(self, text: str, *, only_lines: bool = False) -> None:
        """Say something to the person; with *only_lines* not where the picture shows it."""
        if self._quiet or (only_lines and self._live is not None):
            return
        if self._live is None:
            say(text)
        else:
            self._live.console.print(Text(f"tailrace: {text}"))

    def _picture(self) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=1)
        table.add_column()
        table.add_column(justify="right")
        for promise in self._promises:
            table.add_row(*self._row(promise))
        return Group(Text(), table, Text())

    def _row(self, promise: Promise) -> tuple[RenderableType, ...]:
        proof = self._ended.get(promise.name)
        if proof is not None:
            took = Text(format_duration(proof.duration_ms), style="dim")
            if proof.misses:
                return Text("✗", style="red"), Text(proof.title), took
            return Text("✓", style="green"), Text(proof.title), took
        if self._now is not None and self._now[0] is promise:
            _, done, size = self._now
            bar = ProgressBar(total=size, completed=done, width=_BAR)
            return self._spinner, Group(Text(promise.title.format(size)), bar), Text(
                f"{done}/{size}  {time.monotonic() - self._began:.0f}s", style="dim"
            )  # fmt: skip
        return Text("·", style="dim"), Text(promise.title.format("…"), style="dim"), Text()


def _console() -> Console:
    width = None if is_terminal() else _WIDTH
    return Console(file=sys.stdout, width=width, no_color=not has_colours(), highlight=False)


def print_verdict(verdict: Verdict, *, as_json: bool, page: Path) -> None:
    """Print the table and, last, the whole in one line; or all of it as JSON."""
    if as_json:
        print_json(_document(verdict, page))
        return
    console = _console()
    symbols = _encodes("✓·")
    for row in _lines(verdict, min(console.width, _WIDTH)):
        console.print(row, soft_wrap=True)
    style = "bold green" if verdict.passed else "bold red"
    line = verdict.line if symbols else verdict.line.replace("·", "-")
    console.print(Text(line, style=style), soft_wrap=True)
    say(f"took {format_duration(verdict.duration_ms)}; --seed {verdict.seed} draws it again")
    say(f"report: {page.as_uri()}")


def _encodes(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _lines(verdict: Verdict, width: int) -> Iterator[Text]:
    """Give the table: a row for each proof, and below it what it is founded on."""
    columns = width - sum(len(kind) + _GAP for kind in KINDS)
    head = " " * columns + "".join(f"{kind:>{len(kind) + _GAP}}" for kind in KINDS)
    yield Text(head, style="dim")
    for proof in verdict.proofs:
        row = Text(f"{proof.title:<{columns}}", style="bold")
        for kind in KINDS:
            missed = proof.missed(kind)
            cell = "" if missed is None else str(missed)
            row.append(f"{cell:>{len(kind) + _GAP}}", style="not bold red" if missed else "green")
        row.rstrip()
        yield row
        below = [(f"{kind}: {what}" if kind else what, "red") for kind, what in proof.shown]
        below += [(text, "dim") for text in proof.evidence]
        below += [(f"not tried: {note}", "yellow") for note in proof.notes]
        for text, style in below:
            for line in textwrap.wrap(
                visible(text), width, initial_indent="  ", subsequent_indent="    "
            ):
                yield Text(line, style=style)
        yield Text()


def _document(verdict: Verdict, page: Path) -> dict[str, Any]:
    return {
        "passed": verdict.passed,
        **{kind: verdict.missed(kind) for kind in KINDS},
        "containment": list(verdict.containments),
        "seed": verdict.seed,
        "began_at": verdict.began_at,
        "duration_ms": verdict.duration_ms,
        "version": verdict.version,
        "machine": verdict.machine,
        "report": str(page),
        "proofs": [
            {
                **msgspec.to_builtins(proof),
                **{kind: proof.missed(kind) for kind in KINDS},
            }
            for proof in verdict.proofs
        ],
    }
