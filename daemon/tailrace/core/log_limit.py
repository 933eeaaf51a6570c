"""What of an attempt's output its log gets: all that fits, else its beginning and its end.

The beginning streams, up to a quarter of the bound before it, `MOST_KEPT` at
most. Of what comes then the last bytes are kept in memory, as many as the bound
has left, and follow when the output has ended.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

MOST_KEPT: Final = 4 << 20  # bytes, and what a cut at the end of a line adds


@dataclass(frozen=True, slots=True)
class Rest:
    """What follows the part that streamed, once the output has ended.

    The log goes on with ``ending`` (the newline of a line that was open, or
    nothing), then ``left_bytes`` and ``left_lines`` are missing, then come
    ``pieces``. A line counts as left out where its newline was.
    """

    ending: bytes
    left_bytes: int
    left_lines: int
    pieces: tuple[bytes, ...]


class LogLimit:
    """Divides one attempt's output. Holds some more than what is kept: the last piece fed.

    An output of *limit* bytes or fewer is whole in the end.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes
        self._room = limit - min(limit // 4, MOST_KEPT)  # what may still stream
        self._most = limit  # what didn't stream: that much of it may be kept
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._left_bytes = 0
        self._left_lines = 0
        self._behind_newline = True  # what is kept begins a line
        self._was_open = False  # the part that streamed ends within a line
        self.reached = False  # the part that streams is over

    @property
    def kept(self) -> int:
        """Bytes held in memory."""
        return self._size

    def feed(self, data: bytes) -> bytes:
        """Take in output; return what of it goes to the log now."""
        if self.reached:
            self._keep(data)
            return b""
        if len(data) <= self._room:
            self._room -= len(data)
            return self._let_pass(data)
        cut = data.rfind(b"\n", 0, self._room) + 1
        if not cut:
            cut = _whole_character(data, self._room)
            if cut == len(data):  # it may go on in the next piece
                self._room = 0
                return self._let_pass(data)
        self.reached = True
        begun = self._let_pass(data[:cut])
        self._behind_newline = not self._was_open
        self._keep(data[cut:])
        return begun

    def _let_pass(self, data: bytes) -> bytes:
        if data:
            self._most = max(self._most - len(data), 0)
            self._was_open = not data.endswith(b"\n")
        return data

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._size += len(data)
        while self._kept and self._size - len(self._kept[0]) >= self._most:
            self._leave_out(self._kept.popleft())

    def _leave_out(self, data: bytes) -> None:
        if data:
            self._size -= len(data)
            self._left_bytes += len(data)
            self._left_lines += data.count(b"\n")
            self._behind_newline = data.endswith(b"\n")

    def rest(self) -> Rest:
        """Return what follows; to be asked once, when the output has ended."""
        over = self._size - self._most
        if over > 0:
            first = self._kept.popleft()
            self._leave_out(first[:over])
            self._kept.appendleft(first[over:])
        if self._left_bytes and not self._behind_newline:
            self._begin_line()
        ending = b""
        if self._was_open and self._left_lines:
            # Of what is missing the newline stays, which ends the line that was open.
            ending = b"\n"
            self._left_bytes -= 1
            self._left_lines -= 1
        return Rest(ending, self._left_bytes, self._left_lines, tuple(filter(None, self._kept)))

    def _begin_line(self) -> None:
        """Leave out the rest of a line whose beginning is missing, unless that is all there is."""
        for index, data in enumerate(self._kept):
            newline = data.find(b"\n")
            if newline < 0:
                continue
            if newline + 1 < len(data) or any(list(self._kept)[index + 1 :]):
                for _ in range(index):
                    self._leave_out(self._kept.popleft())
                self._leave_out(self._kept.popleft()[: newline + 1])
                # Its rest was taken off the deque with it.
                self._kept.appendleft(data[newline + 1 :])
                return
            break
        for _ in range(3):  # the rest of a character, which may be in several pieces
            while self._kept and not self._kept[0]:
                self._kept.popleft()
            if not self._kept or self._kept[0][0] & 0xC0 != 0x80:
                return
            first = self._kept.popleft()
            self._leave_out(first[:1])
            self._kept.appendleft(first[1:])


def _whole_character(data: bytes, cut: int) -> int:
    """Return *cut*, or where the UTF-8 sequence that it would cut ends: 3 bytes further at most."""
    for end in range(cut, min(cut + 3, len(data))):
        if data[end] & 0xC0 != 0x80:
            return end
    return min(cut + 3, len(data))
