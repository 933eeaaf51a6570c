"""The whole daemon: a real worker, real runners, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from http_site import parse_sse
from tailrace.http.server import serving
from tailrace.pipeline.catalog import Catalog
from tailrace.settings import Limits, Settings
from tailrace.store.state import open_state
from tailrace.worker.secrets import SecretStore
from tailrace.worker.worker import Worker

PIPELINE = """
params:
  word: {type: string, default: hello}
steps:
  say:
    run: |
      echo "$PARAM_WORD"
      echo '<b>report</b>' > "$TAILRACE_ARTIFACTS/report.html"
      printf 'no newline'
  wait:
    needs: say
    grace: 200ms
    run: test "$PARAM_WORD" != wait || sleep 60
"""


@dataclass(slots=True)
class Daemon:
    """A daemon and a client of it."""

    base: str
    client: aiohttp.ClientSession

    async def json(self, method: str, path: str, **more: Any) -> Any:
        """Ask, and return the answer's body."""
        async with self.client.request(method, self.base + path, **more) as reply:
            assert reply.status < 300, await reply.text()
            return json.loads(await reply.read() or b"null")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """Start one; its runs end with the test."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "words.yaml").write_text(PIPELINE)
    settings = Settings(listen="127.0.0.1:0", limits=Limits(min_free=0), max_runs=4)
    state = open_state(tmp_path / "state")
    worker = Worker(state, settings, Catalog(folder), SecretStore(settings, {}))
    async with contextlib.AsyncExitStack() as opened:
        await opened.enter_async_context(worker)
        server = await opened.enter_async_context(serving(worker, settings))
        await worker.begin(server.base_url)
        headers = {"Authorization": f"Bearer {state.token.read_text().strip()}"}
        client = await opened.enter_async_context(aiohttp.ClientSession(headers=headers))
        yield Daemon(server.base_url, client)


async def test_a_run_is_started_watched_and_read(daemon: Daemon) -> None:
    """Its stream, its log, its artifact, its place in the list."""
    body = {"pipeline": "words", "params": {"word": "hi"}}
    headers = {"Accept": "text/event-stream"}
    async with daemon.client.post(
        f"{daemon.base}/api/v1/runs", json=body, headers=headers
    ) as reply:
        assert reply.status == 200
        events = parse_sse(await reply.read())
    assert [event.name for event in events][:3] == ["plan", "queued", "started"]
    assert (events[-1].name, events[-1].json["status"]) == ("summary", "success")
    run = await daemon.json("GET", "/api/v1/runs/words/1")
    assert (run["status"], run["last_seq"]) == ("success", len(events))
    assert [step["status"] for step in run["steps"]] == ["success", "success"]
    async with daemon.client.get(run["artifacts"][0]["url"]) as reply:
        assert await reply.read() == b"<b>report</b>\n"
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    path = "/api/v1/runs/words/1/steps/say/log?follow=1"
    async with daemon.client.get(daemon.base + path) as reply:
        assert await reply.read() == b"hi\nno newline"
    (listed,) = (await daemon.json("GET", "/api/v1/runs"))["runs"]
    assert listed["status"] == "success"
    async with daemon.client.get(run["events_url"]) as reply:
        again = parse_sse(await reply.read())
    assert [event.data for event in again] == [event.data for event in events]


async def test_a_run_is_cancelled_retried_and_deleted(daemon: Daemon) -> None:
    """While somebody watches it by /ops and the list."""
    listing = await daemon.client.get(f"{daemon.base}/api/v1/events")
    ops = await daemon.client.get(f"{daemon.base}/ops/words?word=wait")
    read = b""
    async for data in ops.content.iter_any():
        read += data
        if b'"step":"wait"' in read:
            break
    run = await daemon.json("GET", "/api/v1/runs/words/1")
    answer = await daemon.json("POST", "/api/v1/runs/words/1/cancel", json={"reason": "enough"})
    assert answer["run"] == run["id"]
    read += await ops.content.read()
    events = parse_sse(read)
    assert (events[-1].name, events[-1].json["reason"]) == ("aborted", "enough")
    assert [event.data for event in events if event.name == "log"] == ["wait", "no newline"]
    changes = b""
    while b'"aborted"' not in changes:
        changes += await listing.content.readany()
    statuses = [event.json["status"] for event in parse_sse(changes)]
    assert statuses[-2:] == ["running", "aborted"]
    listing.close()
    again = await daemon.json("POST", "/api/v1/runs/words/1/retry", json={"from": "start"})
    assert again["retry_of"] == run["id"]
    await daemon.json("POST", f"/api/v1/runs/{again['id']}/cancel")
    async with asyncio.timeout(20):
        async with daemon.client.get(again["events_url"]) as reply:
            assert parse_sse(await reply.read())[-1].name == "aborted"
    await daemon.json("DELETE", f"/api/v1/runs/{run['id']}")
    async with daemon.client.get(run["url"]) as reply:
        assert reply.status == 404


async def test_what_cannot_be_is_told_in_order(daemon: Daemon) -> None:
    """As problem documents; a finished run can't be cancelled."""
    async with daemon.client.get(f"{daemon.base}/ops/words") as reply:
        await reply.read()
    asked: list[tuple[str, str, Any, int]] = [
        ("POST", "/runs/words/1/cancel", None, 409),
        ("POST", "/runs", {"pipeline": "nope"}, 404),
        ("POST", "/runs", {"pipeline": "words", "params": {"wrod": 1}}, 422),
        ("POST", "/runs", {"pipeline": "../words"}, 422),
        ("POST", "/runs", {"pipeline": "/etc/passwd"}, 422),
        ("POST", "/runs", {"pipeline": "words", "depth": "deep"}, 422),
        ("POST", "/runs/words/1/retry", {"from": "nope"}, 404),
    ]
    for method, path, body, status in asked:
        url = f"{daemon.base}/api/v1{path}"
        async with daemon.client.request(method, url, json=body) as reply:
            assert reply.status == status, (path, body, await reply.text())
            assert reply.content_type == "application/problem+json"
    assert len((await daemon.json("GET", "/api/v1/runs"))["runs"]) == 1
