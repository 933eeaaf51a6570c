"""What pipelines need of this machine, and whether it is there: commands, hosts, servers, secrets.

Checked before a run is accepted, so that it doesn't fail in its middle, and by
the doctor for all pipelines. Problems name their place as the pipeline's file
does: ``requires.commands``, ``requires.mcp.docs``, ``secrets.TOKEN``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from typing import Final

from tailrace.bubblewrap import UnusableError, find_bubblewrap
from tailrace.core.mask_rules import MaskRules, SecretTooShortError, check_length
from tailrace.core.plan import Requires
from tailrace.core.units import format_bound
from tailrace.errors import InvalidInputError, Problem
from tailrace.pipeline.model import Pipeline
from tailrace.search_path import search_path
from tailrace.settings import Settings
from tailrace.worker.mcp_servers import McpServers
from tailrace.worker.secrets import SecretStore

SERVER_HINT: Final = "try by hand, as the daemon's user, what mcp in the settings says of it"
_COMMAND_HINT: Final = "install it where the daemon's PATH finds it"


class Requirements:
    """What is there, by one version of the settings.

    *rules* mask what is told of others' programs; secrets are masked on top of them.
    """

    def __init__(self, settings: Settings, secrets: SecretStore, rules: MaskRules) -> None:
        self._settings = settings
        self._secrets = secrets
        self._rules = rules
        self.servers = McpServers(settings, rules.mask_text)

    async def look(self, needs: Requires) -> None:
        """Ask the MCP servers among them, unless they were asked a moment ago.

        To be awaited before `missing`. Ten seconds at most for each server; being
        cancelled leaves no process.
        """
        if needs.mcp:
            await self.servers.look(needs.mcp)

    def missing(self, needs: Requires) -> list[Problem]:
        """Return what of them isn't there, MCP servers as `look` found them."""
        settings = self._settings
        path = search_path(settings.step_env)
        problems = [
            Problem("requires.commands", f"'{name}' isn't there", _COMMAND_HINT)
            for name in needs.commands
            if shutil.which(name, path=path) is None
        ]
        problems += [
            Problem("requires.hosts", f"'{name}' isn't there", "add it to hosts in the settings")
            for name in needs.hosts
            if name not in settings.hosts
        ]
        for name in needs.mcp:
            problems += self._server_problems(name)
        return problems

    def _server_problems(self, name: str) -> list[Problem]:
        where = f"requires.mcp.{name}"
        if name not in self._settings.mcp:
            return [Problem(where, f"'{name}' isn't there", "add it to mcp in the settings")]
        health = self.servers.known(name)
        if health is None:  # the file was changed since the look
            return [Problem(where, "the server hasn't been asked yet", "try again")]
        if not health.alive:
            return [Problem(where, f"the server isn't alive: {health.error}", SERVER_HINT)]
        return []

    def unmet(self, pipeline: Pipeline) -> list[Problem]:
        """Return all that would keep a run of all its steps from being accepted here.

        What depends on a run's params and depth isn't part of it. Blocks: some
        milliseconds a secret, and 30 ms once where steps must be sandboxed.
        """
        problems = self.missing(pipeline.requires)
        steps = pipeline.steps.values()
        names = [*pipeline.secrets, *(name for step in steps for name in step.secrets)]
        values = resolve_secrets(self._secrets, dict.fromkeys(names), problems)
        mask = masking(self._rules, values, self._settings.limits.held, problems).mask_text
        problems += sandbox_problems(step.id for step in steps if step.sandbox == "required")
        return [problem.masked(mask) for problem in problems]

    def refusal(self, name: str) -> str | None:
        """Return why a secret can't be had, without its value; None where it can."""
        problems: list[Problem] = []
        resolve_secrets(self._secrets, [name], problems)
        return f"{problems[0].problem}; {problems[0].hint}" if problems else None


def resolve_secrets(
    secrets: SecretStore, names: Iterable[str], problems: list[Problem]
) -> dict[str, str]:
    """Return the secrets' values; add a problem for each that can't be had."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = secrets.get(name)
        except InvalidInputError as exc:
            problems.extend(exc.problems)
    return found


def masking(
    rules: MaskRules, secrets: Mapping[str, str], most_held: int, problems: list[Problem]
) -> MaskRules:
    """Return *rules* with the secrets; add a problem for each that can't be masked."""
    usable: dict[str, str] = {}
    for name, value in secrets.items():
        try:
            check_length(f"the secret {name}", value)
        except SecretTooShortError as exc:
            problem, _, hint = str(exc).partition("; ")
            problems.append(Problem(f"secrets.{name}", problem, hint))
            continue
        usable[name] = value
    together = rules.with_values(usable.values())
    if together.most_held > most_held:
        for name, value in usable.items():
            if (most := rules.with_values([value]).most_held) > most_held:
                problem = "is so long that the masker would hold back more than limits.held"
                hint = f"raise limits.held above {format_bound(most)}"
                problems.append(Problem(f"secrets.{name}", problem, hint))
    return together


def sandbox_problems(steps: Iterable[str]) -> list[Problem]:
    """Return a problem for each of these steps, which must be sandboxed, where nothing can be."""
    wanted = list(steps)
    if not wanted:
        return []
    try:
        find_bubblewrap()
    except UnusableError as exc:
        return [Problem(f"steps.{step}.sandbox", exc.problem, exc.hint) for step in wanted]
    return []


def credential_secrets(settings: Settings) -> dict[str, str]:
    """Return the secrets that ``git.credentials`` names, with the place that names each."""
    return {
        name: f"git.credentials.{scope}"
        for scope, credential in settings.git.credentials.items()
        for name in (credential.secret, credential.ssh_key)
        if name
    }
