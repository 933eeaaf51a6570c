"""The index of runs: SQLite, for lists and look-ups; the run folders are the truth.

Calls are synchronous and take microseconds. What it holds was masked before
it came here, because it is read from ``run.json`` and the journal.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from tailrace.core.cut import quoted
from tailrace.core.events import RunStatus
from tailrace.core.ulid import PREFIX, is_ulid
from tailrace.errors import InvalidInputError, Problem, UnknownError

_FORMAT: Final = 1  # user_version; another one is rebuilt
_STATUSES: Final = get_args(RunStatus)
_REF: Final = re.compile(r"[a-z0-9][a-z0-9-]*/[0-9]{1,18}")
MOST_LISTED: Final = 1_000


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run in lists; keys as in section 3 of the contract."""

    id: str
    ref: str
    pipeline: str
    depth: str | None = None
    params: dict[str, Any] = {}  # masked
    status: str = "queued"
    cause: str | None = None
    cause_code: str | None = None
    created_at: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    duration_ms: int | None = None
    last_seq: int = 0  # as of the last change of status
    file_url: str | None = None
    retry_of: str | None = None
    by: str = ""
    via: str = ""
    key: str | None = None
    body_sha256: str | None = None


class Outline(msgspec.Struct, frozen=True):
    """What keeping a run depends on."""

    id: str
    ref: str
    pipeline: str
    status: str
    finished_at: str | None
    retry_of: str | None


_COLUMNS: Final = RunRow.__struct_fields__
_TABLE: Final = f"""
CREATE TABLE runs (
  {", ".join(f'"{name}"' + (" PRIMARY KEY NOT NULL" if name == "id" else "") for name in _COLUMNS)}
) WITHOUT ROWID;
CREATE INDEX runs_ref ON runs (ref);
CREATE INDEX runs_pipeline ON runs (pipeline, id);
CREATE INDEX runs_status ON runs (status, id);
CREATE INDEX runs_key ON runs (key) WHERE key IS NOT NULL;
PRAGMA user_version = {_FORMAT};
"""
_QUOTED: Final = ", ".join(f'"{name}"' for name in _COLUMNS)
_SELECT: Final = f"SELECT {_QUOTED} FROM runs "  # noqa: S608 - names of our own columns
# An older reader of the same folder must not overwrite what a newer one saw.
_UPSERT: Final = (
    f"INSERT INTO runs VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT (id) DO UPDATE SET "  # noqa: S608 - names of our own columns
    + ", ".join(f'"{name}" = excluded."{name}"' for name in _COLUMNS if name != "id")
    + " WHERE excluded.last_seq >= runs.last_seq"
)


class DamagedIndexError(Exception):
    """The file is no index that this version can use: make a new one and rebuild it."""


