"""Submodules, level by level, each address checked before git goes there.

Their addresses come from the repository and are hostile: none is trusted,
whoever asked for the clone, save those on the very server that was cloned
from. What git is given is our reading of each address, not the text itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from tailrace.core.git_url import GitInputError, GitUrl, parse_git_url
from tailrace.errors import TailraceError
from tailrace.runner.clone_fetch import CloneError, failure
from tailrace.runner.clone_target import open_beneath
from tailrace.runner.git_access import AccessRules, check_access, local_environment, open_access
from tailrace.runner.git_process import Git

_MAX_LEVEL: Final = 16  # of submodules in submodules; a server can invent them without end


def update_submodules(
    url: GitUrl, rules: AccessRules, *, folder: int, history: int | None, level: int = 1
) -> None:
    """Fetch and check out the submodules of the clone in *folder*, and theirs in turn.

    *url* is where the clone came from; relative addresses start there.

    Raises:
        CloneError: an address is refused, or git failed.
    """
    git = Git(folder=folder, env=local_environment())
    paths = _read_paths(git)
    if not paths:
        return
    if level > _MAX_LEVEL:
        raise CloneError(f"submodules are nested deeper than {_MAX_LEVEL} levels")
    ended = git.run("submodule", "--quiet", "init")
    if not ended.is_success:
        raise failure(url, ended)
    # What init wrote: relative addresses are resolved there as git does it.
    for name, address in sorted(_read_config(git, "--local", suffix=".url")):
        if name not in paths:
            continue
        inner = _check(name, address, url, rules)
        _update(git, name, paths[name], inner, url, rules, history)
        with open_beneath(folder, PurePosixPath(paths[name]).parts) as inner_folder:
            update_submodules(inner, rules, folder=inner_folder, history=history, level=level + 1)


def _read_paths(git: Git) -> dict[str, str]:
    """Return the path of each submodule by its name.

    Only paths that are a submodule in the index: ``git submodule update`` takes
    a folder for all that is in it, with addresses that weren't checked yet.
    """
    entries = _read_config(git, "--file", ".gitmodules", suffix=".path")
    paths = dict(entries)
    if len({*paths.values()}) != len(entries):
        raise CloneError(
            ".gitmodules names a submodule or a path twice; which one counts is unsure"
        )
    return {name: path for name, path in paths.items() if _is_submodule(git, path)}


def _is_submodule(git: Git, path: str) -> bool:
    listed = git.read("ls-files", "--stage", "-z", "--", path) or ""
    return listed.startswith("160000 ") and listed.partition("\t")[2] == path + "\0"


def _read_config(git: Git, *source: str, suffix: str) -> list[tuple[str, str]]:
    """Return the names and values of all ``submodule.NAME<suffix>``."""
    pattern = rf"^submodule\..*\{suffix}$"
    listed = git.read("config", *source, "--null", "--get-regexp", pattern) or ""
    entries = (entry.partition("\n") for entry in listed.split("\0") if entry)
    return [
        (key.removeprefix("submodule.").removesuffix(suffix), value) for key, _, value in entries
    ]


def _rules_for(url: GitUrl, parent: GitUrl, rules: AccessRules) -> AccessRules:
    is_same_server = url.origin == parent.origin and not url.is_local
    return replace(rules, trusted=rules.trusted and is_same_server)


def _check(name: str, address: str, parent: GitUrl, rules: AccessRules) -> GitUrl:
    try:
        url = parse_git_url(address)
        if url.origin == parent.origin and not (url.username or url.password):
            url = replace(url, username=parent.username, password=parent.password)
        return check_access(url, _rules_for(url, parent, rules))
    except (GitInputError, TailraceError) as error:
        raise CloneError(f"submodule '{name}': {error}") from error


def _update(
    git: Git,
    name: str,
    path: str,
    url: GitUrl,
    parent: GitUrl,
    rules: AccessRules,
    history: int | None,
) -> None:
    ended = git.run("config", f"submodule.{name}.url", url.for_git)
    if not ended.is_success:
        raise failure(url, ended)
    depth = [] if history is None else ["--depth", str(history)]
    with open_access(url, _rules_for(url, parent, rules)) as env:
        reaching = replace(git, env=env)
        update = ("submodule", "update", "--checkout", "--progress")
        ended = reaching.run(*update, *depth, "--", path)
        if not ended.is_success and depth:  # the server may not hand out a commit by its id
            ended = reaching.run(*update, "--", path)
    if not ended.is_success:
        raise failure(url, ended)
