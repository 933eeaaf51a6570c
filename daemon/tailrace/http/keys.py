"""What the application holds, by typed key, and what it needs of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from tailrace import wire
from tailrace.core.run import Snapshot
from tailrace.http.auth import Caller
from tailrace.http.metrics import Metrics
from tailrace.http.route import Route
from tailrace.pipeline.catalog import Catalog
from tailrace.pipeline.model import Pipeline
from tailrace.rundir.feed import Feed
from tailrace.rundir.layout import StateDir
from tailrace.settings import Settings
from tailrace.store.index import RunRow
from tailrace.store.tokens import TokenStore
from tailrace.worker.requirements import Requirements
from tailrace.worker.submission import Started, Submission


class Worker(Protocol):
    """What is asked of `tailrace.worker.worker.Worker`; each method's contract stands there."""

    @property
    def state(self) -> StateDir:
        """The state folder."""

    @property
    def catalog(self) -> Catalog:
        """The pipelines."""

    @property
    def requirements(self) -> Requirements:
        """What pipelines need, and whether it is there."""

    async def submit(self, submission: Submission) -> Started:
        """Accept a run."""

    async def steer(self, run_id: str, command: wire.Command) -> wire.Reply:
        """Hand a command to a run."""

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
        """Accept a run that repeats another; return its id."""

    async def delete(self, run_id: str) -> None:
        """Remove a finished run."""

    def resolve(self, text: str, pipelines: Collection[str] | None = None) -> str:
        """Return the id that a text means."""

    def pipeline_of(self, run_id: str) -> str:
        """Return the name of a run's pipeline."""

    async def snapshot(self, run_id: str) -> Snapshot:
        """Return a run's state."""

    def watch(self, run_id: str) -> AbstractAsyncContextManager[Feed]:
        """Give a run's feed; whoever holds it counts as watching."""

    def list(
        self,
        *,
        pipeline: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[RunRow], str | None]:
        """Return a page of runs, newest first."""

    def list_changes(self) -> AsyncIterator[RunRow]:
        """Give every run that changes its status, as it does."""

    def timetable(self, pipeline: Pipeline) -> tuple[wire.ScheduleView, ...]:
        """Return a pipeline's schedules."""

    async def gauges(self) -> Mapping[str, float]:
        """Return figures for ``/metrics``."""


@dataclass(slots=True)
class Here:
    """Where this application is reached, known once it listens, and by what settings it works."""

    settings: Settings  # SIGHUP replaces them
    host: str = "127.0.0.1"  # as in the settings' ``listen``
    port: int = 0
    uid: int = 0  # whose process this is
    draining: bool = False  # it is about to stop
    streams: set[asyncio.Task[object]] = field(default_factory=set)  # open ones, ended at a stop
    holders: dict[asyncio.Task[object], Caller] = field(default_factory=dict)  # and whose they are


WORKER = web.AppKey("worker", Worker)
TOKENS = web.AppKey("tokens", TokenStore)
HERE = web.AppKey("here", Here)
METRICS = web.AppKey("metrics", Metrics)
ROUTES = web.AppKey("routes", tuple[Route, ...])
TABLE = web.AppKey("table", dict[web.AbstractRoute, Route])

CALLER = web.RequestKey("caller", Caller)
ROUTE = web.RequestKey("route", Route)
