"""``state.db`` as a file: opened, checked, and its errors told as ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tailrace.errors import DISK_RETRY_S, InvalidInputError, Problem, UnavailableError

_REMEDY: Final = "put back a copy; without it, move the file away, and all tokens are made anew"
_WAIT_S: Final = 5.0  # for another process that writes


class StateDatabase:
    """An open ``state.db``; any number of processes may have it open. Belongs to one thread."""

    def __init__(self, path: Path, tables: Sequence[str], *, lasting: bool = True) -> None:
        """Open the file, making it (0600) and *tables* (``CREATE … IF NOT EXISTS``) if missing.

        Unless *lasting*, a power cut may take the last writes back; they cost
        no wait for the disk.

        Raises:
            InvalidInputError: the file is damaged; nothing was changed.
            OSError, UnavailableError: it can't be used.
        """
        # Never opened besides SQLite once it is there: closing a descriptor of a file drops all
        # locks that the process has on it (fcntl(2)), those of its other connections too, and
        # another process that closes then deletes the log that they still read.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=_WAIT_S)
        except sqlite3.OperationalError as exc:
            raise self._unusable(exc) from exc
        try:
            self._open(tables, "FULL" if lasting else "NORMAL")
        except sqlite3.OperationalError as exc:
            self._db.close()
            raise self._unusable(exc) from exc
        except sqlite3.DatabaseError as exc:
            self._db.close()
            problem = Problem(str(path), f"is damaged: {exc}", _REMEDY)
            raise InvalidInputError([problem]) from None

    def _open(self, tables: Sequence[str], synchronous: str) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {synchronous}")
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(" ".join(verdict.split()))
        for table in tables:
            self._db.execute(table)

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Execute a statement.

        Raises:
            UnavailableError: the disk is full or failing, or the file was damaged meanwhile.
            sqlite3.IntegrityError: a value is there already.
        """
        try:
            return self._db.execute(statement, values)
        except sqlite3.OperationalError as exc:
            raise self._unusable(exc) from exc
        except sqlite3.DatabaseError as exc:
            if type(exc) is not sqlite3.DatabaseError:
                raise  # one of our statements', such as a name twice
            message = f"{self._path} is damaged: {exc}; stop the daemon, and {_REMEDY}"
            raise UnavailableError(message, retry_after_s=DISK_RETRY_S) from exc

    def _unusable(self, exc: sqlite3.Error) -> UnavailableError:
        return unusable(self._path, exc)

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def unusable(path: Path, exc: sqlite3.Error) -> UnavailableError:
    """Return how to tell that SQLite can't use a database of the state folder, and why."""
    remedy = "is its disk full or read-only?"
    with contextlib.suppress(OSError):
        owner = path.parent.stat().st_uid
        if os.geteuid() not in (0, owner):
            remedy = f"{path.parent} belongs to uid {owner}: call tailrace as its owner"
    message = f"{path} can't be used: {exc}; {remedy}"
    return UnavailableError(message, retry_after_s=DISK_RETRY_S)
