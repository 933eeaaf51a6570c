"""Cgroups are tried before they are used, and those of dead runners go."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from mechanisms import require_mechanism
from tailrace.cgroup import RunCgroup, base, cgroups_of

# In a process of its own: what was found out is remembered, and forking wants one thread.
TRY = "import sys; from tailrace import cgroup; {}; sys.exit(cgroup.why_unusable())"


@pytest.mark.parametrize("change", ["pass", "cgroup._CLONE3 = 1023"])
def test_a_process_gets_into_its_cgroup_with_and_without_clone3(change: str) -> None:
    """Where a filter refuses clone3(2), it moves itself; the trial kills it by its cgroup."""
    require_mechanism("cgroup")
    done = subprocess.run(
        [sys.executable, "-P", "-c", TRY.format(change)], capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_empty_cgroups_of_dead_runners_are_removed_and_live_ones_stay() -> None:
    """A live runner holds a lock on its own."""
    require_mechanism("cgroup")
    name = str(time.time_ns())
    dead = base() / f"tailrace-dead{name}"
    dead.mkdir()
    live = RunCgroup(base(), f"live{name}")
    try:
        subprocess.run([sys.executable, "-P", "-c", TRY.format("pass")], check=True)
        assert not dead.exists()
        assert [group.path for group in cgroups_of(f"live{name}")] == [live.path]
    finally:
        live.close()
        if dead.exists():
            dead.rmdir()
    assert cgroups_of(f"live{name}") == []


def test_a_cgroup_is_made_while_others_remove_what_looks_dead() -> None:
    """Several daemons and command lines may begin at once; none loses its containment."""
    require_mechanism("cgroup")
    sweeping = "from tailrace import cgroup\nfor _ in range(1500): cgroup._sweep(cgroup._own())"
    with subprocess.Popen([sys.executable, "-P", "-c", sweeping]) as process:
        made = 0
        while process.poll() is None:
            RunCgroup(base(), f"made{time.time_ns()}").close()
            made += 1
    assert made > 0
    assert process.returncode == 0


def test_who_is_killed_in_the_middle_of_the_trial_leaves_no_process() -> None:
    """What it started holds its output open: who reads that would wait forever."""
    require_mechanism("cgroup")
    killed = "import os; cgroup.RunCgroup.kill = lambda group: os.kill(os.getpid(), 9)"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", TRY.format(killed)], stdout=subprocess.PIPE
    ) as process:
        try:
            process.communicate(timeout=30)
        finally:
            # Whoever begins meanwhile may have removed it already, as that of a dead runner.
            for group in cgroups_of(f"probe-{process.pid}"):
                group.kill()
                assert group.remove()

    assert process.returncode == -signal.SIGKILL
