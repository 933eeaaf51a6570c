"""``tailrace mcp`` with the official client: over folders, over a daemon, and when it is killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import TAILRACE, Site
from daemons import NO_SHAPES, serving
from mcp_client import Agent, over_stdio
from programs import require, require_package
from runs import eventually
from tailrace.rundir.lock import is_held
from tailrace.rundir.snapshot import read_snapshot
from tailrace.store.rebuild import run_ids

ROOT = Path(__file__).parents[2]
WAIT = 'echo ready; until [ -e "$TAILRACE_WORKSPACE/go" ]; do sleep 0.02; done; echo gone'
PIPELINES = {
    "alone": f"concurrency: {{group: one}}\nsteps: {{work: {{run: '{WAIT}'}}}}\n",
    "bad": "steps: {a: {run: 'echo oops; exit 3'}}\n",
    "slow": f"on_disconnect: cancel\nsteps: {{work: {{run: '{WAIT}', grace: 1s}}}}\n",
}
HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A state folder and pipelines; what still runs at the end is cancelled."""
    require_package("mcp")
    (tmp_path / "pipelines").mkdir()
    kept = ("PATH", "HOME", "LANG", "USER")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    env |= {
        "TAILRACE_STATE_DIR": str(tmp_path / "state"),
        "TAILRACE_PIPELINES_DIR": str(tmp_path / "pipelines"),
        "TAILRACE_LIMITS__MIN_FREE": "1K",
        **NO_SHAPES,
    }
    found = Site(tmp_path, env)
    for name, text in PIPELINES.items():
        found.pipeline(name, text)
    yield found
    for run_id in run_ids(found.state):
        if not read_snapshot(found.state.run(run_id)).is_final:
            found.tailrace("cancel", run_id)


async def finish(site: Site, run_id: str) -> str:
    """Let a run that waits come to its end; return its status."""
    run = site.state.run(run_id)
    await eventually(lambda: run.log("work", 1).exists())
    (site.state.workspace(run_id) / "go").touch()
    await eventually(lambda: read_snapshot(run).is_final and not is_held(run.lock))
    return read_snapshot(run).status


