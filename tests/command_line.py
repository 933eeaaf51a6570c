"""The command line as users call it: `tailrace` in a process of its own.

An interpreter with all our imports takes a quarter of a second to start, and
these tests make some two hundred calls. So plain calls are forked from a
process that has imported everything; what a test must signal, or look at in a
terminal, is started in full.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pseudo_terminal import PseudoTerminal
from tailrace.rundir.layout import RunDir, StateDir

TAILRACE = (sys.executable, "-m", "tailrace.cli.main")

_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(
    ["command_line", "tailrace.cli.follow", "tailrace.cli.folders", "tailrace.cli.picture",
     "tailrace.cli.remote", "tailrace.cli.run", "tailrace.client", "tailrace.settings_file",
     "tailrace.worker.accept", "tailrace.worker.repeat", "tailrace.worker.spawn"]
)  # fmt: skip


def call(
    args: Sequence[str], *, env: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Call the command line to its end; its input is empty, its outputs are files."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        process = _forked.Process(target=_be_tailrace, args=(args, dict(env), str(folder), files))
        process.start()
        process.join(40)
        status = process.exitcode
        if status is None:
            process.kill()
            process.join()
        process.close()
        stdout, stderr = (_text(file.fileno()) for file in (out, err))
    assert status is not None, f"{args} didn't end: {stderr}"
    return subprocess.CompletedProcess(list(args), status, stdout, stderr)


def _text(fd: int) -> str:
    return os.pread(fd, os.fstat(fd).st_size, 0).decode()


def _be_tailrace(args: Sequence[str], env: dict[str, str], folder: str, files: list[str]) -> None:
    """Become what ``python -m tailrace.cli.main ARGS`` is."""
    for fd, name in enumerate(files, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), fd)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    tempfile.tempdir = None
    warnings.simplefilter("error")
    sys.argv = ["tailrace", *args]
    from tailrace.cli.main import main

    main()


@dataclass(frozen=True)
class Site:
    """A state folder, pipelines, and the command line over them."""

    folder: Path
    env: dict[str, str]

    @property
    def state(self) -> StateDir:
        """The state folder."""
        return StateDir(self.folder / "state")

    def pipeline(self, name: str, text: str) -> Path:
        """Write a pipeline; return its file."""
        path = self.folder / "pipelines" / f"{name}.yaml"
        path.write_text(text)
        return path

    def tailrace(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Call the command line to its end."""
        return call(args, env=self.env | env, folder=self.folder)

    def begin(self, *args: str, **env: str) -> subprocess.Popen[str]:
        """Call it, and go on."""
        return subprocess.Popen(
            [*TAILRACE, *args], env=self.env | env, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def terminal(self, *args: str, rows: int = 24, columns: int = 80, **env: str) -> PseudoTerminal:
        """Call it in a terminal."""
        return PseudoTerminal([*TAILRACE, *args], env=self.env | env, rows=rows, columns=columns)

    def latest(self) -> RunDir:
        """Return the newest run."""
        return self.state.run(max(path.name for path in self.state.runs.iterdir()))

    def journal(self) -> list[dict[str, Any]]:
        """Return the newest run's events as its journal has them."""
        return [json.loads(line) for line in self.latest().journal.read_text().splitlines()]
