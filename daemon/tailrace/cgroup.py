"""Control groups, version 2 (cgroups(7)): folders of processes that end and freeze as one.

Used without controllers, so that a subtree which is merely writable will do:
the one below our own cgroup, as root, as a systemd unit with ``Delegate=yes``,
or in a container that lets us. What a process in a cgroup starts is in it from
its first instruction, whatever session, parent or environment it takes.

A run's cgroup is ``tailrace-RUN_ID`` below the cgroup that its runner was
started in; its attempts have theirs in it, by number.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import platform
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SPARE: Final = b"tailrace-spare"  # the name of processes that wait in a cgroup for their step
_PREFIX: Final = "tailrace-"
_REMOVE_S: Final = 2.0  # a cgroup is busy until its last process is through exit(2)
_PAUSE_S: Final = 0.001

_CLONE3: Final = 435  # the same on every architecture: clone(2)
_CLONE: Final = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
_CLONE_PARENT: Final = 0x8000
_CLONE_INTO_CGROUP: Final = 0x2_0000_0000
_CLONE_ARGS: Final = struct.Struct("=11Q")
_syscall: Final = ctypes.PyDLL(None, use_errno=True).syscall  # with the GIL: see `clone_into`


class Cgroup:
    """One cgroup, named by its folder; whether or not it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> list[int]:
        """Return the pids in it and in those below it; [] where it is gone."""
        found: list[int] = []
        for folder in _tree(self.path):
            with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs", "rb") as file:
                found += [int(word) for word in file.read().split()]
        return [pid for pid in found if pid]  # 0: of a PID namespace that we don't see

    def is_populated(self) -> bool:
        """Whether a living process is in it or below it; zombies don't count."""
        with contextlib.suppress(OSError):
            return b"populated 1" in (self.path / "cgroup.events").read_bytes()
        return False

    def kill(self) -> None:
        """Send SIGKILL to all that are in it and below, and to all that they fork meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "cgroup.kill").write_bytes(b"1")

    def freeze(self) -> None:
        """Have everything in it and below stopped; `is_frozen` tells when it is."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "cgroup.freeze").write_bytes(b"1")

    def is_frozen(self) -> bool:
        """Whether everything in it stands still; also where it is gone."""
        with contextlib.suppress(OSError):
            return b"frozen 1" in (self.path / "cgroup.events").read_bytes()
        return True

    def thaw(self) -> None:
        """Let everything in it and below go on, whoever froze it."""
        for folder in _tree(self.path):
            with contextlib.suppress(OSError):
                Path(folder, "cgroup.freeze").write_bytes(b"0")

    def remove(self) -> bool:
        """Remove it and those below it, waiting while it is busy, for two seconds at most.

        Returns whether it is gone. One that is in use stays.
        """
        deadline = time.monotonic() + _REMOVE_S
        while not self.try_remove():
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE_S)
        return True

    def try_remove(self) -> bool:
        """Remove it and those below it, as `remove` does, without waiting."""
        try:
            for folder in reversed(list(_tree(self.path))):
                Path(folder).rmdir()
        except FileNotFoundError:
            return not self.path.exists()
        except OSError:
            return False
        return True


class RunCgroup(Cgroup):
    """A live run's cgroup: made, and locked, so that nobody takes it for a dead one's."""

    def __init__(self, base: Path, run_id: str) -> None:
        """Make it.

        Raises:
            OSError: it can't be made.
        """
        super().__init__(base / f"{_PREFIX}{run_id}")
        while True:
            with contextlib.suppress(FileExistsError):
                self.path.mkdir()
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # somebody removed it at once
            fcntl.flock(fd, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), self.path.stat()):
                    break
            os.close(fd)  # somebody removed it before we had the lock
        self.fd = fd  # its folder

    def close(self) -> None:
        """Kill what is left in it and remove it."""
        self.kill()
        self.remove()
        os.close(self.fd)


def cgroups_of(run_id: str) -> list[Cgroup]:
    """Return the cgroups of a run, wherever below the mount they are.

    The whole tree is looked through, because who ends a lost run may have been
    started elsewhere than its runner.
    """
    mount = _mount_point()
    if mount is None:
        return []
    name = f"{_PREFIX}{run_id}"
    return [Cgroup(Path(folder)) for folder in _tree(mount) if folder.endswith(f"/{name}")]


