"""What a step costs: fifty trivial ones in a row, against fork and exec of the same program.

And what it costs in a sandbox, where there is bubblewrap.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from bench.daemon import step
from bench.figure import Figure, Goal, interleaved
from bench.workshop import Workshop, workshop
from tailrace.bubblewrap import UnusableError, find_bubblewrap


def measure(*, quick: bool) -> list[Figure]:
    """Return milliseconds a step."""
    count = 5 if quick else 50
    pipelines = {"chain": _steps(count), "boxed": _steps(count, sandbox="required")}
    with workshop(pipelines) as place:
        measured = {
            "ours": lambda: _chain(place, "chain", count), "bare": lambda: _spawns(count),
        }  # fmt: skip
        if _has_bubblewrap():
            measured["boxed"] = lambda: _chain(place, "boxed", count)
        cost = interleaved(1 if quick else 5, measured)
    figures = [
        Figure(
            name="a step", value=cost["ours"], bare=cost["bare"], unit="ms",
            goal=Goal(kind="over", limit=3),
            note=f"`true`, {count} in a row, from first step_started to last step_finished; "
            "bare: posix_spawn and waitpid",
        )
    ]  # fmt: skip
    if "boxed" in cost:
        note = "the same with `sandbox: required`: bwrap, and an interpreter within"
        figures.append(
            Figure(name="a step, sandboxed", value=cost["boxed"], bare=cost["bare"], unit="ms",
                   note=note)
        )  # fmt: skip
    return figures


def _has_bubblewrap() -> bool:
    try:
        find_bubblewrap()
    except UnusableError:
        return False
    return True


def _steps(count: int, **more: str) -> dict[str, Any]:
    steps: dict[str, Any] = {"s0": step("true", **more)}
    steps |= {f"s{i}": step("true", needs=f"s{i - 1}", **more) for i in range(1, count)}
    return {"steps": steps}


def _chain(place: Workshop, pipeline: str, count: int) -> float:
    done = place.run(pipeline)
    elapsed = done.time_of("step_finished", last=True) - done.time_of("step_started")
    return elapsed * 1000 / count


def _spawns(count: int) -> float:
    program = shutil.which("true")
    assert program is not None
    began = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn(program, ["true"], {}), 0)
    return (time.perf_counter() - began) * 1000 / count
