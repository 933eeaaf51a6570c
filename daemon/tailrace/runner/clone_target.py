"""The folder a clone goes into: below the workspace, emptied, never through a link.

What an earlier attempt, or hostile code of it, left there is removed by
`tailrace.rundir.trees`: links, folders without permissions and trees deeper
than any stack neither lead outside nor stop it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from tailrace.errors import TailraceError
from tailrace.rundir.trees import empty_tree, remove_at

_STAYS = "a mount, or a file that can't be changed, is in it; remove that"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TargetError(TailraceError):
    """The folder can't be made where it was asked for."""


@contextmanager
def empty_folder(workspace: str, target: str) -> Iterator[int]:
    """Yield a descriptor of *target*, an empty folder below *workspace*.

    Whatever was there is removed first; missing parents are made. Both paths
    are absolute.

    Raises:
        TargetError: it lies outside, a parent is a link or no folder, or what was there stays.
    """
    parts = _below(workspace, target)
    with _open_workspace(workspace) as root:
        if not parts:
            if not empty_tree(root):
                raise TargetError(f"the workspace can't be emptied: {_STAYS}")
            yield root
            return
        with open_beneath(root, parts[:-1], make=True) as parent:
            if not remove_at(parts[-1], parent):
                raise TargetError(f"'{parts[-1]}' can't be removed: {_STAYS}")
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
