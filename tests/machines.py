"""A machine whose first process is a real systemd, with Tailrace installed as the docs say.

It is made by `systemd-box`, which stands beside the repository: a set of
namespaces over this machine's files, booted in a third of a second. Whatever
is written in it is gone with it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tailrace.rundir.layout import StateDir

ROOT: Final = Path(__file__).parents[1]
TOOL: Final = ROOT.parent / "shared/tools/systemd-box"
SOCKET: Final = "/run/tailrace/daemon.sock"

# The package and its libraries stand where they are; this is what `pip install` would have made.
_INSTALL: Final = """
set -e
mkdir -p /opt/tailrace/bin /opt/tailrace/lib/{version}/site-packages
ln -s '{python}' /opt/tailrace/bin/python
printf 'home = %s\\n' '{home}' >/opt/tailrace/pyvenv.cfg
printf '%s\\n' /opt/source/daemon /opt/packages >/opt/tailrace/lib/{version}/site-packages/here.pth
printf '%s\\n' '#!/opt/tailrace/bin/python' 'import sys' 'from tailrace.cli.main import main' \
  'sys.exit(main())' >/opt/tailrace/bin/tailrace
chmod 755 /opt/tailrace/bin/tailrace
# An interpreter in somebody's home is for everyone here.
place='{python}'
while place=$(dirname "$place"); [ "$place" != / ]; do chmod o+x "$place"; done
"""
# As docs/how-to/run-the-daemon.md has them.
COMMANDS: Final = """
install -m 644 systemd/tailrace.service systemd/tailrace.socket /etc/systemd/system/
install -Dm 644 systemd/tailrace.sysusers /etc/sysusers.d/tailrace.conf
install -Dm 644 systemd/tailrace.tmpfiles /etc/tmpfiles.d/tailrace.conf
systemd-sysusers tailrace.conf
systemd-tmpfiles --create tailrace.conf
"""


@dataclass(frozen=True)
class Machine:
    """A booted one."""

    name: str
    root: Path  # its files, as seen from here

    @property
    def state(self) -> StateDir:
        """The daemon's state folder."""
        return StateDir(self.root / "var/lib/tailrace")

    def run(
        self, *argv: str, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in it, as root."""
        done = box(self.name, "exec", *argv, stdin=stdin)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done

    def begin(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program in it, and go on."""
        return subprocess.Popen(
            [str(TOOL), "exec", *argv], env={**os.environ, "SYSTEMD_BOX_NAME": self.name},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def group_of(self, pid: str) -> str:
        """Return a process's control group (cgroups(7), version 2)."""
        told = self.run("cat", f"/proc/{pid}/cgroup").stdout
        return str(re.findall(r"^0::(.*)$", told, re.MULTILINE)[0])

    def systemctl(self, *args: str, check: bool = True) -> str:
        """Ask its systemd."""
        done = self.run("systemctl", *args, check=check)
        return done.stdout.strip()

    def show(self, name: str, unit: str = "tailrace.service") -> str:
        """Return a unit's property."""
        return self.systemctl("show", "--value", "-p", name, unit)

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file, by its path in there."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def drop_in(self, text: str) -> None:
        """Change the unit as an operator does; "" takes it back."""
        self.write("/etc/systemd/system/tailrace.service.d/test.conf", text)
        self.systemctl("daemon-reload")

    def log(self) -> str:
        """Return the unit's journal of this test's daemon and systemd."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "-o", "cat", "-u", "tailrace.service").stdout

    # The API, by the Unix socket

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the daemon; return the answer's document."""
        with contextlib.closing(UnixConnection(self.root / SOCKET[1:])) as connection:
            data = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} if data else {}
            connection.request(method, f"/api/v1{path}", data, headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 300, f"{method} {path}: {answer.status} {text!r}"
            return json.loads(text)

    def start(self, pipeline: str, **params: str) -> str:
        """Start a run; return its id."""
        run: dict[str, Any] = self.ask("POST", "/runs", {"pipeline": pipeline, "params": params})
        run_id: str = run["id"]
        return run_id

    def status(self, run_id: str) -> str:
        """Return a run's status."""
        return str(self.ask("GET", f"/runs/{run_id}")["status"])

    def until_final(self, run_id: str) -> dict[str, Any]:
        """Wait for a run's end; return it."""
        until(lambda: self.status(run_id) in ("success", "error", "aborted"), "its end")
        run: dict[str, Any] = self.ask("GET", f"/runs/{run_id}")
        return run


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        folder = os.open(self._path.parent, os.O_PATH)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


def until(holds: Callable[[], object], what: str, *, within_s: float = 40) -> None:
    """Wait until it holds; fail when it still doesn't."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {within_s} s for {what}"
        time.sleep(0.02)


def box(name: str, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Call systemd-box."""
    return subprocess.run(
        [str(TOOL), *args], env={**os.environ, "SYSTEMD_BOX_NAME": name}, text=True,
        input=stdin, capture_output=True, timeout=90,
    )  # fmt: skip


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    """Boot a machine and install Tailrace; skip where that can't be."""
    if not TOOL.exists():
        pytest.skip(f"needs systemd-box, which isn't at {TOOL}")
    name = f"tailrace{os.getpid()}"
    probe = box(name, "probe")
    if probe.returncode == 77:
        pytest.skip(f"systemd-box can't run here: {probe.stderr.strip()}")
    try:
        booted = box(
            name, "up", "--bind-ro", f"{ROOT}:/opt/source",
            "--bind-ro", f"{sysconfig.get_path('purelib')}:/opt/packages",
        )  # fmt: skip
        assert booted.returncode == 0, booted.stdout + booted.stderr
        pid = re.search(r"pid (\d+)", booted.stdout)
        assert pid is not None, booted.stdout
        made = Machine(name, Path(f"/proc/{pid[1]}/root"))
        python = Path(sys.executable).resolve()
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        script = _INSTALL.format(python=python, home=python.parent, version=version)
        made.run("sh", "-c", script)
        made.run("sh", "-ec", f"cd /opt/source; {COMMANDS}")
        yield made
    finally:
        box(name, "down")
