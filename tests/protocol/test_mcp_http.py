"""``/mcp`` of a real daemon with the official client: tools, rights, budgets, lost connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daemons import Daemon, serving
from mcp_client import over_http
from programs import require_package
from runs import eventually
from tailrace import wire

WAIT = 'echo ready; until [ -e "$TAILRACE_WORKSPACE/go" ]; do sleep 0.02; done'
PIPELINES = {
    "bad": """
description: Fails
params: {n: {type: integer, default: 1}, loud: {type: boolean, default: false}}
steps:
  allowed: {run: 'echo allowed; exit 9', allow_failure: true}
  fine: {needs: allowed, run: 'echo "fine $PARAM_N $PARAM_LOUD"'}
  broken: {needs: fine, run: 'echo one; echo "ERROR: two"; exit 3'}
  after: {needs: broken, run: 'true'}
""",
    "slow": f"steps: {{work: {{run: '{WAIT}', grace: 1s}}}}\n",
    "two": f"parallel: 2\nsteps: {{a: {{run: '{WAIT}'}}, b: {{run: '{WAIT}'}}}}\n",
    "ask": "steps: {ok: {ask: {question: 'Go on?', choices: [yes, no]}}}\n",
    "flood": "steps: {print: {run: 'seq -f \"line %.0f of a log that is long\" 300000'}}\n",
}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon with these pipelines."""
    require_package("mcp")
    async with serving(tmp_path, PIPELINES) as found:
        yield found


def token_of(daemon: Daemon, *args: str) -> str:
    """A token made by the command line."""
    from command_line import call

    env = {"PATH": "/usr/bin:/bin", "TAILRACE_STATE_DIR": str(daemon.state.path)}
    done = call(["token", "create", *args, "--json"], env=env, folder=daemon.state.path.parent)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["token"])


def let_go(daemon: Daemon, run_id: str) -> None:
    """Let a step that waits come to its end."""
    (daemon.state.workspace(run_id) / "go").touch()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_agent_starts_follows_and_cancels_runs(daemon: Daemon, mode: str) -> None:
    """Of today's protocol and of the one before; results are typed, refusals are sentences."""
    async with over_http(daemon.url, daemon.token, mode=mode) as agent:
        tools = (await agent.client.list_tools()).tools
        assert {t.name for t in tools if t.annotations.read_only_hint} == {
            "list_pipelines", "run_status", "tail_run", "search_log", "first_failure",
        }  # fmt: skip
        listed = (await agent.call("list_pipelines"))["pipelines"]
        assert {item["name"] for item in listed} == set(PIPELINES)

        started = await agent.call("start_run", pipeline="bad", params={"n": 7, "loud": True})
        other = await agent.call("start_run", pipeline="slow")
        assert (started["ref"], other["ref"]) == ("bad/1", "slow/1")
        status = await agent.call("run_status", run="bad/1", wait_s=30)
        assert (status["id"], status["status"]) == (started["id"], "error")
        assert [step["status"] for step in status["steps"]] == [
            "error", "success", "error", "skipped",
        ]  # fmt: skip
        failure = await agent.call("first_failure", run=started["id"])
        assert failure["step"]["step"] == "broken"
        assert failure["step"]["cause"] == "exit status 3"
        assert failure["lines"] == [
            {"ref": "#bad/1/broken/L1", "text": "one"},
            {"ref": "#bad/1/broken/L2", "text": "ERROR: two"},
        ]
        shown = await agent.text("tail_run", run="bad/1", step="fine")
        assert shown.endswith("\n#bad/1/fine/L1 fine 7 true")
        found = await agent.call("search_log", run="bad/1", pattern="(?i)^error")
        assert [line["ref"] for line in found["lines"]] == ["#bad/1/broken/L2"]

        await agent.call("cancel_run", run="slow/1", reason="enough")
        status = await agent.call("run_status", run="latest", wait_s=30)
        assert (status["ref"], status["status"], status["cause"]) == ("slow/1", "aborted", "enough")
        view = await daemon.get("/runs/slow/1")
        assert view["via"] == "mcp"

        assert "has ended" in await agent.refused("cancel_run", run="slow/1")
        assert "no pipeline is named 'nope'" in await agent.refused("start_run", pipeline="nope")
        assert "params.n" in await agent.refused("start_run", pipeline="bad", params={"n": [1]})
        assert "no run" in await agent.refused("tail_run", run="bad/99")
        assert "its steps: " in await agent.refused("tail_run", run="bad/1", step="nope")
        assert "pattern: " in await agent.refused("search_log", run="bad/1", pattern="(")
        assert "run_status takes: " in await agent.refused("run_status", what=1)


