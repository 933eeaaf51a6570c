"""What signals ask of a daemon: to stop, or to read its settings again."""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType
from typing import Final, Literal

Wish = Literal["reload", "stop"]

_STOP: Final = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Takes SIGHUP, SIGINT and SIGTERM from the first moment to the last; a context manager.

    What comes before anybody asks is remembered: a daemon tells where it
    listens, or is known by its pid, before it can act on anything. Handlers of
    the event loop would leave the time before and after it to the defaults,
    and the default of SIGHUP is death. SIGHUP counts for nothing once a stop
    was asked for; a second SIGINT or SIGTERM ends the process at once, with
    exit status 130, because somebody is out of patience.

    Enter it in the main thread (signal(2) by way of `signal.signal`).
    """

    def __init__(self) -> None:
        self._reload = self._stop = False
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def __enter__(self) -> Signals:
        """Take the signals."""
        for number in (signal.SIGHUP, *_STOP):
            signal.signal(number, self._take)
        return self

    def __exit__(self, *exc: object) -> None:
        """Ignore SIGHUP; the process is about to end."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        elif self._stop:
            os._exit(130)
        else:
            self._stop = True
        if self._waiting is not None:
            loop, event = self._waiting
            loop.call_soon_threadsafe(event.set)

    async def next(self) -> Wish:
        """Wait for what is asked for next; several SIGHUPs are one, and ``stop`` goes first."""
        event = asyncio.Event()
        self._waiting = asyncio.get_running_loop(), event
        try:
            while not (self._stop or self._reload):
                await event.wait()
                event.clear()
        finally:
            self._waiting = None
        if self._stop:
            return "stop"
        self._reload = False
        return "reload"
