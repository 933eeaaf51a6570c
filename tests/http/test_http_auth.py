"""Who may do what: the rules alone, and then over real sockets."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import aiohttp
import pytest

from http_site import Site, open_site
from tailrace.core.host_name import host_name
from tailrace.errors import InvalidInputError, UnknownError
from tailrace.http import auth
from tailrace.rundir.layout import StateDir
from tailrace.store.tokens import TokenStore


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8470", "localhost"),
        ("LOCALHOST.", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:8470", "[::1]"),
        ("evil.example:80", "evil.example"),
        ("", None),
        ("a b", None),
        ("user@localhost", None),
        ("localhost:8470:1", None),
        ("localhost/x", None),
        ("[::1", None),
    ],
)
def test_a_host_header_names_one_host(header: str, name: str | None) -> None:
    """Lower-case, without its port; what is no host is none."""
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        (["localhost"], True),
        (["127.8.9.1:1"], True),
        (["[::1]"], True),
        (["ci.example"], True),
        (["ci.example:444"], True),
        (["10.0.0.5:8470"], True),
        (["evil.example"], False),
        (["localhost.evil.example"], False),
        (["127.0.0.1.evil.example"], False),
        (["10.0.0.6"], False),
        ([], False),
        (["localhost", "evil.example"], False),
    ],
)
def test_only_our_own_names_are_ours(headers: list[str], ours: bool) -> None:
    """Loopback, the listen address, the public URL's host and the setting; one header exactly."""
    allowed = auth.host_names("10.0.0.5", "https://ci.example:444/x", ())
    assert auth.host_is_allowed(headers, allowed) is ours


@pytest.mark.parametrize(
    ("site", "origin", "ours"),
    [
        ("same-origin", None, True),
        ("same-origin", "http://evil.example", True),  # the browser vouches for the site
        ("same-site", "http://localhost:8470", False),
        ("cross-site", None, False),
        ("none", None, False),
        (None, "http://localhost:8470", True),
        (None, "https://ci.example", True),
        (None, "http://localhost:3000", False),
        (None, "null", False),
        (None, None, False),
    ],
)
def test_changes_by_cookie_come_from_our_page(
    site: str | None, origin: str | None, ours: bool
) -> None:
    """`Sec-Fetch-Site` decides; where it is absent, `Origin`."""
    own = auth.own_origins("http", "localhost:8470", "https://ci.example/")
    assert auth.change_is_ours(site, origin, own) is ours


def test_a_forwarded_scheme_counts_from_trusted_proxies_only() -> None:
    """Else everybody could make a cookie Secure, or not."""
    assert auth.forwarded_scheme("http", "10.1.2.3", "https", ["10.0.0.0/8"]) == "https"
    assert auth.forwarded_scheme("http", "11.1.2.3", "https", ["10.0.0.0/8"]) == "http"
    assert auth.forwarded_scheme("http", "10.1.2.3", "gopher", ["10.0.0.0/8"]) == "http"
    assert auth.forwarded_scheme("http", None, "https", ["10.0.0.0/8"]) == "http"


def test_tokens_are_kept_as_hashes_and_end(tmp_path: Path) -> None:
    """By revocation and in time; their text is in no file."""
    store = TokenStore(tmp_path / "state.db")
    text = store.create("ann", ["run"], pipelines=["a"], expires_s=100.0, now=10.0)
    token = store.find(text, now=99.0)
    assert token is not None
    assert sorted(token.scopes) == ["read", "run"]
    assert token.pipelines == frozenset({"a"})
    assert store.find(text, now=100.0) is None
    assert store.find("tr_other", now=20.0) is None
    session = store.open_session(text, now=20.0, seconds=1000)
    assert session is not None
    assert store.find_session(session, now=50.0) == (token, 1020.0)
    assert store.find_session(session, now=100.0) is None  # the token's end is the session's
    store.revoke("ann", now=30.0)
    assert store.find(text, now=40.0) is None
    assert store.find_session(session, now=40.0) is None
    assert store.open_session(text, now=40.0, seconds=1) is None
    store.close()
    for file in tmp_path.iterdir():
        assert text.encode() not in file.read_bytes()
        assert session.encode() not in file.read_bytes()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


