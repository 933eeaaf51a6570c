"""Bring one ref or commit of a repository into an empty folder and check it out.

Branches, tags and the default branch go through ``git clone``, which asks the
server for just what it needs. Other refs and commits are fetched by name; where
a server doesn't hand out a commit by its id (dumb HTTP, old protocols), all
branches and tags are fetched and the commit looked up in them.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final

from tailrace.core.git_url import GitUrl
from tailrace.errors import TailraceError
from tailrace.runner.git_process import Git, GitExit

_REFUSED: Final = 2
_WHOLE_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ANY_COMMIT: Final = re.compile(r"[0-9a-f]{7,40}|[0-9a-f]{64}")
_VERIFY: Final = ("rev-parse", "--quiet", "--verify", "--end-of-options")
_LISTED: Final = 1 << 22  # bytes of refs that are looked through for advice
_NAMED: Final = 8  # branches that a message names

_NO_SUCH_REF: Final = ("not found in upstream", "couldn't find remote ref")
_NOT_BY_ID: Final = (
    "unadvertised object", "not our ref", "couldn't find remote ref", "no such ref",
    "did not send all necessary objects", "unable to find",
)  # fmt: skip
_NOTHING: Final = ("cloned an empty repository", "refers to nonexistent ref")
_NO_COMMIT: Final = {  # of a tag, which may name anything
    "tree": ("is a tree, not a commit", "dereferences to tree type"),
    "blob": ("is a blob, not a commit", "dereferences to blob type"),
}  # fmt: skip
_NO_DEPTH: Final = ("does not support shallow", "does not support --depth")
_ADVICE: Final = {
    # what git says, in lower case -> what to do
    ("terminal prompts disabled", "authentication failed", "returned error: 403"):
        "the server wants other credentials, or there is no such repository; "
        "check the address and git.credentials",
    ("returned error: 30",):
        "the server sends us to another address, which is not followed; clone that one instead",
    ("could not resolve host", "name or service not known", "name resolution"):
        "the host can't be resolved; check its name and the network",
    ("host key verification failed",):
        "the host's key isn't known; add it to git.known_hosts (ssh-keyscan shows it)",
    ("permission denied (", "too many authentication failures"):
        "the server knows none of our keys; add one to git.credentials",
    ("certificate",): "the server's certificate isn't trusted; set git.ca_file to its issuer's",
    ("connection refused", "timed out", "failed to connect", "couldn't connect"):
        "the server doesn't answer; check host, port and network",
    ("not found", "does not appear to be a git repository", "not a git repository"):
        "there is no repository at this address; check it",
}  # fmt: skip


class CloneError(TailraceError):
    """The clone ends here; ``exit_status`` is git's, or 2 where we refuse."""

    def __init__(self, message: str, *, exit_status: int = _REFUSED) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to check out, and how many commits of its history to bring."""

    ref: str
    commit: str | None
    history: int | None

    @property
    def exact_commit(self) -> str | None:
        """The commit that must be the one checked out, if one was named."""
        return self.commit or (self.ref if _WHOLE_COMMIT.fullmatch(self.ref) else None)

    @property
    def branch(self) -> str | None:
        """The name of the branch that the ref may be; None where it can't be one."""
        name = self.ref.removeprefix("refs/heads/")
        return None if name == "HEAD" or name.startswith("refs/") else name

    @property
    def depth(self) -> list[str]:
        """The options for the wanted history."""
        return [] if self.history is None else ["--depth", str(self.history), "--no-tags"]


def fetch(url: GitUrl, wanted: Wanted, *, folder: int, env: dict[str, str]) -> None:
    """Bring *wanted* into *folder*, an empty one, and check it out.

    Raises:
        CloneError: git failed, or the repository has no such ref or commit.
    """
    git = Git(folder=folder, env=env)
    if wanted.exact_commit:
        _fetch_commit(git, url, wanted, wanted.exact_commit)
    elif wanted.ref == "HEAD" or wanted.branch:
        _clone(git, url, wanted)
    else:
        _fetch_ref(git, url, wanted)


def failure(url: GitUrl, ended: GitExit) -> CloneError:
    """Return what to tell about a git process that failed."""
    for phrases, advice in _ADVICE.items():
        if ended.says(*phrases):
            return CloneError(f"{url.without_userinfo}: {advice}", exit_status=ended.status)
    how = (
        f"was ended by {ended.signal}" if ended.signal else f"ended with exit status {ended.status}"
    )
    return CloneError(
        f"{url.without_userinfo}: git {how}; its words are above", exit_status=ended.status
    )


def _clone(git: Git, url: GitUrl, wanted: Wanted) -> None:
    """Clone the default branch, a branch, or a tag; a branch wins over a tag of its name."""
    branch = ["--branch", wanted.branch] if wanted.branch else []
    ended = _with_depth(
        git,
        wanted,
        "clone",
        "--progress",
        "--single-branch",
        *branch,
        rest=("--", url.for_git, "."),
    )
    if ended.is_success:
        if ended.says(*_NOTHING) and git.read(*_VERIFY, "HEAD^{commit}") is None:
            raise _nothing_to_check_out(git, url)
        return
    _refuse_no_commit(ended, wanted.ref)  # git itself may have died of it
    if not ended.says(*_NO_SUCH_REF):
        raise failure(url, ended)
    if _ANY_COMMIT.fullmatch(wanted.ref):
        _fetch_commit(git, url, wanted, wanted.ref)
    else:
        raise _no_such_ref(git, url, wanted.ref)


