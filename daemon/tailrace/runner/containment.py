"""Finding and ending every process of a step, wherever it went.

Where an attempt has a cgroup of its own, its members are what is in there, and
one write kills them. Besides, and where there is none: the runner is a subreaper
(prctl(2)), so whatever a step starts stays among the runner's descendants,
through double forks, ``setsid`` and ``nohup``. A step's members are the tree below
its leader, and those orphans whose session or environment says that they are
its own, with the trees below them. Alone that is called ``weak``: a process that
wipes its environment, leaves its session and loses its parent is found at the
run's end only. Not so in a PID namespace: its init is below the leader or an
orphan of that kind, everything in it is below its init, and all die with that.
Bubblewrap's own two processes, the leader and that init, are members, and are
signalled and counted as none of the step's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Final

from tailrace.core.events import Kill, Survivor
from tailrace.runner.process import Leader

_PR_SET_CHILD_SUBREAPER: Final = 36
_LEFT_S: Final = 2.0  # after SIGKILL; only what hangs in the kernel lives on
_FREEZE_S: Final = 1.0
_KILL_ROUNDS: Final = 200  # a storm of forks is killed faster than it forks, but not in one round


def become_subreaper() -> None:
    """Make orphans among our descendants our own children.

    Raises:
        OSError: the kernel refuses, which it does not since Linux 3.4.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Containment:
    """The processes of one attempt."""

    def __init__(self, leader: Leader, marker: dict[str, str], others: set[int]) -> None:
        """*marker* names the attempt in every process's environment; *others* are all leaders."""
        self._leader = leader
        self._marker = [f"{key}={value}".encode() for key, value in marker.items()]
        self._others = others
        self._killed: set[int] = set()

    @property
    def mechanism(self) -> str:
        """What `Kill.mechanism` says."""
        if self._leader.group is not None:
            return "cgroup"
        return "pidns" if self._leader.in_namespace else "process_group"

    @property
    def overhead(self) -> int:
        """How many of the members are bubblewrap's: outside the namespace, and its init."""
        return 2 if self._leader.in_namespace else 0

    def members(self) -> list[int]:
        """Return the pids of all living processes of the attempt, the leader's first."""
        found: list[int] = []
        if self._leader.returncode is None:
            found += _tree(self._leader.pid)
        if self._leader.group is not None:
            found += self._leader.group.members()
        for child in children(os.getpid()):
            if child not in self._others and self._is_ours(child):
                found += _tree(child)
        return [pid for pid in dict.fromkeys(found) if is_alive(pid)]

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            if os.getsid(pid) == self._leader.pid:
                return True
            with open(f"/proc/{pid}/environ", "rb") as file:
                return set(self._marker) <= set(file.read().split(b"\0"))
        return False

    async def freeze(self) -> None:
        """Stop all processes where they are, until `thaw`; returns when they stand still.

        A cgroup is frozen as a whole, and nobody in it can tell; otherwise each
        member gets SIGSTOP. One that hangs in the kernel, or keeps being forked
        faster than it is stopped, is given up on after a second.
        """
        deadline = time.monotonic() + _FREEZE_S
        group = self._leader.group
        if group is not None:
            group.freeze()
            while not group.is_frozen() and time.monotonic() < deadline:  # noqa: ASYNC110 - the kernel's
                await asyncio.sleep(0.001)
            return
        while moving := [pid for pid in self.members() if not is_stopped(pid)]:
            for pid in moving:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGSTOP)
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.001)

    def thaw(self) -> None:
        """Let all processes go on."""
        if self._leader.group is not None:
            self._leader.group.thaw()
            return
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)

    async def stop(self, *, grace_s: float) -> Kill:
        """End the attempt's processes: SIGTERM to the step's, *grace_s*, then SIGKILL to all.

        With a *grace_s* of 0 they are killed at once. Returns once none is left, or
        none could be killed for some seconds; the leader is reaped by then.
        Cancelling it cuts the grace short, kills at once, and then raises.
        """
        began = time.monotonic()
        signalled = 0
        try:
            if grace_s:
                await self._wait_begun(grace_s)
                signalled = self._ask_to_end()
                await self._wait_gone(grace_s - (time.monotonic() - began))
        finally:
            forced = self._kill_all()
        left, again = await self._look_again()
        forced += again
        return Kill(
            mechanism=self.mechanism,
            signalled=signalled,
            forced=forced,
            survivors=tuple(Survivor(pid=pid, cmd=command_of(pid)) for pid in left),
            duration_ms=round((time.monotonic() - began) * 1000),
        )

    async def _wait_begun(self, timeout_s: float) -> None:
        """Wait until bubblewrap has started the step: what isn't there yet can't be asked."""
        deadline = time.monotonic() + timeout_s
        while self._is_beginning() and time.monotonic() < deadline:
            self.thaw()  # it may have been frozen before it got there
            await asyncio.sleep(0.002)

    def _is_beginning(self) -> bool:
        """Whether bubblewrap is there, and nothing of the step."""
        leader = self._leader
        alone = leader.in_namespace and leader.returncode is None
        return alone and not self._of_step(self.members())

    def _ask_to_end(self) -> int:
        """Send SIGTERM to the group, and to members that left it; return how many there were.

        Bubblewrap and its init don't get it: they end with the last of the others.
        """
        members = self.members()
        asked = self._of_step(members)
        wrapped = self._leader.in_namespace
        if not wrapped:
            self._leader.signal_group(signal.SIGTERM)
        for pid in asked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if wrapped or os.getpgid(pid) != self._leader.pid:
                    os.kill(pid, signal.SIGTERM)
        if self._leader.group is not None:
            self._leader.group.thaw()
        for pid in members:  # a stopped one can't handle it, and a stopped init reaps nobody
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)
        return len(asked)

    def _of_step(self, pids: list[int]) -> list[int]:
        """Leave out bubblewrap's own processes, and in a namespace those that are gone by now."""
        if not self._leader.in_namespace:
            return pids
        depth = len(_namespace_pids(os.getpid())) + 1
        return [pid for pid in pids if _is_inside(pid, depth)]

    def release(self) -> None:
        """Remove the attempt's cgroup, once `stop` has ended its processes or none was left.

        One that is still busy is left to the run's end: other steps go on meanwhile.
        """
        if self._leader.group is not None:
            self._leader.group.try_remove()

    async def _look_again(self) -> tuple[list[int], int]:
        """Wait until none is left, killing what appears; return who is, and how many appeared.

        A process that is being forked, or loses its parent, at the moment of a look
        isn't seen by it; so where there is no cgroup, only a second look counts.
        """
        deadline = time.monotonic() + _LEFT_S
        appeared = empty = 0
        while True:
            await self._wait_gone(0.1)
            await self._reaped()
            left = self.members()
            empty = 0 if left else empty + 1
            if empty > 1 or (empty and self._leader.group is not None):
                return [], appeared
            if left and time.monotonic() > deadline:
                return left, appeared
            appeared += self._kill_all()
            await asyncio.sleep(0.002)

    async def _reaped(self) -> None:
        """Wait for a dead leader's status: it is a zombie before the loop hears of its end."""
        if self._leader.returncode is None and not is_alive(self._leader.pid):
            with contextlib.suppress(TimeoutError):  # proc(5): threads may outlive the first one
                async with asyncio.timeout(_LEFT_S):
                    await self._leader.wait()

    async def _wait_gone(self, timeout_s: float) -> None:
        """Wait until no member lives, or the time is over."""
        deadline = time.monotonic() + timeout_s
        pause = 0.002
        while self.members() and time.monotonic() < deadline:
            await asyncio.sleep(min(pause, max(deadline - time.monotonic(), 0)))
            pause = min(pause * 1.5, 0.05)

    def _kill_all(self) -> int:
        """Kill all members, again until a look finds none new; return how many were the step's."""
        count = 0
        if self._leader.group is not None:
            count += len(self._of_step(self._new_members()))
            self._leader.group.kill()
        for _ in range(_KILL_ROUNDS):
            new = self._new_members()
            if not new:
                break
            count += len(self._of_step(new))  # while /proc still tells what they are
            for pid in new:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        return count

    def _new_members(self) -> list[int]:
        """Return the members that this hasn't returned before."""
        new = [pid for pid in self.members() if pid not in self._killed]
        self._killed.update(new)
        return new


