"""The first process of a sandbox: starts the step's own, waits for it, and tells its true end.

Executed by its path inside the sandbox, as ``python -I -S sandbox_entry.py
STATUS ENV PROGRAM [ARGUMENT]…``, with two inherited descriptors: STATUS is a
socket that takes one line for each thing that happens, ENV holds the step's
environment as NAME=VALUE, each ended by NUL. Imports nothing but what the
interpreter has loaded anyway: every sandboxed step waits for it.

As PID 1 of its namespace it gets no signal that it doesn't ask for, reaps
orphans, and takes everything with it when it ends (pid_namespaces(7)). So it
ends only when nothing else is left, and leaves what outlives the step's own
process to the runner.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself takes 5 ms to import
import os
import sys

STARTED = "started"  # the step's process is about to exist
EXITED = "exited"  # exited STATUS
SIGNALLED = "signalled"  # signalled NUMBER
FAILED = "failed"  # failed ERRNO: its program couldn't be executed
LEFT = "left"  # its process has ended, and others go on

_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)  # ignored by the interpreter, and inherited


def main(argv: list[str]) -> int:
    """Run the step's process to its end and return how it ended, as a shell tells it."""
    status, environment = int(argv[1]), int(argv[2])
    os.set_inheritable(status, False)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # PID 1 doesn't get it then
    env = _environment(environment)
    leader = _start(argv[3:], env, status)
    result = 0
    while True:
        try:
            pid, code = os.waitpid(-1, 0)
        except ChildProcessError:
            return result
        if pid == leader:
            result = _tell(status, code)
            if _others():
                os.write(status, f"{LEFT}\n".encode())


def _environment(descriptor: int) -> dict[bytes, bytes]:
    with open(descriptor, "rb") as file:
        items = file.read().split(b"\0")
    return dict(item.split(b"=", 1) for item in items if item)


def _start(argv: list[str], env: dict[bytes, bytes], status: int) -> int:
    """Start the step's process in a session of its own; it tells itself why it can't be executed.

    Not through a pipe: whoever runs in here could open its other end in /proc/1/fd.
    """
    os.write(status, f"{STARTED}\n".encode())
    pid = os.fork()
    if pid == 0:
        try:
            for number in _BY_PYTHON:
                _signal.signal(number, _signal.SIG_DFL)
            os.setsid()
            os.execvpe(argv[0], argv, env)  # noqa: S606 - no shell is what is wanted
        except OSError as exc:
            os.write(status, f"{FAILED} {exc.errno}\n".encode())
        finally:
            os._exit(127)
    return pid


def _tell(status: int, code: int) -> int:
    if os.WIFSIGNALED(code):
        number = os.WTERMSIG(code)
        os.write(status, f"{SIGNALLED} {number}\n".encode())
        return 128 + number
    os.write(status, f"{EXITED} {os.WEXITSTATUS(code)}\n".encode())
    return os.WEXITSTATUS(code)


def _others() -> bool:
    """Whether processes are left, after reaping those that are dead."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


if __name__ == "__main__":
    sys.exit(main(sys.argv))
