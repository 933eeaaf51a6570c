"""``python -m tailrace.handshake``: one MCP server, asked whether it is there.

The question is a line of JSON on standard input, ``{command, url, step_env,
timeout_s}``, which stays open as long as somebody wants to know. The answer is
``{alive, tools, error}`` on standard output.

A server is somebody's program and may do anything. So it is started by a
process of its own, which is a subreaper: whatever the server starts, however
it hides, is below this process, and is killed before it ends.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from types import FrameType
from typing import Any

from tailrace.handshake.http import HttpServer
from tailrace.handshake.session import HandshakeError, Session
from tailrace.handshake.stdio import ServerProcess
from tailrace.runner.containment import become_subreaper, end_descendants
from tailrace.runner.environment import base_environment


class _LateError(Exception):
    """The time is over."""


def main() -> int:
    """Ask, answer, and leave no process."""
    become_subreaper()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGALRM, _late)
    try:
        answer = _ask(json.loads(sys.stdin.buffer.readline()))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        asyncio.run(end_descendants())
    sys.stdout.write(json.dumps(answer))
    return 0


def _ask(asked: dict[str, Any]) -> dict[str, Any]:
    session = Session()
    try:
        _greet(session, asked)
    except HandshakeError as exc:
        return {"alive": False, "tools": [], "error": str(exc)}
    return {"alive": True, "tools": session.tools, "error": None}


def _greet(session: Session, asked: dict[str, Any]) -> None:
    """Go through the handshake within its time."""
    timeout_s, words = asked["timeout_s"], ""
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        if asked["url"]:
            HttpServer(asked["url"], timeout_s=timeout_s).greet(session)
        else:
            with ServerProcess(asked["command"], base_environment(asked["step_env"])) as server:
                try:
                    server.greet(session)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    words = server.last_words()
    except _LateError:
        if session.done:
            return  # it was slow to end the session only
        raise HandshakeError(
            f"it doesn't answer {session.waits_for} within {timeout_s:g}s{words}"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _late(number: int, frame: FrameType | None) -> None:
    raise _LateError


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
