"""Where a repository in a local folder has its content: not always in that folder.

A ``.git`` may be a file or a link that leads elsewhere, a work tree shares
another repository's folder, and objects are borrowed by ``alternates`` or
links. Who may clone the folder may not for that clone what it leads to.

Sources: gitrepository-layout(5), git-upload-pack(1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SUFFIXES: Final = ("/.git", "", ".git/.git", ".git")  # in each of them git looks for a repository
_MAX_POINTER: Final = 1 << 12  # bytes of a file that names one path
_MAX_ALTERNATES: Final = 1 << 16
_QUOTED: Final = "/"  # stands for a path in quotes, which nobody needs: no folder that is allowed


def folders_read(path: str) -> Iterator[str]:
    """Yield every folder or file, links resolved, that git may read for the repository at *path*.

    Raises:
        OSError: one can't be looked into.
    """
    for suffix in _SUFFIXES:
        place = Path(path + suffix)
        if not os.path.lexists(place):
            continue
        yield os.path.realpath(place)
        if place.is_file():
            place = Path(_pointed_to(place, "gitdir:"))
            yield os.path.realpath(place)
        if not (place / "HEAD").exists():
            continue
        if (place / "commondir").exists():
            place = Path(_pointed_to(place / "commondir"))
            yield os.path.realpath(place)
        yield from _objects(place / "objects", set())


def _pointed_to(file: Path, label: str = "") -> str:
    with file.open("rb") as opened:
        text = os.fsdecode(opened.read(_MAX_POINTER)).removeprefix(label).strip()
    return os.path.join(file.parent, text)  # noqa: PTH118 - as text: the rest is for realpath


def _objects(folder: Path, seen: set[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    yield real
    for place, names, files in os.walk(real):
        linked = (os.path.join(place, name) for name in (*names, *files))  # noqa: PTH118 - many
        yield from (os.path.realpath(each) for each in linked if os.path.islink(each))  # noqa: PTH114 - many
    alternates = Path(real, "info/alternates")
    if alternates.exists():
        with alternates.open("rb") as opened:
            lines = os.fsdecode(opened.read(_MAX_ALTERNATES)).splitlines()
        for line in lines:
            if line.startswith('"'):
                yield _QUOTED
            elif line and not line.startswith("#"):
                yield from _objects(Path(real, line), seen)
