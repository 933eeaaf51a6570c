"""A change as `git diff` prints it, taken apart; pure.

The diff is of a stranger's commits, so nothing in it is trusted to be as git
writes it: what doesn't fit is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

_HUNK: Final = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")


@dataclass(slots=True, kw_only=True)
class ChangedFile:
    """A file of the change; ``path`` is the new one, or the old one of a removed file."""

    path: str
    is_new: bool = False
    is_removed: bool = False
    is_binary: bool = False
    added: list[tuple[int, str]] = field(default_factory=list)  # line of the new file, its text
    removed: list[tuple[int, str]] = field(default_factory=list)  # likewise of the old file


def read_change(diff: str) -> list[ChangedFile]:
    """Return the files of a unified diff (git-diff(1), without renames) in its order."""
    files: list[ChangedFile] = []
    old, new = _Left(), _Left()
    for line in diff.split("\n"):
        if files and (old.lines > 0 or new.lines > 0):
            _take(files[-1], line, old, new)
        elif line.startswith("diff --git "):
            files.append(ChangedFile(path=""))
        elif files:
            _head(files[-1], line)
            if (hunk := _HUNK.match(line)) is not None:
                old = _Left(int(hunk[1]), int(hunk[2] or 1))
                new = _Left(int(hunk[3]), int(hunk[4] or 1))
    return [file for file in files if file.path]


@dataclass(slots=True)
class _Left:
    """What is left of one side of a hunk."""

    at: int = 0
    lines: int = 0

    def step(self) -> int:
        self.at, self.lines = self.at + 1, self.lines - 1
        return self.at - 1


def _take(file: ChangedFile, line: str, old: _Left, new: _Left) -> None:
    text = line[1:].removesuffix("\r")
    if line.startswith("+"):
        file.added.append((new.step(), text))
    elif line.startswith("-"):
        file.removed.append((old.step(), text))
    elif not line.startswith("\\"):  # "\ No newline at end of file"
        old.step()
        new.step()


def _head(file: ChangedFile, line: str) -> None:
    if line.startswith("new file mode"):
        file.is_new = True
    elif line.startswith("deleted file mode"):
        file.is_removed = True
    elif line.startswith("--- ") and (name := _name(line[4:], "a/")):
        file.path = file.path or name
    elif line.startswith("+++ ") and (name := _name(line[4:], "b/")):
        file.path = name
    elif line.startswith("Binary files "):
        file.is_binary = True
        sides = line.removeprefix("Binary files ").removesuffix(" differ").split(" and ")
        names = [_name(side, start) for side, start in zip(sides, ("a/", "b/"), strict=False)]
        file.path = next((name for name in reversed(names) if name), "")


def _name(text: str, start: str) -> str:
    """Return a file's name without quotes (core.quotePath) and prefix; empty for /dev/null."""
    text = text.removesuffix("\t")
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        try:
            raw = text[1:-1].encode("latin-1").decode("unicode_escape").encode("latin-1")
        except UnicodeError:
            return ""
        text = raw.decode("utf-8", "surrogateescape")
    return text.removeprefix(start) if text.startswith(start) else ""


def is_test(path: str) -> bool:
    """Whether a file is a test, by the names that people give them."""
    name = path.rpartition("/")[2].lower()
    folders = {part.lower() for part in path.split("/")[:-1]}
    return bool(
        folders & {"test", "tests", "spec", "specs", "__tests__"}
        or re.match(r"test_|conftest\.", name)
        or re.search(r"(_test|\.test|_spec|\.spec)\.[a-z]+$", name)
    )


def count(files: Iterable[ChangedFile]) -> tuple[int, int]:
    """Return how many lines were added and removed."""
    listed = list(files)
    return sum(len(f.added) for f in listed), sum(len(f.removed) for f in listed)
