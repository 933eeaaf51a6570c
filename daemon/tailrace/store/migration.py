"""Brings a state folder of an older format to this version's, a copy of ``state.db`` first."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tailrace.errors import InvalidInputError, Problem
from tailrace.rundir.layout import StateDir
from tailrace.whole_file import written_whole

Migration = Callable[[StateDir], None]

# The first one brings format 1 to format 2, and so on. Each may be done again after a crash.
MIGRATIONS: Final[tuple[Migration, ...]] = ()


def migrate(state: StateDir, found: int, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring a folder of format *found* to the newest, step by step.

    To be called while no daemon uses the folder. What was there before each
    step is in ``state.db.formatN``; ``version`` tells how far it got.

    Raises:
        InvalidInputError: ``state.db`` can't be copied, or a step failed; the folder has
            the format that ``version`` tells.
    """
    for number in range(found, len(migrations) + 1):
        _copy(state.state_db, state.state_db.with_name(f"state.db.format{number}"))
        try:
            migrations[number - 1](state)
            write_version(state, number + 1)
        except (OSError, sqlite3.Error) as exc:
            problem = f"{state.path} couldn't be brought to format {number + 1}: {exc}"
            hint = f"mend that and start again; state.db.format{number} is a copy of what there was"
            raise InvalidInputError([Problem("state_dir", problem, hint)]) from exc


def write_version(state: StateDir, version: int) -> None:
    """Tell the folder's format, whole at any moment, also where several do it at once.

    Raises:
        OSError: it can't be written; names ``version``.
    """
    try:
        with written_whole(state.version) as file:
            file.write(b"%d\n" % version)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:  # which names the file that becomes this one
        raise OSError(exc.errno, exc.strerror, str(state.version)) from None


def _copy(path: Path, copy: Path) -> None:
    """Copy a database as of this moment, what its log holds included; one that is there stays."""
    if copy.exists() or not path.exists():
        return
    new = copy.with_name(f".{copy.name}")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(new)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as exc:
        new.unlink(missing_ok=True)
        hint = "nothing was changed; make room on the disk, or put back a copy of the file"
        raise InvalidInputError(
            [Problem(str(path), f"can't be copied before the upgrade: {exc}", hint)]
        ) from None
    new.replace(copy)