def _fetch_ref(git: Git, url: GitUrl, wanted: Wanted) -> None:
    """Fetch a ref by its full name, such as ``refs/pull/7/head``."""
    _init(git, url, sha256=False)
    ended = _with_depth(git, wanted, "fetch", "--progress", rest=("--", "origin", wanted.ref))
    if ended.says(*_NO_SUCH_REF):
        raise _no_such_ref(git, url, wanted.ref)
    if not ended.is_success:
        raise failure(url, ended)
    _check_out(git, url, "FETCH_HEAD^{commit}", branch=None, ref=wanted.ref)


def _fetch_commit(git: Git, url: GitUrl, wanted: Wanted, commit: str) -> None:
    """Fetch a commit by its id, or else by fetching everything that could hold it."""
    _init(git, url, sha256=len(commit) == 64)
    branch = wanted.branch if wanted.ref != commit and _has_branch(git, wanted.branch) else None
    if _WHOLE_COMMIT.fullmatch(commit):
        ended = _with_depth(git, wanted, "fetch", "--progress", rest=("--", "origin", commit))
        if ended.is_success:
            _check_out(git, url, f"{commit}^{{commit}}", branch=branch)
            return
        if not ended.says(*_NOT_BY_ID):
            raise failure(url, ended)
    more = [wanted.ref] if wanted.ref.startswith("refs/") else []
    everything = ("--", "origin", "+refs/heads/*:refs/remotes/origin/*", *more)
    ended = git.run("fetch", "--progress", "--tags", *everything)
    if not ended.is_success:
        raise failure(url, ended)
    found = git.read(*_VERIFY, f"{commit}^{{commit}}")
    if found is None or not found.startswith(commit):
        raise CloneError(
            f"commit {commit} is on no branch or tag of {url.without_userinfo}, "
            "or its id is too short; give the whole id of a commit that was pushed"
        )
    _check_out(git, url, found.strip(), branch=branch)


def _init(git: Git, url: GitUrl, *, sha256: bool) -> None:
    for args in (
        ("init", "--quiet", f"--object-format={'sha256' if sha256 else 'sha1'}"),
        ("remote", "add", "--", "origin", url.for_git),
    ):
        ended = git.run(*args)
        if not ended.is_success:
            raise failure(url, ended)


def _check_out(
    git: Git, url: GitUrl, commit: str, *, branch: str | None, ref: str | None = None
) -> None:
    where = ["-B", branch] if branch else ["--detach"]
    ended = git.run("checkout", "--progress", "--force", *where, commit, "--")
    if not ended.is_success:
        _refuse_no_commit(ended, ref or commit)
        raise failure(url, ended)


def _with_depth(git: Git, wanted: Wanted, *args: str, rest: tuple[str, ...]) -> GitExit:
    """Run git with the wanted depth, and without where the server can't cut history."""
    ended = git.run(*args, *wanted.depth, *rest)
    if wanted.depth and ended.says(*_NO_DEPTH):
        ended = git.run(*args, *rest)
    return ended


def _has_branch(git: Git, name: str | None) -> bool:
    if name is None:
        return False
    ref = f"refs/heads/{name}"
    # --heads narrows what the server lists; the pattern alone narrows only what is printed.
    listed = git.read("ls-remote", "--heads", "--", "origin", ref) or ""
    return any(line.partition("\t")[2] == ref for line in listed.splitlines())


def _refuse_no_commit(ended: GitExit, ref: str) -> None:
    """Tell of a ref that names something else.

    Raises:
        CloneError: git says that it does.
    """
    for kind, phrases in _NO_COMMIT.items():
        if ended.says(*phrases):
            raise CloneError(f"'{ref}' names a {kind} and no commit; give a branch, tag or commit")


def _nothing_to_check_out(git: Git, url: GitUrl) -> CloneError:
    """Return what to tell about a repository without a commit where its HEAD points."""
    branches = _branches(_listed(git, url))
    if not branches:
        return CloneError(f"{url.without_userinfo} has no commit to check out; push one first")
    return CloneError(
        f"{url.without_userinfo}: its HEAD names a branch that isn't there; give one as ref; "
        f"its branches: {_named(branches)}"
    )


def _listed(git: Git, url: GitUrl) -> list[str]:
    listed = git.read("ls-remote", "--refs", "--", url.for_git, limit=_LISTED) or ""
    return [line.partition("\t")[2] for line in listed.splitlines()]


def _branches(refs: list[str]) -> list[str]:
    return [r.removeprefix("refs/heads/") for r in refs if r.startswith("refs/heads/")]


def _named(branches: list[str]) -> str:
    return ", ".join(branches[:_NAMED]) + (", …" if len(branches) > _NAMED else "")


def _no_such_ref(git: Git, url: GitUrl, ref: str) -> CloneError:
    """Return what to tell about a ref that isn't there: a similar one, and the branches."""
    refs = _listed(git, url)
    if not refs:
        return CloneError(f"{url.without_userinfo} is empty; push a commit first")
    branches = _branches(refs)
    names = branches + [r.removeprefix("refs/tags/") for r in refs if r.startswith("refs/tags/")]
    near = [r for r in refs if r.endswith(f"/{ref}")] or difflib.get_close_matches(
        ref, refs if ref.startswith("refs/") else names[:20_000], n=1
    )
    hint = f"did you mean '{near[0]}'? " if near else ""
    return CloneError(
        f"{url.without_userinfo} has no branch or tag '{ref}'; "
        f"{hint}its branches: {_named(branches) or 'none'}"
    )
