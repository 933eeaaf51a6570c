"""Where everything is below the state folder, section 7 of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunDir:
    """One run's folder."""

    path: Path

    @property
    def id(self) -> str:
        """The run's id, which is the folder's name."""
        return self.path.name

    @property
    def run_json(self) -> Path:
        """What was asked; written once."""
        return self.path / "run.json"

    @property
    def journal(self) -> Path:
        """The events, one a line; line N holds ``seq`` N."""
        return self.path / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Held with flock(2) by the one who may write."""
        return self.path / "lock"

    @property
    def control(self) -> Path:
        """The runner's socket; bind and connect through the folder's descriptor."""
        return self.path / "control.sock"

    @property
    def watched(self) -> Path:
        """Empty; there once somebody has watched a run that ends with its last watcher."""
        return self.path / "watched"

    @property
    def artifacts(self) -> Path:
        """The collected artifacts."""
        return self.path / "artifacts"

    def step(self, step: str) -> Path:
        """Return the folder of a step."""
        return self.path / "steps" / step

    def log(self, step: str, attempt: int) -> Path:
        """Return the log of an attempt, masked, else byte for byte as it came."""
        return self.step(step) / f"{attempt}.log"

    def outputs(self, step: str) -> Path:
        """Return the file with the step's outputs, masked."""
        return self.step(step) / "outputs.json"


@dataclass(frozen=True, slots=True)
class StateDir:
    """The state folder."""

    path: Path

    @property
    def version(self) -> Path:
        """The format's number."""
        return self.path / "version"

    @property
    def index(self) -> Path:
        """The SQLite index, rebuilt from the run folders."""
        return self.path / "tailrace.db"

    @property
    def state_db(self) -> Path:
        """What the run folders can't tell."""
        return self.path / "state.db"

    @property
    def socket(self) -> Path:
        """The daemon's Unix socket."""
        return self.path / "daemon.sock"

    @property
    def token(self) -> Path:
        """The first token, mode 0600."""
        return self.path / "token"

    @property
    def address(self) -> Path:
        """``HOST:PORT`` of the daemon that runs."""
        return self.path / "address"

    @property
    def alive(self) -> Path:
        """Empty; its time says when a daemon was last there."""
        return self.path / "alive"

    @property
    def runs(self) -> Path:
        """The run folders."""
        return self.path / "runs"

    def run(self, run_id: str) -> RunDir:
        """Return a run's folder."""
        return RunDir(self.runs / run_id)

    def counter(self, pipeline: str) -> Path:
        """Return the file with the last N of a pipeline's refs."""
        return self.path / "counters" / pipeline

    @property
    def workspaces(self) -> Path:
        """The workspaces."""
        return self.path / "workspaces"

    def workspace(self, run_id: str) -> Path:
        """Return a run's workspace."""
        return self.workspaces / run_id

    @property
    def caches(self) -> Path:
        """The pipelines' caches."""
        return self.path / "cache"

    def cache(self, pipeline: str) -> Path:
        """Return a pipeline's cache."""
        return self.caches / pipeline

    @property
    def slots(self) -> Path:
        """A file for each step that may run at once, over all runs."""
        return self.path / "slots"
