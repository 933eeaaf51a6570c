"""The language of tests about HTTP: an application over runs that the test itself writes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tailrace import wire
from tailrace.core import events
from tailrace.core.lines import LineCounter
from tailrace.core.mask_rules import MaskRules
from tailrace.core.run import Snapshot
from tailrace.core.ulid import new_ulid
from tailrace.errors import ConflictError, InvalidInputError, Problem
from tailrace.http.server import Server, serving
from tailrace.pipeline.catalog import Catalog
from tailrace.pipeline.model import Pipeline
from tailrace.pipeline.params import check_params
from tailrace.rundir.changes import Changes
from tailrace.rundir.feed import Feed
from tailrace.rundir.journal import AttemptLog, JournalWriter
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.snapshot import read_snapshot
from tailrace.settings import Settings
from tailrace.store.index import Index, RunRow
from tailrace.store.tokens import TokenStore
from tailrace.worker.requirements import Requirements
from tailrace.worker.secrets import SecretStore
from tailrace.worker.submission import Started, Submission

CLONE = """
description: Clone it
params:
  repo: {type: string, required: true}
  count: {type: integer, default: 1}
depths:
  fast: {}
  deep: {default: true}
steps:
  clone: {run: "true"}
  lint: {needs: clone, run: "true", label: Linting}
