"""Names of artifacts: which are fit, what they become where one is in use, what they stand for."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final

MAX_NAME: Final = 1_024  # bytes of a whole name; a path to it holds 4,096, PATH_MAX
_SHOWN: Final = 200  # characters

# Control characters, lone surrogates (bytes that aren't UTF-8, as `os.fsdecode` gives them),
# and what breaks or reorders the line that shows it (UAX #9).
_UNFIT: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def why_unfit(name: str) -> str | None:
    """Return why *name*, as `os.fsdecode` gives it, can't be an artifact's; None where it can."""
    if _UNFIT.search(name):
        return "its name isn't UTF-8 or holds control characters"
    if len(name.encode()) > MAX_NAME:
        return f"its name is longer than {MAX_NAME:,} bytes"
    return None


def escaped(name: str) -> str:
    r"""Return *name* for people: other bytes than UTF-8, and what doesn't print, as ``\xff``."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shortened(text: str) -> str:
    """Return the beginning of a text that is too long to be shown."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


class ArtifactNames:
    """The names that a run's artifacts have, seen from one step.

    *taken* maps those in use to their steps; the step's own don't hinder it.
    """

    def __init__(self, step: str, taken: Mapping[str, str]) -> None:
        self._step = step
        self._files: set[str] = set()
        self._folders: set[str] = set()
        for name, owner in taken.items():
            if owner != step:
                self.add(name)

    def place(self, name: str) -> str | None:
        """Return *name*, or where that is used ``<step>/name``; None where both are.

        A name is used also where a file would stand for a folder or the other way round.
        """
        for candidate in (name, f"{self._step}/{name}"):
            if not self._is_used(candidate):
                return candidate
        return None

    def add(self, name: str) -> None:
        """Note that a file of that name is there now."""
        self._files.add(name)
        self._folders.update(_parents(name))

    def _is_used(self, name: str) -> bool:
        if name in self._files or name in self._folders:
            return True
        return not self._files.isdisjoint(_parents(name))


def _parents(name: str) -> Iterable[str]:
    return (str(parent) for parent in PurePosixPath(name).parents[:-1])


def media_type(name: str) -> str:
    """Return the media type that a file's name stands for, the same on every machine."""
    guessed, encoding = _TYPES.guess_type("./" + PurePosixPath(name).name)  # no URL's scheme
    if encoding is not None:
        return _ENCODINGS.get(encoding, _OPAQUE)
    return guessed or _OPAQUE


_OPAQUE: Final = "application/octet-stream"
_ENCODINGS: Final = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
}


def _make_types() -> mimetypes.MimeTypes:
    types = mimetypes.MimeTypes()  # Python's own table, without this machine's files
    for extension, media in {
        ".diff": "text/x-diff",
        ".jsonl": "application/x-ndjson",
        ".log": "text/plain",
        ".md": "text/markdown",
        ".ndjson": "application/x-ndjson",
        ".patch": "text/x-diff",
        ".sarif": "application/sarif+json",
        ".toml": "application/toml",
        ".yaml": "application/yaml",
        ".yml": "application/yaml",
        ".zst": "application/zstd",
    }.items():
        types.add_type(media, extension)
    return types


_TYPES: Final = _make_types()
