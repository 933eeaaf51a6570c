r"""The workflow commands of GitHub Actions: ``::error file=a.py,line=3::message``.

They decorate, and set nothing: no output, no variable. The lines stay in the
log as they came, so that whoever knows them finds them there; only
``::add-mask::`` loses its value. What isn't a known command is plain output.

Source: docs.github.com, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

import re
from typing import Final

from tailrace.core import said
from tailrace.core.dialects import Heard
from tailrace.core.dialects.lines import Candidate, CandidateLines, Plain, begins_line

MAX_COMMAND: Final = 1 << 20  # bytes

_COMMAND: Final = re.compile(
    r"::(?P<name>[a-z-]+)(?: +(?P<properties>.*?))?::(?P<value>.*)", re.DOTALL | re.IGNORECASE
)
_MASK: Final = re.compile(rb"::add-mask(?: .*?)?::", re.IGNORECASE)
_ESCAPES: Final = {"%25": "%", "%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ","}
_BEGINS: Final = re.compile(rb"\n[ \t]*(?=::)")
_IN_VALUE: Final = re.compile("%25|%0D|%0A", re.IGNORECASE)
_IN_PROPERTY: Final = re.compile("%25|%0D|%0A|%3A|%2C", re.IGNORECASE)


class Github:
    """Reads workflow commands; see `tailrace.core.dialects.Dialect`."""

    def __init__(self) -> None:
        self._lines = CandidateLines(_find, _half, most=MAX_COMMAND)
        self._resumes: str | None = None  # commands are stopped until this token comes

    @property
    def held(self) -> int:
        """Bytes held back."""
        return self._lines.held

    def feed(self, chunk: bytes) -> Heard:
        """Take what was read."""
        return self._heard(list(self._lines.feed(chunk)))

    def close(self) -> Heard:
        """Take the end."""
        return self._heard(list(self._lines.close()))

    def _heard(self, pieces: list[Plain | Candidate]) -> Heard:
        heard = Heard()
        output = []
        for piece in pieces:
            if isinstance(piece, Plain):
                output.append(piece.data)
                continue
            output.append(self._read(piece, heard.said))
            if piece.ended:
                output.append(b"\n")
        heard.output = b"".join(output)
        return heard

    def _read(self, piece: Candidate, items: list[said.Saying]) -> bytes:
        """Take in a line that begins like a command; return what the log gets of it."""
        mask = _MASK.match(piece.line) if self._resumes is None else None
        if piece.too_long:
            items.append(said.Unread("a line that begins with '::' is longer than 1 MiB: left out"))
            return b""
        text = piece.line.decode("utf-8", "replace")
        if self._resumes is not None:
            if text.strip() == f"::{self._resumes}::":
                self._resumes = None
            return piece.line
        if mask is not None:
            value = _IN_VALUE.sub(_unescaped, text[len(mask[0]) :])
            items.append(said.Mask(value=value))
            return mask[0] + b"***"
        found = _COMMAND.fullmatch(text.rstrip("\r"))
        if found is not None:
            self._command(found, items)
        return piece.line

    def _command(self, found: re.Match[str], items: list[said.Saying]) -> None:
        value = _IN_VALUE.sub(_unescaped, found["value"])
        match found["name"].lower():
            case "error" | "warning" as kind:
                message = _with_place(_properties(found["properties"] or ""), value)
                items.append(said.Fault(kind=kind, message=message))
            case "notice":
                message = _with_place(_properties(found["properties"] or ""), value)
                items.append(said.Status(text=message))
            case "group":
                items.append(said.Status(text=value))
            case "stop-commands" if value.strip():
                self._resumes = value.strip()
            case _:
                pass


def _find(data: bytes, place: int) -> int:
    found = _BEGINS.search(data, place - 1)
    return -1 if found is None else found.end()


def _half(data: bytes, place: int) -> int:
    end = len(data) - 1
    return end if end >= place and data[-1:] == b":" and begins_line(data, end) else len(data)


def _properties(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(","))
    return {
        name.strip().lower(): _IN_PROPERTY.sub(_unescaped, value)
        for name, _, value in pairs
        if value
    }


def _with_place(properties: dict[str, str], message: str) -> str:
    """Return ``FILE:LINE:COLUMN: TITLE: MESSAGE``, as compilers write it."""
    place = ""
    if file := properties.get("file"):
        numbers = [properties[key] for key in ("line", "col") if properties.get(key)]
        place = ":".join([file, *numbers])
    return ": ".join(part for part in (place, properties.get("title"), message) if part)


def _unescaped(found: re.Match[str]) -> str:
    return _ESCAPES[found[0].upper()]
