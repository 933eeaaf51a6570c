"""What holds a step's processes together on this machine, and who got away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from programs import require
from tailrace.cgroup import why_unusable
from tailrace.runner.containment import is_alive

MECHANISMS: Final = ("cgroup", "pidns", "process_group")


def require_mechanism(name: str) -> None:
    """Skip the calling test where a mechanism doesn't work; fail it where nothing may be."""
    if name == "pidns":
        require("bwrap")
    reason = why_unusable() if name == "cgroup" else None
    if reason is None:
        return
    if os.environ.get("TAILRACE_TEST_NO_SKIP") == "1":
        pytest.fail(f"needs a writable cgroup2: {reason}")
    pytest.skip(f"needs a writable cgroup2: {reason}")


def processes_with(word: str) -> list[int]:
    """The living processes with that word in their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                arguments = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in arguments:
                found.append(int(folder.name))
    return [pid for pid in found if is_alive(pid)]
