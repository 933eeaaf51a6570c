"""``python -m bench [--quick] [NAME…]``: measure, and print one table."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.figure import Figure, Goal

BENCHMARKS: Final = (
    "step_cost", "first_process", "line_latency", "idle", "throughput", "narration", "crowd",
    "stopping",
)  # fmt: skip
# Minutes and gigabytes: only when they are named.
LONG: Final = ("reliability", "ten_gigabytes", "slow_watchers")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks named, or all but the long ones; return 1 when one can't be measured.

    A goal that is missed is said in the table, and is no failure: the machine
    may be busy.
    """
    known = f"{', '.join(BENCHMARKS)} [{', '.join(LONG)}]"
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean little")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {known}; those in brackets aren't run unasked"
    )
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in (*BENCHMARKS, *LONG)]:
        parser.error(f"no benchmark is named {unknown[0]}; there are {known}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = _table()
    # A benchmark that is told to end takes its daemon with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    failed = False
    began = time.monotonic()
    for name in arguments.names or BENCHMARKS:
        console.print(f"measuring {name.replace('_', ' ')} …", style="dim")
        try:
            figures: list[Figure] = importlib.import_module(f"bench.{name}").measure(
                quick=arguments.quick
            )
        except (OSError, RuntimeError) as exc:
            failed = True
            console.print(f"{name} could not be measured: {exc}", style="red", markup=False)
            continue
        for figure in figures:
            table.add_row(*_row(figure))
        table.add_section()
    console.print(table)
    console.print(f"{time.monotonic() - began:.0f} s", style="dim")
    return int(failed)


def _table() -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("figure", no_wrap=True)
    for name in ("value", "bare minimum", "ratio", "goal"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("what", style="dim", ratio=1)
    return table


def _row(figure: Figure) -> tuple[str, ...]:
    met = {None: "", True: "[green]✓[/]", False: "[red]✗[/]"}[figure.met]
    return (
        figure.name,
        f"{_number(figure.value)} {figure.unit}",
        "" if figure.bare is None else f"{_number(figure.bare)} {figure.unit}",
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        "" if figure.goal is None else _goal(figure.goal, figure.unit),
        met,
        figure.note,
    )


def _goal(goal: Goal, unit: str) -> str:
    if goal.kind == "share":
        return f"≥ {goal.limit:g}"
    if goal.kind == "over":
        return f"≤ {goal.limit:g} {unit} more"
    return f"≤ {goal.limit:g} {unit}"


def _number(value: float) -> str:
    if value >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
