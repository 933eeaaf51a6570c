"""The way of a line: pipe, mask, log file, journal record. Work is done per chunk, never per line.

Output that trickles goes out at once: whatever comes a quarter of ``gather``
after what came before it, which is two hundred records a second at most. What
follows closer is gathered until ``gather`` has passed since the last record, or
64 KiB are together, so that a flood costs a record a chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
from collections.abc import Callable
from typing import Final

from tailrace.core.events import Notice
from tailrace.core.lines import LineCounter
from tailrace.core.log_limit import LogLimit
from tailrace.core.mask import Masker
from tailrace.core.units import format_bound, plural
from tailrace.rundir.journal import AttemptLog
from tailrace.runner.recorder import Recorder

_ENOUGH: Final = 1 << 16  # gathered bytes that make a record worth while
_SMALL: Final = 1 << 14  # a read below this is a trickle: let more come together
_BREATH_S: Final = 0.002  # for how long; a pipe of 1 MiB doesn't fill in it below 500 MB/s


class Output:
    """One attempt's output, from its pipe to the journal.

    ``hear`` gets each chunk between reading and masking it, and returns what of
    it is output: values that the step named as secrets before it printed them
    must be known by then. ``hear_end`` returns what it held back. ``on_text``
    sees what was written, masked. Used on one event loop; it holds at most a
    read chunk, what the masker holds back, what is gathered, and the end of what
    is over *limit* (`LogLimit`), which is written when it has ended.
    """

    def __init__(
        self,
        pipe: int,
        *,
        step: str,
        attempt: int,
        masker: Masker,
        log: AttemptLog,
        recorder: Recorder,
        read_chunk: int,
        gather_s: float,
        limit: int,
        hear: Callable[[bytes], bytes],
        hear_end: Callable[[], bytes],
        on_text: Callable[[bytes], None] | None = None,
        on_error: Callable[[OSError], None],
    ) -> None:
        self._pipe = pipe
        self._step, self._attempt = step, attempt
        self._masker, self._log, self._recorder = masker, log, recorder
        self._read_chunk, self._gather_s = read_chunk, gather_s
        self._hear, self._hear_end = hear, hear_end
        self._on_text, self._on_error = on_text, on_error
        self._loop = asyncio.get_running_loop()
        self._counter = LineCounter()
        self._limit = LogLimit(limit)
        self._left_bytes = 0  # of output that the log doesn't have
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._last_record = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._open = True  # the pipe hasn't ended
        self._closed = False
        self._failed = False  # the disk didn't take something
        self.last_output = self._loop.time()  # when something was read last, on the loop's clock
        self._loop.add_reader(pipe, self._readable)

    @property
    def lines(self) -> int:
        """Lines of output so far: those written, and those that ``limits.log`` left out."""
        return self._counter.lines

    @property
    def size(self) -> int:
        """Bytes of output so far: those written, and those that ``limits.log`` left out."""
        return self._counter.offset + self._left_bytes

    @property
    def held(self) -> int:
        """Bytes read and not yet written: a gauge."""
        waiting = self._masker.held + self._counter.held + self._gathered_size
        return waiting + self._limit.kept

    @property
    def unread(self) -> int:
        """Bytes that wait in the pipe (FIONREAD, pipe(7)): a gauge."""
        if self._closed:
            return 0
        waiting = fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)

    def _readable(self) -> None:
        try:
            self._read_some()
        except OSError as exc:
            self._loop.remove_reader(self._pipe)
            self._on_error(exc)

    def _read_some(self) -> None:
        try:
            chunk = os.read(self._pipe, self._read_chunk)
        except BlockingIOError:
            return
        if not chunk:
            self._loop.remove_reader(self._pipe)
            self._open = False
            return
        now = self._loop.time()
        trickles = now - self.last_output >= self._gather_s / 4
        self.last_output = now
        self._mask(self._hear(chunk))
        waited = now - self._last_record
        if self._gathered_size >= _ENOUGH:
            self._write()
        elif trickles or waited >= self._gather_s:
            self._let_go()
        else:
            if self._timer is None:
                self._timer = self._loop.call_later(self._gather_s - waited, self._timed)
            if len(chunk) < _SMALL and self._pause is None:
                self._loop.remove_reader(self._pipe)
                self._pause = self._loop.call_later(_BREATH_S, self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self._open:
            self._loop.add_reader(self._pipe, self._readable)

    def _timed(self) -> None:
        self._timer = None
        try:
            self._let_go()
        except OSError as exc:
            self._on_error(exc)

    def _mask(self, data: bytes) -> None:
        if data:
            self._gather(self._masker.feed(data))

    def _gather(self, data: bytes) -> None:
        if data:
            self._gathered.append(data)
            self._gathered_size += len(data)

    def _let_go(self) -> None:
        """Write what is gathered and what of an open line can be told already."""
        self._gather(self._masker.flush())
        self._write()

    def _write(self, *, final: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        data = self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered)
        self._gathered.clear()
        self._gathered_size = 0
        if self._failed:  # the run ends; what comes behind a gap would be untrue
            return
        before = self._limit.reached
        self._store(self._limit.feed(data), final=final)
        if self._limit.reached and not before:
            self._tell_limit()
        if self._on_text is not None and data:
            self._on_text(data)

    def _store(self, data: bytes, *, final: bool = False) -> None:
        """Put output into the log and the journal, or neither.

        Raises:
            OSError: the disk is full or failing; nothing more is stored from then on.
        """
        counter = self._counter
        before = LineCounter(offset=counter.offset, line=counter.line, is_open=counter.is_open)
        piece = counter.take(data, final=final)
        if piece is None:
            return
        try:
            self._log.append(piece)
            self._recorder.record_log(self._step, self._attempt, piece)
        except OSError:
            self._failed, self._counter = True, before
            with contextlib.suppress(OSError):
                self._log.cut(piece.offset)
            raise
        self._last_record = self._loop.time()

    def _tell_limit(self) -> None:
        self._store(b"", final=True)  # what comes next may be left out
        text = (
            f"limits.log ({format_bound(self._limit.limit)}) is nearly reached: "
            "what comes now isn't shown live, and only its end is kept"
        )
        self._recorder.record(Notice(kind="log_limit", text=text, step=self._step))

    def _store_rest(self) -> None:
        """Put the end of an output that is over its limit behind what was left out."""
        rest = self._limit.rest()
        self._store(rest.ending)
        if rest.left_bytes:
            self._counter.line += rest.left_lines
            self._left_bytes = rest.left_bytes
            left = f"{plural(rest.left_bytes, 'byte')}, {plural(rest.left_lines, 'line')}"
            self._recorder.record(
                Notice(
                    kind="log_limit",
                    text=f"left out: {left} (limits.log)",
                    step=self._step,
                    line=self._counter.line,
                    left_bytes=rest.left_bytes,
                )
            )
        for data in rest.pieces:
            for at in range(0, len(data), _ENOUGH):
                self._store(data[at : at + _ENOUGH])
        self._store(b"", final=True)

    def catch_up(self) -> None:
        """Read and write what the step has printed so far: its processes are frozen."""
        if self._pause is not None:
            self._pause.cancel()
            self._resume()
            self._pause = None
        try:
            self._read_all()
            if self._open:
                self._let_go()
        except OSError as exc:
            self._on_error(exc)

    def finish(self) -> None:
        """Read what is in the pipe, write all that is held, and let go of the pipe.

        To be called when the step's processes are gone; where one survived, what
        it writes afterwards is lost, and that is said by the kill report.

        Raises:
            OSError: the disk is full or failing.
        """
        try:
            self._stop_reading()
            self._read_all()
            self._mask(self._hear_end())
            self._gather(self._masker.close())
            self._write(final=True)
            if self._limit.reached and not self._failed:
                self._store_rest()
        finally:
            self._close()

    def _read_all(self) -> None:
        """Read until the pipe is empty."""
        while self._open:
            try:
                chunk = os.read(self._pipe, self._read_chunk)
            except BlockingIOError:
                break
            if not chunk:
                break
            self._mask(self._hear(chunk))
            if self._gathered_size >= _ENOUGH:
                self._write()

    def _close(self) -> None:
        self._open = False
        if not self._closed:
            self._closed = True
            os.close(self._pipe)

    def _stop_reading(self) -> None:
        if not self._closed:
            self._loop.remove_reader(self._pipe)
        for handle in (self._timer, self._pause):
            if handle is not None:
                handle.cancel()
        self._timer = self._pause = None
