"""The same commands with a daemon: over its socket, over TCP, and when it goes away."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import click
import pytest

from command_line import TAILRACE, call
from daemons import Daemon, serving
from pipeline_files import read
from runs import eventually
from tailrace.cli.artifacts import get_artifact
from tailrace.cli.remote import Remote, typed
from tailrace.client import Client, SseParser
from tailrace.errors import ConflictError, InvalidInputError, UnknownError, UnreachableError
from tailrace.pipeline.params import Unfit, check_params, params_schema
from tailrace.wire import Frame, encode_json

PIPELINES = {
    "hello": "params: {n: {type: integer, default: 1}, loud: {type: boolean, default: false}}\n"
    'steps:\n  a: {run: \'echo "hello $PARAM_N $PARAM_LOUD"; '
    'echo file > "$TAILRACE_ARTIFACTS/f.txt"\'}\n',
    "bad": "steps: {a: {run: 'echo oops; exit 3'}}\n",
    "many": "steps: {a: {run: 'seq 400000'}}\n",
    "slow": "steps: {a: {run: 'echo waiting; sleep 60', grace: 1s}}\n",
    "local": "params: {repo: {type: git-url}}\nsteps: {a: {run: 'echo \"$PARAM_REPO\"'}}\n",
}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon with these pipelines."""
    async with serving(tmp_path, PIPELINES) as found:
        yield found


PARAMS = read("""
    params: {i: {type: integer}, n: {type: number}, b: {type: boolean}, s: {}}
    steps: {a: {run: x}}
    """)


@pytest.mark.parametrize("name", PARAMS.params)
@pytest.mark.parametrize(
    "text",
    ["3", "-3", "+3", " 3", "3 ", "1_000", "٣", "3.0", ".5", "1e3", "1e999", "nan", "Infinity",
     "9" * 30, "true", "YES", "on", "0", "", "null", "x"],
)  # fmt: skip
def test_a_param_is_read_alike_with_and_without_a_daemon(name: str, text: str) -> None:
    """The command line types it for a daemon, by the schema that the daemon tells."""

    def read_as(value: object, *, text: bool) -> object:
        try:
            return check_params(PARAMS, {name: value}, text=text)[name]
        except InvalidInputError:
            return "refused"

    try:
        value = typed(text, params_schema(PARAMS)["properties"][name])
    except Unfit:
        assert read_as(text, text=True) == read_as(text, text=False) == "refused"
        return
    there = json.loads(encode_json(value))
    assert repr(read_as(there, text=False)) == repr(read_as(text, text=True))


