"""Logs and artifacts: what steps left, as a browser or a script may have it."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from http_site import Site, WrittenRun, until
from tailrace.http.artifacts import CSP
from tailrace.http.files import attachment


def logged(site: Site, data: bytes, *, cut: int = 7) -> tuple[WrittenRun, str]:
    """A run whose step `clone` has printed that, in small pieces; and the log's path."""
    run = site.worker.new_run()
    run.step_started("clone")
    for start in range(0, len(data), cut):
        run.log("clone", data[start : start + cut])
    run.log("clone", b"", final=True)
    return run, f"/api/v1/runs/{run.id}/steps/clone/log"


async def test_a_followed_log_begins_with_the_line_that_was_asked_for(site: Site) -> None:
    """Also where it comes only later, in a step that hasn't begun, and with a filter."""
    run = site.worker.new_run()
    path = f"/api/v1/runs/{run.id}/steps/clone/log?follow=1&from_line="
    early = [
        asyncio.create_task(site.get(f"{path}{query}")) for query in ("4", "4&grep=[4e]", "99")
    ]
    await until(lambda: site.worker.watching.get(run.id) == 3)
    run.step_started("clone")
    run.log("clone", b"1\n2\\n")
    late = [asyncio.create_task(site.get(f"{path}{line}")) for line in (1, 2, 3, 5)]
    await until(lambda: site.worker.watching.get(run.id) == 7)
    for piece in (b"\n3", b"\n4\n", b"fi", b"ve\n6\n"):
        run.log("clone", piece)
    run.step_finished("clone")
    bodies = [(await asking).body for asking in early]
    assert bodies == [b"4\nfive\n6\n", b"4\nfive\n", b""]
    whole = b"1\n2\\n\n3\n4\nfive\n6\n"
    lines = whole.splitlines(keepends=True)
    assert [(await asking).body for asking in late] == [
        b"".join(lines[number - 1 :]) for number in (1, 2, 3, 5)
    ]


TEXT = b"one\n\x1b[31mtwo\x1b[0m\r\nthree\n\nfive ten\xff\nsix"


async def test_a_log_is_the_file_byte_for_byte(site: Site) -> None:
    """As text, of the last attempt or the one that is asked for."""
    run, path = logged(site, TEXT)
    reply = await site.get(path)
    assert (reply.status, reply.body) == (200, TEXT)
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    run.retrying("clone")
    run.step_started("clone", 2)
    run.log("clone", b"again", 2)
    assert (await site.get(path)).body == b"again"
    assert (await site.get(path + "?attempt=1")).body == TEXT
    assert (await site.get(path + "?attempt=3")).status == 404
    assert (await site.get(path.replace("clone/log", "lint/log"))).body == b""
    for step in ("nope", "..", "%2e%2e", "clone%2F.."):
        assert (await site.get(path.replace("clone/log", f"{step}/log"))).status == 404


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("tail=0", b""),
        ("tail=1", b"six"),
        ("tail=2", b"five ten\xff\nsix"),
        ("tail=99", TEXT),
        ("from_line=5", b"five ten\xff\nsix"),
        ("from_line=3&to_line=4", b"three\n\n"),
        ("to_line=1", b"one\n"),
        ("from_line=6&to_line=9", b"six"),
        ("from_line=7", b""),
        ("ansi=strip&to_line=2", b"one\ntwo\r\n"),
        ("grep=e$", b"one\nthree\n"),
        ("grep=^$", b"\n"),
        ("grep=^(six|two)", b"six"),
        ("grep=^(six|two)&ansi=strip", b"two\r\nsix"),
        ("grep=[^q]*&tail=2", b"five ten\xff\nsix"),
        ("grep=(?i)FIVE%20t|zzz", b"five ten\xff\n"),
        ("grep=", TEXT),
        ("grep=nothing", b""),
        ("grep=e\\n", b""),
    ],
)
async def test_parts_of_a_log_can_be_asked_for(site: Site, query: str, expected: bytes) -> None:
    """In this order: lines, escape sequences, pattern."""
    _, path = logged(site, TEXT)
    reply = await site.get(f"{path}?{query}")
    assert (reply.status, reply.body) == (200, expected)


