"""Starts runners: cold, or by a fork server, which takes a tenth of the time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable

import msgspec

from tailrace import wire
from tailrace.task_end import end_task
from tailrace.worker import forkserver
from tailrace.worker.prepared import Accepted

_answer_decoder = msgspec.json.Decoder(forkserver.Answer)


def spawn_runner(accepted: Accepted) -> subprocess.Popen[bytes]:
    """Start a runner for *accepted* in a new interpreter; our copy of the lock is closed.

    It leads a session of its own and outlives us. What it says outside the
    journal is in ``runner.log``. The hand-over goes through its standard input.

    Raises:
        OSError: no process could be started; the lock is free.
    """
    fd = accepted.lock_fd
    argv = [sys.executable, "-P", "-m", "tailrace.runner", str(accepted.run.path)]
    try:
        with open(accepted.run.path / "runner.log", "ab") as log:
            process = subprocess.Popen(
                [*argv, "--lock-fd", str(fd)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=(fd,),
                start_new_session=True,
            )
    finally:
        os.close(fd)
    assert process.stdin is not None
    # A runner that died at once is told by its lock, which is free.
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(wire.encode_json(accepted.handover))
    return process


class ForkServerGoneError(ConnectionError):
    """The fork server ended; whether the runner lives, its lock tells."""


class ForkServer:
    """A fork server's end in the daemon; started again by whoever finds it gone.

    ``on_exit`` is called with pid and exit status of each runner that ended.
    ``target`` is the function that a runner calls, as ``MODULE:FUNCTION``.
    `make_ready` says what most runs will need.
    """

    def __init__(
        self, on_exit: Callable[[int, int], None], *, target: str = forkserver.TARGET
    ) -> None:
        self._on_exit = on_exit
        self._target = target
        self._usual: wire.Handover | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._sock: socket.socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: deque[asyncio.Future[int]] = deque()
        self._starting = asyncio.Lock()  # two runs may find it gone at once
        self._sending = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process's id, while it is known to live."""
        return self._process.pid if self._process and self._sock else None

    async def start(self) -> None:
        """Start the process, unless it lives; it is ready when it answers the first request.

        Raises:
            OSError: no process could be started.
        """
        async with self._starting:
            if self._sock is None:
                await self._start()

    async def _start(self) -> None:
        await self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        argv = [sys.executable, "-P", "-m", "tailrace.worker.forkserver"]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                *("--socket", str(theirs.fileno()), "--target", self._target),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._sock = ours
        if self._usual is not None:
            await self.make_ready(self._usual)
        self._reader = asyncio.create_task(self._read(ours), name="fork server answers")

    async def spawn(self, accepted: Accepted) -> int:
        """Start a runner for *accepted* and return its pid; our copy of the lock stays open.

        Raises:
            ForkServerGoneError: the server ended before it answered.
            OSError: it can't fork.
        """
        folder = str(accepted.run.path)
        request = forkserver.Request(run_folder=folder, handover=accepted.handover)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await self._send(request, accepted.lock_fd, answer)
        return await answer

    async def make_ready(self, usual: wire.Handover) -> None:
        """Have prepared what all hand-overs share: shapes and settings; others work, and wait."""
        self._usual = usual
        if self._sock is not None:
            with contextlib.suppress(ForkServerGoneError):  # the next start does it
                await self._send(forkserver.Request(handover=usual))

    async def _send(
        self,
        request: forkserver.Request,
        lock_fd: int | None = None,
        answer: asyncio.Future[int] | None = None,
    ) -> None:
        body = wire.encode_json(request)
        async with self._sending:
            if self._sock is None:
                raise ForkServerGoneError("the fork server is gone")
            if answer is not None:
                self._answers.append(answer)
            try:
                await _send_with_fd(self._sock, len(body).to_bytes(forkserver.HEADER), lock_fd)
                await asyncio.get_running_loop().sock_sendall(self._sock, body)
            except OSError as exc:
                self._drop()
                raise ForkServerGoneError("the fork server is gone") from exc

    async def _read(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        buffer = b""
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(sock, 1 << 16):
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self._take(_answer_decoder.decode(line))
        if sock is self._sock:
            self._drop()

    def _take(self, answer: forkserver.Answer) -> None:
        if answer.exited is not None:
            self._on_exit(answer.pid, answer.exited)
            return
        waiting = self._answers.popleft()
        if waiting.done():  # whoever asked was cancelled
            return
        if answer.error is not None:
            waiting.set_exception(OSError(answer.error))
        else:
            waiting.set_result(answer.pid)

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        while self._answers:
            waiting = self._answers.popleft()
            if not waiting.done():
                waiting.set_exception(ForkServerGoneError("the fork server is gone"))

    async def close(self) -> None:
        """Let the process end, and wait for it; runners stay."""
        if self._reader is not None:
            await end_task(self._reader)
            self._reader = None
        self._drop()
        if self._process is not None:
            await self._process.wait()
            self._process = None


async def _send_with_fd(sock: socket.socket, data: bytes, fd: int | None) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            sent = socket.send_fds(sock, [data], [] if fd is None else [fd])
            break
        except BlockingIOError:
            writable: asyncio.Future[None] = loop.create_future()
            loop.add_writer(sock, writable.set_result, None)
            try:
                await writable
            finally:
                loop.remove_writer(sock)
    await loop.sock_sendall(sock, data[sent:])
