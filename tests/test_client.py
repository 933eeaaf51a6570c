"""`tailrace.client` as a program uses it, against a daemon."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
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
