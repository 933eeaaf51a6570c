"""An index that goes on when its file doesn't: full or failing disk, damaged or deleted file.

What it holds can be told from the run folders, so a daemon never stops for
it: it works in memory meanwhile, and writes the file anew when the disk takes
it again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from tailrace.rundir.layout import StateDir
from tailrace.store.index import DamagedIndexError, Index, Outline, RunRow
from tailrace.store.rebuild import catch_up, open_index

T = TypeVar("T")

_MEMORY = Path(":memory:")


class SteadyIndex:
    """As `Index`, brought up to date; no method raises for the file's sake. Belongs to one thread.

    ``on_change`` is told when it leaves its file, and why, and when it is back.
    ``unfinished`` are the ids of the runs that had no last event when it was opened.
    """

    def __init__(self, state: StateDir, on_change: Callable[[str], None] = lambda _: None) -> None:
        """Open the state folder's index, whatever has become of it."""
        self._state = state
        self._on_change = on_change
        self._in_memory = False
        self._made = 0  # the file's inode
        try:
            self._index = self._open()
            self.unfinished = catch_up(state, self._index)
        except (sqlite3.DatabaseError, DamagedIndexError, OSError) as exc:
            self._index = Index(_MEMORY)
            self._tell(exc)
            self.unfinished = catch_up(state, self._index)

    def _open(self) -> Index:
        index = open_index(self._state)
        self._made = self._state.index.stat().st_ino
        return index

    def close(self) -> None:
        """Close the file; what isn't in it is told from the folders by whoever opens it next."""
        self._index.close()

    def look_after(self) -> None:
        """Notice that the file has gone, and go back to it, made anew, where the disk takes it.

        To be called now and then: a stat(2), as a rule.
        """
        if not self._in_memory and self._made != self._inode():
            self._take_to_memory(f"{self._state.index} has gone")
        if self._in_memory:
            self._restore()

    def _inode(self) -> int:
        try:
            return self._state.index.stat().st_ino
        except FileNotFoundError:
            return 0
        except OSError:  # the disk: whether it is there can't be told
            return self._made

    def _restore(self) -> None:
        try:
            file = self._open()
        except (sqlite3.DatabaseError, DamagedIndexError, OSError):
            return
        try:
            self._index.copy_to(file)
        except sqlite3.DatabaseError:
            file.close()
            return
        self._index.close()
        self._index, self._in_memory = file, False
        self._on_change("the index is in its file again")

    def _do(self, what: Callable[[Index], T]) -> T:
        try:
            return what(self._index)
        except sqlite3.DatabaseError as exc:
            if self._in_memory or isinstance(exc, sqlite3.ProgrammingError):
                raise  # not the file's fault, but ours
            self._take_to_memory(exc)
            return what(self._index)

    def _take_to_memory(self, reason: object) -> None:
        memory = Index(_MEMORY)
        try:
            self._index.copy_to(memory)
        except sqlite3.DatabaseError:  # it can't even be read: the folders tell
            catch_up(self._state, memory)
        with contextlib.suppress(sqlite3.DatabaseError):
            self._index.close()
        self._index = memory
        self._tell(reason)

    def _tell(self, reason: object) -> None:
        self._in_memory = True
        self._on_change(f"the index goes on in memory: {reason}")

    # ---- as Index ----------------------------------------------------------------------------

    def put(self, row: RunRow) -> None:
        """As `Index.put`."""
        self._do(lambda index: index.put(row))

    def remove(self, run_id: str) -> None:
        """As `Index.remove`."""
        self._do(lambda index: index.remove(run_id))

    def get(self, run_id: str) -> RunRow | None:
        """As `Index.get`."""
        return self._do(lambda index: index.get(run_id))

    def outlines(self, *, after: str = "", limit: int = -1) -> list[Outline]:
        """As `Index.outlines`."""
        return self._do(lambda index: index.outlines(after=after, limit=limit))

    def counts(self) -> dict[str, int]:
        """As `Index.counts`."""
        return self._do(lambda index: index.counts())

    def list(self, **wishes: Any) -> tuple[list[RunRow], str | None]:
        """As `Index.list`."""
        return self._do(lambda index: index.list(**wishes))

    def resolve(self, text: str, pipelines: Collection[str] | None = None) -> str:
        """As `Index.resolve`."""
        return self._do(lambda index: index.resolve(text, pipelines))

    def by_key(self, key: str, *, since: str) -> RunRow | None:
        """As `Index.by_key`."""
        return self._do(lambda index: index.by_key(key, since=since))
