"""What a clone brought: its commit read with GitPython, told as the step's outputs.

Author and subject are hostile text: control characters become spaces, so that
a line stays a line, and the outputs are written in a form that nothing in them
can end.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from dataclasses import dataclass

from tailrace.runner.git_access import local_environment

_MAX_TEXT = 10_000  # characters of a subject or a name


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneFacts:
    """The commit that is checked out."""

    sha: str
    author: str  # the author's name
    subject: str  # first paragraph of the message, as one line
    branch: str  # "" where no branch is checked out

    def as_outputs(self) -> str:
        """Render as ``$TAILRACE_OUTPUT`` takes it."""
        values = {
            "sha": self.sha,
            "short_sha": self.sha[:7],
            "author": self.author,
            "subject": self.subject,
            "branch": self.branch,
        }
        end = f"END_{secrets.token_hex(16)}"
        return "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in values.items())

    def as_line(self, ref: str) -> str:
        """Render for a person: ``main 3f2a91c "Subject" by Author``."""
        return f'{_one_line(self.branch or ref)} {self.sha[:7]} "{self.subject}" by {self.author}'


def read_facts(folder: str) -> CloneFacts | None:
    """Read the commit that is checked out in *folder*; None where there is none."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]  # GitPython would look for the repository where GIT_DIR says
    # Imported here: it takes 200 ms and 15 MB, which a clone that fails never needs.
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"
    import git  # see above

    try:
        with git.Repo(folder, expand_vars=False) as repository:
            repository.git.update_environment(**local_environment())
            commit = repository.head.commit
            return _facts(
                sha=commit.hexsha,
                author=commit.author.name or "",
                message=str(commit.message),
                branch="" if repository.head.is_detached else repository.active_branch.name,
            )
    except (ValueError, LookupError):
        # No commit, an encoding that Python doesn't know, or SHA-256: git itself tells.
        return _ask_git(folder)


def _ask_git(folder: str) -> CloneFacts | None:
    shown = _git(folder, "log", "-1", "--encoding=UTF-8", "--format=%H%n%an%n%B")
    if shown is None:
        return None
    sha, author, message = shown.split("\n", 2)
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD") or ""
    return _facts(sha=sha, author=author, message=message, branch=branch.rstrip("\n"))


def _git(folder: str, *args: str) -> str | None:
    done = subprocess.run(
        ["git", "-C", folder, *args],
        env=local_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _facts(*, sha: str, author: str, message: str, branch: str) -> CloneFacts:
    subject = re.split(r"\n\s*\n", message.strip(), maxsplit=1)[0]  # git's own definition
    return CloneFacts(sha=sha, author=_one_line(author), subject=_one_line(subject), branch=branch)


def _one_line(text: str) -> str:
    """Return *text* without control characters, line breaks and surrogates.

    Only how long it is where it is very long: a piece of a secret would pass the masker.
    """
    if len(text) > _MAX_TEXT:
        return f"({len(text):,} characters)"
    return "".join(c if c.isprintable() else " " for c in text).strip()
