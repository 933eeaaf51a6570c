"""Streams of a run: SSE, NDJSON, plain; where they begin, what they leave out, how they end."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from http_site import Site, SseEvent, WrittenRun, parse_sse, until
from tailrace.rundir.journal import JournalReader


def journal(run: WrittenRun) -> list[dict[str, object]]:
    """Everything that a watcher should get."""
    reader = JournalReader(run.dir)
    found = []
    while frames := reader.read():
        found += [json.loads(frame.data) for frame in frames]
    reader.close()
    return found


def whole_run(site: Site) -> WrittenRun:
    """A run that has ended."""
    run = site.worker.new_run()
    run.started()
    run.step_started("clone")
    run.step_started("lint")
    run.log("clone", b"one\ntwo\nthr")
    run.log("lint", b"a\n")
    run.log("clone", b"ee\nfour\n")
    run.log("lint", b"b\nno newline")
    run.step_finished("clone")
    run.step_finished("lint")
    run.finished()
    return run


async def test_the_bytes_of_a_stream_are_as_the_contract_says(site: Site) -> None:
    """`retry` and a comment come before any event; then event, id and one line of data each."""
    run = site.worker.new_run()
    request = (
        f"GET /api/v1/runs/{run.id}/events HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {site.token}\r\n\r\n"
    ).encode()
    async with site.raw(request) as (reader, _):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert "content-type: text/event-stream\r\n" in head
        assert "cache-control: no-cache, no-transform\r\n" in head
        assert "x-accel-buffering: no\r\n" in head
        assert "transfer-encoding: chunked\r\n" in head
        first = await _chunk(reader)
        assert first.startswith(b"retry: 2000\n\n: tailrace\n\n")
        events = first.partition(b": tailrace\n\n")[2] or await _chunk(reader)
        assert re.match(
            rb'event: plan\nid: 1\ndata: \{"seq":1,"event":"plan".*\}\n\nevent: queued\nid: 2\n',
            events,
        )
        run.finished()
        assert re.fullmatch(rb"event: summary\nid: 3\ndata: \{.*\}\n\n", await _chunk(reader))
        assert await _chunk(reader) == b""


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline(), 16)
    data = await reader.readexactly(size + 2)
    return data[:-2]


async def test_a_stream_is_the_journal(site: Site) -> None:
    """Every event once, in order, with its number as id."""
    run = whole_run(site)
    events = await site.events(f"/api/v1/runs/{run.id}/events")
    assert [event.json for event in events] == journal(run)
    assert [event.last_id for event in events] == [str(n + 1) for n in range(len(events))]
    assert [event.name for event in events] == [event.json["event"] for event in events]


async def test_message_shape_and_ndjson_hold_the_same_data(site: Site) -> None:
    """Without `event:` lines, and one object a line."""
    run = whole_run(site)
    events = await site.events(f"/api/v1/runs/{run.ref}/events?shape=message")
    assert {event.name for event in events} == {"message"}
    assert [event.json for event in events] == journal(run)
    path = f"/api/v1/runs/{run.ref.replace('/', '%2F')}/events"
    reply = await site.get(path, headers={"Accept": "application/x-ndjson"})
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in reply.body.splitlines()] == journal(run)


async def test_a_stream_resumes_after_either_form_of_id(site: Site) -> None:
    """The header counts before `after`, and `after` before `tail`."""
    run = whole_run(site)
    path = f"/api/v1/runs/{run.id}/events"
    expected = journal(run)
    for headers, query in (
        ({"Last-Event-ID": "5"}, "?after=2&tail=0"),
        ({"Last-Event-ID": f"{run.id}:5"}, ""),
        ({}, "?after=5&tail=0"),
        ({}, f"?after={run.id}:5"),
    ):
        reply = await site.get(path + query, headers=headers)
        assert [event.json for event in parse_sse(reply.body)] == expected[5:]


async def test_a_seen_end_is_204_and_beyond_it_422(site: Site) -> None:
    """So that EventSource stops, and a wrong number is told."""
    run = whole_run(site)
    last = len(journal(run))
    path = f"/api/v1/runs/{run.id}/events"
    assert (await site.get(path, headers={"Last-Event-ID": str(last)})).status == 204
    assert (await site.get(path, headers={"Last-Event-ID": f"{run.id}:{last}"})).status == 204
    assert (await site.get(f"{path}?after={last}")).status == 204
    for text in (str(last + 1), f"{run.id}:{last + 1}", "x", "-1", "1:2", f"{'0' * 26}:1"):
        reply = await site.get(path, headers={"Last-Event-ID": text})
        assert reply.status == 422, text
        assert reply.problem["errors"][0]["where"] == "Last-Event-ID"


async def test_an_id_beyond_a_live_run_is_422_and_its_last_one_waits(site: Site) -> None:
    """Live runs have no end yet."""
    run = site.worker.new_run()
    path = f"/api/v1/runs/{run.id}/events"
    assert (await site.get(path, headers={"Last-Event-ID": "3"})).status == 422
    reading = asyncio.create_task(site.events(path, Last_Event_ID="2"))
    run.finished()
    assert [event.name for event in await reading] == ["summary"]


async def test_step_narrows_to_the_step_the_plan_and_the_end(site: Site) -> None:
    """Nothing else."""
    run = whole_run(site)
    events = await site.events(f"/api/v1/runs/{run.id}/events?step=lint")
    expected = [
        item
        for item in journal(run)
        if item.get("step") == "lint" or item["event"] in ("plan", "summary")
    ]
    assert [event.json for event in events] == expected
    assert (await site.get(f"/api/v1/runs/{run.id}/events?step=nope")).status == 404


async def test_tail_gives_the_last_lines_and_every_other_event(site: Site) -> None:
    """For every number of lines: whole lines, those that began last."""
    run = whole_run(site)
    everything = journal(run)
    others = [item for item in everything if item["event"] != "log"]
    for lines in range(9):
        events = await site.events(f"/api/v1/runs/{run.id}/events?tail={lines}")
        items = [event.json for event in events]
        assert [item for item in items if item["event"] != "log"] == others
        seen = {
            (item["step"], item["line"] + n)
            for item in items
            if item["event"] == "log"
            for n in range(item["text"].count("\n") + 1)
        }
        order = [
            ("clone", 1),
            ("clone", 2),
            ("clone", 3),
            ("lint", 1),
            ("clone", 4),
            ("lint", 2),
            ("lint", 3),
        ]
        assert seen == set(order[len(order) - min(lines, 7) :]), lines
    events = await site.events(f"/api/v1/runs/{run.id}/events?tail=2&step=clone")
    texts = [event.json["text"] for event in events if event.name == "log"]
    assert texts == ["thr", "ee\nfour"]


async def test_progress_is_thinned_and_its_last_comes_before_the_steps_end(site: Site) -> None:
    """By the run's own time, the same whether watched live, later, or resumed anywhere."""
    run = site.worker.new_run()
    run.started()
    run.step_started("clone")
    for quarter in range(21):
        run.now_s = 1_000_000 + quarter * 0.25
        run.progress("clone", quarter)
    run.step_finished("clone")
    run.finished()
    path = f"/api/v1/runs/{run.id}/events?progress=2s"
    events = await site.events(path)
    shown = [event for event in events if event.name == "progress"]
    assert [event.json["percent"] for event in shown] == [0, 8, 16, 20]
    assert [event.name for event in events][-3:] == ["progress", "step_finished", "summary"]
    assert shown[-1].last_id == f"0{int(events[-2].last_id) - 1}"  # a part of the step's end
    await resumes_everywhere(site, path, events)


