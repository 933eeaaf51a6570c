"""Starts processes inside a cgroup of their own, at little more cost than elsewhere.

Two processes beside the runner do it. The **launcher** has one thread, being
forked before the runner's loop begins, and so may fork by clone3(2), which puts
a child into a cgroup at once. That child, the **spare**, waits for its orders in
the next attempt's cgroup and becomes the step; then the launcher makes the next
one. So neither moving a process (10 ms) nor copying a Python process (2 ms) is
between a step's start and its first instruction; docs/decisions/0010 has the
figures. The spare is the runner's own child (CLONE_PARENT), as if it had forked it.

Launcher and spare share one end of a socket. A request is one message there:
descriptors only (SCM_RIGHTS), the first being that of a memfd with `_Orders`,
for a message is smaller than an environment may be. The spare answers through
a pipe: its pid and its cgroup's number, then an errno where it couldn't become
the step. Both end when the runner's end of the socket closes.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import gc
import os
import select
import signal
import socket
import struct
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from tailrace.cgroup import SPARE, Cgroup, RunCgroup, clone_into

_MAX_FDS: Final = 64
_ANSWER: Final = struct.Struct("=QQ")  # pid, the cgroup's number
_FAILURE: Final = struct.Struct("=i")  # an errno
_PATIENCE_MS: Final = 30_000
_FORKS: Final = 5  # in a row that come to nothing: something is wrong with the machine
_PR_SET_NAME: Final = 15
_RESET: Final = (signal.SIGPIPE, signal.SIGXFSZ)  # which Python ignores, as would the step


class _Orders(msgspec.Struct, frozen=True, array_like=True):
    """What to start. The descriptors in the message: memfd, answer, output, then `pass_fds`."""

    argv: list[bytes]
    env: list[tuple[bytes, bytes]]
    cwd: bytes
    pass_fds: list[int]  # the numbers that the process gets them under
    cpus: list[int] | None  # that it may run on; None: as the runner


_decoder: Final = msgspec.msgpack.Decoder(_Orders)
_prctl: Final = ctypes.CDLL(None).prctl  # looked up here, once, and not by each spare


class Launcher:
    """The runner's side; made by `fork`."""

    def __init__(self, group: RunCgroup, sock: socket.socket, pid: int) -> None:
        self.pid = pid
        self._group = group
        self._sock = sock

    @classmethod
    def fork(cls, group: RunCgroup) -> Launcher:
        """Fork the launcher, which starts processes in cgroups below *group*.

        The caller is a subreaper, has one thread and no loop.

        Raises:
            OSError: no more processes, or memory.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = os.fork()
            if pid == 0:
                _become_launcher(theirs.detach(), group.path)
        return cls(group, ours, pid)

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        output: int,
        pass_fds: Sequence[int] = (),
        cpus: Sequence[int] | None = None,
    ) -> tuple[int, Cgroup]:
        """Start a process as `process.start` does, in a cgroup of its own; return pid and cgroup.

        Raises:
            OSError: it can't be executed, *cwd* can't be entered, or the launcher is gone.
            ValueError: a text holds a NUL byte.
        """
        orders = _Orders(
            argv=[os.fsencode(word) for word in argv],
            env=[(os.fsencode(name), os.fsencode(value)) for name, value in env.items()],
            cwd=os.fsencode(cwd),
            pass_fds=list(pass_fds),
            cpus=None if cpus is None else list(cpus),
        )
        if any(b"\0" in text for text in (*orders.argv, *(text for e in orders.env for text in e))):
            raise ValueError("embedded null byte")
        memory = os.memfd_create("orders")  # an environment may hold secrets: never a file
        answers, answer = os.pipe2(os.O_CLOEXEC)
        try:
            os.write(memory, msgspec.msgpack.encode(orders))
            self._send([memory, answer, output, *pass_fds])
            os.close(answer)
            answer = -1
            told = _read_all(answers)
        finally:
            for fd in (memory, answers, answer):
                if fd >= 0:
                    os.close(fd)
        if len(told) < _ANSWER.size:
            raise OSError(errno.EPIPE, "the launcher is gone")
        pid, number = _ANSWER.unpack_from(told)
        if len(told) > _ANSWER.size:
            os.waitpid(pid, 0)
            (failure,) = _FAILURE.unpack_from(told, _ANSWER.size)
            raise OSError(failure, os.strerror(failure))
        return pid, Cgroup(self._group.path / str(number))

    def _send(self, fds: list[int]) -> None:
        try:
            socket.send_fds(self._sock, [b"."], fds)
        except OSError as exc:
            raise OSError(exc.errno, "the launcher is gone") from exc

    def close(self) -> None:
        """Let the launcher and its spare end, and wait for the launcher."""
        self._sock.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _read_all(fd: int) -> bytes:
    """Read to the end, which execve(2) makes, or the spare's death."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    told = b""
    while poll.poll(_PATIENCE_MS):
        data = os.read(fd, 64)
        if not data:
            return told
        told += data
    raise OSError(errno.ETIMEDOUT, "the launcher doesn't answer")  # somebody stopped it


