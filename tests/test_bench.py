"""The benchmarks run: what they say on a busy machine is not for a test to judge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.soak  # half a minute of a suite that has four
def test_a_quick_round_of_all_benchmarks_fills_the_table() -> None:
    """Every figure is there with its goal, and nothing could not be measured."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "could not be measured" not in done.stdout
    for figure in (
        "a step",
        "first process",
        "a line every 20 ms, p99",
        "idle daemon",
        "output",
        "longest stop",
        "events",
    ):
        assert figure in done.stdout
    (missing,) = [line for line in done.stdout.splitlines() if "a crowd, missing" in line]
    assert "0 watchers" in missing
    (survivors,) = [line for line in done.stdout.splitlines() if "survivors" in line]
    assert "0 processes" in survivors


@pytest.mark.soak  # half a minute of a suite that has four
def test_the_long_benchmarks_can_be_tried_in_seconds() -> None:
    """Those that take minutes in full; the proofs have a test of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "ten_gigabytes", "slow_watchers"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    for figure in ("ten gigabytes, runner", "ten gigabytes, daemon", "slow watchers, memory"):
        assert figure in done.stdout


def test_an_unknown_benchmark_is_named_with_those_that_exist() -> None:
    """Bad usage ends with status 2 and says what to do."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "wrong"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "no benchmark is named wrong; there are step_cost" in done.stderr
