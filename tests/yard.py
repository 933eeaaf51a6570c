"""A daemon's worker over a folder of pipelines, with real runners, and patience for conditions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tailrace import wire
from tailrace.pipeline.catalog import Catalog
from tailrace.rundir.layout import StateDir
from tailrace.rundir.lock import is_held
from tailrace.settings import Limits, Masking, Settings
from tailrace.store.state import open_state
from tailrace.worker.accept import Acceptor
from tailrace.worker.secrets import SecretStore
from tailrace.worker.submission import Submission
from tailrace.worker.worker import Worker

_LIMITS = Limits(min_free=0)
_MASKING = Masking(shapes=False)
SECRET = "tok-5ecret-value"


async def until(claim: Callable[[], Any], what: str, *, seconds: float = 20) -> Any:
    """Wait for a claim to hold."""
    deadline = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0.01)
    return found


class Yard:
    """A state folder, a folder of pipelines, and workers over them, one at a time."""

    def __init__(self, path: Path) -> None:
        self.state: StateDir = open_state(path / "state")
        self.pipelines = path / "pipelines"
        self.pipelines.mkdir(exist_ok=True)
        self.catalog = Catalog(self.pipelines)

    def pipeline(self, name: str, run: str = "true", **keys: str) -> str:
        """Define a pipeline of one step, `only`; keys are YAML."""
        text = "".join(f"{key}: {value}\n" for key, value in keys.items())
        script = "".join(f"      {line}\n" for line in run.splitlines())
        (self.pipelines / f"{name}.yaml").write_text(
            f"{text}steps:\n  only:\n    grace: 500ms\n    run: |\n{script}"
        )
        return name

    def settings(self, **more: Any) -> Settings:
        """Settings for full disks; without the shipped shapes, which take a while to compile."""
        return Settings(**{"limits": _LIMITS, "max_runs": 4, "masking": _MASKING, **more})

    def acceptor(self, **more: Any) -> Acceptor:
        """What `tailrace run` uses without a daemon."""
        settings = self.settings(**more)
        return Acceptor(self.state, settings, self.catalog, self.secrets(settings))

    def secrets(self, settings: Settings) -> SecretStore:
        """One secret, TOKEN."""
        return SecretStore(settings, {"TOKEN": SECRET})

    @asynccontextmanager
    async def worker(self, *, begin: bool = True, **more: Any) -> AsyncIterator[Worker]:
        """Run a worker; ``target``, ``gone_s`` and ``clock`` are its own, the rest are settings."""
        own = {key: more.pop(key) for key in ("target", "gone_s", "clock") if key in more}
        settings = self.settings(**more)
        made = Worker(self.state, settings, self.catalog, self.secrets(settings), **own)
        async with made as worker:
            if begin:
                await worker.begin("http://127.0.0.1:1")
            yield worker

    def journal(self, run_id: str) -> list[str]:
        """The names of a run's events, so far."""
        lines = self.state.run(run_id).journal.read_bytes().splitlines()
        return [wire.decode_record(line).event for line in lines]

    def last(self, run_id: str) -> Any:
        """A run's newest event."""
        lines = self.state.run(run_id).journal.read_bytes().splitlines()
        return wire.decode_event(lines[-1])

    async def settled(self, run_id: str) -> None:
        """Wait until a run has ended and its runner is gone."""
        run = self.state.run(run_id)
        await until(
            lambda: self.journal(run_id)[-1] in ("summary", "aborted") and not is_held(run.lock),
            f"the end of {run_id}",
        )


async def start(worker: Worker, pipeline: str, **more: Any) -> str:
    """Submit a run and return its id."""
    started = await worker.submit(Submission(pipeline=pipeline, **more))
    assert started.run_id is not None
    return started.run_id