def test_bad_tokens_are_refused_with_every_mistake(tmp_path: Path) -> None:
    """And names are unique among those that live."""
    store = TokenStore(tmp_path / "state.db")
    with pytest.raises(InvalidInputError) as caught:
        store.create("a b", ["write"], pipelines=["X"], now=0.0)
    assert [problem.where for problem in caught.value.problems] == ["name", "scopes", "pipelines"]
    with pytest.raises(InvalidInputError):
        store.create("a", [], now=0.0)
    with pytest.raises(InvalidInputError, match="needs no token, on the Unix socket"):
        store.create("local", ["read"], now=0.0)
    store.create("a", ["read"], now=0.0)
    with pytest.raises(InvalidInputError, match="exists"):
        store.create("a", ["read"], now=1.0)
    store.revoke("a", now=2.0)
    store.create("a", ["admin"], now=3.0)
    assert [(token.name, len(token.scopes)) for token in store.list()] == [("a", 3)]
    with pytest.raises(UnknownError):
        store.revoke("b", now=3.0)
    store.close()


def test_the_first_token_is_made_once_and_stays_revoked(tmp_path: Path) -> None:
    """A lost database takes it from its file again; an open file is refused."""
    state = StateDir(tmp_path)
    store = TokenStore(state.state_db)
    text = store.ensure_first(state, now=1.0)
    assert state.token.stat().st_mode & 0o777 == 0o600
    assert store.ensure_first(state, now=2.0) == text
    store.revoke("owner", now=3.0)
    assert store.ensure_first(state, now=4.0) == text
    assert store.find(text, now=5.0) is None
    store.close()
    for path in tmp_path.glob("state.db*"):
        path.unlink()
    store = TokenStore(state.state_db)
    assert store.ensure_first(state, now=6.0) == text
    assert store.find(text, now=7.0) is not None
    state.token.chmod(0o640)
    with pytest.raises(InvalidInputError, match="open to others"):
        store.ensure_first(state, now=8.0)
    state.token.unlink()
    state.token.mkdir()
    with pytest.raises(InvalidInputError, match=f"{state.token} is no file"):
        store.ensure_first(state, now=9.0)
    store.close()


async def test_without_a_token_nothing_but_the_shell_and_probes(site: Site) -> None:
    """401 with a challenge; a wrong token says so, even beside a good cookie."""
    cookie = await log_in(site)
    for path in (
        "/api/v1/runs",
        "/metrics",
        "/api/v1/openapi.json",
        "/ops/clone",
        "/api/v1/events",
    ):
        reply = await site.get(path, headers={"Authorization": None})
        assert reply.status == 401
        assert reply.headers["WWW-Authenticate"] == 'Bearer realm="tailrace"'
        assert reply.problem
    for path in ("/", "/healthz", "/readyz"):
        assert (await site.get(path, headers={"Authorization": None})).status == 200
    for header in ("Bearer nope", "Basic dXNlcjpwYXNz", "Bearer", ""):
        reply = await site.get("/api/v1/runs", headers={"Authorization": header, "Cookie": cookie})
        assert reply.status == 401
        assert "invalid_token" in reply.headers["WWW-Authenticate"]
    assert (
        await site.get(f"/api/v1/runs?token={site.token}", headers={"Authorization": None})
    ).status == 401
    assert site.worker.submissions == []


