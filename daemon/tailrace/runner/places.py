"""The folders of an attempt: what a step may write to, fresh each time, gone afterwards."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tailrace.rundir.attempts import MEMORY, memory_prefix
from tailrace.rundir.layout import RunDir
from tailrace.rundir.trees import remove_tree


@dataclass(frozen=True, slots=True)
class Places:
    """Where one attempt finds its things."""

    folder: Path
    params: Path

    @property
    def artifacts(self) -> Path:
        """``$TAILRACE_ARTIFACTS``."""
        return self.folder / "artifacts"

    @property
    def output(self) -> Path:
        """``$TAILRACE_OUTPUT``."""
        return self.folder / "output"

    @property
    def events(self) -> Path:
        """``$TAILRACE_EVENTS``; the channel makes the FIFO."""
        return self.folder / "events"

    @property
    def answers(self) -> Path:
        """``$TAILRACE_ANSWERS``."""
        return self.folder / "answers"

    @property
    def tmp(self) -> Path:
        """``$TMPDIR``."""
        return self.folder / "tmp"

    @property
    def home(self) -> Path:
        """``$HOME`` of a sandboxed step."""
        return self.folder / "home"

    def remove(self) -> None:
        """Remove everything; what a process makes meanwhile may stay until the run's end."""
        remove_tree(self.folder)
        if not self.params.is_relative_to(self.folder):
            self.params.unlink(missing_ok=True)


def make_places(
    run: RunDir, step: str, attempt: int, *, params: bytes, params_secret: bool
) -> Places:
    """Make the folders of an attempt, with *params* (JSON) in its file.

    Params that hold a secret go to a file in memory, because they may be on no disk.

    Raises:
        OSError: the disk is full or failing.
    """
    folder = run.path / "attempts" / f"{step}.{attempt}"
    remove_tree(folder)
    folder.mkdir(mode=0o700, parents=True)
    params_file = folder / "params.json"
    if params_secret and MEMORY.is_dir():
        fd, name = tempfile.mkstemp(prefix=memory_prefix(run), dir=MEMORY)
        params_file = Path(name)
    else:
        fd = os.open(params_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(params)
    places = Places(folder, params_file)
    for path in (places.artifacts, places.answers, places.tmp, places.home):
        path.mkdir(mode=0o700)
    places.output.touch(mode=0o600)
    return places
