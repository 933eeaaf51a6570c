"""`tailrace.client` as a program uses it, against a daemon."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from daemons import Daemon, serving
from documents import ROOT, rows_of
from tailrace.client import Client, Log, NotStartedError, Told, Unknown
from tailrace.client.told import told_of
from tailrace.core import events
from tailrace.errors import (
    ConflictError,
    InvalidInputError,
    TailraceError,
    UnknownError,
    UnreachableError,
)
from tailrace.wire import Frame

PIPELINES = {
    "hello": "params: {n: {type: integer, default: 1}}\n"
    "steps:\n  greet:\n    artifacts: {primary: out.txt}\n"
    '    run: echo "hello $PARAM_N" | tee "$TAILRACE_ARTIFACTS/out.txt"\n',
    "asks": "concurrency: {group: one, on_conflict: skip}\n"
    "steps:\n  well: {ask: {question: Well?, choices: [yes, no]}}\n"
    "  nap: {needs: well, run: sleep 60, timeout: 1h, grace: 1s}\n"
    "  after: {needs: nap, run: 'false'}\n",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    """One daemon for all tests of this file."""
    async with serving(tmp_path_factory.mktemp("daemon"), PIPELINES) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def client(daemon: Daemon) -> AsyncIterator[Client]:
    """A client of it."""
    async with Client(daemon.url, token=daemon.token) as found:
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def first(client: Client, run: str, kind: type, after: int = 0) -> Told:
    """The first event of a kind behind a number."""
    async with contextlib.aclosing(client.follow(run, after=after)) as stream:
        async for told in stream:
            if isinstance(told.event, kind):
                return told
    raise AssertionError(f"no {kind}")


async def test_a_run_is_started_followed_and_what_it_left_is_got(
    client: Client, tmp_path: Path
) -> None:
    """Typed events without a gap, from any number on; its files; its state."""
    run = await client.start("hello", {"n": 7})
    told = [each async for each in client.follow(run.ref)]
    assert [each.seq for each in told] == list(range(1, len(told) + 1))
    assert isinstance(told[0].event, events.PlanEvent)
    assert [e.event.text for e in told if isinstance(e.event, Log)] == ["hello 7"]
    last = told[-1].event
    assert isinstance(last, events.Summary)
    assert await client.wait(run.id) == last
    assert [each async for each in client.follow(run.id, after=4)] == told[4:]
    await client.download(run.id, "out.txt", tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "hello 7\n"
    assert (await client.view(run.ref)).status == "success"
    assert run.id in {listed.id for listed in (await client.page(pipeline="hello"))[0]}
    with pytest.raises(UnknownError):
        await client.download(run.id, "no.txt", tmp_path / "no.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


async def test_the_same_key_starts_one_run(client: Client) -> None:
    """A program that asks again gets what it asked for before."""
    one = await client.start("hello", key="order-17")
    assert (await client.start("hello", key="order-17")).id == one.id
    await client.wait(one.id)


async def test_a_run_is_steered_by_program(client: Client) -> None:
    """Answer, extend, pause, resume, skip a step, retry, cancel; wrong ones are refused."""
    run = await client.start("asks")
    asked = await first(client, run.id, events.Prompt)
    assert isinstance(asked.event, events.Prompt)
    with pytest.raises(NotStartedError, match="asks/"):
        await client.start("asks")
    with pytest.raises(InvalidInputError, match="must be one of: yes, no"):
        await client.answer(run.id, asked.event.id, "perhaps")
    await client.answer(run.id, asked.event.id, "yes")
    with pytest.raises(ConflictError):
        await client.answer(run.id, asked.event.id, "no")
    started = await first(client, run.id, events.StepStarted, after=asked.seq)
    await client.extend(run.ref, "nap", "10m")
    await client.pause(run.id)
    assert (await client.view(run.id)).status == "paused"
    await client.resume(run.id)
    await client.skip(run.id, "nap", "no time")
    last = await client.wait(run.id)
    assert isinstance(last, events.Summary)
    assert last.status == "error"
    actions = [e.event.action async for e in client.follow(run.id, after=started.seq)
               if isinstance(e.event, events.Control)]  # fmt: skip
    assert actions == ["extend", "pause", "resume", "skip"]
    again = await client.retry(run.id)
    assert again.retry_of == run.id
    await client.cancel(again.id)
    await client.wait(again.id)
    third = await client.start("asks")
    await client.cancel(third.id, "enough")
    aborted = await client.wait(third.id)
    assert isinstance(aborted, events.Aborted)
    assert aborted.reason == "enough"
    await client.delete(third.id)
    with pytest.raises(UnknownError):
        await client.view(third.id)


async def test_leaving_a_stream_leaves_the_run_alone(client: Client) -> None:
    """Cancelling who watches closes the connection, and nothing else."""
    run = await client.start("asks")
    await first(client, run.id, events.Prompt)
    watching = asyncio.create_task(client.wait(run.id), name="watch")
    await first(client, run.id, events.Prompt)
    watching.cancel()
    await asyncio.wait({watching})
    assert watching.cancelled()
    assert (await client.view(run.id)).status == "waiting"
    await client.cancel_step(run.id, "well")
    await client.wait(run.id)


async def test_errors_are_ours(daemon: Daemon, client: Client) -> None:
    """No daemon, a wrong token, an unknown name: each is an error of `tailrace.errors`."""
    async with Client(daemon.url, token="wrong") as stranger:
        with pytest.raises(UnreachableError, match="TAILRACE_TOKEN"):
            await stranger.view("hello/1")
    async with Client("http://127.0.0.1:9") as nobody:
        with pytest.raises(UnreachableError):
            await nobody.pipelines()
    for work in (
        client.start("nothing"),
        client.start("hello", {"n": "x"}),
        client.wait("hello/99"),
    ):
        with pytest.raises(TailraceError):
            await work


async def test_a_daemon_that_has_answered_is_waited_for_while_it_restarts(tmp_path: Path) -> None:
    """By everything that may be asked again, not by streams alone."""
    async with (
        serving(tmp_path, PIPELINES) as before,
        Client(before.state.socket, reconnect_s=[0.1] * 300) as client,
    ):
        run = await client.start("asks")
        before.process.kill()
        await before.process.wait()
        end = asyncio.create_task(client.wait(run.id))
        view = asyncio.create_task(client.view(run.id))
        cancel = asyncio.create_task(client.cancel(run.id))
        other = asyncio.create_task(client.start("hello"))
        async with serving(tmp_path, PIPELINES):
            assert isinstance(await end, events.Aborted)
            assert (await view).ref == "asks/1"
            await cancel
            await client.wait((await other).id)


async def test_a_daemon_that_never_answered_is_not_waited_for() -> None:
    """Whoever looks whether one is there wants to know it now."""
    async with Client("http://127.0.0.1:9", reconnect_s=[3600]) as nobody:
        with pytest.raises(UnreachableError):
            await nobody.pipelines()


class Proxy:
    """Stands before a daemon, and answers one canned answer after the other."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)

    async def __aenter__(self) -> str:
        """Return its address."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *exc: object) -> None:
        """Listen no more."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answers.pop(0))
        await writer.drain()
        writer.close()


