"""Whatever comes from outside: an answer that says what is wrong, never a 500."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from http_site import Site, open_site

PLACES = st.sampled_from(
    ["RUN", "REF", "latest", "", ".", "..", "%00", "%2F", "%ff", "clone", "lint", "nope", "a/b"]
) | st.text(max_size=12).map(lambda text: quote(text, safe=""))
PATHS = st.one_of(
    st.builds("/api/v1/runs/{}".format, PLACES),
    st.builds(
        "/api/v1/runs/{}/{}".format,
        PLACES,
        st.sampled_from(["events", "ws", "cancel", "retry", "x"]),
    ),
    st.builds(
        "/api/v1/runs/{}/steps/{}/{}".format,
        PLACES,
        PLACES,
        st.sampled_from(["log", "skip", "cancel"]),
    ),
    st.builds("/api/v1/runs/{}/artifacts/{}".format, PLACES, PLACES),
    st.builds("/api/v1/pipelines/{}".format, PLACES),
    st.builds("/ops/{}".format, PLACES),
    st.sampled_from(
        ["/", "/api/v1/runs", "/api/v1/pipelines", "/metrics", "/healthz", "//", "/ops"]
    ),
    st.text(max_size=20).map(lambda text: "/" + quote(text)),
)
NAMES = st.sampled_from(
    ["tail", "after", "step", "progress", "plain", "shape", "limit", "cursor", "status", "pipeline",
     "attempt", "from_line", "to_line", "grep", "ansi", "download", "repo",
     "count", "_depth", "token"]
) | st.text(max_size=5)  # fmt: skip
VALUES = st.sampled_from(
    [
        "",
        "0",
        "1",
        "-1",
        "9" * 30,
        "1e9",
        "2s",
        "nope",
        "(",
        "[^a]*",
        "\\C",
        "clone",
        "strip",
        "fast",
    ]
) | st.text(max_size=10)
QUERIES = st.lists(st.tuples(NAMES, VALUES), max_size=3).map(
    lambda pairs: urlencode([(name, value) for name, value in pairs], errors="replace")
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Last-Event-ID", "Range", "If-None-Match", "If-Range", "Accept", "Idempotency-Key",
         "Origin",
         "Cookie", "Sec-Fetch-Site", "Content-Type", "X-Forwarded-Proto", "Purpose", "Host"]
    ),
    st.sampled_from(
        ["", "1", "RUN:1", "RUN:99", "bytes=0-1", "bytes=9-1", "bytes=-", "*", '"x"',
         "text/event-stream",
         "application/x-ndjson;q=x, */*;q=0.1", "a" * 300, "null", ";;;=,", "prefetch", "localhost"]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    max_size=3,
)  # fmt: skip
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
BODIES = st.one_of(
    st.just(b""),
    st.binary(max_size=30),
    st.dictionaries(
        st.sampled_from(["pipeline", "params", "depth", "on_disconnect", "reason", "from", "x"]),
        JSON_VALUES | st.sampled_from(["clone", "other", "broken", "cancel", "start"]),
        max_size=4,
    ).map(lambda body: json.dumps(body).encode()),
)


async def _ask(site: Site, method: str, path: str, headers: dict[str, str], body: bytes) -> int:
    """Send a request byte by byte as given; return the status of the answer's first line."""
    lines = {"Host": "localhost", **headers, "Authorization": f"Bearer {site.token}"}
    if body:
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    request = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1", "replace") + body
    async with asyncio.timeout(10), site.raw(request) as (reader, _):
        line = await reader.readline()
    return int(line.split()[1])


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def _fuzz(data: st.DataObject, *, site: Site, ids: dict[str, str], ask: Any) -> None:
    method = data.draw(
        st.sampled_from(["GET", "GET", "GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS"])
    )
    path = data.draw(PATHS) + "?" + data.draw(QUERIES)
    headers = data.draw(HEADERS)
    body = data.draw(BODIES) if method == "POST" else b""
    for name, value in ids.items():
        path = path.replace(name, value)
        headers = {key: text.replace(name, value) for key, text in headers.items()}
    status = ask(method, path, headers, body)
    assert status != 500, (method, path, headers, body)


async def test_no_request_ends_in_a_500(tmp_path: Path) -> None:
    """Paths, query strings, headers and bodies of every kind."""
    async with open_site(tmp_path) as site:
        run = site.worker.new_run()
        run.started()
        run.step_started("clone")
        run.log("clone", b"one\ntwo\xff")
        run.step_finished("clone")
        run.artifact("clone", b"data", "text/plain")
        run.finished()
        loop = asyncio.get_running_loop()

        def ask(*request: Any) -> int:
            return asyncio.run_coroutine_threadsafe(_ask(site, *request), loop).result()

        await asyncio.to_thread(_fuzz, site=site, ids={"RUN": run.id, "REF": run.ref}, ask=ask)


async def test_what_is_not_http_leaves_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its text, which may hold a token, and without a traceback: it isn't our mistake."""
    async with (
        open_site(tmp_path) as site,
        site.raw(b"GET /?token=tr_secret HTTP/9.9\r\n\r\n") as (reader, _),
    ):
        assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
    (record,) = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert (record.getMessage(), record.exc_info) == ("malformed request", None)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET /ops/clone?repo=" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_a_problem_document(site: Site, request_: bytes) -> None:
    """Also where no request could be made of it; what came isn't repeated."""
    async with site.raw(request_) as (reader, _):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    problem = json.loads(body)
    assert (problem["status"], problem["title"]) == (400, "Bad Request")
    assert "xxx" not in problem["detail"]


async def test_a_compressed_body_is_refused_and_not_unpacked(site: Site) -> None:
    """415, whether it is what it says or not."""
    for coding, body in (("gzip", b"{}"), ("gzip", gzip.compress(b"{}")), ("br", b"x")):
        reply = await site.ask(
            "POST", "/api/v1/runs", data=body, headers={"Content-Encoding": coding}
        )
        assert reply.status == 415
        assert reply.problem