@pytest.mark.parametrize(
    "query",
    ["tail=1&from_line=2", "from_line=3&to_line=2", "from_line=0", "grep=(", "grep=(%3F<=a)b",
     "grep=" + "a" * 257, "follow=1&to_line=3", "ansi=no", "attempt=0", "lines=3",
     "grep=(((a{1,99}){1,99}){1,99}"],
)  # fmt: skip
async def test_wishes_that_make_no_sense_are_refused(site: Site, query: str) -> None:
    """With where and why."""
    _, path = logged(site, TEXT)
    reply = await site.get(f"{path}?{query}")
    assert reply.status == 422
    assert reply.problem["errors"][0]["problem"]


@pytest.mark.parametrize(
    ("header", "status", "part", "content_range"),
    [
        ("bytes=0-2", 206, slice(0, 3), "bytes 0-2/{}"),
        ("bytes=4-", 206, slice(4, None), "bytes 4-{last}/{}"),
        ("bytes=-3", 206, slice(-3, None), "bytes {third}-{last}/{}"),
        ("bytes=0-99999", 206, slice(0, None), "bytes 0-{last}/{}"),
        ("bytes=-99999", 206, slice(0, None), "bytes 0-{last}/{}"),
        ("bytes=99999-", 416, None, "bytes */{}"),
        ("bytes=" + "9" * 5000 + "-", 416, None, "bytes */{}"),
        ("bytes=0-" + "9" * 30, 206, slice(0, None), "bytes 0-{last}/{}"),
        ("bytes=-0", 416, None, "bytes */{}"),
        ("bytes=3-2", 200, slice(0, None), None),
        ("bytes=0-1,3-4", 200, slice(0, None), None),
        ("lines=0-1", 200, slice(0, None), None),
        ("bytes=x", 200, slice(0, None), None),
    ],
)
async def test_ranges_work(
    site: Site, header: str, status: int, part: slice | None, content_range: str | None
) -> None:
    """RFC 9110, 14: one range of bytes; others are passed over."""
    run, path = logged(site, TEXT)
    run.artifact("a.bin", TEXT, "application/octet-stream")
    for each in (path, f"/api/v1/runs/{run.id}/artifacts/a.bin"):
        reply = await site.get(each, headers={"Range": header})
        assert reply.status == status
        size = len(TEXT)
        if content_range is not None:
            told = content_range.replace("{}", str(size))
            assert reply.headers["Content-Range"] == told.format(last=size - 1, third=size - 3)
        if part is None:
            assert reply.problem
        else:
            assert reply.body == TEXT[part]


async def test_a_log_is_followed_until_its_attempt_ends(site: Site) -> None:
    """From before it begins, with everything in it; then filtered, and from its tail."""
    run = site.worker.new_run()
    path = f"/api/v1/runs/{run.id}/steps/clone/log?follow=1"
    early = asyncio.create_task(site.get(path))
    await until(lambda: site.worker.watching.get(run.id) == 1)
    run.step_started("clone")
    run.log("clone", b"one\ntw")
    late = asyncio.create_task(site.get(path + "&tail=1"))
    found = asyncio.create_task(site.get(path + "&grep=o$"))
    await until(lambda: site.worker.watching.get(run.id) == 3)
    run.log("clone", b"o\nthree")
    run.retrying("clone")
    assert (await early).body == b"one\ntwo\nthree"
    assert (await late).body == b"two\nthree"
    assert (await found).body == b"two\n"
    assert (await site.get(path)).body == b"one\ntwo\nthree"  # between attempts: the ended one
    run.step_finished("lint")
    assert (await site.get(path.replace("clone/log", "lint/log"))).body == b""


async def test_a_log_that_is_about_to_be_made_is_waited_for(site: Site) -> None:
    """`step_started` is written before the log is made."""
    run = site.worker.new_run()
    run.step_started("clone")
    log = run.dir.log("clone", 1)
    log.rename(log.with_suffix(".later"))
    path = f"/api/v1/runs/{run.id}/steps/clone/log"
    assert (await site.get(path)).body == b""
    following = asyncio.create_task(site.get(path + "?follow=1"))
    await until(lambda: site.worker.watching.get(run.id) == 1)
    log.with_suffix(".later").rename(log)
    run.log("clone", b"here\n")
    run.step_finished("clone")
    assert (await following).body == b"here\n"


async def test_a_followed_log_comes_as_it_grows(site: Site) -> None:
    """Not when it has ended."""
    run, path = logged(site, b"one\n")
    request = (
        f"GET {path}?follow=1 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {site.token}\r\n\r\n"
    )
    async with site.raw(request.encode()) as (reader, _):
        await reader.readuntil(b"one\n")
        run.log("clone", b"open")
        await reader.readuntil(b"open")
        run.finished()
        await reader.readuntil(b"0\r\n\r\n")