class Calls:
    """Calls the command line for a daemon: over its socket, or by URL."""

    def __init__(self, daemon: Daemon, *, by_url: bool) -> None:
        self._env = {"PATH": "/usr/bin:/bin", "HOME": str(daemon.state.path)}
        self._env |= {"TAILRACE_STATE_DIR": str(daemon.state.path)}
        if by_url:
            elsewhere = daemon.state.path.parent / "elsewhere"
            self._env |= {"TAILRACE_STATE_DIR": str(elsewhere)}
            self._env |= {"TAILRACE_URL": daemon.url, "TAILRACE_TOKEN": daemon.token}

    async def begin(self, *args: str) -> asyncio.subprocess.Process:
        """Begin a call."""
        return await asyncio.create_subprocess_exec(
            *TAILRACE, *args, env=self._env, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def __call__(self, *args: str) -> tuple[int, str, str]:
        """Call; return exit status and both outputs."""
        done = await asyncio.to_thread(call, args, env=self._env, folder=Path.cwd())
        return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("by_url", [False, True])
async def test_a_daemon_is_used_as_the_folders_are(daemon: Daemon, by_url: bool) -> None:
    """Commands say the same and exit the same, over the socket and over TCP."""
    tailrace = Calls(daemon, by_url=by_url)
    assert (await tailrace("run", "hello", "-p", "n=7", "-p", "loud=true"))[:2] == (
        0, "a | hello 7 true\n",
    )  # fmt: skip
    assert (await tailrace("run", "bad"))[:2] == (1, "a | oops\n")
    assert (await tailrace("tail", "hello/1", "--raw"))[:2] == (0, "hello 7 true\n")
    _, listed, _ = await tailrace("runs", "--json")
    assert [run["ref"] for run in json.loads(listed)["runs"]] == ["bad/1", "hello/1"]
    assert "✗ a  exit status 3" in (await tailrace("show", "latest"))[1]
    assert (await tailrace("artifacts", "hello/1", "--get", "f.txt", "-o", "-"))[1] == "file\n"
    assert "hello" in (await tailrace("pipelines"))[1]
    assert (await tailrace("run", "hello", "-p", "n=x"))[0] == 2
    assert (await tailrace("run", "nope"))[0] == 2
    assert (await tailrace("show", "nope/1"))[0] == 2
    assert (await tailrace("rm", "hello/1"))[0] == 0
    assert not daemon.state.run(json.loads(listed)["runs"][1]["id"]).path.exists()
    retried = await tailrace("retry", "bad/1", "--json")
    last = json.loads(retried[1].splitlines()[-1])
    assert (retried[0], last["event"], last["status"]) == (1, "summary", "error")


async def test_a_daemon_whose_socket_has_a_long_path_is_used(tmp_path: Path) -> None:
    """Longer than a socket's address may be (unix(7)), for commands and for Python programs."""
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    async with serving(deep, PIPELINES) as daemon:
        assert len(str(daemon.state.path / "daemon.sock")) > 107
        tailrace = Calls(daemon, by_url=False)
        assert (await tailrace("run", "hello"))[:2] == (0, "a | hello 1 false\n")
        assert (await daemon.get("/runs/hello/1"))["via"] == "http"  # it wasn't run by itself
        async with Client(daemon.state.path / "daemon.sock") as client:
            assert (await client.view("hello/1")).status == "success"
    assert (await tailrace("tail", "hello/1"))[:2] == (0, "a | hello 1 false\n")
    with pytest.raises(UnreachableError, match=r"deep/gone/.* No such file or directory; is it"):
        async with Client(deep / "gone" / "daemon.sock"):
            pass


async def test_a_file_that_is_refused_leaves_no_answer_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the loop closes at its end tells of it in the middle of ours."""
    closed = []

    class OneFile(Remote):
        async def artifact(self, run_id: str, name: str) -> AsyncGenerator[bytes, None]:
            try:
                yield b"theirs\n"
            finally:
                closed.append(name)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.txt").write_text("mine\n")
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(click.UsageError, match=r"f\.txt exists; name another file with -o"):
            await get_artifact(OneFile(client), "hello/1", "f.txt", None)
    assert closed == ["f.txt"]
    assert (tmp_path / "f.txt").read_text() == "mine\n"


async def test_params_that_do_not_fit_are_told_alike_with_and_without_a_daemon(
    daemon: Daemon,
) -> None:
    """All of them at once, in the words for what was typed."""
    tailrace = Calls(daemon, by_url=False)
    pipelines = str(daemon.state.path.parent / "pipelines")
    for given in (["n=" + "9" * 25], ["n=x"], ["n=1", "loud=maybe"], ["n=x", "loud=", "m=1"]):
        args = ["run", "hello", *(word for param in given for word in ("-p", param))]
        there = await tailrace(*args)
        here = await tailrace(*args, "--local", "--pipelines", pipelines)
        assert there[0] == 2
        assert sorted(there[2].splitlines()) == sorted(here[2].splitlines())
        assert len(there[2].splitlines()) == len([p for p in given if p != "n=1"])


NO_NAMES = ("", ".", "..", "../runs", "../../../healthz", "a/b/c", "hello/1/events",
            "hello/1/../2", "hello/1?after=1", "HELLO/1", "hello/1/steps/a/log")  # fmt: skip


async def test_what_names_no_run_reaches_no_other_address(daemon: Daemon) -> None:
    """The folders say the same of it, with the same exit status."""
    tailrace = Calls(daemon, by_url=False)
    assert (await tailrace("run", "hello"))[0] == 0
    async with Client(daemon.state.path / "daemon.sock") as client:
        for name in NO_NAMES:
            with pytest.raises(UnknownError, match=f"there is no run '{re.escape(name)}'"):
                await client.view(name)
    for state in ("", "-of-nobody"):  # with the daemon, and without one
        tailrace._env["TAILRACE_STATE_DIR"] += state
        told = 2, "", "tailrace: there is no run 'hello/1/../2'; `tailrace runs` lists them\n"
        assert await tailrace("show", "hello/1/../2") == told


async def test_names_within_a_run_stay_in_their_place(daemon: Daemon) -> None:
    """Whatever is asked for, the answer is about a step, a question, a file or a pipeline."""
    tailrace = Calls(daemon, by_url=False)
    assert (await tailrace("run", "hello"))[0] == 0
    for args, said in (
        (["skip", "hello/1", ".."], "no step is named '..'"),
        (["answer", "hello/1", "", "x"], "no question is named ''"),
        (["run", "..", "-p", "n=1"], "no pipeline is named '..'; "),
        (["run", "hallo", "-p", "n=1"], "no pipeline is named 'hallo'; did you mean 'hello'?"),
        (["run", "hallo"], "no pipeline is named 'hallo'; did you mean 'hello'?"),
        (["doctor", "hello", "zzz"], "no pipeline is named 'zzz'; `tailrace pipelines` lists them"),
        *((["artifacts", "hello/1", "--get", name],
           f"it left no artifact '{name}'; without --get they are listed")
          for name in ("", "../run.json", "f.txt/", "zz")),
    ):  # fmt: skip
        status, _, stderr = await tailrace(*args)
        assert (status, stderr.startswith(f"tailrace: {said}")) == (2, True), stderr


async def test_the_list_of_pipelines_tells_when_each_runs_next(daemon: Daemon) -> None:
    """The first time of its schedules, with what is known of each."""
    pipelines = daemon.state.path.parent / "pipelines"
    (pipelines / "night.yaml").write_text(
        "on: {schedule: ['0 0 1 1 *', {cron: '30 4 1 1 *', timezone: Asia/Tokyo}]}\n"
        "steps: {a: {run: 'true'}}\n"
    )
    shown = await daemon.get("/pipelines/night")
    assert [(each["cron"], each["next_run_at"][4:]) for each in shown["schedules"]] == [
        ("0 0 1 1 *", "-01-01T00:00:00.000Z"), ("30 4 1 1 *", "-12-31T19:30:00.000Z"),
    ]  # fmt: skip
    first = min(each["next_run_at"] for each in shown["schedules"])
    assert shown["next_run_at"] == first
    assert shown["schedules"][0]["last_run"] is None
    assert shown["schedules"][0]["refusal"] is None
    assert f"next run {first[:16]}Z" in (await Calls(daemon, by_url=False)("pipelines"))[1]
    assert (await daemon.get("/pipelines/hello"))["next_run_at"] is None


async def test_a_daemon_tells_a_broken_file_as_the_folders_do(daemon: Daemon) -> None:
    """With line and column: the way of the run changes nothing."""
    tailrace = Calls(daemon, by_url=False)
    path = daemon.state.path.parent / "pipelines" / "broken.yaml"
    path.write_text("steps:\n  a: {rum: x, run: x}\n")
    status, _, stderr = await tailrace("run", "broken")
    assert status == 2
    assert "broken.yaml:2:7: steps.a.rum: unknown key; did you mean 'run'?" in stderr


async def test_ctrl_c_cancels_a_daemons_run(daemon: Daemon) -> None:
    """By HTTP as by the control socket; the exit status is 4."""
    process = await Calls(daemon, by_url=True).begin("run", "slow")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"a | waiting\n"
    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()
    assert process.returncode == 4
    assert b"cancelling" in stderr


async def test_a_ctrl_c_while_the_daemon_is_away_cancels_once_it_is_back(tmp_path: Path) -> None:
    """Whoever watches it over the daemon doesn't reach the run meanwhile, and says so."""
    async with serving(tmp_path, PIPELINES) as first:
        process = await Calls(first, by_url=False).begin("run", "slow")
        assert process.stdout is not None
        assert process.stderr is not None
        assert await process.stdout.readline() == b"a | waiting\n"
        first.process.kill()
        await first.process.wait()
        process.send_signal(signal.SIGINT)
        await process.stderr.readuntil(b"The run isn't cancelled yet.\n")
        async with serving(tmp_path, PIPELINES) as second:
            await process.communicate()
            (run,) = (await second.get("/runs"))["runs"]
    assert (process.returncode, run["status"]) == (4, "aborted")


async def test_a_daemon_that_hangs_is_told_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once: asked again, it would hang again."""
    monkeypatch.setattr("tailrace.client.client._ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with Client(f"http://127.0.0.1:{server.getsockname()[1]}") as client:
            with pytest.raises(UnreachableError, match="doesn't answer within"):
                await client.page()
        server.setblocking(False)
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_a_relative_repository_is_named_from_where_we_stand(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The daemon has another working folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    _, stdout, _ = await Calls(daemon, by_url=False)("run", "local", "-p", "repo=.")
    assert stdout == f"a | {tmp_path / 'here'}\n"


async def test_a_wrong_token_is_told_from_a_wrong_address(daemon: Daemon) -> None:
    """Both are status 3, with a hint each."""
    tailrace = Calls(daemon, by_url=True)
    tailrace._env["TAILRACE_TOKEN"] = "tr_" + "x" * 43
    status, _, stderr = await tailrace("runs")
    assert (status, "set TAILRACE_TOKEN" in stderr) == (3, True)


async def test_a_token_that_no_header_can_hold_is_refused(daemon: Daemon) -> None:
    """In one line, before it is sent."""
    tailrace = Calls(daemon, by_url=True)
    tailrace._env["TAILRACE_TOKEN"] = "a\nb"
    status, _, stderr = await tailrace("runs")
    assert (status, stderr.startswith("tailrace: TAILRACE_TOKEN: holds what no token")) == (2, True)


@pytest.mark.parametrize("body", [b"hi", b""])
async def test_what_answers_but_is_no_tailrace_is_told(tmp_path: Path, body: bytes) -> None:
    """Some other server on the port: status 3, one line."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *TAILRACE, "runs", "--url", f"http://127.0.0.1:{port}",
        env={"TAILRACE_STATE_DIR": str(tmp_path)}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, stderr = await process.communicate()
    server.close()
    assert process.returncode == 3
    assert b"not as Tailrace does" in stderr


class Cutter:
    """A proxy that cuts each connection after so many bytes of answer."""

    def __init__(self, url: str, *, after: int) -> None:
        self._host, _, self._port = url.removeprefix("http://").partition(":")
        self._after = after
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    async def __aenter__(self) -> Cutter:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back_reader, back_writer = await asyncio.open_connection(self._host, int(self._port))
        up = asyncio.create_task(self._pass_on(reader, back_writer))
        self._tasks.add(up)
        left = self._after
        try:
            while left > 0 and (data := await back_reader.read(min(left, 4096))):
                writer.write(data)
                left -= len(data)
            await writer.drain()
            # aiohttp drops what its user hasn't read when a connection breaks: leave it a moment.
            await asyncio.sleep(0.02)
        except ConnectionError:
            pass  # the client has gone first
        finally:
            writer.close()
            back_writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)


