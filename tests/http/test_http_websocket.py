"""The WebSocket's rules: who may open one, from where, and what it costs the daemon."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from http_site import Site, WrittenRun, open_site, until
from tailrace import wire
from tailrace.http import auth, websocket

OURS = frozenset({"http://localhost:8470"})


@pytest.mark.parametrize(
    ("origin", "how", "taken"),
    [
        (None, "bearer", True),
        (None, "socket", True),
        (None, "cookie", False),
        ("http://localhost:8470", "cookie", True),
        ("HTTP://LOCALHOST:8470", "bearer", True),
        ("http://localhost:3000", "cookie", False),
        ("http://localhost:3000", "bearer", False),
        ("https://app.example", "cookie", False),
        ("https://app.example", "bearer", True),
        ("null", "bearer", False),
    ],
)
def test_a_websocket_is_taken_from_our_pages_and_allowed_ones(
    origin: str | None, how: str, taken: bool
) -> None:
    """A page brings its origin; a cookie is for our own page alone."""
    assert auth.websocket_is_ours(origin, how, OURS, ["https://app.example"]) is taken


def finished(site: Site) -> WrittenRun:
    """A run of five events."""
    run = site.worker.new_run()
    run.started()
    run.step_started("clone")
    run.finished()
    return run


async def told(site: Site, path: str, **headers: str) -> tuple[list[Any], int | None]:
    """Read a connection to its end; return what came, and the close code."""
    async with site.client.ws_connect(site.base + path, headers={**site.bearer, **headers}) as ws:
        return [json.loads(message.data) async for message in ws], ws.close_code


async def refused(site: Site, path: str, headers: dict[str, str]) -> int:
    """Return the status by which an upgrade is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await site.client.ws_connect(site.base + path, headers=headers)
    return caught.value.status


async def test_what_is_wrong_is_told_before_the_upgrade(tmp_path: Path) -> None:
    """By the statuses of every other request."""
    async with open_site(tmp_path, allowed_origins=("https://app.example",)) as site:
        run = finished(site)
        path = f"/api/v1/runs/{run.id}/ws"
        login = await site.get(f"/?token={site.token}")
        cookie = {"Cookie": login.headers["Set-Cookie"].partition(";")[0]}
        assert await refused(site, path, {}) == 401
        assert await refused(site, path, {**site.bearer, "Origin": "http://evil.example"}) == 403
        assert await refused(site, path, {**site.bearer, "Host": "evil.example"}) == 403
        assert await refused(site, path, cookie) == 403
        assert await refused(site, path, {**cookie, "Origin": "https://app.example"}) == 403
        assert await refused(site, f"{path}?after=6", site.bearer) == 422
        assert await refused(site, f"{path}?afer=1", site.bearer) == 422
        assert await refused(site, "/api/v1/runs/clone/9/ws", site.bearer) == 404
        narrowed = site.make_token("read", pipelines=["other"])
        assert await refused(site, path, narrowed) == 404
        reply = await site.get(path)
        assert (reply.status, reply.headers["Upgrade"]) == (426, "websocket")
        handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        reply = await site.get(path, headers={**handshake, "Sec-WebSocket-Key": "short"})
        assert reply.status == 400
        assert "16 bytes" in reply.problem["detail"]
        for headers in (
            {**site.bearer, "Origin": "https://app.example"},
            {**cookie, "Origin": site.base, "Authorization": ""},
        ):
            ws = await site.client.ws_connect(
                site.base + path, headers={k: v for k, v in headers.items() if v}
            )
            assert json.loads((await ws.receive()).data)["event"] == "plan"
            await ws.close()


async def test_the_data_is_that_of_the_stream_and_a_run_is_resumed_by_number(site: Site) -> None:
    """Under the same names, to the last event; then 1000."""
    run = finished(site)
    path = f"/api/v1/runs/{run.id}"
    streamed = [event.json for event in await site.events(f"{path}/events")]
    messages, code = await told(site, f"{path}/ws")
    assert code == 1000
    assert [message["data"] for message in messages] == streamed
    assert [message["event"] for message in messages] == [event["event"] for event in streamed]
    assert (await told(site, f"/api/v1/runs/{run.ref}/ws?after={run.id}:3")) == (messages[3:], 1000)
    assert (await told(site, f"{path}/ws", **{"Last-Event-ID": "4"})) == (messages[4:], 1000)
    assert (await told(site, f"{path}/ws?after=5")) == ([], 1000)


