"""What a tool was given or answered is in no sink, in whatever shape a step tells it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from daemons import serving
from programs import require
from runs import files_with

# Each shape holds a private text of its own, so that a leak says which one it was.
SHAPES = r"""
import itertools, json, os, sys
number = itertools.count()
def private():
    return f"pr1vate-{next(number):03d}"

def channel():
    call = {"event": "tool_call", "id": "1", "name": "Bash", "phase": "started"}
    keys = ("input output arguments args parameters params result content command stdin stdout "
            "stderr response data body tool_input toolInput Input INPUT payload private _private "
            "label text delta note title url message question value step t seq").split()
    for key in [*keys, "in put", "", "\u0456nput"]:
        yield {**call, key: private()}
    for wrap in (lambda p: {"deep": {"input": [p]}}, lambda p: [[p]],
                 lambda p: json.dumps({"a": p}), lambda p: {p: p}, lambda p: p.encode().hex() + p):
        yield {**call, "input": wrap(private())}
        yield {**call, "phase": "finished", "is_error": True, "output": wrap(private())}
    for key in ("name", "id", "server"):
        for text in ('Bash({"command": "%s"})', '{"name": "Bash", "input": "%s"}', "Bash %s",
                     "Bash\n%s", "Bash: %s", "https://h/p?token=%s", "Bash\u2028%s", '"%s"', "(%s)",
                     "mcp__fs__read<%s>", "a" * 128 + "%s", "Bash=%s", "Bash,%s"):
            yield {**call, key: text % private()}
        yield {**call, key: {"input": private()}}
        yield {**call, key: [private()]}
    for key in ("phase", "is_error", "duration_ms", "event"):
        yield {**call, key: private() + " x"}
        yield {**call, key: {"input": private()}}
    for name in ("tool_use", "tool_result", "Tool_Call", "log", "step_finished", "unknown"):
        yield {**call, "event": name, "input": private()}
    for event in ({"event": "progress", "percent": 1}, {"event": "status", "text": "s"},
                  {"event": "text", "delta": "d"}, {"event": "token", "text": "d"},
                  {"event": "cost", "usd": 1}, {"event": "result", "text": "r"},
                  {"event": "fault", "message": "m"}, {"event": "citation", "title": "t"}):
        yield {**event, "input": private(), "private": {"k": private()}}
        yield {**event, "event": {"input": private()}}
    for url in ("https://h/p?token=%s", "https://h/p?a=1&token=%s", "HTTPS://h/?%s", "http://h?k=%s",
                "https://h/p#access_token=%s", "https://u:%s@h/", "https://%s@h/p", "data:text,%s",
                "https://h/ p?%s", "javascript:%s", "//h/p?%s", "https://h/p?x=%%20%s#f"):
        yield {"event": "citation", "url": url % private(), "title": "t"}
        if url.startswith("http") and " " not in url:
            yield {"event": "citation", "title": "see " + url % private()}
            yield {"event": "citation", "title": "t", "id": url % private()}
    yield [{**call, "input": private()}]
    yield json.dumps({**call, "input": private()})

def raw_channel():
    yield '{"event":"tool_call","name":"Bash","input":"%s"' % private()
    yield '{"event":"tool_call","name":"Bash","\\u0069nput":"%s"}' % private()
    yield '{"event":"tool_call","name":"A","input":"%s","input":"%s"}' % (private(), private())
    yield '{"event":"tool_call","name":7,"input":"%s"}' % private()
    yield '{"event":"tool_call","name":"B","input":"%s"}{"event":"status"}' % private()
    yield '{"event":"status","text":"%s"}' % (private() * 7000)
    yield "%s" % private()