def stream_of(*data: str) -> bytes:
    """An answer that tells these events and breaks."""
    told = "".join(f"data: {text}\n\n" for text in data)
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{told}".encode()


BEGIN = '{"seq":1,"event":"later","t":"T"}'
END = (
    '{"seq":2,"event":"aborted","t":"2026-01-01T00:00:00.000Z","reason":"r",'
    '"cause_code":"cancelled","by":null,"duration_ms":1,"file_url":null,"artifacts":[],"cost":null}'
)


@pytest.mark.parametrize(
    "status", ["429 Too Many Requests", "502 Bad Gateway", "503 Away", "504 Gateway Timeout"]
)
async def test_what_proxies_say_of_a_daemon_that_restarts_breaks_nothing(status: str) -> None:
    """Whatever the words of their own: a stream goes on, and so does a question."""
    away = f"HTTP/1.1 {status}\r\nContent-Length: 11\r\n\r\n<h1>No</h1>".encode()
    body = '{"pipelines":[]}'
    fine = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    async with (
        Proxy(stream_of(BEGIN), away, away, stream_of(BEGIN, END), away, fine) as url,
        Client(url, reconnect_s=[0.01] * 9) as client,
    ):
        assert [told.seq async for told in client.follow("p/1")] == [1, 2]
        assert await client.pipelines() == []
    async with Proxy(away) as url, Client(url, reconnect_s=[3600]) as client:
        with pytest.raises(UnreachableError, match=f"answered {status[:3]}, and not as Tailrace"):
            await client.pipelines()


async def test_values_that_nobody_could_mean_are_refused_and_not_sent(client: Client) -> None:
    """A NaN is no JSON and would be the default; what can't be encoded is our error, too."""
    for work, where in (
        (client.start("hello", {"n": math.nan}), "params.n: nan"),
        (client.start("hello", {"n": -math.inf}), "params.n: -inf"),
        (client.start("hello", {"n": object()}), "params.n: "),
        (client.start("hello", {"n": "\ud800"}), "params.n: "),
        (client.start("hello", key="two\nlines"), "key: "),
        (client.cancel("hello/1", "\ud800"), "can't be sent as JSON"),
    ):
        with pytest.raises(InvalidInputError, match=where):
            await work
    with pytest.raises(UnknownError):
        await client.answer("hello/1", "\ud800", "yes")


async def test_events_of_a_later_daemon_are_passed_on() -> None:
    """As their JSON; nothing breaks."""
    frame = Frame(3, "later", None, b'{"seq":3,"event":"later","t":"T","x":1}')
    assert told_of(frame) == Told(3, "T", Unknown("later", frame.data))


async def test_the_reference_names_every_method_with_its_parameters() -> None:
    """What the page says is what the class has, and nothing public is left out."""
    written = {
        match[1]: match[2].split(", ") if match[2] else []
        for row in rows_of(ROOT / "docs/reference/client.md", "## Client")
        for match in re.finditer(r"`(\w+)\(([^)]*)\)`", row[0])
    }
    has = {
        name: list(inspect.signature(method).parameters)[1:]
        for name, method in inspect.getmembers(Client, inspect.isfunction)
        if not name.startswith("_")
    }
    assert written == has


async def test_an_address_with_a_user_takes_no_token() -> None:
    """One header holds either; which of them is meant can't be told."""
    with pytest.raises(InvalidInputError, match=r"--url: has a user, and there is a token; "):
        Client("http://u:pw@127.0.0.1:1", token="tr_x")
    assert Client("http://u:pw@127.0.0.1:1").where == "http://***@127.0.0.1:1"
