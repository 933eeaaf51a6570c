"""The N of ``pipeline/N``: one file a pipeline, counted under a flock(2)."""

from __future__ import annotations

import fcntl
import os
from types import TracebackType
from typing import Final

import msgspec

from tailrace.core.ulid import is_ulid
from tailrace.rundir.layout import StateDir


class Counter:
    """Holds a pipeline's counter, so that ``next`` is nobody else's.

    A context manager; leaving it without `take` lets the number be the next
    run's. Entering waits for other holders, who keep it for milliseconds.
    """

    def __init__(self, state: StateDir, pipeline: str) -> None:
        self._state = state
        self._pipeline = pipeline
        self._fd = -1
        self.next = 0

    def __enter__(self) -> Counter:
        """Wait for the lock and read the last number.

        Raises:
            OSError: the file can't be made, read or locked.
        """
        path = self._state.counter(self._pipeline)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            text = os.pread(self._fd, 32, 0).strip()
            # A new pipeline's counter, or one that was lost or damaged: ask the runs.
            last = int(text) if text.isdigit() else highest_number(self._state, self._pipeline)
        except BaseException:
            os.close(self._fd)
            raise
        self.next = last + 1
        return self

    def take(self) -> None:
        """Use the number up, on disk: it is never given again, whatever becomes of its run."""
        data = b"%d\n" % self.next
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))
        os.fdatasync(self._fd)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the lock."""
        os.close(self._fd)


class _Named(msgspec.Struct):
    ref: str = ""


_decoder: Final = msgspec.json.Decoder(_Named)


def highest_number(state: StateDir, pipeline: str) -> int:
    """Return the highest N among the runs of a pipeline; 0 where it has none."""
    highest = 0
    for folder in state.runs.iterdir():
        if not is_ulid(folder.name):
            continue
        try:
            ref = _decoder.decode(state.run(folder.name).run_json.read_bytes()).ref
        except (OSError, msgspec.MsgspecError):
            continue
        head, _, number = ref.rpartition("/")
        if head == pipeline and number.isdigit():
            highest = max(highest, int(number))
    return highest
