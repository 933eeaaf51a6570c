"""What was answered to requests that brought a key, in ``state.db``: for a day, over restarts.

What the run folders can't tell: the answers to commands, and to submissions
whose run isn't there, because none was made or it was deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tailrace.store.database import StateDatabase

KEPT_S: Final = 24 * 3_600  # how long an Idempotency-Key is honoured: section 3 of the contract

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY NOT NULL, asked TEXT NOT NULL, answer BLOB NOT NULL, at_s REAL NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS answers_at ON answers (at_s)",
)


class KeptAnswers:
    """The answers of a state folder, by key. Belongs to one thread; calls take microseconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open ``state.db``, making it (0600) where it is missing.

        Raises:
            InvalidInputError: the file is damaged.
            OSError, UnavailableError: it can't be used.
        """
        self._db = StateDatabase(path, _TABLES, lasting=False)
        self._clock = clock

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def known(self, key: str) -> tuple[str, bytes] | None:
        """Return what was asked with that key (a digest) and answered, unless it is too long ago.

        Raises:
            UnavailableError: the disk is failing.
        """
        found: tuple[str, bytes] | None = self._db.execute(
            "SELECT asked, answer FROM answers WHERE key = ? AND at_s > ?",
            (key, self._clock() - KEPT_S),
        ).fetchone()
        return found

    def keep(self, key: str, asked: str, answer: bytes, *, at_s: float | None = None) -> None:
        """Keep an answer, given at *at_s* (now), in place of one to the same key.

        A power cut may take it back.

        Raises:
            UnavailableError: the disk is full or failing.
        """
        now = self._clock()
        self._db.execute("DELETE FROM answers WHERE at_s <= ?", (now - KEPT_S,))
        self._db.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
            (key, asked, answer, now if at_s is None else at_s),
        )
