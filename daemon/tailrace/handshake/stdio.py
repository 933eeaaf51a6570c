"""A handshake over pipes: the server is a process of ours, a message a line."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from tailrace.handshake.session import HandshakeError, Message, Session, printable

MOST_BYTES: Final = 8 << 20  # that a server may print until the handshake is done
_MOST_GARBAGE: Final = 1_000  # lines
_CHUNK: Final = 1 << 16
_KEPT: Final = 4_096  # bytes of standard error, for its last line
_LEAVE_S: Final = 1.0  # to end by itself once its standard input has ended
_EXIT_S: Final = 5.0  # from closing its output to its end
_GRACE_S: Final = 0.5  # from SIGTERM to SIGKILL


class ServerProcess:
    """The server; a context manager that ends its process group.

    What left the group is the caller's to end: it is a subreaper.

    Raises:
        HandshakeError: the program can't be started.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._rest = b""  # of a line that isn't whole yet
        self._said = b""  # the end of standard error
        self._garbage = ""  # the first line that is no JSON
        self._garbage_lines = 0
        self._taken = 0
        try:
            self._process = subprocess.Popen(
                list(command), env=dict(env), cwd="/", stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            raise HandshakeError(f"'{printable(command[0])}' can't be started: {why}") from None

    def __enter__(self) -> ServerProcess:
        """Return it."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End it: as the protocol wants it by the end of its input, then by signals."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._wait(_LEAVE_S if exc[0] is None else 0)
        self._signal(signal.SIGTERM)
        self._wait(_GRACE_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def greet(self, session: Session) -> None:
        """Go through the handshake.

        Raises:
            HandshakeError: it fails.
            SystemExit: nobody wants to know any more.
        """
        self._send([session.begin()])
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with selectors.DefaultSelector() as selector:
            for pipe in (self._process.stdout, self._process.stderr, sys.stdin):
                selector.register(pipe, selectors.EVENT_READ)
            while not session.done:
                for key, _ in selector.select():
                    data = os.read(key.fd, _CHUNK)
                    self._taken += len(data)
                    if key.fileobj is sys.stdin:
                        sys.exit(1)  # whoever started us has gone
                    if key.fileobj is self._process.stdout:
                        if not data:
                            raise HandshakeError(self._ended(session))
                        self._take(session, data)
                    elif data:
                        self._said = (self._said + data)[-_KEPT:]
                    else:
                        selector.unregister(key.fileobj)
                    if self._taken > MOST_BYTES:
                        size = f"{MOST_BYTES >> 20} MiB"
                        raise HandshakeError(
                            f"it printed {size} and no answer to {session.waits_for}"
                        )

    def last_words(self) -> str:
        """Return what helps to see why: ``: `` and its last line of errors, or nothing."""
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        said = printable(lines[-1]) if lines else ""
        if not said and self._garbage:
            said = f"it printed '{self._garbage}', which is no JSON"
        return f": {said}" if said else ""

    def _take(self, session: Session, data: bytes) -> None:
        if b"\n" not in data:
            self._rest += data  # bounded by `MOST_BYTES`
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if session.done or not line.strip():
                continue
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                # Many print a banner first, and other clients pass over it, too.
                self._garbage = self._garbage or printable(line.decode("utf-8", "replace"))
                self._garbage_lines += 1
                if self._garbage_lines > _MOST_GARBAGE:
                    raise HandshakeError(f"it is no MCP server{self.last_words()}") from None
                continue
            self._send(session.take(message))

    def _send(self, messages: list[Message]) -> None:
        assert self._process.stdin is not None
        for message in messages:
            with contextlib.suppress(BrokenPipeError):  # it has ended, as its output will say
                self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def _ended(self, session: Session) -> str:
        assert self._process.stderr is not None
        self._wait(_EXIT_S)
        os.set_blocking(self._process.stderr.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            self._said = (self._said + os.read(self._process.stderr.fileno(), _CHUNK))[-_KEPT:]
        status = self._process.returncode
        how = "closed its output" if status is None else f"ended ({_told(status)})"
        return f"it {how} and gave no answer to {session.waits_for}{self.last_words()}"

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _told(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
