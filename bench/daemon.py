"""A real daemon on a free port, and as thin a client as there can be."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench.workshop import LOG_LIMIT, SECRET, Workshop, workshop

_START_S: Final = 20.0
_RUN_S: Final = 60.0  # no benchmark's run takes as long
_FINAL: Final = ("success", "error", "aborted")


class Daemon:
    """A daemon that serves; made by `serving`."""

    def __init__(self, place: Workshop, process: subprocess.Popen[bytes]) -> None:
        self.place = place
        self.pid = process.pid
        self._process = process
        self.host, self.port, self._token = "", 0, ""

    def wait_ready(self) -> None:
        """Wait until it serves.

        Raises:
            RuntimeError: it ended, or took too long; with what it said.
        """
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                host, _, port = (self.place.state / "address").read_text().strip().rpartition(":")
                self._token = (self.place.state / "token").read_text().strip()
                self.host, self.port = host, int(port)
                if self.request("GET", "/readyz")[0] == 200:
                    return
            time.sleep(0.02)
        said = (self.place.folder / "daemon.log").read_text(errors="replace")
        raise RuntimeError(f"the daemon isn't ready:\n{said[-4000:]}")

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, open already."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        connection.connect()
        return connection

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs."""
        return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Ask on a connection of its own; return status and body."""
        connection = self.connect()
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def start(self, pipeline: str) -> str:
        """Start a run and return its id."""
        status, body = self.request("POST", "/api/v1/runs", {"pipeline": pipeline})
        if status != 201:
            raise RuntimeError(f"POST /runs: {status} {body.decode()}")
        run_id: str = json.loads(body)["id"]
        return run_id

    def view(self, run_id: str) -> dict[str, Any]:
        """Return a run."""
        status, body = self.request("GET", f"/api/v1/runs/{run_id}")
        if status != 200:
            raise RuntimeError(f"GET /runs/{run_id}: {status} {body.decode()}")
        view: dict[str, Any] = json.loads(body)
        return view

    def wait(
        self, run_id: str, *, status: tuple[str, ...] = _FINAL, within_s: float = _RUN_S
    ) -> dict[str, Any]:
        """Wait until the run has one of these statuses; return it.

        Raises:
            RuntimeError: it ended otherwise than by success, or takes too long.
        """
        deadline = time.monotonic() + within_s
        while (view := self.view(run_id))["status"] not in (*status, *_FINAL):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{view['ref']} is {view['status']} after {within_s:.0f} s")
            time.sleep(0.01)
        if view["status"] in ("error", "aborted"):
            raise RuntimeError(f"{view['ref']}: {view['status']}: {view['cause']}")
        return view

    def watch(self, run_id: str) -> socket.socket:
        """Open a run's event stream and return its socket, the answer's head unread.

        HTTP/1.0, so that the bytes aren't chunked: what follows the head is the
        stream, the same for every watcher, and ends with the connection.
        """
        sock = socket.create_connection((self.host, self.port), timeout=60)
        sock.sendall(
            f"GET /api/v1/runs/{run_id}/events HTTP/1.0\r\n"
            f"Host: {self.host}:{self.port}\r\n"
            f"Authorization: {self.headers['Authorization']}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        return sock

    def close(self) -> None:
        """Cancel what still runs, stop the daemon, and wait for both."""
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, RuntimeError):
            for run in json.loads(self.request("GET", "/api/v1/runs")[1])["runs"]:
                if run["status"] not in _FINAL:
                    self.request("POST", f"/api/v1/runs/{run['id']}/cancel", {})
                    with contextlib.suppress(RuntimeError):  # aborted, as was asked for
                        self.wait(run["id"])
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def serving(pipelines: Mapping[str, Any]) -> Iterator[Daemon]:
    """Give a daemon with these pipelines in a temporary state folder."""
    _raise_descriptor_limit()
    environ = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
    environ |= {"TAILRACE_LIMITS__LOG": f"{LOG_LIMIT >> 30}G", "TAILRACE_SECRET_SECRET": SECRET}
    with workshop(pipelines) as place, open(place.folder / "daemon.log", "wb") as log:
        process = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("tailrace")), "serve"),
                *("--listen", "127.0.0.1:0"),
                *("--state", str(place.state), "--pipelines", str(place.pipelines)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ,
        )
        daemon = Daemon(place, process)
        try:
            daemon.wait_ready()
            yield daemon
        finally:
            daemon.close()


def _raise_descriptor_limit() -> None:
    """Allow as many open files as the machine does: a thousand watchers are two thousand here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def step(*argv: str, **more: Any) -> dict[str, Any]:
    """Return a step that runs a command."""
    return {"command": list(argv), **more}