async def resumes_everywhere(site: Site, path: str, events: list[SseEvent]) -> None:
    """Check that after each event's id exactly what followed it comes."""
    ids = [event.last_id for event in events]
    assert len(set(ids)) == len(ids)
    assert [int(text) for text in ids] == sorted(int(text) for text in ids)
    for seen in range(1, len(events)):
        rest = await site.events(path, Last_Event_ID=ids[seen - 1])
        assert rest == events[seen:], ids[seen - 1]


async def test_plain_gives_each_line_once_it_has_ended(site: Site) -> None:
    """Carriage returns resolved, the last line at its attempt's end, other events as JSON."""
    run = site.worker.new_run()
    run.started()
    run.step_started("clone")
    for piece in (
        b"one\ntw",
        b"o\n10%\r20",
        b"%\r30%\n\n",
        "ü ".encode()[:1],
        "ü ".encode()[1:],
        b"end",
    ):
        run.log("clone", piece)
    run.retrying("clone")
    run.step_started("clone", 2)
    run.log("clone", b"again", 2)
    run.step_finished("clone", 2)
    run.finished()
    path = f"/api/v1/runs/{run.id}/events?plain=1"
    events = await site.events(path)
    lines = [event.data for event in events if event.name == "log"]
    assert lines == ["one", "two", "30%", "", "ü end", "again"]
    names = [event.name for event in events if event.name != "log"]
    assert names == [
        "plan",
        "queued",
        "started",
        "step_started",
        "step_retrying",
        "step_started",
        "step_finished",
        "summary",
    ]
    assert events[0].json["event"] == "plan"