async def test_a_stream_that_breaks_is_taken_up_again(daemon: Daemon) -> None:
    """However often it is cut, every event comes once and in order."""
    run = await daemon.start("many")
    await daemon.until_final(run["id"])
    journal = daemon.state.run(run["id"]).journal.read_text().splitlines()
    async with Cutter(daemon.url, after=600_000) as cutter:
        url = f"http://127.0.0.1:{cutter.port}"
        async with Client(url, token=daemon.token, reconnect_s=[0.01] * 30) as client:
            frames = await rest_of(client.events(run["id"]))
    assert [frame.seq for frame in frames] == list(range(1, len(journal) + 1))
    logs = [json.loads(frame.data) for frame in frames if frame.event == "log"]
    text = "".join(log["text"] + ("" if log.get("open") else "\n") for log in logs)
    assert text == "".join(f"{n}\n" for n in range(1, 400_001))
    assert cutter.connections > 3


async def rest_of(events: AsyncIterator[list[Frame]]) -> list[Frame]:
    """Read a stream to its end."""
    return [frame async for batch in events for frame in batch]


async def test_a_daemon_that_stays_away_is_told_after_a_few_tries(daemon: Daemon) -> None:
    """The error says where we were; the runs go on without us."""
    run = await daemon.start("slow")
    async with Client(daemon.url, token=daemon.token, reconnect_s=[0.01] * 3) as client:
        events = client.events(run["id"])
        seen = await anext(events)
        daemon.process.kill()
        await daemon.process.wait()
        with pytest.raises(UnreachableError, match="seen up to event"):
            await rest_of(events)
    assert seen[0].event == "plan"
    status, _, stderr = await Calls(daemon, by_url=False)("cancel", run["id"])  # by its folder now
    assert (status, stderr) == (0, f"tailrace: {run['ref']} is being cancelled\n")


