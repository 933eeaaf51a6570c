"""One process group: starting its leader, waiting for it, signalling it.

A leader gets a session of its own (setsid(2)), not only a group: a child that
opens ``/dev/tty`` would stop for ever otherwise. Its output goes into a pipe
of ours, so that a grandchild that keeps it open can't hold up the wait, as it
does with asyncio's transports (CPython 3.11 to 3.13).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

F_SETPIPE_SZ: Final = 1031  # fcntl(2); in the fcntl module since Python 3.10, on Linux only
PIPE_SIZE: Final = 1 << 20  # the default of /proc/sys/fs/pipe-max-size


class Leader:
    """The first process of a step's attempt; made by `start`."""

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self.pid = process.pid
        self.output = output  # our end of the pipe, non-blocking; the caller closes it
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self._exited.done():
            self._exited.set_result(self._process.wait())

    @property
    def returncode(self) -> int | None:
        """Exit status, -N for death by signal N, or None while it lives."""
        return self._exited.result() if self._exited.done() else None

    async def wait(self) -> int:
        """Return the exit status, as `returncode`; cancelling the wait leaves the process alone."""
        return await asyncio.shield(self._exited)

    def signal_group(self, number: int) -> None:
        """Send a signal to the whole group; one that is gone is fine."""
        # The group's id can't be another's before the leader is reaped and all members are gone.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
) -> Leader:
    """Start a step's process: own session, stdin at EOF, stdout and stderr in one pipe, umask 077.

    Raises:
        OSError: the program can't be executed, or *cwd* can't be entered.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # over the user's pipe budget: the default must do
            fcntl.fcntl(read_end, F_SETPIPE_SZ, PIPE_SIZE)
        os.set_blocking(read_end, False)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            cwd=cwd,
            env=env,
            pass_fds=pass_fds,
            start_new_session=True,
            umask=0o077,
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    return Leader(process, read_end)


def signal_name(returncode: int | None) -> str | None:
    """Return ``SIGKILL`` and alike for a death by signal, else None."""
    if returncode is None or returncode >= 0:
        return None
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # a real-time signal
        return f"SIG{-returncode}"
