"""Between the daemon and a runner: the control socket, the lock's text, the hand-over."""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal

import msgspec

from tailrace.core.shapes import Shape
from tailrace.wire.journal import encode_json


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A line sent to a runner's ``control.sock``."""

    command: Literal[
        "hello", "gauges", "away", "cancel", "pause", "resume", "answer", "skip", "cancel_step",
        "extend", "progress",
    ]  # fmt: skip
    id: str | None = None  # done once for each id
    step: str | None = None
    reason: str | None = None
    by_ms: int = 0  # of ``extend``
    prompt: str | None = None  # of ``answer``
    answer: str = ""
    stage: str | None = None  # of ``progress``, as the two that follow
    percent: float | None = None
    note: str | None = None
    cause_code: Literal["cancelled", "superseded", "client_gone"] = "cancelled"
    by: str = ""
    via: str = ""
    away_ms: int = 0  # with "away": how long no daemon was there


def asked_digest(command: Command) -> bytes:
    """Return what tells requests apart that came with the same id: not who, by which way, why."""
    asked = msgspec.structs.replace(command, by="", via="", reason=None)
    return hashlib.sha256(encode_json(asked)).digest()


def cause_of(command: Command, done: str = "cancelled") -> str:
    """Return the sentence that tells why somebody's command ended something.

    A reason's control characters become their pictures (``␊``, ``␛``): it is one line for people.
    """
    given = (command.reason or "").translate(_PICTURES)
    return given or f"{done} by {command.by or 'somebody'}"


_PICTURES: Final = {code: 0x2400 + code for code in range(0x20)} | {
    0x7F: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}"),
}


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A runner's answer, one line."""

    status: Literal["done", "unchanged", "unknown", "conflict", "invalid"]
    seq: int | None = None  # of the control event
    reason: str | None = None  # where it was refused
    state: str | None = None  # the run's or step's status, with "conflict"
    pid: int | None = None
    gauges: dict[str, float] | None = None  # for "gauges": what the runner's buffers hold


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner writes into the run's ``lock``; it holds the lock, this only says who."""

    pid: int
    boot: str  # the kernel's boot id: random(4), "boot_id"


OTHER_COMMAND: Final = Reply(
    status="invalid", reason="its id came before with another command; use a new id for another one"
)


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner gets in memory, never by disk, argv or environment."""

    secrets: dict[str, str] = {}  # by name; all are masked, steps get those that they name
    params: dict[str, Any] = {}  # those whose value held a secret; the others are in run.json
    shapes: tuple[Shape, ...] = ()  # token shapes and the operator's own
    settings: dict[str, Any] = {}  # a `tailrace.settings.Settings` as builtins; the defaults
    public_url: str | None = None  # where artifacts will be found; None: file paths
    continues: bool = False  # its runner died, all of that is told, and this one goes on
