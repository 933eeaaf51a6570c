"""A handshake over HTTP: the protocol's "Streamable HTTP", one POST a message."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from tailrace.handshake.session import HandshakeError, Message, Session, printable

_MOST_BYTES: Final = 8 << 20  # of all answers together
_CHUNK: Final = 1 << 16
_HEADER: Final = 256  # characters of a session's id


class HttpServer:
    """A server at an address. Nothing follows redirects, and no cookie is kept.

    ``timeout_s`` bounds each wait on a socket; the whole is the caller's to bound.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._parts = urlsplit(url)
        self._timeout_s = timeout_s
        self._id: str | None = None  # of the session, where the server has such
        self._taken = 0

    def greet(self, session: Session) -> None:
        """Go through the handshake.

        Raises:
            HandshakeError: it fails.
        """
        try:
            self._exchange(session, session.begin())
            if not session.done:
                raise HandshakeError(f"it gave no answer to {session.waits_for}")
        except TimeoutError:
            raise HandshakeError(
                f"it doesn't answer {session.waits_for} within {self._timeout_s:g}s"
            ) from None
        except OSError as exc:
            raise HandshakeError(f"it can't be reached: {exc.strerror or exc}") from None
        except (http.client.HTTPException, ValueError) as exc:
            why = printable(exc) or type(exc).__name__
            raise HandshakeError(f"it doesn't speak HTTP as it should: {why}") from None
        self._leave(session)

    def _exchange(self, session: Session, message: Message) -> None:
        """Send a message, take what is answered, and send what follows from that."""
        body = json.dumps(message).encode()
        with self._ask("POST", session, body) as response:
            self._id = (response.getheader("Mcp-Session-Id") or self._id or "")[:_HEADER] or None
            if response.status in (202, 204):
                return
            if not 200 <= response.status < 300:
                raise HandshakeError(_refusal(response))
            for found in self._messages(response):
                for answer in session.take(found):
                    self._exchange(session, answer)
                if session.done:
                    return

    def _messages(self, response: http.client.HTTPResponse) -> Iterator[Any]:
        kind = response.headers.get_content_type()
        if kind == "application/json":
            data = b"".join(iter(lambda: self._count(response.read1(_CHUNK)), b""))
            yield _decoded(data)
        elif kind == "text/event-stream":
            # WHATWG HTML, 9.2.6: the data lines of an event, ended by an empty line.
            lines: list[bytes] = []
            while line := self._count(response.readline(_MOST_BYTES)):
                if line.startswith(b"data:"):
                    lines.append(line[5:].strip())
                elif not line.strip() and lines:
                    yield _decoded(b"\n".join(lines))
                    lines = []
        else:
            raise HandshakeError(
                f"it answers with {printable(kind)}, and not with JSON; is that its MCP address?"
            )

    def _count(self, data: bytes) -> bytes:
        self._taken += len(data)
        if self._taken > _MOST_BYTES:
            raise HandshakeError(f"it answered with more than {_MOST_BYTES >> 20} MiB")
        return data

    @contextlib.contextmanager
    def _ask(
        self, method: str, session: Session, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        parts = self._parts
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=self._timeout_s)
        headers = {"Accept": "application/json, text/event-stream"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._id is not None:
            headers["Mcp-Session-Id"] = self._id
        if session.version is not None:
            headers["MCP-Protocol-Version"] = session.version
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, target, body, headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def _leave(self, session: Session) -> None:
        """End the session, so that the server keeps nothing; one that can't do that is fine."""
        if self._id is None:
            return
        with (
            contextlib.suppress(OSError, http.client.HTTPException, ValueError),
            self._ask("DELETE", session),
        ):
            pass


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        shown = printable(data.decode("utf-8", "replace"))
        raise HandshakeError(f"it answers '{shown}', which is no JSON") from None


def _refusal(response: http.client.HTTPResponse) -> str:
    text = f"it answers {response.status} {printable(response.reason)}".rstrip()
    if response.status in (401, 403):
        return f"{text}: it wants a login"
    if 300 <= response.status < 400:
        return f"{text}: give the address that this leads to"
    return text
