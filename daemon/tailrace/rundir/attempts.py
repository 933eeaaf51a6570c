"""The places of attempts: folders that steps write to, and files in memory beside them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from tailrace.rundir.layout import RunDir
from tailrace.rundir.trees import remove_tree

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - tmpfs(5), for what must be on no disk


def memory_prefix(run: RunDir) -> str:
    """Return how the names of a run's files in memory begin."""
    return f"tailrace-{run.id}-"


def remove_attempts(run: RunDir) -> None:
    """Remove what attempts had, once no process of theirs is left; and a dead runner's socket."""
    remove_tree(run.path / "attempts")
    with contextlib.suppress(OSError):
        run.control.unlink()
    with contextlib.suppress(OSError):  # no such memory here; or another user's file
        for path in MEMORY.glob(f"{memory_prefix(run)}*"):
            path.unlink(missing_ok=True)