async def test_runs_are_resources(daemon: Daemon) -> None:
    """Listed, with templates, and read by id or ref."""
    async with over_http(daemon.url, daemon.token) as agent:
        started = await agent.call("start_run", pipeline="bad")
        await agent.call("run_status", run=started["id"], wait_s=30)
        (resource,) = (await agent.client.list_resources()).resources
        assert resource.name == "bad/1"
        templates = (await agent.client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == [
            "tailrace://runs/{id}", "tailrace://runs/{id}/steps/{step}/log",
        ]  # fmt: skip
        for uri in (resource.uri, "tailrace://runs/bad/1", "tailrace://runs/bad%2F1"):
            (contents,) = (await agent.client.read_resource(uri)).contents
            assert json.loads(contents.text)["id"] == started["id"]
        uri = f"tailrace://runs/{started['id']}/steps/broken/log"
        (contents,) = (await agent.client.read_resource(uri)).contents
        assert contents.text.endswith("#bad/1/broken/L2 ERROR: two")
        from mcp.shared.exceptions import MCPError

        for uri in ("tailrace://nothing", "tailrace://runs/bad/7", f"{resource.uri}/steps/x/log"):
            with pytest.raises(MCPError, match=r"nothing at|no run|no step"):
                await agent.client.read_resource(uri)


async def test_an_agent_answers_and_narrates(daemon: Daemon) -> None:
    """A prompt ends the wait; progress appears thinned, in the run that it names."""
    async with over_http(daemon.url, daemon.token) as agent:
        await agent.call("start_run", pipeline="ask")
        status = await agent.call("run_status", run="ask/1", wait_s=30)
        assert [prompt["choices"] for prompt in status["prompts"]] == [["yes", "no"]]
        refused = await agent.refused("answer_prompt", run="ask/1", prompt="ok", answer="perhaps")
        assert refused.startswith("the answer must be one of: yes, no; ")
        await agent.call("answer_prompt", run="ask/1", prompt="ok", answer="yes")
        assert (await agent.call("run_status", run="ask/1", wait_s=30))["status"] == "success"

        run = await agent.call("start_run", pipeline="slow")
        await eventually(lambda: daemon.state.run(run["id"]).log("work", 1).exists())
        for percent in range(30):
            await agent.call("progress_update", run="slow/1", stage="Reading", percent=percent)
        shown = await agent.call("tail_run", run="slow/1")
        assert [item["stage"] for item in shown["progress"]] == ["Reading"]
        let_go(daemon, run["id"])
        await agent.call("run_status", run="slow/1", wait_s=30)
        refused = await agent.refused("progress_update", run="slow/1", note="late")
        assert "has ended" in refused
        assert "several steps run" in await _of_two(daemon, agent)

    async with daemon.client.get(
        f"{daemon.url}/api/v1/runs/slow/1/events", headers={"Accept": "application/x-ndjson"}
    ) as stream:
        told = [json.loads(line) for line in (await stream.read()).splitlines()]
    progress = [event for event in told if event["event"] == "progress"]
    assert progress[-1]["percent"] == 29
    times = [wire.parse_timestamp(event["t"]) for event in progress]
    assert len(times) <= 4 + 4 * (times[-1] - times[0])


async def _of_two(daemon: Daemon, agent: Any) -> str:
    """What an update says that could be about two steps."""
    run = await agent.call("start_run", pipeline="two")
    logs = [daemon.state.run(run["id"]).log(step, 1) for step in ("a", "b")]
    await eventually(lambda: all(log.exists() for log in logs))
    said = str(await agent.refused("progress_update", run=run["id"], note="x"))
    await agent.call("progress_update", run=run["id"], note="x", step="b")
    await agent.call("cancel_run", run=run["id"])
    return said


async def test_a_token_reaches_as_far_as_everywhere(daemon: Daemon) -> None:
    """Reading doesn't start or steer; a narrowed token sees its pipelines alone; none is 401."""
    for pipeline in ("bad", "ask"):
        await daemon.start(pipeline)
    reader = token_of(daemon, "reader", "--scope", "read")
    narrow = token_of(daemon, "narrow", "--scope", "run", "--pipeline", "bad")
    async with over_http(daemon.url, reader) as agent:
        assert (await agent.call("run_status", run="ask/1"))["ref"] == "ask/1"
        for tool, arguments in {
            "start_run": {"pipeline": "bad"},
            "cancel_run": {"run": "ask/1"},
            "answer_prompt": {"run": "ask/1", "prompt": "ok", "answer": "yes"},
            "progress_update": {"run": "ask/1", "note": "x"},
        }.items():
            assert "'run' is needed" in await agent.refused(tool, **arguments)
    async with over_http(daemon.url, narrow) as agent:
        listed = (await agent.call("list_pipelines"))["pipelines"]
        assert [item["name"] for item in listed] == ["bad"]
        assert (await agent.call("run_status", run="latest"))["ref"] == "bad/1"
        assert [r.name for r in (await agent.client.list_resources()).resources] == ["bad/1"]
        for tool in ("run_status", "tail_run", "first_failure", "cancel_run"):
            assert "there is no run 'ask/1'" in await agent.refused(tool, run="ask/1")
        assert "no pipeline is named" in await agent.refused("start_run", pipeline="ask")
        assert (await agent.call("start_run", pipeline="bad"))["ref"] == "bad/2"
    async with aiohttp.ClientSession() as nobody:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": f"Bearer {reader}", "Host": "evil.example"}, 403),
        ):
            async with nobody.post(f"{daemon.url}/mcp", json={}, headers=headers) as answer:
                assert answer.status == status
                assert answer.content_type == "application/problem+json"
    async with daemon.client.get(f"{daemon.url}/mcp") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    await daemon.end_runs()


