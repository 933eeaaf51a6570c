"""A temporary place on disk with pipelines, and runs in it without a daemon."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.usage import peak_rss_mb
from tailrace import wire
from tailrace.pipeline.catalog import Catalog
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.settings import Limits, Settings
from tailrace.store.state import open_state
from tailrace.worker.accept import Acceptor
from tailrace.worker.secrets import SecretStore
from tailrace.worker.spawn import spawn_runner
from tailrace.worker.submission import Submission

LOG_LIMIT: Final = 8 << 30  # of an attempt; the default would end a benchmark's flood
STEPS: Final = 64  # at once
SECRET: Final = "correct-horse-battery-staple"  # of the pipelines that name SECRET
_DISK: Final = Path("/var/tmp")  # on a disk where /tmp is memory: hier(7)

# What steps run: an interpreter that imports nothing it needn't.
PRODUCER: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("producer.py")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A run that has ended."""

    events: list[dict[str, Any]]
    peak_rss_mb: float  # of its runner

    def time_of(self, event: str, *, last: bool = False) -> float:
        """When the first or last event of that name was written, in seconds."""
        found = [item for item in self.events if item["event"] == event]
        return wire.parse_timestamp(found[-1 if last else 0]["t"])


class Workshop:
    """A folder with ``pipelines`` and ``state``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pipelines = folder / "pipelines"
        self.state = folder / "state"

    def run(self, pipeline: str) -> Done:
        """Run a pipeline as ``tailrace run --local`` does, to its end; remove its folder.

        Raises:
            RuntimeError: it didn't succeed.
        """
        process, run = self.start(pipeline)
        peak = 0.0
        stop = threading.Event()

        def sample() -> None:
            nonlocal peak
            while not stop.wait(0.02):
                with contextlib.suppress(OSError, ValueError):  # it has just ended
                    peak = max(peak, peak_rss_mb(process.pid))

        sampler = threading.Thread(target=sample, name="peak memory")
        sampler.start()
        try:
            status = process.wait()
        finally:
            stop.set()
            sampler.join()
            if process.poll() is None:
                process.terminate()
                process.wait()
        events = read_journal(run)
        if status != 0:
            raise RuntimeError(f"{pipeline} ended with status {status}: {events[-1]}")
        shutil.rmtree(run.path)
        return Done(events=events, peak_rss_mb=peak)

    def start(self, pipeline: str) -> tuple[subprocess.Popen[bytes], RunDir]:
        """Start a runner for a pipeline; return it and the run that it executes."""
        accepted = self._acceptor(open_state(self.state)).accept(
            Submission(pipeline=pipeline, by="bench", via="cli", trusted=True)
        )
        return spawn_runner(accepted), accepted.run

    def _acceptor(self, state: StateDir) -> Acceptor:
        settings = Settings(limits=Limits(log=LOG_LIMIT, steps=STEPS))
        secrets = SecretStore(settings, {"SECRET": SECRET})
        return Acceptor(state, settings, Catalog(self.pipelines), secrets)


def read_journal(run: RunDir) -> list[dict[str, Any]]:
    """Return the events of a run as its journal has them."""
    return [json.loads(line) for line in run.journal.read_bytes().splitlines()]


@contextlib.contextmanager
def workshop(pipelines: Mapping[str, Any]) -> Iterator[Workshop]:
    """Give a place with these pipelines, and remove everything afterwards.

    Pipelines are written as JSON, which is YAML.
    """
    parent = _DISK if _DISK.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-", dir=parent) as folder:
        place = Workshop(Path(folder))
        place.pipelines.mkdir()
        for name, pipeline in pipelines.items():
            (place.pipelines / f"{name}.yaml").write_text(json.dumps(pipeline))
        yield place
