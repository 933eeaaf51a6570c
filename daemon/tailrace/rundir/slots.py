"""How many steps run at once over all runs of a state folder: ``limits.steps``.

A slot is a file that a runner holds with flock(2) while a step runs. A runner
that dies frees its slots by that, so none is ever lost, and no daemon is needed.
"""

from __future__ import annotations

from pathlib import Path

from tailrace.rundir.lock import try_lock


class Slots:
    """The slots of one state folder, as one runner sees them."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count

    def try_take(self) -> int | None:
        """Take a free slot; return its descriptor, which frees it when closed, or None.

        Raises:
            OSError: the folder can't be written.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for number in range(self._count):
            fd = try_lock(self._folder / str(number))
            if fd is not None:
                return fd
        return None
