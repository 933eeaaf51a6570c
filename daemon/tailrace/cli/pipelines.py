"""``tailrace pipelines``, ``validate`` and ``schema``: pipeline files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async

if TYPE_CHECKING:
    from tailrace import wire


@click.command()
@global_options
def pipelines() -> None:
    """List the pipelines, broken ones with their mistakes."""
    run_async(_pipelines(current()))


async def _pipelines(session: Session) -> None:
    from tailrace.cli.folders import Folders
    from tailrace.cli.output import print_json, say
    from tailrace.errors import UnknownError

    async with session.source() as source:
        found = await source.pipelines()
    where = session.pipelines_dir() if isinstance(source, Folders) else None
    if where is not None and session.settings.pipelines_dir and not where.is_dir():
        raise UnknownError(f"{where} is no folder; name another one with --pipelines")
    if session.as_json:
        print_json({"pipelines": found})
        return
    if not found:
        say(f"there are no pipelines in {where or 'the folder of the daemon'}")
        return
    from tailrace.cli.picture import make_console, print_table
    from tailrace.cli.rows import Line
    from tailrace.cli.visible import visible

    rows = []
    for pipeline in found:
        row = [Line().add(pipeline.name, "strong"), Line().add(_params_of(pipeline))]
        if pipeline.mistakes:
            told = [_told(mistake) for mistake in pipeline.mistakes]
            rows.append([*row, Line().add(f"broken: {told[0]}", "bad")])
            rows += [[Line(), Line(), Line().add(more, "bad")] for more in told[1:]]
        else:
            what = Line().add(visible(pipeline.description.replace("\n", " ")))
            if pipeline.next_run_at:
                what.add(f"  next run {pipeline.next_run_at[:16]}Z", "dim")
            rows.append([*row, what])
    print_table(make_console(), ("PIPELINE", "PARAMS", "WHAT IT DOES"), rows)


def _params_of(pipeline: wire.PipelineView) -> str:
    """Return the params as one types them, optional ones in brackets."""
    schema = pipeline.params_schema or {}
    required = schema.get("required", ())
    names = schema.get("properties", {})
    return " ".join(name if name in required else f"[{name}]" for name in names)


def _told(mistake: wire.Mistake) -> str:
    from tailrace.cli.visible import visible
    from tailrace.errors import Problem

    problem = Problem(mistake.where, mistake.problem, mistake.hint, mistake.position)
    return visible(str(problem).replace("\n", " "))


@click.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path())
@global_options
def validate(files: Sequence[str]) -> int:
    """Check pipeline files and tell every mistake.

    Exit status 2 if there is one.
    """
    from tailrace.cli.output import print_json, print_text
    from tailrace.errors import InvalidInputError, Problem
    from tailrace.pipeline.loader import load_pipeline
    from tailrace.pipeline.spelling import printable

    problems: list[Problem] = []
    told: list[str] = []
    for file in files:
        try:
            load_pipeline(Path(file), display=printable(file))
            told.append(f"{printable(file)}: fine")
        except InvalidInputError as exc:
            problems += exc.problems
            told += map(str, exc.problems)
    if current().as_json:
        print_json({"problems": [
            {"position": p.position, "where": p.where, "problem": p.problem, "hint": p.hint}
            for p in problems
        ]})  # fmt: skip
    else:
        print_text("\n".join(told))
    return 2 if problems else 0


@click.command()
@global_options
def schema() -> None:
    """Print the JSON Schema of pipeline files.

    Editors that speak YAML's language server use it: begin a file with
    `# yaml-language-server: $schema=FILE`.
    """
    import json

    from tailrace.cli.output import print_json
    from tailrace.pipeline.schema import pipeline_schema

    if current().as_json:
        print_json(pipeline_schema())
    else:
        click.echo(json.dumps(pipeline_schema(), indent=2, ensure_ascii=False))
