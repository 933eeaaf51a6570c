"""Runs as resources: ``tailrace://runs/{id}``, and the output of their steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from tailrace import wire
from tailrace.errors import UnknownError
from tailrace.mcp.messages import MOST_TOKENS, TailRun
from tailrace.mcp.runs import Runs
from tailrace.mcp.tools import status_of, tail_run, text_of

_URI: Final = re.compile(
    r"tailrace://runs/(?P<run>[^/?#]+(?:/[0-9]+)?)(?:/steps/(?P<step>[^/?#]+)/log)?"
)
LISTED: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A kind of resource."""

    uri: str  # RFC 6570
    name: str
    title: str
    description: str
    media_type: str


TEMPLATES: Final = (
    Template(
        uri="tailrace://runs/{id}",
        name="run",
        title="A run's status",
        description="What run_status tells, as JSON. {id} is an id, or a ref such as analyze/42.",
        media_type="application/json",
    ),
    Template(
        uri="tailrace://runs/{id}/steps/{step}/log",
        name="log",
        title="A step's output",
        description=f"The last lines of a step's output, {MOST_TOKENS:,} tokens at most, masked.",
        media_type="text/plain",
    ),
)


def run_uri(run_id: str) -> str:
    """Return the address of a run."""
    return f"tailrace://runs/{quote(run_id, safe='')}"


async def read_resource(runs: Runs, uri: str) -> tuple[str, str]:
    """Return a resource's media type and text.

    Raises:
        UnknownError: there is no such resource.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        known = " and ".join(template.uri for template in TEMPLATES)
        raise UnknownError(f"there is nothing at {uri[:200]}; resources are {known}")
    run, step = unquote(match["run"]), match["step"]
    if step is None:
        view = await runs.view(await runs.resolve(run))
        return TEMPLATES[0].media_type, wire.encode_json(status_of(view)).decode()
    tail = await tail_run(runs, TailRun(run=run, step=unquote(step), tokens=MOST_TOKENS))
    return TEMPLATES[1].media_type, text_of(tail)