async def test_a_daemon_that_restarts_is_waited_for(tmp_path: Path) -> None:
    """The stream goes on where it broke, over the socket that came back."""
    async with serving(tmp_path, PIPELINES) as first:
        run = await first.start("slow")
        async with Client(first.state.socket, reconnect_s=[0.2] * 50) as client:
            events = client.events(run["id"])
            frames = await anext(events)
            first.process.terminate()
            await first.process.wait()
            async with serving(tmp_path, PIPELINES):
                await client.cancel(run["id"], None)
                frames += await rest_of(events)
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[-1].event == "aborted"


async def test_refusals_become_our_errors(daemon: Daemon) -> None:
    """404 and 409 are told apart by type."""
    async with Client(daemon.url, token=daemon.token) as client:
        with pytest.raises(UnknownError):
            await client.view("nope/1")
        run = await daemon.start("slow")
        with pytest.raises(ConflictError) as refused:
            await client.delete(run["id"])
        assert refused.value.state in ("queued", "running")
        await client.cancel(run["id"], "enough")
        await daemon.until_final(run["id"])


def test_a_stream_may_be_cut_anywhere() -> None:
    """Whole or byte by byte, the parser gives the same data."""
    stream = b'retry: 2000\n\n: hi\n\nevent: log\nid: 1\ndata: {"a":1}\n\ndata: {"b":2}\n\n'
    whole = SseParser().feed(stream)
    parser = SseParser()
    pieces = [data for n in range(len(stream)) for data in parser.feed(stream[n : n + 1])]
    assert whole == pieces == [b'{"a":1}', b'{"b":2}']


