"""Marks by which a step's processes are known, whatever they do, and the look for them.

Each run's processes have a mark of their own, in three places: in their
environment; in the path of the program that they run (argv[0]); and in the
path of a file that they hold open. One that wipes its environment, leaves its
session and loses its parent still has the other two. The look reads proc(5)
and nothing that Tailrace says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace.prove.proof import Ledger, ProofError

_TWICE_S: Final = 0.1  # between two looks: who is dying at the first is dead at the second
_ROUNDS: Final = 100
_LONG_S: Final = "600"


@dataclass(frozen=True, slots=True)
class Found:
    """A living process with a mark."""

    pid: int
    began: int  # clock ticks since boot: a pid alone may be another's by now
    cmd: str
    by: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark; its folder holds the program and the file that processes are known by."""

    text: str
    folder: Path

    @classmethod
    def make(cls, folder: Path, text: str) -> Mark:
        """Make a mark below *folder*.

        Raises:
            ProofError: there is no ``sleep`` on this machine.
        """
        program = shutil.which("sleep")
        if program is None:
            raise ProofError("needs the program `sleep`")
        mark = cls(text, folder / text)
        mark.folder.mkdir(parents=True)
        # A link: argv[0] is its path, and programs that ask for their name still find "sleep".
        mark.program.symlink_to(program)
        mark.held.touch()
        return mark

    @property
    def program(self) -> Path:
        """A ``sleep`` whose path holds the mark."""
        return self.folder / "sleep"

    @property
    def held(self) -> Path:
        """A file that processes hold open."""
        return self.folder / "held"

    def plant(self) -> subprocess.Popen[bytes]:
        """Start a process as nasty as they come: no environment, an own session, our mark."""
        with open(self.held, "rb") as held:
            return subprocess.Popen(
                [self.program, _LONG_S], env={}, cwd="/", start_new_session=True,
                stdin=held, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip


def look(marks: list[Mark]) -> dict[str, list[Found]]:
    """Return the living processes with each mark, by the mark's text."""
    found: dict[str, list[Found]] = {mark.text: [] for mark in marks}
    for name in os.listdir("/proc"):  # noqa: PTH208 - half the cost of iterdir
        if name.isdigit() and int(name) != os.getpid():
            _look_at(int(name), marks, found)
    return found


def _look_at(pid: int, marks: list[Mark], found: dict[str, list[Found]]) -> None:
    argv, environment = _read(f"/proc/{pid}/cmdline"), _read(f"/proc/{pid}/environ")
    links: bytes | None = None
    for mark in marks:
        text = mark.text.encode()
        if text in argv:
            by = "argv"
        elif text in environment:
            by = "environment"
        else:
            links = _links(pid) if links is None else links
            if text not in links:
                continue
            by = "open file"
        if (began := _began(pid)) is not None:
            cmd = argv.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
            found[mark.text].append(Found(pid, began, cmd, by))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # it has gone, or is another user's
        return b""


def _links(pid: int) -> bytes:
    links = []
    names = [f"/proc/{pid}/cwd"]
    with contextlib.suppress(OSError):
        names += [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH208 - as above
    for name in names:
        with contextlib.suppress(OSError):
            links.append(os.fsencode(os.readlink(name)))  # noqa: PTH115 - as above
    return b"\0".join(links)


def _began(pid: int) -> int | None:
    """When a living process began; None for one that is dead (proc(5), ``stat``)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


async def survivors(marks: list[Mark]) -> dict[str, list[Found]]:
    """Return the processes that two looks find, a moment apart, by mark."""
    first = await asyncio.to_thread(look, marks)
    if not any(first.values()):
        return first
    await asyncio.sleep(_TWICE_S)
    second = await asyncio.to_thread(look, marks)
    before = {(item.pid, item.began) for items in first.values() for item in items}
    return {
        text: [item for item in items if (item.pid, item.began) in before]
        for text, items in second.items()
    }


async def check_survivors(ledger: Ledger, who: str, mark: Mark) -> None:
    """Look that nobody is left, and write down who is."""
    for item in (await survivors([mark]))[mark.text]:
        ledger.miss("survivors", f"{who}: pid {item.pid} lives, known by its {item.by}: {item.cmd}")


async def try_the_look(folder: Path) -> None:
    """Plant a process that hides and look for it: a look that finds nothing must be able to.

    Raises:
        ProofError: it wasn't found.
    """
    mark = Mark.make(folder, f"planted-{os.getpid()}-{time.monotonic_ns()}")
    process = mark.plant()
    try:
        found = (await survivors([mark]))[mark.text]
        by_file = mark.text.encode() in await asyncio.to_thread(_links, process.pid)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
    if [item.pid for item in found] != [process.pid] or not by_file:
        raise ProofError("a process that was planted wasn't found: is /proc mounted with hidepid?")
    if any((await survivors([mark])).values()):
        raise ProofError("a process that is dead was taken for a living one")


def end_all(marks: list[Mark]) -> None:
    """Kill whoever has one of the marks: when all is over, nobody stays."""
    for _ in range(_ROUNDS):
        found = [item for items in look(marks).values() for item in items]
        if not found:
            return
        for item in found:
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(item.pid)
                try:
                    if _began(item.pid) == item.began:
                        signal.pidfd_send_signal(fd, signal.SIGKILL)
                finally:
                    os.close(fd)
        time.sleep(0.005)
