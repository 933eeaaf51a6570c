"""A pipeline file as written, after validation: what `tailrace.pipeline.loader` returns.

Everything that the contract's tables allow has its field here, including keys
whose behaviour belongs to other parts of Tailrace. Values are typed (durations
in milliseconds, sizes in bytes), names are resolved against the file, but
nothing is chosen yet: depth, matrix and inherited needs are the planner's.
``${{ … }}`` templates stay as written.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from tailrace.core.plan import ParamValue, Requires, Retry, StepLimits

ParamType = Literal["string", "integer", "number", "boolean", "enum", "git-url", "git-ref"]
OnConflict = Literal["queue", "cancel-running", "skip"]
Sandbox = Literal["off", "on", "required"]
Narration = Literal["channel", "claude", "github"]
Provider = Literal["github", "gitlab", "gitea", "bitbucket", "standard"]
HookEvent = Literal["push", "tag", "pull_request", "release"]


class Param(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may be given under one name."""

    type: ParamType = "string"
    required: bool = False
    default: ParamValue = None
    choices: tuple[ParamValue, ...] = ()  # of the param's type; an enum always has some
    pattern: str | None = None  # RE2, over the whole value; for string, git-url and git-ref
    minimum: int | float | None = None  # for integer and number
    maximum: int | float | None = None
    help: str = ""


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """A named budget."""

    timeout_ms: int | UnsetType | None = UNSET  # None: lifted; UNSET: the pipeline's
    usd: float | None = None
    tokens: int | None = None
    env: dict[str, str] = {}
    default: bool = False


class Concurrency(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs of this pipeline exclude each other."""

    group: str = ""  # template; the same for every run where it is left out
    on_conflict: OnConflict = "queue"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries start a run."""

    provider: Provider | None = None  # None: told apart by headers
    secret: tuple[str, ...] = ()  # names; several while rotating, never empty after validation
    events: tuple[HookEvent, ...] = ()
    actions: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    condition: str | None = msgspec.field(default=None, name="if")  # CEL over event
    params: dict[str, str] | None = None  # templates over event; None: those of the contract
    depth: str | None = None
    forks: bool = False
    status: bool = False


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a timetable."""

    cron: str = ""  # five fields or @daily and its like, checked
    timezone: str = "UTC"
    catch_up: Literal["skip", "once"] = "skip"
    params: dict[str, ParamValue] = {}
    depth: str | None = None


class Triggers(msgspec.Struct, frozen=True, kw_only=True):
    """``on``: what starts a run besides people."""

    webhook: Webhook | None = None
    schedule: tuple[Schedule, ...] = ()


class Clone(msgspec.Struct, frozen=True, kw_only=True):
    """``clone`` of a step; every text may hold templates."""

    url: str = ""
    ref: str = "HEAD"
    commit: str | None = None
    history: int | None = None  # how many commits; None: all of them
    submodules: bool = False
    path: str | None = None  # below the workspace; None: named after the step


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """``ask`` of a step."""

    question: str = ""
    choices: tuple[str, ...] = ()
    default: str | None = None
    expires_ms: int | None = None
    scope: Literal["read", "run", "admin"] | None = None


class Artifacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a step leaves, besides the contents of ``$TAILRACE_ARTIFACTS``."""

    paths: tuple[str, ...] = ()  # globs below the workdir
    primary: str | None = None


class StepDef(msgspec.Struct, frozen=True, kw_only=True):
    """One step. Exactly one of ``run``, ``command``, ``clone`` and ``ask`` is set."""

    id: str
    run: str | None = None
    command: tuple[str, ...] | None = None
    clone: Clone | None = None
    ask: Ask | None = None
    label: str | None = None
    needs: tuple[str, ...] = ()
    when: str | None = None
    depth: tuple[str, ...] = ()  # empty: in every depth
    matrix: dict[str, tuple[str, ...]] = {}
    shell: tuple[str, ...] | None = None
    workdir: str | None = None
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    timeout_ms: int | None = None
    silence_ms: int | None = None
    grace_ms: int = 10_000
    retry: Retry = Retry()
    allow_failure: bool = False
    limits: StepLimits = StepLimits()
    sandbox: Sandbox | None = None  # None: off, or required for what a webhook causes
    network: bool | None = None
    host: str | None = None
    artifacts: Artifacts = Artifacts()
    narration: Narration = "channel"
    echo: bool = True


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file."""

    name: str  # the file's stem
    description: str = ""
    params: dict[str, Param] = {}
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    timeout_ms: int | UnsetType | None = UNSET  # None: lifted; UNSET: ``limits.timeout``
    parallel: int | None = None  # None: as many as there are cores
    depths: dict[str, Depth] = {}
    requires: Requires = Requires()
    concurrency: Concurrency | None = None
    fail_fast: bool = False
    on_disconnect: Literal["continue", "cancel"] = "continue"
    on_lost: Literal["fail", "retry"] = "fail"
    on: Triggers = Triggers()
    steps: dict[str, StepDef] = {}  # in the file's order
