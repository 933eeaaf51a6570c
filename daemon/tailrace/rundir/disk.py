"""What a disk can't take, told apart; room kept on it; and files that are on it for certain."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from tailrace.core.units import format_size

DISK_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})

_FALLOC_FL_KEEP_SIZE: Final = 1  # linux/falloc.h; os.posix_fallocate would lengthen the file
_FULL: Final = 1 << 20  # bytes; a disk with less is full for most programs

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def is_disk_error(exc: OSError) -> bool:
    """Whether an error says that the disk is full, read-only or failing."""
    return exc.errno in DISK_ERRNOS


def keep_room(fd: int, offset: int, size: int) -> bool:
    """Have the disk keep *size* bytes for a file from *offset* on, which nobody else can take.

    The file's length stays (fallocate(2)); truncating the file gives them back.
    Returns False on a file system that can't.

    Raises:
        OSError: there is no room.
    """
    if _libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE, offset, size) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINTR):
        return False
    raise OSError(number, os.strerror(number))


def write_synced(path: Path, data: bytes) -> None:
    """Put a file at *path*, on disk when this returns, readable by its owner only.

    Whatever happens meanwhile, a file there is either the earlier one or all of the new one.

    Raises:
        OSError: it could not be written.
    """
    new = path.with_name(f".{path.name}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fdatasync(fd)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # of a disk that fails
            new.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Return once what the folder holds, as names, is on disk.

    Raises:
        OSError: the disk is failing.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def what_is_wrong(folder: Path) -> str | None:
    """Return what keeps programs from writing to the disk that *folder* is on, as a clause."""
    try:
        found = os.statvfs(folder)
    except OSError as exc:
        return f"its disk fails: {exc.strerror}" if is_disk_error(exc) else None
    if found.f_flag & os.ST_RDONLY:
        return "its disk is read-only"
    free = (found.f_bfree if os.geteuid() == 0 else found.f_bavail) * found.f_frsize
    if free < _FULL or (found.f_files and not found.f_ffree):
        return f"its disk is full ({format_size(free)} free)"
    return None
