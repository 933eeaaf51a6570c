"""A step that uses more than it may is killed, and told why; what it shares counts once."""

from __future__ import annotations

import os
import re
import sys

import pytest

from runs import command, execute, plan_of, script
from tailrace.core.plan import StepLimits
from tailrace.rundir.layout import StateDir

M = 1 << 20


async def test_a_step_that_uses_too_much_memory_is_killed_and_told_so(state: StateDir) -> None:
    """At once, with what it had; the run goes on."""
    hog = "import time; held = bytes(range(256)) * (200 << 12); time.sleep(600)"
    steps = (
        command("hog", sys.executable, "-c", hog, limits=StepLimits(memory=64 * M)),
        script("tidy", "echo tidied", "hog", when="always()"),
    )
    done = await execute(state, plan_of(*steps))

    finished = done.finished("hog")
    assert (finished["status"], finished["cause_code"]) == ("error", "memory")
    told = re.fullmatch(
        r"killed: used (\d+\.\d) MiB of the 64 MiB allowed", finished["cause"]
    )  # fmt: skip
    assert told is not None
    assert 64 < float(told[1]) < 260
    assert finished["kill"]["signalled"] == 0
    assert finished["kill"]["forced"] >= 1
    assert finished["kill"]["survivors"] == []
    assert finished["signal"] == "SIGKILL"
    assert done.text("tidy") == "tidied\n"


async def test_memory_that_forks_share_counts_once(state: StateDir) -> None:
    """Five processes that look at the same 60 MiB use little more."""
    share = """
import os, time
held = bytes(range(256)) * (60 << 12)
for _ in range(4):
    if os.fork() == 0:
        time.sleep(0.5)
        os._exit(0)
for _ in range(4):
    os.wait()
"""
    step = command("share", sys.executable, "-c", share, limits=StepLimits(memory=150 * M))
    done = await execute(state, plan_of(step))

    assert done.finished("share")["status"] == "success"


async def test_a_step_with_too_many_processes_is_killed_and_told_so(state: StateDir) -> None:
    """Before they are more than a machine can take."""
    bomb = "while :; do sleep 600 & sleep 0.005; done"
    done = await execute(state, plan_of(script("bomb", bomb, limits=StepLimits(pids=20))))

    finished = done.finished("bomb")
    assert (finished["status"], finished["cause_code"]) == ("error", "limit")
    assert re.fullmatch(
        r"killed: had \d\d+ processes and threads of the 20 allowed", finished["cause"]
    )
    assert finished["kill"]["survivors"] == []


@pytest.mark.parametrize("containment", ["auto", "process_group"])
async def test_a_step_gets_as_many_processors_as_it_may_use(
    state: StateDir, containment: str
) -> None:
    """However it is started; `nproc` counts them."""
    step = script("count", "nproc", limits=StepLimits(cpu=1.0))
    done = await execute(
        state, plan_of(step, script("all", "nproc")),
        settings={"limits": {"containment": containment}},
    )  # fmt: skip

    assert done.text("count") == "1\n"
    assert done.text("all") == f"{len(os.sched_getaffinity(0))}\n"
