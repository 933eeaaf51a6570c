"""A run watched and steered over WebSocket, by a client library that isn't our server's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK

from browser import browser_page
from daemons import Daemon, serving
from programs import require
from runs import processes_of
from tailrace import wire

Told = dict[str, Any]

STUBBORN = """steps:
  work:
    run: |
      trap 'echo bye; exit 0' TERM
      (trap '' TERM; sleep 600) &
      echo ready
      while :; do sleep 0.02; done
    grace: 300ms
  next: {needs: work, run: echo next}
"""
COUNT = """steps:
  count: {run: "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done", timeout: 1h}
  next: {needs: count, run: echo next}
"""
ASK = """steps:
  sure: {ask: {question: Go on?, choices: ["yes", "no"]}}
  work: {needs: sure, run: "echo $OUTPUT_SURE_ANSWER", when: "steps.sure.outputs.answer == 'yes'"}
"""


@pytest.fixture(scope="module")
def pipelines() -> dict[str, str]:
    """What the daemon of this module's tests runs."""
    return {"stubborn": STUBBORN, "count": COUNT, "ask": ASK, "fail": "steps: {a: {run: 'false'}}"}


@pytest.fixture
async def daemon(tmp_path: Path, pipelines: dict[str, str]) -> AsyncIterator[Daemon]:
    """A daemon of the test's own."""
    async with serving(tmp_path, pipelines, settings="max_runs: 4\n") as running:
        yield running


