"""Collects what an attempt leaves into the run's artifacts.

Files are copied, never renamed or linked into place. A copy has one name and
one owner: a process that outlived the step, another hard link to the same
file, or a shared mapping of it can change the original and never what was
hashed. The copy is made in the kernel (copy_file_range(2)), which shares the
blocks where the file system can, and it is the copy that is read and hashed.

A hard link is collected like any file: who may make one to a file may as well
copy it (proc(5), ``protected_hardlinks``).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace.core.artifact_names import (
    ArtifactNames,
    escaped,
    media_type,
    shortened,
    why_unfit,
)
from tailrace.core.globs import Globs, parse_glob
from tailrace.runner.beneath import Tree, Walk, open_file

MAX_NOTICES: Final = 20  # a collection, besides one for each reason to leave files out
_KIND: Final = "artifacts"
_TOO_LARGE: Final = "limits.artifacts is reached"
_CHUNK: Final = 1 << 20
_NO_MORE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_NO_RANGES: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """A file in the run's artifacts."""

    name: str  # its path below them, with slashes
    given: str  # the name that its step gave it
    bytes: int
    sha256: str
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What was collected, sorted by name, and what to tell of the rest: (kind, text) of notices."""

    files: list[Collected]
    notices: list[tuple[str, str]]


def collect(
    source: Path,
    workdir: Path,
    patterns: Sequence[str],
    target: Path,
    *,
    step: str,
    taken: Mapping[str, str],
    max_bytes: int,
    max_files: int,
    would_mask: Callable[[str], bool],
    workspace: Path | None = None,
) -> Collection:
    """Collect the files of *source*, and those of *workdir* that *patterns* name, into *target*.

    Regular files only; links are not followed, neither as a file nor on the
    way. Names are relative to *source* or *workdir*; where both have one, that
    of *source* counts. A file of *source* is removed once it was copied, so
    that only one of them is on disk twice; *workdir* keeps its own. Within a
    folder files come before folders, both by name: so it is the nested ones
    that the limits leave out. Stored files have mode 0600, and none is seen
    before it is whole. Nothing is synced to disk.

    Blocks for as long as copying takes: meant for a thread, where it can't be
    interrupted; the limits bound its work.

    Args:
        source: the attempt's artifact folder; may be missing.
        workdir: where the step ran; may be missing.
        patterns: globs as `tailrace.core.globs` reads them.
        target: the run's artifacts; must exist.
        step: id of the step.
        taken: names in use -> step; what has another step's name gets ``<step>/`` in front.
        max_bytes: of all files together.
        max_files: how many.
        would_mask: whether a text holds something to mask; called in this thread.
        workspace: the folder that *workdir* lies beneath and that no step can replace; None where
            *workdir* itself is one. A step that may write to a parent of its *workdir* could put
            a link there, and have files collected that it can't read.

    Raises:
        OSError: *target* can't be opened.
        ValueError: *workdir* isn't beneath *workspace*.
    """
    root = workdir if workspace is None else workspace
    prefix = workdir.relative_to(root).parts
    with contextlib.closing(Tree(target)) as store:
        names = ArtifactNames(step, taken)
        collector = _Collector(_Store(store, max_bytes, max_files), names, would_mask)
        collector.take_all(source)
        if patterns:
            collector.take_matching(root, prefix, patterns)
        return collector.finish()


class _LeftOutError(Exception):
    """The file doesn't go in, as others won't for the same reason; the text says which."""


class _Store:
    """Copies files into a tree while the limits and the disk allow it."""

    def __init__(self, tree: Tree, max_bytes: int, max_files: int) -> None:
        self._tree = tree
        self._bytes_left = max_bytes
        self._files_left = max_files
        self._broken: str | None = None  # why nothing more can be stored
        self._has_ranges = True  # copy_file_range works between the two file systems
        self._buffer = memoryview(bytearray(_CHUNK))

    def add(self, source: int, name: str, given: str) -> Collected:
        """Store the file with that descriptor under *name*, all of it or nothing.

        Raises:
            OSError: it can't be read or stored.
            _LeftOutError: a limit is reached, or the disk takes no more.
        """
        if self._broken is not None:
            raise _LeftOutError(self._broken)
        if self._files_left <= 0:
            raise _LeftOutError("limits.artifact_files is reached")
        if os.fstat(source).st_size > self._bytes_left:
            raise _LeftOutError(_TOO_LARGE)
        try:
            size, sha256 = self._write(source, name)
        except OSError as exc:
            if exc.errno in _NO_MORE:
                self._broken = f"the disk takes no more: {exc.strerror}"
                raise _LeftOutError(self._broken) from exc
            raise
        self._bytes_left -= size
        self._files_left -= 1
        return Collected(
            name=name, given=given, bytes=size, sha256=sha256, media_type=media_type(name)
        )

    def _write(self, source: int, name: str) -> tuple[int, str]:
        folder, _, last = name.rpartition("/")
        parts = folder.split("/") if folder else []
        # Made in its own folder, under a name of its own, and renamed when whole: O_EXCL, so that
        # nothing that somebody put there is written to.
        place = self._tree.folder(parts, make=True)
        draft = f".collecting-{secrets.token_hex(8)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(draft, flags, 0o600, dir_fd=place)
        try:
            written = self._copy(source, fd)
            os.rename(draft, last, src_dir_fd=place, dst_dir_fd=place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=place)
            raise
        finally:
            os.close(fd)
        return written

    def _copy(self, source: int, target: int) -> tuple[int, str]:
        """Copy to the end of *source*, which may still grow; hash what arrived in *target*."""
        digest = hashlib.sha256()
        size = 0
        while count := self._copy_piece(source, target):
            piece = self._buffer[:count]
            if os.preadv(target, [piece], size) != count:
                raise OSError(errno.EIO, "the copy was changed while it was made")
            digest.update(piece)
            size += count
            if size > self._bytes_left:
                raise _LeftOutError(_TOO_LARGE)
        return size, digest.hexdigest()

    def _copy_piece(self, source: int, target: int) -> int:
        if self._has_ranges:
            try:
                return os.copy_file_range(source, target, _CHUNK)
            except OSError as exc:
                if exc.errno not in _NO_RANGES:
                    raise
                self._has_ranges = False  # another file system, or one that can't
        return os.sendfile(target, source, None, _CHUNK)


class _Collector:
    """Chooses the files and their names, and says what becomes of the others."""

    def __init__(
        self, store: _Store, names: ArtifactNames, would_mask: Callable[[str], bool]
    ) -> None:
        self._store = store
        self._names = names
        self._would_mask = would_mask
        self._walk = Walk()
        self._own: set[str] = set()  # names collected here, as the step has them
        self._files: list[Collected] = []
        self._told: list[str] = []
        self._untold = 0
        self._left_out: dict[str, tuple[str, int]] = {}  # why -> the first one, how many others

    def take_all(self, source: Path) -> None:
        """Collect, and remove, every file of the attempt's own folder."""
        try:
            tree = Tree(source)
        except FileNotFoundError:  # the step removed it
            return
        except OSError as exc:
            self._tell(f"$TAILRACE_ARTIFACTS can't be read: {exc.strerror}")
            return
        with contextlib.closing(tree):
            for found in self._walk.files(tree, (), Globs([("**",)], hidden=True)):
                name = "/".join(found.parts)
                if found.problem is not None:
                    self._tell_of(name or "$TAILRACE_ARTIFACTS", found.problem)
                elif self._take(tree, found.parts, name):
                    with contextlib.suppress(OSError):  # it goes with its folder anyway
                        os.unlink(found.parts[-1], dir_fd=tree.folder(found.parts[:-1]))

    def take_matching(self, root: Path, prefix: tuple[str, ...], patterns: Sequence[str]) -> None:
        """Collect what *patterns* name in the folder *prefix* of *root*."""
        globs: dict[str, tuple[str, ...]] = {}
        for pattern in patterns:
            try:
                globs[pattern] = parse_glob(pattern)
            except ValueError as exc:
                self._tell(f"artifacts: {pattern}: {exc}")
        matched: set[int] = set()
        try:
            with contextlib.closing(Tree(root)) as tree:
                for found in self._walk.files(tree, prefix, Globs(list(globs.values()))):
                    matched |= found.patterns
                    name = "/".join(found.parts)
                    if found.problem is not None:
                        self._tell_of(name or "the working directory", found.problem)
                    else:
                        self._take(tree, (*prefix, *found.parts), name)
        except OSError as exc:
            self._tell(f"artifacts: the workspace can't be read: {exc.strerror}")
        for index, pattern in enumerate(globs):
            if index not in matched:
                self._tell(f"artifacts: no file is named by {pattern}")

    def finish(self) -> Collection:
        """Return what was collected, and what to tell."""
        notices = self._told
        if self._untold:
            notices.append(f"and {self._untold} more like these")
        for why, (first, others) in self._left_out.items():
            are = f" and {others:,} more are" if others else " is"
            notices.append(f"{shortened(first)}{are} not collected: {why}")
        return Collection(
            files=sorted(self._files, key=lambda file: file.name),
            notices=[(_KIND, text) for text in notices],
        )

    def _take(self, tree: Tree, path: Sequence[str], name: str) -> bool:
        """Collect the file at *path* of *tree* as *name*; return whether that was done."""
        if self._is_secret(name):
            self._tell("a file whose name holds what is masked is not collected")
            return False
        if (problem := why_unfit(name)) is not None:
            self._tell_of(name, problem)
            return False
        if name in self._own:
            self._tell_of(name, "$TAILRACE_ARTIFACTS holds a file of that name, which counts")
            return False
        placed = self._names.place(name)
        if placed is None:
            self._tell_of(name, "its name is in use, also below that of the step")
            return False
        try:
            source = open_file(tree.folder(path[:-1]), path[-1])
            try:
                stored = self._store.add(source, placed, name)
            finally:
                os.close(source)
        except OSError as exc:
            self._tell_of(name, exc.strerror or "it can't be read")
            return False
        except _LeftOutError as exc:
            first, others = self._left_out.get(str(exc), (name, -1))
            self._left_out[str(exc)] = first, others + 1
            return False
        if placed != name:
            self._tell(f"{name}: that name is in use; collected as {placed}")
        self._own.add(name)
        self._names.add(placed)
        self._files.append(stored)
        return True

    def _is_secret(self, name: str) -> bool:
        """Whether the masker would change the name, as it is or as it would be shown."""
        plain = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return self._would_mask(plain) or self._would_mask(escaped(name))

    def _tell_of(self, name: str, problem: str) -> None:
        if self._is_secret(name):
            self._tell(f"a file whose name holds what is masked is not collected: {problem}")
        else:
            self._tell(f"{shortened(escaped(name))} is not collected: {problem}")

    def _tell(self, text: str) -> None:
        if len(self._told) < MAX_NOTICES:
            self._told.append(text)
        else:
            self._untold += 1
