"""A run folder written by hand, event by event, as a runner would."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tailrace import wire
from tailrace.core.lines import LineCounter
from tailrace.core.plan import Plan, RunAction, RunFile, StepPlan
from tailrace.rundir.journal import AttemptLog, JournalWriter
from tailrace.rundir.layout import RunDir


class WrittenRun:
    """Writes one run's journal and logs."""

    def __init__(self, path: Path, *, ref: str = "demo/1") -> None:
        path.mkdir(parents=True, mode=0o700)
        self.run = RunDir(path)
        self.ref = ref
        self.journal = JournalWriter(self.run)
        self.logs: dict[tuple[str, int], tuple[AttemptLog, LineCounter]] = {}
        self.labels: dict[str, str] = {}
        self.now: float | None = None  # the time of the next events; None: the clock's

    def event(self, event: str, **fields: Any) -> int:
        """Append an event."""
        now = time.time() if self.now is None else self.now
        return self.journal.append(wire.timestamp(now), {"event": event, **fields})

    def plan(
        self, graph: dict[str, list[str]], labels: dict[str, str] | None = None, **fields: Any
    ) -> None:
        """Append ``plan`` and ``queued``, and write ``run.json``."""
        pipeline = self.ref.split("/")[0]
        self.labels = labels or {step: step.capitalize() for step in graph}
        steps = tuple(
            StepPlan(id=i, base=i, label=i, needs=tuple(n), action=RunAction(script="true"))
            for i, n in graph.items()
        )
        plan = Plan(pipeline=pipeline, steps=steps)
        run_file = RunFile(
            id=self.run.id, ref=self.ref, pipeline=pipeline, plan=plan,
            created_at=wire.timestamp(self.now or time.time()), by="local", via="cli",
        )  # fmt: skip
        self.run.run_json.write_bytes(wire.encode_json(run_file))
        said: dict[str, Any] = {
            "run": self.run.id, "ref": self.ref, "pipeline": pipeline, "depth": None, "params": {},
            "by": "local", "via": "cli", "retry_of": None, "steps": list(self.labels.values()),
            "graph": [{"id": i, "label": self.labels[i], "needs": n} for i, n in graph.items()],
        }  # fmt: skip
        self.event("plan", **{**said, **fields})
        self.event("queued", position=0, reason=None, group=None)

    def started(self) -> None:
        """Append ``started``."""
        self.event("started", worker="here", containment="cgroup")

    def step_started(self, step: str, attempt: int = 1) -> None:
        """Append ``step_started``."""
        self.event(
            "step_started", step=step, label=self.labels[step], attempt=attempt, cmd="x", host=None
        )

    def log(self, step: str, data: bytes, attempt: int = 1) -> None:
        """Write output, and append its ``log``."""
        key = (step, attempt)
        if key not in self.logs:
            self.logs[key] = (AttemptLog(self.run.log(step, attempt)), LineCounter())
        log, counter = self.logs[key]
        piece = counter.take(data)
        if piece is None:
            return
        log.append(piece)
        self.event(
            "log", step=step, attempt=attempt, line=piece.line, offset=piece.offset,
            bytes=len(piece.data), **({"open": True} if piece.open else {}),
        )  # fmt: skip

    def progress(self, step: str, **fields: Any) -> None:
        """Append ``progress``."""
        self.event("progress", step=step, label=self.labels[step], **fields)

    def step_finished(self, step: str, status: str = "success", **fields: Any) -> None:
        """Append ``step_finished``."""
        said = {"attempt": 1, "duration_ms": 1_200, "returncode": 0, **fields}
        self.event("step_finished", step=step, label=self.labels[step], status=status, **said)

    def artifact(self, step: str, name: str, data: bytes = b"<p>report</p>") -> str:
        """Keep an artifact and append its event; return its URL."""
        path = self.run.artifacts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        url = path.as_uri()
        self.event(
            "artifact", step=step, name=name, url=url, bytes=len(data), sha256="0" * 64,
            media_type="text/html",
        )  # fmt: skip
        return url

    def summary(self, status: str = "success", **fields: Any) -> None:
        """Append the last event of a run that came to its end."""
        said: dict[str, Any] = {
            "message": "", "cause": None, "cause_code": None, "duration_ms": 5_000,
            "file_url": None, "artifacts": [], "cost": {"usd": 0, "tokens_in": 0, "tokens_out": 0},
        }  # fmt: skip
        self.event("summary", status=status, **{**said, **fields})

    def aborted(self, reason: str = "cancelled by local") -> None:
        """Append the last event of a run that was stopped."""
        self.event(
            "aborted", reason=reason, cause_code="cancelled", by="local", duration_ms=5_000,
            file_url=None, artifacts=[], cost={"usd": 0, "tokens_in": 0, "tokens_out": 0},
        )  # fmt: skip

    def close(self) -> None:
        """Close the files."""
        self.journal.close()
        for log, _ in self.logs.values():
            log.close()
        self.logs.clear()
