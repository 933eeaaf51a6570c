"""``tailrace artifacts``: the files that a run left."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli import completing
from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async
from tailrace.whole_file import written_whole

if TYPE_CHECKING:
    from tailrace.cli.source import Source


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=completing.runs)
@click.option(
    "--get", "name", metavar="NAME", shell_complete=completing.files, help="Get this file."
)
@click.option("-o", "--output", type=click.Path(readable=False), metavar="FILE",
              help="Write it there; - is standard output.")  # fmt: skip
@global_options
def artifacts(run_name: str, name: str | None, output: str | None) -> None:
    """List what a run left, or get one of its files.

    A file is written to the current folder under the last part of its name, and
    never over another one unless -o names it.
    """
    if output is not None and name is None:
        raise click.UsageError("-o says where a file goes; name one with --get")
    if output == "":
        raise click.UsageError("-o needs the name of a file, or - for standard output")
    run_async(_artifacts(current(), run_name, name, output))


async def _artifacts(session: Session, run_name: str, name: str | None, output: str | None) -> None:
    from tailrace.cli.output import print_json, say

    async with session.source() as source:
        run_id = await source.resolve(run_name)
        if name is not None:
            await get_artifact(source, run_id, name, output)
            return
        view = await source.view(run_id)
    found = view.artifacts
    if session.as_json:
        print_json({"artifacts": found})
        return
    if not found:
        say(f"{view.ref} left no files")
        return
    from tailrace.cli.picture import make_console, print_table
    from tailrace.cli.rows import Line
    from tailrace.cli.visible import visible
    from tailrace.core.units import format_size

    rows = [
        [
            Line().add(visible(item.name), "strong"),
            Line().add(format_size(item.bytes)),
            Line().add(item.media_type, "dim"),
            Line().add(item.step),
            Line().add(visible(item.url), "dim"),
        ]
        for item in found
    ]
    print_table(make_console(), ("NAME", "SIZE", "TYPE", "STEP", "ADDRESS"), rows)


async def get_artifact(source: Source, run_id: str, name: str, output: str | None) -> None:
    """Write an artifact to *output* (``-`` is standard output), or here under its safe name.

    Raises:
        click.UsageError: no *output* is given, and such a file is there.
        OSError: it can't be written.
    """
    from tailrace.cli.output import say, write_bytes

    async with contextlib.aclosing(source.artifact(run_id, name)) as chunks:
        first = await anext(chunks, b"")  # an unknown name must leave no file behind
        if output == "-":
            await write_bytes(first, chunks)
            return
        path = Path(output) if output is not None else Path(safe_name(name))
        if output is None and os.path.lexists(path):
            raise click.UsageError(f"{path} exists; name another file with -o")
        try:
            with written_whole(path) as file:
                file.write(first)
                async for chunk in chunks:
                    file.write(chunk)
        except OSError as exc:  # which names the file that becomes this one
            raise OSError(exc.errno, exc.strerror, str(path)) from None
    say(f"wrote {path}")
    sys.stderr.flush()


def safe_name(name: str) -> str:
    """Return the name that an artifact gets here: its last part, never hidden, no control in it."""
    last = name.rpartition("/")[2].lstrip(".-")
    return "".join(c if c.isprintable() else "_" for c in last) or "artifact"
