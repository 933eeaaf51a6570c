"""Workspaces: claimed by runs that repeat others, put aside by whoever cleans up."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from tailrace.rundir.layout import StateDir


@contextlib.contextmanager
def holding_workspaces(state: StateDir, *, alone: bool) -> Iterator[None]:
    """Keep workspaces as they are: whoever repeats a run has them stay until its own is there.

    A flock(2) on their folder: shared, or *alone* for who takes some away.
    Waits for others, who hold it for milliseconds.

    Raises:
        OSError: the folder can't be made or locked.
    """
    state.workspaces.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(state.workspaces, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)
