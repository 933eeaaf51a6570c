"""Keeps other processes of the same user out of this one's memory and environment."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # prctl(2)


def become_undumpable() -> None:
    """Make ``/proc/PID`` of this process and its future forks belong to root; no core dumps.

    Steps run as the same user: without it they could read the secrets of
    another run with ptrace(2), or in ``/proc/PID/environ`` and ``mem``. A
    program started with execve(2) is dumpable again.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def wipe_environment(prefix: str) -> None:
    """Overwrite variables that begin with *prefix* in what ``/proc/PID/environ`` shows.

    That is the memory that execve(2) filled; ``unsetenv`` leaves it as it was.
    To be called once the variables are unset, so that nothing points there.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end: proc(5)
    if not 0 < start < end:
        return
    place = start
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        if entry.startswith(os.fsencode(prefix)):
            ctypes.memset(place, 0, len(entry))
        place += len(entry) + 1
