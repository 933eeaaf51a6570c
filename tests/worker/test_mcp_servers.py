"""Whether MCP servers are there: real handshakes with real servers, whatever those do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path

import pytest

from mcp_server import TOOLS, command, serving_http
from tailrace.runner.containment import is_alive
from tailrace.settings import McpServer, Settings
from tailrace.wire import McpHealth
from tailrace.worker.mcp_servers import McpServers
from yard import until

LONG_S = 30.0  # for a server that answers, on the slowest machine


def servers(timeout_s: float = LONG_S, **given: McpServer) -> McpServers:
    """These servers, as in the settings."""
    return McpServers(Settings(mcp=given), lambda text: text, timeout_s=timeout_s)


async def shake(server: McpServer, timeout_s: float = LONG_S) -> McpHealth:
    """Ask one server."""
    (health,) = await servers(timeout_s, it=server).look(["it"])
    assert health.name == "it"
    assert health.alive == (health.error is None)
    return health


async def test_a_server_that_answers_is_alive_and_tells_its_tools() -> None:
    """All pages of them; a banner and questions of its own don't disturb."""
    assert await shake(McpServer(command=command("well"))) == McpHealth(
        name="it", alive=True, tools=TOOLS
    )


@pytest.mark.parametrize("how", ["json", "stream"])
async def test_a_server_over_http_is_asked_in_the_same_way(how: str) -> None:
    """Whether it answers with JSON or with a stream; its session is ended."""
    with serving_http(how) as site:
        health = await shake(McpServer(url=site.url))
    assert health == McpHealth(name="it", alive=True, tools=TOOLS)
    assert site.asked == [
        "initialize", "notifications/initialized", *["tools/list"] * len(TOOLS), "DELETE",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("refuse", "it refuses initialize: no licence\N{REPLACEMENT CHARACTER}[2J"),
        ("die", "it ended (exit status 3) and gave no answer to initialize: API_KEY is not set"),
        ("flood", "it printed 8 MiB and no answer to initialize"),
        ("chatter", "it is no MCP server: it printed 'line 0', which is no JSON"),
        ("garbage", "it sends JSON that is no JSON-RPC 2.0"),
    ],
)
async def test_a_server_that_misbehaves_is_not_alive(how: str, error: str) -> None:
    """And it is told why, as soon as it shows: none of these is waited for."""
    health = await shake(McpServer(command=command(how)))
    assert health.error == error


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("redirect", "it answers 307 Temporary Redirect: give the address that this leads to"),
        ("login", "it answers 401 Unauthorized: it wants a login"),
        ("html", "it answers with text/html, and not with JSON; is that its MCP address?"),
    ],
)
async def test_a_web_server_that_is_no_mcp_server_is_told_apart(how: str, error: str) -> None:
    """A page, a login, a redirect."""
    with serving_http(how) as site:
        assert (await shake(McpServer(url=site.url))).error == error
    assert site.asked == ["initialize"]


async def test_a_server_that_never_stops_talking_is_given_up_on() -> None:
    """The bound is on the whole, not on each wait."""
    with serving_http("drip") as site:
        health = await shake(McpServer(url=site.url), timeout_s=0.3)
    assert health.error == "it doesn't answer initialize within 0.3s"


async def test_what_cannot_be_started_or_reached_is_told() -> None:
    """No such program; nobody listens."""
    with serving_http("json") as site:
        gone = site.url
    asked = servers(none=McpServer(command=("no-such-server",)), gone=McpServer(url=gone))
    none, nobody = await asked.look(["none", "gone", "unknown"])
    assert none.error == "'no-such-server' can't be started: No such file or directory"
    assert nobody.error == "it can't be reached: Connection refused"


async def test_a_server_that_hangs_is_given_up_on() -> None:
    """After its time, which is short here."""
    health = await shake(McpServer(command=("sleep", "600")), timeout_s=0.3)
    assert health.error == "it doesn't answer initialize within 0.3s"


async def test_a_server_that_hides_leaves_no_process(tmp_path: Path) -> None:
    """Though it ignores SIGTERM, and started one that left its session and environment."""
    place = tmp_path / "pids"
    health = await shake(McpServer(command=command("hide", str(place))))
    assert health.error == "it refuses initialize: no licence\N{REPLACEMENT CHARACTER}[2J"
    assert [pid for pid in map(int, place.read_text().split()) if is_alive(pid)] == []


async def test_a_look_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    """As when the daemon stops."""
    place = tmp_path / "pids"
    asked = servers(it=McpServer(command=command("hang", str(place))))
    look = asyncio.create_task(asked.look(["it"]))
    pids = await until(
        lambda: place.exists() and place.read_text().endswith("\n") and place.read_text(),
        "the server's start",
    )
    look.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await look
    assert look.cancelled()
    assert [pid for pid in map(int, pids.split()) if is_alive(pid)] == []


async def test_a_caller_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """The one who asks for it notices that nobody listens any more."""
    place = tmp_path / "pids"
    asking = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tailrace.handshake",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert asking.stdin is not None
    question: dict[str, object] = {
        "command": command("hang", str(place)),
        "url": None,
        "step_env": {},
    }
    asking.stdin.write(json.dumps({**question, "timeout_s": LONG_S * 4}).encode() + b"\n")
    pids = await until(
        lambda: place.exists() and place.read_text().endswith("\n") and place.read_text(),
        "the server's start",
    )
    asking.stdin.close()  # as the kernel does for who was killed
    assert await asking.wait() == 1
    assert [pid for pid in map(int, pids.split()) if is_alive(pid)] == []


async def test_what_was_found_is_remembered_for_a_while(tmp_path: Path) -> None:
    """Asked at once by many, and again a moment later, a server is started once."""
    starts = tmp_path / "starts"
    script = f"echo start >> {starts}; exec {' '.join(command('well'))}"
    asked = servers(it=McpServer(command=("sh", "-c", script)))
    assert asked.known("it") is None
    found = await asyncio.gather(*(asked.look(["it"]) for _ in range(5)))
    assert [health.alive for (health,) in found] == [True] * 5
    began = time.monotonic()
    for _ in range(100):
        await asked.look(["it"])
    assert time.monotonic() - began < 1
    assert starts.read_text().count("start") == 1
    assert asked.known("it") == found[0][0]

    await asked.look(["it"], fresh=True)
    assert starts.read_text().count("start") == 2


async def test_what_a_server_says_of_itself_is_masked() -> None:
    """Its last line may hold what nobody should see."""
    settings = Settings(mcp={"it": McpServer(command=command("die"))})
    asked = McpServers(settings, lambda text: text.replace("API_KEY", "***"))
    (health,) = await asked.look(["it"])
    assert health.error is not None
    assert health.error.endswith("*** is not set")


async def test_a_server_has_the_environment_of_steps(tmp_path: Path) -> None:
    """And none of the daemon's own."""
    place = tmp_path / "env"
    server = McpServer(command=("sh", "-c", f"env > {place}.new; mv {place}.new {place}"))
    settings = Settings(mcp={"it": server}, step_env={"MCP_HOME": "/srv/mcp"})
    await McpServers(settings, lambda text: text).look(["it"])
    found = dict(line.split("=", 1) for line in place.read_text().splitlines())
    assert found["MCP_HOME"] == "/srv/mcp"
    assert found["TAILRACE"] == "1"
    assert "PYTEST_CURRENT_TEST" not in found