async def test_artifacts_are_shown_or_offered_by_what_they_are(site: Site) -> None:
    """Text, JSON, HTML and raster images inline; all else as attachment."""
    run = site.worker.new_run()
    kinds = {
        "a.txt": ("text/plain", "text/plain; charset=utf-8", True),
        "b/report.html": ("text/html", "text/html; charset=utf-8", True),
        "c.json": ("application/json", "application/json", True),
        "d.sarif": ("application/sarif+json", "application/sarif+json", True),
        "e.png": ("image/png", "image/png", True),
        "f.svg": ("image/svg+xml", "image/svg+xml", False),
        "g.xml": ("text/xml", "text/plain; charset=utf-8", True),
        "h.js": ("text/javascript", "text/plain; charset=utf-8", True),
        "i.xhtml": ("application/xhtml+xml", "application/xhtml+xml", False),
        "j.pdf": ("application/pdf", "application/pdf", False),
        "k": ("odd", "application/octet-stream", False),
    }
    for name, (media, _, _) in kinds.items():
        run.artifact(name, b"<b>x</b>", media)
    for name, (_, media, inline) in kinds.items():
        path = f"/api/v1/runs/{run.ref}/artifacts/{name}"
        reply = await site.get(path)
        assert (reply.status, reply.body) == (200, b"<b>x</b>")
        assert reply.headers["Content-Type"] == media
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        told = reply.headers["Content-Disposition"]
        assert told.startswith("inline" if inline else "attachment"), name
        assert reply.headers.get("Content-Security-Policy") == (
            CSP if "html" in name and inline else None
        )
        told = (await site.get(path + "?download=1")).headers["Content-Disposition"]
        assert told.startswith(f'attachment; filename="{name.rpartition("/")[2]}"')
    view = (await site.get(f"/api/v1/runs/{run.id}")).json["artifacts"]
    assert [item["name"] for item in view] == list(kinds)
    assert (await site.get(view[1]["url"].removeprefix(site.base))).status == 200


async def test_an_artifact_has_an_etag(site: Site) -> None:
    """Its hash: whoever has it is told so, and a part of another file is not mixed in."""
    run = site.worker.new_run()
    run.artifact("ä b.txt", b"12345", "text/plain")
    path = f"/api/v1/runs/{run.id}/artifacts/%C3%A4%20b.txt"
    etag = (await site.get(path)).headers["ETag"]
    assert etag == f'"{hashlib.sha256(b"12345").hexdigest()}"'
    for value in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        reply = await site.get(path, headers={"If-None-Match": value})
        assert (reply.status, reply.body, reply.headers["ETag"]) == (304, b"", etag)
    assert (await site.get(path, headers={"If-None-Match": '"x"'})).status == 200
    ranged = {"Range": "bytes=1-2"}
    assert (await site.get(path, headers={**ranged, "If-Range": etag})).body == b"23"
    assert (await site.get(path, headers={**ranged, "If-Range": '"x"'})).body == b"12345"
    head = await site.ask("HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "5")
    assert (
        attachment('ä"\r\n.txt')
        == "attachment; filename=\"____.txt\"; filename*=UTF-8''%C3%A4%22%0D%0A.txt"
    )


async def test_nothing_but_collected_regular_files_is_served(site: Site) -> None:
    """No links, no FIFOs, nothing outside, nothing half copied."""
    run = site.worker.new_run()
    secret = run.dir.path / "secret"
    secret.write_text("s3cret")
    run.artifact("real/x", b"x", "text/plain")
    for name in ("link", "fifo", "folder/x", "gone", "dir"):
        run.artifact(name, b"x", "text/plain")
    folder = run.dir.artifacts
    for name in ("link", "fifo", "gone", "dir"):
        (folder / name).unlink()
    (folder / "link").symlink_to("../secret")
    os.mkfifo(folder / "fifo")
    (folder / "dir").mkdir()
    (folder / "folder").rename(folder / "moved")
    (folder / "folder").symlink_to("moved")
    (folder / "unlisted").write_bytes(b"x")
    base = f"/api/v1/runs/{run.id}/artifacts/"
    assert (await site.get(base + "real/x")).status == 200
    for name in (
        "link", "fifo", "folder/x", "gone", "dir", "unlisted", "../secret", "..%2Fsecret",
        "%2e%2e/secret", "real/../real/x", "real//x", "/etc/passwd", "real", "x%00",
    ):  # fmt: skip
        reply = await site.get(base + name)
        assert reply.status == 404, name
        assert b"s3cret" not in reply.body
