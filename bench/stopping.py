"""Whether a cancel leaves processes: two hundred of them, of trees that are hard to end."""

from __future__ import annotations

import asyncio
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.figure import Figure, Goal
from bench.workshop import Workshop, read_journal, workshop
from tailrace import wire
from tailrace.prove.marks import Mark, end_all, look
from tailrace.prove.trees import TREES, script
from tailrace.rundir.control import send_command
from tailrace.rundir.layout import RunDir

_GRACE_MS: Final = 500
_READY_S: Final = 60.0
_CANCELS: Final = 200


def measure(*, quick: bool) -> list[Figure]:
    """Cancel runs in which each step is another tree; return who survived, and the longest stop."""
    rounds = 1 if quick else -(-_CANCELS // len(TREES))
    kills: list[dict[str, Any]] = []
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        mark = Mark.make(Path(folder), f"mark-{time.time_ns()}")
        grow = f"PROOF_FOLDER={shlex.quote(str(mark.folder))}; "
        steps = {
            f"t{n}": {"run": grow + script(tree), "grace": f"{_GRACE_MS}ms"}
            for n, tree in enumerate(TREES)
        }
        with workshop({"nasty": {"parallel": len(steps), "steps": steps}}) as place:
            for _ in range(rounds):
                events = _cancelled(place, len(steps))
                kills += [item["kill"] for item in events if item["event"] == "step_finished"]
                survivors += len(look([mark])[mark.text])
                (mechanism,) = [i["containment"] for i in events if i["event"] == "started"]
        end_all([mark])
    reported = sum(len(kill["survivors"]) for kill in kills)
    forced = sum(kill["forced"] for kill in kills)
    return [
        Figure(
            name="survivors", value=survivors + reported, unit="processes",
            goal=Goal(kind="most", limit=0),
            note=f"after {len(kills)} cancels of {len(TREES)} kinds of trees, {forced} processes "
            f"killed; containment: {mechanism}",
        ),
        Figure(
            name="longest stop", value=max(kill["duration_ms"] for kill in kills), unit="ms",
            note=f"from SIGTERM to the last look; the grace, {_GRACE_MS} ms, is in it",
        ),
    ]  # fmt: skip


def _cancelled(place: Workshop, ready: int) -> list[dict[str, Any]]:
    """Run the trees until all are up, cancel, and return what was told."""
    process, run = place.start("nasty")
    try:
        _wait_ready(run, ready)
        command = wire.Command(command="cancel", by="bench", via="cli")
        asyncio.run(send_command(run, command))
        process.wait(_READY_S)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return read_journal(run)


def _wait_ready(run: RunDir, count: int) -> None:
    deadline = time.monotonic() + _READY_S
    while run.journal.read_bytes().count(b'"event":"log"') < count:
        if time.monotonic() > deadline:
            raise RuntimeError("the trees didn't come up")
        time.sleep(0.02)
