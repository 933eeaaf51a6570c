"""What every part of a runner shares: the run, its secrets and what its steps have said."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from tailrace.core.events import Artifact
from tailrace.core.graph import transitive_needs
from tailrace.core.mask import Masker
from tailrace.core.mask_rules import MaskRules
from tailrace.core.narration import Totals
from tailrace.core.plan import ParamValue, Plan, RunFile, StepPlan
from tailrace.core.walk import StatusFunctions, Walk
from tailrace.pipeline.expressions import Scope, matrix_facts
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.runner.mechanism import Mechanism
from tailrace.runner.prompts import Prompts
from tailrace.runner.recorder import Recorder
from tailrace.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What runners of this run did that died, as far as the clock and attempts go."""

    elapsed_s: float = 0.0  # since the run started
    paused_s: float = 0.0  # of these
    is_paused: bool = False
    attempts: Mapping[str, int] = field(default_factory=dict)  # unfinished step -> the last one
    step_elapsed_s: Mapping[str, float] = field(default_factory=dict)  # since its first attempt
    delay_s: Mapping[str, float] = field(default_factory=dict)  # until its next one


@dataclass(slots=True, kw_only=True)
class RunContext:
    """One run in execution. Everything here is used on one event loop."""

    run: RunDir
    file: RunFile
    params: Mapping[str, ParamValue]  # with their secrets
    secrets: Mapping[str, str]
    settings: Settings
    public_url: str | None
    recorder: Recorder
    mechanism: Mechanism
    walk: Walk
    disk_failed: Callable[[OSError], None]  # the run folder can't be written: end the run
    spent: Callable[[], None]  # the totals have grown: look at the budget
    earlier: Earlier | None = None  # None: it has just been accepted
    totals: Totals = field(default_factory=Totals)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)  # by step, unmasked
    artifacts: list[Artifact] = field(default_factory=list)
    collecting: asyncio.Lock = field(default_factory=asyncio.Lock)  # one step's files at a time
    primary: str | None = None  # name of the primary artifact
    unsandboxed: set[str] = field(default_factory=set)  # steps whose lack of a sandbox was told
    leaders: set[int] = field(default_factory=set)  # pids of all leaders that live
    maskers: weakref.WeakSet[Masker] = field(default_factory=weakref.WeakSet)  # of open streams
    prompts: Prompts = field(init=False)

    def __post_init__(self) -> None:
        """Make what needs the rest."""
        self.prompts = Prompts(self.recorder.record, self.disk_guard, mask=self.mask_text)

    @property
    def plan(self) -> Plan:
        """What the run does."""
        return self.file.plan

    @property
    def rules(self) -> MaskRules:
        """What is masked now."""
        return self.recorder.rules

    def mask_text(self, text: str) -> str:
        """Return a text as the rules of now let it be told."""
        return self.rules.mask_text(text)

    @contextlib.contextmanager
    def disk_guard(self) -> Iterator[None]:
        """Report an OSError of the block as `disk_failed` and go on behind it."""
        try:
            yield
        except OSError as exc:
            self.disk_failed(exc)

    def log_bug(self, trace: str) -> None:
        """Write a traceback to the runner's log, masked."""
        print(self.mask_text(trace), file=sys.stderr)  # noqa: T201 - runner.log is our stderr

    def mask_values(self, values: Sequence[str]) -> None:
        """Mask late secrets in all that the run writes from here on."""
        self.recorder.rules = self.rules.with_values(values)
        for masker in self.maskers:
            masker.rules = self.rules

    @property
    def state(self) -> StateDir:
        """The state folder that the run is in."""
        return StateDir(self.run.path.parent.parent)

    @property
    def workspace(self) -> Path:
        """The run's workspace, or that of the run it repeats."""
        return self.state.workspace(self.file.workspace or self.file.id)

    @property
    def cache(self) -> Path:
        """What all runs of the pipeline share."""
        return self.state.cache(self.file.pipeline)

    def params_json(self) -> bytes:
        """Return the params with their types, for ``$TAILRACE_PARAMS``."""
        return msgspec.json.encode(dict(self.params))

    def url_of(self, artifact: str) -> str:
        """Return where an artifact is found: on the daemon, or as a file where there is none."""
        if self.public_url is None:
            return (self.run.artifacts / artifact).as_uri()
        return f"{self.public_url}/api/v1/runs/{self.file.id}/artifacts/{quote(artifact)}"

    @property
    def file_url(self) -> str | None:
        """Where the primary artifact is found."""
        return None if self.primary is None else self.url_of(self.primary)

    def needed_outputs(self, step: StepPlan) -> dict[str, dict[str, str]]:
        """Return the outputs of all steps that *step* needs, directly or not."""
        graph = {item.id: item.needs for item in self.plan.steps}
        return {
            name: self.outputs[name]
            for name in transitive_needs(graph, step.id)
            if name in self.outputs
        }

    def scope(self, step: StepPlan, functions: StatusFunctions | None = None) -> Scope:
        """Return what the step's expressions see now."""
        facts: dict[str, dict[str, Any]] = {
            item.id: {
                "status": self.walk.status_of(item.id),
                "outputs": self.outputs.get(item.id, {}),
            }
            for item in self.plan.steps
        }
        for base in {item.base for item in self.plan.steps if item.base != item.id}:
            facts[base] = matrix_facts([facts[s.id] for s in self.plan.steps if s.base == base])
        facts |= {name: {"status": "absent", "outputs": {}} for name in self.plan.absent}
        status = (
            {}
            if functions is None
            else {
                "success": functions.success,
                "failure": functions.failure,
                "cancelled": functions.cancelled,
            }
        )
        return Scope(
            params=self.params,
            depth=self.plan.depth,
            matrix=step.matrix,
            event=self.file.event,
            run_id=self.file.id,
            run_ref=self.file.ref,
            steps=facts,
            **status,
        )
