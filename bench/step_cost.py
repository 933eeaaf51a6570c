"""What a step costs: fifty trivial ones in a row, against fork and exec of the same program."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from bench.daemon import step
from bench.figure import Figure, Goal, interleaved
from bench.workshop import Workshop, workshop


def measure(*, quick: bool) -> list[Figure]:
    """Return milliseconds a step."""
    count = 5 if quick else 50
    steps: dict[str, Any] = {"s0": step("true")}
    steps |= {f"s{i}": step("true", needs=f"s{i - 1}") for i in range(1, count)}
    with workshop({"chain": {"steps": steps}}) as place:
        cost = interleaved(
            1 if quick else 5,
            {"ours": lambda: _chain(place, count), "bare": lambda: _spawns(count)},
        )
    return [
        Figure(
            name="a step", value=cost["ours"], bare=cost["bare"], unit="ms",
            goal=Goal(kind="over", limit=3),
            note=f"`true`, {count} in a row, from first step_started to last step_finished; "
            "bare: posix_spawn and waitpid",
        )
    ]  # fmt: skip


def _chain(place: Workshop, count: int) -> float:
    done = place.run("chain")
    elapsed = done.time_of("step_finished", last=True) - done.time_of("step_started")
    return elapsed * 1000 / count


def _spawns(count: int) -> float:
    program = shutil.which("true")
    assert program is not None
    began = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn(program, ["true"], {}), 0)
    return (time.perf_counter() - began) * 1000 / count
