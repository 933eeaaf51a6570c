"""Every key of a pipeline file: the contract's tables as shapes.

The loader reads by these tables, the JSON Schema is made from them, and the
reference page is checked against them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tailrace.core.plan import Requires, Retry, StepLimits
from tailrace.pipeline import model
from tailrace.pipeline.build import build_clone, build_param, build_step
from tailrace.pipeline.reading import Reading
from tailrace.pipeline.shapes import (
    FLAG,
    Choice,
    Duration,
    Key,
    Many,
    Named,
    Number,
    Raw,
    Size,
    Table,
    Text,
)

PARAM_NAME: Final = "[a-z][a-z0-9_]*"
STEP_ID: Final = "[a-z0-9][a-z0-9_-]*"
DEPTH_NAME: Final = "[A-Za-z0-9][A-Za-z0-9_-]*"
MATRIX_NAME: Final = "[A-Za-z][A-Za-z0-9_-]*"
MATRIX_VALUE: Final = r"[A-Za-z0-9._+-]{1,64}"
ENV_NAME: Final = "[A-Za-z_][A-Za-z0-9_]*"
SECRET_NAME: Final = "[A-Z_][A-Z0-9_]*"  # noqa: S105 - a pattern, no secret

_WORDS: Final = Many(Text())
_SECRETS: Final = Many(
    Text(pattern=SECRET_NAME, expected="the name of a secret", hint="write it as GIT_TOKEN")
)
_DEPTHS: Final = Many(
    Text(pattern=DEPTH_NAME, expected="the name of a depth", hint="name one of 'depths'")
)


def _env(place: Any) -> Named:
    value = Text(place=place, empty=True)
    return Named(ENV_NAME, "variable name", value, "use letters, digits and '_'")


def _plain(struct: Callable[..., Any]) -> Callable[[Reading, str, dict[str, Any]], Any]:
    def build(reading: Reading, where: str, fields: dict[str, Any]) -> Any:
        return struct(**fields)

    return build


def _table(title: str, keys: dict[str, Key], struct: Callable[..., Any]) -> Table:
    return Table(title, keys, _plain(struct))


PARAM: Final = Table(
    "param",
    {
        "type": Key(
            Choice.of("string", "integer", "number", "boolean", "enum", "git-url", "git-ref"),
            "what values it takes; string by default",
        ),
        "required": Key(FLAG, "a run can't start without a value"),
        "default": Key(Raw(), "its value where none is given"),
        "choices": Key(Many(Raw(), least=1), "the values it may take"),
        "pattern": Key(Text(), "RE2 that the whole value must match"),
        "minimum": Key(Number("number", float("-inf")), "the least number it takes"),
        "maximum": Key(Number("number", float("-inf")), "the greatest number it takes"),
        "help": Key(Text(empty=True), "what to give, for people"),
    },
    build_param,
)

DEPTH: Final = _table(
    "depth",
    {
        "timeout": Key(Duration(none=True), "of the whole run at this depth", "timeout_ms"),
        "usd": Key(Number("number"), "what the run may cost, in dollars"),
        "tokens": Key(Number("integer"), "how many tokens the run may use"),
        "env": Key(_env("run"), "variables for every step at this depth"),
        "default": Key(FLAG, "the depth of runs that name none"),
    },
    model.Depth,
)

REQUIRES: Final = _table(
    "requires",
    {
        "commands": Key(_WORDS, "programs that must be on PATH"),
        "hosts": Key(_WORDS, "configured SSH hosts that must be reachable"),
        "mcp": Key(_WORDS, "MCP servers that the settings must name"),
    },
    Requires,
)

CONCURRENCY: Final = _table(
    "concurrency",
    {
        "group": Key(Text(place="run", empty=True), "runs with the same text exclude each other"),
        "on_conflict": Key(
            Choice.of("queue", "cancel-running", "skip"), "what a run does that finds another"
        ),
    },
    model.Concurrency,
)

WEBHOOK: Final = _table(
    "webhook",
    {
        "provider": Key(
            Choice.of("github", "gitlab", "gitea", "bitbucket", "standard"),
            "who sends; told apart by headers where it is left out",
        ),
        "secret": Key(
            Many(_SECRETS.item, least=1),
            "the secret's name, or several while rotating",
            required=True,
        ),
        "events": Key(
            Many(Choice.of("push", "tag", "pull_request", "release")), "what starts a run"
        ),
        "actions": Key(_WORDS, "actions of the event that start a run"),
        "branches": Key(_WORDS, "globs of branches; of the base for a pull request"),
        "tags": Key(_WORDS, "globs of tags"),
        "paths": Key(_WORDS, "globs of changed files"),
        "if": Key(Text(place="condition"), "CEL over event", "condition"),
        "params": Key(
            Named(PARAM_NAME, "param name", Text(place="event", empty=True), "name a param"),
            "the run's params, as templates over event",
        ),
        "depth": Key(_DEPTHS.item, "the run's depth"),
        "forks": Key(FLAG, "pull requests from forks start runs, without secrets"),
        "status": Key(FLAG, "report a commit status back"),
    },
    model.Webhook,
)

SCHEDULE: Final = Table(
    "schedule",
    {
        "cron": Key(Text(), "when, as five cron fields", required=True),
        "timezone": Key(Text(), "where its clock hangs; UTC by default"),
        "catch_up": Key(Choice.of("skip", "once"), "whether one missed run is made up for"),
        "params": Key(Named(PARAM_NAME, "param name", Raw(), "name a param"), "the run's params"),
        "depth": Key(_DEPTHS.item, "the run's depth"),
    },
    _plain(model.Schedule),
    scalar=Text(),
)


def _build_triggers(reading: Reading, where: str, fields: dict[str, Any]) -> model.Triggers:
    schedule = tuple(
        model.Schedule(cron=item) if isinstance(item, str) else item
        for item in fields.get("schedule", ())
    )
    return model.Triggers(webhook=fields.get("webhook"), schedule=schedule)


ON: Final = Table(
    "on",
    {
        "webhook": Key(WEBHOOK, "deliveries that start a run"),
        "schedule": Key(Many(SCHEDULE), "times that start a run: cron text, or a list"),
    },
    _build_triggers,
)

CLONE: Final = Table(
    "clone",
    {
        "url": Key(Text(place="step"), "the repository", required=True),
        "ref": Key(Text(place="step"), "branch, tag or other ref; HEAD by default"),
        "commit": Key(Text(place="step", empty=True), "the exact commit to check out"),
        "history": Key(Number("integer"), "how many commits; 0, or left out, for all"),
        "submodules": Key(FLAG, "fetch submodules too"),
        "path": Key(Text(place="step"), "folder below the workspace; named after the step"),
    },
    build_clone,
)

ASK: Final = _table(
    "ask",
    {
        "question": Key(Text(), "what to ask", required=True),
        "choices": Key(_WORDS, "the answers to choose from"),
        "default": Key(Text(empty=True), "the answer at expiry"),
        "expires": Key(Duration(), "how long to wait", "expires_ms"),
        "scope": Key(Choice.of("read", "run", "admin"), "the scope that an answer needs"),
    },
    model.Ask,
)

RETRY: Final = Table(
    "retry",
    {
        "attempts": Key(Number("integer", 1, 1_000), "all executions together"),
        "delay": Key(Duration(zero=True), "before the second attempt; 1s by default", "delay_ms"),
        "factor": Key(Number("number", 1), "what each delay grows by; 2 by default"),
        "max_delay": Key(Duration(zero=True), "the longest delay; 5m by default", "max_delay_ms"),
        "exit_codes": Key(
            Many(Number("integer", -64, 255), least=1),
            "exit statuses worth another attempt (-N: signal N); every error by default",
        ),
    },
    _plain(Retry),
    scalar=Number("integer", 1, 1_000),
)

LIMITS: Final = _table(
    "limits",
    {
        "memory": Key(Size(), "memory of all its processes"),
        "cpu": Key(Number("number", above=True), "cores"),
        "pids": Key(Number("integer", 1), "processes and threads"),
        "log": Key(Size(), "output that is kept"),
        "artifacts": Key(Size(), "artifacts that are kept"),
    },
    StepLimits,
)

ARTIFACTS: Final = Table(
    "artifacts",
    {
        "paths": Key(Many(Text(place="step")), "globs below the workdir"),
        "primary": Key(Text(place="step"), "the artifact that people open first"),
    },
    _plain(model.Artifacts),
    scalar=Many(Text(place="step")),
)

STEP: Final = Table(
    "step",
    {
        "run": Key(
            Text(place="code", hint="write shell text; '|' begins several lines"), "shell text"
        ),
        "command": Key(
            Many(Text(place="step", empty=True), single=False, least=1), "program and arguments"
        ),
        "clone": Key(CLONE, "clone a repository"),
        "ask": Key(ASK, "ask the people watching"),
        "label": Key(Text(place="step"), "its name for people; the id by default"),
        "needs": Key(
            Many(Text(pattern=STEP_ID, expected="a step id", hint="name a step")),
            "steps that come before",
        ),
        "when": Key(Text(place="condition"), "CEL that decides whether it starts"),
        "depth": Key(_DEPTHS, "depths that it belongs to; all by default"),
        "matrix": Key(
            Named(
                MATRIX_NAME,
                "matrix name",
                Many(
                    Text(
                        pattern=MATRIX_VALUE,
                        expected="1 to 64 of letters, digits and ._+-",
                        hint="shorten it, or leave out other characters",
                    ),
                    least=1,
                ),
                "use letters, digits, '_' and '-'",
            ),
            "one step for each combination of values",
        ),
        "shell": Key(Many(Text(), single=False, least=1), "what 'run' is handed to"),
        "workdir": Key(Text(place="step"), "folder below the workspace"),
        "env": Key(_env("step"), "variables"),
        "secrets": Key(_SECRETS, "secrets it gets as variables"),
        "timeout": Key(Duration(none=True), "of one attempt", "timeout_ms"),
        "silence": Key(Duration(none=True), "longest time without output or event", "silence_ms"),
        "grace": Key(Duration(zero=True), "from SIGTERM to SIGKILL; 10s by default", "grace_ms"),
        "retry": Key(RETRY, "attempts, as a number or a table"),
        "allow_failure": Key(FLAG, "its failure doesn't fail the run"),
        "limits": Key(LIMITS, "bounds of one attempt"),
        "sandbox": Key(
            Choice({"false": "off", "true": "on", "required": "required"}), "run it sandboxed"
        ),
        "network": Key(FLAG, "network in the sandbox"),
        "host": Key(Text(), "configured SSH host to run it on"),
        "artifacts": Key(ARTIFACTS, "files to keep: a glob, a list or a table"),
        "narration": Key(Choice.of("channel", "claude", "github"), "how it tells what it does"),
        "echo": Key(FLAG, "false hides the command text"),
    },
    build_step,
)


def _build_pipeline(reading: Reading, where: str, fields: dict[str, Any]) -> dict[str, Any]:
    return fields


_PIPELINE_KEYS: Final[dict[str, Key]] = {
    "description": Key(Text(empty=True), "shown in lists"),
    "params": Key(
        Named(PARAM_NAME, "param name", PARAM, "use a-z, 0-9 and '_', a letter first"),
        "what a run may be given",
    ),
    "env": Key(_env("run"), "variables for every step"),
    "secrets": Key(_SECRETS, "secrets that every step gets as variables"),
    "timeout": Key(Duration(none=True), "of the whole run; none lifts it", "timeout_ms"),
    "parallel": Key(Number("integer", 1, 10_000), "steps at once; cores by default"),
    "depths": Key(
        Named(DEPTH_NAME, "depth name", DEPTH, "use letters, digits, '_' and '-'"), "named budgets"
    ),
    "requires": Key(REQUIRES, "what must be there before a run is accepted"),
    "concurrency": Key(CONCURRENCY, "runs that exclude each other"),
    "fail_fast": Key(FLAG, "a failed step stops those that don't need it"),
    "on_disconnect": Key(Choice.of("continue", "cancel"), "when nobody watches any more"),
    "on_lost": Key(Choice.of("fail", "retry"), "what becomes of a step whose runner died"),
    "on": Key(ON, "what starts runs besides people"),
    "steps": Key(
        Named(
            STEP_ID,
            "step id",
            STEP,
            "use a-z, 0-9, '_' and '-', no sign first",
            "hello: {run: echo hello}",
        ),
        "the steps by id, in any order",
        required=True,
    ),
}

PIPELINE: Final = Table("pipeline", _PIPELINE_KEYS, _build_pipeline, free="x-")

# The tables by the name that the reference page gives them.
TABLES: Final[dict[str, Table]] = {
    "pipeline": PIPELINE,
    "params": PARAM,
    "depths": DEPTH,
    "requires": REQUIRES,
    "concurrency": CONCURRENCY,
    "on": ON,
    "on.webhook": WEBHOOK,
    "on.schedule": SCHEDULE,
    "steps": STEP,
    "clone": CLONE,
    "ask": ASK,
    "retry": RETRY,
    "limits": LIMITS,
    "artifacts": ARTIFACTS,
}