async def test_a_connection_that_dies_harms_no_run(daemon: Daemon) -> None:
    """Neither its own nor the daemon; the wait that it left ends."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    headers = {"Accept": "application/json, text/event-stream", **daemon.client.headers}
    async with over_http(daemon.url, daemon.token) as agent:
        run = await agent.call("start_run", pipeline="slow")
    call = {"name": "run_status", "arguments": {"run": run["id"], "wait_s": 50}}
    for _ in range(5):
        reader, writer = await asyncio.open_connection(
            *daemon.url.removeprefix("http://").split(":")
        )
        data = json.dumps({**body, "params": call}).encode()
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(
            ["POST /mcp HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}",
             "Content-Type: application/json", *lines, "", ""]
        )  # fmt: skip
        writer.write(head.encode() + data)
        await writer.drain()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        writer.transport.abort()
    # 499: the daemon has noticed that nobody waits any more.
    await eventually(lambda: daemon.log.read_text().count('"status": 499') == 5)
    let_go(daemon, run["id"])
    assert (await daemon.until_final(run["id"]))["status"] == "success"
    assert "Traceback" not in daemon.log.read_text()


async def test_the_tail_of_ten_megabytes_keeps_its_budget(daemon: Daemon) -> None:
    """By the usual measure of four characters a token, and with either form of the result."""
    async with over_http(daemon.url, daemon.token) as agent:
        await agent.call("start_run", pipeline="flood")
        status = await agent.call("run_status", run="flood/1", wait_s=50)
        assert status["status"] == "success"
        view = await daemon.get("/runs/flood/1")
        assert view["steps"][0]["bytes"] > 10_000_000
        for tokens in (100, 2_000, 20_000):
            answer = await agent.client.call_tool("tail_run", {"run": "flood/1", "tokens": tokens})
            assert len(answer.content[0].text) / 4 <= tokens
            assert len(json.dumps(answer.structured_content)) / 4 <= tokens
            assert answer.structured_content["left_out"]
        last = answer.structured_content["lines"][-1]
        assert last == {
            "ref": "#flood/1/print/L300000", "text": "line 300000 of a log that is long",
        }  # fmt: skip
        found = await agent.call("search_log", run="flood/1", pattern="^line [0-9]*999 ")
        assert (found["matches"], len(found["lines"]), found["complete"]) == (300, 20, True)
        assert found["lines"][0]["ref"] == "#flood/1/print/L999"
        before = await agent.call("tail_run", run="flood/1", step="print", upto=999, tokens=200)
        assert before["lines"][-1]["ref"] == "#flood/1/print/L999"
        fresh = await agent.call("tail_run", run="flood/1", after=status["last_seq"])
        assert fresh["lines"] == []


async def test_what_a_run_tells_in_words_keeps_the_budget_too(daemon: Daemon) -> None:
    """The note of a running step, and the reason of a cancel, which a run and its step have."""
    async with over_http(daemon.url, daemon.token) as agent:
        run = await agent.call("start_run", pipeline="slow")
        await eventually(lambda: daemon.state.run(run["id"]).log("work", 1).exists())
        await agent.call("progress_update", run=run["id"], stage="s" * 200, note="n" * 1000)
        for tokens in (100, 300, 2_000):
            await _keeps(agent, "tail_run", run["id"], tokens)
        shown = await agent.call("tail_run", run=run["id"])
        assert shown["progress"][0]["note"] == "n" * 200 + "…"
        await agent.call("cancel_run", run=run["id"], reason="r" * 1000)
        await agent.call("run_status", run=run["id"], wait_s=30)
        for tokens in (100, 300, 2_000):
            await _keeps(agent, "first_failure", run["id"], tokens)
        failure = await agent.call("first_failure", run=run["id"])
        assert failure["cause"] == "r" * 1000


async def _keeps(agent: Any, tool: str, run: str, tokens: int) -> None:
    """Both forms of an answer are within the budget, at three bytes a token."""
    answer = await agent.client.call_tool(tool, {"run": run, "tokens": tokens})
    assert len(answer.content[0].text.encode()) <= 3 * tokens
    assert len(wire.encode_json(answer.structured_content)) <= 3 * tokens


async def test_without_the_extra_the_daemon_says_what_to_install(tmp_path: Path) -> None:
    """501 in a problem document; everything else works."""
    hidden = tmp_path / "hidden/mcp"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'mcp'\")\n")
    env = {"PYTHONPATH": str(hidden.parent)}
    async with (
        serving(tmp_path, {}, env=env) as daemon,
        daemon.client.post(f"{daemon.url}/mcp", json={}) as answer,
    ):
        assert answer.status == 501
        assert "pip install '.[mcp]' in the checkout" in (await answer.json())["detail"]
        assert (await daemon.get("/runs"))["runs"] == []
