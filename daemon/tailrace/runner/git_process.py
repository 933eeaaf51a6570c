"""One git process at a time: started, its words passed on, its end told.

Git stays in our process group, so that a signal to the group reaches it, and
writes to our standard output; its standard error goes through us, because its
last lines decide what to try next and what to advise.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TAIL: Final = 8_192  # bytes of standard error that are looked at
_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class GitExit:
    """How a git process ended."""

    status: int  # as a shell tells it: 128 + N for death by signal N
    tail: str  # the end of its standard error, in lower case
    signal: str | None = None  # the name of the one that ended it

    @property
    def is_success(self) -> bool:
        """Whether it did what it was asked."""
        return self.status == 0

    def says(self, *phrases: str) -> bool:
        """Whether one of *phrases* (in lower case) stands in the end of its standard error."""
        return any(phrase in self.tail for phrase in phrases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """Git in one folder, with one environment."""

    folder: int  # a descriptor
    env: dict[str, str]

    def run(self, *args: str) -> GitExit:
        """Run ``git *args``, passing on what it prints."""
        tail = b""
        with self._start(args, stdout=None, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            while chunk := os.read(process.stderr.fileno(), _CHUNK):
                _write_all(2, chunk)
                tail = (tail + chunk)[-_TAIL:]
        return GitExit(
            status=_status(process),
            tail=tail.decode(errors="replace").lower(),
            signal=_signal_name(process.returncode),
        )

    def read(self, *args: str, limit: int = 1 << 20) -> str | None:
        """Return up to *limit* bytes of what ``git *args`` prints, or None if it fails."""
        with self._start(args, stdout=subprocess.PIPE, stderr=None) as process:
            assert process.stdout is not None
            output = process.stdout.read(limit)
            process.stdout.close()  # what is beyond the limit ends it with SIGPIPE
        if process.returncode != 0 and len(output) < limit:
            return None
        return output.decode(errors="replace")

    def _start(
        self, args: tuple[str, ...], *, stdout: int | None, stderr: int | None
    ) -> subprocess.Popen[bytes]:
        # Before there is a .git here, one further up would be found and its config read.
        ceiling = str(Path(f"/proc/self/fd/{self.folder}").readlink().parent)
        return subprocess.Popen(
            ["git", *args],
            cwd=f"/proc/self/fd/{self.folder}",
            env=self.env | {"GIT_CEILING_DIRECTORIES": ceiling},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )


def _signal_name(returncode: int) -> str | None:
    try:
        return signal.Signals(-returncode).name if returncode < 0 else None
    except ValueError:  # a real-time signal
        return f"SIG{-returncode}"


def _status(process: subprocess.Popen[bytes]) -> int:
    code = process.returncode
    return code if code >= 0 else 128 - code


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