async def end_descendants() -> None:
    """Kill whatever is still below the runner: the run has ended, and leaves nothing behind."""
    for _ in range(_KILL_ROUNDS):
        left = [pid for child in children(os.getpid()) for pid in _tree(child) if is_alive(pid)]
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.002)
    reap_orphans(())


def reap_orphans(leaders: Iterable[int]) -> None:
    """Collect the status of dead children that nobody else waits for.

    Looks with WNOWAIT and reaps by pid: waitpid(-1) would steal the leaders'.
    """
    ours = set(leaders)
    for pid in children(os.getpid()):
        if pid not in ours and not is_alive(pid):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def children(pid: int) -> list[int]:
    """Return the children of a process; [] where it is gone (proc(5), ``task/[tid]/children``)."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - half the cost of iterdir
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{pid}/task/{thread}/children", "rb") as file,
            ):
                found += [int(word) for word in file.read().split()]
    return found


def _tree(root: int) -> Iterator[int]:
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children(pid)


def _is_inside(pid: int, depth: int) -> bool:
    """Whether a process lives in the PID namespace that is *depth* deep, and isn't its init."""
    there = _namespace_pids(pid)
    # An init further down is that of a namespace which the step has made.
    return len(there) > depth or (len(there) == depth and there[-1] != b"1")


def _namespace_pids(pid: int) -> list[bytes]:
    """Return its pid in each namespace, ours first; [] where it is gone (proc(5), ``NSpid``)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        return file.read().partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    return []


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie doesn't (proc(5), ``stat``)."""
    return _state(pid) not in (b"Z", b"X", b"")


def is_stopped(pid: int) -> bool:
    """Whether the process stands still after SIGSTOP, or is gone."""
    return _state(pid) in (b"T", b"t", b"Z", b"X", b"")


def _state(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1]
    except OSError:
        return b""


def command_of(pid: int) -> str:
    """Return a process's command line for people; its short name in brackets where it has none."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
        if words != [b""]:
            return b" ".join(words).decode("utf-8", "replace")
        with open(f"/proc/{pid}/comm", "rb") as file:
            return f"[{file.read().strip().decode('utf-8', 'replace')}]"
    return "[gone]"
