"""What steps tell while they run, from the channel and the dialects to the journal and the log."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from runs import accept, execute, executing, files_with, plan_of, script
from tailrace.core.plan import CommandAction, StepPlan
from tailrace.rundir.layout import StateDir


def python(name: str, text: str, *args: str, **more: Any) -> StepPlan:
    """A step that is a Python program, which isn't shown."""
    argv = (sys.executable, "-c", text, *args)
    return StepPlan(
        id=name, base=name, label=name, action=CommandAction(argv=argv), echo=False, **more
    )


AGENT = r"""
import json, sys
def say(**message):
    print(json.dumps(message), flush=True)
print("starting", flush=True)
use = {"type": "tool_use", "id": "t1", "name": "mcp__fs__read", "input": {"path": sys.argv[1]}}
say(type="system", subtype="init", model="m", session_id="s")
text = {"type": "text", "text": "key is hunter2-x"}
say(type="assistant", message={"id": "a", "content": [text]})
say(type="assistant", message={"id": "a", "content": [use]})
answer = {"type": "tool_result", "tool_use_id": "t1", "content": sys.argv[1]}
say(type="user", message={"content": [answer]})
say(type="result", subtype="success", result="fine, hunter2-x", total_cost_usd=0.25,
    usage={"input_tokens": 7, "output_tokens": 3}, session_id="s")
print("bye", flush=True)
"""


async def test_an_agent_is_a_step_as_it_is(state: StateDir) -> None:
    """Its messages are events, masked; its log is what else it printed, line by line."""
    agent = python("agent", AGENT, "pr1vate", narration="claude", secrets=("KEY",))
    done = await execute(state, plan_of(agent), secrets={"KEY": "hunter2-x"})

    assert done.text("agent") == "starting\nbye\n"
    assert done.run.log("agent", 1).read_bytes() == b"starting\nbye\n"
    assert [item["delta"] for item in done.told("text")] == ["key is ***"]
    calls = [(item["name"], item["server"], item["phase"]) for item in done.told("tool_call")]
    assert calls == [("read", "fs", "started"), ("read", "fs", "finished")]
    assert done.told("tool_call")[1]["duration_ms"] >= 0
    assert [item["text"] for item in done.told("result")] == ["fine, ***"]
    assert done.told()[-1]["cost"] == {"usd": 0.25, "tokens_in": 7, "tokens_out": 3}
    finished = done.finished("agent")
    assert (finished["status"], finished["lines"], finished["bytes"]) == ("success", 2, 13)
    assert done.told("notice") == []
    assert files_with(done.run.path, "pr1vate") == {"run.json"}


async def test_an_agents_line_is_told_while_it_runs(state: StateDir) -> None:
    """Not at its end: each message goes out as it comes."""
    line = shlex.quote(json.dumps({"type": "assistant", "message": {
        "id": "a", "content": [{"type": "text", "text": "thinking aloud"}]}}))  # fmt: skip
    run = accept(state, plan_of(script("agent", f"echo {line}; sleep 600", narration="claude")))
    async with executing(run) as execution:
        told = await execution.until("text", step="agent")
        await execution.send("cancel")
        await execution.wait()
    assert told["delta"] == "thinking aloud"


async def test_workflow_commands_decorate_and_set_nothing(state: StateDir) -> None:
    """The log has them as they came; a value to mask is masked before it can be printed."""
    text = r"""
    echo '::group::Compile'
    printf '::add-mask::hunter2-y\nusing hunter2-y\n'
    echo '::error file=a.c,line=3::broken hunter2-y'
    echo '::set-output name=a::b'
    """
    done = await execute(
        state,
        plan_of(
            script("ci", text, narration="github", echo=False), script("plain", "echo ::group::x")
        ),
    )
    assert done.text("ci") == (
        "::group::Compile\n::add-mask::***\nusing ***\n"
        "::error file=a.c,line=3::broken ***\n::set-output name=a::b\n"
    )
    assert [item["text"] for item in done.told("status")] == ["Compile"]
    (fault,) = done.told("fault")
    assert (fault["kind"], fault["message"]) == ("error", "a.c:3: broken ***")
    assert [item["kind"] for item in done.told("notice")] == ["mask"]
    assert not (done.run.step("ci") / "outputs.json").exists()
    assert done.text("plain") == "::group::x\n"  # not what this step chose
    assert files_with(done.run.path, "hunter2-y") == {"run.json"}  # the script itself has it


FLOOD = r"""
import os, sys
kind, many = sys.argv[1], int(sys.argv[2])
with open(os.environ["TAILRACE_EVENTS"], "w") as file:
    for n in range(many):
        file.write('{"event":"%s","text":"%d","done":%d}\n' % (kind, n, n))
"""


