"""The folder of pipelines: read again when a file changes; broken files keep their mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tailrace.errors import InvalidInputError, Problem, UnknownError
from tailrace.pipeline.loader import load_pipeline
from tailrace.pipeline.model import Pipeline
from tailrace.pipeline.spelling import printable, suggest


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the folder: a pipeline, or the mistakes that keep it from being one."""

    name: str
    path: Path
    pipeline: Pipeline | None = None
    problems: tuple[Problem, ...] = ()


class Catalog:
    """The pipelines of a folder.

    Every call looks at the folder anew; a file is read only when its time,
    size or inode has changed since. Blocking, a millisecond for each file that
    changed. Not safe for use by several threads at once.
    """

    def __init__(self, folder: Path, *, display: str | None = None) -> None:
        """Take a folder; *display* is how messages name it, by default as it was given."""
        self._folder = folder
        self._display = display if display is not None else str(folder)
        self._read: dict[Path, tuple[tuple[int, int, int], Entry]] = {}
        self._mask: Callable[[str], str] = str

    def mask_mistakes(self, mask: Callable[[str], str]) -> None:
        """Mask what mistakes quote from now on: they go into logs, and to who lists pipelines."""
        self._mask = mask
        self._read.clear()

    def names(self) -> list[str]:
        """Return the names of all files, broken ones too, sorted."""
        return sorted({path.stem for path in self._files()})

    def entries(self) -> list[Entry]:
        """Return every file with its pipeline or its mistakes, sorted by name."""
        files = [*self._files()]
        for path in self._read.keys() - set(files):
            del self._read[path]
        return sorted((self._entry(path) for path in files), key=lambda entry: entry.name)

    def get(self, name: str) -> Pipeline:
        """Return the pipeline of that name.

        Raises:
            UnknownError: the folder has no such file.
            InvalidInputError: the file has mistakes.
        """
        path = next((path for path in self._files() if path.stem == name), None)
        if path is None:
            names = self.names()
            empty = f"'{self._display}' holds no pipelines; name another folder with --pipelines"
            hint = suggest(name, names, otherwise=f"known: {', '.join(names)}") if names else empty
            raise UnknownError(f"no pipeline is named '{printable(name)}'; {hint}")
        entry = self._entry(path)
        if entry.pipeline is None:
            raise InvalidInputError(entry.problems)
        return entry.pipeline

    def _files(self) -> Iterator[Path]:
        """Give each name's file once; a .yml counts where no .yaml has its name."""
        try:
            found = sorted(path for path in self._folder.iterdir() if path.name[0] != ".")
        except OSError:
            return  # an absent folder holds nothing; `get` says where it looked
        yield from (path for path in found if path.suffix == ".yaml")
        taken = {path.stem for path in found if path.suffix == ".yaml"}
        yield from (path for path in found if path.suffix == ".yml" and path.stem not in taken)

    def _entry(self, path: Path) -> Entry:
        try:
            status = path.stat()
        except OSError:
            status = None
        mark = (status.st_mtime_ns, status.st_size, status.st_ino) if status else (0, 0, 0)
        known = self._read.get(path)
        if known is not None and known[0] == mark:
            return known[1]
        shown = f"{self._display.rstrip('/')}/{path.name}"
        try:
            if path.suffix != ".yaml":
                hint = f"rename the file to {path.stem}.yaml"
                raise InvalidInputError([Problem("file", "doesn't end in .yaml", hint, shown)])
            pipeline = load_pipeline(path, display=shown)
            entry = Entry(name=path.stem, path=path, pipeline=pipeline)
        except InvalidInputError as error:
            problems = tuple(problem.masked(self._mask) for problem in error.problems)
            entry = Entry(name=path.stem, path=path, problems=problems)
        self._read[path] = (mark, entry)
        return entry
