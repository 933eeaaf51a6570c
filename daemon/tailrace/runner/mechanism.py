"""By what means a run's processes are held together: chosen once, at the runner's start.

The strongest at hand: a cgroup for each attempt, else a PID namespace made by
bubblewrap, else the process group with what `tailrace.runner.containment` finds.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from tailrace import cgroup
from tailrace.bubblewrap import run_to_end
from tailrace.runner.launcher import Launcher
from tailrace.runner.process import Leader, start

Name = Literal["cgroup", "pidns", "process_group"]

_CHOICES: Final[tuple[Name, ...]] = ("cgroup", "pidns", "process_group")
_PROBE_S: Final = 5.0
_BWRAP: Final = ("bwrap", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--")


class Mechanism:
    """Starts a run's processes; made by `choose`, ended by `close`."""

    def __init__(
        self, name: Name, *, group: cgroup.RunCgroup | None = None, why: str | None = None
    ) -> None:
        self.name = name
        self.why = why  # it is weaker than what was asked for, as a sentence
        self._group = group
        self._launcher = Launcher.fork(group) if group is not None else None

    @property
    def containment(self) -> str:
        """What ``started`` says: the mechanism's name, or ``weak`` where processes can escape."""
        return "weak" if self.name == "process_group" else self.name

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        cpus: Sequence[int] | None = None,
        in_namespace: bool = False,
    ) -> Leader:
        """Start a step's process, as `tailrace.runner.process.start` does.

        *in_namespace*: *argv* is bubblewrap, which makes a PID namespace by itself.

        Raises:
            OSError: the program can't be executed, or *cwd* can't be entered.
        """
        is_wrapped = self.name == "pidns" and not in_namespace
        if is_wrapped:
            _check_program(argv[0], cwd, env)  # bubblewrap would say it in the output only
            argv = (*_BWRAP, *argv)
        return start(
            argv, cwd=cwd, env=env, pass_fds=pass_fds, cpus=cpus, launcher=self._launcher,
            is_wrapped=is_wrapped, in_namespace=in_namespace or is_wrapped,
        )  # fmt: skip

    def close(self) -> None:
        """Kill what is left in the run's cgroup, and remove it. Again is fine."""
        group, launcher, self._group, self._launcher = self._group, self._launcher, None, None
        if group is not None and launcher is not None:
            group.kill()
            launcher.close()
            group.close()


def choose(asked: Literal["auto", "cgroup", "pidns", "process_group"], run_id: str) -> Mechanism:
    """Return the strongest mechanism that works here, from *asked* downwards.

    The caller has one thread and no loop.
    """
    reasons: list[str] = []
    for name in _CHOICES[0 if asked == "auto" else _CHOICES.index(asked) :]:
        try:
            group = cgroup.RunCgroup(cgroup.base(), run_id) if name == "cgroup" else None
            if name == "pidns":
                _probe_bubblewrap()
        except OSError as exc:
            reasons.append(f"{name}: {exc.strerror or exc}")
            continue
        why = None
        if reasons and asked != "auto":
            why = f"containment is weaker than limits.containment asks for ({'; '.join(reasons)})"
        return Mechanism(name, group=group, why=why)
    raise AssertionError("a process group needs nothing")


def _probe_bubblewrap() -> None:
    """Raise an OSError where bubblewrap can't make a PID namespace."""
    try:
        done = run_to_end([*_BWRAP, "true"], timeout_s=_PROBE_S)
    except subprocess.TimeoutExpired:
        raise OSError("bubblewrap doesn't answer") from None
    if done.returncode:
        raise OSError(done.stderr.decode("utf-8", "replace").strip() or "bubblewrap failed")


def _check_program(name: str, cwd: Path, env: Mapping[str, str]) -> None:
    """Raise the OSError of execvp(3) where it would find no file, or none to execute."""
    why = errno.ENOENT
    for folder in [""] if "/" in name else os.get_exec_path(dict(env)):
        error = _why_not_executable(Path(cwd, folder, name))
        if not error:
            return
        if why in (errno.ENOENT, errno.ENOTDIR):  # what is there and can't be executed says more
            why = error
    raise OSError(why, os.strerror(why), name)


def _why_not_executable(path: Path) -> int:
    """Return the errno that execve(2) has for a path, 0 where it may work."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except OSError as exc:
        return exc.errno or errno.ENOENT
    return 0 if is_file and os.access(path, os.X_OK) else errno.EACCES
