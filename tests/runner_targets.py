"""What a fork server's child may be told to do in place of a run."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tailrace import wire
from tailrace.rundir.journal import JournalWriter
from tailrace.runner.main import run


def die(folder: Path, lock_fd: int, handover: wire.Handover) -> int:
    """End before anything was written."""
    return 9


def report(folder: Path, lock_fd: int, handover: wire.Handover) -> int:
    """Write down what a runner finds, and wait to be killed."""
    facts = [
        str(os.getpid()),
        str(os.getsid(0)),
        str(os.fstat(lock_fd).st_ino == (folder / "lock").stat().st_ino),
        ",".join(sorted(path.name for path in Path("/proc/self/fd").iterdir())),
        ",".join(f"{name}={value}" for name, value in sorted(handover.secrets.items())),
    ]
    (folder / "report.new").write_text("\n".join(facts))
    (folder / "report.new").rename(folder / "report")
    sys.stdout.write("said on stdout\n")
    sys.stdout.flush()
    signal.pause()
    return 0


def die_once(folder: Path, lock_fd: int, handover: wire.Handover) -> int:
    """Execute the run, and die by SIGKILL where TAILRACE_TEST_DIE says; the next runner lives.

    It is ``before EVENT`` or ``after EVENT``, of the journal, or ``at start``;
    with ``always`` in front, each runner dies there.
    """
    words = os.environ["TAILRACE_TEST_DIE"].split()
    always = words[0] == "always"
    when, event = words[-2:]
    mark = folder / "has-died"

    def die() -> None:
        if always or not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    if (when, event) == ("at", "start"):
        die()
    append = JournalWriter.append

    def appended(
        self: JournalWriter, t: str, fields: dict[str, Any], *, urgent: bool = False
    ) -> int:
        if when == "before" and fields["event"] == event:
            die()
        seq = append(self, t, fields, urgent=urgent)
        if when == "after" and fields["event"] == event:
            die()
        return seq

    JournalWriter.append = appended  # type: ignore[method-assign]  # this process ends with the run
    return run(folder, lock_fd, handover)
