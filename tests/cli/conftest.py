"""What the tests of the command line share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Site
from daemons import NO_SHAPES
from tailrace.rundir.lock import is_held
from tailrace.rundir.snapshot import read_snapshot
from tailrace.store.rebuild import run_ids


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A command line that knows nothing of this machine's daemons and settings."""
    (tmp_path / "pipelines").mkdir()
    kept = ("PATH", "HOME", "LANG", "USER", "VIRTUAL_ENV")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    env |= {
        "TAILRACE_STATE_DIR": str(tmp_path / "state"),
        "TAILRACE_PIPELINES_DIR": str(tmp_path / "pipelines"),
        "TAILRACE_LIMITS__MIN_FREE": "1K",
        **NO_SHAPES,
        "PYTHONWARNINGS": "error",
    }
    found = Site(tmp_path, env)
    yield found
    # Nothing that a test started may outlive it: whatever still runs is cancelled and waited for.
    for run_id in run_ids(found.state):
        if not read_snapshot(found.state.run(run_id)).is_final:
            found.tailrace("cancel", run_id)
            lock = found.state.run(run_id).lock
            deadline = time.monotonic() + 20
            while is_held(lock):
                assert time.monotonic() < deadline, f"{run_id} still runs"
                time.sleep(0.01)
