"""What a step executes: the argument list, what of it is shown, and where it runs."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

import msgspec

from tailrace.core.git_policy import GitPolicy, covers
from tailrace.core.git_url import GitInputError, parse_git_url
from tailrace.core.plan import AskAction, CloneAction, CommandAction, RunAction, StepPlan
from tailrace.errors import TailraceError
from tailrace.pipeline.expressions import Scope, render, render_argv
from tailrace.runner.clone import CloneRequest, display_command
from tailrace.runner.context import RunContext
from tailrace.runner.git_access import GitCredentials

_BASH: Final = ("bash", "-e", "-o", "pipefail", "-c")
_SH: Final = ("sh", "-e", "-c")


class RefusedStepError(TailraceError):
    """The step can't be started as it is asked for; the text is its cause."""


@dataclass(slots=True, kw_only=True)
class Invocation:
    """A process to start. ``close`` it once it has been started, or not."""

    argv: list[str]
    display: str  # for ``step_started.cmd``; never userinfo
    cwd: Path
    pass_fds: tuple[int, ...] = ()

    def close(self) -> None:
        """Close what was made for the process to inherit."""
        for fd in self.pass_fds:
            os.close(fd)
        self.pass_fds = ()


def invocation_of(ctx: RunContext, step: StepPlan, scope: Scope) -> Invocation:
    """Return what the step executes now.

    Raises:
        TemplateError: a template can't be rendered, or a value would become an option.
        RefusedStepError: its workdir is missing or leads out, or it isn't built yet.
        OSError: the request of a clone can't be handed over.
    """
    # Without it the step would run elsewhere than the file says.
    if step.host is not None:
        raise RefusedStepError("`host` is not part of this version")
    match step.action:
        case RunAction(script=script):
            shell = step.shell or (_BASH if shutil.which("bash") else _SH)
            return Invocation(
                argv=[*shell, script], display=script, cwd=workdir_of(ctx, step, scope)
            )
        case CommandAction(argv=template):
            argv = render_argv(template, scope)
            return Invocation(argv=argv, display=shlex.join(argv), cwd=workdir_of(ctx, step, scope))
        case CloneAction() as action:
            return _clone(ctx, action, scope)
        case AskAction():
            raise AssertionError("an `ask` has no process")
        case _ as never:
            assert_never(never)


def _clone(ctx: RunContext, action: CloneAction, scope: Scope) -> Invocation:
    git = ctx.settings.git
    rendered = msgspec.structs.replace(
        action,
        url=render(action.url, scope),
        ref=render(action.ref, scope) or "HEAD",
        commit=render(action.commit, scope) if action.commit else None,
    )
    request = CloneRequest(
        url=rendered.url,
        ref=rendered.ref,
        commit=rendered.commit or None,
        history=action.history,
        submodules=action.submodules,
        workspace=str(ctx.workspace),
        target=str(clone_target(ctx.workspace, render(action.path, scope))),
        trusted=ctx.file.trusted,
        policy=GitPolicy(
            protocols=git.protocols,
            local_paths=git.local_paths,
            private_addresses=git.private_addresses,
        ),
        credentials=_credentials(ctx, rendered.url),
        known_hosts=git.known_hosts,
        ca_file=git.ca_file,
    )
    fd = os.memfd_create("clone")  # the URL may hold userinfo: neither argv nor environment
    os.write(fd, msgspec.json.encode(request))
    os.lseek(fd, 0, os.SEEK_SET)
    return Invocation(
        argv=[sys.executable, "-I", "-m", "tailrace.runner.clone", "--fd", str(fd)],
        display=display_command(rendered),
        cwd=own_path(ctx.workspace),
        pass_fds=(fd,),
    )


def _credentials(ctx: RunContext, text: str) -> GitCredentials | None:
    """Return the credential of the longest ``git.credentials`` key that the address is under."""
    try:
        url = parse_git_url(text)
    except GitInputError:
        return None  # git isn't started for it either, and the clone says why
    fitting = [key for key in ctx.settings.git.credentials if covers(key, url)]
    if not fitting:
        return None
    scope = max(fitting, key=len)
    credential = ctx.settings.git.credentials[scope]
    return GitCredentials(
        scope=scope,
        username=credential.username,
        password=ctx.secrets.get(credential.secret or ""),
        ssh_key=ctx.secrets.get(credential.ssh_key or ""),
    )


def workdir_of(ctx: RunContext, step: StepPlan, scope: Scope) -> Path:
    """Return where the step runs: its ``workdir``, the nearest clone, or the workspace.

    No link is on the way from the workspace to it.

    Raises:
        TemplateError: its path can't be rendered.
        RefusedStepError: it isn't there, or leads out of the workspace.
    """
    path = "."
    if step.workdir is not None:
        path = render(step.workdir, scope)
        folder = inside(ctx.workspace, path, what="workdir")
    elif step.workdir_of is not None:
        clone = ctx.plan.step(step.workdir_of)
        assert isinstance(clone.action, CloneAction)
        path = render(clone.action.path, ctx.scope(clone))
        folder = inside(ctx.workspace, path, what="workdir")
        if not _is_folder(folder):  # the clone failed, and this step runs all the same
            folder = own_path(ctx.workspace)
    else:
        folder = own_path(ctx.workspace)
    if not _is_folder(folder):
        # The path as it was given: of a piece of it, the masker can't know that it is a secret's.
        raise RefusedStepError(f"its workdir {path!r} is not there; an earlier step makes it")
    return folder


def clone_target(workspace: Path, path: str) -> Path:
    """Return where a clone goes; a link at its very place isn't followed, but removed there.

    Raises:
        RefusedStepError: it leads out of the workspace, or can't be followed.
    """
    return inside(workspace, path, what="clone.path", follow_last=False)


def inside(workspace: Path, path: str, *, what: str, follow_last: bool = True) -> Path:
    """Return *path* below the workspace, links followed.

    Raises:
        RefusedStepError: it leads out of the workspace, or round in a circle.
    """
    root = own_path(workspace)
    whole = root / path
    keeps_last = not follow_last and whole.name != ".."
    try:
        found = whole.parent.resolve() / whole.name if keeps_last else whole.resolve()
    except (OSError, RuntimeError, ValueError) as exc:  # of links in a circle: RuntimeError
        why = exc.strerror if isinstance(exc, OSError) else "its links lead nowhere"
        raise RefusedStepError(f"its {what} {path!r} can't be followed: {why}") from None
    if not found.is_relative_to(root):
        raise RefusedStepError(f"its {what} {path!r} leads out of the workspace")
    return found


def own_path(workspace: Path) -> Path:
    """Return the path of the workspace itself: what links the operator has above it are followed.

    Raises:
        RefusedStepError: a step has put a link in its place, which leads anywhere.
    """
    if workspace.is_symlink():
        raise RefusedStepError("a step has replaced the workspace by a link; start the run anew")
    return workspace.parent.resolve() / workspace.name


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name is too long, or is none
        return False
