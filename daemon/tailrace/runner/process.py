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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tailrace.cgroup import Cgroup
from tailrace.runner.launcher import Launcher

F_SETPIPE_SZ: Final = 1031  # fcntl(2); in the fcntl module since Python 3.10, on Linux only
PIPE_SIZE: Final = 1 << 20  # the default of /proc/sys/fs/pipe-max-size


class Leader:
    """The first process of a step's attempt; made by `start`."""

    def __init__(
        self,
        pid: int,
        output: int,
        *,
        group: Cgroup | None = None,
        is_wrapped: bool = False,
        in_namespace: bool = False,
    ) -> None:
        self.pid = pid
        self.output = output  # our end of the pipe, non-blocking; the caller closes it
        self.group = group  # what it was started in, and nothing else
        self.is_wrapped = is_wrapped  # it is bubblewrap, put before the step by us
        self.in_namespace = in_namespace  # all that it starts is in a PID namespace
        loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = loop.create_future()
        self._pidfd = os.pidfd_open(pid)
        try:
            loop.add_reader(self._pidfd, self._reap)
        except OSError:  # epoll(7): a user may watch only so many descriptors
            os.close(self._pidfd)
            raise

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        if not self._exited.done():
            returncode = os.waitstatus_to_exitcode(status)
            self._exited.set_result(_status_inside(returncode) if self.is_wrapped else returncode)

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
    cpus: Sequence[int] | None = None,
    launcher: Launcher | None = None,
    is_wrapped: bool = False,
    in_namespace: bool = False,
) -> Leader:
    """Start a step's process: own session, stdin at EOF, stdout and stderr in one pipe, umask 077.

    *cpus* are those that it may run on. With a *launcher* it gets a cgroup of its own,
    `Leader.group`.

    Raises:
        OSError: the program can't be executed, or *cwd* can't be entered, or no descriptors
            are left; no process is.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid, group = 0, None
    try:
        with contextlib.suppress(OSError):  # over the user's pipe budget: the default must do
            fcntl.fcntl(read_end, F_SETPIPE_SZ, PIPE_SIZE)
        os.set_blocking(read_end, False)
        if launcher is None:
            with _running_on(cpus):
                pid = _spawn(argv, cwd=cwd, env=env, output=write_end, pass_fds=pass_fds)
        else:
            pid, group = launcher.start(
                argv, cwd=cwd, env=env, output=write_end, pass_fds=pass_fds, cpus=cpus
            )
        return Leader(pid, read_end, group=group, is_wrapped=is_wrapped, in_namespace=in_namespace)
    except BaseException:
        os.close(read_end)
        if pid:  # there it is, and nobody would end it
            _undo(pid, group)
        raise
    finally:
        os.close(write_end)


def _undo(pid: int, group: Cgroup | None) -> None:
    """End and reap a process that has just been started, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if group is not None:
        group.kill()
    os.waitpid(pid, 0)
    if group is not None:
        group.try_remove()


@contextlib.contextmanager
def _running_on(cpus: Sequence[int] | None) -> Iterator[None]:
    """Bind this thread to processors for a while: what it spawns inherits that."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _spawn(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: int,
    pass_fds: Sequence[int],
) -> int:
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=cwd,
        env=env,
        pass_fds=pass_fds,
        start_new_session=True,
        umask=0o077,
    )
    process.returncode = 0  # the leader waits for it; this object would say that nobody did
    return process.pid


def signal_name(returncode: int | None) -> str | None:
    """Return ``SIGKILL`` and alike for a death by signal, else None."""
    if returncode is None or returncode >= 0:
        return None
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # a real-time signal
        return f"SIG{-returncode}"


def _status_inside(returncode: int) -> int:
    """Return what a process in bubblewrap's namespace ended with, from bubblewrap's own status.

    It tells a death by signal N as 128+N, as shells do.
    """
    with contextlib.suppress(ValueError):
        return -signal.Signals(returncode - 128)
    return returncode
