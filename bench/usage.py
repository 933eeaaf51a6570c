"""What processes use, from proc(5)."""

from __future__ import annotations

import contextlib
from pathlib import Path

MB = 1_000_000


def cpu_s(*pids: int) -> float:
    """Return the seconds of CPU that the processes' living threads have used, to the microsecond.

    From ``schedstat``: ``stat`` counts in ticks of 10 ms, which is five seconds
    of 0.2 %.
    """
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has just ended
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process, pages that it shares with others included."""
    return _field(Path(f"/proc/{pid}/status"), "VmRSS:")


def peak_rss_mb(pid: int) -> float:
    """Return the most resident memory that the process ever had."""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM:")


def pss_mb(pid: int) -> float | None:
    """Return its memory with shared pages divided among their users; None where that is secret."""
    try:
        return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
    except PermissionError:  # Tailrace's processes are undumpable: only root may look
        return None


def _field(file: Path, name: str) -> float:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / MB
    raise ValueError(f"{file} has no {name}")


def children(pid: int) -> list[int]:
    """Return the children of a process, of all its threads."""
    return [
        int(word)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]
