"""What a run will do, resolved from a pipeline: the graph that a runner walks.

A `Plan` has no defaults left to look up and no YAML behind it: depth chosen,
matrix expanded, needs of absent steps inherited. ``${{ … }}`` templates stay
as written, because outputs of earlier steps are known only when a step starts.
It is stored in ``run.json`` and read by runner, daemon and retry alike.

Durations are milliseconds (``_ms``), sizes bytes. Tuples, so that a plan is
a value.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class RunAction(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="run"):
    """Shell text, handed to the step's ``shell``. Never holds ``${{``."""

    script: str


class CommandAction(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="command"):
    """An argument list; each item may hold ``${{ … }}``."""

    argv: tuple[str, ...]


class CloneAction(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="clone"):
    """A git clone; every text may hold ``${{ … }}``."""

    url: str
    ref: str = "HEAD"
    commit: str | None = None
    history: int | None = None  # how many commits; None for all of them
    submodules: bool = False
    path: str  # below the workspace; by default the step's id made safe


class AskAction(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="ask"):
    """A question to the people watching."""

    question: str
    choices: tuple[str, ...] = ()
    default: str | None = None
    expires_ms: int | None = None
    scope: Literal["read", "run", "admin"] | None = None  # that an answer needs; None: run


Action = RunAction | CommandAction | CloneAction | AskAction


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and when a failed attempt is repeated."""

    attempts: int = 1  # all executions together
    delay_ms: int = 1_000
    factor: float = 2.0
    max_delay_ms: int = 300_000
    exit_codes: tuple[int, ...] | None = None  # None: every error is retried


class StepLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one attempt; None means the settings' bound or none."""

    memory: int | None = None  # bytes
    cpu: float | None = None  # cores
    pids: int | None = None
    log: int | None = None  # bytes
    artifacts: int | None = None  # bytes


class StepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the graph, as the runner will execute it."""

    id: str  # "lint", or "test[3.11,linux]" for one combination of a matrix
    base: str  # its id in the file: "test"
    label: str  # may hold templates; the id where the file gives none
    action: Action
    needs: tuple[str, ...] = ()  # ids in this plan; matrix and absent steps resolved
    when: str | None = None  # CEL
    workdir: str | None = (
        None  # template; None: the clone of the nearest clone step, else workspace
    )
    workdir_of: str | None = None  # the nearest clone step's id, worked out by the planner
    shell: tuple[str, ...] | None = None  # None: bash -e -o pipefail -c, or sh -e -c
    env: dict[str, str] = {}  # pipeline, depth and step together; values may hold templates
    secrets: tuple[str, ...] = ()  # names; pipeline's and step's together
    matrix: dict[str, str] = {}
    timeout_ms: int | None = None
    silence_ms: int | None = None
    grace_ms: int = 10_000
    retry: Retry = Retry()
    allow_failure: bool = False
    limits: StepLimits = StepLimits()
    sandbox: Literal["off", "on", "required"] = "off"
    network: bool | None = None  # None: the default of its sandbox mode
    host: str | None = None
    artifacts: tuple[str, ...] = ()  # globs below the workdir; may hold templates
    primary: str | None = None  # name of the primary artifact; may hold templates
    narration: Literal["channel", "claude", "github"] = "channel"
    echo: bool = True


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a depth allows the whole run to spend."""

    usd: float | None = None
    tokens: int | None = None


class Requires(msgspec.Struct, frozen=True, kw_only=True):
    """What must be there before a run is accepted."""

    commands: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    mcp: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a pipeline, resolved."""

    pipeline: str
    description: str = ""
    depth: str | None = None  # None where the pipeline has no depths
    steps: tuple[StepPlan, ...]  # in the file's order
    absent: tuple[str, ...] = ()  # base ids that the depth left out
    timeout_ms: int | None = None  # None: no limit; the settings' default is already applied
    parallel: int = 1
    fail_fast: bool = False
    on_disconnect: Literal["continue", "cancel"] = "continue"
    on_lost: Literal["fail", "retry"] = "fail"
    group: str | None = None  # the evaluated concurrency group
    on_conflict: Literal["queue", "cancel-running", "skip"] = "queue"
    budget: Budget = Budget()
    secrets: tuple[str, ...] = ()  # every secret name that any step needs
    requires: Requires = Requires()

    def step(self, step_id: str) -> StepPlan:
        """Return the step with that id.

        Raises:
            KeyError: the plan has none.
        """
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)


ParamValue = str | int | float | bool | None


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """``run.json``: what was asked. Written once, when the run is accepted."""

    version: int = 1
    id: str
    ref: str
    pipeline: str
    depth: str | None = None
    params: dict[str, ParamValue] = {}  # masked
    params_masked: tuple[str, ...] = ()  # names whose value held a secret and is on no disk
    by: str = ""  # who: a token's name, "local", "schedule"
    via: str = ""  # through what: "cli", "http", "ops", "webhook", "schedule", "mcp", "page"
    created_at: str = ""  # RFC 3339, UTC, milliseconds
    retry_of: str | None = None  # id of the run that this one repeats
    reused: dict[str, str] = {}  # step id -> id of the run whose result it takes over
    workspace: str | None = None  # id of the run whose workspace this one works in; None: its own
    keep_workspace: bool = False  # also after a success
    trusted: bool = False  # asked by who owns the machine: local paths, private addresses
    event: dict[str, Any] | None = None  # the webhook's or schedule's event
    key: str | None = None  # the Idempotency-Key, with its owner
    body_sha256: str | None = None  # of the request that brought the key
    delivery: str | None = None
    plan: Plan
