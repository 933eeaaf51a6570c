"""Signed links: one thing, read-only, for a while, from any page."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from http_site import Reply, Site, WrittenRun, open_site, parse_sse
from tailrace.http.signed import Link, read_link, text_of

KEY = b"k" * 32
LINK = Link(run="r1", what="log", path="a", issuer="me", expires_s=1000)


def test_a_link_is_read_for_its_own_address_alone() -> None:
    """Any other run, kind, path, issuer, time or key breaks the signature."""
    text = text_of(KEY, LINK)
    assert read_link(KEY, text, run="r1", what="log", path="a") == LINK
    expires, issuer, signature = text.split(".")
    for key, changed, run, what, path in (
        (b"x" * 32, text, "r1", "log", "a"),
        (KEY, text, "r2", "log", "a"),
        (KEY, text, "r1", "artifact", "a"),
        (KEY, text, "r1", "log", "b"),
        (KEY, f"9{expires}.{issuer}.{signature}", "r1", "log", "a"),
        (KEY, f"{expires}.you.{signature}", "r1", "log", "a"),
        (KEY, f"{expires}.{issuer}.{'A' * 43}", "r1", "log", "a"),
        (KEY, signature, "r1", "log", "a"),
        (KEY, "", "r1", "log", "a"),
        (KEY, text + "\n", "r1", "log", "a"),
    ):
        assert read_link(key, changed, run=run, what=what, path=path) is None  # type: ignore[arg-type] # text


async def made(site: Site, run: WrittenRun, body: Any, **headers: Any) -> str:
    """Sign a link; return its path and query."""
    reply = await site.post(f"/api/v1/runs/{run.ref}/links", body, **headers)
    assert reply.status == 201, reply.body
    url: str = reply.json["url"]
    assert url.startswith(site.base)
    return url.removeprefix(site.base)


async def follow(site: Site, path: str, method: str = "GET", **headers: str) -> Reply:
    """Ask as a page of another origin does: without a token."""
    asked = {"Authorization": None, "Origin": "https://app.example", **headers}
    return await site.ask(method, path, headers=asked)


def a_run(site: Site, name: str = "report.html") -> WrittenRun:
    """A finished run with a log and an artifact."""
    run = site.worker.new_run()
    run.started()
    run.step_started("clone")
    run.log("clone", b"one\ntwo\n")
    run.step_finished("clone")
    run.artifact(name, b"<p>hello", "text/html")
    run.finished()
    return run


async def test_each_kind_of_link_shows_its_thing_to_any_page(site: Site) -> None:
    """With the parameters of the address, ranges and resumption."""
    run = a_run(site, "a b/report.html")
    events = await made(site, run, {"what": "events"})
    reply = await follow(site, events)
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert len(told := parse_sse(reply.body)) == 8
    rest = await follow(site, events, **{"Last-Event-ID": "6"})
    assert parse_sse(rest.body) == told[6:]
    assert (await follow(site, events, **{"Last-Event-ID": "8"})).status == 204
    assert len(parse_sse((await follow(site, f"{events}&after=7")).body)) == 1
    log = await made(site, run, {"what": "log", "path": "clone", "expires": "10m"})
    assert (await follow(site, f"{log}&follow=1")).body == b"one\ntwo\n"
    assert (await follow(site, log, Range="bytes=4-6")).body == b"two"
    file = await made(site, run, {"what": "artifact", "path": "a b/report.html"})
    reply = await follow(site, f"{file}&download=1")
    assert reply.body == b"<p>hello"
    assert "attachment" in reply.headers["Content-Disposition"]
    assert reply.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "ETag" in reply.headers["Access-Control-Expose-Headers"]
    assert (await follow(site, file, "HEAD")).status == 200
    preflight = await follow(site, events, "OPTIONS", **{"Access-Control-Request-Method": "GET"})
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, "*")
    ws = events.replace("/events?", "/ws?")
    async with site.client.ws_connect(
        site.base + ws, headers={"Origin": "https://app.example"}
    ) as connection:
        await connection.send_str('{"event": "cancel"}')
        messages = [json.loads(message.data) async for message in connection]
    assert [m["data"] for m in messages if m["event"] != "refused"] == [e.json for e in told]
    (refused,) = [m["data"] for m in messages if m["event"] == "refused"]
    assert "only shows" in refused["reason"]
    assert site.worker.commands == []


async def test_a_link_opens_nothing_else_and_ends(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not another run, nor another thing of the run, nor anything after its time."""
    run, other = a_run(site), a_run(site)
    header = site.make_token("run")
    name = site.tokens.list()[-1].name
    links = [
        await made(site, run, body, headers=header)
        for body in (
            {"what": "events"},
            {"what": "log", "path": "clone"},
            {"what": "artifact", "path": "report.html"},
        )
    ]
    query = urlsplit(links[0]).query
    assert set(parse_qs(query)) == {"link"}
    base = f"/api/v1/runs/{run.id}"
    for path in (
        links[0].replace(run.id, other.id),
        f"{base}/steps/clone/log?{query}",
        f"{base}/artifacts/report.html?{query}",
        links[1].replace("/clone/", "/lint/"),
        f"{base}/events?{urlsplit(links[2]).query}",
        f"/api/v1/runs/{run.ref}/events?{query}",
        f"{base}/events?link=",
        links[0][:-1] + ("A" if links[0][-1] != "A" else "B"),
    ):
        reply = await follow(site, path)
        assert (reply.status, reply.problem["status"]) == (403, 403), path
    for method, path in (
        ("GET", f"{base}?{query}"),
        ("GET", f"/api/v1/runs?{query}"),
        ("POST", f"{base}/cancel?{query}"),
        ("POST", f"{base}/links?{query}"),
        ("DELETE", f"{base}?{query}"),
    ):
        reply = await follow(site, path, method)
        assert reply.status == 401, path
        assert "Access-Control-Allow-Origin" not in reply.headers
    gone = await made(site, other, {"what": "events"}, headers=header)
    site.worker.index.remove(other.id)
    assert (await follow(site, gone)).status == 404
    assert [(await follow(site, path)).status for path in links] == [200] * 3
    now = time.time()
    monkeypatch.setattr("tailrace.http.guard.time.time", lambda: now + 3601)
    assert {(await follow(site, path)).status for path in links} == {403}
    monkeypatch.undo()
    site.tokens.revoke(name, now=now)
    assert {(await follow(site, path)).status for path in links} == {403}


