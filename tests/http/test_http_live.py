"""Many watchers of runs that live: nothing lost, nothing twice, nobody held up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from http_site import Site, SseEvent, WrittenRun, open_site, parse_sse, until
from tailrace.rundir.journal import JournalReader


def journal(run: WrittenRun) -> list[Any]:
    """Everything that a watcher should hold."""
    reader = JournalReader(run.dir)
    found = []
    while frames := reader.read():
        found += [json.loads(frame.data) for frame in frames]
    reader.close()
    return found


def write(run: WrittenRun, *, slices: int, seed: int) -> None:
    """Write a run as a runner would, in a thread: two steps that print at full speed."""
    choice = random.Random(seed)
    run.started()
    run.step_started("clone")
    run.step_started("lint")
    for number in range(slices):
        data = choice.choice(["x" * choice.randrange(3000), "", "a\nb", "ü\n", "10%\r20%", "\n\n"])
        run.log(choice.choice(["clone", "lint"]), data.encode())
        if number % 7 == 0:
            run.progress("lint", number % 100)
    run.step_finished("clone")
    run.step_finished("lint")
    run.finished()


async def read_some(
    site: Site, path: str, last_id: str, how_long: int
) -> tuple[list[SseEvent], bool]:
    """Read about so many bytes, then hang up; return the whole events, and whether it ended."""
    headers = {**site.bearer, **({"Last-Event-ID": last_id} if last_id else {})}
    body = bytearray()
    async with site.client.get(site.base + path, headers=headers) as response:
        if response.status == 204:
            return [], True
        assert response.status == 200, await response.text()
        async for data in response.content.iter_any():
            body += data
            if len(body) >= how_long:
                break
    # A browser drops an event that isn't followed by its blank line.
    whole = bytes(body[: body.rfind(b"\n\n") + 2]) if b"\n\n" in body else b""
    return parse_sse(whole), False


async def watch(site: Site, path: str, seed: int) -> list[SseEvent]:
    """Watch to the end, with many interruptions, as EventSource resumes."""
    choice = random.Random(seed)
    held: list[SseEvent] = []
    while True:
        last_id = held[-1].last_id if held else ""
        events, ended = await read_some(site, path, last_id, choice.randrange(1, 60_000))
        held += events
        if ended:
            return held


async def test_watchers_that_disconnect_at_random_hold_exactly_the_journal(tmp_path: Path) -> None:
    """Live, from a small ring, with both forms of id; whatever the moment of the cut."""
    async with open_site(tmp_path) as site:
        site.worker.ring_bytes = 20_000
        run = site.worker.new_run()
        writing = threading.Thread(target=write, args=(run,), kwargs={"slices": 400, "seed": 1})
        path = f"/api/v1/runs/{run.id}/events"
        watchers = [asyncio.create_task(watch(site, path, seed)) for seed in range(20)]
        watchers += [
            asyncio.create_task(watch(site, path + "?shape=message", seed)) for seed in range(5)
        ]
        writing.start()
        held = await asyncio.gather(*watchers)
        writing.join()
        expected = journal(run)
        for events in held:
            assert [event.json for event in events] == expected
        for step in ("clone", "lint"):
            text = "".join(
                item["text"] + ("" if item.get("open") else "\n")
                for item in expected
                if item["event"] == "log" and item["step"] == step
            )
            assert text == run.dir.log(step, 1).read_bytes().decode("utf-8", "replace")


async def test_plain_watchers_that_resume_hold_every_line_once(tmp_path: Path) -> None:
    """Wherever their stream breaks, also between the lines of one event."""
    async with open_site(tmp_path) as site:
        run = site.worker.new_run()
        writing = threading.Thread(target=write, args=(run,), kwargs={"slices": 150, "seed": 2})
        path = f"/api/v1/runs/{run.id}/events?plain=1&progress=1s"
        watchers = [asyncio.create_task(watch(site, path, seed)) for seed in range(10)]
        writing.start()
        held = await asyncio.gather(*watchers)
        writing.join()
        whole = await site.events(path)
        for events in held:
            assert events == whole


async def test_a_reader_that_never_reads_costs_no_memory_and_nobody_else_anything(
    tmp_path: Path,
) -> None:
    """Nothing waits for it in the daemon; the others get everything meanwhile."""
    async with open_site(tmp_path) as site:
        run = site.worker.new_run()
        run.started()
        run.step_started("clone")
        request = (
            f"GET /api/v1/runs/{run.id}/events HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {site.token}\r\n\r\n"
        ).encode()
        stuck = []
        for _ in range(5):
            client = socket.create_connection(site.host_port)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request)
            stuck.append(client)
        await until(lambda: site.worker.watching.get(run.id) == 5)
        reading = asyncio.create_task(site.events(f"/api/v1/runs/{run.id}/events"))
        for _ in range(200):
            run.log("clone", b"x" * 65_535 + b"\n")
            await asyncio.sleep(0)
        run.step_finished("clone")
        run.finished()
        assert [event.json for event in await reading] == journal(run)
        in_flight = _metric((await site.get("/metrics")).body, "tailrace_in_flight_bytes")
        # Next to nothing: what they don't take waits in the kernel, or isn't read yet.
        assert in_flight <= 5 * site.settings.limits.in_flight / 4
        for client in stuck:
            client.close()
        await until(lambda: site.worker.watching[run.id] == 0)


def _metric(body: bytes, name: str) -> float:
    (line,) = [line for line in body.decode().splitlines() if line.startswith(name + " ")]
    return float(line.split()[1])


async def test_many_watchers_share_one_encoding(tmp_path: Path) -> None:
    """Two hundred of them get every line of a run that trickles."""
    async with open_site(tmp_path) as site:
        run = site.worker.new_run()
        run.started()
        run.step_started("clone")
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, headers=site.bearer) as client:

            async def read() -> bytes:
                async with client.get(f"{site.base}/api/v1/runs/{run.id}/events") as response:
                    return await response.read()

            watchers = [asyncio.create_task(read()) for _ in range(200)]
            await until(lambda: site.worker.watching.get(run.id) == 200)
            for number in range(100):
                run.log("clone", b"line %d\n" % number)
                await asyncio.sleep(0.001)
            run.finished()
            bodies = await asyncio.gather(*watchers)
        assert len(set(bodies)) == 1
        assert [event.json for event in parse_sse(bodies[0])] == journal(run)


async def test_a_stream_ends_with_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revoked or expired: it is cut, whatever it watches; streams of other tokens go on."""
    monkeypatch.setattr("tailrace.http.streams.TOKENS_S", 0.02)
    async with open_site(tmp_path) as site:
        run = site.worker.new_run()
        revoked, other = site.make_token("read"), site.make_token("read")
        expiring = site.make_token("read", expires_s=time.time() + 3600)
        names = [token.name for token in site.tokens.list()]
        paths = ("events", "events?plain=1", "steps/clone/log?follow=1")
        async with contextlib.AsyncExitStack() as opened:
            ends = []
            for path in paths:
                for headers in (revoked, expiring, other):
                    get = site.client.get(
                        f"{site.base}/api/v1/runs/{run.id}/{path}", headers=headers
                    )
                    ends.append((await opened.enter_async_context(get), headers))
            ws = await site.client.ws_connect(
                f"{site.base}/api/v1/runs/{run.id}/ws", headers=revoked
            )
            site.tokens.revoke(names[1], now=time.time())
            site.tokens._do("UPDATE tokens SET expires_s = 1 WHERE name = ?", (names[3],))
            for response, headers in ends:
                if headers is not other:
                    with pytest.raises(aiohttp.ClientPayloadError):
                        await response.read()
            while (await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert ws.closed
            run.step_started("clone")
            run.step_finished("clone")
            run.finished()
            for response, headers in ends:
                if headers is other:
                    await response.read()


async def test_a_stop_cuts_streams_at_once_and_their_clients_can_resume(tmp_path: Path) -> None:
    """No last chunk: the client knows that there is more to come."""
    async with open_site(tmp_path) as site:
        run = site.worker.new_run()
        request = (
            f"GET /api/v1/runs/{run.id}/events HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {site.token}\r\n\r\n"
        ).encode()
        reader, writer = await asyncio.open_connection(*site.host_port)
        writer.write(request)
        await reader.readuntil(b"queued")
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 2
    assert not (await reader.read()).endswith(b"0\r\n\r\n")
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
