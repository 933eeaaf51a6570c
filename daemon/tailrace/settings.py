"""What the operator decides: ``tailrace.yaml`` and ``TAILRACE_*`` as one typed value.

Every key with its default stands here once; ``configs/tailrace.yaml`` shows
them all and is loaded by a test. Keys are those of section 7 of the contract.
Sizes are bytes and durations milliseconds here; the file says ``64K`` and
``30s`` (fields annotated `Size`, `Buffer` and `Duration`). `tailrace.settings_file`
reads them; a runner gets them handed over and needs no YAML.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

Size = Annotated[int, msgspec.Meta(ge=0, extra={"unit": "size"})]
Duration = Annotated[int, msgspec.Meta(ge=0, extra={"unit": "duration"})]
# Less moves nothing, and more is beyond what sockets and reads take.
Buffer = Annotated[int, msgspec.Meta(ge=1 << 10, le=1 << 30, extra={"unit": "size"})]
Count = Annotated[int, msgspec.Meta(ge=0)]
PerCores = Annotated[int, msgspec.Meta(ge=1, extra={"unit": "cores"})]  # or ``4 * cores``

K, M, G = 1 << 10, 1 << 20, 1 << 30
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of keys; an unknown one is an error."""


class Retention(_Section, frozen=True, kw_only=True):
    """What is kept of finished runs; whichever bound is reached first."""

    age: Duration = 90 * DAY
    runs: Count = 1_000  # a pipeline
    bytes: Size = 20 * G
    workspaces: Duration = 24 * HOUR  # of failed runs, for retry
    workspace_bytes: Size = 10 * G
    cache_bytes: Size = 5 * G  # a pipeline


class Limits(_Section, frozen=True, kw_only=True):
    """Bounds, and the sizes of every buffer."""

    steps: PerCores = 4 * (os.cpu_count() or 1)  # at once, over all runs
    timeout: Duration | None = 6 * HOUR  # of a run without one of its own
    cleanup: Duration = 5 * MINUTE  # for steps that run after a cancel or the run's timeout
    log: Size = G  # of one attempt
    artifacts: Size = 2 * G  # of a run
    artifact_files: Count = 10_000  # of a run
    min_free: Size = 2 * G  # of disk, under which no run starts
    body: Buffer = M  # of a request
    read_chunk: Buffer = 256 * K  # read from a step's pipe at once
    held: Size = M  # held back by the masker while a match may be open
    ring: Size = 256 * K  # recent frames kept for each watched run
    in_flight: Buffer = 256 * K  # handed to a watcher's socket and not yet taken
    containment: Literal["auto", "cgroup", "pidns", "process_group"] = "auto"  # of steps
    gather: Duration = 20  # how long output that floods is gathered


class Credential(_Section, frozen=True, kw_only=True):
    """How to log in to a git host: a user with a secret, or an SSH key."""

    username: str | None = None
    secret: str | None = None  # name of a secret
    ssh_key: str | None = None  # name of a secret that holds the private key


class Git(_Section, frozen=True, kw_only=True):
    """What git may reach, for runs that are not asked for by the machine's owner."""

    protocols: tuple[str, ...] = ("https", "ssh")
    local_paths: tuple[str, ...] = ()
    private_addresses: tuple[str, ...] = ()  # networks; loopback and link-local count as private
    known_hosts: str | None = None
    ca_file: str | None = None
    credentials: dict[str, Credential] = {}  # "host" or "host/path-prefix"


class Masking(_Section, frozen=True, kw_only=True):
    """The masker's own patterns, besides the secrets."""

    shapes: bool = True  # the token shapes of configs/masking.yaml
    patterns: dict[str, str] = {}  # name -> pattern, in the syntax RE2 and Hyperscan share


class Log(_Section, frozen=True, kw_only=True):
    """The daemon's own log, on standard error."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Host(_Section, frozen=True, kw_only=True):
    """A machine that steps run on by SSH."""

    address: str
    user: str | None = None
    key: str | None = None  # name of a secret


class McpServer(_Section, frozen=True, kw_only=True):
    """An MCP server that pipelines may require."""

    command: tuple[str, ...] = ()
    url: str | None = None


class Settings(_Section, frozen=True, kw_only=True):
    """Everything an operator can set."""

    listen: str = "127.0.0.1:8470"
    public_url: str | None = None
    socket: str | None = None  # the Unix socket; None: <state>/daemon.sock
    state_dir: str = ""  # "": as `default_state_dir` says
    pipelines_dir: str = ""  # "": ./pipelines, else /etc/tailrace/pipelines
    secrets_dir: str | None = None
    step_env: dict[str, str] = {}
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    max_runs: PerCores = os.cpu_count() or 1
    max_queued: Count = 10_000
    retention: Retention = Retention()
    limits: Limits = Limits()
    hosts: dict[str, Host] = {}
    mcp: dict[str, McpServer] = {}
    masking: Masking = Masking()
    git: Git = Git()
    notify: dict[str, Any] = {}
    console: dict[str, Any] = {}
    log: Log = Log()


_WITHOUT_EFFECT: Final = {
    "hosts": "no step runs by SSH, and `requires.hosts` looks for the names only",
    "notify": "nobody is told of runs",
    "console": "there is no SSH console",
}


def without_effect(settings: Settings) -> list[tuple[str, str]]:
    """Return (key, why) for each that is set and that this version only reads."""
    return [(key, why) for key, why in _WITHOUT_EFFECT.items() if getattr(settings, key)]


_AT_START: Final = ("listen", "public_url", "socket", "state_dir", "log")


def held_until_restart(now: Settings, then: Settings) -> list[str]:
    """Return the keys that differ and that a daemon takes only when it starts.

    ``public_url`` is one for the addresses of artifacts; requests know the new one at once.
    """
    differ = [key for key in _AT_START if getattr(now, key) != getattr(then, key)]
    return differ + (["limits.body"] if now.limits.body != then.limits.body else [])


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Return the state folder where the settings name none: section 7 of the contract.

    systemd gives ``$STATE_DIRECTORY`` (systemd.exec(5)); a list there counts by its first.
    """
    if given := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    # A relative one is to be ignored (XDG Base Directory Specification).
    if (given := environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return Path(given) / "tailrace"
    return Path(environ.get("HOME") or "~").expanduser() / ".local/state/tailrace"


def state_dir(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Return the state folder, absolute; whether or not it is there."""
    chosen = Path(settings.state_dir).expanduser() if settings.state_dir else None
    return (chosen or default_state_dir(environ)).absolute()


def pipelines_dir(settings: Settings) -> Path:
    """Return the folder of pipelines, absolute: as set, else ./pipelines, else the system's."""
    if settings.pipelines_dir:
        return Path(settings.pipelines_dir).expanduser().absolute()
    here = Path("pipelines").absolute()
    return here if here.is_dir() else Path("/etc/tailrace/pipelines")
