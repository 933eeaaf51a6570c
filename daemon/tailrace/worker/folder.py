"""The run folder's first moment: it appears whole, with its lock held, or not at all."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tailrace import wire
from tailrace.core.plan import RunFile
from tailrace.rundir.disk import sync_folder
from tailrace.rundir.journal import JournalWriter, room_for
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.lock import is_held, try_lock
from tailrace.rundir.trees import remove_tree

_MAKING_S: Final = 60.0  # more than any maker needs from the folder to its lock
_UNFINISHED: Final = ".new-"  # before the id, while the folder is being made


def create_folder(
    state: StateDir, run_file: RunFile, first: Sequence[dict[str, Any]]
) -> tuple[RunDir, int]:
    """Make a run's folder with ``run.json`` and the *first* events; return it and its lock.

    Everything is made under another name and renamed, so that nobody sees a
    run without its lock, its ``run.json`` or its first events. When this
    returns, all of it is on disk.

    Raises:
        OSError: it could not be made; nothing of it is left.
    """
    making = RunDir(state.runs / f"{_UNFINISHED}{run_file.id}")
    lock_fd: int | None = None
    try:
        making.path.mkdir(mode=0o700)
        lock_fd = try_lock(making.lock)
        assert lock_fd is not None  # nobody else knows the name
        _write_synced(making, run_file)
        (making.path / "runner.log").touch(mode=0o600)  # a full disk takes no new file
        # With room for the run's end, which stays kept for whoever writes it.
        journal = JournalWriter(making, room=room_for(len(run_file.plan.steps)))
        try:
            for fields in first:
                journal.append(run_file.created_at, fields)
            journal.sync()
        finally:
            journal.close(give_back=False)
        sync_folder(making.path)
        run = state.run(run_file.id)
        making.path.rename(run.path)
        sync_folder(state.runs)
    except BaseException:
        if lock_fd is not None:
            os.close(lock_fd)
        remove_tree(making.path)
        raise
    return run, lock_fd


def _write_synced(run: RunDir, run_file: RunFile) -> None:
    fd = os.open(run.run_json, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(wire.encode_json(run_file))
        file.flush()
        os.fdatasync(fd)


def remove_unfinished(state: StateDir) -> None:
    """Remove folders whose maker died before they became runs, and half-deleted runs."""
    for folder in state.runs.iterdir():
        if folder.name.startswith(LEAVING) or (
            folder.name.startswith(_UNFINISHED) and not _is_being_made(RunDir(folder))
        ):
            remove_tree(folder)


def _is_being_made(run: RunDir) -> bool:
    if run.lock.exists():
        return is_held(run.lock)
    try:
        return time.time() - run.path.stat().st_mtime < _MAKING_S  # its maker takes the lock next
    except FileNotFoundError:  # it has become a run
        return True


LEAVING: Final = ".old-"  # before the name of what is being removed


def put_aside(path: Path) -> Path | None:
    """Take a folder away from its name; return what is to be removed, None where it was gone.

    Raises:
        OSError: it could not be renamed, and is still there.
    """
    leaving = path.with_name(f"{LEAVING}{path.name}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(leaving)
        return leaving
    return None
