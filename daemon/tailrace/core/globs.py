"""Globs over relative paths, matched on the way down, so that a walk enters no folder in vain.

A pattern is parts between slashes. ``**`` is any number of folders, also none;
``* ? [abc]`` match within one part, and as in a shell no wildcard matches a
leading dot. A pattern whose last part is plain text names a file, or a folder
with all that is in it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Final

State = frozenset[tuple[int, int]]  # (pattern, how many of its parts are matched)

_WILD: Final = frozenset("*?[")


def parse_glob(pattern: str) -> tuple[str, ...]:
    """Return the parts of a pattern, ``.`` and empty ones left out.

    Raises:
        ValueError: it isn't relative, or leaves its folder; the message is a hint.
    """
    if pattern.startswith("/"):
        raise ValueError("write it relative to the step's working directory")
    parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ValueError("leave out '..': what is outside the working directory isn't collected")
    if not parts:
        return ("**",)
    # "dist" names the folder's contents too; "*.sarif" names files and "dist/" a folder.
    return parts if _WILD & set(parts[-1]) and not pattern.endswith("/") else (*parts, "**")


class Globs:
    """Some patterns, given as `parse_glob` returns them, and where a walk is in them.

    With *hidden* wildcards match a leading dot too.
    """

    def __init__(self, patterns: Sequence[tuple[str, ...]], *, hidden: bool = False) -> None:
        self._hidden = hidden
        self._ends = [len(parts) for parts in patterns]
        self._parts = [
            [None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts]
            for parts in patterns
        ]
        self._shows_dot = [[part.startswith(".") for part in parts] for parts in patterns]

    def start(self) -> State:
        """Return the state at the top folder."""
        return self._closed((pattern, 0) for pattern in range(len(self._parts)))

    def enter(self, state: State, folder: str) -> State:
        """Return the state in *folder*; an empty one where nothing beneath it can match."""
        return self._after(state, folder)

    def matched(self, state: State, file: str) -> frozenset[int]:
        """Return which patterns, by index, name *file* in the folder of that state."""
        return frozenset(
            pattern for pattern, done in self._after(state, file) if done == self._ends[pattern]
        )

    def _after(self, state: State, name: str) -> State:
        dotted = name.startswith(".") and not self._hidden
        reached = []
        for pattern, done in state:
            if done == self._ends[pattern]:
                continue
            part = self._parts[pattern][done]
            if part is None:
                if not dotted:
                    reached.append((pattern, done))
            elif part.match(name) and (not dotted or self._shows_dot[pattern][done]):
                reached.append((pattern, done + 1))
        return self._closed(reached)

    def _closed(self, places: Iterable[tuple[int, int]]) -> State:
        """Add the places that are reached without a name, because ``**`` may be no folder."""
        closed = set()
        for pattern, place in places:
            done = place
            closed.add((pattern, done))
            while done < self._ends[pattern] and self._parts[pattern][done] is None:
                done += 1
                closed.add((pattern, done))
        return frozenset(closed)
