"""The machine: programs, user, containment, sandbox, inotify."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tailrace.bubblewrap import UnusableError, find_bubblewrap
from tailrace.doctor.checks import ok, problem, warning
from tailrace.pipeline.model import Pipeline
from tailrace.search_path import search_path
from tailrace.settings import Settings
from tailrace.wire import DoctorCheck

_GIT: Final = (2, 34)  # the oldest that clones are tried with
_PATIENCE_S: Final = 20.0
_INOTIFY: Final = {  # limit -> the least that is plenty for a daemon with other programs beside it
    "max_user_watches": 8_192,
    "max_user_instances": 64,
}


def checks(settings: Settings, pipelines: Sequence[Pipeline]) -> list[DoctorCheck]:
    """Look at all but the containment. Blocks, some 50 ms."""
    return [
        ok("python", f"{platform.python_version()}, {sys.executable}"),
        _git(settings, pipelines),
        ok("path", search_path(settings.step_env)),
        user(os.geteuid(), pipelines),
        _sandbox(),
        inotify(Path("/proc/sys/fs/inotify")),
    ]


def _git(settings: Settings, pipelines: Sequence[Pipeline]) -> DoctorCheck:
    hint = "install git 2.34 or newer where the daemon's PATH finds it"
    program = shutil.which("git", path=search_path(settings.step_env))
    if program is None:
        cloning = [p.name for p in pipelines if any(s.clone for s in p.steps.values())]
        if cloning:
            return problem("git", f"isn't there, and {', '.join(cloning)} can't clone", hint)
        return warning("git", "isn't there, so nothing can be cloned", hint)
    try:
        done = subprocess.run(
            [program, "version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=_PATIENCE_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        return problem("git", f"can't be started: {exc}", hint)
    words = done.stdout.split()
    version = words[2] if len(words) > 2 and words[:2] == ["git", "version"] else ""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(numbers) < 2:
        return warning("git", f"{program} doesn't tell its version", hint)
    if numbers < _GIT:
        return warning("git", f"{version} is older than what clones are tried with", hint)
    return ok("git", f"{version}, {program}")


def user(uid: int, pipelines: Sequence[Pipeline]) -> DoctorCheck:
    """Tell whose powers steps have."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return problem(
            "user", f"uid {uid} has no account, and steps take their HOME from it",
            "run the daemon as a user of its own",
        )  # fmt: skip
    free = sum(
        any(step.ask is None and step.sandbox in (None, "off") for step in pipeline.steps.values())
        for pipeline in pipelines
    )
    text = f"a step that isn't sandboxed is as mighty as {name}"
    if pipelines:
        text += f"; {free} of {len(pipelines)} pipelines have such steps"
    if uid == 0:
        hint = "run the daemon as a user of its own; systemd/tailrace.service does"
        return warning("user", text, hint)
    return ok("user", text)


def _sandbox() -> DoctorCheck:
    try:
        found = find_bubblewrap()
    except UnusableError as exc:
        text = f"{exc.problem}, so `sandbox: true` has no effect and `required` is refused"
        return warning("sandbox", text, exc.hint)
    return ok("sandbox", f"bubblewrap works, {found.program}")


def inotify(folder: Path) -> DoctorCheck:
    """Look at the kernel's limits (inotify(7)), which are files in *folder*."""
    found = {}
    for name in _INOTIFY:
        with contextlib.suppress(OSError, ValueError):
            found[name] = int((folder / name).read_text())
    if len(found) < len(_INOTIFY):
        return warning(
            "inotify", "can't be used here, so streams are polled every 50 ms",
            f"let this user read {folder}",
        )  # fmt: skip
    low = [name for name, least in _INOTIFY.items() if found[name] < least]
    text = ", ".join(f"{name} {count}" for name, count in found.items())
    if low:
        raised = ", ".join(f"fs.inotify.{name}={_INOTIFY[name]}" for name in low)
        return warning(
            "inotify", f"{text}: where that is exhausted, streams are polled every 50 ms",
            f"raise it: sysctl {raised}",
        )  # fmt: skip
    return ok("inotify", text)


async def containment(settings: Settings) -> DoctorCheck:
    """Tell what runners choose here, as a process of their kind does."""
    hint = f"`{sys.executable} -m tailrace.runner.chosen auto` says more"
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "tailrace.runner.chosen", settings.limits.containment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as exc:
        return problem("containment", f"no process can be started to find it out: {exc}", hint)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            said, _ = await process.communicate()
    except TimeoutError:
        said = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return told_containment(msgspec.json.decode(said, type=Chosen))
    except msgspec.MsgspecError:
        return problem("containment", "what runners choose can't be found out", hint)


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What ``python -m tailrace.runner.chosen`` says."""

    containment: str
    why: str | None = None  # it is no stronger


def told_containment(chosen: Chosen) -> DoctorCheck:
    """Say what a containment means."""
    name, why = chosen.containment, f" ({chosen.why})" if chosen.why else ""
    if name == "weak":
        return warning(
            "containment",
            "weak: a step's process that leaves its parent, session and environment is found at "
            f"the run's end only{why}",
            "let the daemon write below its cgroup (systemd: Delegate=yes), or install bubblewrap",
        )
    return ok("containment", f"{name}: no process of a step gets away{why}")
