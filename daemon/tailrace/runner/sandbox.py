"""A step under bubblewrap: what of the machine it sees, and how it ended.

Its paths are those outside, so that its variables mean the same in both, and
what one step writes the next finds. bwrap itself, and the entry process in the
sandbox (`tailrace.runner.sandbox_entry`), run with an environment of ours: the
step's could make a loader outside the sandbox take a library from the clone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace.bubblewrap import (
    Bind,
    Bubblewrap,
    UnusableError,
    find_bubblewrap,
    system_binds,
    system_options,
)
from tailrace.core.events import Notice
from tailrace.core.git_url import GitInputError, parse_git_url
from tailrace.core.plan import CloneAction, StepPlan
from tailrace.pipeline.expressions import Scope, render
from tailrace.runner import sandbox_entry
from tailrace.runner.context import RunContext
from tailrace.runner.environment import base_environment
from tailrace.runner.invocation import RefusedStepError
from tailrace.runner.places import Places

_KILLED: Final = 128 + signal.SIGKILL  # as bwrap tells it
_TMP: Final = Path("/tmp")  # noqa: S108 - a private one
_MOST_STATUS: Final = 4096  # bytes; a step that traces PID 1 could write there, too


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a sandboxed process sees besides programs; all are absolute."""

    system: tuple[list[str], list[str]]  # what `system_options` returned
    writable: Sequence[Bind]
    readable: Sequence[Bind]
    state: Path  # the state folder
    tmp: Path  # a folder on the machine that is its /tmp
    cwd: Path
    network: bool = False


