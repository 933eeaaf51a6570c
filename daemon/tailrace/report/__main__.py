"""``tailrace-report``: the commands that the pipelines `analyze` and `agent-review` call.

A command of its own and not ``python -m``, which would import a module named
``tailrace`` from the analyzed repository before ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from tailrace.core.units import plural
from tailrace.errors import InvalidInputError, Problem
from tailrace.report.change import read_change
from tailrace.report.findings import SEVERITIES, Result, summarize
from tailrace.report.origin import read_origin
from tailrace.report.page import write_page
from tailrace.report.readers import READERS, read
from tailrace.report.review import read_review
from tailrace.report.review_page import write_review_page
from tailrace.report.sarif import write_sarif

MAX_OUTPUT: Final = 512 * 1024 * 1024  # bytes of one analyzer's output


@click.group()
def main() -> None:
    """Read what analyzers printed, and write the report on a repository."""


@main.command("read")
@click.argument("tool", type=click.Choice(list(READERS)))
def read_command(tool: str) -> None:
    """Read the output of TOOL from standard input, in the folder that it analyzed.

    Leaves TOOL.json in $TAILRACE_ARTIFACTS and prints one line about it.
    """
    output = sys.stdin.buffer.read(MAX_OUTPUT + 1)
    try:
        if len(output) > MAX_OUTPUT:
            raise InvalidInputError([_too_much(tool)])
        result = read(tool, output, str(Path.cwd()))
    except InvalidInputError as error:
        raise click.ClickException(str(error)) from None
    path = _folder("TAILRACE_ARTIFACTS") / f"{tool}.json"
    path.write_bytes(msgspec.json.encode(result) + b"\n")
    click.echo(summarize(result))


@main.command("write")
def write_command() -> None:
    """Merge the TOOL.json files of $TAILRACE_COLLECTED into report.html and findings.sarif.

    Both go to $TAILRACE_ARTIFACTS. An analyzer without a file is named in the
    report; the exit status is 1 only when no analyzer left one.
    """
    results, failed = _collect(_folder("TAILRACE_COLLECTED"))
    origin = read_origin(os.environ, committed_at=_committed_at())
    target = _folder("TAILRACE_ARTIFACTS")
    page = write_page(results, failed, origin, now=datetime.now(UTC))
    (target / "report.html").write_bytes(page)
    (target / "findings.sarif").write_bytes(write_sarif(results, failed, origin))
    for why in failed.values():
        click.echo(why)
    if not results:
        raise click.ClickException("no analyzer left a result; the log of each step tells why")
    counts = [f"{sum(r.counts[s] for r in results):,} {s}" for s in SEVERITIES]
    click.echo(f"report: {plural(sum(r.total for r in results), 'finding')} ({', '.join(counts)})")


@main.command("review")
def review_command() -> None:
    """Make report.html and findings.sarif of the agent's review.json and of change.diff.

    Both are looked for in $TAILRACE_COLLECTED, and the report goes to
    $TAILRACE_ARTIFACTS. It is written without a review too; the exit status is 1 then.
    """
    collected, target = _folder("TAILRACE_COLLECTED"), _folder("TAILRACE_ARTIFACTS")
    review, why = None, ""
    try:
        review = read_review((collected / "review.json").read_bytes())
    except FileNotFoundError:
        why = "the agent left no review.json; the log of its step tells why"
    except InvalidInputError as error:
        why = f"the agent left a review that can't be read: {error}"
    try:
        diff = (collected / "change.diff").read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        diff = ""
    origin = read_origin(os.environ, committed_at=_committed_at())
    page = write_review_page(review, why, read_change(diff), origin, now=datetime.now(UTC))
    (target / "report.html").write_bytes(page)
    if review is None:
        raise click.ClickException(why)
    (target / "findings.sarif").write_bytes(write_sarif([review.result], {}, origin))
    click.echo(summarize(review.result))


def _collect(folder: Path) -> tuple[list[Result], dict[str, str]]:
    """Return the results in the order of READERS, and why others are missing."""
    results = []
    failed = {}
    for tool in READERS:
        try:
            results.append(msgspec.json.decode((folder / f"{tool}.json").read_bytes(), type=Result))
        except FileNotFoundError:
            failed[tool] = f"{tool} left no result; the log of its step tells why"
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            failed[tool] = f"{tool} left a result that can't be read: {error}"
    return results, failed


def _folder(variable: str, env: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that the runner names; the current one outside of a run."""
    return Path(env.get(variable, "."))


def _committed_at() -> str:
    """Return the commit's date in its author's zone; empty where git can't tell."""
    argv = ["git", "show", "-s", "--format=%cd", "--date=format:%Y-%m-%d %H:%M %z", "HEAD"]
    try:
        shown = subprocess.run(argv, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return shown.stdout.decode("utf-8", "replace").strip()


def _too_much(tool: str) -> Problem:
    return Problem(
        where=f"output of {tool}",
        problem=f"longer than {MAX_OUTPUT // 1024**2} MiB",
        hint="analyze a part of the repository",
    )


if __name__ == "__main__":
    main()