class Client:
    """A connection, and all that came on it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.told: list[Told] = []

    async def send(self, event: str, **more: Any) -> None:
        """Send a command; ``id`` and ``data`` may be given."""
        await self.connection.send(json.dumps({"event": event, **more}))

    async def until(self, event: str, **fields: Any) -> Told:
        """Read on to the next event of that name with those fields; return its data."""
        while True:
            message = json.loads(await self.connection.recv())
            assert message.keys() == {"event", "data"}
            self.told.append(message)
            data: Told = message["data"]
            if message["event"] == event and all(data.get(k) == v for k, v in fields.items()):
                return data

    async def rest(self) -> list[Told]:
        """Read to the end, which must be a close with 1000; return all events of the run."""
        with pytest.raises(ConnectionClosedOK) as closed:
            await self.until("")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000
        return [message["data"] for message in self.told if message["event"] != "refused"]


@asynccontextmanager
async def opened(daemon: Daemon, run: str, query: str = "") -> AsyncIterator[Client]:
    """Connect to a run."""
    url = daemon.url.replace("http://", "ws://") + f"/api/v1/runs/{run}/ws{query}"
    headers = {"Authorization": f"Bearer {daemon.token}"}
    async with connect(url, additional_headers=headers, open_timeout=30) as connection:
        yield Client(connection)


async def test_a_cancel_in_the_middle_of_a_step_leaves_nothing_behind(daemon: Daemon) -> None:
    """From `plan` to `aborted`; a second cancel with the same id is the same one."""
    run = await daemon.start("stubborn")
    async with opened(daemon, run["ref"]) as client:
        assert (await client.until("plan"))["run"] == run["id"]
        await client.until("log", text="ready")
        for _ in range(2):
            await client.send("cancel", id="c1", data={"reason": "wrong branch"})
        told = await client.rest()
    numbered = [event for event in told if event["event"] != "control"]
    assert [event["seq"] for event in numbered] == sorted({event["seq"] for event in numbered})
    first, again = [event for event in told if event["event"] == "control"]
    assert first == again
    assert (first["action"], first["by"], first["via"]) == ("cancel", "owner", "ws")
    assert told[-1]["event"] == "aborted"
    assert "wrong branch" in told[-1]["reason"]
    (work,) = [e for e in told if e["event"] == "step_finished" and e["step"] == "work"]
    assert work["status"] == "aborted"
    assert work["kill"]["survivors"] == []
    assert processes_of(daemon.state.run(run["id"])) == []
    as_told = json.dumps(await daemon.get(f"/runs/{run['id']}"))
    assert '"aborted"' in as_told


async def test_a_pause_of_two_seconds_is_silent_and_a_skip_goes_on(daemon: Daemon) -> None:
    """Each command without an id changes things once; what is so already comes again."""
    run = await daemon.start("count")
    async with opened(daemon, run["id"]) as client:
        await client.until("log", step="count")
        await client.send("resume")
        assert "already" in (await client.until("refused"))["reason"]
        await client.send("pause")
        paused = await client.until("control", action="pause")
        await asyncio.sleep(2)
        await client.send("pause")
        assert await client.until("control") == paused
        await client.send("resume")
        resumed = await client.until("control", action="resume")
        assert resumed["seq"] == paused["seq"] + 1  # nothing was printed between
        lasted = wire.parse_timestamp(resumed["t"]) - wire.parse_timestamp(paused["t"])
        assert lasted >= 2
        await client.until("log", step="count")  # it counts on
        for _ in range(2):
            await client.send("extend", data={"step": "count", "by": "10m"})
        extended = [await client.until("control", action="extend") for _ in range(2)]
        assert len({event["seq"] for event in extended}) == 2
        await client.send("skip", data={"step": "count", "reason": "enough"})
        await client.until("control", action="skip")
        told = await client.rest()
    assert told[-1]["event"] == "summary"
    assert told[-1]["status"] == "success"
    printed = [e["text"] for e in told if e["event"] == "log" and e["step"] == "count"]
    counted = [int(line) for text in printed for line in text.split()]
    assert counted == list(range(1, len(counted) + 1))
    ends = {e["step"]: (e["status"], e["cause"]) for e in told if e["event"] == "step_finished"}
    assert ends == {"count": ("skipped", "enough"), "next": ("success", None)}


async def test_a_prompt_is_answered_once_and_nothing_else_is_taken(daemon: Daemon) -> None:
    """Bad input is refused with the reason, changes nothing, and leaves the connection open."""
    run = await daemon.start("ask")
    bad: list[tuple[str | bytes, str]] = [
        ("{", "JSON"),
        ("[]", "object"),
        (b"{}", "text"),
        ('{"event":"explode"}', "no command"),
        ('{"event":"cancle"}', "cancel"),
        ('{"event":"cancel","data":{"reason":5}}', "reason"),
        ('{"event":"cancel","data":[]}', "data"),
        ('{"event":"skip"}', "step"),
        ('{"event":"skip","data":{"step":"of-another-run"}}', "no step"),
        ('{"event":"extend","data":{"step":"work","by":"-1m"}}', "by"),
        ('{"event":"extend","data":{"step":"work","by":"0s"}}', "more than nothing"),
        ('{"event":"answer","data":{"answer":"yes"}}', "prompt"),
        ('{"event":"answer","data":{"prompt":"nope","answer":"yes"}}', "nope"),
        ('{"event":"answer","data":{"prompt":"sure","answer":"maybe"}}', "yes, no"),
        ('{"event":"cancel","id":"two words"}', "id"),
        ('{"event":"retry"}', "waiting"),
        ('{"event":"cancel","more":1}', "more"),
    ]
    async with opened(daemon, run["id"]) as client:
        await client.until("prompt")
        for message, reason in bad:
            await client.connection.send(message)
            refused = await client.until("refused")
            assert reason in refused["reason"], (message, refused)
        await client.send("answer", id=7, data={"prompt": "sure", "answer": "yes"})
        answered = await client.until("answered")
        assert (answered["answer"], answered["by"], answered["via"]) == ("yes", "owner", "ws")
        for _ in range(2):
            await client.send("answer", id=7, data={"id": "sure", "answer": "yes"})
            assert await client.until("answered") == answered
        await client.send("answer", id=7, data={"prompt": "sure", "answer": "no"})
        assert "another command" in (await client.until("refused", id=7))["reason"]
        told = await client.rest()
    # Answers that were asked for again may come behind the run's last event.
    (ended,) = [message["data"] for message in client.told if message["event"] == "summary"]
    assert ended["status"] == "success"
    assert not [e for e in told if e["event"] == "control"]


async def test_a_finished_run_takes_a_retry_and_nothing_else(daemon: Daemon) -> None:
    """It is told whole, from any place on, and then closed."""
    run = await daemon.start("fail")
    final = await daemon.until_final(run["id"])
    async with opened(daemon, run["id"], f"?after={final['last_seq']}") as client:
        for command in ("cancel", "pause", "resume"):
            await client.send(command)
            assert (await client.until("refused", command=command))["state"] == "error"
        for _ in range(2):
            await client.send("retry", id="again", data={"from": "start"})
        first, second = [await client.until("control", action="retry") for _ in range(2)]
        await client.send("retry", id="again", data={"from": "failed"})
        assert (await client.until("refused"))["command"] == "retry"
        told = await client.rest()
    assert told == [first, second]
    assert first == second
    new = await daemon.get(f"/runs/{first['run']}")
    assert (new["retry_of"], new["via"], new["ref"]) == (run["id"], "ws", first["ref"])
    async with opened(daemon, run["id"], "?after=2") as client:
        told = await client.rest()
    assert [event["seq"] for event in told] == list(range(3, final["last_seq"] + 1))


PAGE = """async run => {
  const ws = new WebSocket(`ws://${location.host}/api/v1/runs/${run}/ws`), told = [];
  ws.onmessage = e => {
    const {event, data} = JSON.parse(e.data);
    told.push(event);
    if (event === "log") ws.send(JSON.stringify({event: "cancel", id: "page"}));
  };
  return new Promise(done => { ws.onclose = e => done([e.code, told]); });
}"""


async def test_a_browser_watches_and_cancels(daemon: Daemon) -> None:
    """With its cookie, from our own page; a page of another origin gets nothing."""
    require("chromium")
    run = await daemon.start("stubborn")
    async with browser_page() as page:
        await page.goto(f"{daemon.url}/?token={daemon.token}")
        code, told = await page.evaluate(PAGE, run["id"])
        # Another port is another origin, but cookies don't tell ports apart: it is sent along.
        await page.route(
            "http://127.0.0.1:8080/", lambda r: r.fulfill(body="x", content_type="text/html")
        )
        await page.goto("http://127.0.0.1:8080/")
        script = PAGE.replace("${location.host}", daemon.url.removeprefix("http://"))
        foreign = await page.evaluate(script, run["id"])
    assert code == 1000
    assert told[0] == "plan"
    assert "control" in told
    assert "aborted" in told
    assert foreign == [1006, []]
    assert processes_of(daemon.state.run(run["id"])) == []
