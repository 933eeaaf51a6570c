"""The official MCP client, towards ``tailrace mcp`` and towards ``/mcp``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from programs import require_package


class Agent:
    """What an agent does with its client."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool that must succeed; return its structured result."""
        answer = await self.client.call_tool(tool, arguments)
        assert not answer.is_error, answer.content
        return answer.structured_content

    async def text(self, tool: str, **arguments: Any) -> str:
        """Call a tool that must succeed; return its text."""
        answer = await self.client.call_tool(tool, arguments)
        assert not answer.is_error, answer.content
        (content,) = answer.content
        return str(content.text)

    async def refused(self, tool: str, **arguments: Any) -> str:
        """Call a tool that must be refused; return the sentence."""
        answer = await self.client.call_tool(tool, arguments)
        assert answer.is_error, answer.structured_content
        (content,) = answer.content
        assert "Traceback" not in content.text
        return str(content.text)


@asynccontextmanager
async def over_http(url: str, token: str, *, mode: str = "auto") -> AsyncIterator[Agent]:
    """Give an agent of a daemon; *mode* ``legacy`` is the handshake of older clients."""
    require_package("mcp")
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    headers = {"Authorization": f"Bearer {token}"}
    async with create_mcp_http_client(headers=headers) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield Agent(client)


@asynccontextmanager
async def over_stdio(
    args: Sequence[str], *, env: Mapping[str, str], folder: Path
) -> AsyncIterator[Agent]:
    """Give an agent that has started ``tailrace mcp``."""
    require_package("mcp")
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    server = StdioServerParameters(
        command=sys.executable, args=["-m", "tailrace.cli.main", "mcp", *args], env=dict(env),
        cwd=folder,
    )  # fmt: skip
    with (folder / "mcp.log").open("a") as log:
        async with Client(stdio_client(server, errlog=log)) as client:
            yield Agent(client)
