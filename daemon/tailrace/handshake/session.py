"""The client's side of a handshake, without I/O: messages in, messages out.

That is ``initialize``, ``notifications/initialized`` and ``tools/list`` of the
Model Context Protocol (revision 2025-06-18), JSON-RPC 2.0 underneath. Nothing
else is asked of a server, and no tool is ever called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tailrace import __version__

PROTOCOL: Final = "2025-06-18"
_MOST_TOOLS: Final = 1_000
_MOST_PAGES: Final = 100
_LONGEST: Final = 200  # characters of a name or a message that we repeat
_METHOD_NOT_FOUND: Final = -32_601  # JSON-RPC 2.0, section 5.1

Message = dict[str, Any]


class HandshakeError(Exception):
    """The server isn't there, or is none; ``str()`` says why."""


class Session:
    """One handshake: `begin`, then `take` for each message of the server, until `done`."""

    def __init__(self) -> None:
        self.done = False
        self.tools: list[str] = []
        self.version: str | None = None  # of the protocol, once the server has chosen one
        self.waits_for = "initialize"  # the request that isn't answered yet
        self._number = 0
        self._pages = 0

    def begin(self) -> Message:
        """Return the first message."""
        return self._request(
            "initialize",
            protocolVersion=PROTOCOL,
            capabilities={},
            clientInfo={"name": "tailrace", "version": __version__},
        )

    def take(self, message: object) -> list[Message]:
        """Take what the server sent; return what is sent to it then.

        Raises:
            HandshakeError: it refuses, or its answer makes no sense.
        """
        if isinstance(message, list):  # a batch: revisions before 2025-06-18 had them
            return [answer for item in message for answer in self.take(item)]
        if not isinstance(message, Mapping) or message.get("jsonrpc") != "2.0":
            raise HandshakeError("it sends JSON that is no JSON-RPC 2.0")
        if "method" in message:
            return [] if message.get("id") is None else [_reply(message)]
        if message.get("id") != self._number or self.done:
            return []
        if "error" in message:
            error = message["error"]
            text = error.get("message") if isinstance(error, Mapping) else error
            raise HandshakeError(f"it refuses {self.waits_for}: {printable(text)}")
        result = message.get("result")
        if not isinstance(result, Mapping):
            raise HandshakeError(f"its answer to {self.waits_for} has no result")
        return self._initialized(result) if self.version is None else self._listed(result)

    def _initialized(self, result: Mapping[str, Any]) -> list[Message]:
        version, capabilities = result.get("protocolVersion"), result.get("capabilities")
        if not isinstance(version, str) or not isinstance(capabilities, Mapping):
            raise HandshakeError("its answer to initialize lacks protocolVersion or capabilities")
        self.version = printable(version)
        told: Message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        if "tools" not in capabilities:
            self.done = True  # a server of resources or prompts alone
            return [told]
        return [told, self._request("tools/list")]

    def _listed(self, result: Mapping[str, Any]) -> list[Message]:
        tools = result.get("tools")
        if not isinstance(tools, list):
            raise HandshakeError("its answer to tools/list has no tools")
        names = [tool.get("name") for tool in tools if isinstance(tool, Mapping)]
        self.tools += [printable(name) for name in names if isinstance(name, str)]
        del self.tools[_MOST_TOOLS:]
        self._pages += 1
        cursor = result.get("nextCursor")
        if cursor is None or self._pages >= _MOST_PAGES or len(self.tools) >= _MOST_TOOLS:
            self.done = True
            return []
        return [self._request("tools/list", cursor=cursor)]

    def _request(self, method: str, **params: Any) -> Message:
        self._number += 1
        self.waits_for = method
        return {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}


def _reply(request: Mapping[str, Any]) -> Message:
    """Answer what the server asks of us: that we live, and nothing else."""
    head = {"jsonrpc": "2.0", "id": request["id"]}
    if request["method"] == "ping":
        return {**head, "result": {}}
    return {**head, "error": {"code": _METHOD_NOT_FOUND, "message": "not part of this client"}}


def printable(value: object) -> str:
    """Return what a server said as a line that can be shown, cut where it is long."""
    text = " ".join(str(value).split())
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