async def log_in(site: Site) -> str:
    """Open /?token=T as a browser does; return the Cookie header."""
    reply = await site.get(f"/?token={site.token}&x=1", headers={"Authorization": None})
    assert reply.status == 303
    assert reply.headers["Location"] == "/?x=1"
    cookie: str = reply.headers["Set-Cookie"]
    port = site.host_port[1]
    assert cookie.startswith(f"tailrace_{port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie
    assert site.token not in cookie
    return cookie.partition(";")[0]


async def test_who_logs_in_by_the_public_url_stays_below_it_and_on_https(tmp_path: Path) -> None:
    """The proxy in front took scheme and path away."""
    async with open_site(tmp_path, public_url="https://ci.example.org/tail") as site:
        path = f"/?token={site.token}"
        for host, location, is_secure in (
            ("ci.example.org", "/tail/", True),
            ("localhost", "/", False),
        ):
            reply = await site.get(path, headers={"Authorization": None, "Host": host})
            assert (reply.status, reply.headers["Location"]) == (303, location)
            assert ("Secure" in reply.headers["Set-Cookie"]) is is_secure


async def test_a_cookie_reads_everywhere_and_changes_from_our_page_only(site: Site) -> None:
    """Neither a foreign page nor one of another port can start or steer a run."""
    cookie = await log_in(site)
    run = site.worker.new_run()
    headers: dict[str, str | None] = {"Authorization": None, "Cookie": cookie}
    assert (await site.get("/api/v1/runs", headers=headers)).status == 200
    path = f"/api/v1/runs/{run.id}/cancel"
    foreign: list[dict[str, str]] = [
        {}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-site", "Origin": site.base}, {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ]  # fmt: skip
    for more in foreign:
        assert (await site.post(path, headers={**headers, **more})).status == 403
        assert (await site.get("/ops/other", headers={**headers, **more})).status == 403
        assert (await site.ask("DELETE", path[:-7], headers={**headers, **more})).status == 403
    assert site.worker.commands == []
    assert site.worker.submissions == []
    for more in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": site.base}):
        assert (await site.post(path, headers={**headers, **more})).status == 202
    assert len(site.worker.commands) == 2


async def test_a_session_outlives_the_daemon_and_not_its_token(tmp_path: Path) -> None:
    """A restart logs nobody out; revoking the token does."""
    async with open_site(tmp_path) as site:
        cookie = await log_in(site)
        headers = {"Authorization": None, "Cookie": cookie}
        assert (await site.get("/api/v1/runs", headers=headers)).status == 200
        site.tokens.revoke("owner", now=time.time())
        assert (await site.get("/api/v1/runs", headers=headers)).status == 401
        assert (await site.get(f"/?token={site.token}")).status == 401
        page = await site.get("/", headers=headers)
        assert b"logged in as" not in page.body


async def test_a_foreign_host_is_refused_everywhere_but_at_the_probes(site: Site) -> None:
    """A name that was made to point to us opens nothing (DNS rebinding)."""
    for host in ("evil.example", f"evil.example:{site.host_port[1]}"):
        headers = {"Host": host}
        for path in ("/", "/api/v1/runs", "/metrics", "/nowhere", f"/?token={site.token}"):
            reply = await site.get(path, headers=headers)
            assert reply.status == 403, path
            assert "allowed_hosts" in reply.problem["detail"]
        for path in ("/healthz", "/readyz"):
            assert (await site.get(path, headers=headers)).status == 200


async def test_scopes_reach_as_far_as_they_say(site: Site) -> None:
    """Reading, running, deleting."""
    run = site.worker.new_run("other", ("only",))
    run.finished()
    reader, runner, admin = (site.make_token(scope) for scope in ("read", "run", "admin"))
    cancel, one = f"/api/v1/runs/{run.id}/cancel", f"/api/v1/runs/{run.id}"
    for token, allowed in ((reader, 0), (runner, 1), (admin, 2)):
        assert (await site.get(one, headers=token)).status == 200
        reply = await site.post(cancel, headers=token)
        assert reply.status == (202 if allowed >= 1 else 403)
        if allowed < 1:
            assert 'scope="run"' in reply.headers["WWW-Authenticate"]
            assert (await site.get("/ops/other", headers=token)).status == 403
        status = (await site.ask("DELETE", one, headers=token)).status
        assert status == (204 if allowed >= 2 else 403)
    assert site.worker.submissions == []


async def test_a_narrowed_token_sees_its_pipelines_only(site: Site) -> None:
    """Others' runs are unknown to it, by every way."""
    mine, theirs = site.worker.new_run("other", ("only",)), site.worker.new_run("clone")
    token = site.make_token("admin", pipelines=["other"])
    two = site.make_token("read", pipelines=["other", "third"])
    for header in (token, two):
        listed = (await site.get("/api/v1/runs", headers=header)).json["runs"]
        assert [run["id"] for run in listed] == [mine.id]
        names = [
            item["name"]
            for item in (await site.get("/api/v1/pipelines", headers=header)).json["pipelines"]
        ]
        assert names == ["other"]
        assert (await site.get("/metrics", headers=header)).status == 403
    assert (await site.get("/api/v1/runs?pipeline=clone", headers=token)).json["runs"] == []
    assert (await site.get(f"/api/v1/runs/{mine.id}", headers=token)).status == 200
    for method, path in (
        ("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", ""), ("POST", "/retry"),
        ("GET", "/steps/clone/log"), ("GET", "/artifacts/x"),
    ):  # fmt: skip
        for name in (theirs.id, theirs.ref):
            assert (
                await site.ask(method, f"/api/v1/runs/{name}{path}", headers=token)
            ).status == 404
    prefix = mine.id[:6]  # the time to some 17 minutes, which both have
    assert (await site.get(f"/api/v1/runs/{prefix}", headers=token)).json["id"] == mine.id
    resumed = {**token, "Last-Event-ID": f"{theirs.id}:2"}
    assert (await site.get("/ops/other", headers=resumed)).status == 404
    started = await site.post("/api/v1/runs", {"pipeline": "other"}, headers=resumed)
    assert started.status == 404
    for path in ("/ops/clone?repo=x", "/api/v1/pipelines/clone"):
        assert (await site.get(path, headers=token)).status == 404
    assert (await site.post("/api/v1/runs", {"pipeline": "clone"}, headers=token)).status == 404
    assert site.worker.submissions == []


async def test_what_a_narrowed_token_may_see_is_asked_of_the_index(site: Site) -> None:
    """Each of its requests would read a whole journal otherwise, on the daemon's loop."""
    mine, theirs = site.worker.new_run("other", ("only",)), site.worker.new_run("clone")
    token = site.make_token("run", pipelines=["other"])
    for run, status in ((mine, 202), (theirs, 404)):
        site.worker.state.run(run.id).journal.unlink()
        reply = await site.ask("POST", f"/api/v1/runs/{run.id}/cancel", headers=token)
        assert reply.status == status


async def test_the_unix_socket_needs_no_token_and_trusts_its_own_user(site: Site) -> None:
    """Whoever may open the file may do everything; trust is for our own user id."""
    assert site.server.socket.stat().st_mode & 0o777 == 0o660
    connector = aiohttp.UnixConnector(str(site.server.socket))
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.post("http://any/api/v1/runs", json={"pipeline": "other"}) as reply,
    ):
        assert reply.status == 201
    async with site.client.post(
        f"{site.base}/api/v1/runs", json={"pipeline": "other"}, headers=site.bearer
    ) as reply:
        assert reply.status == 201
    own, tcp = site.worker.submissions
    assert (own.by, own.trusted, own.via) == ("local", True, "http")
    assert (tcp.by, tcp.trusted, tcp.via) == ("owner", False, "http")
    peer = auth.caller_of_peer(os.geteuid() + 1, os.geteuid(), "ann")
    assert (peer.name, peer.trusted, len(peer.scopes)) == ("ann", False, 3)


async def test_a_key_belongs_to_the_token_and_not_to_its_name(site: Site) -> None:
    """A token that takes over the name of one that has ended has keys of its own."""
    bodies = ({"pipeline": "other"}, {"pipeline": "clone", "params": {"repo": "x"}})
    for n, body in enumerate(bodies):
        text = site.tokens.create("ann", ["run"], now=float(n))
        headers = {"Authorization": f"bEARER {text}", "Idempotency-Key": "k"}
        assert (await site.post("/api/v1/runs", body, headers=headers)).status == 201
        site.tokens.revoke("ann", now=float(n))
    assert len(site.worker.submissions) == 2


async def test_cors_is_closed_unless_an_origin_is_allowed(tmp_path: Path, site: Site) -> None:
    """Preflights included; never with credentials."""
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    reply = await site.ask("OPTIONS", "/api/v1/runs", headers={**ask, "Authorization": None})
    assert reply.status == 403
    assert "Access-Control-Allow-Origin" not in reply.headers
    (tmp_path / "two").mkdir()
    async with open_site(tmp_path / "two", allowed_origins=("https://app.example",)) as opened:
        reply = await opened.ask("OPTIONS", "/api/v1/runs", headers={**ask, "Authorization": None})
        assert reply.status == 204
        assert reply.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Authorization" in reply.headers["Access-Control-Allow-Headers"]
        reply = await opened.get("/api/v1/runs", headers={"Origin": "https://app.example"})
        assert reply.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Access-Control-Allow-Credentials" not in reply.headers
        reply = await opened.get("/api/v1/runs", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in reply.headers
        assert reply.headers["Vary"] == "Origin"
        reply = await opened.ask("OPTIONS", "/api/v1/runs", headers={**ask, "Authorization": None})
        allowed = reply.headers["Access-Control-Allow-Headers"]
        for header in ("Content-Type", "Idempotency-Key", "Last-Event-ID", "Range"):
            assert header in allowed
        assert "DELETE" in reply.headers["Access-Control-Allow-Methods"]
        assert "Access-Control-Allow-Credentials" not in reply.headers
        for origin, read in (("https://app.example", "https://app.example"), ("null", None)):
            reply = await opened.post(
                "/api/v1/runs", {"pipeline": "other"}, headers={"Origin": origin}
            )
            assert reply.headers["Vary"] == "Origin"
            assert reply.headers.get("Access-Control-Allow-Origin") == read
            if read:
                assert "Location" in reply.headers["Access-Control-Expose-Headers"]
        reply = await opened.get("/api/v1/runs", headers={**ask, "Authorization": None})
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (
            401, "https://app.example",
        )  # fmt: skip


async def test_no_token_and_no_query_is_logged(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line a request, with method, path, status and who."""
    await log_in(site)
    await site.get("/api/v1/runs?pipeline=s3cret")
    logged = "".join(capfd.readouterr())
    assert site.token not in logged
    assert "s3cret" not in logged
    assert "path=/api/v1/runs" in logged
    assert "by=owner" in logged


async def test_a_second_daemon_and_bad_addresses_are_refused(site: Site, tmp_path: Path) -> None:
    """Nothing of the first one's is touched."""
    from tailrace.http.server import serving
    from tailrace.settings import Settings

    with pytest.raises(InvalidInputError, match="listens on"):
        async with serving(site.worker, Settings(listen="127.0.0.1:0")):
            raise AssertionError
    port = site.host_port[1]
    with pytest.raises(InvalidInputError, match="choose another port"):
        async with serving(
            site.worker, Settings(listen=f"127.0.0.1:{port}", socket=str(tmp_path / "s"))
        ):
            raise AssertionError
    assert site.worker.state.address.read_text() == f"127.0.0.1:{port}\n"
    assert (await site.get("/healthz")).status == 200
    for text in ("8470", "localhost:http"):
        with pytest.raises(InvalidInputError, match=r"listen: '.*' is no address; write HOST:PORT"):
            async with serving(site.worker, Settings(listen=text, socket=str(tmp_path / "s"))):
                raise AssertionError


async def test_a_stale_socket_is_replaced_and_everything_is_cleared_away(tmp_path: Path) -> None:
    """What a killed daemon left doesn't keep the next one out; deep folders neither."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    stale = socket.socket(socket.AF_UNIX)
    folder = os.open(deep, os.O_PATH)
    stale.bind(f"/proc/self/fd/{folder}/s.sock")
    stale.close()
    os.close(folder)
    async with open_site(tmp_path, socket=str(deep / "s.sock")) as site:
        state = site.worker.state
        folder = os.open(deep, os.O_PATH)
        connector = aiohttp.UnixConnector(f"/proc/self/fd/{folder}/s.sock")
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.get("http://x/api/v1/runs") as reply,
        ):
            assert reply.status == 200
        os.close(folder)
    assert not (deep / "s.sock").exists()
    assert not state.address.exists()
