"""Bubblewrap, the program that builds sandboxes: is it there, does it work, what does it show.

What a sandbox shows of the system is a list of what may be seen, never all but
what must not: a folder that nobody thought of stays out. ``docs/decisions``
tells why.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace.errors import TailraceError

_PROGRAMS: Final = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store",
    "/gnu/store",
)  # fmt: skip
# Names in /etc that programs need and that hold no secret. A daemon that is root may read every
# file of root's, so that whole /etc would show /etc/shadow and the keys of the host. Each costs a
# mount, a quarter of a millisecond.
_ETC: Final = (
    "alternatives", "crypto-policies", "fonts", "group", "host.conf", "hosts", "java-*",
    "ld.so.cache", "localtime", "maven", "mime.types", "nsswitch.conf", "os-release", "passwd",
    "pki/ca-trust", "pki/java", "pki/tls/cert.pem", "pki/tls/certs", "pki/tls/openssl.cnf",
    "protocols", "services", "ssl/cert.pem", "ssl/certs", "ssl/openssl.cnf", "static", "terminfo",
    "timezone",
)  # fmt: skip
# bwrap(1) covers some of these itself, but only those that access(2) calls writable, and that
# knows nothing of sysctls: uid 0 may write them without any capability (proc_sysctl.c).
_KERNEL: Final = (
    "acpi", "bus", "dynamic_debug", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger",
)  # fmt: skip
_UNSHARE: Final = ("--unshare-all", "--cap-drop", "ALL")
_FLAGS: Final = (
    ("--unshare-user", "--disable-userns"),  # 0.8: no namespaces within, the kernel's soft spot
    (),  # older, setuid, or root where user namespaces are off
)
_PATIENCE_S: Final = 20.0

_found: list[Bubblewrap] = []  # what worked stays; what didn't may be repaired meanwhile
_finding: Final = threading.Lock()


class UnusableError(TailraceError):
    """Bubblewrap can't be used here; ``problem`` says why and ``hint`` what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}; {hint}")
        self.problem, self.hint = problem, hint


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """The program, and what it can do here."""

    program: str
    flags: tuple[str, ...]

    def start(self, *, network: bool) -> list[str]:
        """Return the beginning of its options: the namespaces."""
        return [*_UNSHARE, *(("--share-net",) if network else ()), *self.flags]


@dataclass(frozen=True, slots=True)
class Bind:
    """A place shown in a sandbox."""

    source: Path  # on the machine, links resolved
    place: Path  # in the sandbox
    needed: bool = False  # without it nothing works: shown even where something is hidden


def find_bubblewrap() -> Bubblewrap:
    """Return bubblewrap, tried out once per process: some 30 ms, then nothing. Blocks.

    Raises:
        UnusableError: it isn't installed, or may not make namespaces here.
    """
    with _finding:
        if not _found:
            _found.append(_try_out())
        return _found[0]


def _try_out() -> Bubblewrap:
    program = shutil.which("bwrap")
    if program is None:
        raise UnusableError("bubblewrap isn't installed", "install the package 'bubblewrap'")
    said = ""
    for flags in _FLAGS:
        bubblewrap = Bubblewrap(program, flags)
        begin, end = system_options(system_binds(()), ())
        options = [*bubblewrap.start(network=False), *begin, *end]
        probe = [sys.executable, "-I", "-S", "-c", "print('works')"]
        try:
            done = run_to_end([program, *options, "--", *probe], env={})
        except (OSError, subprocess.TimeoutExpired) as exc:
            said = said or str(exc)
            continue
        # Not its exit status: a runner reaps children by itself, and may have taken it.
        if done.stdout == b"works\n":
            return bubblewrap
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = said or (lines[-1] if lines else f"exit status {done.returncode}")
    raise UnusableError(f"bubblewrap doesn't work here ({said})", _hint(_switches()))


def run_to_end(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = _PATIENCE_S
) -> subprocess.CompletedProcess[bytes]:
    """Run a command that begins with bubblewrap; nothing of it is left when this returns. Blocks.

    In a session of its own: a Ctrl-C that kills bubblewrap while it begins
    leaves its child waiting for it for ever, and whoever reads the output too.

    Raises:
        OSError: it can't be started.
        subprocess.TimeoutExpired: it took more than *timeout_s*.
    """
    with subprocess.Popen(
        argv, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=timeout_s)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _switches() -> dict[str, str]:
    """Return the kernel's settings that may forbid it, those that are there."""
    found = {}
    for name in _HINTS:
        try:
            found[name] = Path("/proc/sys", name.replace(".", "/")).read_text().strip()
        except OSError:
            continue
    return found


_HINTS: Final = {  # sysctl -> the value that forbids, and what to do
    "kernel.unprivileged_userns_clone": ("0", "set the sysctl {name}=1"),
    "kernel.apparmor_restrict_unprivileged_userns": (
        "1",
        "give bwrap an AppArmor profile with 'userns', or set the sysctl {name}=0",
    ),
    "user.max_user_namespaces": ("0", "raise the sysctl {name}"),
}


