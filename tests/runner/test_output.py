"""The output of steps, whole and masked, whatever a program prints and however."""

from __future__ import annotations

import base64
import json
import sys
from urllib.parse import quote

from runs import Execution, accept, execute, executing, files_with, plan_of, script
from tailrace.rundir.layout import StateDir

SECRET = "correct-horse/battery+staple"


def log_of(done: Execution, step: str, attempt: int = 1) -> bytes:
    """The attempt's log file."""
    return done.run.log(step, attempt).read_bytes()


def check_log(done: Execution, step: str) -> None:
    """The events of a step put together are its file, and their places in it are true."""
    raw = log_of(done, step)
    assert done.text(step) == raw.decode("utf-8", "replace")
    records = [
        item
        for item in map(json.loads, done.run.journal.read_bytes().splitlines())
        if item["event"] == "log" and item["step"] == step
    ]
    offset = 0
    for record in records:
        assert record["offset"] == offset
        assert record["line"] == raw[:offset].count(b"\n") + 1
        offset += record["bytes"]
    assert offset == len(raw)
    finished = done.finished(step)
    assert finished["bytes"] == len(raw)
    assert finished["lines"] == raw.count(b"\n") + (not raw.endswith(b"\n") and raw != b"")


async def test_output_is_kept_byte_for_byte(state: StateDir) -> None:
    """Invalid UTF-8, NULs, carriage returns, colours, no final newline."""
    text = r"printf 'a\xff\xe2\x82b\0c\r10%%\r20%%\r\n\033[31mred\033[0m\xf0\x9f'"
    done = await execute(state, plan_of(script("raw", text)))

    expected = b"a\xff\xe2\x82b\0c\r10%\r20%\r\n\x1b[31mred\x1b[0m\xf0\x9f"
    assert log_of(done, "raw") == expected
    check_log(done, "raw")


async def test_a_line_of_ten_megabytes_streams_in_pieces(state: StateDir) -> None:
    """Each repeats the line's number, and none is large."""
    text = "head -c 10000000 /dev/zero | tr '\\0' x; echo; echo after"
    done = await execute(state, plan_of(script("long", text)))

    check_log(done, "long")
    assert log_of(done, "long") == b"x" * 10_000_000 + b"\nafter\n"
    pieces = done.told("log", step="long")
    assert len(pieces) > 10
    assert all(len(piece["text"]) <= 2_000_000 for piece in pieces)


async def test_a_flood_is_kept_whole(state: StateDir) -> None:
    """Twenty megabytes of numbered lines."""
    done = await execute(state, plan_of(script("flood", "seq 1 3000000")))

    check_log(done, "flood")
    assert log_of(done, "flood") == b"".join(b"%d\n" % n for n in range(1, 3_000_001))


async def test_characters_written_byte_by_byte_are_never_cut(state: StateDir) -> None:
    """Each character is in the log before the next one comes, and no U+FFFD appears."""
    text = f"""exec {sys.executable} -c '
import glob, os, time
written = 0
for character in "h\\u00e9llo \\u20ac \\U0001f642\\n":
    for byte in character.encode():
        os.write(1, bytes([byte])); time.sleep(0.01)
        written += 1
    while sum(map(os.path.getsize, glob.glob("{state.runs}/*/steps/slow/1.log"))) < written:
        time.sleep(0.001)
'"""
    done = await execute(state, plan_of(script("slow", text)))

    assert done.text("slow") == "héllo € 🙂\n"
    assert len(done.told("log", step="slow")) > 5
    check_log(done, "slow")


async def test_an_open_line_is_told_before_it_ends(state: StateDir) -> None:
    """A prompt or a progress bar without newline is seen at once."""
    text = """
    printf 'working'
    while ! test -e "$TAILRACE_WORKSPACE/go"; do sleep 0.01; done
    printf '...done\\n'
    """
    run = accept(state, plan_of(script("bar", text)))
    async with executing(run) as execution:
        first = await execution.until("log", step="bar")
        assert (first["text"], first["open"]) == ("working", True)
        (state.workspace(run.id) / "go").touch()
        await execution.wait()

    assert execution.text("bar") == "working...done\n"
    assert {item["line"] for item in execution.told("log")} == {1}


async def test_a_runner_tells_what_its_buffers_hold(state: StateDir) -> None:
    """Its gauges: what waits in pipes, and what was read and isn't written yet."""
    run = accept(state, plan_of(script("waits", "echo ready; sleep 600")))
    async with executing(run) as execution:
        await execution.until("log", step="waits")
        reply = await execution.send("gauges")
        await execution.send("cancel")
        await execution.wait()

    assert reply.gauges == {"pipe_bytes": 0, "held_bytes": 0}
    assert [item["action"] for item in execution.told("control")] == ["cancel"]


async def test_a_secret_is_in_no_file_of_the_run_but_artifacts_contents(state: StateDir) -> None:
    """Plain, encoded, cut by writes, in the command, the label, an output and a file's name."""
    encoded = base64.b64encode(SECRET.encode()).decode()
    text = f"""
    echo "plain $TOKEN plain"; echo {encoded}; echo '{quote(SECRET, safe="")}'
    python3 -c 'import os, sys, time
for byte in os.environ["TOKEN"].encode(): os.write(1, bytes([byte])); time.sleep(0.002)'
    python3 -c 'import os; raise SystemExit("failed: " + os.environ["TOKEN"])' || true
    echo "value=$TOKEN" >> "$TAILRACE_OUTPUT"
    echo '{{"event":"status","text":"{SECRET}"}}' >> "$TAILRACE_EVENTS"
    echo "$TOKEN" > "$TAILRACE_ARTIFACTS/ok.txt"
    touch "$TAILRACE_ARTIFACTS/${{TOKEN%%/*}}"
    : {SECRET}
    """
    step = script("leaky", text, label=f"with {SECRET}", secrets=("TOKEN",))
    # run.json and plan are written by the acceptor, which masks them itself.
    done = await execute(state, plan_of(step), secrets={"TOKEN": SECRET})

    assert done.finished("leaky")["status"] == "success"
    leaks = files_with(done.run.path, SECRET, encoded, quote(SECRET, safe=""))
    after_acceptance = {"steps/leaky/1.log", "steps/leaky/outputs.json"}
    assert leaks & after_acceptance == set()
    assert leaks - {"run.json", "journal.jsonl"} == {"artifacts/ok.txt"}
    own = [item for item in done.told() if item["seq"] > 2]
    assert SECRET not in json.dumps(own)
    assert done.text("leaky").count("***") >= 5


async def test_a_value_that_a_step_names_is_masked_from_then_on(state: StateDir) -> None:
    """Also when it is printed right after, and by other steps."""
    text = """
    echo '{"event":"mask","value":"late-secret-value"}' >> "$TAILRACE_EVENTS"
    echo 'the late-secret-value is out'
    """
    done = await execute(
        state, plan_of(script("names", text), script("other", "echo late-secret-value", "names"))
    )

    assert done.text("names") == "the *** is out\n"
    assert done.text("other") == "***\n"
    assert [item["kind"] for item in done.told("notice")] == ["mask"]