async def test_serve_says_where_it_listens_to_its_log_without_the_token(daemon: Daemon) -> None:
    """The address with the token is for a terminal alone."""
    await eventually(lambda: "listening" in daemon.log.read_text())
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    assert lines[0]["event"] == "listening"
    assert lines[0]["address"] == daemon.url.removeprefix("http://")
    assert daemon.token not in daemon.log.read_text()


async def test_open_knows_the_page_with_its_token(daemon: Daemon) -> None:
    """`--json` tells it to programs."""
    _, stdout, _ = await Calls(daemon, by_url=False)("open", "--json")
    assert json.loads(stdout) == {"url": f"{daemon.url}/?token={daemon.token}"}


async def test_open_says_that_it_has_no_token_rather_than_no_daemon(daemon: Daemon) -> None:
    """Its file is gone, or the token was revoked, and the page would answer 401."""
    tailrace = Calls(daemon, by_url=False)
    assert (await tailrace("token", "revoke", "owner"))[0] == 0
    status, stdout, stderr = await tailrace("open", "--json")
    assert (status, stdout) == (3, "")
    assert "/token holds a token that isn't valid; remove it, and the daemon makes" in stderr
    daemon.state.token.unlink()
    status, stdout, stderr = await tailrace("open", "--json")
    assert (status, stdout) == (3, "")
    assert "/token is gone; the daemon makes one when it starts; or set" in stderr
    assert f"call `tailrace open --url {daemon.url}`" in stderr


async def test_a_second_daemon_on_a_state_folder_is_refused(daemon: Daemon) -> None:
    """It says so in one line, with status 2, and the first one goes on."""
    status, _, stderr = await Calls(daemon, by_url=False)("serve", "--listen", "127.0.0.1:0")
    assert status == 2
    assert "Traceback" not in stderr
    assert sys.platform == "linux"
    assert daemon.process.returncode is None
