"""Folders and files: is there room, are they ours, and are they closed to others."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from tailrace.core.units import format_bound, format_size, plural
from tailrace.doctor.checks import ok, problem, warning
from tailrace.errors import InvalidInputError, TailraceError
from tailrace.rundir.layout import StateDir
from tailrace.settings import Settings
from tailrace.store.state import VERSION, read_format
from tailrace.store.tokens import TokenStore
from tailrace.wire import DoctorCheck


def checks(settings: Settings, state: StateDir) -> list[DoctorCheck]:
    """Look at the state folder, its disk, the token and the files of secrets. Blocks."""
    return [
        state_folder(state),
        _disk(settings, state),
        *_token(state),
        *secret_files(settings.secrets_dir),
    ]


def state_folder(state: StateDir) -> DoctorCheck:
    """Look whether the state folder can be used; makes nothing."""
    path = state.path
    try:
        status = path.stat()
        is_read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except FileNotFoundError:
        if path.is_symlink():
            return problem(
                "state", f"{path} is a link to what isn't there", "make that folder, or remove it"
            )
        return _absent(path)
    except OSError as exc:
        return problem("state", f"{path}: {exc.strerror}", "name another folder with --state")
    if not stat.S_ISDIR(status.st_mode):
        return problem("state", f"{path} is no folder", "name another with --state")
    if status.st_uid != os.geteuid():
        return problem(
            "state", f"{path} belongs to uid {status.st_uid}, and this is uid {os.geteuid()}",
            f"call tailrace as its owner: sudo -u '#{status.st_uid}' tailrace …",
        )  # fmt: skip
    if is_read_only:
        return problem(
            "state", f"{path} is on a read-only disk", "mount that writable, or choose state_dir"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        return problem("state", f"{path} can't be written", f"chmod 700 {path}")
    if status.st_mode & 0o077:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        return warning("state", f"{path} is open to others (mode {mode})", f"chmod 700 {path}")
    return _version(state)


def _absent(path: Path) -> DoctorCheck:
    above = _nearest(path)
    if os.access(above, os.W_OK | os.X_OK):
        return ok("state", f"{path} isn't there yet, and is made by the first run")
    return problem("state", f"{path} can't be made: {above} can't be written", "choose state_dir")


def _version(state: StateDir) -> DoctorCheck:
    try:
        found = read_format(state)
    except InvalidInputError as exc:
        (mistake,) = exc.problems
        return problem("state", mistake.problem, mistake.hint)
    except OSError as exc:
        return problem("state", f"{state.version}: {exc.strerror}", "name another with --state")
    if found is not None and found > VERSION:
        return problem(
            "state", f"{state.path} was written by a newer Tailrace (format {found})",
            "upgrade Tailrace, or put back a backup from before",
        )  # fmt: skip
    return ok("state", f"{state.path}, for its owner alone")


def _nearest(path: Path) -> Path:
    """Return the first folder above *path* that is there."""
    # Not Path.exists: that raises for what may not be looked at.
    return next((each for each in path.parents if os.path.isdir(each)), Path("/"))  # noqa: PTH112 - see above


def _disk(settings: Settings, state: StateDir) -> DoctorCheck:
    place = state.path if os.path.isdir(state.path) else _nearest(state.path)  # noqa: PTH112 - it never raises
    least = settings.limits.min_free
    try:
        free = shutil.disk_usage(place).free
    except OSError as exc:
        return problem("disk", f"{place}: {exc.strerror}", "name another folder with --state")
    text = f"{format_size(free)} free below {place}"
    if free < least:
        return problem(
            "disk", f"only {text}, and no run starts under {format_bound(least)}",
            "free some space, or lower limits.min_free",
        )  # fmt: skip
    if free < 2 * least:
        return warning(
            "disk", f"only {text}; no run starts under {format_bound(least)} (limits.min_free)",
            "free some space; `tailrace gc --dry-run` tells what retention would remove",
        )  # fmt: skip
    return ok("disk", text)


def _token(state: StateDir) -> Iterator[DoctorCheck]:
    """The first token, as the daemon looks at it when it starts."""
    try:
        mode = stat.S_IMODE(state.token.lstat().st_mode)
    except OSError:
        return  # made when a daemon starts; a folder that can't be read is told already
    if mode & 0o077:
        yield problem(
            "token", f"{state.token} is open to others (mode {mode:04o})",
            f"chmod 600 {state.token}, and make another: others may have read it",
        )  # fmt: skip
    elif _has_ended(state):
        yield warning(
            "token", f"{state.token} holds a token that was revoked: `tailrace open` has none",
            "remove it: the daemon makes another when it starts",
        )  # fmt: skip
    else:
        yield ok("token", f"{state.token}, for its owner alone")


def _has_ended(state: StateDir) -> bool:
    try:
        if not state.state_db.exists():  # which opening it would make
            return False
        text = state.token.read_text(errors="replace").strip()
        with contextlib.closing(TokenStore(state.state_db)) as store:
            return store.is_ended(text, now=time.time())
    except (OSError, TailraceError):  # told by whoever needs them
        return False


def secret_files(secrets_dir: str | None) -> Iterator[DoctorCheck]:
    """Tell of files in the folder that are refused as secrets, whoever needs them."""
    if secrets_dir is None:
        return
    folder = Path(secrets_dir)
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
        open_ones = [name for name in names if _is_open(folder / name)]
    except OSError as exc:
        yield problem("secrets", f"{folder}: {exc.strerror}", "let the daemon's user read it")
        return
    for name in open_ones:
        path = folder / name
        yield warning("secrets", f"{path} is open to others, and so refused", f"chmod 600 {path}")
    if not open_ones:
        yield ok("secrets", f"{folder}, {plural(len(names), 'file')}")


def _is_open(path: Path) -> bool:
    status = path.stat()
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o077)