def options_of(bubblewrap: Bubblewrap, view: View) -> list[str]:
    """Return bwrap's options for a view; later ones lie over earlier ones."""
    options = bubblewrap.start(network=view.network)
    begin, end = view.system
    options += ["--bind", str(view.tmp), str(_TMP)]  # first: an installation may lie there too
    if view.state.is_relative_to(_TMP):  # the way to the step's places is writable nowhere
        options += ["--tmpfs", str(view.state)]
        end = ["--remount-ro", str(view.state), *end]
    options += [*begin, "--dir", "/run"]
    options += ["--symlink", "../tmp", "/var/tmp", "--symlink", "../run", "/var/run"]  # noqa: S108 - same
    if view.network:
        # Where it is a link it leads into /run, which isn't shown.
        options += ["--ro-bind-try", os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf"]
    for bind in view.writable:
        options += ["--bind", str(bind.source), str(bind.place)]
    for bind in view.readable:
        options += ["--ro-bind", str(bind.source), str(bind.place)]
    return [*options, "--chdir", str(view.cwd), *end]


def both_ways(path: Path) -> list[Bind]:
    """Return the binds that show *path* at its own place, and at that of what it links to."""
    real = Path(os.path.realpath(path))
    return [Bind(real, place) for place in dict.fromkeys((path, real))]


@dataclass(frozen=True, slots=True)
class SandboxedEnd:
    """How the step's own process ended, by the words of the entry process."""

    program: str
    returncode: int | None = None  # exit status, -N for death by signal N; None: not told
    errno: int | None = None  # why its program couldn't be executed
    started: bool = False

    def returncode_of(self, bwrap: int | None, *, forced: bool) -> int | None:
        """Return the step's, given that of bwrap, which may have been ended before it.

        Where nothing was told, the entry process was killed together with the
        step's, by us (*forced*) or by the kernel (pid_namespaces(7)).
        """
        if self.returncode is not None:
            return self.returncode
        if self.started and (forced or bwrap == _KILLED):
            return -signal.SIGKILL
        return bwrap


class Sandbox:
    """One process in a sandbox of its own: what to start outside, and what is told from inside.

    Start `argv` with `env` and `pass_fds`, then `close_inherited`. `close` it
    in the end. Used on one event loop.

    Raises:
        OSError: no descriptors are left.
        ValueError: a NUL is in what is handed over.
    """

    def __init__(
        self,
        bubblewrap: Bubblewrap,
        view: View,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        marker: Mapping[str, str],
    ) -> None:
        self._text = b""
        self._program = argv[0]
        self._left = asyncio.Event()  # its process has ended, and others go on
        if any("\0" in item for item in (*env.values(), *argv)):
            raise ValueError("a NUL can't be handed over")  # it would end a variable
        options = _memory_file("options", options_of(bubblewrap, view))
        variables = _memory_file("environment", [f"{name}={env[name]}" for name in env])
        # Sockets, because the step could open a pipe's other end in /proc/1/fd.
        self._status, status = (end.detach() for end in socket.socketpair())
        os.set_blocking(self._status, False)
        self.pass_fds: tuple[int, ...] = (options, variables, status)
        entry = [sys.executable, "-I", "-S", sandbox_entry.__file__, str(status), str(variables)]
        self.argv = [bubblewrap.program, "--args", str(options), "--as-pid-1", "--", *entry, *argv]
        self.env = {"PATH": os.defpath, "LANG": "C.UTF-8", **marker}
        asyncio.get_running_loop().add_reader(self._status, self._read)

    def close_inherited(self) -> None:
        """Close what the process has inherited."""
        for fd in self.pass_fds:
            os.close(fd)
        self.pass_fds = ()

    async def left(self) -> None:
        """Return once the step's process has ended and left others behind; else never."""
        await self._left.wait()

    def end(self) -> SandboxedEnd:
        """Return what is known of the end; all there is once its processes are gone."""
        self._read()
        returncode, errno, started = None, None, False
        for line in self._text.decode("ascii", "replace").splitlines():
            word, _, number = line.partition(" ")
            value = int(number) if number.isdecimal() and len(number) <= 3 else 0
            if word == sandbox_entry.STARTED:
                started = True
            elif word == sandbox_entry.EXITED and returncode is None:
                returncode = min(value, 255)
            elif word == sandbox_entry.SIGNALLED and returncode is None:
                returncode = -min(max(value, 1), 64)
            elif word == sandbox_entry.FAILED:
                errno = value
        if errno is not None:  # what was told besides is of a process that was never the step's
            returncode, started = None, False
        return SandboxedEnd(
            program=self._program, returncode=returncode, errno=errno, started=started
        )

    def close(self) -> None:
        """Let go of everything; the processes are gone by then."""
        self.close_inherited()
        if self._status >= 0:
            asyncio.get_running_loop().remove_reader(self._status)
            os.close(self._status)
            self._status = -1

    def _read(self) -> None:
        if self._status < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while len(self._text) < _MOST_STATUS and (read := os.read(self._status, _MOST_STATUS)):
                self._text += read
            asyncio.get_running_loop().remove_reader(self._status)  # its end, or far too much
        if f"{sandbox_entry.LEFT}\n".encode() in self._text:
            self._left.set()


async def bubblewrap_for(ctx: RunContext, step: StepPlan, scope: Scope) -> Bubblewrap | None:
    """Return what the step is sandboxed with; None where it runs without, which is told.

    Raises:
        RefusedStepError: it must be sandboxed, and can't be.
    """
    if step.sandbox == "off":
        return None
    try:
        if _clones_a_folder(step, scope):
            raise UnusableError(
                "a folder of this machine isn't cloned in a sandbox",
                "clone it without, or by its address",
            )
        return await asyncio.to_thread(find_bubblewrap)
    except UnusableError as exc:
        if step.sandbox == "required":
            raise RefusedStepError(f"`sandbox: required` can't be kept: {exc}") from None
        _tell_unsandboxed(ctx, step, exc)
        return None


def _clones_a_folder(step: StepPlan, scope: Scope) -> bool:
    """Whether git would read a local repository, whose parts may lie anywhere."""
    if not isinstance(step.action, CloneAction):
        return False
    try:
        return parse_git_url(render(step.action.url, scope)).is_local
    except GitInputError:
        return False  # git isn't started for it, and the clone says why


def _tell_unsandboxed(ctx: RunContext, step: StepPlan, why: UnusableError) -> None:
    if step.id in ctx.unsandboxed:
        return
    steps = [step.id]
    if not isinstance(step.action, CloneAction):  # one notice for all that have the same reason
        steps = [item.id for item in ctx.plan.steps if item.sandbox == "on"]
    ctx.unsandboxed.update(steps)
    text = f"sandbox: true has no effect on {', '.join(steps)}: {why}"
    ctx.recorder.record(Notice(kind="unenforced", text=text))


def view_of(ctx: RunContext, step: StepPlan, places: Places, cwd: Path) -> View:
    """Return what the step sees in its sandbox: its own things, and programs."""
    settings, is_clone = ctx.settings, isinstance(step.action, CloneAction)
    readable = [*both_ways(ctx.run.artifacts), *both_ways(places.params)]
    if is_clone:
        trusted = (settings.git.known_hosts, settings.git.ca_file, "~/.ssh/known_hosts")
        for path in (Path(os.path.expanduser(name)) for name in trusted if name):  # noqa: PTH111 - never raises
            readable += both_ways(path) if path.is_file() else []
    hidden = [str(ctx.state.path), *filter(None, (settings.secrets_dir, settings.socket))]
    return View(
        system=_system(
            base_environment(settings.step_env)["PATH"],
            tuple(
                path
                for path in dict.fromkeys(map(os.path.realpath, hidden))
                if os.path.lexists(path)
            ),
        ),
        writable=[*both_ways(ctx.workspace), *both_ways(places.folder), *both_ways(ctx.cache)],
        readable=readable,
        state=ctx.state.path,
        tmp=places.tmp,
        cwd=cwd,
        network=is_clone if step.network is None else step.network,
    )


@functools.lru_cache(maxsize=4)
def _system(path: str, hidden: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return what `system_options` does for all steps of a run."""
    return system_options(system_binds(path.split(os.pathsep)), [Path(item) for item in hidden])


def _memory_file(name: str, items: Sequence[str]) -> int:
    """Return a descriptor of a file in memory with *items*, each ended by NUL."""
    fd = os.memfd_create(name)
    with open(fd, "wb", closefd=False) as file:
        file.write(b"".join(os.fsencode(item) + b"\0" for item in items))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