"""
OTHER = "steps: {only: {run: 'true'}}\n"
BROKEN = "steps: {a: {rum: 'true'}}\n"


class WrittenRun:
    """A run that a test writes, as a runner would."""

    def __init__(self, run: RunDir, ref: str) -> None:
        self.dir, self.id, self.ref = run, run.id, ref
        self._journal = JournalWriter(run)
        self._logs: dict[tuple[str, int], tuple[AttemptLog, LineCounter]] = {}
        self.now_s: float | None = None  # the time that events get; None: the clock's

    def append(self, event: events.Event) -> int:
        """Write an event; return its number."""
        now_s = time.time() if self.now_s is None else self.now_s
        return self._journal.append(wire.timestamp(now_s), msgspec.to_builtins(event))

    def accepted(self, pipeline: str, steps: tuple[str, ...], **more: Any) -> None:
        """Write what the acceptance of a run writes."""
        fields = {"depth": None, "params": {}, "by": "", "via": "", "retry_of": None, **more}
        graph = tuple(events.GraphNode(id=step, label=step, needs=()) for step in steps)
        self.append(
            events.PlanEvent(
                run=self.id, ref=self.ref, pipeline=pipeline, steps=steps, graph=graph, **fields
            )
        )
        self.append(events.Queued(position=0, reason=None, group=None))

    def started(self) -> None:
        """Write that the run was started."""
        self.append(events.Started(worker="test", containment="process_group"))

    def step_started(self, step: str, attempt: int = 1) -> None:
        """Write that an attempt begins, and make its log."""
        log = AttemptLog(self.dir.log(step, attempt))
        self._logs[step, attempt] = (log, LineCounter())
        self.append(events.StepStarted(step=step, label=step, attempt=attempt, cmd="x", host=None))

    def log(self, step: str, data: bytes, attempt: int = 1, *, final: bool = False) -> None:
        """Write a piece of output."""
        log, counter = self._logs[step, attempt]
        piece = counter.take(data, final=final)
        if piece is None:
            return
        log.append(piece)
        self.append(
            events.LogRecord(
                step=step,
                attempt=attempt,
                line=piece.line,
                open=piece.open or msgspec.UNSET,
                offset=piece.offset,
                bytes=len(piece.data),
            )
        )

    def progress(self, step: str, percent: float) -> None:
        """Write a progress."""
        self.append(events.Progress(step=step, label=step, percent=percent))

    def retrying(self, step: str, attempt: int = 1) -> None:
        """Write that an attempt failed and will be repeated."""
        self.log(step, b"", attempt, final=True)
        self.append(
            events.StepRetrying(
                step=step, attempt=attempt, returncode=1, signal=None, cause="exited with 1",
                cause_code="exit", kill=None, delay_ms=1,
            )
        )  # fmt: skip

    def step_finished(self, step: str, attempt: int = 1) -> None:
        """Write that a step has ended."""
        if (step, attempt) in self._logs:
            self.log(step, b"", attempt, final=True)
        self.append(
            events.StepFinished(
                step=step, label=step, status="success", attempt=attempt, returncode=0
            )
        )

    def artifact(self, name: str, data: bytes, media_type: str, step: str = "clone") -> None:
        """Leave an artifact."""
        path = self.dir.artifacts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        self.append(
            events.Artifact(
                step=step, name=name, url=f"x/{name}", bytes=len(data), sha256=digest,
                media_type=media_type,
            )
        )  # fmt: skip

    def finished(self, file_url: str | None = None) -> None:
        """Write the last event."""
        self.append(
            events.Summary(
                status="success", message="done", cause=None, cause_code=None, duration_ms=1,
                file_url=file_url, artifacts=(), cost=events.Cost(),
            )
        )  # fmt: skip

    def close(self) -> None:
        """Close the files."""
        self._journal.close()
        for log, _ in self._logs.values():
            log.close()


class SmallWorker:
    """Does what the application asks of a worker, over real folders; the test is the runner."""

    def __init__(self, state: StateDir, catalog: Catalog) -> None:
        self.state, self.catalog = state, catalog
        self.index = Index(state.index)
        self.changes = Changes()
        self.runs: dict[str, WrittenRun] = {}
        self.commands: list[tuple[str, wire.Command]] = []
        self.reply = wire.Reply(status="done", seq=3)
        self.submissions: list[Submission] = []
        self.submitted: dict[str, tuple[str | None, str]] = {}
        self.skip_reason: str | None = None
        self.watching: dict[str, int] = {}
        self.rows: asyncio.Queue[RunRow | None] = asyncio.Queue()
        self._feeds: dict[str, tuple[Feed, asyncio.Task[None]]] = {}
        self.ring_bytes = 1 << 18

    def new_run(
        self, pipeline: str = "clone", steps: tuple[str, ...] = ("clone", "lint"), **more: Any
    ) -> WrittenRun:
        """Accept a run."""
        run_id = new_ulid(int(time.time() * 1000), os.urandom(10))
        number = 1 + sum(run.ref.startswith(f"{pipeline}/") for run in self.runs.values())
        folder = self.state.run(run_id)
        folder.path.mkdir(parents=True)
        run = self.runs[run_id] = WrittenRun(folder, f"{pipeline}/{number}")
        run.accepted(pipeline, steps, **more)
        self.index.put(
            RunRow(
                id=run_id, ref=run.ref, pipeline=pipeline, created_at=wire.timestamp(time.time()),
                params=more.get("params", {}), last_seq=2,
            )
        )  # fmt: skip
        return run

    @property
    def requirements(self) -> Requirements:
        """Of settings without secrets."""
        settings = Settings()
        return Requirements(settings, SecretStore(settings, {}), MaskRules({}))

    async def submit(self, submission: Submission) -> Started:
        """Accept a run of a known pipeline with sound params."""
        if submission.key is not None and submission.key in self.submitted:
            body, run_id = self.submitted[submission.key]
            if body != submission.body_sha256:
                raise InvalidInputError([Problem("Idempotency-Key", "was used for another body")])
            return Started(run_id, repeated=True)
        pipeline = self.catalog.get(submission.pipeline)
        params = check_params(pipeline, submission.params, text=submission.text)
        if submission.depth is not None and submission.depth not in pipeline.depths:
            raise InvalidInputError([Problem("depth", "no such depth")])
        self.submissions.append(submission)
        if self.skip_reason is not None:
            return Started(None, self.skip_reason)
        run = self.new_run(
            pipeline.name,
            tuple(pipeline.steps),
            params=params,
            by=submission.by,
            via=submission.via,
        )
        if submission.key is not None:
            self.submitted[submission.key] = (submission.body_sha256, run.id)
        return Started(run.id)

    async def steer(self, run_id: str, command: wire.Command) -> wire.Reply:
        """Note the command; answer what the test says."""
        self.commands.append((run_id, command))
        return self.reply

    async def retry(
        self,
        run_id: str,
        *,
        start: str,
        by: str,
        via: str,
        trusted: bool,
        key: str | None = None,
        body_sha256: str | None = None,
    ) -> str:
        """Accept another run."""
        if not (await self.snapshot(run_id)).is_final:
            raise ConflictError("it is live", state="running")
        return self.new_run(retry_of=run_id, by=by, via=via).id

    async def delete(self, run_id: str) -> None:
        """Forget a finished run."""
        if not (await self.snapshot(run_id)).is_final:
            raise ConflictError("it is live", state="running")
        self.index.remove(run_id)

    def resolve(self, text: str, pipelines: Collection[str] | None = None) -> str:
        """Ask the index."""
        return self.index.resolve(text, pipelines)

    def pipeline_of(self, run_id: str) -> str:
        """Ask the index."""
        row = self.index.get(run_id)
        assert row is not None
        return row.pipeline

    async def snapshot(self, run_id: str) -> Snapshot:
        """Read the folder."""
        return read_snapshot(self.state.run(run_id))

    @contextlib.asynccontextmanager
    async def watch(self, run_id: str) -> AsyncIterator[Feed]:
        """Give the run's feed, shared by all."""
        if run_id not in self._feeds:
            feed = Feed(self.state.run(run_id), ring_bytes=self.ring_bytes)
            self._feeds[run_id] = (feed, asyncio.create_task(feed.follow(self.changes)))
        self.watching[run_id] = self.watching.get(run_id, 0) + 1
        try:
            yield self._feeds[run_id][0]
        finally:
            self.watching[run_id] -= 1

    def list(
        self,
        *,
        pipeline: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[RunRow], str | None]:
        """Ask the index."""
        return self.index.list(pipeline=pipeline, status=status, limit=limit, cursor=cursor)

    async def list_changes(self) -> AsyncIterator[RunRow]:
        """Give the rows that the test puts; None ends it."""
        while (row := await self.rows.get()) is not None:
            yield row

    def timetable(self, pipeline: Pipeline) -> tuple[wire.ScheduleView, ...]:
        """One time a schedule."""
        return tuple(
            wire.ScheduleView(
                cron=each.cron, timezone=each.timezone, catch_up=each.catch_up,
                next_run_at="2030-01-01T00:00:00.000Z",
            )
            for each in pipeline.on.schedule
        )  # fmt: skip

    async def gauges(self) -> dict[str, float]:
        """Some figures."""
        ring = sum(feed.ring_size for feed, _ in self._feeds.values())
        return {"runs_queued": 2, "runs_running": 1, "queue_length": 2, "ring_bytes": ring}

    async def close(self) -> None:
        """Stop following, and close the files."""
        for _, task in self._feeds.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in self._feeds.values()), return_exceptions=True)
        for run in self.runs.values():
            run.close()
        self.index.close()