async def test_watching_needs_read_and_steering_what_its_command_needs(site: Site) -> None:
    """A token that ends while the connection is open steers no more."""
    run = site.worker.new_run()
    url = f"{site.base}/api/v1/runs/{run.id}/ws?after=2"
    reader, steerer = site.make_token("read"), site.make_token("run")
    token = site.tokens.list()[-1]
    name = token.name

    async def answer(ws: Any, command: str) -> Any:
        await ws.send_str(json.dumps({"event": command, "id": 5}))
        return (await ws.receive_json())["data"]

    async with site.client.ws_connect(url, headers=reader) as ws:
        for command in ("cancel", "retry"):
            said = await answer(ws, command)
            assert (said["command"], said["id"]) == (command, 5)
            assert "'run' is needed" in said["reason"]
    assert site.worker.commands == []
    async with site.client.ws_connect(url, headers=steerer) as ws:
        assert (await answer(ws, "retry"))["state"] == "running"
        site.worker.reply = wire.Reply(status="conflict", reason="no", state="paused")
        said = await answer(ws, "pause")
        assert (said["reason"], said["state"]) == ("no", "paused")
        site.tokens.revoke(name, now=0.0)
        assert "revoked" in (await answer(ws, "cancel"))["reason"]
    ((_, sent),) = site.worker.commands
    assert (sent.command, sent.by, sent.via) == ("pause", name, "ws")
    assert sent.id == f"{token.id}:{hashlib.sha256(b'5').hexdigest()}"


async def test_a_client_that_takes_nothing_is_bounded_and_holds_up_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one gets all meanwhile; a message that is too large ends its own connection."""
    monkeypatch.setattr(websocket, "HEARTBEAT_S", 0.05)
    run = site.worker.new_run()
    run.started()
    run.step_started("clone")
    path = f"/api/v1/runs/{run.id}/ws"
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {site.server.address}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {site.token}\r\n\r\n"
    )
    async with (
        site.raw(head.encode()) as (slow, _),
        site.client.ws_connect(site.base + path, headers=site.bearer, max_msg_size=0) as fast,
    ):
        await slow.readuntil(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
        for number in range(200):
            run.log("clone", b"%06d " % number + b"x" * 100_000 + b"\n")
        run.finished()
        events = [json.loads(message.data)["event"] async for message in fast]
        assert events.count("log") == 200
        assert events[-1] == "summary"
        await until(lambda: site.worker.watching[run.id] == 1)
        figures = (await site.get("/metrics")).body.decode()
        (held,) = [x for x in figures.splitlines() if x.startswith("tailrace_in_flight_bytes ")]
        assert float(held.split()[1]) < 500_000
    await until(lambda: site.worker.watching[run.id] == 0)
    async with site.client.ws_connect(
        site.base + path + "?after=4", headers=site.bearer, max_msg_size=0
    ) as ws:
        await ws.send_str("x" * (1 << 18) + "x")
        while (message := await ws.receive()).type != aiohttp.WSMsgType.CLOSE:
            assert message.type is aiohttp.WSMsgType.TEXT
        assert message.data == 1009


async def test_a_quiet_connection_is_kept_and_a_stop_of_the_daemon_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pings go out while nothing happens; 1001 tells a client to come back."""
    monkeypatch.setattr(websocket, "HEARTBEAT_S", 0.02)
    async with aiohttp.ClientSession() as client:
        async with open_site(tmp_path) as site:
            run = site.worker.new_run()
            url = f"{site.base}/api/v1/runs/{run.id}/ws?after=2"
            ws = await client.ws_connect(url, headers=site.bearer, autoping=False)
            for _ in range(2):
                assert (await ws.receive()).type is aiohttp.WSMsgType.PING
            stopping = asyncio.create_task(_closed(ws))
        assert await stopping == 1001


async def _closed(ws: aiohttp.ClientWebSocketResponse) -> int | None:
    async for _ in ws:
        pass
    return ws.close_code
