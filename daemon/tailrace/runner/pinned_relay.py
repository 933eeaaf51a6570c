"""A way to pin addresses for a git that can't: a SOCKS server that knows one destination.

Git before 2.37 (Ubuntu 22.04 has 2.34) lacks ``http.curloptResolve``. It is
told to use this relay as its proxy instead, which connects to the addresses
that were checked, whatever it is asked for, and so reaches nothing else.
TLS passes through untouched and is still verified by the host's name.

Source: RFC 1928 (SOCKS 5), the part that curl speaks without a login.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Final

_CHUNK: Final = 65_536
_CONNECT_TIMEOUT: Final = 30.0  # seconds an address gets
_NO_LOGIN: Final = b"\x05\x00"
_CONNECTED: Final = b"\x05\x00\x00\x01" + bytes(6)
_UNREACHABLE: Final = b"\x05\x04\x00\x01" + bytes(6)


@contextmanager
def relay_to(addresses: Sequence[str], port: int) -> Iterator[str]:
    """Yield the proxy address of a relay to the first of *addresses* that answers on *port*."""

    class Connection(BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, EOFError):  # either end hung up; git tells
                _serve(self.request, addresses, port)

    class Relay(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Relay(("127.0.0.1", 0), Connection) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"socks5h://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _serve(client: socket.socket, addresses: Sequence[str], port: int) -> None:
    methods = _read(client, 2)[1]
    _read(client, methods)
    client.sendall(_NO_LOGIN)
    kind = _read(client, 4)[3]
    length = {1: 4, 4: 16}.get(kind) or _read(client, 1)[0]
    _read(client, length + 2)  # where to: not asked
    for address in addresses:
        try:
            server = socket.create_connection((address, port), timeout=_CONNECT_TIMEOUT)
        except OSError:
            continue
        with server:
            server.settimeout(None)
            client.sendall(_CONNECTED)
            _pump(client, server)
        return
    client.sendall(_UNREACHABLE)


def _read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = client.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes both ways until both ends have said all; a slow end slows the other."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while selector.get_map():
            for key, _ in selector.select():
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                if data := source.recv(_CHUNK):
                    sink.sendall(data)
                else:
                    selector.unregister(source)
                    sink.shutdown(socket.SHUT_WR)
