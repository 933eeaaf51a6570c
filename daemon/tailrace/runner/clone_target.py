"""The folder a clone goes into: below the workspace, emptied, never through a link.

What an earlier attempt, or hostile code of it, left there may hold links,
folders without permissions and trees deeper than any stack; none of them
leads outside or stops the removal.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path, PurePosixPath

from tailrace.errors import TailraceError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TargetError(TailraceError):
    """The folder can't be made where it was asked for."""


@contextmanager
def empty_folder(workspace: str, target: str) -> Iterator[int]:
    """Yield a descriptor of *target*, an empty folder below *workspace*.

    Whatever was there is removed first; missing parents are made. Both paths
    are absolute.

    Raises:
        TargetError: it lies outside, or a parent is a link or no folder.
    """
    parts = _below(workspace, target)
    with _open_workspace(workspace) as root:
        if not parts:
            _empty(root)
            yield root
            return
        with open_beneath(root, parts[:-1], make=True) as parent:
            _remove(parent, parts[-1])
            os.mkdir(parts[-1], 0o700, dir_fd=parent)
            with open_beneath(parent, parts[-1:]) as folder:
                yield folder


@contextmanager
def open_beneath(folder: int, parts: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of the folder at *parts* below *folder*, following no link.

    Raises:
        TargetError: one of them is a link, no folder, or isn't there.
    """
    current = os.dup(folder)
    try:
        for part in parts:
            if make:
                _make(part, current)
            try:
                inner = os.open(part, _FOLDER, dir_fd=current)
            except OSError as error:
                raise TargetError(
                    f"'{part}' is a link, or no folder that can be opened; remove it"
                ) from error
            os.close(current)
            current = inner
        yield current
    finally:
        os.close(current)


def _below(workspace: str, target: str) -> tuple[str, ...]:
    # The workspace may stand behind a link of the operator's, and the target come resolved.
    for root in (PurePosixPath(workspace), Path(workspace).resolve()):
        if PurePosixPath(target).is_relative_to(root):
            parts = PurePosixPath(target).relative_to(root).parts
            if ".." not in parts:
                return parts
    raise TargetError(f"{target} lies outside the workspace; give a path below it")


@contextmanager
def _open_workspace(path: str) -> Iterator[int]:
    try:
        workspace = os.open(path, _FOLDER & ~os.O_NOFOLLOW)  # ours: a link there is the operator's
    except OSError as error:
        raise TargetError(f"the workspace can't be opened: {error.strerror}") from error
    try:
        yield workspace
    finally:
        os.close(workspace)


def _make(name: str, parent: int) -> None:
    with suppress(FileExistsError):  # opening it tells whether it is a folder
        os.mkdir(name, 0o700, dir_fd=parent)


def _remove(parent: int, name: str) -> None:
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(name, dir_fd=parent)
        return
    folder = _open_writable(parent, name)
    try:
        _empty(folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)


def _empty(top: int) -> None:
    """Remove all that is in the folder *top*.

    Inner folders are moved up into *top* and emptied there, so that neither
    the stack nor the number of open files grows with their depth.
    """
    serial = count()
    while names := os.listdir(top):
        for name in names:
            if not _is_folder(top, name):
                os.unlink(name, dir_fd=top)
                continue
            folder = _open_writable(top, name)
            try:
                _move_up(folder, top, serial)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)


def _move_up(folder: int, top: int, serial: Iterator[int]) -> None:
    """Unlink the files of *folder* and move its folders into *top*."""
    for name in os.listdir(folder):
        if not _is_folder(folder, name):
            os.unlink(name, dir_fd=folder)
            continue
        os.close(_open_writable(folder, name))  # moving a folder writes its ".."
        new_name = next(n for n in (f".removed-{i}" for i in serial) if not _exists(top, n))
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=top)


def _open_writable(parent: int, name: str) -> int:
    """Open a folder for listing and changing, whatever its permissions were."""
    # O_PATH needs no permission on the folder itself, and chmod through /proc follows no link.
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            Path(f"/proc/self/fd/{handle}").chmod(0o700)
        return os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)


def _is_folder(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
