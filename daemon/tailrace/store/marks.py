"""Schedule marks in ``state.db``: up to when each schedule's times have been seen to.

What the run folders can't tell: that a time started no run, and why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tailrace.core.schedule import Mark
from tailrace.store.database import StateDatabase

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS schedule_marks (
  pipeline TEXT NOT NULL, schedule TEXT NOT NULL,
  done_s REAL NOT NULL, begun_s REAL, run TEXT, refusal TEXT,
  PRIMARY KEY (pipeline, schedule)
) WITHOUT ROWID""",
)


class ScheduleMarks:
    """The marks of a state folder, by pipeline and schedule. Belongs to one thread."""

    def __init__(self, path: Path) -> None:
        """Open ``state.db``, making it (0600) where it is missing.

        Raises:
            InvalidInputError: the file is damaged.
            OSError, UnavailableError: it can't be used.
        """
        self._db = StateDatabase(path, _TABLES, lasting=False)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def all(self) -> dict[tuple[str, str], Mark]:
        """Return every mark.

        Raises:
            UnavailableError: the disk is failing.
        """
        found = self._db.execute(
            "SELECT pipeline, schedule, done_s, begun_s, run, refusal FROM schedule_marks"
        )
        return {
            (pipeline, schedule): Mark(done_s=done_s, begun_s=begun_s, run=run, refusal=refusal)
            for pipeline, schedule, done_s, begun_s, run, refusal in found
        }

    def put(self, pipeline: str, schedule: str, mark: Mark) -> None:
        """Keep a mark, in place of the one before. Takes microseconds.

        A power cut may take it back; that a time's run was started is in the run's folder.

        Raises:
            UnavailableError: the disk is full or failing.
        """
        self._db.execute(
            "INSERT OR REPLACE INTO schedule_marks VALUES (?, ?, ?, ?, ?, ?)",
            (pipeline, schedule, mark.done_s, mark.begun_s, mark.run, mark.refusal),
        )

    def remove(self, pipeline: str, schedule: str) -> None:
        """Forget a schedule, known or not.

        Raises: as `put`.
        """
        self._db.execute(
            "DELETE FROM schedule_marks WHERE pipeline = ? AND schedule = ?", (pipeline, schedule)
        )
