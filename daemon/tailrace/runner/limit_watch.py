"""Watches what an attempt's processes use together, and tells when it is too much.

Without cgroup controllers nobody else can: the limits of setrlimit(2) hold for
a single process (memory) or for all of a user's (processes), and a program that
meets them fails in its own way, not as what it is. So the processes are looked
at ten times a second, and more often when they come near. A peak that is over
before the next look passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from tailrace.core.plan import StepLimits
from tailrace.core.units import format_bound, format_size
from tailrace.runner.containment import Containment

_LOOK_S: Final = 0.1
_NEAR_S: Final = 0.02  # from half of a limit on: what fills a gigabyte takes a quarter of a second
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrun:
    """More was used than is allowed."""

    cause: str
    cause_code: Literal["memory", "limit"]


async def until_over(limits: StepLimits, containment: Containment) -> Overrun:
    """Return when the processes use more than *limits* allow of memory or pids."""
    while True:
        members = containment.members()
        shares = [0.0]
        if limits.memory is not None:
            used = memory_of(members, at_most=limits.memory)
            if used > limits.memory:
                allowed = format_bound(limits.memory)
                return Overrun(
                    cause=f"killed: used {format_size(used)} of the {allowed} allowed",
                    cause_code="memory",
                )
            shares.append(used / max(limits.memory, 1))
        if limits.pids is not None:
            count = sum(_threads(pid) for pid in members) - containment.overhead
            if count > limits.pids:
                return Overrun(
                    cause=f"killed: had {count} processes and threads of the {limits.pids} allowed",
                    cause_code="limit",
                )
            shares.append(count / max(limits.pids, 1))
        await asyncio.sleep(_NEAR_S if max(shares) > 0.5 else _LOOK_S)


def memory_of(pids: Iterable[int], *, at_most: int) -> int:
    """Return the bytes of memory that processes have of their own, what they share counted once.

    Pages of files don't count: the kernel takes those back. What is no more
    than *at_most* by a cheaper look, which counts shared pages for each, is
    returned as that look says.
    """
    pids = list(pids)
    most = sum(_resident(pid) for pid in pids)
    return most if most <= at_most else sum(_proportional(pid) for pid in pids)


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE
    return 0


def _proportional(pid: int) -> int:
    """Return a process's share of anonymous and shared memory (proc(5), ``smaps_rollup``)."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file.read().splitlines()[1:])
    except PermissionError:  # it runs as somebody else
        return _resident(pid)
    except OSError:
        return 0
    return sum(int(fields[key].split()[0]) << 10 for key in (b"Pss_Anon", b"Pss_Shmem"))


def _threads(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b") ")[2].split()[17])
    return 0
