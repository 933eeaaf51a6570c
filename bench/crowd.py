"""A thousand watchers of one run that prints a thousand lines a second."""

from __future__ import annotations

import json
import selectors
import socket
import time
import zlib

from bench.daemon import Daemon, serving
from bench.figure import Figure, Goal
from bench.usage import cpu_s
from bench.workshop import PRODUCER

_LINES_PER_S = 1000


class Watcher:
    """One client; it keeps a checksum of what came, and the first of them everything."""

    def __init__(self, sock: socket.socket, *, keep: bool) -> None:
        self.sock = sock
        self.kept = bytearray()
        self.sum = self.size = 0
        self._head: bytes | None = b""  # what came of the answer's head, until it is whole
        self._keep = keep

    def take(self, data: bytes) -> None:
        """Count what came."""
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise RuntimeError(f"a watcher was refused: {head.decode()}")
            self._head = None
        self.sum = zlib.crc32(data, self.sum)
        self.size += len(data)
        if self._keep:
            self.kept += data


def measure(*, quick: bool) -> list[Figure]:
    """Return the daemon's CPU, and how many watchers missed something."""
    watchers, lines = (20, 500) if quick else (1000, 5 * _LINES_PER_S)
    stream = (*PRODUCER, "stream", str(lines), str(_LINES_PER_S))
    # The step says nothing before everyone watches: it waits for a file.
    steps = {"talk": {"command": [*stream, "${{ params.go }}"]}}
    pipelines = {"talk": {"params": {"go": {"required": True}}, "steps": steps}}
    with serving(pipelines) as daemon:
        go = daemon.place.folder / "go"
        status, body = daemon.request(
            "POST", "/api/v1/runs", {"pipeline": "talk", "params": {"go": str(go)}}
        )
        if status != 201:
            raise RuntimeError(f"POST /runs: {status} {body.decode()}")
        run_id = json.loads(body)["id"]
        crowd = [Watcher(daemon.watch(run_id), keep=number == 0) for number in range(watchers)]
        _await_heads(daemon, crowd)
        before, began = cpu_s(daemon.pid), time.monotonic()
        go.touch()
        _read_all(crowd)
        elapsed = time.monotonic() - began
        cores = (cpu_s(daemon.pid) - before) / elapsed
        daemon.wait(run_id)
    missed = _missed(crowd, lines)
    what = f"{watchers} SSE clients, {_LINES_PER_S} lines/s, {elapsed:.1f} s"
    return [
        Figure(
            name="a crowd", value=cores, unit="cores", goal=Goal(kind="most", limit=0.5),
            note=f"CPU of the daemon; {what}",
        ),
        Figure(
            name="a crowd, missing", value=missed, unit="watchers",
            goal=Goal(kind="most", limit=0),
            note="watchers whose stream isn't the whole journal, byte for byte",
        ),
    ]  # fmt: skip


def _await_heads(daemon: Daemon, crowd: list[Watcher]) -> None:
    """Wait until every watcher has been answered."""
    deadline = time.monotonic() + 20
    for watcher in crowd:
        watcher.sock.settimeout(max(0.1, deadline - time.monotonic()))
        watcher.take(watcher.sock.recv(1 << 16))
        watcher.sock.setblocking(False)


def _read_all(crowd: list[Watcher]) -> None:
    """Read every stream to its end."""
    with selectors.DefaultSelector() as selector:
        for watcher in crowd:
            selector.register(watcher.sock, selectors.EVENT_READ, watcher)
        while selector.get_map():
            for key, _ in selector.select():
                watcher = key.data
                if data := watcher.sock.recv(1 << 18):
                    watcher.take(data)
                else:
                    selector.unregister(watcher.sock)
                    watcher.sock.close()


def _missed(crowd: list[Watcher], lines: int) -> int:
    """Return how many streams differ from the first, which must hold every line once."""
    first = crowd[0]
    seen = 0
    for event in bytes(first.kept).split(b"\n\n"):
        if b"event: log\n" not in event:
            continue
        data = json.loads(event.partition(b"\ndata: ")[2])
        if data["line"] != seen + 1:
            return len(crowd)
        seen += data["text"].count("\n") + 1
    if seen != lines:
        return len(crowd)
    return sum((watcher.sum, watcher.size) != (first.sum, first.size) for watcher in crowd)
