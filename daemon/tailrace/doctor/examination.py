"""The whole examination: the machine, the state folder, the servers, and each pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from tailrace import __version__, wire
from tailrace.doctor import machine, places
from tailrace.doctor.checks import ok, problem, warning
from tailrace.pipeline.catalog import Entry
from tailrace.pipeline.model import Pipeline
from tailrace.rundir.layout import StateDir
from tailrace.settings import Settings, without_effect
from tailrace.worker.requirements import SERVER_HINT, Requirements, credential_secrets

UNENFORCED: Final = "unenforced"  # the check that names what is set without effect


async def examine(
    settings: Settings,
    state: StateDir,
    entries: Sequence[Entry],
    requirements: Requirements,
    *,
    every_server: bool = True,
) -> wire.DoctorReport:
    """Look at everything, and at these pipelines.

    MCP servers are asked anew, with *every_server* also those that no pipeline
    requires, at most some ten seconds each. Takes half a second besides; being
    cancelled leaves no process.
    """
    pipelines = [entry.pipeline for entry in entries if entry.pipeline is not None]
    required = {name for pipeline in pipelines for name in pipeline.requires.mcp}
    wanted = [name for name in settings.mcp if every_server or name in required]
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(requirements.servers.look(wanted, fresh=True), name="MCP servers")
        contained = tasks.create_task(machine.containment(settings), name="containment")
        looked = tasks.create_task(
            asyncio.to_thread(_look_around, settings, state, pipelines), name="machine"
        )
    servers = asked.result()
    checks = [*looked.result(), contained.result(), *_secrets(settings, requirements)]
    checks += (_unenforced(f"the setting {key}", why) for key, why in without_effect(settings))
    checks += (_server(health, required) for health in servers)
    if not entries:
        checks.append(warning("pipelines", "there are none", "write one, or set pipelines_dir"))
    for entry in entries:
        checks += _pipeline(entry, requirements)
        if entry.pipeline is not None and entry.pipeline.on.webhook is not None:
            checks.append(_unenforced("on.webhook", "no delivery starts a run", entry.name))
        await asyncio.sleep(0)  # each takes some milliseconds, and others want the loop
    return wire.DoctorReport(
        status=_worst(checks), version=__version__, checks=tuple(checks), mcp=tuple(servers)
    )


def _look_around(
    settings: Settings, state: StateDir, pipelines: Sequence[Pipeline]
) -> list[wire.DoctorCheck]:
    """Look at what blocks, in a thread."""
    return [*machine.checks(settings, pipelines), *places.checks(settings, state)]


def _worst(checks: Iterable[wire.DoctorCheck]) -> wire.DoctorStatus:
    found = {check.status for check in checks}
    return "problem" if "problem" in found else "warning" if "warning" in found else "ok"


def _secrets(settings: Settings, requirements: Requirements) -> list[wire.DoctorCheck]:
    """Tell of credentials that can't be had: whoever clones from elsewhere doesn't need them."""
    found = []
    for name, place in credential_secrets(settings).items():
        if (why := requirements.refusal(name)) is not None:
            text = f"{place}: {why.partition('; ')[0]}"
            found.append(warning(f"secrets.{name}", text, why.partition("; ")[2]))
    return found


def _server(health: wire.McpHealth, required: set[str]) -> wire.DoctorCheck:
    name = f"mcp.{health.name}"
    if health.alive:
        count = len(health.tools)
        shown = ", ".join(health.tools[:8]) + (", …" if count > 8 else "")
        text = f"answers, and has {count} {'tool' if count == 1 else 'tools'}"
        return ok(name, f"{text}: {shown}" if shown else text)
    tell = problem if health.name in required else warning
    return tell(name, f"isn't alive: {health.error}", SERVER_HINT)


def _pipeline(entry: Entry, requirements: Requirements) -> list[wire.DoctorCheck]:
    """Tell what keeps the pipeline's runs from being accepted, or that nothing does."""
    if entry.pipeline is None:
        return [
            problem(
                "file",
                f"{mistake.position or entry.path}: {mistake.where}: {mistake.problem}",
                mistake.hint or f"tailrace validate {entry.path}",
                pipeline=entry.name,
            )
            for mistake in entry.problems
        ]
    found = [
        problem(each.where, each.problem, each.hint, pipeline=entry.name)
        for each in requirements.unmet(entry.pipeline)
    ]
    return found or [ok("pipeline", _needs(entry.pipeline), pipeline=entry.name)]


def _unenforced(what: str, why: str, pipeline: str | None = None) -> wire.DoctorCheck:
    """Tell of what is set and, in this version, passed over."""
    hint = "leave it out, or wait for a version that has it"
    return warning(UNENFORCED, f"{what} has no effect yet: {why}", hint, pipeline=pipeline)


def _needs(pipeline: Pipeline) -> str:
    """Tell what was looked for and found."""
    needs = pipeline.requires
    secrets = {*pipeline.secrets, *(n for step in pipeline.steps.values() for n in step.secrets)}
    found = [
        ", ".join(needs.commands),
        _counted(len(secrets), "secret"),
        f"MCP {', '.join(needs.mcp)}" if needs.mcp else "",
    ]
    text = "; ".join(filter(None, found))
    if needs.hosts:
        # Being named is all that can be checked before there are steps over SSH.
        hosts = f"hosts named in the settings, not tried: {', '.join(needs.hosts)}"
        text = f"{text}; {hosts}" if text else hosts
    return f"has what it requires: {text}" if text else "requires nothing"


def _counted(count: int, what: str) -> str:
    return "" if not count else f"{count} {what}{'' if count == 1 else 's'}"
