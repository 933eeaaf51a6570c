"""Where the analyzed tree comes from, and where its lines can be seen; pure.

The repository's address may carry credentials and the commit's texts are a
stranger's: nothing of the address is shown or linked but what is taken apart
and found harmless here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tailrace.core.git_url import GitUrl, GitUrlError, parse_git_url
from tailrace.report.findings import printable

_SHA: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){2,}")

# Forges told by the host's name: what stands between repository, commit, file and line.
_FORGES: Final = (
    (re.compile(r"github\.com|github\..+"), "/blob/", "#L"),
    (re.compile(r"gitlab\.com|gitlab\..+|.+\.gitlab\..+"), "/-/blob/", "#L"),
    (re.compile(r"codeberg\.org|gitea\..+|forgejo\..+"), "/src/commit/", "#L"),
    (re.compile(r"bitbucket\.org"), "/src/", "#lines-"),
)


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The commit that was analyzed, as texts fit to show."""

    name: str  # of the repository, for people: "pallets/flask"
    web: str | None = None  # https address of the repository, without credentials
    sha: str | None = None  # 40 or 64 hex digits
    subject: str = ""
    author: str = ""
    branch: str = ""
    committed_at: str = ""  # "2026-11-20 17:31 +0100"
    depth: str = ""
    run_ref: str = ""  # "analyze/42"

    @property
    def commit_url(self) -> str | None:
        """Address of the commit, where the forge is one we know."""
        forge = self._forge()
        if forge is None:
            return None
        blob, _ = forge
        word = "commits" if blob == "/src/" else "commit"
        return f"{self.web}{'/-' if blob.startswith('/-') else ''}/{word}/{self.sha}"

    def line_url(self, uri: str, line: int) -> str | None:
        """Address of a line, where the forge is one we know."""
        forge = self._forge()
        if forge is None:
            return None
        blob, fragment = forge
        return f"{self.web}{blob}{self.sha}/{uri}{fragment}{line}"

    def _forge(self) -> tuple[str, str] | None:
        if self.web is None or self.sha is None:
            return None
        host = urlsplit(self.web).hostname or ""
        for pattern, blob, fragment in _FORGES:
            if pattern.fullmatch(host):
                return blob, fragment
        return None


def read_origin(env: Mapping[str, str], *, committed_at: str = "") -> Origin:
    """Read what the clone step and the runner left in the environment.

    Whatever is missing stays empty: the report is made all the same.
    """
    url = _parse(env.get("PARAM_REPO", ""))
    sha = env.get("OUTPUT_CLONE_SHA", "")
    return Origin(
        name=_name(url),
        web=_web(url),
        sha=sha if _SHA.fullmatch(sha) else None,
        subject=_shown(env.get("OUTPUT_CLONE_SUBJECT", "")),
        author=_shown(env.get("OUTPUT_CLONE_AUTHOR", "")),
        branch=_shown(env.get("OUTPUT_CLONE_BRANCH", "")),
        committed_at=_shown(committed_at),
        depth=_shown(env.get("TAILRACE_DEPTH", "")),
        run_ref=_shown(env.get("TAILRACE_RUN_REF", "")),
    )


def _parse(repo: str) -> GitUrl | None:
    try:
        return parse_git_url(repo)
    except GitUrlError:
        return None


def _web(url: GitUrl | None) -> str | None:
    """Return the https address of a repository on a host, None for anything else."""
    if url is None or url.scheme not in {"https", "ssh"} or not _HOST.fullmatch(url.host):
        return None
    # ssh's port says nothing about https; a forge on another https port is none that we know.
    if url.scheme == "https" and url.port not in {None, 443}:
        return None
    path = "/" + url.path.strip("/").removesuffix(".git")
    return f"https://{url.host}{path}" if _PATH.fullmatch(path) else None


def _name(url: GitUrl | None) -> str:
    path = "" if url is None else url.path.rstrip("/").removesuffix("/.git").removesuffix(".git")
    words = [word for word in path.split("/") if word not in {"", ".", ".."}]
    if url is None or not words:
        return "repository"
    return _shown(words[-1] if url.is_local else "/".join(words[-2:]))


def _shown(text: str) -> str:
    return printable(" ".join(text[:1000].split()))[:200]
