"""Naming a Unix socket whose path is too long for its address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MOST_BYTES: Final = 107  # unix(7): 108 with the zero


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a name that connects to the socket *path* until the block ends.

    That is the path itself, or where it is too long, one through its folder's
    descriptor: as long as it is used, the folder must not be made anew.

    Raises:
        OSError: it is too long, and its folder can't be opened.
    """
    if len(os.fsencode(path)) <= _MOST_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
