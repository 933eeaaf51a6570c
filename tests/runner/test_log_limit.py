"""``limits.log``: the beginning streams, the end follows, and what is between is told."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from msgspec.structs import replace

from runs import Execution, accept, execute, executing, plan_of, script
from tailrace.core.plan import StepLimits
from tailrace.rundir.layout import StateDir
from tailrace.rundir.lock import try_lock
from tailrace.worker.lost import end_lost

K = 1 << 10


def limited(text: str, limit: int, **more: Any) -> Any:
    """A plan of one step whose log is bound."""
    return plan_of(script("a", text, limits=StepLimits(log=limit), **more))


def check(done: Execution) -> bytes:
    """Events put together are the log's file, and lines jump only behind the notice."""
    raw = done.run.log("a", 1).read_bytes()
    assert done.text("a") == raw.decode("utf-8", "replace")
    line, gap, left = 1, None, 0
    for event in done.told():
        if event["event"] == "notice" and event["kind"] == "log_limit":
            gap = event.get("line", gap)
            left += event.get("left_bytes", 0)
        if event["event"] == "log":
            assert event["line"] == (line if gap is None else gap)
            line, gap = event["line"] + event["text"].count("\n") + (not event.get("open")), None
    records = [json.loads(text) for text in done.run.journal.read_bytes().splitlines()]
    offset = 0
    for record in records:
        if record["event"] == "log":
            assert record["offset"] == offset
            offset += record["bytes"]
    assert offset == len(raw) == done.finished("a")["bytes"] - left
    return raw


async def test_an_output_over_its_limit_keeps_its_beginning_and_its_end(state: StateDir) -> None:
    """Each line that is there has its true number; notices say what isn't."""
    done = await execute(state, limited("seq 1 200000", 256 * K))
    raw = check(done)
    assert 200 * K < len(raw) <= 256 * K
    lines = raw.split()
    assert lines[0] == b"1"
    assert lines[-1] == b"200000"
    numbered: dict[int, str] = defaultdict(str)
    for event in done.told("log"):
        for n, text in enumerate(event["text"].split("\n")):
            numbered[event["line"] + n] += text
    assert all(text == str(number) for number, text in numbered.items())
    assert len(numbered) == len(lines)
    first, second = (e for e in done.told("notice") if e["kind"] == "log_limit")
    assert first["text"].startswith("limits.log (256 KiB) is nearly reached: ")
    output = b"".join(b"%d\n" % n for n in range(1, 200_001))
    left = f"{len(output) - len(raw):,} bytes, {200_000 - len(lines):,} lines"
    assert second["text"] == f"left out: {left} (limits.log)"
    ended = done.finished("a")
    assert (ended["lines"], ended["bytes"]) == (200_000, len(output))


@pytest.mark.parametrize("size", [40 * K, 60 * K, 64 * K])
async def test_an_output_within_its_limit_is_whole(state: StateDir, size: int) -> None:
    """Also where its last quarter comes late."""
    done = await execute(state, limited(f"yes 0123456 | head -c {size}", 64 * K))
    assert check(done) == b"0123456\n" * (size // 8)
    assert [e for e in done.told("notice") if "left out" in e["text"]] == []


async def test_a_line_over_the_limit_keeps_its_beginning_and_its_end(state: StateDir) -> None:
    """One line of a megabyte, and two more."""
    text = "head -c 1000000 /dev/zero | tr '\\0' x; echo y; echo two; printf three"
    done = await execute(state, limited(text, 4 * K))
    raw = check(done)
    assert raw.startswith(b"x" * 3 * K)
    assert raw.endswith(b"\ntwo\nthree")
    assert done.finished("a")["lines"] == 3


async def test_what_is_left_out_is_counted_in_words_that_fit(state: StateDir) -> None:
    """One byte is a byte, and one line is a line."""
    byte = limited("head -c 1025 /dev/zero | tr '\\0' x", K)
    (line,) = limited("seq -f %07g 129", K).steps
    plan = plan_of(*byte.steps, replace(line, id="b"))
    said = [e["text"] for e in (await execute(state, plan)).told("notice")]
    assert {text for text in said if "left" in text} == {
        "left out: 1 byte, 0 lines (limits.log)", "left out: 8 bytes, 1 line (limits.log)",
    }  # fmt: skip


async def test_the_settings_bound_counts_where_the_step_sets_none(state: StateDir) -> None:
    """``limits.log`` of the settings."""
    plan = plan_of(script("a", "seq 1 20000"))
    done = await execute(state, plan, settings={"limits": {"log": 8 * K}})
    assert len(check(done)) <= 8 * K


async def test_a_secret_at_the_seams_is_masked(state: StateDir) -> None:
    """What is kept in memory was masked before it came there."""
    text = 'for n in $(seq 1 300); do echo "a $TOKEN b"; done'
    plan = limited(text, 1 * K, secrets=("TOKEN",))
    done = await execute(state, plan, secrets={"TOKEN": "correct-horse"})
    assert set(check(done).splitlines()) == {b"a *** b"}


async def test_memory_stays_flat_over_the_limit(state: StateDir) -> None:
    """A hundred megabytes pass; the runner keeps the last four."""
    watch = 'peak() { grep VmHWM "/proc/$PPID/status" | tr -dc 0-9; }'
    flood = "head -c 100000000 /dev/zero | tr '\\0' '\\n'"
    text = f"{watch}; before=$(peak); {flood}; echo grown $(($(peak) - before))"
    done = await execute(state, limited(text, 32 << 20))
    grown = int(check(done).split()[-1])
    assert grown < 32 * K  # KiB


async def test_the_end_of_a_lost_run_is_told_truly(state: StateDir) -> None:
    """Whatever the runner had written when it died, numbers are true, and the loss is said."""
    text = 'seq 1 20000; while ! test -e "$TAILRACE_WORKSPACE/go"; do sleep 0.01; done'
    run = accept(state, limited(text, 8 * K))
    async with executing(run) as execution:
        await execution.until("notice", text="nearly reached")
        execution.process.kill()
        await execution.process.wait()
        lock = try_lock(run.lock)
        assert lock is not None
        assert end_lost(run)
    check(execution)
    said = [e["text"] for e in execution.told("notice") if e["kind"] == "log_limit"]
    assert "is lost with its runner" in said[-1]


async def test_an_end_that_reached_the_log_and_not_the_journal_keeps_its_number(
    state: StateDir,
) -> None:
    """The runner died right behind the first bytes after the gap."""
    done = await execute(state, limited("seq 1 20000", 8 * K))
    lines = done.run.journal.read_bytes().splitlines(keepends=True)
    gap = next(n for n, line in enumerate(lines) if b"left out" in line)
    done.run.journal.write_bytes(b"".join(lines[: gap + 1]))
    assert end_lost(done.run)
    raw = check(done)
    assert raw.endswith(b"20000\n")
    assert done.told("log")[-1]["text"].split("\n")[-1] == "20000"
    assert done.finished("a")["lines"] == 20_000
    assert done.finished("a")["bytes"] == sum(len(f"{n}\n") for n in range(1, 20_001))
