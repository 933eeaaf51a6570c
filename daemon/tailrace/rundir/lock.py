"""Who may write a run folder: the holder of a flock(2) on ``lock``.

flock, never fcntl: the lock belongs to the open description, so that it can be
handed to another process (inherited, or by SCM_RIGHTS) without being free in
between, and closing another descriptor of the same file doesn't drop it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from tailrace import wire

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_holder_decoder: Final = msgspec.json.Decoder(wire.Holder)


def try_lock(path: Path) -> int | None:
    """Take the lock; return its descriptor (close-on-exec), or None where somebody holds it.

    Creates the file where it is missing. Closing the last copy of the
    descriptor frees the lock.

    Raises:
        OSError: the file can't be opened.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock now; a missing file is free."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        # A shared lock is refused by an exclusive one and disturbs nobody else who asks.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def boot_id() -> str:
    """Return what the kernel calls this boot; another one after each restart (random(4))."""
    return _BOOT_ID.read_text().strip()


def write_holder(lock_fd: int) -> None:
    """Write down, on disk, who holds the lock; where the disk takes nothing it stays untold."""
    with contextlib.suppress(OSError):
        data = wire.encode_json(wire.Holder(pid=os.getpid(), boot=boot_id()))
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, data, 0)
        os.fdatasync(lock_fd)


def read_holder(path: Path) -> wire.Holder | None:
    """Return who wrote itself down last as the holder; None where nobody did."""
    try:
        return _holder_decoder.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
