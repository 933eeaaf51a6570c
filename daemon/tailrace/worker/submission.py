"""What is asked for when somebody starts a run, by whatever way it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from tailrace.core.plan import RunFile


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A run that somebody asks for."""

    pipeline: str  # a name in the catalog or, for who is trusted, the path of a file
    params: dict[str, Any] = {}
    text: bool = False  # params came as text (command line, query string): read by their type
    depth: str | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None  # None: as the pipeline says
    by: str = ""  # a token's name, "local", "schedule"
    via: str = ""  # "cli", "http", "ops", "webhook", "schedule", "mcp", "page"
    trusted: bool = False  # asked by who owns the machine: local paths, private addresses
    keep_workspace: bool = False  # also after a success
    watched: bool = False  # whoever asks is given the run's stream, not only its id
    cwd: str | None = None  # what relative local paths start from, for who is trusted
    key: str | None = None  # the Idempotency-Key's digest, with its owner in front
    body_sha256: str | None = None  # of the request that brought the key
    event: dict[str, Any] | None = None  # what caused it: a webhook's or schedule's event


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run that somebody asks to run again, on its workspace."""

    of: RunFile
    needs_workspace: bool = True  # False where it never started, and so made none
    reused: dict[str, str] = {}  # step -> id of the run whose result is taken over
    by: str = ""
    via: str = ""
    trusted: bool = False
    key: str | None = None
    body_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """What became of a submission.

    ``run_id`` is None where ``on_conflict: skip`` made no run; ``reason`` says
    why. ``repeated``: the key is known, and the run is the one it started then.
    """

    run_id: str | None
    reason: str | None = None
    repeated: bool = False
