"""The end of ``/mcp`` that the SDK has: how it begins, and what a start that fails leaves."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from programs import require_package
from tailrace.http import mcp


def is_starting() -> bool:
    """Whether an endpoint's task is there."""
    return any(task.get_name() == "mcp" for task in asyncio.all_tasks())


async def go_away(endpoint: mcp.Endpoint) -> None:
    """Ask for the endpoint, and go away the moment it begins to start."""
    asked = asyncio.create_task(endpoint.manager())
    while not is_starting():  # noqa: ASYNC110 - the very next turn of the loop may be too late
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_a_client_that_goes_away_while_the_endpoint_starts_leaves_it_whole() -> None:
    """The next one gets what the first one began, and the daemon's stop ends it cleanly."""
    require_package("mcp")
    endpoint = mcp.Endpoint()
    await go_away(endpoint)

    second, third = await asyncio.gather(endpoint.manager(), endpoint.manager())

    assert second is third
    await endpoint.close()
    assert not is_starting()


async def test_an_endpoint_that_nobody_waits_for_any_more_ends_with_the_daemon() -> None:
    """Its only client went away while it started."""
    require_package("mcp")
    endpoint = mcp.Endpoint()
    await go_away(endpoint)

    await endpoint.close()

    assert not is_starting()


async def test_an_endpoint_that_cannot_start_tells_each_client_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for ever, and each request tries again."""
    tries = []

    def make_http_manager(_: object) -> None:
        tries.append(1)
        raise OSError("no room")

    module = SimpleNamespace(make_http_manager=make_http_manager)
    monkeypatch.setattr(mcp, "import_server", lambda: module)
    endpoint = mcp.Endpoint()

    for count in (1, 2):
        with pytest.raises(OSError, match="no room"):
            async with asyncio.timeout(5):
                await endpoint.manager()
        assert len(tries) == count
    await endpoint.close()