async def test_plain_resumes_after_every_line_without_loss_or_repetition(site: Site) -> None:
    """Also between the lines of one event, and with an open line, which the log still has."""
    run = site.worker.new_run()
    run.started()
    run.step_started("clone")
    run.step_started("lint")
    for piece in (b"one\ntwo\nth", b"r", b"ee\n", b"fo"):
        run.log("clone", piece)
        run.log("lint", b"x" + piece)
    run.log("clone", b"ur\nfive\nsi")
    run.progress("lint", 1)
    run.progress("lint", 2)
    run.step_finished("lint")
    run.step_finished("clone")
    run.finished()
    path = f"/api/v1/runs/{run.id}/events?plain=1"
    events = await site.events(path)
    lines = [event.data for event in events if event.name == "log"]
    assert lines.count("three") == 1
    assert {"six", "si"} & set(lines) == {"si"}
    await resumes_everywhere(site, path, events)
    path += "&progress=1h"
    await resumes_everywhere(site, path, await site.events(path))
    ops = await site.events("/ops/clone", Last_Event_ID=f"{run.id}:0")
    assert [event.last_id for event in ops] == [f"{run.id}:{event.last_id}" for event in events]


async def test_plain_resumes_within_a_burst_of_lines(site: Site) -> None:
    """However many lines came at once, each is a place to go on from."""
    run = site.worker.new_run()
    run.started()
    run.step_started("clone")
    run.log("clone", b"".join(b"%d\n" % number for number in range(1000)))
    run.finished()
    path = f"/api/v1/runs/{run.id}/events?plain=1"
    events = await site.events(path)
    for seen in (1, 5, 200, 258, 259, 260, 261, 777, 1003, 1004):
        rest = await site.events(path, Last_Event_ID=events[seen - 1].last_id)
        assert [(e.name, e.data) for e in rest] == [(e.name, e.data) for e in events[seen:]]


async def test_a_tail_in_plain_resumes_like_the_whole(site: Site) -> None:
    """Ids count the lines that the tail left out of an event, so that none comes again."""
    run = site.worker.new_run()
    run.started()
    run.step_started("clone")
    run.log("clone", b"be")
    run.log("clone", b"gun\n" + b"".join(b"%d\n" % number for number in range(300)) + b"open")
    run.log("clone", b" end\nlast\n")
    run.step_finished("clone")
    run.finished()
    path = f"/api/v1/runs/{run.id}/events?plain=1"
    whole = await site.events(path)
    for lines in (2, 3, 4, 100, 301, 302, 303):
        tail = await site.events(f"{path}&tail={lines}")
        told = [event for event in whole if event.name != "log"]
        assert [event for event in tail if event.name != "log"] == told
        logs = [event for event in whole if event.name == "log"]
        assert [event for event in tail if event.name == "log"] == logs[-lines:]


async def test_plain_of_a_step_never_shows_a_line_of_another(site: Site) -> None:
    """Where it begins in the middle, other steps' open lines are nothing to it."""
    run = whole_run(site)
    path = f"/api/v1/runs/{run.id}/events?plain=1&step=clone"
    events = await site.events(path)
    await resumes_everywhere(site, path, events)
    for seq in range(1, len(journal(run)) - 1):
        rest = await site.events(f"{path}&after={seq}")
        assert rest == [event for event in events if int(event.last_id) >= seq][-len(rest) :]
    logs = [event.data for event in await site.events(f"{path}&tail=2") if event.name == "log"]
    assert logs == ["three", "four"]