class Index:
    """An open index. Belongs to one thread; other processes may have it open too."""

    def __init__(self, path: Path) -> None:
        """Open *path*, making it where it is missing.

        Raises:
            DamagedIndexError: it is corrupt, no database, or of another format.
            OSError, sqlite3.OperationalError: the file can't be used at all.
        """
        self._db = sqlite3.connect(path, isolation_level=None, cached_statements=64)
        try:
            self._open()
        except sqlite3.OperationalError:
            self._db.close()
            raise
        except (sqlite3.DatabaseError, DamagedIndexError) as exc:
            self._db.close()
            raise DamagedIndexError(str(exc)) from None

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is rebuilt
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._db.executescript(f"BEGIN; {_TABLE} COMMIT;")
        elif found != _FORMAT:
            raise DamagedIndexError(f"format {found}")
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DamagedIndexError(verdict)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Make all the writes within one transaction."""
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def put(self, row: RunRow) -> None:
        """Add the run, or bring it up to date; a row with a lower ``last_seq`` changes nothing."""
        values = msgspec.structs.asdict(row)
        values["params"] = msgspec.json.encode(row.params).decode()
        self._db.execute(_UPSERT, tuple(values.values()))

    def remove(self, run_id: str) -> None:
        """Forget a run, known or not."""
        self._db.execute("DELETE FROM runs WHERE id = ?", (run_id,))

    def clear(self) -> None:
        """Forget every run."""
        self._db.execute("DELETE FROM runs")

    def copy_to(self, other: Index) -> None:
        """Make *other* hold what this one holds."""
        rows = self._db.execute(_SELECT).fetchall()
        with other.batch():
            other.clear()
            other._db.executemany(_UPSERT, rows)

    def get(self, run_id: str) -> RunRow | None:
        """Return the run with exactly that id."""
        found = self._db.execute(_SELECT + "WHERE id = ?", (run_id,)).fetchone()
        return _row(found) if found else None

    def statuses(self) -> dict[str, str]:
        """Return every run's id with its status."""
        return dict(self._db.execute("SELECT id, status FROM runs"))

    def outlines(self, *, after: str = "", limit: int = -1) -> list[Outline]:
        """Return runs in the order of their ids, behind that one; all of them where no limit is."""
        columns = ", ".join(Outline.__struct_fields__)
        found = self._db.execute(
            f"SELECT {columns} FROM runs WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - names of our own columns
            (after, limit),
        )
        return [Outline(*values) for values in found]

    def counts(self) -> dict[str, int]:
        """Return the number of runs by status."""
        return dict(self._db.execute("SELECT status, count(*) FROM runs GROUP BY status"))

    def list(
        self,
        *,
        pipeline: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[RunRow], str | None]:
        """Return runs, newest first, and the cursor of the next page (None at the end).

        Raises:
            InvalidInputError: ``limit`` is not 1 to `MOST_LISTED`, ``status`` is
                none, or ``cursor`` isn't one that this method gave.
        """
        _check_page(status, limit, cursor)
        wanted = [("pipeline = ?", pipeline), ("status = ?", status), ("id < ?", cursor)]
        given = [(text, value) for text, value in wanted if value is not None]
        where = "WHERE " + " AND ".join(text for text, _ in given) if given else ""
        found = self._db.execute(
            f"{_SELECT} {where} ORDER BY id DESC LIMIT ?",
            (*(value for _, value in given), limit + 1),
        ).fetchall()
        rows = [_row(values) for values in found[:limit]]
        return rows, rows[-1].id if len(found) > limit else None

    def resolve(self, text: str, pipelines: Collection[str] | None = None) -> str:
        """Return the id that *text* means: an id, a ref, an unambiguous prefix, or ``latest``.

        With *pipelines* there are no runs but theirs.

        Raises:
            UnknownError: it means no run, or several.
        """
        if text == "latest":
            found = self._ids("TRUE", (), pipelines, limit=1)
            if not found:
                raise UnknownError("there are no runs yet")
        elif _REF.fullmatch(text):
            name, _, number = text.partition("/")
            found = self._ids("ref = ?", (f"{name}/{int(number)}",), pipelines, limit=1)
        elif PREFIX.fullmatch(prefix := text.lower()):
            # "{" sorts after every digit and letter of an id; no LIKE, so nothing to escape.
            found = self._ids("id >= ? AND id < ?", (prefix, prefix + "{"), pipelines, limit=2)
            if len(found) > 1:
                raise UnknownError(f"several runs' ids begin with '{text}'; give more of it")
        else:
            found = []
        if not found:
            raise UnknownError(f"there is no run {quoted(text)}; `tailrace runs` lists them")
        return found[0]

    def _ids(
        self, where: str, values: Sequence[str], pipelines: Collection[str] | None, *, limit: int
    ) -> Sequence[str]:
        """Return ids of runs, the newest first."""
        if pipelines is not None:
            where += f" AND pipeline IN ({', '.join('?' * len(pipelines))})"
        query = f"SELECT id FROM runs WHERE {where} ORDER BY id DESC LIMIT {limit}"  # noqa: S608 - our own words
        return [row[0] for row in self._db.execute(query, (*values, *(pipelines or ())))]

    def by_key(self, key: str, *, since: str) -> RunRow | None:
        """Return the newest run that an Idempotency-Key started at or after that time."""
        found = self._db.execute(
            _SELECT + "WHERE key = ? AND created_at >= ? ORDER BY id DESC LIMIT 1", (key, since)
        ).fetchone()
        return _row(found) if found else None


def _check_page(status: str | None, limit: int, cursor: str | None) -> None:
    problems = []
    if status is not None and status not in _STATUSES:
        known = ", ".join(_STATUSES)
        problems.append(Problem("status", f"{quoted(status)} is no status", f"use one of {known}"))
    if not 1 <= limit <= MOST_LISTED:
        problems.append(Problem("limit", f"{limit} is out of range", f"use 1 to {MOST_LISTED}"))
    if cursor is not None and not is_ulid(cursor):
        problems.append(
            Problem("cursor", "isn't one of ours", "use next_cursor of the page before, unaltered")
        )
    if problems:
        raise InvalidInputError(problems)


def _row(values: tuple[Any, ...]) -> RunRow:
    fields = dict(zip(_COLUMNS, values, strict=True))
    fields["params"] = msgspec.json.decode(fields["params"])
    return RunRow(**fields)
