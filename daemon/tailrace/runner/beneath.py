"""Opens what a step has left: beneath held descriptors, without links, regular files only.

Whoever wrote the names may still be writing: between any two calls a file may
become a FIFO and a folder a link (openat(2), "Rationale for openat()").
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace.core.globs import Globs, State

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that nobody writes to, or a file under a lease, would wait for ever.
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_file(folder: int, name: str) -> int:
    """Open a regular file for reading in the folder with that descriptor.

    Raises:
        OSError: it is a link or anything else than a regular file, or can't be opened.
    """
    try:
        fd = os.open(name, _FILE, dir_fd=folder)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise OSError(errno.EINVAL, "not a regular file") from exc
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file")


def leave_file(folder: Path, name: str, data: bytes) -> None:
    """Put a file (0600) into a step's folder by rename: readers see it whole or not at all.

    Raises:
        OSError: the folder is gone or a link now, or can't be written.
    """
    parent = os.open(folder, _FOLDER)
    try:
        made = f".{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made, dir_fd=parent)
        with open(os.open(made, flags, 0o600, dir_fd=parent), "wb") as file:
            file.write(data)
        os.rename(made, name, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        os.close(parent)


class Tree:
    """The folders beneath *root*, which is trusted; those on the way to the last one are held open.

    Close it when done.

    Raises:
        OSError: the root itself is missing, a link, or no folder.
    """

    def __init__(self, root: Path) -> None:
        self._fds = [os.open(root, _FOLDER)]
        self._names: list[str] = []

    def folder(self, parts: Sequence[str], *, make: bool = False) -> int:
        """Return the descriptor of a folder, valid until the next call; *make* creates it (0700).

        Raises:
            OSError: a part of it is missing, a link, or no folder.
            ValueError: a part isn't a plain name.
        """
        common = 0
        for ours, theirs in zip(self._names, parts, strict=False):
            if ours != theirs:
                break
            common += 1
        self._leave(common)
        for name in parts[common:]:
            if name in ("", ".", "..") or "/" in name:
                raise ValueError(f"{name!r} is no name in a folder")
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=self._fds[-1])
            self._fds.append(os.open(name, _FOLDER, dir_fd=self._fds[-1]))
            self._names.append(name)
        return self._fds[-1]

    def close(self) -> None:
        """Close all descriptors."""
        self._leave(0)
        os.close(self._fds.pop())

    def _leave(self, depth: int) -> None:
        while len(self._names) > depth:
            os.close(self._fds.pop())
            self._names.pop()


@dataclass(frozen=True, slots=True)
class Found:
    """A name that a walk met."""

    parts: tuple[str, ...]  # from where the walk began
    patterns: frozenset[int]  # those that name it, by index
    problem: str | None = None  # why it is nothing to take, or not entered


class Walk:
    """Finds files beneath a folder; *max_entries* bounds the names looked at, over all walks.

    A folder that changes meanwhile is seen as it was at some moment.
    """

    def __init__(self, *, max_entries: int = 500_000, max_depth: int = 64) -> None:
        self._left = max_entries
        self._max_depth = max_depth  # a descriptor each

    def files(self, tree: Tree, prefix: tuple[str, ...], globs: Globs) -> Iterator[Found]:
        """Yield what *globs* name beneath the folder *prefix*: files first, then folder by folder.

        In each folder names come in order, so that two walks find the same in
        the same order. *tree* may be used between two results.
        """
        waiting: list[tuple[tuple[str, ...], State]] = [((), globs.start())]
        while waiting:
            parts, state = waiting.pop()
            try:
                entries = self._list(tree.folder((*prefix, *parts)))
            except OSError as exc:
                yield Found(parts, frozenset(), f"the folder can't be read: {exc.strerror}")
                continue
            folders: list[tuple[tuple[str, ...], State]] = []
            for name, kind in entries:
                if kind == "folder":
                    if within := globs.enter(state, name):
                        folders.append(((*parts, name), within))
                elif patterns := globs.matched(state, name):
                    problem = None if kind == "file" else "not a regular file"
                    yield Found((*parts, name), patterns, problem)
            if folders and len(parts) >= self._max_depth:
                yield Found(parts, frozenset(), "its folders are nested too deeply")
            elif self._left:
                waiting += reversed(folders)
            else:
                yield Found(parts, frozenset(), "there are too many names; not all were looked at")
                return

    def _list(self, folder: int) -> list[tuple[str, str]]:
        with os.scandir(folder) as found:
            entries = [(entry.name, _kind(entry)) for entry in itertools.islice(found, self._left)]
        self._left -= len(entries)
        return sorted(entries)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "file" if entry.is_file(follow_symlinks=False) else "other"
    except OSError:  # it is gone already
        return "other"