async def test_a_live_tail_of_a_step_never_shows_a_line_of_another(site: Site) -> None:
    """Open lines are taken up for what comes after the tail: only the step's own."""
    run = site.worker.new_run()
    run.step_started("clone")
    run.step_started("lint")
    run.log("lint", b"other")
    run.log("clone", b"own")
    request = (
        f"GET /api/v1/runs/{run.id}/events?plain=1&step=clone&tail=0 HTTP/1.1\r\n"
        f"Host: localhost\r\nAuthorization: Bearer {site.token}\r\n\r\n"
    ).encode()
    async with site.raw(request) as (reader, _):
        await reader.readuntil(b"step_started")
        run.log("clone", b" line\n")
        run.finished()
        rest = await reader.readuntil(b"event: summary")
    assert re.findall(rb"event: log\nid: \d+\ndata: (.*)\n", rest) == [b"own line"]


async def test_a_broken_stream_is_cut_and_not_ended(site: Site) -> None:
    """A client must be able to tell an end from a failure: no last chunk comes."""
    run = site.worker.new_run()
    request = (
        f"GET /api/v1/runs/{run.id}/events HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {site.token}\r\n\r\n"
    ).encode()
    async with site.raw(request) as (reader, _):
        await reader.readuntil(b"queued")
        await until(lambda: site.worker.watching.get(run.id) == 1)
        feed, _ = site.worker._feeds[run.id]
        site.worker.ring_bytes = 0
        run.dir.journal.rename(run.dir.path / "gone")
        feed._ring.clear()
        feed.last_seq += 1  # the cursor must look into a file that it can't open
        run.dir.journal.mkdir()
        feed.wake()
        rest = await reader.read()
    assert not rest.endswith(b"0\r\n\r\n")


async def test_a_client_that_goes_away_is_noticed_at_once(site: Site) -> None:
    """Without a byte being sent: the worker counts on it for `on_disconnect`."""
    run = site.worker.new_run()
    request = (
        f"GET /api/v1/runs/{run.id}/events HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {site.token}\r\n\r\n"
    ).encode()
    async with site.raw(request) as (reader, _):
        await reader.readuntil(b"queued")
        assert site.worker.watching[run.id] == 1
    await until(lambda: site.worker.watching[run.id] == 0, within_s=1)


async def test_an_idle_stream_gets_comments(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that proxies keep it, and a vanished client is found."""
    monkeypatch.setattr("tailrace.http.streams.HEARTBEAT_S", 0.02)
    run = site.worker.new_run()
    for path in (f"/api/v1/runs/{run.id}/events?after=2", "/api/v1/events"):
        request = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {site.token}\r\n\r\n"
        )
        async with site.raw(request.encode()) as (reader, _):
            for _ in range(3):
                await reader.readuntil(b": \n\n")


async def test_the_list_is_streamed_without_ids(site: Site) -> None:
    """`event: run`, data as in the list; other pipelines' runs only for whom they are."""
    narrowed = site.make_token("read", pipelines=["other"])
    for name in ("clone", "other"):
        run = site.worker.new_run(name)
        row = site.worker.index.get(run.id)
        site.worker.rows.put_nowait(row)
    site.worker.rows.put_nowait(None)
    events = await site.events("/api/v1/events", **narrowed)
    assert [(e.name, e.json["pipeline"], e.last_id) for e in events] == [("run", "other", "")]
    listed = (await site.get("/api/v1/runs?pipeline=other")).json["runs"]
    assert [event.json for event in events] == listed


async def test_head_tells_of_a_stream_without_opening_it(site: Site) -> None:
    """The headers alone."""
    run = site.worker.new_run()
    for path in (f"/api/v1/runs/{run.id}/events", "/api/v1/events"):
        reply = await site.ask("HEAD", path)
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["Content-Type"] == "text/event-stream"
    assert not site.worker.watching


@pytest.mark.parametrize(
    "query",
    ["plain=1&shape=message", "tail=x", "tail=-1", "after=1e3", "progress=2", "progress=1y",
     "shape=json", "plain=maybe", "tial=3", "tail=1&tail=2", "after=" + "9" * 40],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_refused(site: Site, query: str) -> None:
    """With where and why, before the stream begins."""
    run = site.worker.new_run()
    reply = await site.get(f"/api/v1/runs/{run.id}/events?{query}")
    assert reply.status == 422
    (error,) = reply.problem["errors"]
    assert error["where"] in query
    assert error["problem"]