def _become_launcher(sock_fd: int, group: Path) -> NoReturn:
    """Serve until the runner is gone; what can't be done is told in runner.log."""
    status = 1
    try:
        # Above all the run's lock, which has to be free when the runner is gone.
        os.closerange(3, sock_fd)
        os.closerange(sock_fd + 1, os.sysconf("SC_OPEN_MAX"))
        os.setsid()  # what a terminal signals is the runner's to decide
        gc.disable()
        gc.freeze()  # a collection would copy what is shared with the runner
        _serve(socket.socket(fileno=sock_fd), group)
        status = 0
    except BaseException:  # noqa: BLE001 - the root of a process: told, then it ends
        traceback.print_exc()
    finally:
        os._exit(status)


def _serve(sock: socket.socket, group: Path) -> None:
    number = misses = 0
    while not _is_over(sock):
        number += 1
        folder = group / str(number)
        try:
            folder.mkdir()
        except FileExistsError:  # of a runner that died before the run had started
            continue
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        waiting, done = os.pipe2(os.O_CLOEXEC)
        if clone_into(fd, as_sibling=True) == 0:
            _become_spare(sock, number, done)
        os.close(done)
        os.close(fd)
        misses = 0 if os.read(waiting, 1) else misses + 1
        os.close(waiting)
        if misses > _FORKS:
            raise OSError(errno.ECHILD, f"nothing lives in {group}")


def _is_over(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _become_spare(sock: socket.socket, number: int, done: int) -> NoReturn:
    """Wait for orders, and become the step."""
    answer = -1
    try:
        _prctl(_PR_SET_NAME, SPARE)
        os.setsid()
        os.umask(0o077)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null, 0)
        for reset in _RESET:
            signal.signal(reset, signal.SIG_DFL)
        if fds := _receive(sock):
            orders = _decoder.decode(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
            if orders.pass_fds:  # all out of the way of the numbers that the step is to get
                free = max(orders.pass_fds) + 1
                fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, free) for fd in fds]
            _, answer, *others = fds
            os.write(answer, _ANSWER.pack(os.getpid(), number))
            os.write(done, b".")
            _execute(orders, others)
    except Exception as exc:  # noqa: BLE001 - the root of a process: told, then it ends
        failure = exc.errno if isinstance(exc, OSError) else None
        if failure is None:
            traceback.print_exc()
        if answer >= 0:
            os.write(answer, _FAILURE.pack(failure or errno.EINVAL))
    finally:
        os._exit(1)


def _execute(orders: _Orders, fds: Sequence[int]) -> NoReturn:
    os.chdir(orders.cwd)
    if orders.cpus is not None:
        os.sched_setaffinity(0, orders.cpus)
    for fd, number in zip(fds, (1, *orders.pass_fds), strict=True):
        os.dup2(fd, number)
    os.dup2(1, 2)
    os.execvpe(orders.argv[0], orders.argv, dict(orders.env))  # noqa: S606 - no shell is meant


def _receive(sock: socket.socket) -> list[int]:
    """Return the descriptors of a message; none when the runner is gone."""
    fds = array.array("i")
    # socket.recv_fds loses its flags (CPython 3.11 to 3.13), and all would be inherited.
    room = socket.CMSG_LEN(_MAX_FDS * fds.itemsize)
    _, ancillary, _, _ = sock.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()