def base() -> Path:
    """Return the cgroup below which runs get theirs: the one that we are in; found out once.

    Tried by doing: one is made below it, a process started in it, killed with it,
    and it is removed. Empty ones that dead runners left are removed, too.

    Raises:
        OSError: there is none that we can use; the text says why.
    """
    found = _look()
    if isinstance(found, str):
        raise OSError(errno.ENOTSUP, found)
    return found


def why_unusable() -> str | None:
    """Return why runs get no cgroups here, or None where they do. For forks that ask later, too."""
    found = _look()
    return found if isinstance(found, str) else None


@functools.cache
def _look() -> Path | str:
    try:
        folder = _own()
        trial = RunCgroup(folder, f"probe-{os.getpid()}")
        try:
            for name in ("cgroup.kill", "cgroup.freeze"):
                if not (trial.path / name).exists():
                    return f"the kernel has no {name}, as Linux 5.14 has"
            _try_kill(trial)
        finally:
            trial.close()
    except OSError as exc:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror or str(exc)
    _sweep(folder)
    return folder


def clone_into(folder_fd: int, *, as_sibling: bool = False) -> int:
    """Fork into the cgroup that *folder_fd* is the folder of; return 0 in the child, else its pid.

    The child is there from its first instruction, which costs nothing, while
    moving a process takes some 10 ms (docs/decisions/0010). *as_sibling* makes
    it a child of our parent. Neither Python nor libc learn of the fork: whoever
    calls this has one thread, and the child ends with execve(2) or ``os._exit``.

    Raises:
        OSError: the kernel refuses.
    """
    # With CLONE_PARENT the signal at its end is that at ours.
    flags, exit_signal = (_CLONE_PARENT, 0) if as_sibling else (0, int(signal.SIGCHLD))
    args = _CLONE_ARGS.pack(
        _CLONE_INTO_CGROUP | flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, folder_fd
    )
    # The GIL is kept meanwhile: the child has this thread only, and nobody would give it back.
    pid = _syscall(ctypes.c_long(_CLONE3), args, ctypes.c_long(len(args)))
    if pid >= 0:
        return int(pid)
    number = ctypes.get_errno()
    if number not in (errno.ENOSYS, errno.EPERM) or _CLONE is None:
        raise OSError(number, f"clone3: {os.strerror(number)}")
    return _clone_and_move(folder_fd, flags)


def _clone_and_move(folder_fd: int, flags: int) -> int:
    """Do it in two steps, where a filter of system calls knows clone(2) only."""
    numbers = (_CLONE, flags | int(signal.SIGCHLD), 0, 0, 0, 0)
    pid = _syscall(*(ctypes.c_long(number) for number in numbers if number is not None))
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"clone: {os.strerror(number)}")
    if pid == 0:
        try:
            procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder_fd)
            os.write(procs, b"0")  # the one who writes
            os.close(procs)
        except BaseException:  # noqa: BLE001 - a process outside of its cgroup must do nothing
            os._exit(1)
    return int(pid)


def _try_kill(group: RunCgroup) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = clone_into(group.fd)
        if pid == 0:
            try:
                ours.close()
                theirs.send(b".")
                theirs.recv(1)  # until it is killed, or we are: nobody else would end it
            finally:
                os._exit(1)
        theirs.close()
        ours.recv(1)  # it is in, or has ended
        group.kill()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != -signal.SIGKILL:
        raise OSError(errno.EPERM, f"no process can be started in a cgroup below {group.path}")


def _sweep(folder: Path) -> None:
    """Remove empty cgroups of runs whose runner is gone."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not Cgroup(path).is_populated():
                    Cgroup(path).remove()
            finally:
                os.close(fd)


def _own() -> Path:
    """Return the folder of the cgroup that we are in.

    Raises:
        OSError: there is no hierarchy of version 2.
    """
    mount = _mount_point()
    if mount is None:
        raise OSError(errno.ENOENT, "no cgroup2 is mounted")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::/"):  # up to ten lines of version 1 stand there as well
            folder = mount / line.removeprefix("0::/")
            if str(os.getpid()).encode() in (folder / "cgroup.procs").read_bytes().split():
                return folder
            raise OSError(errno.ENOTSUP, "the cgroup2 that is mounted shows another subtree")
    raise OSError(errno.ENOENT, "/proc/self/cgroup tells of no cgroup2")


def _mount_point() -> Path | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, place, kind, *_ = line.split(" ")
            if kind == "cgroup2":
                return Path(place.encode().decode("unicode_escape"))  # proc(5): \040 for a space
    return None


def _tree(root: Path) -> Iterator[str]:
    """Yield a cgroup's folder and all below it, parents first."""
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        yield folder
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
