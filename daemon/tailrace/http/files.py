"""Serving what steps left: opened beneath a held folder, without links, regular files only."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web

from tailrace.errors import UnknownError
from tailrace.http.problems import RefusedError

PIECE: Final = 1 << 18
_RANGE: Final = re.compile(r"bytes=(?:([0-9]+)-([0-9]+)?|-([0-9]+))")
_BEYOND: Final = 1 << 62  # stands for places that no file has


@contextlib.contextmanager
def open_beneath(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """Give the descriptor of a regular file below *root*; it is closed at the end.

    Each folder on the way is opened by its parent's descriptor, and no link is
    followed: whoever changes the tree meanwhile leads nowhere else.

    Raises:
        UnknownError: there is no such file, or it isn't a regular one.
    """
    if not parts or any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
        raise UnknownError("there is no such file")
    opened: list[int] = []
    try:
        folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.append(folder)
        for part in parts[:-1]:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            folder = os.open(part, flags, dir_fd=folder)
            opened.append(folder)
        # O_NONBLOCK: a FIFO must not hold us until somebody writes.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(parts[-1], flags, dir_fd=folder)
        opened.append(file)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise UnknownError("there is no such file")
        yield file
    except (FileNotFoundError, NotADirectoryError):
        raise UnknownError("there is no such file") from None
    except OSError as exc:
        if exc.filename is None:  # not from opening
            raise
        raise UnknownError("there is no such file") from None
    finally:
        for fd in opened:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file: from ``start`` to before ``end``."""

    start: int
    end: int


def requested_span(header: str | None, size: int) -> Span | None:
    """Read a ``Range`` header (RFC 9110, 14.2); None where the whole file is to be sent.

    Other units and several ranges may be passed over, and are.

    Raises:
        RefusedError: 416, nothing of the range is in the file.
    """
    match = _RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None:
        return None
    first, last, suffix = (None if text is None else _place(text) for text in match.groups())
    if first is None:
        span = Span(max(0, size - (suffix or 0)), size)
    else:
        if last is not None and last < first:
            return None  # no range at all
        span = Span(first, min(size, last + 1 if last is not None else size))
    if span.start >= span.end:
        raise RefusedError(
            416, f"the file has {size} bytes", {hdrs.CONTENT_RANGE: f"bytes */{size}"}
        )
    return span


def _place(digits: str) -> int:
    return int(digits) if len(digits) <= 18 else _BEYOND


async def send_file(
    request: web.Request, file: int, headers: dict[str, str], *, etag: str | None = None
) -> web.StreamResponse:
    """Answer with a file as it is now, or with the part that ``Range`` asks for."""
    size = os.fstat(file).st_size
    wanted = request.headers.get(hdrs.RANGE)
    if (condition := request.headers.get(hdrs.IF_RANGE)) is not None and condition.strip() != etag:
        wanted = None  # the client's part is of another file
    span = requested_span(wanted, size)
    response = web.StreamResponse(status=200 if span is None else 206, headers=headers)
    response.headers[hdrs.ACCEPT_RANGES] = "bytes"
    if etag is not None:
        response.headers[hdrs.ETAG] = etag
    if span is None:
        span = Span(0, size)
    else:
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {span.start}-{span.end - 1}/{size}"
    response.content_length = span.end - span.start
    await response.prepare(request)
    if request.method != "HEAD":
        await _send_span(response, file, span)
    return response


async def _send_span(response: web.StreamResponse, file: int, span: Span) -> None:
    place = span.start
    while place < span.end:
        data = os.pread(file, min(PIECE, span.end - place), place)
        if not data:  # it became shorter: the promised length can't be kept
            raise ConnectionResetError("the file became shorter")
        await response.write(data)
        place += len(data)


def is_unchanged(header: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` (RFC 9110, 13.1.2) names what the client has."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def attachment(name: str) -> str:
    """Return the ``Content-Disposition`` of a download (RFC 6266), for any file name."""
    plain = "".join(
        char if char.isascii() and char.isprintable() and char not in '"\\' else "_"
        for char in name
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