async def test_a_flood_of_events_keeps_its_order_and_leaves_none_out(state: StateDir) -> None:
    """At full speed, from a step that ends right behind its last one."""
    done = await execute(state, plan_of(python("flood", FLOOD, "status", "10000")))

    assert [int(item["text"]) for item in done.told("status")] == list(range(10_000))
    assert [item["seq"] for item in done.told()] == list(range(1, len(done.told()) + 1))
    assert done.told("notice") == []


async def test_a_flood_of_progress_is_four_a_second_and_the_last_one(state: StateDir) -> None:
    """However fast it comes; what is between is nobody's."""
    done = await execute(state, plan_of(python("flood", FLOOD, "progress", "100000")))

    told = done.told("progress")
    assert told[-1]["done"] == 99_999
    assert len(told) <= 2 + 4 * done.finished("flood")["duration_ms"] / 1000
    assert [item["done"] for item in told] == sorted(item["done"] for item in told)


async def test_a_late_value_is_masked_in_all_that_is_told_with_it(state: StateDir) -> None:
    """Events that come together are looked through together, and none slips through."""
    events = [
        {"event": "status", "text": "before hunter2-z1"},
        {"event": "mask", "value": "hunter2-z2"},
        *({"event": "text", "delta": f"{n} hunter2-z1 hunter2-z2 "} for n in range(50)),
        {"event": "status", "text": "hunter2"},
        {"event": "status", "text": "-z1"},
    ]
    text = "import os, sys; open(os.environ['TAILRACE_EVENTS'], 'a').write(sys.argv[1])"
    data = "".join(json.dumps(event) + "\n" for event in events)
    done = await execute(state, plan_of(python("a", text, data)), secrets={"KEY": "hunter2-z1"})
    assert [item["text"] for item in done.told("status")] == ["before ***", "hunter2", "-z1"]
    assert [item["delta"] for item in done.told("text")] == [f"{n} *** *** " for n in range(50)]


async def test_a_secret_that_falls_over_several_deltas_is_masked(state: StateDir) -> None:
    """A model writes word by word; progress may be told in between."""
    events = [
        *({"event": "text", "delta": delta} for delta in ("hello hunter", "2-", "but-")),
        {"event": "status", "text": "thinking"},
        *({"event": "text", "delta": delta} for delta in ("longer", " bye, hunter2-but")),
    ]
    text = "import os, sys; open(os.environ['TAILRACE_EVENTS'], 'a').write(sys.argv[1])"
    data = "".join(json.dumps(event) + "\n" for event in events)
    secrets = {"KEY": "hunter2-but-longer"}
    done = await execute(state, plan_of(python("a", text, data)), secrets=secrets)

    told = [item for item in done.told() if item["event"] in ("text", "status")]
    assert [item.get("delta") for item in told] == ["hello ", None, "***", " bye, ", "hunter2-but"]


STREAMED = r"""
import json
def say(**message):
    print(json.dumps(message), flush=True)
def write(*words):
    for word in words:
        inner = {"type": "text_delta", "text": word}
        say(type="stream_event", event={"type": "content_block_delta", "delta": inner})
write("the key is hun", "ter2", "-x, I look at the files")
use = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
say(type="assistant", message={"id": "a", "content": [use]})
write("done hunter2-")
say(type="result", subtype="success", result="done")
"""


async def test_a_tool_call_and_the_result_end_a_text(state: StateDir) -> None:
    """Nothing of it comes behind them, and pieces that they part are no secret."""
    agent = python("agent", STREAMED, narration="claude")
    done = await execute(state, plan_of(agent), secrets={"KEY": "hunter2-x"})

    all_told = [(item["event"], item.get("delta", "")) for item in done.told(step="agent")]
    told = [item for item in all_told if item[0] in ("text", "tool_call", "result")]
    kinds = [kind for kind, _ in told]
    first, second = kinds.index("tool_call"), kinds.index("result")
    assert "".join(text for _, text in told[:first]) == "the key is ***, I look at the files"
    assert "".join(text for _, text in told[first + 1 : second]) == "done hunter2-"
    assert second == len(told) - 1


@pytest.mark.parametrize("narration", ["channel", "claude", "github"])
async def test_plain_output_is_the_same_in_every_dialect(
    state: StateDir, tmp_path: Path, narration: str
) -> None:
    """Byte for byte, also what is no text and an end without a newline."""
    data = (
        b"one\n\xff\xfe\x00 {\n  ::\n" + b"{x}\n" * 5000 + b'{"a":1}\n\n\n' + b"y" * 70_000 + b"{"
    )
    (tmp_path / "data").write_bytes(data)
    done = await execute(state, plan_of(script("a", f"cat {tmp_path}/data", narration=narration)))
    assert done.run.log("a", 1).read_bytes() == data
    assert done.finished("a")["lines"] == data.count(b"\n") + 1