def claude():
    use = lambda **more: {"type": "tool_use", "id": "t", "name": "Bash", "input": private(), **more}
    say = lambda *blocks, **more: {
        "type": "assistant", "message": {"id": "m", "content": list(blocks)}, **more}
    hear = lambda **block: {"type": "user", "message": {"content": [
        {"type": "tool_result", "tool_use_id": "t", **block}]}}
    yield say(use())
    yield say(use(id="u", input={"a": {"b": [private()]}}))
    yield say(use(id="v", input=json.dumps({"k": private()})))
    yield say(use(id="w", name="Bash " + private()), use(id={"x": private()}))
    yield say(use(name=[private()]))
    yield say({"type": "server_tool_use", "id": "x", "name": "web", "input": {"q": private()}})
    yield say({"type": "thinking", "thinking": private()})
    yield say({"type": "of next year", "input": private()})
    yield hear(content=private())
    yield hear(content=[{"type": "text", "text": private()}], is_error=True)
    yield {**hear(content="x"), "tool_use_result": {"stdout": private()}}
    yield {**hear(content="x"), "toolUseResult": private()}
    yield {"type": "user", "message": {"content": private()}}
    yield {"type": "user", "message": private()}
    yield say({"type": "text", "text": private()}, parent_tool_use_id="t")
    yield {"type": "system", "subtype": "hook_response", "stdout": private(), "session_id": "s"}
    yield {"type": "system", "subtype": "init", "cwd": private(), "tools": [private()]}
    yield {"type": "result", "subtype": "success", "permission_denials": [
        {"tool_input": {"command": private()}}]}
    yield {"type": "control_request", "request": {"tool_name": "Bash", "input": private()}}
    yield {"type": "of next year", "session_id": "s", "x": private()}
    yield {"session_id": "s", "x": private()}
    yield {"tool_input": private()}
    yield use(id="y")
    yield {"type": "tool_result", "tool_use_id": "y", "content": private()}
    yield [say(use(id="z")), hear(content=private())]
    for delta in ({"type": "input_json_delta", "partial_json": private()},
                  {"type": "thinking_delta", "thinking": private()}):
        event = {"type": "content_block_delta", "index": 1, "delta": delta}
        yield {"type": "stream_event", "event": event}
        yield event
    yield {"type": "stream_event", "event": {"type": "content_block_start", "content_block": use()}}

def raw_claude():
    whole = json.dumps({"type": "assistant", "message": {"content": [
        {"type": "tool_use", "id": "r", "name": "Bash", "input": "x" * 9000 + private()}]}})
    yield "note: " + whole
    yield "\t " + whole.replace(": ", ":")
    yield whole.replace('"type": "assistant"', '"type" : "assistant"')
    yield whole + whole
    yield whole.replace("xxx", "\\ud83d", 1)
    yield whole[:-1] + "," + '"x":}'
    yield whole.replace("xxx", "x\nsome warning\nx", 1)
    yield json.dumps({"type": "result", "result": "fine", "total_cost_usd": 0.5})
    yield whole[:-9]

with open(os.environ["TAILRACE_EVENTS"], "w") as events:
    for shape in channel():
        print(json.dumps(shape), file=events)
    for line in raw_channel():
        print(line, file=events)
for shape in claude():
    print(json.dumps(shape))
for line in raw_claude():
    print(line)
print(next(number), file=open(os.path.join(os.environ["TAILRACE_ARTIFACTS"], "count"), "w"))
"""

PIPELINE = """
steps:
  agent: {echo: false, narration: claude, sandbox: SANDBOX, command: [PYTHON, -c, SHAPES]}
"""


@pytest.mark.parametrize("sandbox", ["off", "required"])
async def test_nothing_of_a_tools_input_is_in_any_sink(tmp_path: Path, sandbox: str) -> None:
    """Tried with over two hundred shapes, on the channel and as an agent prints them."""
    if sandbox == "required":
        require("bwrap")
    text = PIPELINE.replace("SHAPES", json.dumps(SHAPES)).replace("PYTHON", sys.executable)
    text = text.replace("SANDBOX", "false" if sandbox == "off" else sandbox)
    seen = bytearray()
    async with serving(tmp_path, {"agent": text}) as daemon:
        run = await daemon.start("agent")
        final = await daemon.until_final(run["id"])
        base = f"/runs/{run['id']}"
        events = f"{base}/events"
        for path in (events, f"{events}?plain=1", f"{events}?shape=message", base, "/runs",
                     f"{base}/steps/agent/log"):  # fmt: skip
            async with daemon.client.get(f"{daemon.url}/api/v1{path}") as answer:
                seen += await answer.read()
        for command in ("tail", "show"):
            terminal = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tailrace.cli.main", command, run["id"],
                "--state", str(daemon.state.path),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                env=dict(os.environ),
            )  # fmt: skip
            seen += (await terminal.communicate())[0]
        told = (daemon.state.run(run["id"]).journal).read_bytes()
        count = (daemon.state.run(run["id"]).artifacts / "count").read_text()

    assert final["status"] == "success", final
    assert int(count) > 200
    assert sorted(set(re.findall(rb"pr1vate-\d+", bytes(seen)))) == []
    (tmp_path / "pipelines/agent.yaml").unlink()
    assert files_with(tmp_path, "pr1vate") == {f"state/runs/{run['id']}/run.json"}
    # What may be told of all this was told.
    for kind, least in (("tool_call", 60), ("citation", 15), ("cost", 1), ("result", 1)):
        assert told.count(b'"event":"%s"' % kind.encode()) >= least, kind