@dataclass(slots=True)
class Site:
    """A daemon's HTTP, its worker, and a client that holds the first token."""

    worker: SmallWorker
    server: Server
    tokens: TokenStore
    token: str
    client: aiohttp.ClientSession
    settings: Settings
    _opened: list[Any] = field(default_factory=list)

    @property
    def base(self) -> str:
        """Where it is."""
        return f"http://{self.server.address}"

    @property
    def host_port(self) -> tuple[str, int]:
        """Where it is, for sockets."""
        host, _, port = self.server.address.rpartition(":")
        return host, int(port)

    @property
    def bearer(self) -> dict[str, str]:
        """The header that logs in."""
        return {"Authorization": f"Bearer {self.token}"}

    def make_token(self, *scopes: str, **more: Any) -> dict[str, str]:
        """Make a token; return its header."""
        name = f"t{len(self.tokens.list())}"
        text = self.tokens.create(name, scopes, now=time.time(), **more)
        return {"Authorization": f"Bearer {text}"}

    async def ask(self, method: str, path: str, **more: Any) -> Reply:
        """Ask, logged in unless headers say otherwise; return the whole answer."""
        headers = {**self.bearer, **more.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        async with self.client.request(
            method, _url(self.base, path), headers=headers, allow_redirects=False, **more
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str, **more: Any) -> Reply:
        """GET."""
        return await self.ask("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        """POST JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return await self.ask("POST", path, data=data and io.BytesIO(data), **more)

    async def events(self, path: str, **headers: str) -> list[SseEvent]:
        """Read a stream to its end."""
        reply = await self.get(
            path, headers={name.replace("_", "-"): v for name, v in headers.items()}
        )
        assert reply.status == 200, reply.body
        return parse_sse(reply.body)

    @contextlib.asynccontextmanager
    async def raw(
        self, request: bytes
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Send bytes on a socket of its own."""
        reader, writer = await asyncio.open_connection(*self.host_port)
        writer.write(request)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def _url(base: str, path: str) -> Any:
    from yarl import URL

    return URL(base + path, encoded=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def problem(self) -> Any:
        """The body as a problem document."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self.body
        document = self.json
        assert document["status"] == self.status
        assert document["title"]
        return document


@dataclass(frozen=True, slots=True)
class SseEvent:
    """An event as a browser's EventSource dispatches it."""

    name: str
    data: str
    last_id: str
    has_id: bool = True  # one of its own; else `last_id` is an earlier event's

    @property
    def json(self) -> Any:
        """The data as JSON."""
        return json.loads(self.data)


def parse_sse(body: bytes) -> list[SseEvent]:
    """Read a stream as WHATWG HTML, 9.2.6 says."""
    found: list[SseEvent] = []
    name, data, last_id, has_id = "", "", "", False
    lines = body.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines:
        if not line:
            if data:
                event = SseEvent(name or "message", data.removesuffix("\n"), last_id, has_id)
                found.append(event)
            name, data, has_id = "", "", False
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            name = value
        elif key == "data":
            data += value + "\n"
        elif key == "id":
            last_id, has_id = value, True
    return found


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[StateDir]:
    path.mkdir()
    (path / "runs").mkdir()
    yield StateDir(path)


@contextlib.asynccontextmanager
async def open_site(tmp_path: Path, **settings: Any) -> AsyncIterator[Site]:
    """Serve on a port of its own until the context is left."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    for name, text in (("clone", CLONE), ("other", OTHER), ("broken", BROKEN)):
        (folder / f"{name}.yaml").write_text(text)
    chosen = Settings(listen="127.0.0.1:0", **settings)
    with _folder(tmp_path / "state") as state:
        worker = SmallWorker(state, Catalog(folder, display="pipelines"))
        async with worker.changes, serving(worker, chosen) as server:
            tokens = TokenStore(state.state_db)
            token = state.token.read_text().strip()
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
                yield Site(worker, server, tokens, token, client, chosen)
            tokens.close()
        await worker.close()


async def until(holds: Any, *, within_s: float = 10) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what it looks at knows nothing of events
            await asyncio.sleep(0.002)
