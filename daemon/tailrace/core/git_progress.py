r"""Git's progress, read from what it prints.

Git tells how far it is by lines that end in a carriage return and begin with
a title (``progress.c``); those of the server arrive as ``remote: …``, padded
with eight spaces (``sideband.c``)::

    remote: Counting objects:  50% (6/12)        \r
    Receiving objects:  67% (1234/1840), 5.31 MiB | 2.65 MiB/s\r
    Resolving deltas: 100% (3/3), done.\n

Titles are matched in English (git runs under a C locale) and only those known
here count: the server's words are hostile, and a stage's name reaches people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MAX_LINE: Final = 256  # bytes; git's own progress lines stay under 100

# title -> what is counted. The server's come with "remote: ", ours without.
_REMOTE_STAGES: Final = {
    b"Enumerating objects": "objects",
    b"Counting objects": "objects",
    b"Compressing objects": "objects",
    b"Finding sources": "objects",  # JGit: Gerrit, googlesource.com
    b"Getting sizes": "objects",
}
_LOCAL_STAGES: Final = {
    b"Receiving objects": "objects",
    b"Unpacking objects": "objects",
    b"Indexing objects": "objects",
    b"Resolving deltas": "deltas",
    b"Updating files": "files",
    b"Checking out files": "files",  # git before 2.23
    b"Filtering content": "files",
}
_AMOUNT: Final = rb"([0-9]{1,7}(?:\.[0-9]{1,2})?) (bytes?|KiB|MiB|GiB)"
_LINE: Final = re.compile(
    rb"(remote: )?([A-Z][a-z ]{1,30}): +"
    rb"(?:([0-9]{1,3})% \(([0-9]{1,18})/([0-9]{1,18})\)|([0-9]{1,18}))"
    rb"(?:, " + _AMOUNT + rb" \| " + _AMOUNT + rb"/s)?"
    rb"(?:, done\.)? *"
)
_FACTORS: Final = {b"KiB": 1 << 10, b"MiB": 1 << 20, b"GiB": 1 << 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class GitPhase:
    """How far git is in one stage of a clone; the names fit the ``progress`` event."""

    stage: str  # "Receiving objects"
    percent: int | None = None  # of this stage, 0 to 100; None while the total isn't known
    done: int
    total: int | None = None
    unit: str  # what done and total count: "objects", "deltas" or "files"
    rate: int | None = None  # bytes a second
    note: str | None = None  # "5.31 MiB at 2.65 MiB/s"


class GitProgress:
    """Reads git's output chunk by chunk; other lines than progress are passed over.

    Keeps at most 257 bytes between chunks, whatever comes.
    """

    def __init__(self) -> None:
        self._open = b""  # the line that hasn't ended yet, as far as it matters

    def feed(self, data: bytes) -> list[GitPhase]:
        """Return what the lines that end in *data* tell, in order.

        The results together are the same for every way of splitting the output.
        """
        *ended, rest = re.split(rb"[\r\n]", self._open + data)
        # One byte beyond the bound is kept, so that what is too long stays so.
        self._open = rest[: _MAX_LINE + 1]
        phases = (_parse(line) for line in ended if len(line) <= _MAX_LINE)
        return [phase for phase in phases if phase is not None]


def _parse(line: bytes) -> GitPhase | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    remote, title, percent, done, total, count, *transfer = match.groups()
    unit = (_REMOTE_STAGES if remote else _LOCAL_STAGES).get(title)
    if unit is None or (percent is not None and (int(percent) > 100 or int(done) > int(total))):
        return None
    is_receiving = transfer[0] is not None
    rate, rate_unit = transfer[2:]
    return GitPhase(
        stage=title.decode(),
        percent=None if percent is None else int(percent),
        done=int(count if percent is None else done),
        total=None if percent is None else int(total),
        unit=unit,
        rate=_in_bytes(rate, rate_unit) if is_receiving else None,
        note=(b"%b %b at %b %b/s" % tuple(transfer)).decode() if is_receiving else None,
    )


def _in_bytes(amount: bytes, unit: bytes) -> int:
    return round(float(amount) * _FACTORS.get(unit, 1))
