"""The service manager that started us: what it hands over, and what it is told.

sd_notify(3) and sd_listen_fds(3) are a datagram and three variables each, so
they need no library.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Final

from tailrace.errors import InvalidInputError, Problem

_FIRST_FD: Final = 3  # sd_listen_fds(3), SD_LISTEN_FDS_START
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_LOOK_S: Final = 1.0  # how often the status line is looked at
_EXTENSION_US: Final = 30_000_000  # asked for with each look while a stop takes long


class ServiceManager:
    """systemd, or whatever speaks its protocols; or nobody, who is told nothing.

    ``sockets`` are the listening ones that were handed over, now the caller's.
    ``watchdog_s`` is within how many seconds it wants to hear of us, or None.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        watchdog_s: float | None = None,
        sockets: tuple[socket.socket, ...] = (),
    ) -> None:
        self._address = address
        self.watchdog_s = watchdog_s
        self.sockets = sockets

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> ServiceManager:
        """Take what the manager gave from *environ*: what we start must not believe it is meant.

        Raises:
            InvalidInputError: a descriptor that it handed over can't be listened on.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        watchdog_us = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", None) in (None, str(os.getpid()))
        count = environ.pop("LISTEN_FDS", "")
        names = environ.pop("LISTEN_FDNAMES", "").split(":")
        ours = environ.pop("LISTEN_PID", "") == str(os.getpid())
        return cls(
            address if address.startswith(("/", "@")) else None,
            watchdog_s=int(watchdog_us) / 1e6 if watched and watchdog_us.isdecimal() else None,
            sockets=_sockets(int(count), names) if ours and count.isdecimal() else (),
        )

    def tell(self, **state: str | int) -> None:
        """Tell the manager, as in ``tell(READY=1)``: sd_notify(3) lists what there is.

        One that doesn't listen any more is no reason to fail.
        """
        if self._address is None:
            return
        # An "@" stands for the NUL of an abstract address: unix(7).
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        # What begins a line would be an assignment of its own.
        text = "\n".join(f"{key}={' '.join(str(value).split())}" for key, value in state.items())
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
        ):
            notify.setblocking(False)  # a manager that hangs must not hang us
            notify.sendto(text.encode(), address)

    def tell_reloading(self) -> None:
        """Tell that the settings are being read again; ``READY=1`` ends it.

        systemd 253 and newer want the time with it (``Type=notify-reload``).
        """
        self.tell(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    async def keep_told(self, status: Callable[[], str], is_stopping: Callable[[], bool]) -> None:
        """Tell a status line when it changes, and all the time that the event loop turns.

        A loop that is stuck tells nothing, and so is found by the watchdog.
        While stopping, more time is asked for as long as it turns.
        """
        if self._address is None:
            return
        period_s = min(_LOOK_S, self.watchdog_s / 2) if self.watchdog_s else _LOOK_S
        told = ""
        while True:
            state: dict[str, str | int] = {}
            if self.watchdog_s:
                state["WATCHDOG"] = 1
            if is_stopping():
                state["EXTEND_TIMEOUT_USEC"] = _EXTENSION_US
            if (text := status()) != told:
                state["STATUS"] = told = text
            if state:
                self.tell(**state)
            await asyncio.sleep(period_s)


def _sockets(count: int, names: list[str]) -> tuple[socket.socket, ...]:
    """Return the descriptors that were handed over as sockets."""
    sockets = []
    for index, fd in enumerate(range(_FIRST_FD, _FIRST_FD + count)):
        name = names[index] if index < len(names) else ""
        try:
            handed = socket.socket(fileno=fd)
            listens = (
                handed.family in _FAMILIES
                and handed.type == socket.SOCK_STREAM
                and handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            )
        except OSError:
            listens = False
        if not listens:
            hint = "give ListenStream= with a TCP address or a path, and Accept=no"
            problem = "was handed over and is no stream socket that listens"
            raise InvalidInputError([Problem(f"descriptor {fd} ({name})", problem, hint)])
        handed.set_inheritable(False)
        handed.setblocking(False)
        sockets.append(handed)
    return tuple(sockets)
