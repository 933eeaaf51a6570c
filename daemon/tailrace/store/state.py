"""Opens the state folder: makes it where there is none, refuses one that is too new."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tailrace.errors import InvalidInputError, Problem
from tailrace.rundir.layout import StateDir
from tailrace.store.migration import MIGRATIONS, Migration, migrate, write_version

VERSION: Final = 1 + len(MIGRATIONS)  # of everything below the state folder


def open_state(
    path: Path,
    *,
    migrations: Sequence[Migration] = MIGRATIONS,
    tell: Callable[[str], None] = lambda _: None,
) -> StateDir:
    """Return the state folder at *path*, made with mode 0700 where it is missing.

    One of an older format is brought to this version's, and *tell* called with
    a sentence about that.

    Raises:
        InvalidInputError: it can't be made or used, a newer Tailrace wrote it,
            or it is of an older format, and can't be brought forward or is
            used by a daemon of that version.
    """
    newest = 1 + len(migrations)
    state = StateDir(path.absolute())
    try:
        # Parents get the usual mode: ~/.local/state belongs to everybody's programs.
        state.path.parent.mkdir(parents=True, exist_ok=True)
        state.path.mkdir(mode=0o700, exist_ok=True)
        was_used = state.state_db.exists()  # before: another call may make both files meanwhile
        found = read_format(state)
        if found is None or found <= newest:  # in somebody else's folder nothing is changed
            if state.path.stat().st_mode & 0o077 and state.path.stat().st_uid == os.geteuid():
                state.path.chmod(0o700)
            state.runs.mkdir(mode=0o700, exist_ok=True)
        if found is None:
            # Missing, or emptied by a crash at the very first start. Of a folder that has been
            # used it can only have been lost, and then format 1 is the safe guess: migrations
            # bear repeating.
            found = 1 if was_used else newest
            write_version(state, found)
    except OSError as exc:
        problem = f"{exc.filename or path}: {exc.strerror}"
        hint = "make it a folder that you own, or name another with --state"
        raise InvalidInputError([Problem("state_dir", problem, hint)]) from None
    if found > newest:
        problem = (
            f"{path} was written by a newer Tailrace (format {found}; this one knows {newest})"
        )
        hint = "upgrade Tailrace, put back a backup from before, or name another folder"
        raise InvalidInputError([Problem("state_dir", problem, hint)])
    if found < newest:
        with hold_state(state):
            migrate(state, found, migrations)
        tell(
            f"{path} was brought from format {found} to {newest}, and older versions of Tailrace "
            f"refuse it now; {state.state_db}.format{found} is a copy of what there was"
        )
    return state


@contextlib.contextmanager
def hold_state(state: StateDir) -> Iterator[None]:
    """Be the one daemon of a state folder: a flock(2) on the folder itself.

    Raises:
        InvalidInputError: another daemon is.
    """
    fd = os.open(state.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = f"another daemon uses {state.path}"
            raise InvalidInputError(
                [Problem("state_dir", problem, "stop it, or name another folder with --state")]
            ) from None
        yield
    finally:
        os.close(fd)


def read_format(state: StateDir) -> int | None:
    """Return the format that the folder's ``version`` tells; None where that is missing or empty.

    Raises:
        InvalidInputError: it holds something else: the folder may be somebody else's.
        OSError: it can't be read.
    """
    try:
        text = state.version.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    if not text:
        return None
    if text.isascii() and text.isdigit() and int(text[:9]) > 0:
        return int(text[:9])
    problem = f"{state.version} holds '{text[:20]}' and not a format's number"
    raise InvalidInputError(
        [Problem("state_dir", problem, "is it Tailrace's folder? name another with --state")]
    )