async def begin(site: Site) -> asyncio.subprocess.Process:
    """Start the server in a session of its own, and greet it."""
    process = await asyncio.create_subprocess_exec(
        *TAILRACE, "mcp", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=site.env, cwd=site.folder, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for message in (HELLO, {"jsonrpc": "2.0", "method": "notifications/initialized"}):
        process.stdin.write(json.dumps(message).encode() + b"\n")
    await process.stdout.readline()
    return process


async def start(process: asyncio.subprocess.Process, pipeline: str, call_id: int) -> str:
    """Have the server start a run; return its id."""
    assert process.stdin is not None
    assert process.stdout is not None
    call = {"name": "start_run", "arguments": {"pipeline": pipeline}}
    message = {"jsonrpc": "2.0", "id": call_id, "method": "tools/call", "params": call}
    process.stdin.write(json.dumps(message).encode() + b"\n")
    answer = json.loads(await process.stdout.readline())
    return str(answer["result"]["structuredContent"]["id"])


async def starts_and_reads(agent: Agent) -> str:
    """What every way must give; return the id of a run that goes on."""
    await agent.call("start_run", pipeline="bad")
    status = await agent.call("run_status", run="bad/1", wait_s=30)
    assert status["status"] == "error"
    failure = await agent.call("first_failure", run="latest")
    assert failure["lines"] == [{"ref": "#bad/1/a/L1", "text": "oops"}]
    found = await agent.call("search_log", run="bad/1", pattern="o+ps", step="a")
    assert found["matches"] == 1
    other = await agent.call("start_run", pipeline="slow")
    await agent.call("cancel_run", run="slow/1")
    status = await agent.call("run_status", run=other["id"], wait_s=30)
    assert status["status"] == "aborted"
    run = await agent.call("start_run", pipeline="slow")
    return str(run["id"])


async def test_it_works_without_a_daemon(site: Site) -> None:
    """By way of the folders; a run outlives the server, also where the pipeline wouldn't."""
    async with over_stdio([], env=site.env, folder=site.folder) as agent:
        run_id = await starts_and_reads(agent)
        await eventually(lambda: site.state.run(run_id).log("work", 1).exists())
        await agent.call("progress_update", run=run_id, note="half of it", percent=50)
        shown = await agent.call("tail_run", run=run_id)
        assert shown["progress"] == [
            {"step": "work", "percent": 50, "stage": None, "note": "half of it"}
        ]
        snapshot = read_snapshot(site.state.run(run_id))
        assert (snapshot.status, snapshot.via) == ("running", "mcp")
    assert await finish(site, run_id) == "success"


async def test_a_start_answers_at_once_where_another_run_goes_first(site: Site) -> None:
    """The second one of a group waits for the first, and nobody waits for it."""
    async with over_stdio([], env=site.env, folder=site.folder) as agent:
        first = await agent.call("start_run", pipeline="alone")
        second = await agent.call("start_run", pipeline="alone")
        assert second["status"] == "queued"
        assert (await agent.call("run_status", run=second["id"]))["status"] == "queued"
        assert await finish(site, first["id"]) == "success"
        assert await finish(site, second["id"]) == "success"
        third, fourth = [await agent.call("start_run", pipeline="alone") for _ in range(2)]
        await agent.call("cancel_run", run=fourth["id"])
        status = await agent.call("run_status", run=fourth["id"])
        assert status["status"] == "aborted"
        assert await finish(site, third["id"]) == "success"


async def test_it_works_with_a_daemon_that_comes_and_goes(site: Site) -> None:
    """The daemon's socket is used while one answers; the server needn't be started again."""
    async with over_stdio([], env=site.env, folder=site.folder) as agent:
        await agent.call("list_pipelines")
        async with serving(site.folder, PIPELINES) as daemon:
            run_id = await starts_and_reads(agent)
            view = await daemon.get(f"/runs/{run_id}")
            assert view["via"] == "http"
        status = await agent.call("run_status", run=run_id)
        assert status["ref"] == "slow/2"
    assert await finish(site, run_id) == "success"


async def test_a_daemon_at_an_address_is_waited_for_while_it_restarts(site: Site) -> None:
    """Once it has answered: a call in between is answered when it is back."""
    async with serving(site.folder, PIPELINES) as before:
        env = {**site.env, "TAILRACE_TOKEN": before.token}
        async with over_stdio(["--url", before.url], env=env, folder=site.folder) as agent:
            await agent.call("list_pipelines")
            before.process.kill()
            await before.process.wait()
            call = asyncio.create_task(agent.call("list_pipelines"))
            listen = before.url.removeprefix("http://")
            async with serving(site.folder, PIPELINES, args=["--listen", listen]):
                assert (await call)["pipelines"]


async def test_a_killed_server_harms_no_run(site: Site) -> None:
    """Its whole process group at once, in the middle of a run."""
    process = await begin(site)
    run_id = await start(process, "slow", 2)
    await eventually(lambda: site.state.run(run_id).log("work", 1).exists())
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

    assert await finish(site, run_id) == "success"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_server_though_its_input_is_open(site: Site, number: int) -> None:
    """At once and without a traceback; what has begun goes on, what waits for its turn is ended."""
    process = await begin(site)
    assert process.stderr is not None
    first, second = [await start(process, "alone", call) for call in (2, 3)]
    await eventually(lambda: site.state.run(first).log("work", 1).exists())
    process.send_signal(number)

    assert await process.wait() == 128 + number
    assert b"Traceback" not in await process.stderr.read()
    assert read_snapshot(site.state.run(second)).status == "aborted"
    assert await finish(site, first) == "success"


async def test_it_says_nothing_but_the_protocol_and_ends_with_its_input(site: Site) -> None:
    """Also where what it gets is no message."""
    process = await asyncio.create_subprocess_exec(
        *TAILRACE, "mcp", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=site.env, cwd=site.folder,
    )  # fmt: skip
    sent = json.dumps(HELLO).encode() + b"\nthis is no message\n"
    out, err = await process.communicate(sent)

    assert process.returncode == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    assert told[0]["result"]["serverInfo"]["name"] == "tailrace"
    assert all(message["jsonrpc"] == "2.0" for message in told)


def test_without_the_extra_it_says_what_to_install(site: Site) -> None:
    """In one line, with exit status 2."""
    hidden = site.folder / "hidden/mcp"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'mcp'\")\n")
    process = site.begin("mcp", PYTHONPATH=str(hidden.parent))
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2, err
    assert out == ""
    assert "pip install '.[mcp]' in the checkout" in err
    assert err.count("\n") == 1


async def test_an_agent_analyzes_a_repository(site: Site) -> None:
    """The pipeline that we ship, from its start to the report."""
    require("git")
    shutil.copy(ROOT / "pipelines/analyze.yaml", site.folder / "pipelines")
    repo = site.folder / "project"
    repo.mkdir()
    (repo / "app.py").write_text("import pickle\n\npickle.loads(b'')\n")
    for args in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "Begin"],
    ):
        git = await asyncio.create_subprocess_exec("git", *args, cwd=repo)
        assert await git.wait() == 0
    async with over_stdio([], env=site.env, folder=site.folder) as agent:
        run = await agent.call("start_run", pipeline="analyze", params={"repo": str(repo)})
        status = await agent.call("run_status", run=run["id"], wait_s=50)
        assert status["status"] == "success", await agent.text("first_failure", run=run["id"])
        assert any(item["name"] == "report.html" for item in status["artifacts"])
        assert await agent.text("tail_run", run=run["ref"])