async def test_what_a_link_has_opened_ends_with_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds it may read until then; the stream of a token goes on."""
    monkeypatch.setattr("tailrace.http.streams.TOKENS_S", 0.02)
    async with open_site(tmp_path) as site, contextlib.AsyncExitStack() as opened:
        run = site.worker.new_run()
        events = await made(site, run, {"what": "events"})
        log = await made(site, run, {"what": "log", "path": "clone"})
        own = f"/api/v1/runs/{run.id}/events"
        get = site.client.get
        linked = [
            await opened.enter_async_context(get(site.base + path))
            for path in (events, f"{log}&follow=1")
        ]
        watched = await opened.enter_async_context(get(site.base + own, headers=site.bearer))
        ws = await site.client.ws_connect(site.base + events.replace("/events?", "/ws?"))
        now = time.time()
        monkeypatch.setattr("tailrace.http.streams.time.time", lambda: now + 3601)
        for response in linked:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        while (await ws.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        assert ws.closed
        run.finished()
        await watched.read()


async def test_a_token_signs_what_it_may_see_and_mistakes_are_told(site: Site) -> None:
    """With `run` and within its pipelines."""
    run = a_run(site)
    path = f"/api/v1/runs/{run.id}/links"
    assert (
        await site.post(path, {"what": "events"}, headers=site.make_token("read"))
    ).status == 403
    narrowed = site.make_token("run", pipelines=["other"])
    assert (await site.post(path, {"what": "events"}, headers=narrowed)).status == 404
    for body, status, where in (
        ({}, 422, "what"),
        ({"what": "all"}, 422, "what"),
        ({"what": "events", "path": "x"}, 422, "path"),
        ({"what": "log"}, 422, "path"),
        ({"what": "log", "path": "nope"}, 404, None),
        ({"what": "artifact", "path": "../run.json"}, 404, None),
        ({"what": "artifact"}, 404, None),
        ({"what": "events", "expires": "8d"}, 422, "expires"),
        ({"what": "events", "expires": "0s"}, 422, "expires"),
        ({"what": "events", "expires": "soon"}, 422, "expires"),
        ({"what": "events", "expires": 60}, 422, "expires"),
    ):
        reply = await site.post(path, body)
        assert reply.status == status, body
        assert [e["where"] for e in reply.problem.get("errors", [])] == ([where] if where else [])
    logged = site.tokens.link_key()
    assert logged == site.tokens.link_key()


async def test_an_address_begins_with_the_public_url(tmp_path: Any) -> None:
    """Behind a proxy, that is where a page finds us."""
    async with open_site(tmp_path, public_url="https://ci.example/tail/") as site:
        run = a_run(site)
        reply = await site.post(f"/api/v1/runs/{run.id}/links", {"what": "events"})
        assert reply.json["url"].startswith(f"https://ci.example/tail/api/v1/runs/{run.id}/events?")
        assert reply.json["expires_at"].endswith("Z")
