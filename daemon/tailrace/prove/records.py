"""A run as its files have it, and a stream as it came; both read without the product's code."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tailrace.prove.ground import Ground
from tailrace.prove.proof import Ledger
from tailrace.rundir.layout import RunDir

Event = dict[str, Any]

_AWAY_S: Final = 0.05  # between two attempts to reach a daemon that is away
_STUCK_S: Final = 60.0  # of a stream that says nothing and doesn't end


def read_journal(run: RunDir) -> list[Event]:
    """Return a run's events as watchers should have got them: a log's slice as its text."""
    events = []
    for line in run.journal.read_bytes().split(b"\n")[:-1]:
        event: Event = json.loads(line)
        if event["event"] == "log":
            text = _slice(run, event).decode("utf-8", "replace")
            event["text"] = text if event.get("open") else text.removesuffix("\n")
            del event["offset"], event["bytes"]
        events.append(event)
    return events


def _slice(run: RunDir, event: Event) -> bytes:
    with open(run.log(event["step"], event["attempt"]), "rb") as log:
        log.seek(event["offset"])
        return log.read(event["bytes"])


@dataclass(slots=True)
class Stay:
    """How a watcher behaves until its next drop."""

    events: int = 1 << 60  # after so many it leaves
    shape: str = "events"  # or "message", "ndjson": section 3 of the contract
    by_header: bool = True  # resumes with Last-Event-ID, else with ?after=


@dataclass(slots=True)
class Watcher:
    """Follows a run over HTTP and keeps all that came, in the order in which it came."""

    ground: Ground
    run_id: str
    told: list[Event] = field(default_factory=list)
    resumed: int = 0
    problem: str | None = None

    async def watch(self, stay: Stay) -> bool:
        """Watch until it is time to leave, or the stream breaks; return whether the run is over."""
        left = stay.events
        try:
            async with contextlib.aclosing(self._stream(stay)) as stream:
                async for event in stream:
                    self.told.append(event)
                    left -= 1
                    if event["event"] in ("summary", "aborted"):
                        return True
                    if left <= 0:
                        break
        except (aiohttp.ClientError, ConnectionError, TimeoutError, OSError):
            await asyncio.sleep(_AWAY_S)  # the daemon is away
        return False

    @property
    def over(self) -> bool:
        """Whether the run's last event has come."""
        return bool(self.told) and self.told[-1]["event"] in ("summary", "aborted")

    async def events(self) -> AsyncGenerator[Event, None]:
        """Give what comes until the stream ends; all is kept, as by `watch`."""
        async with contextlib.aclosing(self._stream(Stay())) as stream:
            async for event in stream:
                self.told.append(event)
                yield event

    async def to_the_end(self) -> None:
        """Watch to the run's end, resuming as often as it takes."""
        while not self.problem and not await self.watch(Stay()):
            pass

    async def _stream(self, stay: Stay) -> AsyncGenerator[Event, None]:
        path = f"/api/v1/runs/{self.run_id}/events"
        last = self.told[-1]["seq"] if self.told else 0
        headers = {}
        if last and stay.by_header:
            headers["Last-Event-ID"] = str(last)
        elif last:
            path += f"?after={last}"
        if stay.shape == "message":
            path += f"{'&' if '?' in path else '?'}shape=message"
        elif stay.shape == "ndjson":
            headers["Accept"] = "application/x-ndjson"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_STUCK_S)
        async with self.ground.request("GET", path, headers=headers, timeout=timeout) as answer:
            if answer.status != 200:
                self.problem = f"after event {last} answered {answer.status}"
                return
            self.resumed += last > 0
            async for line in _lines(answer.content):
                if stay.shape == "ndjson":
                    yield json.loads(line)
                elif line.startswith(b"data: "):
                    yield json.loads(line[6:])


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def compare(ledger: Ledger, who: str, told: list[Event], journal: list[Event]) -> None:
    """Hold what a watcher got against the journal: each event once, in order, and the same."""
    seqs = [event["seq"] for event in told]
    doubled = len(seqs) - len(set(seqs))
    missing = len({event["seq"] for event in journal} - set(seqs))
    if doubled:
        ledger.miss("doubled", f"{who}: {doubled} events came twice")
    if missing:
        ledger.miss("lost", f"{who}: {missing} of {len(journal)} events never came")
    if not doubled and not missing and told != journal:
        wrong = next(s["seq"] for s, j in zip(told, journal, strict=False) if s != j)
        ledger.miss("lost", f"{who}: event {wrong} isn't what the journal has there")


def check_sequence(ledger: Ledger, who: str, journal: list[Event]) -> None:
    """Look that a journal counts from 1 without a gap and ends with one last event."""
    if [event["seq"] for event in journal] != list(range(1, len(journal) + 1)):
        ledger.miss("lost", f"{who}: its journal has a gap")
    ends = [event["seq"] for event in journal if event["event"] in ("summary", "aborted")]
    if not ends or ends[0] != len(journal):
        ledger.miss("lost", f"{who}: its journal has no end")
    if len(ends) > 1:
        ledger.miss("doubled", f"{who}: its journal has {len(ends)} ends")
