"""An MCP server, real and small, as a program over pipes and as a server over HTTP.

``python mcp_server.py HOW``: ``well`` answers; the others are what goes wrong.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

TOOLS = ("search", "read", "quote")


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    """What a server answers; tools come one a page."""
    method, result = message["method"], {}
    if method == "initialize":
        assert message["params"]["clientInfo"]["name"] == "tailrace"
        result = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "small", "version": "1"},
        }
    elif method == "tools/list":
        place = int(message["params"].get("cursor", "0"))
        result = {"tools": [{"name": TOOLS[place], "inputSchema": {"type": "object"}}]}
        if place + 1 < len(TOOLS):
            result["nextCursor"] = str(place + 1)
    if "id" not in message:
        return None
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _serve() -> None:
    """Answer line by line, and ask something back, as servers may."""
    sys.stdout.write("small server, version 1\n")  # a banner, which is no JSON
    ask = {"jsonrpc": "2.0", "id": "s1", "method": "ping"}
    initialized = False
    for line in sys.stdin:
        message = json.loads(line)
        if "method" not in message:
            assert message == {"jsonrpc": "2.0", "id": "s1", "result": {}}
            continue
        initialized |= message["method"] == "notifications/initialized"
        assert initialized or message["method"] == "initialize"
        if (said := answer(message)) is not None:
            _send(said)
        if message["method"] == "notifications/initialized":
            _send(ask)


def _refuse() -> None:
    message = json.loads(sys.stdin.readline())
    error = {"code": -32000, "message": "no licence\x1b[2J"}
    _send({"jsonrpc": "2.0", "id": message["id"], "error": error})
    time.sleep(600)


def _die() -> None:
    sys.stdin.readline()
    sys.stderr.write("starting\nAPI_KEY is not set\n")
    sys.exit(3)


def _flood() -> None:
    block = b"x" * (1 << 20)
    for _ in range(1 << 10):  # a GiB in one line
        os.write(1, block)


def _chatter() -> None:
    for number in range(1 << 30):
        sys.stdout.write(f"line {number}\n")


def _garbage() -> None:
    _send({"jsonrpc": "1.0", "result": 5})
    time.sleep(600)


def _hide(place: str) -> None:
    """Leave processes that hide, note them, and ignore what is politely asked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hidden = subprocess.Popen(
        ["sleep", "600"], env={}, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    Path(place).write_text(f"{os.getpid()} {hidden.pid}\n")


def main() -> None:
    """Behave as the first argument says."""
    how, *more = sys.argv[1:]
    match how:
        case "well":
            _serve()
        case "refuse":
            _refuse()
        case "die":
            _die()
        case "flood":
            _flood()
        case "chatter":
            _chatter()
        case "garbage":
            _garbage()
        case "hang":
            _hide(*more)
            time.sleep(600)
        case "hide":
            _hide(*more)
            _refuse()
        case _:
            raise SystemExit(f"unknown: {how}")


def command(how: str, *more: str) -> tuple[str, ...]:
    """The command line of such a server."""
    return (sys.executable, "-I", __file__, how, *more)


class HttpSite:
    """A server over HTTP: its address, and what it was asked, in order."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def serving_http(how: str) -> Iterator[HttpSite]:
    """Serve on loopback: ``json``, ``stream``, or ``redirect``, ``login``, ``html``, ``drip``."""
    site = HttpSite(how)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_DELETE(self) -> None:
            assert self.headers["Mcp-Session-Id"] == "s-1"
            site.asked.append("DELETE")
            self._say(200, "text/plain", b"")

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            site.asked.append(message["method"])
            if message["method"] != "initialize":
                assert self.headers["Mcp-Session-Id"] == "s-1"
                assert self.headers["MCP-Protocol-Version"] == "2025-06-18"
            said = answer(message)
            if site.how == "redirect":
                self._say(307, "text/plain", b"")
            elif site.how == "login":
                self._say(401, "text/plain", b"")
            elif site.how == "html":
                self._say(200, "text/html", b"<p>hello")
            elif site.how == "drip":
                self._drip()
            elif said is None:
                self._say(202, "text/plain", b"")
            elif site.how == "stream":
                note = b'data: {"jsonrpc":"2.0","method":"notifications/message"}\n\n'
                data = json.dumps(said).encode()
                self._say(200, "text/event-stream", b": hi\n" + note + b"data: " + data + b"\n\n")
            else:
                self._say(200, "application/json", json.dumps(said).encode())

        def _say(self, status: int, media: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Mcp-Session-Id", "s-1")
            self.end_headers()
            self.wfile.write(body)

        def _drip(self) -> None:
            """Never be silent long enough for a timeout of the socket, and never end."""
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b":\n")
                    time.sleep(0.02)
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}/mcp"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    main()
