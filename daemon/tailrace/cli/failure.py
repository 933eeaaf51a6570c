"""How a command fails: one clear line on standard error, and the exit status."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Final

import click

from tailrace import wire
from tailrace.cli.visible import visible
from tailrace.errors import (
    ConflictError,
    InvalidInputError,
    TailraceError,
    UnavailableError,
    UnknownError,
    UnreachableError,
)
from tailrace.pipeline.spelling import printable

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
ABORTED: Final = 4
LEFT: Final = 130

_DISK_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # of the file that takes our output


def report(exc: BaseException, *, as_json: bool) -> int:
    """Say what went wrong and return the exit status.

    With *as_json* it is a problem document (RFC 9457) in one line, on standard
    error too: standard output holds data alone. Of an error that we don't
    foresee the traceback goes to a file that the line names; ``TAILRACE_DEBUG=1``
    prints it.
    """
    if isinstance(exc, click.exceptions.NoArgsIsHelpError) and not as_json:
        sys.stderr.write(exc.format_message() + "\n")
        return USAGE
    status, title = _kind(exc)
    text = _text(exc)
    if status is None:
        status, text = FAILED, _unforeseen(exc)
    if as_json:
        problems = exc.problems if isinstance(exc, InvalidInputError) else ()
        document = {
            "type": "about:blank",
            "title": title,
            "detail": text,
            "errors": [
                wire.ProblemItem(where=p.where, problem=p.problem, hint=p.hint, position=p.position)
                for p in problems
            ],
            "exit_status": status,
        }
        sys.stderr.write(wire.encode_json(document).decode() + "\n")
    else:
        for line in text.split("\n"):
            sys.stderr.write(f"tailrace: {visible(line)}\n")
    return status


def _kind(exc: BaseException) -> tuple[int | None, str]:
    match exc:
        case click.UsageError():
            return USAGE, "Bad usage"
        case InvalidInputError():
            return USAGE, "Bad input"
        case UnknownError():
            return USAGE, "Unknown"
        case ConflictError():
            return USAGE, "Not in this state"
        case UnreachableError():
            return UNREACHABLE, "Daemon out of reach"
        case UnavailableError():
            return UNREACHABLE, "Not now"
        case TailraceError() | click.ClickException():
            return FAILED, "Failed"
        case OSError() if exc.filename is not None or _is_folder_gone(exc):
            return USAGE, "File out of reach"
        case OSError() if exc.errno in _DISK_ERRNOS:
            return FAILED, "Output out of reach"
    return None, "Internal error"


def _is_folder_gone(exc: OSError) -> bool:
    """Whether we stand in a folder that isn't there any more: getcwd(3) names no file."""
    if exc.errno != errno.ENOENT:
        return False
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _text(exc: BaseException) -> str:
    if isinstance(exc, click.UsageError):
        if isinstance(exc, click.exceptions.NoArgsIsHelpError):
            return f"Missing command; see `{exc.ctx.command_path} --help`"
        text = " ".join(exc.format_message().split()).rstrip(".")
        if exc.ctx is not None and exc.ctx.command.name not in (None, "cli"):
            text += f"; see `{exc.ctx.command_path} --help`"
        return text
    if isinstance(exc, click.ClickException):
        return exc.format_message()
    if isinstance(exc, OSError) and exc.filename is not None:
        return f"{printable(str(exc.filename))}: {exc.strerror}"
    if isinstance(exc, FileNotFoundError) and _is_folder_gone(exc):
        return "the current folder has been deleted; go to another one"
    if isinstance(exc, OSError) and exc.errno in _DISK_ERRNOS:
        return f"writing output: {exc.strerror}"
    return str(exc)


def _unforeseen(exc: BaseException) -> str:
    """Keep the traceback and return the line that tells where."""
    trace = "".join(traceback.format_exception(exc))
    said = f"unforeseen {type(exc).__name__}: {exc}".split("\n")[0]
    if os.environ.get("TAILRACE_DEBUG") == "1":
        return f"{said}\n{trace}"
    fd, path = tempfile.mkstemp(prefix="tailrace-", suffix=".traceback")
    with open(fd, "w") as file:
        file.write(trace)
    return f"{said}; its traceback is in {path}, please report it"
