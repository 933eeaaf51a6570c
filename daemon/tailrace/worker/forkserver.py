"""Forks runners: a process that has imported everything and does nothing else.

``python -m tailrace.worker.forkserver --socket FD [--target MODULE:FUNCTION]``.
It has one thread, so forking it is safe, and it ends with the daemon, whose end
of the socket closes then. The runners it forked lead their own sessions and
stay.

On the socket, requests are 4 bytes of length (big-endian), with which the
descriptor of the run's lock travels (SCM_RIGHTS, unix(7)), and a `Request` as
JSON. Answers are `Answer` as JSON, one a line: one with ``pid`` or ``error``
for each run, in order, and one with ``exited`` for each runner. A request
without a run is only made ready for: the token shapes, which take a quarter of
a second to compile, are compiled here once for all runners, and so are the
readers of the settings.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures.thread  # noqa: F401 - loaded late otherwise, by each runner
import contextlib
import gc
import importlib
import os
import pwd
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tailrace import cgroup, wire
from tailrace.core.mask_rules import MaskRules
from tailrace.settings import Settings
from tailrace.undumpable import become_undumpable

TARGET: Final = "tailrace.runner.main:run"
HEADER: Final = 4
_FAILED: Final = 70  # EX_SOFTWARE, sysexits(3): the runner itself broke

Target = Callable[[Path, int, wire.Handover], int]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Start a runner, or make ready for those that come."""

    run_folder: str | None = None
    handover: wire.Handover


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it."""

    pid: int = 0
    error: str | None = None
    exited: int | None = None  # waitpid(2)'s status as an exit status, -N for a signal


_decoder: Final = msgspec.json.Decoder(Request)


class ForkServer:
    """The process's only object."""

    def __init__(self, sock: socket.socket, target: Target) -> None:
        self._sock = sock
        self._target = target
        self._children: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def serve(self) -> None:
        """Fork what is asked for until the daemon is gone."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._sock, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in self._selector.select()}
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._sock.fileno() in ready and not self._take_request():
                return

    def _take_request(self) -> bool:
        try:
            header, fds, _, _ = socket.recv_fds(self._sock, HEADER, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # the daemon was killed with answers unread
            return False
        body = header and self._read(HEADER - len(header))
        if not header or body is None:
            return False
        data = self._read(int.from_bytes(header + body))
        if data is None:
            return False
        request = _decoder.decode(data)
        if request.run_folder is None:
            # What these leave in caches, every runner finds there.
            MaskRules({}, request.handover.shapes).mask_text("ready")
            msgspec.convert(request.handover.settings, Settings)
            gc.freeze()
            return True
        if not fds:
            return False  # a run comes with its lock: whoever sent this is no daemon of ours
        try:
            self._fork(request, Path(request.run_folder), fds[0])
        except OSError as exc:  # no more processes, or memory
            self._answer(Answer(error=f"fork: {exc.strerror}"))
        finally:
            os.close(fds[0])
        return True

    def _read(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            chunk = self._sock.recv(min(size - len(data), 1 << 20))
            if not chunk:
                return None
            data += chunk
        return bytes(data)

    def _fork(self, request: Request, folder: Path, lock_fd: int) -> None:
        pid = os.fork()
        if pid == 0:
            status = _FAILED
            try:
                status = self._become_runner(folder, lock_fd, request.handover)
            except BaseException:  # noqa: BLE001 - the root of a process: told in runner.log, then it ends
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        self._children.add(pid)
        self._answer(Answer(pid=pid))

    def _become_runner(self, folder: Path, lock_fd: int, handover: wire.Handover) -> int:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _redirect(folder / "runner.log")
        self._selector.close()
        for fd in (self._sock.detach(), self._woken, self._wake):
            os.close(fd)
        return self._target(folder, lock_fd, handover)

    def _reap(self) -> None:
        for child in tuple(self._children):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                self._children.discard(pid)
                self._answer(Answer(pid=pid, exited=os.waitstatus_to_exitcode(status)))

    def _answer(self, answer: Answer) -> None:
        # Where the daemon is gone, the next read says so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(wire.encode_json(answer) + b"\n")


def _redirect(log: Path) -> None:
    """Point the standard streams elsewhere, so that a runner keeps nothing of the daemon's open."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError:  # the disk: the runner tells that in the journal, as soon as it takes it
        out = os.dup(null)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(null)
    os.close(out)


def load_target(name: str) -> Target:
    """Return the function that ``MODULE:FUNCTION`` names."""
    module, _, function = name.partition(":")
    target: Target = getattr(importlib.import_module(module), function)
    return target


def main() -> None:
    """Serve on the descriptor that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--target", default=TARGET)
    arguments = parser.parse_args()
    become_undumpable()  # hand-overs pass through this memory; runners inherit it
    os.umask(0o077)
    os.chdir("/")
    target = load_target(arguments.target)
    # Done once before, these take a runner microseconds: the first look-up of an account loads
    # its libraries (7 ms), and the first event loop its selector and signals (1.5 ms).
    pwd.getpwuid(os.getuid())
    asyncio.run(asyncio.sleep(0))
    cgroup.why_unusable()
    # What was imported is shared with the runners as long as no collector writes to it.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=arguments.socket) as sock:
        ForkServer(sock, target).serve()


if __name__ == "__main__":
    main()
