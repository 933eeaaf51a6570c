"""What a run would clone, checked before it is accepted, and the secrets its addresses hold."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from tailrace.core.git_policy import GitPolicy, check_policy
from tailrace.core.git_url import GitUrlError, parse_git_url
from tailrace.core.plan import CloneAction, Plan
from tailrace.errors import Problem
from tailrace.pipeline.expressions import Scope, TemplateError, references, render
from tailrace.settings import Git

_SHORTEST: Final = 4  # a shorter password is masked where it stands in an address, nowhere else
# RFC 3986, section 3.2.1; wherever in a text an address may stand.
_USERINFO: Final = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s/?#@:]*)(?::([^\s/?#@]*))?@")


def clone_problems(
    plan: Plan,
    git_params: Mapping[str, str],
    scope: Scope,
    git: Git,
    *,
    trusted: bool,
    reused: Collection[str] = (),
) -> list[Problem]:
    """Return why the run's addresses can't be cloned: those of git-url params and of clone steps.

    Steps that are *reused* clone nothing. An address that takes outputs of
    steps is known only when its step starts, and checked then; so are the
    addresses that a host's name resolves to.
    """
    policy = GitPolicy(
        protocols=git.protocols,
        local_paths=git.local_paths,
        private_addresses=git.private_addresses,
    )
    wanted = {f"params.{name}": url for name, url in git_params.items()}
    seen = set(git_params.values())
    for step in plan.steps:
        if isinstance(step.action, CloneAction) and step.id not in reused:
            step_scope = msgspec.structs.replace(scope, depth=plan.depth, matrix=step.matrix)
            url = _known_now(step.action.url, step_scope)
            if url is not None and url not in seen:
                wanted[f"steps.{step.base}.clone.url"] = url
                seen.add(url)
    checked = (_problem(where, url, policy, trusted) for where, url in wanted.items())
    return [problem for problem in checked if problem is not None]


def _known_now(template: str, scope: Scope) -> str | None:
    try:
        if any(path.parts[0] == "steps" for path in references(template)):
            return None
        return render(template, scope)
    except TemplateError:
        return None  # told when its step starts


def _problem(where: str, text: str, policy: GitPolicy, trusted: bool) -> Problem | None:
    try:
        url = parse_git_url(text)
    except GitUrlError as exc:
        return Problem(where, exc.problem, exc.hint)
    refusal = check_policy(url, policy, trusted=trusted)
    if refusal is None and url.is_local:
        # Links inside an allowed folder must not lead out of it.
        real = replace(url, path=os.path.realpath(url.path))
        folders = tuple(os.path.realpath(folder) for folder in policy.local_paths)
        refusal = check_policy(
            real, GitPolicy(local_paths=folders, protocols=policy.protocols), trusted=trusted
        )
    return None if refusal is None else Problem(where, refusal.problem, refusal.hint)


def whole_path(text: str, cwd: str | None) -> str:
    """Return *text*, a git address, with a relative local path made absolute from *cwd*."""
    try:
        url = parse_git_url(text)
    except GitUrlError:
        return text
    if cwd is None or not url.is_local or url.path.startswith("/"):
        return text  # as it was written
    return url.beneath(cwd).path


def userinfo_secrets(values: Iterable[Any]) -> dict[str, str]:
    """Return what must be masked of the addresses in *values*, under names no variable can have.

    That is the password or, without one and over http, the user's name, which
    is a token then; as written, and decoded where that is another text.
    """
    found: list[str] = []
    for value in values:
        if not isinstance(value, str):
            continue
        for scheme, user, password in _USERINFO.findall(value):
            text = password or (user if scheme.lower() in ("http", "https") else "")
            found += [text, unquote(text)]
    secrets = dict.fromkeys(text for text in found if len(text.strip()) >= _SHORTEST)
    return {f"userinfo:{number}": text for number, text in enumerate(secrets, 1)}
