"""The clone step: a process of its own, ``python -m tailrace.runner.clone --fd N``.

It reads one `CloneRequest` as JSON from the inherited descriptor N (a pipe or
a memfd; never argv or environment, because the address may hold a password),
runs git in its own process group, and passes on what git prints, so that
signals, progress and output need nothing special from the runner.

Exit status: git's own where git failed; 2 where the request is refused here,
with one line ``clone: PROBLEM; HINT`` as the last on standard error.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from tailrace.core.git_policy import GitPolicy
from tailrace.core.git_url import GitInputError, check_commit, check_ref, parse_git_url
from tailrace.core.plan import CloneAction
from tailrace.errors import TailraceError
from tailrace.runner.clone_facts import CloneFacts, read_facts
from tailrace.runner.clone_fetch import CloneError, Wanted, fetch
from tailrace.runner.clone_submodules import update_submodules
from tailrace.runner.clone_target import empty_folder
from tailrace.runner.git_access import (
    AccessRules,
    GitCredentials,
    Resolve,
    check_access,
    open_access,
)

_MAX_REQUEST: Final = 1 << 20
_REFUSED: Final = 2


class CloneRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to clone, where to, and what is allowed; templates are resolved."""

    url: str
    ref: str = "HEAD"
    commit: str | None = None
    history: int | None = None  # commits; None for all of them
    submodules: bool = False
    workspace: str  # absolute
    target: str  # absolute, below the workspace; emptied first
    trusted: bool = False  # who owns the machine asked
    policy: GitPolicy = GitPolicy()
    credentials: GitCredentials | None = None
    known_hosts: str | None = None
    ca_file: str | None = None


def display_command(action: CloneAction) -> str:
    """Return the command that people are shown for a clone, without any password.

    *action* has its templates resolved. An address that can't be parsed (and
    will be refused) is shown as ``URL``: it could hold a password anywhere.
    """
    argv = ["git", "clone"]
    if action.history is not None:
        argv += ["--depth", str(action.history)]
    if action.ref != "HEAD":
        argv += ["--branch", action.ref]
    if action.submodules:
        argv.append("--recurse-submodules")
    try:
        url = parse_git_url(action.url)
    except GitInputError:
        argv.append("URL")
    else:
        argv.append(url.path if url.is_local else url.for_git)
    command = shlex.join(argv)
    return f"{command} && git checkout {shlex.quote(action.commit)}" if action.commit else command


def clone(request: CloneRequest, rules: AccessRules) -> CloneFacts:
    """Clone as *request* says and return the commit that is checked out.

    Raises:
        TailraceError: it is refused or git failed; `CloneError` carries git's exit status.
        GitInputError: address, ref or commit can't be used.
    """
    if request.history is not None and request.history < 1:
        raise CloneError("history must be 1 or more; leave it out for all commits")
    url = check_access(parse_git_url(request.url), rules)
    wanted = Wanted(
        ref=check_ref(request.ref),
        commit=check_commit(request.commit) if request.commit is not None else None,
        history=request.history,
    )
    with empty_folder(request.workspace, request.target) as folder:
        with open_access(url, rules) as env:
            fetch(url, wanted, folder=folder, env=env)
        facts = read_facts(request.target)
        if facts is None:
            raise CloneError(f"{url.without_userinfo} has no commit to check out; push one first")
        if wanted.exact_commit and not facts.sha.startswith(wanted.exact_commit):
            raise CloneError(f"{facts.sha} was checked out instead of {wanted.exact_commit}")
        if request.submodules:
            update_submodules(url, rules, folder=folder, history=request.history)
    return facts


def main(argv: Sequence[str] | None = None, *, resolve: Resolve | None = None) -> int:
    """Run the clone step and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tailrace.runner.clone")
    parser.add_argument("--fd", type=int, required=True, help="descriptor to read the request from")
    descriptor = parser.parse_args(argv).fd
    try:
        request = _read_request(descriptor)
        facts = clone(request, _rules(request, resolve))
        if output := os.environ.get("TAILRACE_OUTPUT"):
            with open(output, "a", encoding="utf-8", errors="replace") as file:
                file.write(facts.as_outputs())
    except CloneError as error:
        return _fail(str(error), error.exit_status)
    except (TailraceError, GitInputError) as error:
        return _fail(str(error), _REFUSED)
    except FileNotFoundError as error:
        if error.filename != "git":
            return _fail(f"{error.filename}: {error.strerror}", _REFUSED)
        return _fail("git isn't on PATH; install git 2.34 or newer", _REFUSED)
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror}", _REFUSED)
    except Exception as error:  # noqa: BLE001  # task root: a step never ends in a traceback
        return _fail(f"this is a mistake in Tailrace: {type(error).__name__}", _REFUSED)
    os.write(1, f"{facts.as_line(request.ref)}\n".encode(errors="replace"))
    return 0


def _rules(request: CloneRequest, resolve: Resolve | None) -> AccessRules:
    rules = AccessRules(
        policy=request.policy,
        trusted=request.trusted,
        credentials=request.credentials,
        known_hosts=request.known_hosts,
        ca_file=request.ca_file,
    )
    return replace(rules, resolve=resolve) if resolve else rules


def _read_request(descriptor: int) -> CloneRequest:
    try:
        # A memfd shares its offset with whoever wrote it; a pipe can't be read otherwise.
        if os.fstat(descriptor).st_size:
            os.lseek(descriptor, 0, os.SEEK_SET)
        with open(descriptor, "rb") as file:
            return msgspec.json.decode(file.read(_MAX_REQUEST), type=CloneRequest)
    except (OSError, msgspec.DecodeError) as error:
        # Neither names the request's text, which may hold a password.
        raise CloneError(f"the request can't be read: {type(error).__name__}") from error


def _fail(message: str, status: int) -> int:
    line = " ".join(message.split())
    os.write(2, f"clone: {line}\n".encode(errors="replace"))
    return status


if __name__ == "__main__":
    sys.exit(main())
