"""The main job from outside: a daemon, real steps at full speed, clients that come and go."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daemons import Daemon, serving
from runs import read_events

Told = dict[str, Any]

FLOOD = "parallel: 20\nsteps:\n" + "".join(
    f"  s{n}:\n    run: seq -f 'step {n} line %g é€🙂' 1 3000; printf 'open {n}'\n"
    for n in range(20)
)
HELLO = "params: {name: {default: world}}\nsteps:\n  hello:\n    run: echo hello $PARAM_NAME\n"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon with three pipelines."""
    async with serving(tmp_path, {"flood": FLOOD, "hello": HELLO, "other": HELLO}) as running:
        yield running


async def sse(stream: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str, str]]:
    """Read server-sent events as (event, id, data)."""
    event = identity = data = ""
    while line := (await stream.readline()).decode():
        line = line.removesuffix("\n")
        key, _, value = line.partition(": ")
        if key == "event":
            event = value
        elif key == "id":
            identity = value
        elif key == "data":
            data = value
        elif not line and data:
            yield event, identity, data
            event = data = ""


async def watch(daemon: Daemon, path: str, *, drops: random.Random | None) -> list[Told]:
    """Follow a run, leaving at random and coming back with the last id; return all that came."""
    told: list[Told] = []
    last = ""
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        async with daemon.client.get(daemon.url + path, headers=headers) as answer:
            if answer.status == 204:
                return told
            assert answer.status == 200, await answer.text()
            stay = drops.randrange(1, 400) if drops else 10**9
            async for event, identity, data in sse(answer.content):
                item = json.loads(data)
                assert item["event"] == event
                told.append(item)
                last = identity
                stay -= 1
                if stay == 0:
                    break


async def test_clients_that_drop_and_resume_at_random_hold_exactly_the_journal(
    daemon: Daemon,
) -> None:
    """Twenty steps at full speed: nothing twice, nothing missing, and the texts are the logs."""
    run = await daemon.start("flood")
    path = f"/api/v1/runs/{run['id']}/events"

    results = await asyncio.gather(
        watch(daemon, path, drops=None),
        *(watch(daemon, path, drops=random.Random(seed)) for seed in range(12)),
    )

    folder = daemon.state.run(run["id"])
    journal = read_events(folder)
    assert [item["seq"] for item in journal] == list(range(1, len(journal) + 1))
    assert journal[-1]["status"] == "success"
    for told in results:
        assert told == journal
    for n in range(20):
        texts = [item for item in journal if item["event"] == "log" and item["step"] == f"s{n}"]
        text = "".join(i["text"] + ("" if i.get("open") else "\n") for i in texts)
        raw = folder.log(f"s{n}", 1).read_bytes()
        assert text == raw.decode("utf-8", "replace")
        assert raw.count(b"\n") == 3_000
        assert raw.endswith(f"open {n}".encode())


async def test_a_run_over_ops_resumes_by_its_own_ids_and_never_starts_twice(
    daemon: Daemon,
) -> None:
    """What an EventSource does by itself after a broken connection."""
    url = f"{daemon.url}/ops/hello?name=ops"
    async with daemon.client.get(url) as answer:
        first = [item async for item in sse(answer.content)]
    run_id, _, seq = first[0][1].partition(":")
    assert seq == "1"

    middle = first[2][1]
    async with daemon.client.get(url, headers={"Last-Event-ID": middle}) as answer:
        rest = [item async for item in sse(answer.content)]
    async with daemon.client.get(url, headers={"Last-Event-ID": first[-1][1]}) as answer:
        assert answer.status == 204
    other = await daemon.start("other")
    for wrong in ("7", f"{run_id}:9999", f"{other['id']}:1"):
        async with daemon.client.get(url, headers={"Last-Event-ID": wrong}) as answer:
            assert answer.status == 422

    assert rest == first[3:]
    assert len((await daemon.get("/runs?pipeline=hello"))["runs"]) == 1


async def test_a_run_goes_on_while_the_daemon_is_away(tmp_path: Path) -> None:
    """A new daemon finds it, and a watcher that comes back misses nothing."""
    text = "steps:\n  slow:\n    run: for i in $(seq 40); do echo line $i; sleep 0.05; done\n"
    async with serving(tmp_path, {"slow": text}) as first:
        run = await first.start("slow")
        path = f"/api/v1/runs/{run['id']}/events"
        before: list[Told] = []
        async with first.client.get(first.url + path) as answer:
            async for _, _, data in sse(answer.content):
                before.append(json.loads(data))
                if before[-1]["event"] == "log":
                    break
        first.process.kill()
        await first.process.wait()
    async with serving(tmp_path, {"slow": text}) as second:
        headers = {"Last-Event-ID": str(before[-1]["seq"])}
        async with second.client.get(second.url + path, headers=headers) as answer:
            after = [json.loads(data) async for _, _, data in sse(answer.content)]
        run = await second.get(f"/runs/{run['id']}")

    assert before + after == read_events(second.state.run(run["id"]))
    assert run["status"] == "success"
    lines = "\n".join(item["text"] for item in before + after if item["event"] == "log")
    assert lines.split("\n") == [f"line {n}" for n in range(1, 41)]
