"""An attempt's processes: ended, frozen and thawed."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mechanisms import require_mechanism
from runs import eventually
from tailrace.cgroup import RunCgroup, base
from tailrace.runner.containment import Containment, is_alive
from tailrace.runner.process import start


async def test_a_leader_that_dies_before_the_loop_looks_again_has_its_exit_status(
    tmp_path: Path,
) -> None:
    """Stopping returns with the leader reaped, however fast it went."""
    leader = start(["sleep", "600"], cwd=tmp_path, env=dict(os.environ))
    try:
        leader.signal_group(signal.SIGTERM)
        while is_alive(leader.pid):
            time.sleep(0.001)  # noqa: ASYNC251 - the loop must not hear of it
        kill = await Containment(leader, {"TAILRACE_RUN_ID": "of this test"}, set()).stop(grace_s=5)
    finally:
        os.close(leader.output)

    assert leader.returncode == -signal.SIGTERM
    assert kill.survivors == ()


async def test_a_process_that_can_t_be_waited_for_is_ended_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has started, and nobody would stop it; no descriptor stays open either."""
    started = []

    def no_more(pid: int, flags: int = 0) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", no_more)
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="Too many open files"):
        start(["sleep", "600"], cwd=tmp_path, env=dict(os.environ))

    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before
    assert [Path(f"/proc/{pid}").exists() for pid in started] == [False]


@pytest.mark.parametrize("mechanism", ["cgroup", "process_group"])
async def test_a_frozen_attempt_stands_still_until_it_is_thawed(
    tmp_path: Path, mechanism: str
) -> None:
    """All of it: what it has forked as well."""
    beat = "while :; do echo >> beats; sleep 0.01; done"
    async with held(["sh", "-c", f"({beat}) & {beat}"], tmp_path, mechanism) as containment:
        beats = tmp_path / "beats"
        await eventually(beats.exists)
        await containment.freeze()
        members = containment.members()
        size = beats.stat().st_size
        assert len(members) >= 2
        assert all(is_still(pid) for pid in members)
        assert beats.stat().st_size == size
        containment.thaw()
        await eventually(lambda: beats.stat().st_size > size)


async def test_a_frozen_cgroup_handles_sigterm_all_the_same(tmp_path: Path) -> None:
    """Whoever froze it: it is thawed, and has its grace."""
    script = "trap 'echo bye > said; exit 5' TERM; echo > ready; while :; do sleep 0.01; done"
    async with held(["sh", "-c", script], tmp_path, "cgroup") as containment:
        await eventually((tmp_path / "ready").exists)
        await containment.freeze()
        kill = await containment.stop(grace_s=20)

    assert (tmp_path / "said").read_text() == "bye\n"
    assert (kill.mechanism, kill.survivors) == ("cgroup", ())


async def test_a_busy_cgroup_is_left_to_the_run_s_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it on the loop, where other steps' output and timeouts would wait, too."""
    async with held(["sleep", "600"], tmp_path, "cgroup") as containment:
        with monkeypatch.context() as patches:
            patches.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
            containment.release()
        assert containment.members()


def is_still(pid: int) -> bool:
    """Whether a process is stopped, or frozen: those sleep, and have used the same time again."""
    before, again = (Path(f"/proc/{pid}/schedstat").read_text() for _ in range(2))
    return before == again


@asynccontextmanager
async def held(argv: list[str], folder: Path, mechanism: str) -> AsyncIterator[Containment]:
    """A process of ours in a mechanism; it is ended, and its cgroup removed."""
    require_mechanism(mechanism)
    gate = ["sh", "-c", 'until test -e "$0"; do sleep 0.01; done; exec "$@"', str(folder / "go")]
    marker = {"TAILRACE_RUN_ID": str(folder)}  # this process has children that aren't the test's
    leader = start([*gate, *argv], cwd=folder, env={**os.environ, **marker})
    group = None
    if mechanism == "cgroup":
        group = RunCgroup(base(), f"test-{leader.pid}")
        (group.path / "cgroup.procs").write_text(str(leader.pid))
        leader.group = group
    (folder / "go").touch()
    containment = Containment(leader, marker, set())
    try:
        yield containment
    finally:
        await containment.stop(grace_s=0)
        os.close(leader.output)
        if group is not None:
            group.close()