def _hint(switches: Mapping[str, str]) -> str:
    for name, (forbids, hint) in _HINTS.items():
        if switches.get(name) == forbids:
            return hint.format(name=name)
    return "allow it to make user namespaces; containers often forbid them"


# ---- what of the system is seen --------------------------------------------------------------


def system_binds(path: Iterable[str]) -> list[Bind]:
    """Return what every sandbox shows, read-only: programs, /etc in parts, this installation.

    *path* are the folders of ``PATH``; those are left out that are no folder for programs
    alone, such as a home. Looks at the disk.
    """
    binds = [Bind(Path(os.path.realpath(name)), Path(name)) for name in _PROGRAMS]
    found = (place for name in _ETC for place in Path("/etc").glob(name))
    binds += [Bind(Path(os.path.realpath(place)), place) for place in found]
    for folder in (Path(item) for item in path):
        # Shims of a version manager (pyenv, asdf, mise) are nothing without the folder around.
        shown = folder.parent if folder.name == "shims" else folder
        if _holds_programs(shown):
            binds.append(Bind(Path(os.path.realpath(shown)), shown))
    package = Path(__file__).parent
    site = package.parent  # an editable installation lies anywhere, and only its package counts
    ours = [site if site.name in ("site-packages", "dist-packages") else package]
    ours += [Path(name) for name in (sys.prefix, sys.base_prefix, sys.base_exec_prefix)]
    for place in dict.fromkeys(ours):
        real = Path(os.path.realpath(place))
        binds += [Bind(real, dest, needed=True) for dest in dict.fromkeys((place, real))]
    # Not Path.exists: that raises for what may not be looked at, such as root's in PATH.
    return [bind for bind in binds if os.path.exists(bind.source)]  # noqa: PTH110 - see above


def _holds_programs(folder: Path) -> bool:
    """Whether a folder of ``PATH`` may be shown: not the root, a top folder, or a home."""
    homes = (Path("/root"), Path(os.path.expanduser("~")))  # noqa: PTH111 - never raises
    return (
        len(folder.parts) > 2
        and os.path.isdir(folder)  # noqa: PTH112 - False, too, where it may not be looked at
        and folder.parts[1] not in ("proc", "sys", "dev")
        and not any(home.is_relative_to(folder) for home in homes)
        and folder.parent != Path("/home")
    )


def system_options(binds: Sequence[Bind], hidden: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Return the options that show *binds* and nothing of *hidden*, with new /proc and /dev.

    The second list goes last, because bwrap makes mount points until then: it
    makes read-only what is neither a bind nor mounted after this.

    *hidden* are files and folders with their links resolved; those that a bind
    holds are covered in it. A bind within a hidden folder is left out, unless
    it is needed: then that alone is shown of it. Pure, but for looking whether
    what is hidden is a folder.
    """
    options: list[str] = []
    end: list[str] = []
    outer, inner = [], []
    for bind in sorted(set(binds), key=lambda bind: (len(bind.place.parts), str(bind.place))):
        if not any(bind.source.is_relative_to(place) for place in hidden):
            outer.append(bind)
        elif bind.needed:
            inner.append(bind)
    shown: list[Bind] = []
    for bind in outer:
        if any(_shows(other, bind) for other in shown):
            continue
        shown.append(bind)
        if bind.source != bind.place and bind.place.parent == Path("/"):
            # /bin -> usr/bin: bound, it would be a second way to what is covered in /usr.
            options += ["--symlink", str(bind.source), str(bind.place)]
        else:
            # A folder of PATH may be gone since.
            show = "--ro-bind" if bind.needed else "--ro-bind-try"
            options += [show, str(bind.source), str(bind.place)]
    for bind in shown:
        for place in hidden:
            if place.is_relative_to(bind.source):
                at = str(bind.place / place.relative_to(bind.source))
                if place.is_dir():
                    options += ["--tmpfs", at]
                    end += ["--remount-ro", at]
                else:  # a socket, say
                    options += ["--ro-bind", os.devnull, at]
    for bind in inner:
        options += ["--ro-bind", str(bind.source), str(bind.place)]
    options += ["--proc", "/proc", "--dev", "/dev"]
    for name in _KERNEL:
        options += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    return options, [*end, "--remount-ro", "/"]


def _shows(outer: Bind, inner: Bind) -> bool:
    """Whether *inner* is seen already, being the same files at the same place of *outer*."""
    # As text: a hundred binds are compared with each other, and paths take 20 ms for that.
    if not str(inner.place).startswith(f"{outer.place}/"):
        return inner == outer
    return f"{outer.source}{str(inner.place)[len(str(outer.place)) :]}" == str(inner.source)
