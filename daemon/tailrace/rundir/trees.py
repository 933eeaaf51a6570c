"""Folders as a whole, whatever a step left in them: measured, and removed.

No link is followed, no depth is too deep, and a few descriptors are enough.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONG: Final = 900  # characters of a path; PATH_MAX is 4,096 bytes
_NESTED: Final = 64  # roots within roots: some 30,000 levels; what lies deeper isn't measured
_ROUNDS: Final = 8  # looks at one folder: readdir(3) may pass over what moves meanwhile
_MOVED: Final = ".tailrace-moved-"


@dataclass(frozen=True, slots=True)
class Measure:
    """What a folder takes."""

    bytes: int  # on disk; a file with several names within it counts once
    used_s: float  # when anything in it was last read or written, as far as the disk notes it


def measure(path: Path) -> Measure:
    """Measure a folder or file, there or not; what can't be read counts as nothing."""
    try:
        found = os.lstat(path)
    except OSError:
        return Measure(0, 0.0)
    total, used_s = found.st_blocks * 512, found.st_mtime
    if stat.S_ISDIR(found.st_mode):
        try:
            root = os.open(path, _FOLDER)
        except OSError:
            return Measure(total, used_s)
        for each in _stats(root, 0, set()):
            total += each.st_blocks * 512
            # Reading a folder notes it too, and we do that: of folders only the changes count.
            files = not stat.S_ISDIR(each.st_mode)
            used_s = max(used_s, each.st_mtime, each.st_atime if files else 0.0)
    else:
        used_s = max(used_s, found.st_atime)
    return Measure(total, used_s)


def _stats(root: int, nested: int, seen: set[tuple[int, int]]) -> Iterator[os.stat_result]:
    """Give the status of everything below a folder, whose descriptor is closed in the end."""
    waiting = ["."]
    try:
        while waiting:
            name = waiting.pop()
            try:
                folder = os.open(name, _FOLDER, dir_fd=root)
            except OSError:
                continue
            if len(name) > _LONG:
                if nested < _NESTED:
                    yield from _stats(folder, nested + 1, seen)
                else:
                    os.close(folder)
                continue
            for entry, found in _entries(folder):
                if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                    if (found.st_dev, found.st_ino) in seen:
                        continue
                    seen.add((found.st_dev, found.st_ino))
                yield found
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(f"{name}/{entry}")
    finally:
        os.close(root)


def _entries(folder: int) -> Iterator[tuple[str, os.stat_result]]:
    """Give the names and status in a folder, whose descriptor is closed in the end."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it went meanwhile
    except OSError:
        return
    finally:
        os.close(folder)


def remove_tree(path: Path) -> bool:
    """Remove a folder, file or link with all below it; return whether it is gone.

    Folders that their owner may not write are made writable first: read-only
    trees are usual in the caches of build tools. Folders within are moved to
    the top one by one and emptied there, so that depth costs neither stack,
    nor descriptors, nor names too long. What can't be removed (a mount, an
    immutable file) stays, perhaps moved.
    """
    try:
        parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return remove_at(path.name, parent)
    finally:
        os.close(parent)


def remove_at(name: str, parent: int) -> bool:
    """Remove what has that name in an open folder, as `remove_tree` does."""
    if _remove_file(name, parent):
        return True
    top = _open_writable(name, parent)
    if top is None:
        return False
    try:
        if not empty_tree(top):
            return False
    finally:
        os.close(top)
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return False
    return True


def empty_tree(top: int) -> bool:
    """Remove all that is in an open folder, as `remove_tree` does; return whether it is empty."""
    try:
        _empty(top)
        return not os.listdir(top)
    except OSError:
        return False


def _remove_file(name: str, folder: int) -> bool:
    """Remove what isn't a folder; return whether nothing of that name is there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError:  # EISDIR (Linux) or EPERM (POSIX) for a folder; or it can't be removed
        return False
    return True


def _open_writable(name: str, parent: int) -> int | None:
    """Open a folder for reading, made its owner's to change; None where it is none, or foreign."""
    try:
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC,
                         dir_fd=parent)  # fmt: skip
    except OSError:
        return None
    try:
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            Path(f"/proc/self/fd/{handle}").chmod(0o700)  # fchmod(2) takes no O_PATH descriptor
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(handle)


def _empty(top: int) -> None:
    """Remove all that can be removed from a folder."""
    stuck: set[str] = set()
    numbers = itertools.count()
    while folders := [name for name in _clear(top) if name not in stuck]:
        for name in folders:
            if not _dissolve(name, top, numbers):
                stuck.add(name)


def _clear(folder: int) -> list[str]:
    """Remove the files of a folder; return the names of the folders in it."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                _remove_file(entry.name, folder)
    return folders


def _dissolve(name: str, top: int, numbers: Iterator[int]) -> bool:
    """Remove a folder of *top*, after the folders within it were moved to *top*."""
    folder = _open_writable(name, top)
    if folder is None:
        return False
    try:
        if os.fstat(folder).st_dev != os.fstat(top).st_dev:
            return False  # a mount: what is on it isn't ours to remove
        for _ in range(_ROUNDS):
            for inner in _clear(folder):
                if not _move_up(inner, folder, top, numbers):
                    return False
            try:
                os.rmdir(name, dir_fd=top)
            except OSError as exc:
                if exc.errno != errno.ENOTEMPTY:
                    return False
            else:
                return True
    except OSError:
        return False
    finally:
        os.close(folder)
    return False


def _move_up(name: str, folder: int, top: int, numbers: Iterator[int]) -> bool:
    # To move a folder, rename(2) changes its "..": it must be writable itself.
    inner = _open_writable(name, folder)
    if inner is None:
        return False
    os.close(inner)
    for number in numbers:
        try:
            os.rename(name, f"{_MOVED}{number}", src_dir_fd=folder, dst_dir_fd=top)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                return False
        else:
            return True
    return False
